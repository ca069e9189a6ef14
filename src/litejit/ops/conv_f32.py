"""Lowerings of float convolutions to the kernels *_f32 and winograd."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from litejit.codegen.lang import f32
from litejit.kernels import conv_f32, winograd, winograd_row
from litejit.kernels.depthwise_f32 import DepthwiseF32, DepthwiseRollF32, RepeatChannelsF32
from litejit.kernels.gemm_f32 import F32Array, Tile, choose_tile, pack_panels, pad_bias
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.blocks import copy_box, row_strides
from litejit.ops.convolution import operands, transposed_window_of
from litejit.ops.matmul_f32 import (
    L2,
    Sums,
    dense,
    fusible_after,
    nanoseconds,
    pack_at_run,
    plain,
    product,
    sums_of,
)
from litejit.ops.window import Window2D, window_of
from litejit.record import Record
from litejit.types import TensorType

ONE_THREAD_NS = 1000.0  # of what is hardly worth a second thread

__all__ = [
    "fusible_after",
    "lower_conv",
    "lower_depthwise",
    "lower_transpose_conv",
]


def lower_conv(node: Node, steps: Lowering) -> None:
    """CONV_2D: a matrix product, Winograd, or the direct kernel, group by group."""
    window = window_of(node)
    _, weights, bias = operands(node)
    units, depth = weights.dims[0], weights.dims[3]
    out = sums_of(node, steps, bias, units)
    if out is None or not node.output(0).size or steps.inputs[0] is None:
        return
    x, filters = steps.inputs[0], Filters(weights, _found_by_the_run(steps, weights))
    known = filters.at is None
    if depth == window.channels and window.is_pointwise:
        m = window.batch * window.out_h * window.out_w
        dense(steps, out, x, weights, m, depth, filters.at)
    elif depth != window.channels or not known:
        direct(steps, out, window, filters, x)
    elif _pays_winograd(window, units) and not steps.isa.in_order:
        _winograd(steps, out, window, weights, x)
    elif _pays_winograd_row(window, units):
        _winograd_row(steps, out, window, weights, x)
    else:
        direct(steps, out, window, filters, x)


def _found_by_the_run(steps: Lowering, weights: TensorType) -> Operand | None:
    """Where weights lie that are no constant."""
    return None if weights.is_constant else steps.inputs[1]


class Filters(Record):
    """OHWI weights: a constant, or what the run finds `at` some memory."""

    tensor: TensorType
    at: Operand | None

    __hash__ = object.__hash__

    def panels(
        self, steps: Lowering, name: str, tile: Tile, units: range, rows: range, columns: range
    ) -> Operand:
        """Some units' taps of some rows and columns, in this order, as panels."""
        depth, width = self.tensor.dims[3], tile.columns(steps.isa)
        kernel = len(rows) * len(columns) * depth

        def pack() -> F32Array:
            chosen = plain(self.tensor)[units.start : units.stop, list(rows)][:, :, list(columns)]
            return pack_panels(chosen.transpose(1, 2, 3, 0).reshape(kernel, len(units)), width)

        if self.at is None:
            return steps.constant(f"{name} filters {width}", pack)
        if not kernel:
            return self.at  # nothing is read
        steps_of = row_strides(self.tensor.dims, 4)
        start = self.at.at(units.start * steps_of[0])
        whole = [range(n) for n in self.tensor.dims[1:3]]
        if [rows, columns] != whole:
            sizes = (len(units), len(rows), len(columns), depth)
            moves = (steps_of[0], rows.step * steps_of[1], columns.step * steps_of[2], 4)
            some = steps.temporary(4 * len(units) * kernel)
            box = list(zip(sizes, moves, row_strides(sizes, 4), strict=True))
            first = start.at(rows.start * steps_of[1] + columns.start * steps_of[2])
            copy_box(steps, some, first, box, 4)
            start = some
        return pack_at_run(steps, start, tile, len(units), kernel)


