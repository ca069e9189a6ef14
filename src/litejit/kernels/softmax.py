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
    i64,
    u16,
)  # fmt: skip
from litejit.kernels.base import KernelSpec
from litejit.kernels.reduce import fold_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from litejit.codegen.isa import Isa
    from litejit.types import DType


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


class SoftmaxShortFloats(KernelSpec):
    """Softmax of rows of n float16 or bfloat16, through float32.

    Exponentials are rounded to the type before they are divided. Arguments: x, y, n, beta,
    scratch, stride. Thread `worker` owns the scratch from worker * stride bytes on, n float32. A
    work item is a row.
    """

    dtype: DType

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        from litejit.kernels.walk import closed, opened  # not needed at a warm start

        fn = Function(
            name, isa, x=Ptr(u16), y=Ptr(u16), n=i64, beta=f32, scratch=Ptr(i8), stride=i64
        )
        x, y, n, beta, scratch, stride = fn.args
        lanes = isa.lanes(f32)
        values = (scratch + fn.worker * stride).cast(f32)
        with fn.loop(fn.end, start=fn.begin) as row:
            map_row(fn, x + row * n, values, n, partial(opened, self.dtype))
            top = fn.reduce("max", fold_row(fn, "max", values, n)).splat(lanes)
            power = partial(_power, top, beta.splat(lanes))
            (total,) = _powers(fn, [(values, values)], n, [power])
            divisor = total.splat(lanes)

            def share(value: Value, divisor: Value = divisor) -> Value:
                rounded = opened(self.dtype, closed(self.dtype, value))
                return closed(self.dtype, rounded / divisor)

            map_row(fn, values, y + row * n, n, share)
        return fn.ir()


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
            norm = fn.sqrt(fn.reduce("add", squares))
            least = fn.const(1e-6, f32)
            norm = (norm < least).choose(least, norm)  # NaN stays
            divisor = norm.splat(isa.lanes(f32))
            map_row(fn, source, target, n, lambda value: value / divisor)
        return fn.ir()
