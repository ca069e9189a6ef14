"""Nodes that run better together become one, and no number changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit import Interpreter
from litejit.engine.profile import profile
from litejit.model.builder import ModelBuilder
from litejit.model.options.elementwise import MulOptions
from litejit.types import F32


def model(*, gate_is_read: bool, activation: int = 0) -> bytes:
    """x * sigmoid(x), with the sigmoid as a second output where `gate_is_read`."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 5, 7), F32)
    make = graph.add_output if gate_is_read else graph.add_tensor
    gate = make("gate", (1, 5, 7), F32)
    y = graph.add_output("y", (1, 5, 7), F32)
    graph.add_operator("LOGISTIC", [x], [gate])
    graph.add_operator("MUL", [gate, x], [y], MulOptions(activation=activation))
    return builder.to_bytes()


def run(content: bytes, x: Any) -> tuple[list[Any], list[str]]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    results = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    return results, [step.node.name for step in profile(interpreter._runner)]


SPREAD = np.linspace(-95, 95, 35, dtype=np.float32).reshape(1, 5, 7)


def test_a_product_with_its_own_sigmoid_becomes_one_step() -> None:
    (y,), names = run(model(gate_is_read=False), SPREAD)
    assert names == ["SWISH"]
    wide = SPREAD.astype(np.float64)
    np.testing.assert_allclose(y, wide / (1 + np.exp(-wide)), rtol=1e-6, atol=1e-37)


def test_infinity_times_its_sigmoid_is_the_largest_number() -> None:
    (y,), _ = run(model(gate_is_read=False), np.full((1, 5, 7), np.inf, np.float32))
    np.testing.assert_array_equal(y, np.finfo(np.float32).max)


@pytest.mark.parametrize("case", [{"gate_is_read": True}, {"gate_is_read": False, "activation": 1}])
def test_a_sigmoid_that_is_read_elsewhere_and_a_clamped_product_stay_apart(case: Any) -> None:
    results, names = run(model(**case), SPREAD)
    assert "SWISH" not in names
    wide = SPREAD.astype(np.float64)
    expected = wide / (1 + np.exp(-wide))
    if "activation" in case:
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(results[-1], expected, rtol=1e-6, atol=1e-37)
