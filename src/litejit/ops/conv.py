"""CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV (NHWC)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from litejit.model.options import Conv2DOptions, DepthwiseConv2DOptions, TransposeConvOptions
from litejit.ops import sums
from litejit.ops.base import Lowering, Node, Op, Types, builtin
from litejit.ops.convolution import (
    absorbs_pad,
    conv_activation,
    conv_bias,
    conv_is_static,
    conv_multipliers,
    finisher,
    hybrid_finisher,
    is_asymmetric,
    is_hybrid,
    lowering_module,
    operands,
    plain_weights,
    quantize_images,
    require_image,
    require_quantization,
    require_types,
    sum_type,
    transposed_window,
    transposed_window_of,
    units_axis,
    uses_wide_sums,
)
from litejit.ops.window import Window2D, window_of
from litejit.types import F16, F32, I8, I16, I32, I64, Array

__all__ = [
    "conv_activation",
    "conv_bias",
    "conv_is_static",
    "conv_multipliers",
    "operands",
    "transposed_window_of",
    "units_axis",
    "uses_wide_sums",
]  # what lowerings ask of a node

INT16_MAX = (1 << 15) - 1


class _WindowOp(Op):
    """What CONV_2D and DEPTHWISE_CONV_2D share."""

    arity = (2, 3)
    optional = frozenset({2})
    bias_decides: ClassVar[bool] = False  # an int32 bias makes int16 sums int32, as in TFLM

    def fuses_before(self, node: Node, producer: Node, position: int = 0) -> bool:
        """Take in a PAD of height and width with what this operator pads with itself."""
        return position == 0 and absorbs_pad(node, producer)

    def _convolve(self, node: Node, x: Array, weights: Array, bias: Array | None) -> Array:
        window = window_of(node)
        kind, out = node.input(0), node.output(0)
        weights = plain_weights(node, weights)
        result = np.empty(
            (*x.shape[:1], window.out_h, window.out_w, self._units(node)), out.dtype.numpy
        )
        with np.errstate(all="ignore"):
            if is_hybrid(node):
                values, scales = quantize_images(x, symmetric=not is_asymmetric(node))
                image = sums.frame(values, window, 0, sum_type(node, weights))
                finish = hybrid_finisher(node, bias, scales)
            else:
                zero = 0 if kind.dtype == F32 else kind.zero_point
                wanted = np.float32 if kind.dtype == F32 else sum_type(node, weights)
                image = sums.frame(x, window, zero, wanted)
                finish = finisher(node, bias)
            self._sum(image, weights, window, result, finish)
        return result

    @staticmethod
    def _units(node: Node) -> int:
        return operands(node)[1].dims[units_axis(node)]

    @staticmethod
    def _sum(
        image: Array, weights: Array, window: Window2D, out: Array, finish: sums.Finish
    ) -> None:  # fmt: skip
        raise NotImplementedError


@builtin("CONV_2D", versions=range(1, 9))
class Conv2D(_WindowOp):
    """y[n, i, j, o] = act(bias[o] + sum over h, w, c of x[n, i s + h, j s + w, c] f[o, h, w, c]).

    x: NHWC, s: strides; h, w count in steps of the dilation. f: OHWI; where I < C the channels
    fall into C / I groups. Outside x counts as 0 (as x's zero point).
    f32 | u8 | i8 | i16 with i32 or i64 bias | f32 with i8, u8 or i4 filter.
    i8, u8: int32 sums, two roundings (fixedpoint); i16 with i64 bias: int64 sums, one rounding.
    Float data with integer weights: each image is quantized to int8, asymmetrically where the
    filter has several scales. i4 weights count as i8.
    Source: LiteRT tflite/kernels/conv.cc, internal/reference/conv.h, integer_ops/conv.h.
    """

    options = Conv2DOptions
    needs_bias: ClassVar[bool] = True

    def infer(self, node: Node) -> Types:
        """Check operands, groups and window; [batch, out_h, out_w, filters]."""
        require_types(node)
        x, weights, bias = operands(node)
        node.require(bias is not None or not self.needs_bias, "a bias is needed")
        depth, units = weights.dims[3], weights.dims[0]
        ok = x.dims[3] % depth == 0
        node.require(ok, f"filter has {depth} input channels, which does not divide {x.dims[3]}")
        groups = x.dims[3] // depth
        node.require(units % groups == 0, f"{units} filters do not fall into {groups} groups")
        require_quantization(node)
        lone = is_hybrid(node) and groups > 1 and not is_asymmetric(node)
        node.require(not lone, "grouped convolution of float data with one int8 scale")
        window = window_of(node)
        require_image(node, units, window)
        shape = (window.batch, window.out_h, window.out_w, units)
        return [node.output(0).with_shape(shape)]

    def reference(self, node: Node, x: Array, weights: Array, bias: Array | None = None) -> Array:
        """Matrix products over patches, exact for integers."""
        return self._convolve(node, x, weights, bias)

    _sum = staticmethod(sums.convolve)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Compiled kernels for 8-bit and float data with constant weights."""
        module = lowering_module(node)
        if module is not None:
            module.lower_conv(node, steps)

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """Whatever the compiled kernels apply to their sums."""
        module = lowering_module(node)
        return module is not None and bool(module.fusible_after(node, follower, position))


@builtin("DEPTHWISE_CONV_2D", versions=range(1, 8))
class DepthwiseConv2D(_WindowOp):
    """y[n, i, j, c] = act(bias[c] + sum over h, w of x[n, i s + h, j s + w, c // m] f[0, h, w, c]).

    x: NHWC. f: 1HWO with O = C m; m is taken from the shapes. Types and rounding as CONV_2D,
    but the bias is optional and int16 sums are int64. Hybrid: images are always quantized
    asymmetrically.
    Source: LiteRT tflite/kernels/depthwise_conv.cc, internal/reference/integer_ops.
    """

    options = DepthwiseConv2DOptions

    def infer(self, node: Node) -> Types:
        """Check operands, multiplier and window; [batch, out_h, out_w, C m]."""
        require_types(node)
        x, weights, bias = operands(node)
        units, channels = weights.dims[3], x.dims[3]
        node.require(weights.dims[0] == 1, f"filter must be [1, h, w, o], got {weights.shape}")
        ok = units % channels == 0
        node.require(ok, f"{units} output channels are no multiple of {channels} input channels")
        node.require(bias is None or bias.rank == 1, "bias must have one dimension")
        wide = x.dtype != I16 or bias is None or bias.dtype == I64
        node.require(wide or self.bias_decides, "bias of int16 input must be INT64")
        hybrid = x.dtype != F32 or weights.dtype in (F32, F16, I8)
        node.require(hybrid, f"no kernel for FLOAT32 input with {weights.dtype.name} filter")
        o = node.options
        steps = (o.stride_h, o.stride_w, o.dilation_h_factor, o.dilation_w_factor)
        node.require(max(steps) <= INT16_MAX, f"strides and dilations {steps} are too large")
        require_quantization(node)
        window = window_of(node)
        require_image(node, units, window)
        shape = (window.batch, window.out_h, window.out_w, units)
        return [node.output(0).with_shape(shape)]

    def reference(self, node: Node, x: Array, weights: Array, bias: Array | None = None) -> Array:
        """One multiply-add per filter position, exact for integers."""
        return self._convolve(node, x, weights[0], bias)

    _sum = staticmethod(sums.convolve_depthwise)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Compiled kernels for 8-bit and float data with constant weights."""
        module = lowering_module(node)
        if module is not None:
            module.lower_depthwise(node, steps)

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """Whatever the compiled kernels apply to their sums."""
        module = lowering_module(node)
        return module is not None and bool(module.fusible_after(node, follower, position))


@builtin("TRANSPOSE_CONV", versions=range(1, 6))
class TransposeConv(Op):
    """The gradient of CONV_2D: x[n, i, j, c] f[o, h, w, c] is added to y[n, i s + h - top, ...].

    Inputs: y's shape, f (OHWI), x (NHWC), optional bias. y's height and width must be such that
    a convolution over y has x's. Types and rounding as CONV_2D; hybrid: asymmetric images.
    The shape of y depends on data where input 0 is no constant.
    Source: LiteRT tflite/kernels/transpose_conv.cc, internal/reference/transpose_conv.h.
    """

    options = TransposeConvOptions
    arity = (3, 4)
    optional = frozenset({3})

    def infer(self, node: Node) -> Types:
        """Check operands; the shape is the value of input 0."""
        shape = node.input(0)
        node.require_dtype(shape, (I32,), "output shape")
        node.require(shape.dims == (4,), f"output shape must be 4 numbers, got {shape.shape}")
        require_types(node)
        x, weights, _ = operands(node)
        hybrid = x.dtype != F32 or weights.dtype in (F32, F16, I8)
        node.require(hybrid, f"no kernel for FLOAT32 input with {weights.dtype.name} filter")
        ok = weights.dims[3] == x.dims[3]
        node.require(ok, f"filter has {weights.dims[3]} input channels, input has {x.dims[3]}")
        steps = (node.options.stride_h, node.options.stride_w)
        node.require(max(steps) <= INT16_MAX, f"strides {steps} are too large")
        require_quantization(node)
        if shape.value is None:
            return [node.output(0).with_shape(None)]
        sizes = tuple(int(n) for n in shape.value)
        transposed_window(node, sizes, node.require)
        return [node.output(0).with_shape(sizes)]

    def reference(
        self, node: Node, shape: Array, weights: Array, x: Array, bias: Array | None = None
    ) -> Array:  # fmt: skip
        """A matrix product, scattered."""
        window = transposed_window(node, tuple(int(n) for n in shape), node.check)
        kind, out = node.input(2), node.output(0)
        weights = plain_weights(node, weights)
        with np.errstate(all="ignore"):
            if is_hybrid(node):
                values, scales = quantize_images(x, symmetric=False)
                image, finish = values, hybrid_finisher(node, bias, scales)
                image = image.astype(sum_type(node, weights), copy=False)
            elif kind.dtype == F32:
                image, finish = x, finisher(node, bias)
            else:
                image = sums.centered(x, kind.zero_point, sum_type(node, weights))
                finish = finisher(node, bias)
            acc = sums.convolve_transposed(image, weights, window)
            result = np.empty(acc.shape, out.dtype.numpy)
            for n in range(len(acc)):
                result[n] = finish(acc[n], n)
        return result

    def lower(self, node: Node, steps: Lowering) -> None:
        """Compiled kernels where the shape and the weights are constants."""
        module = lowering_module(node)
        if module is not None and node.core.input(0).is_constant:
            module.lower_transpose_conv(node, steps)

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """Whatever the compiled kernels apply to their sums."""
        module = lowering_module(node) if node.core.input(0).is_constant else None
        return module is not None and bool(module.fusible_after(node, follower, position))
