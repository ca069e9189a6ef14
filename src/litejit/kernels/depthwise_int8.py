"""8-bit depthwise convolution, NHWC, one output channel for each input channel.

For every group of output rows and block of channels (as many as a vector has int32 lanes):
1. each input column: four rows of bytes are interleaved into quads [channel][4 rows], the sign
   bit flipped as the dot product wants it, and put into a line buffer (private scratch) whose
   border columns hold the zero point; rows outside the image are read from zero-point bytes;
2. each output column: one dot product for each quad and kernel column, then the epilogue. Two
   output rows share their quads: the weights of the second one lie `stride` rows further down.

One work item is one group of rows of one block, images being the outer order. The last block
overlaps the one before, the last group of rows too: nothing is masked, and equal bytes are
written twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, i8, i32, i64, u8, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_int8 import ARGUMENTS, Epilogue
from litejit.kernels.hybrid import Rescaling
from litejit.kernels.int16 import Rescaling16
from litejit.types import Array

_SHAPE = (
    *("height", "width", "depth", "out_height", "out_width", "blocks"),
    *("step_y", "step_x", "stride_y", "stride_x", "pad_y", "pad_x", "columns", "scratch_stride"),
)
_POINTERS = ("x", "weights", "channels", "padding", "scratch", "y")


class DepthwiseSpec(KernelSpec):
    """A window of `taps_y` x `taps_x`, unrolled.

    `out_rows`: 1, or 2 with the vertical `stride` fixed (and no vertical dilation). `split`:
    every weight is the sum of two bytes (u8 weights minus their zero point), packed side by side.
    `batched`: there is more than one image.
    """

    taps_y: int
    taps_x: int
    epilogue: Epilogue | Rescaling | Rescaling16
    out_rows: int = 1
    stride: int = 1
    unsigned: bool = False
    split: bool = False
    batched: bool = False

    @property
    def in_rows(self) -> int:
        """Input rows that one group of output rows reads."""
        return self.taps_y + (self.out_rows - 1) * self.stride

    @property
    def quads(self) -> int:
        """Groups of four input rows."""
        return -(-self.in_rows // 4)

    @property
    def parts(self) -> int:
        """Bytes of which a weight is made."""
        return 2 if self.split else 1

    def reads(self, quad: int, row: int) -> bool:
        """Does output row `row` of the group read input rows 4 * quad ... 4 * quad + 3?"""
        first = row * self.stride
        return first < 4 * quad + 4 and first + self.taps_y > 4 * quad

    def column_bytes(self, lanes: int) -> int:
        """Bytes of one column of the line buffer."""
        return self.quads * 4 * lanes

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel's text: pointers, the epilogue's pointers, then lengths in elements."""
        return _Depthwise(self, name, isa).emit()


