"""Elements chosen by their values: where, the largest, the distinct, buckets, boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.model.options.elementwise import BucketizeOptions
from litejit.model.options.index import (
    NonMaxSuppressionV4Options,
    NonMaxSuppressionV5Options,
    TopKV2Options,
    UniqueOptions,
    WhereOptions,
)
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.boxes import suppress
from litejit.ops.indexing import Refuse, made
from litejit.types import BOOL, F32, F64, I8, I16, I32, I64, U8, U32, Array

MOST_MOVES = 1 << 24  # of elements, in a row's search for its largest


@builtin("WHERE", versions=range(1, 3))
class Where(Op):
    """y[k] = position of the k-th x that is not 0, in row-major order: int64 [count, rank].

    NaN is not 0. Source: LiteRT tflite/kernels/where.cc.
    """

    options = WhereOptions
    checks_shape = True

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, (BOOL, F32, I64, I32, I8, U8, U32), "condition")
        node.require(x.rank >= 1, "condition must have at least one dimension")
        return [made(node, None, I64)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        return np.argwhere(inputs[0]).astype(np.int64)

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.indexed import WhereSpec

        x, y = node.input(0), node.output()
        place = steps.inputs[0]
        if place is None or x.rank > WhereSpec.MOST_AXES:
            return
        steps.call(
            WhereSpec(x.dtype, x.rank), place, steps.outputs[0], steps.status, y.dims[0], *x.dims,
            x.size, items=1, cost_ns=10 + x.size * 0.5,
        )  # fmt: skip


@builtin("TOPK_V2", versions=range(1, 4))
class TopK(Op):
    """The k largest along the last axis, descending, and their positions (int32 or int16).

    Of equals the first one leads; NaN comes last; k below 0 counts as 0.
    Source: LiteRT tflite/kernels/topk_v2.cc.
    """

    options = TopKV2Options
    arity = (2, 2)
    results = (2, 2)

    def infer(self, node: Node) -> Types:
        x, k = node.input(0), node.input(1)
        node.require_dtype(x, (F32, U8, I8, I16, I32, I64), "input")
        node.require_dtype(k, (I32, I16), "k")
        node.require(k.size == 1, f"k must be one number, got shape {k.dims}")
        node.require(x.rank >= 1, "input must have at least one dimension")
        places = node.output(1).dtype
        node.require_dtype(node.output(1), (I32, I16), "output 1")
        shape = None
        if k.value is not None:
            shape = (*x.dims[:-1], self.count(node.require, k.value, x.dims[-1]))
        if shape is None or 0 not in shape:
            fits = x.dims[-1] - 1 <= np.iinfo(places.numpy).max
            node.require(fits, f"positions of {x.dims[-1]} elements exceed {places.name}")
        return [made(node, shape, x.dtype), made(node, shape, places, position=1)]

    def count(self, refuse: Refuse, k: Array, size: int) -> int:
        """How many elements are asked for."""
        count = max(int(k.reshape(-1)[0]), 0)
        refuse(count <= size, f"k is {count}, the last axis has {size} elements")
        return count

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, k = inputs
        count = self.count(node.check, k, x.shape[-1])
        keys = -x if x.dtype.kind == "f" else ~x
        order = np.argsort(keys, axis=-1, kind="stable")[..., :count]
        values = np.take_along_axis(x, order, -1)
        return values, order.astype(node.output(1).dtype.numpy)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Rows as work items; not where a row of many could have to move as many again."""
        from litejit.kernels.scan import TopSpec

        x, source, places = node.input(0), steps.inputs[0], node.output(1)
        count, n = places.dims[-1], x.dims[-1]
        if not places.size or source is None or n * count > MOST_MOVES:
            return
        spec = TopSpec(x.dtype, places.dtype.bits)
        nbytes = -(-spec.scratch_bytes(steps.isa, count) // 64) * 64
        rows = x.size // n
        steps.call(
            spec, source, *steps.outputs, steps.scratch(nbytes), nbytes, n, count,
            items=rows, cost_ns=rows * (20 + n * 1.2 + count * 4.0),
        )  # fmt: skip


@builtin("UNIQUE")
class Unique(Op):
    """The distinct elements of a vector as they first appear, and where each x is among them.

    Source: LiteRT tflite/kernels/unique.cc.
    """

    options = UniqueOptions
    results = (2, 2)
    checks_shape = True

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, (F32, I8, U8, I16, I32, I64), "input")
        node.require(x.rank == 1, f"input must be a vector, got shape {x.dims}")
        kind = node.options.idx_out_type if node.options else I32
        node.require(kind.name in ("INT32", "INT64"), f"positions cannot be {kind.name}")
        return [made(node, None, x.dtype), made(node, x.dims, kind, position=1)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        values, first, inverse = np.unique(x, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        places = rank[inverse.reshape(-1)].astype(node.output(1).dtype.numpy)
        return x[np.sort(first)], places

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.indexed import UniqueSpec

        x, (values, places) = node.input(0), node.outputs
        source = steps.inputs[0]
        if source is None or values is None or places is None:
            return
        log = max(6, (2 * x.size).bit_length())
        steps.call(
            UniqueSpec(x.dtype, places.dtype.bits), source, *steps.outputs, steps.status,
            steps.scratch(4 << log), x.size, values.size, log, items=1, cost_ns=20 + x.size * 3.0,
        )  # fmt: skip


@builtin("BUCKETIZE")
class Bucketize(Op):
    """y = number of boundaries that are not above x (int32); integers compare as float32.

    NaN lies above all. Source: LiteRT tflite/kernels/bucketize.cc.
    """

    options = BucketizeOptions

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, (F32, F64, I32, I64), "input")
        edges = np.asarray(node.options.boundaries if node.options else (), np.float32)
        node.require(bool(np.all(edges[1:] >= edges[:-1])), "boundaries must be sorted")
        return [made(node, x.dims, I32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        edges = np.asarray(node.options.boundaries if node.options else (), np.float32)
        x = x if x.dtype.kind == "f" else x.astype(np.float32)
        return np.asarray(np.searchsorted(edges, x, side="right"), np.int32)

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.indexed import BucketizeSpec

        x, place = node.input(0), steps.inputs[0]
        kind = np.float64 if x.dtype == F64 else np.float32
        edges = np.asarray(node.options.boundaries if node.options else (), np.float32)
        if place is None or not x.size or np.isnan(edges).any():
            return
        bounds = steps.constant("boundaries", lambda: edges.astype(kind))
        steps.call(
            BucketizeSpec(x.dtype), place, steps.outputs[0], bounds, edges.size,
            items=x.size, cost_ns=10 + x.size * (1 + edges.size) * 0.1, grain=1024,
        )  # fmt: skip


class _NonMaxSuppression(Op):
    is_soft = False

    def infer(self, node: Node) -> Types:
        boxes, scores, most = (node.input(j) for j in range(3))
        node.require_dtype(boxes, (F32,), "boxes")
        node.require_dtype(scores, (F32,), "scores")
        node.require_dtype(most, (I32,), "maximum output size")
        ok = boxes.rank == 2 and boxes.dims[1] == 4
        node.require(ok, f"boxes must have shape (n, 4), got {boxes.dims}")
        ok = scores.dims == boxes.dims[:1]
        node.require(ok, f"scores must have shape {boxes.dims[:1]}, got {scores.dims}")
        for j in range(2, self.arity[0]):
            node.require(node.input(j).rank == 0, f"input {j} must be a scalar")
        for j in range(3, self.arity[0]):
            node.require_dtype(node.input(j), (F32,), f"input {j}")
        shape = None
        if most.value is not None:
            shape = (self.most(node.require, most.value),)
        found = [made(node, shape, I32)]
        if self.is_soft:
            found.append(made(node, shape, F32, position=1))
        return [*found, made(node, (), I32, position=len(found))]

    def most(self, refuse: Refuse, value: Array) -> int:
        """The number of boxes that may be chosen."""
        most = int(value[()])
        refuse(most >= 0, f"maximum output size is {most}")
        return most

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        boxes, scores = inputs[:2]
        most = self.most(node.check, inputs[2])
        sigma = inputs[5][()] if self.is_soft else np.float32(0)
        node.check(sigma >= 0, f"sigma is {sigma}")
        chosen = suppress(
            boxes, scores, most, overlap=inputs[3][()], least=inputs[4][()], sigma=sigma
        )
        places, values = np.zeros(most, np.int32), np.zeros(most, np.float32)
        for j, (place, score) in enumerate(chosen):
            places[j], values[j] = place, score
        count = np.asarray(len(chosen), np.int32)
        return (places, values, count) if self.is_soft else (places, count)

    def lower(self, node: Node, steps: Lowering) -> None:
        """One kernel."""
        from litejit.kernels.boxes import SuppressSpec

        boxes, scores, _, overlap, least, *rest = steps.inputs
        places, *values, count = steps.outputs
        number, most = node.input(0).dims[0], node.output(0).size
        if boxes is None or scores is None or overlap is None or least is None:
            return
        sigma = next((operand for operand in rest if operand is not None), least)
        scratch = steps.temporary(number * 28 + 64)
        steps.call(
            SuppressSpec(self.is_soft), boxes, scores, overlap, least, sigma, places,
            values[0] if values else places, count, scratch, steps.status, number, most, items=1,
            cost_ns=50 + number * 60.0,
        )  # fmt: skip


@builtin("NON_MAX_SUPPRESSION_V4")
class NonMaxSuppressionV4(_NonMaxSuppression):
    """Boxes by falling score, without those that overlap a chosen one.

    Inputs: boxes (n, 4) as (y1, x1, y2, x2) of any two opposite corners, scores (n), the most
    to choose, the overlap (intersection over union) from which on a box is dropped, the score
    above which it is looked at. Outputs: positions (padded with 0) and their number.
    Source: LiteRT tflite/kernels/internal/reference/non_max_suppression.h.
    """

    options = NonMaxSuppressionV4Options
    arity = (5, 5)
    results = (2, 2)


@builtin("NON_MAX_SUPPRESSION_V5")
class NonMaxSuppressionV5(_NonMaxSuppression):
    """As V4, with scores lowered by exp(-overlap**2 / (2 * sigma)) for sigma > 0.

    Outputs: positions, their scores, their number.
    """

    options = NonMaxSuppressionV5Options
    arity = (6, 6)
    results = (3, 3)
    is_soft = True
