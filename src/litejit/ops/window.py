"""Windows that move over images (NHWC): sizes and paddings, in one place.

out = ceil(in / stride) with SAME padding, floor((in + stride - reach) / stride) with VALID, where
reach = (filter - 1) * dilation + 1. What SAME pads in all is split in halves; the odd cell goes
behind. Source: LiteRT tflite/kernels/padding.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.model.options import Padding
from litejit.ops.base import Node
from litejit.record import Record
from litejit.types import Array

LARGEST = (1 << 31) - 1


class Span(Record):
    """One axis of a window: sizes, step, and the cells that are padded before and behind.

    `after` is how far the last window reaches past the end; it is 0 where it ends inside.
    """

    size: int
    out: int
    filter: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def reach(self) -> int:
        """Cells from a window's first to its last, both included."""
        return (self.filter - 1) * self.dilation + 1

    def valid(self, tap: int) -> tuple[int, int]:
        """Outputs [start, stop) for which filter position `tap` lies inside the image."""
        offset = tap * self.dilation - self.before
        start = min(max(-(offset // self.stride), 0), self.out)
        stop = min(max((self.size - 1 - offset) // self.stride + 1, start), self.out)
        return start, stop

    def counts(self) -> Array:
        """For each output the number of filter positions that lie inside the image."""
        return np.array([len(self.inside(i)) for i in range(self.out)], np.int64)

    def inside(self, output: int) -> range:
        """Cells of the image that lie in the window of `output`."""
        first = output * self.stride - self.before
        skipped = -(min(first, 0) // self.dilation)
        stop = min(first + self.reach, self.size)
        return range(first + skipped * self.dilation, max(stop, 0), self.dilation)


class Window2D(Record):
    """A window over an image; `bottom` and `right` are 0 where the last window ends inside.

    Sizes are those of the operands as stored: where a PAD was fused in front, `in_h` and `in_w`
    are the sizes before it, and its cells are part of the paddings.
    """

    batch: int
    in_h: int
    in_w: int
    channels: int
    out_h: int
    out_w: int
    filter_h: int
    filter_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> Span:
        """The vertical axis."""
        return Span(
            *(self.in_h, self.out_h, self.filter_h, self.stride_h),
            *(self.dilation_h, self.top, self.bottom),
        )

    @property
    def columns(self) -> Span:
        """The horizontal axis."""
        return Span(
            *(self.in_w, self.out_w, self.filter_w, self.stride_w),
            *(self.dilation_w, self.left, self.right),
        )

    @property
    def is_padded(self) -> bool:
        """True where some window hangs over an edge."""
        return bool(self.top or self.left or self.bottom or self.right)

    @property
    def is_pointwise(self) -> bool:
        """True for a 1 x 1 filter that visits every pixel."""
        return (
            self.filter_h == self.filter_w == self.stride_h == self.stride_w == 1
            and not self.is_padded
        )


def span(node: Node, size: int, filter: int, stride: int, dilation: int, axis: str) -> Span:
    """One axis of a window with the padding that the node's options name.

    Refuses filters, strides and dilations that are not positive, and windows that do not fit.
    """
    node.require(stride > 0, f"stride along {axis} is {stride}, expected at least 1")
    node.require(dilation > 0, f"dilation along {axis} is {dilation}, expected at least 1")
    node.require(filter > 0, f"filter is {filter} along {axis}, expected at least 1")
    padding = node.options.padding
    known = padding in (Padding.SAME, Padding.VALID)
    node.require(known, f"padding {padding} is neither SAME nor VALID")
    reach = (filter - 1) * dilation + 1
    if padding == Padding.SAME:
        out = -(-size // stride)
    else:
        node.require(
            size + stride >= reach,
            f"the window reaches over {reach} cells along {axis}, the input has {size}",
        )
        out = (size + stride - reach) // stride
    total = max((out - 1) * stride + reach - size, 0)
    fits = max(total, reach) <= LARGEST // 2
    node.require(fits, f"the window along {axis} is too large: it reaches over {reach} cells")
    return Span(size, out, filter, stride, dilation, total // 2, total - total // 2)


def _fused_padding(node: Node) -> tuple[int, int]:
    """(rows, columns) that a fused PAD puts in front of the image."""
    before = node.before
    if before is None:
        return 0, 0
    value = before.input(1).value
    assert value is not None  # fuses_before takes constant paddings only
    return int(value[1, 0]), int(value[2, 0])


def window_2d(
    node: Node, filter: tuple[int, int], *, dilation: tuple[int, int] = (1, 1)
) -> Window2D:
    """The window of `node` over its input 0, with a PAD that was fused in front counted in."""
    core = node.core
    batch, padded_h, padded_w, channels = core.input(0).dims
    o = core.options
    rows = span(core, padded_h, filter[0], o.stride_h, dilation[0], "height")
    columns = span(core, padded_w, filter[1], o.stride_w, dilation[1], "width")
    top, left = _fused_padding(node)
    _, in_h, in_w, _ = node.input(0).dims
    top, left = top + rows.before, left + columns.before
    reach_h = (rows.out - 1) * rows.stride + rows.reach
    reach_w = (columns.out - 1) * columns.stride + columns.reach
    return Window2D(
        *(batch, in_h, in_w, channels, rows.out, columns.out),
        *(filter[0], filter[1], rows.stride, columns.stride, dilation[0], dilation[1]),
        *(top, left, max(reach_h - top - in_h, 0), max(reach_w - left - in_w, 0)),
    )


def window_of(node: Node) -> Window2D:
    """The window of a CONV_2D or DEPTHWISE_CONV_2D node (filter [., h, w, .]) or a pooling one."""
    core = node.core
    o: Any = core.options
    if hasattr(o, "filter_height"):
        return window_2d(node, (o.filter_height, o.filter_width))
    _, filter_h, filter_w, _ = core.input(1).dims
    return window_2d(
        node, (filter_h, filter_w), dilation=(o.dilation_h_factor, o.dilation_w_factor)
    )


def padded(x: Array, window: Window2D, fill: Any) -> Array:
    """The image with the cells that windows visit outside of it set to `fill`.

    Returns x itself where no window hangs over an edge.
    """
    if not window.is_padded:
        return x
    sides = ((0, 0), (window.top, window.bottom), (window.left, window.right), (0, 0))
    return np.pad(x, sides, constant_values=fill)


def taps(x: Array, window: Window2D, i: int, j: int, *, start: int, stop: int) -> Array:
    """View of a padded image: what filter position (i, j) sees from output rows [start, stop)."""
    left = j * window.dilation_w
    top = start * window.stride_h + i * window.dilation_h
    bottom = top + (stop - 1 - start) * window.stride_h + 1
    right = left + (window.out_w - 1) * window.stride_w + 1
    return x[:, top : bottom : window.stride_h, left : right : window.stride_w]
