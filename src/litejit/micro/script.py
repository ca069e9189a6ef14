"""The steps by which TFLM fills its arena for a model, in order, and the plan of its buffers."""

from __future__ import annotations

from typing import Any

from litejit.errors import ModelError, PrepareError
from litejit.micro import planners, refusals, requests
from litejit.micro.ledger import Persist, Planner, Reset, Resize, Step, Temporary
from litejit.micro.operands import GraphState, TensorView, View
from litejit.micro.planners import ONLINE, Buffer, Lifetimes, Scratch
from litejit.micro.structs import ALIGNMENT, Target, size_of
from litejit.model import Model
from litejit.model.options import VarHandleOptions
from litejit.record import Record

EVAL_TENSORS = "TfLiteEvalTensor data"
TENSORS = "Persistent TfLiteTensor data"
QUANTIZATIONS = "Persistent TfLiteTensor quantization data"
BUFFERS = "Persistent buffer data"
VARIABLES = "TfLiteTensor variable buffer data"
NODES = "NodeAndRegistration struct"
CATEGORIES = (EVAL_TENSORS, TENSORS, QUANTIZATIONS, BUFFERS, VARIABLES, NODES)

_SPARE_REQUESTS = 12  # scratch requests that TFLM keeps room for while it prepares an operator


class Setup(Record):
    """How TFLM is built and called: target, planner, allocator, alternate memory in bytes."""

    target: Target
    planner: str = "greedy"
    recording: bool = True
    alternate_bytes: int = 0

    def size(self, name: str) -> int:
        """Bytes of a structure on the target."""
        return size_of(name, self.target)


class OperatorRequests(Record):
    """What one operator asks for, in bytes: parsed options, persistent blocks, scratch buffers."""

    subgraph: int
    operator: int
    name: str
    options: int
    persistent: tuple[int, ...]
    scratch: tuple[int, ...]


class Script(Record):
    """The steps of an allocation, what operators ask for, and the planned buffers, placed."""

    steps: list[Step]
    operators: tuple[OperatorRequests, ...]
    buffers: tuple[Buffer, ...]
    ticks: dict[int, tuple[int, int]]

    __hash__ = object.__hash__


def resource_variables(model: Model) -> int:
    """The number of distinct shared names over all VAR_HANDLE operators of a model."""
    names = {
        operator.read_options(VarHandleOptions).shared_name
        for graph in model.subgraphs
        for operator in graph.operators
        if model.operator_name(operator) == "VAR_HANDLE"
    }
    return len(names)


def write_script(model: Model, setup: Setup) -> Script:
    """Work out every step for a model.

    Raises PrepareError for an operator, a type or a plan that TFLM does not take.
    """
    if not model.subgraphs:
        raise PrepareError("the model has no subgraph")
    _check_tensor_numbers(model)
    return _Writer(model, setup).script()


def _check_tensor_numbers(model: Model) -> None:
    for number, graph in enumerate(model.subgraphs):
        count = len(graph.tensors)
        for what, indices in (("input", graph.inputs), ("output", graph.outputs)):
            for index in indices:
                if not 0 <= index < count:
                    raise ModelError(f"{what} {index} of subgraph {number} is no tensor of {count}")
        for position, operator in enumerate(graph.operators):
            for index in (*operator.inputs, *operator.outputs):
                if not -1 <= index < count:
                    raise ModelError(
                        f"{model.operator_name(operator)} (operator {position} of subgraph "
                        f"{number}): tensor {index} does not exist"
                    )


