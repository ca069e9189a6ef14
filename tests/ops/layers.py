"""Makes single nodes of convolutions, products and pools, prepared, for tests."""

from __future__ import annotations

import numpy as np

from litejit.model import options as tables
from litejit.model.options import Padding
from litejit.ops import conv, conv3d, matmul, pool
from litejit.ops.base import Node, registered
from litejit.types import F32, Quantization, TensorType

assert conv and conv3d and matmul and pool
OPTIONS = {
    "CONV_2D": tables.Conv2DOptions,
    "DEPTHWISE_CONV_2D": tables.DepthwiseConv2DOptions,
    "TRANSPOSE_CONV": tables.TransposeConvOptions,
    "FULLY_CONNECTED": tables.FullyConnectedOptions,
    "BATCH_MATMUL": tables.BatchMatMulOptions,
    "CONV_3D": tables.Conv3DOptions,
    "CONV_3D_TRANSPOSE": tables.Conv3DOptions,
    "AVERAGE_POOL_2D": tables.Pool2DOptions,
    "MAX_POOL_2D": tables.Pool2DOptions,
    "L2_POOL_2D": tables.Pool2DOptions,
}
STRIDED = {"stride_h": 1, "stride_w": 1}


def quantized(dtype, scales, zero=0, axis=0, shape=None):
    """A quantized tensor type; `scales` is one or one a channel."""
    scales = np.atleast_1d(np.asarray(scales, np.float32))
    zeros = np.full(len(scales), zero, np.int64)
    return TensorType(shape, dtype, Quantization(scales, zeros, axis))


def typed(kind, array):
    """`kind` (a DType or a TensorType without a shape) with the array's shape."""
    base = kind if isinstance(kind, TensorType) else TensorType(None, kind)
    return base.with_shape(array.shape)


def layer(name, types, arrays, out=F32, *, constant=(), **options):
    """A prepared node. types: one a tensor (None: absent); `constant`: positions with values."""
    if name != "FULLY_CONNECTED" and name != "BATCH_MATMUL":
        options = {**STRIDED, "padding": Padding.VALID, **options}
    if name.startswith("CONV_3D"):
        options.setdefault("stride_d", 1)
    inputs = []
    for k, (kind, array) in enumerate(zip(types, arrays, strict=True)):
        if kind is None:
            inputs.append(None)
            continue
        tensor = typed(kind, array)
        inputs.append(tensor.with_value(array) if k in constant else tensor)
    outs = out if isinstance(out, tuple) else (out,)
    outputs = tuple(o if isinstance(o, TensorType) else TensorType(None, o) for o in outs)
    op, _ = registered(name)
    node = Node(op, name, 0, 1, OPTIONS[name](**options), tuple(inputs), outputs)
    return node.with_types(node.inputs, tuple(op.infer(node)))


def run(name, types, arrays, out=F32, **more):
    """The reference's result, checked against the type that infer promised."""
    node = layer(name, types, arrays, out, **more)
    result = node.op.reference(node, *arrays)
    first = result[0] if isinstance(result, tuple) else result
    expected = node.outputs[0]
    assert first.dtype == expected.dtype.numpy
    if expected.shape is not None:
        assert first.shape == expected.shape
    return result
