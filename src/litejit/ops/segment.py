"""SEGMENT_SUM and its unsorted relatives: folds of rows that share a number."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options.index import (
    SegmentSumOptions,
    UnsortedSegmentMaxOptions,
    UnsortedSegmentMinOptions,
    UnsortedSegmentProdOptions,
    UnsortedSegmentSumOptions,
)
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.indexing import Refuse, check_indices, made
from litejit.types import F32, I32, Array


@builtin("SEGMENT_SUM")
class SegmentSum(Op):
    """y[s] = sum of x[k] with ids[k] = s; ids start at 0 and rise by 0 or 1.

    f32 | i32 (wraps). Source: LiteRT tflite/kernels/segment_sum.cc.
    """

    options = SegmentSumOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, ids = node.input(0), node.input(1)
        node.require_dtype(x, (F32, I32), "input")
        node.require_dtype(ids, (I32,), "segment ids")
        node.require(x.rank >= 1, "input must have at least one dimension")
        same = ids.dims == x.dims[:1]
        node.require(same, f"segment ids must have shape {x.dims[:1]}, got {ids.dims}")
        if ids.value is None:
            return [made(node, None, x.dtype)]
        return [made(node, (self.count(node.require, ids.value), *x.dims[1:]), x.dtype)]

    def count(self, refuse: Refuse, ids: Array) -> int:
        """Number of segments, after checking that ids rise in steps of 0 or 1 from 0."""
        if ids.size == 0:
            return 0
        steps = np.diff(ids.astype(np.int64))
        rising = ids[0] == 0 and bool(np.all((steps == 0) | (steps == 1)))
        refuse(rising, "segment ids must start at 0 and rise by 0 or 1")
        return int(ids[-1]) + 1

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, ids = inputs
        y = np.zeros((self.count(node.check, ids), *x.shape[1:]), x.dtype)
        with np.errstate(all="ignore"):
            np.add.at(y, ids, x)
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        if node.input(1).value is not None:
            _lower_segments(node, steps, "sum", 0)


def _lower_segments(node: Node, steps: Lowering, word: str, start: Any) -> None:
    """One kernel; `start` is what segments begin with."""
    from litejit.kernels.scan import SegmentSpec

    x, ids, y = node.input(0), node.input(1), node.output()
    (data, numbers, *_), (target,) = steps.inputs, steps.outputs
    if y.shape is None or not y.size or data is None or numbers is None:
        return
    inner, lanes = y.size // y.dims[0], steps.isa.vector_bytes // 4
    items = inner if inner == 1 else -(-inner // lanes)
    first = int(np.float32(start).view(np.int32)) if x.dtype.is_float else int(start)
    steps.call(
        SegmentSpec(x.dtype, word, inner == 1), data, numbers, target, steps.status,
        ids.size, inner, y.dims[0], first,
        items=items, cost_ns=items * (5 + 2.0 * (ids.size + y.dims[0])),
    )  # fmt: skip


class _UnsortedSegment(Op):
    """y[s] = fold of x[k] with ids[k] = s; negative ids are left out; s < input 2.

    ids have the first dimensions of x; f32 | i32 (wraps).
    Source: LiteRT tflite/kernels/unsorted_segment.cc.
    """

    arity = (3, 3)
    fold: ClassVar[Any]
    word: ClassVar[str]

    def infer(self, node: Node) -> Types:
        x, ids, count = node.input(0), node.input(1), node.input(2)
        node.require_dtype(x, (F32, I32), "input")
        node.require_dtype(ids, (I32,), "segment ids")
        node.require_dtype(count, (I32,), "number of segments")
        prefix = x.dims[: ids.rank] == ids.dims
        node.require(prefix, f"segment ids of shape {ids.dims} are no prefix of {x.dims}")
        node.require(count.dims in ((), (1,)), "the number of segments must be one number")
        if count.value is None:
            return [made(node, None, x.dtype)]
        segments = self.segments(node.require, count.value)
        return [made(node, (segments, *x.dims[ids.rank :]), x.dtype)]

    def segments(self, refuse: Refuse, count: Array) -> int:
        """The number of segments that is asked for."""
        segments = int(count.reshape(-1)[0])
        refuse(segments >= 0, f"number of segments is {segments}")
        return segments

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, ids, count = inputs
        segments = self.segments(node.check, count)
        kept = ids >= 0
        check_indices(node, ids[kept], segments, what="segment id")
        y = np.full((segments, *x.shape[ids.ndim :]), self.start(x.dtype), x.dtype)
        with np.errstate(all="ignore"):
            self.fold.at(y, ids[kept], x[kept])
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        _lower_segments(node, steps, self.word, self.start(node.input(0).dtype.numpy))

    def start(self, dtype: np.dtype[Any]) -> Any:
        """What a segment without elements holds."""
        if self.fold.identity is not None:
            return self.fold.identity
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        return limits.min if self.fold is np.fmax else limits.max


@builtin("UNSORTED_SEGMENT_SUM")
class UnsortedSegmentSum(_UnsortedSegment):
    """Sums by segment; an empty segment holds 0."""

    options = UnsortedSegmentSumOptions
    fold = np.add
    word = "sum"


@builtin("UNSORTED_SEGMENT_PROD")
class UnsortedSegmentProd(_UnsortedSegment):
    """Products by segment; an empty segment holds 1."""

    options = UnsortedSegmentProdOptions
    fold = np.multiply
    word = "prod"


@builtin("UNSORTED_SEGMENT_MAX")
class UnsortedSegmentMax(_UnsortedSegment):
    """Largest by segment; an empty segment holds the type's lowest finite value."""

    options = UnsortedSegmentMaxOptions
    fold = np.fmax
    word = "max"


@builtin("UNSORTED_SEGMENT_MIN")
class UnsortedSegmentMin(_UnsortedSegment):
    """Smallest by segment; an empty segment holds the type's largest finite value."""

    options = UnsortedSegmentMinOptions
    fold = np.fmin
    word = "min"
