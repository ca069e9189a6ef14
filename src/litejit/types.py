"""What is known of a tensor before it has data: DType, Quantization, TensorType."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.record import Record, replace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:  # numpy.typing takes half a millisecond to import
    Array = np.ndarray


class DType(Record):
    """An element type.

    `code` is the schema's TensorType, `numpy` how litejit stores one element in memory:
    4- and 2-bit integers lie one to a byte, bfloat16 as the uint16 of its bits, strings as
    Python bytes, resource handles as int32.
    """

    name: str
    code: int
    bits: int
    numpy: np.dtype[Any]

    @property
    def itemsize(self) -> int:
        """Bytes of one element in litejit's memory."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        """True for real floating point types (bfloat16 included)."""
        return self.name in ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16")

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, not for BOOL."""
        return self.name.startswith(("INT", "UINT"))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, DType) and self.name == other.name)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


def _dtype(name: str, code: int, bits: int, numpy: Any) -> DType:
    return DType(name, code, bits, np.dtype(numpy))


F32 = _dtype("FLOAT32", 0, 32, np.float32)
F16 = _dtype("FLOAT16", 1, 16, np.float16)
I32 = _dtype("INT32", 2, 32, np.int32)
U8 = _dtype("UINT8", 3, 8, np.uint8)
I64 = _dtype("INT64", 4, 64, np.int64)
STRING = _dtype("STRING", 5, 0, np.object_)
BOOL = _dtype("BOOL", 6, 8, np.bool_)
I16 = _dtype("INT16", 7, 16, np.int16)
C64 = _dtype("COMPLEX64", 8, 64, np.complex64)
I8 = _dtype("INT8", 9, 8, np.int8)
F64 = _dtype("FLOAT64", 10, 64, np.float64)
C128 = _dtype("COMPLEX128", 11, 128, np.complex128)
U64 = _dtype("UINT64", 12, 64, np.uint64)
RESOURCE = _dtype("RESOURCE", 13, 0, np.int32)
VARIANT = _dtype("VARIANT", 14, 0, np.object_)
U32 = _dtype("UINT32", 15, 32, np.uint32)
U16 = _dtype("UINT16", 16, 16, np.uint16)
I4 = _dtype("INT4", 17, 4, np.int8)
BF16 = _dtype("BFLOAT16", 18, 16, np.uint16)
I2 = _dtype("INT2", 19, 2, np.int8)
U4 = _dtype("UINT4", 20, 4, np.uint8)

DTYPES = (
    *(F32, F16, I32, U8, I64, STRING, BOOL, I16, C64, I8, F64),
    *(C128, U64, RESOURCE, VARIANT, U32, U16, I4, BF16, I2, U4),
)  # in the order of their codes


class Quantization(Record):
    """real = scale * (q - zero_point), per tensor (one scale) or along `axis` (one a slice).

    `scales` is float32, `zero_points` int64 (of equal length, or of length 1). A blockwise
    quantization has `block_size` > 0; its scales lie in another tensor of the subgraph,
    `scale_tensor`, and `scales` is empty.
    """

    scales: Array
    zero_points: Array
    axis: int = 0
    block_size: int = 0
    scale_tensor: int = -1
    zero_point_tensor: int = -1

    @property
    def per_channel(self) -> bool:
        """True where there is more than one scale."""
        return len(self.scales) > 1


class TensorType(Record):
    """All that is known of a tensor before data: shape, dtype, quantization, constant value.

    `shape` is None where it depends on data. `index` is the tensor's number in its subgraph.
    """

    shape: tuple[int, ...] | None
    dtype: DType
    quantization: Quantization | None = None
    value: Array | None = None
    name: str = ""
    index: int = -1
    is_variable: bool = False

    __hash__ = object.__hash__

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape, for operators that need to know it."""
        if self.shape is None:
            raise ValueError(f"the shape of tensor {self.name!r} depends on data")
        return self.shape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.dims)

    @property
    def size(self) -> int:
        """Number of elements, a Python integer that cannot overflow."""
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take in litejit's memory."""
        return self.size * self.dtype.itemsize

    @property
    def is_constant(self) -> bool:
        """True where the value is known before the run."""
        return self.value is not None

    @property
    def is_quantized(self) -> bool:
        """True where there is at least one scale."""
        return self.quantization is not None and len(self.quantization.scales) > 0

    @property
    def scale(self) -> float:
        """The only (or first) float32 scale, widened; 0.0 where there is none."""
        q = self.quantization
        return float(q.scales[0]) if q is not None and len(q.scales) else 0.0

    @property
    def zero_point(self) -> int:
        """The only (or first) zero point; 0 where there is none."""
        q = self.quantization
        return int(q.zero_points[0]) if q is not None and len(q.zero_points) else 0

    def with_shape(self, shape: tuple[int, ...] | list[int] | None) -> TensorType:
        """Return this type with another shape and no value."""
        shape = None if shape is None else tuple(int(n) for n in shape)
        result: TensorType = replace(self, shape=shape, value=None)
        return result

    def with_value(self, value: Array) -> TensorType:
        """Return this type as the constant `value`, whose shape it takes."""
        result: TensorType = replace(self, shape=tuple(value.shape), value=value)
        return result
