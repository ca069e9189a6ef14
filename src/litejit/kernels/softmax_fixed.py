"""Rows of quantized numbers divided by what they add up to, in LiteRT's fixed point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Type,
    Value,
    i8,
    i16,
    i32,
    i64,
    u8,
    u32,
    u64,
)  # fmt: skip
from litejit.kernels.base import KernelSpec
from litejit.kernels.fixedpoint import (
    inverse_sqrt,
    leading_zeros,
    log_of_sum,
    multiplied,
    reciprocal,
)
from litejit.kernels.requantize import halves

FACTS = 3  # that a block of rows keeps


def _byte(unsigned: bool) -> Type:
    return u8 if unsigned else i8


def _largest(fn: Function, source: Pointer, n: Value) -> Value:
    """The largest of n >= 1 integers, i64."""
    kind = source.element
    lanes = fn.isa.lanes(kind)
    least = fn.const(0 if kind.kind == "u" else -(1 << (kind.bits - 1)), kind * lanes)
    best = [least]
    with fn.loop(n, step=lanes, carry=best) as at:
        value = fn.first(n - at, lanes).choose(source.load(at, lanes=lanes), least)
        best[0] = fn.maximum(best[0], value)
    return fn.reduce("max", best[0]).to(i64)


def _each(
    fn: Function, n: Value, change: Callable[[Value, int], None], carry: list[Any] | None = None
) -> None:
    """change(j, j % 4) for j < n, four in a turn."""
    four = n / 4 * 4
    with fn.loop(four, step=4, carry=carry) as at:
        for j in range(4):
            change(at + j, j)
    with fn.loop(n, start=four, carry=carry) as at:
        change(at, 0)


def _look_up(fn: Function, source: Pointer, here: Pointer, target: Pointer, n: Value) -> None:
    """target[j] = here[source[j]] for j < n."""

    def change(at: Value, _: int) -> None:
        target[at] = here[source[at].to(i64)]

    _each(fn, n, change)


class _Blocks(KernelSpec):
    """Rows, as many at a time as a vector has int64 lanes: what a row has once is a lane.

    Thread `worker` owns the scratch from worker * stride bytes on: first FACTS vectors.
    """

    def blocks(
        self, fn: Function, own: Pointer, measure: Callable[[Value], list[Value]],
        change: Callable[[list[Value]], list[Value]], finish: Callable[[Value, list[Value]], None],
    ) -> None:  # fmt: skip
        """`measure` a row, `change` the facts of all rows, `finish` a row with its own (i64)."""
        lanes = fn.isa.lanes(i64)
        facts = [own + j * lanes for j in range(FACTS)]
        with fn.loop(fn.end, start=fn.begin, step=lanes) as first:
            count = fn.minimum(fn.end - first, lanes)
            with fn.loop(count) as j:
                measured = measure(first + j)
                for place, fact in zip(facts, measured, strict=False):
                    place[j] = fact
            loaded = [place.load(lanes=lanes) for place in facts[: len(measured)]]
            changed = change(loaded)
            for place, fact in zip(facts, changed, strict=False):
                place.store(0, fact)
            with fn.loop(count) as j:
                finish(first + j, [place[j] for place in facts[: len(changed)]])


def scratch_bytes(isa: Isa, columns: int) -> int:
    """Scratch of one thread, with room for `columns` int32."""
    return FACTS * isa.vector_bytes + (4 * columns + 63) // 64 * 64


MOST_COLUMNS = 8192 * 4  # a lane's sum of exponentials must fit 32 bits, with 4 lanes
SHORT = 16  # columns of rows that are not worth a vector


class Softmax8(_Blocks):
    """LiteRT's fixed-point softmax of rows of n bytes, bit for bit.

    Arguments: x, y, n, table, scratch, stride. `table` holds exp in Q0.31 of the differences
    -255 ... 0 (int32, 0 for those that do not count). Thread `worker` owns the scratch from
    worker * stride bytes on, as `scratch_bytes` says for n columns, or where `short` for those of
    a block of rows. A work item is a row; n is at most MOST_COLUMNS. `wide` makes int16, else y
    has x's type.
    """

    unsigned: bool
    wide: bool
    short: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        byte = _byte(self.unsigned)
        fn = Function(
            name, isa, x=Ptr(byte), y=Ptr(i16 if self.wide else byte), n=i64, table=Ptr(u32),
            scratch=Ptr(i8), stride=i64,
        )  # fmt: skip
        x, y, n, table, scratch, stride = fn.args
        own = scratch + fn.worker * stride
        exps = (own + FACTS * isa.vector_bytes).cast(u32)
        if self.short:
            turns = isa.lanes(i64) - 1

            def place(row: Value) -> Pointer:
                index: Value = ((row - fn.begin) & turns) * n
                return Pointer(fn, u32, exps.ref) + index

            self.blocks(
                fn, own.cast(i64),
                lambda row: [self._take_short(fn, x + row * n, n, table, place(row))],
                lambda facts: list(reciprocal(facts[0], 12)),
                lambda row, facts: self._scale(fn, place(row), y + row * n, n, *facts),
            )  # fmt: skip
            return fn.ir()
        with fn.loop(fn.end, start=fn.begin) as row:
            source = x + row * n
            self._take(fn, source, n, table, exps)
            factor, shift = reciprocal(self._sum(fn, exps, n), 12)
            self._scale(fn, exps, y + row * n, n, factor, shift)
        return fn.ir()

    @staticmethod
    def _take_short(
        fn: Function, source: Pointer, n: Value, table: Pointer, exps: Pointer
    ) -> Value:
        """As `_take`; the sum as from `_sum`."""
        best = [source[0].to(i64)]
        with fn.loop(n, start=1, carry=best) as at:
            best[0] = fn.maximum(best[0], source[at].to(i64))
        here, total = table + (fn.const(255, i64) - best[0]), [fn.const(0, i64)]
        with fn.loop(n, carry=total) as at:
            value = here[source[at].to(i64)]
            exps[at] = value
            total[0] = total[0] + ((value + (1 << 11)) >> 12).to(i64)
        return total[0]

    def _take(self, fn: Function, source: Pointer, n: Value, table: Pointer, exps: Pointer) -> None:
        """exps[j] = table[255 + x[j] - largest x]."""
        here = table + (fn.const(255, i64) - _largest(fn, source, n))
        _look_up(fn, source, here, exps, n)

    def _sum(self, fn: Function, exps: Pointer, n: Value) -> Value:
        """The sum (i64) of the exponentials in Q12.19, each rounded half up."""
        lanes = fn.isa.lanes(u32)
        totals = [fn.const(0, u32 * lanes)]
        with fn.loop(n, step=lanes, carry=totals) as at:
            value = (exps.load(at, lanes=lanes) + (1 << 11)) >> 12
            kept = fn.first(n - at, lanes).choose(value, 0)
            totals[0] = totals[0] + kept
        return fn.reduce("add", totals[0].to(u64)).to(i64)

    def _scale(
        self, fn: Function, exps: Pointer, target: Pointer, n: Value, factor: Value, over: Value
    ) -> None:
        """target[j] = exps[j] * factor, rounded to Q0.31, then to the bits of y."""
        lanes = fn.isa.lanes(u32)
        bits = 16 if self.wide else 8
        least = 0 if self.unsigned and not self.wide else -(1 << (bits - 1))
        count = (over + (31 - bits)).to(u64)
        half = (fn.const(1, u64) << (count - 1)).splat(lanes)
        shift, m = count.splat(lanes), factor.to(u64).splat(lanes)
        with fn.loop(n, step=lanes) as at:
            product = (exps.load(at, lanes=lanes).to(u64) * m + (1 << 30)) >> 31
            code = ((product + half) >> shift).to(u32).to(i32)
            code = fn.minimum(code, (1 << bits) - 1) + least
            left = n - at
            value = code.to(target.element)
            with fn.when(left >= lanes):
                target.store(at, value)
            with fn.when(left < lanes):
                target.store(at, value, mask=fn.first(left, lanes))


class LogSoftmax8(_Blocks):
    """Fixed-point logarithms of the softmax of rows of n bytes, in sixteenths, at most 0.

    Arguments: x, y, exps, differences (int32 tables of the differences -255 ... 0 from the
    largest code: exp in Q12.19, the difference in Q5.26), scratch, stride, n, least, then
    multiplier, left and right shift of what turns a logarithm into codes, which only `bounded`
    rows have.
    The scratch has n int32 more. An item is a row.
    """

    unsigned: bool
    bounded: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Largest code and sum, logarithm, then code by code."""
        byte = _byte(self.unsigned)
        numbers = dict.fromkeys(("n", "stride", "least", "multiplier", "left", "right"), i64)
        fn = Function(
            name, isa, x=Ptr(byte), y=Ptr(byte), exps=Ptr(i32), differences=Ptr(i32),
            scratch=Ptr(i8), **numbers,
        )  # fmt: skip
        x, y, exps, differences, scratch, n, stride, least, *factors = fn.args
        own = scratch + fn.worker * stride
        lanes = isa.lanes(i64)

        def measure(row: Value) -> list[Value]:
            source = x + row * n
            top = _largest(fn, source, n)
            totals = [fn.const(0, i64)] * 4

            def add(at: Value, place: int) -> None:
                totals[place] = totals[place] + here[source[at].to(i64)].to(i64)

            here = exps + (fn.const(255, i64) - top)
            _each(fn, n, add, totals)
            return [fn.maximum(totals[0] + totals[1] + (totals[2] + totals[3]), 1), top]

        def change(facts: list[Value]) -> list[Value]:
            log_sum = log_of_sum(fn.minimum(facts[0], (1 << 31) - 1))
            bound = least.splat(lanes)
            if self.bounded:
                limits = [factor.splat(lanes) for factor in factors]
                bound = fn.maximum(bound, multiplied(log_sum - (1 << 31), *limits))
            return [log_sum, facts[1], bound]

        def finish(row: Value, facts: list[Value]) -> None:
            log_sum, top, bound = facts
            values = (own + FACTS * isa.vector_bytes).cast(i32)
            source = x + row * n
            _look_up(fn, source, differences + (fn.const(255, i64) - top), values, n)
            self._round(fn, source, values, y + row * n, (n, log_sum, top + bound))

        self.blocks(fn, own.cast(i64), measure, change, finish)
        return fn.ir()

    def _round(
        self, fn: Function, source: Pointer, values: Pointer, target: Pointer,
        facts: tuple[Value, Value, Value],
    ) -> None:  # fmt: skip
        """target[j] = values[j] - log_sum in sixteenths; the least where source[j] <= bound."""
        n, lanes = facts[0], fn.isa.lanes(i32)
        log_sum = facts[1].to(i32).splat(lanes)
        bound = fn.maximum(facts[2], -(1 << 31)).to(i32).splat(lanes)
        least = log_sum - (1 << 31)  # so that the difference fits; it is far beyond the clamp
        with fn.loop(n, step=lanes) as at:
            value = fn.maximum(values.load(at, lanes=lanes), least) - log_sum
            rounded = (value + (1 << 21) - (value < 0).to(i32)) >> 22
            rounded = fn.minimum(fn.maximum(rounded, -255), 0)
            kept = source.load(at, lanes=lanes).to(i32) > bound
            code = kept.choose(rounded, -255) + (255 if self.unsigned else 127)
            target.store(at, code.to(target.element), mask=fn.first(n - at, lanes))


