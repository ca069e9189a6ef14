"""Elementwise kernels against NumPy: every vector edge, cut, broadcast and instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen.isa import ISAS, Isa
from litejit.codegen.lang import f32
from litejit.kernels import conversion, lookup16, requantize, softmax_fixed
from litejit.kernels import elementwise as kernels
from litejit.kernels.arithmetic_int8 import (
    HALF,
    Compare8Spec,
    HighProductSpec,
    Line8Spec,
    Prelu8Spec,
    Product8Spec,
    Quotient8Spec,
    Shifted16Spec,
    Sum8Spec,
    Total8Spec,
)
from litejit.kernels.softmax import SoftmaxShortFloats
from litejit.kernels.walk import WalkSpec
from litejit.ops import fixedpoint
from litejit.ops.broadcast import walk
from litejit.types import BF16, BOOL, C128, F16, F32, F64, I8, I16, I32, I64, U8, DType

SIZES = (1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 200)
every_isa = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
BY_NUMPY = {dtype.numpy: dtype for dtype in (F32, I8, U8, I16, I32, I64, BOOL)}


def flat(spec: WalkSpec, isa: Isa, xs: list[Any], y: Any, *extras: Any, cut: bool = True) -> Any:
    """Run a rank 0 walk, cut at odd places, and return y."""
    n = len(y)
    cuts = (n // 3, n // 2) if cut and n > 3 else ()
    return run(spec, *xs, y, *extras, n, items=n, isa=isa, cuts=cuts)[len(xs)]


def values(dtype: DType, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype is F32:
        x = rng.normal(0, 3, n).astype(np.float32)
        x[:: max(n // 5, 1)] = rng.choice(np.float32([0, -0.0, np.inf, -np.inf, np.nan]))
        return x
    if dtype is BOOL:
        return rng.integers(0, 2, n).astype(np.bool_)
    info = np.iinfo(dtype.numpy)
    x = rng.integers(info.min, info.max, n, dtype.numpy, endpoint=True)
    x[:: max(n // 3, 1)] = rng.choice([info.min, info.max, 0])
    return x


BINARY = {
    "maximum": (lambda a, b: np.where(a > b, a, b), (F32, I8, U8, I16, I32, I64)),
    "minimum": (lambda a, b: np.where(a < b, a, b), (F32, I8, U8, I16, I32, I64)),
    "add": (np.add, (F32, I32, I64)),
    "sub": (np.subtract, (F32, I32, I64)),
    "mul": (np.multiply, (F32, I32, I64)),
    "div": (np.divide, (F32,)),
    "squared_difference": (lambda a, b: (a - b) * (a - b), (F32, I32)),
    "and": (np.logical_and, (BOOL,)),
    "or": (np.logical_or, (BOOL,)),
    "equal": (np.equal, (F32, I32, BOOL)),
    "not_equal": (np.not_equal, (F32, I32, BOOL)),
    "less": (np.less, (F32, I32, I64, I16)),
    "less_equal": (np.less_equal, (F32, I32)),
    "greater": (np.greater, (F32, I32)),
    "greater_equal": (np.greater_equal, (F32, I32)),
}


@every_isa
@pytest.mark.parametrize("function", BINARY)
def test_functions_of_two_operands_equal_numpy(function: str, isa: Isa) -> None:
    true, dtypes = BINARY[function]
    for dtype in dtypes:
        for n in SIZES:
            a, b = values(dtype, n, n), values(dtype, n, n + 1)
            with np.errstate(all="ignore"):
                expected = np.asarray(true(a, b))
            output = BY_NUMPY[expected.dtype]
            spec = kernels.ElementwiseSpec(0, (1, 1), function, (dtype, dtype), output, 0)
            y = flat(spec, isa, [a, b], np.zeros(n, expected.dtype))
            np.testing.assert_array_equal(y, expected, err_msg=f"{dtype} {n}")


@every_isa
def test_activations_clamp_and_keep_nan(isa: Isa) -> None:
    a, b = values(F32, 77, 3), values(F32, 77, 4)
    spec = kernels.ElementwiseSpec(0, (1, 1), "add", (F32, F32), F32, 2)
    y = flat(spec, isa, [a, b], np.zeros(77, np.float32), 0.0, 6.0)
    np.testing.assert_array_equal(y, np.clip(a + b, np.float32(0), np.float32(6)))


UNARY = {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "square": np.square, "floor": np.floor,
    "ceil": np.ceil, "nearest": np.rint, "sign": np.sign, "exp": np.exp, "log": np.log,
    "tanh": np.tanh, "sin": np.sin, "rsqrt": lambda x: 1 / np.sqrt(x),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}  # fmt: skip


@every_isa
@pytest.mark.parametrize("function", UNARY)
def test_functions_of_one_operand_are_near_numpy_in_every_lane(function: str, isa: Isa) -> None:
    spec = kernels.ElementwiseSpec(0, (1,), function, (F32,), F32, 0)
    for n in SIZES:
        x = values(F32, n, n)
        with np.errstate(all="ignore"):
            expected = UNARY[function](x)
        y = flat(spec, isa, [x], np.zeros(n, np.float32))
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=0, err_msg=str(n))


@every_isa
@pytest.mark.parametrize(
    "shapes",
    [((7, 5, 33), (33,)), ((4, 1, 20), (1, 3, 20)), ((6, 1), (1, 19)), ((2, 3, 1, 5), (3, 4, 1)),
     ((9, 17), ()), ((1, 1), (3, 70)), ((50, 3), (3,)), ((3,), (5, 37, 3)), ((67, 2), (67, 1)),
     ((4, 9, 1), (4, 9, 24)), ((31, 5), (31, 1)), ((7, 1, 3), (1, 6, 3)), ((1, 12), (11, 1))],
    ids=str,
)  # fmt: skip
def test_broadcasts_equal_numpy_wherever_rows_are_cut(shapes: Any, isa: Isa) -> None:
    a, b = (np.arange(np.prod(s), dtype=np.float32).reshape(s) + 1 for s in map(tuple, shapes))
    expected = a - 2 * b
    plan = walk(expected.shape, [a.shape, b.shape]).flattened(isa.lanes(f32))
    moves = tuple(strides[-1] for strides in plan.strides)
    spec = kernels.ElementwiseSpec(len(plan.outer), moves, "sub", (F32, F32), F32, 0)
    numbers = [plan.inner, *plan.outer, *(s for row in plan.strides for s in row[:-1])]
    items = -(-expected.size // (plan.inner if plan.outer else spec.block(isa)))
    y = run(
        spec, a, np.asarray(2 * b), np.zeros_like(expected), *numbers, items=items, isa=isa,
        cuts=(items // 3, items // 2),
    )[2]  # fmt: skip
    np.testing.assert_array_equal(y, expected)


@every_isa
def test_selection_takes_bytes_from_either_side(isa: Isa) -> None:
    for dtype in (I8, I16, I32, I64):
        c, a, b = values(BOOL, 99, 1), values(dtype, 99, 2), values(dtype, 99, 3)
        spec = kernels.ElementwiseSpec(0, (1, 1, 1), "select", (BOOL, dtype, dtype), dtype, 0)
        y = flat(spec, isa, [c, a, b], np.zeros_like(a))
        np.testing.assert_array_equal(y, np.where(c, a, b))


@every_isa
@pytest.mark.parametrize("target", [I8, U8, I16, I32, I64, BOOL], ids=repr)
def test_float_casts_cut_saturate_and_send_nan_to_the_largest(target: DType, isa: Isa) -> None:
    edges = np.float32(
        [0, 0.9, -0.9, 127.5, 128, -128.9, -129, 255.9, 256, 3e9, -3e9, 1e20, -1e20, np.inf,
         -np.inf, np.nan, 32767.5, -32769, 2147483520]
    )  # fmt: skip
    y = flat(conversion.CastSpec(0, (1,), F32, target), isa, [edges], np.zeros(19, target.numpy))
    if target is BOOL:
        np.testing.assert_array_equal(y, edges != 0)
        return
    info = np.iinfo(target.numpy)
    exact = [info.max if v != v else min(max(v, info.min), info.max) for v in edges.tolist()]
    np.testing.assert_array_equal(y, [int(v) for v in exact])


@every_isa
@pytest.mark.parametrize("source", [I8, U8, I16, I32, I64, BOOL], ids=repr)
def test_integer_casts_wrap_or_widen(source: DType, isa: Isa) -> None:
    x = values(source, 70, 5)
    for target in (F32, I32, I64, I8, U8):
        y = flat(conversion.CastSpec(0, (1,), source, target), isa, [x], np.zeros(70, target.numpy))
        np.testing.assert_array_equal(y, x.astype(target.numpy))


@every_isa
@pytest.mark.parametrize("target", [I8, U8, I16], ids=repr)
def test_quantization_rounds_halves_away_and_saturates(target: DType, isa: Isa) -> None:
    info = np.iinfo(target.numpy)
    zero = 3 if target is not I16 else 0
    k = np.arange(-300, 301)
    x = np.concatenate([(k + 0.5) * 0.25, k * 0.25, [np.inf, -np.inf, np.nan, 1e30, 0.12499999]])
    x = x.astype(np.float32)
    low, high = info.min - zero, info.max - zero
    spec = conversion.QuantizeSpec(0, (1,), target, "away", False, True)
    y = flat(spec, isa, [x], np.zeros(len(x), target.numpy), 0.25, 4.0, zero)
    above = -1e9 if target is I16 else 1e9  # int32 cannot hold it
    x = np.where(x > 2**29, np.float32(np.inf), x)
    exact = np.nan_to_num(x.astype(np.float64) / 0.25, nan=-1e9, posinf=above, neginf=-1e9)
    away = np.trunc(exact + np.copysign(0.5, exact))
    np.testing.assert_array_equal(y, np.clip(away, low, high) + zero)


@every_isa
@pytest.mark.parametrize("nan_is_high", [False, True])
def test_what_int32_cannot_hold_may_be_quantized_as_nan(nan_is_high: bool, isa: Isa) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**29, -(2.0**29) - 64, 1e5, -1e5, 1.0])
    x = np.tile(x.astype(np.float32), 5)
    spec = conversion.QuantizeSpec(0, (1,), I8, "away", nan_is_high, True, True)
    y = flat(spec, isa, [x], np.zeros(len(x), np.int8), 0.25, 4.0, 0)
    lost = 127 if nan_is_high else -128
    assert y.tolist() == [*[lost] * 7, 127, -128, 4] * 5


@every_isa
def test_dequantization_rounds_once(isa: Isa) -> None:
    for dtype, zero in ((I8, -7), (U8, 130), (I16, 0)):
        x = values(dtype, 300, 6)
        spec = conversion.DequantizeSpec(0, (1,), dtype)
        y = flat(spec, isa, [x], np.zeros(300, np.float32), float(np.float32(0.1)), zero)
        exact = (x.astype(np.float64) - zero) * float(np.float32(0.1))
        np.testing.assert_array_equal(y, exact.astype(np.float32))


@every_isa
def test_look_ups_give_the_entry_of_every_byte(isa: Isa) -> None:
    table = np.random.default_rng(7).integers(0, 256, 256, np.uint8)
    for n in (*SIZES, 1000):
        x = np.random.default_rng(n).integers(0, 256, n, np.uint8)
        y = run(kernels.LookupSpec(), x, np.zeros(n, np.uint8), table, items=n, isa=isa,
                cuts=(n // 3,))[1]  # fmt: skip
        np.testing.assert_array_equal(y, table[x])


def block(isa: Isa, form: str, multiplier: tuple[int, int], zero: int) -> np.ndarray:
    lanes = isa.vector_bytes // 4
    m, shift = (np.full(lanes, part, np.int64) for part in multiplier)
    return requantize.constants(form, lanes, m, shift, zero).ravel()


ALL_A = np.repeat(np.arange(256, dtype=np.uint8), 256)
ALL_B = np.tile(np.arange(256, dtype=np.uint8), 256)
mbqm = fixedpoint.multiply_by_quantized_multiplier


@every_isa
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_are_exact_for_all_pairs_of_bytes(dtype: DType, sign: int, isa: Isa) -> None:
    rng = np.random.default_rng(11)
    a, b = ALL_A.view(dtype.numpy), ALL_B.view(dtype.numpy)
    low, high = fixedpoint.type_range(dtype)
    for small_first, full in ((True, True), (False, False)):
        ratio, out = rng.uniform(0.03, 1), rng.uniform(0.4, 1.5)
        pair = [fixedpoint.quantize_multiplier(r) for r in (ratio / 2, 0.5)]
        multipliers = pair if small_first else pair[::-1]
        final = fixedpoint.quantize_multiplier(out / (1 << 20))
        zeros = rng.integers(low, high + 1, 3).tolist()
        limits = (low, high) if full else (low + 9, high - 30)
        forms = tuple(HALF if m == (1 << 30, 0) else "u64" for m in multipliers)
        blocks = [block(isa, f, m, 0) for f, m in zip(forms, multipliers, strict=True) if f != HALF]
        constants = np.concatenate([*blocks, block(isa, "u64", final, zeros[2])])
        spec = Sum8Spec(0, (1, 1), (dtype, dtype), dtype, (*forms, "u64"), full, 20, sign, False)
        y = flat(spec, isa, [a, b], np.zeros_like(a), constants, *zeros[:2], *limits)
        terms = [
            mbqm((x.astype(np.int64) - zero) << 20, *m)
            for x, zero, m in zip((a, b), zeros, multipliers, strict=False)
        ]
        expected = np.clip(mbqm(terms[0] + sign * terms[1], *final) + zeros[2], *limits)
        np.testing.assert_array_equal(y, expected)


@every_isa
@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("full", [True, False])
def test_linear_sums_are_clamped_to_the_bounds(dtype: DType, full: bool, isa: Isa) -> None:
    a, b = ALL_A.view(dtype.numpy), ALL_B.view(dtype.numpy)
    limits = fixedpoint.type_range(dtype) if full else (20, 90)
    spec = Line8Spec(0, (1, 1), (dtype, dtype), dtype, (), full)
    y = flat(spec, isa, [a, b], np.zeros_like(a), 700, -900, *limits, 12345, 10)
    expected = (a.astype(np.int64) * 700 - b.astype(np.int64) * 900 + 12345) >> 10
    np.testing.assert_array_equal(y, np.clip(expected, *limits))


@every_isa
@pytest.mark.parametrize("real", [0.9, 0.004, 1 / 60, 3.7], ids=str)
def test_products_and_prelu_are_exact_for_all_pairs_of_bytes(real: float, isa: Isa) -> None:
    multiplier = fixedpoint.quantize_multiplier(real)
    a, b = ALL_A.view(np.int8), ALL_B.view(np.int8)
    x, factor = a.astype(np.int64) - 3, b.astype(np.int64) + 100
    m, shift = (np.array([part]) for part in multiplier)
    form = requantize.best_form(m, shift, -5, 1 << 16)
    constants = block(isa, form, multiplier, -5)
    spec = Product8Spec(0, (1, 1), (I8, I8), I8, (form,), True)
    y = flat(spec, isa, [a, b], np.zeros_like(a), constants, 3, -100, -128, 127)
    product = mbqm(x * factor, *multiplier) - 5
    np.testing.assert_array_equal(y, np.clip(product, -128, 127))
    prelu = Prelu8Spec(0, (1, 1), (I8, I8), I8, (form, form), True)
    y = flat(prelu, isa, [a, b], np.zeros_like(a), np.tile(constants, 2), 3, -100, -128, 127)
    expected = np.where(x >= 0, mbqm(x, *multiplier) - 5, product)
    np.testing.assert_array_equal(y, np.clip(expected, -128, 127))


@pytest.mark.parametrize(
    "isa", [isa for isa in ISAS if isa.arch == "aarch64"], ids=lambda i: i.name
)
def test_kernels_compile_for_other_machines(isa: Isa) -> None:
    from litejit.codegen import llvm

    specs = [
        kernels.ElementwiseSpec(2, (1, 0), "add", (F32, F32), F32, 2),
        conversion.QuantizeSpec(0, (1,), I8, "away", True, True),
        conversion.CastSpec(0, (1,), F32, I16),
        conversion.CastSpec(0, (1,), F64, F16),
        conversion.CastSpec(0, (1,), BF16, BOOL),
        conversion.QuantizeChannelsSpec(1, (1, 1, 0), I8),
        *(kernels.ElementwiseSpec(0, (1, 1), name, (I32, I32), I32, 0, True)
          for name in ("div", "floor_div", "floor_mod", "power")),
        kernels.ElementwiseSpec(0, (1, 1), "floor_mod", (F32, F32), F32, 0),
        kernels.ElementwiseSpec(0, (1, 1), "atan2", (F16, F16), F16, 0),
        kernels.ElementwiseSpec(0, (1,), "size", (C128,), F64, 0),
        kernels.LookupSpec(),
        kernels.LookupSpec(True),
        lookup16.Lookup16Spec(False),
        Compare8Spec(0, (1, 1), (I16, I16), BOOL, ("u64", "wide"), False, "less"),
        Quotient8Spec(0, (1, 1), (U8, U8), U8, (), False),
        Shifted16Spec(0, (1, 1), (I16, I16), I16, (), False, -1),
        HighProductSpec(0, (1, 1), (I16, I16), I8, (), False),
        Total8Spec(0, (1, 1, 1), (I8, I8, I8), I8, ("wide",), True),
        softmax_fixed.LogSoftmax8(True, True),
        softmax_fixed.L2Norm8(False),
        softmax_fixed.Softmax16(),
        SoftmaxShortFloats(F16),
        Sum8Spec(1, (1, 1), (I8, I8), I8, (HALF, "u64", "u64"), True, 20, 1, False),
    ]
    for spec in specs:
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
