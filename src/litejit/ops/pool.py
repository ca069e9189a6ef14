"""AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D (NHWC)."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.kernels.pool import PoolSpec, row_lanes
from litejit.model.options import Pool2DOptions
from litejit.ops.base import Lowering, Node, Op, Operand, Types, builtin
from litejit.ops.fixedpoint import FLOAT_MAX, activation_range, require_activation, type_range
from litejit.ops.window import Span, Window2D, window_of
from litejit.record import replace
from litejit.types import F32, I8, I16, U8, Array, DType

_INTEGERS = (I8, U8, I16)
SMALL_WINDOW = 1 << 15  # cells whose int16 sums cannot leave int32


def _along(x: Array, axis: int, part: slice) -> Array:
    return x[(slice(None),) * axis + (part,)]


def combine_windows(x: Array, span: Span, axis: int, combine: Any, start: Any) -> Array:
    """Combine the cells of every window along one axis with a ufunc; outside cells are left out.

    Loops over filter positions or over outputs, whichever are fewer.
    """
    shape = (*x.shape[:axis], span.out, *x.shape[axis + 1 :])
    result = np.full(shape, start, x.dtype)
    if span.filter <= span.out:
        for tap in range(span.filter):
            first, stop = span.valid(tap)
            if first < stop:
                cell = first * span.stride + tap * span.dilation - span.before
                last = cell + (stop - first - 1) * span.stride + 1
                seen = _along(x, axis, slice(cell, last, span.stride))
                place = _along(result, axis, slice(first, stop))
                combine(place, seen, out=place)
        return result
    for output in range(span.out):
        cells = span.inside(output)
        part = _along(x, axis, slice(cells.start, cells.stop, cells.step))
        _along(result, axis, slice(output, output + 1))[...] = combine.reduce(
            part, axis=axis, keepdims=True, initial=start
        )
    return result


def _combine(x: Array, window: Window2D, combine: Any, start: Any) -> Array:
    rows = combine_windows(x, window.rows, 1, combine, start)
    return combine_windows(rows, window.columns, 2, combine, start)


def _counts(window: Window2D) -> Array:
    """Cells inside the image for every output, [1, out_h, out_w, 1]."""
    both: Array = window.rows.counts()[:, None] * window.columns.counts()[None, :]
    return both[None, :, :, None]


class _Pool(Op):
    """What the three operators share: options, checks, shape."""

    options = Pool2DOptions
    types: tuple[DType, ...] = (F32, *_INTEGERS)

    def infer(self, node: Node) -> Types:
        """Check operand and window; [batch, out_h, out_w, channels]."""
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, self.types, "input")
        node.require_dtype(y, (x.dtype,), "output")
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.shape}")
        require_activation(node, y, node.options.activation)
        window = window_of(node)
        for s, axis in ((window.rows, "height"), (window.columns, "width")):
            ok = s.out == 0 or (s.inside(0) and s.inside(s.out - 1))
            node.require(ok, f"a window along {axis} holds no cell of the input {x.shape}")
        shape = (window.batch, window.out_h, window.out_w, window.channels)
        return [y.with_shape(shape)]

    @staticmethod
    def _limits(node: Node) -> tuple[Any, Any]:
        return activation_range(node.output(0), node.options.activation)

    def _lower(self, node: Node, steps: Lowering, what: str) -> None:
        """Rows of the output as work items; a row's windows are combined downwards first."""
        x, w = node.input(0), window_of(node)
        low, high = self._limits(node)
        cells = w.filter_h * w.filter_w
        if 0 in node.output(0).dims or (what == "mean" and cells > SMALL_WINDOW):
            return
        if cells == w.stride_h == w.stride_w == 1 and x.dtype != F32:
            low_end, high_end = type_range(x.dtype)
            if (low, high) == (low_end, high_end):
                steps.alias(0, 0)
                return
        source = steps.inputs[0]
        assert source is not None
        call_pool(steps, what, x.dtype, w, (low, high), source, steps.outputs[0])


