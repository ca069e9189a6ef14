"""Runs of float operators that one kernel can compute row by row: layer norms, gates of cells.

What may be joined is decided here; the engine finds the runs. The joined node keeps its parts,
whose NumPy meanings remain its meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from litejit.kernels.elementwise import FUNCTIONS
from litejit.kernels.row_program import MEAN, Instruction, RowProgramSpec
from litejit.ops import fixedpoint
from litejit.ops.base import Arrays, Lowering, Node, Op, Types
from litejit.ops.elementwise import Binary, Unary
from litejit.record import Record, replace
from litejit.types import F32, TensorType

COSTLY = frozenset(
    {"exp", "log", "tanh", "logistic", "elu", "gelu", "gelu_tanh", "sin", "cos", "power"}
)  # not worth computing a second time behind a mean
MOST_NODES, MOST_OPERANDS = 24, 12
MOST_COLUMNS = 1 << 16  # of a row: rows are not shared by threads
_ACTIVATED = ("add", "sub", "mul", "div")
_COST_NS = 0.008


class RowProgram(Op):
    """A run of float operators on rows; its meaning is that of its parts."""

    arity = (1, MOST_OPERANDS)
    results = (1, MOST_NODES)

    def infer(self, node: Node) -> Types:
        """The parts know."""
        return [t for t in node.outputs if t is not None]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Never asked for: the engine runs the parts."""
        raise NotImplementedError(f"{node.name} runs part by part")

    def lower(self, node: Node, steps: Lowering) -> None:
        """One kernel."""
        plan: RunPlan = node.options
        inputs = [operand for operand in steps.inputs if operand is not None]
        rows, columns = plan.rows, plan.columns
        for position, kind in enumerate(plan.spec.operands):
            if kind == "full" and node.output(0).size == rows * columns:
                steps.may_share(0, position)
                break
        costly = sum(function in COSTLY for function, _, _ in plan.spec.code)
        cost = rows * columns * (0.02 + _COST_NS * len(plan.spec.code) + 0.2 * costly)
        flat = plan.spec.flat
        steps.call(
            plan.spec, *inputs, *steps.outputs, columns, items=rows * columns if flat else rows,
            cost_ns=cost + (0 if flat else 10.0 * rows), grain=1024 if flat else 1,
        )  # fmt: skip


ROW_PROGRAM = RowProgram()


class RunPlan(Record):
    """The kernel of a run, and the sizes that it works on."""

    spec: RowProgramSpec
    rows: int
    columns: int

    __hash__ = object.__hash__


