"""Small models whose arenas are asked of TFLM's wheel, where it is installed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from litejit.model import Model
from litejit.model.builder import GraphBuilder, ModelBuilder, per_channel
from litejit.model.flexbuffer import encode
from litejit.model.options import (
    BatchMatMulOptions,
    CallOnceOptions,
    DepthToSpaceOptions,
    GatherOptions,
    IfOptions,
    Padding,
    Pool2DOptions,
    ShapeOptions,
    SoftmaxOptions,
    SpaceToDepthOptions,
    SplitVOptions,
    VarHandleOptions,
)
from litejit.types import BOOL, F32, I8, I16, I32, RESOURCE, Quantization

Spec = tuple[Any, ...]  # shape, dtype[, number of scales, Quantization or bytes]


def model_of(
    name: str, inputs: Sequence[Spec | None], outputs: Sequence[Spec], **more: Any
) -> Model:
    """One operator; an input of None is absent. Constants are not inputs of the graph."""
    builder = ModelBuilder()
    graph = builder.main
    numbers = [_add(graph, spec, f"i{k}") for k, spec in enumerate(inputs)]
    results = [_add(graph, spec, f"o{k}") for k, spec in enumerate(outputs)]
    graph.add_operator(name, numbers, results, **more)
    return builder.build()


def runnable(
    name: str, inputs: Sequence[Spec | None], outputs: Sequence[Spec], **more: Any
) -> ModelBuilder:
    """The same as a model with inputs and outputs."""
    builder = ModelBuilder()
    graph = builder.main
    numbers = [_add(graph, spec, f"i{k}") for k, spec in enumerate(inputs)]
    results = [_add(graph, spec, f"o{k}") for k, spec in enumerate(outputs)]
    graph.inputs += [
        number
        for number, spec in zip(numbers, inputs, strict=True)
        if spec is not None and not isinstance(spec[-1], bytes)
    ]
    graph.outputs += results
    graph.add_operator(name, numbers, results, **more)
    return builder


def _add(graph: GraphBuilder, spec: Spec | None, label: str) -> int:
    if spec is None:
        return -1
    shape, dtype, *rest = spec
    data = rest[0] if rest and isinstance(rest[0], bytes) else None
    scales = rest[0] if rest and isinstance(rest[0], int) else 0
    found = per_channel([0.5] * scales, [k % 2 for k in range(scales)]) if scales else None
    if rest and isinstance(rest[0], Quantization):
        found = rest[0]
    return graph.add_tensor(label, shape, dtype, data, quantization=found)


def ints(*values: int) -> bytes:
    """The bytes of an int32 constant."""
    return struct.pack(f"<{len(values)}i", *values)


def decoder(kind: int, scales: int, outputs: int) -> ModelBuilder:
    """TFLM_DECODE of `outputs` tensors: 0 look-up table, 1 Huffman, 2 pruned."""
    header = {
        0: bytes([0, 1, 0, 0, 1, 2, 4, 0]),
        1: bytes([1, 1, 0, 0, 1, 16, 0, 0]),
        2: bytes([2, 1, 0, 0, 1, 0, 0, 0]),
    }[kind]
    ancillary = header + bytes(8) + bytes(64)
    inputs = [((16,), I8, b"\x00" * 16), ((80,), I8, ancillary)] * outputs
    results = [((scales, 16 // scales), I8, scales)] * outputs
    return runnable("TFLM_DECODE", inputs, results, custom=True)


def branches(offline: Sequence[int] = ()) -> ModelBuilder:
    """An IF whose branches hold a variable tensor each, with an offline plan where one is given."""
    builder = ModelBuilder()
    graph = builder.main
    ask, x = graph.add_input("ask", (1,), BOOL), graph.add_input("x", (8,), F32)
    y = graph.add_output("y", (8,), F32)
    for _ in range(2):
        inner = builder.add_subgraph()
        a = inner.add_input("a", (8,), F32)
        middle = inner.add_tensor("m", (8,), F32)
        inner.add_tensor("v", (24,), F32, is_variable=True)
        b = inner.add_output("b", (8,), F32)
        inner.add_operator("NEG", [a], [middle])
        inner.add_operator("NEG", [middle], [b])
    options = IfOptions(then_subgraph_index=1, else_subgraph_index=2)
    graph.add_operator("IF", [ask, x], [y], options)
    if offline:
        builder.add_metadata("OfflineMemoryAllocation", ints(1, 0, len(offline), *offline))
    return builder


def variables() -> ModelBuilder:
    """Two variables that another subgraph sets once."""
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (4,), F32), graph.add_output("y", (4,), F32)
    inner = builder.add_subgraph()
    for name in ("a", "b", "a"):
        handle = inner.add_tensor("handle", (1,), RESOURCE)
        options = VarHandleOptions(container="", shared_name=name)
        inner.add_operator("VAR_HANDLE", [], [handle], options)
        value = inner.add_constant("value", [1.0] * 4, F32)
        inner.add_operator("ASSIGN_VARIABLE", [handle, value], [])
    graph.add_operator("CALL_ONCE", [], [], CallOnceOptions(init_subgraph_index=1))
    handle = graph.add_tensor("handle", (1,), RESOURCE)
    options = VarHandleOptions(container="", shared_name="a")
    graph.add_operator("VAR_HANDLE", [], [handle], options)
    value = graph.add_tensor("value", (4,), F32)
    graph.add_operator("READ_VARIABLE", [handle], [value])
    graph.add_operator("MAXIMUM", [x, value], [y])
    return builder


_FRACTION = per_channel([1 / 32768])
_IMAGE = ((1, 4, 6, 8), F32)
_POOL = Pool2DOptions(padding=Padding.SAME, stride_h=2, stride_w=4, filter_height=1, filter_width=1)
MODELS: dict[str, ModelBuilder] = {
    **{
        f"decode {kind} of {scales} channels, {outputs} outputs": decoder(kind, scales, outputs)
        for kind in (0, 1, 2)
        for scales in (1, 4)
        for outputs in (1, 2)
    },
    "classifier": runnable(
        "BasicClassifier",
        [((4,), I32), ((3,), I32), ((3,), I32)],
        [((3,), BOOL), ((3,), I32)],
        custom=True,
    ),
    "open reshape": runnable("RESHAPE", [((6, 4), F32)], [((3, -1), F32)]),
    "pool of a wrong shape": runnable("L2_POOL_2D", [_IMAGE], [((1, 9, 9, 8), F32)], options=_POOL),
    "depth of a wrong shape": runnable(
        "DEPTH_TO_SPACE", [_IMAGE], [((1, 9, 9, 9), F32)], options=DepthToSpaceOptions(block_size=2)
    ),
    "space of a wrong shape": runnable(
        "SPACE_TO_DEPTH", [_IMAGE], [((1, 9, 9, 9), F32)], options=SpaceToDepthOptions(block_size=2)
    ),
    "gather of batches": runnable(
        "GATHER",
        [((4, 5, 6), F32), ((4, 2), I32)],
        [((9, 9, 9), F32)],
        options=GatherOptions(axis=-1, batch_dims=1),
    ),
    "gather of tuples": runnable(
        "GATHER_ND", [((4, 5, 6), F32), ((7, 2), I32)], [((9, 9, 9), F32)]
    ),
    "lookup": runnable("EMBEDDING_LOOKUP", [((3,), I32), ((4, 5, 6), F32)], [((9, 9, 9), F32)]),
    "product of batches": runnable(
        "BATCH_MATMUL",
        [((3, 2, 5), F32), ((5, 4), F32)],
        [((4, 3, 2), F32)],
        options=BatchMatMulOptions(adj_x=False, adj_y=False),
    ),
    "branches": branches(),
    "branches, planned offline": branches([0, 8, -1, -1, -1, -1, 96, -1, -1, 40, -1]),
    "variables": variables(),
    "rounding": runnable("ROUND", [((9,), F32)], [((9,), F32)]),
    "flooring": runnable("FLOOR", [((9,), F32)], [((9,), F32)]),
    "blocks": runnable(
        "SPACE_TO_BATCH_ND",
        [((1, 4, 4, 2), I8, 1), ((2,), I32, ints(2, 2)), ((2, 2), I32, ints(0, 0, 0, 0))],
        [((4, 2, 2, 2), I8, 1)],
    ),
    "shape": runnable("SHAPE", [_IMAGE], [((4,), I32)], options=ShapeOptions(out_type=I32)),
    "pieces": runnable(
        "SPLIT_V",
        [((6, 4), F32), ((2,), I32, ints(2, 4)), ((), I32, ints(0))],
        [((2, 4), F32), ((4, 4), F32)],
        options=SplitVOptions(num_splits=2),
    ),
    "wide softmax": runnable(
        "SOFTMAX",
        [((2, 9), I16, _FRACTION)],
        [((2, 9), I16, _FRACTION)],
        options=SoftmaxOptions(beta=1.0),
    ),
    "ring": runnable(
        "CIRCULAR_BUFFER",
        [((1, 1, 1, 4), I8, 1)],
        [((1, 3, 1, 4), I8, 1)],
        custom=True,
        custom_options=encode({"cycles_max": 1}),
    ),
    "delay": runnable(
        "SignalDelay",
        [((2, 8), I16)],
        [((2, 8), I16)],
        custom=True,
        custom_options=encode({"delay_length": 3}),
    ),
    "overlap": runnable(
        "SignalOverlapAdd",
        [((2, 3, 8), I16)],
        [((2, 12), I16)],
        custom=True,
        custom_options=encode({"T": 7, "frame_step": 4}),
    ),
    "float overlap": runnable(
        "SignalOverlapAdd",
        [((3, 10), F32)],
        [((15,), F32)],
        custom=True,
        custom_options=encode({"T": 0, "frame_step": 5}),
    ),
    "stacker": runnable(
        "SignalStacker",
        [((4,), I16)],
        [((16,), I16), ((), BOOL)],
        custom=True,
        custom_options=encode(
            {
                "num_channels": 4,
                "stacker_left_context": 2,
                "stacker_right_context": 1,
                "stacker_step": 2,
            }
        ),
    ),
    **{
        f"{name} of {dtype.name}": runnable(
            f"Signal{name}",
            [((inputs,), dtype)],
            [((outputs,), dtype)],
            custom=True,
            custom_options=encode({"T": kind, "fft_length": 64}),
        )
        for name, inputs, outputs in (("Rfft", 64, 66), ("Irfft", 66, 64))
        for dtype, kind in ((F32, 0), (I16, 7), (I32, 2))
    },
}
