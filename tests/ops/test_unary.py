"""Functions of one tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.ops.pointwise import Q, evaluate

from litejit.errors import InvokeError, PrepareError
from litejit.types import BF16, BOOL, F32

f = np.float32
SPECIAL = f([0, -0.0, 1, -1, 0.5, 2.5, -2.5, 3.7, 1e-40, 1e30, np.inf, -np.inf, np.nan])
FLOATS = {
    "SQRT": np.sqrt, "NEG": np.negative, "ABS": np.abs, "EXP": np.exp, "LOG": np.log,
    "SIN": np.sin, "COS": np.cos, "CEIL": np.ceil, "FLOOR": np.floor, "ROUND": np.rint,
    "SIGN": np.sign, "SQUARE": np.square, "RSQRT": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_floats_equal_float64_numpy_rounded(name: str) -> None:
    x = np.concatenate([SPECIAL, np.linspace(-20, 20, 333)]).astype(f)
    y = evaluate(name, None, Q(x), rtol=1e-6)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, FLOATS[name](x.astype(float)).astype(f), rtol=2e-7)


@pytest.mark.parametrize("name", ["FLOOR", "ROUND", "NEG"])
def test_narrow_floats_are_computed_wide(name: str) -> None:
    bits = np.array([0x3FC0, 0xBFC0, 0x4020, 0x7F80, 0x7FC0], np.uint16)  # 1.5 -1.5 2.5 inf nan
    y = evaluate(name, None, Q(bits, dtype=BF16))
    wide = (bits.astype(np.uint32) << 16).view(f)
    got = (y.astype(np.uint32) << 16).view(f)
    np.testing.assert_array_equal(got, FLOATS[name](wide))
    np.testing.assert_array_equal(evaluate(name, None, Q(wide.astype(np.float16))), got)


def test_roots_of_quantized_numbers_are_cut_not_rounded() -> None:
    # sqrt(8 * 0.5) = 2, sqrt(7 * 0.5) = 1.87 -> 18 steps of 0.1
    y = evaluate("SQRT", None, Q(np.int8([8, 7, 0]), 0.5), scale=0.1, zero_point=-5)
    assert y.tolist() == [15, 13, -5]
    with pytest.raises(InvokeError, match="negative"):
        evaluate("SQRT", None, Q(np.int8([-1]), 0.5), scale=0.1)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_inverse_roots_are_within_a_step(dtype: type) -> None:
    low = -128 if dtype is np.int8 else 0
    x = np.arange(low + 1, 127).astype(dtype)
    y = evaluate("RSQRT", None, Q(x, 0.1, low), scale=0.03)
    info = np.iinfo(dtype)
    exact = np.clip(1 / np.sqrt((x.astype(float) - low) * 0.1) / 0.03, info.min, info.max)
    if dtype is np.int8:
        assert np.abs(y - exact).max() <= 0.51
        assert evaluate("RSQRT", None, Q(np.int8([-128]), 0.1, -128), scale=0.03) == [127]
    with pytest.raises(InvokeError, match="negative"):
        evaluate("RSQRT", None, Q(dtype([-1]), 0.1), scale=0.03)


@pytest.mark.parametrize(("name", "true"), [("EXP", math.exp), ("LOG", math.log)])
def test_tables_round_the_real_function(name: str, true: object) -> None:
    x = np.arange(1, 128).astype(np.int8)
    y = evaluate(name, None, Q(x, 0.02), scale=0.1, zero_point=-60)
    exact = [true(v * 0.02) / 0.1 - 60 for v in x.astype(float)]
    assert np.abs(y - np.clip(exact, -128, 127)).max() <= 0.51
    wide = np.arange(1, 32767, 97).astype(np.int16)
    y = evaluate("EXP", None, Q(wide, 1e-4), scale=1e-3)
    exact = np.exp(wide * 1e-4) / 1e-3
    assert np.abs(y - exact).max() < 4


def test_absolute_values_of_codes_move_to_the_outputs_scale() -> None:
    x = Q(np.int8([-128, -3, 0, 5, 127]), 0.5, 1)
    assert evaluate("ABS", None, x, scale=0.5, zero_point=1).tolist() == [127, 5, 2, 5, 127]
    assert evaluate("ABS", None, x, scale=1.0, zero_point=-2).tolist() == [63, 0, -1, 0, 61]
    assert evaluate("ABS", None, Q(np.int16([-32768, -4]))).tolist() == [-32768, 4]


def test_whole_numbers_bools_and_complex_numbers() -> None:
    assert evaluate("NEG", None, Q(np.int8([-128, 5]))).tolist() == [-128, -5]
    assert evaluate("SIGN", None, Q(np.int32([-7, 0, 9]))).tolist() == [-1, 0, 1]
    assert evaluate("LOGICAL_NOT", None, Q(np.array([True, False]))).tolist() == [False, True]
    z = Q(np.complex64([3 - 4j]))
    assert evaluate("COMPLEX_ABS", None, z, out=F32).tolist() == [5]
    assert evaluate("REAL", None, z, out=F32).tolist() == [3]
    assert evaluate("IMAG", None, z, out=F32).tolist() == [-4]


def test_types_without_a_kernel_are_refused() -> None:
    with pytest.raises(PrepareError, match="input is INT32"):
        evaluate("SIN", None, Q(np.int32([1])))
    with pytest.raises(PrepareError, match="output is BOOL"):
        evaluate("EXP", None, Q(f([1])), out=BOOL)
    with pytest.raises(PrepareError, match="scale"):
        evaluate("EXP", None, Q(np.int8([1])))
