"""Clusters of elementwise nodes that see one byte only become one look-up in 256 entries.

A quantized model writes x * sigmoid(x), or hard-swish in four operators; whatever lies between,
a result that depends on the element of one 8-bit tensor and on scalar constants has at most 256
values. They come from the operators' NumPy meanings, so no number changes.
"""

from __future__ import annotations

from litejit.engine.graph import Graph
from litejit.ops.base import Node
from litejit.record import replace
from litejit.types import TensorType


def tabulate(graph: Graph) -> Graph:
    """Replace the results of such clusters that somebody outside reads."""
    roots = _Roots(graph)
    nodes = [roots.look_up(node) if node.index in roots.inside else node for node in graph.nodes]
    result: Graph = replace(graph, nodes=tuple(nodes))
    return result


class _Roots:
    """For every tensor that depends on one 8-bit tensor only: which one, and by which nodes."""

    def __init__(self, graph: Graph) -> None:
        self.root: dict[int, TensorType] = {}
        self.cluster: dict[int, tuple[Node, ...]] = {}
        self.inside: set[int] = set()
        for node in graph.nodes:
            self._visit(node)
        self.needed_outside = set(graph.keep)
        for node in graph.nodes:
            if node.index not in self.inside:
                self.needed_outside.update(t.index for t in node.inputs if t is not None)

    def _visit(self, node: Node) -> None:
        if not node.op.is_elementwise or not node.op.is_pure or len(node.outputs) != 1:
            return
        output = node.outputs[0]
        if output is None or output.shape is None or node.chain:
            return
        seen: dict[int, TensorType] = {}
        parts: dict[int, Node] = {}
        for tensor in node.inputs:
            if tensor is None:
                continue
            if tensor.is_constant:
                if tensor.size != 1:
                    return
                continue
            root = self.root.get(tensor.index, tensor)
            if tensor.shape != output.shape:
                return
            seen[root.index] = root
            parts.update({part.index: part for part in self.cluster.get(tensor.index, ())})
        if len(seen) != 1:
            return
        (root,) = seen.values()
        if not _is_byte(root) or root.shape != output.shape:
            return
        self.root[output.index] = root
        self.cluster[output.index] = tuple(parts[i] for i in sorted(parts)) + (node,)
        self.inside.add(node.index)

    def look_up(self, node: Node) -> Node:
        """The look-up that gives node's result, if it is a byte or bool that is read outside."""
        output = node.outputs[0]
        assert output is not None
        if output.dtype.bits != 8 or not self._is_read_outside(output.index):
            return node
        from litejit.ops.table import evaluate_cluster, table_node

        root = self.root[output.index]
        table = evaluate_cluster(self.cluster[output.index], root.index)
        return node if table is None else table_node(node, root, table)

    def _is_read_outside(self, index: int) -> bool:
        return index in self.needed_outside


def _is_byte(tensor: TensorType) -> bool:
    return tensor.dtype.bits == 8 and tensor.dtype.is_integer
