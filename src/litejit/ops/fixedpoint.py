"""The integer arithmetic of quantization: multipliers, rounding, activation ranges.

A real multiplier is kept as (m, shift), value m * 2**(shift - 31) with m in [2**30, 2**31).
Scaling an int32 accumulator rounds twice: the high half of the doubled product rounds ties
toward plus infinity, the division by a power of two rounds ties away from zero.
Source: LiteRT tflite/kernels/internal/common.cc, quantization_util.cc, kernels/kernel_util.cc.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.model.options import Activation
from litejit.ops.base import Node
from litejit.types import Array, DType, TensorType

FLOAT_MAX = float(np.finfo(np.float32).max)
MAX_SHIFT = 30  # larger left shifts leave nothing of an int32 accumulator
BLOCK = 1 << 15  # accumulators that are scaled at once: their int64 copies stay in the cache

_FLOAT_RANGES: dict[int, tuple[float, float]] = {
    Activation.RELU: (0.0, FLOAT_MAX),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
    Activation.RELU6: (0.0, 6.0),
}


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Return (m, shift) of a finite real multiplier; (0, 0) where it is below 2**-32."""
    m, shift = quantize_multipliers(np.array([real]))
    return int(m[0]), int(shift[0])


def quantize_multipliers(reals: Array) -> tuple[Array, Array]:
    """(m, shift) of finite real multipliers, as two int32 arrays: value = m * 2**(shift - 31).

    m is rounded half away from zero; both are 0 where the value is below 2**-32.
    """
    fraction, shift = np.frexp(np.asarray(reals, np.float64).ravel())
    m = np.copysign(np.floor(np.abs(fraction) * (1 << 31) + 0.5), fraction).astype(np.int64)
    carried = m == 1 << 31
    m, shift = np.where(carried, m >> 1, m), shift + carried
    gone = (m == 0) | (shift < -31)
    return np.where(gone, 0, m).astype(np.int32), np.where(gone, 0, shift).astype(np.int32)


def wrap32(x: Array) -> Array:
    """The low 32 bits of integers, as signed numbers in int64."""
    wrapped: Array = np.asarray(x).astype(np.int64).astype(np.int32).astype(np.int64)
    return wrapped


