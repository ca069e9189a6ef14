"""Weights and channel constants of 8-bit kernels in the order in which the kernels read them."""

from __future__ import annotations

import numpy as np

from litejit.types import Array


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
    """int8 [taps, channels, depth] -> [panel, tap, depth / 4, vector, lane, 4].

    depth is padded with zeros to `multiple`, itself a multiple of 4; `order` is channel_order.
    """
    taps, _, depth = weights.shape
    full = -(-depth // multiple) * multiple
    padded = np.zeros((taps, len(order), full), np.int8)
    padded[:, :, :depth] = weights[:, order]
    parts = padded.reshape(taps, -1, vectors, lanes, full // 4, 4)
    return np.ascontiguousarray(parts.transpose(1, 0, 4, 2, 3, 5))
