"""Rows divided by what they add up to: softmax, its logarithm, the Euclidean norm."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING

from litejit.codegen import math as functions
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Value,
    f32,
    i8,
    i16,
    i32,
    i64,
    u8,
    u32,
    u64,
)
from litejit.kernels.base import KernelSpec
from litejit.kernels.fixedpoint import reciprocal
from litejit.kernels.reduce import fold_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litejit.codegen.isa import Isa


SUMMED = 256  # vectors whose values are added before they meet the total
ROWS = 2  # computed side by side, so that one need not wait for the other's sums


def map_row(
    fn: Function,
    source: Pointer,
    target: Pointer,
    n: Value,
    change: Callable[[Value], Value],
) -> None:
    """target[j] = change(source[j]) for j < n, a vector at a time; the rest under a mask."""
    lanes = fn.isa.lanes(f32)
    whole = n / lanes * lanes
    with fn.loop(whole, step=lanes) as at:
        target.store(at, change(source.load(at, lanes=lanes)))
    with fn.when(whole < n):
        value = change(source.load(whole, lanes=lanes))
        target.store(whole, value, mask=fn.first(n - whole, lanes))


def _power(top: Value, factor: Value, value: Value) -> Value:
    return functions.exp((value - top) * factor)


def _powers(
    fn: Function, rows: list[tuple[Pointer, Pointer]], n: Value,
    change: Sequence[Callable[[Value], Value]],
) -> list[Value]:  # fmt: skip
    """target[j] = change(source[j]) of several rows side by side, and the sum of each.

    A row may come twice: of every vector all are loaded before one is stored.
    """
    lanes = fn.isa.lanes(f32)
    zero = fn.const(0.0, f32 * lanes)
    whole = n / lanes * lanes
    totals = [zero] * len(rows)

    def put(at: Value, parts: list[Value], mask: Value | None) -> None:
        loaded = [source.load(at, lanes=lanes) for source, _ in rows]
        values = [f(value) for f, value in zip(change, loaded, strict=True)]
        for r, ((_, target), value) in enumerate(zip(rows, values, strict=True)):
            target.store(at, value, mask=mask)
            parts[r] = parts[r] + (value if mask is None else mask.choose(value, zero))

    with fn.loop(whole, step=SUMMED * lanes, carry=totals) as first:
        parts = [zero] * len(rows)
        stop = fn.minimum(first + SUMMED * lanes, whole)
        with fn.loop(stop, start=first, step=lanes, carry=parts) as at:
            put(at, parts, None)
        totals[:] = [a + b for a, b in zip(totals, parts, strict=True)]
    with fn.when(whole < n, carry=totals):
        put(whole, totals, fn.first(n - whole, lanes))
    return [fn.reduce("add", total) for total in totals]


def _less(top: Value, log_sum: Value, value: Value) -> Value:
    return value - top - log_sum


def _map_rows(
    fn: Function, rows: list[tuple[Pointer, Pointer]], n: Value,
    change: Sequence[Callable[[Value], Value]],
) -> None:  # fmt: skip
    """target[j] = change(source[j]) of several rows side by side; a row may come twice."""
    lanes = fn.isa.lanes(f32)
    whole = n / lanes * lanes

    def put(at: Value, mask: Value | None) -> None:
        loaded = [source.load(at, lanes=lanes) for source, _ in rows]
        values = [f(value) for f, value in zip(change, loaded, strict=True)]
        for (_, target), value in zip(rows, values, strict=True):
            target.store(at, value, mask=mask)

    with fn.loop(whole, step=lanes) as at:
        put(at, None)
    with fn.when(whole < n):
        put(whole, fn.first(n - whole, lanes))


class SoftmaxF32(KernelSpec):
    """y = exp(beta * (x - max)) / sum, or with `log` x - max - log(sum): rows of n floats.

    Arguments: x, y, n, beta (1 where `log`). A work item is a row. A NaN or +inf makes its row
    NaN. Exponentials within 2e-7, sums of 64 by 4 vectors at a time.
    """

    log: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, x=Ptr(f32), y=Ptr(f32), n=i64, beta=f32)
        x, y, n, beta = fn.args
        lanes = isa.lanes(f32)
        factor = beta.splat(lanes)
        with fn.loop(fn.end, start=fn.begin, step=ROWS) as first:
            numbers = [fn.minimum(first + j, fn.end - 1) for j in range(ROWS)]
            rows = [(x + number * n, y + number * n) for number in numbers]
            largest = [fn.reduce("max", fold_row(fn, "max", source, n)) for source, _ in rows]
            tops = [top.splat(lanes) for top in largest]
            powers = [partial(_power, top, factor) for top in tops]
            (self._logarithms if self.log else self._shares)(fn, rows, n, tops, powers)
        return fn.ir()

    @staticmethod
    def _shares(
        fn: Function, rows: list[tuple[Pointer, Pointer]], n: Value, tops: list[Value],
        powers: Sequence[Callable[[Value], Value]],
    ) -> None:  # fmt: skip
        """Exponentials of some rows over their sums."""
        totals = _powers(fn, rows, n, powers)
        # a product is 10 times faster than a quotient
        shares = [(fn.const(1.0, f32) / total).splat(tops[0].type.lanes) for total in totals]
        written = [(target, target) for _, target in rows]
        _map_rows(fn, written, n, [partial(operator.mul, share) for share in shares])

    @staticmethod
    def _logarithms(
        fn: Function, rows: list[tuple[Pointer, Pointer]], n: Value, tops: list[Value],
        powers: Sequence[Callable[[Value], Value]],
    ) -> None:  # fmt: skip
        """Some rows less their largest values and the logarithms of their sums."""
        sums = [
            fn.reduce("add", fold_row(fn, "sum", source, n, power))
            for (source, _), power in zip(rows, powers, strict=True)
        ]
        logs = [functions.log(total.splat(tops[0].type.lanes)) for total in sums]
        changes = [partial(_less, top, log) for top, log in zip(tops, logs, strict=True)]
        _map_rows(fn, rows, n, changes)


class L2NormF32(KernelSpec):
    """y = x / max(sqrt(sum of squares), 1e-6): rows of n floats.

    Arguments: x, y, n. A work item is a row.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, x=Ptr(f32), y=Ptr(f32), n=i64)
        x, y, n = fn.args
        with fn.loop(fn.end, start=fn.begin) as row:
            source, target = x + row * n, y + row * n
            squares = fold_row(fn, "sum", source, n, lambda value: value * value)
            norm = fn.maximum(fn.sqrt(fn.reduce("add", squares)), 1e-6)
            divisor = norm.splat(isa.lanes(f32))
            map_row(fn, source, target, n, lambda value: value / divisor)
        return fn.ir()


