"""TRANSPOSE, CONCATENATION, PACK, TILE, BROADCAST_TO and the reversals: elements move by width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.kernels.copy import RESCALE
from litejit.model.options.enums import Activation
from litejit.model.options.shape import (
    BroadcastToOptions,
    ConcatenationOptions,
    PackOptions,
    ReverseSequenceOptions,
    ReverseV2Options,
    TileOptions,
    TransposeOptions,
)
from litejit.ops import row_update
from litejit.ops.base import Op, builtin
from litejit.ops.blocks import (
    FIXED_WIDTH,
    FIXED_WIDTH_OR_STRING,
    INDEX,
    Refuse,
    copy_box,
    input_of,
    lowers,
    numbers,
    require_same_quantization,
    require_same_type,
    require_vector,
    row_strides,
    wrap_axis,
)
from litejit.ops.indexing import possible_shape
from litejit.types import F32, I16, I32, I64, U8

if TYPE_CHECKING:
    from litejit.model import Operator
    from litejit.ops.base import Lowering, Node, Surroundings, Types
    from litejit.types import Array, TensorType

MAX_RANK = 8  # of TRANSPOSE, BROADCAST_TO and REVERSE_V2 in LiteRT


@builtin("TRANSPOSE", versions=range(1, 10))
class Transpose(Op):
    """y[i_perm[0], i_perm[1], ...] = x[i_0, i_1, ...]; perm (input 1) is 1-D int32.

    Any type of fixed width, rank at most 8; negative entries of perm count from the end.
    Source: LiteRT tflite/kernels/transpose.cc.
    """

    options = TransposeOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, perm, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require_dtype(perm, (I32,), "perm")
        node.require(x.rank <= MAX_RANK, f"rank {x.rank} is above {MAX_RANK}")
        require_vector(node, perm, x.rank, "perm")
        if perm.value is None:
            return [y.with_shape(None)]
        order = _order(numbers(perm.value), x.rank, node.require)
        return [y.with_shape([x.dims[axis] for axis in order])]

    def reference(self, node: Node, x: Array, perm: Array) -> Array:
        return np.transpose(x, _order(numbers(perm), x.ndim, node.check))

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y, perm = node.input(0), node.output(), node.input(1).value
        if perm is None or not lowers(x, y):
            return
        order = _order(numbers(perm), x.rank, node.require)
        moving = [axis for axis in order if x.dims[axis] != 1]
        if moving == sorted(moving):
            steps.alias()
            return
        size = x.dtype.itemsize
        strides = row_strides(x.dims, size)
        rows = zip(y.dims, row_strides(y.dims, size), order, strict=True)
        dims = [(n, strides[axis], step) for n, step, axis in rows]
        copy_box(steps, steps.outputs[0], input_of(steps, 0), dims, size)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _order(perm: tuple[int, ...], rank: int, refuse: Refuse) -> tuple[int, ...]:
    order = tuple(wrap_axis(axis, rank, refuse, "perm entry") for axis in perm)
    refuse(len(set(order)) == rank, f"perm {perm} names an axis twice")
    return order


@builtin("CONCATENATION", versions=range(1, 8))
class Concatenation(Op):
    """y = the inputs joined along `axis`; scalars along axis 0 make a vector.

    Any type of fixed width. uint8 inputs are rescaled to y's scale and zero point, rounding half
    away from zero; int8 and int4 inputs must have y's, int16 zero points must be 0.
    Source: LiteRT tflite/kernels/concatenation.cc, internal/reference/concatenation.h.
    """

    options = ConcatenationOptions
    arity = (1, 1 << 30)

    def stands_for(
        self, operator: Operator, options: Any, around: Surroundings
    ) -> tuple[Op, tuple[int, ...]] | None:
        """A tensor with one row exchanged, as loops of recurrent layers write their results."""
        return row_update.found(operator, options.axis, around)

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        plain = node.options.activation == Activation.NONE
        node.require(plain, f"fused activation {node.options.activation!r} is not supported")
        axis = wrap_axis(node.options.axis, max(x.rank, 1), node.require)
        total = 0
        for j in range(len(node.inputs)):
            t = node.input(j)
            same = t.dtype.name == x.dtype.name
            node.require(same, f"input {j} is {t.dtype}, input 0 is {x.dtype}: they must be equal")
            node.require(
                t.rank == x.rank and _without(t.dims, axis) == _without(x.dims, axis),
                f"input {j} has shape {t.shape}, input 0 {x.shape}: only axis {axis} may differ",
            )
            self._require_quantization(node, j, t, y)
            total += t.dims[axis] if t.dims else 1
        return [y.with_shape([*x.dims[:axis], total, *x.dims[axis + 1 :]])]

    @staticmethod
    def _require_quantization(node: Node, j: int, t: TensorType, y: TensorType) -> None:
        if t.dtype.name in ("INT8", "INT4"):
            require_same_quantization(node, t, y, f"input {j}")
        if t.dtype.name == "INT16":
            node.require(t.zero_point == 0, f"input {j} has zero point {t.zero_point}, expected 0")

    def reference(self, node: Node, *inputs: Array) -> Array:
        y = node.output()
        parts = []
        for j, part in enumerate(inputs):
            rescale = _rescale(node.input(j), y)
            values = part if rescale is None else _rescaled(part, *rescale, y.zero_point)
            parts.append(values.reshape(1) if values.ndim == 0 else values)
        return np.concatenate(parts, axis=node.options.axis)

    def lower(self, node: Node, steps: Lowering) -> None:
        y = node.output()
        if not lowers(y):
            return
        axis = wrap_axis(node.options.axis, y.rank, node.require)
        size, offset = y.dtype.itemsize, 0
        strides = row_strides(y.dims, size)
        for j in range(len(node.inputs)):
            t = node.input(j)
            dims = t.dims or (1,)
            target = steps.outputs[0].at(offset)
            offset += dims[axis] * strides[axis]
            rescale = _rescale(t, y)
            if rescale is None:
                box = list(zip(dims, row_strides(dims, size), strides, strict=True))
                copy_box(steps, target, input_of(steps, j), box, size)
            elif t.size:
                run = math.prod(dims[axis:])
                extra = (run, math.prod(y.dims[axis:]), *rescale, y.zero_point)
                rows, cost_ns = t.size // run, 0.15 * t.size
                source = input_of(steps, j)
                steps.call(RESCALE, source, target, *extra, items=rows, cost_ns=cost_ns)


def _rescale(t: TensorType, y: TensorType) -> tuple[float, float] | None:
    """(scale, bias) that turn codes of a uint8 input into y's before its zero point is added."""
    if t.dtype.name != "UINT8" or (t.scale == y.scale and t.zero_point == y.zero_point):
        return None
    scale = np.float32(t.scale) * (np.float32(1) / np.float32(y.scale))
    return float(scale), float(np.float32(-t.zero_point) * scale)


