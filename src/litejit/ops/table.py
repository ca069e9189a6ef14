"""One table for a cluster of 8-bit operators: y = table[x].

The rewrite that finds clusters lives in the engine; what a cluster means is decided here, by
running the operators' own references on all 256 codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litejit.errors import InvokeError
from litejit.ops.base import Arrays, Lowering, Node, Op, Types
from litejit.ops.lut import codes_of
from litejit.record import Record, replace
from litejit.types import BOOL, I8, U8, Array, TensorType


class TableOptions(Record):
    """`table` holds 256 values of the output's type, in the order of the input's bits."""

    table: Array

    __hash__ = object.__hash__


class Table(Op):
    """y = table[x] for 8-bit x (int8, uint8) and 8-bit y (int8, uint8, bool)."""

    is_elementwise = True

    def infer(self, node: Node) -> Types:
        """One output of x's shape and the table's type."""
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, (I8, U8), "input")
        node.require_dtype(y, (I8, U8, BOOL), "output")
        table = node.options.table
        fits = table.shape == (256,) and table.dtype == y.dtype.numpy
        node.require(fits, f"the table holds {table.shape} {table.dtype}")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Look up."""
        x = np.asarray(inputs[0])
        return np.asarray(node.options.table[x.view(np.uint8)])

    def lower(self, node: Node, steps: Lowering) -> None:
        """One byte permute for 64 elements, where the machine has it."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.lookup(node, steps, node.options.table)


TABLE = Table()


def evaluate_cluster(nodes: Sequence[Node], tensor: int) -> Array | None:
    """The last node's output for all 256 codes of tensor number `tensor`; None if one is refused.

    `nodes` are elementwise, in the order in which they run; every input is tensor `tensor`,
    another node's output, or a constant with one element. The result is 256 values in the order
    of the bits of the input's type: a table for TableOptions.
    """
    values: dict[int, Any] = {}
    result: Any = None
    for node in nodes:
        if any(_is_per_channel(tensor) for tensor in (*node.inputs, *node.outputs)):
            return None
        arrays: list[Any] = []
        for operand in node.inputs:
            if operand is None:
                arrays.append(None)
            elif operand.index == tensor:
                arrays.append(codes_of(operand.dtype.numpy))
            elif operand.index in values:
                arrays.append(values[operand.index])
            else:
                arrays.append(_one(operand.value))
        try:
            result = node.op.reference(node, *arrays)
        except InvokeError:
            return None
        values[node.output(0).index] = result
    array = np.broadcast_to(np.asarray(result), (256,))
    return np.ascontiguousarray(array)


def _is_per_channel(tensor: TensorType | None) -> bool:
    return (
        tensor is not None and tensor.quantization is not None and tensor.quantization.per_channel
    )


def _one(value: Array | None) -> Array:
    if value is None or value.size != 1:
        raise ValueError("a cluster's other inputs are constants with one element")
    return value.reshape(1)


def table_node(node: Node, root: TensorType, table: Array) -> Node:
    """The look-up that replaces `node`, whose output depends on the 8-bit tensor `root` only."""
    changes = {"op": TABLE, "name": "TABLE", "version": 1, "options": TableOptions(table)}
    changed: Node = replace(node, **changes, inputs=(root,))
    return changed
