"""f32 matrix products y[m, n] = epilogue(x[m, k] . w[k, n] + bias[n]): pointwise and dense layers.

A tile of `rows` x `vectors` registers is summed over all of k in one go; w comes in panels as
wide as the tile, packed by `pack_panels`, or lies as it is ([k, n], pitches tell). Rows past
the last are computed twice rather than branched on, so m >= rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i64
from litejit.kernels.base import KernelSpec
from litejit.kernels.epilogue_f32 import Epilogue, finish
from litejit.record import Record

F32Array = NDArray[np.float32]


class Tile(Record):
    """Registers of one tile of the output: `rows` x `vectors`."""

    rows: int
    vectors: int

    def columns(self, isa: Isa) -> int:
        """Columns of one panel."""
        return self.vectors * isa.lanes(f32)


# Tiles that keep two FMA units busy, by the number of registers. On layers of MobileNetV2, Zen 5,
# 512 bits, 7x2 and 7x3 run at the limit (245 to 258 GFLOP/s) as 14x2, 9x3 and 6x4 do, and waste
# fewer rows; one vector wide they are bound by their loads (10x1 190 to 220), lower ones fit short
# lines of the output.
_TILES = {
    32: ((7, 2), (8, 2), (10, 2), (7, 3), (10, 1), (8, 1), (7, 1), (5, 1)),
    16: ((6, 2), (5, 2), (4, 2), (4, 3), (8, 1), (6, 1)),
}
_LINE = 16  # floats of a cache line
_SMALL_ROWS = 6  # below, a tile as high as the matrix


def choose_tile(isa: Isa, m: int, n: int, *, fixed_vectors: int = 0) -> Tile:
    """The tile that computes m x n soonest: least time of all tiles, by a model of the loads.

    `m` is the number of rows that lie at one pitch: tiles never reach past it.
    """
    vectors = -(-n // isa.lanes(f32))
    best, least = Tile(1, 1), float("inf")
    for rows, wide in _candidates(isa, m, vectors):
        if fixed_vectors and wide != fixed_vectors:
            continue
        cost = -(-m // rows) * -(-vectors // wide) * _cycles(rows, wide)
        if cost < least:
            best, least = Tile(rows, wide), cost
    return best


def _candidates(isa: Isa, m: int, vectors: int) -> list[tuple[int, int]]:
    found = [tile for tile in _TILES[isa.registers] if tile[0] <= m]
    limit = isa.registers - 2
    for wide in (1, 2, 3, 4, 6, 8):
        rows = min(m, (limit - wide) // wide)
        if 0 < rows <= _SMALL_ROWS and m <= _SMALL_ROWS:
            found.append((rows, wide))
    return [tile for tile in found if tile[1] <= max(vectors, 1)]


def _cycles(rows: int, vectors: int) -> float:
    """Cycles a step of k: two FMAs or two loads in one, four from one sum to the next."""
    return max(rows * vectors / 2, (rows + vectors) / 2, 4 / unroll(rows * vectors)) + 0.5


def unroll(sums: int) -> int:
    """Steps of k that are summed apart, so that eight sums are under way at least."""
    return 1 if sums >= 8 else 2 if sums >= 4 else 4


def pack_panels(w: F32Array, columns: int) -> F32Array:
    """[K, N] -> [ceil(N / columns)][K][columns], zeros past N."""
    k, n = w.shape
    panels = -(-n // columns)
    full = np.zeros((k, panels * columns), np.float32)
    full[:, :n] = w
    return np.ascontiguousarray(full.reshape(k, panels, columns).transpose(1, 0, 2))


def pad_bias(bias: Any, n: int, columns: int) -> F32Array:
    """The bias (None: zeros) as long as the panels together."""
    full = np.zeros(-(-n // columns) * columns, np.float32)
    if bias is not None:
        full[:n] = np.asarray(bias, np.float32).reshape(-1)
    return full


class DotF32(KernelSpec):
    """y[m] = epilogue(x[m, k] . w[k] + bias (, residual[m])): one column, a vector of rows at once.

    The epilogue costs once a vector of outputs, not once a row. Arguments: x, w (zeros up to
    whole vectors), bias, y, residual, m (at least a vector), k, pitch of rows of x.
    Items: vectors of rows; the last overlaps the one before.
    """

    epilogue: Epilogue = ()

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel as LLVM IR."""
        pointers = dict.fromkeys(("x", "w", "bias", "y", "residual"), Ptr(f32))
        fn = Function(name, isa, **pointers, m=i64, k=i64, x_row=i64)
        x, w, bias, y, residual, m, k, x_row = fn.args
        lanes = isa.lanes(f32)
        whole = k - k % lanes
        with fn.loop(fn.end, start=fn.begin) as item:
            row = fn.minimum(item * lanes, m - lanes)
            sources = [x + (row + r) * x_row for r in range(lanes)]
            sums = [fn.const(0.0, f32 * lanes)] * lanes
            with fn.loop(whole, step=lanes, carry=sums) as i:
                weights = w.load(i, lanes=lanes)
                for r, source in enumerate(sources):
                    sums[r] = fn.fma(source.load(i, lanes=lanes), weights, sums[r])
            with fn.when(whole < k, sums):
                weights, mask = w.load(whole, lanes=lanes), fn.first(k - whole, lanes)
                for r, source in enumerate(sources):
                    there = source.load(whole, lanes=lanes, mask=mask)
                    sums[r] = fn.fma(there, weights, sums[r])
            value = sum_lanes(sums) + bias[0].splat(lanes)
            beside = partial(residual.load, row, lanes=lanes)
            y.store(row, finish(fn, self.epilogue, value, beside))
        return fn.ir()


