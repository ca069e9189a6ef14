"""What convolutions have in common: their operands, checks, multipliers and finishing steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.model.options import (
    Conv2DOptions,
    DepthwiseConv2DOptions,
    Padding,
    TransposeConvOptions,
)
from litejit.ops import sums
from litejit.ops.base import Node
from litejit.ops.fixedpoint import (
    activation_range,
    quantize_multipliers,
    requantize,
    require_activation,
    require_multiplier,
    require_scale,
    wrap32,
)
from litejit.ops.hybrid import quantize_asymmetric, quantize_symmetric
from litejit.ops.window import LARGEST, Window2D, span
from litejit.types import F16, F32, I4, I8, I16, I32, I64, U8, Array, TensorType

WIDE_SHIFT = 14  # largest left shift of the int64 rule
_WEIGHTS = {F32: (F32, F16, I8, U8, I4), U8: (U8,), I8: (I8, I4), I16: (I8, I4, I16)}
_BIAS = {F32: (F32, F16), U8: (I32,), I8: (I32,), I16: (I32, I64)}


# -- what lowerings ask of a node (fused or not) --


def operands(node: Node) -> tuple[TensorType, TensorType, TensorType | None]:
    """(data, weights, bias) of the node as the file has it, without what was fused to it."""
    core = node.core
    if isinstance(core.options, TransposeConvOptions):
        return core.input(2), core.input(1), core.optional(3)
    return core.input(0), core.input(1), core.optional(2)


def _is_depthwise(node: Node) -> bool:
    return isinstance(node.core.options, DepthwiseConv2DOptions)


def units_axis(node: Node) -> int:
    """Dimension of the weights that counts output channels."""
    return 3 if _is_depthwise(node) else 0


def is_hybrid(node: Node) -> bool:
    """True for float data with integer weights."""
    x, weights, _ = operands(node)
    return x.dtype == F32 and weights.dtype.is_integer


def real_multipliers(node: Node) -> Array:
    """input scale * weights' scale / output scale for every output channel, as float64."""
    x, weights, _ = operands(node)
    out = node.core.output(0)
    assert weights.quantization is not None
    scales = weights.quantization.scales
    product: Array
    if x.dtype == U8:  # the product of the scales is rounded to float32 first
        product = (np.float32(x.scale) * scales[:1].astype(np.float32)).astype(np.float64)
    else:
        product = np.float64(x.scale) * scales.astype(np.float64)
    units = weights.dims[units_axis(node)]
    reals: Array = np.broadcast_to(product / np.float64(out.scale), (units,)).copy()
    return reals


def conv_multipliers(node: Node) -> tuple[Array, Array]:
    """(m, shift) for every output channel, int32, exactly as LiteRT's reference has them."""
    return quantize_multipliers(real_multipliers(node))


def conv_activation(node: Node) -> tuple[Any, Any]:
    """What the convolution itself clamps to: quantized values or floats."""
    return activation_range(node.core.output(0), node.core.options.activation)


def conv_bias(node: Node) -> Array | None:
    """The bias where it is constant, in its own type; None where there is none."""
    bias = operands(node)[2]
    return None if bias is None else bias.value


def conv_is_static(node: Node) -> bool:
    """True where weights and bias are constants, so that they can be packed before a run.

    Float and int8 weights may be packed by every run, and those of int16 data.
    """
    x, weights, bias = operands(node)
    known = weights.is_constant or (x.dtype == weights.dtype and x.dtype in (F32, I8))
    known = known or x.dtype == I16
    return known and (bias is None or bias.is_constant)


def uses_wide_sums(node: Node) -> bool:
    """True where int16 data is summed in int64 and scaled by a 15-bit multiplier."""
    x, _, bias = operands(node)
    narrow = getattr(node.core.options, "quantized_bias_type", F32) == I32
    if bias is not None and getattr(node.core.op, "bias_decides", False):
        narrow = True
    return x.dtype == I16 and not (narrow and (bias is None or bias.dtype == I32))


# -- checks --


def require_types(node: Node) -> None:
    """Refuse element types without a kernel, empty images and filters, biases of another size."""
    x, weights, bias = operands(node)
    out = node.output(0)
    node.require_dtype(x, _WEIGHTS, "input")
    node.require_dtype(weights, _WEIGHTS[x.dtype], f"filter of {x.dtype.name} input")
    flat = weights.dtype != I16 or isinstance(node.options, Conv2DOptions)
    node.require(flat, "filter is INT16, expected INT8 or INT4")
    node.require_dtype(out, (x.dtype,), "output")
    for tensor, what in ((x, "input"), (weights, "filter")):
        node.require(tensor.rank == 4, f"{what} must have 4 dimensions, got {tensor.shape}")
    empty = 0 in weights.dims or 0 in x.dims[1:]
    node.require(not empty, f"input {x.shape} and filter {weights.shape} must not be empty")
    if bias is None:
        return
    units = weights.dims[units_axis(node)]
    node.require_dtype(bias, _BIAS[x.dtype], f"bias of {x.dtype.name} input")
    node.require(bias.size == units, f"bias has shape {bias.shape}, expected {units} values")
    asked = getattr(node.options, "quantized_bias_type", F32)
    if x.dtype == I16 and asked != F32:
        ok = asked == bias.dtype
        node.require(ok, f"bias is {bias.dtype.name}, but the options name {asked.name}")


