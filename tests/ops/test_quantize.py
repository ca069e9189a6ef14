"""Conversions between numbers, codes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.pointwise import Q, evaluate

from litejit import Interpreter
from litejit.errors import PrepareError
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options.elementwise import CastOptions, FakeQuantOptions, QuantizeOptions
from litejit.types import BF16, BOOL, F16, F32, F64, I4, I8, I16, I32, I64, U8, U16, DType

f = np.float32


@pytest.mark.parametrize(("out", "zero"), [(I8, -3), (U8, 128), (I16, 0), (I4, 1)], ids=repr)
def test_floats_round_half_away_and_saturate(out: DType, zero: int) -> None:
    x = f([0, 0.25, 0.75, -0.25, -0.75, 1e9, -1e9, 1e9, -np.inf])
    y = evaluate("QUANTIZE", None, Q(x), out=out, scale=0.5, zero_point=zero)
    low = -(1 << (out.bits - 1)) if out is not U8 else 0
    high = low + (1 << out.bits) - 1
    steps = np.array([0, 1, 2, -1, -2, 10**9, -(10**9), 10**9, -(10**9)])
    np.testing.assert_array_equal(y, np.clip(steps + zero, low, high))


def test_what_int32_cannot_hold_is_the_smallest_int16_code_and_the_largest_byte() -> None:
    x = Q(f([2**31, np.inf, -np.inf, 2**31 - 128]))
    y = evaluate("QUANTIZE", None, x, out=I16, scale=1.0)
    assert y.tolist() == [-32768, -32768, -32768, 32767]
    assert evaluate("QUANTIZE", None, x, out=I8, scale=1.0).tolist() == [127, 127, -128, 127]


@pytest.mark.parametrize(("out", "zero", "code"), [(I8, -1, 127), (I8, 0, -128), (U8, 9, 0)])
def test_nan_becomes_what_the_reference_kernels_sum_wraps_to(
    out: DType, zero: int, code: int
) -> None:
    y = evaluate("QUANTIZE", None, Q(f([np.nan])), out=out, scale=1.0, zero_point=zero)
    assert y.tolist() == [code]


def test_equal_scales_only_move_the_zero_point() -> None:
    x = np.arange(256).astype(np.uint8)
    y = evaluate("QUANTIZE", None, Q(x, 0.1, 128), out=I8, scale=0.1, zero_point=0)
    np.testing.assert_array_equal(y, x.astype(int) - 128)


def test_codes_are_rescaled_with_two_roundings() -> None:
    x = np.int8([1, 3, -1, -3, 100])
    y = evaluate("QUANTIZE", None, Q(x, 0.5), out=I8, scale=1.0)
    assert y.tolist() == [1, 2, 0, -1, 50]  # the first rounding takes halves up
    y = evaluate("QUANTIZE", None, Q(np.int32([70000, -9]), 0.5), out=I16, scale=1.0)
    assert y.tolist() == [32767, -4]


def test_dequantized_codes_are_rounded_once() -> None:
    for values, zero in ((np.arange(-128, 128).astype(np.int8), 7), (np.int16([-9, 32767]), 0)):
        y = evaluate("DEQUANTIZE", None, Q(values, 0.1, zero), out=F32)
        exact = (values.astype(float) - zero) * float(f(0.1))
        np.testing.assert_array_equal(y, exact.astype(f))
    half = np.float16([1.5, np.inf, -0.0])
    np.testing.assert_array_equal(evaluate("DEQUANTIZE", None, Q(half), out=F32), half.astype(f))


CASTS: list[tuple[Any, DType, list[Any]]] = [
    (f([1.9, -1.9, 300, -300, np.nan, np.inf]), I8, [1, -1, 127, -128, 127, 127]),
    (f([1.9, -1.9, 3e9, np.nan]), I32, [1, -1, 2**31 - 1, 2**31 - 1]),
    (f([-5, 1e20]), I64, [-5, 2**63 - 1]),
    (f([-5, 70000]), U16, [0, 65535]),
    (f([0, -0.0, 0.1, np.nan]), BOOL, [False, False, True, True]),
    (np.int32([300, -1, 128]), I8, [44, -1, -128]),
    (np.int8([-1]), U16, [65535]),
    (np.array([True, False]), F32, [1.0, 0.0]),
    (np.int32([16777217]), F32, [16777216.0]),
    (f([1.00390625, 3.0]), BF16, [0x3F80, 0x4040]),  # a tie goes to the even one
    (f([65520, 1.0]), F16, [np.inf, 1.0]),
    (np.complex64([2.5 - 1j]), F64, [2.5]),
    (f([-9, 9, 2.7]), I4, [-8, 7, 2]),
    (np.int64([2**40 + 3]), I32, [3]),
]


@pytest.mark.parametrize(("x", "target", "expected"), CASTS, ids=lambda v: repr(v)[:20])
def test_casts(x: Any, target: DType, expected: list[Any]) -> None:
    assert evaluate("CAST", CastOptions(), Q(x), out=target).tolist() == expected


def test_four_bit_codes_are_cast_to_floats_only() -> None:
    x = Q(np.int8([-8, 7]), dtype=I4)
    assert evaluate("CAST", CastOptions(), x, out=F32).tolist() == [-8, 7]
    with pytest.raises(PrepareError, match="INT4"):
        evaluate("CAST", CastOptions(), x, out=I32)


def test_fake_quantization_moves_the_range_onto_zero() -> None:
    options = FakeQuantOptions(min=-0.1, max=0.9, num_bits=2)
    y = evaluate("FAKE_QUANT", options, Q(f([-1, 0, 0.2, 0.5, 2])))
    np.testing.assert_allclose(y, [0, 0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    with pytest.raises(PrepareError, match="empty"):
        evaluate("FAKE_QUANT", FakeQuantOptions(num_bits=8), Q(f([1])))


def test_bitcasts_add_and_drop_the_last_dimension() -> None:
    x = np.array([[1, 256]], np.int32)
    y = evaluate("BITCAST", None, Q(x), out=U8)
    assert y.tolist() == [[[1, 0, 0, 0], [0, 1, 0, 0]]]
    assert evaluate("BITCAST", None, Q(y), out=I32).tolist() == x.tolist()
    with pytest.raises(PrepareError, match="last dimension"):
        evaluate("BITCAST", None, Q(y[..., :3]), out=I32)


def test_outputs_without_scales_are_refused() -> None:
    with pytest.raises(PrepareError, match="scale"):
        evaluate("QUANTIZE", None, Q(f([1])), out=I8)
    with pytest.raises(PrepareError, match="output is INT64"):
        evaluate("QUANTIZE", None, Q(f([1])), out=I64, scale=1.0)


def rounded_model(zero_point: int, dtype: DType, scale: float, *, rounds: bool) -> bytes:
    """float32 to codes, behind a ROUND or not: LiteRT's reference kernels have no ROUND."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (203,), F32)
    if rounds:
        whole = graph.add_tensor("whole", (203,), F32)
        graph.add_operator("ROUND", [x], [whole], None)
        x = whole
    y = graph.add_output("y", (203,), dtype, quantization=per_tensor(scale, zero_point))
    graph.add_operator("QUANTIZE", [x], [y], QuantizeOptions())
    return builder.to_bytes()


