"""Layers of int16 data and int8 weights: sums of products become int16 again.

`Rescaling16` is an epilogue of kernels/conv_int8 (which multiplies pairs of int16 where it is told
so) and of `Depthwise16Spec`. Sums of one accumulator fit int32; several of them, and the bias, are
added in int64. `form` says what follows, exactly as ops/fixedpoint.py has it:

- "reduced": times a multiplier of 15 bits, one rounding, ties up (sums with an int64 bias);
- "wide": cut to int32, then kernels/requantize's form of that name (two roundings);
- "double": times a float64 factor, ties away from zero; `wraps` cuts to int32 before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f64, i8, i16, i32, i64
from litejit.kernels import requantize
from litejit.kernels.base import KernelSpec
from litejit.kernels.requantize import halves, join
from litejit.record import Record
from litejit.types import Array

_BELOW_HALF = 0.49999999999999994
_LIMIT = float(1 << 30)


class Rescaling16(Record):
    """What follows the sums; `narrow` is the number of channels where they fill no vector."""

    form: str
    wraps: bool = False
    narrow: int = 0

    def emitter(
        self, fn: Function, isa: Isa, common: Pointer, other: Pointer, table: Pointer
    ) -> Emitter16:
        """`common` holds the activation's bounds, two int32."""
        return Emitter16(self, fn, isa, common)


def channel_constants(form: str, lanes: int, bias: Array, multiplier: Array, shift: Array) -> Array:
    """One uint8 row a vector of channels: int64 biases, then multipliers and shifts or factors.

    "reduced" takes the reduced multiplier and the whole right shift, "double" float64 factors.
    """
    parts = [bias.astype(np.int64)]
    if form == "reduced":
        parts += [multiplier.astype(np.int64), shift.astype(np.int64)]
    elif form == "double":
        parts += [multiplier.astype(np.float64)]
    rows = [np.ascontiguousarray(part).reshape(-1, lanes).view(np.uint8) for part in parts]
    if form == "wide":
        rows.append(requantize.constants("wide", lanes, multiplier, shift, 0))
    return np.concatenate(rows, axis=1)


class Emitter16:
    """A Rescaling16 inside a kernel; offsets count elements of y."""

    def __init__(self, made: Rescaling16, fn: Function, isa: Isa, limits: Pointer) -> None:
        self.made, self.fn, self.isa, self.lanes = made, fn, isa, isa.lanes(i32)
        self._limits = limits.cast(i32)
        wide = requantize.nbytes("wide", self.lanes)
        self._after = {"reduced": 16 * self.lanes, "double": 8 * self.lanes, "wide": wide}
        self.block = 8 * self.lanes + self._after[made.form]

    def bias(self, at: Pointer) -> Value:
        """Sums start at 0: the bias has more bits."""
        return self.fn.const(0, i32 * self.lanes)

    def load(self, at: Pointer) -> list[Value]:
        """Constants of the channels whose block is at `at`: biases first, in halves."""
        half, row = self.lanes // 2, 4 * self.lanes
        count = {"reduced": 6, "double": 4, "wide": 2}[self.made.form]
        kinds = [i64] * count if self.made.form != "double" else [i64, i64, f64, f64]
        loaded = [
            (at + j * row).cast(kind).load(lanes=half, align=row) for j, kind in enumerate(kinds)
        ]
        if self.made.form == "wide":
            loaded += requantize.load("wide", at + 2 * row, self.lanes)
        return loaded

    def begin_rows(self, rows: list[Value]) -> None:
        """The rows whose sums `store` will get; they do not matter here."""

    def total(self, parts: list[Value]) -> list[Value]:
        """The sum of int32 vectors as int64, in halves."""
        wide = [part.to(i64) for part in halves(parts[0])]
        for other in parts[1:]:
            wide = [a + b.to(i64) for a, b in zip(wide, halves(other), strict=True)]
        return wide

    def store(
        self, y: Pointer, accs: Iterable[Any], offsets: Iterable[Value], c: list[Value]
    ) -> None:
        """Finish what `total` made; result j goes to y + offset j."""
        fn, lanes = self.fn, self.lanes
        low, high = (self._limits.load(j).splat(lanes) for j in (0, 1))
        mask = None
        if self.made.narrow:
            mask = fn.first(fn.const(self.made.narrow, i64), lanes)
        for acc, offset in zip(accs, offsets, strict=True):
            sums = [a + bias for a, bias in zip(acc, c[:2], strict=True)]
            q = fn.minimum(fn.maximum(self._rescale(sums, c[2:]), low), high)
            y.cast(i16).store(offset, q.to(i16), mask=mask)

    def _rescale(self, sums: list[Value], c: list[Value]) -> Value:
        form = self.made.form
        if form == "wide":
            return requantize.apply("wide", self.isa, join(*(s.to(i32) for s in sums)), c)
        if form == "reduced":
            moved = []
            for s, m, shift in zip(sums, c[:2], c[2:], strict=True):
                half = self.fn.const(1, shift.type) << (shift - 1)
                moved.append(((s * m + half) >> shift).to(i32))
            return join(*moved)
        if self.made.wraps:
            sums = [s.to(i32).to(i64) for s in sums]
        return join(*(self._rounded(s.to(f64) * k) for s, k in zip(sums, c, strict=True)))

    def _rounded(self, x: Value) -> Value:
        kept = self.fn.minimum(self.fn.maximum(x, -_LIMIT), _LIMIT)
        return (kept + self.fn.copysign(self.fn.const(_BELOW_HALF, kept.type), kept)).to(i32)


