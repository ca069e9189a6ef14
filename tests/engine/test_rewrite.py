"""Nodes that run better together become one, and no number changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit import Interpreter
from litejit.engine.profile import profile
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import BatchMatMulOptions
from litejit.model.options.elementwise import GreaterOptions, LogicalNotOptions, MulOptions
from litejit.types import BOOL, F32, I8


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


def attention(perms: tuple[tuple[int, ...], ...], shapes: tuple[Any, ...], *, read: bool) -> bytes:
    """transpose(transpose(a) transpose(b)); with `read` the first transpose is an output too."""
    builder = ModelBuilder()
    graph = builder.main
    sides = []
    for k in range(2):
        x = graph.add_input(f"x{k}", shapes[k], F32)
        turned = tuple(shapes[k][axis] for axis in perms[k])
        make = graph.add_output if read and k == 0 else graph.add_tensor
        sides.append(make(f"t{k}", turned, F32))
        perm = graph.add_constant(f"p{k}", np.array(perms[k], np.int32))
        graph.add_operator("TRANSPOSE", [x, perm], [sides[k]])
    first, second = ([shapes[k][axis] for axis in perms[k]] for k in range(2))
    made = (*first[:-1], second[-1])
    product = graph.add_tensor("product", made, F32)
    graph.add_operator("BATCH_MATMUL", sides, [product], BatchMatMulOptions())
    y = graph.add_output("y", tuple(made[axis] for axis in perms[2]), F32)
    graph.add_operator("TRANSPOSE", [product, graph.add_constant(
        "p2", np.array(perms[2], np.int32))], [y])  # fmt: skip
    return builder.to_bytes()


HEADS = (0, 2, 1, 3)


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize(
    ("perms", "sizes", "steps"),
    [
        ((HEADS, HEADS, HEADS), ((1, 19, 3, 8), (1, 8, 3, 37)), 1),
        ((HEADS, (0, 2, 3, 1), HEADS), ((1, 19, 3, 8), (1, 21, 3, 8)), 2),
        ((HEADS, HEADS, HEADS), ((2, 5, 3, 8), (2, 8, 3, 7)), 4),
        (((0, 1, 3, 2), HEADS, (0, 1, 3, 2)), ((1, 3, 8, 5), (1, 8, 3, 33)), 3),
        (((1, 0), (1, 0), (1, 0)), ((8, 5), (33, 8)), 4),
    ],
)
def test_products_read_and_write_through_transposes_that_keep_rows(
    perms: Any, sizes: Any, steps: int, read: bool
) -> None:
    interpreter = Interpreter(model_content=attention(perms, sizes, read=read))
    interpreter.allocate_tensors()
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(size, np.float32) for size in sizes]
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    results = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    a, b = (np.transpose(v, p) for v, p in zip(values, perms, strict=False))
    np.testing.assert_allclose(results[-1], np.transpose(a @ b, perms[2]), rtol=1e-5, atol=1e-5)
    if read:
        np.testing.assert_array_equal(results[0], a)
    else:
        assert len(profile(interpreter._runner)) == steps


def shared_head(batch: int, rows: int, *, clamped: bool) -> bytes:
    """x [batch, heads, rows, 8] times one head, [5, 8] turned, that ones repeat for all heads."""
    builder = ModelBuilder()
    graph = builder.main
    heads = 4 * batch
    x, head = graph.add_input("x", (batch, 4, rows, 8), F32), graph.add_input("h", (5, 8), F32)
    ones = graph.add_constant("ones", np.ones((1, heads, 5, 8), np.float32))
    perm = graph.add_constant("perm", np.array([0, 1, 3, 2], np.int32))
    many = graph.add_tensor("many", (1, heads, 5, 8), F32)
    turned = graph.add_tensor("turned", (1, heads, 8, 5), F32)
    sides = []
    graph.add_operator("MUL", [head, ones], [many], MulOptions(activation=int(clamped)))
    graph.add_operator("TRANSPOSE", [many, perm], [turned])
    for k, (source, shape) in enumerate(((x, (heads, rows, 8)), (turned, (heads, 8, 5)))):
        sides.append(graph.add_tensor(f"side{k}", shape, F32))
        to = graph.add_constant(f"shape{k}", np.array(shape, np.int32))
        graph.add_operator("RESHAPE", [source, to], [sides[k]])
    product = graph.add_tensor("product", (heads, rows, 5), F32)
    graph.add_operator("BATCH_MATMUL", sides, [product], BatchMatMulOptions())
    y = graph.add_output("y", (batch, 4, rows, 5), F32)
    last = graph.add_constant("last", np.array((batch, 4, rows, 5), np.int32))
    graph.add_operator("RESHAPE", [product, last], [y])
    return builder.to_bytes()


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize(("batch", "rows"), [(1, 1), (2, 1), (1, 3), (2, 7)])
def test_a_head_that_all_share_is_read_where_it_is(batch: int, rows: int, clamped: bool) -> None:
    interpreter = Interpreter(model_content=shared_head(batch, rows, clamped=clamped))
    interpreter.allocate_tensors()
    rng = np.random.default_rng(2)
    x, h = (rng.standard_normal(s, np.float32) for s in ((batch, 4, rows, 8), (5, 8)))
    for detail, value in zip(interpreter.get_input_details(), (x, h), strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = x @ (np.maximum(h, 0) if clamped else h).T
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    assert len(profile(interpreter._runner)) == 2 + clamped  # the head is turned, once


def test_what_is_asked_of_one_byte_is_looked_up() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (256,), I8, quantization=per_tensor(0.1, 3))
    bound = graph.add_constant("bound", np.int8([40]), quantization=per_tensor(0.2, -5))
    above = graph.add_output("above", (256,), BOOL)
    below = graph.add_output("below", (256,), BOOL)
    graph.add_operator("GREATER", [x, bound], [above], GreaterOptions())
    graph.add_operator("LOGICAL_NOT", [above], [below], LogicalNotOptions())
    codes = np.arange(-128, 128, dtype=np.int8)
    (above_bound, not_above), names = run(builder.to_bytes(), codes)
    assert names == ["TABLE", "TABLE"]
    np.testing.assert_array_equal(above_bound, (codes - 3.0) * 0.1 > 45 * 0.2)
    np.testing.assert_array_equal(not_above, ~above_bound)