def _rescaled(codes: Array, scale: float, bias: float, zero_point: int) -> Array:
    real = codes.astype(np.float32) * np.float32(scale) + np.float32(bias)
    whole = np.trunc(real)
    away = np.where(np.abs(real - whole) >= 0.5, np.copysign(np.float32(1), real), np.float32(0))
    clamped: Array = np.clip(whole + away + np.float32(zero_point), 0, 255)
    return clamped.astype(np.uint8)


@builtin("PACK", versions=range(1, 6))
class Pack(Op):
    """y = the inputs stacked along a new dimension `axis`. Any type of fixed width.

    Scales and zero points must be equal. Source: LiteRT tflite/kernels/pack.cc.
    """

    options = PackOptions
    arity = (1, 1 << 30)

    def infer(self, node: Node) -> Types:
        x, y, count = node.input(0), node.output(), len(node.inputs)
        require_same_type(node, x, y, FIXED_WIDTH)
        wanted = node.options.values_count
        node.require(wanted == count, f"values_count is {wanted}, but there are {count} inputs")
        for j in range(count):
            t = node.input(j)
            same = t.dtype.name == x.dtype.name and t.dims == x.dims
            node.require(
                same, f"input {j} is {t.dtype} {t.shape}, expected {x.dtype} {x.shape} as input 0"
            )
            require_same_quantization(node, t, y, f"input {j}")
        axis = wrap_axis(node.options.axis, x.rank + 1, node.require)
        return [y.with_shape([*x.dims[:axis], count, *x.dims[axis:]])]

    def reference(self, node: Node, *inputs: Array) -> Array:
        return np.stack(inputs, axis=node.options.axis)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y = node.input(0), node.output()
        if not lowers(y):
            return
        axis = wrap_axis(node.options.axis, y.rank, node.require)
        size = y.dtype.itemsize
        strides = row_strides(y.dims, size)
        others = [*strides[:axis], *strides[axis + 1 :]]
        box = list(zip(x.dims, row_strides(x.dims, size), others, strict=True))
        for j in range(len(node.inputs)):
            copy_box(steps, steps.outputs[0].at(j * strides[axis]), input_of(steps, j), box, size)