class _Writer:
    def __init__(self, model: Model, setup: Setup) -> None:
        self.model, self.setup = model, setup
        self.steps: list[Step] = []
        self.states = [GraphState(model, number) for number in range(len(model.subgraphs))]
        shared: dict[Any, Any] = {"alternate memory": setup.alternate_bytes}
        self.views = [
            View(model, state, index, setup.target, shared)
            for state in self.states
            for index in range(len(model.subgraphs[state.number].operators))
        ]
        self.scratches: list[Scratch] = []
        self.operators: list[OperatorRequests] = []

    def script(self) -> Script:
        self._start()
        blocks = [requests.init_blocks(view) for view in self._with_options()]
        for sizes in blocks:
            self.steps += [Persist(size, ALIGNMENT, BUFFERS) for size in sizes]
        for view, sizes in zip(self.views, blocks, strict=True):
            self._prepare(view, sizes)
        if self.scratches:
            handle = self.setup.size("ScratchBufferHandle")
            self.steps.append(Persist(handle * len(self.scratches), self._word))
        buffers, ticks = self._plan()
        self._finish()
        return Script(self.steps, tuple(self.operators), buffers, ticks)

    @property
    def _word(self) -> int:
        return self.setup.target.pointer_bytes

    def _persist(self, name: str, count: int = 1, category: str = "", entries: int = 1) -> None:
        nbytes = self.setup.size(name) * count
        self.steps.append(Persist(nbytes, self._word, category, entries))

    def _start(self) -> None:
        setup = self.setup
        kind = "Recording" if setup.recording else ""
        greedy = setup.planner == "greedy"
        self._persist(f"{kind}SingleArenaBufferAllocator")
        self._persist("GreedyMemoryPlanner" if greedy else "LinearMemoryPlanner")
        self._persist(f"{kind}MicroAllocator")
        variables = resource_variables(self.model)
        if variables:
            one = setup.size("MicroResourceVariable")
            header = setup.size("MicroResourceVariables")
            self.steps.append(Persist(header, ALIGNMENT, BUFFERS))
            self.steps.append(Persist(one * variables, ALIGNMENT, BUFFERS))
        if setup.alternate_bytes:
            self.steps.append(Persist(setup.size("DecompressionRegions"), ALIGNMENT, BUFFERS))
        self._persist("MicroBuiltinDataAllocator")
        self._room_for_requests(soft=False)
        self._persist("SubgraphAllocations", len(self.states))
        for state in self.states:
            count = len(state.tensors)
            self._persist("TfLiteEvalTensor", count, EVAL_TENSORS, count)
        for graph in self.model.subgraphs:
            count = len(graph.operators)
            self._persist("NodeAndRegistration", count, NODES, count)

    def _room_for_requests(self, *, soft: bool) -> None:
        count = len(self.scratches) + _SPARE_REQUESTS
        self.steps.append(Resize(self.setup.size("ScratchBufferRequest") * count, soft))

    def _with_options(self) -> list[View]:
        """All operators, after the steps that store their parsed options."""
        for view in self.views:
            size, align = requests.builtin_data(view)
            if size:
                self.steps.append(Persist(size, align))
        return self.views

    def _prepare(self, view: View, init: list[int]) -> None:
        persistent, scratch = list(init), []
        for _, problem, _ in refusals.complaints(view):
            raise PrepareError(f"{view.where}: {problem}")
        for kind, value in requests.prepare_calls(view):
            if kind == "T":
                self._temporary_tensor(view.graph.tensors[value])
            elif kind == "P":
                persistent.append(value)
                self.steps.append(Persist(value, ALIGNMENT, BUFFERS, guarded=True))
            else:
                scratch.append(value)
                self.scratches.append(Scratch(view.graph.number, view.index, value))
        for _, problem, _ in refusals.open_results(view):
            raise PrepareError(f"{view.where}: {problem}")
        self.steps.append(Reset())
        self._room_for_requests(soft=True)
        options = requests.builtin_data(view)[0]
        where = (view.graph.number, view.index, view.name)
        self.operators.append(OperatorRequests(*where, options, tuple(persistent), tuple(scratch)))

    def _temporary_tensor(self, tensor: TensorView) -> None:
        tensor.require_size()
        self.steps.append(Temporary(self.setup.size("TfLiteTensor"), self._word))
        if tensor.scales:
            self.steps.append(Temporary(self.setup.size("TfLiteAffineQuantization"), self._word))
            self.steps.append(Temporary(4 + 4 * tensor.scales, 4))

    def _plan(self) -> tuple[tuple[Buffer, ...], dict[int, tuple[int, int]]]:
        word = self._word
        total = sum(len(state.tensors) for state in self.states) + len(self.scratches)
        self.steps.append(Temporary(word * len(self.states), word))
        self.steps.append(Temporary(self.setup.size("AllocationInfo") * total, word))
        self._variables()
        lifetimes = Lifetimes(self.model, self.scratches)
        found = planners.planned_buffers(self.model, self.states, self.scratches, lifetimes)
        greedy = self.setup.planner == "greedy"
        if greedy:
            self.steps.append(Planner(len(found)))
        place = planners.plan_greedily if greedy else planners.plan_linearly
        offsets = place(found)
        placed = tuple(
            planners.moved(buffer, offset) for buffer, offset in zip(found, offsets, strict=True)
        )
        head = max((buffer.end for buffer in placed), default=0)
        self.steps += [Reset(), Resize(0), Resize(head)]
        return placed, lifetimes.ticks

    def _variables(self) -> None:
        fixed = planners.offline_offsets(self.model)
        for state in self.states:
            for tensor in state.tensors:
                # The plan counts the tensors of all subgraphs; here TFLM takes the number
                # within the subgraph, which is another one beyond the first.
                online = fixed is None or fixed[tensor.index] == ONLINE
                if tensor.is_variable and online:
                    self.steps.append(Persist(tensor.nbytes, ALIGNMENT, VARIABLES))

    def _finish(self) -> None:
        main, tensors = self.model.subgraphs[0], self.states[0].tensors
        for numbers in (main.inputs, main.outputs):
            self.steps.append(Persist(self._word * len(numbers), ALIGNMENT, BUFFERS))
            for number in numbers:
                self._persist("TfLiteTensor", category=TENSORS)
                scales = tensors[number].scales
                if scales:
                    self._persist("TfLiteAffineQuantization", category=QUANTIZATIONS)
                    self.steps.append(Persist(4 + 4 * scales, 4, QUANTIZATIONS))
