"""Operators that trade height and width for channels or for batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from litejit.model.options.shape import (
    BatchToSpaceNDOptions,
    DepthToSpaceOptions,
    SpaceToBatchNDOptions,
    SpaceToDepthOptions,
)
from litejit.ops.base import Op, builtin
from litejit.ops.blocks import (
    FIXED_WIDTH,
    INDEX,
    Refuse,
    copy_box,
    input_of,
    lowers,
    numbers,
    require_same_quantization,
    require_same_type,
    row_strides,
)
from litejit.ops.padding import MAX_CALLS, Pads, border_value, fill_border, pads_of
from litejit.types import F16, F32, I8, I16, I32, I64, U8

if TYPE_CHECKING:
    from litejit.ops.base import Lowering, Node, Types
    from litejit.types import Array

_DEPTH_TYPES = (F32, F16, I8, U8, I16, I32, I64)
_EXCHANGED = (0, 1, 3, 2, 4, 5)


class _DepthOp(Op):
    """Blocks of b x b pixels and their channels change places. NHWC."""

    def infer(self, node: Node) -> Types:
        x, y, b = node.input(0), node.output(), node.options.block_size
        require_same_type(node, x, y, _DEPTH_TYPES)
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.shape}")
        node.require(b >= 1, f"block_size is {b}, expected 1 or more")
        return [y.with_shape(self._shape(x.dims, b, node.require))]

    def reference(self, node: Node, x: Array) -> Array:
        b = node.options.block_size
        parts = x.reshape(self._split(x.shape, b)).transpose(_EXCHANGED)
        return np.reshape(parts, self._shape(x.shape, b, node.check))

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y = node.input(0), node.output()
        if not lowers(x, y):
            return
        size, split = x.dtype.itemsize, self._split(x.dims, node.options.block_size)
        turned = tuple(split[k] for k in _EXCHANGED)
        source, target = row_strides(split, size), row_strides(turned, size)
        dims = [(m, source[k], t) for m, k, t in zip(turned, _EXCHANGED, target, strict=True)]
        copy_box(steps, steps.outputs[0], input_of(steps, 0), dims, size)

    def _shape(self, dims: tuple[int, ...], b: int, refuse: Refuse) -> tuple[int, ...]:
        raise NotImplementedError

    def _split(self, dims: tuple[int, ...], b: int) -> tuple[int, ...]:
        """The input's shape in six dimensions, of which the third and fourth change places."""
        raise NotImplementedError


@builtin("DEPTH_TO_SPACE", versions=range(1, 3))
class DepthToSpace(_DepthOp):
    """y[n, h * b + i, w * b + j, c] = x[n, h, w, (i * b + j) * C + c], b = block_size.

    f32 | f16 | i8 | u8 | i16 | i32 | i64. Source: LiteRT internal/reference/depth_to_space.h.
    """

    options = DepthToSpaceOptions

    def _shape(self, dims: tuple[int, ...], b: int, refuse: Refuse) -> tuple[int, ...]:
        n, h, w, c = dims
        refuse(c % (b * b) == 0, f"{c} channels are no multiple of block_size squared ({b * b})")
        return n, h * b, w * b, c // (b * b)

    def _split(self, dims: tuple[int, ...], b: int) -> tuple[int, ...]:
        n, h, w, c = dims
        return n, h, w, b, b, c // (b * b)


@builtin("SPACE_TO_DEPTH", versions=range(1, 3))
class SpaceToDepth(_DepthOp):
    """y[n, h, w, (i * b + j) * C + c] = x[n, h * b + i, w * b + j, c], b = block_size.

    f32 | f16 | i8 | u8 | i16 | i32 | i64. Source: LiteRT internal/reference/space_to_depth.h.
    """

    options = SpaceToDepthOptions

    def _shape(self, dims: tuple[int, ...], b: int, refuse: Refuse) -> tuple[int, ...]:
        n, h, w, c = dims
        fits = h % b == 0 and w % b == 0
        refuse(fits, f"height {h} and width {w} are no multiples of block_size {b}")
        return n, h // b, w // b, c * b * b

    def _split(self, dims: tuple[int, ...], b: int) -> tuple[int, ...]:
        n, h, w, c = dims
        return n, h // b, b, w // b, b, c