def _pays_winograd_row(window: Window2D, units: int) -> bool:
    """Three taps in a row, and tiles that waste less than a third."""
    shape = (window.filter_h, window.filter_w, window.stride_h, window.stride_w)
    plain = shape == (1, 3, 1, 1) and window.top == 0 and window.in_h == window.out_h
    tiles = window.dilation_w * -(-window.out_w // (4 * window.dilation_w))
    deep = window.channels >= 16 and units >= 16 and tiles >= 4
    return plain and deep and 3 * 4 * tiles <= 4 * window.out_w


def _winograd_row(
    steps: Lowering, out: Sums, window: Window2D, weights: TensorType, x: Operand
) -> None:
    isa, units, channels, apart = steps.isa, out.units, window.channels, window.dilation_w
    per_phase = -(-window.out_w // (4 * apart))
    tiles = window.batch * window.out_h * apart * per_phase
    lanes = isa.lanes(f32)
    wide = -(-channels // lanes) * lanes + -(-units // lanes) * lanes
    largest = max(8, min(56, (160 << 10) // (winograd_row.PLANES * 4 * wide)))
    blocks = -(-tiles // largest)
    if tiles >= 16:
        blocks += blocks % 2  # two threads get equal shares
    tile = choose_tile(isa, -(-tiles // blocks), units)
    block = max(-(-tiles // blocks), tile.rows)
    columns = tile.columns(isa)
    w = steps.constant(
        f"winograd row {columns}",
        lambda: winograd_row.transform_weights(plain(weights)[:, 0].transpose(1, 2, 0), columns),
    )
    zeros = steps.constant("zeros", lambda: np.zeros(channels + 2 * lanes, np.float32))
    floats = -(-winograd_row.scratch_floats(isa, tile, channels, units, block) // 16) * 16
    sums = tiles * winograd_row.PLANES * channels * -(-units // columns) * columns
    moved = tiles * winograd_row.PLANES * wide * 8.0
    steps.call(
        winograd_row.WinogradRowF32(tile, units % lanes != 0, out.epilogue),
        x, w, out.padded_bias(steps, columns), out.y, out.residual, zeros,
        steps.scratch(4 * floats), floats, window.in_w, channels, window.out_w, units,
        window.left, apart, per_phase, apart * per_phase, tiles, block,
        items=-(-tiles // block), cost_ns=nanoseconds(isa, sums, moved),
    )  # fmt: skip


def _pays_winograd(window: Window2D, units: int) -> bool:
    shape = (window.filter_h, window.filter_w, window.stride_h, window.stride_w)
    plain = shape == (3, 3, 1, 1) and window.dilation_h == window.dilation_w == 1
    tiles = window.batch * -(-window.out_h // 4) * -(-window.out_w // 4)
    whole = tiles * 16 <= 1.8 * window.batch * window.out_h * window.out_w
    return plain and window.channels >= 8 and units >= 5 and tiles >= 4 and whole


def _winograd(
    steps: Lowering, out: Sums, window: Window2D, weights: TensorType, x: Operand
) -> None:
    isa, units, channels = steps.isa, out.units, window.channels
    across = -(-window.out_w // 4)
    tiles = across * -(-window.out_h // 4)
    lanes = isa.lanes(f32)
    wide = -(-channels // lanes) * lanes + -(-units // lanes) * lanes
    largest = max(8, min(56, (320 << 10) // (winograd.PLANES * 4 * wide)))
    blocks = -(-tiles // largest)
    if window.batch == 1 and tiles >= 8:
        blocks += blocks % 2  # two threads get equal shares
    tile = choose_tile(isa, -(-tiles // blocks), units)
    block = max(-(-tiles // blocks), tile.rows)
    columns = tile.columns(isa)
    w = steps.constant(
        f"winograd {columns}",
        lambda: winograd.transform_weights(plain(weights).transpose(1, 2, 3, 0), columns),
    )
    floats = winograd.scratch_floats(isa, tile, channels, units, block)
    floats = -(-floats // 16) * 16
    sums = window.batch * tiles * winograd.PLANES * channels * -(-units // columns) * columns
    moved = window.batch * tiles * winograd.PLANES * wide * 8.0
    steps.call(
        winograd.WinogradF32(tile, units % lanes != 0, out.epilogue),
        x, w, out.padded_bias(steps, columns), out.y, out.residual, steps.scratch(4 * floats),
        floats, window.in_h, window.in_w, channels, window.out_h, window.out_w, units,
        window.top, window.left, across, tiles, block,
        items=window.batch * -(-tiles // block), cost_ns=nanoseconds(isa, sums, moved),
    )  # fmt: skip


def direct(steps: Lowering, out: Sums, window: Window2D, filters: Filters, x: Operand) -> None:
    depth = filters.tensor.dims[3]
    """The direct kernel, group by group."""
    groups = window.channels // depth
    units = out.units // groups
    taps = range(window.filter_h), range(window.filter_w)
    for group in range(groups):
        own = range(group * units, (group + 1) * units)
        bias = None if out.bias is None else np.asarray(out.bias).reshape(-1)[own.start : own.stop]
        part = Sums(
            out.epilogue, out.y.at(4 * group * units), out.residual.at(4 * group * units),
            bias, units,
        )  # fmt: skip
        _convolve(
            steps, part, window, f"group {group}", x.at(4 * group * depth),
            lambda name, tile, own=own: filters.panels(steps, name, tile, own, *taps), depth,
            pitches=(out.units, window.out_w * out.units),
        )  # fmt: skip


def _convolve(
    steps: Lowering, out: Sums, window: Window2D, name: str, x: Operand, filters: Any,
    depth: int, *, pitches: tuple[int, int], image: int = 0,
) -> None:  # fmt: skip
    """The direct kernel; `filters` makes the panels of a tile; pitches of y: pixel, row, image."""
    isa, units = steps.isa, out.units
    tile = choose_tile(isa, window.out_w, units)
    columns = tile.columns(isa)
    taps, run = window.filter_w, depth
    if window.dilation_w == 1 and depth == window.channels:
        taps, run = 1, window.filter_w * depth
    reach = (window.filter_w - 1) * window.dilation_w + 1
    kernel = window.filter_h * window.filter_w * depth
    w = filters(name, tile)
    bias = steps.constant(f"{name} bias {columns}", lambda: pad_bias(out.bias, units, columns))
    floats = conv_f32.scratch_floats(window.filter_h, reach, window.stride_w, window.channels, tile)
    floats = -(-floats // 16) * 16
    panels = -(-units // columns)
    wide = max(1, min(panels, L2 // max(kernel * columns * 4, 1)))
    across = -(-panels // wide)
    pixels = window.batch * window.out_h * -(-window.out_w // tile.rows) * tile.rows
    cost = nanoseconds(isa, pixels * kernel * panels * columns, 4.0 * pixels * units)
    # some 10 microseconds an item, for its weights are read anew, but a dozen items at least,
    # unless one thread does it all
    tiles = segment = -(-window.out_w // tile.rows)
    least = 12 if cost > ONE_THREAD_NS else 1
    while segment > 1 and window.batch * window.out_h * across * -(-tiles // segment) < least:
        segment = -(-segment // 2)
    segments = -(-tiles // segment)
    lines = window.batch * window.out_h * across * segments
    rows = min(max(1, min(int(10_000 * lines / cost), lines // least)), window.out_h)
    pixel, row = pitches
    steps.call(
        conv_f32.ConvF32(tile, units % columns != 0, out.epilogue),
        x, w, bias, out.y, out.residual, steps.scratch(4 * floats), floats,
        window.in_h, window.in_w, window.channels, window.out_h, window.out_w, units,
        pixel, row, image or window.out_h * row,
        window.filter_h, window.stride_h, window.stride_w, window.top, window.left,
        window.dilation_h, reach, taps, window.dilation_w * window.channels, run,
        rows, segment, wide, segments, across,
        items=window.batch * -(-window.out_h // rows) * segments * across, cost_ns=cost,
    )  # fmt: skip


def lower_depthwise(node: Node, steps: Lowering) -> None:
    """DEPTHWISE_CONV_2D: rolling sums where the window allows, else the kernel for any window."""
    window = window_of(node)
    _, weights, bias = operands(node)
    units = weights.dims[3]
    out = sums_of(node, steps, bias, units)
    if out is None or not node.output(0).size or steps.inputs[0] is None:
        return
    x = steps.inputs[0]
    if window.channels == 1 and weights.is_constant:  # one channel for all: a convolution
        _convolve(
            steps, out, window, "dense", x, partial(_dense_panels, steps, weights), 1,
            pitches=(units, window.out_w * units),
        )  # fmt: skip
        return
    if units != window.channels:
        x = _repeat_channels(steps, window, x, units)
    _depthwise(steps, out, window, weights, x)


def _dense_panels(steps: Lowering, weights: TensorType, name: str, tile: Tile) -> Operand:
    """Depthwise taps of one channel as panels of [taps, units]."""
    width = tile.columns(steps.isa)
    return steps.constant(
        f"{name} filters {width}",
        lambda: pack_panels(plain(weights).reshape(-1, weights.dims[3]), width),
    )


def _repeat_channels(steps: Lowering, window: Window2D, x: Operand, units: int) -> Operand:
    pixels = window.batch * window.in_h * window.in_w
    repeated = steps.temporary(4 * pixels * units)
    steps.call(
        RepeatChannelsF32(), x, repeated, window.channels, units // window.channels,
        items=pixels, cost_ns=50 + pixels * units / 3,
    )  # fmt: skip
    return repeated


def _depthwise(
    steps: Lowering, out: Sums, window: Window2D, weights: TensorType, x: Operand
) -> None:
    isa, units = steps.isa, out.units
    lanes = isa.lanes(f32)
    masked = units < lanes
    found = _found_by_the_run(steps, weights)
    w = steps.constant("taps", lambda: plain(weights)) if found is None else found
    bias = steps.constant("bias", lambda: pad_bias(out.bias, units, lanes))
    sizes = (window.in_h, window.in_w, units, window.out_h, window.out_w, window.top)
    taps = window.filter_h * window.filter_w
    work = window.batch * window.out_h * window.out_w * -(-units // lanes) * lanes
    traffic = 4.0 * window.batch * units * (window.in_h * window.in_w + window.out_h * window.out_w)
    if _may_roll(window) and not isa.in_order:  # sums by column
        high = 4 if window.stride_h == 1 and taps <= 9 else 2 if taps <= 9 else 1
        high = min(high, window.out_h)
        groups, blocks = -(-window.out_h // high), -(-units // lanes)
        across = max(1, min(blocks, -(-8 // (groups * window.batch))))
        zeros = steps.constant(
            f"zeros {window.in_w}", lambda: np.zeros(window.in_w * units, np.float32)
        )
        steps.call(
            DepthwiseRollF32(
                window.filter_h, window.filter_w, window.stride_h, window.stride_w, window.left,
                window.right, high, masked, out.epilogue,
            ),
            x, w, bias, out.y, out.residual, zeros, *sizes, -(-blocks // across), across,
            items=window.batch * groups * across,
            cost_ns=nanoseconds(isa, 1.3 * work * taps, traffic),
        )  # fmt: skip
        return
    vectors = 4 if units >= 4 * lanes else 1
    across = -(-units // (lanes * vectors))
    steps.call(
        DepthwiseF32(vectors, masked, out.epilogue),
        x, w, bias, out.y, out.residual, x, *sizes, 1, across,
        window.filter_h, window.filter_w, window.stride_h, window.stride_w,
        window.dilation_h, window.dilation_w, window.left,
        items=window.batch * window.out_h * across,
        cost_ns=nanoseconds(isa, 3.0 * work * taps, traffic),
    )  # fmt: skip


def _may_roll(window: Window2D) -> bool:
    """What `DepthwiseRollF32` can do, at a reasonable length of code."""
    taps = window.filter_h * window.filter_w
    tails = -(-window.right // window.stride_w)
    return (
        (window.dilation_h == 1 or window.filter_h == 1)
        and (window.dilation_w == 1 or window.filter_w == 1)
        and taps <= 25
        and window.filter_w <= window.in_w
        and window.left <= max(window.filter_w - window.stride_w, 0)
        and tails <= min(window.out_w, 4)
    )


# -- transposed convolutions --


def lower_transpose_conv(node: Node, steps: Lowering) -> None:
    """TRANSPOSE_CONV: a convolution with stride 1 for every phase of the result.

    Where filters do not overlap, one row of the filter is a matrix product.
    """
    window = transposed_window_of(node)
    _, weights, bias = operands(node)
    units, depth = weights.dims[0], weights.dims[3]
    out = sums_of(node, steps, bias, units)
    position = 2
    if out is None or not node.output(0).size or steps.inputs[position] is None:
        return
    x, filters = steps.inputs[position], Filters(weights, _found_by_the_run(steps, weights))
    assert x is not None
    high, wide = window.filter_h, window.filter_w
    apart = (high, wide) == (window.stride_h, window.stride_w) and not window.is_padded
    apart = apart and filters.at is None
    if apart and (window.in_h, window.in_w) == (window.out_h * high, window.out_w * wide):
        _transpose_apart(steps, out, window, weights, x)
        return
    transposed(steps, out, window, filters, x, depth)


def transposed(
    steps: Lowering, out: Sums, window: Window2D, filters: Filters, x: Operand, depth: int
) -> None:  # fmt: skip
    """Phase by phase; `window` goes from the result to the data, which has `depth` channels."""
    for phase_h in range(min(window.stride_h, window.in_h)):
        for phase_w in range(min(window.stride_w, window.in_w)):
            _transpose_phase(steps, out, window, filters, x, (phase_h, phase_w), depth)


def _transpose_apart(
    steps: Lowering, out: Sums, window: Window2D, weights: TensorType, x: Operand
) -> None:
    """Each filter row h: [out_w, depth] x [depth, filter_w * units] fills row i * s + h of y."""
    units, depth = weights.dims[0], weights.dims[3]
    n = window.filter_w * units
    m = window.out_w
    tile = choose_tile(steps.isa, m, n)
    columns = tile.columns(steps.isa)
    bias = steps.constant(
        f"tiled bias {columns}",
        lambda: pad_bias(
            None if out.bias is None else np.tile(np.asarray(out.bias).ravel(), window.filter_w),
            n, columns,
        ),
    )  # fmt: skip
    for h in range(window.filter_h):
        w = steps.constant(f"row {h} {columns}", partial(_filter_row, weights, h, columns))
        at = 4 * h * window.in_w * units
        product(
            steps, out, x, w, tile, m, depth, bias=bias, n=n, y=out.y.at(at),
            residual=out.residual.at(at), batches=window.batch * window.out_h,
            x_batch=m * depth, y_batch=window.filter_h * window.in_w * units,
        )  # fmt: skip


def _filter_row(weights: TensorType, h: int, columns: int) -> F32Array:
    """Row h of OHWI filters as panels of [depth, width * units]."""
    row = plain(weights)[:, h].transpose(2, 1, 0)
    return pack_panels(row.reshape(row.shape[0], -1), columns)


def _transpose_phase(
    steps: Lowering, out: Sums, window: Window2D, filters: Filters, x: Operand,
    phase: tuple[int, int], depth: int,
) -> None:  # fmt: skip
    """Outputs whose row and column are `phase` modulo the strides: a convolution of its own."""
    units = out.units
    rows, columns = window.rows, window.columns
    first_h, count_h, top = _phase_taps(phase[0], rows.filter, rows.stride, rows.before)
    first_w, count_w, left = _phase_taps(phase[1], columns.filter, columns.stride, columns.before)
    height = -(-(window.in_h - phase[0]) // rows.stride)
    width = -(-(window.in_w - phase[1]) // columns.stride)
    forward = Window2D(
        *(window.batch, window.out_h, window.out_w, depth, height, width),
        *(count_h, count_w, 1, 1, 1, 1, top, left, 0, 0),
    )
    at = 4 * (phase[0] * window.in_w + phase[1]) * units

    taps = (
        range(first_h, rows.filter, rows.stride)[::-1],
        range(first_w, columns.filter, columns.stride)[::-1],
    )
    part = Sums(out.epilogue, out.y.at(at), out.residual.at(at), out.bias, units)
    _convolve(
        steps, part, forward, f"phase {phase}", x,
        lambda name, tile: filters.panels(steps, name, tile, range(units), *taps), depth,
        pitches=(columns.stride * units, rows.stride * window.in_w * units),
        image=window.in_h * window.in_w * units,
    )  # fmt: skip


def _phase_taps(phase: int, filter: int, stride: int, before: int) -> tuple[int, int, int]:
    """(first tap, number of taps, padding before) of the convolution for one phase.

    Output phase + stride * q takes tap h of input (phase + before - h) / stride + q: taps in
    steps of `stride`, the last of which meets the first input.
    """
    first = (phase + before) % stride
    count = max(-(-(filter - first) // stride), 0)
    ahead = (phase + before - first) // stride
    return first, count, count - 1 - ahead
