"""Quantized integers of one scale to those of another, with LiteRT's two roundings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.codegen.lang import Function, Ptr, Type, Value, i8, i32
from litejit.kernels import requantize
from litejit.kernels.base import KernelSpec
from litejit.kernels.memory import store_items

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

LARGEST = 1 << 30  # what results of the form "wide" are cut to


class RescaleSpec(KernelSpec):
    """y = clamp(scaled(x - zero_point) + the target's zero point), the latter in the constants.

    Arguments: x, y, constants (one block of `requantize`), offset (-zero_point, and the form's
    `input_offset`). An item is an element. The kinds and bits are those of lang's types.
    """

    source: tuple[str, int]
    target: tuple[str, int]
    form: str

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        source, target = Type(*self.source), Type(*self.target)
        fn = Function(name, isa, x=Ptr(source), y=Ptr(target), constants=Ptr(i8), offset=i32)
        x, y, constants, offset = fn.args
        lanes = isa.lanes(i32)
        moved = offset.splat(lanes)
        loaded = requantize.load(self.form, constants, lanes)

        def change(at: Value) -> Value:
            codes = x.load(at, lanes=lanes).to(i32) + moved
            made = requantize.apply(self.form, isa, codes, loaded)
            if target.bits == 32:
                return made
            bits = target.bits
            low, high = (0, (1 << bits) - 1) if target.kind == "u" else (
                -(1 << (bits - 1)), (1 << (bits - 1)) - 1,
            )  # fmt: skip
            return fn.minimum(fn.maximum(made, low), high).to(target)

        store_items(fn, y, lanes, change)
        return fn.ir()
