"""Lowerings of dynamic-range layers: float data, constant integer weights.

The data is quantized into temporary bytes, then the kernels of 8-bit layers run on it with an
epilogue that makes floats (kernels/hybrid). Rows of FULLY_CONNECTED have scales of their own,
images of convolutions too: those run one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.codegen.lang import i32
from litejit.kernels import hybrid as kernels
from litejit.kernels.epilogue_f32 import ADD
from litejit.model.options import Activation
from litejit.ops import conv_int8
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.convolution import (
    conv_bias,
    is_asymmetric,
    operands,
    transposed_window_of,
    units_axis,
)
from litejit.ops.layer_int8 import Layer, Weights
from litejit.ops.matmul_f32 import epilogue_of, residual_of
from litejit.ops.matmul_f32 import fusible_after as float_followers
from litejit.ops.product_int8 import Picked, Product, multiply
from litejit.ops.window import Window2D, window_of
from litejit.record import Record, replace
from litejit.types import Array, TensorType

__all__ = [
    "compiles",
    "fusible_after",
    "lower_conv",
    "lower_depthwise",
    "lower_fully_connected",
    "lower_transpose_conv",
]

MAX_PIECES = 64  # of an image, for the search of its extremes
PIECE = 4096  # floats, at least
MOST_BLOCKS = 256  # of a row of weights: each is a product of its own


def compiles(node: Node) -> bool:
    """Constant weights of 8 bits or less, one scale or one a channel, a known activation."""
    weights = operands(node)[1] if node.core.name != "FULLY_CONNECTED" else node.core.input(1)
    q = weights.quantization
    known = getattr(node.core.options, "activation", Activation.NONE) != Activation.SIGN_BIT
    few = q is not None and (not q.block_size or weights.dims[1] <= MOST_BLOCKS * q.block_size)
    return known and few and weights.dtype.bits <= 8


def fusible_after(node: Node, follower: Node, position: int) -> bool:
    """What float epilogues take in; blockwise weights have theirs for adding blocks."""
    q = node.core.input(1).quantization
    return not (q is not None and q.block_size) and float_followers(node, follower, position)


class _Numbers(Record):
    """What the lowerings of 8-bit layers ask of a layer's arithmetic."""

    weights: Weights
    bias: Array
    scales: Array
    form: str = "float"

    __hash__ = object.__hash__


class HybridLayer(Layer):
    """One node on quantized rows, or on one quantized image."""

    def __init__(
        self, node: Node, steps: Lowering, numbers: _Numbers, quantized: _Quantized,
        *, image: int = 0, joined: bool,
    ) -> None:  # fmt: skip
        self.node, self.steps, self.isa = node, steps, steps.isa
        self.numbers: Any = numbers
        self.lanes = steps.isa.lanes(i32)
        self.unsigned = steps.isa.dot_is_unsigned
        self.moved = 0
        self.joins = not quantized.by_row
        self._quantized, self._joined = quantized, joined
        self._start = image * node.output(0).size // max(node.core.output(0).dims[0], 1)

    def data(self, offset: int) -> Operand:
        """Quantized bytes."""
        return self._quantized.values.at(offset)

    def result(self, offset: int) -> Operand:
        """Floats of this layer's image."""
        return self.steps.outputs[0].at(4 * (self._start + offset))

    def epilogue(self, channels: int) -> kernels.Rescaling:
        """Floats, and what was fused behind."""
        narrow = channels if channels < self.lanes else 0
        words = epilogue_of(self.node)
        assert words is not None
        return kernels.Rescaling(self._quantized.by_row, self._joined, words, narrow)

    def shared_operands(self, offset: int = 0) -> tuple[Operand | int, ...]:
        """(parameters, residual, nothing)."""
        found = residual_of(self.node, self.steps)
        residual = 0 if found is None else found.at(4 * (self._start + offset))
        return self._quantized.parameters, residual, 0

    def channel_constants(self, order: Array, sums: Array, *, moved: int | None = None) -> Array:
        """Sums of weights, scales and biases of the channels `order`."""
        n = self.numbers
        return kernels.channel_constants(self.lanes, sums[order], n.scales[order], n.bias[order])

    def padding(self, nbytes: int) -> Operand:
        """Bytes of the zero point that was found for the image."""
        assert nbytes <= self._quantized.padded
        padding: Operand = self._quantized.padding
        return padding


