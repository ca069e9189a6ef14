"""Lowerings of 8-bit convolutions and matrix products with constant weights.

Everything but the plain depthwise window becomes products of rows with panels of weights
(kernels/conv_int8): groups become products of their own (narrow ones are joined, with zeros
between them), a transposed convolution one product for each phase of its stride, a matrix
product is a 1x1 convolution of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.kernels import depthwise_int8 as depthwise
from litejit.ops import narrow_int8, winograd_int8
from litejit.ops.base import Lowering, Node
from litejit.ops.convolution import (
    conv_activation,
    conv_bias,
    conv_multipliers,
    operands,
    transposed_window_of,
    units_axis,
)
from litejit.ops.layer_int8 import (
    Layer,
    late_weights,
    numbers_by_factor,
    numbers_of,
    takes,
    weights_of,
)
from litejit.ops.product_int8 import Picked, Product, multiply
from litejit.ops.window import Window2D, window_of
from litejit.record import Record, replace
from litejit.types import U8, Array

LARGEST = 1 << 31  # offsets inside one image are int32
MAX_UNROLLED = 64  # dot products in a depthwise kernel's inner loop


def lower_conv(node: Node, steps: Lowering) -> None:
    """CONV_2D of int8 or uint8."""
    window = window_of(node)
    raw = operands(node)[1].dims
    groups = window.channels // raw[3]
    layer = _conv_layer(node, steps, window.filter_h * window.filter_w * raw[3], wide="sums")
    late = bool(layer.numbers.weights.dims)
    if not late and winograd_int8.pays(layer, window, raw[3]):
        winograd_int8.convolve(layer, window)
        return
    grouped(layer, window, groups, lambda w: w.transpose(1, 2, 0, 3))


def lower_depthwise(node: Node, steps: Lowering) -> None:
    """DEPTHWISE_CONV_2D of int8 or uint8; windows too large to unroll become grouped ones."""
    window = window_of(node)
    taps = window.filter_h * window.filter_w
    if not operands(node)[1].is_constant:
        return
    layer = _conv_layer(node, steps, taps, wide="split")
    depthwise_or_grouped(layer, window)


def depthwise_or_grouped(layer: Layer, window: Window2D) -> None:
    """The depthwise kernel where it fits, else products of groups."""
    units = len(layer.numbers.bias)
    spec = _depthwise_spec(layer, window)
    per_tap = spec.quads * spec.out_rows * spec.parts * spec.taps_x
    plain = units == window.channels and layer.numbers.weights.parts != "sums"
    if plain and per_tap <= MAX_UNROLLED and fits(window, units):
        _call_depthwise(layer, window, spec)
        return
    if layer.numbers.weights.parts == "split":
        weights = replace(layer.numbers.weights, parts="sums")
        layer = Layer(layer.node, layer.steps, replace(layer.numbers, weights=weights))
    multiplier = units // window.channels
    shape = (window.filter_h, window.filter_w, units, 1)
    groups = window.channels
    assert multiplier * groups == units
    grouped(layer, window, groups, lambda w: w.reshape(shape))


def lower_transpose_conv(node: Node, steps: Lowering) -> None:
    """TRANSPOSE_CONV of int8 or uint8: one convolution for each phase of the stride."""
    window = transposed_window_of(node)
    _, tensor, _ = operands(node)
    depth = tensor.dims[3]
    layer = _conv_layer(node, steps, window.filter_h * window.filter_w * depth, wide="sums")
    transposed(layer, window, depth)


def transposed(layer: Layer, window: Window2D, depth: int) -> None:
    """One product for each phase; `window` goes from the result to the data."""
    units = len(layer.numbers.bias)
    rows = _phases(window.in_h, window.filter_h, window.stride_h, window.top)
    columns = _phases(window.in_w, window.filter_w, window.stride_w, window.left)
    data = turned(window, depth)
    if not fits(data, units):
        return
    for y in rows:
        for x in columns:
            _phase(layer, data, y, x)


def turned(window: Window2D, depth: int) -> Window2D:
    """A transposed convolution's window with `in` for its data and `out` for its result."""
    data: Window2D = replace(
        window, in_h=window.out_h, in_w=window.out_w, channels=depth,
        out_h=window.in_h, out_w=window.in_w,
    )  # fmt: skip
    return data


