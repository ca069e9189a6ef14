"""Operators that stand for several leave the numbers, and what the file says, as they were."""

from __future__ import annotations

import numpy as np

from litejit import Interpreter
from litejit.model import read_model
from litejit.model.builder import ModelBuilder
from litejit.model.options import AddOptions, ConcatenationOptions, ReshapeOptions
from litejit.types import F32, I32


def row_update() -> bytes:
    """y = x with row t replaced, in eight operators as Keras writes them."""
    builder = ModelBuilder()
    graph = builder.main
    x, row = graph.add_input("x", (4, 3), F32), graph.add_input("row", (1, 3), F32)
    t = graph.add_input("t", (), I32)

    def ints(name: str, *values: int) -> int:
        return graph.add_constant(name, np.array(values, np.int32))

    one = graph.add_constant("one", np.array(1, np.int32))
    shape, rest, zero, origin = ints("1", 1), ints("-1", -1), ints("0", 0), ints("00", 0, 0)
    all_rest = ints("-1-1", -1, -1)
    next_t = graph.add_tensor("t1", (), I32)
    vectors = [graph.add_tensor(name, (1,), I32) for name in ("tv", "t1v")]
    size, begin = (graph.add_tensor(name, (2,), I32) for name in ("size", "begin"))
    front, back = (graph.add_tensor(name, (1, 3), F32) for name in ("front", "back"))
    y = graph.add_output("y", (4, 3), F32)
    joined = ConcatenationOptions(axis=0)
    graph.add_operator("ADD", [t, one], [next_t], AddOptions())
    graph.add_operator("RESHAPE", [t, shape], [vectors[0]], ReshapeOptions())
    graph.add_operator("RESHAPE", [next_t, shape], [vectors[1]], ReshapeOptions())
    graph.add_operator("CONCATENATION", [vectors[0], rest], [size], joined)
    graph.add_operator("CONCATENATION", [vectors[1], zero], [begin], joined)
    graph.add_operator("SLICE", [x, origin, size], [front])
    graph.add_operator("SLICE", [x, begin, all_rest], [back])
    graph.add_operator("CONCATENATION", [front, row, back], [y], joined)
    return builder.to_bytes()


def test_a_row_that_is_cut_out_and_joined_in_is_exchanged() -> None:
    interpreter = Interpreter(model_content=row_update())
    interpreter.allocate_tensors()
    x, row = np.arange(12, dtype=np.float32).reshape(4, 3), np.full((1, 3), -1, np.float32)
    for t in range(4):
        for index, value in enumerate((x, row, np.array(t, np.int32))):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        expected = x.copy()
        expected[t] = -1
        index = interpreter.get_output_details()[0]["index"]
        np.testing.assert_array_equal(interpreter.get_tensor(index), expected)


def test_details_of_an_operator_that_stands_for_several_are_those_of_the_file() -> None:
    interpreter = Interpreter(model_content=row_update())
    operators = read_model(row_update()).subgraphs[0].operators
    details = interpreter._get_ops_details()
    assert interpreter._runner.operators[7].operator.inputs != operators[7].inputs
    for found, operator in zip(details, operators, strict=True):
        assert tuple(found["inputs"]) == operator.inputs
        assert tuple(found["outputs"]) == operator.outputs
        assert len(found["operand_types"]) == len(operator.inputs)
