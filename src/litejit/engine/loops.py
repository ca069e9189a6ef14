"""Subgraphs inside a program: loops, branches and calls that run without Python.

The steps of a called subgraph become steps of the caller, between jumps. What a loop carries has
memory of its own, which the condition and the body read as their inputs; at the end of a turn
the body's results are copied there, unless they lie there already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from litejit.engine.graph import Graph
from litejit.engine.steps import JumpStep, NativeStep, Place, Step
from litejit.kernels.copy import plan_whole_copy
from litejit.ops.base import Node, Operand
from litejit.record import replace
from litejit.types import TensorType

if TYPE_CHECKING:
    from litejit.engine.lower import Lowerer
    from litejit.engine.runner import SubgraphRunner


class _NotCompiledError(Exception):
    """Something of a subgraph needs Python; ends an attempt in this module."""


def inline_loop(
    owner: Lowerer, node: Node, condition: SubgraphRunner, body: SubgraphRunner
) -> bool:
    """Append `while condition(x): x = body(x)`; False, and no step, where it cannot be."""
    return _attempt(owner, lambda: _append_loop(owner, node, condition, body))


def inline_call(owner: Lowerer, node: Node, callee: SubgraphRunner) -> bool:
    """Append the steps of a subgraph that takes node's inputs and gives its outputs."""

    def append() -> None:
        results = _new_results(owner, node)
        _append_call(owner, node, callee, _tensors(node.inputs), results)

    return _attempt(owner, append)


def inline_once(owner: Lowerer, node: Node, callee: SubgraphRunner, pending: Operand) -> bool:
    """Append the steps of a subgraph that run where the byte `pending` is not 0, and clear it."""
    assert isinstance(pending, Place)

    def append() -> None:
        skip = _jump(owner, node, pending)
        _append_graph(owner, callee, [], overwrite=False)
        zero = owner.array(owner.store.get(("zero",), lambda: np.zeros(1, np.uint8)))
        _copy(owner, node, zero, pending, 1)
        _land(owner, skip)

    return _attempt(owner, append)


def inline_branch(
    owner: Lowerer, node: Node, then: SubgraphRunner, otherwise: SubgraphRunner
) -> bool:
    """Append `then(x) if the first input holds else otherwise(x)`."""

    def append() -> None:
        (flag, *operands) = _tensors(node.inputs)
        results = _new_results(owner, node)
        to_other = _jump(owner, node, _place_of(owner, flag))
        _append_call(owner, node, then, operands, results)
        to_end = _jump(owner, node, None)
        _land(owner, to_other)
        _append_call(owner, node, otherwise, operands, results)
        _land(owner, to_end)

    return _attempt(owner, append)


def _attempt(owner: Lowerer, append: Callable[[], None]) -> bool:
    """Append all steps or, where one of them would need Python, none."""
    steps, home = len(owner.steps), dict(owner.home)
    try:
        append()
    except _NotCompiledError:
        del owner.steps[steps:]
        owner.home.clear()
        owner.home.update(home)
        return False
    return True


def _append_loop(
    owner: Lowerer, node: Node, condition: SubgraphRunner, body: SubgraphRunner
) -> None:
    first = len(owner.steps)
    tensors = _tensors(node.inputs)
    carried = [owner.request(tensor.nbytes, first) for tensor in tensors]
    for tensor, number in zip(tensors, carried, strict=True):
        _copy(owner, node, _place_of(owner, tensor), Place("request", number), tensor.nbytes)
    top = len(owner.steps)
    (flag,) = _append_graph(owner, condition, carried, overwrite=False)
    leave = _jump(owner, node, flag)
    results = _append_graph(owner, body, carried, overwrite=True)
    _carry(owner, node, results, carried)
    _land(owner, _jump(owner, node, None), top)
    _land(owner, leave)
    for number in carried:
        owner.requests[number][2] = len(owner.steps) - 1
    for tensor, number in zip(_tensors(node.outputs), carried, strict=True):
        owner.home[tensor.index] = number
        owner.members[number] = [tensor.index]


def _carry(owner: Lowerer, node: Node, results: list[Place], carried: list[int]) -> None:
    """Copy a turn's results to where the next turn finds them, as if all at once."""
    places = [Place("request", number) for number in carried]
    moves = [(a, b) for a, b in zip(results, places, strict=True) if a != b]
    overwritten = {target for _, target in moves}
    for k, (source, target) in enumerate(moves):
        if source in overwritten:
            nbytes = owner.requests[target.number][0]
            aside = Place("request", owner.request(nbytes, len(owner.steps)))
            _copy(owner, node, source, aside, nbytes)
            moves[k] = aside, target
    for source, target in moves:
        _copy(owner, node, source, target, owner.requests[target.number][0])


