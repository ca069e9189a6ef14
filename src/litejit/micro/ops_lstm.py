"""UNIDIRECTIONAL_SEQUENCE_LSTM with TFLM's arithmetic for integers.

Gates are sums in Q3.12 int16: input and recurrent part are scaled apart and added with
saturation; logistic and tanh come from the interpolated table; products of gates are scaled by
multipliers formed in float64. There is no peephole, projection, layer norm or coupled gate.
Source: tflite-micro tensorflow/lite/micro/kernels/{lstm_eval,lstm_eval_common}.cc, lstm_eval.h.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.model.options import Activation
from litejit.ops import fixedpoint as fixed
from litejit.ops import lstm
from litejit.ops.activation import logistic16, tanh16
from litejit.ops.base import Arrays, Lowering, Node, Types
from litejit.record import Record
from litejit.types import F32, I8, I16, I32, I64, Array, TensorType

_GATES = ("input", "forget", "cell", "output")  # in the order of the operator's weights
_HIDDEN, _CELL = 18, 19
_LOW, _HIGH = -(1 << 15), (1 << 15) - 1
_GATE_SCALE = 2.0**-12
_ONE = 2.0**-15  # scale of the activations


class Multipliers(Record):
    """(m, shift) of every gate's input and recurrent sums, and of the products behind them."""

    input: tuple[tuple[int, int], ...]
    recurrent: tuple[tuple[int, int], ...]
    keep: tuple[int, int]
    add: tuple[int, int]
    result: tuple[int, int]
    clip: int
    tanh_shift: int


def _product(a: TensorType, b: TensorType) -> tuple[int, int]:
    """Of a matrix product."""
    return fixed.quantize_multiplier(a.scale * b.scale / _GATE_SCALE)


def multipliers(node: Node) -> Multipliers:
    """All factors of an integer LSTM."""
    x, hidden, cell = node.input(0), node.input(_HIDDEN), node.input(_CELL)
    scale = cell.scale
    power = round(math.log2(scale))
    clip = float(np.float32(node.options.cell_clip))
    return Multipliers(
        tuple(_product(x, node.input(1 + k)) for k in range(4)),
        tuple(_product(hidden, node.input(5 + k)) for k in range(4)),
        fixed.quantize_multiplier(_ONE * scale / scale),
        fixed.quantize_multiplier(_ONE * _ONE / scale),
        fixed.quantize_multiplier(_ONE * _ONE / hidden.scale),
        int(min(max(clip / scale, _LOW), _HIGH)) if clip > 0 else 0,
        12 + power,
    )


class SequenceLSTM(lstm.UnidirectionalSequenceLSTM):
    """float32 as LiteRT's; int8 and int16 data with int8 weights and int16 cells."""

    def infer(self, node: Node) -> Types:
        """The shape of the input, with as many outputs as there are."""
        x = node.input(0)
        count = len(node.inputs)
        node.require(count == 24, f"has {count} inputs, expected 24")
        for position in (9, 10, 11, 16, 17, 20, 21, 22, 23):
            absent = node.optional(position) is None
            node.require(absent, f"input {position} (peephole, projection, norm) is not supported")
        if x.dtype == F32:
            return super().infer(node)
        return self._infer_integer(node, x)

    def _infer_integer(self, node: Node, x: TensorType) -> Types:
        node.require_dtype(x, (I8, I16), "input")
        node.require(x.rank == 3, f"input must have rank 3, got shape {x.shape}")
        hidden, cell, units = node.input(_HIDDEN), node.input(_CELL), node.input(5).dims[0]
        batch = x.dims[1] if node.options.time_major else x.dims[0]
        for k, gate in enumerate(_GATES):
            for at, width in ((1 + k, x.dims[2]), (5 + k, units)):
                weights = node.input(at)
                node.require_dtype(weights, (I8,), f"weights of the {gate} gate")
                ok = weights.dims == (units, width)
                node.require(ok, f"weights of the {gate} gate have shape {weights.shape}")
                fixed.require_scale(node, weights, f"weights of the {gate} gate", smallest=0.0)
            bias = node.input(12 + k)
            node.require_dtype(bias, (I32 if x.dtype == I8 else I64,), f"{gate} gate bias")
            node.require(bias.dims == (units,), f"{gate} gate bias has shape {bias.shape}")
        for state, dtype, what in ((hidden, x.dtype, "output"), (cell, I16, "cell")):
            node.require_dtype(state, (dtype,), f"{what} state")
            node.require(state.is_variable, f"{what} state is no variable")
            node.require(state.size == batch * units, f"{what} state has shape {state.shape}")
        for tensor, what in ((x, "input"), (hidden, "output state"), (cell, "cell state")):
            fixed.require_scale(node, tensor, what)
        power = math.log2(cell.scale)
        ok = abs(power - round(power)) < 1e-3 and -24 <= round(power) <= 0
        node.require(ok, f"cell state has scale {cell.scale}, which is no power of two")
        kinds = (Activation.TANH,)
        node.require(node.options.activation in kinds, "the activation must be TANH")
        node.require_dtype(node.output(0), (x.dtype,), "output")
        return [node.output(0).with_shape((*x.dims[:2], units))]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """All steps, in order; the states are updated in place."""
        if node.input(0).dtype == F32:
            return super().reference(node, *inputs)
        return _run(node, inputs, time_major=node.options.time_major)

    def lower(self, node: Node, steps: Lowering) -> None:
        """float32 as LiteRT's; int8 and int16 with constant weights in one kernel."""
        if node.input(0).dtype == F32:
            super().lower(node, steps)
            return
        from litejit.micro.lstm_lowering import lower_int8, lower_int16

        ask = lower_int8 if node.input(0).dtype == I8 else lower_int16
        ask(node, steps, multipliers(node))


