"""Graph -> Lowered: every node becomes kernel calls, a Python call, or an alias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.codegen.isa import Isa
from litejit.engine.graph import Graph, readers
from litejit.engine.plan import ALIGNMENT, SLACK, Request, aligned
from litejit.kernels.base import KernelSpec
from litejit.ops.base import Node, Operand
from litejit.record import Record, replace
from litejit.types import Array, TensorType

MAX_CHUNKS = 32  # the run loop keeps a mask of claimed chunks in 32 bits
SPLIT_ABOVE_NS = 1_500.0
CHUNK_NS = 5_000.0


class Place(Record):
    """An operand before it has an address: a numbered piece of memory and a byte offset.

    `kind` is "tensor" (number of the tensor whose memory it is), "request" (number in
    `Lowered.requests`), "array" (number in `Lowered.arrays`) or "status" (the run's one word
    for kernels that refuse their data).
    """

    kind: str
    number: int
    offset: int = 0

    def at(self, offset_bytes: int) -> Place:
        """The address `offset_bytes` further on."""
        place: Place = replace(self, offset=self.offset + offset_bytes)
        return place


class NativeStep(Record):
    """A kernel over [0, items), cut into `chunks` that any thread may run."""

    spec: KernelSpec
    operands: tuple[Place | int | float, ...]
    items: int
    chunks: int
    cost_ns: float
    node: Node


class PythonStep(Record):
    """The NumPy meaning of a node."""

    node: Node


class Lowered(Record):
    """Steps, and all memory that they need.

    `home` maps a tensor to the number of the request that holds it (several where they
    alias); tensors of Python objects have none. `arrays` are constants and persistent memory.
    """

    steps: tuple[NativeStep | PythonStep, ...]
    requests: tuple[Request, ...]
    home: dict[int, int]
    arrays: tuple[Array, ...]

    __hash__ = object.__hash__


class ConstantStore:
    """Arrays made once per subgraph of a Model: packed weights, tables; 64-byte aligned."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], Array] = {}
        self._copies: dict[int, tuple[Array, Array]] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], Array]) -> Array:
        """The array of this key, made now if it was not before."""
        if key not in self._arrays:
            self._arrays[key] = aligned_copy(make())
        return self._arrays[key]

    def copy_of(self, index: int, value: Array) -> Array:
        """The aligned copy of a constant tensor's value."""
        known = self._copies.get(index)
        if known is None or known[0] is not value:
            known = self._copies[index] = (value, aligned_copy(value))
        return known[1]


def aligned_copy(array: Array) -> Array:
    """A C-ordered copy on a 64-byte boundary, with readable slack behind it."""
    array = np.ascontiguousarray(array)
    memory = aligned_memory(array.nbytes + SLACK)
    copy: Array = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def aligned_memory(nbytes: int) -> Array:
    """Zeroed bytes on a 64-byte boundary."""
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def lower(graph: Graph, *, isa: Isa | None, store: ConstantStore, threads: int) -> Lowered:
    """Lower all nodes in order; without an ISA every node runs in NumPy."""
    return _Lowerer(graph, isa, store, threads).run()


