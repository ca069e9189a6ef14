"""Folds whose every step is seen: running sums, folds by segment, the k largest of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i8, i16, i32, i64
from litejit.kernels import requantize
from litejit.kernels.base import REFUSED, KernelSpec, type_of
from litejit.kernels.reduce import folder, widest
from litejit.types import DType

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

TERM_SHIFT = 19  # bits that rescaled running sums of bytes have behind the point


class RunningSumSpec(KernelSpec):
    """y[o, j, i] = x[o, 0, i] + ... + x[o, j, i], in this order; `exclusive` leaves x[o, j, i] out.

    Arguments: x, y, n, inner, blocks, first, step, zero, constants: `first` is the j that sums
    begin with, `step` 1 or -1. An item is a vector of i (one element where `single`), `blocks`
    items an o. With `form` the sums of (x - zero) << TERM_SHIFT, begun at -zero << TERM_SHIFT,
    are rescaled by the block of kernels/requantize at `constants`, and clamped to int8.
    """

    dtype: DType
    exclusive: bool
    single: bool = False
    form: str = ""

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element = type_of(self.dtype)
        wide = widest(element)
        fn = Function(name, isa, x=Ptr(element), y=Ptr(element), n=i64, inner=i64, blocks=i64,
                      first=i64, step=i64, zero=i64, constants=Ptr(i8))  # fmt: skip
        x, y, n, inner, blocks, first, step, zero, constants = fn.args
        lanes = 1 if self.single else isa.lanes(wide)
        numbers = requantize.load(self.form, constants, lanes) if self.form else []
        middle = zero.to(i32).splat(lanes)
        start = fn.const(0, wide * lanes)
        with fn.loop(fn.end, start=fn.begin) as item:
            at = item % blocks * lanes
            place = (item / blocks * n + first) * inner + at
            mask = None if self.single else fn.first(inner - at, lanes)
            total = [(start - middle) << TERM_SHIFT if self.form else start]
            with fn.loop(n, carry=total) as j:
                here = place + j * step * inner
                term = x.load(here, lanes=lanes).to(wide)
                after = total[0] + ((term - middle) << TERM_SHIFT if self.form else term)
                result = total[0] if self.exclusive else after
                total[0] = after
                if self.form:
                    code = requantize.apply(self.form, isa, result, numbers)
                    result = requantize.narrow(code, unsigned=False)
                y.store(here, result, mask=mask)
        return fn.ir()


class SegmentSpec(KernelSpec):
    """y[s, i] = fold of all x[r, i] with ids[r] == s, from `start` on, by ascending r.

    Arguments: x, ids, y, status, rows, inner, segments, start (an int32, or the bits of an f32).
    An item is a vector of i (one element where `single`). Rows with negative ids are left out;
    an id of `segments` or more stores REFUSED at `status`, and the row is left out.
    """

    dtype: DType
    word: str
    single: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element = type_of(self.dtype)
        fn = Function(name, isa, x=Ptr(element), ids=Ptr(i32), y=Ptr(element), status=Ptr(i64),
                      rows=i64, inner=i64, segments=i64, start=i64)  # fmt: skip
        x, ids, y, status, rows, inner, segments, start = fn.args
        lanes = 1 if self.single else isa.lanes(element)
        fold = folder(fn, self.word)
        first = start.to(i32).bitcast(f32) if element.is_float else start.to(i32)
        with fn.loop(fn.end, start=fn.begin) as item:
            at = item * lanes
            mask = None if self.single else fn.first(inner - at, lanes)
            with fn.loop(segments) as segment:
                y.store(segment * inner + at, first.splat(lanes), mask=mask)
            with fn.loop(rows) as row:
                number = ids[row].to(i64)
                with fn.when(number >= segments):
                    status[0] = REFUSED
                with fn.when((number >= 0) & (number < segments)):
                    place = number * inner + at
                    value = x.load(row * inner + at, lanes=lanes)
                    y.store(place, fold(y.load(place, lanes=lanes), value), mask=mask)
        return fn.ir()


class TopSpec(KernelSpec):
    """The k largest elements of every row, descending, and their places; of equals the first.

    Arguments: x, values, places (of `place_bits`), scratch, its bytes a thread, n, k. NaN is
    below every number. A thread's scratch holds keys in order (floats as integers that compare
    alike) and their places, -1 where there is none yet; an element that is larger than the last
    is put in its place by one pass over them. An item is a row.
    """

    dtype: DType
    place_bits: int

    def key_type(self) -> Type:
        """The type of keys."""
        return i64 if type_of(self.dtype).bits == 64 else i32

    def scratch_bytes(self, isa: Isa, k: int) -> int:
        """What a thread needs."""
        lanes = isa.lanes(self.key_type())
        return (-(-k // lanes) * lanes + 64) * (self.key_type().bits // 8 + 4)

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element, key = type_of(self.dtype), self.key_type()
        made = i16 if self.place_bits == 16 else i32
        fn = Function(name, isa, x=Ptr(element), values=Ptr(element), places=Ptr(made),
                      scratch=Ptr(i8), nbytes=i64, n=i64, k=i64)  # fmt: skip
        x, values, places, scratch, nbytes, n, k = fn.args
        lanes = isa.lanes(key)
        slots = (k + (lanes - 1)) / lanes * lanes
        # one slot in front, which nothing is better than
        own = scratch + fn.worker * nbytes
        keys = own.cast(key) + lanes
        found = (own + (slots + 64) * (key.bits // 8)).cast(i32) + lanes
        keys[-1], found[-1] = fn.const((1 << (key.bits - 1)) - 1, key), fn.const(0, i32)
        with fn.loop(fn.end, start=fn.begin) as row:
            source = x + row * n
            with fn.loop(slots, step=lanes) as p:
                found.store(p, fn.const(-1, i32 * lanes))
            with fn.loop(n) as j:
                new = _ordered(source[j], key)
                with fn.when(_better(new, keys[k - 1], found[k - 1])):
                    self._insert(fn, (keys, found), slots, (new, j.to(i32)), lanes)
            with fn.loop(k) as p:
                values[row * k + p] = source[found[p].to(i64)]
                places[row * k + p] = found[p].to(made)
        return fn.ir()

    @staticmethod
    def _insert(
        fn: Function, slots: tuple[Pointer, Pointer], count: Value, new: tuple[Value, Value],
        lanes: int,
    ) -> None:  # fmt: skip
        """From the last slots to the first: each takes the new one, its neighbour's, or stays."""
        fresh = [value.splat(lanes) for value in new]
        with fn.loop(count, step=lanes) as back:
            p = count - lanes - back
            own = [slot.load(p, lanes=lanes) for slot in slots]
            before = [slot.load(p - 1, lanes=lanes) for slot in slots]
            passes, enters = _better(fresh[0], *before), _better(fresh[0], *own)
            for slot, value, old, left in zip(slots, fresh, own, before, strict=True):
                slot.store(p, passes.choose(left, enters.choose(value, old)))


def _better(new: Value, old: Value, place: Value) -> Value:
    return (new > old) | (place < 0)


def _ordered(x: Value, key: Type) -> Value:
    """An integer that orders as x does; NaN lowest, both zeros alike."""
    if not x.type.is_float:
        return x.to(key)
    bits = (x + 0.0).bitcast(key)
    ordered = bits ^ ((bits >> (key.bits - 1)) & ((1 << (key.bits - 1)) - 1))
    return x.differs(x).choose(x.fn.const(-(1 << (key.bits - 1)), key), ordered)
