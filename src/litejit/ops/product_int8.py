"""Calls of the product kernels: which tile, which weights, which operands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import i32
from litejit.kernels import packing_int8 as packing
from litejit.kernels.base import Pieces
from litejit.kernels.conv_int8 import ConvSpec
from litejit.kernels.pack_columns import PackColumnsSpec
from litejit.kernels.sliding_int8 import SlidingSpec, table_bytes
from litejit.ops.base import Operand
from litejit.ops.layer_int8 import Layer
from litejit.ops.window import Window2D
from litejit.record import Record
from litejit.types import Array

FEW_TILES = 16  # below, panels of weights are items of their own
ROW_BYTES = 128  # one row of the kernels' table of offsets
SLIDING_ROWS = 16
WEIGHT_BYTES_PER_NS = 110  # from a shared cache, what bounds products of one row
CALL_NS = 50.0

# (rows, vectors, relative time) of tiles, by the number of registers; sums take registers too
_TILES = {
    32: ((16, 1, 1.1), (14, 2, 1.0), (8, 2, 1.02), (7, 3, 1.0)),
    16: ((6, 1, 1.1), (4, 2, 1.0)),
}
_SUM_TILES = {32: ((12, 1, 1.2), (9, 2, 1.1), (6, 3, 1.05)), 16: ((4, 1, 1.1), (2, 2, 1.0))}


class Picked(Record):
    """Which weights a product takes: `arrange` makes [..., channels, depth] of the file's.

    `channels` are the output channels; they fall into `groups`, each of which sees a part of
    the depth of its own; `units` is the number of channels of the whole layer. `in_line`
    neighbouring taps become one of so many times the depth. `taps` are the same for weights that
    only a run knows: (rows, columns) of the filters; None: such a product has weights of 0.
    """

    arrange: Callable[[Array], Array]
    channels: slice
    groups: int
    units: int
    in_line: int = 1
    taps: tuple[range, range] | None = None

    __hash__ = object.__hash__

    @property
    def count(self) -> int:
        """Number of output channels."""
        return len(range(*self.channels.indices(self.units)))

    def choose(self, weights: Array) -> Array:
        """[taps, channels, depth of one group]."""
        arranged = self.arrange(weights)
        chosen: Array = arranged.reshape(-1, *arranged.shape[-2:])[:, self.channels]
        return chosen

    def join(self, chosen: Array, fill: int) -> Array:
        """[taps, channels, depth of all groups]; `fill` lies between the groups."""
        if self.groups == 1:
            return self._lines(chosen)
        taps, count, depth = chosen.shape
        each = count // self.groups
        result = np.full((taps, count, depth * self.groups), fill, chosen.dtype)
        for g in range(self.groups):
            rows = slice(g * each, (g + 1) * each)
            result[:, rows, g * depth : (g + 1) * depth] = chosen[:, rows]
        return self._lines(result)

    def _lines(self, weights: Array) -> Array:
        if self.in_line == 1:
            return weights
        taps, count, depth = weights.shape
        lines = weights.reshape(-1, self.in_line, count, depth).transpose(0, 2, 1, 3)
        joined: Array = lines.reshape(taps // self.in_line, count, self.in_line * depth)
        return joined


class Product(Record):
    """One call of a product: `rows` of `depth` bytes, `pitch` bytes apart, or from `window`.

    `x_at` and `y_at` are the offsets of the first row and result; results lie `out_pitch`
    bytes apart, lines of results `out_line`. `data` takes the place of the layer's data. `images`
    lie `x_image` elements apart, their results `y_image`.
    """

    name: str
    pick: Picked
    depth: int
    rows: int
    pitch: int
    out_pitch: int
    window: Window2D | None = None
    x_at: int = 0
    y_at: int = 0
    out_line: int = 0
    data: Operand | None = None
    images: int = 1
    x_image: int = 0
    y_image: int = 0

    __hash__ = object.__hash__


def _tile(layer: Layer, product: Product, channels: int) -> tuple[int, int, int]:
    """(rows, vectors, chains) of the cheapest tile."""
    if layer.chains > 1:
        return (1 if product.rows == 1 else 2), 1, layer.chains
    sums = layer.numbers.weights.parts == "sums"
    if product.window is not None and product.rows == 1:
        return (*_cheapest(layer.isa, 1, channels, sums=sums), 1)
    return tile_of(layer.isa, product.rows, channels, sums=sums)


def tile_of(isa: Isa, rows: int, channels: int, *, sums: bool) -> tuple[int, int, int]:
    """(rows, vectors, chains) of the cheapest tile for a plain product."""
    needed = -(-channels // isa.lanes(i32))
    if rows == 1:
        if needed % 4 == 0 or needed >= 16:
            return 1, 4, 2
        return (1, 2, 4) if needed > 1 else (1, 1, 8)
    return (*_cheapest(isa, rows, channels, sums=sums), 1)


def _cheapest(isa: Isa, rows: int, channels: int, *, sums: bool) -> tuple[int, int]:
    needed = -(-channels // isa.lanes(i32))

    def cost(tile: tuple[int, int, float]) -> float:
        height, vectors, factor = tile
        return -(-rows // height) * height * -(-needed // vectors) * vectors * factor

    height, vectors, _ = min((_SUM_TILES if sums else _TILES)[isa.registers], key=cost)
    return height, vectors


def multiply(layer: Layer, product: Product) -> None:
    """Pack the weights and call one kernel, once."""
    steps, channels = layer.steps, product.pick.count
    if _slides(layer, product):
        _multiply_sliding(layer, product)
        return
    rows, vectors, chains = _tile(layer, product, channels)
    full = -(-product.depth * layer.item // (4 * chains)) * 4 * chains
    window = product.window
    taps = (window.filter_h, window.filter_w) if window is not None else (1, 1)
    joined = _joined(layer, product, rows)
    spec = ConvSpec(
        rows, vectors, layer.epilogue(channels * joined), layer.unsigned, joined=joined,
        taps=window is not None, one_step=window is not None and full == 4, chains=chains,
        sums=layer.numbers.weights.parts == "sums", words=layer.item == 2,
        batched=product.images > 1,
    )  # fmt: skip
    order = packing.channel_order(channels, layer.lanes, vectors)
    panels = len(order) // layer.lanes // vectors
    tiles = -(-product.rows // rows)
    group = panels if tiles * product.images >= FEW_TILES else 1
    scratch = (taps[0] * taps[1] + 1) * ROW_BYTES
    if layer.numbers.weights.dims and product.pick.taps is not None:
        packed = _packed_by_the_run(layer, product, order, vectors, full)
    else:
        packed = _packed(
            layer, product, f"{rows}x{vectors}x{chains}", order,
            lambda w: packing.pack_panels(w, channels, layer.lanes, vectors, 4 * chains),
        )  # fmt: skip
    pad, shape = _window_arguments(product)
    steps.call(
        spec,
        layer.data(product.x_at) if product.data is None else product.data.at(product.x_at),
        *packed,
        _bytes_to_sum(layer, product, full),
        layer.padding(full) if window is not None else 0,
        steps.scratch(scratch) if window is not None else 0,
        layer.result(product.y_at),
        *layer.shared_operands(product.y_at),
        *(full, product.rows, max(channels - layer.lanes, 0), product.pitch * layer.item),
        *(product.out_pitch, product.out_line, panels, group, *taps, *pad, *shape, scratch),
        *(product.x_image * layer.item, 0, 0, 0, product.y_image),
        items=product.images * tiles * -(-panels // group),
        cost_ns=product.images
        * _cost_ns(layer, tiles * rows, len(order), full * taps[0] * taps[1]),
    )


def _joined(layer: Layer, product: Product, rows: int) -> int:
    """How many rows of few channels fill a vector; 1 where they do not lie side by side."""
    w, channels = product.window, product.pick.count
    if not layer.joins:
        return 1
    count = layer.lanes // channels if layer.lanes % channels == 0 else 1
    dense = product.out_pitch == channels
    if w is not None:
        dense = dense and product.out_line == w.out_w * channels
    return count if dense and rows % max(count, 1) == 0 and product.rows >= rows else 1


def _slides(layer: Layer, product: Product) -> bool:
    """Is there one vector of channels, and a window whose pixels share cells?"""
    w, units = product.window, product.pick.units
    if w is None or not shares_cells(layer, w, product.pick.count):
        return False
    return product.out_pitch == units and product.out_line == w.out_w * units


def shares_cells(layer: Layer, window: Window2D, channels: int) -> bool:
    """May the kernel run whose neighbouring pixels share what they read?"""
    w = window
    shares = w.stride_w == w.dilation_w == 1 and 2 <= w.filter_w <= 5
    small = layer.isa.registers >= 32 and channels <= layer.lanes
    plain = layer.numbers.weights.parts == "byte" and not layer.numbers.weights.dims
    return shares and small and plain and w.out_w >= SLIDING_ROWS


def _multiply_sliding(layer: Layer, product: Product) -> None:
    """One call for the tiles of all output rows."""
    steps, w, channels = layer.steps, product.window, product.pick.count
    assert w is not None
    spec = SlidingSpec(SLIDING_ROWS, w.filter_w, layer.epilogue(channels), layer.unsigned)
    full = -(-product.depth // 4) * 4
    order = packing.channel_order(channels, layer.lanes, 1)
    tiles = -(-w.out_w // SLIDING_ROWS) * w.out_h * product.images
    scratch = table_bytes(w.filter_h)

    def pack(weights: Array) -> Array:
        columns = np.arange(w.filter_w)[:, None] * channels + order.reshape(-1, 1, layer.lanes)
        lines = weights.reshape(w.filter_h, w.filter_w * channels, -1)
        return packing.pack_weights(lines, columns.reshape(-1), layer.lanes, w.filter_w, 4)

    steps.call(
        spec,
        layer.data(product.x_at),
        *_packed(layer, product, "sliding", order, pack),
        layer.padding(full),
        steps.scratch(scratch),
        layer.result(product.y_at),
        *layer.shared_operands(product.y_at),
        *(full, product.pitch, product.out_pitch),
        *(w.filter_h, w.dilation_h, w.stride_h, w.top, w.left, w.in_h, w.in_w),
        *(w.out_h, w.out_w, scratch),
        items=tiles,
        cost_ns=_cost_ns(layer, tiles * spec.rows, layer.lanes, full * w.filter_h * w.filter_w),
    )


def _window_arguments(product: Product) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(steps, strides, paddings), (height, width, output width) as the kernel takes them."""
    w = product.window
    if w is None:
        return (1, 1, 1, 1, 0, 0), (1, 1, 1)
    moves = (w.dilation_h, w.dilation_w, w.stride_h, w.stride_w, w.top, w.left)
    return moves, (w.in_h, w.in_w, w.out_w)


