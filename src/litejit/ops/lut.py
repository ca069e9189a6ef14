"""LiteRT's lookup tables: 256 bytes for 8-bit codes, 513 interpolated words for int16.

Source: LiteRT tflite/kernels/internal/common.h, LUTPopulateInt8, LUTPopulateInt16, LUTLookup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.ops.base import Node
from litejit.types import Array

STEPS = 512
Transform = Callable[[Array], Any]


def round_away(x: Array) -> Array:
    """To the nearest integer, ties away from zero, as C's round; the type stays."""
    whole = np.trunc(x)
    step = np.abs(x - whole) >= 0.5
    return np.where(step, whole + np.copysign(x.dtype.type(1), x), whole)


def to_integer(x: Array, low: int, high: int, *, nan: int) -> Array:
    """Floats as int64, clamped to [low, high]; NaN becomes `nan`."""
    return np.clip(np.where(np.isnan(x), x.dtype.type(nan), x), low, high).astype(np.int64)


def codes_of(dtype: np.dtype[Any]) -> Array:
    """All 256 values of an 8-bit type, in the order of their bits: 0 ... 255 or 0 ... -1."""
    return np.arange(256, dtype=np.uint8).view(dtype)


def quantized_transform(node: Node, transform: Transform, x: Array) -> Array:
    """y = transform of the real numbers that 8-bit codes stand for, all in float32."""
    source, target = node.input(0), node.output(0)
    info = np.iinfo(target.dtype.numpy)
    centred = (x.astype(np.int32) - source.zero_point).astype(np.float32)
    real = np.asarray(transform(np.float32(source.scale) * centred), np.float32)
    inverse = np.float32(1) / np.float32(target.scale)
    rescaled = round_away(real * inverse) + np.float32(target.zero_point)
    return to_integer(np.trunc(rescaled), info.min, info.max, nan=int(info.min))


def interpolation_table(node: Node, transform: Transform) -> Array:
    """513 int16 entries over the input's range, each moved to halve the error in the middle."""
    f = np.float32
    (input_min, input_max), (output_min, output_max) = (
        [f(t.scale) * f(edge - t.zero_point) for edge in (-32768, 32767)]
        for t in (node.input(0), node.output(0))
    )
    step = (input_max - input_min) / f(STEPS)
    inverse = f(65536) / (output_max - output_min)
    i = np.arange(STEPS, dtype=f)
    edges = np.asarray(transform(input_min + np.arange(STEPS + 1, dtype=f) * step), f)
    middle = np.asarray(transform(input_min + i * step + step / f(2)), f)
    last = np.asarray(transform(np.array([input_max], f)), f)
    sample = round_away(edges[:-1] * inverse)
    interpolated = round_away((edges[1:] * inverse + sample) / f(2))
    bias = round_away((interpolated - round_away(middle * inverse)) / f(2))
    table = np.concatenate([sample - bias, round_away(last * inverse)])
    return to_integer(table, -32768, 32767, nan=0).astype(np.int16)


def interpolate(table: Array, x: Array) -> Array:
    """int16 lookup: 9 bits choose a segment, 7 bits a place in it; halves round up."""
    code = x.astype(np.int32)
    index, fraction = 256 + (code >> 7), code & 127
    base = table[index].astype(np.int32)
    slope = (table[index + 1].astype(np.int32) - base).astype(np.int16).astype(np.int32)
    return np.asarray(base + ((slope * fraction + 64) >> 7))


def apply(node: Node, transform: Transform, x: Array) -> Array:
    """transform of quantized x through the table that LiteRT would build."""
    with np.errstate(all="ignore"):
        if x.dtype.itemsize == 1:
            table = quantized_transform(node, transform, codes_of(x.dtype))
            return table[x.view(np.uint8)]
        return interpolate(interpolation_table(node, transform), x)
