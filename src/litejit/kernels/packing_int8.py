"""Weights and channel constants of 8-bit kernels in the order in which the kernels read them."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.kernels.base import Pieces
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
    return _panels(quads, vectors * lanes)


def pack_panels(
    weights: Array, channels: int, lanes: int, vectors: int, multiple: int
) -> Array | Pieces:
    """What pack_weights gives for channel_order, as views of the weights where that is possible."""
    taps, _, depth = weights.shape
    full = -(-depth // multiple) * multiple
    if full != depth or weights.strides[2] != 1:
        padded = np.zeros((taps, channels, full), np.int8)
        padded[:, :, :depth] = weights
        weights = padded
    quads = weights.view(np.int32)
    if channels < lanes:
        order = channel_order(channels, lanes, vectors)
        return pack_weights(weights, order, lanes, vectors, multiple)
    width = vectors * lanes
    whole = channels // width
    parts: list[tuple[tuple[Any, ...], Array]] = []
    if whole:
        parts.append(((slice(0, whole),), _panels(quads[:, : whole * width], width)))
    if channels % width == 0:
        return parts[0][1]
    for vector in range(vectors):  # the last panel, whose vectors may overlap
        start = min(whole * width + vector * lanes, channels - lanes)
        chosen = slice(vector * lanes, (vector + 1) * lanes)
        lines = quads[:, start : start + lanes].transpose(0, 2, 1)
        parts.append(((whole, slice(None), slice(None), chosen), lines))
    return Pieces((whole + 1, taps, full // 4, width), np.dtype(np.int32), tuple(parts))


def _panels(quads: Array, width: int) -> Array:
    """[tap, channel, quad] -> a view [panel, tap, quad, channel of the panel]."""
    taps, _, count = quads.shape
    panels: Array = quads.reshape(taps, -1, width, count).transpose(1, 0, 3, 2)
    return panels


def channel_sums(weights: Array) -> Array:
    """Sums of 8-bit weights [taps, channels, depth] over all but the channels, int64."""
    taps, _, depth = weights.shape
    if taps * depth < _LONGEST:  # einsum adds bytes twice as fast as sum
        sums: Array = np.einsum("tcd->c", weights, dtype=np.int32).astype(np.int64)
        return sums
    wide: Array = weights.sum((0, 2), dtype=np.int64)
    return wide
