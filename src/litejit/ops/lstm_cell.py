"""One direction of an LSTM: where its operands stand, what they must look like, its sizes.

Gates come in the order input, forget, cell, output. An LSTM without an input gate (CIFG) uses
1 - forget in its place.
Source: LiteRT tflite/kernels/lstm_shared.h, lstm.cc, unidirectional_sequence_lstm.cc,
bidirectional_sequence_lstm.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litejit.ops.base import Node
from litejit.record import Record
from litejit.types import F32, I8, I16, I32, U8, DType, TensorType

GATES = ("input", "forget", "cell", "output")
INPUT, FORGET, CELL, OUTPUT = range(4)
Four = tuple[Any, Any, Any, Any]
_NONE: Four = (None, None, None, None)


class Cell(Record):
    """The operands of one direction: types before a run, arrays in it, None where absent.

    `weights` are [cells, inputs], `recurrent` [cells, outputs] or (diagonal) [cells],
    `peephole`, `bias` and `norm` [cells], `projection` [outputs, cells], `aux_weights`
    [cells, aux inputs]; four of each, one a gate. `x` is the input.
    """

    x: Any
    weights: Four
    recurrent: Four
    peephole: Four
    bias: Four
    projection: Any
    projection_bias: Any
    output_state: Any
    cell_state: Any
    norm: Four
    aux: Any
    aux_weights: Four

    __hash__ = object.__hash__

    @property
    def has_input_gate(self) -> bool:
        """False where the input gate is 1 - forget."""
        return self.weights[INPUT] is not None


class Places(Record):
    """Positions among the inputs of a node; -1 where the operator has no such operand.

    `first` is that of the first weights; peepholes, biases and the projection follow them.
    `norm` and `aux_weights` are those of the first of four.
    """

    first: int
    output_state: int
    cell_state: int
    x: int = 0
    norm: int = -1
    aux: int = -1
    aux_weights: int = -1

    def of(self, operands: Sequence[Any]) -> Cell:
        """Pick the operands of this direction out of a node's inputs."""

        def at(position: int) -> Any:
            return operands[position] if 0 <= position < len(operands) else None

        def four(first: int) -> Four:
            if first < 0:
                return _NONE
            return at(first), at(first + 1), at(first + 2), at(first + 3)

        w = self.first
        return Cell(
            at(self.x), four(w), four(w + 4), (at(w + 8), at(w + 9), None, at(w + 10)),
            four(w + 11), at(w + 15), at(w + 16), at(self.output_state), at(self.cell_state),
            four(self.norm), at(self.aux), four(self.aux_weights),
        )  # fmt: skip


class Sizes(Record):
    """What an LSTM direction has of everything."""

    steps: int
    batch: int
    inputs: int
    cells: int
    outputs: int


def sizes(cell: Cell, *, time_major: bool) -> Sizes:
    """The sizes of a direction whose weights are there; x is [batch, inputs] or 3-D."""
    dims = cell.x.dims
    steps, batch = (1, dims[0]) if len(dims) == 2 else (dims[:2] if time_major else dims[1::-1])
    recurrent = cell.recurrent[OUTPUT].dims
    return Sizes(steps, batch, dims[-1], cell.weights[OUTPUT].dims[0], recurrent[-1])


def check(node: Node, cell: Cell, *, time_major: bool, diagonal: bool, who: str = "") -> Sizes:
    """Refuse operands that do not fit each other; `diagonal` allows recurrent vectors."""
    _check_matrices(node, cell, diagonal=diagonal, who=who)
    size = sizes(cell, time_major=time_major)
    kind = cell.x.dtype
    integer = kind == I8
    node.require_dtype(cell.x, (F32, I8), f"{who}input")
    allowed = (I8, U8) if integer else (F32, I8, U8)
    node.require_dtype(cell.weights[OUTPUT], allowed, f"{who}input_to_output_weights")
    _check_weights(node, cell, size, who)
    _check_vectors(node, cell, size, who, integer=integer)
    _check_projection(node, cell, size, who, bias=I32 if integer else F32)
    _check_states(node, cell, size, who, integer=integer)
    return size


def _check_matrices(node: Node, cell: Cell, *, diagonal: bool, who: str) -> None:
    """The two matrices that tell the sizes."""
    for tensor, what, ranks in (
        (cell.weights[OUTPUT], "input_to_output_weights", (2,)),
        (cell.recurrent[OUTPUT], "recurrent_to_output_weights", (1, 2) if diagonal else (2,)),
    ):
        node.require(tensor is not None, f"{who}{what} are missing")
        node.require(tensor.rank in ranks, f"{who}{what} have shape {tensor.shape}")


