"""What a Predictor does at the edges of a graph: casts, batch axes, quantization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.types import BF16, STRING, Array, TensorType

_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))  # x + this, cut off, is round(x)


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

    q = clamp(round(x / scale) + zero_point), as the operator QUANTIZE does it. The function
    works in buffers of its own: it serves one thread at a time.
    """
    scale, zero = _along(tensor)
    limits = np.iinfo(tensor.dtype.numpy)
    # Bounds of x, a quarter of a step beyond the last value: nothing overflows behind them.
    low = np.asarray((limits.min - zero - 0.25) * scale, np.float32)
    high = np.asarray((limits.max - zero + 0.25) * scale, np.float32)
    half = np.array(_BELOW_HALF)
    # 0-d arrays, and results that never lie on their operands: at one element, anything else
    # costs several times the arithmetic.
    a, b, c = (np.empty(tensor.dims, np.float32) for _ in range(3))
    fmax, fmin, divide, copysign = np.fmax, np.fmin, np.divide, np.copysign
    add, trunc = np.add, np.trunc

    def quantize(values: Array, memory: Array) -> None:
        fmax(values, low, a)
        fmin(a, high, b)
        divide(b, scale, a)
        copysign(half, a, b)
        add(a, b, c)
        trunc(c, a)
        add(a, zero, b)
        memory[...] = b

    return quantize


def dequantizer(tensor: TensorType) -> Callable[[Array], Array]:
    """A function that gives real values as float32: scale * (q - zero_point)."""
    scale, zero = _along(tensor)

    def dequantize(memory: Array) -> Array:
        real: Array = (memory.astype(np.float32) - zero) * scale
        return real

    return dequantize


def _along(tensor: TensorType) -> tuple[Array, Array]:
    """Scale and zero point as float32, shaped to go along their axis where there are several."""
    q = tensor.quantization
    assert q is not None
    scales = np.asarray(q.scales, np.float32)
    zeros = np.broadcast_to(q.zero_points, scales.shape).astype(np.float32)
    shape = [1] * tensor.rank if q.per_channel else []
    if q.per_channel:
        shape[q.axis] = -1
    return scales.reshape(shape), zeros.reshape(shape)


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
