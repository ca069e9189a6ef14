"""Graph -> Graph: what nobody needs is dropped, what runs better together becomes one node."""

from __future__ import annotations

from litejit.engine.graph import Graph, is_whole, readers
from litejit.engine.rowwise import join_rows
from litejit.engine.tabulate import tabulate
from litejit.ops.base import Node
from litejit.record import replace
from litejit.types import TensorType

MOST_DECIDING = 64  # elements of a tensor that is compared in every run


def rewrite(graph: Graph, keep: frozenset[int]) -> Graph:
    """Apply all passes. `keep` lists the tensors whose values must be there after the run."""
    graph = replace(graph, keep=keep)
    graph = drop_unused(tabulate(drop_unused(graph)))
    graph = fuse_before(join_pairs(graph))
    return join_rows(fuse_after(graph))


def with_all_tensors(fused: Graph, graph: Graph) -> Graph:
    """The graph `fused` that was made of `graph`, and behind it nodes for the tensors it lacks.

    Every tensor is kept. Those that are there in `fused` have the same bytes as without the nodes
    behind it: these read them, and run once more what was fused or left out.
    """
    made = {t.index for node in fused.nodes for t in node.outputs if t is not None}
    behind = []
    for node in graph.nodes:
        results = {t.index for t in node.outputs if t is not None}
        if not results <= made and not node.op.mutates:
            behind.append(node)
            made |= results
    keep = frozenset(graph.types)
    whole: Graph = replace(fused, nodes=(*fused.nodes, *behind), keep=keep)
    return whole


def with_deciding(graph: Graph, keep: frozenset[int]) -> frozenset[int]:
    """`keep`, and what may decide the shapes of results that are not known."""
    if is_whole(graph):
        return keep
    nodes = drop_unused(replace(graph, keep=keep)).nodes
    return keep | {t.index for node in nodes for t in may_decide(node)}


def may_decide(node: Node) -> list[TensorType]:
    """Small operands of a node with an unknown shape: their values may be what decides it."""
    if all(t is None or t.shape is not None for t in node.outputs):
        return []
    return [
        t for t in node.inputs
        if t is not None and t.value is None and not t.is_variable
        and not t.dtype.numpy.hasobject and t.size <= MOST_DECIDING
    ]  # fmt: skip


def drop_unused(graph: Graph) -> Graph:
    """Leave out pure nodes whose results nobody reads."""
    needed = set(graph.keep)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        wanted = any(t is not None and t.index in needed for t in node.outputs)
        if wanted or not node.op.is_pure or node.op.mutates:
            kept.append(node)
            needed.update(t.index for t in node.inputs if t is not None)
    result: Graph = replace(graph, nodes=tuple(reversed(kept)))
    return result


def join_pairs(graph: Graph) -> Graph:
    """Let nodes take in a producer that reads what they read too, as in x * f(x)."""
    reading = readers(graph.nodes)
    producer = {t.index: node for node in graph.nodes for t in node.outputs if t is not None}
    gone: set[int] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        inside = [t for t in node.inputs if t is not None and t.index in producer]
        pairs = ((t, producer[t.index]) for t in inside)
        fronts = [p for t, p in pairs if _only_reader(graph, reading, t, node)]
        found = ((p, _join(node, p)) for p in fronts)
        front, joined = next(((p, j) for p, j in found if j is not None), (None, None))
        if front is not None and joined is not None:
            gone.add(front.index)
        nodes.append(joined or node)
    result: Graph = replace(graph, nodes=tuple(n for n in nodes if n.index not in gone))
    return result


def _join(node: Node, producer: Node) -> Node | None:
    read = {t.index for t in producer.inputs if t is not None and not t.is_constant}
    shared = any(t is not None and t.index in read for t in node.inputs)
    pure = producer.op.is_pure and node.op.is_pure and len(producer.outputs) == 1
    return node.op.joined(node, producer) if shared and pure else None


def fuse_before(graph: Graph) -> Graph:
    """Let nodes take in the producers of their inputs, such as a PAD."""
    reading = readers(graph.nodes)
    producer = {t.index: node for node in graph.nodes for t in node.outputs if t is not None}
    gone: set[int] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        fused = node
        for position in range(len(node.inputs)):
            reader, tensor = node, node.inputs[position]
            while tensor is not None and _only_reader(graph, reading, tensor, reader):
                front = producer.get(tensor.index)
                if front is None or not front.op.is_pure:
                    break
                if not node.op.fuses_before(fused, front, position):
                    break
                gone.add(front.index)
                reader, tensor = front, front.inputs[0]
                inputs = (*fused.inputs[:position], tensor, *fused.inputs[position + 1 :])
                chain = (front, *(fused.chain or (node,)))
                fused = replace(fused, inputs=inputs, chain=chain)
        nodes.append(fused)
    result: Graph = replace(graph, nodes=tuple(n for n in nodes if n.index not in gone))
    return result


def fuse_after(graph: Graph) -> Graph:
    """Let nodes take in the only reader of their result, such as an activation."""
    fusing = _FusingAfter(graph)
    for position in range(len(graph.nodes)):
        while fusing.take_follower(position):
            continue
    result: Graph = replace(graph, nodes=tuple(n for n in fusing.nodes if n is not None))
    return result


class _FusingAfter:
    """The nodes while followers are taken in: None where a node became part of another."""

    def __init__(self, graph: Graph) -> None:
        self.keep = graph.keep
        self.nodes: list[Node | None] = list(graph.nodes)
        self.reading = readers(graph.nodes)
        self.position = {node.index: k for k, node in enumerate(graph.nodes)}
        self.made = {
            t.index: k for k, n in enumerate(graph.nodes) for t in n.outputs if t is not None
        }

    def take_follower(self, position: int) -> bool:
        """Let the node at `position` take in the one node that reads its result."""
        node = self.nodes[position]
        if node is None or len(node.outputs) != 1 or node.outputs[0] is None:
            return False
        result = node.outputs[0]
        users = self.reading.get(result.index, [])
        if len(users) != 1 or result.index in self.keep:
            return False
        follower = users[0]
        spot = _position_of(follower, result)
        where = self.position[follower.index]
        if spot is None or self.nodes[where] is not follower or len(follower.outputs) != 1:
            return False
        others = [t for k, t in enumerate(follower.inputs) if k != spot and t is not None]
        if not all(t.is_constant or self.made.get(t.index, -1) < position for t in others):
            return False
        if not follower.op.is_pure or not node.op.fuses_after(node, follower, spot):
            return False
        self.nodes[position] = joined = _joined(node, follower, spot)
        self.nodes[where] = None
        self.made.update({t.index: position for t in joined.outputs if t is not None})
        return True


def _only_reader(
    graph: Graph, reading: dict[int, list[Node]], tensor: TensorType, node: Node
) -> bool:
    return tensor.index not in graph.keep and reading.get(tensor.index) == [node]


def _position_of(follower: Node, result: TensorType) -> int | None:
    spots = [k for k, t in enumerate(follower.inputs) if t is not None and t.index == result.index]
    return spots[0] if len(spots) == 1 else None


def _joined(node: Node, follower: Node, spot: int) -> Node:
    others = tuple(t for k, t in enumerate(follower.inputs) if k != spot)
    chain = (*(node.chain or (node,)), follower)
    fused: Node = replace(
        node, inputs=(*node.inputs, *others), outputs=follower.outputs, chain=chain
    )
    return fused
