"""Simple recurrent layers: h' = act(W x + R h + b), and the output is h'.

f32, or f32 with int8 | uint8 weights (hybrid: rows are quantized as they come).
Source: LiteRT tflite/kernels/basic_rnn.cc, unidirectional_sequence_rnn.cc,
bidirectional_sequence_rnn.cc, internal/kernel_utils.cc.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.model.options import (
    BidirectionalSequenceRNNOptions,
    RNNOptions,
    SequenceRNNOptions,
)
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.hybrid import apply_activation
from litejit.ops.lstm import by_time
from litejit.ops.lstm_cell import Sizes, fitted, require_state
from litejit.ops.lstm_float import Rows
from litejit.types import F32, I8, U8, Array, TensorType

F = np.float32


def _check(node: Node, first: int, batch: int, inputs: int, who: str = "") -> int:
    """Refuse operands `first` ... `first` + 3 that do not fit; returns the units."""
    weights, recurrent, bias, state = (node.input(first + i) for i in range(4))
    node.require_dtype(node.input(0), (F32,), "input")
    node.require_dtype(weights, (F32, I8, U8), f"{who}weights")
    node.require_dtype(recurrent, (weights.dtype,), f"{who}recurrent weights")
    node.require(weights.rank == 2, f"{who}weights have shape {weights.shape}")
    units = weights.dims[0]
    for tensor, shape, what in (
        (weights, (units, inputs), "weights"),
        (recurrent, (units, units), "recurrent weights"),
        (bias, (units,), "bias"),
        (state, (batch, units), "hidden state"),
    ):
        text = f"{who}{what}: shape {tensor.shape}, expected {shape}"
        node.require(tensor.shape == shape, text)
    for tensor, what in ((bias, "bias"), (state, "hidden state")):
        node.require_dtype(tensor, (F32,), f"{who}{what}")
    require_state(node, state, f"{who}hidden state")
    return units


class Direction:
    """One layer: its operands, and what multiplies them."""

    def __init__(self, node: Node, arrays: tuple[Any, ...], first: int, aux: int = -1) -> None:
        self.activation = node.options.activation
        self.asymmetric = bool(node.options.asymmetric_quantize_inputs)
        self.weights, self.recurrent, self.bias, self.state = arrays[first : first + 4]
        self.scale, self.recurrent_scale = (node.input(first + i).scale for i in (0, 1))
        self.aux_weights = arrays[aux] if aux >= 0 else None
        self.aux_scale = node.input(aux).scale if self.aux_weights is not None else 0.0

    def _times(self, values: Array, weights: Array, scale: float) -> Array:
        rows = Rows(values.reshape(-1, values.shape[-1]), asymmetric=self.asymmetric)
        return rows.times(weights, scale).reshape(*values.shape[:-1], len(weights))

    def run(self, x: Array, aux: Array | None = None, *, forward: bool = True) -> Array:
        """[steps, batch, inputs] to [steps, batch, units]; the state is updated in place."""
        parts = self.bias + self._times(x, self.weights, self.scale)
        if aux is not None and self.aux_weights is not None:
            parts = parts + self._times(aux, self.aux_weights, self.aux_scale)
        y = np.empty(parts.shape, F)
        state = self.state.reshape(parts.shape[1:])
        for t in range(len(parts)) if forward else reversed(range(len(parts))):
            sums = parts[t] + self._times(state, self.recurrent, self.recurrent_scale)
            state[...] = apply_activation(sums, self.activation)
            y[t] = state
        return y


def _lower(node: Node, steps: Lowering, *, time_major: bool) -> None:
    """The kernel of a layer of floats."""
    from litejit.ops.rnn_lowering import Rows, lower_layer

    source, size = steps.inputs[0], _sizes(node, 1, time_major=time_major)
    if size.steps and source is not None:
        x = Rows(source, size, size.inputs, time_major=time_major)
        y = Rows(steps.outputs[0], size, size.cells, time_major=time_major)
        lower_layer(node, steps, 1, size, x=x, y=y)


def _sizes(node: Node, first: int, *, time_major: bool) -> Sizes:
    dims, units = node.input(0).dims, node.input(first).dims[0]
    steps, batch = (1, dims[0]) if len(dims) == 2 else (dims[:2] if time_major else dims[1::-1])
    return Sizes(steps, batch, dims[-1], units, units)


@builtin("RNN", versions=range(1, 4))
class RNN(Op):
    """One step: x [batch, inputs] to [batch, units]."""

    options = RNNOptions
    arity = (5, 5)
    mutates = (4,)
    is_pure = False

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        return fitted({4: node.optional(4)}, node.optional(0), time_major=False)

    def infer(self, node: Node) -> Types:
        """[batch, units]."""
        x = node.input(0)
        node.require(x.rank == 2, f"input must be [batch, inputs], got shape {x.shape}")
        units = _check(node, 1, x.dims[0], x.dims[1])
        return _results(node, [(x.dims[0], units)])

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """One step."""
        y: Array = Direction(node, inputs, 1).run(inputs[0][None])[0]
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        """The step is a sequence of one."""
        _lower(node, steps, time_major=True)


def _results(node: Node, shapes: list[tuple[int, ...]]) -> Types:
    for position in range(len(shapes)):
        node.require_dtype(node.output(position), (F32,), f"output {position}")
    return [node.output(i).with_shape(shape) for i, shape in enumerate(shapes)]


def _batch(x: TensorType, *, time_major: bool) -> int:
    return x.dims[1] if time_major else x.dims[0]


@builtin("UNIDIRECTIONAL_SEQUENCE_RNN", versions=range(1, 4))
class UnidirectionalSequenceRNN(Op):
    """A layer over [batch, steps, inputs], or [steps, batch, inputs] where time_major."""

    options = SequenceRNNOptions
    arity = (5, 5)
    mutates = (4,)
    is_pure = False

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        major = node.options.time_major
        return fitted({4: node.optional(4)}, node.optional(0), time_major=major)

    def infer(self, node: Node) -> Types:
        """The shape of the input, with as many units as there are."""
        x = node.input(0)
        node.require(x.rank == 3, f"input must have rank 3, got shape {x.shape}")
        batch = _batch(x, time_major=node.options.time_major)
        units = _check(node, 1, batch, x.dims[2])
        return _results(node, [(*x.dims[:2], units)])

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """All steps, in order."""
        major = node.options.time_major
        y = Direction(node, inputs, 1).run(by_time(inputs[0], time_major=major))
        return by_time(y, time_major=major)

    def lower(self, node: Node, steps: Lowering) -> None:
        """One call for the whole sequence."""
        _lower(node, steps, time_major=node.options.time_major)


@builtin("BIDIRECTIONAL_SEQUENCE_RNN", versions=range(1, 4))
class BidirectionalSequenceRNN(Op):
    """Two layers over a sequence, one from its end.

    `merge_outputs` puts their outputs side by side in one tensor. With aux weights both read
    the aux input beside the input; an aux input without weights is what the backward layer
    reads in place of the input. LiteRT follows the latter only where time comes first, and
    runs a hybrid sequence of n steps n times there, from state to state; so does this.
    """

    options = BidirectionalSequenceRNNOptions
    arity = (12, 12)
    results = (1, 2)
    optional = frozenset((9, 10, 11))
    mutates = (4, 8)
    is_pure = False

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        both = {position: node.optional(position) for position in self.mutates}
        return fitted(both, node.optional(0), time_major=node.options.time_major)

    def infer(self, node: Node) -> Types:
        """Outputs of both directions, or both in one."""
        options, x = node.options, node.input(0)
        wanted = 1 if options.merge_outputs else 2
        node.require(len(node.outputs) == wanted, f"has {len(node.outputs)} outputs")
        node.require(x.rank == 3, f"input must have rank 3, got shape {x.shape}")
        batch = _batch(x, time_major=options.time_major)
        units = [
            _check(node, first, batch, x.dims[2], who)
            for first, who in ((1, "forward "), (5, "backward "))
        ]
        node.require_dtype(node.input(5), (node.input(1).dtype,), "backward weights")
        self._check_aux(node, units)
        widths = [sum(units)] if options.merge_outputs else units
        return _results(node, [(*x.dims[:2], n) for n in widths])

    def _check_aux(self, node: Node, units: list[int]) -> None:
        x, aux = node.input(0), node.optional(9)
        weights = node.optional(10), node.optional(11)
        both = (weights[0] is None) == (weights[1] is None)
        node.require(both, "one of the aux weights is missing")
        if aux is None:
            node.require(weights[0] is None, "aux weights without an aux input")
            return
        node.require_dtype(aux, (F32,), "aux input")
        ok = aux.rank == 3 and aux.dims[:2] == x.dims[:2]
        ok = ok and (weights[0] is not None or aux.dims == x.dims)
        node.require(ok, f"aux input has shape {aux.shape}, the input {x.shape}")
        for tensor, count in zip(weights, units, strict=True):
            if tensor is not None:
                shape = (count, aux.dims[2])
                text = f"aux weights have shape {tensor.shape}, expected {shape}"
                node.require(tensor.shape == shape, text)
                node.require_dtype(tensor, (node.input(1).dtype,), "aux weights")

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Forward, then backward."""
        options, major = node.options, node.options.time_major
        x = by_time(inputs[0], time_major=major)
        aux = None if inputs[9] is None else by_time(inputs[9], time_major=major)
        second = x
        if aux is not None and inputs[10] is None:
            second, aux = (aux if major else x), None
        forward = Direction(node, inputs, 1, 10 if aux is not None else -1)
        backward = Direction(node, inputs, 5, 11 if aux is not None else -1)
        again = len(x) if major and inputs[1].dtype != F else 1
        made = [np.empty((*x.shape[:2], len(d.bias)), F) for d in (forward, backward)]
        for _ in range(again):
            made = [forward.run(x, aux), backward.run(second, aux, forward=False)]
        made = [by_time(y, time_major=major) for y in made]
        return np.concatenate(made, axis=2) if options.merge_outputs else (made[0], made[1])

    def lower(self, node: Node, steps: Lowering) -> None:
        """One call for each direction; none for what is run again and again."""
        from litejit.ops.rnn_lowering import lower_bidirectional_layer

        major = node.options.time_major
        sizes = [_sizes(node, first, time_major=major) for first in (1, 5)]
        if sizes[0].steps and not (major and node.input(1).dtype != F32):
            lower_bidirectional_layer(node, steps, sizes)
