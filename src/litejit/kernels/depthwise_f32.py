"""f32 depthwise convolution: y[oy, ox, c] = epilogue(sum x[iy, ix, c] w[ky, kx, c] + bias[c]).

`DepthwiseRollF32` walks along the columns with one vector of channels: every input column is
loaded once and added to all the outputs that use it, whose sums roll along as loop carries.
Missing columns are never added, missing rows are read from a row of zeros, so there is neither
a padded copy nor a test inside. `DepthwiseF32` takes any window, dilated ones included.
"""

from __future__ import annotations

from functools import partial

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i64, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_f32 import Epilogue, finish

_POINTERS = dict.fromkeys(("x", "w", "bias", "y", "residual", "zeros"), Ptr(f32))


class DepthwiseRollF32(KernelSpec):
    """A window without dilation, `rows` output rows at a time.

    `pad_left` columns are missing before the first one and `missing_right` after the last one
    that the last output reads; the width is at least `kernel_w`, and pad_left at most
    kernel_w - stride_w. Arguments: x, w [kh, kw, c], bias, y, residual, zeros (a row of x);
    height, width, channels, output height and width, rows missing on top; blocks of channels
    an item, items across the channels. `masked`: channels are fewer than lanes.
    Items: (batch, group of rows, blocks of channels), the last fastest.
    """

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_left: int
    missing_right: int
    rows: int
    masked: bool = False
    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        sizes = ("h", "wd", "ch", "oh", "ow", "top", "blocks", "across")
        fn = Function(name, isa, **_POINTERS, **dict.fromkeys(sizes, i64))
        x, w, bias, y, residual, zeros, h, wd, ch, oh, ow, top, blocks, across = fn.args
        lanes, rows = isa.lanes(f32), self.rows
        groups = (oh + (rows - 1)) / rows
        with fn.loop(fn.end, start=fn.begin) as item:
            line = item / across
            batch = line / groups
            row0 = fn.minimum((line - batch * groups) * rows, oh - rows)
            image = x + batch * h * wd * ch
            inputs = [
                _row(row0 * self.stride_h - top + r, h, image, wd * ch, zeros)
                for r in range((rows - 1) * self.stride_h + self.kernel_h)
            ]
            shift = (batch * oh + row0) * ow * ch
            start = (item - line * across) * blocks * lanes
            with fn.loop(fn.minimum(ch, start + blocks * lanes), start=start, step=lanes) as at:
                c = at if self.masked else fn.minimum(at, ch - lanes)
                weights = [
                    [(w + ch * (ky * self.kernel_w + kx) + c).load(lanes=lanes)
                     for kx in range(self.kernel_w)]
                    for ky in range(self.kernel_h)
                ]  # fmt: skip
                walk = _Walk(
                    self, fn, [p + c for p in inputs], weights, (bias + c).load(lanes=lanes),
                    [y + shift + ow * ch * o + c for o in range(rows)],
                    [residual + shift + ow * ch * o + c for o in range(rows)], ch,
                )  # fmt: skip
                walk.emit(ow)
        return fn.ir()


def _row(iy: Value, h: Value, image: Pointer, pitch: Value, zeros: Pointer) -> Pointer:
    return (iy.to(u64) < h.to(u64)).choose_pointer(image + iy * pitch, zeros)


