"""LSTM operators: one step, a sequence, a sequence in both directions.

i, f, o = sigmoid(W x + R h + P c + b), g = act(W x + R h + b); c' = f c + i g;
h' = projection(o act(c')); the peephole P of o sees c'. With layer norm the sum is normalized
before the bias. x f32 with f32 weights or, quantized as it comes ("hybrid"), int8 | uint8
weights (read as int8); x int8 with int8 weights, int16 cells.
Source: LiteRT tflite/kernels/lstm.cc, unidirectional_sequence_lstm.cc,
bidirectional_sequence_lstm.cc, lstm_eval.cc.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options import (
    BidirectionalSequenceLSTMOptions,
    LSTMKernel,
    LSTMOptions,
    UnidirectionalSequenceLSTMOptions,
)
from litejit.ops import lstm_basic
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.lstm_cell import Cell, Places, Sizes, check, fitted, sizes
from litejit.ops.lstm_float import FloatLSTM
from litejit.ops.lstm_integer import IntegerLSTM, check_quantization, parameters
from litejit.types import F32, I8, Array

PLACES = Places(first=1, output_state=18, cell_state=19, norm=20)
FORWARD = Places(first=1, output_state=35, cell_state=36, aux=39, aux_weights=40)
BACKWARD = Places(first=18, output_state=37, cell_state=38, aux=39, aux_weights=44)


def _check_clips(node: Node) -> None:
    clips = node.options.cell_clip, node.options.proj_clip
    node.require(all(clip >= 0 for clip in clips), f"cell and projection clips are {clips}")


def _require_like(node: Node, position: int, dtype: Any) -> None:
    node.require_dtype(node.output(position), (dtype,), f"output {position}")


def _infer(node: Node, *, time_major: bool, diagonal: bool) -> tuple[Cell, Sizes]:
    """What the operators of one direction check."""
    count = len(node.inputs)
    node.require(count in (20, 24), f"has {count} inputs, expected 20 or 24")
    node.require(len(node.outputs) == 1, f"has {len(node.outputs)} outputs, expected 1")
    _check_clips(node)
    cell = PLACES.of(node.inputs)
    size = check(node, cell, time_major=time_major, diagonal=diagonal)
    _require_like(node, 0, cell.x.dtype)
    if cell.x.dtype == I8:
        vectors = any(r is not None and r.rank == 1 for r in cell.recurrent)
        node.require(not vectors, "recurrent weights must be matrices where the input is int8")
        check_quantization(node, cell)
        parameters(node, cell)
    return cell, size


def by_time(x: Array, *, time_major: bool) -> Array:
    """[steps, batch, n] of an input; a matrix is one step."""
    if x.ndim == 2:
        return x[None]
    return x if time_major else x.transpose(1, 0, 2)


def _run(node: Node, arrays: tuple[Any, ...], *, time_major: bool) -> Array:
    """The output of one direction, with the dimensions of its input."""
    types, cell = PLACES.of(node.inputs), PLACES.of(arrays)
    x = by_time(cell.x, time_major=time_major)
    if x.dtype == np.int8:
        # LiteRT takes all batches at once only where time comes first.
        y = IntegerLSTM(node, types, cell, flat_peephole=time_major).run(x)
    else:
        y = FloatLSTM(node, types, cell).run(x, None)
    return y[0] if cell.x.ndim == 2 else by_time(y, time_major=time_major)


def _states(
    node: Node, positions: tuple[int, ...], *, time_major: bool
) -> dict[int, tuple[int, ...]]:
    return fitted({p: node.optional(p) for p in positions}, node.optional(0), time_major=time_major)


def _lower(node: Node, steps: Lowering, *, time_major: bool) -> None:
    """Kernels for the operators of one direction."""
    cell = PLACES.of(node.inputs)
    size = sizes(cell, time_major=time_major)
    if cell.x.dtype == I8:
        from litejit.ops.lstm_integer_lowering import lower

        lower(node, steps, PLACES, cell, size)
        return
    from litejit.ops.rnn_lowering import Rows, lower_lstm

    source = steps.inputs[PLACES.x]
    if size.steps and source is not None:
        x = Rows(source, size, size.inputs, time_major=time_major)
        y = Rows(steps.outputs[0], size, size.outputs, time_major=time_major)
        lower_lstm(node, steps, PLACES, cell, size, x=x, y=y)


@builtin("LSTM", versions=range(1, 5))
class LSTM(Op):
    """One step of an LSTM: x [batch, inputs] to [batch, outputs]; the states are variables.

    The basic kernel has 5 inputs and 4 outputs (f32, or uint8 with int16 state); the full one
    24 inputs (20 without layer norm).
    """

    options = LSTMOptions
    arity = (5, 24)
    results = (1, 4)
    optional = frozenset((1, 5, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23))
    mutates = (1, 4, 18, 19)
    is_pure = False

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        basic = node.options.kernel_type == LSTMKernel.BASIC
        return _states(node, (1, 4) if basic else (18, 19), time_major=True)

    def infer(self, node: Node) -> Types:
        """[batch, outputs]; of the basic kernel four tensors."""
        if node.options.kernel_type == LSTMKernel.BASIC:
            return lstm_basic.infer(node)
        kernel = node.options.kernel_type
        node.require(kernel == LSTMKernel.FULL, f"kernel_type is {kernel}, expected 0 or 1")
        rank = node.input(0).rank
        node.require(rank == 2, f"input must be [batch, inputs], got shape {node.input(0).shape}")
        _, size = _infer(node, time_major=True, diagonal=False)
        return [node.output(0).with_shape((size.batch, size.outputs))]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """One step."""
        if node.options.kernel_type == LSTMKernel.BASIC:
            return lstm_basic.reference(node, *inputs)
        return _run(node, inputs, time_major=True)

    def lower(self, node: Node, steps: Lowering) -> None:
        """The step is a sequence of one."""
        if node.options.kernel_type == LSTMKernel.BASIC:
            lstm_basic.lower(node, steps)
        else:
            _lower(node, steps, time_major=True)


@builtin("UNIDIRECTIONAL_SEQUENCE_LSTM", versions=range(1, 5))
class UnidirectionalSequenceLSTM(Op):
    """An LSTM over [batch, steps, inputs], or [steps, batch, inputs] where time_major.

    Recurrent weights may be vectors: diagonals, always f32.
    """

    options = UnidirectionalSequenceLSTMOptions
    arity = (20, 24)
    optional = frozenset((1, 5, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23))
    mutates = (18, 19)
    is_pure = False

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        return _states(node, self.mutates, time_major=node.options.time_major)

    def infer(self, node: Node) -> Types:
        """The shape of the input, with as many outputs as there are."""
        x = node.input(0)
        node.require(x.rank == 3, f"input must have rank 3, got shape {x.shape}")
        _, size = _infer(node, time_major=node.options.time_major, diagonal=True)
        return [node.output(0).with_shape((*x.dims[:2], size.outputs))]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """All steps, in order."""
        return _run(node, inputs, time_major=node.options.time_major)

    def lower(self, node: Node, steps: Lowering) -> None:
        """One call for the whole sequence."""
        _lower(node, steps, time_major=node.options.time_major)


@builtin("BIDIRECTIONAL_SEQUENCE_LSTM", versions=range(1, 4))
class BidirectionalSequenceLSTM(Op):
    """Two LSTMs over a sequence, one from its end; f32 or hybrid.

    `merge_outputs` puts their outputs side by side in one tensor. With aux weights both read
    the aux input beside the input; an aux input without weights is what the backward LSTM
    reads in place of the input.
    """

    options = BidirectionalSequenceLSTMOptions
    arity = (48, 48)
    results = (1, 2)
    optional = frozenset(
        (1, 5, 9, 10, 11, 12, 16, 17, 18, 22, 26, 27, 28, 29, 33, 34, *range(39, 48))
    )
    mutates = (35, 36, 37, 38)
    is_pure = False
    _names: ClassVar[tuple[str, str]] = ("forward ", "backward ")

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        return _states(node, self.mutates, time_major=node.options.time_major)

    def infer(self, node: Node) -> Types:
        """Outputs of both directions, or both in one."""
        options, x = node.options, node.input(0)
        wanted = 1 if options.merge_outputs else 2
        node.require(len(node.outputs) == wanted, f"has {len(node.outputs)} outputs")
        node.require(x.rank == 3, f"input must have rank 3, got shape {x.shape}")
        node.require_dtype(x, (F32,), "input")
        _check_clips(node)
        self._check_aux(node)
        widths = []
        for places, who in zip((FORWARD, BACKWARD), self._names, strict=True):
            cell = places.of(node.inputs)
            size = check(node, cell, time_major=options.time_major, diagonal=False, who=who)
            widths.append(size.outputs)
        first, second = (places.of(node.inputs).weights[3].dtype for places in (FORWARD, BACKWARD))
        node.require(first == second, f"weights are {first} forward, {second} backward")
        if options.merge_outputs:
            widths = [sum(widths)]
        for position in range(wanted):
            _require_like(node, position, F32)
        return [node.output(i).with_shape((*x.dims[:2], n)) for i, n in enumerate(widths)]

    def _check_aux(self, node: Node) -> None:
        x, aux = node.input(0), node.optional(39)
        there = {node.optional(i) is not None for i in (41, 42, 43, 45, 46, 47)}
        node.require(len(there) == 1, "some aux weights are there, some are missing")
        node.require(aux is not None or there == {False}, "aux weights without an aux input")
        if aux is None:
            return
        node.require_dtype(aux, (F32,), "aux input")
        ok = aux.rank == 3 and aux.dims[:2] == x.dims[:2]
        ok = ok and (there == {True} or aux.dims == x.dims)
        node.require(ok, f"aux input has shape {aux.shape}, the input {x.shape}")

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Forward, then backward."""
        options = node.options
        aux = inputs[39]
        second = inputs[0]
        if aux is not None and inputs[41] is None:
            second, aux = aux, None
        made = []
        for places, x in ((FORWARD, inputs[0]), (BACKWARD, second)):
            run = FloatLSTM(node, places.of(node.inputs), places.of(inputs)).run
            extra = None if aux is None else by_time(aux, time_major=options.time_major)
            steps = by_time(x, time_major=options.time_major)
            y = run(steps, extra, forward=places is FORWARD)
            made.append(by_time(y, time_major=options.time_major))
        return np.concatenate(made, axis=2) if options.merge_outputs else (made[0], made[1])

    def lower(self, node: Node, steps: Lowering) -> None:
        """One call for each direction, or none."""
        from litejit.ops.rnn_lowering import lower_bidirectional_lstm

        lower_bidirectional_lstm(node, steps, (FORWARD, BACKWARD))