class _Lowerer:
    """Collects steps and memory while the nodes are lowered, in order."""

    def __init__(
        self, graph: Graph, isa: Isa | None, store: ConstantStore, threads: int
    ) -> None:
        self.graph, self.isa, self.store, self.threads = graph, isa, store, threads
        self.steps: list[NativeStep | PythonStep] = []
        self.arrays: list[Array] = []
        self.array_numbers: dict[int, int] = {}
        self.requests: list[list[int]] = []  # [nbytes, first, last]
        self.home: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        self.last_reader: dict[int, int] = {}
        order = {id(node): position for position, node in enumerate(graph.nodes)}
        for index, nodes in readers(graph.nodes).items():
            self.last_reader[index] = max(order[id(node)] for node in nodes)
        self.forever = set(graph.keep) | set(graph.inputs)

    def run(self) -> Lowered:
        for index in self.graph.inputs:
            self.place(self.graph.types[index], first=-1)
        for position, node in enumerate(self.graph.nodes):
            self.lower_node(position, node)
        end = len(self.steps)
        for index in self.forever & self.home.keys():
            self.requests[self.home[index]][2] = end
        requests = tuple(Request(size, first, last) for size, first, last in self.requests)
        return Lowered(tuple(self.steps), requests, self.home, tuple(self.arrays))

    def place(self, tensor: TensorType, first: int) -> None:
        """Give a tensor memory of its own."""
        if tensor.shape is None or tensor.dtype.numpy.hasobject:
            return
        self.home[tensor.index] = self.request(tensor.nbytes, first)
        self.members[self.home[tensor.index]] = [tensor.index]

    def request(self, nbytes: int, first: int) -> int:
        self.requests.append([nbytes, first, first])
        return len(self.requests) - 1

    def lower_node(self, position: int, node: Node) -> None:
        first = len(self.steps)
        context = _NodeLowering(self, position, node)
        if self.isa is not None and context.can_compile():
            node.op.lower(node, context)
        if not context.settled and node.op.keeps_bytes:
            context.alias()
        if not context.settled:
            self.steps.append(PythonStep(node))
        context.place_outputs(first)
        last = max(len(self.steps) - 1, first)
        for tensor in (*node.inputs, *node.outputs):
            if tensor is not None and tensor.index in self.home:
                request = self.requests[self.home[tensor.index]]
                request[2] = max(request[2], last)
        for number in context.own_requests:
            self.requests[number][1:] = [first, last]

    def array(self, array: Array) -> Place:
        if id(array) not in self.array_numbers:
            self.array_numbers[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return Place("array", self.array_numbers[id(array)])

    def may_be_overwritten(self, tensor: TensorType, position: int) -> bool:
        """No node after `position` reads this memory, and nobody outside looks at it."""
        if tensor.index not in self.home or tensor.is_variable:
            return False
        members = self.members[self.home[tensor.index]]
        return not any(
            m in self.forever or self.last_reader.get(m, -1) > position for m in members
        )


class _NodeLowering:
    """The Lowering of one node: see litejit.ops.base.Lowering."""

    def __init__(self, owner: _Lowerer, position: int, node: Node) -> None:
        self._owner, self._position, self._node = owner, position, node
        self.settled = False
        self.own_requests: list[int] = []
        self._shared: dict[int, int] = {}  # output position -> input position
        self.status: Operand = Place("status", 0)
        if owner.isa is not None:
            self.isa = owner.isa
        self.inputs: tuple[Operand | None, ...] = tuple(self._operand(t) for t in node.inputs)
        self.outputs: tuple[Operand, ...] = tuple(
            Place("tensor", t.index) for t in node.outputs if t is not None
        )

    def can_compile(self) -> bool:
        """Kernels need sizes, and bytes rather than Python objects."""
        tensors = [t for t in (*self._node.inputs, *self._node.outputs) if t is not None]
        return all(t.shape is not None and not t.dtype.numpy.hasobject for t in tensors)

    def _operand(self, tensor: TensorType | None) -> Operand | None:
        if tensor is None:
            return None
        if tensor.value is None:
            return Place("tensor", tensor.index)
        if tensor.dtype.numpy.hasobject:
            return None
        return _LazyConstant(self._owner, tensor)

    def call(
        self,
        spec: KernelSpec,
        *operands: Operand | int | float,
        items: int,
        cost_ns: float,
        grain: int = 1,
    ) -> None:
        """Append a kernel call."""
        self.settled = True
        if items <= 0:
            return
        places = tuple(o.resolve() if isinstance(o, _LazyConstant) else o for o in operands)
        chunks = chunk_count(items, cost_ns, grain)
        self._owner.steps.append(
            NativeStep(spec, places, items, chunks, cost_ns, self._node)  # type: ignore[arg-type]
        )

    def constant(self, name: str, make: Callable[[], Array]) -> Operand:
        """An array made once per Model."""
        parts = tuple(part.index for part in self._node.chain)
        key = (self._node.index, parts, name, self.isa.name)
        return self._owner.array(self._owner.store.get(key, make))

    def temporary(self, nbytes: int) -> Operand:
        """Memory of this node's calls."""
        number = self._owner.request(nbytes, 0)
        self.own_requests.append(number)
        return Place("request", number)

    def scratch(self, nbytes: int) -> Operand:
        """Private memory of every thread."""
        return self.temporary(aligned(nbytes) * self._owner.threads)

    def persistent(self, initial: Array) -> Operand:
        """Memory that keeps its content from run to run."""
        return self._owner.array(aligned_copy(initial))

    def alias(self, output: int = 0, input: int = 0) -> None:
        """Share memory where that is safe, else copy in Python."""
        source, target = self._node.inputs[input], self._node.outputs[output]
        if source is None or target is None or source.index not in self._owner.home:
            return
        outside = target.index in self._owner.forever and source.index in self._owner.graph.inputs
        if outside or source.is_variable or source.dtype.numpy.hasobject:
            return
        self._shared[output] = input
        self.settled = True

    def may_share(self, output: int = 0, input: int = 0) -> None:
        """Run in place where nobody needs the input afterwards."""
        source, target = self._node.inputs[input], self._node.outputs[output]
        if source is None or target is None or source.is_constant:
            return
        fits = source.nbytes == target.nbytes
        if fits and self._owner.may_be_overwritten(source, self._position):
            self._shared[output] = input

    def place_outputs(self, first: int) -> None:
        """Give the outputs memory, shared or new."""
        owner = self._owner
        for position, target in enumerate(self._node.outputs):
            if target is None:
                continue
            source = self._node.inputs[self._shared[position]] if position in self._shared else None
            if source is None:
                owner.place(target, first)
            else:
                owner.home[target.index] = owner.home[source.index]
                owner.members[owner.home[source.index]].append(target.index)


class _LazyConstant:
    """A constant input; its bytes are copied only if a kernel takes it."""

    def __init__(self, owner: _Lowerer, tensor: TensorType, offset: int = 0) -> None:
        self._owner, self._tensor, self._offset = owner, tensor, offset

    def at(self, offset_bytes: int) -> _LazyConstant:
        """The address `offset_bytes` further on."""
        return _LazyConstant(self._owner, self._tensor, self._offset + offset_bytes)

    def resolve(self) -> Place:
        """The aligned array, as an operand."""
        value = self._tensor.value
        assert value is not None
        array = self._owner.store.copy_of(self._tensor.index, value)
        return self._owner.array(array).at(self._offset)


def chunk_count(items: int, cost_ns: float, grain: int) -> int:
    """In how many chunks a step is cut: never a matter of how many threads there are."""
    most = min(items // max(grain, 1), MAX_CHUNKS)
    if cost_ns < SPLIT_ABOVE_NS or most < 2:
        return 1
    return max(2, min(most, int(cost_ns / CHUNK_NS)))
