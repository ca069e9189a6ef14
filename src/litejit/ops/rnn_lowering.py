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
from litejit.record import Record
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
    return all(t is None or t.is_constant for t in tensors)


def can_lower_lstm(node: Node, cell: Cell) -> bool:
    """Is there a kernel for this direction?"""
    tensors = [*cell.weights, *cell.recurrent, *cell.peephole, *cell.bias, cell.projection,
               cell.projection_bias, *cell.aux_weights, *cell.norm]  # fmt: skip
    ranks = {r.rank for r in cell.recurrent if r is not None}
    return len(ranks) == 1 and _constant(tensors) and node.options.activation in NAMES


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
    projection, bias = cell.projection, cell.projection_bias
    weights, recurrent, biases = (
        [four[g] for g in gates] for four in (cell.weights, cell.recurrent, cell.bias)
    )
    w = _weights(
        node, weights, recurrent, biases, [cell.aux_weights[g] for g in gates] if aux else None,
        peephole=peephole if cell.peephole[OUTPUT] is not None else None,
        norm=None if cell.norm[OUTPUT] is None else [cell.norm[g].value for g in gates],
        projection=None if projection is None else projection.value,
        projection_bias=None if bias is None else bias.value,
        projection_scale=0.0 if projection is None else projection.scale,
    )  # fmt: skip
    states = steps.inputs[places.output_state], steps.inputs[places.cell_state]
    clips = node.options.cell_clip, node.options.proj_clip
    layer.call(w, states, x=x, y=y, aux=aux, clips=clips)


def _peephole(cell: Cell, gate: int, cells: int) -> Array:
    if gate == CELL or cell.peephole[gate] is None:
        return np.zeros(cells, np.float32)
    value: Array = cell.peephole[gate].value
    if value.dtype != np.float32:
        value = value.view(np.int8) * np.float32(cell.peephole[gate].scale)
    return value


class Weights(Record):
    """Constants of a direction; lists have one entry a gate. `aux` and what follows may be None.

    `scales` are those of int8 weights: of x, state, aux (0 where there is none), a gate each.
    `hybrid` is the kernel's.
    """

    weights: list[Array]
    recurrent: list[Array]
    bias: list[Array]
    aux: list[Array] | None = None
    peephole: list[Array] | None = None
    norm: list[Array] | None = None
    projection: Array | None = None
    projection_bias: Array | None = None
    projection_scale: float = 0.0
    scales: tuple[float, ...] = ()
    hybrid: str = ""

    __hash__ = object.__hash__

    @property
    def is_diagonal(self) -> bool:
        """Are the recurrent weights vectors?"""
        return self.recurrent[0].ndim == 1


def _weights(
    node: Node, weights: list[Any], recurrent: list[Any], bias: list[Any], aux: list[Any] | None,
    **more: Any,
) -> Weights:  # fmt: skip
    """Of tensors."""
    hybrid = ""
    if weights[0].dtype != F32:
        hybrid = "asymmetric" if node.options.asymmetric_quantize_inputs else "symmetric"
    scales = [t.scale for t in (*weights, *recurrent, *(aux or ()))]
    scales += [0.0] * (3 * len(weights) - len(scales))
    return Weights(
        weights=[t.value for t in weights], recurrent=[t.value for t in recurrent],
        bias=[t.value for t in bias], aux=None if aux is None else [t.value for t in aux],
        scales=tuple(scales), hybrid=hybrid, **more,
    )  # fmt: skip


