"""Weights and channel constants of 8-bit kernels in the order in which the kernels read them."""

from __future__ import annotations

import numpy as np

from litejit.types import Array

_LONGEST = 1 << 23  # sums of so many bytes fit int32

def channel_order(channels: int, lanes: int, vectors: int) -> Array:
    """The channel of every lane of every panel, int64 [panels * vectors * lanes].

    The last vector that holds a new channel starts at channels - lanes, so that it overlaps its
    neighbour; vectors past it repeat it. Where there are fewer channels than lanes, the lanes
    past them repeat the last channel (their results are not stored).
    """
    needed = -(-channels // lanes)
    count = -(-needed // vectors) * vectors
    start = np.minimum(np.arange(count) * lanes, max(channels - lanes, 0))
    order = start[:, None] + np.arange(lanes)
    return (order % channels if channels < lanes else order).reshape(-1)


def pack_weights(weights: Array, order: Array, lanes: int, vectors: int, multiple: int) -> Array:
    """int8 [taps, channels, depth] -> int32 [panel, tap, depth / 4, vector and lane].

    Every int32 is 4 bytes of depth. depth is padded with zeros to `multiple`, itself a multiple
    of 4; `order` is channel_order. The result is a view of transposed memory where that spares
    a copy: who needs its bytes in order copies it.
    """
    taps, channels, depth = weights.shape
    full = -(-depth // multiple) * multiple
    if full != depth or weights.strides[2] != 1:
        padded = np.zeros((taps, channels, full), np.int8)
        padded[:, :, :depth] = weights
        weights = padded
    quads = weights.view(np.int32)
    if len(order) != channels or channels % lanes:
        quads = quads[:, order]
    return quads.reshape(taps, -1, vectors * lanes, full // 4).transpose(1, 0, 3, 2)


def channel_sums(weights: Array) -> Array:
    """Sums of 8-bit weights [taps, channels, depth] over all but the channels, int64."""
    taps, _, depth = weights.shape
    if taps * depth < _LONGEST:  # einsum adds bytes twice as fast as sum
        sums: Array = np.einsum("tcd->c", weights, dtype=np.int32)
        return sums.astype(np.int64)
    return weights.sum((0, 2), dtype=np.int64)
