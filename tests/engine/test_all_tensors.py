"""With all tensors preserved every number is the one that it is without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit import Interpreter
from litejit.model.builder import ModelBuilder
from litejit.model.options.elementwise import AddOptions, MulOptions
from litejit.types import F32

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits" / "digits_int8.tflite"
pytestmark = pytest.mark.filterwarnings("ignore:.*preserve")


def norm_model() -> bytes:
    """Rows of operators that are joined, an activation that is taken in, a result nobody reads."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (3, 64), F32)
    scale = graph.add_constant("scale", np.linspace(0.1, 2, 64, dtype=np.float32))
    t, s, m = (graph.add_tensor(n, (3, 64), F32) for n in "tsm")
    graph.add_operator("MUL", [x, scale], [t], MulOptions())
    graph.add_operator("LOGISTIC", [t], [s])
    graph.add_operator("MUL", [t, s], [m], MulOptions())
    graph.add_operator("ADD", [m, x], [graph.add_output("y", (3, 64), F32)], AddOptions())
    graph.add_operator("EXP", [t], [graph.add_tensor("unread", (3, 64), F32)])
    return builder.to_bytes()


def after_a_run(content: bytes, *, preserve: bool) -> Interpreter:
    interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=preserve)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(3)
    for detail in interpreter.get_input_details():
        x: Any = 20 * rng.normal(size=detail["shape"])
        interpreter.set_tensor(detail["index"], x.astype(detail["dtype"]))
    interpreter.invoke()
    return interpreter


@pytest.fixture(params=["norm", "digits"])
def content(request: pytest.FixtureRequest) -> Iterator[bytes]:
    yield norm_model() if request.param == "norm" else DIGITS.read_bytes()


def test_outputs_and_all_tensors_of_the_plain_program_have_the_same_bytes(content: bytes) -> None:
    plain, whole = (after_a_run(content, preserve=preserve) for preserve in (False, True))
    (section,) = plain._runner.sections
    for node in section.graph.nodes:
        for tensor in node.outputs:
            assert tensor is not None
            if tensor.index in section.readable:
                expected = section.program.views[tensor.index]
                assert whole.get_tensor(tensor.index).tobytes() == expected.tobytes()


def test_every_tensor_has_the_value_that_its_operator_gives(content: bytes) -> None:
    from litejit.engine.graph import run_reference

    interpreter = after_a_run(content, preserve=True)
    runner = interpreter._runner
    for node in runner.sections[0].graph.nodes:
        arrays = {i: a for i in runner.types if (a := runner.array(i)) is not None}
        for tensor, expected in zip(node.outputs, run_reference(node, arrays), strict=True):
            found = arrays[tensor.index]
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    for detail in interpreter.get_tensor_details():
        interpreter.get_tensor(detail["index"])
