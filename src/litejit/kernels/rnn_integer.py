"""The integer LSTMs in general: peepholes, layer norm, projection; 8x8_16 and 8x8_8, bit for bit.

What a step makes of its input and state lies as one row of int32 a gate in scratch memory, so
that a row may be normalized before its function is taken. The plain cell has `rnn_int8`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from litejit.codegen import math as functions
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Value,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
)
from litejit.kernels import rnn_fixed16
from litejit.kernels.base import KernelSpec
from litejit.kernels.fixedpoint import HIGH, divided_by_power, inverse_sqrt, multiplied
from litejit.kernels.memory import copy_bytes
from litejit.kernels.rnn_int8 import dots, saturate
from litejit.types import Array

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

# places among the numbers of a gate; a multiplier takes three: m, left and right shift
INPUT, RECURRENT, PEEPHOLE, NORM, MIDDLE_X, MIDDLE_H, GUARD, ZERO_X, ZERO_H, SCALE = (
    0, 3, 6, 9, 12, 15, 18, 19, 20, 21,
)  # fmt: skip
PER_GATE = 22


def multiplier(m: int, shift: int) -> tuple[int, int, int]:
    """As `multiplied` takes it."""
    return m, max(shift, 0), max(-shift, 0)


def pack_rows(gates: Sequence[Array], width: int, dtype: type) -> Array:
    """[cells] of every gate as rows padded with 0 to a multiple of `width`."""
    return np.stack([np.pad(g.astype(dtype), (0, -len(g) % width)) for g in gates])


class LSTMInteger(KernelSpec):
    """LiteRT's integer LSTM with all that it may have; `narrow` is 8x8_8.

    Arguments: x, y, h, c, weights, recurrent, start_x, start_h (as of `LSTMInt8`, without what a
    requantization adds; the bias only where there is no `norm`), numbers (int64: PER_GATE a gate,
    then the multipliers of the hidden state and of the projection, for 8x8_8 the latter's 15 bits
    and its whole shift), rows by `pack_rows`: peephole, norm (int16), bias (int32); projection
    [outputs, cells], its folded bias (int64), scratch, then numbers: stride, steps, panels,
    cells, outputs, groups_x, groups_h, x_step, x_batch, y_step, y_batch, the ranges of the cells
    and of the output, zero points of hidden state and output state. A work item is a batch.
    Scratch: int32 rows of all panels a gate, then a row of int16.
    """

    vectors: int
    input_gate: bool
    cell_bits: int
    peephole: bool = False
    norm: bool = False
    projection: bool = False
    narrow: bool = False

    _NUMBERS = (
        "stride", "steps", "panels", "cells", "outputs", "groups_x", "groups_h", "x_step",
        "x_batch", "y_step", "y_batch", "low", "high", "out_low", "out_high", "hidden_zero",
        "state_zero",
    )  # fmt: skip

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        operands = {
            "x": i8, "y": i8, "h": i8, "c": i16, "weights": i8, "recurrent": i8, "start_x": i32,
            "start_h": i32, "numbers": i64, "peephole": i16, "norm": i16, "bias": i32,
            "projection": i8, "projection_bias": i64, "scratch": i8,
        }  # fmt: skip
        fn = Function(
            name, isa, **{k: Ptr(t) for k, t in operands.items()},
            **dict.fromkeys(self._NUMBERS, i64),
        )  # fmt: skip
        p = dict(zip(operands, fn.args, strict=False))
        n = dict(zip(self._NUMBERS, fn.args[len(operands) :], strict=True))
        p["rows"] = (p["scratch"] + fn.worker * n["stride"]).cast(i32)
        n["width"] = n["panels"] * (isa.lanes(i32) * self.vectors)
        p["hidden"] = (p["rows"] + n["width"] * self._gates).cast(i16)
        with fn.loop(fn.end, start=fn.begin) as batch:
            state, p["cell"] = p["h"] + batch * n["outputs"], p["c"] + batch * n["cells"]
            with fn.loop(n["steps"]) as t:
                source = p["x"] + (batch * n["x_batch"] + t * n["x_step"])
                target = p["y"] + (batch * n["y_batch"] + t * n["y_step"])
                before = (t > 0).choose_pointer(target + (-n["y_step"]), state)
                with fn.loop(n["panels"]) as panel:
                    self._sums(fn, p, n, source, before, panel)
                for g in range(self._gates - 1):
                    self._normalize(fn, p, n, g)
                self._each(fn, n, partial(self._new_cells, p, n))
                self._normalize(fn, p, n, self._gates - 1)
                self._each(fn, n, partial(self._hidden, p, n, target))
                if self.projection:
                    self._project(fn, p, n, target)
            last = p["y"] + (batch * n["y_batch"] + (n["steps"] - 1) * n["y_step"])
            copy_bytes(fn, last, state, n["outputs"])
        return fn.ir()

    @property
    def _gates(self) -> int:
        return 4 if self.input_gate else 3

    @staticmethod
    def _each(fn: Function, n: dict[str, Value], work: Callable[[Value, Value], None]) -> None:
        """For registers of cells: their first, and which of them there are."""
        lanes = fn.isa.lanes(i32)
        with fn.loop(n["cells"], step=lanes) as at:
            work(at, fn.first(n["cells"] - at, lanes))

    def _scaled(self, p: dict[str, Pointer], x: Value, gate: int, place: int) -> Value:
        """By one of the multipliers of a gate."""
        return _by(p["numbers"] + (gate * PER_GATE + place), x)

    def _sums(
        self, fn: Function, p: dict[str, Pointer], n: dict[str, Value], source: Pointer,
        before: Pointer, panel: Value,
    ) -> None:  # fmt: skip
        """Rows of a panel: sums of both sides, scaled and added."""
        lanes, count = fn.isa.lanes(i32), self._gates * self.vectors
        sides = []
        for x, matrix, start, groups in (
            (source, "weights", "start_x", n["groups_x"]),
            (before, "recurrent", "start_h", n["groups_h"]),
        ):
            begin = [
                p[start].load((panel * count + j) * lanes, lanes=lanes, align=4 * lanes)
                for j in range(count)
            ]
            packed = p[matrix] + panel * groups * (4 * lanes * count)
            sides.append(dots(fn, x, packed, groups, begin))
        for j in range(count):
            g, v = divmod(j, self.vectors)
            at = panel * (lanes * self.vectors) + v * lanes
            total = self._joined(p, g, *(side[j].to(i64) for side in sides))
            if self.peephole and g < self._gates - 2:
                mask = fn.first(n["cells"] - at, lanes)
                total = self._seen(p, n, g, total, p["cell"].load(at, lanes=lanes, mask=mask), at)
            (p["rows"] + n["width"] * g).store(at, total.to(i32))

    def _joined(self, p: dict[str, Pointer], g: int, x: Value, h: Value) -> Value:
        """What a gate's two sums come to, in Q3.12."""
        x, h = self._scaled(p, x, g, INPUT), self._scaled(p, h, g, RECURRENT)
        if not self.narrow:
            return saturate(h + saturate(x))
        numbers, parts = p["numbers"] + g * PER_GATE, []
        for value, zero, place in ((x, ZERO_X, MIDDLE_X), (h, ZERO_H, MIDDLE_H)):
            moved = numbers[zero].splat(value.type.lanes)
            code = value.fn.minimum(value.fn.maximum(value + moved, -128), 127) - moved
            parts.append(self._scaled(p, code, g, place))
        return saturate(parts[0] + parts[1])

    def _seen(
        self, p: dict[str, Pointer], n: dict[str, Value], g: int, total: Value, c: Value, at: Value
    ) -> Value:
        """With a peephole at the cells."""
        weights = (p["peephole"] + n["width"] * g).load(at, lanes=c.type.lanes)
        product = weights.to(i32) * c.to(i32)
        return saturate(total + self._scaled(p, product.to(i64), g, PEEPHOLE))

    def _new_cells(
        self, p: dict[str, Pointer], n: dict[str, Value], at: Value, mask: Value
    ) -> None:
        fn, lanes = mask.fn, mask.type.lanes
        parts = [(p["rows"] + n["width"] * g).load(at, lanes=lanes) for g in range(self._gates)]
        f, update = self._logistic(parts[-3]), self._tanh(parts[-2], 12)
        share = self._logistic(parts[0]) if self.input_gate else -f + rnn_fixed16.ONE
        kept = rnn_fixed16.halve(f * p["cell"].load(at, lanes=lanes, mask=mask).to(i32), 15)
        new = saturate(kept + rnn_fixed16.halve(share * update, 30 + self.cell_bits))
        limits = [n[word].to(i32).splat(lanes) for word in ("low", "high")]
        new = fn.minimum(fn.maximum(new, limits[0]), limits[1]).to(i16)
        p["cell"].store(at, new, mask=mask)
        if self.peephole:
            out = self._gates - 1
            total = self._seen(p, n, out, parts[out].to(i64), new, at)
            (p["rows"] + n["width"] * out).store(at, total.to(i32))

    def _hidden(
        self, p: dict[str, Pointer], n: dict[str, Value], target: Pointer, at: Value, mask: Value
    ) -> None:
        """The output, or the row that is projected."""
        fn, lanes = mask.fn, mask.type.lanes
        c = p["cell"].load(at, lanes=lanes, mask=mask).to(i32)
        out = (p["rows"] + n["width"] * (self._gates - 1)).load(at, lanes=lanes)
        product = self._logistic(out) * self._tanh(c, -self.cell_bits)
        if self.narrow:
            p["hidden"].store(at, rnn_fixed16.halve(product, 15).to(i16))
            return
        scaled = _by(p["numbers"] + self._gates * PER_GATE, product.to(i64))
        zero = n["hidden_zero"].splat(lanes)
        code = scaled - zero if self.projection else scaled + zero
        code = fn.minimum(fn.maximum(code, -128), 127)
        if self.projection:
            p["hidden"].store(at, code.to(i16))
        else:
            target.store(at, code.to(i8), mask=mask)

    def _logistic(self, x: Value) -> Value:
        """Of Q3.12, i32 lanes."""
        return float_logistic(x) if self.narrow else rnn_fixed16.logistic(x)

    def _tanh(self, x: Value, bits: int) -> Value:
        """Of a number with `bits` behind the point."""
        return float_tanh(x, bits) if self.narrow else rnn_fixed16.tanh(x, 15 - bits)

    def _project(
        self, fn: Function, p: dict[str, Pointer], n: dict[str, Value], target: Pointer
    ) -> None:
        """Exact sums of int16 by int8, scaled."""
        lanes = fn.isa.lanes(i64)
        at = p["numbers"] + (self._gates * PER_GATE + 3)
        with fn.loop(n["outputs"]) as j:
            sums, row = [fn.const(0, i64 * lanes)], p["projection"] + j * n["cells"]
            with fn.loop(n["cells"], step=lanes, carry=sums) as k:
                a, b = (q.load(k, lanes=lanes).to(i64) for q in (p["hidden"], row))
                sums[0] = sums[0] + fn.first(n["cells"] - k, lanes).choose(a * b, 0)
            total = fn.reduce("add", sums[0]) + p["projection_bias"][j]
            if self.narrow:
                half = (fn.const(1, i64) << at[1]) >> 1
                value = ((total * at[0] + half) >> at[1]).to(i32).to(i64)
            else:
                value = _by(at, total.to(i32).to(i64))
            value = fn.minimum(fn.maximum(value + n["state_zero"], -128), 127)
            target[j] = fn.minimum(fn.maximum(value, n["out_low"]), n["out_high"]).to(i8)

    def _normalize(
        self, fn: Function, p: dict[str, Pointer], n: dict[str, Value], gate: int
    ) -> None:
        """The row of a gate, where rows are normalized."""
        if not self.norm:
            return
        row, at = p["rows"] + n["width"] * gate, p["numbers"] + gate * PER_GATE
        norm, bias = (p[word] + n["width"] * gate for word in ("norm", "bias"))
        make = _normalized_float if self.narrow else _normalized
        value_of = make(row, n["cells"], at)
        lanes = fn.isa.lanes(i32)
        with fn.loop(n["cells"], step=lanes) as k:
            value = row.load(k, lanes=lanes)
            made = value_of(value, norm.load(k, lanes=lanes), bias.load(k, lanes=lanes))
            row.store(k, saturate(made).to(i32))


