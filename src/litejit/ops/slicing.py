"""SLICE, STRIDED_SLICE, SPLIT, SPLIT_V, UNPACK and DYNAMIC_UPDATE_SLICE: parts of a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.kernels.copy import plan_placed_copy
from litejit.model.options.shape import (
    DynamicUpdateSliceOptions,
    SliceOptions,
    SplitOptions,
    SplitVOptions,
    StridedSliceOptions,
    UnpackOptions,
)
from litejit.ops.base import Op, builtin
from litejit.ops.blocks import (
    FIXED_WIDTH,
    FIXED_WIDTH_OR_STRING,
    INDEX,
    Refuse,
    copy_box,
    copy_whole,
    input_of,
    lowers,
    numbers,
    require_same_quantization,
    require_same_type,
    require_vector,
    row_strides,
    wrap_axis,
)
from litejit.record import Record
from litejit.types import I32

if TYPE_CHECKING:
    from litejit.ops.base import Lowering, Node, Operand, Types
    from litejit.types import Array, TensorType

MAX_INDICES = 31  # of STRIDED_SLICE: bits of a mask


class _Cut(Record):
    """The elements start, start + step, ... (`count` of them) of one dimension; kept or dropped.

    `entry` is the number of the index that says so, if one does.
    """

    start: int
    count: int
    step: int = 1
    kept: bool = True
    entry: int = -1


def _part(steps: Lowering, node: Node, output: int, cuts: list[_Cut]) -> None:
    """Copy the elements that `cuts` name, one cut a dimension of x, to an output."""
    x = node.input(_data_position(node))
    size = x.dtype.itemsize
    strides = row_strides(x.dims, size)
    whole = all(
        cut.start == 0 and cut.step == 1 and cut.count == n
        for cut, n in zip(cuts, x.dims, strict=True)
    )
    position = _data_position(node)
    if whole:
        steps.alias(output, position)
        return
    to = row_strides([cut.count for cut in cuts], size)
    box = [(cut.count, s * cut.step, t) for cut, s, t in zip(cuts, strides, to, strict=True)]
    start = sum(cut.start * s for cut, s in zip(cuts, strides, strict=True))
    source = input_of(steps, position)
    copy_box(steps, steps.outputs[output], source.at(start), box, size)


def _copy_moved(
    node: Node, steps: Lowering, positions: tuple[int, int], box: list[tuple[int, int, int]],
    axes: tuple[list[int], list[int]], moves: str, *, first: int = 0,
    target: Operand | None = None,
) -> None:  # fmt: skip
    """Copy input positions[0], from byte `first` on, by the loops `box`.

    Input positions[1] moves one side along `axes`, (largest integer, bytes) of each: see RowsSpec.
    """
    x, start = (node.input(position) for position in positions)
    room, strides = axes
    plan = plan_placed_copy(
        box, x.dtype.itemsize, steps.isa,
        room=room, strides=strides, index_bits=start.dtype.bits, moves=moves,
    )  # fmt: skip
    source, place = (input_of(steps, position) for position in positions)
    target, status, numbers = target or steps.outputs[0], steps.status, plan.numbers
    steps.call(
        plan.spec, source.at(first), target, place, status, *numbers,
        items=plan.items, cost_ns=plan.cost_ns,
    )  # fmt: skip


def _data_position(node: Node) -> int:
    return 1 if node.name == "SPLIT" else 0


@builtin("SLICE", versions=range(1, 9))
class Slice(Op):
    """y = x[begin[d] : begin[d] + size[d]] in every dimension d; size -1 reaches to the end.

    Any type of fixed width, and strings; begin and size int32 or int64, one a dimension.
    Source: LiteRT tflite/kernels/slice.cc.
    """

    options = SliceOptions
    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        require_same_type(node, x, y, FIXED_WIDTH_OR_STRING)
        for position, what in ((1, "begin"), (2, "size")):
            node.require_dtype(node.input(position), INDEX, what)
            require_vector(node, node.input(position), x.rank, what)
        begin, size = node.input(1).value, node.input(2).value
        if size is None or (begin is None and -1 in numbers(size)):
            return [y.with_shape(None)]
        if begin is None:  # a window that moves: its place is checked in the run, its size is known
            begin = np.zeros(x.rank, np.int64)
        return [y.with_shape([c.count for c in self._cuts(x.dims, begin, size, node.require)])]

    def reference(self, node: Node, x: Array, begin: Array, size: Array) -> Array:
        cuts = self._cuts(x.shape, begin, size, node.check)
        return x[tuple(slice(cut.start, cut.start + cut.count) for cut in cuts)]

    def lower(self, node: Node, steps: Lowering) -> None:
        x, begin, size = node.input(0), node.input(1).value, node.input(2).value
        if size is None or not lowers(x):
            return
        if begin is not None:
            _part(steps, node, 0, self._cuts(x.dims, begin, size, node.require))
            return
        sizes, width = node.output().dims, x.dtype.itemsize
        strides, target = row_strides(x.dims, width), steps.outputs[0]
        box = list(zip(sizes, strides, row_strides(sizes, width), strict=True))
        room = [n - m for n, m in zip(x.dims, sizes, strict=True)]
        if 0 in sizes:  # the place is looked at all the same: one element goes nowhere
            box, strides, target = [(1, width, width)], [0] * x.rank, steps.temporary(width)
        _copy_moved(node, steps, (0, 1), box, (room, strides), "source", target=target)

    @staticmethod
    def _cuts(dims: tuple[int, ...], begin: Array, size: Array, refuse: Refuse) -> list[_Cut]:
        cuts = []
        for n, start, length in zip(dims, numbers(begin), numbers(size), strict=True):
            count = n - start if length == -1 else length
            ok = length >= -1 and start >= 0 and count >= 0 and start + count <= n
            refuse(ok, f"begin {start} and size {length} do not fit a dimension of {n}")
            cuts.append(_Cut(start, count))
        return cuts


@builtin("STRIDED_SLICE", versions=range(1, 9))
class StridedSlice(Op):
    """y = x[begin : end : stride] with the masks of TensorFlow's strided_slice.

    Any type of fixed width, and strings; begin, end and strides (inputs 1 to 3) are 1-D and of
    equal length. Bit i of a mask is about entry i: begin_mask, end_mask take the whole range,
    ellipsis_mask stands for all dimensions that the other entries leave, new_axis_mask puts in a
    dimension of 1, shrink_axis_mask takes one element and drops the dimension. With `offset`,
    end counts from the resolved begin.
    Source: LiteRT tflite/kernels/strided_slice.cc, internal/strided_slice_logic.h.
    """

    options = StridedSliceOptions
    arity = (4, 4)

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        require_same_type(node, x, y, FIXED_WIDTH_OR_STRING)
        for position, what in ((1, "begin"), (2, "end"), (3, "strides")):
            node.require_dtype(node.input(position), INDEX, what)
            require_vector(node, node.input(position), node.input(1).dims[0], what)
        count = node.input(1).dims[0]
        node.require(count <= MAX_INDICES, f"{count} indices, at most {MAX_INDICES} are supported")
        values = [node.input(position).value for position in (1, 2, 3)]
        known = _stand_ins(node, x.dims, values)
        if known is None:
            return [y.with_shape(None)]
        _, shape = _strided(node, x.dims, known, node.require)
        return [y.with_shape(shape)]

    def reference(self, node: Node, x: Array, begin: Array, end: Array, strides: Array) -> Array:
        cuts, shape = _strided(node, x.shape, [begin, end, strides], node.check)
        keys = [slice(None, None, cut.step) if cut.count == 0 else _key(cut) for cut in cuts]
        empty = any(cut.count == 0 for cut in cuts)
        return np.empty(shape, x.dtype) if empty else x[tuple(keys)].reshape(shape)

    def lower(self, node: Node, steps: Lowering) -> None:
        x = node.input(0)
        values = [node.input(position).value for position in (1, 2, 3)]
        known = _stand_ins(node, x.dims, values)
        if known is None or not lowers(x):
            return
        cuts, _ = _strided(node, x.dims, known, node.require)
        if values[0] is not None:
            _part(steps, node, 0, cuts)
            return
        strides = row_strides(x.dims, x.dtype.itemsize)
        room, moves = [1 << 40] * node.input(1).size, [0] * node.input(1).size
        for cut, n, step in zip(cuts, x.dims, strides, strict=True):
            if not cut.kept and not node.options.begin_mask >> cut.entry & 1:
                room[cut.entry], moves[cut.entry] = n - 1, step
        to = row_strides([cut.count for cut in cuts], x.dtype.itemsize)
        box = [(cut.count, s * cut.step, t) for cut, s, t in zip(cuts, strides, to, strict=True)]
        first = sum(cut.start * s for cut, s in zip(cuts, strides, strict=True))
        _copy_moved(node, steps, (0, 1), box, (room, moves), "index", first=first)


def _stand_ins(node: Node, dims: tuple[int, ...], values: list[Any]) -> list[Any] | None:
    """begin, end and strides, 0 for what a run brings; None where that decides a shape.

    It decides none where it is but the place of single elements, which lose their dimension.
    """
    if all(value is not None for value in values):
        return values
    begin, _, strides = values
    if strides is None or 0 in dims:
        return None
    o = node.options
    for i, step in enumerate(numbers(strides)):
        beside = (o.ellipsis_mask | o.new_axis_mask | (o.begin_mask & o.end_mask)) >> i & 1
        if not beside and not (o.shrink_axis_mask >> i & 1 and step > 0):
            return None
    nothing = np.zeros(strides.size, np.int64)
    return [nothing if begin is None else begin, nothing, strides]


def _key(cut: _Cut) -> slice:
    """A Python slice for a cut that is not empty; an end in front of the first element is None."""
    end = cut.start + cut.count * cut.step
    return slice(cut.start, end if end >= 0 else None, cut.step)


def _strided(
    node: Node, dims: tuple[int, ...], values: list[Any], refuse: Refuse
) -> tuple[list[_Cut], tuple[int, ...]]:
    """One cut per dimension of x, and the shape of y."""
    begin, end, strides = (numbers(value) for value in values)
    o, count, rank = node.options, len(begin), len(dims)
    ellipsis = [i for i in range(count) if o.ellipsis_mask >> i & 1]
    refuse(len(ellipsis) <= 1, "ellipsis_mask has more than one bit")
    added = [i for i in range(count) if o.new_axis_mask >> i & 1 and i not in ellipsis]
    taken = count - len(added) - len(ellipsis)
    refuse(taken <= rank, f"{taken} indices for an input of rank {rank}")
    cuts: list[_Cut] = []
    shape: list[int] = []
    for i in range(count):
        if i in ellipsis:
            whole = dims[len(cuts) : len(cuts) + rank - taken]
            cuts += [_Cut(0, n) for n in whole]
            shape += whole
        elif i in added:
            shape.append(1)
        else:
            cut = _cut(node, i, dims[len(cuts)], (begin[i], end[i], strides[i]), refuse)
            cuts.append(cut)
            shape += [cut.count] if cut.kept else []
    rest = dims[len(cuts) :]
    cuts += [_Cut(0, n) for n in rest]
    return cuts, (*shape, *rest)


def _cut(node: Node, i: int, n: int, spec: tuple[int, int, int], refuse: Refuse) -> _Cut:
    """Entry i of a strided slice on a dimension of n elements."""
    o, (begin, end, step) = node.options, spec
    refuse(step > -(1 << 31) and step != 0, f"stride {i} is {step}: it must not be 0")
    low, high = (0, n) if step > 0 else (-1, n - 1)
    start = min(max(begin + n if begin < 0 else begin, low), high)
    if o.begin_mask >> i & 1:
        start = low if step > 0 else high
    if o.shrink_axis_mask >> i & 1:
        refuse(0 <= start < n, f"index {begin} is out of range for a dimension of {n}")
        return _Cut(start, 1, kept=False, entry=i)
    if o.offset:
        end += start
    stop = min(max(end + n if end < 0 else end, low), high)
    if o.end_mask >> i & 1:
        stop = high if step > 0 else low
    count = max(-((start - stop) // step), 0)
    return _Cut(start, count, step)


class _SplitOp(Op):
    """Parts of x along one axis, one an output; where the axis depends on data, so do shapes."""

    def _sizes(self, node: Node, n: int, sizes: Array | None, refuse: Refuse) -> list[int]:
        raise NotImplementedError

    def _infer(self, node: Node, x: TensorType, axis: TensorType, sizes: Array | None) -> Types:
        axis_count = axis.size
        node.require(axis_count == 1, f"axis must be one number, got shape {axis.shape}")
        node.require_dtype(axis, (I32,), "axis")
        for j in range(len(node.outputs)):
            require_same_type(node, x, node.output(j), FIXED_WIDTH)
        if axis.value is None:
            return [node.output(j).with_shape(None) for j in range(len(node.outputs))]
        along = wrap_axis(numbers(axis.value)[0], x.rank, node.require)
        lengths = self._sizes(node, x.dims[along], sizes, node.require)
        front, back = x.dims[:along], x.dims[along + 1 :]
        return [node.output(j).with_shape([*front, m, *back]) for j, m in enumerate(lengths)]

    def _split(self, node: Node, x: Array, axis: Array, sizes: Array | None) -> tuple[Array, ...]:
        along = wrap_axis(numbers(axis)[0], x.ndim, node.check)
        lengths = self._sizes(node, x.shape[along], sizes, node.check)
        return tuple(np.split(x, np.cumsum(lengths)[:-1].tolist(), axis=along))

    def _lower(self, node: Node, steps: Lowering, x: TensorType, axis: TensorType) -> None:
        if axis.value is None or not lowers(x) or any(t is None for t in node.outputs):
            return
        along = wrap_axis(numbers(axis.value)[0], x.rank, node.require)
        start = 0
        for j in range(len(node.outputs)):
            count = node.output(j).dims[along]
            cuts = [_Cut(0, n) for n in x.dims]
            cuts[along] = _Cut(start, count)
            _part(steps, node, j, cuts)
            start += count


@builtin("SPLIT", versions=range(1, 6))
class Split(_SplitOp):
    """x (input 1) in num_splits equal parts along axis (input 0). Any type of fixed width.

    Source: LiteRT tflite/kernels/split.cc.
    """

    options = SplitOptions
    arity = (2, 2)
    results = (1, 1 << 30)

    def infer(self, node: Node) -> Types:
        return self._infer(node, node.input(1), node.input(0), None)

    def reference(self, node: Node, axis: Array, x: Array) -> tuple[Array, ...]:
        return self._split(node, x, axis, None)

    def lower(self, node: Node, steps: Lowering) -> None:
        self._lower(node, steps, node.input(1), node.input(0))

    def _sizes(self, node: Node, n: int, sizes: Array | None, refuse: Refuse) -> list[int]:
        parts = node.options.num_splits
        count = len(node.outputs)
        refuse(parts == count, f"num_splits is {parts}, but there are {count} outputs")
        refuse(n % parts == 0, f"a dimension of {n} has no {parts} equal parts")
        return [n // parts] * parts


@builtin("SPLIT_V", versions=range(1, 4))
class SplitV(_SplitOp):
    """x in parts of size_splits (input 1) elements along axis (input 2); one size may be -1.

    Any type of fixed width; sizes int32 or int64. Source: LiteRT tflite/kernels/split_v.cc.
    """

    options = SplitVOptions
    arity = (3, 3)
    results = (1, 1 << 30)

    def infer(self, node: Node) -> Types:
        sizes = node.input(1)
        node.require_dtype(sizes, INDEX, "size_splits")
        require_vector(node, sizes, len(node.outputs), "size_splits")
        axis = node.input(2)
        if sizes.value is None:
            axis = axis.with_shape(axis.shape)  # whatever the axis is, the shapes are not known
        return self._infer(node, node.input(0), axis, sizes.value)

    def reference(self, node: Node, x: Array, sizes: Array, axis: Array) -> tuple[Array, ...]:
        return self._split(node, x, axis, sizes)

    def lower(self, node: Node, steps: Lowering) -> None:
        self._lower(node, steps, node.input(0), node.input(2))

    def _sizes(self, node: Node, n: int, sizes: Array | None, refuse: Refuse) -> list[int]:
        lengths = [] if sizes is None else list(numbers(sizes))
        parts, count = node.options.num_splits, len(node.outputs)
        refuse(parts == count, f"num_splits is {parts}, but there are {count} outputs")
        refuse(lengths.count(-1) <= 1, "size_splits has more than one -1")
        if -1 in lengths:
            lengths[lengths.index(-1)] = n - sum(lengths) - 1
        ok = min(lengths, default=0) >= 0 and sum(lengths) == n
        refuse(ok, f"sizes {lengths} do not add up to the dimension of {n}")
        return lengths


@builtin("UNPACK", versions=range(1, 7))
class Unpack(Op):
    """The `num` slices of x along `axis`, each without that dimension. Any type of fixed width.

    Scales and zero points must be equal. Source: LiteRT tflite/kernels/unpack.cc.
    """

    options = UnpackOptions
    results = (1, 1 << 30)

    def infer(self, node: Node) -> Types:
        x, count = node.input(0), len(node.outputs)
        node.require(x.rank > 0, "input must not be a scalar")
        axis = wrap_axis(node.options.axis, x.rank, node.require)
        node.require(
            count == node.options.num == x.dims[axis],
            f"num is {node.options.num} for {count} outputs and a dimension of {x.dims[axis]}",
        )
        shape = (*x.dims[:axis], *x.dims[axis + 1 :])
        for j in range(count):
            require_same_type(node, x, node.output(j), FIXED_WIDTH)
            require_same_quantization(node, x, node.output(j), "input")
        return [node.output(j).with_shape(shape) for j in range(count)]

    def reference(self, node: Node, x: Array) -> tuple[Array, ...]:
        rows = np.moveaxis(x, node.options.axis, 0)
        return tuple(rows[j, ...] for j in range(len(rows)))

    def lower(self, node: Node, steps: Lowering) -> None:
        x = node.input(0)
        if not lowers(x):
            return
        axis = wrap_axis(node.options.axis, x.rank, node.require)
        for j in range(len(node.outputs)):
            cuts = [_Cut(0, n) for n in x.dims]
            cuts[axis] = _Cut(j, 1)
            _part(steps, node, j, cuts)


@builtin("DYNAMIC_UPDATE_SLICE", versions=range(1, 7))
class DynamicUpdateSlice(Op):
    """y = x with update (input 1) written at start (input 2), moved back until it fits.

    Any type of fixed width, rank at most 8; start int32 or int64, one a dimension.
    Source: LiteRT tflite/kernels/dynamic_update_slice.cc.
    """

    options = DynamicUpdateSliceOptions
    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        x, update, start, y = node.input(0), node.input(1), node.input(2), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require_dtype(update, (x.dtype,), "update")
        node.require_dtype(start, INDEX, "start")
        require_vector(node, start, x.rank, "start")
        fits = update.rank == x.rank and all(
            m <= n for m, n in zip(update.dims, x.dims, strict=False)
        )
        node.require(fits, f"update of shape {update.shape} does not fit into {x.shape}")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, x: Array, update: Array, start: Array) -> Array:
        y: Array = x.copy()
        room = zip(numbers(start), x.shape, update.shape, strict=True)
        firsts = [min(max(at, 0), n - m) for at, n, m in room]
        key = tuple(slice(at, at + m) for at, m in zip(firsts, update.shape, strict=True))
        y[key] = update
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        x, update = node.input(0), node.input(1)
        if not lowers(x) or update.shape is None:
            return
        size, target = x.dtype.itemsize, steps.outputs[0]
        strides = row_strides(x.dims, size)
        steps.may_share()
        copy_whole(steps, input_of(steps, 0), target, x.nbytes)
        if not update.size:
            return
        box = list(zip(update.dims, row_strides(update.dims, size), strides, strict=True))
        room = [n - m for n, m in zip(x.dims, update.dims, strict=True)]
        _copy_moved(node, steps, (1, 2), box, (room, strides), "target")
