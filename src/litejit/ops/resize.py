"""Images to another height and width."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from litejit.kernels.resize import BilinearSpec, pick_spec
from litejit.model.options.shape import ResizeBilinearOptions, ResizeNearestNeighborOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.fixedpoint import round_half_away
from litejit.ops.indexing import Refuse, made
from litejit.types import F32, I8, I16, I32, U8, Array


class _Resize(Op):
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, size = node.input(0), node.input(1)
        self.require_dtype(node)
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.dims}")
        node.require_dtype(size, (I32,), "size")
        node.require(size.dims == (2,), f"size must be (height, width), got shape {size.dims}")
        if size.value is None:
            return [made(node, None, x.dtype)]
        height, width = self.size(node.require, x.dims, size.value)
        return [made(node, (x.dims[0], height, width, x.dims[3]), x.dtype)]

    def require_dtype(self, node: Node) -> None:
        """Refuse what has no kernel."""
        raise NotImplementedError

    def size(self, refuse: Refuse, shape: tuple[int, ...], size: Array) -> tuple[int, int]:
        """(height, width) that are asked for, if they can be made from an image of `shape`."""
        height, width = (int(n) for n in size)
        refuse(height > 0 and width > 0, f"height and width must be positive, got {size.tolist()}")
        inside = shape[1] > 0 and shape[2] > 0 or 0 in (shape[0], shape[3])
        refuse(inside, f"an image of shape {shape} has no pixels to read")
        return height, width


class Line(NamedTuple):
    """Where the positions of one axis read: two neighbours and the second one's weight."""

    lower: Array
    upper: Array
    weight: Array
    first: Array


def line(size: int, count: int, *, align: bool, half: bool) -> Line:
    """Neighbours and float32 weights of `count` positions over `size` pixels."""
    f = np.float32
    scale = f(size - 1) / f(count - 1) if align and count > 1 else f(size) / f(count)
    at = np.arange(count, dtype=np.float32)
    at = (at + f(0.5)) * scale - f(0.5) if half else at * scale
    lower = np.maximum(np.floor(at).astype(np.int64), 0)
    upper = np.minimum(np.ceil(at).astype(np.int64), size - 1)
    weight = (at - lower.astype(np.float32)).astype(np.float32)
    return Line(np.minimum(lower, size - 1), np.maximum(upper, 0), weight, f(1) - weight)