class _BlockLayer(HybridLayer):
    """One block of blockwise weights: adds to the sums `before`, in other memory.

    Kernels write some results twice: what they add to must not be what they write.
    """

    before: Operand | None = None
    target: Operand

    def result(self, offset: int) -> Operand:
        """Floats of the sums with this block."""
        return self.target.at(4 * offset)

    def epilogue(self, channels: int) -> kernels.Rescaling:
        """Floats, without an activation."""
        words = () if self.before is None else (ADD,)
        narrow = channels if channels < self.lanes else 0
        return kernels.Rescaling(True, True, words, narrow)

    def shared_operands(self, offset: int = 0) -> tuple[Operand | int, ...]:
        """(parameters, the sums before, nothing)."""
        before = 0 if self.before is None else self.before.at(4 * offset)
        return self._quantized.parameters, before, 0


class _Quantized(Record):
    """Where the quantized data lies, its parameters, and bytes of its zero point."""

    values: Operand
    parameters: Operand
    padding: Any
    padded: int
    by_row: bool

    __hash__ = object.__hash__


def _numbers(weights: TensorType, units: int, bias: Array | None) -> _Numbers:
    assert weights.value is not None and weights.quantization is not None
    raw = weights.value.view(np.int8)
    scales = np.broadcast_to(weights.quantization.scales.astype(np.float32), (units,))
    flat = np.zeros(units, np.float32) if bias is None else bias.astype(np.float32).ravel()
    return _Numbers(Weights(raw, 0, "byte"), flat, np.ascontiguousarray(scales))


# -- FULLY_CONNECTED --


def lower_fully_connected(node: Node, steps: Lowering) -> None:
    """Each row is quantized; a product of bytes follows."""
    from litejit.ops import matmul

    core = node.core
    rows, units, depth = matmul.fc_sizes(node)
    weights, bias = core.input(1), core.optional(2)
    x = steps.inputs[0]
    if epilogue_of(node) is None or not rows or not units or not depth or x is None:
        return
    q = weights.quantization
    blocks = q is not None and q.block_size > 0
    symmetric = not blocks and not core.options.asymmetric_quantize_inputs
    quantized = quantize_rows(steps, 0, rows, depth, symmetric=symmetric)
    if blocks:
        _add_blocks(node, steps, quantized)
        return
    numbers = _numbers(weights, units, None if bias is None else bias.value)
    layer = HybridLayer(node, steps, numbers, quantized, joined=True)
    pick = Picked(lambda w: w[None], slice(0, units), 1, units)
    multiply(layer, Product("dense", pick, depth, rows, depth, units))


def _add_blocks(node: Node, steps: Lowering, quantized: _Quantized) -> None:
    """A product for every block of the depth, with scales of its own."""
    from litejit.ops import matmul

    rows, units, depth = matmul.fc_sizes(node)
    weights, bias = node.core.input(1), node.core.optional(2)
    assert weights.quantization is not None and weights.value is not None
    size = weights.quantization.block_size
    scales = weights.quantization.scales.astype(np.float32).reshape(units, -1)
    start, count = np.zeros(units, np.float32), depth // size
    sums = [steps.temporary(4 * rows * units) for _ in range(min(count - 1, 2))]
    before = None
    for number in range(count):
        term = bias.value if bias is not None and bias.value is not None and not number else start
        part = weights.value[:, number * size : (number + 1) * size]
        numbers = _Numbers(
            Weights(part, 0, "byte"), term.astype(np.float32).ravel(),
            np.ascontiguousarray(scales[:, number]),
        )  # fmt: skip
        layer = _BlockLayer(node, steps, numbers, quantized, joined=True)
        layer.before = before
        layer.target = before = sums[number % 2] if number < count - 1 else steps.outputs[0]
        pick = Picked(lambda w: w[None], slice(0, units), 1, units)
        block = Product(f"block {number}", pick, size, rows, depth, units, x_at=number * size)
        multiply(layer, block)