def _by(at: Pointer, x: Value) -> Value:
    """x times the multiplier that lies at `at`."""
    return multiplied(x, *(at[k].splat(x.type.lanes) for k in range(3)))


Normalized: TypeAlias = "Callable[[Value, Value, Value], Value]"  # of numbers, weights and biases


def _normalized(row: Pointer, count: Value, at: Pointer) -> Normalized:
    """In integers: mean and variance in 2**-10 and 2**-20, an inverse root by Newton's steps."""
    fn = row.fn
    lanes = fn.isa.lanes(i64)
    sums = [fn.const(0, i64 * lanes)] * 2
    with fn.loop(count, step=lanes, carry=sums) as k:
        value = fn.first(count - k, lanes).choose(row.load(k, lanes=lanes), 0).to(i64)
        sums[:] = [sums[0] + value, sums[1] + value * value]
    total, squares = (fn.reduce("add", s) for s in sums)
    mean = total * 1024 / count
    variance = (squares * (fn.const(1 << 20, i64) / count) - mean * mean) / (1 << 20)
    variance = (variance >= 1).choose(variance, at[GUARD])
    m, shift = inverse_sqrt(fn.maximum(variance, 2))
    tiny = variance <= 1
    m, shift = tiny.choose(fn.const(HIGH, i64), m), tiny.choose(fn.const(0, i64), shift)

    def value_of(value: Value, weight: Value, bias: Value) -> Value:
        lanes = value.type.lanes
        centred = value.to(i64) * 1024 - mean.splat(lanes)
        scaled = multiplied(centred, m.splat(lanes), 0, (-shift).splat(lanes))
        sums = (scaled * weight.to(i64) + bias.to(i64)).to(i32).to(i64)
        return _by(at + NORM, divided_by_power(sums, 10))

    return value_of


