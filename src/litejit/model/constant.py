"""Constants: from the bytes of a buffer to an array as litejit stores it, and back.

4- and 2-bit integers lie several to a byte in a file, low bits first, and one to a byte in
memory, sign extended; bfloat16 is the uint16 of its bits; strings are Python bytes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.errors import ModelError
from litejit.types import DType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from litejit.model.model import Tensor

Bytes = bytes | memoryview

MAX_RANK = 32  # of arrays in NumPy 1; later versions take 64


def packed_bytes(dtype: DType, count: int) -> int:
    """Bytes that `count` elements of a type of fixed size take in a file."""
    return (count * dtype.bits + 7) // 8


def read_constant(data: Bytes, tensor: Tensor, *, where: str = "tensor") -> NDArray[Any]:
    """Return the value of a constant tensor whose buffer holds `data`.

    Read-only and a view of `data` where the elements lie there as they do in memory. A sparse
    tensor gives its stored values, in one dimension. Bytes behind the last element are ignored.
    Raises ModelError where there are too few bytes.
    """
    dtype, shape = tensor.dtype, tensor.shape
    if len(shape) > MAX_RANK:
        raise ModelError(f"{where} ({tensor.name!r}): rank {len(shape)} is above {MAX_RANK}")
    if dtype.name == "STRING":
        return read_strings(data, shape, where=where)
    if not dtype.bits:
        raise ModelError(f"{where} ({tensor.name!r}): a constant of type {dtype} has no value")
    if tensor.sparsity is not None:
        shape = (len(data) * 8 // dtype.bits,)
    if any(n < 0 for n in shape):
        raise ModelError(f"{where} ({tensor.name!r}): a constant cannot have the shape {shape}")
    count = math.prod(shape)
    needed = packed_bytes(dtype, count)
    if needed > len(data):
        raise ModelError(
            f"{where} ({tensor.name!r}): {shape} of {dtype} takes {needed} bytes, "
            f"but its buffer has {len(data)}"
        )
    if dtype.bits < 8:
        return unpack_bits(data, dtype, count).reshape(shape)
    array = np.frombuffer(data, dtype.numpy.newbyteorder("<"), count).reshape(shape)
    if not array.flags.aligned:
        array = array.copy()
        array.flags.writeable = False
    return array


def unpack_bits(data: Bytes, dtype: DType, count: int) -> NDArray[Any]:
    """Return `count` 4- or 2-bit elements, one to a byte, from the low bits of `data` upwards."""
    per_byte = 8 // dtype.bits
    raw = np.frombuffer(data, np.uint8, -(-count // per_byte))
    parts = np.empty((len(raw), per_byte), np.uint8)
    for part in range(per_byte):
        # The element goes to the top bits, from where a signed shift extends the sign.
        np.left_shift(raw, 8 - dtype.bits * (part + 1), out=parts[:, part])
    signed = parts.view(dtype.numpy)
    values: NDArray[Any] = (signed >> dtype.numpy.type(8 - dtype.bits)).reshape(-1)[:count]
    values.flags.writeable = False
    return values


def pack_bits(values: NDArray[Any], dtype: DType) -> bytes:
    """Return 4- or 2-bit elements as a file holds them: several to a byte, low bits first."""
    per_byte = 8 // dtype.bits
    flat = np.zeros(-(-values.size // per_byte) * per_byte, np.uint8)
    flat[: values.size] = values.reshape(-1).view(np.uint8) & ((1 << dtype.bits) - 1)
    parts = flat.reshape(-1, per_byte)
    packed = np.zeros(len(parts), np.uint8)
    for part in range(per_byte):
        packed |= parts[:, part] << (dtype.bits * part)
    return packed.tobytes()


def read_strings(data: Bytes, shape: tuple[int, ...], *, where: str = "tensor") -> NDArray[Any]:
    """Return a string buffer as an object array of bytes.

    The buffer holds their count, count + 1 offsets from its start, then the text; all int32.
    Source: LiteRT tflite/string_util.h.
    """
    count = math.prod(shape)
    head = np.frombuffer(data, "<i4", len(data) // 4)
    if any(n < 0 for n in shape) or not len(head) or head[0] != count or len(head) < count + 2:
        raise ModelError(f"{where}: its buffer does not hold {count} strings")
    bounds = head[1 : count + 2].astype(np.int64)
    first = 4 * (count + 2)
    if bounds[0] < first or bounds[-1] > len(data) or np.any(np.diff(bounds) < 0):
        raise ModelError(f"{where}: the offsets of its strings leave its {len(data)} bytes")
    strings = np.empty(count, object)
    places = bounds.tolist()
    for number in range(count):
        strings[number] = bytes(data[places[number] : places[number + 1]])
    return strings.reshape(shape)


def pack_strings(strings: NDArray[Any]) -> bytes:
    """Return an array of bytes or str as a string buffer; str is encoded as UTF-8."""
    texts = [s.encode() if isinstance(s, str) else bytes(s) for s in strings.reshape(-1)]
    lengths = np.array([0, *map(len, texts)], np.int64)
    bounds = 4 * (len(texts) + 2) + np.cumsum(lengths)
    if bounds[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"{len(texts)} strings of {bounds[-1]} bytes do not fit into one tensor")
    head = np.array([len(texts), *bounds], "<i4")
    return head.tobytes() + b"".join(texts)


def pack_constant(value: NDArray[Any], dtype: DType) -> bytes:
    """Return an array, as litejit stores it, in the form that a file's buffer has."""
    if dtype.name == "STRING":
        return pack_strings(value)
    if value.dtype != dtype.numpy:
        raise ValueError(f"a {dtype} constant is stored as {dtype.numpy}, got {value.dtype}")
    if dtype.bits < 8:
        return pack_bits(np.ascontiguousarray(value), dtype)
    return value.astype(dtype.numpy.newbyteorder("<"), copy=False).tobytes()
