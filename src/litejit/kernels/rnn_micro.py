"""The integer LSTM of TFLM: LiteRT's loop with a table for its functions and other roundings."""

from __future__ import annotations

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, i8, i16, i32, i64, u32
from litejit.kernels import rnn_fixed16
from litejit.kernels.fixedpoint import multiplied
from litejit.kernels.memory import copy_bytes
from litejit.kernels.rnn_int8 import LSTMInt8, saturate
from litejit.types import Array


def pack_table(table: Array) -> Array:
    """256 uint16 samples of a function -> 255 (sample, step to the next) pairs and a spare one."""
    pairs = np.zeros((256, 2), np.uint16)
    pairs[:, 0] = table
    pairs[:255, 1] = table[1:] - table[:-1]
    return pairs.reshape(-1).view(np.uint8)


class LSTMMicro(LSTMInt8):
    """TFLM's int8 LSTM: arguments as of `LSTMInt8`, with the sigmoid's table behind the constants.

    The sums of both sides are cut to int16 before they are added. Products are scaled by 2**30
    and a shift: two roundings. The table has sigmoid(j / 24) in Q0.16.
    """

    def joined(self, part: Value, total: Value) -> Value:
        """Both sides saturate."""
        return saturate(saturate(part) + total)

    def scaled(self, product: Value, exponent: int) -> Value:
        """Half of it rounded up, the rest to nearest, ties away from zero; saturated."""
        return saturate(rnn_fixed16.halve((product + 1) >> 1, exponent - 1))

    def logistic(self, x: Value, tables: Pointer) -> Value:
        """Of Q3.12."""
        value = x * 3
        result = _interpolated(value, tables, 9, 0x7FFF << 10)
        mirrored = -result + ((1 << 25) + (1 << 9) - 1)
        return (value < 0).choose(mirrored, result + (1 << 9)) >> 10

    def tanh(self, x: Value, tables: Pointer) -> Value:
        """Of Q3.12."""
        return _tanh(x * 3, tables)

    def tanh_of_cell(self, x: Value, tables: Pointer) -> Value:
        """Of a cell, whose scale is a power of two."""
        shift = 12 + self.cell_bits
        if shift >= 0:
            return _tanh(x * (3 << shift), tables)
        return _tanh((x * 3 + (1 << (-shift - 1))) >> -shift, tables)


