"""Look-ups of int16 codes in a table of all 65536 of them."""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Type, Value, i16, i64
from litejit.kernels.base import REFUSED, KernelSpec

CODES = 1 << 16
_UNROLLED = 8


class Lookup16Spec(KernelSpec):
    """y[i] = table[x[i] + 32768] for int16 numbers; a code below `least` is refused.

    Arguments: x, y, table (65536 int16), where `checked` also status (given REFUSED) and least. An
    item is an element.
    """

    checked: bool = True

    def emit(self, name: str, isa: Isa) -> str:
        """Eight elements at a time; the smallest code is looked at in the end."""
        more: dict[str, Type | Ptr] = {"status": Ptr(i64), "least": i64} if self.checked else {}
        fn = Function(name, isa, x=Ptr(i16), y=Ptr(i16), table=Ptr(i16), **more)
        x, y, table, *check = fn.args
        middle = table + CODES // 2
        lowest = [fn.const(CODES, i64)] if check else []

        def change(i: Value) -> None:
            code = x[i].to(i64)
            y[i] = middle[code]
            if lowest:
                lowest[0] = fn.minimum(lowest[0], code)

        whole = fn.begin + (fn.end - fn.begin) / _UNROLLED * _UNROLLED
        with fn.loop(whole, start=fn.begin, step=_UNROLLED, carry=lowest) as i:
            for j in range(_UNROLLED):
                change(i + j)
        with fn.loop(fn.end, start=whole, carry=lowest) as i:
            change(i)
        if check:
            with fn.when(lowest[0] < check[1]):
                check[0][0] = REFUSED
        return fn.ir()
