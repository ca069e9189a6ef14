"""8-bit convolutions of images with few channels: a line of the filter is one tap.

The kernels multiply 4 bytes at a time, so that a tap of one channel wastes three of them. Where
the cells of a filter's line are neighbours, its filter_w * channels bytes are multiplied as one
tap instead. Such a tap cannot lie outside of the image in part: where windows hang over its left
or right edge, the image is copied between borders that hold the zero point. One gap is the right
border of a line and the left one of the next.
"""

from __future__ import annotations

from litejit.kernels.epilogue_int8 import Epilogue
from litejit.ops.base import Operand
from litejit.ops.blocks import copy_box
from litejit.ops.layer_int8 import Layer
from litejit.ops.product_int8 import (
    CALL_NS,
    Picked,
    Product,
    multiply,
    product_ns,
    shares_cells,
)
from litejit.ops.window import Window2D
from litejit.record import replace

_LINE_NS = 4.0  # to copy a line and to fill a gap
_COPIED_PER_NS = 16.0  # bytes
_LARGEST = 1 << 30  # bytes of an image; offsets inside one are int32


def pays(layer: Layer, window: Window2D) -> bool:
    """Is it possible, and clearly sooner than a tap for every cell of the filter?"""
    line = window.filter_w * window.channels
    now, then = window.filter_w * _padded(window.channels), _padded(line)
    hangs = max(window.left, window.right)
    # a window that lies beside the image as a whole would start behind its line
    plain = window.dilation_w == 1 and hangs < window.filter_w and then < now
    if window.in_h * (window.in_w + hangs) * window.channels >= _LARGEST:
        return False
    if not plain or not isinstance(layer.epilogue(window.channels), Epilogue):
        return False
    if shares_cells(layer, window, len(layer.numbers.bias)) and 2 * then > now:
        return False  # its products take little more than half of the time
    pixels = window.out_h * window.out_w
    units = -(-len(layer.numbers.bias) // layer.lanes) * layer.lanes
    saved = _products_ns(layer, pixels, units, window.filter_h * now) - _products_ns(
        layer, pixels, units, window.filter_h * then
    )
    return _copy_ns(window) < 0.8 * saved


def _products_ns(layer: Layer, pixels: int, units: int, depth: int) -> float:
    return product_ns(layer.isa, pixels, units, depth)


def _copy_ns(window: Window2D) -> float:
    if not window.left and not window.right:
        return 0.0
    nbytes = window.in_h * window.in_w * window.channels
    return 2 * CALL_NS + window.in_h * _LINE_NS + nbytes / _COPIED_PER_NS


def _padded(depth: int) -> int:
    return -(-depth // 4) * 4


def convolve(layer: Layer, window: Window2D, pick: Picked) -> None:
    """One product; `pick` makes the weights of all taps and channels."""
    gap, channels = max(window.left, window.right), window.channels
    data = _bordered(layer, window, gap) if gap else layer.data(0)
    width = window.in_w + gap
    lines = replace(window, in_w=width, left=0, right=0, filter_w=1)
    pick = replace(pick, in_line=window.filter_w)
    pixels = window.out_h * window.out_w
    product = Product(
        "lines", pick, window.filter_w * channels, pixels, channels, pick.units, lines,
        0, 0, window.out_w * pick.units, data,
        window.batch, window.in_h * width * channels, pixels * pick.units,
    )  # fmt: skip
    multiply(layer, product)


def _bordered(layer: Layer, window: Window2D, gap: int) -> Operand:
    """Where the first window of line 0 starts in a copy of all images.

    Lines lie `gap` pixels apart, which hold the zero point; so do those around the whole.
    """
    steps, pixel = layer.steps, window.channels
    lines, line = window.batch * window.in_h, window.in_w * pixel
    pitch = line + gap * pixel
    copy = steps.temporary(lines * pitch + gap * pixel)
    gaps = [(lines + 1, 0, pitch), (gap * pixel, 0, 1)]
    copy_box(steps, copy, layer.padding(1), gaps, 1)
    inside = [(lines, line, pitch), (line, 1, 1)]
    copy_box(steps, copy.at(gap * pixel), layer.data(0), inside, 1)
    return copy.at((gap - window.left) * pixel)