class _BatchOp(Op):
    """Positions inside blocks of pixels change places with the batch."""

    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        x, block, edges, y = node.input(0), node.input(1), node.input(2), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require(x.rank in (3, 4), f"input must have rank 3 or 4, got shape {x.shape}")
        for t, what, shape in (
            (block, "block_shape", (x.rank - 2,)),
            (edges, "paddings or crops", (x.rank - 2, 2)),
        ):
            node.require_dtype(t, INDEX, what)
            node.require(t.dims == shape, f"{what} must have shape {shape}, got {t.shape}")
        if x.dtype.name in ("INT8", "UINT8", "INT16"):
            require_same_quantization(node, x, y, "input")
        if x.dtype.name == "INT16":
            node.require(y.zero_point == 0, f"int16 zero point is {y.zero_point}, expected 0")
        if block.value is None or edges.value is None:
            return [y.with_shape(None)]
        sizes, pads = self._blocks(block.value, edges.value, node.require)
        return [y.with_shape(self._shape(x.dims, sizes, pads, node.require))]

    @staticmethod
    def _blocks(block: Array, edges: Array, refuse: Refuse) -> tuple[tuple[int, ...], Pads]:
        sizes = numbers(block)
        refuse(min(sizes) >= 1, f"block_shape {sizes} must be positive")
        return sizes, pads_of(edges, refuse)

    def _shape(
        self, dims: tuple[int, ...], sizes: tuple[int, ...], pads: Pads, refuse: Refuse
    ) -> tuple[int, ...]:
        raise NotImplementedError