class _Layer:
    """Packs what one RecurrentF32 call takes."""

    def __init__(
        self, node: Node, steps: Lowering, size: Sizes, gates: list[int], name: str
    ) -> None:
        self.node, self.steps, self.size, self.gates, self.name = node, steps, size, gates, name
        self.lanes = steps.isa.lanes(f32)
        self.vectors = panel_vectors(size.cells, self.lanes)

    def matrices(self, name: str, gates: list[Array], vectors: int = 0) -> Operand:
        pack = pack_gates_f32 if gates[0].dtype == np.float32 else pack_gates
        make = partial(pack, gates, self.lanes, vectors or self.vectors)
        return self.steps.constant(f"{name} {self.name}", make)

    def row_sums(self, name: str, sources: list[list[Array]], vectors: int) -> Operand:
        """Of int8 weights, source after source."""

        def make() -> Array:
            sums = [[w.view(np.int8).sum(axis=1, dtype=np.int32) for w in s] for s in sources]
            return np.concatenate([pack_vectors(s, self.lanes, vectors) for s in sums])

        return self.steps.constant(f"{name} {self.name}", make)

    def rows(self, name: str, gates: list[Array]) -> Operand:
        make = partial(pack_vectors, gates, self.lanes, self.vectors)
        return self.steps.constant(f"{name} {self.name}", make)

    def call(
        self, w: Weights, states: tuple[Operand | None, Operand | None], *, x: Rows, y: Rows,
        aux: Rows | None, clips: tuple[float, float] = (0.0, 0.0),
    ) -> None:  # fmt: skip
        """Ask for the kernel."""
        size, lanes = self.size, self.lanes
        outputs = panel_vectors(size.outputs, lanes) if w.projection is not None else 0
        spec = RecurrentF32(
            self.vectors, len(self.gates), NAMES[self.node.options.activation], aux is not None,
            w.peephole is not None, outputs, w.hybrid, w.norm is not None, w.is_diagonal,
        )  # fmt: skip
        h, c = states
        assert h is not None
        cells = h if c is None else c
        extra = aux if aux is not None else x
        stride = self.stride(extra_depth=0 if aux is None else aux.width, sums=w.norm is not None)
        scratch = self.steps.scratch(stride) if w.hybrid or outputs or w.norm else h
        macs = len(self.gates) * size.cells * (size.inputs + size.outputs)
        self.steps.call(
            spec, x.at, extra.at, y.at, h, cells, *self._gate_constants(w, h),
            *self._projection(w, outputs, h), scratch, *self._hybrid(w, outputs, h), stride,
            size.steps, -(-size.cells // (lanes * self.vectors)), size.cells, size.outputs,
            x.width, extra.width, x.step, x.batch, extra.step, extra.batch, y.step, y.batch,
            *(float(clip) for clip in clips), items=size.batch,
            cost_ns=size.batch * size.steps * (macs * _NS_PER_MAC + size.cells * _NS_PER_CELL),
        )  # fmt: skip

    def _gate_constants(self, w: Weights, nothing: Operand) -> list[Operand]:
        """Weights of x, aux and the state, biases, peepholes."""
        return [
            self.matrices("weights", w.weights),
            nothing if w.aux is None else self.matrices("aux", w.aux),
            (self.rows if w.is_diagonal else self.matrices)("recurrent", w.recurrent),
            self.rows("bias", w.bias),
            nothing if w.peephole is None else self.rows("peephole", w.peephole),
            nothing if w.norm is None else self.rows("norm", w.norm),
        ]

    def _projection(self, w: Weights, vectors: int, nothing: Operand) -> list[Operand]:
        """Its weights and bias."""
        if w.projection is None:
            return [nothing, nothing]
        zeros = np.zeros(self.size.outputs, np.float32)
        bias = zeros if w.projection_bias is None else w.projection_bias
        make = partial(pack_vectors, [bias], self.lanes, vectors)
        return [
            self.matrices("projection", [w.projection], vectors),
            self.steps.constant(f"projection bias {self.name}", make),
        ]

    def _hybrid(self, w: Weights, vectors: int, nothing: Operand) -> list[Operand]:
        """Row sums, scales, and the projection's row sums."""
        if not w.hybrid:
            return [nothing] * 3
        recurrent = w.weights if w.is_diagonal else w.recurrent  # of diagonals there are no sums
        sources = [w.weights, recurrent, *([] if w.aux is None else [w.aux])]
        scales = np.array([*w.scales, w.projection_scale], np.float32)
        last = nothing
        if w.projection is not None:
            last = self.row_sums("projection sums", [[w.projection]], vectors)
        sums = self.row_sums("sums", sources, self.vectors)
        return [sums, self.steps.constant(f"scales {self.name}", lambda: scales), last]

    def stride(self, *, extra_depth: int, sums: bool) -> int:
        """Bytes of scratch of one thread: sums of the gates, cells, bytes of all rows."""
        size, width = self.size, self.lanes * self.vectors
        gates = 4 * len(self.gates) * -(-size.cells // width) * width if sums else 0
        widths = gates, 4 * size.cells, size.inputs, size.outputs, extra_depth, size.cells
        return sum(-(-width // 64) * 64 for width in widths) + 64


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
    w = _weights(node, [weights], [recurrent], [bias], None if aux is None else [aux_weights])
    layer.call(w, (steps.inputs[first + 3], None), x=x, y=y, aux=aux)


def lower_bidirectional_layer(node: Node, steps: Lowering, both: list[Sizes]) -> None:
    """Two calls, of which each writes its part of the output."""
    major, merged = node.options.time_major, node.options.merge_outputs
    source, aux = steps.inputs[0], steps.inputs[9]
    constants = [node.optional(i) for i in (1, 2, 3, 5, 6, 7, 10, 11)]
    if not _constant(constants) or node.options.activation not in NAMES or source is None:
        return
    pitch = sum(size.cells for size in both) if merged else 0
    for number, size in enumerate(both):
        x, extra, weights = source, None, node.optional(10 + number)
        if aux is not None and weights is not None:
            width = weights.dims[1]
            extra = Rows(aux, size, width, time_major=major, forward=not number)
        elif aux is not None and number and major:
            x = aux
        out = steps.outputs[0 if merged else number]
        if merged and number:
            out = out.at(4 * both[0].cells)
        lower_layer(
            node, steps, 5 if number else 1, size, aux=extra, aux_weights=weights,
            x=Rows(x, size, size.inputs, time_major=major, forward=not number),
            y=Rows(out, size, size.cells, time_major=major, forward=not number, pitch=pitch),
        )  # fmt: skip


def lower_svdf(node: Node, steps: Lowering, made: Any) -> None:
    """SVDF of floats or of integers; `made` are the latter's multipliers."""
    x, feature, time, state = (node.input(i) for i in (0, 1, 2, 4))
    bias, (batch, inputs), (filters, times) = node.optional(3), x.dims, time.dims
    rank = node.options.rank
    constant = all(t is None or t.is_constant for t in (feature, time, bias))
    if not constant or times > MOST_TIMES or rank > 16 or not inputs:
        return
    units, lanes = filters // rank, steps.isa.lanes(i32)
    vectors = min(-(-filters // lanes), 4)
    panels = -(-filters // (lanes * vectors))
    stride = 4 * (panels * lanes * vectors + units + lanes) + inputs + 128
    numbers: tuple[int | float, ...] = (-(-stride // 64) * 64, inputs)
    cost = batch * (filters * (inputs * 0.02 + 6.0) + units)
    kind = np.int32 if x.dtype == I8 else np.float32
    value = np.zeros(units, kind) if bias is None or bias.value is None else bias.value
    padded = [steps.constant(f"bias {lanes}", partial(np.pad, value, (0, -units % lanes)))]
    source, weights_time, memory = steps.inputs[0], steps.inputs[2], steps.inputs[4]
    assert source is not None and weights_time is not None and memory is not None
    if x.dtype == I8:
        spec, packed = _integer_svdf(node, steps, made, vectors)
        numbers += (-(-inputs // 4), panels, units)
        numbers += (0 if state.dtype == I16 else state.zero_point,)
    else:
        spec, packed, times_, sums = _float_svdf(node, steps, vectors)
        weights_time = times_ or weights_time
        padded.append(sums or memory)
        numbers += (panels, units, float(feature.scale))
    steps.call(
        spec, source, steps.outputs[0], memory, *packed, weights_time, *padded,
        steps.scratch(stride), *numbers, items=batch, cost_ns=cost,
    )  # fmt: skip


def _float_svdf(
    node: Node, steps: Lowering, vectors: int
) -> tuple[Any, list[Operand], Operand | None, Operand | None]:
    """Spec, packed weights; of int8 weights the time weights as floats, and row sums."""
    feature, time = node.input(1), node.input(2)
    value, weights, lanes = feature.value, time.value, steps.isa.lanes(f32)
    assert value is not None and weights is not None
    is_float, name, options = feature.dtype == F32, f"{lanes} {vectors}", node.options
    kind = "asymmetric" if options.asymmetric_quantize_inputs else "symmetric"
    spec = SVDFF32(
        vectors, options.rank, time.dims[1], NAMES[options.activation], "" if is_float else kind
    )
    pack = pack_gates_f32 if is_float else pack_gates
    packed = steps.constant(f"weights {name}", partial(pack, [value], lanes, vectors))
    if is_float:
        return spec, [packed], None, None
    row_sums = value.view(np.int8).sum(axis=1, dtype=np.int32)
    floats = weights.view(np.int8) * np.float32(time.scale)
    return (
        spec, [packed], steps.constant("time", lambda: floats),
        steps.constant(f"sums {name}", partial(pack_vectors, [row_sums], lanes, vectors)),
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
