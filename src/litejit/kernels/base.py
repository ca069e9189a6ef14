"""KernelSpec: all that changes a kernel's machine code."""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.record import Record


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
