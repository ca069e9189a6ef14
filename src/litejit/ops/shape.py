"""Operators that change or tell shapes and move no element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from litejit.model.options.shape import (
    ExpandDimsOptions,
    RankOptions,
    ReshapeOptions,
    ShapeOptions,
    SqueezeOptions,
)
from litejit.ops.base import Op, builtin
from litejit.ops.blocks import INDEX, Refuse, input_of, numbers, wrap_axis
from litejit.types import I16, I32

if TYPE_CHECKING:
    from litejit.ops.base import Lowering, Node, Types
    from litejit.types import Array, TensorType


class _KeepsBytes(Op):
    """Output 0 is input 0 under another shape."""

    keeps_bytes = True

    def lower(self, node: Node, steps: Lowering) -> None:
        if node.output().shape is not None and node.input(0).shape is not None:
            steps.alias(0, 0)


def _require_same_dtype(node: Node) -> TensorType:
    x, y = node.input(0), node.output()
    same = x.dtype.name == y.dtype.name
    node.require(same, f"output is {y.dtype}, expected {x.dtype} as the input")
    return y


def stretched(old: Sequence[int], wanted: Sequence[int], refuse: Refuse) -> tuple[int, ...]:
    """The shape that `wanted` means for a tensor of shape `old`: its one -1 is worked out.

    Where the tensor is empty, -1 stands for the quotient of the products of the dimensions that
    are not 0, and for 0 where `wanted` has no 0 of its own.
    """
    new = list(wanted)
    refuse(new.count(-1) <= 1, f"new shape {tuple(new)} has more than one -1")
    refuse(min(new, default=0) >= -1, f"new shape {tuple(new)} has a negative dimension")
    if -1 in new:
        at = new.index(-1)
        rest = [n for n in new if n != -1]
        if 0 in old and 0 not in rest:
            new[at] = 0
        else:
            new[at] = math.prod(n for n in old if n) // math.prod(n for n in rest if n)
    same = math.prod(new) == math.prod(old)
    refuse(same, f"shape {tuple(old)} cannot become {tuple(wanted)}: the sizes differ")
    return tuple(new)


@builtin("RESHAPE")
class Reshape(_KeepsBytes):
    """y = x under a new shape: input 1 if it is an int32 vector, else the option new_shape.

    Any type. One dimension may be -1. The option [0] means a scalar.
    Source: LiteRT tflite/kernels/reshape.cc.
    """

    options = ReshapeOptions
    arity = (1, 2)
    optional = frozenset({1})

    def infer(self, node: Node) -> Types:
        y, shape = _require_same_dtype(node), node.optional(1)
        if shape is None or not _is_shape(shape):
            return [y.with_shape(stretched(node.input(0).dims, _option(node), node.require))]
        if shape.value is None:
            return [y.with_shape(None)]
        wanted = numbers(shape.value)
        return [y.with_shape(stretched(node.input(0).dims, wanted, node.require))]

    def reference(self, node: Node, x: Array, shape: Array | None = None) -> Array:
        if shape is None or shape.dtype != np.int32 or shape.ndim != 1:
            return x.reshape(stretched(x.shape, _option(node), node.check))
        return x.reshape(stretched(x.shape, numbers(shape), node.check))


def _is_shape(t: TensorType) -> bool:
    return t.dtype.name == "INT32" and (t.shape is None or len(t.shape) == 1)


def _option(node: Node) -> tuple[int, ...]:
    wanted = tuple(node.options.new_shape) if node.options is not None else ()
    return () if wanted == (0,) else wanted


@builtin("SQUEEZE", versions=range(1, 3))
class Squeeze(_KeepsBytes):
    """y = x without the dimensions in squeeze_dims, which must be 1; none listed: all that are 1.

    Any type. Source: LiteRT tflite/kernels/squeeze.cc.
    """

    options = SqueezeOptions

    def infer(self, node: Node) -> Types:
        y = _require_same_dtype(node)
        return [y.with_shape(self._shape(node, node.input(0).dims, node.require))]

    def reference(self, node: Node, x: Array) -> Array:
        return x.reshape(self._shape(node, x.shape, node.check))

    @staticmethod
    def _shape(node: Node, shape: tuple[int, ...], refuse: Refuse) -> tuple[int, ...]:
        listed = node.options.squeeze_dims if node.options is not None else ()
        if not listed:
            return tuple(n for n in shape if n != 1)
        drop = {wrap_axis(axis, len(shape), refuse, "squeeze_dims entry") for axis in listed}
        for axis in sorted(drop):
            refuse(shape[axis] == 1, f"dimension {axis} of shape {shape} is not 1")
        return tuple(n for axis, n in enumerate(shape) if axis not in drop)


@builtin("EXPAND_DIMS")
class ExpandDims(_KeepsBytes):
    """y = x with a dimension of 1 put in at `axis` (input 1), counted in y's rank.

    Any type; axis int16, int32 or int64. Source: LiteRT tflite/kernels/expand_dims.cc.
    """

    options = ExpandDimsOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        y, axis = _require_same_dtype(node), node.input(1)
        node.require_dtype(axis, (I16, *INDEX), "axis")
        node.require(axis.size == 1, f"axis must be one number, got shape {axis.shape}")
        if axis.value is None:
            return [y.with_shape(None)]
        return [y.with_shape(self._shape(node.input(0).dims, axis.value, node.require))]

    def reference(self, node: Node, x: Array, axis: Array) -> Array:
        return x.reshape(self._shape(x.shape, axis, node.check))

    @staticmethod
    def _shape(shape: tuple[int, ...], axis: Array, refuse: Refuse) -> tuple[int, ...]:
        at = wrap_axis(numbers(axis)[0], len(shape) + 1, refuse)
        return (*shape[:at], 1, *shape[at:])


@builtin("SHAPE")
class Shape(Op):
    """y = the shape of x, 1-D, int32 or int64; known at prepare where the shape of x is.

    Source: LiteRT tflite/kernels/shape.cc.
    """

    options = ShapeOptions

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        node.require_dtype(y, INDEX, "output")
        if x.shape is None:
            return [y.with_shape(None)]
        return [y.with_value(np.array(x.shape, y.dtype.numpy))]

    def reference(self, node: Node, x: Array) -> Array:
        return np.array(x.shape, node.output().dtype.numpy)


@builtin("RANK")
class Rank(Op):
    """y = the number of dimensions of x, an int32 scalar; known at prepare.

    Source: LiteRT tflite/kernels/rank.cc.
    """

    options = RankOptions

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        node.require_dtype(y, (I32,), "output")
        if x.shape is None:
            return [y.with_shape(())]
        return [y.with_value(np.array(len(x.shape), np.int32))]

    def reference(self, node: Node, x: Array) -> Array:
        return np.array(x.ndim, np.int32)


@builtin("BROADCAST_ARGS")
class BroadcastArgs(Op):
    """y = the shape that tensors of shapes a and b (1-D, int32 or int64) broadcast to.

    Two dimensions must be equal or one of them 1. Source: LiteRT tflite/kernels/broadcast_args.cc.
    """

    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        a, b, y = node.input(0), node.input(1), node.output()
        for t, what in ((a, "input 0"), (b, "input 1"), (y, "output")):
            node.require_dtype(t, INDEX, what)
            same = t.dtype.name == a.dtype.name
            node.require(same, f"{what} is {t.dtype}, input 0 is {a.dtype}: both must be equal")
        for t in (a, b):
            node.require(t.rank == 1, f"shapes must be 1-D, got shape {t.shape}")
        return [y.with_shape((max(a.dims[0], b.dims[0]),))]

    def reference(self, node: Node, a: Array, b: Array) -> Array:
        rank = max(len(a), len(b))
        left, right = (np.pad(x, (rank - len(x), 0), constant_values=1) for x in (a, b))
        wrong = np.flatnonzero((left != right) & (left != 1) & (right != 1))
        for k in wrong[:1]:
            what = f"shapes with {left[k]} and {right[k]} in dimension {k} do not broadcast"
            node.check(False, what)
        return np.where(left == 1, right, left)

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.indexed import BroadcastArgsSpec

        counts = [node.input(position).dims[0] for position in (0, 1)]
        if all(counts):
            operands = (input_of(steps, 0), input_of(steps, 1), steps.outputs[0], steps.status)
            spec = BroadcastArgsSpec(node.output().dtype.bits)
            steps.call(spec, *operands, *counts, items=1, cost_ns=10.0)
