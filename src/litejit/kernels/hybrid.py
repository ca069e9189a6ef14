"""Dynamic-range layers: float data becomes bytes, sums of byte products become floats again.

`QuantizeRowsSpec` gives every row a scale of its own. An image is quantized by two kernels, so
that many threads share it: `RangeSpec` finds the extremes of its pieces, `QuantizeImageSpec`
joins them (every call anew) and makes the bytes. Each writes `Parameters`: the float32 scale and
the int32 zero point, 8 bytes a row or image. Bytes are as the ISA's dot product wants them: where
it takes unsigned ones, 128 is added to values and zero points alike.

`Rescaling` is an epilogue of kernels/conv_int8 and kernels/depthwise_int8: it takes away zero
point * (sum of weights) and turns int32 into float32. Bit for bit as ops/hybrid.py has it; NaN and
infinities in a row make its scale so, and its values 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from litejit.codegen import math
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, f64, i1, i8, i32, i64
from litejit.kernels import epilogue_f32
from litejit.kernels.base import KernelSpec
from litejit.record import Record
from litejit.types import Array

PARAMETER_BYTES = 8
PARTIAL_BYTES = 16  # of RangeSpec: lowest, highest, largest bits without the sign
_BELOW_HALF = 0.49999997  # trunc(x + this, with x's sign) rounds halves away from zero
_BELOW_HALF64 = 0.49999999999999994
_INFINITY_BITS = 0x7F800000
_NAN = float("nan")


class Quantizer:
    """Ranges, scales and bytes, inside a kernel."""

    def __init__(self, fn: Function, isa: Isa, *, symmetric: bool) -> None:
        self.fn, self.isa, self.symmetric = fn, isa, symmetric
        self.lanes = isa.lanes(f32)
        self.moved = 128 if isa.dot_is_unsigned else 0

    def extremes(self, x: Pointer, count: Value) -> list[Value]:
        """[lowest, highest, largest bits] of `count` floats and 0; the first two skip NaN."""
        fn, lanes = self.fn, self.lanes
        zero = fn.const(0.0, f32 * lanes)
        none = fn.const(0, i32 * lanes) if self.symmetric else fn.const(0, i1 * lanes)
        chains = [[zero, zero, none] for _ in range(4)]
        step = lanes * len(chains)
        blocks = count / step * step
        with fn.loop(blocks, step=step, carry=chains) as i:
            for j, chain in enumerate(chains):
                self._widen(chain, x.load(i + j * lanes, lanes=lanes))
        rest = chains[0]
        with fn.loop(count, start=blocks, step=lanes, carry=rest) as i:
            value = x.load(i, lanes=lanes)
            self._widen(rest, fn.first(count - i, lanes).choose(value, 0.0))
        for chain in chains[1:]:
            self._merge(rest, chain)
        return self._across(*rest)

    def _widen(self, chain: list[Value], value: Value) -> None:
        if self.symmetric:
            bits = value.bitcast(i32 * self.lanes) & 0x7FFFFFFF
            chain[2] = self.fn.maximum(chain[2], bits)
        else:
            self._merge(chain, [value, value, value.differs(value)])

    def _merge(self, chain: list[Value], other: list[Value]) -> None:
        """Extremes of both; a NaN of `other` is skipped. The third are bits, or lanes of NaN."""
        if self.symmetric:
            chain[2] = self.fn.maximum(chain[2], other[2])
            return
        chain[0] = (other[0] < chain[0]).choose(other[0], chain[0])
        chain[1] = (other[1] > chain[1]).choose(other[1], chain[1])
        chain[2] = chain[2] | other[2]

    def join(self, chain: list[Value], other: list[Value]) -> None:
        """Extremes of both, scalars; a NaN of `other` is skipped."""
        chain[0] = (other[0] < chain[0]).choose(other[0], chain[0])
        chain[1] = (other[1] > chain[1]).choose(other[1], chain[1])
        chain[2] = self.fn.maximum(chain[2], other[2])

    def _across(self, low: Value, high: Value, third: Value) -> list[Value]:
        """One vector's lanes joined; the lowest and the highest fold side by side."""
        fn, half = self.fn, self.lanes // 2
        if self.symmetric:
            return [fn.const(0.0, f32), fn.const(0.0, f32), fn.reduce("max", third)]
        order = range(self.lanes)
        sides = [[x.shuffle(order[:half]), x.shuffle(order[half:])] for x in (-low, high)]
        folded = [(a > b).choose(a, b) for a, b in sides]
        both = folded[0].shuffle(order, folded[1])
        while half > 1:
            half //= 2
            ahead = [j ^ half for j in order]
            other = both.shuffle(ahead)
            both = (other > both).choose(other, both)
        nan = third.bitcast(Type("i", self.lanes)).differs(0)
        bits = nan.choose(fn.const(0x7FFFFFFF, i32), 0)
        return [-both.lane(0), both.lane(self.lanes - 1), bits]

    def parameters(self, extremes: list[Value]) -> list[Value]:
        """[scale, factor, zero point as float32], scalars."""
        if self.symmetric:
            reach = extremes[2].bitcast(f32)
            still, fn = reach.equals(0.0), self.fn
            scale = still.choose(fn.const(1.0, f32), reach / 127.0)
            factor = fn.const(127.0, f32) / still.choose(fn.const(1.0, f32), reach)
            return [scale, still.choose(fn.const(0.0, f32), factor), fn.const(0.0, f32)]
        return self._asymmetric(*extremes)

    def _asymmetric(self, low: Value, high: Value, bits: Value) -> list[Value]:
        scale, zero = self.asymmetric(self.known(low, bits), high)
        return [scale, self.fn.const(1.0, f32) / scale, zero.to(f32)]

    def known(self, low: Value, bits: Value) -> Value:
        """The lowest value, or NaN where there was one."""
        return (bits > _INFINITY_BITS).choose(self.fn.const(_NAN, f32), low)

    def asymmetric(self, low: Value, high: Value) -> tuple[Value, Value]:
        """(scales, zero points as i32) of ranges, scalars or vectors; `low` is NaN for both."""
        fn, lanes = self.fn, low.type.lanes
        least, most = low.to(f64), high.to(f64)
        most = least.equals(least).choose(most, least)
        still = least.equals(most)
        wide = still.choose(fn.const(1.0, least.type), (high - low).to(f64) / 255.0)
        below, above = least / wide, most / wide
        nearer = fn.absolute(below) + 128.0 < fn.absolute(above) + 127.0
        edges = fn.const(-128.0, least.type) - below, fn.const(127.0, least.type) - above
        point = math.clamp(nearer.choose(*edges), -128.0, 127.0)
        point = point + fn.copysign(fn.const(_BELOW_HALF64, least.type), point)
        zero = still.choose(fn.const(0, i32 * lanes), point.saturate_to(i32))
        return wide.to(f32), zero

    def store_parameters(self, at: Pointer, made: list[Value]) -> None:
        """Scale and zero point, as the products take them."""
        at.cast(f32)[0] = made[0]
        at.cast(i32)[1] = made[2].to(i32) + self.moved

    def quantize(self, x: Pointer, q: Pointer, count: Value, made: list[Value]) -> None:
        """`count` bytes."""
        fn, lanes = self.fn, self.lanes
        factor, zero = made[1].splat(lanes), made[2].splat(lanes)
        lowest = -127.0 if self.symmetric else -128.0
        least, most = fn.const(lowest, f32 * lanes) - zero, fn.const(127.0, f32 * lanes) - zero
        added = zero.to(i32) + self.moved

        def byte(i: Value) -> Value:
            real = x.load(i, lanes=lanes) * factor
            kept = (real > least).choose(real, least)  # one instruction, whatever NaN becomes
            kept = (kept < most).choose(kept, most)
            rounded = kept + fn.copysign(fn.const(_BELOW_HALF, kept.type), kept)
            whole = real.equals(real).choose(rounded.to(i32) + added, self.moved)
            return whole.to(i8)

        step = 4 * lanes
        blocks = count / step * step
        with fn.loop(blocks, step=step) as i:
            for j in range(4):
                q.store(i + j * lanes, byte(i + j * lanes))
        whole = count / lanes * lanes
        with fn.loop(whole, start=blocks, step=lanes) as i:
            q.store(i, byte(i))
        with fn.when(whole < count):
            q.store(whole, byte(whole), mask=fn.first(count - whole, lanes))