class _Walk:
    """One walk along the columns: the sums of the outputs that are under way."""

    def __init__(
        self, spec: DepthwiseRollF32, fn: Function, inputs: list[Pointer],
        weights: list[list[Value]], bias: Value, outs: list[Pointer], residuals: list[Pointer],
        ch: Value,
    ) -> None:  # fmt: skip
        self.spec, self.fn, self.inputs, self.weights = spec, fn, inputs, weights
        self.bias, self.outs, self.residuals, self.ch = bias, outs, residuals, ch
        self.mask = fn.first(ch, bias.type.lanes) if spec.masked else None
        under_way = -(-spec.kernel_w // spec.stride_w)
        self.sums = [[bias] * spec.rows for _ in range(under_way)]

    def emit(self, ow: Value) -> None:
        spec, fn = self.spec, self.fn
        fresh = max(spec.kernel_w - spec.stride_w, 0)  # older columns belong to the output before
        for j in range(spec.pad_left, fresh):
            self._add_column(j, fn.const(0, i64))
        tails = -(-max(spec.missing_right, 0) // spec.stride_w)
        with fn.loop(ow - tails, carry=self.sums) as ox:
            for j in range(fresh, spec.kernel_w):
                self._add_column(j, ox)
            self._finish(ox)
        for t in reversed(range(tails)):
            there = spec.kernel_w - spec.missing_right + t * spec.stride_w
            for j in range(fresh, min(spec.kernel_w, there)):
                self._add_column(j, ow - (1 + t))
            self._finish(ow - (1 + t))

    def _add_column(self, j: int, ox: Value) -> None:
        """Column j of the window of output ox, for that output and those after it."""
        spec, fn = self.spec, self.fn
        column = (ox * spec.stride_w + (j - spec.pad_left)) * self.ch
        data = [p.load(column, lanes=self.bias.type.lanes) for p in self.inputs]
        for q, sums in enumerate(self.sums):
            kx = j - q * spec.stride_w
            if not 0 <= kx < spec.kernel_w:
                continue
            for ky in range(spec.kernel_h):
                for o in range(spec.rows):
                    tap = data[o * spec.stride_h + ky]
                    sums[o] = fn.fma(tap, self.weights[ky][kx], sums[o])

    def _finish(self, ox: Value) -> None:
        """Store the oldest sums and start new ones."""
        at, lanes = ox * self.ch, self.bias.type.lanes
        for o, out in enumerate(self.outs):
            beside = partial(self.residuals[o].load, at, lanes=lanes, mask=self.mask)
            value = finish(self.fn, self.spec.epilogue, self.sums[0][o], beside)
            out.store(at, value, mask=self.mask)
        later = [*self.sums[1:], [self.bias] * self.spec.rows]
        for sums, following in zip(self.sums, [list(s) for s in later], strict=True):
            sums[:] = following


class DepthwiseF32(KernelSpec):
    """Any window, stride and dilation; `vectors` of channels at once, one output after another.

    Arguments: those of `DepthwiseRollF32` with `zeros` unused, then kernel height and width,
    strides, dilations (each h, w) and pad_left. Items as there, with one row a group.
    """

    vectors: int
    masked: bool = False
    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        sizes = ("h", "wd", "ch", "oh", "ow", "top", "blocks", "across")
        more = ("kh", "kw", "sh", "sw", "dh", "dw", "left")
        fn = Function(name, isa, **_POINTERS, **dict.fromkeys(sizes + more, i64))
        x, w, bias, y, residual, _, h, wd, ch, oh, ow, top, blocks, across = fn.args[:14]
        kh, kw, sh, sw, dh, dw, left = fn.args[14:]
        lanes = isa.lanes(f32)
        wide = lanes * self.vectors
        mask = fn.first(ch, lanes) if self.masked else None
        with fn.loop(fn.end, start=fn.begin) as item:
            line = item / across
            batch = line / oh
            oy = line - batch * oh
            iy0 = oy * sh - top
            ky0, ky1 = clip(fn, iy0, dh, h, kh)
            start = (item - line * across) * blocks * wide
            with fn.loop(fn.minimum(ch, start + blocks * wide), start=start, step=wide) as at:
                c = at if self.masked else fn.minimum(at, ch - wide)
                image, weights, out = x + batch * h * wd * ch + c, w + c, line * ow * ch + c
                with fn.loop(ow) as ox:
                    ix0 = ox * sw - left
                    kx0, kx1 = clip(fn, ix0, dw, wd, kw)
                    terms = [(bias + c).load(v * lanes, lanes=lanes) for v in range(self.vectors)]
                    zero = fn.const(0.0, f32 * lanes)
                    sums = [zero] * self.vectors if isa.in_order else list(terms)
                    with fn.loop(ky1, start=ky0, carry=sums) as ky:
                        row = image + (iy0 + ky * dh) * wd * ch
                        with fn.loop(kx1, start=kx0, carry=sums) as kx:
                            tap = row + (ix0 + kx * dw) * ch
                            weight = weights + (ky * kw + kx) * ch
                            for v in range(self.vectors):
                                a = tap.load(v * lanes, lanes=lanes)
                                factor = weight.load(v * lanes, lanes=lanes)
                                sums[v] = fn.multiply_add(a, factor, sums[v])
                    if isa.in_order:
                        sums = [value + term for value, term in zip(sums, terms, strict=True)]
                    for v, value in enumerate(sums):
                        place = out + ox * ch + v * lanes
                        beside = partial(residual.load, place, lanes=lanes, mask=mask)
                        y.store(place, finish(fn, self.epilogue, value, beside), mask=mask)
        return fn.ir()


def clip(
    fn: Function, start: Value, dilation: Value, size: Value, taps: Value
) -> tuple[Value, Value]:
    """The taps k, from first to before last, for which 0 <= start + k * dilation < size."""
    first = fn.maximum(0 - start + dilation - 1, 0) / dilation
    last = fn.minimum(fn.maximum(size - start + dilation - 1, 0) / dilation, taps)
    return fn.minimum(first, last), last


class RepeatChannelsF32(KernelSpec):
    """y[i, c * times + q] = x[i, c]: what a depthwise convolution with a multiplier reads.

    Arguments: x, y, channels, times. Items are positions i.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        fn = Function(name, isa, x=Ptr(f32), y=Ptr(f32), ch=i64, times=i64)
        x, y, ch, times = fn.args
        with fn.loop(fn.end * ch, start=fn.begin * ch) as i:
            value, out = x[i], y + i * times
            with fn.loop(times) as q:
                out[q] = value
        return fn.ir()
