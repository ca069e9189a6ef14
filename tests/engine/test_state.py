"""State is saved where a failed run may have changed it, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit import Interpreter
from litejit.engine.state import State
from litejit.model.builder import ModelBuilder
from litejit.model.options import Activation, SVDFOptions
from litejit.model.options.control import VarHandleOptions
from litejit.model.options.index import GatherOptions
from litejit.types import F32, I32, RESOURCE


def remembering(*, refusing_first: bool) -> Interpreter:
    """An SVDF behind or before a GATHER, which refuses positions that are not there."""
    rng = np.random.default_rng(0)
    graph = (model := ModelBuilder()).main
    x, places = graph.add_input("x", (1, 4), F32), graph.add_input("places", (4,), I32)
    y, middle = graph.add_output("y", (1, 4), F32), graph.add_tensor("middle", (1, 4), F32)
    weights = [
        graph.add_constant("w", rng.standard_normal((4, n)).astype(np.float32)) for n in (4, 3)
    ]
    state = graph.add_tensor("state", (1, 12), F32, is_variable=True)
    for source, target, gathers in ((x, middle, refusing_first), (middle, y, not refusing_first)):
        if gathers:
            graph.add_operator("GATHER", [source, places], [target], GatherOptions(axis=1))
        else:
            options = SVDFOptions(rank=1, activation=Activation.NONE)
            graph.add_operator("SVDF", [source, *weights, -1, state], [target], options)
    interpreter = Interpreter(model_content=model.to_bytes())
    interpreter.allocate_tensors()
    return interpreter


def memory_after(interpreter: Interpreter, places: list[int]) -> Any:
    values = np.float32([[1, -2, 3, 4]]), np.int32(places)
    for details, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(details["index"], value)
    if max(places) < 4:
        interpreter.invoke()
    else:
        with pytest.raises(RuntimeError, match="GATHER"):
            interpreter.invoke()
    (memory,) = interpreter._runner.state.arrays.values()
    return memory.copy()


@pytest.mark.parametrize("refusing_first", [True, False])
def test_a_refused_run_leaves_the_state_as_it_was(
    refusing_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter, saved = remembering(refusing_first=refusing_first), []
    save = State.save
    monkeypatch.setattr(State, "save", lambda self: saved.append(1) or save(self))
    first = memory_after(interpreter, [0, 1, 2, 3])
    assert first.any()
    np.testing.assert_array_equal(memory_after(interpreter, [0, 1, 2, 4]), first)
    assert (memory_after(interpreter, [3, 2, 1, 0]) != first).any()
    # what may refuse runs before anything changes: there is nothing to save
    assert len(saved) == (0 if refusing_first else 3)


def test_a_refusal_behind_an_assignment_takes_the_assignment_back() -> None:
    graph = (model := ModelBuilder()).main
    x, at = graph.add_input("x", (4,), F32), graph.add_input("at", (1,), I32)
    handle = graph.add_tensor("handle", (), RESOURCE)
    graph.add_operator("VAR_HANDLE", [], [handle], VarHandleOptions(shared_name="v"))
    graph.add_operator("ASSIGN_VARIABLE", [handle, x], [])
    graph.add_operator("GATHER", [x, at], [graph.add_output("y", (1,), F32)], GatherOptions())
    interpreter = Interpreter(model_content=model.to_bytes())
    interpreter.allocate_tensors()

    def run(value: float, place: int) -> None:
        values = np.full(4, value, np.float32), np.int32([place])
        for details, array in zip(interpreter.get_input_details(), values, strict=True):
            interpreter.set_tensor(details["index"], array)
        interpreter.invoke()

    for value in (1.0, 2.0):
        run(value, 3)
    with pytest.raises(RuntimeError, match="GATHER"):
        run(5.0, 4)
    held = interpreter._runner.session.value(0)
    assert held is not None
    assert held.tolist() == [2.0] * 4
