"""8-bit convolution and matrix product: y[m, n] = epilogue(sum over k of a[m, k] * w[k, n]).

a is x with its sign bit flipped where the ISA's dot product wants the other sign; the bias
carries the difference and the zero point. `packing_int8` makes the weights.

Two ways to find the rows of a:
- "rows": row m starts at x + m * pitch (1x1 convolution, matrix product);
- "taps": row m is one piece of x for each (ky, kx) of the window. The kernel makes a table of
  offsets [tap][row of the tile] for each tile, in private scratch ((taps + 1) * 128 bytes); a
  tap outside the image points at zero-point bytes. No copy of the image is made. Output pixels
  may lie apart (`out_line`, `out_pitch` bytes): transposed convolutions write phases.

One work item is a tile of rows with `group` consecutive panels of channels; panels are the outer
order, images (or matrices of a batch) the one around it. From one image to the next x, weights,
constants and results move by their own steps, 0 where they stay. Rows past the end repeat the
last row, the last vector of channels overlaps the one before: nothing is masked, and equal bytes
are written twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Type,
    Value,
    f32,
    i8,
    i16,
    i32,
    i64,
    u8,
    u32,
)
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_int8 import ARGUMENTS, Epilogue
from litejit.kernels.hybrid import Rescaling
from litejit.kernels.int16 import Rescaling16
from litejit.kernels.requantize import halves

TABLE_LANES = 16  # most rows of a tile; the width of a row of the table of offsets
_SHAPE = (
    *("depth", "rows", "last_column", "pitch", "out_pitch", "out_line", "panels", "group"),
    *("taps_y", "taps_x", "step_y", "step_x", "stride_y", "stride_x", "pad_y", "pad_x"),
    *("height", "width", "out_width", "scratch_stride"),
    # steps of an image: bytes, rows of the epilogue's parameters, elements of y
    *("x_image", "weights_image", "channels_image", "row_image", "y_image"),
)
ARGUMENT_NAMES = (
    *("x", "weights", "channels", "ones", "padding", "scratch", "y"),
    *("common", "other", "table"),
    *_SHAPE,
)


class ConvSpec(KernelSpec):
    """`rows` x `vectors` accumulators at a time.

    `taps`: the rows of a come from windows (else from x directly). `one_step`: a tap has 4 bytes
    (depth is 4). `chains`: how many sums over k run side by side (for few rows; the packed depth
    is a multiple of 4 * chains). `sums`: also multiply the sums of a (over k) with -weight zero
    point, for u8 weights that do not fit i8. `joined`: so many rows of few channels fill one
    vector of results, which lie side by side in y; the last tile then overlaps the one before.
    `words`: a and w are int16, the sums of every chain fit int32 (lengths stay in bytes).
    `batched`: there is more than one image.
    """

    rows: int
    vectors: int
    epilogue: Epilogue | Rescaling | Rescaling16
    unsigned: bool = False
    taps: bool = False
    one_step: bool = False
    chains: int = 1
    sums: bool = False
    joined: int = 1
    words: bool = False
    batched: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel's text; its arguments are ARGUMENT_NAMES, lengths in bytes."""
        return _Conv(self, name, isa).emit()


