"""Look-ups of int16 codes in a table of all 65536 of them."""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, i16, i64
from litejit.kernels.base import KernelSpec

CODES = 1 << 16
_UNROLLED = 8


class Lookup16Spec(KernelSpec):
    """y[i] = table[x[i] + 32768] for int16 numbers; a code below `least` is refused.

    Arguments: x, y, table (65536 int16), status (given `1 << 48` for a refused code), least.
    An item is an element.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """Eight elements at a time; the smallest code is looked at in the end."""
        fn = Function(
            name, isa, x=Ptr(i16), y=Ptr(i16), table=Ptr(i16), status=Ptr(i64), least=i64
        )
        x, y, table, status, least = fn.args
        middle = table + CODES // 2
        lowest = [fn.const(CODES, i64)]
        whole = fn.begin + (fn.end - fn.begin) / _UNROLLED * _UNROLLED
        with fn.loop(whole, start=fn.begin, step=_UNROLLED, carry=lowest) as i:
            for j in range(_UNROLLED):
                code = x[i + j].to(i64)
                y[i + j] = middle[code]
                lowest[0] = fn.minimum(lowest[0], code)
        with fn.loop(fn.end, start=whole, carry=lowest) as i:
            code = x[i].to(i64)
            y[i] = middle[code]
            lowest[0] = fn.minimum(lowest[0], code)
        with fn.when(lowest[0] < least):
            status[0] = fn.const(1 << 48, i64)
        return fn.ir()