def _packed(
    layer: Layer, product: Product, name: str, order: Array, pack: Callable[[Array], Array | Pieces]
) -> tuple[Operand, Operand]:
    """Weights and channel constants; `pack` takes int8 [taps, channels, depth]."""
    steps, weights, pick = layer.steps, layer.numbers.weights, product.pick

    def packed() -> Array | Pieces:
        offset = weights.zero if weights.parts == "byte" else weights.offset
        chosen = pick.choose(weights.raw)
        if offset:
            chosen = (chosen.astype(np.int16) - offset).astype(np.int8)
        joined = pick.join(chosen, weights.zero - offset)
        return pack(joined if layer.item == 1 else joined.astype("<i2").view(np.int8))

    def constants() -> Array:
        sums = np.zeros(pick.units, np.int64)
        chosen = pick.choose(weights.raw)
        count = chosen.shape[0] * chosen.shape[2]
        sums[pick.channels] = packing.channel_sums(chosen) - count * weights.zero
        return layer.channel_constants(order + pick.channels.start, sums)

    cut = f"{pick.channels.start}+{pick.count}/{pick.groups} {pick.in_line} {pick.taps}"
    name = f"{product.name} {name} {weights.parts} {cut}"
    return steps.constant(f"weights {name}", packed), steps.constant(f"channels {name}", constants)


