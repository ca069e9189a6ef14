"""The old LSTM kernel of five inputs: one concatenation, one matrix, one cell.

Source: LiteRT tflite/kernels/lstm.cc (basic), internal/reference/lstm_cell.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops import fixed16
from litejit.ops.base import Arrays, Lowering, Node, Types
from litejit.ops.fixedpoint import (
    mbqm,
    quantize_multiplier,
    require_multiplier,
    require_scale,
    rounding_divide_by_pot,
    wrap32,
)
from litejit.ops.lstm_float import sigmoid
from litejit.ops.lstm_integer import checked_log2
from litejit.types import F32, I16, I32, U8, Array

_FLOATS = (F32,) * 5, (F32,) * 4
_BYTES = (U8, U8, U8, I32, I16), (U8, I16, U8, I16)
_NAMES = ("input", "prev_activation", "weights", "bias", "prev_state")


def infer(node: Node) -> Types:
    """Outputs: activation, state, concatenated input, gates before their functions."""
    node.require(len(node.inputs) == 5, f"has {len(node.inputs)} inputs, expected 5")
    node.require(len(node.outputs) == 4, f"has {len(node.outputs)} outputs, expected 4")
    x, activation, weights, bias, state = (node.input(i) for i in range(5))
    node.require(x.rank == 2 and activation.rank == 2, "input and activation must have rank 2")
    batch, inputs = x.dims
    width = activation.dims[1]
    for tensor, shape, what in (
        (activation, (batch, width), "prev_activation"),
        (weights, (4 * width, inputs + width), "weights"),
        (bias, (4 * width,), "bias"),
        (state, (batch, width), "prev_state"),
    ):
        ok = tensor.shape == shape
        node.require(ok, f"{what} has shape {tensor.shape}, expected {shape}")
    _check_types(node)
    return [
        node.output(0).with_shape((batch, width)),
        node.output(1).with_shape((batch, width)),
        node.output(2).with_shape((batch, inputs + width)),
        node.output(3).with_shape((batch, 4 * width)),
    ]


def _check_types(node: Node) -> None:
    inputs, outputs = _BYTES if node.input(0).dtype == U8 else _FLOATS
    for position, dtype in enumerate(inputs):
        node.require_dtype(node.input(position), (dtype,), _NAMES[position])
    for position, dtype in enumerate(outputs):
        node.require_dtype(node.output(position), (dtype,), f"output {position}")
    if node.input(0).dtype != U8:
        return
    state, bias = node.output(1), node.input(3)
    require_scale(node, state, "output state")
    bits = checked_log2(state.scale)
    node.require(bits == -11, f"output state has scale {state.scale}, expected 2**-11")
    require_scale(node, bias, "bias", smallest=0.0)
    require_multiplier(node, 4096 * bias.scale)


def reference(node: Node, *arrays: Any) -> Arrays:
    """One step; the activation and the state among the inputs take the new values."""
    x, activation, weights, bias, state = arrays
    joined = np.concatenate([x, activation], axis=1)
    if x.dtype == np.uint8:
        gates, new_state, new = _step_u8(node, joined, weights, bias, state)
    else:
        gates = joined @ weights.T + bias
        i, g, f, o = np.split(gates, 4, axis=1)
        new_state = sigmoid(i) * np.tanh(g) + sigmoid(f) * state
        new = sigmoid(o) * np.tanh(new_state)
    for position, value in ((1, new), (4, new_state)):
        tensor, array = node.input(position), arrays[position]
        if not tensor.is_constant:  # whoever made it, LiteRT keeps it and writes into it
            array[...] = value
    return new, new_state, joined, gates


def lower(node: Node, steps: Lowering) -> None:
    """One kernel, where activation and state are not constants."""
    from litejit.kernels.rnn_basic import LSTMBasic

    x, activation = node.input(0), node.input(1)
    (batch, inputs), width, is_float = x.dims, activation.dims[1], x.dtype == F32
    operands = [operand for operand in steps.inputs if operand is not None]
    if activation.is_constant or node.input(4).is_constant or not batch * width:
        return
    m, shift = (0, 0) if is_float else quantize_multiplier(4096 * node.input(3).scale)
    steps.call(
        LSTMBasic(is_float), *operands, *steps.outputs, inputs, width,
        0 if is_float else node.input(2).zero_point, m, max(shift, 0), max(-shift, 0), items=batch,
        cost_ns=batch * width * (40.0 + 0.5 * (inputs + width)),
    )  # fmt: skip


def _step_u8(
    node: Node, joined: Array, weights: Array, bias: Array, state: Array
) -> tuple[Array, Array, Array]:
    m, shift = quantize_multiplier(4096 * node.input(3).scale)
    centred = weights.astype(np.float64) - node.input(2).zero_point
    sums = (joined.astype(np.float64) - 128) @ centred.T
    gates = np.clip(mbqm(wrap32(sums.astype(np.int64) + bias), m, shift), -32768, 32767)
    i, g, f, o = np.split(gates, 4, axis=1)
    added = rounding_divide_by_pot(_times(fixed16.logistic(i), fixed16.tanh(g)), 4)
    kept = _times(fixed16.logistic(f), state)
    new_state = np.clip(added + kept, -32768, 32767)
    cell = fixed16.tanh(np.clip(new_state * 2, -32768, 32767))
    scaled = rounding_divide_by_pot(_times(fixed16.logistic(o), cell), 8)
    new = 128 + np.clip(scaled, -128, 127)
    return gates.astype(np.int16), new_state.astype(np.int16), new.astype(np.uint8)


def _times(a: Array, b: Array) -> Array:
    """round(a * b / 2**15), ties up, of int16 values; saturated."""
    product = a.astype(np.int64) * b.astype(np.int64)
    result: Array = np.minimum((product + (1 << 14)) >> 15, 32767)
    return result
