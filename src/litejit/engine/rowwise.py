"""Float operators that follow each other on the same rows become one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.engine.graph import Graph
from litejit.ops.base import Node
from litejit.record import replace

if TYPE_CHECKING:
    from litejit.ops.row_program import Run


def join_rows(graph: Graph) -> Graph:
    """Replace every run of such nodes that is worth it; what lies between runs stays."""
    from litejit.ops.row_program import Run  # only models that are prepared anew need it

    runs: list[Run | Node] = []
    run = Run()
    for node in graph.nodes:
        if not run.take(node):
            runs.append(run)
            run = Run()
            if not run.take(node):
                runs.append(node)
    runs.append(run)
    nodes: list[Node] = []
    for part in runs:
        if isinstance(part, Node):
            nodes.append(part)
        elif part.nodes:
            joined = part.joined(_read_elsewhere(graph, part))
            nodes += [joined] if joined is not None else part.nodes
    result: Graph = replace(graph, nodes=tuple(nodes))
    return result


def _read_elsewhere(graph: Graph, run: Run) -> set[int]:
    """Tensors that are kept, or that nodes outside of the run read."""
    inside = {node.index for node in run.nodes}
    read = set(graph.keep)
    for node in graph.nodes:
        if node.index not in inside:
            read.update(t.index for t in node.inputs if t is not None)
    return read