class LSTMMicro16(LSTMMicro):
    """TFLM's LSTM of int16 data; of the fields only `cell_bits` counts.

    Arguments: x, y, h, c, weights and recurrent (int8, a row for each cell of each gate), start_x,
    start_h (int64: what their sums begin with), numbers (int64: for every gate the multiplier and
    right shift of both sums, then multiplier, left and right shift of the result and its zero
    point), tables, scratch, stride, steps, cells, inputs, x_step, x_batch, y_step, y_batch, and
    the range of the cells. A work item is a batch. Scratch: 4 * cells int32.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """All sums of a step, then its cells."""
        operands = {
            "x": i16, "y": i16, "h": i16, "c": i16, "weights": i8, "recurrent": i8,
            "start_x": i64, "start_h": i64, "numbers": i64, "tables": i8, "scratch": i8,
        }  # fmt: skip
        words = (
            "stride", "steps", "cells", "inputs", "x_step", "x_batch", "y_step", "y_batch", "low",
            "high",
        )  # fmt: skip
        fn = Function(
            name, isa, **{k: Ptr(t) for k, t in operands.items()}, **dict.fromkeys(words, i64)
        )
        p = dict(zip(operands, fn.args, strict=False))
        n = dict(zip(words, fn.args[len(operands) :], strict=True))
        cells, lanes = n["cells"], isa.lanes(i32)
        rows = (p["scratch"] + fn.worker * n["stride"]).cast(i32)
        with fn.loop(fn.end, start=fn.begin) as batch:
            state, cell = p["h"] + batch * cells, p["c"] + batch * cells
            with fn.loop(n["steps"]) as t:
                source = p["x"] + (batch * n["x_batch"] + t * n["x_step"])
                target = p["y"] + (batch * n["y_batch"] + t * n["y_step"])
                before = (t > 0).choose_pointer(target + (-n["y_step"]), state)
                for g in range(4):
                    with fn.loop(cells) as j:
                        row, numbers = cells * g + j, p["numbers"] + 4 * g
                        sums = _dot(source, p["weights"] + row * n["inputs"], n["inputs"])
                        part = _narrowed(sums + p["start_x"][row], numbers)
                        sums = _dot(before, p["recurrent"] + row * cells, cells)
                        more = _narrowed(sums + p["start_h"][row], numbers + 2)
                        rows[row] = saturate(part + more).to(i32)
                with fn.loop(cells, step=lanes) as at:
                    mask = fn.first(cells - at, lanes)
                    gates = [rows.load(cells * g + at, lanes=lanes) for g in range(4)]
                    self._cell(p, n, gates, cell + at, target + at, mask)
            last = p["y"] + (batch * n["y_batch"] + (n["steps"] - 1) * n["y_step"])
            copy_bytes(fn, last.cast(i8), state.cast(i8), cells * 2)
        return fn.ir()

    def _cell(
        self, p: dict[str, Pointer], n: dict[str, Value], gates: list[Value], cell: Pointer,
        target: Pointer, mask: Value,
    ) -> None:  # fmt: skip
        fn, lanes, tables, result = mask.fn, mask.type.lanes, p["tables"], p["numbers"] + 16
        i, f, o = (self.logistic(gates[g], tables) for g in (0, 1, 3))
        kept = self.scaled(f * cell.load(lanes=lanes, mask=mask).to(i32), 15)
        new = saturate(kept + self.scaled(i * self.tanh(gates[2], tables), 30 + self.cell_bits))
        limits = [n[word].to(i32).splat(lanes) for word in ("low", "high")]
        new = fn.minimum(fn.maximum(new, limits[0]), limits[1])
        cell.store(0, new.to(i16), mask=mask)
        product = (o * self.tanh_of_cell(new, tables)).to(i64)
        y = multiplied(product, *(result[k].splat(lanes) for k in range(3)))
        target.store(0, saturate(y + result[3].splat(lanes)).to(i16), mask=mask)


def _dot(x: Pointer, weights: Pointer, depth: Value) -> Value:
    """The sum of int16 by int8, i64."""
    fn = x.fn
    lanes = fn.isa.lanes(i64)
    sums = [fn.const(0, i64 * lanes)]
    with fn.loop(depth, step=lanes, carry=sums) as k:
        product = x.load(k, lanes=lanes).to(i64) * weights.load(k, lanes=lanes).to(i64)
        sums[0] = sums[0] + fn.first(depth - k, lanes).choose(product, 0)
    return fn.reduce("add", sums[0])


def _narrowed(total: Value, at: Pointer) -> Value:
    """A 64-bit sum by 15 bits of multiplier, rounded once; int16."""
    half = (total.fn.const(1, i64) << at[1]) >> 1
    return saturate(((total * at[0] + half) >> at[1]).to(i32).to(i64))


def _tanh(value: Value, tables: Pointer) -> Value:
    result = _interpolated(value, tables, 8, 0xFFFF << 8)
    negative = -result + ((1 << 23) + (1 << 7) - 1)
    return (value < 0).choose(negative, result + (-(1 << 23) + (1 << 7))) >> 8


def _interpolated(value: Value, tables: Pointer, bits: int, most: int) -> Value:
    """Between the samples `bits` of |value| apart; `most` from the last one on."""
    fn = value.fn
    size = fn.maximum(value, -value)
    index = size >> bits
    pairs = _gather(tables, fn.minimum(index, 254))
    sample, step = (pairs & 0xFFFF).bitcast(value.type), (pairs >> 16).bitcast(value.type)
    between = (sample << bits) + (size & ((1 << bits) - 1)) * step
    return (index < 255).choose(between, fn.const(most, value.type))


def _gather(tables: Pointer, index: Value) -> Value:
    """A 32-bit entry for every lane."""
    fn, lanes = index.fn, index.type.lanes
    result = fn.const(0, u32 * lanes)
    for lane in range(lanes):
        found = tables.cast(u32).load(index.lane(lane).to(i64))
        text = f"insertelement {result.type} {result.ref}, {found.type} {found.ref}, i32 {lane}"
        result = fn.emit(result.type, text)
    return result
