"""What the operators that reduce, index, sort and make tensors share: results, axes, shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from litejit.ops.base import Node
from litejit.ops.fixedpoint import require_scale
from litejit.types import Array, DType, TensorType

Refuse = Callable[[object, str], None]  # Node.require before the first run, Node.check in one


def made(node: Node, shape: Sequence[int] | None, dtype: DType, *, position: int = 0) -> TensorType:
    """Type of output `position`: the shape found, and the dtype that the file must agree with."""
    out = node.output(position)
    ok = out.dtype.name == dtype.name
    node.require(ok, f"output {position} is {out.dtype.name}, this operator makes {dtype.name}")
    return out.with_shape(None if shape is None else tuple(shape))


def normal_axis(refuse: Refuse, axis: int, rank: int, *, what: str = "axis") -> int:
    """`axis` counted from the front; refused unless -rank <= axis < rank."""
    refuse(-rank <= axis < rank, f"{what} {axis} is out of range for rank {rank}")
    return axis + rank if axis < 0 else axis


def normal_axes(refuse: Refuse, axes: Array, rank: int) -> tuple[int, ...]:
    """Axes from the front, without duplicates, ascending. A scalar (rank 0) has none."""
    if rank == 0:
        return ()
    return tuple(sorted({normal_axis(refuse, int(axis), rank) for axis in axes.reshape(-1)}))


def require_same_quantization(node: Node, a: TensorType, b: TensorType) -> None:
    """Refuse tensors whose numbers do not mean the same reals."""
    ok = a.scale == b.scale and a.zero_point == b.zero_point
    text = f"({a.scale}, {a.zero_point}) and ({b.scale}, {b.zero_point})"
    node.require(ok, f"scales and zero points must be equal, got {text}")


def require_scales(node: Node, *tensors: TensorType) -> None:
    """Refuse tensors without one positive, finite scale and a zero point that fits."""
    for tensor in tensors:
        what = f"{tensor.dtype.name} tensor {tensor.name!r}"
        require_scale(node, tensor, what)
        several = tensor.quantization is not None and tensor.quantization.per_channel
        node.require(not several, f"{what} has a scale for every channel, expected one")


def shape_from(refuse: Refuse, dims: Array, *, what: str = "shape") -> tuple[int, ...]:
    """A shape that a tensor holds; refused where no tensor has it."""
    refuse(dims.size <= 64, f"{what} has {dims.size} dimensions")
    return possible_shape(refuse, tuple(int(n) for n in dims.reshape(-1)), what=what)


def possible_shape(
    refuse: Refuse, sizes: tuple[int, ...], *, what: str = "result"
) -> tuple[int, ...]:
    """The sizes of a tensor; refused where one is negative, or LiteRT or NumPy cannot count them.

    NumPy counts bytes in 63 bits and leaves sizes of 0 out.
    """
    refuse(all(n >= 0 for n in sizes), f"{what} {sizes} has a negative size")
    fits = all(n < 2**31 for n in sizes) and math.prod(n for n in sizes if n) < 2**59
    refuse(fits, f"{what} {sizes} is larger than any memory")
    return sizes


def check_indices(node: Node, indices: Any, size: int, *, what: str = "index") -> None:
    """Refuse a run whose indices are not all in [0, size)."""
    indices = np.asarray(indices)
    bad = (indices < 0) | (indices >= size)
    if bad.any():
        position = int(np.argmax(bad))
        value = int(indices.reshape(-1)[position])
        node.check(False, f"{what} {value} (element {position}) is not in [0, {size})")