def _normalized_float(row: Pointer, count: Value, at: Pointer) -> Normalized:
    """In float32, summed from left to right."""
    fn = row.fn
    sums = [fn.const(0.0, f32)] * 2
    with fn.loop(count, carry=sums) as k:
        value = row[k].to(f32)
        sums[:] = [sums[0] + value, sums[1] + value * value]
    mean = sums[0] / count.to(f32)
    variance = sums[1] / count.to(f32) - mean * mean
    variance = variance.equals(0.0).choose(fn.const(1e-8, f32), variance)
    inverse = fn.const(1.0, f32) / fn.sqrt(variance)
    scale = at[SCALE].bitcast(f64).to(f32)

    def value_of(value: Value, weight: Value, bias: Value) -> Value:
        lanes = value.type.lanes
        normal = (value.to(f32) - mean.splat(lanes)) * inverse.splat(lanes)
        product = normal * weight.to(f32) * scale.splat(lanes)
        wide = (product + bias.to(f32) * (scale * 2.0**-10).splat(lanes)) * 4096.0
        kept = functions.clamp(wide, -40000.0, 40000.0).to(f64)
        rounded = (kept + fn.copysign(fn.const(0.5, kept.type), kept)).saturate_to(i32)
        return kept.equals(kept).choose(rounded, -32768)

    return value_of


def float_logistic(x: Value) -> Value:
    """Of Q3.12 in float32, cut to Q0.15; i32 lanes."""
    exponential = functions.exp64(x.to(f64) * -(2.0**-12)).to(f32)
    y = x.fn.const(1.0, exponential.type) / (exponential + 1.0)
    return _cut(y)


def float_tanh(x: Value, bits: int) -> Value:
    """Of numbers with `bits` behind the point, rounded to float32, cut to Q0.15; i32 lanes."""
    fn, wide = x.fn, x.to(f64) * 2.0**-bits
    power = functions.exp64(fn.absolute(wide) * -2.0)
    size = (fn.const(1.0, power.type) - power) / (power + 1.0)
    return _cut(fn.copysign(size, wide).to(f32))


def _cut(y: Value) -> Value:
    return y.fn.minimum((y * 32768.0).to(i32), 32767)
