"""Which buffers TFLM plans, how long they live, and where its two planners put them.

Offsets are bytes from the arena's start. A buffer lives from clock tick `first` to `last`, both
included; the clock ticks once an operator, and once more for every subgraph that one calls.
"""

from __future__ import annotations

from bisect import bisect_right

from litejit.errors import PrepareError
from litejit.micro.operands import GraphState
from litejit.micro.structs import ALIGNMENT, MAX_LINEAR_BUFFERS, round_up
from litejit.model import Model, Operator
from litejit.model.options import CallOnceOptions, IfOptions, WhileOptions
from litejit.record import Record, replace

OFFLINE_PLAN = "OfflineMemoryAllocation"
ONLINE = -1
MAX_DEPTH = 64  # subgraphs within subgraphs: more would end in a stack overflow
MAX_TICKS = 1 << 16  # calls of calls double; a walk this long would never end


class Buffer(Record):
    """One planned buffer: a tensor, or a kernel's scratch memory (`tensor` -1).

    `size` is rounded up to 16 bytes, `first` and `last` are -1 for a buffer that no operator
    uses. `fixed` is the offset that an offline plan in the file gives it, -1 without. `operator`
    is the one that asked for scratch memory, -1 for tensors.
    """

    name: str
    size: int
    first: int
    last: int
    offset: int = 0
    fixed: int = ONLINE
    subgraph: int = 0
    tensor: int = -1
    operator: int = -1

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size

    @property
    def is_scratch(self) -> bool:
        """True for a kernel's scratch memory."""
        return self.tensor < 0

    def lives_at(self, tick: int) -> bool:
        """True where the buffer holds something at that tick of the clock."""
        return self.first <= tick <= self.last


class Scratch(Record):
    """A kernel's request for scratch memory."""

    subgraph: int
    operator: int
    nbytes: int


class Lifetimes:
    """First and last use of every tensor and scratch request; `ticks` says who runs when."""

    def __init__(self, model: Model, scratches: list[Scratch]) -> None:
        self.model = model
        self.clock = 0
        self.tensors: dict[tuple[int, int], tuple[int, int]] = {}
        self.scratches: dict[int, tuple[int, int]] = {}
        self.ticks: dict[int, tuple[int, int]] = {}  # clock -> (subgraph, operator)
        self._active: list[int] = []
        self._asked: dict[tuple[int, int], list[int]] = {}
        for number, scratch in enumerate(scratches):
            self._asked.setdefault((scratch.subgraph, scratch.operator), []).append(number)
        self._walk(0)

    def _born(self, graph: int, index: int) -> None:
        self.tensors.setdefault((graph, index), (self.clock, -1))

    def _used(self, graph: int, index: int) -> None:
        first, _ = self.tensors.get((graph, index), (-1, -1))
        self.tensors[graph, index] = (first, self.clock)

    def _walk(self, number: int) -> None:
        if number in self._active or not 0 <= number < len(self.model.subgraphs):
            return  # a call that never ends, or leads nowhere: whoever runs it will refuse it
        if len(self._active) >= MAX_DEPTH or self.clock > MAX_TICKS:
            raise PrepareError(
                f"subgraph {number} is called too deep ({len(self._active)} calls) or too often"
            )
        self._active.append(number)
        graph = self.model.subgraphs[number]
        for index in graph.inputs:
            self._born(number, index)
            self._used(number, index)
        for position, operator in enumerate(graph.operators):
            self._visit(number, position, operator)
        for index in graph.outputs:
            self._born(number, index)
            self._used(number, index)
        self._active.pop()

    def _visit(self, number: int, position: int, operator: Operator) -> None:
        self.clock += 1
        self.ticks[self.clock] = (number, position)
        outputs = [index for index in operator.outputs if index >= 0]
        for index in outputs:
            self._born(number, index)
        start = self.clock
        for called in called_subgraphs(self.model, operator):
            self.clock += 1
            self.ticks[self.clock] = (number, position)
            self._walk(called)
        for index in [index for index in operator.inputs if index >= 0] + outputs:
            self._used(number, index)
        for request in self._asked.get((number, position), ()):
            first, _ = self.scratches.get(request, (start, -1))
            self.scratches[request] = (first, self.clock)


def called_subgraphs(model: Model, operator: Operator) -> tuple[int, ...]:
    """Numbers of the subgraphs that an operator calls, in the order in which TFLM walks them."""
    name = model.operator_name(operator)
    if name == "IF":
        branch = operator.read_options(IfOptions)
        return branch.then_subgraph_index, branch.else_subgraph_index
    if name == "WHILE":
        loop = operator.read_options(WhileOptions)
        return loop.cond_subgraph_index, loop.body_subgraph_index
    if name == "CALL_ONCE":
        return (operator.read_options(CallOnceOptions).init_subgraph_index,)
    return ()