def require_quantization(node: Node) -> None:
    """Refuse missing, absurd or contradictory scales and zero points."""
    x, weights, bias = operands(node)
    require_activation(node, node.output(0), node.options.activation)
    if x.dtype == F32 and not weights.dtype.is_integer:
        return
    require_scale(node, weights, "filter", smallest=0.0)
    quantization = weights.quantization
    assert quantization is not None
    count, units = len(quantization.scales), weights.dims[units_axis(node)]
    node.require(count in (1, units), f"filter has {count} scales, expected 1 or {units}")
    if count > 1:
        axis = quantization.axis
        ok = 0 <= axis < 4 and weights.dims[axis] == units
        node.require(ok, f"filter's scales lie along dimension {axis}, which has another size")
    if x.dtype == F32:
        return
    require_scale(node, x, "input")
    require_scale(node, node.output(0), "output")
    node.require(x.dtype != U8 or count == 1, "uint8 filters have one scale, not one a channel")
    # the other two operators do not look at it
    checked = x.dtype != U8 and isinstance(node.core.options, Conv2DOptions)
    signed = not checked or not quantization.zero_points.any()
    node.require(signed, "filter's zero point must be 0")
    if x.dtype == I16:
        centered = x.zero_point == 0 and node.output(0).zero_point == 0
        node.require(centered, "zero points of int16 input and output must be 0")
    if bias is not None:
        node.require(bias.zero_point == 0, "bias must have zero point 0")
    largest = WIDE_SHIFT if uses_wide_sums(node) else 31
    require_multiplier(node, float(real_multipliers(node).max()), largest_shift=largest)
    if x.dtype == U8 and bias is not None and bias.is_quantized:
        apart = abs(x.scale * weights.scale - bias.scale) / node.output(0).scale
        node.require(apart <= 0.02, "bias' scale is not input scale * filter scale")


def require_image(node: Node, units: int, window: Window2D) -> None:
    """Refuse convolutions that no machine finishes."""
    cells = window.out_h * window.out_w * max(window.channels, units)
    cells *= window.filter_h * window.filter_w
    node.require(cells <= LARGEST * 64, f"the convolution of {node.input(0).shape} is too large")


# -- meaning --


def _activate(values: Array, limits: tuple[float, float]) -> Array:
    """Clamp float sums; NaN stays."""
    result: Array = np.clip(values, np.float32(limits[0]), np.float32(limits[1]))
    return result


def sum_type(node: Node, weights: Array) -> Any:
    """The NumPy type in which the node's integer sums are exact."""
    x, kind, _ = operands(node)
    axes = (0, 1, 2) if units_axis(node) == 3 else (1, 2, 3)
    bits = x.dtype.bits if x.dtype.is_integer else 8
    largest = (1 << bits) - 1 if bits == 8 else 1 << (bits - 1)
    shifted = weights.astype(np.int64) - (kind.zero_point if x.dtype == U8 else 0)
    return sums.exact_type(shifted, largest=largest, axis=axes)


def plain_weights(node: Node, weights: Array) -> Array:
    """Weights without their zero point; uint8 ones of hybrid operators are int8 in disguise.

    LiteRT reads the bytes of int16 weights as int8, from the first on; it is the same here.
    """
    x, kind, _ = operands(node)
    if kind.dtype == I16:
        octets = np.ascontiguousarray(weights, "<i2").reshape(-1).view(np.int8)
        return octets[: weights.size].reshape(weights.shape)
    if kind.dtype == U8:
        if x.dtype == F32:
            return weights.view(np.int8)
        return weights.astype(np.int32) - kind.zero_point
    return weights.astype(np.float32) if kind.dtype == F16 else weights


def finisher(node: Node, bias: Array | None) -> sums.Finish:
    """What turns sums over windows into values of the output, hybrid operators apart."""
    x, _, _ = operands(node)
    limits = conv_activation(node)
    if x.dtype == F32:
        term = np.float32(0) if bias is None else bias.astype(np.float32).ravel()
        return lambda acc, _: _activate(acc + term, limits)
    out = node.core.output(0)
    multipliers, wide = conv_multipliers(node), uses_wide_sums(node)
    whole = np.int64(0) if bias is None else bias.astype(np.int64).ravel()

    def finish(acc: Array, _: int) -> Array:
        total = acc.astype(np.int64) + whole
        return requantize(
            total if wide else wrap32(total),
            multipliers,
            zero_point=out.zero_point,
            limits=limits,
            dtype=out.dtype,
            wide=wide,
        )

    return finish