def saturating_rounding_doubling_high_mul(a: Array, b: Array | int) -> Array:
    """round(a * b / 2**31) of int32 values, ties up; only (-2**31)**2 saturates. int64 result."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    high: Array = np.minimum((product + (1 << 30)) >> 31, (1 << 31) - 1)
    return high


def rounding_divide_by_pot(x: Array, exponent: Array | int) -> Array:
    """round(x / 2**exponent), ties away from zero. int64 result."""
    wide = np.asarray(x, np.int64)
    e = np.asarray(exponent, np.int64)
    half = (np.int64(1) << e) >> 1
    quotient: Array = (wide + half - ((wide < 0) & (e > 0))) >> e
    return quotient


def multiply_by_quantized_multiplier(x: Array, m: Array | int, shift: Array | int) -> Array:
    """x * m * 2**(shift - 31) of int32 x with two roundings; m, shift broadcast. int64 result."""
    shift = np.asarray(shift, np.int64)
    left = np.maximum(shift, 0)
    wide = np.asarray(x, np.int64)
    if left.any():
        wide = wrap32(wide << left)
    high = saturating_rounding_doubling_high_mul(wide, m)
    return rounding_divide_by_pot(high, np.maximum(-shift, 0))


mbqm = multiply_by_quantized_multiplier


def reduced_multiplier(m: Array | int) -> Array:
    """The 15 upper bits of a multiplier, rounded, as int64 accumulators use it."""
    wide = np.asarray(m, np.int64)
    return np.where(wide < 0x7FFF0000, (wide + (1 << 15)) >> 16, 0x7FFF)


def mbqm64(x: Array, m: Array | int, shift: Array | int) -> Array:
    """Scale an int64 accumulator (|x| < 2**47): 15-bit multiplier, one rounding, ties up.

    shift < 15. The result is cut to int32, as int64.
    """
    total = 15 - np.asarray(shift, np.int64)
    wide = np.asarray(x, np.int64) * reduced_multiplier(m)
    return wrap32((wide + (np.int64(1) << (total - 1))) >> total)


def requantize(
    acc: Array, multipliers: tuple[Array, Array], *, zero_point: int, limits: tuple[int, int],
    dtype: DType, wide: bool = False,
) -> Array:  # fmt: skip
    """Accumulators [..., channels] to quantized values of `dtype`, clamped to `limits`.

    `multipliers` are (m, shift), one each or one a channel. `wide` takes the int64 rule.
    """
    m, shift = multipliers
    scale = mbqm64 if wide else multiply_by_quantized_multiplier
    rows = acc.reshape(-1, acc.shape[-1]) if acc.size else acc.reshape(0, max(acc.shape[-1], 1))
    out = np.empty(rows.shape, dtype.numpy)
    step = max(BLOCK // max(rows.shape[1], 1), 1)
    for start in range(0, len(rows), step):
        block = scale(rows[start : start + step], m, shift)
        block += zero_point
        np.clip(block, *limits, out=block)
        out[start : start + step] = block
    return out.reshape(acc.shape)


def round_half_away(x: Array) -> Array:
    """Floats to the nearest integer, ties away from zero, still as floats."""
    x = np.asarray(x)
    whole = np.trunc(x)
    rounded: Array = whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0).astype(x.dtype)
    return rounded


def type_range(dtype: DType) -> tuple[int, int]:
    """Smallest and largest value of an integer type (4- and 2-bit types included)."""
    if dtype.name.startswith("U"):
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def _quantized(value: float, output: TensorType) -> int:
    with np.errstate(all="ignore"):
        q = round_half_away(np.float32(value) / np.float32(output.scale))
    q = np.nan_to_num(q, nan=0.0, posinf=2.0**31, neginf=-(2.0**31))
    return output.zero_point + int(np.clip(np.float64(q), -(2**31), 2**31 - 1))


def activation_range(output: TensorType, activation: int) -> tuple[Any, Any]:
    """What a fused activation clamps to: floats for a float output, else quantized values.

    NONE and activations that do not clamp give the whole range of the type; for floats that is
    the range of finite float32, so that infinities end there.
    """
    if output.dtype.is_float:
        return _FLOAT_RANGES.get(activation, (-FLOAT_MAX, FLOAT_MAX))
    lo, hi = type_range(output.dtype)
    if activation not in _FLOAT_RANGES:
        return lo, hi
    low, high = _FLOAT_RANGES[activation]
    lo = max(lo, _quantized(low, output))
    return lo, (hi if high == FLOAT_MAX else min(hi, _quantized(high, output)))


def require_scale(node: Node, tensor: TensorType, what: str, *, smallest: float = 1e-45) -> None:
    """Refuse a tensor without finite positive scales and zero points that its type can hold.

    Weights may have scales of 0 (`smallest`): what they produce is 0 then.
    """
    q = tensor.quantization
    node.require(q is not None and len(q.scales), f"{what} has no quantization scale")
    assert q is not None
    good = np.isfinite(q.scales).all() and (q.scales >= smallest).all()
    node.require(good, f"{what} has a scale that is not positive and finite")
    lo, hi = type_range(tensor.dtype)
    zero_points = q.zero_points
    fits = not len(zero_points) or (lo <= zero_points.min() and zero_points.max() <= hi)
    node.require(fits, f"{what} has a zero point outside {lo} .. {hi}")


def require_multiplier(node: Node, real: float, *, largest_shift: int = MAX_SHIFT) -> None:
    """Refuse a ratio of scales that fixed point cannot hold."""
    ok = math.isfinite(real) and real >= 0 and math.frexp(real)[1] < largest_shift
    node.require(ok, f"the ratio of the scales is {real}, more than 2**{largest_shift}")


def require_activation(node: Node, output: TensorType, activation: int) -> None:
    """Refuse unknown activations, and bounds without a scale to quantize them by.

    A bound beyond the output's type is no reason to refuse: it clamps to the type.
    """
    known = activation in tuple(Activation)
    node.require(known, f"activation {activation} is not known")
    free = output.dtype.is_float or activation not in _FLOAT_RANGES or output.scale > 0
    node.require(free, f"output has no positive scale to clamp with (activation {activation})")