@builtin("TILE", versions=range(1, 4))
class Tile(Op):
    """y = x repeated multiples[d] times along every dimension d.

    Any type of fixed width, and strings; multiples (input 1) int32 or int64, one a dimension.
    Source: LiteRT tflite/kernels/tile.cc.
    """

    options = TileOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, multiples, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, FIXED_WIDTH_OR_STRING)
        node.require_dtype(multiples, INDEX, "multiples")
        require_vector(node, multiples, x.rank, "multiples")
        if multiples.value is None:
            return [y.with_shape(None)]
        return [y.with_shape(self._shape(x.dims, multiples.value, node.require))]

    @staticmethod
    def _shape(dims: tuple[int, ...], multiples: Array, refuse: Refuse) -> tuple[int, ...]:
        times = numbers(multiples)
        refuse(min(times, default=0) >= 0, f"multiples {times} must not be negative")
        return possible_shape(refuse, tuple(n * m for n, m in zip(dims, times, strict=True)))

    def reference(self, node: Node, x: Array, multiples: Array) -> Array:
        shape = self._shape(x.shape, multiples, node.check)
        return np.tile(x, numbers(multiples)) if math.prod(shape) else np.empty(shape, x.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y, multiples = node.input(0), node.output(), node.input(1).value
        if multiples is None or not lowers(x):
            return
        size, box = x.dtype.itemsize, []
        rows = zip(numbers(multiples), x.dims, row_strides(x.dims, size), strict=True)
        for (times, n, step), to in zip(rows, row_strides(y.dims, size), strict=True):
            box += [(times, 0, to * n), (n, step, to)]
        copy_box(steps, steps.outputs[0], input_of(steps, 0), box, size)


@builtin("BROADCAST_TO", versions=range(2, 5))
class BroadcastTo(Op):
    """y = x repeated along dimensions that are 1, or missing in front, until its shape is input 1.

    Any type of fixed width, rank at most 8; shape int32 or int64.
    Source: LiteRT tflite/kernels/broadcast_to.cc.
    """

    options = BroadcastToOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, shape, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require_dtype(shape, INDEX, "shape")
        require_vector(node, shape, None, "shape")
        node.require(x.rank <= MAX_RANK, f"rank {x.rank} is above {MAX_RANK}")
        if shape.value is None:
            return [y.with_shape(None)]
        return [y.with_shape(_broadcast(x.dims, numbers(shape.value), node.require))]

    def reference(self, node: Node, x: Array, shape: Array) -> Array:
        return np.broadcast_to(x, _broadcast(x.shape, numbers(shape), node.check))

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y = node.input(0), node.output()
        if not lowers(x):
            return
        size = x.dtype.itemsize
        missing = y.rank - x.rank
        strides = [0] * missing + row_strides(x.dims, size)
        old = (1,) * missing + x.dims
        rows = zip(old, y.dims, strides, row_strides(y.dims, size), strict=True)
        box = [(n, step if m == n else 0, to) for m, n, step, to in rows]
        copy_box(steps, steps.outputs[0], input_of(steps, 0), box, size)


def _broadcast(old: tuple[int, ...], new: tuple[int, ...], refuse: Refuse) -> tuple[int, ...]:
    refuse(len(old) <= len(new) <= MAX_RANK, f"shape {old} cannot be broadcast to {new}: the rank")
    padded = (1,) * (len(new) - len(old)) + old
    for m, n in zip(padded, new, strict=True):
        refuse(n >= 0 and m in (1, n), f"shape {old} cannot be broadcast to {new}")
    return new


@builtin("REVERSE_V2", versions=range(1, 5))
class ReverseV2(Op):
    """y = x with the order of the elements turned around along every axis in input 1 (int32).

    Rank at most 8. Source: LiteRT tflite/kernels/reverse.cc.
    """

    options = ReverseV2Options
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, axes, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require_dtype(axes, (I32,), "axis")
        node.require(x.rank <= MAX_RANK, f"rank {x.rank} is above {MAX_RANK}")
        node.require(axes.rank <= 1, f"axis must be 1-D, got shape {axes.shape}")
        if axes.value is not None:
            _axes(numbers(axes.value), x.rank, node.require)
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, x: Array, axes: Array) -> Array:
        return np.flip(x, _axes(numbers(axes), x.ndim, node.check))

    def lower(self, node: Node, steps: Lowering) -> None:
        x, axes = node.input(0), node.input(1).value
        if axes is None or not lowers(x):
            return
        turned = _axes(numbers(axes), x.rank, node.require)
        size = x.dtype.itemsize
        strides = row_strides(x.dims, size)
        signs = [-1 if axis in turned else 1 for axis in range(x.rank)]
        box = [(n, s * sign, s) for n, s, sign in zip(x.dims, strides, signs, strict=True)]
        start = sum((x.dims[axis] - 1) * strides[axis] for axis in turned)
        copy_box(steps, steps.outputs[0], input_of(steps, 0).at(start), box, size)