def _packed_by_the_run(
    layer: Layer, product: Product, order: Array, vectors: int, full: int
) -> tuple[Operand, Operand]:
    """The same of weights [units, height, width, depth] in memory, packed by a kernel."""
    steps, pick, lanes = layer.steps, product.pick, layer.lanes
    units, height, width, depth = layer.numbers.weights.dims
    assert pick.taps is not None
    (rows, columns), found = pick.taps, steps.inputs[1]
    assert found is not None and pick.groups == 1
    unit, line, cell = (height * width * depth, width * depth, depth)
    start = pick.channels.start * unit + rows.start * line + columns.start * cell
    panels = len(order) // lanes // vectors
    templates = layer.channel_constants(order + pick.channels.start, np.zeros(units, np.int64))
    block = templates.shape[1]
    size = panels * vectors * lanes * full * len(rows) * len(columns)
    weights, blocks = steps.temporary(size), steps.temporary(templates.size)
    steps.call(
        PackColumnsSpec(vectors, True), found.at(start), weights, blocks,
        steps.constant(f"templates {product.name} {vectors}", lambda: templates),
        depth, full, pick.count, panels, unit, 0, block, block, layer.sum_factor,
        len(rows), len(columns), rows.step * line, columns.step * cell,
        items=panels, cost_ns=50 + size / 4.0,
    )  # fmt: skip
    return weights, blocks


def _bytes_to_sum(layer: Layer, product: Product, full: int) -> Operand | int:
    if layer.numbers.weights.parts != "sums":
        return 0
    return layer.steps.constant(f"ones {product.depth} {full}", lambda: _ones(product.depth, full))


def _ones(depth: int, full: int) -> Array:
    ones = np.zeros(full + 64, np.int8)
    ones[:depth] = 1
    return ones


def _cost_ns(layer: Layer, rows: int, channels: int, depth: int) -> float:
    """About what the products and the rescaling take on one thread."""
    wide = {"u64": 1.0, "u64r": 1.0, "float": 2.0}.get(layer.numbers.form, 4.0)
    return product_ns(layer.isa, rows, channels, depth, wide=wide)


def product_ns(
    isa: Isa, rows: int, channels: int, depth: int, *, wide: float = 1.0
) -> float:  # fmt: skip
    """About what a product takes on one thread; `wide`: instructions of the rescaling over 16."""
    width = isa.lanes(i32) / 16
    rate = width * (480 if isa.dot else 60)
    read = channels * depth / WEIGHT_BYTES_PER_NS
    return CALL_NS + max(rows * channels * (depth / rate + wide / (16 * width)), read)
