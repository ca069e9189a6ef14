"""f32 convolution with any window, as a matrix product that reads its rows straight from the image.

A tile is a run of outputs beside each other in one row. Their windows lie at one pitch, so a
row of the window is a product with `k` = kernel_w * channels numbers in a row (or `channels`,
tap by tap, where columns are dilated or channels grouped). Rows of the window outside the image
are not visited. A tile whose windows reach past the left or right border first copies its part
of the image, with zeros around, into scratch: nothing else is ever copied.
"""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i64
from litejit.kernels.base import KernelSpec
from litejit.kernels.depthwise_f32 import clip
from litejit.kernels.epilogue_f32 import Epilogue
from litejit.kernels.gemm_f32 import Tile, add_bias, multiply, start_sums, store_tile

_POINTERS = dict.fromkeys(("x", "w", "bias", "y", "residual", "scratch"), Ptr(f32))
_OUTSIDE = ("scratch_stride", "h", "wd", "ch", "oh", "ow", "n", "y_pixel", "y_row", "y_image")
_WINDOW = ("kh", "sh", "sw", "top", "left", "dh", "span", "taps", "tap_step", "run")
_ITEM = ("rows", "tiles", "panels", "segments", "across")


class ConvF32(KernelSpec):
    """y[b, oy, ox, n] = epilogue(sum of x w + bias[n]); a tile is no wider than the output.

    Arguments: x, w (panels of [kh * kw * c][columns]), bias (whole panels), y, residual,
    scratch and its stride in floats; height, width, channels (of x; `run` tells how many of
    them are read); output height and width, n; pitches of y from pixel to pixel, row to row,
    image to image; kernel height, strides (h, w), rows missing on top, columns on the left,
    dilation of rows; columns that a window spans; taps of a window's row, floats from one to
    the next and how many of each are read; an item's output rows, tiles of a row and panels;
    items along a row, items across the panels.
    Items: (batch, rows, part of a row, panels), the last fastest.
    """

    tile: Tile
    masked: bool = False
    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        sizes = dict.fromkeys(_OUTSIDE + _WINDOW + _ITEM, i64)
        fn = Function(name, isa, **_POINTERS, **sizes)
        at = _Operands(self, fn)
        rows, tiles, panels, segments, across = fn.args[26:]
        outputs, columns = self.tile.rows, self.tile.columns(isa)
        row_items = (at.oh + rows - 1) / rows
        all_panels = (at.n + (columns - 1)) / columns
        with fn.loop(fn.end, start=fn.begin) as item:
            part = item / across
            line = part / segments
            batch = line / row_items
            oy0 = (line - batch * row_items) * rows
            ox0 = (part - line * segments) * tiles * outputs
            ox1 = fn.minimum(ox0 + tiles * outputs, at.ow)
            p0 = (item - part * across) * panels
            p1 = fn.minimum(p0 + panels, all_panels)
            with fn.loop(fn.minimum(oy0 + rows, at.oh), start=oy0) as oy:
                iy = oy * at.sh - at.top
                taps = clip(fn, iy, at.dh, at.h, at.kh)
                with fn.loop(ox1, start=ox0, step=outputs) as ox_:
                    ox = fn.minimum(ox_, at.ow - outputs)
                    source, step = at.find(batch, iy, ox, taps)
                    out = batch * at.y_image + oy * at.y_row + ox * at.y_pixel
                    with fn.loop(p1, start=p0) as p:
                        at.compute(source, step, taps, p, out + p * columns)
        return fn.ir()


class _Operands:
    """The arguments of a convolution, and what a tile does with them."""

    def __init__(self, spec: ConvF32, fn: Function) -> None:
        self.spec, self.fn = spec, fn
        self.x, self.w, self.bias, self.y, self.residual, scratch, stride = fn.args[:7]
        self.h, self.wd, self.ch, self.oh, self.ow, self.n = fn.args[7:13]
        self.y_pixel, self.y_row, self.y_image = fn.args[13:16]
        self.kh, self.sh, self.sw, self.top, self.left, self.dh = fn.args[16:22]
        self.span, self.taps, self.tap_step, self.run = fn.args[22:26]
        self.patch, self.pitch = scratch + fn.worker * stride, self.wd * self.ch
        # what a tile reads of a row; what it leaves out of the last pixel of grouped channels
        self.width = (self.sw * (spec.tile.rows - 1) + self.span) * self.ch
        self.unread = self.ch - fn.minimum(self.ch, self.run)

    def find(
        self, batch: Value, iy: Value, ox: Value, taps: tuple[Value, Value]
    ) -> tuple[Pointer, Value]:
        """Where the windows of a tile begin, and the pitch of their rows: image or patch."""
        fn = self.fn
        image = self.x + batch * self.h * self.pitch
        start = (ox * self.sw - self.left) * self.ch
        outside = (start < 0) | (start + self.width > self.pitch)
        with fn.when(outside), fn.loop(taps[1], start=taps[0]) as ky:
            row = image + (iy + ky * self.dh) * self.pitch
            to = self.patch + ky * self.width
            copy_padded(fn, row, to, start, self.width, self.pitch, self.unread)
        source = outside.choose_pointer(self.patch, image + iy * self.pitch + start)
        return source, outside.choose(self.width, self.dh * self.pitch)

    def compute(
        self, source: Pointer, step: Value, rows: tuple[Value, Value], p: Value, out: Value
    ) -> None:
        """One tile of one panel."""
        fn, tile = self.fn, self.spec.tile
        columns = tile.columns(fn.isa)
        panel = self.w + p * (self.kh * self.taps * self.run * columns)
        sums = start_sums(fn, tile, self.bias + p * columns)
        rows_of_window = fn.loop(rows[1], start=rows[0], carry=sums)
        with rows_of_window as ky, fn.loop(self.taps, carry=sums) as tap:
            at = source + ky * step + tap * self.tap_step
            sources = [at + self.sw * self.ch * r for r in range(tile.rows)]
            weights = panel + (ky * self.taps + tap) * self.run * columns
            multiply(fn, sums, sources, weights, self.run, x_k=1, w_k=columns)
        add_bias(fn, sums, self.bias + p * columns)
        y, residual, left_over = self.y + out, self.residual + out, self.n - p * columns
        store_tile(self.spec, fn, sums, y, residual, self.y_pixel, left_over)


def copy_padded(
    fn: Function, row: Pointer, to: Pointer, start: Value, width: Value, pitch: Value,
    unread: Value,
) -> None:  # fmt: skip
    """to[i] = row[start + i] where 0 <= start + i < pitch, else 0, for i < width.

    Every part is written in whole vectors, in order, so that what runs past its end is written
    again by the next part, or lies in the slack behind the last row.
    """
    lanes = fn.isa.lanes(f32)
    zero = fn.const(0.0, f32 * lanes)
    first = fn.minimum(fn.maximum(0 - start, 0), width)
    last = fn.maximum(fn.minimum(pitch - start, width), first)
    with fn.loop(first, step=lanes) as i:
        to.store(i, zero)
    with fn.loop(last - unread, start=first, step=lanes) as i:
        to.store(i, (row + start).load(i, lanes=lanes))
    with fn.loop(width, start=last, step=lanes) as i:
        to.store(i, zero)


def scratch_floats(kernel_h: int, span: int, stride_w: int, channels: int, tile: Tile) -> int:
    """Floats of scratch that one thread needs: the copied part of the image, and slack."""
    return kernel_h * ((tile.rows - 1) * stride_w + span) * channels + 64
