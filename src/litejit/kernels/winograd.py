"""f32 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3): 36 products for 16 outputs, not 144.

The points are 0, +-1/sqrt(2), +-sqrt(2) and infinity (Barabasz et al., "Error Analysis and
Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020, on how points
decide the error): largest error over range of output 2e-7 .. 3e-6 with 16 .. 512 channels, less
than a running sum of the direct form, and no instruction more than the usual 0, 1, 2.

A work item is a block of 4x4 tiles: input transform to 36 planes, 36 matrix products, output
transform with bias and epilogue; all but x, weights and y stays in the thread's scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i64, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.conv_f32 import copy_padded
from litejit.kernels.epilogue_f32 import ADD, Epilogue, finish
from litejit.kernels.gemm_f32 import F32Array, Tile, multiply, pack_panels

_A, _B = 0.5**0.5, 2.0**0.5  # the points besides 0 and infinity, each with both signs
_SIDE, _OUT = 6, 4
PLANES = _SIDE * _SIDE


def points_matrix() -> NDArray[np.float64]:
    """G: six points' values of three taps."""
    a2, b2 = _A * _A, _B * _B
    points = [(0.0, a2 * b2), (_A, 2 * a2 * (a2 - b2)), (-_A, 2 * a2 * (a2 - b2))]
    points += [(_B, 2 * b2 * (b2 - a2)), (-_B, 2 * b2 * (b2 - a2))]
    return np.array([[1 / s, p / s, p * p / s] for p, s in points] + [[0, 0, 1]])


def transform_weights(w: F32Array, columns: int) -> F32Array:
    """[3, 3, C, N] -> panels of the 36 planes G w G^T: [36][panels][C][columns]."""
    g = points_matrix()
    c, n = w.shape[2:]
    # two matrix products in double precision; einsum over both at once is far slower
    rows = np.tensordot(g, w.astype(np.float64), (1, 0))
    planes = np.tensordot(g, rows, (1, 1)).transpose(1, 0, 2, 3).reshape(PLANES, c, n)
    return np.stack([pack_panels(plane.astype(np.float32), columns) for plane in planes])


def half(fn: Function, d: Sequence[Value | None], *, second: bool) -> list[Value]:
    """Rows 0..2 or 3..5 of B^T d; the first half needs no d[5], the second no d[0]."""
    v = cast("Sequence[Value]", d)
    a2, b2 = _A * _A, _B * _B

    def times(x: Value, factor: float, y: Value) -> Value:
        return fn.fma(x, fn.const(factor, x.type), y)

    if not second:
        even, odd = times(v[2], -b2, v[4]), times(v[1], -b2, v[3])
        first = times(v[0], a2 * b2, times(v[2], -(a2 + b2), v[4]))
        return [first, times(odd, _A, even), times(odd, -_A, even)]
    even, odd = times(v[2], -a2, v[4]), times(v[1], -a2, v[3])
    last = times(v[1], a2 * b2, times(v[3], -(a2 + b2), v[5]))
    return [times(odd, _B, even), times(odd, -_B, even), last]


def outputs(fn: Function, m: Sequence[Value]) -> list[Value]:
    """A^T m: six values to four."""

    def times(x: Value, factor: float, y: Value) -> Value:
        return fn.fma(x, fn.const(factor, x.type), y)

    s1, d1, s2, d2 = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [
        m[0] + s1 + s2,
        times(d2, _B, d1 * _A),
        times(s2, _B * _B, s1 * (_A * _A)),
        times(d2, _B**3, times(d1, _A**3, m[5])),
    ]


