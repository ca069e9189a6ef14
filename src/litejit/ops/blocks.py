"""What the operators that move elements share: element types, operands that hold numbers, copies.

Nothing here looks at an element's value: data moves by width, whatever its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from litejit.kernels.copy import plan_copy, plan_whole_copy
from litejit.types import (
    BF16,
    BOOL,
    DTYPES,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    Array,
    DType,
    TensorType,
)

if TYPE_CHECKING:
    from litejit.ops.base import Lowering, Node, Operand

Refuse: TypeAlias = Callable[[object, str], None]  # Node.require at prepare, Node.check in a run

FIXED_WIDTH = tuple(t for t in DTYPES if t.name not in ("STRING", "RESOURCE", "VARIANT"))
FIXED_WIDTH_OR_STRING = (*FIXED_WIDTH, STRING)
ARITHMETIC = (F32, F16, BF16, F64, I8, U8, I16, I32, I64, BOOL)
INDEX = (I32, I64)
ANY_INDEX = (I8, I16, I32, I64)


def require_same_type(node: Node, x: TensorType, y: TensorType, allowed: Sequence[DType]) -> None:
    """Refuse an input that has no kernel, or an output of another type than the input's."""
    node.require_dtype(x, allowed, "input")
    same = x.dtype.name == y.dtype.name
    node.require(same, f"output is {y.dtype}, expected {x.dtype} as the input")


def require_same_quantization(node: Node, x: TensorType, y: TensorType, what: str) -> None:
    """Refuse two tensors of one call whose scale or zero point differ: nothing is rescaled."""
    same = x.scale == y.scale and x.zero_point == y.zero_point
    node.require(
        same,
        f"{what} has scale {x.scale:g} and zero point {x.zero_point}, expected "
        f"{y.scale:g} and {y.zero_point} as the output",
    )


def require_vector(node: Node, t: TensorType, count: int | None, what: str) -> None:
    """Refuse an operand that is not 1-D, or that does not hold `count` numbers."""
    shape = t.dims
    node.require(len(shape) == 1, f"{what} must be 1-D, got shape {shape}")
    ok = count is None or shape[0] == count
    node.require(ok, f"{what} holds {shape[0]} numbers, expected {count}")


def numbers(array: Array) -> tuple[int, ...]:
    """An array of integers as Python integers, which cannot overflow."""
    return tuple(array.reshape(-1).tolist())


def wrap_axis(axis: int, rank: int, refuse: Refuse, what: str = "axis") -> int:
    """Count a negative axis from the end; refuse one outside [-rank, rank)."""
    refuse(-rank <= axis < rank, f"{what} {axis} is out of range for rank {rank}")
    return axis + rank if axis < 0 else axis


def row_strides(shape: Sequence[int], itemsize: int) -> list[int]:
    """Byte strides of a contiguous array."""
    strides, step = [0] * len(shape), itemsize
    for j in reversed(range(len(shape))):
        strides[j] = step
        step *= shape[j]
    return strides


def input_of(steps: Lowering, position: int) -> Operand:
    """Input `position` of the node that is lowered, which must be there."""
    operand = steps.inputs[position]
    if operand is None:
        raise ValueError(f"input {position} is absent")
    return operand


def copy_box(
    steps: Lowering,
    target: Operand,
    source: Operand,
    dims: Sequence[tuple[int, int, int]],
    itemsize: int,
) -> None:
    """Copy elements: each (n, source stride, target stride) of `dims` is a loop; strides in bytes.

    Targets must not overlap each other or the source. Nothing happens where some n is 0.
    """
    if math.prod(n for n, _, _ in dims) == 0:
        copy_whole(steps, source, target, 0)
        return
    plan = plan_copy(dims, itemsize, steps.isa)
    extra = plan.numbers
    steps.call(plan.spec, source, target, *extra, items=plan.items, cost_ns=plan.cost_ns)


def copy_whole(steps: Lowering, source: Operand, target: Operand, nbytes: int) -> None:
    """Copy contiguous bytes, unless source and target turn out to be the same memory."""
    plan = plan_whole_copy(max(nbytes, 1), steps.isa)
    items = plan.items if nbytes else 0
    steps.call(plan.spec, source, target, *plan.numbers, items=items, cost_ns=plan.cost_ns)


def lowers(*tensors: TensorType | None) -> bool:
    """True where kernels can move these tensors: shapes are known, there is data, no strings."""
    return all(
        t is not None and t.shape is not None and t.size > 0 and t.dtype.name != "STRING"
        for t in tensors
    )
