"""Convolutions and matrix products as TFLM computes them.

The sums are LiteRT's; FULLY_CONNECTED scales them in fixed point, biases decide how wide int16
sums are, and TRANSPOSE_CONV takes its size from the declared result.
Sources: tflite-micro tensorflow/lite/micro/kernels/{conv,depthwise_conv,transpose_conv,
fully_connected,svdf}_common.cc and the files without _common beside them. Float sums are clamped
to finite numbers in all of them but BATCH_MATMUL and SVDF.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from litejit.micro.file_bytes import bytes_from
from litejit.ops import conv, matmul, spatial, sums, svdf
from litejit.ops import fixedpoint as fixed
from litejit.ops.base import Lowering, Node, Types
from litejit.record import replace
from litejit.types import F32, I4, I16, I32, I64, Array, TensorType


class Conv2D(conv.Conv2D):
    """A bias is not needed; int16 data is summed in int32 where the bias is int32.

    Zero points of weights are not looked at.
    """

    needs_bias: ClassVar[bool] = False
    bias_decides: ClassVar[bool] = True
    is_bounded: ClassVar[bool] = True

    def infer(self, node: Node) -> Types:
        """As LiteRT's."""
        return super().infer(_with_symmetric_weights(node))

    def reference(self, node: Node, x: Array, weights: Array, bias: Array | None = None) -> Array:
        """As LiteRT's."""
        return super().reference(_with_symmetric_weights(node), x, weights, bias)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's."""
        super().lower(node if node.chain else _with_symmetric_weights(node), steps)


class DepthwiseConv2D(conv.DepthwiseConv2D):
    """int16 data is summed in int64; TFLM reads an int32 bias as int64 there, and so does this."""

    is_bounded: ClassVar[bool] = True

    def infer(self, node: Node) -> Types:
        """As LiteRT's."""
        return super().infer(_with_symmetric_weights(_with_wide_bias(node, 2)))

    def reference(self, node: Node, x: Array, weights: Array, bias: Array | None = None) -> Array:
        """As LiteRT's."""
        wide = _with_wide_bias(node, 2)
        if wide is not node:
            bias = wide.input(2).value
        return super().reference(wide, x, weights, bias)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's."""
        super().lower(node if node.chain else _with_wide_bias(node, 2), steps)


class TransposeConv(conv.TransposeConv):
    """The size is that of the declared result: the value of input 0 is not looked at.

    int16 data: a bias of int16 is widened; TFLM reads one of int32 as int64, and so does this.
    """

    is_bounded: ClassVar[bool] = True

    def infer(self, node: Node) -> Types:
        """As LiteRT's for the declared shape."""
        declared = node.output(0)
        known = declared.shape is not None and declared.rank == 4 and min(declared.dims) > 0
        node.require(known, f"the declared result has shape {declared.shape}")
        return super().infer(_sized(node))

    def reference(
        self, node: Node, shape: Array, weights: Array, x: Array, bias: Array | None = None
    ) -> Array:  # fmt: skip
        """As LiteRT's for the declared shape."""
        sized = _sized(node)
        if bias is not None and sized.input(3).dtype != node.input(3).dtype:
            bias = sized.input(3).value
        return super().reference(sized, np.array(node.output(0).dims), weights, x, bias)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's for the declared shape."""
        super().lower(node if node.chain else _sized(node), steps)

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """Where the shape is written down twice and is the same."""
        value, dims = node.core.input(0).value, node.core.output(0).shape
        same = value is not None and dims is not None and tuple(value.tolist()) == dims
        return same and super().fuses_after(node, follower, position)


def _sized(node: Node) -> Node:
    """The node with the declared shape as the value of input 0."""
    shape = replace(node.input(0), dtype=I32).with_value(np.array(node.output(0).dims, np.int32))
    inputs = (shape, *node.inputs[1:])
    return _with_wide_bias(node.with_types(inputs, node.outputs), 3)


def _with_symmetric_weights(node: Node) -> Node:
    """The node with the zero points 0 that TFLM takes int8 weights to have."""
    weights = node.input(1)
    found = weights.quantization
    if found is None or weights.dtype.is_float or not found.zero_points.any():
        return node
    plain = replace(found, zero_points=np.zeros_like(found.zero_points))
    inputs = (node.inputs[0], replace(weights, quantization=plain), *node.inputs[2:])
    return node.with_types(inputs, node.outputs)