def _run(node: Node, inputs: tuple[Any, ...], *, time_major: bool) -> Array:
    made, x = multipliers(node), inputs[0] if time_major else inputs[0].transpose(1, 0, 2)
    units = inputs[5].shape[0]
    hidden = inputs[_HIDDEN].reshape(-1, units)
    cell = inputs[_CELL].reshape(-1, units)
    wide = x.dtype == np.int16
    parts = _input_parts(node, x, inputs, made, wide=wide)
    recurrent = np.concatenate([w.astype(np.float64) for w in inputs[5:9]]).T
    m, shift = (np.repeat([pair[i] for pair in made.recurrent], units) for i in (0, 1))
    zero = node.input(_HIDDEN).zero_point
    scale = fixed.mbqm64 if wide else fixed.mbqm
    outputs = np.empty((*x.shape[:2], units), x.dtype)
    low, high = fixed.type_range(node.input(0).dtype)
    for t in range(len(x)):
        sums = ((hidden.astype(np.float64) - zero) @ recurrent).astype(np.int64)
        part = np.clip(scale(sums, m, shift), _LOW, _HIGH)
        gates = np.clip(parts[t] + part, _LOW, _HIGH) * 3
        kept, forgot, fresh, shown = (gates[:, k * units : (k + 1) * units] for k in range(4))
        old = _times(logistic16(forgot), cell.astype(np.int64), made.keep)
        new = _times(logistic16(kept), tanh16(fresh), made.add)
        total = np.clip(old + new, _LOW, _HIGH)
        if made.clip:
            total = np.clip(total, -made.clip, made.clip)
        cell[...] = total
        product = logistic16(shown) * tanh16(_shifted(total, made.tanh_shift))
        y = fixed.mbqm(product, *made.result) + zero
        hidden[...] = np.clip(y, low, high)
        outputs[t] = hidden
    return outputs if time_major else outputs.transpose(1, 0, 2)


def _times(a: Array, b: Array, multiplier: tuple[int, int]) -> Array:
    """A product scaled to int16."""
    return np.clip(fixed.mbqm(a * b, *multiplier), _LOW, _HIGH)


def _shifted(cell: Array, shift: int) -> Array:
    """The cell as multiples of 1/12288."""
    if shift >= 0:
        return cell * (3 << shift)
    return (cell * 3 + (1 << (-shift - 1))) >> -shift


def _input_parts(
    node: Node, x: Array, inputs: tuple[Any, ...], made: Multipliers, *, wide: bool
) -> Array:
    """What the input adds to the four gates at every step, int16 values in int64."""
    units = inputs[5].shape[0]
    weights = np.concatenate([w.astype(np.float64) for w in inputs[1:5]]).T
    bias = np.concatenate([b.astype(np.int64) for b in inputs[12:16]])
    sums = ((x.astype(np.float64) - node.input(0).zero_point) @ weights).astype(np.int64) + bias
    m, shift = (np.repeat([pair[i] for pair in made.input], units) for i in (0, 1))
    scaled = fixed.mbqm64(sums, m, shift) if wide else fixed.mbqm(fixed.wrap32(sums), m, shift)
    result: Array = np.clip(scaled, _LOW, _HIGH)
    return result