def sum_lanes(rows: list[Value]) -> Value:
    """Vector whose lane r is the sum of all lanes of rows[r]; as many rows as lanes."""
    lanes, half = len(rows), 1
    while len(rows) > 1:
        low = [j if not j & half else lanes + j - half for j in range(lanes)]
        high = [j + half if not j & half else lanes + j for j in range(lanes)]
        pairs = zip(rows[::2], rows[1::2], strict=True)
        rows = [a.shuffle(low, b) + a.shuffle(high, b) for a, b in pairs]
        half *= 2
    return rows[0]


class TransposePanelsF32(KernelSpec):
    """[n, k] -> the panels of `pack_panels`, at run time; columns past n repeat the last row.

    Arguments: w, packed, n, k, pitch of rows of w, pitches of batches of w and of packed, panels
    of a batch, pitches of k and of panels in packed (panels may lie side by side). Items: (batch,
    panel).
    """

    vectors: int

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel: squares of lanes x lanes are transposed in registers."""
        sizes = ("n", "k", "w_row", "w_batch", "p_batch", "panels", "p_k", "p_panel")
        fn = Function(name, isa, w=Ptr(f32), packed=Ptr(f32), **dict.fromkeys(sizes, i64))
        w, packed, n, k, w_row, w_batch, p_batch, panels, p_k, p_panel = fn.args
        lanes = isa.lanes(f32)
        columns = lanes * self.vectors
        whole = k - k % lanes
        with fn.loop(fn.end, start=fn.begin) as item:
            batch = item / panels
            panel = item - batch * panels
            source, to = w + batch * w_batch, packed + batch * p_batch + panel * p_panel
            for v in range(self.vectors):
                first = panel * columns + v * lanes
                rows = [source + fn.minimum(first + j, n - 1) * w_row for j in range(lanes)]
                out = to + v * lanes
                with fn.loop(whole, step=lanes) as i:
                    square = transpose([row.load(i, lanes=lanes) for row in rows])
                    for j, line in enumerate(square):
                        out.store((i + j) * p_k, line)
                with fn.loop(k, start=whole) as i:
                    for j, row in enumerate(rows):
                        out[i * p_k + j] = row[i]
        return fn.ir()


def transpose(square: list[Value]) -> list[Value]:
    """Rows of a square to its columns, by swapping ever larger blocks."""
    size, half = len(square), 1
    while half < size:
        following = list(square)
        low = [j if not j & half else size + j - half for j in range(size)]
        high = [j + half if not j & half else size + j for j in range(size)]
        for j in range(size):
            if not j & half:
                following[j] = square[j].shuffle(low, square[j + half])
                following[j + half] = square[j].shuffle(high, square[j + half])
        square, half = following, half * 2
    return square


class GemmF32(KernelSpec):
    """y[b, m, n] = epilogue(sum over k of x[b, m, k] w[b, k, n] + bias[n] (, residual[b, m, n])).

    Arguments: x, w, bias (whole panels), y, residual; m, n, k; pitches in elements: of rows of
    x, of k in x, of rows of y, of k in w, of panels of w; of batches of x, w and y; then tiles
    of rows an item, panels an item, items of a batch, items along n.
    `masked`: n is no multiple of the panel. `ahead`: while a panel is used, the next one is
    fetched into the second cache, a line a step, for weights that lie further away.
    """

    tile: Tile
    masked: bool = False
    epilogue: Epilogue = ()
    ahead: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """The kernel; items are (batch, block of rows, block of panels), the last fastest."""
        fn = Function(
            name, isa, x=Ptr(f32), w=Ptr(f32), bias=Ptr(f32), y=Ptr(f32), residual=Ptr(f32),
            m=i64, n=i64, k=i64, x_row=i64, x_k=i64, y_row=i64, w_k=i64, w_panel=i64,
            x_batch=i64, w_batch=i64, y_batch=i64,
            tiles=i64, panels=i64, per_batch=i64, across=i64,
        )  # fmt: skip
        x, w, bias, y, residual, m, n, k, x_row, x_k, y_row, w_k, w_panel = fn.args[:13]
        x_batch, w_batch, y_batch, tiles, panels, per_batch, across = fn.args[13:]
        rows, columns = self.tile.rows, self.tile.columns(isa)
        with fn.loop(fn.end, start=fn.begin) as item:
            batch = item / per_batch
            at = item - batch * per_batch
            down = at / across
            side = at - down * across
            xb, wb, shift = x + batch * x_batch, w + batch * w_batch, batch * y_batch
            yb, rb = y + shift, residual + shift
            first = down * tiles * rows
            stop = fn.minimum(m, first + tiles * rows)
            with fn.loop(
                fn.minimum(side * panels + panels, _panels(n, columns)), start=side * panels
            ) as p:
                column = p * columns
                panel = wb + p * w_panel
                with fn.loop(stop, start=first, step=rows) as row0:
                    row = fn.minimum(row0, m - rows)
                    sources = [xb + (row + r) * x_row for r in range(rows)]
                    sums = start_sums(fn, self.tile, bias + column)
                    following = panel + w_panel + (row0 - first) / rows * k * _LINE
                    multiply(
                        fn, sums, sources, panel, k, x_k=x_k, w_k=w_k,
                        ahead=following if self.ahead else None,
                    )  # fmt: skip
                    add_bias(fn, sums, bias + column)
                    out = row * y_row + column
                    store_tile(self, fn, sums, yb + out, rb + out, y_row, n - column)
        return fn.ir()


def _panels(n: Value, columns: int) -> Value:
    return (n + (columns - 1)) / columns


def start_sums(fn: Function, tile: Tile, bias: Pointer) -> list[list[Value]]:
    """A tile of accumulators that hold the bias, or 0 where `add_bias` is to add it."""
    lanes = fn.isa.lanes(f32)
    if fn.isa.in_order:
        return [[fn.const(0.0, f32 * lanes)] * tile.vectors for _ in range(tile.rows)]
    start = [bias.load(v * lanes, lanes=lanes) for v in range(tile.vectors)]
    return [list(start) for _ in range(tile.rows)]


def add_bias(fn: Function, sums: list[list[Value]], bias: Pointer) -> None:
    """Add the bias where `start_sums` did not put it into the sums."""
    if not fn.isa.in_order:
        return
    lanes = fn.isa.lanes(f32)
    for row in sums:
        row[:] = [value + bias.load(v * lanes, lanes=lanes) for v, value in enumerate(row)]


def multiply(
    fn: Function, sums: list[list[Value]], sources: list[Pointer], panel: Pointer, k: Value,
    *, x_k: Value | int, w_k: Value | int, ahead: Pointer | None = None,
) -> None:  # fmt: skip
    """sums[r][v] += sum over i < k of sources[r][i * x_k] * (panel + i * w_k)[v]."""
    ways = 1 if fn.isa.in_order else unroll(len(sums) * len(sums[0]))
    if ways == 1:
        with fn.loop(k, carry=sums) as i:
            if ahead is not None:
                _fetch(fn, ahead + i * _LINE)
            _step(fn, sums, sources, panel, i, x_k, w_k)
        return
    zero = fn.const(0.0, sums[0][0].type)
    apart = [sums, *([[zero] * len(row) for row in sums] for _ in range(ways - 1))]
    whole = k - k % ways
    with fn.loop(whole, step=ways, carry=apart) as i:
        for way, part in enumerate(apart):
            _step(fn, part, sources, panel, i + way, x_k, w_k)
    with fn.loop(k, start=whole, carry=apart[0]) as i:
        _step(fn, apart[0], sources, panel, i, x_k, w_k)
    for part in apart[1:]:
        for row, other in zip(sums, part, strict=True):
            row[:] = [a + b for a, b in zip(row, other, strict=True)]


def _fetch(fn: Function, at: Pointer) -> None:
    """Ask for a line in the second cache; an address that nobody may read is no fault."""
    name = fn.declare("llvm.prefetch.p0", "void", "ptr", "i32", "i32", "i32")
    fn.line(f"call void @{name}(ptr {at.ref}, i32 0, i32 2, i32 1)")


def _step(
    fn: Function, sums: list[list[Value]], sources: list[Pointer], panel: Pointer, i: Value,
    x_k: Value | int, w_k: Value | int,
) -> None:  # fmt: skip
    lanes = fn.isa.lanes(f32)
    at = panel + i * w_k
    b = [at.load(v * lanes, lanes=lanes) for v in range(len(sums[0]))]
    for r, source in enumerate(sources):
        a = source[i * x_k].splat(lanes)
        for v, weights in enumerate(b):
            sums[r][v] = fn.multiply_add(a, weights, sums[r][v])


def store_tile(
    spec: Any, fn: Function, sums: list[list[Value]], y: Pointer, residual: Pointer,
    y_row: Value, left: Value,
) -> None:  # fmt: skip
    """Finish a tile by the spec's epilogue and store it; `left` columns of n are there at most.

    Whole tiles take plain stores; only the last panel of a `masked` spec looks at `left`.
    """
    columns = spec.tile.columns(fn.isa)
    if not spec.masked:
        _store_rows(spec, fn, sums, y, residual, y_row, [None] * spec.tile.vectors)
        return
    lanes = fn.isa.lanes(f32)
    with fn.when(left >= columns):
        _store_rows(spec, fn, sums, y, residual, y_row, [None] * spec.tile.vectors)
    with fn.when(left < columns):
        masks = [fn.first(fn.maximum(left - v * lanes, 0), lanes) for v in range(spec.tile.vectors)]
        _store_rows(spec, fn, sums, y, residual, y_row, masks)


def _store_rows(
    spec: Any, fn: Function, sums: list[list[Value]], y: Pointer, residual: Pointer,
    y_row: Value, masks: Sequence[Value | None],
) -> None:  # fmt: skip
    lanes = fn.isa.lanes(f32)
    for r, row in enumerate(sums):
        for v, value in enumerate(row):
            at = y_row * r + v * lanes
            beside = partial(residual.load, at, lanes=lanes, mask=masks[v])
            done = finish(fn, spec.epilogue, value, beside)
            y.store(at, done, mask=masks[v])
