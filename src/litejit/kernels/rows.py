"""Writing rows whose place is found by the run."""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Type, i8, i64, u64
from litejit.kernels.base import KernelSpec


class PutRowSpec(KernelSpec):
    """Copy `run` bytes to row number at[0] (an integer of `bits`) of `rows` rows.

    A number outside [0, rows) stores `1 << 48` at `status` and copies nothing. There is one item.
    """

    bits: int

    def emit(self, name: str, isa: Isa) -> str:
        """A register at a time, then one with a mask."""
        fn = Function(
            name, isa, source=Ptr(i8), target=Ptr(i8), at=Ptr(Type("i", self.bits)),
            status=Ptr(i64), rows=i64, run=i64,
        )  # fmt: skip
        source, target, at, status, rows, run = fn.args
        lanes = isa.lanes(i8)
        row = at[0].to(i64)
        inside = row.to(u64) < rows.to(u64)
        with fn.when(inside.choose(fn.const(0, i64), 1).differs(0)):
            status[0] = fn.const(1 << 48, i64)
        stop = inside.choose(run, 0)
        to, whole = target + row * run, stop / lanes * lanes
        with fn.loop(whole, step=lanes) as i:
            to.store(i, source.load(i, lanes=lanes))
        with fn.when(whole < stop):
            mask = fn.first(stop - whole, lanes)
            to.store(whole, source.load(whole, lanes=lanes), mask=mask)
        return fn.ir()