def quantize_images(x: Array, *, symmetric: bool) -> tuple[Array, Array]:
    """Images of a batch to (int8 values minus zero point as float32, scale of each)."""
    rows = x.reshape(len(x), -1)
    if symmetric:
        values, scales = quantize_symmetric(rows)
        return values.astype(np.float32).reshape(x.shape), scales
    values, scales, points = quantize_asymmetric(rows)
    return (values.astype(np.float32) - points[:, None]).reshape(x.shape), scales


def hybrid_finisher(node: Node, bias: Array | None, scales: Array) -> sums.Finish:
    """y = acc * (channel's scale) * (image's scale) + bias, in float32, clamped."""
    _, weights, _ = operands(node)
    assert weights.quantization is not None
    channel = weights.quantization.scales.astype(np.float32)
    limits = conv_activation(node)
    term = np.float32(0) if bias is None else bias.astype(np.float32).ravel()
    joined = _is_depthwise(node) or not is_asymmetric(node)

    def finish(acc: Array, n: int) -> Array:
        narrow = acc.astype(np.float32)
        scaled = narrow * (channel * scales[n]) if joined else narrow * channel * scales[n]
        return _activate(scaled + term, limits)

    return finish


def is_asymmetric(node: Node) -> bool:
    """How a hybrid node quantizes its images: CONV_2D with one scale does it symmetrically."""
    options = node.core.options
    always = isinstance(options, DepthwiseConv2DOptions | TransposeConvOptions)
    _, weights, _ = operands(node)
    scales = weights.quantization.scales if weights.quantization is not None else np.ones(1)
    return always or bool((scales != scales[0]).any())


def absorbs_pad(node: Node, producer: Node) -> bool:
    """True where `producer` is a PAD of rows and columns that equals this operator's padding."""
    if producer.name not in ("PAD", "PADV2") or is_hybrid(node):
        return False
    if node.chain or producer.chain or node.options.padding != Padding.VALID:
        return False
    x, y, paddings = producer.input(0), producer.output(0), producer.input(1).value
    if paddings is None or paddings.shape != (4, 2) or paddings[[0, 3]].any():
        return False
    if paddings.min() < 0 or x.dtype != y.dtype:
        return False
    fill = producer.input(2).value if producer.name == "PADV2" else None
    if x.dtype == F32:
        return producer.name == "PAD" or (fill is not None and bool((fill == 0).all()))
    same = x.is_quantized and (x.scale, x.zero_point) == (y.scale, y.zero_point)
    if producer.name == "PAD":
        return same
    return same and fill is not None and bool((fill == y.zero_point).all())


def transposed_window(node: Node, shape: tuple[int, ...], refuse: Any) -> Window2D:
    """The forward window from the result of TRANSPOSE_CONV (`in_h` x `in_w`) to its data.

    `refuse` is node.require or node.check. Data of an odd size is a refusal.
    """
    x, weights, _ = operands(node)
    batch, height, width, units = shape
    ok = batch == x.dims[0] and units == weights.dims[0] and min(height, width) >= 1
    refuse(ok, f"output shape {shape} does not go with input {x.shape}, filter {weights.shape}")
    o = node.core.options
    rows = span(node.core, height, weights.dims[1], o.stride_h, 1, "height")
    columns = span(node.core, width, weights.dims[2], o.stride_w, 1, "width")
    fits = (rows.out, columns.out) == x.dims[1:3]
    refuse(fits, f"a window over {shape} gives {rows.out} x {columns.out}, input is {x.shape}")
    return Window2D(
        *(batch, height, width, units, rows.out, columns.out),
        *(weights.dims[1], weights.dims[2], o.stride_h, o.stride_w, 1, 1),
        *(rows.before, columns.before, rows.after, columns.after),
    )


def transposed_window_of(node: Node) -> Window2D:
    """The window of a TRANSPOSE_CONV node whose output shape is constant."""
    value = node.core.input(0).value
    assert value is not None
    return transposed_window(node, tuple(int(n) for n in value), node.require)


def lowering_module(node: Node) -> Any:
    """The module with compiled kernels for this node's types; None where there is none."""
    x, weights, _ = operands(node)
    if not conv_is_static(node):
        return None
    if is_hybrid(node):
        from litejit.ops import hybrid_lowering

        return hybrid_lowering if hybrid_lowering.compiles(node) else None
    if x.dtype == F32:
        from litejit.ops import conv_f32

        return conv_f32
    if x.dtype == I16:
        from litejit.ops import int16_lowering

        return int16_lowering
    if x.dtype in (I8, U8):
        from litejit.ops import conv_int8

        return conv_int8
    return None
