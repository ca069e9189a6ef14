"""Elementwise operators of every type: their kernels against NumPy, on several machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS
from tests.ops.moving import Immediate
from tests.ops.pointwise import Q, node_of

from litejit.codegen.isa import Isa
from litejit.errors import InvokeError
from litejit.model.options import elementwise as options
from litejit.ops.base import Node
from litejit.ops.floats import widen
from litejit.ops.resolver import BuiltinOpResolver
from litejit.record import replace
from litejit.types import (
    BF16,
    BOOL,
    C64,
    F16,
    F32,
    F64,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U4,
    U8,
    U16,
    U32,
    DType,
    Quantization,
)  # fmt: skip

some_isas = pytest.mark.parametrize("isa", HOST_ISAS[::3], ids=lambda isa: isa.name)
SHAPES = (
    ((3, 7, 33), (33,)), ((100,), (100,)), ((3, 1, 20), (1, 4, 20)), ((17,), ()), ((2, 9), (2, 1)),
)  # fmt: skip
SPECIAL = (np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, 65519.9, 1e30)


def numbers(dtype: DType, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small ones and extremes of any type."""
    rng = np.random.default_rng(seed)
    if dtype is BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.bits < 8:
        low = 0 if dtype is U4 else -(1 << (dtype.bits - 1))
        return rng.integers(low, low + (1 << dtype.bits), shape).astype(dtype.numpy)
    if dtype is BF16:
        return (numbers(F32, shape, seed).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    if dtype is C64:
        parts = [numbers(F32, shape, seed + k).astype(np.complex64) for k in range(2)]
        with np.errstate(all="ignore"):
            return np.asarray(parts[0] + np.complex64(1j) * parts[1])
    if dtype.numpy.kind == "f":
        x = rng.normal(0, 10.0 ** rng.integers(-2, 4), shape).astype(dtype.numpy)
        places = rng.integers(0, max(x.size, 1), len(SPECIAL))
        with np.errstate(all="ignore"):
            x.reshape(-1)[places] = np.array(SPECIAL).astype(dtype.numpy)
        return x
    info = np.iinfo(dtype.numpy)
    if seed % 2:
        return rng.integers(max(info.min, -9), 9, shape).astype(dtype.numpy)
    x = rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)
    x.reshape(-1)[:2] = (info.min, info.max) if x.size > 1 else info.min
    return x


def lowered(node: Node, values: list[np.ndarray], isa: Isa) -> Immediate:
    steps = Immediate(node, values)
    steps.isa = isa
    node.op.lower(node, steps)
    steps.check()
    assert steps.calls or steps.aliases, f"{node.name} runs in NumPy"
    return steps


def compare(
    isa: Isa, name: str, record: Any, *operands: Q, rtol: float = 0.0, **out: Any
) -> np.ndarray | None:
    """The reference's result, which the kernel gives too; None where both refuse the data."""
    node = node_of(name, record, *operands, **out)
    values = [x.value for x in operands]
    steps = lowered(node, values, isa)
    try:
        expected = np.asarray(node.op.reference(node, *values))
    except InvokeError:
        assert steps.refusal[0], f"{name} accepts what its reference refuses"
        return None
    assert not steps.refusal[0], f"{name} refuses what its reference accepts"
    dtype = node.output(0).dtype
    got, true = (widen(array, dtype) for array in (steps.results[0], expected))
    np.testing.assert_allclose(got, true, rtol=rtol, atol=0, err_msg=f"{name} {operands[0].dtype}")
    return expected


def instance(name: str) -> Any:
    op = BuiltinOpResolver().find_builtin(name, 1)
    assert op is not None
    return op


