"""Resource variables in compiled programs: copies of memory that outlives the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit import Interpreter
from litejit.engine.steps import PythonStep
from litejit.model.builder import GraphBuilder, ModelBuilder
from litejit.model.options.control import CallOnceOptions, VarHandleOptions
from litejit.model.options.elementwise import AddOptions
from litejit.model.options.index import GatherOptions
from litejit.model.options.shape import PackOptions
from litejit.types import F32, I32, RESOURCE


def handle_of(graph: GraphBuilder) -> int:
    handle = graph.add_tensor("handle", (), RESOURCE)
    graph.add_operator("VAR_HANDLE", [], [handle], VarHandleOptions(shared_name="v"))
    return handle


def count(graph: GraphBuilder, shape: tuple[int, ...]) -> None:
    """y = v += x, then z = y[at]: a step behind the change that may fail."""
    x, at = graph.add_input("x", shape, F32), graph.add_input("at", (1,), I32)
    y, z = graph.add_output("y", shape, F32), graph.add_output("z", shape, F32)
    handle, old = handle_of(graph), graph.add_tensor("old", shape, F32)
    graph.add_operator("READ_VARIABLE", [handle], [old])
    graph.add_operator("ADD", [old, x], [y], AddOptions())
    graph.add_operator("ASSIGN_VARIABLE", [handle, y], [])
    graph.add_operator("GATHER", [y, at], [z], GatherOptions())


def counter(*, first: float | None = 1.0) -> bytes:
    """Signatures "count" (subgraph 0) and "read" (subgraph 1) of one variable."""
    builder = ModelBuilder()
    graph = builder.main
    reading = builder.add_subgraph("reading")
    if first is not None:
        start = builder.add_subgraph("start")
        value = start.add_constant("c", np.full(4, first, np.float32))
        start.add_operator("ASSIGN_VARIABLE", [handle_of(start), value], [])
        options = CallOnceOptions(init_subgraph_index=start.index)
        graph.add_operator("CALL_ONCE", [], [], options)
    count(graph, (4,))
    y = reading.add_output("y", (4,), F32)
    reading.add_operator("READ_VARIABLE", [handle_of(reading)], [y])
    builder.add_signature("read", {}, {"y": y}, subgraph=reading.index)
    return builder.to_bytes()


def ready(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


def add(interpreter: Interpreter, x: Any, at: int = 0) -> np.ndarray:
    number, place = (d["index"] for d in interpreter.get_input_details())
    interpreter.set_tensor(number, np.full(4, x, np.float32))
    interpreter.set_tensor(place, np.array([at], np.int32))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_second_run_is_compiled_and_goes_on_from_the_first() -> None:
    interpreter = ready(counter())
    assert add(interpreter, 2).tolist() == [3] * 4
    assert add(interpreter, 4).tolist() == [7] * 4
    steps = interpreter._runner.sections[0].program.lowered.steps
    assert not any(isinstance(step, PythonStep) for step in steps)
    assert len(interpreter._runner.sections) == 1
    assert add(interpreter, 1).tolist() == [8] * 4


def test_inputs_that_were_set_before_keep_their_values_when_programs_are_made_anew() -> None:
    interpreter = ready(counter())
    add(interpreter, 2)
    interpreter.invoke()  # makes the compiled Program; x is still 2
    output = interpreter.get_output_details()[0]["index"]
    assert interpreter.get_tensor(output).tolist() == [5] * 4


@pytest.mark.parametrize("runs", [0, 1, 2, 3])
def test_a_failed_run_leaves_the_variable_as_it_was(runs: int) -> None:
    interpreter = ready(counter())
    for _ in range(runs):
        add(interpreter, 1)
    with pytest.raises(RuntimeError, match="GATHER"):
        add(interpreter, 1, at=4)
    assert add(interpreter, 1).tolist() == [runs + 2] * 4


def test_signatures_share_variables() -> None:
    interpreter = ready(counter())
    for runs in range(1, 5):
        add(interpreter, 1)
        assert interpreter.get_signature_runner("read")()["y"].tolist() == [runs + 1] * 4


def test_a_variable_without_a_value_is_refused() -> None:
    interpreter = ready(counter(first=None))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no value yet"):
            add(interpreter, 1)


def test_reset_all_variables_leaves_resources_alone() -> None:
    interpreter = ready(counter())
    add(interpreter, 1)
    interpreter.reset_all_variables()
    assert add(interpreter, 1).tolist() == [3] * 4


def growing_model() -> bytes:
    """v becomes [v, v]: another shape with every run."""
    builder = ModelBuilder()
    graph, start = builder.main, builder.add_subgraph("start")
    value = start.add_constant("c", np.ones(1, np.float32))
    start.add_operator("ASSIGN_VARIABLE", [handle_of(start), value], [])
    graph.add_operator("CALL_ONCE", [], [], CallOnceOptions(init_subgraph_index=start.index))
    handle = handle_of(graph)
    old, y = graph.add_tensor("old", (), F32), graph.add_output("y", (), F32)
    graph.add_operator("READ_VARIABLE", [handle], [old])
    graph.add_operator("PACK", [old, old], [y], PackOptions(values_count=2, axis=0))
    graph.add_operator("ASSIGN_VARIABLE", [handle, y], [])
    return builder.to_bytes()


    return PackOptions(values_count=2, axis=0)


def test_a_variable_may_take_another_shape_with_every_run() -> None:
    interpreter = ready(growing_model())
    for runs in range(1, 6):
        interpreter.invoke()
        y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        assert y.shape == (2,) * runs + (1,)


def test_two_interpreters_of_one_model_have_variables_of_their_own() -> None:
    first, second = ready(counter()), ready(counter())
    for _ in range(3):
        add(first, 1)
    assert add(second, 1).tolist() == [2] * 4
    assert add(first, 1).tolist() == [5] * 4
