"""How TFLM's integer LSTMs ask for their kernels."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from litejit.codegen.lang import i32
from litejit.kernels import requantize
from litejit.kernels.rnn_int8 import offset, pack_gates, pack_vectors, panel_vectors
from litejit.kernels.rnn_micro import LSTMMicro, LSTMMicro16, pack_table
from litejit.micro.ops_lstm import Multipliers
from litejit.ops.activation import SIGMOID
from litejit.ops.base import Lowering, Node
from litejit.ops.fixedpoint import reduced_multiplier, wrap32
from litejit.ops.lstm_integer import folded_bias
from litejit.types import Array

_HIDDEN, _CELL = 18, 19


def lower_int8(node: Node, steps: Lowering, made: Multipliers) -> None:
    """One call for the whole sequence, where weights and biases are constants."""
    batch, count, cells, inputs = sizes = _sizes(node)
    if not _can_lower(node, sizes):
        return
    hidden, bits = node.input(_HIDDEN), round(math.log2(node.input(_CELL).scale))
    values = [_constants_of(node, side) for side in (range(1, 5), range(5, 9))]
    starts = _starts(node, values, offset(steps.isa))
    pairs = np.array([*made.input, *made.recurrent])
    bound = max(inputs, cells) * 128 * 256 + max(int(np.abs(s).max()) for t in starts for s in t)
    form = requantize.best_form(pairs[:, 0], pairs[:, 1], 0, bound)
    m, shift = (np.array([part]) for part in made.result)
    hidden_form = requantize.best_form(m, shift, hidden.zero_point, 1 << 30)
    lanes = steps.isa.lanes(i32)
    vectors = panel_vectors(cells, lanes)
    spec = LSTMMicro(vectors, True, bits, form, hidden_form)

    def packed_starts(side: int) -> Array:
        added = requantize.input_offset(form)
        moved = [wrap32(s + added).astype(np.int32) for s in starts[side]]
        return pack_vectors(moved, lanes, vectors)

    def constants() -> Array:
        both = (np.repeat(pairs[:, k], lanes) for k in range(2))
        rows = requantize.constants(form, lanes, next(both), next(both), 0)
        last = requantize.constants(
            hidden_form, lanes, np.repeat(m, lanes), np.repeat(shift, lanes), hidden.zero_point
        )
        table = pack_table(SIGMOID)
        return np.concatenate([part.reshape(-1).view(np.uint8) for part in (rows, last, table)])

    operands = [
        *(
            steps.constant(f"gates {k}", partial(pack_gates, values[k], lanes, vectors))
            for k in range(2)
        ),
        *(steps.constant(f"starts {k} {form}", partial(packed_starts, k)) for k in range(2)),
        steps.constant(f"scales {form} {hidden_form}", constants),
    ]
    states = [steps.inputs[k] for k in (0, _HIDDEN, _CELL)]
    assert states[0] is not None and states[1] is not None and states[2] is not None
    low, high = (-made.clip, made.clip) if made.clip else (-32768, 32767)
    steps.call(
        spec, states[0], steps.outputs[0], states[1], states[2], *operands,
        count, -(-cells // (lanes * vectors)), cells, -(-inputs // 4), -(-cells // 4),
        *_strides(node, batch, count, inputs), *_strides(node, batch, count, cells), low, high,
        items=batch,
        cost_ns=batch * count * (4 * cells * (inputs + cells) * 0.01 + cells * 10.0),
    )  # fmt: skip


def _sizes(node: Node) -> tuple[int, int, int, int]:
    """Batch, steps, cells, inputs."""
    dims = node.input(0).dims
    batch, count = dims[:2][:: -1 if node.options.time_major else 1]
    return batch, count, node.input(5).dims[0], dims[2]


def _can_lower(node: Node, sizes: tuple[int, ...]) -> bool:
    """Are weights and biases constants, and the cells' scale a power of two?"""
    known = all(node.input(k).is_constant for k in (*range(1, 9), *range(12, 16)))
    scale = node.input(_CELL).scale
    return known and math.prod(sizes) > 0 and scale == 2.0 ** round(math.log2(scale))


def lower_int16(node: Node, steps: Lowering, made: Multipliers) -> None:
    """The same of int16 data."""
    batch, count, cells, inputs = sizes = _sizes(node)
    if not _can_lower(node, sizes):
        return
    values = [_constants_of(node, side) for side in (range(1, 5), range(5, 9))]
    biases = [*_constants_of(node, range(12, 16)), *([None] * 4)]
    zeros = node.input(0).zero_point, node.input(_HIDDEN).zero_point

    def starts(side: int) -> Array:
        rows = zip(values[side], biases[4 * side :], strict=False)
        sums = [w.astype(np.int64).sum(axis=1) * -zeros[side] + (0 if b is None else b)
                for w, b in rows]  # fmt: skip
        return np.concatenate(sums)

    def numbers() -> Array:
        pairs = [p for both in zip(made.input, made.recurrent, strict=True) for p in both]
        narrowed = [n for m, shift in pairs for n in (int(reduced_multiplier(m)), 15 - shift)]
        m, shift = made.result
        return np.array([*narrowed, m, max(shift, 0), max(-shift, 0), zeros[1]], np.int64)

    states = [operand for operand in (steps.inputs[k] for k in (0, _HIDDEN, _CELL)) if operand]
    low, high = (-made.clip, made.clip) if made.clip else (-32768, 32767)
    stride = -(-cells * 16 // 64) * 64 + 64
    steps.call(
        LSTMMicro16(1, True, round(math.log2(node.input(_CELL).scale)), "", ""),
        states[0], steps.outputs[0], *states[1:],
        *(steps.constant(f"rows {k}", partial(np.concatenate, values[k])) for k in range(2)),
        *(steps.constant(f"starts {k}", partial(starts, k)) for k in range(2)),
        steps.constant("numbers", numbers), steps.constant("table", lambda: pack_table(SIGMOID)),
        steps.scratch(stride), stride, count, cells, inputs,
        *_strides(node, batch, count, inputs), *_strides(node, batch, count, cells), low, high,
        items=batch,
        cost_ns=batch * count * (4 * cells * (inputs + cells) * 0.3 + cells * 20.0),
    )  # fmt: skip


def _constants_of(node: Node, places: range) -> list[Array]:
    values = [node.input(k).value for k in places]
    return [value for value in values if value is not None]


def _strides(node: Node, batch: int, steps: int, width: int) -> tuple[int, int]:
    """Elements from step to step and from batch to batch."""
    return (batch * width, width) if node.options.time_major else (width, steps * width)


def _starts(node: Node, values: list[list[Array]], more: int) -> list[list[Array]]:
    """Bias, zero points, and what the dots add to every activation."""
    biases = _constants_of(node, range(12, 16))
    zeros = node.input(0).zero_point + more, node.input(_HIDDEN).zero_point + more
    return [
        [folded_bias(w, b, -zeros[0]) for w, b in zip(values[0], biases, strict=True)],
        [folded_bias(w, None, -zeros[1]) for w in values[1]],
    ]