PAIRS = (
    *("ADD", "MUL", "MAXIMUM", "MINIMUM", "POW", "FLOOR_DIV", "FLOOR_MOD", "BITWISE_XOR"),
    *("RIGHT_SHIFT", "LOGICAL_AND", "LOGICAL_OR", "EQUAL", "NOT_EQUAL", "LESS", "GREATER"),
    *("LESS_EQUAL", "GREATER_EQUAL", "STABLEHLO_ADD", "STABLEHLO_MULTIPLY", "STABLEHLO_MAXIMUM"),
    *("STABLEHLO_MINIMUM", "STABLEHLO_AND", "STABLEHLO_SHIFT_LEFT", "ATAN2"),
)
TOLERANCES = {"POW": 1e-6, "ATAN2": 1e-6}
COMPARED = ("EQUAL", "NOT_EQUAL", "LESS", "GREATER", "LESS_EQUAL", "GREATER_EQUAL")
QUANTIZED = {"ADD": (I8, U8), "MUL": (I8, U8)}


@some_isas
@pytest.mark.parametrize("name", PAIRS)
def test_operators_of_two_operands_equal_numpy_in_every_type(name: str, isa: Isa) -> None:
    op = instance(name)
    for number, dtype in enumerate(op.dtypes):
        if dtype is STRING or dtype in QUANTIZED.get(name, ()):
            continue
        for seed in range(3):
            shapes = SHAPES[(number + seed) % len(SHAPES)]
            if name.startswith("STABLEHLO") or name == "ATAN2":
                shapes = shapes[:1] * 2
            a, b = (numbers(dtype, shape, seed + k) for k, shape in enumerate(shapes))
            if name == "POW" and dtype is I32:
                b = np.abs(np.clip(b, -40, 40))
            if name in ("FLOOR_DIV", "FLOOR_MOD"):
                b = np.where(b == 0, dtype.numpy.type(3), b)
            record = op.options() if op.options else None
            out = BOOL if name in COMPARED else dtype
            rtol = {F16: 1e-3, BF16: 1e-2}.get(dtype, 1e-6) if name in TOLERANCES else 0.0
            rtol = 1e-6 if dtype is C64 else rtol
            operands = Q(a, dtype=dtype), Q(b, dtype=dtype)
            assert compare(isa, name, record, *operands, out=out, rtol=rtol) is not None


@some_isas
@pytest.mark.parametrize("activation", range(4))
def test_whole_numbers_take_fused_activations(activation: int, isa: Isa) -> None:
    a, b = numbers(I32, (3, 21), 0), numbers(I32, (21,), 1)
    b[b == 0] = 7
    for name, kind in (("ADD", "Add"), ("SUB", "Sub"), ("MUL", "Mul"), ("DIV", "Div")):
        record = getattr(options, f"{kind}Options")(activation=activation)
        assert compare(isa, name, record, Q(a), Q(b)) is not None


@some_isas
@pytest.mark.parametrize("place", [0, 15, 16, 40])
def test_one_divisor_of_0_is_refused_wherever_it_is(place: int, isa: Isa) -> None:
    whole = (I8, I16, I32)
    cases = {"DIV": (I32,), "FLOOR_DIV": (F32, *whole), "FLOOR_MOD": (*whole, I64)}
    for name, dtypes in cases.items():
        for dtype in dtypes:
            a = numbers(dtype, (41,), 1)
            b = np.full(41, 3, dtype.numpy)
            assert compare(isa, name, instance(name).options(), Q(a), Q(b)) is not None
            b[place] = 0
            assert compare(isa, name, instance(name).options(), Q(a), Q(b)) is None
    exponents = np.arange(41, dtype=np.int32)
    exponents[place] = -1
    assert compare(isa, "POW", options.PowOptions(), Q(exponents), Q(exponents)) is None


def test_a_divisor_behind_the_last_element_is_not_looked_at() -> None:
    ones = np.ones(5, np.int32)  # the fences hold other bytes, the rest of the vector zeros
    assert compare(HOST_ISAS[0], "DIV", options.DivOptions(), Q(ones), Q(ones)) is not None


CAST = (I8, U8, I16, U16, I32, U32, I64, F16, BF16, F32, F64, BOOL, C64)