@builtin("SPACE_TO_BATCH_ND", versions=range(1, 5))
class SpaceToBatchND(_BatchOp):
    """x is padded, then y[(i * bw + j) * N + n, h, w, ...] = x[n, h * bh + i, w * bw + j, ...].

    Any type of fixed width, rank 3 or 4; padded with the zero point. block_shape [rank - 2] and
    paddings [rank - 2, 2] are int32 or int64. Source: LiteRT tflite/kernels/space_to_batch_nd.cc.
    """

    options = SpaceToBatchNDOptions

    def _shape(
        self, dims: tuple[int, ...], sizes: tuple[int, ...], pads: Pads, refuse: Refuse
    ) -> tuple[int, ...]:
        new = []
        for n, b, (before, behind) in zip(dims[1:-1], sizes, pads, strict=True):
            total = n + before + behind
            refuse(total % b == 0, f"a padded dimension of {total} has no blocks of {b}")
            new.append(total // b)
        return dims[0] * math.prod(sizes), *new, dims[-1]

    def reference(self, node: Node, x: Array, block: Array, paddings: Array) -> Array:
        sizes, pads = self._blocks(block, paddings, node.check)
        shape = self._shape(x.shape, sizes, pads, node.check)
        widths = [(0, 0), *pads, (0, 0)]
        padded = np.pad(x, widths, constant_values=border_value(node.output())[0])
        split = [m for n, b in zip(shape[1:-1], sizes, strict=True) for m in (n, b)]
        k = len(sizes)
        order = [*range(2, 2 * k + 1, 2), 0, *range(1, 2 * k, 2), 2 * k + 1]
        parts = padded.reshape(x.shape[0], *split, x.shape[-1])
        return np.reshape(parts.transpose(order), shape)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y = node.input(0), node.output()
        block, edges = node.input(1).value, node.input(2).value
        if block is None or edges is None or not lowers(y):
            return
        sizes, pads = self._blocks(block, edges, node.require)
        (n, h, w, c), (_, out_h, out_w, _) = _as_nhwc(x.dims), _as_nhwc(y.dims)
        bh, bw = (*sizes, 1)[:2]
        if bh * bw > MAX_CALLS:
            return
        (top, _), (left, _) = (*pads, (0, 0))[:2]
        size, target = x.dtype.itemsize, steps.outputs[0]
        froms, tos = row_strides((n, h, w, c), size), row_strides(_as_nhwc(y.dims), size)
        border = steps.constant("border", lambda: border_value(y))
        for i in range(bh):
            for j in range(bw):
                # rows first ... last of this part of y come from x, the others are padding
                h0, h1 = _inside(i, bh, top, h, out_h)
                w0, w1 = _inside(j, bw, left, w, out_w)
                part = target.at((i * bw + j) * n * tos[0])
                inside = (n, h1 - h0, w1 - w0, c)
                border_pads = [(0, 0), (h0, out_h - h1), (w0, out_w - w1), (0, 0)]
                fill_border(steps, part, border, (inside, border_pads, tos, n * tos[0]), size)
                source = (h0 * bh + i - top) * froms[1] + (w0 * bw + j - left) * froms[2]
                to = part.at(h0 * tos[1] + w0 * tos[2])
                apart = (froms[0], froms[1] * bh, froms[2] * bw, size)
                dims = list(zip(inside, apart, tos, strict=True))
                copy_box(steps, to, input_of(steps, 0).at(source), dims, size)


@builtin("BATCH_TO_SPACE_ND", versions=range(1, 5))
class BatchToSpaceND(_BatchOp):
    """y[n, h * bh + i, w * bw + j, ...] = x[(i * bw + j) * N + n, h, w, ...], then y is cropped.

    Any type of fixed width, rank 3 or 4; block_shape [rank - 2] and crops [rank - 2, 2] are int32
    or int64. Source: LiteRT tflite/kernels/batch_to_space_nd.cc.
    """

    options = BatchToSpaceNDOptions

    def _shape(
        self, dims: tuple[int, ...], sizes: tuple[int, ...], pads: Pads, refuse: Refuse
    ) -> tuple[int, ...]:
        total = math.prod(sizes)
        refuse(dims[0] % total == 0, f"a batch of {dims[0]} is no multiple of {total} blocks")
        new = []
        for n, b, (before, behind) in zip(dims[1:-1], sizes, pads, strict=True):
            left = n * b - before - behind
            refuse(left >= 0, f"crops of {before} and {behind} exceed a dimension of {n * b}")
            new.append(left)
        return dims[0] // total, *new, dims[-1]

    def reference(self, node: Node, x: Array, block: Array, crops: Array) -> Array:
        sizes, pads = self._blocks(block, crops, node.check)
        shape = self._shape(x.shape, sizes, pads, node.check)
        k = len(sizes)
        parts = x.reshape(*sizes, shape[0], *x.shape[1:])
        order = [k, *[axis for d in range(k) for axis in (k + 1 + d, d)], 2 * k + 1]
        whole = [n * b for n, b in zip(x.shape[1:-1], sizes, strict=True)]
        y: Array = parts.transpose(order).reshape(shape[0], *whole, shape[-1])
        for axis, (n, (before, _)) in enumerate(zip(shape[1:-1], pads, strict=True), start=1):
            y = y.take(range(before, before + n), axis=axis)
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y = node.input(0), node.output()
        block, edges = node.input(1).value, node.input(2).value
        if block is None or edges is None or not lowers(x):
            return
        sizes, pads = self._blocks(block, edges, node.require)
        (_, in_h, in_w, _), (n, h, w, c) = _as_nhwc(x.dims), _as_nhwc(y.dims)
        bh, bw = (*sizes, 1)[:2]
        if bh * bw > MAX_CALLS:
            return
        (top, _), (left, _) = (*pads, (0, 0))[:2]
        size = x.dtype.itemsize
        froms, tos = row_strides(_as_nhwc(x.dims), size), row_strides((n, h, w, c), size)
        for i in range(bh):
            for j in range(bw):
                h0, h1 = _inside(i, bh, top, h, in_h)
                w0, w1 = _inside(j, bw, left, w, in_w)
                to = (h0 * bh + i - top) * tos[1] + (w0 * bw + j - left) * tos[2]
                source = (i * bw + j) * n * froms[0] + h0 * froms[1] + w0 * froms[2]
                dims = [(n, froms[0], tos[0]), (h1 - h0, froms[1], tos[1] * bh),
                        (w1 - w0, froms[2], tos[2] * bw), (c, size, size)]  # fmt: skip
                operand = input_of(steps, 0).at(source)
                copy_box(steps, steps.outputs[0].at(to), operand, dims, size)


def _as_nhwc(dims: tuple[int, ...]) -> tuple[int, ...]:
    return dims if len(dims) == 4 else (dims[0], dims[1], 1, dims[2])


def _inside(phase: int, block: int, before: int, n: int, blocks: int) -> tuple[int, int]:
    """The range of k < blocks for which k * block + phase - before lies in [0, n)."""
    first = max(-((phase - before) // block), 0)
    return first, max(min(blocks, -((phase - before - n) // block)), first)