def _shaped(
    node: Node, tensor: TensorType, shape: tuple[int, ...], dtype: DType, what: str
) -> None:
    node.require(tensor.shape == shape, f"{what} has shape {tensor.shape}, expected {shape}")
    node.require_dtype(tensor, (dtype,), what)


def _check_weights(node: Node, cell: Cell, size: Sizes, who: str) -> None:
    kind = cell.weights[OUTPUT].dtype
    both = (cell.weights[INPUT] is None) == (cell.recurrent[INPUT] is None)
    node.require(both, f"{who}input gate needs both its weights or none of them")
    aux = cell.aux is not None and any(w is not None for w in cell.aux_weights)
    for gate, name in enumerate(GATES):
        if gate == INPUT and not cell.has_input_gate:
            continue
        w, r = cell.weights[gate], cell.recurrent[gate]
        present = w is not None and r is not None
        node.require(present, f"{who}weights of the {name} gate are missing")
        _shaped(node, w, (size.cells, size.inputs), kind, f"{who}input_to_{name}_weights")
        what = f"{who}recurrent_to_{name}_weights"
        if r.rank == 1 and cell.recurrent[OUTPUT].rank == 1:
            _shaped(node, r, (size.cells,), F32, what)
        else:
            _shaped(node, r, (size.cells, size.outputs), kind, what)
        if aux:
            extra = cell.aux_weights[gate]
            node.require(extra is not None, f"{who}aux_input_to_{name}_weights are missing")
            shape = (size.cells, cell.aux.dims[-1])
            _shaped(node, extra, shape, kind, f"{who}aux_input_to_{name}_weights")


def _check_vectors(node: Node, cell: Cell, size: Sizes, who: str, *, integer: bool) -> None:
    bias, norm = (I32, I16) if integer else (F32, F32)
    peephole = I16 if integer else cell.weights[OUTPUT].dtype
    gates = [g for g in range(4) if g != INPUT or cell.has_input_gate]
    for tensors, wanted, dtype, name in (
        (cell.bias, gates, bias, "gate_bias"),
        (cell.peephole, [g for g in gates if g != CELL], peephole, "peephole weights"),
        (cell.norm, gates, norm, "layer_norm_coefficients"),
    ):
        key = tensors[OUTPUT] if name.startswith("peep") else tensors[FORGET]
        if key is None and name != "gate_bias":
            absent = all(t is None for t in tensors) or name.startswith("layer")
            node.require(absent, f"{who}{name}: some are there, some are missing")
            continue
        for gate, tensor in enumerate(tensors):
            what = f"{who}{name} of the {GATES[gate]} gate"
            fits = (tensor is not None) == (gate in wanted)
            node.require(fits, f"{what}: missing, or one too many")
            if tensor is not None:
                _shaped(node, tensor, (size.cells,), dtype, what)


def _check_projection(node: Node, cell: Cell, size: Sizes, who: str, *, bias: DType) -> None:
    matrix, vector = cell.projection, cell.projection_bias
    node.require(matrix is not None or vector is None, f"{who}projection_bias without weights")
    if matrix is None:
        fits = size.outputs == size.cells
        what = f"{size.cells} cells give {size.outputs} outputs"
        node.require(fits, f"{who}without projection_weights {what}")
        return
    shape = (size.outputs, size.cells)
    _shaped(node, matrix, shape, cell.weights[OUTPUT].dtype, f"{who}projection_weights")
    if vector is not None:
        _shaped(node, vector, (size.outputs,), bias, f"{who}projection_bias")


def _check_states(node: Node, cell: Cell, size: Sizes, who: str, *, integer: bool) -> None:
    for tensor, width, dtype, name in (
        (cell.output_state, size.outputs, I8 if integer else F32, "output_state"),
        (cell.cell_state, size.cells, I16 if integer else F32, "cell_state"),
    ):
        require_state(node, tensor, f"{who}{name}")
        node.require_dtype(tensor, (dtype,), f"{who}{name}")
        fits = tensor.size == size.batch * width
        expected = f"expected {size.batch} x {width} elements"
        node.require(fits, f"{who}{name} has shape {tensor.shape}, {expected}")


def require_state(node: Node, tensor: TensorType | None, what: str) -> None:
    """Refuse a state that the file does not mark as variable."""
    node.require(tensor is not None and tensor.is_variable, f"{what} must be a variable tensor")


def fitted(
    tensors: dict[int, TensorType | None], x: TensorType | None, *, time_major: bool
) -> dict[int, tuple[int, ...]]:
    """Shapes of those [batch, n] states whose batch is not that of the input."""
    if x is None or x.shape is None or x.rank not in (2, 3):
        return {}
    batch = x.shape[1] if time_major and x.rank == 3 else x.shape[0]
    return {
        position: (batch, t.shape[1])
        for position, t in tensors.items()
        if t is not None and t.shape is not None and t.rank == 2 and t.shape[0] != batch
    }
