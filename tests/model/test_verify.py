from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit.errors import ModelError, PrepareError
from litejit.model import read_model, write_model
from litejit.model.builder import ModelBuilder, per_channel
from litejit.model.constant import packed_bytes
from litejit.model.model import (
    Buffer,
    DimensionMetadata,
    Model,
    OperatorCode,
    QuantizationExtra,
    Signature,
    Sparsity,
)
from litejit.model.table import dtype_of
from litejit.model.verify import check_graph, verify_model
from litejit.record import replace
from litejit.types import F32, I2, I4, STRING, Quantization

sys.path.insert(0, str(Path(__file__).parent))
from model_samples import convolution, everything

NONE = np.empty(0, np.float32)


def with_tensor(index: int = 1, **changes: Any) -> Model:
    """The sample model with one tensor changed; tensor 1 is a constant of rank 4."""
    model = convolution().build()
    graph = model.subgraphs[0]
    tensors = list(graph.tensors)
    tensors[index] = replace(tensors[index], **changes)
    return replace(model, subgraphs=(replace(graph, tensors=tuple(tensors)),))


def per_axis(scales: int, zero_points: int, axis: int = 0) -> Quantization:
    return Quantization(np.ones(scales, "f4"), np.zeros(zero_points, "i8"), axis)


def blockwise(scales: int, zero_points: int = -1, block: int = 32) -> dict[str, Any]:
    return {
        "quantization": Quantization(NONE, NONE, 0, block, scales, zero_points),
        "quantization_extra": QuantizationExtra(NONE, NONE, 2),
    }


def multi_axis(*axes: int) -> dict[str, Any]:
    return {
        "quantization": Quantization(NONE, NONE, 0, 0, 2, -1),
        "quantization_extra": QuantizationExtra(NONE, NONE, 3, b"", axes),
    }


def sparse(dimension: DimensionMetadata) -> Sparsity:
    return Sparsity((0, 1, 2, 3), None, (dimension,) * 4)


