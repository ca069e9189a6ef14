"""Values that decide shapes: one Program as long as they return, sections when they do not."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tests.ops.whole import Given, fixed, model_of

from litejit import Interpreter
from litejit.engine import assumed
from litejit.engine.assumed import MOST_PROGRAMS
from litejit.engine.steps import PythonStep
from litejit.model.builder import ModelBuilder
from litejit.model.options.control import VarHandleOptions
from litejit.model.options.elementwise import AddOptions
from litejit.model.options.index import GatherOptions, UniqueOptions, WhereOptions
from litejit.model.options.shape import PadOptions, StridedSliceOptions, TileOptions
from litejit.types import F32, I32, I64, RESOURCE

pytestmark = pytest.mark.filterwarnings("ignore:.*preserve")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
TIMES = np.array([2, 1], np.int32)
PADS = np.array([[1, 0], [0, 2]], np.int32)


def run(interpreter: Interpreter, *values: Any) -> np.ndarray:
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def ready(content: bytes, **more: Any) -> Interpreter:
    interpreter = Interpreter(model_content=content, **more)
    interpreter.allocate_tensors()
    return interpreter


def tile_of_x() -> bytes:
    return model_of("TILE", TileOptions(), [Given(X), Given(TIMES)], [F32])


def python_steps(interpreter: Interpreter) -> int:
    steps = [step for s in interpreter._runner.sections for step in s.program.lowered.steps]
    return sum(isinstance(step, PythonStep) for step in steps)


@pytest.mark.parametrize(
    ("name", "options", "operands"),
    [
        ("TILE", TileOptions(), [Given(X), Given(TIMES)]),
        ("PAD", PadOptions(), [Given(X), Given(PADS)]),
        (
            "STRIDED_SLICE",
            StridedSliceOptions(),
            [Given(X), *(Given(np.array(v, np.int32)) for v in ([0, 0], [2, 3], [1, 2]))],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_step_needs_python_where_the_values_that_decide_a_shape_return(
    name: str, options: Any, operands: list[Given]
) -> None:
    interpreter = ready(model_of(name, options, operands, [F32]))
    values = [operand.value for operand in operands]
    first = run(interpreter, *values)
    assert python_steps(interpreter) == 0
    again = run(interpreter, values[0] + 1, *values[1:])
    assert again.shape == first.shape
    assert (again[first > 0] == first[first > 0] + 1).all()


def test_another_value_gives_another_shape_and_the_old_one_returns() -> None:
    interpreter = ready(tile_of_x())
    for times in ([2, 1], [2, 1], [1, 3], [2, 1], [4, 1], [1, 3]):
        np.testing.assert_array_equal(
            run(interpreter, X, np.array(times, np.int32)), np.tile(X, times)
        )


def test_values_that_never_return_run_in_sections_at_last() -> None:
    interpreter = ready(tile_of_x())
    for times in range(1, MOST_PROGRAMS + 4):
        y = run(interpreter, X, np.array([times, 1], np.int32))
        np.testing.assert_array_equal(y, np.tile(X, (times, 1)))
    assert python_steps(interpreter) == 1


def test_a_bad_value_is_refused_and_the_next_run_is_right() -> None:
    interpreter = ready(tile_of_x())
    run(interpreter, X, TIMES)
    with pytest.raises(RuntimeError, match="must not be negative"):
        run(interpreter, X, np.array([-1, 1], np.int32))
    np.testing.assert_array_equal(run(interpreter, X, TIMES), np.tile(X, TIMES))


def test_data_that_is_refused_under_the_expected_values_is_an_error() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, times = graph.add_input("x", (2, 3), F32), graph.add_input("times", (2,), I32)
    at, tiled = graph.add_input("at", (1,), I32), graph.add_tensor("tiled", (), F32)
    graph.add_operator("TILE", [x, times], [tiled], TileOptions())
    graph.add_operator("GATHER", [tiled, at], [graph.add_output("y", (), F32)], GatherOptions())
    interpreter = ready(builder.to_bytes())
    np.testing.assert_array_equal(run(interpreter, X, TIMES, np.array([3], np.int32)), X[1:])
    with pytest.raises(RuntimeError, match="index 4"):
        run(interpreter, X, TIMES, np.array([4], np.int32))
    np.testing.assert_array_equal(run(interpreter, X, TIMES, np.array([2], np.int32)), X[:1])


def test_a_value_that_the_graph_works_out_is_looked_at_too() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, a, b = (graph.add_input(n, s, t) for n, s, t in (("x", (2, 3), F32), ("a", (2,), I32),
                                                        ("b", (2,), I32)))  # fmt: skip
    times = graph.add_tensor("times", (2,), I32)
    graph.add_operator("ADD", [a, b], [times], AddOptions())
    graph.add_operator("TILE", [x, times], [graph.add_output("y", (), F32)], TileOptions())
    interpreter = ready(builder.to_bytes())
    one = np.ones(2, np.int32)
    np.testing.assert_array_equal(run(interpreter, X, one, one), np.tile(X, (2, 2)))
    assert python_steps(interpreter) == 0
    np.testing.assert_array_equal(run(interpreter, X, one, 2 * one), np.tile(X, (3, 3)))
    np.testing.assert_array_equal(run(interpreter, X, 2 * one, 0 * one), np.tile(X, (2, 2)))


def summing_model() -> bytes:
    """total += tile(x, times); y = total."""
    builder = ModelBuilder()
    graph = builder.main
    x, times = graph.add_input("x", (2, 3), F32), graph.add_input("times", (2,), I32)
    handle, tiled, old = (
        graph.add_tensor(n, (), t) for n, t in (("h", RESOURCE), ("tiled", F32), ("old", F32))
    )
    y = graph.add_output("y", (), F32)
    graph.add_operator("VAR_HANDLE", [], [handle], VarHandleOptions(shared_name="total"))
    graph.add_operator("TILE", [x, times], [tiled], TileOptions())
    graph.add_operator("READ_VARIABLE", [handle], [old])
    graph.add_operator("ADD", [old, tiled], [y], AddOptions())
    graph.add_operator("ASSIGN_VARIABLE", [handle, y], [])
    return builder.to_bytes()


def test_state_changes_once_a_run_whichever_program_ran() -> None:
    interpreter = ready(summing_model())
    interpreter._runner.session.assign(
        interpreter._runner.session.handle("var", "", "total"), np.zeros((2, 3), np.float32)
    )
    one, total = np.ones((1, 2), np.int32)[0], np.zeros((2, 3), np.float32)
    for _ in range(3):
        total = total + X
        np.testing.assert_array_equal(run(interpreter, X, one), total)
    with pytest.raises(RuntimeError, match="ADD"):
        run(interpreter, X, np.array([1, 5], np.int32))
    np.testing.assert_array_equal(run(interpreter, X, one), total + X)


def test_constants_made_for_one_value_do_not_serve_another() -> None:
    """The folded paddings of two Programs differ, the node and the names are the same."""
    interpreter = ready(model_of("PAD", PadOptions(), [fixed(X + 1), Given(PADS)], [F32]))
    for pads in (PADS, 2 * PADS, PADS, 0 * PADS, 2 * PADS):
        np.testing.assert_array_equal(run(interpreter, pads), np.pad(X + 1, pads))


def test_an_input_that_a_later_section_reads_can_be_set_between_runs() -> None:
    interpreter = ready(summing_model(), num_threads=1)
    session = interpreter._runner.session
    session.assign(session.handle("var", "", "total"), np.zeros((2, 3), np.float32))
    one = np.ones(2, np.int32)
    assert run(interpreter, X, one).sum() == X.sum()
    assert run(interpreter, 3 * X, one).sum() == 4 * X.sum()


def test_places_are_found_without_python_while_there_are_as_many() -> None:
    interpreter = ready(model_of("WHERE", WhereOptions(), [Given(X)], [I64]))
    for x in (X, X[::-1].copy(), X * 0 + 1, X * np.nan, X):
        np.testing.assert_array_equal(run(interpreter, x), np.argwhere(x))
        assert python_steps(interpreter) == 0


def test_distinct_elements_are_found_without_python_while_there_are_as_many() -> None:
    given = [Given(np.zeros(4, np.float32))]
    interpreter = ready(model_of("UNIQUE", UniqueOptions(), given, [F32, (I32, (4,))]))
    for x in ([3, 1, 3, 2], [5, 5, 0, 7], [1, 1, 1, 1], [np.nan, 0.0, np.nan, -0.0]):
        for _ in range(2):
            y = run(interpreter, np.array(x, np.float32))
            np.testing.assert_array_equal(y, list(dict.fromkeys(x)))
            assert python_steps(interpreter) == 0


def test_a_program_for_one_value_is_not_kept_as_the_model_s() -> None:
    content = model_of("TILE", TileOptions(), [Given(X), Given(TIMES)], [(F32, (4, 3))])
    for times in ([2, 1], [1, 3], [2, 1]):
        y = run(ready(content), X, np.array(times, np.int32))
        np.testing.assert_array_equal(y, np.tile(X, times))


def test_programs_that_need_much_memory_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assumed, "MOST_BYTES", 0)
    interpreter = ready(tile_of_x())
    for times in ([2, 1], [1, 3], [2, 1]):
        y = run(interpreter, X, np.array(times, np.int32))
        np.testing.assert_array_equal(y, np.tile(X, times))
        assert python_steps(interpreter) == 0
    assumptions = interpreter._runner._assumptions
    assert assumptions is not None
    assert len(assumptions._made) == 1


def test_all_tensors_are_preserved_under_assumptions() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, times = graph.add_input("x", (2, 3), F32), graph.add_input("times", (2,), I32)
    t, e = graph.add_tensor("tiled", (), F32), graph.add_tensor("unread", (), F32)
    graph.add_operator("TILE", [x, times], [t], TileOptions())
    graph.add_operator("EXP", [t], [e])
    graph.add_operator("ADD", [t, t], [graph.add_output("y", (), F32)], AddOptions())
    interpreter = ready(builder.to_bytes(), experimental_preserve_all_tensors=True)
    for _ in range(2):
        np.testing.assert_array_equal(run(interpreter, X, TIMES), 2 * np.tile(X, TIMES))
        np.testing.assert_array_equal(interpreter.get_tensor(t), np.tile(X, TIMES))
        np.testing.assert_allclose(interpreter.get_tensor(e), np.exp(np.tile(X, TIMES)), rtol=1e-6)


def test_memory_is_given_back_with_the_interpreter() -> None:
    interpreter = ready(tile_of_x())
    run(interpreter, X, TIMES)
    programs = [weakref.ref(s.program) for s in interpreter._runner.sections]
    programs.append(weakref.ref(interpreter._runner._first.program))
    gc.disable()
    try:
        del interpreter
        assert all(program() is None for program in programs)
    finally:
        gc.enable()
