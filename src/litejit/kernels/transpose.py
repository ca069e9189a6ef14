"""Copies that are contiguous along one loop in the source, along another in the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, i8, i64
from litejit.kernels.base import KernelSpec

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa


class TransposeSpec(KernelSpec):
    """target[b, a] = source[a, b]: rows of a source matrix become columns of the target.

    Elements have `itemsize` bytes (1, 2, 4 or 8) and are neighbours along b in the source, along
    a in the target. Tiles are lanes x lanes; the last tile of a dimension overlaps the one
    before. `rows` is the size of a, `columns` that of b, where they are below `lanes`, else 0.

    Arguments: source, target, size of a, bytes from row to row of the source, size of b, bytes
    from row to row of the target, block_a, blocks_a, block_b, blocks_b, then (n, source stride,
    target stride) for each of `outers` loops. An item is a block of block_a x block_b elements.
    """

    itemsize: int
    lanes: int
    rows: int
    columns: int
    outers: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        words = ["na", "sa", "nb", "tb", "block_a", "blocks_a", "block_b", "blocks_b"]
        words += [f"{word}{j}" for j in range(self.outers) for word in ("n_", "s_", "t_")]
        fn = Function(name, isa, source=Ptr(i8), target=Ptr(i8), **dict.fromkeys(words, i64))
        source, target, na, sa, nb, tb, block_a, blocks_a, block_b, blocks_b, *outer = fn.args
        with fn.loop(fn.end, start=fn.begin) as item:
            first_a = item % blocks_a * block_a
            rest = item / blocks_a
            first_b = rest % blocks_b * block_b
            from_, into = walk(rest / blocks_b, outer, source, target)
            stop_a, stop_b = fn.minimum(first_a + block_a, na), fn.minimum(first_b + block_b, nb)
            with fn.loop(stop_a, start=first_a, step=self.lanes) as a:
                at_a = fn.const(0, i64) if self.rows else fn.minimum(a, na - self.lanes)
                with fn.loop(stop_b, start=first_b, step=self.lanes) as b:
                    at_b = fn.const(0, i64) if self.columns else fn.minimum(b, nb - self.lanes)
                    here = from_ + (at_a * sa + at_b * self.itemsize)
                    there = into + (at_b * tb + at_a * self.itemsize)
                    self._tile(fn, here, there, sa, tb)
        return fn.ir()

    def _tile(
        self, fn: Function, source: Pointer, target: Pointer, down: Value, across: Value
    ) -> None:
        element = Type("i", 8 * self.itemsize)
        tile = []
        for _ in range(self.rows or self.lanes):
            tile.append(source.cast(element).load(lanes=self.lanes, align=1))
            source = source + down
        tile += [fn.const(0, element * self.lanes)] * (self.lanes - len(tile))
        mask = fn.first(fn.const(self.rows, i64), self.lanes) if self.rows else None
        for column in turned(tile)[: self.columns or self.lanes]:
            target.cast(element).store(0, column, align=1, mask=mask)
            target = target + across


def turned(tile: list[Value]) -> list[Value]:
    """The transpose of n vectors of n lanes, n a power of two: log2(n) rounds of interleaving."""
    n = len(tile)
    low = [j // 2 + (j % 2) * n for j in range(n)]
    high = [j + n // 2 for j in low]
    for _ in range(n.bit_length() - 1):
        pairs = zip(tile[: n // 2], tile[n // 2 :], strict=True)
        tile = [a.shuffle(lanes, b) for a, b in pairs for lanes in (low, high)]
    return tile


def walk(
    index: Value, outer: list[Value], source: Pointer, target: Pointer
) -> tuple[Pointer, Pointer]:
    """Move both pointers to iteration `index` of the loops in `outer`, the last one fastest."""
    for j in range(len(outer) - 3, -1, -3):
        count, s, t = outer[j : j + 3]
        here = index % count if j else index
        index = index / count if j else index
        source, target = source + here * s, target + here * t
    return source, target


def tile_lanes(itemsize: int, rows: int, columns: int, isa: Isa) -> int:
    """Lanes of a tile: 16 bytes, whole wide registers where two of them interleave at once."""
    wide = isa.vector_bytes == 64 and itemsize >= 4
    lanes = (64 if wide else 16) // itemsize
    while lanes * itemsize > 16 and lanes >= 2 * min(rows, columns):
        lanes //= 2
    return lanes