def lower_fully_connected(node: Node, steps: Lowering, *, fixed_point: bool = False) -> None:
    """FULLY_CONNECTED of int8 or uint8, scaled in float64 or (TFLM) with two roundings."""
    from litejit.ops import matmul

    x, weights, bias = (node.core.optional(j) for j in range(3))
    assert x is not None and weights is not None
    rows, units, depth = matmul.fc_sizes(node)
    _, zero, _ = matmul.fc_zero_points(node)
    known: Any = {
        "bias": None if bias is None else bias.value,
        "units": units,
        "limits": matmul.fc_activation(node),
    }
    y, packed = node.core.output(0), late_weights((units, 1, 1, depth))
    if weights.value is not None:
        packed = weights_of(weights.value, zero, wide="sums")
    if fixed_point:
        multipliers = matmul.fc_multipliers(node)
        numbers = numbers_of(packed, x, y, multipliers=multipliers, products=depth, **known)
    else:
        numbers = numbers_by_factor(packed, x, y, factor=matmul.fc_scales(node), **known)
    layer = Layer(node, steps, numbers)
    one = range(1), range(1)
    pick = Picked(lambda w: w[None], slice(0, units), 1, units, taps=one)
    multiply(layer, Product("dense", pick, depth, rows, depth, units))


def fusible_after(node: Node, follower: Node, position: int) -> bool:
    """A residual ADD of 8-bit tensors, then a look-up: what the epilogue can take."""
    return takes(node, follower, position)


def _conv_layer(node: Node, steps: Lowering, products: int, *, wide: str) -> Layer:
    x, tensor, _ = operands(node)
    zero, found = tensor.zero_point if x.dtype == U8 else 0, late_weights(tensor.dims)
    if tensor.value is not None:
        found = weights_of(tensor.value, zero, wide=wide)
    numbers = numbers_of(
        found, x, node.core.output(0),
        bias=conv_bias(node), units=tensor.dims[units_axis(node)], limits=conv_activation(node),
        multipliers=conv_multipliers(node), products=products,
    )  # fmt: skip
    return Layer(node, steps, numbers)


def fits(window: Window2D, units: int) -> bool:
    """Are all offsets inside one image int32?"""
    out = window.out_h * window.out_w * units
    pad = (window.top + window.in_h + window.bottom + 1) * (window.in_w + window.left + 1)
    return max(out, pad * window.channels) < LARGEST


# -- depthwise --


def _depthwise_spec(layer: Layer, window: Window2D) -> depthwise.DepthwiseSpec:
    """Two output rows at a time where they share quads of input rows."""
    one = depthwise.DepthwiseSpec(
        window.filter_h, window.filter_w, layer.epilogue(window.channels),
        unsigned=layer.unsigned, split=layer.numbers.weights.parts == "split",
        batched=window.batch > 1,
    )  # fmt: skip
    two: depthwise.DepthwiseSpec = replace(one, out_rows=2, stride=window.stride_h)
    pays = window.dilation_h == 1 and window.out_h >= 2 and two.quads < 2 * one.quads
    return two if pays else one


