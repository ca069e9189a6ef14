"""Folds of one axis: sums, means, extremes along rows or across them, and places of extremes.

x is [outer, n, inner] in memory and n is folded. With inner == 1 a row lies in memory in one
piece (RowsSpec); otherwise vectors of neighbours are folded side by side (AcrossSpec). Floats
are added in blocks of 64 with several accumulators, always in the same order, so that the error
does not grow with n and no cut between work items changes a result. Products are made across
alone: there every one is made in the order of the elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i8, i32, i64
from litejit.kernels import requantize
from litejit.kernels.base import KernelSpec, type_of
from litejit.types import DType

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

BLOCK = 64  # float additions in a row before a partial sum is put aside
FLOAT, PRODUCT = "float", "product"  # forms that kernels/requantize does not have
_HALF = 0.49999997  # the float below 0.5: x.5 still reaches the next integer, nothing else does
_FAR = float(1 << 20)  # beyond the sums and zero points of narrow results
Fold = Callable[[Value, Value], Value]


def widest(element: Type, word: str = "") -> Type:
    """What an element is folded as; the means of int32 need 64 bits."""
    if element.is_float:
        return f32
    return i64 if element.bits == 64 or (word == "mean" and element.bits == 32) else i32


def folder(fn: Function, word: str) -> Fold:
    """The function (what there is, what comes) of a word.

    "max" and "min" skip a NaN that comes, in one instruction for floats; in "greater" and "less"
    whatever comes takes its place.
    """
    if word in ("sum", "mean"):
        return lambda a, b: a + b
    if word == "prod":
        return lambda a, b: a * b
    if word in ("greater", "less"):
        return lambda a, b: (a > b if word == "greater" else a < b).choose(a, b)

    def further(a: Value, b: Value) -> Value:
        if not a.type.is_float:
            return fn.maximum(a, b) if word == "max" else fn.minimum(a, b)
        return (b > a if word == "max" else b < a).choose(b, a)

    return further


def neutral(word: str, element: Type) -> float | int:
    """A lane that changes nothing."""
    if word in ("sum", "mean", "prod"):
        one = int(word == "prod")
        return float(one) if element.is_float else one
    if element.is_float:
        return math.inf if word == "min" else -math.inf
    half = 1 << (widest(element).bits - 1)
    return half - 1 if word == "min" else -half


class _FoldSpec(KernelSpec):
    """`word` is one of `folder`, or "mean"; `form` rescales quantized results.

    Arguments: x, y, n, inner, blocks, start, scale, constants. `start` is what folds begin
    from (an integer, or the bits of an f32); "mean" of floats divides by `scale`, of integers by
    n, toward zero. Forms: those of kernels/requantize, whose block is at `constants`; FLOAT: the
    sum * scale + bias in f32, rounded half away from zero, `constants` being f32 bias, zero point
    and limits; PRODUCT: the product of x - zero, times m / 2^shift after every factor (the first
    and the last in one), `constants` being int64 zero, m, shift, zero point of y and limits.
    """

    dtype: DType
    word: str
    form: str = ""

    def function(self, name: str, isa: Isa) -> Function:
        """An empty kernel with the arguments."""
        element = type_of(self.dtype)
        return Function(name, isa, x=Ptr(element), y=Ptr(element), n=i64, inner=i64, blocks=i64,
                        start=i64, scale=f32, constants=Ptr(i8))  # fmt: skip

    def wide(self) -> Type:
        """What elements are folded as."""
        return i64 if self.form == PRODUCT else widest(type_of(self.dtype), self.word)

    def lanes(self, isa: Isa) -> int:
        """Elements of a vector while it is folded."""
        return isa.lanes(self.wide())

    def begin(self, start: Value, lanes: int) -> Value:
        """The vector that folds begin from."""
        wide = self.wide()
        first = start.to(i32).bitcast(f32) if wide.is_float else start.to(wide)
        return first.splat(lanes)

    def load(self, fn: Function, constants: Pointer) -> list[Value]:
        """The constants of the form."""
        if self.form in (FLOAT, PRODUCT):
            kind, count = (f32, 4) if self.form == FLOAT else (i64, 6)
            return [constants.cast(kind)[j] for j in range(count)]
        return requantize.load(self.form, constants, self.lanes(fn.isa)) if self.form else []

    def value(self, loaded: Value, numbers: list[Value]) -> Value:
        """An element as it is folded."""
        value = loaded.to(self.wide())
        return value - numbers[0].splat(value.type.lanes) if self.form == PRODUCT else value

    def fold(self, fn: Function, numbers: list[Value]) -> Fold:
        """How an element is taken in."""
        if self.form != PRODUCT:
            return folder(fn, self.word)
        return lambda a, b: _scaled(a * b, numbers)

    def finish(
        self, isa: Isa, total: Value, divisor: tuple[Value, Value], numbers: list[Value]
    ) -> Value:
        """What is stored, of the type of x; `divisor`: scale and n."""
        element, lanes, fn = type_of(self.dtype), total.type.lanes, total.fn
        if self.form == PRODUCT:
            code = _scaled(total, numbers) + numbers[3].splat(lanes)
            low, high = (number.splat(lanes) for number in numbers[4:])
            return fn.minimum(fn.maximum(code, low), high).to(element)
        if self.form == FLOAT:
            bias, zero, low, high = (number.splat(lanes) for number in numbers)
            real = total.to(f32) * divisor[0].splat(lanes) + bias
            near = fn.minimum(fn.maximum(real, -_FAR), _FAR)
            near = (near + fn.copysign(fn.const(_HALF, near.type), near)).to(i32).to(f32) + zero
            return fn.minimum(fn.maximum(near, low), high).to(element)
        if self.form:
            code = requantize.apply(self.form, isa, total, numbers)
            if element.bits == 8:
                return requantize.narrow(code, unsigned=element.kind == "u")
            return fn.minimum(fn.maximum(code, -(1 << 15)), (1 << 15) - 1).to(element)
        if self.word == "mean":
            by = divisor[0] if element.is_float else divisor[1]
            return (total / by.splat(lanes)).to(element)
        return total.to(element)


def _scaled(x: Value, numbers: list[Value]) -> Value:
    """x * m / 2^shift with one rounding, ties up, cut to int32 (ops/fixedpoint.mbqm64)."""
    m, shift = (number.splat(x.type.lanes) for number in numbers[1:3])
    half = x.fn.const(1, x.type) << (shift - 1)
    return ((x * m + half) >> shift).to(i32).to(i64)


class AcrossSpec(_FoldSpec):
    """y[o, i] = fold of x[o, :, i]; a work item is `vectors` vectors of i, `blocks` items an o."""

    vectors: int = 4

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = self.function(name, isa)
        x, y, n, inner, blocks, start, scale, constants = fn.args
        lanes = self.lanes(isa)
        block = self.vectors * lanes
        numbers = self.load(fn, constants)
        with fn.loop(fn.end, start=fn.begin) as item:
            outer, first = item / blocks, item % blocks * block
            source = x + (outer * n * inner + first)
            target = y + (outer * inner + first)
            width = fn.minimum(inner - first, block)
            with fn.when(width.equals(block)):
                totals = self._fold(fn, source, (n, inner, start), numbers, self.vectors)
                for j, total in enumerate(totals):
                    target.store(j * lanes, self.finish(isa, total, (scale, n), numbers))
            with fn.when(width < block), fn.loop(width, step=lanes) as at:
                (total,) = self._fold(fn, source + at, (n, inner, start), numbers, 1)
                mask = fn.first(width - at, lanes)
                target.store(at, self.finish(isa, total, (scale, n), numbers), mask=mask)
        return fn.ir()

    def _fold(
        self, fn: Function, source: Pointer, sizes: tuple[Value, Value, Value],
        numbers: list[Value], vectors: int,
    ) -> list[Value]:  # fmt: skip
        n, inner, start = sizes
        lanes, wide, fold = self.lanes(fn.isa), self.wide(), self.fold(fn, numbers)

        def value(row: Value | int, j: int) -> Value:
            at = source + fn.const(row, i64) * inner
            return self.value(at.load(j * lanes, lanes=lanes), numbers)

        def rows(first: Value | int, stop: Value, parts: list[Value]) -> None:
            with fn.loop(stop, start=first, carry=parts) as row:
                for j in range(vectors):
                    parts[j] = fold(parts[j], value(row, j))

        if self.form == PRODUCT:
            totals = [value(0, j) for j in range(vectors)]
            rows(1, n, totals)
            return totals
        totals = [self.begin(start, lanes)] * vectors
        if fn.isa.in_order or not (wide.is_float and self.word in ("sum", "mean")):
            rows(0, n, totals)
            return totals
        with fn.loop(n, step=BLOCK, carry=totals) as first:
            parts = [fn.const(0.0, wide * lanes)] * vectors
            rows(first, fn.minimum(first + BLOCK, n), parts)
            for j in range(vectors):
                totals[j] = totals[j] + parts[j]
        return totals


class RowsSpec(_FoldSpec):
    """y[o] = fold of x[o, :]: "sum", "mean", "max" or "min"; a work item is a row."""

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = self.function(name, isa)
        x, y, n, _, _, start, scale, constants = fn.args
        numbers = self.load(fn, constants)
        lanes = self.lanes(isa) if self.form in requantize.FORMS else 1
        word = "add" if self.word in ("sum", "mean") else self.word
        with fn.loop(fn.end, start=fn.begin) as row:
            total = fn.reduce(word, fold_row(fn, self.word, x + row * n, n))
            total = folder(fn, self.word)(total, self.begin(start, 1))
            result = self.finish(isa, total.splat(lanes), (scale, n), numbers)
            y[row] = result.lane(0) if lanes > 1 else result
        return fn.ir()


def fold_row(
    fn: Function,
    word: str,
    source: Pointer,
    n: Value,
    change: Callable[[Value], Value] = lambda value: value,
) -> Value:
    """One vector of partial folds of n elements that lie side by side (changed first)."""
    wide, fold = widest(source.element, word), folder(fn, word)
    lanes = fn.isa.lanes(wide)
    none = fn.const(neutral(word, source.element), wide * lanes)
    blockwise = wide.is_float and word in ("sum", "mean")
    step = 4 * lanes
    whole = n / step * step
    totals = [none] * 4

    def group(at: Value, parts: list[Value]) -> None:
        for j in range(4):
            value = source.load(at + j * lanes, lanes=lanes).to(wide)
            parts[j] = fold(parts[j], change(value))

    if blockwise:
        with fn.loop(whole, step=BLOCK * step, carry=totals) as first:
            parts = [none] * 4
            with fn.loop(
                fn.minimum(first + BLOCK * step, whole), start=first, step=step, carry=parts
            ) as at:
                group(at, parts)
            totals[:] = [a + b for a, b in zip(totals, parts, strict=True)]
    else:
        with fn.loop(whole, step=step, carry=totals) as at:
            group(at, totals)
    rest = [fold(fold(totals[0], totals[1]), fold(totals[2], totals[3]))]
    with fn.loop(n, start=whole, step=lanes, carry=rest) as at:
        value = change(source.load(at, lanes=lanes).to(wide))
        rest[0] = fold(rest[0], fn.first(n - at, lanes).choose(value, none))
    return rest[0]


class ArgSpec(KernelSpec):
    """y[o] = first place of the largest (or smallest) x[o, :]; NaN is never better.

    Arguments: x, y, n. A work item is a row. `wide` stores int64, else int32.
    """

    dtype: DType
    largest: bool
    wide: bool

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element = type_of(self.dtype)
        fn = Function(name, isa, x=Ptr(element), y=Ptr(i64 if self.wide else i32), n=i64)
        x, y, n = fn.args
        lanes, kind = isa.lanes(i32), widest(element)
        word = "max" if self.largest else "min"
        worst = neutral(word, element)
        ramp = fn.vector(i32, range(lanes))
        with fn.loop(fn.end, start=fn.begin) as row:
            source = x + row * n
            best = [fn.const(worst, kind * lanes), fn.const(0, i32 * lanes)]

            def look(at: Value, value: Value, best: list[Value] = best) -> None:
                better = value > best[0] if self.largest else value < best[0]
                best[0] = better.choose(value, best[0])
                best[1] = better.choose(at.to(i32).splat(lanes) + ramp, best[1])

            whole = n / lanes * lanes
            with fn.loop(whole, step=lanes, carry=best) as at:
                look(at, source.load(at, lanes=lanes).to(kind))
            with fn.when(whole < n, carry=best):
                value = source.load(whole, lanes=lanes).to(kind)
                look(whole, fn.first(n - whole, lanes).choose(value, worst))
            top = fn.reduce(word, best[0]).splat(lanes)
            place = fn.reduce("min", best[0].equals(top).choose(best[1], 2**31 - 1))
            y[row] = place.to(i64) if self.wide else place
        return fn.ir()


class ArgAcrossSpec(KernelSpec):
    """y[o, i] = first place of the largest (or smallest) x[o, :, i]; NaN is never better.

    Arguments: x, y, n, inner, blocks. A work item is a vector of i, `blocks` items an o.
    """

    dtype: DType
    largest: bool
    wide: bool

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element, made = type_of(self.dtype), i64 if self.wide else i32
        fn = Function(name, isa, x=Ptr(element), y=Ptr(made), n=i64, inner=i64, blocks=i64)
        x, y, n, inner, blocks = fn.args
        lanes, kind = isa.lanes(i32), widest(element)
        worst = neutral("max" if self.largest else "min", element)
        with fn.loop(fn.end, start=fn.begin) as item:
            outer, first = item / blocks, item % blocks * lanes
            source = x + (outer * n * inner + first)
            best = [fn.const(worst, kind * lanes), fn.const(0, i32 * lanes)]
            with fn.loop(n, carry=best) as row:
                value = (source + row * inner).load(lanes=lanes).to(kind)
                better = value > best[0] if self.largest else value < best[0]
                place = row.to(i32).splat(lanes)
                best[:] = [better.choose(value, best[0]), better.choose(place, best[1])]
            mask = fn.first(inner - first, lanes)
            (y + (outer * inner + first)).store(0, best[1].to(made), mask=mask)
        return fn.ir()