def call_pool(
    steps: Lowering, what: str, dtype: DType, w: Window2D, limits: tuple[Any, Any],
    source: Operand, target: Operand,
) -> None:  # fmt: skip
    """One call of the kernel; `what` is its word."""
    if w.filter_w == w.stride_w == 1 and not w.left:  # a line is one long pixel
        w = replace(w, channels=w.in_w * w.channels, in_w=1, out_w=1)
    spec = PoolSpec(what, dtype)
    row = w.in_w * w.channels
    lanes = row_lanes(spec, steps.isa)
    nbytes = 4 * (row + 4 * lanes)
    vectors = w.filter_h * -(-row // lanes) + w.out_w * w.filter_w * -(-w.channels // lanes)
    scratch = steps.scratch(nbytes)
    steps.call(
        spec,
        *(source, target, scratch, -(-nbytes // 64) * 64),
        *(w.in_h, w.in_w, w.channels, w.out_h, w.out_w),
        *(w.filter_h, w.filter_w, w.stride_h, w.stride_w, w.top, w.left),
        *limits,
        items=w.batch * w.out_h,
        cost_ns=0.5 * w.batch * w.out_h * (vectors + 4 * w.out_w),
    )


@builtin("AVERAGE_POOL_2D", versions=range(1, 4))
class AveragePool2D(_Pool):
    """y[n, i, j, c] = act(mean of the part of window (i, j) that lies inside x).

    f32 | u8 | i8 | i16; integer means round half away from zero and are not rescaled.
    Source: LiteRT tflite/kernels/pooling.cc, internal/reference/integer_ops/pooling.h.
    """

    def reference(self, node: Node, x: Array) -> Array:
        """Sums down, then across, divided by the number of cells."""
        window, count = window_of(node), _counts(window_of(node))
        low, high = self._limits(node)
        with np.errstate(all="ignore"):
            if x.dtype == np.float32:
                mean = _combine(x, window, np.add, 0) / count.astype(np.float32)
                return np.clip(mean, np.float32(low), np.float32(high)).astype(np.float32)
            total = _combine(x.astype(np.int64), window, np.add, 0)
            mean = np.sign(total) * ((np.abs(total) + count // 2) // count)
            result: Array = np.clip(mean, low, high).astype(x.dtype)
            return result

    def lower(self, node: Node, steps: Lowering) -> None:
        """One kernel a type."""
        self._lower(node, steps, "mean")


@builtin("MAX_POOL_2D", versions=range(1, 4))
class MaxPool2D(_Pool):
    """y[n, i, j, c] = act(maximum of the part of window (i, j) that lies inside x).

    f32 | u8 | i8 | i16. NaN counts as the smallest float.
    Source: LiteRT tflite/kernels/pooling.cc, internal/reference/pooling.h.
    """

    def reference(self, node: Node, x: Array) -> Array:
        """Maxima down, then across."""
        low, high = self._limits(node)
        combine: Any = np.maximum
        start: Any = np.iinfo(x.dtype).min if x.dtype != np.float32 else np.float32(-FLOAT_MAX)
        if x.dtype == np.float32:
            combine, low, high = np.fmax, np.float32(low), np.float32(high)
        result: Array = np.clip(_combine(x, window_of(node), combine, start), low, high)
        return result.astype(x.dtype, copy=False)

    def lower(self, node: Node, steps: Lowering) -> None:
        """One kernel a type."""
        self._lower(node, steps, "max")


@builtin("L2_POOL_2D")
class L2Pool2D(_Pool):
    """y[n, i, j, c] = act(sqrt(mean of squares of the part of window (i, j) inside x)). f32.

    Source: LiteRT tflite/kernels/pooling.cc, internal/reference/pooling.h.
    """

    types = (F32,)

    def reference(self, node: Node, x: Array) -> Array:
        """Sums of squares down, then across."""
        window = window_of(node)
        low, high = self._limits(node)
        with np.errstate(all="ignore"):
            total = _combine(x * x, window, np.add, 0) / _counts(window).astype(np.float32)
            return np.clip(np.sqrt(total), np.float32(low), np.float32(high)).astype(np.float32)

    def lower(self, node: Node, steps: Lowering) -> None:
        """The kernel of means, on squares."""
        self._lower(node, steps, "l2")