ROWS = 16  # whose ranges are found before the scales of all are computed at once


class QuantizeRowsSpec(KernelSpec):
    """Rows of `depth` floats to bytes, and their parameters. An item is a row.

    `many`: the parameters of many rows are made together, in vectors (asymmetric only).
    """

    symmetric: bool
    many: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """Two passes over every row."""
        if self.many:
            return self._emit_many(name, isa)
        fn = Function(name, isa, x=Ptr(f32), q=Ptr(i8), parameters=Ptr(i8), depth=i64)
        x, q, parameters, depth = fn.args
        tool = Quantizer(fn, isa, symmetric=self.symmetric)
        with fn.loop(fn.end, start=fn.begin) as row:
            at = x + row * depth
            made = tool.parameters(tool.extremes(at, depth))
            tool.store_parameters(parameters + row * PARAMETER_BYTES, made)
            tool.quantize(at, q + row * depth, depth, made)
        return fn.ir()

    def _emit_many(self, name: str, isa: Isa) -> str:
        fn = Function(name, isa, x=Ptr(f32), q=Ptr(i8), parameters=Ptr(f32), depth=i64)
        x, q, parameters, depth = fn.args
        tool = Quantizer(fn, isa, symmetric=False)
        with fn.loop(fn.end, start=fn.begin, step=ROWS) as first:
            stop = fn.minimum(first + ROWS, fn.end)
            with fn.loop(stop, start=first) as row:
                low, high, bits = tool.extremes(x + row * depth, depth)
                at = parameters + row * 2
                at[0], at[1] = tool.known(low, bits), high
            _finish_ranges(fn, isa, tool, parameters, first, stop)
            with fn.loop(stop, start=first) as row:
                at = parameters + row * 2
                scale, zero = at[0], at.cast(i32)[1] - tool.moved
                made = [scale, fn.const(1.0, f32) / scale, zero.to(f32)]
                tool.quantize(x + row * depth, q + row * depth, depth, made)
        return fn.ir()