@pytest.mark.parametrize("compiled", ["0", "1"])
@pytest.mark.parametrize(("dtype", "zero_point"), [(I8, -3), (U8, 140)], ids=repr)
def test_models_beyond_the_reference_kernels_quantize_as_the_default_run(
    dtype: DType, zero_point: int, compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITEJIT_COMPILE", compiled)
    x = np.arange(-101, 102).astype(np.float32)
    x[:3] = np.nan, np.inf, -np.inf
    info = np.iinfo(dtype.numpy)
    for scale in (2.0, 200 / 255, 0.3):
        found = {}
        for rounds in (False, True):
            data = rounded_model(zero_point, dtype, scale, rounds=rounds)
            interpreter = Interpreter(model_content=data)
            interpreter.allocate_tensors()
            interpreter.set_tensor(0, x)
            interpreter.invoke()
            found[rounds] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        real = np.rint(x * (np.float32(1) / np.float32(scale)))
        codes = np.nan_to_num(real, nan=1e6, posinf=1e6, neginf=-1e6).astype(np.int64) + zero_point
        np.testing.assert_array_equal(found[True], np.clip(codes, info.min, info.max))
        quotient = np.abs(x[3:] / np.float32(scale))
        away = np.copysign(np.floor(quotient + np.float32(0.5)), x[3:]).astype(np.int64)
        np.testing.assert_array_equal(
            found[False][3:], np.clip(away + zero_point, info.min, info.max)
        )
        assert scale != 2.0 or (found[True] != found[False]).any()