@some_isas
@pytest.mark.parametrize("source", CAST, ids=repr)
def test_casts_between_all_types_equal_numpy(source: DType, isa: Isa) -> None:
    for target in CAST:
        for seed in range(2):
            x = Q(numbers(source, (5, 37), seed), dtype=source)
            compare(isa, "CAST", options.CastOptions(), x, out=target)


@some_isas
def test_packed_integers_are_cast_to_float32_and_back(isa: Isa) -> None:
    for dtype in (I2, I4, U4):
        x = Q(numbers(dtype, (5, 37), 0), dtype=dtype)
        compare(isa, "CAST", options.CastOptions(), x, out=F32)
        compare(isa, "CAST", options.CastOptions(), Q(numbers(F32, (5, 37), 0)), out=dtype)


@some_isas
def test_every_float16_and_bfloat16_is_read_and_rounded_exactly(isa: Isa) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    half = Q(bits.view(np.float16))
    compare(isa, "CAST", options.CastOptions(), half, out=F32)
    compare(isa, "CAST", options.CastOptions(), Q(bits, dtype=BF16), out=F32)
    finite = bits.view(np.float16).astype(np.float64)
    with np.errstate(all="ignore"):
        middle = (finite[:-1] + finite[1:]) / 2
        near = np.concatenate([middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf)])
        compare(isa, "CAST", options.CastOptions(), Q(near), out=F16)
        compare(isa, "CAST", options.CastOptions(), Q(near.astype(np.float32)), out=F16)


@some_isas
@pytest.mark.parametrize("n", [2, 3, 17])
def test_sums_of_many_tensors_go_from_left_to_right(n: int, isa: Isa) -> None:
    for dtype in (F32, I32):
        terms = [Q(numbers(dtype, (3, 21), k)) for k in range(n)]
        compare(isa, "ADD_N", options.AddNOptions(), *terms)


@some_isas
def test_functions_of_one_operand_equal_numpy_in_every_type(isa: Isa) -> None:
    cases: list[tuple[str, Any, tuple[DType, ...]]] = [
        ("NEG", options.NegOptions(), (F16, BF16, I16, I32, I64)),
        ("ABS", options.AbsOptions(), (I16, I32)), ("SIGN", options.SignOptions(), (F32, F64, I32)),
        ("LOGICAL_NOT", options.LogicalNotOptions(), (BOOL,)), ("FLOOR", None, (F16, BF16)),
        ("ROUND", None, (F16, BF16)), ("LOGISTIC", None, (F16, BF16)), ("TANH", None, (F16, BF16)),
        ("GELU", options.GeluOptions(), (F16,)), ("SIN", None, (F16,)),
        ("DEQUANTIZE", options.DequantizeOptions(), (F16,)),
    ]  # fmt: skip
    for name, record, dtypes in cases:
        for dtype in dtypes:
            out = F32 if name == "DEQUANTIZE" else dtype
            compare(isa, name, record, Q(numbers(dtype, (5, 37), 0), dtype=dtype), out=out)
    for name in ("REAL", "IMAG", "COMPLEX_ABS"):
        x = numbers(C64, (5, 37), 0)
        compare(isa, name, None, Q(x), out=F32, rtol=3e-7)
        compare(isa, name, None, Q(x.astype(np.complex128)), out=F64, rtol=1e-15)


def scaled(dtype: DType, shape: tuple[int, ...], seed: int, scale: float) -> Q:
    zero = 0 if dtype is I16 else int(numbers(dtype, (9,), 0)[seed % 9])
    return Q(numbers(dtype, shape, 2 * seed), scale, zero)


