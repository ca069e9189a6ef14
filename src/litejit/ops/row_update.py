"""A tensor with one row exchanged, as recurrent layers of Keras write it.

They have no operator for it: CONCATENATION(SLICE(x, up to row t), row, SLICE(x, from row t + 1)),
with t found by the run. Taken apart, no shape is known before a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from litejit.ops.base import Op
from litejit.ops.blocks import FIXED_WIDTH, copy_whole, input_of, lowers, require_same_type
from litejit.types import F32, I8, I32, I64

if TYPE_CHECKING:
    from litejit.model import Operator
    from litejit.ops.base import Lowering, Node, Surroundings, Types
    from litejit.types import Array

Entry: TypeAlias = "int | tuple[str, int]"  # a number, or ("tensor", its index)


class RowUpdate(Op):
    """y = x with row t (input 2, one integer of 32 or 64 bits) replaced by input 1.

    Input 1 has as many rows as it likes; with m of them y has m - 1 rows more than x. t must be
    a row of x.
    """

    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        x, row, at, y = node.input(0), node.input(1), node.input(2), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require_dtype(row, (x.dtype,), "row")
        node.require_dtype(at, (I32, I64), "number of the row")
        fits = x.rank > 0 and x.rank == row.rank and x.dims[1:] == row.dims[1:]
        node.require(fits, f"rows of shape {row.shape} do not go into {x.shape}")
        return [y.with_shape((x.dims[0] - 1 + row.dims[0], *x.dims[1:]))]

    def reference(self, node: Node, x: Array, row: Array, at: Array) -> Array:
        t = int(at.reshape(-1)[0])
        node.check(0 <= t < len(x), f"row {t} is none of {len(x)}")
        return np.concatenate([x[:t], row, x[t + 1 :]])

    def lower(self, node: Node, steps: Lowering) -> None:
        """x is copied, where it is not written in place, and the bytes of the row are put to it."""
        from litejit.kernels.indexed import ScatterSpec

        x, row, at = node.input(0), node.input(1), node.input(2)
        if not lowers(x, row) or row.dims[0] != 1:
            return
        steps.may_share()
        target = steps.outputs[0]
        copy_whole(steps, input_of(steps, 0), target, x.nbytes)
        run = row.nbytes
        steps.call(
            ScatterSpec(I8, at.dtype.bits, 1, "set"), target, input_of(steps, 1),
            input_of(steps, 2), steps.status, 1, run, run, 1, 0, 0, x.dims[0], run,
            items=1, cost_ns=5 + run / 50,
        )  # fmt: skip


ROW_UPDATE = RowUpdate()


def found(operator: Operator, axis: int, around: Surroundings) -> tuple[Op, tuple[int, ...]] | None:
    """The row update that a CONCATENATION along `axis` stands for, and its inputs."""
    if len(operator.inputs) != 3 or axis != 0 or around.dtype(operator.outputs[0]) != F32:
        return None
    front, row, back = operator.inputs
    before, after = (_slice(index, around) for index in (front, back))
    if before is None or after is None or before[0] != after[0]:
        return None
    x, begin, size = before
    _, first, rest = after
    if not begin or any(begin) or any(first[1:]) or any(n != -1 for n in (*size[1:], *rest)):
        return None
    if not isinstance(size[0], tuple) or not _follows(first[0], size[0], around):
        return None
    return ROW_UPDATE, (x, row, size[0][1])


def _slice(
    index: int, around: Surroundings
) -> tuple[int, list[Entry], list[Entry]] | None:  # fmt: skip
    """(source, begin, size) of the SLICE that makes a tensor."""
    name, operator, _ = around.producer(index)
    if operator is None or name != "SLICE" or len(operator.inputs) != 3:
        return None
    x, begin, size = operator.inputs
    entries = [_entries(tensor, around) for tensor in (begin, size)]
    if entries[0] is None or entries[1] is None or len(entries[0]) != len(entries[1]):
        return None
    return x, entries[0], entries[1]


def _entries(index: int, around: Surroundings) -> list[Entry] | None:
    """What a small vector of integers is put together from; None where that is not plain."""
    value = around.constant(index)
    if value is not None:
        return value.reshape(-1).tolist() if value.dtype.kind == "i" and value.size < 9 else None
    name, operator, _ = around.producer(index)
    if operator is None:
        return None
    if name == "RESHAPE":
        shape = around.constant(operator.inputs[1]) if len(operator.inputs) == 2 else None
        if shape is None or shape.tolist() != [1]:
            return None
        return [("tensor", operator.inputs[0])]
    if name != "CONCATENATION" or len(operator.inputs) > 8:
        return None
    parts = [_entries(part, around) for part in operator.inputs]
    joined: list[Entry] = []
    for part in parts:
        if part is None:
            return None
        joined += part
    return joined


def _follows(second: Entry, first: tuple[str, int], around: Surroundings) -> bool:
    """Is `second` made as `first` + 1?"""
    if not isinstance(second, tuple):
        return False
    name, operator, options = around.producer(second[1])
    if operator is None or name != "ADD" or int(options.activation):
        return False
    one: Callable[[int], bool] = lambda index: (  # noqa: E731
        (value := around.constant(index)) is not None and value.size == 1 and bool(value == 1)
    )
    a, b = operator.inputs
    return (a == first[1] and one(b)) or (b == first[1] and one(a))