def _finish_ranges(
    fn: Function, isa: Isa, tool: Quantizer, at: Pointer, first: Value, stop: Value
) -> None:
    """(lowest, highest) of rows become (scale, zero point), where they lie."""
    lanes = isa.lanes(f32)
    with fn.loop(stop, start=first, step=lanes // 2) as row:
        pairs = (at + row * 2).load(lanes=lanes)
        low, high = (pairs.shuffle(range(j, lanes, 2)) for j in (0, 1))
        scale, zero = tool.asymmetric(low, high)
        zeros = (zero + tool.moved).bitcast(f32 * (lanes // 2))
        order = [j + half for j in range(lanes // 2) for half in (0, lanes // 2)]
        mask = fn.first((stop - row) * 2, lanes)
        (at + row * 2).store(0, scale.shuffle(order, zeros), mask=mask)


class RangeSpec(KernelSpec):
    """Extremes of pieces of `block` floats (of `count` in all). An item is a piece."""

    symmetric: bool

    def emit(self, name: str, isa: Isa) -> str:
        """One pass."""
        fn = Function(name, isa, x=Ptr(f32), partials=Ptr(f32), count=i64, block=i64)
        x, partials, count, block = fn.args
        tool = Quantizer(fn, isa, symmetric=self.symmetric)
        with fn.loop(fn.end, start=fn.begin) as item:
            start = item * block
            low, high, bits = tool.extremes(x + start, fn.minimum(block, count - start))
            at = partials + item * (PARTIAL_BYTES // 4)
            at[0], at[1] = low, high
            at.cast(i32)[2] = bits
        return fn.ir()


class QuantizeImageSpec(KernelSpec):
    """Pieces of an image to bytes, from what RangeSpec found of them. An item is a piece.

    The call with item 0 writes the parameters, and `padding` bytes of the zero point.
    """

    symmetric: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Join the ranges, then one pass."""
        fn = Function(
            name, isa, x=Ptr(f32), partials=Ptr(f32), q=Ptr(i8), parameters=Ptr(i8),
            padding=Ptr(i8), count=i64, block=i64, pieces=i64, padded=i64,
        )  # fmt: skip
        x, partials, q, parameters, padding, count, block, pieces, padded = fn.args
        tool = Quantizer(fn, isa, symmetric=self.symmetric)
        found = [fn.const(0.0, f32), fn.const(0.0, f32), fn.const(0, i32)]
        with fn.loop(pieces, carry=found) as piece:
            at = partials + piece * (PARTIAL_BYTES // 4)
            tool.join(found, [at[0], at[1], at.cast(i32)[2]])
        made = tool.parameters(found)
        with fn.when(fn.begin.equals(0)):
            tool.store_parameters(parameters, made)
            zero = (made[2].to(i32) + tool.moved).to(i8).splat(64)
            with fn.loop(padded, step=64) as i:
                padding.store(i, zero)
        with fn.loop(fn.end, start=fn.begin) as item:
            start = item * block
            length = fn.minimum(block, count - start)
            tool.quantize(x + start, q + start, length, made)
        return fn.ir()


class Rescaling(Record):
    """y = words((sum - zero point * sum of weights) * scales + bias), float32.

    `by_row`: rows have parameters of their own, else there is one set. `joined`: the scales are
    multiplied with each other first. `words` as in kernels/epilogue_f32. `narrow` is the number
    of channels where there are fewer than a vector's lanes.
    """

    by_row: bool
    joined: bool
    words: epilogue_f32.Epilogue = ()
    narrow: int = 0

    def emitter(
        self, fn: Function, isa: Isa, common: Pointer, other: Pointer, table: Pointer
    ) -> RescalingEmitter:
        """`common` holds the parameters, `other` what a fused ADD adds."""
        return RescalingEmitter(self, fn, isa, common, other)


def channel_constants(lanes: int, sums: Array, scales: Array, bias: Array) -> Array:
    """One uint8 row a vector of channels: sums of weights (int32, wrapping), scales, biases."""
    columns = ((sums.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32), scales, bias)
    rows = [
        np.ascontiguousarray(column, column.dtype if k == 0 else np.float32)
        .reshape(-1, lanes).view(np.uint8) for k, column in enumerate(columns)
    ]  # fmt: skip
    return np.concatenate(rows, axis=1)


class RescalingEmitter:
    """A Rescaling inside a kernel; offsets count elements of y."""

    def __init__(
        self, made: Rescaling, fn: Function, isa: Isa, parameters: Pointer, other: Pointer
    ) -> None:
        self.made, self.fn, self.lanes = made, fn, isa.lanes(i32)
        self.other, self._parameters = other.cast(f32), parameters
        self.block = 12 * self.lanes
        self._rows: list[Value] = []

    def bias(self, at: Pointer) -> Value:
        """Sums start at 0."""
        return self.fn.const(0, i32 * self.lanes)

    def load(self, at: Pointer) -> list[Value]:
        """Sums of weights, scales and biases of the channels whose block is at `at`."""
        lanes, size = self.lanes, 4 * self.lanes
        kinds = (i32, f32, f32)
        return [
            (at + k * size).cast(kind).load(lanes=lanes, align=size) for k, kind in enumerate(kinds)
        ]

    def begin_rows(self, rows: list[Value]) -> None:
        """The numbers of the rows whose sums `store` will get, vector after vector."""
        self._rows = rows

    def total(self, parts: list[Value]) -> Value:
        """The sum of several accumulators."""
        return sum(parts[1:], parts[0])

    def store(
        self, y: Pointer, accs: Iterable[Value], offsets: Iterable[Value], c: list[Value]
    ) -> None:
        """Finish vectors of the same channels; result j, of row j, goes to y + offset j."""
        shared = None if self.made.by_row else self._row_parameters(self._parameters, c)
        for j, (acc, offset) in enumerate(zip(accs, offsets, strict=True)):
            if shared is None:
                at = self._parameters + self._rows[j] * PARAMETER_BYTES
                self._write(y.cast(f32), offset, acc, self._row_parameters(at, c), c)
            else:
                self._write(y.cast(f32), offset, acc, shared, c)

    def _row_parameters(self, at: Pointer, c: list[Value]) -> tuple[Value, Value]:
        """(zero point * sums of weights, scale) in every lane; the scale times the channels'."""
        scale = at.cast(f32).load().splat(self.lanes)
        zero = at.cast(i32).load(1).splat(self.lanes)
        return zero * c[0], (scale * c[1] if self.made.joined else scale)

    def _write(
        self, y: Pointer, offset: Value, acc: Value, row: tuple[Value, Value], c: list[Any]
    ) -> None:
        taken, scale = row
        real = (acc - taken).to(f32)
        real = real * scale if self.made.joined else real * c[1] * scale
        result = epilogue_f32.finish(
            self.fn, self.made.words, real + c[2],
            lambda: self.other.load(offset, lanes=self.lanes),
        )  # fmt: skip
        mask = None
        if self.made.narrow:
            mask = self.fn.first(self.fn.const(self.made.narrow, i64), self.lanes)
        y.store(offset, result, mask=mask)