class _Conv:
    """One emission: the function, its arguments by name, and the pieces of the body."""

    def __init__(self, spec: ConvSpec, name: str, isa: Isa) -> None:
        self.spec, self.isa, self.lanes = spec, isa, isa.lanes(i32)
        kinds: dict[str, Type | Ptr] = {n: Ptr(i8) for n in ARGUMENT_NAMES[:7]}
        kinds.update(ARGUMENTS)
        kinds.update(dict.fromkeys(_SHAPE, i64))
        self.fn = Function(name, isa, **kinds)
        self.arg: dict[str, Any] = dict(zip(ARGUMENT_NAMES, self.fn.args, strict=True))
        if spec.one_step:
            self.arg["depth"] = self.fn.const(4, i64)
        self.flips = spec.unsigned != isa.dot_is_unsigned and not spec.words
        self.panel = 4 * self.lanes * spec.vectors  # bytes of packed weights for 4 bytes of a

    def emit(self) -> str:
        fn, arg = self.fn, self.arg
        operands = (arg[n] for n in ARGUMENTS)
        self.finish = self.spec.epilogue.emitter(fn, self.isa, *operands)
        tiles = (arg["rows"] + (self.spec.rows - 1)) / self.spec.rows
        each = tiles * ((arg["panels"] + (arg["group"] - 1)) / arg["group"])
        starts = {n: arg[n] for n in ("x", "weights", "channels")}
        with fn.loop(fn.end, start=fn.begin) as work:
            image, item = fn.const(0, i64), work
            if self.spec.batched:
                image, item = work / each, work % each
            arg.update({n: start + image * arg[f"{n}_image"] for n, start in starts.items()})
            self.y_at, self.rows_before = (image * arg[f"{n}_image"] for n in ("y", "row"))
            first = (item / tiles) * arg["group"]
            row = (item % tiles) * self.spec.rows
            if self.spec.joined > 1:
                row = fn.minimum(row, arg["rows"] - self.spec.rows)
            if self.spec.taps:
                self._write_table(row)
            stop = fn.minimum(first + arg["group"], arg["panels"])
            with fn.loop(stop, start=first) as panel:
                self._tile(row, panel)
        return fn.ir()

    def _tile(self, row: Value, panel: Value) -> None:
        spec, fn, arg = self.spec, self.fn, self.arg
        index = [fn.minimum(row + r, arg["rows"] - 1) for r in range(spec.rows)]
        taps = arg["taps_y"] * arg["taps_x"]
        weights = arg["weights"] + panel * (taps * arg["depth"] * (self.panel // 4))
        blocks = arg["channels"] + panel * (spec.vectors * self.finish.block)
        starts = [self.finish.bias(blocks + v * self.finish.block) for v in range(spec.vectors)]
        zero = fn.const(0, i32 * self.lanes)
        # [chain][row][vector], then the sums of a, one a row
        acc = [[list(starts) for _ in range(spec.rows)]]
        acc += [[[zero] * spec.vectors for _ in range(spec.rows)] for _ in range(spec.chains - 1)]
        sums = [zero] * (spec.rows if spec.sums else 0)
        self._accumulate(index, weights, taps, [*acc, sums])
        self._store(row, panel, blocks, acc, sums)

    def _accumulate(
        self, index: list[Value], weights: Pointer, taps: Value, acc: list[Any]
    ) -> None:
        fn, arg, spec = self.fn, self.arg, self.spec
        if not spec.taps:
            starts = [arg["x"] + r * arg["pitch"] for r in index]
            self._products(starts, weights, arg["ones"], acc)
            return
        with fn.loop(taps, carry=acc, nonempty=True) as tap:
            table = self._scratch() + tap * TABLE_LANES
            at = weights + tap * arg["depth"] * (self.panel // 4)
            # made one by one, right before their uses, where one step is all: the scheduler
            # would load all rows first and spill
            later = (arg["x"] + table[r] for r in range(spec.rows))
            self._products(later, at, arg["ones"], acc)

    def _products(
        self, rows: Iterable[Pointer], weights: Pointer, ones: Pointer, acc: list[Any]
    ) -> None:
        """Add the products of `depth` bytes of every row.

        Several steps are always a loop: unrolled, their loads move up and spill.
        """
        if self.spec.one_step:
            self._step(rows, weights, ones, acc)
            return
        a, step = list(rows), 4 * self.spec.chains
        with self.fn.loop(self.arg["depth"], step=step, carry=acc, nonempty=True) as k:
            self._step([p + k for p in a], weights + k * (self.panel // 4), ones + k, acc)

    def _step(self, a: Iterable[Pointer], weights: Pointer, ones: Pointer, acc: list[Any]) -> None:
        spec, fn, width = self.spec, self.fn, 4 * self.lanes
        a = a if spec.chains == 1 else list(a)
        for chain in range(spec.chains):
            at = weights + chain * self.panel
            b = [at.load(v * width, lanes=width, align=width) for v in range(spec.vectors)]
            if spec.sums:
                one = (ones + 4 * chain).cast(i32).load(align=4).splat(self.lanes)
            for r, start in enumerate(a):
                word = (start + 4 * chain).cast(i32).load(align=1).splat(self.lanes)
                if self.flips:
                    word = word ^ -0x7F7F7F80
                bytes_ = word.bitcast((u8 if self.isa.dot_is_unsigned else i8) * width)
                row = acc[chain][r]
                for v in range(spec.vectors):
                    row[v] = self._dot(row[v], bytes_, b[v])
                if spec.sums:
                    total = acc[-1]
                    total[r] = self.isa.dot4(fn, total[r], bytes_, one.bitcast(i8 * width))

    def _dot(self, acc: Value, a: Value, b: Value) -> Value:
        if not self.spec.words:
            return self.isa.dot4(self.fn, acc, a, b)
        kind = i16 * (2 * self.lanes)
        return self.isa.dot2(self.fn, acc, a.bitcast(kind), b.bitcast(kind))

    def _store(
        self, row: Value, panel: Value, blocks: Pointer, acc: list[Any], sums: list[Value]
    ) -> None:
        """One vector of channels at a time: its constants are loaded once for all rows."""
        spec, fn, arg = self.spec, self.fn, self.arg
        last = arg["rows"] - 1
        if spec.taps:
            table = self._scratch() + arg["taps_y"] * arg["taps_x"] * TABLE_LANES
            lines = [table[r] + self.y_at for r in range(spec.rows)]
        else:
            ends = (fn.minimum(row + r, last) * arg["out_pitch"] for r in range(spec.rows))
            lines = [end + self.y_at for end in ends]
        if spec.sums:
            factor = arg["common"].cast(i32).load(15).splat(self.lanes)
            sums = [total * factor for total in sums]
        rows = (fn.minimum(row + r, last) for r in range(spec.rows))
        self.finish.begin_rows([index + self.rows_before for index in rows])
        for v in range(spec.vectors):
            column = fn.minimum((panel * spec.vectors + v) * self.lanes, arg["last_column"])
            constants = self.finish.load(blocks + v * self.finish.block)
            totals = (self._total(acc, sums, r, v) for r in range(spec.rows))
            offsets = [line + column for line in lines[:: spec.joined]]
            self.finish.store(arg["y"], self._join(totals), offsets, constants)

    def _join(self, totals: Iterator[Value]) -> Iterator[Value]:
        """Vectors that take their lanes from `joined` rows in turn."""
        count = self.spec.joined
        for first in totals:
            values = [first, *islice(totals, count - 1)]
            width = self.lanes // count
            while len(values) > 1:
                order = [j + self.lanes * (j // width % 2) for j in range(self.lanes)]
                pairs = zip(values[::2], values[1::2], strict=True)
                values = [low.shuffle(order, high) for low, high in pairs]
                width *= 2
            yield values[0]

    def _total(self, acc: list[Any], sums: list[Value], row: int, vector: int) -> Any:
        parts = [acc[chain][row][vector] for chain in range(self.spec.chains)]
        return self.finish.total([*parts, sums[row]] if sums else parts)

    def _scratch(self) -> Pointer:
        first: Pointer = self.arg["scratch"]
        offset: Value = self.fn.worker * self.arg["scratch_stride"]
        return (first.cast(i8) + offset).cast(i64)

    def _write_table(self, row: Value) -> None:
        """Offsets from x of every (tap, row of the tile), then offsets from y of the rows."""
        fn, arg = self.fn, self.arg
        wide = {n: arg[n].to(i32).splat(TABLE_LANES) for n in _SHAPE}
        y, x = self._window_starts(row, wide)
        base = (y * wide["width"] + x) * wide["pitch"]
        text = [f"ptrtoint ptr {arg[n].ref} to i64" for n in ("padding", "x")]
        outside = (fn.emit(i64, text[0]) - fn.emit(i64, text[1])).splat(TABLE_LANES // 2)
        table = self._scratch()
        with fn.loop(arg["taps_y"], nonempty=True) as ky:
            dy = (ky * arg["step_y"]).to(i32).splat(TABLE_LANES)
            in_y = _inside(y + dy, wide["height"])
            line = base + dy * wide["width"] * wide["pitch"]
            with fn.loop(arg["taps_x"], nonempty=True) as kx:
                dx = (kx * arg["step_x"]).to(i32).splat(TABLE_LANES)
                inside = in_y & _inside(x + dx, wide["width"])
                offset = line + dx * wide["pitch"]
                at = table + (ky * arg["taps_x"] + kx) * TABLE_LANES
                for j, half in enumerate(halves(offset)):
                    chosen = halves(inside)[j].choose(half.to(i64), outside)
                    at.store(j * (TABLE_LANES // 2), chosen, align=64)

    def _window_starts(self, row: Value, wide: dict[str, Value]) -> tuple[Value, Value]:
        """Input row and column of tap (0, 0) of the tile's windows, maybe negative.

        The offsets of the output pixels go into the last row of the table.
        """
        fn, arg = self.fn, self.arg
        ramp = fn.vector(i32, range(TABLE_LANES))
        ramp = fn.minimum(ramp, (arg["rows"] - 1 - row).to(i32).splat(TABLE_LANES))
        column = (row % arg["out_width"]).to(i32).splat(TABLE_LANES) + ramp
        # small enough for float32: at most out_width + 15, and half a unit from the next integer
        steps = ((column.to(f32) + 0.5) / wide["out_width"].to(f32)).to(i32)
        out_y = (row / arg["out_width"]).to(i32).splat(TABLE_LANES) + steps
        out_x = column - steps * wide["out_width"]
        at = self._scratch() + arg["taps_y"] * arg["taps_x"] * TABLE_LANES
        offset = out_y * wide["out_line"] + out_x * wide["out_pitch"]
        for j, half in enumerate(halves(offset)):
            at.store(j * (TABLE_LANES // 2), half.to(i64), align=64)
        y = out_y * wide["stride_y"] - wide["pad_y"]
        return y, out_x * wide["stride_x"] - wide["pad_x"]


def _inside(position: Value, size: Value) -> Value:
    unsigned = u32 * TABLE_LANES
    return position.bitcast(unsigned) < size.bitcast(unsigned)
