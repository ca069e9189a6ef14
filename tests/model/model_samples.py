"""Models that the tests of the reader and of the writer share."""

from __future__ import annotations

import numpy as np

from litejit.model.builder import ModelBuilder, per_channel, per_tensor
from litejit.model.model import DimensionMetadata, Sparsity
from litejit.model.options import (
    Activation,
    AddOptions,
    Conv2DOptions,
    Padding,
    ReshapeOptions,
    StablehloGatherOptions,
    VarHandleOptions,
)
from litejit.types import F32, I4, I8, I32, STRING


def convolution() -> ModelBuilder:
    """A quantized convolution with a reshape behind it, a signature and metadata."""
    builder = ModelBuilder("a small model")
    graph = builder.main
    x = graph.add_input("x", (1, 4, 4, 2), I8, quantization=per_tensor(0.5, -3))
    w = graph.add_constant(
        "w", np.arange(24, dtype=np.int8).reshape(3, 2, 2, 2), quantization=per_channel([1, 2, 3])
    )
    b = graph.add_constant("b", np.array([1, 2, 3], np.int32))
    c = graph.add_tensor("c", (1, 2, 2, 3), I8, quantization=per_tensor(0.25))
    y = graph.add_output("y", (1, 12), I8, shape_signature=(-1, 12), quantization=per_tensor(0.25))
    options = Conv2DOptions(
        padding=Padding.SAME, stride_w=2, stride_h=2, activation=Activation.RELU6
    )
    graph.add_operator("CONV_2D", [x, w, b], [c], options, version=3)
    graph.add_operator("RESHAPE", [c], [y], ReshapeOptions(new_shape=(1, 12)))
    builder.add_signature("serving_default", {"x": x}, {"y": y})
    builder.add_metadata("note", b"made by a test")
    return builder


def everything() -> ModelBuilder:
    """One graph that uses the rarer parts of the format."""
    builder = convolution()
    builder.add_buffer(b"behind the tables", behind=True)
    graph = builder.add_subgraph("other")
    x = graph.add_input("x", (2,), F32)
    four = graph.add_constant("four", np.array([-8, 7, 3], np.int8), I4)
    words = graph.add_constant("words", np.array([b"ab", b"", "ü".encode()], object), STRING)
    dims = (
        DimensionMetadata(0, 2),
        DimensionMetadata(1, 0, np.array([0, 1, 2], "<i4"), np.array([1, 0], "u1")),
    )
    sparse = graph.add_tensor(
        "sparse", (2, 2), F32, np.ones(2, np.float32), sparsity=Sparsity((0, 1), None, dims)
    )
    state = graph.add_tensor("state", (2,), F32, is_variable=True)
    y, z, v, i = (graph.add_tensor(name, (2,), F32) for name in "yzvi")
    index = graph.add_constant("index", np.zeros(2, np.int32), I32)
    graph.outputs = [y, z]
    graph.add_operator("ADD", [x, -1], [y], AddOptions(pot_scale_int16=False))
    gather = StablehloGatherOptions(offset_dims=(1, 2), index_vector_dim=1 << 40)
    graph.add_operator("STABLEHLO_GATHER", [x, index], [z], gather)
    graph.add_operator("VAR_HANDLE", [], [v], VarHandleOptions(shared_name="états"))
    graph.add_operator(
        "Mine",
        [x, four, words, sparse, state],
        [i],
        custom=True,
        custom_options=b"\1\2\3",
        intermediates=[y],
        mutating_variable_inputs=[False, False, False, False, True],
    )
    return builder
