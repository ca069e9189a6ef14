"""8-bit depthwise convolution of one image, NHWC, one output channel for each input channel.

For every group of output rows and block of channels:
1. each input column: four rows of bytes are interleaved into quads [channel][4 rows], the sign
   bit flipped as the dot product wants it, and put into a line buffer (private scratch) whose
   border columns hold the zero point; rows outside the image are read from zero-point bytes;
2. each output column: one dot product for each quad and kernel column, then the epilogue. Two
   output rows share their quads: the weights of the second one lie `stride` rows further down.

One work item is one group of rows of one block. The last block overlaps the one before, the last
group of rows too: nothing is masked, and equal bytes are written twice.
"""

from __future__ import annotations

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, i8, i32, i64, u8, u64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_int8 import ARGUMENTS, Epilogue
from litejit.types import Array

_SHAPE = (
    *("height", "width", "depth", "out_height", "out_width", "blocks"),
    *("step_y", "step_x", "stride_y", "stride_x", "pad_y", "pad_x", "columns", "scratch_stride"),
)
_POINTERS = ("x", "weights", "channels", "padding", "scratch", "y")


class DepthwiseSpec(KernelSpec):
    """A window of `taps_y` x `taps_x`, unrolled.

    `out_rows`: 1, or 2 with the vertical `stride` fixed (and no vertical dilation). `vectors`:
    vectors of channels interleaved at a time, 1 or 2. `split`: every weight is the sum of two
    bytes (u8 weights minus their zero point), packed side by side.
    """

    taps_y: int
    taps_x: int
    epilogue: Epilogue
    out_rows: int = 1
    stride: int = 1
    vectors: int = 2
    unsigned: bool = False
    split: bool = False

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
        return self.quads * self.vectors * 4 * lanes

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel's text: pointers, the epilogue's pointers, then lengths in elements."""
        return _Depthwise(self, name, isa).emit()


def block_starts(spec: DepthwiseSpec, channels: int, lanes: int) -> Array:
    """First channel of every block, int64."""
    width = spec.vectors * lanes
    count = -(-channels // width)
    return np.minimum(np.arange(count) * width, max(channels - width, 0)).astype(np.int64)


def channel_order(spec: DepthwiseSpec, channels: int, lanes: int) -> Array:
    """The channel of every lane of every block; lanes past the last channel repeat it."""
    starts = block_starts(spec, channels, lanes)
    order = starts[:, None] + np.arange(spec.vectors * lanes)
    return np.minimum(order, channels - 1).reshape(-1)


def pack_weights(spec: DepthwiseSpec, weights: Array, lanes: int) -> Array:
    """[taps_y, taps_x, channels] -> int8 [block, vector, quad, taps_x, row, part, lane, 4].

    Weights are integers of -255 ... 254 where the spec splits them, else of int8's range.
    """
    order = channel_order(spec, weights.shape[2], lanes)
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
        pointers = dict.fromkeys(_POINTERS, Ptr(i8))
        kinds = {**pointers, **ARGUMENTS, **dict.fromkeys(_SHAPE, i64)}
        self.fn = Function(name, isa, **kinds)
        self.arg = dict(zip(kinds, self.fn.args, strict=True))
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
        with fn.loop(fn.end, start=fn.begin) as item:
            group, block = item / arg["blocks"], item % arg["blocks"]
            row = fn.minimum(group * spec.out_rows, arg["out_height"] - spec.out_rows)
            wide = spec.vectors * self.lanes
            # never negative: with fewer channels than a block there is one block
            last = fn.maximum(arg["depth"] - wide, 0)
            channel = fn.minimum(block * wide, last)
            self._fill(line, row, channel, limit)
            # a vector whose channels the block before has written is left out
            done = (block * wide - channel).differs(0) & (block * wide - channel >= self.lanes)
            start = done.choose(fn.const(1, i64), 0) if spec.vectors > 1 else fn.const(0, i64)
            with fn.loop(spec.vectors, start=start) as g:
                self._outputs(line + g * self.vector, row, block, channel, g)
        return fn.ir()

    def _fill_border(self, line: Pointer, start: Value, stop: Value) -> None:
        fn, vectors = self.fn, self.spec.quads * self.spec.vectors
        zero = self._flip(self.arg["padding"].load(lanes=1).splat(self.vector))
        with fn.loop(stop, start=start) as column:
            for v in range(vectors):
                (line + column * self.column).store(v * self.vector, zero, align=self.vector)

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
                for g, value in enumerate(self._interleave(sources)):
                    at = (quad * spec.vectors + g) * self.vector
                    to.store(at, value, align=self.vector)

    def _interleave(self, sources: list[Pointer]) -> list[Value]:
        """[4 rows][channels] -> [channel][4 rows], one value a vector of channels."""
        width = self.spec.vectors * self.lanes
        rows = [p.load(lanes=width) for p in sources]
        low, high = (
            self._flip(rows[j].shuffle(range(2 * width), rows[j + 1])) for j in (0, 2)
        )
        return [
            low.shuffle([j * width + g * self.lanes + c for c in range(self.lanes)
                         for j in range(4)], high)
            for g in range(self.spec.vectors)
        ]  # fmt: skip

    def _outputs(
        self, line: Pointer, row: Value, block: Value, channel: Value, g: Value
    ) -> None:
        """All output columns of one vector of channels; weights stay in registers."""
        fn, arg, spec = self.fn, self.arg, self.spec
        vector = block * spec.vectors + g
        weights = self._weights(arg["weights"] + vector * self._weight_bytes())
        blocks = arg["channels"] + vector * self.finish.block
        bias, constants = self.finish.bias(blocks), self.finish.load(blocks)
        steps = [arg["step_x"] * (kx * self.column) for kx in range(spec.taps_x)]
        at = [
            (row + o) * (arg["out_width"] * arg["depth"]) + channel + g * self.lanes
            for o in range(spec.out_rows)
        ]
        with fn.loop(arg["out_width"], nonempty=True) as x:
            window = line + x * (arg["stride_x"] * self.column)
            acc = self._dots(window, steps, weights, [bias] * spec.out_rows)
            for o in range(spec.out_rows):
                self.finish.store(arg["y"], acc[o], at[o] + x * arg["depth"], constants)

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
                data = at.load(
                    quad * spec.vectors * self.vector, lanes=self.vector, align=self.vector
                )
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
