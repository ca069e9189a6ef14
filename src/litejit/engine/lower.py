"""Graph -> Lowered: every node becomes kernel calls, a Python call, or an alias."""

from __future__ import annotations

from collections.abc import Container

from litejit.codegen.isa import Isa
from litejit.engine.constants import ConstantStore
from litejit.engine.graph import Graph, failure_named, readers
from litejit.engine.node_lowering import NodeLowering
from litejit.engine.plan import Request
from litejit.engine.steps import Lowered, Place, PythonStep, Step
from litejit.ops.base import Node, Operand
from litejit.types import Array, TensorType


def lower(
    graph: Graph, *, isa: Isa | None, store: ConstantStore, threads: int,
    given: Container[int] = (),
) -> Lowered:  # fmt: skip
    """Lower all nodes in order; without an ISA every node runs in NumPy.

    The inputs `given` have memory already.
    """
    return Lowerer(graph, isa, store, threads).run(given)


class Lowerer:
    """Collects steps and memory while the nodes are lowered, in order."""

    def __init__(
        self,
        graph: Graph,
        isa: Isa | None,
        store: ConstantStore,
        threads: int,
        parent: Lowerer | None = None,
    ) -> None:
        self.graph, self.isa, self.store, self.threads = graph, isa, store, threads
        self.steps: list[Step] = parent.steps if parent else []
        self.arrays: list[Array] = parent.arrays if parent else []
        self.array_numbers: dict[int, int] = parent.array_numbers if parent else {}
        # [nbytes, first, last]
        self.requests: list[list[int]] = parent.requests if parent else []
        self.home: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        self.last_reader: dict[int, int] = {}
        # (tensor, name) -> operands that hold what was made of it, their requests
        self.made_of: dict[tuple[int, str], tuple[tuple[Operand, ...], list[int]]] = {}
        order = {id(node): position for position, node in enumerate(graph.nodes)}
        for index, nodes in readers(graph.nodes).items():
            self.last_reader[index] = max(order[id(node)] for node in nodes)
        self.forever = set(graph.keep) | set(graph.inputs)

    def run(self, given: Container[int]) -> Lowered:
        """Lower the whole graph."""
        for index in self.graph.inputs:
            if index not in given:
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
        """Ask for memory from step `first` on."""
        self.requests.append([nbytes, first, first])
        return len(self.requests) - 1

    def lower_node(self, position: int, node: Node) -> None:
        """Append one node's steps, and keep its operands alive as long as they run."""
        first = len(self.steps)
        context = NodeLowering(self, position, node)
        if self.isa is not None and context.can_compile():
            with failure_named(node):
                node.op.lower(node, context)
        if not context.settled and _keeps_bytes(node):
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
        for number in context.found_requests:
            self.requests[number][2] = max(self.requests[number][2], last)

    def array(self, array: Array) -> Place:
        """The operand for an array that outlives the run."""
        if id(array) not in self.array_numbers:
            self.array_numbers[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return Place("array", self.array_numbers[id(array)])

    def may_be_overwritten(self, tensor: TensorType, position: int) -> bool:
        """No node after `position` reads this memory, and nobody outside looks at it."""
        if tensor.index not in self.home or tensor.is_variable:
            return False
        members = self.members[self.home[tensor.index]]
        return not any(m in self.forever or self.last_reader.get(m, -1) > position for m in members)


def _keeps_bytes(node: Node) -> bool:
    """Does the result hold the first input's bytes, and exactly as many as its shape needs?

    A shape that the file declares in place of one that depends on data may need others.
    """
    if not node.op.keeps_bytes:
        return False
    x, y = node.inputs[0], node.outputs[0]
    if x is None or y is None:
        return False
    return None in (x.shape, y.shape) or x.nbytes == y.nbytes
