"""Running sums, folds by segment, largest elements: every ISA, sizes around vectors' edges."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.kernels import requantize
from litejit.kernels.pool import NeighboursF32
from litejit.kernels.scan import TERM_SHIFT, RunningSumSpec, SegmentSpec, TopSpec
from litejit.ops import fixedpoint
from litejit.types import F32, I8, I16, I32, I64, U8

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
SIZES = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 65]
NONE = np.zeros(64, np.int8)
NAN = np.float32("nan")


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype is F32:
        return rng.integers(-50, 50, shape).astype(np.float32)  # sums without rounding
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


def sums_of(x, exclusive, reverse):
    turned = x[:, ::-1] if reverse else x
    total = np.add.accumulate(turned, axis=1, dtype=x.dtype)
    total = total - turned if exclusive else total
    return total[:, ::-1] if reverse else total


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, I32, I64], ids=str)
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_sums_equal_numpys(isa, dtype, exclusive, reverse):
    for inner in SIZES:
        x = numbers((3, 5, inner), dtype)
        for single in (True, False) if inner == 1 else (False,):
            lanes = 1 if single else isa.vector_bytes // dtype.itemsize
            blocks = -(-inner // lanes)
            order = (4, -1) if reverse else (0, 1)
            spec = RunningSumSpec(dtype, exclusive, single)
            args = (5, inner, blocks, *order, 0, NONE)
            y = np.zeros_like(x)
            got = run(spec, x, y, *args, items=3 * blocks, isa=isa, cuts=(1,))[1]
            np.testing.assert_array_equal(got, sums_of(x, exclusive, reverse))


@BY_ISA
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_sums_of_bytes_are_rescaled(isa, exclusive):
    lanes, (m, shift), zero, out_zero = isa.vector_bytes // 4, (1 << 30, -20), 7, -3
    many = np.ones(lanes, np.int64)
    block = requantize.constants("wide", lanes, many * m, many * shift, out_zero).reshape(-1)
    for inner in SIZES:
        x = numbers((2, 6, inner), I8)
        terms = (x.astype(np.int64) - zero) << TERM_SHIFT
        total = sums_of(terms, exclusive, False) - (zero << TERM_SHIFT)
        want = fixedpoint.mbqm(fixedpoint.wrap32(total), m, shift) + out_zero
        blocks = -(-inner // lanes)
        args = (6, inner, blocks, 0, 1, zero, block)
        spec = RunningSumSpec(I8, exclusive, False, "wide")
        got = run(spec, x, np.zeros_like(x), *args, items=2 * blocks, isa=isa)[1]
        np.testing.assert_array_equal(got, np.clip(want, -128, 127))


SEGMENTS = {"sum": (np.add, 0), "prod": (np.multiply, 1), "max": (np.fmax, -100)}


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, I32], ids=str)
@pytest.mark.parametrize("word", SEGMENTS)
def test_folds_by_segment_equal_numpys(isa, dtype, word):
    fold, start = SEGMENTS[word]
    ids = np.array([2, 0, -1, 2, 4, 0, 2], np.int32)
    bits = int(np.float32(start).view(np.int32)) if dtype is F32 else start
    for inner in SIZES:
        x = numbers((7, inner), dtype) if dtype is F32 else numbers((7, inner), I8).astype(np.int32)
        want = np.full((6, inner), start, dtype.numpy)
        fold.at(want, ids[ids >= 0], x[ids >= 0])
        lanes = 1 if inner == 1 else isa.vector_bytes // 4
        spec = SegmentSpec(dtype, word, inner == 1)
        status = np.zeros(8, np.int64)
        args = (x, ids, np.zeros_like(want), status, 7, inner, 6, bits)
        _, _, got, told = run(spec, *args, items=-(-inner // lanes), isa=isa, cuts=(1,))
        np.testing.assert_array_equal(got, want)
        assert not told.any()


@BY_ISA
def test_a_segment_that_does_not_exist_is_refused(isa):
    x, y, status = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32), np.zeros(8, np.int64)
    ids = np.array([1, 2], np.int32)
    spec = SegmentSpec(F32, "sum")
    _, _, got, told = run(spec, x, ids, y, status, 2, 3, 2, 0, items=1, isa=isa)
    assert told[0] == 1 << 48
    np.testing.assert_array_equal(got, [[0, 0, 0], [1, 1, 1]])


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, U8, I8, I16, I32, I64], ids=str)
@pytest.mark.parametrize("bits", [16, 32])
def test_the_largest_elements_come_in_order(isa, dtype, bits):
    for n in SIZES:
        x = numbers((4, n), dtype, seed=n)
        x[1] = x[1, 0]
        x[2] = np.sort(x[2])
        if dtype is F32:
            x[3, ::3], x[3, 1::4] = NAN, -0.0
            x[0, : n // 2] = -np.inf
        keys = -x if dtype is F32 else ~x
        for k in {1, (n + 1) // 2, n}:
            order = np.argsort(keys, axis=-1, kind="stable")[:, :k]
            want = np.take_along_axis(x, order, -1)
            spec = TopSpec(dtype, bits)
            nbytes = -(-spec.scratch_bytes(isa, k) // 64) * 64
            places = np.zeros((4, k), np.int16 if bits == 16 else np.int32)
            args = (x, np.zeros_like(want), places, np.zeros(nbytes, np.int8), nbytes, n, k)
            _, values, found, _ = run(spec, *args, items=4, isa=isa, cuts=(1,))
            np.testing.assert_array_equal(values, want)
            np.testing.assert_array_equal(found, order)


@BY_ISA
@pytest.mark.parametrize("radius", [0, 1, 4])
def test_neighbours_of_the_same_pixel_count_alone(isa, radius):
    rng = np.random.default_rng(radius)
    for n in (1, 3, 5, 16, 33):
        x = rng.standard_normal((7, n)).astype(np.float32)
        reach, lanes = min(radius, n - 1), isa.vector_bytes // 8
        channels = np.arange(n + 16, dtype=np.int32) % n
        items = -(-x.size // lanes)
        args = (x, np.zeros_like(x), channels, x.size, n, reach, 0.5, 2.0, -0.75)
        got = run(NeighboursF32(), *args, items=items, isa=isa, cuts=(items // 2,))[1]
        near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= reach
        want = x * (2 + 0.5 * (x.astype(np.float64) ** 2 @ near)) ** -0.75
        np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_isa_compiles(isa):
    for spec in (
        RunningSumSpec(F32, False),
        RunningSumSpec(I8, True, False, "wide"),
        SegmentSpec(I32, "min"),
        TopSpec(I64, 16),
        NeighboursF32(),
    ):
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
