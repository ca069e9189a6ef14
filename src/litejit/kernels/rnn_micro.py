"""The integer LSTM of TFLM: LiteRT's loop with a table for its functions and other roundings."""

from __future__ import annotations

import numpy as np

from litejit.codegen.lang import Pointer, Value, i64, u32
from litejit.kernels import rnn_fixed16
from litejit.kernels.rnn_int8 import LSTMInt8, saturate
from litejit.types import Array

TABLE_BYTES = 1024


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