class Softmax16(KernelSpec):
    """Softmax of rows of n int16 by two tables of 513 entries, linear between them.

    Arguments: x, y, n, exp table, table of 1 / (1 + x), scratch, stride, then multiplier, left
    and right shift of the differences from a row's largest code. Thread `worker` owns the scratch
    from worker * stride bytes on, n int32. An item is a row.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """Exponentials to the scratch, then their shares of the sum."""
        numbers = dict.fromkeys(("n", "stride", "multiplier", "left", "right"), i64)
        fn = Function(
            name, isa, x=Ptr(i16), y=Ptr(i16), table=Ptr(i16), inverse=Ptr(i16), scratch=Ptr(i8),
            **numbers,
        )  # fmt: skip
        x, y, table, inverse, scratch, n, stride, *change = fn.args
        values = (scratch + fn.worker * stride).cast(i32)
        with fn.loop(fn.end, start=fn.begin) as row:
            source, target = x + row * n, y + row * n
            top = _largest(fn, source, n)
            total = [fn.const(0, i64)]
            with fn.loop(n, carry=total) as at:
                below = multiplied(source[at].to(i64) - top, *change) + 32767
                value = _interpolated(table, below)
                values[at] = value.to(i32)
                total[0] = total[0] + value
            room = leading_zeros(total[0]) - 32
            moved = ((total[0] << fn.maximum(room - 1, 0)) + (1 << 13)) >> 14
            self._share(fn, values, target, n, _interpolated(inverse, moved - 98304), room)
        return fn.ir()

    @staticmethod
    def _share(
        fn: Function, values: Pointer, target: Pointer, n: Value, factor: Value, room: Value
    ) -> None:
        """target[j] = values[j] * factor, rounded half up."""
        lanes = fn.isa.lanes(i64)
        count = fn.const(31, i64) - room
        half, shift, m = (v.splat(lanes) for v in (fn.const(1, i64) << (count - 1), count, factor))
        with fn.loop(n, step=lanes) as at:
            value = (values.load(at, lanes=lanes).to(i64) * m + half) >> shift
            code = fn.minimum(fn.maximum(value, 0), 32767).to(i16)
            target.store(at, code, mask=fn.first(n - at, lanes))


def _interpolated(table: Pointer, code: Value) -> Value:
    """An int16 code, after clamping, through 513 entries."""
    fn = code.fn
    code = fn.minimum(fn.maximum(code, -32768), 32767)
    place = table + ((code >> 7) + 256)
    base = place[0].to(i64)
    slope = (place[1].to(i64) - base).to(i16).to(i64)
    return base + ((slope * (code & 127) + 64) >> 7)


class L2Norm8(_Blocks):
    """y = x / the root of the sum of squares of rows of n bytes, by an inverse square root.

    Arguments: x, y, scratch, stride, n, the zero point of x. y has scale 1/128 and zero point 0
    (128 where `unsigned`). An item is a row.
    """

    unsigned: bool

    def emit(self, name: str, isa: Isa) -> str:
        """The sum, its inverse root, then the products."""
        byte = _byte(self.unsigned)
        fn = Function(
            name, isa, x=Ptr(byte), y=Ptr(byte), scratch=Ptr(i8), stride=i64, n=i64, zero=i64
        )
        x, y, scratch, stride, n, zero = fn.args
        lanes, wide = isa.lanes(i32), isa.lanes(i64)
        moved = zero.to(i32).splat(lanes)

        def measure(row: Value) -> list[Value]:
            sums: list[Any] = [fn.const(0, i64 * wide)] * 2
            with fn.loop(n, step=lanes, carry=sums) as at:
                code = (x + row * n).load(at, lanes=lanes).to(i32) - moved
                squares = fn.first(n - at, lanes).choose(code * code, 0)
                sums[:] = [a + b.to(i64) for a, b in zip(sums, halves(squares), strict=True)]
            return [fn.reduce("add", sums[0] + sums[1])]

        def change(facts: list[Value]) -> list[Value]:
            total = fn.minimum(facts[0], (1 << 31) - 1)
            m, shift = inverse_sqrt(fn.maximum(total, 2))
            tiny = total <= 1
            m = tiny.choose(fn.const((1 << 31) - 1, m.type), m)
            shift = tiny.choose(total ^ total, shift)
            # int8 codes are shifted with the multiplier, uint8 codes before it
            shift = shift if self.unsigned else shift + 7
            left = fn.maximum(shift, 0) + (7 if self.unsigned else 0)
            return [m, left, -fn.minimum(shift, 0)]

        def finish(row: Value, facts: list[Value]) -> None:
            source, target = x + row * n, y + row * n
            factors = [fact.splat(wide) for fact in facts]
            low, high, middle = (0, 255, 128) if self.unsigned else (-128, 127, 0)
            with fn.loop(n, step=wide) as at:
                code = source.load(at, lanes=wide).to(i64) - zero.splat(wide)
                value = multiplied(code, *factors) + middle
                made = fn.minimum(fn.maximum(value, low), high).to(byte)
                target.store(at, made, mask=fn.first(n - at, wide))

        self.blocks(fn, (scratch + fn.worker * stride).cast(i64), measure, change, finish)
        return fn.ir()
