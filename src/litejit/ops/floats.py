"""Narrow floats in NumPy: float16 and bfloat16 are computed in float32 and rounded back."""

from __future__ import annotations

import numpy as np

from litejit.types import BF16, F16, Array, DType


def widen(array: Array, dtype: DType) -> Array:
    """Values to compute with: float32 for float16 and bfloat16, `array` itself for the rest."""
    if dtype == BF16:
        return np.asarray((array.astype(np.uint32) << np.uint32(16)).view(np.float32))
    if dtype != F16:
        return array
    with np.errstate(invalid="ignore"):  # AArch64 tells of signalling NaNs
        return array.astype(np.float32)


def narrow(array: Array, dtype: DType) -> Array:
    """Store computed values as `dtype`: floats to the nearest, ties to even; integers wrap."""
    if dtype == BF16:
        return _bfloat16(np.asarray(array, np.float32))
    with np.errstate(over="ignore"):
        return np.asarray(array).astype(dtype.numpy, copy=False)


def largest(dtype: DType) -> float:
    """The largest finite number of a float type."""
    if dtype == BF16:
        return float(np.array(0x7F7F0000, np.uint32).view(np.float32))
    return float(np.finfo(dtype.numpy).max)


def _bfloat16(array: Array) -> Array:
    bits = np.ascontiguousarray(array).view(np.uint32).reshape(array.shape)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    nan = (bits >> np.uint32(16)) & np.uint32(0x8000) | np.uint32(0x7FC0)
    return np.asarray(np.where(np.isnan(array), nan, rounded).astype(np.uint16))