def broken_models() -> list[tuple[Model, str]]:
    model = convolution().build()
    graph = model.subgraphs[0]
    code = replace(graph.operators[0], code=5)
    return [
        (replace(model, version=2), "Model provided is schema version 2 not equal to supported"),
        (replace(model, subgraphs=()), "No subgraph in the model.\n"),
        (replace(model, buffers=None), "No buffers in the model.\n"),
        (
            replace(model, operator_codes=(OperatorCode(240),)),
            "Op builtin_code out of range: 240. Are you using old TFLite binary with newer "
            "model?Registration failed.\n",
        ),
        (replace(model, operator_codes=(OperatorCode(32),)), "Operator with CUSTOM builtin_code"),
        (
            replace(model, subgraphs=(replace(graph, operators=(code,)),)),
            "Missing registration for opcode_index 5\n",
        ),
        (with_tensor(buffer=77), "Tensor 1 specifies out of range buffer 77 (only 4 buffers).\n"),
        (with_tensor(dtype=dtype_of(99)), "Unsupported data type 99 in tensor\n"),
        (
            with_tensor(quantization=per_axis(1, 0)),
            "Quantization parameters has non-null scale but null zero_point.Tensor 1 has invalid",
        ),
        (
            with_tensor(quantization=per_axis(3, 1)),
            "QuantizationParam has 1 zero_point values and 3 scale values. Must have same number.",
        ),
        (
            with_tensor(quantization=per_axis(1, 1, 4)),
            "quantized_dimension must be in range [0, 4). Was 4.Tensor 1 has invalid quantization",
        ),
        (
            with_tensor(quantization=per_axis(2, 2)),
            "num_scales must be 1 for per-layer quantization, or 3 for per-axis quantization, "
            "but got 2.",
        ),
        (with_tensor(**blockwise(9)), "BlockwiseQuantization scales tensor index must be in"),
        (with_tensor(**blockwise(2, 9)), "BlockwiseQuantization zero_points tensor index"),
        (with_tensor(**blockwise(2, -1, -4)), "BlockwiseQuantization block_size must be non-neg"),
        (with_tensor(**multi_axis()), "MultiAxisQuantization must have at least one"),
        (
            with_tensor(**multi_axis(0, 4)),
            "MultiAxisQuantization quantized_dimensions must be in range [0, 4). Value 4 at",
        ),
        (with_tensor(is_variable=True), "Tensor 1 is a variable tensor with buffer or external"),
        (with_tensor(external_buffer=1), "Tensor 1 is a variable tensor with buffer or external"),
        (
            with_tensor(sparsity=sparse(DimensionMetadata(7))),
            "The 0th dimension has unknown type: 7.Tensor 1 has invalid sparsity parameters.",
        ),
        (
            with_tensor(sparsity=sparse(DimensionMetadata(1))),
            "The 0th sparse dimension has invalid parameters.Tensor 1 has invalid sparsity",
        ),
        (
            with_tensor(shape=(3, 2, 2, 3)),
            "tflite/core/subgraph.cc:1965 required_bytes <= bytes was not true.Tensor 1 is "
            "invalidly specified in schema.\n",
        ),
        (
            with_tensor(4, shape=(-1, 12)),
            "tflite/util.cc BytesRequired number of elements overflowed.\nTensor 4 is invalidly "
            "specified in schema.\n",
        ),
        (
            with_tensor(4, shape=(1 << 30, 1 << 30, 1 << 30)),
            "tflite/util.cc BytesRequired number of elements overflowed.\n",
        ),
        (
            with_tensor(4, shape=(1 << 31 - 1, 1 << 31 - 1, 8), dtype=F32),
            "tflite/util.cc BytesRequired number of bytes overflowed.\n",
        ),
        (with_tensor(4, dtype=STRING, is_variable=True), "String variable tensor isn't supported."),
        (with_tensor(4, shape=(1,) * 33), "Tensor 4 is invalidly specified in schema.\n"),
        (
            replace(model, signatures=(Signature("f", 3, (), ()),)),
            "signature 'f' names subgraph 3, but the model has 1",
        ),
        (
            replace(model, signatures=(Signature("f", 0, (("x", 9),), ()),)),
            "signature 'f' names tensor 9 for 'x', but subgraph 0 has 5",
        ),
    ]