@some_isas
@pytest.mark.parametrize("name", COMPARED)
def test_quantized_comparisons_equal_numpy(name: str, isa: Isa) -> None:
    for seed, dtype in enumerate((I8, U8, I16) * 4):
        shapes = SHAPES[seed % len(SHAPES)]
        scale = 10.0 ** (seed % 5 - 3)
        a, b = (scaled(dtype, shape, seed + k, scale * (1 + k)) for k, shape in enumerate(shapes))
        compare(isa, name, instance(name).options(), a, b, out=BOOL)


@some_isas
def test_quantized_quotients_equal_numpy(isa: Isa) -> None:
    for seed, dtype in enumerate((I8, U8, I16) * 6):
        a, b = (scaled(dtype, s, seed + k, 0.3) for k, s in enumerate(SHAPES[seed % len(SHAPES)]))
        zero = int(b.quantization.zero_points[0])
        record, scale = options.DivOptions(activation=seed % 4), 10.0 ** (seed % 6 - 4)
        if seed % 3:  # else some are 0, and refused
            other = dtype.numpy.type(zero + 1 if zero < 100 else zero - 1)
            b.value = np.where(b.value == zero, other, b.value)
        compare(isa, "DIV", record, a, b, scale=scale, zero_point=0 if dtype is I16 else 5)


@some_isas
def test_int16_functions_equal_numpy(isa: Isa) -> None:
    cases: list[tuple[str, Any]] = [
        ("RELU", None), ("RELU6", None), ("LEAKY_RELU", options.LeakyReluOptions(alpha=-0.7)),
        ("LEAKY_RELU", options.LeakyReluOptions(alpha=0.2)), ("ABS", options.AbsOptions()),
        ("EXP", options.ExpOptions()), ("LOG", None), ("RSQRT", None),
        ("GELU", options.GeluOptions()),
    ]  # fmt: skip
    for name, record in cases:
        for seed in range(3):
            x = scaled(I16, (5, 37), seed, 10.0 ** (seed - 4))
            refused = name == "RSQRT" and (x.value < 0).any()
            y = compare(isa, name, record, x, scale=10.0 ** (seed - 3))
            assert (y is None) == refused
    for name in ("LOGISTIC", "TANH"):
        compare(isa, name, None, scaled(I16, (5, 37), 0, 2.0**-12), scale=2.0**-15)
    x, alpha = scaled(I16, (4, 5, 6), 0, 0.1), Q(np.arange(-3, 3, dtype=np.int8), 0.3)
    compare(isa, "PRELU", None, x, alpha, scale=0.2)


@some_isas
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_fake_quantization_equals_numpy(bits: int, isa: Isa) -> None:
    record = options.FakeQuantOptions(min=-1.3, max=4.7, num_bits=bits)
    compare(isa, "FAKE_QUANT", record, Q(numbers(F32, (5, 37), 0)))


@some_isas
@pytest.mark.parametrize("shape", [(3, 40), (7,), (19, 3), (2, 3, 1), (8, 16), (2, 700)], ids=str)
def test_rows_in_fixed_point_equal_numpy(shape: tuple[int, ...], isa: Isa) -> None:
    for seed, dtype in enumerate((I8, U8) * 3):
        x = scaled(dtype, shape, seed, 10.0 ** (seed % 3 - 2))
        middle, top = (128, 255) if dtype is U8 else (0, 127)
        compare(isa, "L2_NORMALIZATION", None, x, scale=1 / 128, zero_point=middle)
        compare(isa, "LOG_SOFTMAX", None, x, scale=1 / 16, zero_point=top)
        wide = scaled(I16, shape, seed, 10.0 ** (seed - 5))
        compare(isa, "SOFTMAX", options.SoftmaxOptions(beta=0.7), wide, scale=1 / 32768)