def _axes(listed: tuple[int, ...], rank: int, refuse: Refuse) -> tuple[int, ...]:
    axes = tuple(wrap_axis(axis, rank, refuse) for axis in listed)
    refuse(len(set(axes)) == len(axes), f"axis {listed} names an axis twice")
    return axes


@builtin("REVERSE_SEQUENCE")
class ReverseSequence(Op):
    """y = x with the first lengths[b] elements along seq_dim turned around, b counting batch_dim.

    f32 | u8 | i16 | i32 | i64; lengths (input 1) int32 or int64, from 0 to the size of seq_dim.
    Source: LiteRT tflite/kernels/reverse_sequence.cc.
    """

    options = ReverseSequenceOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, lengths, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, (F32, U8, I16, I32, I64))
        node.require_dtype(lengths, INDEX, "seq_lengths")
        along, batch = node.options.seq_dim, node.options.batch_dim
        for axis, what in ((along, "seq_dim"), (batch, "batch_dim")):
            node.require(0 <= axis < x.rank, f"{what} {axis} is out of range for rank {x.rank}")
        node.require(along != batch, f"seq_dim and batch_dim are both {along}")
        require_vector(node, lengths, x.dims[batch], "seq_lengths")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, x: Array, lengths: Array) -> Array:
        along, batch = node.options.seq_dim, node.options.batch_dim
        size = x.shape[along]
        node.check(
            lengths.size == 0 or 0 <= lengths.min() <= lengths.max() <= size,
            f"seq_lengths must be between 0 and {size}",
        )
        place = np.arange(size)
        ends = lengths.reshape(-1, 1)
        picks = np.where(place < ends, ends - 1 - place, place)  # [batch, along]
        shape = [1] * x.ndim
        shape[batch], shape[along] = picks.shape
        picks = picks if batch < along else picks.T
        return np.take_along_axis(x, picks.reshape(shape), axis=along)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, lengths = node.input(0), node.input(1)
        if not lowers(x):
            return
        from litejit.kernels.indexed import ReverseSequenceSpec
        from litejit.kernels.resize import pick_spec

        along, batch = node.options.seq_dim, node.options.batch_dim
        low, high = sorted((along, batch))
        run = math.prod(x.dims[high + 1 :]) * x.dtype.itemsize
        outer, between, inner = x.dims[low], math.prod(x.dims[low + 1 : high]), x.dims[high]
        pick, rows = pick_spec(run, steps.isa.vector_bytes), x.nbytes // run
        spec = ReverseSequenceSpec(lengths.dtype.bits, pick.lanes, pick.groups, along == high)
        steps.call(
            spec, input_of(steps, 0), steps.outputs[0], input_of(steps, 1), steps.status,
            outer, between, inner, run, items=rows // inner, cost_ns=rows * (4 + 0.05 * run),
        )  # fmt: skip