@pytest.mark.parametrize(("model", "words"), broken_models(), ids=lambda v: str(v)[:40])
def test_a_broken_model_is_refused_in_the_peers_words(model: Model, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        verify_model(model)
    assert str(caught.value).startswith(words)


def test_refusals_name_the_tensor_and_its_graph() -> None:
    with pytest.raises(ModelError, match=r"tensor 1 'w' of subgraph 0"):
        verify_model(with_tensor(shape=(300, 2, 2, 3)))


@pytest.mark.parametrize(
    "model",
    [
        convolution().build(),
        everything().build(),
        with_tensor(buffer=0),
        with_tensor(shape=(3, 2, 2, 1)),  # a larger buffer than needed
        with_tensor(quantization=per_axis(0, 1)),
        with_tensor(4, shape=(), quantization=per_channel([1, 2])),  # rank not known
        with_tensor(4, shape=(0, 1 << 31 - 1, 1 << 31 - 1, 1 << 31 - 1)),
        with_tensor(**blockwise(2)),
    ],
    ids=range(8),
)
def test_a_sound_model_passes(model: Model) -> None:
    verify_model(model)


def test_the_axis_of_a_single_scale_matters_only_to_the_strict_check() -> None:
    model = with_tensor(quantization=per_axis(1, 1, 9))
    verify_model(model, strict=False)
    assert read_model(write_model(model), strict=False) == model
    with pytest.raises(ModelError, match="quantized_dimension"):
        verify_model(model)


@pytest.mark.parametrize(("dtype", "count", "size"), [(I4, 3, 2), (I2, 5, 2), (F32, 3, 12)])
def test_packed_types_take_whole_bytes(dtype: Any, count: int, size: int) -> None:
    assert packed_bytes(dtype, count) == size
    model = with_tensor(dtype=dtype, shape=(count,), quantization=None)
    for length, good in ((size, True), (size - 1, False)):
        buffers = (Buffer(), Buffer(bytes(length)), *(model.buffers or ())[2:])
        if good:
            verify_model(replace(model, buffers=buffers))
        else:
            with pytest.raises(ModelError, match="required_bytes <= bytes"):
                verify_model(replace(model, buffers=buffers))


def chain(*operators: tuple[str, list[int], list[int]]) -> Model:
    """Six float tensors: 0 the input, 1 a constant, 5 the output."""
    builder = ModelBuilder()
    graph = builder.main
    graph.add_input("x", (1,), F32)
    graph.add_constant("c", np.zeros(1, np.float32))
    for name in "abc":
        # As converters do: a buffer of its own, without data, for every tensor.
        graph.add_tensor(name, (1,), F32, buffer=builder.add_buffer(None))
    graph.add_output("y", (1,), F32)
    for name, inputs, outputs in operators:
        graph.add_operator(name, inputs, outputs, custom=name == "Mine")
    return builder.build()


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ([("ADD", [0, 9], [5])], "Invalid tensor index 9 in node inputs. The subgraph has 6 tens"),
        ([("ADD", [0, -2], [5])], "Invalid tensor index -2 in node inputs. The subgraph has 6"),
        ([("ADD", [0, 1], [6])], "Invalid tensor index 6 in node outputs. The subgraph has 6"),
        ([("ADD", [0, 1], [-1])], "Invalid tensor index -1 in node outputs. The subgraph has 6"),
        ([("ADD", [0, 1], [0])], "Tensor 0 is both input 0 and output 0\nAllocateTensors() called"),
        ([("ADD", [0, 2], [3])], "ADD (operator 0): tensor 2 'a' is read before anything has"),
        ([("ADD", [0, 2], [5]), ("ADD", [0, 1], [2])], "ADD (operator 0): tensor 2 'a' is read"),
        ([("ADD", [0, 1], [2, 2])], "ADD (operator 0): tensor 2 'a' is written already by ADD"),
        (
            [("ADD", [0, 1], [2]), ("ADD", [2, 1], [5]), ("ADD", [5, 1], [2])],
            "ADD (operator 2): tensor 2 'a' is written already by ADD (operator 0)",
        ),
        ([("ADD", [1, 1], [0])], "ADD (operator 0): tensor 0 'x' is written already by the ca"),
        ([("ADD", [0, 0], [1])], "ADD (operator 0): tensor 1 'c' is written already by the fi"),
    ],
    ids=range(11),
)
def test_a_graph_out_of_order_is_refused(
    operators: list[tuple[str, list[int], list[int]]], words: str
) -> None:
    with pytest.raises(PrepareError) as caught:
        model = chain(*operators)
        check_graph(model.subgraphs[0], model)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("end", ["inputs", "outputs"])
@pytest.mark.parametrize("number", [-1, 6])
def test_the_ends_of_a_graph_must_exist(end: str, number: int) -> None:
    graph = replace(chain(("ADD", [0, 1], [5])).subgraphs[0], **{end: (number,)})
    with pytest.raises(
        PrepareError, match=f"^Invalid tensor index {number} in {end}. The subgraph"
    ):
        check_graph(graph)


def test_sound_graphs_pass() -> None:
    forward = chain(("Mine", [0, 2], [2, -1, 5]))
    forward = replace(forward, subgraphs=(replace(forward.subgraphs[0], inputs=(0, 2)),))
    plain = chain(("ADD", [0, -1], [2]), ("ADD", [2, 1], [5]))
    for model in (forward, plain, convolution().build(), everything().build()):
        for graph in model.subgraphs:
            check_graph(graph, model)
    check_graph(plain.subgraphs[0])


def test_without_the_model_only_numbers_and_overlaps_are_sure() -> None:
    graph = chain(("ADD", [0, 2], [3])).subgraphs[0]
    check_graph(graph)
    with pytest.raises(PrepareError, match="Tensor 0 is both input 0 and output 0"):
        check_graph(chain(("Mine", [0, 1], [0])).subgraphs[0])
