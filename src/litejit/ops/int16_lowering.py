"""Lowerings of layers with int16 data: constant weights of 8 bits or less, products of any."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.codegen.lang import i32
from litejit.kernels import depthwise_int8, int16, packing_int8
from litejit.ops import conv_int8
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.batch_matmul_int8 import turned
from litejit.ops.blocks import copy_box
from litejit.ops.convolution import (
    conv_activation,
    conv_bias,
    conv_multipliers,
    operands,
    plain_weights,
    transposed_window_of,
    units_axis,
    uses_wide_sums,
)
from litejit.ops.fixedpoint import quantize_multipliers, reduced_multiplier, type_range
from litejit.ops.layer_int8 import Layer, Weights
from litejit.ops.matmul_f32 import batches_of
from litejit.ops.product_int8 import Picked, Product, multiply
from litejit.ops.window import Window2D, window_of
from litejit.record import Record, replace
from litejit.types import I16, I32, Array, TensorType

LARGEST_SUM = (1 << 31) // (1 << 15)  # of absolute weights, so that int32 holds their products
MAX_CHAINS = 8
MOST_TAPS = 64  # that are copied one by one


class _Numbers(Record):
    """What the lowerings of 8-bit layers ask of a layer's arithmetic."""

    weights: Weights
    bias: Array
    multiplier: Array
    shift: Array
    limits: tuple[int, int]
    form: str
    wraps: bool = False

    __hash__ = object.__hash__


