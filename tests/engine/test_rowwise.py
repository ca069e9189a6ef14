"""Runs of float operators on rows become one node with the same results."""

from __future__ import annotations

import numpy as np
import pytest

from litejit import Interpreter, OpResolverType
from litejit.engine.steps import PythonStep
from litejit.model.builder import ModelBuilder
from litejit.model.options import Activation, FullyConnectedOptions
from litejit.model.options.control import WhileOptions
from litejit.model.options.elementwise import AddOptions, MulOptions, SubOptions
from litejit.model.options.index import ReducerOptions
from litejit.model.options.shape import ConcatenationOptions, ReshapeOptions, SliceOptions
from litejit.types import BOOL, F32, I32

RNG = np.random.default_rng(3)


def layer_norm(rows, columns):
    """A model that norms rows as converters write it, and adds the input of the norm."""
    builder = ModelBuilder()
    graph = builder.main
    full, one = (2, rows, columns), (2, rows, 1)
    x = graph.add_input("x", full, F32)
    axis = graph.add_constant("axis", np.array([-1], np.int32))
    small = graph.add_constant("small", np.float32(1e-3))
    gamma = graph.add_constant("gamma", RNG.normal(size=columns).astype(np.float32))
    mean, spread, moved, root = (graph.add_tensor(n, one, F32) for n in "mvar")
    difference, square, scaled, normed = (graph.add_tensor(n, full, F32) for n in "dqsn")
    y = graph.add_output("y", full, F32)
    graph.outputs.append(mean)
    kept = ReducerOptions(keep_dims=True)
    graph.add_operator("MEAN", [x, axis], [mean], kept)
    graph.add_operator("SUB", [x, mean], [difference], SubOptions())
    graph.add_operator("SQUARED_DIFFERENCE", [x, mean], [square])
    graph.add_operator("MEAN", [square, axis], [spread], kept)
    graph.add_operator("ADD", [spread, small], [moved], AddOptions())
    graph.add_operator("RSQRT", [moved], [root])
    graph.add_operator("MUL", [root, gamma], [scaled], MulOptions())
    graph.add_operator("MUL", [difference, scaled], [normed], MulOptions())
    graph.add_operator("ADD", [normed, x], [y], AddOptions(activation=Activation.RELU))
    return builder.to_bytes()


def gates(shape):
    """sigmoid(a) * tanh(b) + c, with the product an output too."""
    builder = ModelBuilder()
    graph = builder.main
    a, b, c = (graph.add_input(n, shape, F32) for n in "abc")
    opened, bent = (graph.add_tensor(n, shape, F32) for n in ("open", "bent"))
    product, y = (graph.add_output(n, shape, F32) for n in ("product", "y"))
    graph.add_operator("LOGISTIC", [a], [opened])
    graph.add_operator("TANH", [b], [bent])
    graph.add_operator("MUL", [opened, bent], [product], MulOptions())
    graph.add_operator("ADD", [product, c], [y], AddOptions())
    return builder.to_bytes()


def both_ways(model, inputs):
    results, steps = [], []
    for kind in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kind)
        interpreter.allocate_tensors()
        for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        results.append([interpreter.get_tensor(d["index"])
                        for d in interpreter.get_output_details()])  # fmt: skip
        found = interpreter._runner.sections[0].program.lowered.steps
        assert kind != OpResolverType.AUTO or not any(isinstance(s, PythonStep) for s in found)
        steps.append(len(found))
    return results, steps


@pytest.mark.parametrize("rows", [1, 2, 3, 11])
@pytest.mark.parametrize("columns", [16, 33, 192, 300])
def test_norms_of_rows_are_one_step(rows, columns):
    x = RNG.normal(size=(2, rows, columns)).astype(np.float32) + 5
    (ours, theirs), (few, _) = both_ways(layer_norm(rows, columns), [x])
    assert few == 1
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 128), (5, 7), (3, 4, 1000)])
def test_gates_are_one_step(shape):
    inputs = [RNG.normal(size=shape).astype(np.float32) for _ in "abc"]
    (ours, theirs), (few, _) = both_ways(gates(shape), inputs)
    assert few == 1
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-7)


def row_model(step=1):
    """concat(x[:t], row, x[t + step:]), as recurrent layers write it."""
    builder = ModelBuilder()
    exchange_row(builder.main, step=step)
    return builder.to_bytes()


def exchange_row(graph, *, step=1, next_counter=False):
    """The operators, for inputs t, x and row; t + 1 and row may be results too."""
    t = graph.add_input("t", (), I32)
    x, row = graph.add_input("x", (6, 2, 5), F32), graph.add_input("row", (1, 2, 5), F32)
    y = graph.add_tensor("y", (6, 2, 5), F32)
    constant = {n: graph.add_constant(n, np.array(v, np.int32)) for n, v in {
        "one": [1], "rest": [-1, -1], "zeros": [0, 0], "origin": [0, 0, 0], "all": [-1, -1, -1],
        "step": step}.items()}  # fmt: skip
    behind = graph.add_tensor("t + 1", (), I32)
    graph.add_operator("ADD", [t, constant["step"]], [behind], AddOptions())
    edges = []
    for number, tail in ((t, "rest"), (behind, "zeros")):
        flat, vector = graph.add_tensor("flat", (1,), I32), graph.add_tensor("vector", (3,), I32)
        graph.add_operator("RESHAPE", [number, constant["one"]], [flat], ReshapeOptions())
        graph.add_operator("CONCATENATION", [flat, constant[tail]], [vector],
                           ConcatenationOptions(axis=0))  # fmt: skip
        edges.append(vector)
    front, back = (graph.add_tensor(n, (1, 2, 5), F32) for n in ("front", "back"))
    graph.add_operator("SLICE", [x, constant["origin"], edges[0]], [front], SliceOptions())
    graph.add_operator("SLICE", [x, edges[1], constant["all"]], [back], SliceOptions())
    graph.add_operator("CONCATENATION", [front, row, back], [y], ConcatenationOptions(axis=0))
    graph.outputs += [behind, y, row] if next_counter else [y]