def offline_offsets(model: Model) -> list[int] | None:
    """Offsets of an offline plan for the tensors of all subgraphs, -1 for none; None without.

    Raises PrepareError where the plan is not for as many tensors as the model has.
    """
    data = model.metadata_bytes(OFFLINE_PLAN)
    if data is None:
        return None
    raw = bytes(data)
    words = [
        int.from_bytes(raw[at : at + 4], "little", signed=True) for at in range(0, len(raw) - 3, 4)
    ]
    total = sum(len(graph.tensors) for graph in model.subgraphs)
    count = words[2] if len(words) > 2 else 0
    if count != total or len(words) < 3 + count:
        raise PrepareError(
            f"Nbr of offline buffer offsets ({count}) in metadata not equal nbr tensors ({total})"
        )
    return words[3 : 3 + count]


def planned_buffers(
    model: Model, states: list[GraphState], scratches: list[Scratch], lifetimes: Lifetimes
) -> list[Buffer]:
    """Every buffer that is planned, in the order of TFLM's requests, not placed yet."""
    fixed = offline_offsets(model)
    buffers: list[Buffer] = []
    position = -1
    for state in states:
        for tensor in state.tensors:
            position += 1
            offset = ONLINE if fixed is None else fixed[position]
            if tensor.data is not None or tensor.index in state.variable_of:
                continue
            if tensor.is_variable and offset == ONLINE:
                continue
            if tensor.index in state.placed_outside or not tensor.nbytes:
                continue
            first, last = lifetimes.tensors.get((state.number, tensor.index), (-1, -1))
            size = round_up(tensor.nbytes, ALIGNMENT)
            buffers.append(
                Buffer(tensor.name, size, first, last, 0, offset, state.number, tensor.index)
            )
    for number, scratch in enumerate(scratches):  # one of no bytes takes an entry, too
        first, last = lifetimes.scratches.get(number, (-1, -1))
        where = model.subgraphs[scratch.subgraph].operators[scratch.operator]
        name = f"scratch of {model.operator_name(where)} {scratch.operator}"
        size = round_up(scratch.nbytes, ALIGNMENT)
        owner = (scratch.subgraph, -1, scratch.operator)
        buffers.append(Buffer(name, size, first, last, 0, ONLINE, *owner))
    return buffers


def plan_greedily(buffers: list[Buffer]) -> list[int]:
    """Offsets by TFLM's greedy planner: large buffers first, each in the first gap that fits.

    Buffers with a fixed offset come first and are not checked; of equal sizes the later comes
    first.
    """
    fixed = [k for k, buffer in enumerate(buffers) if buffer.fixed != ONLINE]
    free = [k for k, buffer in enumerate(buffers) if buffer.fixed == ONLINE]
    free.sort(key=lambda k: (-buffers[k].size, -k))
    offsets = [0] * len(buffers)
    placed: list[int] = []  # by rising offset, equal ones in the order of placing
    starts: list[int] = []  # their offsets
    for number, k in enumerate(fixed + free):
        if buffers[k].fixed != ONLINE:
            offsets[k] = buffers[k].fixed
        elif number:
            offsets[k] = _first_gap(buffers, offsets, placed, buffers[k])
        at = bisect_right(starts, offsets[k])
        placed.insert(at, k)
        starts.insert(at, offsets[k])
    return offsets


def _first_gap(buffers: list[Buffer], offsets: list[int], placed: list[int], wanted: Buffer) -> int:
    offset = 0
    for k in placed:
        other = buffers[k]
        if other.first > wanted.last or wanted.first > other.last:
            continue
        if offsets[k] - offset >= wanted.size:
            break
        offset = max(offset, offsets[k] + other.size)
    return offset


def plan_linearly(buffers: list[Buffer]) -> list[int]:
    """Offsets by TFLM's linear planner: one behind the other, nothing is shared.

    Raises PrepareError for more than 1024 buffers and for an offline plan.
    """
    if len(buffers) > MAX_LINEAR_BUFFERS:
        raise PrepareError(f"Too many buffers (max is {MAX_LINEAR_BUFFERS})")
    if any(buffer.fixed != ONLINE for buffer in buffers):
        raise PrepareError("the linear planner takes no offline plan")
    offsets, end = [], 0
    for buffer in buffers:
        offsets.append(end)
        end += buffer.size
    return offsets


def moved(buffer: Buffer, offset: int) -> Buffer:
    """The buffer at another offset."""
    found: Buffer = replace(buffer, offset=offset)
    return found
