"""Int8 matrices that only a run knows, into the layout of kernels/conv_int8's weights.

Sums of every column are found on the way: together with zero points they make the biases of the
product, which are written in front of constants that all columns share.
"""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, i8, i16, i32, i64
from litejit.kernels.base import KernelSpec


class PackColumnsSpec(KernelSpec):
    """[depth, columns] to panels of `vectors` vectors of columns; an item is a panel of a matrix.

    `turned`: the matrix lies as [columns, depth]. Arguments: b, weights, blocks (one a vector of
    columns: an int32 a lane, then `shared` bytes), shared, depth (real), full (a multiple of 4,
    padded with zeros), columns, panels, pitch (bytes from row to row of b), step (bytes from one
    matrix to the next), size (of `shared`), factor, base, offset. The int32 of a column is
    (its sum - base) * factor + offset, wrapping. The last vector of columns overlaps the one
    before; vectors past it repeat it.
    """

    vectors: int
    turned: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Four rows at a time."""
        words = ["depth", "full", "columns", "panels", "pitch", "step", "size"]
        words += ["factor", "base", "offset"]
        pointers = dict.fromkeys(("b", "weights", "blocks", "shared"), Ptr(i8))
        fn = Function(name, isa, **pointers, **dict.fromkeys(words, i64))
        b, weights, blocks, shared, *numbers = fn.args
        depth, full, columns, panels, pitch, step, size, factor, base, offset = numbers
        lanes = isa.lanes(i32)
        width = 4 * lanes
        last = fn.maximum(columns - lanes, 0)
        constants = [n.to(i32).splat(lanes) for n in (factor, base, offset)]
        with fn.loop(fn.end, start=fn.begin) as item:
            matrix = b + (item / panels) * step
            for v in range(self.vectors):
                column = fn.minimum(((item % panels) * self.vectors + v) * lanes, last)
                to = weights + item * full * (lanes * self.vectors) + v * width
                sums = self._vector(
                    fn, isa, matrix, to, column, (depth, full, columns, pitch)
                )
                block = blocks + (item * self.vectors + v) * (size + width)
                start = (sums - constants[1]) * constants[0] + constants[2]
                block.cast(i32).store(0, start)
                with fn.loop(size, step=64) as at:
                    (block + width).store(at, shared.load(at, lanes=64))
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

        def put(k: Value, quads: Value) -> None:
            (to + k * (lanes * self.vectors)).store(0, quads, align=4 * lanes)
            pairs = _pairs(quads)
            total[0] = total[0] + pairs

        with fn.loop(whole, step=4, carry=total) as k:
            put(k, self._load(fn, b, k, column, columns, pitch, lanes, None))
        with fn.loop(full, start=whole, step=4, carry=total) as k:
            put(k, self._load(fn, b, k, column, columns, pitch, lanes, depth))
        return total[0]

    def _load(
        self, fn: Function, b: Pointer, k: Value, column: Value, columns: Value, pitch: Value,
        lanes: int, depth: Value | None,
    ) -> Value:  # fmt: skip
        """Rows k ... k + 3 of `lanes` columns as [lane][4]; rows from `depth` on are zeros."""
        if self.turned:
            words = fn.const(0, i32 * lanes)
            for lane in range(lanes):
                row = fn.minimum(column + lane, columns - 1)
                word = (b + row * pitch + k).cast(i32).load(align=1)
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
            row = (b + at * pitch + column).load(lanes=lanes)
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
