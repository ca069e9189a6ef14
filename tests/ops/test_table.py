"""Clusters of 8-bit operators become one look-up."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import quantization
from tests.ops.pointwise import Q, node_of, run_kernels

from litejit.model.options.elementwise import AddOptions, MulOptions
from litejit.ops.table import evaluate_cluster, table_node
from litejit.record import replace
from litejit.types import F32, I8, TensorType

CODES = np.arange(256).astype(np.uint8).view(np.int8)


def rewired(node, inputs, output):
    """The node with tensor numbers, and constants where an input is an array."""
    named = tuple(
        replace(t, value=w, shape=w.shape, index=100) if isinstance(w, np.ndarray)
        else replace(t, index=w)
        for t, w in zip(node.inputs, inputs, strict=True)
    )  # fmt: skip
    return node.with_types(named, (replace(node.outputs[0], index=output),))


def hard_swish():
    """x * relu6(x + 3) / 6 as four operators, from tensor 1 to tensor 4."""
    x, three = Q(CODES, 0.05), Q(np.int8([100]), 0.03)
    add = node_of("ADD", AddOptions(), x, three, scale=0.06)
    relu = node_of("RELU6", None, Q(CODES, 0.06), scale=0.06)
    mul = node_of("MUL", MulOptions(), x, Q(CODES, 0.06), scale=0.2)
    return [
        rewired(add, (1, np.int8([[100]])), 2),
        rewired(relu, (2,), 3),
        rewired(mul, (1, 3), 4),
    ]


def test_a_cluster_gives_what_its_operators_give_one_after_the_other() -> None:
    nodes = hard_swish()
    table = evaluate_cluster(nodes, 1)
    assert table is not None
    assert table.dtype == np.int8
    real = CODES * 0.05
    exact = real * np.clip(real + 3, 0, 6) / 0.2
    assert np.abs(table - np.clip(exact, -128, 127)).max() < 3
    root = TensorType((3, 70), I8, quantization(0.05, 0), None, "x", 1)
    node = table_node(nodes[-1], root, table)
    node = node.with_types(node.inputs, tuple(node.op.infer(node)))
    x = np.random.default_rng(1).integers(-128, 128, (3, 70), np.int8)
    y = node.op.reference(node, x)
    np.testing.assert_array_equal(y, table[x.view(np.uint8)])
    np.testing.assert_array_equal(run_kernels(node, [x]), y)


def test_codes_that_an_operator_refuses_leave_no_table() -> None:
    root = node_of("SQRT", None, Q(CODES, 0.1), scale=0.1)
    assert evaluate_cluster([rewired(root, (1,), 2)], 1) is None


def test_floats_between_bytes_stay_inside() -> None:
    x = Q(CODES, 0.1)
    real = Q(np.zeros(256, np.float32))
    nodes = [
        rewired(node_of("DEQUANTIZE", None, x, out=F32), (1,), 2),
        rewired(node_of("EXP", None, real), (2,), 3),
        rewired(node_of("QUANTIZE", None, real, out=I8, scale=0.5), (3,), 4),
    ]
    table = evaluate_cluster(nodes, 1)
    exact = np.clip(np.rint(np.exp(CODES * np.float64(np.float32(0.1))) / 0.5), -128, 127)
    assert table is not None
    np.testing.assert_array_equal(table, exact)


def test_a_constant_with_many_elements_is_a_mistake_of_the_caller() -> None:
    node = rewired(hard_swish()[0], (1, np.int8([1, 2])), 2)
    with pytest.raises(ValueError, match="one element"):
        evaluate_cluster([node], 1)