class Layer16(Layer):
    """One node on int16 data; `chains` accumulators share the products of a sum."""

    joins = False
    item = 2

    def __init__(
        self, node: Node, steps: Lowering, numbers: _Numbers, data: TensorType, chains: int
    ) -> None:
        self.node, self.steps, self.isa = node, steps, steps.isa
        self.numbers: Any = numbers
        self.lanes = steps.isa.lanes(i32)
        self.unsigned = steps.isa.dot_is_unsigned
        self.moved, self.chains = 0, chains
        self._position = next(
            j for j, t in enumerate(node.core.inputs) if t is not None and t.index == data.index
        )

    def data(self, offset: int) -> Operand:
        """The data, `offset` elements further on."""
        found = self.steps.inputs[self._position]
        assert found is not None
        return found.at(2 * offset)

    def result(self, offset: int) -> Operand:
        """The result, `offset` elements further on."""
        return self.steps.outputs[0].at(2 * offset)

    def epilogue(self, channels: int) -> int16.Rescaling16:
        """The rescaling of a kernel that makes `channels` channels of each pixel."""
        narrow = channels if channels < self.lanes else 0
        return int16.Rescaling16(self.numbers.form, self.numbers.wraps, narrow)

    def shared_operands(self, offset: int = 0) -> tuple[Operand | int, ...]:
        """(bounds, nothing, nothing)."""
        limits = np.array(self.numbers.limits, np.int32)
        return self.steps.constant("limits", lambda: limits), 0, 0

    def channel_constants(self, order: Array, sums: Array, *, moved: int | None = None) -> Array:
        """Biases and rescaling of the channels `order`."""
        n = self.numbers
        return int16.channel_constants(
            n.form, self.lanes, n.bias[order], n.multiplier[order], n.shift[order]
        )

    def padding(self, nbytes: int) -> Operand:
        """Zeros."""
        size = -(-nbytes // 64) * 64 + 64
        return self.steps.constant(f"zeros {size}", lambda: np.zeros(size, np.int8))


def fusible_after(node: Node, follower: Node, position: int) -> bool:
    """Nothing is taken in."""
    return False


def lower_fully_connected(node: Node, steps: Lowering, *, fixed_point: bool = False) -> None:
    """FULLY_CONNECTED: sums in int64, one factor in float64 or (TFLM) in fixed point."""
    from litejit.ops import matmul

    core = node.core
    rows, units, depth = matmul.fc_sizes(node)
    weights, bias = core.input(1), core.optional(2)
    if weights.dtype == I16:
        if not fixed_point:
            lower_wide_products(node, steps)
        return
    assert weights.value is not None
    chains = _chains(weights.value, 1)
    if not rows or not units or not depth or not chains:
        return
    factor, shift = matmul.fc_scales(node), np.zeros(units, np.int64)
    form, wraps = "double", core.options.quantized_bias_type == I32
    if fixed_point:
        wraps = (core.options.quantized_bias_type if bias is None else bias.dtype) == I32
        factor, shift = matmul.fc_multipliers(node)
        form = "wide"
        if not wraps:
            form, factor = "reduced", reduced_multiplier(factor)
            shift = 15 - shift.astype(np.int64)
    numbers = _Numbers(
        Weights(weights.value, 0, "words"), _whole(None if bias is None else bias.value, units),
        factor, shift, matmul.fc_activation(node), form, form == "double" and wraps,
    )  # fmt: skip
    layer = Layer16(node, steps, numbers, core.input(0), chains)
    pick = Picked(lambda w: w[None], slice(0, units), 1, units)
    multiply(layer, Product("dense", pick, depth, rows, depth, units))


_ONE = (1, 0, 0, [(0, 0)])  # a plan of one product


class _Matrices(Record):
    """Sizes of a product, which operands lie turned, and what its sums become.

    `plan` is what ops/matmul_f32.batches_of says; `wide`: sums are scaled as int64.
    """

    sizes: tuple[int, int, int]
    turned: tuple[bool, bool]
    plan: Any
    multiplier: tuple[Array, Array]
    bias: Array
    limits: tuple[int, int]
    wide: bool = True

    __hash__ = object.__hash__


def _matrices(node: Node) -> _Matrices:
    from litejit.ops import matmul

    core = node.core
    x, w, y = core.input(0), core.input(1), core.output(0)
    if core.name == "FULLY_CONNECTED":
        sizes, bias = matmul.fc_sizes(node), core.optional(2)
        whole = _whole(None if bias is None else bias.value, sizes[1])
        numbers = matmul.fc_multipliers(node), whole, matmul.fc_activation(node)
        return _Matrices(sizes, (False, True), _ONE, *numbers)
    (rows, units), adjoint = y.dims[-2:], (bool(core.options.adj_x), bool(core.options.adj_y))
    sizes = rows, units, x.dims[-2 if adjoint[0] else -1]
    multiplier = quantize_multipliers(np.full(units, matmul.bmm_multiplier(node)))
    whole, limits = np.zeros(units, np.int64), type_range(y.dtype)
    dims = (tensor.dims[:-2] for tensor in (x, w, y))
    return _Matrices(sizes, adjoint, batches_of(*dims), multiplier, whole, limits)


def lower_wide_products(node: Node, steps: Lowering) -> None:
    """FULLY_CONNECTED of int16 weights, and BATCH_MATMUL: sums in int64, one rounding."""
    w, y, made = node.core.input(1), node.core.output(0), _matrices(node)
    left, right = steps.inputs[0], steps.inputs[1]
    if made.plan is None or not y.size or not made.sizes[2] or left is None or right is None:
        return
    right = turned(steps, right, w.dims, w.dtype.itemsize) if made.turned[1] else right
    _multiply_wide(steps, made, left, right, byte_weights=w.dtype != I16)


def _multiply_wide(
    steps: Lowering, made: _Matrices, left: Operand, right: Operand, *, byte_weights: bool
) -> None:
    lanes, (rows, units, depth) = steps.isa.lanes(i32), made.sizes
    order = packing_int8.channel_order(units, lanes, 1)
    m, shift = (numbers[order].astype(np.int64) for numbers in made.multiplier)
    form = "wide"
    if made.wide:
        form, m, shift = "reduced", reduced_multiplier(m), 15 - shift
    blocks = int16.channel_constants(form, lanes, made.bias[order], m, shift)
    bounds, narrow = np.array(made.limits, np.int32), units if units < lanes else 0
    spec = int16.Product16Spec(int16.Rescaling16(form, narrow=narrow), byte_weights)
    count, x_step, w_step, outer = made.plan
    data, weights, size = rows * depth, depth * units, rows * units
    items = count * -(-rows // spec.rows) * len(blocks)
    for position, (x_at, w_at) in enumerate(outer):
        steps.call(
            spec, left.at(2 * x_at * data), right.at((2 - byte_weights) * w_at * weights),
            steps.constant("blocks", lambda: blocks), steps.constant("limits", lambda: bounds),
            steps.outputs[0].at(2 * position * count * size), rows, depth, units,
            *((1, rows) if made.turned[0] else (depth, 1)),
            x_step * data, w_step * weights, blocks.shape[1],
            items=items, cost_ns=20 + items * (10 + depth * spec.rows * 0.6),
        )  # fmt: skip


def lower_conv(node: Node, steps: Lowering) -> None:
    """CONV_2D: products of rows with panels, group by group."""
    window = window_of(node)
    weights = operands(node)[1]
    groups = window.channels // weights.dims[3]
    if not weights.is_constant:
        if groups == 1:
            _late_conv(node, steps, window)
        return
    layer = _layer(node, steps, window, groups)
    if layer is not None:
        conv_int8.grouped(layer, window, groups, lambda w: w.transpose(1, 2, 0, 3))


def _late_conv(node: Node, steps: Lowering, window: Window2D) -> None:
    """Patches of the image side by side, times weights that the run turns."""
    left, right, y = steps.inputs[0], steps.inputs[1], node.core.output(0)
    units, height, width, depth = operands(node)[1].dims
    taps, pixels = height * width, window.batch * window.out_h * window.out_w
    if taps > MOST_TAPS or not y.size or left is None or right is None:
        return
    patches, cell = steps.temporary(2 * pixels * taps * depth), 2 * depth
    if window.is_padded:
        zero = steps.constant("a zero", lambda: np.zeros(32, np.int16))
        copy_box(steps, patches, zero, [(pixels * taps * depth, 0, 2)], 2)
    line, image = window.in_w * cell, window.in_h * window.in_w * cell
    for tap in range(taps):
        i, j = divmod(tap, width)
        (top, bottom), (first, stop) = window.rows.valid(i), window.columns.valid(j)
        row = top * window.stride_h + i * window.dilation_h - window.top
        column = first * window.stride_w + j * window.dilation_w - window.left
        box = [
            (window.batch, image, window.out_h * window.out_w * taps * cell),
            (bottom - top, window.stride_h * line, window.out_w * taps * cell),
            (stop - first, window.stride_w * cell, taps * cell),
            (depth, 2, 2),
        ]
        to = patches.at(((top * window.out_w + first) * taps + tap) * cell)
        copy_box(steps, to, left.at(row * line + column * cell), box, 2)
    made = _Matrices(
        (pixels, units, taps * depth), (False, True), _ONE, conv_multipliers(node),
        _whole(conv_bias(node), units), conv_activation(node), uses_wide_sums(node),
    )  # fmt: skip
    right = turned(steps, right, (units, taps * depth), 1)
    _multiply_wide(steps, made, patches, right, byte_weights=True)


def lower_depthwise(node: Node, steps: Lowering) -> None:
    """DEPTHWISE_CONV_2D: a kernel of its own, or grouped products."""
    window = window_of(node)
    layer = _layer(node, steps, window, window.channels)
    if layer is None:
        return
    units = len(layer.numbers.bias)
    if units == window.channels:
        _depthwise(layer, window)
        return
    shape = (window.filter_h, window.filter_w, units, 1)
    conv_int8.grouped(layer, window, window.channels, lambda w: w.reshape(shape))


def lower_transpose_conv(node: Node, steps: Lowering) -> None:
    """TRANSPOSE_CONV: one convolution for each phase of the stride."""
    window = transposed_window_of(node)
    depth = operands(node)[1].dims[3]
    layer = _layer(node, steps, conv_int8.turned(window, depth), 2)
    if layer is not None:
        conv_int8.transposed(layer, window, depth)


def _layer(node: Node, steps: Lowering, window: Window2D, groups: int) -> Layer16 | None:
    data, weights, _ = operands(node)
    if weights.value is None:
        return None
    raw = plain_weights(node, weights.value)
    units = weights.dims[units_axis(node)]
    chains = _chains(raw, groups, axis=units_axis(node))
    wider = replace(window, channels=2 * window.channels)
    if not chains or not conv_int8.fits(wider, 2 * units) or not node.output(0).size:
        return None
    m, shift = conv_multipliers(node)
    form = "wide"
    if uses_wide_sums(node):
        form, m, shift = "reduced", reduced_multiplier(m), 15 - shift.astype(np.int64)
    numbers = _Numbers(
        Weights(raw, 0, "words"), _whole(conv_bias(node), units), m, shift,
        conv_activation(node), form,
    )  # fmt: skip
    return Layer16(node, steps, numbers, data, chains)


def _whole(bias: Array | None, units: int) -> Array:
    return np.zeros(units, np.int64) if bias is None else bias.astype(np.int64).ravel()


def _chains(weights: Array, groups: int, *, axis: int = 0) -> int:
    """How many int32 accumulators a sum needs so that none can overflow; 0: too many.

    Pairs of inputs go to the accumulators in turn.
    """
    wide = np.abs(np.moveaxis(weights.astype(np.int64), axis, 0))
    if int(wide.reshape(len(wide), -1).sum(1).max(initial=0)) < LARGEST_SUM:
        return 1
    if groups > 1:
        return 0
    depth = wide.shape[-1]
    pairs = np.pad(wide.reshape(-1, depth), ((0, 0), (0, -depth % (2 * MAX_CHAINS))))
    by_pair = pairs.reshape(len(wide), -1, MAX_CHAINS, 2).sum((1, 3))
    chains = 2
    while chains <= MAX_CHAINS:
        largest = by_pair.reshape(len(wide), -1, chains).sum(1).max()
        if int(largest) < LARGEST_SUM:
            return chains
        chains *= 2
    return 0


def _depthwise(layer: Layer16, window: Window2D) -> None:
    steps, units, lanes = layer.steps, window.channels, layer.lanes
    raw = layer.numbers.weights.raw
    weights = steps.constant("taps", lambda: np.pad(raw.astype(np.int16).reshape(-1), (0, 64)))
    order = depthwise_int8.channel_order(units, lanes)
    channels = steps.constant(
        "depthwise channels", lambda: layer.channel_constants(order, np.zeros(units, np.int64))
    )
    common, *_ = layer.shared_operands()
    lines = window.batch * window.out_h
    taps = window.filter_h * window.filter_w
    steps.call(
        int16.Depthwise16Spec(layer.epilogue(units)), layer.data(0), weights,
        layer.result(0), channels, common,
        *(window.in_h, window.in_w, units, window.out_h, window.out_w),
        *(window.filter_h, window.filter_w, window.dilation_h, window.dilation_w),
        *(window.stride_h, window.stride_w, window.top, window.left),
        items=lines, cost_ns=lines * window.out_w * units * (taps * 0.06 + 0.5),
    )  # fmt: skip