def _append_call(
    owner: Lowerer,
    node: Node,
    callee: SubgraphRunner,
    operands: list[TensorType],
    results: list[int],
) -> None:
    numbers = []
    for tensor in operands:
        place = _place_of(owner, tensor)
        if place.kind != "request" or place.offset:
            number = owner.request(tensor.nbytes, len(owner.steps))
            _copy(owner, node, place, Place("request", number), tensor.nbytes)
            numbers.append(number)
        else:
            numbers.append(place.number)
    found = _append_graph(owner, callee, numbers, overwrite=False)
    for source, target in zip(found, results, strict=True):
        _copy(owner, node, source, Place("request", target), owner.requests[target][0])
    for number in numbers:
        _keep_until_now(owner, Place("request", number))


def _append_graph(
    owner: Lowerer, callee: SubgraphRunner, inputs: list[int], *, overwrite: bool
) -> list[Place]:
    """Append a subgraph's steps; its inputs lie in the requests `inputs`.

    Returns where its results lie. With `overwrite` its nodes may put results where an input was
    that is not needed any more.
    """
    from litejit.engine.lower import Lowerer

    graph = callee.static_graph()
    numbers = callee.subgraph.inputs
    if graph is None or len(set(numbers)) < len(numbers):
        raise _NotCompiledError
    child = Lowerer(graph, owner.isa, callee.store, owner.threads, owner)
    for index, number in zip(numbers, inputs, strict=True):
        child.home[index], child.members[number] = number, [index]
    if overwrite:
        child.forever -= set(numbers) - set(graph.outputs)
    begin = len(owner.steps)
    for position, node in enumerate(graph.nodes):
        child.lower_node(position, node)
    owner.steps[begin:] = [_addressed(step, child) for step in owner.steps[begin:]]
    return [_result(owner, child, graph, index) for index in callee.subgraph.outputs]


def _result(owner: Lowerer, child: Lowerer, graph: Graph, index: int) -> Place:
    tensor = graph.types[index]
    if tensor.value is not None:
        return owner.array(child.store.copy_of(index, tensor.value))
    return _addressed_place(Place("tensor", index), child)


def _addressed(step: Step, child: Lowerer) -> Step:
    """A step of a subgraph with operands that its caller understands."""
    if isinstance(step, JumpStep):
        flag = None if step.flag is None else _addressed_place(step.flag, child)
        jump: JumpStep = replace(step, flag=flag)
        return jump
    if not isinstance(step, NativeStep):
        raise _NotCompiledError
    operands = tuple(
        _addressed_place(o, child) if isinstance(o, Place) else o for o in step.operands
    )
    call: NativeStep = replace(step, operands=operands, is_inner=True)
    return call


def _addressed_place(place: Place, child: Lowerer) -> Place:
    if place.kind != "tensor":
        return place
    if place.number not in child.home:
        raise _NotCompiledError
    return Place("request", child.home[place.number], place.offset)


def _place_of(owner: Lowerer, tensor: TensorType) -> Place:
    """Where an operand of the caller lies."""
    if tensor.value is not None:
        if tensor.dtype.numpy.hasobject:
            raise _NotCompiledError
        return owner.array(owner.store.copy_of(tensor.index, tensor.value))
    if tensor.index in owner.home:
        return Place("request", owner.home[tensor.index])
    return Place("tensor", tensor.index)  # a variable


def _tensors(operands: tuple[TensorType | None, ...]) -> list[TensorType]:
    if any(tensor is None for tensor in operands):
        raise _NotCompiledError
    return [tensor for tensor in operands if tensor is not None]


def _new_results(owner: Lowerer, node: Node) -> list[int]:
    """Memory for the node's outputs."""
    for tensor in _tensors(node.outputs):
        owner.place(tensor, len(owner.steps))
    return [owner.home[tensor.index] for tensor in _tensors(node.outputs)]


def _copy(owner: Lowerer, node: Node, source: Place, target: Place, nbytes: int) -> None:
    if owner.isa is None:
        raise _NotCompiledError
    if nbytes:
        plan = plan_whole_copy(nbytes, owner.isa)
        operands: tuple[Place | int | float, ...] = (source, target, *plan.numbers)
        owner.steps.append(NativeStep(plan.spec, operands, plan.items, 1, plan.cost_ns, node))
    _keep_until_now(owner, source)
    _keep_until_now(owner, target)


def _keep_until_now(owner: Lowerer, place: Place) -> None:
    if place.kind == "request":
        request = owner.requests[place.number]
        request[2] = max(request[2], len(owner.steps) - 1)


def _jump(owner: Lowerer, node: Node, flag: Place | None) -> int:
    """Append a jump whose target is not known yet; returns its number, for `_land`."""
    owner.steps.append(JumpStep(node, 0, flag))
    if flag is not None:
        _keep_until_now(owner, flag)
    return len(owner.steps) - 1


def _land(owner: Lowerer, jump: int, target: int | None = None) -> None:
    """Let a jump lead to step `target`, or to the next one that is appended."""
    found = len(owner.steps) if target is None else target
    owner.steps[jump] = replace(owner.steps[jump], target=found)
