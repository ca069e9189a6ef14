"""f32 convolution with three taps in a row, stride 1, by F(4, 3): 6 products for 4 outputs.

Layers of temporal convolutions: the taps may lie `dilation` columns apart, and a tile is 4
outputs as far apart. Points and transforms are those of kernels/winograd, along one axis.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Value, f32, i64, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_f32 import Epilogue, finish
from litejit.kernels.gemm_f32 import F32Array, Tile, multiply, pack_panels
from litejit.kernels.winograd import half, opaque, outputs, points_matrix, round_up

PLANES, OUT = 6, 4
_SIZES = (
    *("stride", "wd", "ch", "ow", "n", "left", "dilation"),
    *("per_phase", "per_line", "tiles", "block"),
)


def transform_weights(w: F32Array, columns: int) -> F32Array:
    """[3, C, N] -> panels of the 6 planes G w: [6][panels][C][columns]."""
    planes = np.tensordot(points_matrix(), w.astype(np.float64), (1, 0))
    return np.stack([pack_panels(plane.astype(np.float32), columns) for plane in planes])


def scratch_floats(isa: Isa, tile: Tile, channels: int, n: int, block: int) -> int:
    """Floats of scratch that one thread needs for blocks of `block` tiles."""
    lanes, columns = isa.lanes(f32), tile.columns(isa)
    wide = -(-channels // lanes) * lanes + -(-n // columns) * columns
    return PLANES * (block * wide + 32) + n + lanes


class WinogradRowF32(KernelSpec):
    """y[l, o, n] = epilogue(sum over k < 3 of x[l, o + k * dilation - left] w[k] + bias).

    Arguments: x, w (`transform_weights`), bias (whole panels), y, residual, zeros (a pixel of
    x), scratch; its stride in floats, width and channels of x, width and channels of y, columns
    missing on the left, dilation; tiles of one phase of the dilation, of one line, of all lines,
    of a block (at least tile.rows). Items: blocks of tiles.
    """

    tile: Tile
    masked: bool = False
    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        pointers = dict.fromkeys(("x", "w", "bias", "y", "residual", "zeros", "scratch"), Ptr(f32))
        fn = Function(name, isa, **pointers, **dict.fromkeys(_SIZES, i64))
        block = _Block(self, fn)
        with fn.loop(fn.end, start=fn.begin) as item:
            first = item * block.size
            count = fn.minimum(block.tiles - first, block.size)
            block.transform_inputs(first, count)
            block.multiply_planes(count)
            block.transform_outputs(first, count)
        return fn.ir()


class _Block:
    """The three stages of a block of tiles, and where its scratch lies."""

    def __init__(self, spec: WinogradRowF32, fn: Function) -> None:
        self.spec, self.fn, self.lanes = spec, fn, fn.isa.lanes(f32)
        self.x, self.w, self.bias, self.y, self.residual, self.zeros, scratch = fn.args[:7]
        stride, self.wd, self.ch, self.ow, self.n, self.left, self.dilation = fn.args[7:14]
        self.per_phase, self.per_line, self.tiles, self.size = fn.args[14:]
        self.ch_wide = round_up(self.ch, self.lanes)
        self.n_wide = round_up(self.n, spec.tile.columns(fn.isa))
        self.v_plane = self.size * self.ch_wide + 16
        self.m_plane = self.size * self.n_wide + 16
        self.v = scratch + fn.worker * stride
        self.m = self.v + self.v_plane * PLANES
        self.dump = self.m + self.m_plane * PLANES

    def _place(self, tile: Value) -> tuple[Value, Value]:
        """Line and first output of a tile; the others are `dilation` apart."""
        line = tile / self.per_line
        inside = tile - line * self.per_line
        phase = inside / self.per_phase
        return line, phase + (inside - phase * self.per_phase) * self.dilation * OUT

    def transform_inputs(self, first: Value, count: Value) -> None:
        fn, lanes = self.fn, self.lanes
        with fn.loop(count, nonempty=True) as t:
            line, ox = self._place(first + t)
            image = self.x + line * self.wd * self.ch
            pixels = []
            for i in range(PLANES):
                ix = ox - self.left + self.dilation * i
                inside = ix.to(u64) < self.wd.to(u64)
                pixels.append(inside.choose_pointer(image + ix * self.ch, self.zeros))
            with fn.loop(self.ch, step=lanes, nonempty=True) as c:
                d = [pixel.load(c, lanes=lanes) for pixel in pixels]
                out = opaque(self.v + t * self.ch_wide + c)
                for j, value in enumerate(half(fn, d, second=False) + half(fn, d, second=True)):
                    out.store(self.v_plane * j, value)

    def multiply_planes(self, count: Value) -> None:
        fn, tile, lanes = self.fn, self.spec.tile, self.lanes
        columns = tile.columns(fn.isa)
        zero = fn.const(0.0, f32 * lanes)
        with (
            fn.loop(PLANES, nonempty=True) as plane,
            fn.loop(self.n_wide, step=columns, nonempty=True) as column,
        ):
            panel = self.w + (plane * self.n_wide + column) * self.ch
            a, out = self.v + self.v_plane * plane, self.m + self.m_plane * plane + column
            with fn.loop(count, step=tile.rows, nonempty=True) as row0:
                # below tile.rows tiles: rows that nobody reads
                row = fn.maximum(fn.minimum(row0, count - tile.rows), 0)
                sources = [a + (row + r) * self.ch_wide for r in range(tile.rows)]
                sums = [[zero] * tile.vectors for _ in range(tile.rows)]
                multiply(fn, sums, sources, panel, self.ch, x_k=1, w_k=columns)
                for r, line in enumerate(sums):
                    for v, value in enumerate(line):
                        out.store((row + r) * self.n_wide + v * lanes, value)

    def transform_outputs(self, first: Value, count: Value) -> None:
        fn, lanes, n = self.fn, self.lanes, self.n
        with fn.loop(count, nonempty=True) as t:
            line, ox = self._place(first + t)
            outs, residuals = [], []
            for i in range(OUT):
                at = ox + self.dilation * i
                there, place = at < self.ow, (line * self.ow + at) * n
                outs.append(there.choose_pointer(self.y + place, self.dump))
                residuals.append(there.choose_pointer(self.residual + place, self.residual))
            source = self.m + t * self.n_wide
            with fn.loop(n, step=lanes, nonempty=True) as c:
                mask = fn.first(n - c, lanes) if self.spec.masked else None
                here = opaque(source + c)
                planes = [here.load(self.m_plane * j, lanes=lanes) for j in range(PLANES)]
                bias = self.bias.load(c, lanes=lanes)
                for value, out, beside in zip(outputs(fn, planes), outs, residuals, strict=True):
                    other = partial(beside.load, c, lanes=lanes, mask=mask)
                    done = finish(fn, self.spec.epilogue, value + bias, other)
                    out.store(c, done, mask=mask)