def integer_line(size: int, count: int, *, align: bool, half: bool) -> Line:
    """As `line`, on a grid of 1/1024 pixel."""
    if align and count > 1:
        scale = (1024 * (size - 1) + (count - 1) // 2) // (count - 1)
    else:
        scale = (1024 * size + count // 2) // count
    at = np.arange(count, dtype=np.int64) * scale + (scale // 2 - 512 if half else 0)
    toward_zero = np.where(at >= 0, at >> 10, -(-at >> 10))
    above = at + 1023
    lower = np.maximum(toward_zero, 0)
    upper = np.minimum(np.where(above >= 0, above >> 10, -(-above >> 10)), size - 1)
    weight = at - 1024 * lower
    return Line(np.minimum(lower, size - 1), np.maximum(upper, 0), weight, 1024 - weight)


def corners(x: Array, rows: Line, columns: Line) -> tuple[Array, Array, Array, Array]:
    """The four neighbours of every output pixel: (y0, x0), (y1, x0), (y0, x1), (y1, x1)."""
    top, bottom = x[:, rows.lower], x[:, rows.upper]
    left, right = columns.lower, columns.upper
    return top[:, :, left], bottom[:, :, left], top[:, :, right], bottom[:, :, right]


@builtin("RESIZE_BILINEAR", versions=range(1, 5))
class ResizeBilinear(_Resize):
    """y = the four nearest pixels, weighted by nearness; NHWC.

    Position in x of pixel i: i * scale with scale = in / out (align_corners: (in - 1) /
    (out - 1) where out > 1), or (i + 0.5) * scale - 0.5 (half_pixel_centers). f32 and uint8
    in float32 (uint8: plus 0.5, cut off); int8 and int16 on a grid of 1/1024 pixel, half away
    from zero. Source: LiteRT tflite/kernels/internal/reference/resize_bilinear.h.
    """

    options = ResizeBilinearOptions

    def require_dtype(self, node: Node) -> None:
        node.require_dtype(node.input(0), (F32, U8, I8, I16), "input")
        options = node.options
        both = options and options.align_corners and options.half_pixel_centers
        node.require(not both, "align_corners and half_pixel_centers exclude each other")

    def lines(self, node: Node, shape: tuple[int, ...], size: tuple[int, int]) -> list[Line]:
        """Neighbours and weights of the output's rows and columns."""
        options = node.options or ResizeBilinearOptions()
        make = integer_line if node.input(0).dtype.name in ("INT8", "INT16") else line
        align, half = options.align_corners, options.half_pixel_centers
        return [make(shape[1 + j], size[j], align=align, half=half) for j in range(2)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, size = inputs
        height, width = self.size(node.check, x.shape, size)
        if x.size == 0:
            return np.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
        rows, columns = self.lines(node, x.shape, (height, width))
        wy, wx = rows.weight[:, None, None], columns.weight[:, None]
        vy, vx = rows.first[:, None, None], columns.first[:, None]
        if x.dtype.kind == "f" or x.dtype == np.uint8:
            a, b, c, d = corners(x.astype(np.float32), rows, columns)
            with np.errstate(all="ignore"):
                y = a * vy * vx + b * wy * vx + c * vy * wx + d * wy * wx
            return np.asarray(y if x.dtype.kind == "f" else (y + np.float32(0.5)).astype(x.dtype))
        a, b, c, d = corners(x.astype(np.int64), rows, columns)
        total = a * vy * vx + b * wy * vx + c * vy * wx + d * wy * wx
        rounded = (np.abs(total) + (1 << 19)) >> 20
        return np.asarray(np.where(total < 0, -rounded, rounded), x.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y, size, source = node.input(0), node.output(), node.input(1), steps.inputs[0]
        if size.value is None or source is None or x.size == 0:
            return
        batches, height, width, depth = y.dims
        rows, columns = self.lines(node, x.dims, (height, width))
        kind = {"INT8": np.int32, "INT16": np.int64}.get(x.dtype.name, np.float32)
        pitch, sizes = x.dims[2] * depth, (x.dims, y.dims)
        tables = [
            steps.constant(f"rows {sizes}", lambda: _pairs(rows.lower, rows.upper, pitch)),
            steps.constant(f"columns {sizes}", lambda: _pairs(columns.lower, columns.upper, depth)),
            steps.constant(
                f"row weights {sizes}", lambda: _pairs(rows.first, rows.weight, 1, kind)
            ),
            steps.constant(
                f"column weights {sizes}", lambda: _pairs(columns.first, columns.weight, 1, kind)
            ),
        ]
        groups = -(-depth // (steps.isa.vector_bytes // 4))
        cost = batches * height * width * (4 + 4 * groups)
        numbers = (height, width, x.dims[1] * pitch, depth)
        spec, target = BilinearSpec(x.dtype), steps.outputs[0]
        items = batches * height
        steps.call(spec, source, target, *tables, *numbers, items=items, cost_ns=cost)


def _pairs(first: Array, second: Array, factor: int, kind: type[Any] = np.int64) -> Array:
    """first[0], second[0], first[1], ..., each times `factor`."""
    result: Array = (np.stack([first, second], 1) * factor).astype(kind)
    return result


def nearest(size: int, count: int, *, align: bool, half: bool) -> Array:
    """The pixel that each of `count` positions over `size` pixels reads (int64)."""
    f = np.float32
    scale = f(size - 1) / f(count - 1) if align and count > 1 else f(size) / f(count)
    at = (np.arange(count, dtype=np.float32) + f(0.5 if half else 0)) * scale
    whole = round_half_away(at) if align else np.floor(at)
    return np.asarray(np.clip(whole.astype(np.int64), 0, size - 1))


@builtin("RESIZE_NEAREST_NEIGHBOR", versions=range(1, 5))
class ResizeNearestNeighbor(_Resize):
    """y = the nearest pixel; NHWC; any type of 8, 16 or 32 bits.

    Pixel i reads floor(i * scale) (align_corners: rounded, half away from zero), from i + 0.5
    where half_pixel_centers, clamped to the image; scale as in RESIZE_BILINEAR, in float32.
    Source: LiteRT tflite/kernels/internal/reference/resize_nearest_neighbor.h.
    """

    options = ResizeNearestNeighborOptions

    def require_dtype(self, node: Node) -> None:
        kind = node.input(0).dtype
        node.require(kind.bits in (8, 16, 32), f"input is {kind.name}, expected 8, 16 or 32 bits")

    def lines(self, node: Node, shape: tuple[int, ...], size: tuple[int, int]) -> list[Array]:
        """The rows and the columns that the output's rows and columns read."""
        options = node.options or ResizeNearestNeighborOptions()
        align, half = options.align_corners, options.half_pixel_centers
        return [nearest(shape[1 + j], size[j], align=align, half=half) for j in range(2)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, size = inputs
        height, width = self.size(node.check, x.shape, size)
        if x.size == 0:
            return np.zeros((x.shape[0], height, width, x.shape[3]), x.dtype)
        rows, columns = self.lines(node, x.shape, (height, width))
        return np.asarray(x[:, rows[:, None], columns[None, :]])

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y, size, source = node.input(0), node.output(), node.input(1), steps.inputs[0]
        if size.value is None or source is None or x.size == 0:
            return
        batches, height, width, depth = y.dims
        run, sizes = depth * x.dtype.itemsize, (x.dims, y.dims)
        rows, columns = self.lines(node, x.dims, (height, width))
        tables = [
            steps.constant(f"rows {sizes}", lambda: rows * (x.dims[2] * run)),
            steps.constant(f"columns {sizes}", lambda: columns * run),
        ]
        numbers = (height, width, x.dims[1] * x.dims[2] * run, run)
        cost = batches * height * width * (1 + 0.05 * run)
        spec = pick_spec(run, steps.isa.vector_bytes)
        items, target = batches * height, steps.outputs[0]
        steps.call(spec, source, target, *tables, *numbers, items=items, cost_ns=cost)
