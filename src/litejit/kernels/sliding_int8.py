"""8-bit convolution with few output channels: neighbouring pixels share what they read.

A tile is `rows` pixels of one output row and one vector of channels. With stride 1 along x, an
input pixel belongs to the windows of `taps_x` neighbours: it is broadcast once and multiplied
with the weights of all of them, where kernels/conv_int8 would broadcast it for each tap. That
pays where a tile has one vector of channels only.

One work item is one tile, rows and images being the outer order; the last tile of a row overlaps
the one before (out_width >= rows).
A cell outside the image is read from zero-point bytes, by a table of offsets in private scratch
(`table_bytes` of it).
"""

from __future__ import annotations

from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, i8, i32, i64, u8, u32, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_int8 import ARGUMENTS, Epilogue
from litejit.kernels.hybrid import Rescaling
from litejit.kernels.int16 import Rescaling16
from litejit.kernels.requantize import halves

COLUMNS = 32  # input pixels that a line of the table holds
_LANES = 16
_POINTERS = ("x", "weights", "channels", "padding", "scratch", "y")
_SHAPE = (
    *("depth", "pitch", "channels_out", "taps_y", "step_y", "stride_y"),
    *("pad_y", "pad_x", "height", "width", "out_height", "out_width", "scratch_stride"),
)


def table_bytes(taps_y: int) -> int:
    """Scratch that every thread needs."""
    return taps_y * COLUMNS * 8


class SlidingSpec(KernelSpec):
    """`rows` + taps_x - 1 <= 32. Weights: [ky, depth / 4, kx, lane, 4]."""

    rows: int
    taps_x: int
    epilogue: Epilogue | Rescaling | Rescaling16
    unsigned: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel's text: pointers, the epilogue's pointers, then lengths."""
        return _Sliding(self, name, isa).emit()


class _Sliding:
    def __init__(self, spec: SlidingSpec, name: str, isa: Isa) -> None:
        self.spec, self.isa, self.lanes = spec, isa, isa.lanes(i32)
        kinds: dict[str, Type | Ptr] = {n: Ptr(i8) for n in _POINTERS}
        kinds.update(ARGUMENTS)
        kinds.update(dict.fromkeys(_SHAPE, i64))
        self.fn = Function(name, isa, **kinds)
        self.arg: dict[str, Any] = dict(zip(kinds, self.fn.args, strict=True))
        self.flips = spec.unsigned != isa.dot_is_unsigned
        self.step = 4 * self.lanes * spec.taps_x  # bytes of weights for 4 bytes of a pixel
        self.columns = spec.rows + spec.taps_x - 1

    def emit(self) -> str:
        fn, arg, spec = self.fn, self.arg, self.spec
        self.finish = spec.epilogue.emitter(fn, self.isa, *(arg[n] for n in ARGUMENTS))
        scratch: Pointer = arg["scratch"]
        self.table = (scratch + fn.worker * arg["scratch_stride"]).cast(i64)
        tiles = (arg["out_width"] + (spec.rows - 1)) / spec.rows
        start = arg["x"]
        with fn.loop(fn.end, start=fn.begin) as item:
            line = item / tiles
            x = fn.minimum((item % tiles) * spec.rows, arg["out_width"] - spec.rows)
            image, y = line / arg["out_height"], line % arg["out_height"]
            arg["x"] = start + image * (arg["height"] * arg["width"] * arg["pitch"])
            self._tile(line, y, x)
        return fn.ir()

    def _tile(self, line: Value, y: Value, x: Value) -> None:
        fn, arg, spec = self.fn, self.arg, self.spec
        self._write_table(y, x)
        line_bytes = arg["depth"] * (self.step // 4)
        weights, block = arg["weights"], arg["channels"]
        acc: list[Any] = [self.finish.bias(block)] * spec.rows
        with fn.loop(arg["taps_y"], carry=acc, nonempty=True) as ky:
            cells = [arg["x"] + self.table[ky * COLUMNS + p] for p in range(self.columns)]
            at = weights + ky * line_bytes
            with fn.loop(arg["depth"], step=4, carry=acc, nonempty=True) as k:
                self._products([p + k for p in cells], at + k * (self.step // 4), acc)
        constants = self.finish.load(block)
        first = (line * arg["out_width"] + x) * arg["channels_out"]
        offsets = (first + arg["channels_out"] * r for r in range(spec.rows))
        self.finish.store(arg["y"], acc, offsets, constants)

    def _products(self, cells: list[Pointer], weights: Pointer, acc: list[Any]) -> None:
        spec, width = self.spec, 4 * self.lanes
        b = [weights.load(kx * width, lanes=width, align=width) for kx in range(spec.taps_x)]
        for p, cell in enumerate(cells):
            word = cell.cast(i32).load(align=1).splat(self.lanes)
            if self.flips:
                word = word ^ -0x7F7F7F80
            a = word.bitcast((u8 if self.isa.dot_is_unsigned else i8) * width)
            for kx in range(spec.taps_x):
                if 0 <= p - kx < spec.rows:
                    acc[p - kx] = self.isa.dot4(self.fn, acc[p - kx], a, b[kx])

    def _write_table(self, y: Value, x: Value) -> None:
        """Offsets from the image of the cells [ky][column] that the tile reads."""
        fn, arg = self.fn, self.arg
        text = [f"ptrtoint ptr {arg[n].ref} to i64" for n in ("padding", "x")]
        outside = fn.emit(i64, text[0]) - fn.emit(i64, text[1])
        far, left = outside.splat(_LANES // 2), (x - arg["pad_x"]).to(i32)
        unsigned = u32 * _LANES
        width = arg["width"].to(i32).splat(_LANES).bitcast(unsigned)
        lines = []
        for first in range(0, COLUMNS, _LANES):
            column = left.splat(_LANES) + fn.vector(i32, range(first, first + _LANES))
            inside = column.bitcast(unsigned) < width
            lines.append((column * arg["pitch"].to(i32).splat(_LANES), inside))
        with fn.loop(arg["taps_y"], nonempty=True) as ky:
            iy = y * arg["stride_y"] - arg["pad_y"] + ky * arg["step_y"]
            in_y = iy.to(u64) < arg["height"].to(u64)
            base = (iy * arg["width"] * arg["pitch"]).splat(_LANES // 2)
            row = in_y.choose(fn.const(1, i64), 0).splat(_LANES // 2).differs(0)
            for j, (offset, inside) in enumerate(lines):
                for h, half in enumerate(halves(offset)):
                    chosen = (halves(inside)[h] & row).choose(half.to(i64) + base, far)
                    at = ky * COLUMNS + (2 * j + h) * (_LANES // 2)
                    self.table.store(at, chosen, align=64)