def _with_wide_bias(node: Node, position: int) -> Node:
    """The node with the int64 bias that TFLM's kernels for int16 data take a narrower one for."""
    bias, data = node.optional(position), node.input(0 if position == 2 else 2)
    if bias is None or bias.value is None or data.dtype != I16 or bias.dtype not in (I16, I32):
        return node
    value = bias.value.astype(np.int64) if bias.dtype == I16 else _read_wide(bias.value)
    wide: TensorType = replace(bias, dtype=I64, value=value)
    inputs = (*node.inputs[:position], wide, *node.inputs[position + 1 :])
    return node.with_types(inputs, node.outputs)


def _read_wide(value: Array) -> Array:
    """int32 numbers read as as many int64 numbers, the last of them from behind the tensor."""
    return bytes_from(value, 8 * value.size).view("<i8").astype(np.int64)


class FullyConnected(matmul.FullyConnected):
    """Integers are scaled in fixed point: two roundings, or one for int64 sums.

    int16 data is summed in int32 where the bias is int32, or absent and named int32.
    """

    is_bounded: ClassVar[bool] = True
    exact_scale_product: ClassVar[bool] = True

    def reference(
        self, node: Node, x: Array, weights: Array, bias: Array | None = None
    ) -> Array | tuple[Array, ...]:  # fmt: skip
        """Floats are summed in order."""
        if 0 in weights.shape:
            return super().reference(node, x, weights, bias)
        if x.dtype == np.float32:
            return _sum_in_order(node, x, weights, bias)
        rows, _, depth = matmul.fc_sizes(node)
        data = x.reshape(-1)[: rows * depth].reshape(rows, depth)
        zero, middle, result_zero = matmul.fc_zero_points(node)
        acc = sums.integer_product(
            data, weights, data_zero=zero, weights_zero=middle,
            largest=(1 << node.input(0).dtype.bits) - 1,
        )  # fmt: skip
        if bias is not None:
            acc += bias.astype(np.int64).ravel()
        wide = self._sums_wide(node)
        y = fixed.requantize(
            acc if wide else fixed.wrap32(acc), matmul.fc_multipliers(node),
            zero_point=result_zero, limits=matmul.fc_activation(node),
            dtype=node.output(0).dtype, wide=wide,
        )  # fmt: skip
        return y.reshape(node.output(0).dims)

    def _sums_wide(self, node: Node) -> bool:
        bias = node.optional(2)
        kind = node.options.quantized_bias_type if bias is None else bias.dtype
        return node.input(0).dtype == I16 and kind != I32

    def infer(self, node: Node) -> Types:
        """As LiteRT's."""
        weights, q = node.input(1), node.input(1).quantization
        mixed = weights.dtype == I4 and q is not None and q.per_channel
        node.require(not mixed, "INT4 weights have one scale, not one a unit")
        return super().infer(node)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Compiled kernels for integers and floats with constant weights."""
        module = matmul.lowering_module(node)
        if node.core.input(0).dtype == F32:
            super().lower(node, steps)
        elif module is not None:
            module.lower_fully_connected(node, steps, fixed_point=True)


def _sum_in_order(node: Node, x: Array, weights: Array, bias: Array | None) -> Array:
    rows, units, depth = matmul.fc_sizes(node)
    data = x.reshape(-1)[: rows * depth].reshape(rows, depth)
    total = np.zeros((rows, units), np.float32)
    with np.errstate(all="ignore"):
        for k in range(depth):
            total += data[:, k, None] * weights[:, k]
        if bias is not None:
            total += bias.ravel()
        low, high = matmul.fc_activation(node)
        result: Array = np.clip(total, np.float32(low), np.float32(high))
    return result.reshape(node.output(0).dims)


class BatchMatMul(matmul.BatchMatMul):
    """The product of both scales is not rounded to float32."""

    exact_scale_product: ClassVar[bool] = True


class SVDF(svdf.SVDF):
    """int8 results are clamped to int8, whatever the activation is."""

    needs_relu: ClassVar[bool] = False


class SpaceToBatch(spatial.SpaceToBatchND):
    """Padded by code 0, whatever it stands for: the kernel never learns the zero point."""

    def reference(self, node: Node, x: Array, block: Array, paddings: Array) -> Array:
        """As LiteRT's of numbers that are not quantized."""
        return super().reference(_without_zero_point(node), x, block, paddings)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's of numbers that are not quantized."""
        super().lower(_without_zero_point(node), steps)


def _without_zero_point(node: Node) -> Node:
    return node.with_types(node.inputs, (replace(node.output(0), quantization=None),))
