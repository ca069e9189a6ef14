"""Average and maximum over windows: a row of windows is combined downwards, then across.

Downwards all columns and channels of the image's rows are one long vector, so that small channel
counts cost nothing; the combined row lies in scratch memory. Across, every output pixel combines
its columns, a register of channels at a time. What a register holds behind the last channel
falls on the next pixel, which is written later; the last store of a row is masked. Neighbours
whose windows lie inside a line are one long vector again.
"""

from __future__ import annotations

from typing import Any

from litejit.codegen import math as functions
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, f64, i32, i64, u8
from litejit.kernels.base import KernelSpec, type_of
from litejit.types import DType

UNROLL = 4
FLOAT_MIN = -3.4028234663852886e38


class PoolSpec(KernelSpec):
    """`what`: "mean", "max", or "l2" (root of the mean of squares) of FLOAT32.

    `dtype`: FLOAT32, INT8, UINT8 or INT16, of x and y.

    Work items: rows of the output, batch * out_h. Arguments: x, y, scratch row, its bytes,
    in_h, in_w, channels, out_h, out_w, filter_h, filter_w, stride_h, stride_w, top, left, and
    the limits that the result is clamped to. Integer means round half away from zero. Windows
    must hold a cell of the image each; the scratch row has in_w * channels + 4 registers' worth
    of 4-byte elements.
    """

    what: str
    dtype: DType

    def emit(self, name: str, isa: Isa) -> str:
        """A loop over output rows."""
        element, wide = type_of(self.dtype), _wide(self)
        limit = f32 if element.is_float else i64
        fn = Function(
            name, isa, x=Ptr(element), y=Ptr(element), row=Ptr(wide), row_bytes=i64,
            in_h=i64, in_w=i64, channels=i64, out_h=i64, out_w=i64, filter_h=i64, filter_w=i64,
            stride_h=i64, stride_w=i64, top=i64, left=i64, low=limit, high=limit,
        )  # fmt: skip
        x, y, scratch, row_bytes, in_h, in_w, channels, out_h, out_w, *rest = fn.args
        filter_h, filter_w, stride_h, stride_w, top, left, low, high = rest
        row = (scratch.cast(u8) + fn.worker * row_bytes).cast(wide)
        length = in_w * channels
        with fn.loop(fn.end, start=fn.begin) as item:
            image, i = item / out_h, item % out_h
            first, stop = _clipped(fn, i * stride_h - top, filter_h, in_h)
            source = x + (image * in_h + first) * length
            _combine_down(self, fn, source, stop - first, length, row)
            target = y + item * out_w * channels
            near, far = _neighbours(fn, stride_w, left, filter_w, in_w, out_w)
            with fn.loop(near + out_w - far) as number:  # what hangs over an edge, or steps
                j = (number < near).choose(number, number - near + far)
                start, end = _clipped(fn, j * stride_w - left, filter_w, in_w)
                finish = _Finish(self, fn, (stop - first) * (end - start), low, high)
                _combine_across(
                    self, fn, row, (start, end), channels, target + j * channels,
                    (out_w - j) * channels, finish,
                )  # fmt: skip
            finish = _Finish(self, fn, (stop - first) * filter_w, low, high)
            cells, places = row + (0 - left * channels), (near * channels, far * channels)
            _combine_flat(self, fn, cells, places, filter_w, channels, target, finish)
        return fn.ir()


def _wide(spec: PoolSpec) -> Type:
    """The type that is combined: sums of integers need 32 bits."""
    element = type_of(spec.dtype)
    return i32 if spec.what != "max" and not element.is_float else element


def row_lanes(spec: PoolSpec, isa: Isa) -> int:
    """Elements that the kernel handles at a time."""
    return isa.lanes(_wide(spec))


def _clipped(fn: Function, first: Value, count: Value, size: Value) -> tuple[Value, Value]:
    return fn.maximum(first, 0), fn.minimum(first + count, size)


def _start(spec: PoolSpec, fn: Function, lanes: int) -> Value:
    """What combining starts from."""
    wide = _wide(spec)
    if spec.what != "max":
        return fn.const(0.0 if wide.is_float else 0, wide * lanes)
    if wide.is_float:
        return fn.const(FLOAT_MIN, wide * lanes)
    return fn.const(0 if wide.kind == "u" else -(1 << (wide.bits - 1)), wide * lanes)


def _combined(spec: PoolSpec, fn: Function, acc: Value, value: Value) -> Value:
    if spec.what != "max":
        return acc + value
    if acc.type.is_float:  # one instruction on x86; a NaN is left out
        return (value > acc).choose(value, acc)
    return fn.maximum(acc, value)


def _combine_down(
    spec: PoolSpec, fn: Function, source: Pointer, rows: Value, length: Value, row: Pointer
) -> None:  # fmt: skip
    """row[f] = combination of source[r * length + f] over r, for f < length (and some more)."""
    lanes, wide = row_lanes(spec, fn.isa), _wide(spec)

    def block(f: Value, count: int) -> None:
        acc = [_start(spec, fn, lanes) for _ in range(count)]
        with fn.loop(rows, carry=acc, nonempty=True) as r:
            line = source + (r * length + f)
            for k in range(count):
                value = line.load(k * lanes, lanes=lanes).to(wide)
                value = value * value if spec.what == "l2" else value
                acc[k] = _combined(spec, fn, acc[k], value)
        for k in range(count):
            row.store(f + k * lanes, acc[k])

    step = lanes * UNROLL
    whole = length / step * step
    with fn.loop(whole, step=step) as f:
        block(f, UNROLL)
    with fn.loop(length, start=whole, step=lanes) as f:
        block(f, 1)


