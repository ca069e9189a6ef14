"""Options of convolutions, pooling and matrix products. Fields in schema order."""

from __future__ import annotations

from litejit.model.options.enums import Activation, Padding
from litejit.model.table import ByteEnum, Table, int32
from litejit.types import DType


class WeightsFormat(ByteEnum):
    """How the weights of FULLY_CONNECTED lie in memory."""

    DEFAULT = 0
    SHUFFLED4x16INT8 = 1


class Conv2DOptions(Table):
    """Options of CONV_2D."""

    padding: Padding
    stride_w: int32
    stride_h: int32
    activation: Activation
    dilation_w_factor: int32 = 1
    dilation_h_factor: int32 = 1
    quantized_bias_type: DType


class DepthwiseConv2DOptions(Table):
    """Options of DEPTHWISE_CONV_2D."""

    padding: Padding
    stride_w: int32
    stride_h: int32
    depth_multiplier: int32
    activation: Activation
    dilation_w_factor: int32 = 1
    dilation_h_factor: int32 = 1


class Conv3DOptions(Table):
    """Options of CONV_3D and CONV_3D_TRANSPOSE."""

    padding: Padding
    stride_d: int32
    stride_w: int32
    stride_h: int32
    activation: Activation
    dilation_d_factor: int32 = 1
    dilation_w_factor: int32 = 1
    dilation_h_factor: int32 = 1


class TransposeConvOptions(Table):
    """Options of TRANSPOSE_CONV."""

    padding: Padding
    stride_w: int32
    stride_h: int32
    activation: Activation
    quantized_bias_type: DType


class Pool2DOptions(Table):
    """Options of AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D."""

    padding: Padding
    stride_w: int32
    stride_h: int32
    filter_width: int32
    filter_height: int32
    activation: Activation


class FullyConnectedOptions(Table):
    """Options of FULLY_CONNECTED."""

    activation: Activation
    weights_format: WeightsFormat
    keep_num_dims: bool
    asymmetric_quantize_inputs: bool
    quantized_bias_type: DType


class BatchMatMulOptions(Table):
    """Options of BATCH_MATMUL."""

    adj_x: bool
    adj_y: bool
    asymmetric_quantize_inputs: bool


class DilateOptions(Table):
    """Options of DILATE."""
