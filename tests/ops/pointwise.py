"""Nodes of elementwise operators from arrays: their references and their kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.ops.moving import BY_NUMPY, Immediate, quantization

from litejit.ops.base import Node
from litejit.ops.resolver import BuiltinOpResolver
from litejit.types import DType, TensorType


class Q:
    """An operand: an array, its scale and zero point, its type where NumPy's does not tell."""

    def __init__(
        self, value: Any, scale: float = 0.0, zero_point: int = 0, dtype: DType | None = None
    ) -> None:
        self.value = np.asarray(value)
        self.dtype = dtype or BY_NUMPY[self.value.dtype]
        self.quantization = quantization(scale, zero_point)


def node_of(
    name: str, options: Any, *operands: Q, out: DType | None = None, scale: float = 0.0,
    zero_point: int = 0,
) -> Node:  # fmt: skip
    """A node after infer."""
    resolver = BuiltinOpResolver()
    op = resolver.find_builtin(name, resolver.versions(name)[-1])
    assert op is not None
    inputs = tuple(
        TensorType(x.value.shape, x.dtype, x.quantization, None, f"x{k}", k)
        for k, x in enumerate(operands)
    )
    dtype = out or operands[0].dtype
    output = TensorType((), dtype, quantization(scale, zero_point), None, "y", 9)
    node = Node(op, name, 3, 1, options, inputs, (output,))
    return node.with_types(inputs, tuple(op.infer(node)))


def evaluate(name: str, options: Any, *operands: Q, rtol: float = 0.0, **out: Any) -> np.ndarray:
    """The reference's result, after the kernels (if there are any) gave the same."""
    node = node_of(name, options, *operands, **out)
    values = [x.value for x in operands]
    kept = [value.copy() for value in values]
    result = np.asarray(node.op.reference(node, *values))
    for value, before in zip(values, kept, strict=True):
        np.testing.assert_array_equal(value, before)
    y = node.outputs[0]
    assert (result.shape, result.dtype) == (y.dims, y.dtype.numpy)
    compiled = run_kernels(node, values)
    if compiled is not None:
        np.testing.assert_allclose(compiled, result, rtol=rtol, atol=0)
    return result


def run_kernels(node: Node, values: list[np.ndarray]) -> np.ndarray | None:
    """What the lowering gives on fenced memory; None where it asks for no kernel."""
    if node.op.keeps_bytes or any(value.dtype == object for value in values):
        return None
    steps = Immediate(node, values)
    node.op.lower(node, steps)
    steps.check()
    return steps.results[0] if steps.calls or steps.aliases else None
