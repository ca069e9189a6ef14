"""NumPy oracles of the 8-bit kernels and the operands that a lowering would make."""

from __future__ import annotations

import numpy as np

from litejit.kernels import epilogue_int8 as ep
from litejit.kernels import packing_int8 as packing


def rounded(x, m, shift):
    """MultiplyByQuantizedMultiplier with two roundings; all arguments broadcast."""
    x, m, shift = np.broadcast_arrays(np.asarray(x, np.int64), m, shift)
    x = (x << np.maximum(shift, 0)) & 0xFFFFFFFF
    product = np.where(x >= 1 << 31, x - (1 << 32), x) * m
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    first = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    e = np.maximum(-shift, 0)
    mask = (np.int64(1) << e) - 1
    return (first >> e) + ((first & mask) > (mask >> 1) + (first < 0))


class Scaling:
    """Random multipliers, biases and zero points of one layer."""

    def __init__(self, rng, channels, macs, *, unsigned=False):
        self.m = rng.integers(1 << 30, 1 << 31, channels)
        magnitude = 128 * 74 * np.sqrt(max(macs, 1))  # of a sum of products of random bytes
        self.shift = -np.full(channels, max(int(np.log2(magnitude / 60)), 0))
        self.bias = rng.integers(-2000, 2000, channels)
        self.unsigned = unsigned
        self.zero = int(rng.integers(90, 160)) if unsigned else int(rng.integers(-40, 40))
        self.input_zero = int(rng.integers(100, 150)) if unsigned else int(rng.integers(-30, 30))
        self.low, self.high = (0, 255) if unsigned else (-128, 127)
        self.dtype = np.uint8 if unsigned else np.int8

    def finish(self, acc, low=None, high=None):
        low, high = self.low if low is None else low, self.high if high is None else high
        return np.clip(rounded(acc, self.m, self.shift) + self.zero, low, high)


def channel_block(isa_lanes, order, epilogue, scaling, weight_sums, moved):
    """channel_constants for activations that are used as x + moved."""
    bias = scaling.bias - (scaling.input_zero + moved) * weight_sums
    return ep.channel_constants(
        epilogue.form, isa_lanes, bias[order], scaling.m[order], scaling.shift[order],
        scaling.zero,
    )  # fmt: skip


def moved_by(isa, *, unsigned):
    """What the kernel's flip of the sign bit adds to an activation."""
    if unsigned:
        return 0 if isa.dot_is_unsigned else -128
    return 128 if isa.dot_is_unsigned else 0


def conv_windows(x, zero, taps_y, taps_x, stride, dilation, pad, out):
    """[taps, out_y * out_x, channels] of an image with its border, as int64."""
    h, w, c = x.shape
    wide = np.full((h + 64, w + 64, c), zero, np.int64)
    wide[32 : 32 + h, 32 : 32 + w] = x
    rows = []
    for ky in range(taps_y):
        for kx in range(taps_x):
            y0, x0 = 32 - pad[0] + ky * dilation[0], 32 - pad[1] + kx * dilation[1]
            part = wide[y0 :: stride[0], x0 :: stride[1]][: out[0], : out[1]]
            rows.append(part.reshape(-1, c))
    return np.stack(rows)


packed = packing
