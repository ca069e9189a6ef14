"""Folds and places of extremes: every ISA, sizes around the edges of vectors, cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.kernels import requantize
from litejit.kernels.reduce import FLOAT, PRODUCT, AcrossSpec, ArgAcrossSpec, ArgSpec, RowsSpec
from litejit.ops import fixedpoint
from litejit.types import F32, I8, I16, I32, I64, U8

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
SIZES = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 130, 300]
NONE = np.zeros(64, np.int8)
FOLDS = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}


def numbers(shape, dtype):
    rng = np.random.default_rng(len(shape))
    if dtype is F32:
        return rng.standard_normal(shape).astype(np.float32)
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


def start_of(word, dtype):
    if word in ("sum", "mean"):
        return 0
    end = np.inf if dtype is F32 else 2**31 - 1
    end = -end if word == "max" else end
    return int(np.float32(end).view(np.int32)) if dtype is F32 else end


def close(got, want, dtype):
    if dtype is F32:
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-5)  # terms cancel
    else:
        np.testing.assert_array_equal(got, want)


@BY_ISA
@pytest.mark.parametrize(("word", "dtype"), [
    ("sum", F32), ("mean", F32), ("max", F32), ("min", F32), ("max", I8), ("min", U8), ("max", I32),
])  # fmt: skip
def test_folds_along_and_across_rows(isa, word, dtype):
    for n in SIZES:
        x, start = numbers((5, n), dtype), start_of(word, dtype)
        want = FOLDS[word](x.astype(np.float64), -1)
        y = np.zeros(5, dtype.numpy)
        args = (n, 1, 1, start, float(n), NONE)
        got = run(RowsSpec(dtype, word), x, y, *args, items=5, isa=isa, cuts=(2,))[1]
        close(got, want, dtype)
        x = numbers((2, 70, n), dtype)
        want = FOLDS[word](x.astype(np.float64), 1)
        for vectors in (1, 4):
            blocks = -(-n // (vectors * isa.vector_bytes // 4))
            y = np.zeros((2, n), dtype.numpy)
            args = (70, n, blocks, start, 70.0, NONE)
            spec = AcrossSpec(dtype, word, "", vectors)
            got = run(spec, x, y, *args, items=2 * blocks, isa=isa, cuts=(1,))[1]
            close(got, want, dtype)


@BY_ISA
@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("form", ["u64", "wide"])
def test_quantized_means_are_rounded_as_the_reference_does(isa, dtype, form):
    multiplier, shift, zero, own_zero = 1518500250, -6, 9, 3
    lanes = isa.vector_bytes // 4
    many = np.ones(lanes, np.int64)
    block = requantize.constants(form, lanes, many * multiplier, many * shift, zero).reshape(-1)
    info = np.iinfo(dtype.numpy)
    for n, inner in ((49, 1), (7, 5), (7, 70), (64, 16)):
        x = numbers((3, n, inner), dtype)
        total = x.astype(np.int64).sum(1) - own_zero * n
        scaled = fixedpoint.multiply_by_quantized_multiplier(total, multiplier, shift)
        want = np.clip(scaled + zero, info.min, info.max)
        start = requantize.input_offset(form) - own_zero * n
        start = (start + 2**31) % 2**32 - 2**31
        vectors = 1 if inner == 1 else 4
        blocks = -(-inner // (vectors * lanes))
        kind = RowsSpec if inner == 1 else AcrossSpec
        y = np.zeros((3, inner), dtype.numpy)
        args = (n, inner, blocks, start, 1.0, block)
        got = run(kind(dtype, "mean", form), x, y, *args, items=3 * blocks, isa=isa, cuts=(2,))[1]
        np.testing.assert_array_equal(got, want)


def fold(isa, spec, x, start, scale, constants):
    """What a spec makes of x [outer, n, inner]."""
    outer, n, inner = x.shape
    blocks = 1 if isinstance(spec, RowsSpec) else -(-inner // (spec.vectors * spec.lanes(isa)))
    y = np.zeros((outer, inner), x.dtype)
    args = (x, y, n, inner, blocks, start, scale, constants)
    return run(spec, *args, items=outer * blocks, isa=isa, cuts=(1,))[1]


@BY_ISA
@pytest.mark.parametrize("word", ["sum", "max", "min", "mean"])
@pytest.mark.parametrize("dtype", [I32, I64], ids=str)
def test_integers_fold_in_64_bits(isa, word, dtype):
    start = {"max": np.iinfo(dtype.numpy).min, "min": np.iinfo(dtype.numpy).max}.get(word, 0)
    for n, inner in ((1, 1), (9, 1), (70, 1), (5, 3), (6, 40)):
        x = numbers((3, n, inner), dtype) >> (8 if word == "mean" else 0)
        with np.errstate(over="ignore"):
            total = x.sum(1, dtype=np.int64)
        want = {"max": x.max(1), "min": x.min(1), "sum": total.astype(x.dtype)}.get(word)
        if want is None:
            want = (np.sign(total) * (np.abs(total) // n)).astype(x.dtype)
        specs = [AcrossSpec(dtype, word, "", 1), AcrossSpec(dtype, word, "", 4)]
        for spec in specs + ([RowsSpec(dtype, word)] if inner == 1 else []):
            got = fold(isa, spec, x, int(start), float(n), NONE)
            np.testing.assert_array_equal(got, want)


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, I32, I64, I8], ids=str)
def test_products_are_made_in_order(isa, dtype):
    one = int(np.float32(1).view(np.int32)) if dtype is F32 else 1
    for n, inner in ((1, 1), (7, 1), (5, 3), (6, 40)):
        x = numbers((2, n, inner), dtype)
        with np.errstate(over="ignore"):
            want = np.multiply.reduce(x, axis=1, dtype=x.dtype)
        for vectors in (1, 4):
            got = fold(isa, AcrossSpec(dtype, "prod", "", vectors), x, one, 1.0, NONE)
            np.testing.assert_array_equal(got, want)


@BY_ISA
@pytest.mark.parametrize("dtype", [I8, U8, I16], ids=str)
def test_sums_are_rescaled_in_float32(isa, dtype):
    info, f = np.iinfo(dtype.numpy), np.float32
    constants = np.array([1.375, -3, info.min, info.max], f)
    for n, inner in ((9, 1), (40, 1), (5, 3), (6, 40)):
        x = numbers((3, n, inner), dtype)
        scale = f(0.02) if dtype is not I16 else f(1.5)
        real = x.sum(1, dtype=np.int64).astype(f) * scale + f(1.375)
        want = np.clip(fixedpoint.round_half_away(real) - 3, info.min, info.max)
        specs = [AcrossSpec(dtype, "sum", FLOAT, 1)]
        for spec in specs + ([RowsSpec(dtype, "sum", FLOAT)] if inner == 1 else []):
            got = fold(isa, spec, x, 0, float(scale), constants)
            np.testing.assert_array_equal(got, want.astype(dtype.numpy))


@BY_ISA
@pytest.mark.parametrize("dtype", [I8, I16], ids=str)
def test_products_are_rescaled_after_every_factor(isa, dtype):
    info, (m, shift), zero, out_zero = np.iinfo(dtype.numpy), (1 << 30, -4), 5, -2
    reduced = int(fixedpoint.reduced_multiplier(m))
    constants = np.array([zero, reduced, 15 - shift, out_zero, info.min, info.max], np.int64)
    for n, inner in ((1, 1), (4, 1), (3, 40)):
        x = numbers((2, n, inner), dtype)
        total = x[:, 0].astype(np.int64) - zero
        for j in range(1, n):
            total = fixedpoint.mbqm64(total * (x[:, j].astype(np.int64) - zero), m, shift)
        want = np.clip(fixedpoint.mbqm64(total, m, shift) + out_zero, info.min, info.max)
        got = fold(isa, AcrossSpec(dtype, "prod", PRODUCT, 1), x, 0, 1.0, constants)
        np.testing.assert_array_equal(got, want)


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, I8, U8, I32], ids=str)
@pytest.mark.parametrize("largest", [True, False])
def test_first_places_of_extremes(isa, dtype, largest):
    for n in SIZES:
        x = numbers((4, n), dtype)
        x[1] = x[1, 0]
        x[2] //= 64 if dtype is not F32 else 1
        want = x.argmax(-1) if largest else x.argmin(-1)
        for wide in (True, False):
            y = np.full(4, -1, np.int64 if wide else np.int32)
            got = run(ArgSpec(dtype, largest, wide), x, y, n, items=4, isa=isa, cuts=(1, 3))[1]
            np.testing.assert_array_equal(got, want)


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, I8, U8, I32], ids=str)
@pytest.mark.parametrize("largest", [True, False])
def test_first_places_of_extremes_across_rows(isa, dtype, largest):
    for inner in SIZES:
        x = numbers((2, 9, inner), dtype)
        x[:, 5] = x[:, 2]
        want = x.argmax(1) if largest else x.argmin(1)
        blocks = -(-inner // (isa.vector_bytes // 4))
        for wide in (True, False):
            y = np.full((2, inner), -1, np.int64 if wide else np.int32)
            args = (x, y, 9, inner, blocks)
            spec = ArgAcrossSpec(dtype, largest, wide)
            got = run(spec, *args, items=2 * blocks, isa=isa, cuts=(1,))[1]
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_isa_compiles(isa):
    for spec in (
        AcrossSpec(F32, "mean"),
        AcrossSpec(I8, "mean", "u64"),
        RowsSpec(F32, "sum"),
        RowsSpec(U8, "mean", "wide"),
        RowsSpec(I16, "sum", FLOAT),
        RowsSpec(I64, "mean"),
        AcrossSpec(I8, "prod", PRODUCT),
        ArgSpec(I8, True, False),
        ArgAcrossSpec(F32, False, True),
    ):
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
