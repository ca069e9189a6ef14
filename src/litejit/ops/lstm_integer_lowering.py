"""How the integer LSTM asks for its kernel."""

from __future__ import annotations

from collections.abc import Sequence
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
from litejit.kernels.rnn_integer import LSTMInteger, multiplier, pack_rows
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.fixedpoint import reduced_multiplier, wrap32
from litejit.ops.lstm_cell import OUTPUT, Cell, Places, Sizes
from litejit.ops.lstm_integer import Integers, folded_bias, parameters
from litejit.types import Array, TensorType

_NS_PER_MAC = 0.01
_NS_PER_CELL = 12.0


def lower(node: Node, steps: Lowering, places: Places, cell: Cell, size: Sizes) -> None:
    """One call for the whole sequence, where the weights are constants."""
    gates = [g for g in range(4) if cell.weights[g] is not None]
    tensors = *cell.weights, *cell.recurrent, *cell.peephole, *cell.bias, *cell.norm
    known = all(
        t is None or t.is_constant for t in (*tensors, cell.projection, cell.projection_bias)
    )
    if not known or not size.steps or not size.inputs:
        return
    p = parameters(node, cell)
    values = [[four[g].value for g in gates] for four in (cell.weights, cell.recurrent)]
    if not _is_plain(node, cell):
        if not _peephole_is_shifted(node, cell, size):
            _lower_general(node, steps, places, cell, size, p, gates, values)
        return
    biases = [cell.bias[g] for g in gates]
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
    made += [steps.constant(f"starts {k} {spec.form}", partial(packed_starts, k)) for k in range(2)]
    name = f"scales {spec.form} {spec.hidden_form}"
    return [*made, steps.constant(name, lambda: _scales(p, gates, spec, lanes))]


def strides(size: Sizes, width: int, *, time_major: bool) -> tuple[int, int]:
    """Elements from step to step and from batch to batch of rows of `width`."""
    return (size.batch * width, width) if time_major else (width, size.steps * width)


def _is_plain(node: Node, cell: Cell) -> bool:
    plain = len(node.intermediates) == 5 and cell.projection is None
    return plain and all(t is None for t in (*cell.peephole, *cell.norm))


def _peephole_is_shifted(node: Node, cell: Cell, size: Sizes) -> bool:
    """Does LiteRT give the cells of a later batch the peephole weights of other cells?"""
    major = getattr(node.options, "time_major", True)
    fewer = size.outputs < size.cells and size.batch > 1
    return cell.peephole[OUTPUT] is not None and major and fewer


def _lower_general(
    node: Node, steps: Lowering, places: Places, cell: Cell, size: Sizes, p: Integers,
    gates: list[int], values: list[list[Array]],
) -> None:  # fmt: skip
    """The kernel that has peepholes, layer norm, projection and 8x8_8."""
    narrow, norm = len(node.intermediates) == 12, cell.norm[OUTPUT] is not None
    lanes = steps.isa.lanes(i32)
    vectors = panel_vectors(size.cells, lanes)
    width = lanes * vectors
    spec = LSTMInteger(
        vectors, cell.has_input_gate, p.cell_bits, cell.peephole[OUTPUT] is not None and not narrow,
        norm, cell.projection is not None, narrow,
    )  # fmt: skip
    biases = [None if norm else cell.bias[g].value for g in gates]
    starts = _starts(p, values, biases, steps.isa)
    constants = [
        steps.constant(f"{name} {k}", partial(pack, made[k], lanes, vectors))
        for name, pack, made in (
            ("gates", pack_gates, values),
            ("plain starts", pack_vectors, [[s.astype(np.int32) for s in side] for side in starts]),
        )
        for k in range(2)
    ]
    constants.append(steps.constant("numbers", lambda: _numbers(p, gates, narrow=narrow)))
    for name, four, dtype in (
        ("peephole", cell.peephole, np.int16), ("norm", cell.norm, np.int16),
        ("bias", cell.bias, np.int32),
    ):  # fmt: skip
        rows = [_first(four[g], size, name) for g in gates]
        constants.append(steps.constant(f"{name} {width}", partial(pack_rows, rows, width, dtype)))
    constants += _projection(steps, cell, p, narrow=narrow)
    x, h, c = (steps.inputs[i] for i in (places.x, places.output_state, places.cell_state))
    assert x is not None and h is not None and c is not None
    major = getattr(node.options, "time_major", True)
    clip, reach = p.cell_clip or 32768, p.proj_clip or 128
    panels = -(-size.cells // width)
    stride = -(-panels * width * (4 * len(gates) + 2) // 64) * 64 + 64
    macs = 4 * size.cells * (size.inputs + size.outputs)
    steps.call(
        spec, x, steps.outputs[0], h, c, *constants, steps.scratch(stride), stride, size.steps,
        panels, size.cells, size.outputs, -(-size.inputs // 4), -(-size.outputs // 4),
        *strides(size, size.inputs, time_major=major),
        *strides(size, size.outputs, time_major=major), -clip, min(clip, 32767), -reach,
        min(reach, 127), p.hidden_zero, p.state_zero, items=size.batch,
        cost_ns=size.batch * size.steps * (macs * _NS_PER_MAC + size.cells * 4 * _NS_PER_CELL),
    )  # fmt: skip


def _first(tensor: TensorType | None, size: Sizes, name: str) -> Array:
    """A vector of all cells; LiteRT walks as many cells with a peephole as there are outputs."""
    value = np.zeros(size.cells, np.int64)
    if tensor is not None and tensor.value is not None:
        count = min(size.outputs, size.cells) if name == "peephole" else size.cells
        value[:count] = tensor.value[:count]
    return value


def _numbers(p: Integers, gates: list[int], *, narrow: bool) -> Array:
    """What LSTMInteger scales with."""
    none = (0, 0)
    result: list[int] = []
    for g in gates:
        norm = p.norm[g] or none
        x, h, zero_x, zero_h = p.middle[g] or (none, none, 0, 0)
        scaled = norm if narrow else (norm[0], norm[1] + 12)
        for pair in (p.inputs[g], p.recurrent[g], p.peephole[g] or none, scaled, x, h):
            result += multiplier(*pair)
        scale = np.float64(np.float32(norm[0] * 2.0 ** (norm[1] - 31)))
        result += [p.guards[g] or 1, zero_x, zero_h, int(scale.view(np.int64))]
    result += multiplier(*p.hidden)
    m, shift = p.projection
    result += [int(reduced_multiplier(m)), 15 - shift] if narrow else multiplier(m, shift)
    return np.array(result, np.int64)


def _projection(steps: Lowering, cell: Cell, p: Integers, *, narrow: bool) -> list[Operand]:
    """Weights and folded bias; what is there instead is not read."""
    matrix, vector = cell.projection, cell.projection_bias
    codes = np.zeros((1, 1), np.int8) if matrix is None else matrix.value.view(np.int8)
    given = None if vector is None else vector.value.astype(np.int64)
    bias = given if narrow and given is not None else folded_bias(codes, given, p.hidden_zero)
    return [
        steps.constant("projection", lambda: np.ascontiguousarray(codes)),
        steps.constant("projection bias", lambda: bias),
    ]


def _starts(
    p: Integers, values: list[list[Array]], biases: Sequence[Array | None], isa: Isa
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
