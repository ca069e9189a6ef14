"""What prepare makes of a subgraph: nodes with known types, up to where shapes need data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from litejit.codegen.loader import address_space_left
from litejit.engine import budget
from litejit.errors import CodegenError, LitejitError, MemoryLimitError, PrepareError
from litejit.ops.base import Node
from litejit.ops.session import Session
from litejit.record import Record, replace
from litejit.types import Array, TensorType

_PLENTY = 1 << 40  # bytes of address space that no run exhausts
_SMALL = 64  # elements of an operand that may tell a shape
_TEMPORARY = 8  # bytes that a NumPy meaning takes for one element, beside the results


class Graph(Record):
    """Nodes in the order in which they run, and the type of every tensor.

    `stop` is the number of the first operator that could not be prepared, because the shape
    of an operand depends on data; it equals the number of operators where all are known.
    `keep` lists the tensors whose values must be there after the run.
    """

    nodes: tuple[Node, ...]
    types: dict[int, TensorType]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    keep: frozenset[int]
    stop: int

    __hash__ = object.__hash__


def is_whole(graph: Graph) -> bool:
    """Are the shapes of all results known?"""
    return all(t is None or t.shape is not None for node in graph.nodes for t in node.outputs)


def readers(nodes: tuple[Node, ...]) -> dict[int, list[Node]]:
    """Tensor number -> the nodes that read it, in order."""
    result: dict[int, list[Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            if tensor is not None and not tensor.is_constant:
                result.setdefault(tensor.index, []).append(node)
    return result


@contextmanager
def failure_named(node: Node) -> Iterator[None]:
    """Close every error with LiteRT's words, and say of an unexpected one where it arose."""
    try:
        yield
    except CodegenError:  # NumPy runs instead
        raise
    except LitejitError as error:
        raise type(error)(f"{error}\n{_closing(node)}") from error
    except Exception as error:
        kind = MemoryLimitError if isinstance(error, MemoryError) else PrepareError
        what = f"{node.who}: {type(error).__name__}: {error}"
        raise kind(f"{what}\n{_closing(node)}") from error


def _closing(node: Node) -> str:
    return f"Node number {node.index} ({node.name}) failed to prepare."


def run_reference(node: Node, arrays: dict[int, Array]) -> list[Array]:
    """Run a node's NumPy meaning, a fused chain part by part; returns its outputs."""
    if not node.chain:
        return _run_one(node, arrays)
    inside = dict(arrays)
    for part in node.chain:
        for tensor, array in zip(part.outputs, run_reference(part, inside), strict=False):
            if tensor is not None:
                inside[tensor.index] = array
    return [inside[tensor.index] for tensor in node.outputs if tensor is not None]


def _run_one(node: Node, arrays: dict[int, Array]) -> list[Array]:
    if address_space_left() < _PLENTY:
        elements = sum(t.size for t in node.outputs if t is not None and t.shape is not None)
        budget.check_room(node.who, _TEMPORARY * elements)
    operands = [_value(tensor, arrays) for tensor in node.inputs]
    if any(t is not None and t.shape is None for t in node.outputs):
        _check_results(node, operands)
    result = node.op.reference(node, *operands)
    return list(result) if isinstance(result, tuple) else [result]


def _check_results(node: Node, operands: list[Array | None]) -> None:
    """Refuse results too large for memory, where the values of small operands tell their shapes."""
    if node.op.called(node.options):
        return
    known = tuple(
        t if t is None or array is None or array.size > _SMALL else t.with_value(array)
        for t, array in zip(node.inputs, operands, strict=True)
    )
    try:
        asked = node.with_types(known, node.outputs)  # of a new Session: nothing begins anew
        found = node.op.infer(replace(asked, session=Session()))
    except Exception:  # the run itself says what is wrong, in its own words
        return
    for tensor in found:
        if tensor.shape is not None:
            what = f"{node.who}: result {tensor.shape}"
            budget.check(tensor.nbytes, what)


def _value(tensor: TensorType | None, arrays: dict[int, Array]) -> Array | None:
    if tensor is None:
        return None
    return tensor.value if tensor.value is not None else arrays[tensor.index]
