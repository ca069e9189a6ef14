"""How the integer LSTM asks for its kernel."""

from __future__ import annotations

from functools import partial

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import i32
from litejit.kernels import requantize
from litejit.kernels.rnn_int8 import (
    LSTMInt8,
    offset,
    pack_gates,
    pack_vectors,
    panel_vectors,
)
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.fixedpoint import wrap32
from litejit.ops.lstm_cell import Cell, Places, Sizes
from litejit.ops.lstm_integer import Integers, folded_bias, parameters
from litejit.types import Array

_NS_PER_MAC = 0.01
_NS_PER_CELL = 12.0


def lower(node: Node, steps: Lowering, places: Places, cell: Cell, size: Sizes) -> None:
    """One call for the whole sequence, where the file has the plain cell with constant weights."""
    gates = [g for g in range(4) if cell.weights[g] is not None]
    matrices = [cell.weights[g] for g in gates], [cell.recurrent[g] for g in gates]
    biases = [cell.bias[g] for g in gates]
    if not _is_plain(node, cell, size) or not all(
        t.is_constant for t in (*matrices[0], *matrices[1], *biases)
    ):
        return
    p = parameters(node, cell)
    values = [[w.value for w in side] for side in matrices]
    starts = _starts(p, values, [b.value for b in biases], steps.isa)
    form = _form(p, gates, starts, size)
    hidden_form = requantize.best_form(
        np.array([p.hidden[0]]), np.array([p.hidden[1]]), p.hidden_zero, 1 << 30
    )
    lanes = steps.isa.lanes(i32)
    vectors = panel_vectors(size.cells, lanes)
    spec = LSTMInt8(vectors, cell.has_input_gate, p.cell_bits, form, hidden_form)
    constants = _constants(p, gates, values, starts, steps, spec)
    x, h, c = (steps.inputs[i] for i in (places.x, places.output_state, places.cell_state))
    assert x is not None and h is not None and c is not None
    major = getattr(node.options, "time_major", True)
    low, high = (-p.cell_clip, p.cell_clip) if p.cell_clip > 0 else (-32768, 32767)
    macs = 4 * size.cells * (size.inputs + size.outputs)
    steps.call(
        spec, x, steps.outputs[0], h, c, *constants, size.steps,
        -(-size.cells // (lanes * vectors)), size.cells, -(-size.inputs // 4), -(-size.cells // 4),
        *strides(size, size.inputs, time_major=major), *strides(size, size.cells, time_major=major),
        low, high, items=size.batch,
        cost_ns=size.batch * size.steps * (macs * _NS_PER_MAC + size.cells * _NS_PER_CELL),
    )  # fmt: skip


def _constants(
    p: Integers, gates: list[int], values: list[list[Array]], starts: list[list[Array]],
    steps: Lowering, spec: LSTMInt8,
) -> list[Operand]:  # fmt: skip
    """Weights, starts and multipliers in the kernel's order."""
    lanes, vectors = steps.isa.lanes(i32), spec.vectors
    added = requantize.input_offset(spec.form)

    def packed_starts(side: int) -> Array:
        moved = [wrap32(s + added).astype(np.int32) for s in starts[side]]
        return pack_vectors(moved, lanes, vectors)

    def packed_weights(side: int) -> Array:
        return pack_gates(values[side], lanes, vectors)

    made = [steps.constant(f"gates {k}", partial(packed_weights, k)) for k in range(2)]
    made += [
        steps.constant(f"starts {k} {spec.form}", partial(packed_starts, k)) for k in range(2)
    ]
    name = f"scales {spec.form} {spec.hidden_form}"
    return [*made, steps.constant(name, lambda: _scales(p, gates, spec, lanes))]


def strides(size: Sizes, width: int, *, time_major: bool) -> tuple[int, int]:
    """Elements from step to step and from batch to batch of rows of `width`."""
    return (size.batch * width, width) if time_major else (width, size.steps * width)


def _is_plain(node: Node, cell: Cell, size: Sizes) -> bool:
    plain = len(node.intermediates) == 5 and cell.projection is None
    plain = plain and all(t is None for t in (*cell.peephole, *cell.norm))
    return plain and size.steps > 0 and size.inputs > 0


def _starts(
    p: Integers, values: list[list[Array]], biases: list[Array], isa: Isa
) -> list[list[Array]]:
    """What the sums begin with: bias, zero points, and what the dots add to every activation."""
    more = offset(isa)
    first = [
        folded_bias(w, b, -p.input_zero - more) for w, b in zip(values[0], biases, strict=True)
    ]
    return [first, [folded_bias(w, None, -p.state_zero - more) for w in values[1]]]


def _multipliers(p: Integers, gates: list[int]) -> tuple[Array, Array]:
    pairs = [p.inputs[g] for g in gates] + [p.recurrent[g] for g in gates]
    return np.array([m for m, _ in pairs]), np.array([shift for _, shift in pairs])


def _form(p: Integers, gates: list[int], starts: list[list[Array]], size: Sizes) -> str:
    """One form for all gates; the bound holds for every input."""
    depth = max(size.inputs, size.cells)
    bound = depth * 128 * 256 + max(int(np.abs(s).max()) for side in starts for s in side)
    m, shift = _multipliers(p, gates)
    return requantize.best_form(m, shift, 0, bound)


def _scales(p: Integers, gates: list[int], spec: LSTMInt8, lanes: int) -> Array:
    m, shift = _multipliers(p, gates)
    rows = requantize.constants(spec.form, lanes, np.repeat(m, lanes), np.repeat(shift, lanes), 0)
    hidden = requantize.constants(
        spec.hidden_form, lanes, np.repeat(p.hidden[0], lanes), np.repeat(p.hidden[1], lanes),
        p.hidden_zero,
    )  # fmt: skip
    return np.concatenate([rows.reshape(-1), hidden.reshape(-1)])
