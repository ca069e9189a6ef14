"""What a Predictor does at the edges of a graph: casts, batch axes, quantization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.types import BF16, STRING, Array, TensorType

_NUDGE = 1 + 2.0**-40  # carries ties, and ties only, away from zero


def as_array(value: Any) -> tuple[Array, bool]:
    """Any array-like thing as an array, and whether its type was Python's choice, not its own.

    Takes arrays, lists of numbers, and objects with `__array__`, DLPack or a buffer.
    """
    if type(value) is np.ndarray:
        return value, False
    if isinstance(value, bool | int | float | complex | str | bytes | list | tuple):
        return np.asarray(value), not _holds_arrays(value)
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value), False
    return np.asarray(value), False


def _holds_arrays(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return hasattr(value, "dtype")


def is_quantized(tensor: TensorType) -> bool:
    """True for 8- and 16-bit integers with a scale."""
    return tensor.is_quantized and tensor.dtype.numpy.itemsize <= 2 and tensor.dtype.is_integer


def quantizer(tensor: TensorType) -> Callable[[Array, Array], None]:
    """A function that quantizes float32 values into memory, rounding half away from zero.

    q = clamp(round(x / scale) + zero_point), as the operator QUANTIZE does it.
    """
    scale, zero = _along(tensor)
    limits = np.iinfo(tensor.dtype.numpy)
    low, high = limits.min - zero, limits.max - zero

    def quantize(values: Array, memory: Array) -> None:
        with np.errstate(all="ignore"):
            exact = np.multiply(values / scale, _NUDGE, dtype=np.float64)
            np.rint(exact, exact)
            np.fmax(exact, low, exact)
            np.fmin(exact, high, exact)
            np.add(exact, zero, memory, casting="unsafe")

    return quantize


def dequantizer(tensor: TensorType) -> Callable[[Array], Array]:
    """A function that gives real values as float32: scale * (q - zero_point)."""
    scale, zero = _along(tensor)
    zero32 = np.float32(zero) if np.ndim(zero) == 0 else zero.astype(np.float32)

    def dequantize(memory: Array) -> Array:
        real: Array = np.subtract(memory, zero32, dtype=np.float32)
        real *= scale
        return real

    return dequantize


def _along(tensor: TensorType) -> tuple[Any, Any]:
    """Scale and zero point, shaped to go along their axis where there are several."""
    q = tensor.quantization
    assert q is not None
    if not q.per_channel:
        return np.float32(tensor.scale), tensor.zero_point
    shape = [1] * max(tensor.rank, 1)
    shape[q.axis] = -1
    zeros = np.broadcast_to(q.zero_points, q.scales.shape)
    return q.scales.astype(np.float32).reshape(shape), zeros.reshape(shape).astype(np.int64)


def cast(array: Array, tensor: TensorType, *, loose: bool, name: str, raw: bool) -> Array:
    """An array in the tensor's type, or in float32 where it will be quantized.

    Python's numbers take the type where they fit; arrays are cast only where no value can
    change. Raises TypeError or ValueError.
    """
    wanted = tensor.dtype.numpy
    if tensor.dtype == STRING:
        return _strings(array, name)
    if tensor.dtype == BF16 and array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    if array.dtype == wanted and not loose:
        return array
    if is_quantized(tensor) and not raw:
        wanted = np.dtype(np.float32)
    if loose and array.dtype.kind in "biuf" and wanted.kind in "biufc":
        return _fitted(array, wanted, name)
    if np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    raise TypeError(
        f"input {name!r} takes {wanted}; {array.dtype} cannot be cast to it without loss: "
        f"use .astype({str(wanted)!r}) if that is meant"
    )


def _fitted(array: Array, wanted: np.dtype[Any], name: str) -> Array:
    if wanted.kind in "iub":
        fits = array.dtype.kind in "iub" and bool((array.astype(wanted) == array).all())
        if not fits:
            raise ValueError(f"input {name!r} takes {wanted}, which cannot hold these numbers")
    return array.astype(wanted)


def _strings(array: Array, name: str) -> Array:
    if array.dtype.kind not in "SUO":
        raise TypeError(f"input {name!r} takes strings, got {array.dtype}")
    result: Array = np.empty(array.shape, object)
    for position, item in np.ndenumerate(array):
        result[position] = item.encode() if isinstance(item, str) else bytes(item)
    return result
