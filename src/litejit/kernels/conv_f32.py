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
from litejit.kernels.gemm_f32 import Tile, multiply, start_sums, store_tile


class ConvF32(KernelSpec):
    """y[b, oy, ox, n] = epilogue(sum of x w + bias[n]); a tile is no wider than the output.

    Arguments: x, w (panels of [kh * kw * c][columns]), bias (whole panels), y, residual,
    scratch and its stride in floats; height, width, channels (of x; `c` of them are read);
    output height and width, n; pitches of y from pixel to pixel, row to row, image to image;
    kernel height, strides (h, w), rows missing on
    top, columns on the left, dilation of rows; columns that a window spans; taps of a window's
    row, floats from one to the next and how many of each are read; output rows an item, panels
    an item, items across the panels.
    Items: (batch, rows, panels), the last fastest.
    """

    tile: Tile
    masked: bool = False
    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        sizes = ["scratch_stride", "h", "wd", "ch", "oh", "ow", "n"]
        sizes += [
            "y_pixel",
            "y_row",
            "y_image",
            "kh",
            "sh",
            "sw",
            "top",
            "left",
            "dh",
            "span",
            "taps",
            "tap_step",
            "run",
        ]
        sizes += ["rows", "panels", "across"]
        pointers = dict.fromkeys(("x", "w", "bias", "y", "residual", "scratch"), Ptr(f32))
        fn = Function(name, isa, **pointers, **dict.fromkeys(sizes, i64))
        x, w, bias, y, residual, scratch, scratch_stride = fn.args[:7]
        h, wd, ch, oh, ow, n, y_pixel, y_row, y_image = fn.args[7:16]
        kh, sh, sw, top, left, dh, span, taps, tap_step, run, rows, panels, across = fn.args[16:]
        outputs, columns = self.tile.rows, self.tile.columns(isa)
        patch, pitch = scratch + fn.worker * scratch_stride, wd * ch
        width = (sw * (outputs - 1) + span) * ch  # of the part of a row that a tile reads
        unread = ch - fn.minimum(ch, run)  # of the last column, if channels are grouped
        row_items = (oh + rows - 1) / rows
        all_panels = (n + (columns - 1)) / columns
        with fn.loop(fn.end, start=fn.begin) as item:
            line = item / across
            batch = line / row_items
            oy0 = (line - batch * row_items) * rows
            image = x + batch * h * pitch
            p0 = (item - line * across) * panels
            p1 = fn.minimum(p0 + panels, all_panels)
            with fn.loop(fn.minimum(oy0 + rows, oh), start=oy0) as oy:
                iy0 = oy * sh - top
                ky0, ky1 = clip(fn, iy0, dh, h, kh)
                with fn.loop(ow, step=outputs) as ox_:
                    ox = fn.minimum(ox_, ow - outputs)
                    start = (ox * sw - left) * ch
                    inside = image + iy0 * pitch + start
                    outside = (start < 0) | (start + width > pitch)
                    with fn.when(outside), fn.loop(ky1, start=ky0) as ky:
                        row = image + (iy0 + ky * dh) * pitch
                        copy_padded(fn, row, patch + ky * width, start, width, pitch, unread)
                    source = outside.choose_pointer(patch, inside)
                    step = outside.choose(width, dh * pitch)
                    out = batch * y_image + oy * y_row + ox * y_pixel
                    with fn.loop(p1, start=p0) as p:
                        panel = w + p * (kh * taps * run * columns)
                        sums = start_sums(fn, self.tile, bias + p * columns)
                        rows_of_window = fn.loop(ky1, start=ky0, carry=sums)
                        with rows_of_window as ky, fn.loop(taps, carry=sums) as tap:
                            at = source + ky * step + tap * tap_step
                            sources = [at + sw * ch * r for r in range(outputs)]
                            weights = panel + (ky * taps + tap) * run * columns
                            multiply(fn, sums, sources, weights, run, x_k=1, w_k=columns)
                        at = out + p * columns
                        left_over = n - p * columns
                        store_tile(self, fn, sums, y + at, residual + at, y_pixel, left_over)
        return fn.ir()


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