def block_starts(channels: int, lanes: int) -> Array:
    """First channel of every block, int64."""
    count = -(-channels // lanes)
    return np.minimum(np.arange(count) * lanes, max(channels - lanes, 0))


def channel_order(channels: int, lanes: int) -> Array:
    """The channel of every lane of every block; lanes past the last channel repeat it."""
    starts = block_starts(channels, lanes)
    order = starts[:, None] + np.arange(lanes)
    return np.minimum(order, channels - 1).reshape(-1)


def pack_weights(spec: DepthwiseSpec, weights: Array, lanes: int) -> Array:
    """[taps_y, taps_x, channels] -> int8 [block, quad, taps_x, row, part, lane, 4].

    Weights are integers of -255 ... 254 where the spec splits them, else of int8's range.
    """
    order = channel_order(weights.shape[2], lanes)
    shape = (len(order) // lanes, spec.quads, spec.taps_x, spec.out_rows, spec.parts, lanes, 4)
    packed = np.zeros(shape, np.int8)
    wide = weights.astype(np.int64)[:, :, order].reshape(spec.taps_y, spec.taps_x, -1, lanes)
    first = np.clip(wide, -128, 127)
    for row in range(spec.out_rows):
        for ky in range(spec.taps_y):
            quad, at = divmod(ky + row * spec.stride, 4)
            for part, value in enumerate((first, wide - first)[: spec.parts]):
                packed[:, quad, :, row, part, :, at] = value[ky].swapaxes(0, 1)
    return packed


class _Depthwise:
    def __init__(self, spec: DepthwiseSpec, name: str, isa: Isa) -> None:
        self.spec, self.isa, self.lanes = spec, isa, isa.lanes(i32)
        kinds: dict[str, Type | Ptr] = {n: Ptr(i8) for n in _POINTERS}
        kinds.update(ARGUMENTS)
        kinds.update(dict.fromkeys(_SHAPE, i64))
        self.fn = Function(name, isa, **kinds)
        self.arg: dict[str, Any] = dict(zip(kinds, self.fn.args, strict=True))
        self.flips = spec.unsigned != isa.dot_is_unsigned
        self.column = spec.column_bytes(self.lanes)
        self.vector = 4 * self.lanes  # bytes of a quad of one vector of channels

    def emit(self) -> str:
        fn, arg, spec = self.fn, self.arg, self.spec
        self.finish = spec.epilogue.emitter(fn, self.isa, *(arg[n] for n in ARGUMENTS))
        line = arg["scratch"] + fn.worker * arg["scratch_stride"]
        limit = fn.minimum(arg["width"], arg["columns"] - arg["pad_x"])
        self._fill_border(line, fn.const(0, i64), arg["pad_x"])
        self._fill_border(line, arg["pad_x"] + limit, arg["columns"])
        start, groups = arg["x"], (arg["out_height"] + (spec.out_rows - 1)) / spec.out_rows
        with fn.loop(fn.end, start=fn.begin) as item:
            above, block = item / arg["blocks"], item % arg["blocks"]
            image, group = fn.const(0, i64), above
            if spec.batched:
                image, group = above / groups, above % groups
            arg["x"] = start + image * (arg["height"] * arg["width"] * arg["depth"])
            row = fn.minimum(group * spec.out_rows, arg["out_height"] - spec.out_rows)
            self.rows_before = image * arg["out_height"]
            # with fewer channels than lanes there is one block
            last = fn.maximum(arg["depth"] - self.lanes, 0)
            channel = fn.minimum(block * self.lanes, last)
            self._fill(line, row, channel, limit)
            self._outputs(line, row, block, channel)
        return fn.ir()

    def _fill_border(self, line: Pointer, start: Value, stop: Value) -> None:
        fn = self.fn
        zero = self._flip(self.arg["padding"].load(lanes=1).splat(self.vector))
        with fn.loop(stop, start=start) as column:
            for quad in range(self.spec.quads):
                (line + column * self.column).store(quad * self.vector, zero, align=self.vector)

    def _flip(self, x: Value) -> Value:
        return x ^ -128 if self.flips else x

    def _fill(self, line: Pointer, row: Value, channel: Value, limit: Value) -> None:
        """Interleave the input rows of one group and block into the line buffer."""
        fn, arg, spec = self.fn, self.arg, self.spec
        top = row * arg["stride_y"] - arg["pad_y"]
        rows = []
        for r in range(spec.in_rows):
            y = top + arg["step_y"] * r
            inside = y.to(u64) < arg["height"].to(u64)
            at = arg["x"] + y * (arg["width"] * arg["depth"])
            rows.append(inside.choose_pointer(at, arg["padding"]) + channel)
        rows += [rows[-1]] * (4 * spec.quads - spec.in_rows)
        start = line + arg["pad_x"] * self.column
        with fn.loop(limit, nonempty=True) as x:
            offset, to = x * arg["depth"], start + x * self.column
            for quad in range(spec.quads):
                sources = [p + offset for p in rows[4 * quad : 4 * quad + 4]]
                to.store(quad * self.vector, self._interleave(sources), align=self.vector)

    def _interleave(self, sources: list[Pointer]) -> Value:
        """[4 rows][channels] -> [channel][4 rows]."""
        rows = [p.load(lanes=self.lanes) for p in sources]
        pairs = [rows[j].shuffle(range(2 * self.lanes), rows[j + 1]) for j in (0, 2)]
        order = [j * self.lanes + channel for channel in range(self.lanes) for j in range(4)]
        return self._flip(pairs[0].shuffle(order, pairs[1]))

    def _outputs(self, line: Pointer, row: Value, block: Value, channel: Value) -> None:
        """All output columns of one block; its weights stay in registers."""
        fn, arg, spec = self.fn, self.arg, self.spec
        weights = self._weights(arg["weights"] + block * self._weight_bytes())
        blocks = arg["channels"] + block * self.finish.block
        bias, constants = self.finish.bias(blocks), self.finish.load(blocks)
        steps = [arg["step_x"] * (kx * self.column) for kx in range(spec.taps_x)]
        at = [
            (self.rows_before + row + o) * (arg["out_width"] * arg["depth"]) + channel
            for o in range(spec.out_rows)
        ]
        with fn.loop(arg["out_width"], nonempty=True) as x:
            window = line + x * (arg["stride_x"] * self.column)
            acc = self._dots(window, steps, weights, [bias] * spec.out_rows)
            self.finish.store(arg["y"], acc, (start + x * arg["depth"] for start in at), constants)

    def _dots(
        self,
        window: Pointer,
        steps: list[Value],
        weights: dict[tuple[int, int, int], list[Value]],
        acc: list[Value],
    ) -> list[Value]:
        spec, kind = self.spec, u8 if self.isa.dot_is_unsigned else i8
        for kx in range(spec.taps_x):
            for quad in range(spec.quads):
                at = (window + steps[kx]).cast(kind)
                data = at.load(quad * self.vector, lanes=self.vector, align=self.vector)
                for o in range(spec.out_rows):
                    for part in weights.get((quad, kx, o), ()):
                        acc[o] = self.isa.dot4(self.fn, acc[o], data, part)
        return acc

    def _weight_bytes(self) -> int:
        spec = self.spec
        return spec.quads * spec.taps_x * spec.out_rows * spec.parts * self.vector

    def _weights(self, start: Pointer) -> dict[tuple[int, int, int], list[Value]]:
        spec, loaded = self.spec, {}
        for quad in range(spec.quads):
            for kx in range(spec.taps_x):
                for o in range(spec.out_rows):
                    first = ((quad * spec.taps_x + kx) * spec.out_rows + o) * spec.parts
                    if spec.reads(quad, o):
                        loaded[quad, kx, o] = [
                            start.load(j * self.vector, lanes=self.vector, align=self.vector)
                            for j in range(first, first + spec.parts)
                        ]
        return loaded