class Product16Spec(KernelSpec):
    """y[b, m, n] = epilogue(sum over k of x[b, m, k] * w[b, k, n]), summed in int64.

    x and y are int16, w too, or int8 where `byte_weights`. Arguments: x, w, channels, common, y,
    rows, depth, columns, elements of x from row to row, from k to k and from matrix to matrix, of
    w from matrix to matrix, bytes of `channels` from vector to vector of columns (0: all have the
    same). An item is a tile of rows and a vector of columns, columns being the inner, matrices the
    outer order; the last vector overlaps the one before.
    """

    epilogue: Rescaling16
    byte_weights: bool = False
    rows: int = 4

    def emit(self, name: str, isa: Isa) -> str:
        """A product of two int16 fits int32; sums take 64 bits."""
        words = ("rows", "depth", "columns", "x_row", "x_k", "x_step", "w_step", "block_step")
        fn = Function(
            name, isa, x=Ptr(i16), w=Ptr(i8 if self.byte_weights else i16), channels=Ptr(i8),
            common=Ptr(i8), y=Ptr(i16), **dict.fromkeys(words, i64),
        )  # fmt: skip
        x, w, channels, common, y, *sizes = fn.args
        rows, depth, columns, x_row, x_k, x_step, w_step, block_step = sizes
        finish = self.epilogue.emitter(fn, isa, common, x, x)
        lanes = isa.lanes(i32)
        blocks = (columns + (lanes - 1)) / lanes
        each = (rows + (self.rows - 1)) / self.rows * blocks
        zero = fn.const(0, i64 * (lanes // 2))
        with fn.loop(fn.end, start=fn.begin) as item:
            matrix, place = item / each, item % each
            block = place % blocks
            column = fn.minimum(block * lanes, fn.maximum(columns - lanes, 0))
            first = place / blocks * self.rows
            index = [fn.minimum(first + r, rows - 1) for r in range(self.rows)]
            lines = [x + matrix * x_step + row * x_row for row in index]
            panel = w + matrix * w_step + column
            sums = [[zero, zero] for _ in index]
            with fn.loop(depth, carry=sums) as k:
                weights = (panel + k * columns).load(lanes=lanes).to(i32)
                for line, total in zip(lines, sums, strict=True):
                    products = halves(line[k * x_k].to(i32).splat(lanes) * weights)
                    total[:] = [a + b.to(i64) for a, b in zip(total, products, strict=True)]
            offsets = [(matrix * rows + row) * columns + column for row in index]
            finish.store(y, sums, offsets, finish.load(channels + block * block_step))
        return fn.ir()


_SHAPE = (
    *("height", "width", "depth", "out_height", "out_width", "taps_y", "taps_x"),
    *("step_y", "step_x", "stride_y", "stride_x", "pad_y", "pad_x"),
)


class Depthwise16Spec(KernelSpec):
    """Depthwise convolution, one output channel for each input channel.

    Arguments: x, weights (int16 [taps_y, taps_x, channels]), channels, common, y, then sizes in
    elements. An item is an output row of an image. Taps outside the image are left out; the last
    block of channels overlaps the one before.
    """

    epilogue: Rescaling16

    def emit(self, name: str, isa: Isa) -> str:
        """Pixel by pixel, block by block."""
        kinds: dict[str, Any] = {n: Ptr(i16) for n in ("x", "weights", "y")}
        kinds.update(channels=Ptr(i8), common=Ptr(i8), **dict.fromkeys(_SHAPE, i64))
        fn = Function(name, isa, **kinds)
        arg: dict[str, Any] = dict(zip(kinds, fn.args, strict=True))
        finish = self.epilogue.emitter(fn, isa, arg["common"], arg["x"], arg["x"])
        lanes, depth = isa.lanes(i32), arg["depth"]
        blocks = (depth + (lanes - 1)) / lanes
        last, start = fn.maximum(depth - lanes, 0), arg["x"]
        with fn.loop(fn.end, start=fn.begin) as row:
            image = row / arg["out_height"]
            arg["x"] = start + image * (arg["height"] * arg["width"] * depth)
            top = (row - image * arg["out_height"]) * arg["stride_y"] - arg["pad_y"]
            ys = _inside(fn, top, arg["step_y"], arg["height"], arg["taps_y"])
            with fn.loop(arg["out_width"]) as column:
                left = column * arg["stride_x"] - arg["pad_x"]
                xs = _inside(fn, left, arg["step_x"], arg["width"], arg["taps_x"])
                with fn.loop(blocks) as block:
                    channel = fn.minimum(block * lanes, last)
                    acc = self._sum(fn, arg, (top, *ys), (left, *xs), channel, lanes)
                    at = arg["channels"] + block * finish.block
                    offset = (row * arg["out_width"] + column) * depth + channel
                    finish.store(arg["y"], [finish.total([acc])], [offset], finish.load(at))
        return fn.ir()

    @staticmethod
    def _sum(
        fn: Function, arg: dict[str, Any], ys: tuple[Value, ...], xs: tuple[Value, ...],
        channel: Value, lanes: int,
    ) -> Value:  # fmt: skip
        """The products of one block at one pixel; ys, xs: (first cell, first tap, end)."""
        total = [fn.const(0, i32 * lanes)]
        with fn.loop(ys[2], start=ys[1], carry=total) as ky:
            line = (ys[0] + ky * arg["step_y"]) * arg["width"]
            with fn.loop(xs[2], start=xs[1], carry=total) as kx:
                cell = line + xs[0] + kx * arg["step_x"]
                data = (arg["x"] + cell * arg["depth"] + channel).load(lanes=lanes).to(i32)
                tap = (ky * arg["taps_x"] + kx) * arg["depth"] + channel
                total[0] = total[0] + data * (arg["weights"] + tap).load(lanes=lanes).to(i32)
        return total[0]


def _inside(
    fn: Function, first: Value, step: Value, size: Value, taps: Value
) -> tuple[Value, Value]:  # fmt: skip
    """The first tap that lies inside, and the end of those that do."""
    zero = fn.const(0, i64)
    start = fn.maximum(zero - first + (step - 1), 0) / step
    stop = fn.maximum(size - first + (step - 1), 0) / step
    return start, fn.minimum(stop, taps)
