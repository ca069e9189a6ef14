"""SVDF steps: features of a panel at a time, then a memory row a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i8, i16, i32, i64
from litejit.kernels import requantize
from litejit.kernels.base import KernelSpec
from litejit.kernels.rnn_f32 import Source, activate, products
from litejit.kernels.rnn_int8 import dots

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

MOST_TIMES = 64  # entries of a memory row, which is held in registers


def _remember(memory: Pointer, row: Value, times: int, feature: Value) -> Value:
    """Move a memory row by one place, take in the feature; returns the row."""
    entries = feature
    if times > 1:
        old = memory.load(row * times, lanes=times)
        entries = old.shuffle(range(1, times + 1), feature.splat(times))
    memory.store(row * times, entries)
    return entries


class SVDFInt8(KernelSpec):
    """LiteRT's integer SVDF, bit for bit.

    Arguments: x, y, memory, weights, starts (int32; packed by `pack_gates`, `pack_vectors`),
    constants (blocks of `requantize`: feature, output), time, bias (int32, padded to a
    register), scratch, stride, inputs, groups, panels, units, zero. A work item is a batch.
    Thread `worker` owns the scratch from worker * stride bytes on: int32 of all panels, then of
    all units. `times` is at most MOST_TIMES; memory and time weights have `bits` bits; `zero` is
    the zero point of the memory.
    """

    vectors: int
    rank: int
    times: int
    bits: int
    form: str
    output_form: str

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        entry = i16 if self.bits == 16 else i8
        fn = Function(
            name, isa, x=Ptr(i8), y=Ptr(i8), memory=Ptr(entry), weights=Ptr(i8), starts=Ptr(i32),
            constants=Ptr(i8), time=Ptr(entry), bias=Ptr(i32), scratch=Ptr(i8), stride=i64,
            inputs=i64, groups=i64, panels=i64, units=i64, zero=i64,
        )  # fmt: skip
        x, y, memory, weights, starts, constants, time, bias, scratch, stride = fn.args[:10]
        inputs, groups, panels, units, zero = fn.args[10:]
        lanes = isa.lanes(i32)
        features = (scratch + fn.worker * stride).cast(i32)
        totals = features + panels * (lanes * self.vectors)
        with fn.loop(fn.end, start=fn.begin) as batch:
            source = x + batch * inputs
            with fn.loop(panels) as p:
                packed = weights + p * groups * (4 * lanes * self.vectors)
                self._features(fn, source, packed, starts, constants, features, groups, p)
            rows = memory + batch * units * (self.rank * self.times)
            with fn.loop(units) as unit:
                totals[unit] = self._unit(rows, time, features, zero.to(i32), unit)
            made = constants + requantize.nbytes(self.form, lanes)
            with fn.loop(units, step=lanes) as at:
                sums = totals.load(at, lanes=lanes) + bias.load(at, lanes=lanes)
                sums = sums + fn.const(
                    _signed(requantize.input_offset(self.output_form)), sums.type
                )
                c = requantize.load(self.output_form, made, lanes)
                out = requantize.apply(self.output_form, isa, sums, c)
                mask = fn.first(units - at, lanes)
                (y + batch * units).store(at, requantize.narrow(out, unsigned=False), mask=mask)
        return fn.ir()

    def _features(
        self, fn: Function, source: Pointer, packed: Pointer, starts: Pointer,
        constants: Pointer, features: Pointer, groups: Value, p: Value,
    ) -> None:  # fmt: skip
        lanes = fn.isa.lanes(i32)
        first = p * (lanes * self.vectors)
        begin = [
            starts.load(first + j * lanes, lanes=lanes, align=4 * lanes)
            for j in range(self.vectors)
        ]
        limit = 1 << (self.bits - 1)
        for j, sums in enumerate(dots(fn, source, packed, groups, begin)):
            c = requantize.load(self.form, constants, lanes)
            scaled = requantize.apply(self.form, fn.isa, sums, c)
            kept = fn.minimum(fn.maximum(scaled, -limit), limit - 1)
            features.store(first + j * lanes, kept)

    def _unit(
        self, rows: Pointer, time: Pointer, features: Pointer, zero: Value, unit: Value
    ) -> Value:
        total = rows.fn.const(0, i32)
        for r in range(self.rank):
            row = unit * self.rank + r
            feature = (features.load(row) + zero).to(rows.element)
            entries = _remember(rows, row, self.times, feature)
            weights = time.load(row * self.times, lanes=self.times)
            product = (entries.to(i32) - zero.splat(self.times)) * weights.to(i32)
            total = total + (rows.fn.reduce("add", product) if self.times > 1 else product)
        return total


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


class SVDFF32(KernelSpec):
    """SVDF of floats.

    `hybrid` ("symmetric", "asymmetric"): weights are int8, packed by `pack_gates`, and rows of x
    become int8 before they meet them.

    Arguments: x, y, memory, weights (packed by `pack_gates_f32`), time, bias (padded to a
    register), sums (int32: the weights' row sums, packed by `pack_vectors`), scratch, stride,
    inputs, panels, units, and the weights' scale. A work item is a batch. The scratch is that of
    SVDFInt8, of floats, behind whole cache lines for the bytes of x.
    """

    vectors: int
    rank: int
    times: int
    activation: str
    hybrid: str = ""

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(
            name, isa, x=Ptr(f32), y=Ptr(f32), memory=Ptr(f32), weights=Ptr(f32), time=Ptr(f32),
            bias=Ptr(f32), sums=Ptr(i32), scratch=Ptr(i8), stride=i64, inputs=i64, panels=i64,
            units=i64, scale=f32,
        )  # fmt: skip
        x, y, memory, weights, time, bias, row_sums, scratch, stride, inputs, panels = fn.args[:11]
        units, scale = fn.args[11:]
        lanes = isa.lanes(f32)
        width = lanes * self.vectors
        own = scratch + fn.worker * stride
        features = (own + (inputs + 63) / 64 * 64).cast(f32)
        totals = features + panels * width
        with fn.loop(fn.end, start=fn.begin) as batch:
            source = Source(x + batch * inputs, "weights", "inputs", 0)
            if self.hybrid:
                source.quantize(fn, self.hybrid, inputs, own)
            with fn.loop(panels) as p:
                values = self._features(fn, source, weights, row_sums + p * width, inputs, scale, p)
                for j, value in enumerate(values):
                    features.store(p * width + j * lanes, value)
            rows = memory + batch * units * (self.rank * self.times)
            with fn.loop(units) as unit:
                totals[unit] = self._unit(rows, time, features, unit)
            with fn.loop(units, step=lanes) as at:
                value = totals.load(at, lanes=lanes) + bias.load(at, lanes=lanes)
                mask = fn.first(units - at, lanes)
                (y + batch * units).store(at, activate(value, self.activation), mask=mask)
        return fn.ir()

    def _features(
        self, fn: Function, source: Source, weights: Pointer, row_sums: Pointer, inputs: Value,
        scale: Value, p: Value,
    ) -> list[Value]:  # fmt: skip
        lanes = fn.isa.lanes(f32)
        if source.scale is None or source.zero is None:
            zeros = [fn.const(0.0, f32 * lanes)] * self.vectors
            packed = weights + p * inputs * (lanes * self.vectors)
            return products(fn, source.row, packed, inputs, zeros)
        groups = (inputs + 3) / 4
        packed = weights.cast(i8) + p * groups * (4 * lanes * self.vectors)
        none = [fn.const(0, i32 * lanes)] * self.vectors
        zero, factor = source.zero.splat(lanes), (source.scale * scale).splat(lanes)
        return [
            (raw - row_sums.load(j * lanes, lanes=lanes) * zero).to(f32) * factor
            for j, raw in enumerate(dots(fn, source.row, packed, groups, none, moved=True))
        ]

    def _unit(self, rows: Pointer, time: Pointer, features: Pointer, unit: Value) -> Value:
        total = rows.fn.const(0.0, f32)
        for r in range(self.rank):
            row = unit * self.rank + r
            entries = _remember(rows, row, self.times, features.load(row))
            product = entries * time.load(row * self.times, lanes=self.times)
            total = total + (rows.fn.reduce("add", product) if self.times > 1 else product)
        return total