@pytest.mark.parametrize("t", [0, 3, 5])
def test_an_exchanged_row_is_found_in_its_many_words(t):
    x = RNG.normal(size=(6, 2, 5)).astype(np.float32)
    row = RNG.normal(size=(1, 2, 5)).astype(np.float32)
    (ours, _), (few, _) = both_ways(row_model(), [np.array(t, np.int32), x, row])
    np.testing.assert_array_equal(ours[0], np.concatenate([x[:t], row, x[t + 1 :]]))
    assert few < 4


def test_other_steps_are_left_as_they_are():
    x, row = np.ones((6, 2, 5), np.float32), np.zeros((1, 2, 5), np.float32)
    interpreter = Interpreter(model_content=row_model(step=2))
    interpreter.allocate_tensors()
    inputs = [d["index"] for d in interpreter.get_input_details()]
    for index, value in zip(inputs, (np.array(3, np.int32), x, row), strict=True):
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(got, np.concatenate([x[:3], row, x[5:]]))


@pytest.mark.parametrize("t", [-2, 6, 1 << 30])
def test_rows_that_are_not_there_are_refused(t):
    interpreter = Interpreter(model_content=row_model())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array(t, np.int32))
    with pytest.raises(RuntimeError, match="is none of 6"):
        interpreter.invoke()


@pytest.mark.parametrize("turns", [0, 4, 6])
def test_loops_that_write_rows_run_without_python(turns):
    builder = ModelBuilder()
    graph = builder.main
    shapes = {"t": ((), I32), "x": ((6, 2, 5), F32), "row": ((1, 2, 5), F32)}
    inputs = [graph.add_input(n, *kind) for n, kind in shapes.items()]
    outputs = [graph.add_output(f"{n} out", *kind) for n, kind in shapes.items()]
    condition = builder.add_subgraph("condition")
    counter = [condition.add_input(n, *kind) for n, kind in shapes.items()][0]
    limit = condition.add_constant("limit", np.array(turns, np.int32))
    condition.add_operator("LESS", [counter, limit], [condition.add_output("go", (), BOOL)])
    body = builder.add_subgraph("body")
    exchange_row(body, next_counter=True)
    options = WhileOptions(cond_subgraph_index=condition.index, body_subgraph_index=body.index)
    graph.add_operator("WHILE", inputs, outputs, options)
    x = RNG.normal(size=(6, 2, 5)).astype(np.float32)
    row = np.ones((1, 2, 5), np.float32)
    (ours, theirs), _ = both_ways(builder.to_bytes(), [np.array(0, np.int32), x, row])
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got, want)
    assert (ours[1][:turns] == 1).all() and (ours[1][turns:] == x[turns:]).all()


def test_sums_behind_another_shape_are_part_of_the_layer():
    builder = ModelBuilder()
    graph = builder.main
    x, other = graph.add_input("x", (4, 8), F32), graph.add_input("other", (2, 2, 16), F32)
    weights = graph.add_constant("weights", RNG.normal(size=(16, 8)).astype(np.float32))
    shape = graph.add_constant("shape", np.array([2, 2, 16], np.int32))
    flat, turned = graph.add_tensor("flat", (4, 16), F32), graph.add_tensor("t", (2, 2, 16), F32)
    y = graph.add_output("y", (2, 2, 16), F32)
    graph.add_operator("FULLY_CONNECTED", [x, weights, -1], [flat], FullyConnectedOptions())
    graph.add_operator("RESHAPE", [flat, shape], [turned], ReshapeOptions())
    graph.add_operator("ADD", [other, turned], [y], AddOptions(activation=Activation.RELU))
    inputs = [RNG.normal(size=(4, 8)), RNG.normal(size=(2, 2, 16))]
    (ours, theirs), (few, _) = both_ways(builder.to_bytes(), [a.astype(np.float32) for a in inputs])
    assert few == 1
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5, atol=1e-6)


def test_operators_that_refuse_data_still_do_when_others_follow() -> None:
    builder = ModelBuilder()
    graph = builder.main
    a, b = (graph.add_input(name, (4, 33), F32) for name in "ab")
    quotient = graph.add_tensor("quotient", (4, 33), F32)
    y = graph.add_output("y", (4, 33), F32)
    graph.add_operator("FLOOR_DIV", [a, b], [quotient])
    graph.add_operator("RELU", [quotient], [y])
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    divisor = np.ones((4, 33), np.float32)
    interpreter.set_tensor(b, divisor)
    interpreter.invoke()
    divisor[3, 32] = 0
    interpreter.set_tensor(b, divisor)
    with pytest.raises(RuntimeError, match="division by 0"):
        interpreter.invoke()