def quantize_rows(
    steps: Lowering, position: int, rows: int, depth: int, *, symmetric: bool,
    source: Operand | None = None,
) -> _Quantized:  # fmt: skip
    """Rows of float input `position` to bytes with a scale for each, once for all its readers.

    `source` is another place that they are found at, for this node alone.
    """
    x = steps.inputs[position] if source is None else source
    assert x is not None

    def make() -> tuple[Operand, ...]:
        values, parameters = steps.temporary(rows * depth), steps.temporary(rows * 8)
        cost = rows * (12.0 + depth * 0.07)
        spec = kernels.QuantizeRowsSpec(symmetric, rows > 1 and not symmetric)
        steps.call(spec, x, values, parameters, depth, items=rows, cost_ns=cost)
        return values, parameters

    kind = "symmetric" if symmetric else "asymmetric"
    name = f"{kind} rows of {depth}"
    values, parameters = make() if source else steps.shared(position, name, make)
    return _Quantized(values, parameters, 0, 0, by_row=True)


# -- convolutions --


def lower_conv(node: Node, steps: Lowering) -> None:
    """CONV_2D: one product an image and group."""
    window = window_of(node)
    depth = operands(node)[1].dims[3]
    for layer in _layers(node, steps, window):
        groups = window.channels // depth
        conv_int8.grouped(
            layer, replace(window, batch=1), groups, lambda w: w.transpose(1, 2, 0, 3)
        )


def lower_depthwise(node: Node, steps: Lowering) -> None:
    """DEPTHWISE_CONV_2D: the sliding kernel, or grouped products."""
    window = window_of(node)
    for layer in _layers(node, steps, window):
        conv_int8.depthwise_or_grouped(layer, replace(window, batch=1))


def lower_transpose_conv(node: Node, steps: Lowering) -> None:
    """TRANSPOSE_CONV: one product an image and phase."""
    window = transposed_window_of(node)
    depth = operands(node)[1].dims[3]
    for layer in _layers(node, steps, conv_int8.turned(window, depth)):
        conv_int8.transposed(layer, replace(window, batch=1), depth)


def _layers(node: Node, steps: Lowering, window: Window2D) -> list[HybridLayer]:
    """Quantize all images; the layer of each."""
    data, weights, _ = operands(node)
    words, units = epilogue_of(node), weights.dims[units_axis(node)]
    position = next(
        j for j, t in enumerate(node.core.inputs) if t is not None and t.index == data.index
    )
    x = steps.inputs[position]
    if words is None or x is None or not conv_int8.fits(window, units):
        return []
    numbers = _numbers(weights, units, conv_bias(node))
    asymmetric = is_asymmetric(node)
    joined = units_axis(node) == 3 or not asymmetric
    # a whole row of the image may lie outside, and one tap of all channels
    padded = -(-data.dims[2] * data.dims[3] // 64) * 64 + 192
    layers, size = [], window.in_h * window.in_w * window.channels
    for image in range(data.dims[0]):
        at = x.at(4 * image * size)
        found = _quantize_image(steps, at, size, padded, symmetric=not asymmetric)
        layers.append(HybridLayer(node, steps, numbers, found, image=image, joined=joined))
    return layers


def _quantize_image(
    steps: Lowering, x: Operand, size: int, padded: int, *, symmetric: bool
) -> _Quantized:
    block = max(PIECE, -(-size // MAX_PIECES))
    block = -(-block // 64) * 64
    pieces = -(-size // block)
    partials = steps.temporary(pieces * kernels.PARTIAL_BYTES)
    values, parameters = steps.temporary(size), steps.temporary(kernels.PARAMETER_BYTES)
    padding = steps.temporary(padded)
    steps.call(
        kernels.RangeSpec(symmetric), x, partials, size, block,
        items=pieces, cost_ns=20 + size * 0.06,
    )  # fmt: skip
    steps.call(
        kernels.QuantizeImageSpec(symmetric), x, partials, values, parameters, padding,
        size, block, pieces, padded, items=pieces, cost_ns=20 + size * 0.1,
    )  # fmt: skip
    return _Quantized(values, parameters, padding, padded, by_row=False)
