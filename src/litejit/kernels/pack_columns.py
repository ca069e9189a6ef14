"""Int8 matrices that only a run knows, into the layout of kernels/conv_int8's weights.

Sums of every column are found on the way: together with zero points they make the biases of the
product, which are written in front of constants that are known before.
"""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, i8, i16, i32, i64
from litejit.kernels.base import KernelSpec

_WORDS = (
    *("depth", "full", "columns", "panels", "pitch", "step", "size", "template_step", "factor"),
    *("taps_y", "taps_x", "tap_y", "tap_x"),
)


class PackColumnsSpec(KernelSpec):
    """[depth, columns] to panels of `vectors` vectors of columns; an item is a panel of a matrix.

    `turned`: the matrix lies as [columns, depth]. Arguments: b, weights, blocks (one a vector of
    columns), templates, depth (real), full (a multiple of 4, padded with zeros), columns, panels,
    pitch (bytes from row to row of b), step (bytes from one matrix to the next), size (of a block
    and of a template), template_step (bytes to the next vector's template, 0 where there is one),
    factor; the numbers of taps (each a matrix of its own, one behind the other in a panel) and the
    bytes of b from one to the next. A block is its template with an int32 of each column in
    front, to which (the column's sum) * factor is added, wrapping. The last vector of columns
    overlaps the one before; vectors past it repeat it. Where a turned matrix has fewer columns
    than a vector has lanes, they are repeated.
    """

    vectors: int
    turned: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Four rows at a time."""
        pointers = dict.fromkeys(("b", "weights", "blocks", "templates"), Ptr(i8))
        fn = Function(name, isa, **pointers, **dict.fromkeys(_WORDS, i64))
        b, weights, blocks, templates, *numbers = fn.args
        depth, full, columns, panels, pitch, step, size, template_step, factor, *taps = numbers
        lanes = isa.lanes(i32)
        width = 4 * lanes
        last = fn.maximum(columns - lanes, 0)
        panel_bytes = full * (lanes * self.vectors)
        with fn.loop(fn.end, start=fn.begin) as item:
            matrix, panel = b + (item / panels) * step, item % panels
            for v in range(self.vectors):
                column = fn.minimum((panel * self.vectors + v) * lanes, last)
                sums = [fn.const(0, i32 * lanes)]
                with fn.loop(taps[0], carry=sums) as y, fn.loop(taps[1], carry=sums) as x:
                    at = (item * taps[0] + y) * taps[1] + x
                    source = matrix + y * taps[2] + x * taps[3]
                    sums[0] = sums[0] + self._vector(
                        fn, isa, source, weights + at * panel_bytes + v * width, column,
                        (depth, full, columns, pitch),
                    )  # fmt: skip
                block = blocks + (item * self.vectors + v) * size
                template = templates + (panel * self.vectors + v) * template_step
                start = template.cast(i32).load(lanes=lanes)
                block.cast(i32).store(0, start + sums[0] * factor.to(i32).splat(lanes))
                with fn.loop(size, start=width, step=width) as place:
                    block.store(place, template.load(place, lanes=width))
        return fn.ir()

    def _vector(
        self, fn: Function, isa: Isa, b: Pointer, to: Pointer, column: Value,
        sizes: tuple[Value, ...],
    ) -> Value:  # fmt: skip
        """Pack one vector of columns; returns their sums."""
        depth, full, columns, pitch = sizes
        lanes = isa.lanes(i32)
        total = [fn.const(0, i32 * lanes)]
        whole = depth / 4 * 4
        lines = [b + column]
        if self.turned:
            lines = [b + (column + lane) % columns * pitch for lane in range(lanes)]

        def put(k: Value, quads: Value) -> None:
            (to + k * (lanes * self.vectors)).store(0, quads, align=4 * lanes)
            pairs = _pairs(quads)
            total[0] = total[0] + pairs

        with fn.loop(whole, step=4, carry=total) as k:
            put(k, self._load(fn, lines, k, pitch, None))
        with fn.loop(full, start=whole, step=4, carry=total) as k:
            put(k, self._load(fn, lines, k, pitch, depth))
        return total[0]

    def _load(
        self, fn: Function, lines: list[Pointer], k: Value, pitch: Value, depth: Value | None
    ) -> Value:
        """Rows k ... k + 3 of `lanes` columns as [lane][4]; rows from `depth` on are zeros."""
        lanes = fn.isa.lanes(i32)
        if self.turned:
            words = fn.const(0, i32 * lanes)
            for lane, line in enumerate(lines):
                word = (line + k).cast(i32).load(align=1)
                words = _insert(words, lane, word)
            quads = words.bitcast(i8 * (4 * lanes))
            if depth is None:
                return quads
            left = fn.maximum(depth - k, 0).to(i8).splat(4 * lanes)
            places = fn.vector(i8, [j % 4 for j in range(4 * lanes)])
            return (places < left).choose(quads, 0)
        rows = []
        for j in range(4):
            at = k + j if depth is None else fn.minimum(k + j, depth - 1)
            row = (lines[0] + at * pitch).load(lanes=lanes)
            if depth is not None:
                row = (k + j < depth).choose(row, 0)
            rows.append(row)
        pairs = [rows[j].shuffle(range(2 * lanes), rows[j + 1]) for j in (0, 2)]
        order = [j * lanes + c for c in range(lanes) for j in range(4)]
        return pairs[0].shuffle(order, pairs[1])


def _insert(vector: Value, lane: int, word: Value) -> Value:
    text = f"insertelement {vector.type} {vector.ref}, {word.type} {word.ref}, i32 {lane}"
    return vector.fn.emit(vector.type, text)


def _pairs(quads: Value) -> Value:
    """The sum of each four bytes, i32."""
    count = quads.type.lanes
    words = quads.bitcast(i16 * (count // 2))
    halves = (words << 8 >> 8) + (words >> 8)
    double = halves.bitcast(i32 * (count // 4))
    return (double << 16 >> 16) + (double >> 16)
