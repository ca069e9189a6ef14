"""KernelSpec: all that changes a kernel's machine code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Type, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from litejit.record import Record

if TYPE_CHECKING:
    import numpy as np

    from litejit.types import Array, DType

REFUSED = 1 << 48  # a kernel that must refuse its data stores this | the place (engine/native)
_TYPES: dict[str, Type] = {
    **{"FLOAT32": f32, "FLOAT64": f64, "FLOAT16": u16, "BFLOAT16": u16, "COMPLEX64": u64},
    "COMPLEX128": Type("u", 128),
    **{"INT8": i8, "INT16": i16, "INT32": i32, "INT64": i64, "INT2": i8, "INT4": i8},
    **{"UINT8": u8, "UINT16": u16, "UINT32": u32, "UINT64": u64, "UINT4": u8, "BOOL": u8},
}


def type_of(dtype: DType) -> Type:
    """How one element lies in memory; bool is a byte that holds 0 or 1.

    Floats of 16 bits are their bits, a complex number is the bits of both parts.
    """
    return _TYPES[dtype.name]


class KernelSpec(Record):
    """A frozen, hashable description of one kernel; equal specs share one address.

    Fields are ints, floats, strings, bools, DTypes, other specs and tuples of these: never
    pointers, arrays or tensor numbers. Shapes are arguments at run time unless fixing them
    pays.
    """

    @property
    def key(self) -> str:
        """A text that names this kernel in the cache on disk."""
        return f"{type(self).__module__}.{self!r}"

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR text: `void name(ptr args, i64 begin, i64 end, i64 worker)`."""
        raise NotImplementedError


class Pieces(Record):
    """An array that is made by copying other arrays to parts of it: (index, array) of each."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: tuple[tuple[tuple[Any, ...], Array], ...]

    __hash__ = object.__hash__

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def fill(self, target: Array) -> None:
        """Make the array in `target`."""
        for index, array in self.parts:
            target[index] = array
