"""8-bit 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3), exactly: 36 products, not 144.

The points are 0, +-1, +-2 and infinity, and everything is an integer: transformed data fit int16
(at most 100 * 255), so do weights (at most 49 * 255) once the transform's fractions are left
out; what is left out comes back as factors 24, 12, 6, 6 of a tile's rows and of its columns.
Sums wrap modulo 2^32, which is no harm: 9 * 2^k times a result gives the result by a product
with 9's inverse modulo 2^32 and a shift by k <= 6, where its absolute value is below 2^25.

Pairs of 16-bit products run at half the rate of fours of 8-bit ones, and there is a quarter of
them. A work item is a block of 4x4 tiles, as in kernels/winograd; tiles at the right and lower
border overlap their neighbours, so that no tile reaches past the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, i8, i16, i32, i64, u8, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_int8 import ARGUMENTS, Epilogue
from litejit.kernels.winograd import PLANES, opaque
from litejit.types import Array

LARGEST_SUM = 1 << 25
_SIDE, _OUT = 6, 4
_ROUND = 64  # bytes between planes, and slack behind the patch
_INVERSE_OF_9 = 954437177
_TWOS = (3, 2, 1, 1)  # results carry 3 * 2^_TWOS[row], and as much for their column
_G = ((6, 0, 0), (-1, -1, -1), (-1, 1, -1), (1, 2, 4), (1, -2, 4), (0, 0, 6))
_POINTERS = ("x", "weights", "channels", "scratch", "y")
_SIZES = (
    *("stride", "height", "width", "depth", "out_height", "out_width", "pitch", "last_column"),
    *("top", "left", "zero", "across", "tiles", "block", "panels"),
)


def pack_weights(weights: Array, order: Array, columns: int) -> Array:
    """Meant weights [3, 3, channels, depth] -> int16 [36][panel][depth / 2][column][2].

    `order` is packing_int8.channel_order, `columns` a panel's; an odd depth gets a zero.
    """
    channels, depth = weights.shape[2:]
    g = np.array(_G, np.float32)
    rows = np.tensordot(g, weights.astype(np.float32), (1, 0))  # exact: below 2^24
    planes = np.tensordot(g, rows, (1, 1)).transpose(1, 0, 2, 3)
    pairs = -(-depth // 2)
    full = np.zeros((PLANES, channels, 2 * pairs), np.int16)
    full[:, :, :depth] = planes.reshape(PLANES, channels, depth)
    whole = full.view(np.int32)[:, order]
    packed = whole.reshape(PLANES, -1, columns, pairs).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(packed).view(np.int16)


def scratch_bytes(isa: Isa, spec: WinogradInt8, depth: int, panels: int, block: int) -> int:
    """Scratch that one thread needs for blocks of `block` tiles."""
    lanes = spec.lanes(isa)
    wide = -(-depth // lanes) * lanes
    columns = panels * spec.vectors * isa.lanes(i32)
    planes = PLANES * (block * (2 * wide + 4 * columns) + 2 * _ROUND)
    return -(-(planes + PLANES * depth + 3 * _ROUND) // 64) * 64


class WinogradInt8(KernelSpec):
    """`rows` tiles x `vectors` of channels at a time.

    Arguments: x, weights (`pack_weights`), channel constants (x is used as it is: biases less
    its zero point times the sums of weights), scratch, y, the epilogue's; the scratch's stride,
    height, width and depth of x, output height and width (at least 4), bytes of an output pixel,
    offset of its last vector, rows missing on top, columns on the left, x's zero point, tiles of
    a row, tiles of an image, tiles a block (at least `rows`), panels. Items: blocks of images.
    `half`: depth is so small that half a vector of data is enough. `batched`: there is more than
    one image.
    """

    rows: int
    vectors: int
    epilogue: Epilogue
    unsigned: bool = False
    half: bool = False
    batched: bool = False

    def lanes(self, isa: Isa) -> int:
        """int16 lanes of data that are transformed at once."""
        return isa.lanes(i16) // (2 if self.half else 1)

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        kinds: dict[str, Type | Ptr] = {n: Ptr(i8) for n in _POINTERS}
        kinds.update(ARGUMENTS)
        kinds.update(dict.fromkeys(_SIZES, i64))
        fn = Function(name, isa, **kinds)
        block = _Block(self, fn, isa)
        blocks = (block.tiles + (block.size - 1)) / block.size
        with fn.loop(fn.end, start=fn.begin) as item:
            image = item / blocks if self.batched else fn.const(0, i64)
            block.begin(image)
            first = (item - image * blocks) * block.size
            count = fn.minimum(block.tiles - first, block.size)
            block.transform_inputs(first, count)
            block.multiply_planes(count)
            block.transform_outputs(first, count)
        return fn.ir()


class _Block:
    """The three stages of a block of tiles, and where its scratch lies."""

    def __init__(self, spec: WinogradInt8, fn: Function, isa: Isa) -> None:
        self.spec, self.fn, self.isa = spec, fn, isa
        self.lanes, self.wide = isa.lanes(i32), spec.lanes(isa)
        self._images, self.weights, self.channels, scratch, self.y = fn.args[:5]
        common, self.other, table = fn.args[5:8]
        self.finish = spec.epilogue.emitter(fn, isa, common, self.other, table)
        stride, self.h, self.wd, self.depth, self.oh, self.ow, self.pitch = fn.args[8:15]
        self.last, self.top, self.left, self.zero, self.across = fn.args[15:20]
        self.tiles, self.size, self.panels = fn.args[20:]
        self.columns = self.lanes * spec.vectors
        # pitches of tiles are constants: [plane][chunk of depth][tile] and [plane][panel][tile]
        self.chunk, self.line = 2 * self.wide, 4 * self.columns
        chunks = (self.depth + (self.wide - 1)) / self.wide
        # a pitch that is a multiple of 4096 bytes would put all planes into one set of L1
        self.v_plane = chunks * self.size * self.chunk + _ROUND
        self.m_plane = self.panels * self.size * self.line + _ROUND
        self.v = scratch + fn.worker * stride
        self.m = self.v + self.v_plane * PLANES
        self.patch = self.m + self.m_plane * PLANES

    def begin(self, image: Value) -> None:
        """Turn to the image with this number."""
        self.x = self._images + image * (self.h * self.wd * self.depth)
        self.y_at = image * (self.oh * self.ow * self.pitch)

    def _place(self, tile: Value) -> tuple[Value, Value]:
        """Row and column of a tile's first output."""
        fn, row = self.fn, tile / self.across
        column = tile - row * self.across
        return fn.minimum(row * _OUT, self.oh - _OUT), fn.minimum(column * _OUT, self.ow - _OUT)

    # -- data --

    def transform_inputs(self, first: Value, count: Value) -> None:
        fn, depth, pitch = self.fn, self.depth, self.wd * self.depth
        width = depth * _SIDE
        with fn.loop(count, nonempty=True) as t:
            oy, ox = self._place(first + t)
            iy, start = oy - self.top, (ox - self.left) * depth
            outside = (iy < 0) | (iy + _SIDE > self.h) | (start < 0) | (start + width > pitch)
            with fn.when(outside), fn.loop(_SIDE, nonempty=True) as i:
                there = (iy + i).to(u64) < self.h.to(u64)
                row = there.choose_pointer(self.x + (iy + i) * pitch, self.x)
                self._copy(row, self.patch + i * width, start, width, there.choose(pitch, 0))
            source = outside.choose_pointer(self.patch, self.x + (iy * pitch + start))
            step = outside.choose(width, pitch)
            rows = [source + step * i for i in range(_SIDE)]
            with fn.loop(depth, step=self.wide, nonempty=True) as c:
                # two passes over three rows each: 36 values do not fit into 32 registers
                here = [opaque(row + c) for row in rows]
                out = opaque(self.v + c * self.size * 2 + t * self.chunk)
                for second in (False, True):
                    self._transform_tile(here, out, second)

    def _copy(self, row: Pointer, to: Pointer, start: Value, width: Value, pitch: Value) -> None:
        """to[i] = row[start + i] where 0 <= start + i < pitch, else the zero point; i < width.

        Every part is written in whole vectors, in order: the next one writes over its end.
        """
        fn, lanes = self.fn, self.isa.lanes(i8)
        fill = self.zero.to(i8).splat(lanes)
        first = fn.minimum(fn.maximum(0 - start, 0), width)
        last = fn.maximum(fn.minimum(pitch - start, width), first)
        with fn.loop(first, step=lanes) as i:
            to.store(i, fill)
        with fn.loop(last, start=first, step=lanes) as i:
            to.store(i, (row + start).load(i, lanes=lanes))
        with fn.loop(width, start=last, step=lanes) as i:
            to.store(i, fill)

    def _transform_tile(self, rows: list[Pointer], out: Pointer, second: bool) -> None:
        byte = u8 if self.spec.unsigned else i8
        columns = []
        for j in range(_SIDE):
            used = rows[1:] if second else rows[:-1]
            at = self.depth * j
            d = [row.cast(byte).load(at, lanes=self.wide).to(i16) for row in used]
            columns.append(_last_half(d) if second else _first_half(d))
        for i in range(3):
            line = [column[i] for column in columns]
            for j, value in enumerate(_first_half(line[:-1]) + _last_half(line[1:])):
                plane = (3 * second + i) * _SIDE + j
                (out + self.v_plane * plane).cast(i16).store(0, value, align=2)

    # -- products --

    def multiply_planes(self, count: Value) -> None:
        fn, spec = self.fn, self.spec
        pairs = (self.depth + 1) / 2
        zero = fn.const(0, i32 * self.lanes)
        with (
            fn.loop(PLANES, nonempty=True) as plane,
            fn.loop(self.panels, nonempty=True) as panel,
        ):
            at = self.weights + (plane * self.panels + panel) * pairs * self.line
            a = self.v + self.v_plane * plane
            out = self.m + self.m_plane * plane + panel * self.size * self.line
            with fn.loop(count, step=spec.rows, nonempty=True) as row0:
                # below `rows` tiles: rows that nobody reads
                row = fn.maximum(fn.minimum(row0, count - spec.rows), 0)
                sums = [[zero] * spec.vectors for _ in range(spec.rows)]
                with fn.loop(pairs, step=self.wide // 2, carry=sums, nonempty=True) as first:
                    # a chunk of as many pairs lies self.size tiles behind the one before
                    source = a + (first * self.size) * 4 + row * self.chunk
                    stop = fn.minimum(pairs - first, self.wide // 2)
                    with fn.loop(stop, carry=sums, nonempty=True) as k:
                        self._step(sums, source + k * 4, at + (first + k) * self.line)
                for r, line in enumerate(sums):
                    to = out + (row + r) * self.line
                    for v, value in enumerate(line):
                        to.cast(i32).store(v * self.lanes, value)

    def _step(self, sums: list[list[Value]], source: Pointer, panel: Pointer) -> None:
        lanes, words = self.lanes, i16 * (2 * self.lanes)
        at = panel.cast(i32)
        b = [at.load(v * lanes, lanes=lanes).bitcast(words) for v in range(self.spec.vectors)]
        for r, row in enumerate(sums):
            a = (source + r * self.chunk).cast(i32).load(align=2).splat(lanes).bitcast(words)
            for v, weights in enumerate(b):
                row[v] = self.isa.dot2(self.fn, row[v], a, weights)

    # -- results --

    def transform_outputs(self, first: Value, count: Value) -> None:
        fn, lanes, line = self.fn, self.lanes, self.ow * self.pitch
        with fn.loop(count, nonempty=True) as t:
            oy, ox = self._place(first + t)
            base = self.y_at + oy * line + ox * self.pitch
            offsets = [line * i + self.pitch * j for i in range(_OUT) for j in range(_OUT)]
            with fn.loop(self.panels * self.spec.vectors, nonempty=True) as v:
                constants = opaque(self.channels + v * self.finish.block)
                place = base + fn.minimum(v * lanes, self.last)
                panel = v / self.spec.vectors
                inside = (v - panel * self.spec.vectors) * (4 * lanes)
                source = self.m + (panel * self.size + t) * self.line + inside
                values = self._results(opaque(source).cast(i32), constants)
                self.finish.other = opaque(self.other + place)
                loaded = self.finish.load(constants)
                self.finish.store(opaque(self.y + place), values, offsets, loaded)

    def _results(self, source: Pointer, constants: Pointer) -> Iterator[Value]:
        """The 16 sums of a tile with their biases, row by row."""
        pitch = self.m_plane / 4
        columns = []
        for j in range(_SIDE):
            planes = [
                source.load(pitch * (i * _SIDE + j), lanes=self.lanes, align=4)
                for i in range(_SIDE)
            ]
            columns.append(_outputs(planes))
        bias = self.finish.bias(constants)
        for i in range(_OUT):
            for j, value in enumerate(_outputs([column[i] for column in columns])):
                yield ((value * _INVERSE_OF_9) >> (_TWOS[i] + _TWOS[j])) + bias


def _first_half(d: Sequence[Value]) -> list[Value]:
    """Rows 0 .. 2 of B^T d, from d[0 .. 4]."""
    even, odd = d[4] - (d[2] << 2), d[3] - (d[1] << 2)
    return [(d[0] << 2) - d[2] + even, even + odd, even - odd]


def _last_half(d: Sequence[Value]) -> list[Value]:
    """Rows 3 .. 5 of B^T d, from d[1 .. 5]."""
    even, odd = d[3] - d[1], (d[2] - d[0]) << 1
    return [even + odd, even - odd, d[4] - d[2] - (odd << 1)]


def _outputs(m: Sequence[Value]) -> list[Value]:
    """Six values to four, times 24, 12, 6 and 6."""
    s1, d1, s2, d2 = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return [m[0] + (s1 << 2) + s2, (d1 << 1) + d2, s1 + s2, d1 + (d2 << 1) + m[5]]