@some_isas
@pytest.mark.parametrize("dtype", [F16, BF16], ids=repr)
def test_softmax_of_short_floats_is_near_numpy(dtype: DType, isa: Isa) -> None:
    for n in (1, 15, 16, 17, 130):
        x = np.random.default_rng(n).normal(0, 4, (5, n)).astype(np.float32)
        bits = (x.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        operand = Q(bits, dtype=BF16) if dtype is BF16 else Q(x.astype(np.float16))
        # float32 exponentials of other last bits may round to neighbours
        step = 2.0**-10 if dtype is F16 else 2.0**-7
        compare(isa, "SOFTMAX", options.SoftmaxOptions(beta=0.7), operand, rtol=2 * step)


@some_isas
def test_codes_are_those_of_a_division_at_any_scale(isa: Isa) -> None:
    rng = np.random.default_rng(0)
    scales = np.concatenate([10.0 ** rng.uniform(-20, 20, 12), [1e-30, 1e30, 2 / 255]])
    for dtype in (I8, U8, I16):
        for scale in np.float32(scales).tolist():
            halves = (rng.integers(-600, 600, 400) / 2 * scale).astype(np.float32)
            above = np.nextafter(halves, np.float32(np.inf))
            x = np.concatenate([halves, above, np.float32(SPECIAL)])
            compare(isa, "QUANTIZE", options.QuantizeOptions(), Q(x), out=dtype, scale=scale)


@some_isas
@pytest.mark.parametrize("zero_point", [-128, -5, 127])
def test_roots_of_codes_below_the_zero_point_are_refused_by_the_look_up(
    zero_point: int, isa: Isa
) -> None:
    codes = np.tile(np.arange(zero_point, 128, dtype=np.int8), 3)[:301]
    for name in ("SQRT", "RSQRT"):
        x = Q(codes, 0.3, zero_point)
        assert compare(isa, name, None, x, scale=0.1, zero_point=-7) is not None
        if zero_point > -128:
            x.value = codes.copy()
            x.value[-1] = zero_point - 1
            assert compare(isa, name, None, x, scale=0.1, zero_point=-7) is None


@some_isas
@pytest.mark.parametrize("activation", range(4))
def test_int16_sums_of_scales_that_are_powers_of_2_equal_numpy(activation: int, isa: Isa) -> None:
    for name, kind in (("ADD", options.AddOptions), ("SUB", options.SubOptions)):
        for seed, shapes in enumerate(SHAPES):
            a, b = (Q(numbers(I16, s, seed), 2.0 ** (-k - 8)) for k, s in enumerate(shapes))
            record = kind(activation=activation, pot_scale_int16=True)
            compare(isa, name, record, a, b, scale=2.0**-8)


@some_isas
def test_bytes_of_int16_factors_equal_numpy(isa: Isa) -> None:
    for dtype, zero in ((I8, -9), (U8, 131)):
        a, b = (Q(numbers(I16, (3, 67), 2 * k), 2.0**-15) for k in range(2))
        for activation in range(4):
            record = options.MulOptions(activation=activation)
            compare(isa, "MUL", record, a, b, out=dtype, scale=1 / 128, zero_point=zero)


@some_isas
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_are_quantized_and_read_back_as_numpy_does(axis: int, isa: Isa) -> None:
    shape = (3, 5, 7)
    rng = np.random.default_rng(axis)
    scales = (10.0 ** rng.uniform(-3, 1, shape[axis])).astype(np.float32)
    for dtype in (I8, U8, I16, I4):
        points = numbers(dtype, (shape[axis],), 1).astype(np.int64) * (dtype is not I16)
        channels = Quantization(scales, points, axis)
        x = Q(numbers(F32, shape, 0) * np.float32(10))
        node = node_of("QUANTIZE", options.QuantizeOptions(), x, out=dtype, scale=1.0)
        y = replace(node.output(0), quantization=channels)
        node = node.with_types(node.inputs, (y,))
        with np.errstate(all="ignore"):
            codes = np.asarray(node.op.reference(node, x.value))
        np.testing.assert_array_equal(lowered(node, [x.value], isa).results[0], codes)
        back = Q(codes, dtype=dtype)
        back.quantization = channels
        compare(isa, "DEQUANTIZE", options.DequantizeOptions(), back, out=F32)
