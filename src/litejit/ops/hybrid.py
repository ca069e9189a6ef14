"""Dynamic-range operators: float inputs quantized to int8 on the fly, integer weights.

Every row (or every image of a batch) gets a scale of its own. Integer sums are exact; what the
scales do to them is float32, in LiteRT's order.
Source: LiteRT tflite/kernels/internal/reference/portable_tensor_utils.cc.
"""

from __future__ import annotations

import numpy as np

from litejit.model.options import Activation
from litejit.ops import sums
from litejit.ops.base import Node
from litejit.ops.fixedpoint import round_half_away
from litejit.types import Array


def quantize_symmetric(rows: Array) -> tuple[Array, Array]:
    """[n, k] float32 rows to (int8 values within +-127, float32 scales [n]).

    scale = max|x| / 127, ties away from zero; a row of zeros has scale 1.
    """
    rows = rows.astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        reach = np.abs(rows).max(axis=1, initial=0)
        still = reach == 0
        scales = np.where(still, 1, reach / np.float32(127)).astype(np.float32)
        inverse = np.where(still, 0, np.float32(127) / reach).astype(np.float32)
        values = np.clip(round_half_away(rows * inverse[:, None]), -127, 127)
    return np.nan_to_num(values).astype(np.int8), scales


def quantize_asymmetric(rows: Array) -> tuple[Array, Array, Array]:
    """[n, k] float32 rows to (int8 values, float32 scales [n], int32 zero points [n]).

    The range always holds 0 and is float32; the zero point comes from the end with the smaller
    error. Values are rounded (ties away from zero) before it is added, as LiteRT's vectors do. A
    row of zeros has scale 1 and zero point 0.
    """
    rows = rows.astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        low, high = rows.min(axis=1, initial=0), rows.max(axis=1, initial=0)
        still = low == high
        wide = np.where(still, 1.0, (high - low).astype(np.float64) / 255)
        low, high = low.astype(np.float64), high.astype(np.float64)
        from_low, from_high = -128 - low / wide, 127 - high / wide
        nearer = 128 + np.abs(low / wide) < 127 + np.abs(high / wide)
        points = round_half_away(np.clip(np.where(nearer, from_low, from_high), -128, 127))
        points = np.where(still, 0, np.nan_to_num(points)).astype(np.int32)
        scales = wide.astype(np.float32)
        inverse = np.float32(1) / scales
        rounded = round_half_away(rows * inverse[:, None]) + points.astype(np.float32)[:, None]
        values = np.nan_to_num(np.clip(rounded, -128, 127))
    values[still] = 0
    return values.astype(np.int8), scales, points


def blockwise_sums(scales: Array, centered: Array, weights: Array, size: int) -> Array:
    """Sum over blocks of (exact sum of the block) * (its scale); [rows, units] float32."""
    units, depth = weights.shape
    count = depth // size
    factors = scales.astype(np.float32).reshape(units, count)
    result = np.zeros((len(centered), units), np.float32)
    for block in range(count):
        part = slice(block * size, (block + 1) * size)
        acc = centered[:, part] @ weights[:, part].astype(np.float32).T
        result += acc * factors[:, block]
    return result


def apply_activation(values: Array, activation: int) -> Array:
    """Any fused activation, to floats; NONE leaves infinities."""
    result: Array
    if activation == Activation.TANH:
        result = np.tanh(values)
    elif activation == Activation.SIGN_BIT:
        result = np.signbit(values).astype(np.float32)
    elif activation == Activation.RELU:
        result = np.maximum(values, np.float32(0))
    elif activation == Activation.RELU6:
        result = np.clip(values, np.float32(0), np.float32(6))
    elif activation == Activation.RELU_N1_TO_1:
        result = np.clip(values, np.float32(-1), np.float32(1))
    else:
        result = values
    return result


def fully_connected(node: Node, data: Array, weights: Array, bias: Array | None) -> Array:
    """FULLY_CONNECTED of float rows and integer weights, [rows, units] float32."""
    kind = node.input(1)
    q = kind.quantization
    assert q is not None
    term = np.float32(0) if bias is None else bias.astype(np.float32).ravel()
    plain = weights.view(np.int8)
    blocks = q.block_size > 0
    if blocks or node.options.asymmetric_quantize_inputs:
        values, scales, points = quantize_asymmetric(data)
        centered = values.astype(np.float32) - points[:, None].astype(np.float32)
    else:
        values, scales = quantize_symmetric(data)
        centered = values.astype(np.float32)
    if blocks:
        return blockwise_sums(q.scales, centered, plain, q.block_size) * scales[:, None] + term
    exact = sums.exact_type(plain, largest=255, axis=1)
    acc = (centered.astype(exact, copy=False) @ plain.astype(exact).T).astype(np.float32)
    both = scales[:, None] * q.scales.astype(np.float32)
    return apply_activation(acc * both + term, node.options.activation)
