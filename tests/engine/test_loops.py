"""Subgraphs inside a program: native loops, branches and calls."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from litejit import Interpreter, OpResolverType
from litejit.engine.calls import RunnerCall, check_calls
from litejit.engine.prepare import ResolvedOperator, resolve
from litejit.engine.steps import PythonStep
from litejit.model import Model
from litejit.model.builder import GraphBuilder, ModelBuilder
from litejit.model.options.control import IfOptions, WhileOptions
from litejit.model.options.elementwise import AddOptions
from litejit.model.options.shape import ConcatenationOptions
from litejit.ops.resolver import BuiltinOpResolver
from litejit.types import BOOL, F32, I32, DType


def branches(then: int, otherwise: int) -> IfOptions:
    return IfOptions(then_subgraph_index=then, else_subgraph_index=otherwise)


def less_than(builder: ModelBuilder, limit: int) -> int:
    """A condition: counter < limit; takes (counter, x, y)."""
    graph = builder.add_subgraph("condition")
    counter = graph.add_input("counter", (), I32)
    graph.add_input("x", (3,), F32)
    graph.add_input("y", (3,), F32)
    bound = graph.add_constant("limit", np.array(limit, np.int32))
    graph.add_operator("LESS", [counter, bound], [graph.add_output("go", (), BOOL)])
    return graph.index


def counting_body(builder: ModelBuilder, *, swap: bool) -> GraphBuilder:
    """counter + 1, and x and y, swapped or with 1 added to x."""
    graph = builder.add_subgraph("body")
    counter = graph.add_input("counter", (), I32)
    x, y = graph.add_input("x", (3,), F32), graph.add_input("y", (3,), F32)
    one = graph.add_constant("one", np.array(1, np.int32))
    graph.add_operator("ADD", [counter, one], [graph.add_output("next", (), I32)], AddOptions())
    if swap:
        graph.outputs += [y, x]
    else:
        step = graph.add_constant("step", np.ones(3, np.float32))
        graph.add_operator("ADD", [x, step], [graph.add_output("more", (3,), F32)], AddOptions())
        graph.outputs.append(y)
    return graph


def loop_model(turns: int, *, swap: bool) -> bytes:
    builder = ModelBuilder()
    graph = builder.main
    inputs = [graph.add_input("counter", (), I32), graph.add_input("x", (3,), F32),
              graph.add_input("y", (3,), F32)]  # fmt: skip
    outputs = [graph.add_output("n", (), I32), graph.add_output("x out", (3,), F32),
               graph.add_output("y out", (3,), F32)]  # fmt: skip
    condition = less_than(builder, turns)
    body = counting_body(builder, swap=swap).index
    options = WhileOptions(cond_subgraph_index=condition, body_subgraph_index=body)
    graph.add_operator("WHILE", inputs, outputs, options)
    return builder.to_bytes()


def run(model: bytes, inputs: list[np.ndarray], **arguments: object) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=model, **arguments)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


VALUES = [np.array(0, np.int32), np.arange(3, dtype=np.float32), np.full(3, 9, np.float32)]


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 7])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kind", [OpResolverType.AUTO, OpResolverType.BUILTIN_REF])
def test_a_loop_turns_as_often_as_its_condition_holds(
    turns: int, swap: bool, kind: OpResolverType
) -> None:
    n, x, y = run(loop_model(turns, swap=swap), VALUES, experimental_op_resolver_type=kind)
    count = max(turns, 0)
    assert n == count
    if swap:
        first, second = (VALUES[1], VALUES[2]) if count % 2 == 0 else (VALUES[2], VALUES[1])
    else:
        first, second = VALUES[1] + count, VALUES[2]
    np.testing.assert_array_equal(x, first)
    np.testing.assert_array_equal(y, second)


def test_a_loop_of_compiled_steps_runs_without_python() -> None:
    interpreter = Interpreter(model_content=loop_model(3, swap=False))
    interpreter.allocate_tensors()
    steps = interpreter._runner.sections[0].program.lowered.steps
    assert not any(isinstance(step, PythonStep) for step in steps)


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_gives_the_results_of_the_side_that_is_taken(taken: bool) -> None:
    builder = ModelBuilder()
    graph = builder.main
    inputs = [graph.add_input("condition", (), BOOL), graph.add_input("x", (3,), F32)]
    output = graph.add_output("y", (3,), F32)
    sides = []
    for amount in (10, 20):
        side = builder.add_subgraph(f"add {amount}")
        x = side.add_input("x", (3,), F32)
        constant = side.add_constant("amount", np.full(3, amount, np.float32))
        y = side.add_output("y", (3,), F32)
        side.add_operator("ADD", [x, constant], [y], AddOptions())
        sides.append(side.index)
    graph.add_operator("IF", inputs, [output], branches(*sides))
    (y,) = run(builder.to_bytes(), [np.array(taken), VALUES[1]])
    np.testing.assert_array_equal(y, VALUES[1] + (10 if taken else 20))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the suite was started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_endless_loop_ends_at_an_interrupt(interruptible: None) -> None:
    interpreter = Interpreter(model_content=loop_model(2**31 - 1, swap=False))
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), VALUES, strict=True):
        interpreter.set_tensor(detail["index"], value)
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        interpreter.invoke()
    timer.join()


def test_subgraphs_that_call_themselves_are_refused() -> None:
    builder = ModelBuilder()
    graph = builder.main
    inputs = [graph.add_input("condition", (), BOOL), graph.add_input("x", (3,), F32)]
    output = graph.add_output("y", (3,), F32)
    side = builder.add_subgraph("side")
    condition = side.add_input("condition", (), BOOL)
    y = side.add_output("y", (3,), F32)
    side.add_operator("IF", [condition, condition], [y], branches(side.index, side.index))
    graph.add_operator("IF", inputs, [output], branches(side.index, side.index))
    interpreter = Interpreter(model_content=builder.to_bytes())
    with pytest.raises(RuntimeError, match="calls itself"):
        interpreter.allocate_tensors()


@pytest.mark.parametrize(
    ("dtypes", "refusal"),
    [
        ([I32], "output 0 of a subgraph is INT32, expected FLOAT32"),
        ([F32, F32], "a subgraph has 2 outputs, not 1"),
        ([], "a subgraph has 0 outputs, not 1"),
    ],
)  # fmt: skip
def test_branches_of_another_type_or_number_of_results_are_refused(
    dtypes: list[DType], refusal: str
) -> None:
    builder = ModelBuilder()
    graph = builder.main
    inputs = [graph.add_input("condition", (), BOOL), graph.add_input("x", (3,), F32)]
    output = graph.add_output("y", (3,), F32)
    side = builder.add_subgraph("side")
    x = side.add_input("x", (3,), F32)
    for number, dtype in enumerate(dtypes):
        y = side.add_output(f"y{number}", (3,), dtype)
        side.add_operator("CAST", [x], [y])
    graph.add_operator("IF", inputs, [output], branches(side.index, side.index))
    interpreter = Interpreter(model_content=builder.to_bytes())
    with pytest.raises(RuntimeError, match=rf"{refusal}\nNode number 0 \(IF\) failed to prepare"):
        interpreter.allocate_tensors()


def test_a_loop_whose_values_change_their_types_is_refused() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (), I32)
    condition = builder.add_subgraph("condition")
    bound = condition.add_constant("bound", np.array(3, np.int32))
    operands = [condition.add_input("x", (), I32), bound]
    condition.add_operator("LESS", operands, [condition.add_output("go", (), BOOL)])
    body = builder.add_subgraph("body")
    body.add_operator("CAST", [body.add_input("x", (), I32)], [body.add_output("y", (), F32)])
    options = WhileOptions(cond_subgraph_index=condition.index, body_subgraph_index=body.index)
    graph.add_operator("WHILE", [x], [graph.add_output("y", (), I32)], options)
    interpreter = Interpreter(model_content=builder.to_bytes())
    with pytest.raises(RuntimeError, match="output 0 of a subgraph is FLOAT32, expected INT32"):
        interpreter.allocate_tensors()


def test_subgraphs_that_multiply_are_refused_at_once() -> None:
    builder = ModelBuilder()
    graphs = [builder.main, *(builder.add_subgraph(f"level {n}") for n in range(1, 31))]
    for graph, callee in zip(graphs, [*graphs[1:], None], strict=True):
        operands = [graph.add_input("condition", (1,), BOOL)]
        if callee is not None:
            operands.append(operands[0])
        y = graph.add_output("y", (1,), BOOL)
        both = None if callee is None else branches(callee.index, callee.index)
        graph.add_operator("IF" if callee else "LOGICAL_NOT", operands, [y], both)
    interpreter = Interpreter(model_content=builder.to_bytes())
    with pytest.raises(RuntimeError, match="in 2147483647 ways or more, at most 1240 can be"):
        interpreter.allocate_tensors()


def test_a_graph_may_call_many_subgraphs() -> None:
    builder = ModelBuilder()
    graph, side = builder.main, builder.add_subgraph("side")
    y = side.add_output("y", (1,), BOOL)
    side.add_operator("LOGICAL_NOT", [side.add_input("x", (1,), BOOL)], [y])
    x = graph.add_input("x", (1,), BOOL)
    for number in range(1500):
        output = graph.add_output(f"y{number}", (1,), BOOL)
        graph.add_operator("IF", [x, x], [output], branches(side.index, side.index))
    check_calls(operators_of(builder.build()))


def operators_of(model: Model) -> list[list[ResolvedOperator]]:
    return [resolve(model, subgraph, BuiltinOpResolver()) for subgraph in model.subgraphs]


def growing_loop(turns: int) -> bytes:
    """x = [x, x], `turns` times: another shape in every turn."""
    builder = ModelBuilder()
    graph, condition, body = builder.main, *(builder.add_subgraph(n) for n in ("cond", "body"))
    operands = [
        [g.add_input("i", (), I32), g.add_input("x", (1,), F32)]
        for g in (graph, condition, body)
    ]
    limit = condition.add_constant("limit", np.array(turns, np.int32))
    go = condition.add_output("go", (), BOOL)
    condition.add_operator("LESS", [operands[1][0], limit], [go])
    one = body.add_constant("one", np.array(1, np.int32))
    i, x = operands[2]
    body.add_operator("ADD", [i, one], [body.add_output("next", (), I32)], AddOptions())
    longer = body.add_output("longer", (), F32)
    body.add_operator("CONCATENATION", [x, x], [longer], ConcatenationOptions(axis=0))
    options = WhileOptions(
        cond_subgraph_index=condition.index, body_subgraph_index=body.index
    )
    results = [graph.add_output("n", (), I32), graph.add_output("y", (), F32)]
    graph.add_operator("WHILE", operands[0], results, options)
    return builder.to_bytes()


def test_a_loop_that_grows_is_prepared_once_for_each_shape() -> None:
    interpreter = Interpreter(model_content=growing_loop(5))
    interpreter.allocate_tensors()
    i, x = (detail["index"] for detail in interpreter.get_input_details())
    y = interpreter.get_output_details()[1]["index"]
    seen = []
    for start in (0, 0, 2, 0):
        interpreter.set_tensor(i, np.int32(start))
        interpreter.set_tensor(x, np.array([start + 1], np.float32))
        interpreter.invoke()
        expected = np.full(1 << (5 - start), start + 1, np.float32)
        np.testing.assert_array_equal(interpreter.get_tensor(y), expected)
        body = interpreter._runner.session.subgraph(2)
        assert isinstance(body, RunnerCall)
        seen.append(len(body.runner._remembered))
    assert seen[0] > 4
    assert set(seen[1:]) == {seen[1]}