MOST_COLUMNS = 8192 * 4  # a lane's sum of exponentials must fit 32 bits, with 4 lanes


class Softmax8(KernelSpec):
    """LiteRT's fixed-point softmax of rows of n bytes, bit for bit.

    Arguments: x, y, n, table, scratch, stride. `table` holds exp in Q0.31 of the differences
    -255 ... 0 (int32, 0 for those that do not count). Thread `worker` owns the scratch from
    worker * stride bytes on, n int32. A work item is a row; n is at most MOST_COLUMNS. `wide`
    makes int16, else y has x's type.
    """

    unsigned: bool
    wide: bool

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        byte = u8 if self.unsigned else i8
        made = i16 if self.wide else byte
        fn = Function(name, isa, x=Ptr(byte), y=Ptr(made), n=i64, table=Ptr(u32),
                      scratch=Ptr(i8), stride=i64)  # fmt: skip
        x, y, n, table, scratch, stride = fn.args
        exps = (scratch + fn.worker * stride).cast(u32)
        with fn.loop(fn.end, start=fn.begin) as row:
            source = x + row * n
            self._look_up(fn, source, n, table, exps)
            factor, shift = reciprocal(self._sum(fn, exps, n), 12)
            self._scale(fn, exps, y + row * n, n, factor, shift)
        return fn.ir()

    def _look_up(
        self, fn: Function, source: Pointer, n: Value, table: Pointer, exps: Pointer
    ) -> None:
        """exps[j] = table[255 + x[j] - largest x]."""
        lanes = fn.isa.lanes(source.element)
        least = fn.const(0 if self.unsigned else -128, source.element * lanes)
        best = [least]
        with fn.loop(n, step=lanes, carry=best) as at:
            mask = fn.first(n - at, lanes)
            value = mask.choose(source.load(at, lanes=lanes), least)
            best[0] = fn.maximum(best[0], value)
        here = table + (fn.const(255, i64) - fn.reduce("max", best[0]).to(i64))
        four = n / 4 * 4
        with fn.loop(four, step=4) as at:
            for j in range(4):
                exps[at + j] = here[source[at + j].to(i64)]
        with fn.loop(n, start=four) as at:
            exps[at] = here[source[at].to(i64)]

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
