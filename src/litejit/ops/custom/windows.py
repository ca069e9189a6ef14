"""AvgPool3D, MaxPool3D, MaxPoolWithArgmax, MaxUnpooling2D and DenseImageWarp."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from litejit.errors import ModelError
from litejit.model import Operator
from litejit.model.options import Padding
from litejit.ops.base import Arrays, Lowering, Node, Types, builtin
from litejit.ops.custom.options import CustomOp, Fields
from litejit.ops.fixedpoint import FLOAT_MAX, require_scale, type_range
from litejit.ops.indexing import made
from litejit.ops.pool import call_pool, combine_windows
from litejit.ops.window import Span, Window2D, span
from litejit.record import Record
from litejit.types import F32, I8, I16, I32, Array

_PADDINGS = {"SAME": Padding.SAME, "VALID": Padding.VALID}


class WindowOptions(Record):
    """Size and step of a window along every inner axis; padding -1 is neither SAME nor VALID."""

    padding: int
    filter: tuple[int, ...]
    strides: tuple[int, ...]


def _read_window(fields: Fields, rank: int) -> WindowOptions:
    sizes, strides = fields.integers("ksize", rank), fields.integers("strides", rank)
    for numbers in (sizes, strides):
        if numbers[0] != 1 or numbers[-1] != 1:
            raise ModelError(f"{fields.who}: {numbers} must begin and end with 1")
    padding = _PADDINGS.get(fields.text("padding"), -1)
    return WindowOptions(int(padding), sizes[1:-1], strides[1:-1])


def _spans(node: Node) -> list[Span]:
    """The window along every inner axis of input 0."""
    o, dims = node.options, node.input(0).dims[1:-1]
    rows = enumerate(zip(dims, o.filter, o.strides, strict=True))
    found = [span(node, size, f, stride, 1, f"axis {k + 1}") for k, (size, f, stride) in rows]
    for s in found:
        ok = s.out == 0 or (s.inside(0) and s.inside(s.out - 1))
        node.require(ok, f"a window holds no cell of the input {node.input(0).dims}")
    return found


class _Pool3D(CustomOp):
    """Windows over [batch, depth, height, width, channels]: f32 | i8 | i16, not rescaled."""

    def read(self, fields: Fields) -> Any:
        if fields.text("data_format") not in ("", "NDHWC"):
            raise ModelError(f"{fields.who}: data_format must be NDHWC")
        return _read_window(fields, 5)

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, (F32, I8, I16), "input")
        node.require(x.rank == 5, f"input must have 5 dimensions, got shape {x.dims}")
        if x.dtype == I8:
            require_scale(node, x, "input")
            ok = abs(x.scale - y.scale) <= 1e-6 and x.zero_point == y.zero_point
            node.require(ok, "scales and zero points of input and output must be equal")
        return [made(node, (x.dims[0], *(s.out for s in _spans(node)), x.dims[4]), x.dtype)]

    @staticmethod
    def fold(node: Node, steps: Lowering, what: str) -> None:
        """Planes first, then along the depth."""
        x, y, source = node.input(0), node.output(0), steps.inputs[0]
        if source is None or not x.size or not y.size:
            return
        depth, rows, columns = _spans(node)
        limits = (-FLOAT_MAX, FLOAT_MAX) if x.dtype == F32 else type_range(x.dtype)
        channels, deep = x.dims[4], depth.filter > 1 or depth.stride > 1
        planes = Window2D(
            *(x.dims[0] * depth.size, rows.size, columns.size, channels, rows.out, columns.out),
            *(rows.filter, columns.filter, rows.stride, columns.stride, 1, 1),
            *(rows.before, columns.before, rows.after, columns.after),
        )
        pixels = rows.out * columns.out * channels
        target = steps.outputs[0]
        if deep:
            target = steps.temporary(x.dims[0] * depth.size * pixels * x.dtype.itemsize)
        call_pool(steps, what, x.dtype, planes, limits, source, target)
        if deep:
            along = Window2D(
                *(x.dims[0], depth.size, 1, pixels, depth.out, 1, depth.filter, 1),
                *(depth.stride, 1, 1, 1, depth.before, 0, depth.after, 0),
            )
            call_pool(steps, what, x.dtype, along, limits, target, steps.outputs[0])

    @staticmethod
    def combine(node: Node, x: Array, combine: Any, start: Any) -> Array:
        for axis, s in enumerate(_spans(node), 1):
            x = combine_windows(x, s, axis, combine, start)
        return x


@builtin("AvgPool3D")
class AvgPool3D(_Pool3D):
    """y = mean of the part of a window inside x; integers round half away from zero.

    Source: LiteRT tflite/kernels/pooling3d.cc.
    """

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        d, h, w = (s.counts() for s in _spans(node))
        count = (d[:, None, None] * h[:, None] * w)[None, ..., None]
        with np.errstate(all="ignore"):
            if x.dtype == np.float32:
                total = self.combine(node, x, np.add, 0)
                mean = total / count.astype(np.float32)
                return np.asarray(np.clip(mean, np.float32(-FLOAT_MAX), np.float32(FLOAT_MAX)))
            total = self.combine(node, x.astype(np.int64), np.add, 0)
            rounded = np.sign(total) * ((np.abs(total) + count // 2) // count)
            result: Array = rounded.astype(x.dtype)
            return result

    def lower(self, node: Node, steps: Lowering) -> None:
        """Means of floats; integers are rounded once, in NumPy."""
        if node.input(0).dtype == F32:
            self.fold(node, steps, "mean")


@builtin("MaxPool3D")
class MaxPool3D(_Pool3D):
    """y = maximum of the part of a window inside x. Source: LiteRT tflite/kernels/pooling3d.cc."""

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        if x.dtype == np.float32:
            found = self.combine(node, x, np.fmax, np.float32(-FLOAT_MAX))
            return np.asarray(np.minimum(found, np.float32(FLOAT_MAX)))
        return self.combine(node, x, np.maximum, np.iinfo(x.dtype).min)

    def lower(self, node: Node, steps: Lowering) -> None:
        self.fold(node, steps, "max")


@builtin("MaxPoolWithArgmax")
class MaxPoolWithArgmax(CustomOp):
    """(maximum of every window, (row * width + column) * channels + channel of the first one).

    x: f32 NHWC; places are int32. A window without numbers gives the lowest float and place 0.
    Source: LiteRT tflite/kernels/perception/max_pool_with_argmax.cc.
    """

    results = (2, 2)

    def read(self, fields: Fields) -> Any:
        if fields.flag("include_batch_in_index"):
            raise ModelError(f"{fields.who}: places that include the batch are not supported")
        return _read_window(fields, 4)

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, (F32,), "input")
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.dims}")
        fits = x.dims[1] * x.dims[2] * x.dims[3] < 1 << 31
        node.require(fits, f"places in {x.dims} exceed int32")
        shape = (x.dims[0], *(s.out for s in _spans(node)), x.dims[3])
        return [made(node, shape, F32), made(node, shape, I32, position=1)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        rows, columns = _spans(node)
        channels, width = x.shape[3], x.shape[2]
        best = np.full(node.output(0).dims, np.float32(-FLOAT_MAX))
        place = np.zeros(best.shape, np.int64)
        for i in range(rows.filter):
            first, last = rows.valid(i)
            y = np.arange(first, last) * rows.stride + i - rows.before
            for j in range(columns.filter):
                left, right = columns.valid(j)
                z = np.arange(left, right) * columns.stride + j - columns.before
                seen = x[:, y][:, :, z]
                part = (slice(None), slice(first, last), slice(left, right))
                better = seen > best[part]
                best[part] = np.where(better, seen, best[part])
                here = (y[:, None] * width + z)[None, :, :, None]
                place[part] = np.where(better, here, place[part])
        flat = place * channels + np.arange(channels)
        return np.minimum(best, np.float32(FLOAT_MAX)), flat.astype(np.int32)


_POOL_PARAMS = struct.Struct("<5i")  # padding, strides (width, height), filter (width, height)


@builtin("MaxUnpooling2D")
class MaxUnpooling2D(CustomOp):
    """Zeros with every x put at its place, which MaxPoolWithArgmax gave. f32, i32 -> f32 (NHWC).

    The options are not a FlexBuffer but the C structure TfLitePoolParams.
    Source: LiteRT tflite/kernels/perception/max_unpooling_2d.cc.
    """

    arity = (2, 2)

    def decode_options(self, operator: Operator, who: str) -> Any:
        data = bytes(operator.custom_options)
        if len(data) < _POOL_PARAMS.size:
            raise ModelError(f"{who}: options have {len(data)} bytes, expected 20 or more")
        padding, stride_w, stride_h, filter_w, filter_h = _POOL_PARAMS.unpack_from(data)
        return WindowOptions(padding, (filter_h, filter_w), (stride_h, stride_w))

    def infer(self, node: Node) -> Types:
        x, places, o = node.input(0), node.input(1), node.options
        node.require_dtype(x, (F32,), "input")
        node.require_dtype(places, (I32,), "indices")
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.dims}")
        node.require(places.dims == x.dims, f"{places.dims} indices for input {x.dims}")
        node.require(o.padding in (1, 2), f"padding {o.padding} is neither SAME nor VALID")
        ok = min(o.strides) > 0 and min(o.filter) > 0
        node.require(ok, f"filter {o.filter} and strides {o.strides} must be positive")
        sizes = [n * step for n, step in zip(x.dims[1:3], o.strides, strict=True)]
        if o.padding == 2:
            sizes = [
                max(n - 1, 0) * step + f
                for n, step, f in zip(x.dims[1:3], o.strides, o.filter, strict=True)
            ]
        return [made(node, (x.dims[0], *sizes, x.dims[3]), F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, places = inputs
        shape = node.output(0).dims
        size = shape[1] * shape[2] * shape[3]
        inside = (places >= 0) & (places < size)
        node.check(inside.all(), f"an index is not in [0, {size})")
        result = np.zeros((len(x), size), np.float32)
        batch = np.broadcast_to(np.arange(len(x)).reshape(-1, 1, 1, 1), x.shape)
        result[batch.reshape(-1), places.reshape(-1)] = x.reshape(-1)
        return result.reshape(shape)


@builtin("DenseImageWarp")
class DenseImageWarp(CustomOp):
    """y[b, i, j] = x between the four pixels around (i, j) - flow[b, i, j]; edges are kept.

    x: f32 NHWC of at least 2 x 2, flow: f32 [batch, height, width, 2] (rows, columns).
    Source: LiteRT tflite/kernels/perception/dense_image_warp.cc.
    """

    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, flow = node.input(0), node.input(1)
        node.require_dtype(x, (F32,), "input")
        node.require_dtype(flow, (F32,), "flow")
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.dims}")
        ok = flow.dims == (*x.dims[:3], 2)
        node.require(ok, f"flow has shape {flow.dims}, expected {(*x.dims[:3], 2)}")
        node.require(min(x.dims[1:3]) >= 2, f"input {x.dims} must be at least 2 x 2")
        return [made(node, x.dims, F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, flow = inputs
        rows, row_share = self._place(np.arange(x.shape[1])[:, None] - flow[..., 0], x.shape[1])
        columns, share = self._place(np.arange(x.shape[2]) - flow[..., 1], x.shape[2])
        batch = np.arange(len(x))[:, None, None]
        with np.errstate(all="ignore"):
            left, right = x[batch, rows, columns], x[batch, rows, columns + 1]
            top = share * (right - left) + left
            left, right = x[batch, rows + 1, columns], x[batch, rows + 1, columns + 1]
            bottom = share * (right - left) + left
            return np.asarray(row_share * (bottom - top) + top)

    @staticmethod
    def _place(point: Array, size: int) -> tuple[Array, Array]:
        """The pixel before a point, and how far the point lies from it, 0 to 1."""
        point = point.astype(np.float32)
        known = np.where(np.isnan(point), np.float32(0), point)
        before = np.clip(np.floor(known), 0, size - 2).astype(np.int64)
        share = np.clip(point - before.astype(np.float32), np.float32(0), np.float32(1))
        return before, np.where(np.isnan(share), np.float32(0), share)[..., None]