def _call_depthwise(layer: Layer, window: Window2D, spec: depthwise.DepthwiseSpec) -> None:
    steps, weights, lanes = layer.steps, layer.numbers.weights, layer.lanes
    units = window.channels
    order = depthwise.channel_order(units, lanes)

    def meant() -> Array:
        wide: Array = weights.raw[0].astype(np.int64) - weights.zero
        return wide

    name = f"{spec.out_rows} rows {weights.parts}"
    packed = steps.constant(
        f"depthwise {name}", lambda: depthwise.pack_weights(spec, meant(), lanes)
    )
    channels = steps.constant(
        "depthwise channels", lambda: layer.channel_constants(order, meant().sum((0, 1)))
    )
    blocks = len(order) // lanes
    columns = (window.out_w - 1) * window.stride_w + (window.filter_w - 1) * window.dilation_w + 1
    scratch = columns * spec.column_bytes(lanes)
    groups = window.batch * -(-window.out_h // spec.out_rows)
    steps.call(
        spec, layer.data(0), packed, channels, layer.padding(window.in_w * units),
        steps.scratch(scratch), layer.result(0), *layer.shared_operands(),
        *(window.in_h, window.in_w, units, window.out_h, window.out_w, blocks),
        *(window.dilation_h, window.dilation_w, window.stride_h, window.stride_w),
        *(window.top, window.left, columns, scratch),
        items=groups * blocks, cost_ns=window.batch * _depthwise_ns(layer, window, spec),
    )  # fmt: skip


def _depthwise_ns(layer: Layer, window: Window2D, spec: depthwise.DepthwiseSpec) -> float:
    """About what one image takes on one thread: columns to interleave, dots, rescaling."""
    width = layer.lanes
    blocks = -(-window.channels // width)
    per_dot = 0.15 if layer.isa.dot else 1.0
    groups = -(-window.out_h // spec.out_rows)
    columns = groups * window.in_w * spec.quads * 1.2
    dots = spec.quads * spec.taps_x * spec.out_rows * spec.parts * per_dot
    return blocks * (columns + groups * window.out_w * (dots + spec.out_rows))


# -- products --


def grouped(layer: Layer, window: Window2D, groups: int, arrange: Callable[[Array], Array]) -> None:
    """CONV_2D whose channels fall into groups; narrow groups are joined."""
    units = len(layer.numbers.bias)
    depth, each = window.channels // groups, units // groups
    if not fits(window, units):
        return
    late = bool(layer.numbers.weights.dims)
    joined = 1 if late else next(
        f for f in range(1, groups + 1)
        if groups % f == 0 and (f * each >= layer.lanes or f == groups)
    )  # fmt: skip
    if not late and joined == groups and narrow_int8.pays(layer, window):
        narrow_int8.convolve(layer, window, Picked(arrange, slice(0, units), groups, units))
        return
    direct = window.is_pointwise
    images = 1 if direct else window.batch
    pixels = window.out_h * window.out_w
    for part in range(groups // joined):
        channels = slice(part * joined * each, (part + 1) * joined * each)
        taps = range(window.filter_h), range(window.filter_w)
        pick = Picked(arrange, channels, joined, units, taps=taps)
        product = Product(
            f"{part}", pick, depth * joined, pixels * (window.batch if direct else 1),
            window.channels, units, None if direct else window,
            part * joined * depth, channels.start, window.out_w * units, None,
            images, window.in_h * window.in_w * window.channels, pixels * units,
        )  # fmt: skip
        multiply(layer, product)


# -- transposed convolutions --


class _Phase(Record):
    """Results start, start + stride, ... of one axis: `taps` of the filter, reversed, over data.

    Result t reads data from t - before on.
    """

    start: int
    count: int
    taps: range
    before: int


def _phases(size: int, filter: int, stride: int, pad: int) -> list[_Phase]:
    """The phases of one axis of a transposed convolution."""
    starts = range(min(stride, size))
    return [_axis_phase(start, size, filter, stride, pad) for start in starts]


def _axis_phase(start: int, size: int, filter: int, stride: int, pad: int) -> _Phase:
    first = (start + pad) % stride
    taps = range(first, filter, stride)[::-1]
    # result start + t * stride meets tap k at data t + (start + pad - k) / stride
    nearest = (start + pad - (taps[0] if taps else first)) // stride
    return _Phase(start, -(-(size - start) // stride), taps, -nearest)


def _phase(layer: Layer, data: Window2D, y: _Phase, x: _Phase) -> None:
    """Results of one phase of both axes."""
    units, depth = len(layer.numbers.bias), data.channels
    window = replace(
        data, out_h=y.count, out_w=x.count, filter_h=max(len(y.taps), 1),
        filter_w=max(len(x.taps), 1), stride_h=1, stride_w=1, top=y.before, left=x.before,
    )  # fmt: skip

    def arrange(weights: Array) -> Array:
        if not y.taps or not x.taps:  # no tap: the bias alone
            zero = layer.numbers.weights.zero
            shape = (window.filter_h, window.filter_w, units, depth)
            return np.full(shape, zero, weights.dtype)
        picked: Array = weights[:, list(y.taps)][:, :, list(x.taps)].transpose(1, 2, 0, 3)
        return picked

    taps = (y.taps, x.taps) if y.taps and x.taps else None
    pick = Picked(arrange, slice(0, units), 1, units, taps=taps)
    product = Product(
        f"{y.start},{x.start}", pick, depth,
        y.count * x.count, depth, data.stride_w * units, window,
        0, (y.start * data.out_w + x.start) * units, data.stride_h * data.out_w * units, None,
        data.batch, data.in_h * data.in_w * depth, data.out_h * data.out_w * units,
    )  # fmt: skip
    multiply(layer, product)
