"""Activation functions: real meaning within a step, fixed-point oddities exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.ops.pointwise import Q, evaluate

from litejit.errors import PrepareError
from litejit.model.options.elementwise import GeluOptions, LeakyReluOptions
from litejit.ops import activation

f = np.float32
erfc = np.vectorize(math.erfc)
TRUE: dict[str, tuple[Any, Any]] = {
    "LOGISTIC": (None, lambda x: 1 / (1 + np.exp(-x))),
    "TANH": (None, np.tanh),
    "HARD_SWISH": (None, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "RELU": (None, lambda x: np.maximum(x, 0)),
    "RELU6": (None, lambda x: np.clip(x, 0, 6)),
    "RELU_0_TO_1": (None, lambda x: np.clip(x, 0, 1)),
    "RELU_N1_TO_1": (None, lambda x: np.clip(x, -1, 1)),
    "LEAKY_RELU": (LeakyReluOptions(alpha=0.25), lambda x: np.where(x > 0, x, x * 0.25)),
    "ELU": (None, lambda x: np.where(x < 0, np.expm1(x), x)),
    "GELU": (GeluOptions(), lambda x: x / 2 * erfc(-x / math.sqrt(2))),
}
CODES = np.arange(256).astype(np.uint8).view(np.int8)


@pytest.mark.parametrize("name", TRUE)
def test_floats_are_near_the_real_function(name: str) -> None:
    options, true = TRUE[name]
    x = np.linspace(-8, 8, 1001).astype(f)
    y = evaluate(name, options, Q(x), rtol=5e-6)
    np.testing.assert_allclose(y, true(x.astype(float)), rtol=5e-6, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in TRUE if n != "HARD_SWISH"])
def test_nan_stays_nan(name: str) -> None:
    assert np.isnan(evaluate(name, TRUE[name][0], Q(f([np.nan])))).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", TRUE)
def test_codes_are_within_a_step_of_the_real_function(name: str, dtype: Any) -> None:
    if name == "ELU" and dtype is np.uint8:
        pytest.skip("int8 only")
    options, true = TRUE[name]
    offset = 128 if dtype is np.uint8 else 0
    scale, zero = (1 / 256, offset - 128) if name == "LOGISTIC" else (0.05, offset - 20)
    x = CODES.view(dtype)
    y = evaluate(name, options, Q(x, 0.04, offset + 5), scale=scale, zero_point=zero)
    exact = true((x.astype(float) - offset - 5) * 0.04) / scale + zero
    limit = 1.5 if name == "HARD_SWISH" else 1.01
    info = np.iinfo(dtype)
    assert np.abs(y - np.clip(exact, info.min, info.max)).max() <= limit


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-11, 3e-4], ids=str)
@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
def test_int16_curves_interpolate_one_table(name: str, scale: float) -> None:
    x = np.arange(-32768, 32768, 7).astype(np.int16)
    y = evaluate(name, None, Q(x, scale), scale=2.0**-15)
    exact = TRUE[name][1](x.astype(float) * np.float32(scale)) * 32768
    assert np.abs(y - np.clip(exact, -32768, 32767)).max() < 4
    with pytest.raises(PrepareError, match="2\\*\\*-15"):
        evaluate(name, None, Q(x, scale), scale=0.1)


def test_the_sigmoid_table_starts_and_ends_as_litert_lists_it() -> None:
    table = activation.SIGMOID.tolist()
    assert table[:6] == [32768, 33451, 34133, 34813, 35493, 36169]
    assert table[35] == 53169
    assert table[-3:] == [65534, 65534, 65535]


def test_relu_codes_are_rescaled_and_clamped_on_the_outputs_scale() -> None:
    x = Q(np.int8([-10, 0, 10, 127]), 0.1)
    assert evaluate("RELU6", None, x, scale=0.05, zero_point=-10).tolist() == [-10, -10, 10, 110]
    assert evaluate("RELU_N1_TO_1", None, x, scale=0.05).tolist() == [-20, 0, 20, 20]


def test_a_negative_slope_is_applied_by_its_size() -> None:
    options = LeakyReluOptions(alpha=-0.5)
    y = evaluate("LEAKY_RELU", options, Q(np.int8([-5, 4]), 1.0), scale=1.0)
    assert y.tolist() == [2, 4]  # -2.5 becomes -2 in the high product, then its sign turns


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8, np.int16])
def test_slopes_are_broadcast_along_channels(dtype: Any) -> None:
    if dtype is np.float32:
        x = np.linspace(-3, 3, 24).astype(f).reshape(2, 4, 3)
        slope = f([0, 0.5, -1])
        y = evaluate("PRELU", None, Q(x), Q(slope))
        np.testing.assert_array_equal(y, np.where(x >= 0, x, x * slope))
        return
    zero = 100 if dtype is np.uint8 else 0
    x = (np.arange(-12, 12) * 8 + zero).astype(dtype).reshape(2, 4, 3)
    slope = np.array([0, 50, 10]).astype(np.int8 if dtype is np.int16 else dtype)
    y = evaluate("PRELU", None, Q(x, 0.1, zero), Q(slope, 0.02), scale=0.1, zero_point=zero)
    real = (x.astype(float) - zero) * 0.1
    exact = np.where(real >= 0, real, real * slope * 0.02) / 0.1 + zero
    assert np.abs(y - exact).max() <= 0.51


def test_tiny_scales_of_hard_swish_leave_the_remainder_of_16_bits() -> None:
    x = np.int8([2, 10, 1, 0, -1, -2, -5])
    y = evaluate("HARD_SWISH", None, Q(x, 7.844257e-09, -1), scale=7.843697e-09, zero_point=-1)
    assert y.tolist() == [1, 5, 0, 0, -1, -1, -3]  # LiteRT's


def test_fixed_output_scales_are_enforced() -> None:
    with pytest.raises(PrepareError, match="1/256"):
        evaluate("LOGISTIC", None, Q(CODES, 0.1), scale=0.1)
    with pytest.raises(PrepareError, match="stretch"):
        evaluate("PRELU", None, Q(f([1])), Q(f([1, 2])))
    with pytest.raises(PrepareError, match="too small"):
        evaluate("HARD_SWISH", None, Q(CODES, 1.0), scale=1e-4)
