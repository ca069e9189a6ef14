"""Convolutions in space as convolutions of planes: the filter's depth becomes channels.

A plane of the result sees as many planes of the data as the filter is deep. They are put side by
side, pixel by pixel, with zeros for those outside; what is left is a convolution of planes with
so many times the channels, its batch being all planes of all volumes.
"""

from __future__ import annotations

from math import prod

import numpy as np

from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.blocks import copy_box, row_strides
from litejit.ops.conv_f32 import Filters, direct, transposed
from litejit.ops.matmul_f32 import sums_of
from litejit.ops.window import Span, Window2D
from litejit.record import replace
from litejit.types import TensorType


def lower_conv3d(node: Node, steps: Lowering, spans: tuple[Span, ...]) -> None:
    """CONV_3D; filters are DHWIO."""
    x, weights, bias = node.input(0), node.input(1), node.optional(2)
    out, source = sums_of(node, steps, bias, weights.dims[4]), steps.inputs[0]
    known = bias is None or bias.is_constant
    if out is None or source is None or not known or not node.output(0).size:
        return
    depth, rows, columns = spans
    sources = [
        (z, z * depth.stride + tap * depth.dilation - depth.before, tap)
        for tap in range(depth.filter) for z in range(*depth.valid(tap))
    ]  # fmt: skip
    data = _planes(steps, source, x, depth.out, depth.filter, sources)
    channels = depth.filter * x.dims[4]
    window = Window2D(
        *(x.dims[0] * depth.out, rows.size, columns.size, channels, rows.out, columns.out),
        *(rows.filter, columns.filter, rows.stride, columns.stride),
        *(rows.dilation, columns.dilation, rows.before, columns.before, rows.after, columns.after),
    )
    direct(steps, out, window, _filters(node, steps, (4, 1, 2, 0, 3)), data)


def lower_conv3d_transpose(node: Node, steps: Lowering, spans: tuple[Span, ...]) -> None:
    """CONV_3D_TRANSPOSE; `spans` go from the result to the data, filters are DHWOI."""
    x, weights, bias = node.input(2), node.input(1), node.optional(3)
    out, source = sums_of(node, steps, bias, weights.dims[3]), steps.inputs[2]
    known = bias is None or bias.is_constant
    depth, rows, columns = spans
    if out is None or source is None or not known or not node.output(0).size:
        return
    if rows.dilation > 1 or columns.dilation > 1:
        return
    sources = [
        (z * depth.stride + tap * depth.dilation - depth.before, z, tap)
        for tap in range(depth.filter) for z in range(*depth.valid(tap))
    ]  # fmt: skip
    data = _planes(steps, source, x, depth.size, depth.filter, sources)
    channels = depth.filter * x.dims[4]
    window = Window2D(
        *(x.dims[0] * depth.size, rows.size, columns.size, out.units, rows.out, columns.out),
        *(rows.filter, columns.filter, rows.stride, columns.stride, 1, 1),
        *(rows.before, columns.before, rows.after, columns.after),
    )
    transposed(steps, out, window, _filters(node, steps, (3, 1, 2, 0, 4)), data, channels)


def _planes(
    steps: Lowering, source: Operand, x: TensorType, planes: int, taps: int,
    sources: list[tuple[int, int, int]],
) -> Operand:  # fmt: skip
    """[volumes * planes, pixels, taps * channels] of data [volumes, depth, pixels, channels].

    `sources` tells (plane made, plane of the data, tap), tap by tap in rising steps; all other
    places are 0.
    """
    volumes, depth, *area, channels = x.dims
    pixels, cell = prod(area), 4 * channels
    if taps == 1 and [(z, z, 0) for z in range(depth)] == sources and planes == depth:
        return source
    made = steps.temporary(volumes * planes * pixels * taps * cell)
    if len(sources) < planes * taps:
        zero = steps.constant("a zero", lambda: np.zeros(16, np.float32))
        copy_box(steps, made, zero, [(volumes * planes * pixels * taps * channels, 0, 4)], 4)
    for tap in range(taps):
        own = [(z, at) for z, at, number in sources if number == tap]
        if not own:
            continue
        (z, at), (last_z, last_at), moves = own[0], own[-1], max(len(own) - 1, 1)
        down, over = (last_at - at) // moves, (last_z - z) // moves or 1
        box = [
            (volumes, depth * pixels * cell, planes * pixels * taps * cell),
            (len(own), down * pixels * cell, over * pixels * taps * cell),
            (pixels, cell, taps * cell),
            (channels, 4, 4),
        ]
        to = made.at((z * pixels * taps + tap) * cell)
        copy_box(steps, to, source.at(at * pixels * cell), box, 4)
    return made


def _filters(node: Node, steps: Lowering, order: tuple[int, ...]) -> Filters:
    """Filters with their dimensions in `order` (units, rows, columns, depth, channels) as OHWI."""
    weights, found = node.input(1), steps.inputs[1]
    dims = [weights.dims[j] for j in order]
    shape = (*dims[:3], dims[3] * dims[4])
    flat: TensorType = replace(weights, shape=shape, value=None)
    if weights.value is not None:
        return Filters(flat.with_value(weights.value.transpose(order).reshape(shape)), None)
    assert found is not None
    turned, strides = steps.temporary(weights.nbytes), row_strides(weights.dims, 4)
    places = row_strides(dims, 4)
    box = [(n, strides[j], to) for n, j, to in zip(dims, order, places, strict=True)]
    copy_box(steps, turned, found, box, 4)
    return Filters(flat, turned)