def _neighbours(
    fn: Function, stride: Value, left: Value, filter: Value, size: Value, out: Value
) -> tuple[Value, Value]:  # fmt: skip
    """The windows of neighbours that lie inside a line: first and end; none where windows step."""
    first = fn.minimum(left, out)
    stop = fn.maximum(fn.minimum(size - filter + left + 1, out), first)
    near = stride.equals(1)
    return near.choose(first, 0), near.choose(stop, 0)


def _combine_flat(
    spec: PoolSpec, fn: Function, row: Pointer, places: tuple[Value, Value], filter: Value,
    channels: Value, target: Pointer, finish: _Finish,
) -> None:  # fmt: skip
    """target[f] = finish(combination of row[f + x * channels] over x < filter), f in `places`."""
    lanes = row_lanes(spec, fn.isa)
    first, stop = places

    def combined(f: Value) -> Value:
        acc = [_start(spec, fn, lanes)]
        with fn.loop(filter, carry=acc, nonempty=True) as x:
            acc[0] = _combined(spec, fn, acc[0], row.load(x * channels + f, lanes=lanes))
        return finish(acc[0])

    whole = first + (stop - first) / lanes * lanes
    with fn.loop(whole, start=first, step=lanes) as f:
        target.store(f, combined(f))
    with fn.when(whole < stop):
        target.store(whole, combined(whole), mask=fn.first(stop - whole, lanes))


def _combine_across(
    spec: PoolSpec, fn: Function, row: Pointer, cells: tuple[Value, Value], channels: Value,
    target: Pointer, room: Value, finish: Any,
) -> None:  # fmt: skip
    """target[c] = finish(combination of row[x * channels + c] over cells x), for all channels.

    `room` is how many elements may be written from `target` on.
    """
    lanes = row_lanes(spec, fn.isa)
    first, stop = cells
    with fn.loop(channels, step=lanes, nonempty=True) as c:
        acc = [_start(spec, fn, lanes)]
        with fn.loop(stop, start=first, carry=acc, nonempty=True) as x:
            value = row.load(x * channels + c, lanes=lanes)
            acc[0] = _combined(spec, fn, acc[0], value)
        result = finish(acc[0])
        left = room - c
        with fn.when(left >= lanes):
            target.store(c, result)
        with fn.when(left < lanes):
            target.store(c, result, mask=fn.first(left, lanes))


class _Finish:
    """Turns combined values into results: divides by `count`, clamps, narrows."""

    def __init__(self, spec: PoolSpec, fn: Function, count: Value, low: Value, high: Value) -> None:
        self.spec, self.fn, self.low, self.high = spec, fn, low, high
        self.element = type_of(spec.dtype)
        if spec.what != "max":
            self.count = count.to(i32)
            self.float_count = count.to(f32)
            self.per = fn.const(1.0, f32) / self.float_count

    def __call__(self, acc: Value) -> Value:
        fn, lanes = self.fn, acc.type.lanes
        if self.element.is_float:
            if self.spec.what != "max" and fn.isa.in_order:
                acc = acc / self.float_count.splat(lanes)
            elif self.spec.what != "max":
                acc = acc * self.per.splat(lanes)
            if self.spec.what == "l2":
                acc = fn.sqrt(acc)
            low, high = self.low.splat(lanes), self.high.splat(lanes)
            acc = (acc < low).choose(low, acc)  # NaN stays
            return (acc > high).choose(high, acc)
        if self.spec.what == "mean":
            acc = self._mean(acc)
        scalar = acc.type.scalar
        low, high = self.low.to(scalar).splat(lanes), self.high.to(scalar).splat(lanes)
        return fn.minimum(fn.maximum(acc, low), high).to(self.element)

    def _mean(self, acc: Value) -> Value:
        """acc / count, ties away from zero: by the reciprocal, then corrected by at most one."""
        fn, lanes = self.fn, acc.type.lanes
        count = self.count.splat(lanes)
        total = fn.absolute(acc) + (count >> 1)
        guess = (total.to(f32) * self.per.splat(lanes)).to(i32)
        rest = total - guess * count
        guess = guess + (rest >= count).to(i32) - (rest < 0).to(i32)
        return (acc < 0).choose(-guess, guess)


class NeighboursF32(KernelSpec):
    """y[c] = x[c] * (bias + alpha * sum of x[k]**2 for |k - c| <= radius) ** power, in rows of n.

    Arguments: x, y, channels (int32: 0 ... n - 1, over and over, for a vector more than n), size,
    n, radius (below n), alpha, bias, power. A work item is a vector of all elements, whatever rows
    they are of. Sums and the base are float64: the base may be the small rest of large numbers.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, x=Ptr(f32), y=Ptr(f32), channels=Ptr(i32), size=i64, n=i64,
                      radius=i64, alpha=f32, bias=f32, power=f32)  # fmt: skip
        x, y, channels, size, n, radius, alpha, bias, power = fn.args
        lanes = isa.lanes(f64)
        width = n.to(i32).splat(lanes)
        alpha, bias = (number.to(f64).splat(lanes) for number in (alpha, bias))
        with fn.loop(fn.end, start=fn.begin) as item:
            at = item * lanes
            own = channels.load(at % n, lanes=lanes)
            mask = fn.first(size - at, lanes)
            total = [fn.const(0.0, f64 * lanes)]
            with fn.loop(radius + 1, start=0 - radius, carry=total) as offset:
                places = own + offset.to(i32).splat(lanes)
                inside = (places >= 0) & (places < width) & mask
                near = x.load(at + offset, lanes=lanes, mask=inside)
                total[0] = total[0] + (near * near).to(f64)
            base = (bias + alpha * total[0]).to(f32)
            result = x.load(at, lanes=lanes) * functions.power(base, power.splat(lanes))
            y.store(at, result, mask=mask)
        return fn.ir()