class WinogradF32(KernelSpec):
    """y = epilogue(x * w + bias), 3x3, stride 1, any padding.

    Arguments: x, w (`transform_weights`), bias (whole panels), y, residual, scratch and its
    stride in floats; height, width, channels, output height and width, n; rows missing on top,
    columns on the left; tiles in a row, tiles in an image, tiles a block (at least tile.rows).
    Items: (batch, block of tiles).
    """

    tile: Tile
    masked: bool = False
    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        pointers = dict.fromkeys(("x", "w", "bias", "y", "residual", "scratch"), Ptr(f32))
        sizes = ["stride", "h", "wd", "ch", "oh", "ow", "n", "top", "left", "across", "tiles"]
        fn = Function(name, isa, **pointers, **dict.fromkeys([*sizes, "block"], i64))
        block = _Block(self, fn)
        per_image = (block.tiles + block.size - 1) / block.size
        with fn.loop(fn.end, start=fn.begin) as item:
            batch = item / per_image
            first = (item - batch * per_image) * block.size
            count = fn.minimum(block.tiles - first, block.size)
            block.transform_inputs(batch, first, count)
            block.multiply_planes(count)
            block.transform_outputs(batch, first, count)
        return fn.ir()


class _Block:
    """The three stages of a block of tiles, and where its scratch lies."""

    def __init__(self, spec: WinogradF32, fn: Function) -> None:
        self.spec, self.fn, self.lanes = spec, fn, fn.isa.lanes(f32)
        self.x, self.w, self.bias, self.y, self.residual, scratch, stride = fn.args[:7]
        self.h, self.wd, self.ch, self.oh, self.ow, self.n = fn.args[7:13]
        self.top, self.left, self.across, self.tiles, self.size = fn.args[13:]
        columns = spec.tile.columns(fn.isa)
        self.ch_wide = round_up(self.ch, self.lanes)
        self.n_wide = round_up(self.n, columns)
        # a pitch that is a multiple of 4096 bytes would put all planes into one set of L1
        self.v_plane = self.size * self.ch_wide + 16
        self.m_plane = self.size * self.n_wide + 16
        self.v = scratch + fn.worker * stride
        self.m = self.v + self.v_plane * PLANES
        self.patch = self.m + self.m_plane * PLANES
        self.dump = self.patch + (self.ch * PLANES + 64)

    def _place(self, tile: Value) -> tuple[Value, Value]:
        """Row and column of a tile's first output."""
        row = tile / self.across
        return row * _OUT, (tile - row * self.across) * _OUT

    def transform_inputs(self, batch: Value, first: Value, count: Value) -> None:
        fn, ch, pitch = self.fn, self.ch, self.wd * self.ch
        image, width = self.x + batch * self.h * pitch, ch * _SIDE
        with fn.loop(count, nonempty=True) as t:
            oy, ox = self._place(first + t)
            iy, start = oy - self.top, (ox - self.left) * ch
            outside = (iy < 0) | (iy + _SIDE > self.h) | (start < 0) | (start + width > pitch)
            with fn.when(outside), fn.loop(_SIDE, nonempty=True) as i:
                there = (iy + i).to(u64) < self.h.to(u64)
                row = there.choose_pointer(image + (iy + i) * pitch, image)
                length = there.choose(pitch, 0)
                zero = fn.const(0, i64)
                copy_padded(fn, row, self.patch + i * width, start, width, length, zero)
            source = outside.choose_pointer(self.patch, image + iy * pitch + start)
            step = outside.choose(width, pitch)
            rows = [source + step * i for i in range(_SIDE)]
            with fn.loop(ch, step=self.lanes, nonempty=True) as c:
                # two passes over three rows each: 36 values do not fit into 32 registers
                here = [opaque(row + c) for row in rows]
                out = opaque(self.v + t * self.ch_wide + c)
                for second in (False, True):
                    self._transform_tile(here, out, second)

    def _transform_tile(self, rows: list[Pointer], out: Pointer, second: bool) -> None:
        fn = self.fn
        columns = []
        for j in range(_SIDE):
            at = self.ch * j
            d: list[Value | None] = [None] * _SIDE
            for i in range(1 if second else 0, _SIDE if second else _SIDE - 1):
                d[i] = rows[i].load(at, lanes=self.lanes)
            columns.append(half(fn, d, second=second))
        for i in range(3):
            line = [column[i] for column in columns]
            values = half(fn, line, second=False) + half(fn, line, second=True)
            for j, value in enumerate(values):
                plane = (3 * second + i) * _SIDE + j
                out.store(self.v_plane * plane, value)

    def multiply_planes(self, count: Value) -> None:
        fn, tile = self.fn, self.spec.tile
        columns = tile.columns(fn.isa)
        zero = fn.const(0.0, f32 * self.lanes)
        with fn.loop(PLANES, nonempty=True) as plane:
            a, out = self.v + self.v_plane * plane, self.m + self.m_plane * plane
            weights = self.w + plane * (self.n_wide * self.ch)
            with fn.loop(self.n_wide, step=columns, nonempty=True) as column:
                panel = weights + column * self.ch
                with fn.loop(count, step=tile.rows, nonempty=True) as row0:
                    # below tile.rows tiles: rows that nobody reads
                    row = fn.maximum(fn.minimum(row0, count - tile.rows), 0)
                    sources = [a + (row + r) * self.ch_wide for r in range(tile.rows)]
                    sums = [[zero] * tile.vectors for _ in range(tile.rows)]
                    multiply(fn, sums, sources, panel, self.ch, x_k=1, w_k=columns)
                    for r, line in enumerate(sums):
                        at = out + (row + r) * self.n_wide + column
                        for v, value in enumerate(line):
                            at.store(v * self.lanes, value)

    def transform_outputs(self, batch: Value, first: Value, count: Value) -> None:
        fn, n = self.fn, self.n
        shift = batch * self.oh * self.ow * n
        image, beside = self.y + shift, self.residual + shift
        with fn.loop(count, nonempty=True) as t:
            oy, ox = self._place(first + t)
            outs, residuals = [], []
            for i in range(_OUT):
                for j in range(_OUT):
                    there = (oy + i < self.oh) & (ox + j < self.ow)
                    at = ((oy + i) * self.ow + ox + j) * n
                    outs.append(there.choose_pointer(image + at, self.dump))
                    residuals.append(there.choose_pointer(beside + at, beside))
            source = self.m + t * self.n_wide
            with fn.loop(n, step=self.lanes, nonempty=True) as c:
                mask = fn.first(n - c, self.lanes) if self.spec.masked else None
                there = [opaque(out + c) for out in outs]
                self._finish_tile(opaque(source + c), c, there, residuals, mask)

    def _finish_tile(
        self, source: Pointer, c: Value, outs: list[Pointer], residuals: list[Pointer],
        mask: Value | None,
    ) -> None:  # fmt: skip
        fn = self.fn
        columns = []
        for j in range(_SIDE):
            planes = [
                source.load(self.m_plane * (i * _SIDE + j), lanes=self.lanes) for i in range(_SIDE)
            ]
            columns.append(outputs(fn, planes))
        bias = self.bias.load(c, lanes=self.lanes)
        for i in range(_OUT):
            for j, value in enumerate(outputs(fn, [column[i] for column in columns])):
                q = i * _OUT + j
                other: Any = None
                if ADD in self.spec.epilogue:
                    other = partial(residuals[q].load, c, lanes=self.lanes, mask=mask)
                outs[q].store(0, finish(fn, self.spec.epilogue, value + bias, other), mask=mask)


def opaque(pointer: Pointer) -> Pointer:
    """The same address, hidden from LLVM's loop strength reduction.

    With 36 planes at pitches known at run time that pass takes six times as long as all others
    together (170 ms a kernel instead of 30) and what it finds is slower.
    """
    name = "llvm.launder.invariant.group.p0"
    pointer.fn.declare(name, "ptr", "ptr")
    ref = pointer.fn.emit(pointer.element, f"call ptr @{name}(ptr {pointer.ref})").ref
    return Pointer(pointer.fn, pointer.element, ref)


def round_up(x: Value, step: int) -> Value:
    """The next multiple of `step`."""
    return (x + (step - 1)) / step * step


def scratch_floats(isa: Isa, tile: Tile, channels: int, n: int, block: int) -> int:
    """Floats of scratch that one thread needs for blocks of `block` tiles."""
    lanes, columns = isa.lanes(f32), tile.columns(isa)
    ch_wide, n_wide = -(-channels // lanes) * lanes, -(-n // columns) * columns
    planes = PLANES * (block * (ch_wide + n_wide) + 32)
    return planes + PLANES * channels + 64 + n_wide + 64