class Run:
    """Nodes that follow each other and share a frame of rows and columns, while it grows."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.frame: tuple[int, ...] = ()
        self._costly: set[int] = set()

    def take(self, node: Node) -> bool:
        """Add a node, if it fits."""
        frame = self.frame or _frame(node)
        if frame is None or len(self.nodes) == MOST_NODES or not node.outputs:
            return False
        found = _instruction(node)
        kinds = [_kind(t, frame) for t in _operands(node)]
        result = _kind(node.output(0), frame)
        if found is None or None in kinds or result not in ("full", "row"):
            return False
        if found[0] == MEAN:
            if kinds != ["full"] or result != "row" or node.input(0).index in self._costly:
                return False
        elif (result == "full") != bool({"full", "column"} & set(kinds)):
            return False
        if found[0] in COSTLY or any(t.index in self._costly for t in _operands(node)):
            self._costly.add(node.output(0).index)
        self.frame = frame
        self.nodes.append(node)
        return True

    def joined(self, read: set[int]) -> Node | None:
        """One node for the run; `read` are the tensors that others read. None: not worth it."""
        made = {node.output(0).index for node in self.nodes}
        outputs = [node.output(0) for node in self.nodes if node.output(0).index in read]
        inputs: dict[int, TensorType] = {}
        for node in self.nodes:
            for tensor in _operands(node):
                if tensor.index not in made:
                    inputs[tensor.index] = tensor
        if len(self.nodes) < 2 or not outputs or len(inputs) > MOST_OPERANDS:
            return None
        spec = _spec(self.nodes, self.frame, list(inputs.values()), outputs)
        rows, columns = prod(self.frame[:-1]), self.frame[-1]
        fits = spec.flat or 16 <= columns <= MOST_COLUMNS * rows
        if not any(spec.is_full) or not fits:
            return None
        last = self.nodes[-1]
        changes = {"op": ROW_PROGRAM, "name": "+".join(node.name for node in self.nodes)}
        types = {"inputs": tuple(inputs.values()), "outputs": tuple(outputs)}
        options = RunPlan(spec, rows, columns)
        fused: Node = replace(last, **changes, **types, options=options, chain=tuple(self.nodes))
        return fused


def _spec(
    nodes: Sequence[Node], frame: tuple[int, ...], inputs: list[TensorType],
    outputs: list[TensorType],
) -> RowProgramSpec:  # fmt: skip
    kinds = [str(_kind(tensor, frame)) for tensor in inputs]
    number = {tensor.index: k for k, tensor in enumerate(inputs)}
    code: list[Instruction] = []
    for node in nodes:
        found = _instruction(node)
        assert found is not None
        function, parameters = found
        code.append((function, tuple(number[t.index] for t in _operands(node)), parameters))
        number[node.output(0).index] = len(inputs) + len(code) - 1
    whole = all(_kind(node.output(0), frame) == "full" for node in nodes)
    flat = whole and set(kinds) <= {"full", "scalar"}
    results = tuple(number[tensor.index] for tensor in outputs)
    return RowProgramSpec(tuple(kinds), tuple(code), results, flat)


def _operands(node: Node) -> list[TensorType]:
    """The tensors that a node computes with; a mean's axes are none of them."""
    return [t for t in node.inputs[: 1 if node.name == "MEAN" else None] if t is not None]


def _frame(node: Node) -> tuple[int, ...] | None:
    """The shape whose rows a run that starts with `node` goes through."""
    found = _instruction(node)
    if found is None:
        return None
    tensor = node.input(0) if found[0] == MEAN else node.output(0)
    return tensor.dims if tensor.rank and tensor.dims[-1] > 1 and tensor.size else None


def _kind(tensor: TensorType, frame: tuple[int, ...]) -> str | None:
    """How a tensor lies in a frame; None: another way."""
    if tensor.dtype != F32 or tensor.shape is None or tensor.is_variable:
        return None
    if tensor.dims == frame:
        return "full"
    if tensor.dims == (*frame[:-1], 1):
        return "row"
    if tensor.size == 1 and tensor.rank <= len(frame):
        return "scalar"
    if tensor.rank and tensor.dims[-1] == frame[-1] == tensor.size and tensor.rank <= len(frame):
        return "column"
    return None


def _instruction(node: Node) -> tuple[str, tuple[float, ...]] | None:
    """(function, parameters) of a float node; None where no kernel has it."""
    if node.chain or len(node.outputs) != 1 or node.output(0).dtype != F32:
        return None
    if node.name == "MEAN":
        axes, x = node.input(1).value, node.input(0)
        last = axes is not None and axes.size == 1 and int(axes.ravel()[0]) in (-1, x.rank - 1)
        return (MEAN, ()) if last and x.rank else None
    if any(t is None or t.dtype != F32 for t in node.inputs):
        return None
    op = node.op
    if node.name == "FLOOR_DIV":  # refuses data in a run: divisors of 0
        return None
    if isinstance(op, Unary) and op.kernel:
        name = "clip" if op.kernel == "relu" else op.kernel
        parameters = tuple(float(p) for p in op.kernel_parameters(node))
    elif isinstance(op, Binary) and op.kernel and not op.is_quantized(node):
        name, parameters = op.kernel, ()
        if name in _ACTIVATED:
            low, high = fixedpoint.activation_range(node.output(0), int(node.options.activation))
            parameters = (float(low), float(high))
    else:
        return None
    return (name, parameters) if name in FUNCTIONS else None
