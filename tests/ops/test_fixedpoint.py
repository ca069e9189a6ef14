"""Multipliers, rounding and ranges of quantized arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from litejit.model.options import Activation
from litejit.ops import fixedpoint as fp
from litejit.types import F32, I8, I16, U8, Quantization, TensorType

RNG = np.random.default_rng(5)


def half_away(x: Fraction) -> int:
    whole = math.floor(abs(x) + Fraction(1, 2))
    return whole if x >= 0 else -whole


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def test_a_multiplier_is_as_close_as_31_bits_allow():
    for real in (1e-9, 0.3, 0.5, 1.0, 1.7, 100.0):
        m, shift = fp.quantize_multiplier(real)
        assert 1 << 30 <= m < 1 << 31
        assert m * 2.0 ** (shift - 31) == pytest.approx(real, rel=2**-31)


def test_multipliers_at_the_edges():
    assert fp.quantize_multiplier(0.0) == (0, 0)
    assert fp.quantize_multiplier(2.0**-33) == (0, 0)
    assert fp.quantize_multiplier(2.0**-32) == (1 << 30, -31)
    just_below_one = 1 - 2.0**-40
    assert fp.quantize_multiplier(just_below_one) == (1 << 30, 1)


def test_scaling_rounds_twice():
    values = np.r_[RNG.integers(-(2**31), 2**31, 300), np.arange(-40, 40)]
    for m, shift in ((1 << 30, 0), (1 << 30, -3), (1518500250, -7), (1073741825, 1)):
        shifted = [int(np.int64(x << max(shift, 0)).astype(np.int32)) for x in values.tolist()]
        high = [half_up(Fraction(x * m, 1 << 31)) for x in shifted]
        want = [half_away(Fraction(x, 1 << max(-shift, 0))) for x in high]
        assert fp.mbqm(values, m, shift).tolist() == want


def test_ties_of_the_last_division_go_away_from_zero():
    assert fp.rounding_divide_by_pot(np.array([-3, -1, 1, 3]), 1).tolist() == [-2, -1, 1, 2]
    assert fp.rounding_divide_by_pot(np.array([-3, 5]), np.array([0, 0])).tolist() == [-3, 5]


def test_wide_sums_round_once_and_ties_up():
    values = RNG.integers(-(2**40), 2**40, 200)
    for m, shift in ((1 << 30, -20), (2**31 - 1, -9), (1234567890, 2)):
        reduced = (m + (1 << 15)) >> 16 if m < 0x7FFF0000 else 0x7FFF
        exact = [half_up(Fraction(x * reduced, 1 << (15 - shift))) for x in values.tolist()]
        want = np.array(exact, np.int64).astype(np.int32)
        np.testing.assert_array_equal(fp.mbqm64(values, m, shift), want)


def test_requantize_takes_a_multiplier_for_each_channel():
    acc = RNG.integers(-50000, 50000, (7, 3, 5))
    reals = np.array([0.001, 0.002, 0.5, 1e-5, 0.0])
    m, shift = fp.quantize_multipliers(reals)
    got = fp.requantize(acc, (m, shift), zero_point=3, limits=(-100, 90), dtype=I8)
    assert got.dtype == np.int8
    for c in range(5):
        want = np.clip(fp.mbqm(acc[..., c], int(m[c]), int(shift[c])) + 3, -100, 90)
        np.testing.assert_array_equal(got[..., c], want)


def test_requantize_of_nothing_is_nothing():
    pair = fp.quantize_multipliers(np.array([0.5]))
    got = fp.requantize(np.zeros((0, 4)), pair, zero_point=0, limits=(0, 1), dtype=U8)
    assert got.shape == (0, 4)


def output(dtype, scale, zero):
    q = Quantization(np.array([scale], np.float32), np.array([zero], np.int64))
    return TensorType((1,), dtype, q)


@pytest.mark.parametrize(
    ("activation", "want"),
    [
        (Activation.NONE, (-128, 127)),
        (Activation.RELU, (-10, 127)),
        (Activation.RELU6, (-10, 50)),
        (Activation.RELU_N1_TO_1, (-20, 0)),
        (Activation.TANH, (-128, 127)),
    ],
)
def test_quantized_activations_are_ranges(activation, want):
    assert fp.activation_range(output(I8, 0.1, -10), activation) == want


def test_ranges_never_leave_the_type():
    assert fp.activation_range(output(U8, 0.01, 200), Activation.RELU6) == (200, 255)
    assert fp.activation_range(output(I16, 1e-9, 0), Activation.RELU6) == (0, 32767)


def test_float_activations_end_at_finite_values():
    kind = TensorType((1,), F32)
    assert fp.activation_range(kind, Activation.NONE) == (-fp.FLOAT_MAX, fp.FLOAT_MAX)
    assert fp.activation_range(kind, Activation.RELU6) == (0.0, 6.0)


def test_round_half_away():
    x = np.array([-2.5, -0.5, -0.4, 0.5, 1.5, 0.49999997], np.float32)
    assert fp.round_half_away(x).tolist() == [-3, -1, 0, 1, 2, 0]
