"""Logistic function and hyperbolic tangent of int16 fixed-point numbers.

Qm.n is raw / 2**n with m + n = 15; results are Q0.15. The arithmetic is that of the gemmlowp
formulas which LiteRT's integer LSTM uses: a Taylor polynomial and a barrel of factors for
exp(-x), three Newton steps for the quotient, every product rounded to 16 bits.
Source: the gemmlowp formulas; LiteRT tflite/kernels/internal/reference/portable_tensor_utils.cc.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.types import Array

I64 = np.int64
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1


def _wrap(x: Array) -> Array:
    """The low 16 bits, as signed numbers in int64."""
    wrapped: Array = np.asarray(x).astype(np.int16).astype(I64)
    return wrapped


def _mul(a: Array, b: Any) -> Array:
    """round(a * b / 2**15), ties up; only (-2**15)**2 saturates."""
    product = np.asarray(a, I64) * b
    high: Array = np.minimum((product + (1 << 14)) >> 15, _HIGH)
    return high


def _halve(x: Array, exponent: int) -> Array:
    """round(x / 2**exponent), ties away from zero."""
    x = np.asarray(x, I64)
    half = (1 << exponent) >> 1
    quotient: Array = (x + half - (x < 0)) >> exponent if exponent else x
    return quotient


def _double(x: Array, exponent: int) -> Array:
    """x * 2**exponent, saturated."""
    result: Array = np.clip(np.asarray(x, I64) << exponent, _LOW, _HIGH)
    return result


def _constant(raw: int) -> int:
    """A Q0.31 constant in 16 bits."""
    return int(_halve(np.asarray(raw), 16))


# exp(-2**e) for the bits of what is left after the multiples of 1/4, in Q0.31
_BARREL = (
    *((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308)),
    *((2, 39332535), (3, 720401), (4, 242)),
)


def _exp_on_last_quarter(a: Array) -> Array:
    """exp(a) for a in [-1/4, 0), both Q0.15."""
    center, third = _constant(1895147668), _constant(715827883)
    x = _wrap(a + (1 << 12))
    x2 = _mul(x, x)
    x3, x4 = _mul(x2, x), _mul(x2, x2)
    tail = _wrap(_mul(_wrap(_halve(x4, 2) + x3), third) + x2)
    sums = _wrap(x + _halve(tail, 1))
    result: Array = np.clip(center + _mul(sums, center), _LOW, _HIGH)
    return result


def exp_on_negative_values(raw: Array, integer_bits: int) -> Array:
    """exp(x) in Q0.15 for x <= 0 with `integer_bits`; exactly 0 gives 2**15 - 1."""
    raw = np.asarray(raw, I64)
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (raw & (quarter - 1)) - quarter
    result = _exp_on_last_quarter(_double(part, integer_bits))
    rest = _wrap(part - raw)
    for exponent, factor in _BARREL:
        if integer_bits > exponent:
            has = (rest >> (fraction_bits + exponent)) & 1
            result = np.where(has != 0, _mul(result, _constant(factor)), result)
    if integer_bits > 5:
        result = np.where(raw < _constant(-(1 << (36 - integer_bits))), 0, result)
    return np.where(raw == 0, _HIGH, result)


def _reciprocal_of_half_sum(a: Array) -> Array:
    """2 / (1 + a) in Q2.13 for a in [0, 1] in Q0.15."""
    total = np.asarray(a, I64) + _HIGH
    half = (total + 1) >> 1
    x = _wrap(_constant(1515870810) + _mul(half, _constant(-1010580540)))
    for _ in range(3):
        rest = _wrap((1 << 13) - _mul(half, x))
        x = _wrap(x + _double(_mul(x, rest), 2))
    return x


def logistic(raw: Array, integer_bits: int = 3) -> Array:
    """1 / (1 + exp(-x)) in Q0.15, int16, of x with `integer_bits`."""
    raw = np.asarray(raw, I64)
    magnitude = np.where(raw > 0, raw, _wrap(-raw))
    exponential = exp_on_negative_values(_wrap(-magnitude), integer_bits)
    positive = _double(_reciprocal_of_half_sum(exponential), 1)
    result = np.where(raw > 0, positive, _HIGH - positive)
    return np.where(raw == 0, 1 << 14, result).astype(np.int16)


def tanh(raw: Array, integer_bits: int = 3) -> Array:
    """tanh(x) in Q0.15, int16, of x with `integer_bits`."""
    raw = np.asarray(raw, I64)
    negative = np.where(raw < 0, raw, -raw)
    exponential = exp_on_negative_values(negative, integer_bits + 1)
    # (1 - e) / (1 + e) = 2 / (1 + e) - 1
    size = _double(_wrap(_reciprocal_of_half_sum(exponential) - (1 << 13)), 2)
    result = np.where(raw < 0, _wrap(-size), size)
    return np.where(raw == 0, 0, result).astype(np.int16)
