"""Exponentials, logarithms and reciprocals in 32-bit fixed point, as LiteRT computes them.

Numbers are int64 arrays that hold int32 "raw" values: Qm.n is raw / 2**n with m + n = 31.
Source: LiteRT tflite/kernels/internal/common.h and the gemmlowp formulas that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.ops.fixedpoint import (
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from litejit.types import Array

I64 = np.int64
_mul = saturating_rounding_doubling_high_mul
_LOW, _HIGH = -(2**31), 2**31 - 1


def saturating_shift(x: Array, left: Any) -> Array:
    """x * 2**left, clamped to int32; `left` (an int or an array) is at most 31."""
    result: Array = np.clip(np.asarray(x, I64) << left, _LOW, _HIGH)
    return result


def bit_length(x: Array) -> Array:
    """Bits of positive integers below 2**53."""
    result: Array = np.frexp(np.asarray(x, np.float64))[1].astype(I64)
    return result


def _half_sum(a: Array, b: Any) -> Array:
    """(a + b) / 2, half away from zero."""
    total = np.asarray(a, I64) + b
    result: Array = np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))
    return result


# exp(-2**e) for the bits of what is left after the multiples of 1/4, in Q0.31
_BARREL = (
    *((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308)),
    *((2, 39332535), (3, 720401), (4, 242)),
)


def exp_on_negative_values(raw: Array, integer_bits: int = 5) -> Array:
    """exp(x) in Q0.31 for x <= 0 with 1 to 5 `integer_bits`; exactly 0 gives 2**31 - 1.

    A polynomial of degree 4 around -1/8 for the part in [-1/4, 0), one factor for every bit of
    the rest.
    """
    raw = np.asarray(raw, I64)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (raw & (quarter - 1)) - quarter
    x = saturating_shift(part, integer_bits) + (1 << 28)
    x2 = _mul(x, x)
    x3, x4 = _mul(x2, x), _mul(x2, x2)
    third = _mul(rounding_divide_by_pot(x4, 2) + x3, 715827883)
    tail = rounding_divide_by_pot(third + x2, 1)
    result = 1895147668 + _mul(x + tail, 1895147668)
    rest = part - raw
    for exponent, factor in _BARREL:
        if exponent < integer_bits:
            has = (rest >> (fraction_bits + exponent)) & 1
            result = np.where(has != 0, _mul(result, factor), result)
    return np.where(raw == 0, _HIGH, result)


def _two_over_one_plus(a: Array) -> Array:
    """2 / (1 + a) in Q2.29 for a in [0, 1) in Q0.31: three Newton steps."""
    half = _half_sum(np.asarray(a, I64), _HIGH)
    x = 1515870810 + _mul(half, -1010580540)
    for _ in range(3):
        x = x + saturating_shift(_mul(x, (1 << 29) - _mul(half, x)), 2)
    return x


def one_over_one_plus(a: Array) -> Array:
    """1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31."""
    return saturating_shift(_two_over_one_plus(a), 1)


def logistic(raw: Array, integer_bits: int) -> Array:
    """1 / (1 + exp(-x)) in Q0.31 of x with `integer_bits` (at most 5)."""
    raw = np.asarray(raw, I64)
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(raw), integer_bits))
    result = np.where(raw > 0, positive, _HIGH - positive)
    return np.where(raw == 0, 1 << 30, result)


def tanh(raw: Array, integer_bits: int) -> Array:
    """tanh(x) in Q0.31 of x with `integer_bits` (at most 4)."""
    raw = np.asarray(raw, I64)
    # (1 - e) / (1 + e) = 2 / (1 + e) - 1
    exponential = exp_on_negative_values(-np.abs(raw), integer_bits + 1)
    size = saturating_shift(_two_over_one_plus(exponential) - (1 << 29), 2)
    return np.where(raw == 0, 0, np.where(raw < 0, -size, size))


# What three of Newton's steps in wrapping int32 make of 0, in Q0.31: TFLM divides by it
INVERSE_OF_0 = -1515870788


def reciprocal(x: Array, integer_bits: int) -> tuple[Array, Array]:
    """1 / x for raw x >= 1 with `integer_bits`: (Q0.31, bits of x over 1).

    x may exceed int32 here, where LiteRT's sum would have overflowed.
    """
    x = np.asarray(x, I64)
    headroom = 32 - bit_length(x)
    normal = np.where(headroom >= 0, x << np.maximum(headroom, 0), x >> np.maximum(-headroom, 0))
    return one_over_one_plus(normal - (1 << 31)), integer_bits - headroom


def log_of_sum(raw: Array) -> Array:
    """log(x) in Q5.26 for x >= 1 in Q12.19 (raw values below 2**31)."""
    z = np.asarray(raw, I64)
    sqrt_half, root = 1518500250, 1805811301
    quarter = 1 << 23  # 1/4 in Q6.25
    headroom = 32 - bit_length(z)
    r_a = saturating_shift(_mul(saturating_shift(z, headroom - 1), sqrt_half), 1)
    power_a = np.minimum(saturating_shift(12 - headroom, 25) + quarter, _HIGH)
    headroom_b = 31 - bit_length(_mul(z, sqrt_half))
    r_b = saturating_shift(z, headroom_b)
    power_b = np.maximum(saturating_shift(12 - headroom_b, 25) - quarter, _LOW)
    r, power = np.minimum(r_a, r_b), np.maximum(power_a, power_b)
    p = _half_sum(r, root)
    q = 2 * (r - root)
    square = _mul(q, q)
    numerator = _mul(q, r) + _mul(_mul(q, square), 117049297)
    denominator = _mul(p, 1057819769 + q + _mul(square, 127690142)) + _mul(q, 638450708)
    scaled = rounding_divide_by_pot(numerator, 6)
    total = _mul(power, 1488522236) + _mul(scaled, one_over_one_plus(denominator))
    return saturating_shift(total, 1)


def inverse_sqrt(value: int) -> tuple[int, int]:
    """1 / sqrt(value) as (multiplier, left shift <= 0), for a squared norm below 2**31."""
    multiplier, shift = inverse_sqrts(np.asarray(value))
    return int(multiplier), int(shift)


def inverse_sqrts(values: Array) -> tuple[Array, Array]:
    """1 / sqrt of integers below 2**31 as (multipliers, left shifts); values below 2 give 1."""
    value = np.maximum(np.asarray(values, I64), 2)
    pairs = (31 - bit_length(value)) // 2 - 1  # -1: from 2**29 on two bits are dropped
    normal = np.where(pairs < 0, value >> 2, value << (2 * np.maximum(pairs, 0)))
    shift, half_a = 11 - pairs, rounding_divide_by_pot(normal >> 1, 1)
    x: Array = np.full(value.shape, 1 << 28, I64)
    for _ in range(5):
        cube = saturating_shift(_mul(_mul(x, x), x), 6)
        x = saturating_shift(_mul(x, (1 << 28) + (1 << 27)) - _mul(half_a, cube), 3)
    multiplier = _mul(x, 1518500250) << np.maximum(-shift, 0)
    small = np.asarray(values) <= 1
    return np.where(small, _HIGH, multiplier), np.where(small, 0, np.minimum(-shift, 0))


def table16(
    function: Callable[[Array], Array], scale: float, zero_point: int, output_scale: float
) -> Array:
    """513 samples of `function` over the int16 range, in double, output zero point 0.

    Entry i stands for code 128 * i - 32768 and is moved by half of the error that straight
    lines make in the middle of their segments.
    """
    low, high = scale * (-32768 - zero_point), scale * (32767 - zero_point)
    step = (high - low) / 512
    inverse = 65536.0 / (output_scale * 32767 - output_scale * -32768)
    left = low + np.arange(512) * step
    value = round_half_away(function(left) * inverse)
    following = function(low + np.arange(1, 513) * step) * inverse
    middle = round_half_away(function(left + step / 2) * inverse)
    error = round_half_away((following + value) / 2) - middle
    last = round_half_away(function(np.asarray([high])) * inverse)
    table = np.concatenate([value - round_half_away(error / 2), last])
    result: Array = np.clip(table, -32768, 32767).astype(np.int16)
    return result


def look_up16(table: Array, codes: Array) -> Array:
    """Codes of int16 through a table16, linear between its entries."""
    codes = np.asarray(codes, I64)
    place, offset = 256 + (codes >> 7), codes & 127
    wide = table.astype(I64)
    slope = (wide[place + 1] - wide[place]).astype(np.int16).astype(I64)
    result: Array = wide[place] + ((slope * offset + 64) >> 7)
    return result
