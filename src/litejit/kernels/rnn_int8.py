"""Integer LSTM over a whole sequence: int8 in and out, int16 cells, bit for bit.

Cells come in panels of `vectors` registers; the weights of a panel's gates lie side by side, so
that a step of a panel is one pass over its input and its output state, and all that follows
stays in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from litejit.codegen.lang import Function, Pointer, Ptr, Value, i8, i16, i32, i64, u8
from litejit.kernels import requantize, rnn_fixed16
from litejit.kernels.base import KernelSpec
from litejit.kernels.memory import copy_bytes
from litejit.kernels.packing_int8 import pack_weights
from litejit.types import Array

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

MOST_VECTORS = 2  # registers of cells in a panel: with four gates 8 sums run side by side


def panel_vectors(cells: int, lanes: int) -> int:
    """How many registers of cells a panel has."""
    return min(-(-cells // lanes), MOST_VECTORS)


def pack_gates(gates: Sequence[Array], lanes: int, vectors: int) -> Array:
    """int8 [cells, depth] of every gate -> [panel, depth / 4, gate, vector, lane, 4]; 0 beyond."""
    cells = len(gates[0])
    width = lanes * vectors
    padded = [np.pad(g.view(np.int8), ((0, -cells % width), (0, 0))) for g in gates]
    rows = np.stack([g.reshape(-1, width, g.shape[1]) for g in padded], axis=1)
    rows = rows.reshape(1, -1, rows.shape[-1])
    return pack_weights(rows, np.arange(rows.shape[1]), lanes, len(gates) * vectors, 4)


def pack_vectors(gates: Sequence[Array], lanes: int, vectors: int) -> Array:
    """[cells] of every gate -> [panel, gate, vector, lane]; 0 beyond."""
    width = lanes * vectors
    padded = [np.pad(g, (0, -len(g) % width)).reshape(-1, width) for g in gates]
    return np.ascontiguousarray(np.stack(padded, axis=1))


def dots(
    fn: Function, x: Pointer, weights: Pointer, groups: Value, starts: Sequence[Value],
    *, moved: bool = False,
) -> list[Value]:  # fmt: skip
    """starts[j] + sums over 4 * groups bytes of x with the j-th register of packed weights.

    Where the ISA's activations are unsigned x counts as x + 128: subtract that from `starts`.
    `moved` says that the 128 are in the bytes already.
    """
    isa, lanes, count = fn.isa, starts[0].type.lanes, len(starts)
    sums = list(starts)
    with fn.loop(groups, carry=sums) as k:
        four = x.cast(i32).load(k, align=1).splat(lanes)
        if isa.dot_is_unsigned and not moved:
            four = four ^ -0x7F7F7F80
        a = four.bitcast((u8 if isa.dot_is_unsigned else i8) * (4 * lanes))
        for j in range(count):
            b = weights.load((k * count + j) * (4 * lanes), lanes=4 * lanes, align=4 * lanes)
            sums[j] = isa.dot4(fn, sums[j], a, b)
    return sums


def offset(isa: Isa) -> int:
    """What `dots` adds to every x."""
    return 128 if isa.dot_is_unsigned else 0


class LSTMInt8(KernelSpec):
    """LiteRT's 8x8_16 LSTM without peepholes, layer norm or projection.

    Arguments: x, y, h, c, weights, recurrent, start_x, start_h (int32, packed by
    `pack_gates` and `pack_vectors`; the starts hold bias, zero points and what the dots and
    the requantization add), constants (blocks of `requantize`: a gate's input, a gate's state,
    ..., the hidden), steps, panels, cells, groups_x, groups_h, then strides in bytes: x_step,
    x_batch, y_step, y_batch, and the range of the cells: low, high. A work item is a batch.
    `cell_bits` is the log2 of the cells' scale; `input_gate` is off where 1 - forget takes its
    place; `form` and `hidden_form` are those of `requantize`. There is at least one step.
    """

    vectors: int
    input_gate: bool
    cell_bits: int
    form: str
    hidden_form: str

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        numbers = "steps panels cells groups_x groups_h x_step x_batch y_step y_batch low high"
        fn = Function(
            name, isa, x=Ptr(i8), y=Ptr(i8), h=Ptr(i8), c=Ptr(i16), weights=Ptr(i8),
            recurrent=Ptr(i8), start_x=Ptr(i32), start_h=Ptr(i32), constants=Ptr(i8),
            **dict.fromkeys(numbers.split(), i64),
        )  # fmt: skip
        x, y, h, c, weights, recurrent, start_x, start_h, constants = fn.args[:9]
        steps, panels, cells, groups_x, groups_h, x_step, x_batch, y_step, y_batch = fn.args[9:18]
        lanes, gates = isa.lanes(i32), 4 if self.input_gate else 3
        limits = [limit.to(i32).splat(lanes) for limit in fn.args[18:]]
        count = gates * self.vectors
        row = 4 * lanes * count
        with fn.loop(fn.end, start=fn.begin) as batch:
            state, cell = h + batch * cells, c + batch * cells
            with fn.loop(steps) as t:
                source = x + (batch * x_batch + t * x_step)
                target = y + (batch * y_batch + t * y_step)
                before = (t > 0).choose_pointer(target + (-y_step), state)
                with fn.loop(panels) as p:
                    parts = []
                    for part, matrix, groups, start in (
                        (source, weights, groups_x, start_x),
                        (before, recurrent, groups_h, start_h),
                    ):
                        starts = [
                            start.load((p * count + j) * lanes, lanes=lanes, align=4 * lanes)
                            for j in range(count)
                        ]
                        packed = matrix + p * groups * row
                        parts.append(dots(fn, part, packed, groups, starts))
                    first = p * (lanes * self.vectors)
                    self._cells(fn, parts, constants, cell + first, target + first, limits,
                                cells - first)  # fmt: skip
            last = y + (batch * y_batch + (steps - 1) * y_step)
            copy_bytes(fn, last, state, cells)
        return fn.ir()

    def _cells(
        self, fn: Function, parts: list[list[Value]], constants: Pointer, cell: Pointer,
        target: Pointer, limits: list[Value], left: Value,
    ) -> None:  # fmt: skip
        """From the sums of a panel to its cells and outputs."""
        lanes, gates = limits[0].type.lanes, 4 if self.input_gate else 3
        block = requantize.nbytes(self.form, lanes)
        hidden = constants + 2 * gates * block
        tables = hidden + requantize.nbytes(self.hidden_form, lanes)
        for v in range(self.vectors):
            totals = []
            for g in range(gates):
                total = fn.const(0, i32 * lanes)
                for side in range(2):
                    at = constants + (side * gates + g) * block
                    loaded = requantize.load(self.form, at, lanes)
                    sums = parts[side][g * self.vectors + v]
                    total = self.joined(requantize.apply(self.form, fn.isa, sums, loaded), total)
                totals.append(total)
            forget, update, out = totals[-3:]
            f, g_, o = (self.logistic(forget, tables), self.tanh(update, tables),
                        self.logistic(out, tables))  # fmt: skip
            share = self.logistic(totals[0], tables) if self.input_gate else -f + rnn_fixed16.ONE
            place = v * lanes
            kept = self.scaled(f * cell.load(place, lanes=lanes).to(i32), 15)
            new = saturate(kept + self.scaled(share * g_, 30 + self.cell_bits))
            new = fn.minimum(fn.maximum(new, limits[0]), limits[1])
            mask = fn.first(left - place, lanes)
            cell.store(place, new.to(i16), mask=mask)
            product = o * self.tanh_of_cell(new, tables)
            product = product + _wrapped(requantize.input_offset(self.hidden_form))
            made = requantize.load(self.hidden_form, hidden, lanes)
            y = requantize.apply(self.hidden_form, fn.isa, product, made)
            target.store(place, requantize.narrow(y, unsigned=False), mask=mask)

    # what other integer LSTMs do in another way; `tables` lies behind the constants

    def joined(self, part: Value, total: Value) -> Value:
        """A gate's sum with the scaled sum of one side."""
        return saturate(part + total)

    def scaled(self, product: Value, exponent: int) -> Value:
        """A product of gates over 2**exponent."""
        return rnn_fixed16.halve(product, exponent)

    def logistic(self, x: Value, tables: Pointer) -> Value:
        """Of Q3.12."""
        return rnn_fixed16.logistic(x)

    def tanh(self, x: Value, tables: Pointer) -> Value:
        """Of Q3.12."""
        return rnn_fixed16.tanh(x)

    def tanh_of_cell(self, x: Value, tables: Pointer) -> Value:
        """Of a cell."""
        return rnn_fixed16.tanh(x, 15 + self.cell_bits)


def saturate(x: Value) -> Value:
    """To the range of int16."""
    return x.fn.minimum(x.fn.maximum(x, -32768), 32767)


def _wrapped(number: int) -> int:
    """As a signed 32-bit number."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)
