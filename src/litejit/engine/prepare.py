"""Subgraph -> Graph: every operator resolved, every shape inferred that does not need data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from litejit.engine import budget
from litejit.engine.graph import Graph, failure_named, run_reference
from litejit.errors import InvokeError, ModelError, PrepareError
from litejit.model import BUILTIN_NAMES, Model, Operator, Subgraph
from litejit.model.table import Table
from litejit.ops.base import Node, Op
from litejit.ops.expected import expected_node
from litejit.ops.session import Session
from litejit.record import Record, replace
from litejit.types import Array, TensorType

if TYPE_CHECKING:
    from litejit.ops.resolver import OpResolver

# the value of a tensor, or the shape of a result
Assumed: TypeAlias = "Array | tuple[int, ...]"

_CUSTOM = BUILTIN_NAMES.index("CUSTOM")


class ResolvedOperator(Record):
    """An Operator with the Op that its code stands for; `op` is None for an unknown custom."""

    operator: Operator
    name: str
    version: int
    op: Op | None
    options: Any


def resolve(model: Model, subgraph: Subgraph, resolver: OpResolver) -> list[ResolvedOperator]:
    """Find the Op of every operator and decode its options.

    Raises ModelError for a builtin that the resolver does not know; an unknown custom operator
    is refused by `prepare` only, as in LiteRT.
    """
    result = []
    for index, operator in enumerate(subgraph.operators):
        code = model.operator_codes[operator.code]
        if code.code == _CUSTOM:
            name = code.custom_code or ""
            op = resolver.find_custom(name, code.version)
        else:
            name = BUILTIN_NAMES[code.code]
            op = resolver.find_builtin(name, code.version)
            if op is None:
                raise ModelError(_unknown_builtin(name, code.version, index, resolver))
        options = None
        if op is not None:
            options = op.decode_options(operator, f"{name} (operator {index})")
        result.append(ResolvedOperator(operator, name, code.version, op, options))
    return result


def _unknown_builtin(name: str, version: int, index: int, resolver: OpResolver) -> str:
    known = resolver.versions(name)
    what = f"versions {known[0]} to {known[-1]} are known" if known else "it is not known"
    return (
        f"Didn't find op for builtin opcode '{name}' version '{version}'. An older version of "
        "this builtin might be supported. Are you using an old TFLite binary with a newer model?\n"
        f"Registration failed.\n(operator {index}: {what} to this resolver)"
    )


def prepare(
    subgraph: Subgraph,
    operators: list[ResolvedOperator],
    types: dict[int, TensorType],
    *,
    inputs: Iterable[int],
    keep: frozenset[int],
    session: Session,
    start: int = 0,
    assumed: Mapping[int, Assumed] | None = None,
) -> Graph:
    """Infer from operator `start` on, until a shape is needed that depends on data.

    `types` holds what is known: constants, variables, the `inputs` with their real shapes. It
    is not changed. Operators see the values `assumed` as constants, behind nodes that look
    whether they are right; a shape in their place is that of a result. Raises PrepareError,
    naming the operator that refuses its operands.
    """
    budget.check_room("preparing a graph")
    types, inputs = dict(types), tuple(inputs)
    seen = dict(types) if assumed else types  # as operators see them
    known = {i for i, t in types.items() if t.is_constant or t.is_variable} | set(inputs)
    nodes: list[Node] = []
    stop = start
    _assume([types[i] for i in inputs], assumed, seen, nodes, session)
    for stop in range(start, len(operators)):  # noqa: B007 - read after the loop
        node = make_node(stop, operators[stop], seen, session)
        if any(t is not None and t.shape is None for t in node.inputs):
            break
        with failure_named(node):
            _check_operands(node, known)
            node = _shaped(infer(_fit_states(node, seen, nodes)), assumed or {})
            is_folded = _fold(node, seen)
        results = [t for t in node.outputs if t is not None]
        known.update(t.index for t in results)
        if not is_folded:
            seen.update({t.index: t for t in results})
            nodes.append(node)
        types.update({t.index: seen[t.index] for t in (*_variables(node), *results)})
        _assume([seen[t.index] for t in results], assumed, seen, nodes, session)
    else:
        stop = len(operators)
    return Graph(tuple(nodes), types, inputs, subgraph.outputs, keep, stop)


def _assume(
    tensors: list[TensorType], assumed: Mapping[int, Assumed] | None, seen: dict[int, TensorType],
    nodes: list[Node], session: Session,
) -> None:  # fmt: skip
    """Let the operators behind see the value that a tensor is assumed to have."""
    for tensor in tensors if assumed else ():
        value = assumed.get(tensor.index) if assumed else None
        if value is None or isinstance(value, tuple):
            continue
        if tensor.value is None and tensor.shape == value.shape:
            nodes.append(expected_node(tensor, value, session))
            seen[tensor.index] = tensor.with_value(value)


def _shaped(node: Node, assumed: Mapping[int, Assumed]) -> Node:
    """The node with the shapes that its results are assumed to have."""
    outputs = [
        t.with_shape(shape)
        if t is not None and t.shape is None and isinstance(shape := assumed.get(t.index), tuple)
        else t
        for t in node.outputs
    ]
    return node.with_types(node.inputs, tuple(outputs)) if assumed else node


def _variables(node: Node) -> list[TensorType]:
    return [t for t in node.inputs if t is not None and t.is_variable]


def _fit_states(node: Node, types: dict[int, TensorType], before: list[Node]) -> Node:
    """Give the variables that a node updates the shapes that its other operands call for.

    The file's shapes are those of the file's batch. A variable that other nodes know already
    stays as it is.
    """
    if not node.op.mutates:
        return node
    used = {t.index for other in before for t in other.inputs if t is not None}
    for position, shape in node.op.states(node).items():
        tensor = node.inputs[position]
        if tensor is not None and tensor.is_variable and tensor.index not in used:
            types[tensor.index] = tensor.with_shape(shape)
    inputs = tuple(types[t.index] if t is not None and t.is_variable else t for t in node.inputs)
    return node.with_types(inputs, node.outputs)


def make_node(
    index: int, resolved: ResolvedOperator, types: dict[int, TensorType], session: Session
) -> Node:
    """The node of one operator, with the types known so far."""
    name, op = resolved.name, resolved.op
    if op is None:
        raise PrepareError(_unresolved_custom(name, index))
    operator = resolved.operator
    return Node(
        op=op,
        name=name,
        index=index,
        version=resolved.version,
        options=resolved.options,
        inputs=tuple(types[i] if i >= 0 else None for i in operator.inputs),
        outputs=tuple(types[i] if i >= 0 else None for i in operator.outputs),
        intermediates=tuple(types[i] if i >= 0 else None for i in operator.intermediates),
        session=session,
    )


def _unresolved_custom(name: str, index: int) -> str:
    if name.startswith("Flex"):
        what = (
            "Select TensorFlow op(s), included in the given model, is(are) not supported by this "
            "interpreter. Make sure you apply/link the Flex delegate before inference. For the "
            'Android, it can be resolved by adding "org.tensorflow:tensorflow-lite-select-tf-ops" '
            "dependency. See instructions: https://www.tensorflow.org/lite/guide/ops_select"
        )
        return f"{what}Node number {index} ({name}) failed to prepare."
    what = (
        f"Encountered unresolved custom op: {name}.\n"
        "See instructions: https://www.tensorflow.org/lite/guide/ops_custom"
    )
    return f"{what} Node number {index} ({name}) failed to prepare."


def infer(node: Node) -> Node:
    """Give a node, whose operands were checked, the types of its results."""
    if isinstance(node.options, Table):
        unknown = node.options.unknown_enums()
        node.require(not unknown, f"options with unknown values: {', '.join(unknown)}")
    with np.errstate(all="ignore"):
        outputs = node.op.infer(node)
    for declared, found in zip(node.outputs, outputs, strict=False):
        _check_result(node, declared, found)
    absent = (None,) * (len(node.outputs) - len(outputs))
    kept = [t if d is not None else None for d, t in zip(node.outputs, outputs, strict=False)]
    return node.with_types(node.inputs, (*kept, *absent))


def _check_operands(node: Node, known: set[int]) -> None:
    """What holds for every operator: operand counts, operands that exist, no aliasing."""
    op = node.op
    for count, (low, high), what in (
        (len(node.inputs), op.arity, "inputs"),
        (len(node.outputs), op.results, "outputs"),
    ):
        expected = str(low) if low == high else f"{low} to {high}"
        node.require(low <= count <= high, f"has {count} {what}, expected {expected}")
    for position, tensor in enumerate(node.inputs):
        if tensor is None:
            node.require(position in op.optional, f"input {position} is missing")
        else:
            ok = tensor.index in known
            node.require(ok, f"Input tensor {tensor.index} lacks data: nothing wrote it before")
    for position, tensor in enumerate(node.outputs):
        if tensor is None:
            node.require(position < op.results[1] > 1, f"output {position} is missing")
            continue
        fresh = tensor.index not in known
        what = f"output {position} is tensor {tensor.index}, which has a value already"
        node.require(fresh, what)


def _check_result(node: Node, declared: TensorType | None, found: TensorType) -> None:
    if declared is None or found.shape is None:
        return
    negative = any(n < 0 for n in found.shape)
    node.require(not negative, f"result has a negative dimension: {found.shape}")
    counts = max(found.shape, default=0) < 1 << 31
    node.require(counts, f"result {found.shape} has a dimension of more than 31 bits")
    budget.check(found.nbytes, f"{node.who}: result {found.shape}")


def _fold(node: Node, types: dict[int, TensorType]) -> bool:
    """Replace a node whose result is known already by constants."""
    outputs = [t for t in node.outputs if t is not None]
    if outputs and all(t.is_constant for t in outputs):
        types.update({t.index: t for t in outputs})
        return True
    operands = [t for t in node.inputs if t is not None]
    known = operands and all(t.is_constant for t in operands)
    if not known or not outputs or not node.op.is_pure:
        return False
    try:
        with np.errstate(all="ignore"):
            values = run_reference(node, {})
    except InvokeError:  # bad data is refused by the run, not before it
        return False
    types.update({t.index: t.with_value(v) for t, v in zip(outputs, values, strict=True)})
    return True


def with_shape(types: dict[int, TensorType], index: int, shape: tuple[int, ...]) -> TensorType:
    """The declared type of a tensor, resized."""
    result: TensorType = replace(types[index], shape=shape, value=None)
    return result
