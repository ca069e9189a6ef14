"""How recurrent operators of floats, and SVDF, ask for their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from litejit.codegen.lang import f32, i32
from litejit.kernels import requantize
from litejit.kernels.rnn_f32 import RecurrentF32, pack_gates_f32
from litejit.kernels.rnn_int8 import offset, pack_gates, pack_vectors, panel_vectors
from litejit.kernels.rnn_svdf import MOST_TIMES, SVDFF32, SVDFInt8
from litejit.model.options import Activation
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.fixedpoint import wrap32
from litejit.ops.lstm_cell import CELL, OUTPUT, Cell, Places, Sizes, sizes
from litejit.types import F32, I8, I16, Array

NAMES = {
    Activation.NONE: "none", Activation.RELU: "relu", Activation.RELU_N1_TO_1: "relu_n1_to_1",
    Activation.RELU6: "relu6", Activation.TANH: "tanh", Activation.SIGN_BIT: "sign_bit",
}  # fmt: skip
_NS_PER_MAC = 0.03
_NS_PER_CELL = 6.0


class Rows:
    """Where rows of a sequence lie: an operand, and its strides from step and from batch."""

    def __init__(
        self, at: Operand, size: Sizes, width: int, *, time_major: bool, forward: bool = True,
        pitch: int = 0,
    ) -> None:  # fmt: skip
        pitch = pitch or width
        self.step, self.batch = pitch, size.steps * pitch
        if time_major:
            self.step, self.batch = size.batch * pitch, pitch
        self.at = at if forward else at.at(4 * self.step * (size.steps - 1))
        self.step = self.step if forward else -self.step
        self.width = width


def _constant(tensors: Sequence[Any]) -> bool:
    return all(t is None or (t.is_constant and t.dtype == F32) for t in tensors)


def can_lower_lstm(node: Node, cell: Cell) -> bool:
    """Is there a kernel for this direction?"""
    tensors = [*cell.weights, *cell.recurrent, *cell.peephole, *cell.bias, cell.projection,
               cell.projection_bias, *cell.aux_weights]  # fmt: skip
    plain = all(t is None for t in cell.norm)
    plain = plain and all(r is None or r.rank == 2 for r in cell.recurrent)
    return plain and _constant(tensors) and node.options.activation in NAMES


def lower_lstm(
    node: Node, steps: Lowering, places: Places, cell: Cell, size: Sizes, *, x: Rows, y: Rows,
    aux: Rows | None = None,
) -> None:  # fmt: skip
    """One call for all steps of a direction, where there is a kernel for it."""
    if not can_lower_lstm(node, cell):
        return
    gates = [g for g in range(4) if cell.weights[g] is not None]
    peephole = [_peephole(cell, g, size.cells) for g in gates]
    layer = _Layer(node, steps, size, gates, str(places.first))
    weights = [cell.weights, cell.recurrent, cell.aux_weights if aux else None]
    layer.call(
        states=(steps.inputs[places.output_state], steps.inputs[places.cell_state]),
        weights=[None if w is None else [w[g].value for g in gates] for w in weights],
        bias=[cell.bias[g].value for g in gates],
        peephole=peephole if cell.peephole[OUTPUT] is not None else None,
        projection=None if cell.projection is None else cell.projection.value,
        projection_bias=None if cell.projection_bias is None else cell.projection_bias.value,
        x=x, y=y, aux=aux, clips=(node.options.cell_clip, node.options.proj_clip),
    )  # fmt: skip


def _peephole(cell: Cell, gate: int, cells: int) -> Array:
    if gate == CELL or cell.peephole[gate] is None:
        return np.zeros(cells, np.float32)
    value: Array = cell.peephole[gate].value
    return value


class _Layer:
    """Packs what one RecurrentF32 call takes."""

    def __init__(
        self, node: Node, steps: Lowering, size: Sizes, gates: list[int], name: str
    ) -> None:
        self.node, self.steps, self.size, self.gates, self.name = node, steps, size, gates, name
        self.lanes = steps.isa.lanes(f32)
        self.vectors = panel_vectors(size.cells, self.lanes)

    def matrices(self, name: str, gates: list[Array]) -> Operand:
        make = partial(pack_gates_f32, gates, self.lanes, self.vectors)
        return self.steps.constant(f"{name} {self.name}", make)

    def rows(self, name: str, gates: list[Array]) -> Operand:
        make = partial(pack_vectors, gates, self.lanes, self.vectors)
        return self.steps.constant(f"{name} {self.name}", make)

    def call(
        self, *, states: Any, weights: Any, bias: Any, x: Rows, y: Rows, aux: Rows | None = None,
        peephole: Any = None, projection: Any = None, projection_bias: Any = None,
        clips: tuple[float, float] = (0.0, 0.0),
    ) -> None:  # fmt: skip
        """Ask for the kernel."""
        size, steps, lanes = self.size, self.steps, self.lanes
        weights_x, recurrent, weights_aux = weights
        packed = self.matrices("weights", weights_x), self.matrices("recurrent", recurrent)
        outputs = panel_vectors(size.outputs, lanes) if projection is not None else 0
        spec = RecurrentF32(
            self.vectors, len(self.gates), NAMES[self.node.options.activation], aux is not None,
            peephole is not None, outputs,
        )  # fmt: skip
        h, c = states
        assert h is not None
        anything: Operand = h
        matrix = vector = scratch = anything
        if projection is not None:
            make = partial(pack_gates_f32, [projection], lanes, outputs)
            matrix = steps.constant(f"projection {self.name}", make)
            missing = projection_bias is None
            value = np.zeros(size.outputs, np.float32) if missing else projection_bias
            make = partial(pack_vectors, [value], lanes, outputs)
            vector = steps.constant(f"projection bias {self.name}", make)
            scratch = steps.scratch(self.stride)
        eyes = anything if peephole is None else self.rows("peephole", peephole)
        extra = aux if aux is not None else x
        macs = len(self.gates) * size.cells * (size.inputs + size.outputs)
        steps.call(
            spec, x.at, extra.at, y.at, h, c if c is not None else anything, packed[0],
            self.matrices("aux", weights_aux) if weights_aux else anything, packed[1],
            self.rows("bias", bias), eyes, matrix, vector,
            scratch, -(-self.stride // 64) * 64, size.steps,
            -(-size.cells // (lanes * self.vectors)), size.cells, size.outputs, x.width,
            extra.width, x.step, x.batch, extra.step, extra.batch, y.step, y.batch,
            *(float(clip) for clip in clips), items=size.batch,
            cost_ns=size.batch * size.steps * (macs * _NS_PER_MAC + size.cells * _NS_PER_CELL),
        )  # fmt: skip

    @property
    def stride(self) -> int:
        """Bytes of scratch of one thread."""
        return 4 * self.size.cells + 64


def lower_layer(
    node: Node, steps: Lowering, first: int, size: Sizes, *, x: Rows, y: Rows,
    aux: Rows | None = None, aux_weights: Any = None,
) -> None:  # fmt: skip
    """One call for all steps of a simple layer, operands `first` ..., if there is a kernel."""
    weights, recurrent, bias = (node.input(first + i) for i in range(3))
    tensors = [weights, recurrent, bias, aux_weights]
    if not _constant(tensors) or node.options.activation not in NAMES:
        return
    layer = _Layer(node, steps, size, [0], str(first))
    extra = None if aux is None else [aux_weights.value]
    layer.call(
        states=(steps.inputs[first + 3], None),
        weights=[[weights.value], [recurrent.value], extra], bias=[bias.value],
        x=x, y=y, aux=aux,
    )  # fmt: skip


def lower_svdf(node: Node, steps: Lowering, made: Any) -> None:
    """SVDF of floats or of integers; `made` are the latter's multipliers."""
    x, feature, time, state = (node.input(i) for i in (0, 1, 2, 4))
    bias, (batch, inputs), (filters, times) = node.optional(3), x.dims, time.dims
    rank = node.options.rank
    constant = all(t is None or t.is_constant for t in (feature, time, bias))
    hybrid = x.dtype == F32 and feature.dtype != F32
    if hybrid or not constant or times > MOST_TIMES or rank > 16 or not inputs:
        return
    units, lanes = filters // rank, steps.isa.lanes(i32)
    vectors = min(-(-filters // lanes), 4)
    panels = -(-filters // (lanes * vectors))
    stride = 4 * (panels * lanes * vectors + units + lanes)
    numbers = (-(-stride // 64) * 64, inputs)
    cost = batch * (filters * (inputs * 0.02 + 6.0) + units)
    kind = np.int32 if x.dtype == I8 else np.float32
    value = np.zeros(units, kind) if bias is None or bias.value is None else bias.value
    padded = steps.constant(f"bias {lanes}", partial(np.pad, value, (0, -units % lanes)))
    source, weights_time, memory = steps.inputs[0], steps.inputs[2], steps.inputs[4]
    assert source is not None and weights_time is not None and memory is not None
    if x.dtype == I8:
        spec, packed = _integer_svdf(node, steps, made, vectors)
        more: tuple[int, ...] = (-(-inputs // 4), panels, units)
        more = (*more, 0 if state.dtype == I16 else state.zero_point)
    else:
        assert feature.value is not None
        make = partial(pack_gates_f32, [feature.value], lanes, vectors)
        spec, packed = (
            SVDFF32(vectors, rank, times, NAMES[node.options.activation]),
            [steps.constant(f"weights {lanes} {vectors}", make)],
        )
        more = (panels, units)
    steps.call(
        spec, source, steps.outputs[0], memory, *packed, weights_time, padded,
        steps.scratch(stride), *numbers, *more, items=batch, cost_ns=cost,
    )  # fmt: skip


def _integer_svdf(
    node: Node, steps: Lowering, made: Any, vectors: int
) -> tuple[Any, list[Operand]]:
    x, feature, time = (node.input(i) for i in range(3))
    lanes, weights = steps.isa.lanes(i32), feature.value
    assert weights is not None
    (m1, s1), (m2, s2) = made.feature, made.time
    zero = x.zero_point + offset(steps.isa)
    sums = -weights.view(np.int8).astype(np.int64).sum(axis=1) * zero
    bound = x.dims[1] * 128 * 256 + int(np.abs(sums).max(initial=0))
    form = requantize.best_form(np.array([m1]), np.array([s1]), 0, bound)
    point = node.output(0).zero_point
    last = requantize.best_form(np.array([m2]), np.array([s2]), point, (1 << 31) - 1)

    def starts() -> Array:
        moved = wrap32(sums + requantize.input_offset(form)).astype(np.int32)
        return pack_vectors([moved], lanes, vectors)

    def scales() -> Array:
        blocks = [
            requantize.constants(kind, lanes, np.repeat(m, lanes), np.repeat(s, lanes), z)
            for kind, m, s, z in ((form, m1, s1, 0), (last, m2, s2, point))
        ]
        return np.concatenate([block.reshape(-1) for block in blocks])

    bits = 16 if node.input(4).dtype == I16 else 8
    spec = SVDFInt8(vectors, node.options.rank, time.dims[1], bits, form, last)
    packed = [
        steps.constant(f"weights {vectors}", partial(pack_gates, [weights], lanes, vectors)),
        steps.constant(f"starts {vectors} {form}", starts),
        steps.constant(f"scales {form} {last}", scales),
    ]
    return spec, packed


def lower_bidirectional_lstm(node: Node, steps: Lowering, both: tuple[Places, Places]) -> None:
    """Two calls, of which each writes its part of the output."""
    major, merged = node.options.time_major, node.options.merge_outputs
    cells = [places.of(node.inputs) for places in both]
    sizes_ = [sizes(cell, time_major=major) for cell in cells]
    if not sizes_[0].steps or not all(can_lower_lstm(node, cell) for cell in cells):
        return
    source, aux = steps.inputs[both[0].x], steps.inputs[both[0].aux]
    assert source is not None
    pitch = sum(size.outputs for size in sizes_) if merged else 0
    for number, (places, cell, size) in enumerate(zip(both, cells, sizes_, strict=True)):
        extra, x = None, source
        if aux is not None and cell.aux_weights[OUTPUT] is not None:
            width = cell.aux.dims[-1]
            extra = Rows(aux, size, width, time_major=major, forward=not number)
        elif aux is not None and number:
            x = aux
        out = steps.outputs[0 if merged else number]
        if merged and number:
            out = out.at(4 * sizes_[0].outputs)
        lower_lstm(
            node, steps, places, cell, size, aux=extra,
            x=Rows(x, size, size.inputs, time_major=major, forward=not number),
            y=Rows(out, size, size.outputs, time_major=major, forward=not number, pitch=pitch),
        )  # fmt: skip
