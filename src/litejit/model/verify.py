"""What LiteRT checks of a model when an interpreter is made, and when it is allocated, and more.

Messages open with LiteRT's words; ours follow. Sources: LiteRT tflite/core/interpreter_builder.cc,
tflite/core/subgraph.cc, tflite/core/api/flatbuffer_conversions.cc.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from litejit.errors import ModelError, PrepareError
from litejit.model.constant import MAX_RANK, packed_bytes
from litejit.model.model import Model, Operator, OperatorCode, Sparsity, Subgraph, Tensor
from litejit.model.schema import BUILTIN_NAMES, VERSION, DetailsType
from litejit.types import Quantization

_OVERFLOW = 2**64  # sizes in LiteRT are 64 bits wide
_NO_SIZE = ("STRING", "RESOURCE", "VARIANT")
_MANY = (DetailsType.BLOCKWISE, DetailsType.MULTI_AXIS)


def verify_model(model: Model, *, strict: bool = True) -> None:
    """Check a model as LiteRT does when an interpreter is made, and that options decode.

    With `strict=False` scales may lie along a dimension that does not exist (operators that look
    at it check it), and the schema's version may be another: TFLM runs such models, though LiteRT
    refuses them. Raises ModelError.
    """
    if strict and model.version != VERSION:
        raise ModelError(
            f"Model provided is schema version {model.version} not equal to supported version "
            f"{VERSION}.\n"
        )
    for number, code in enumerate(model.operator_codes):
        _verify_code(number, code)
    if not model.subgraphs:
        raise ModelError("No subgraph in the model.\n")
    if model.buffers is None:
        raise ModelError("No buffers in the model.\n")
    for number, graph in enumerate(model.subgraphs):
        _verify_tensors(model, graph, number, strict=strict)
        for place, operator in enumerate(graph.operators):
            _verify_operator(model, operator, place, number)
    _verify_signatures(model)


def _verify_code(number: int, code: OperatorCode) -> None:
    if not 0 <= code.code < len(BUILTIN_NAMES):
        raise ModelError(
            f"Op builtin_code out of range: {code.code}. Are you using old TFLite binary with "
            f"newer model?Registration failed.\n"
            f"operator code {number}: the last known one is {len(BUILTIN_NAMES) - 1}"
        )
    if code.is_custom and code.custom_code is None:
        raise ModelError(
            f"Operator with CUSTOM builtin_code has no custom_code.\nRegistration failed.\n"
            f"operator code {number} needs a name"
        )


def _verify_tensors(model: Model, graph: Subgraph, number: int, *, strict: bool) -> None:
    buffers = model.buffers or ()
    for index, tensor in enumerate(graph.tensors):
        data = None
        if tensor.buffer:
            if tensor.buffer >= len(buffers):
                raise ModelError(
                    f"Tensor {index} specifies out of range buffer {tensor.buffer} "
                    f"(only {len(buffers)} buffers).\n{tensor.name!r} of subgraph {number}"
                )
            data = buffers[tensor.buffer].data
        fault = _tensor_fault(
            tensor, index, None if data is None else len(data), len(graph.tensors), strict=strict
        )
        if fault:
            raise ModelError(f"{fault}\ntensor {index} {tensor.name!r} of subgraph {number}")


def _tensor_fault(
    tensor: Tensor, index: int, size: int | None, tensors: int, *, strict: bool
) -> str:
    """What is wrong with a tensor whose buffer has `size` bytes (None: no data); '' if nothing."""
    dtype = tensor.dtype
    if not (dtype.bits or dtype.name in _NO_SIZE):
        return f"Unsupported data type {dtype.code} in tensor"
    if tensor.quantization is not None:
        fault = _quantization_fault(tensor, tensor.quantization, tensors, strict=strict)
        if fault:
            return f"{fault}Tensor {index} has invalid quantization parameters."
    if size is not None and (tensor.is_variable or tensor.external_buffer):
        return (
            f"Tensor {index} is a variable tensor with buffer or external buffer. "
            f"It's not supported now."
        )
    if size is not None and tensor.sparsity is not None:
        fault = _sparsity_fault(tensor.sparsity)
        return f"{fault}Tensor {index} has invalid sparsity parameters." if fault else ""
    fault = _size_fault(tensor, size)
    if not fault:
        return ""
    words, _, ours = fault.partition("|")
    return f"{words}Tensor {index} is invalidly specified in schema.\n{ours}"


def _quantization_fault(
    tensor: Tensor, quantization: Quantization, tensors: int, *, strict: bool
) -> str:
    """What is wrong with the quantization of a tensor, in LiteRT's words; '' where nothing is."""
    rank = len(tensor.shape)
    extra = tensor.quantization_extra
    if extra is not None and extra.details in _MANY:
        return _details_fault(quantization, extra.axes, extra.details, rank, tensors)
    scales, zero_points = len(quantization.scales), len(quantization.zero_points)
    if not scales:
        return ""
    if not zero_points:
        return "Quantization parameters has non-null scale but null zero_point."
    if scales != zero_points:
        return (
            f"QuantizationParam has {zero_points} zero_point values and {scales} scale values. "
            f"Must have same number."
        )
    axis = quantization.axis
    if axis < 0 or (rank and axis >= rank):
        if not strict:
            return ""
        return f"quantized_dimension must be in range [0, {rank}). Was {axis}."
    if scales != 1 and rank and scales != tensor.shape[axis]:
        return (
            f"num_scales must be 1 for per-layer quantization, or {tensor.shape[axis]} for "
            f"per-axis quantization, but got {scales}."
        )
    return ""


def _details_fault(
    quantization: Quantization, axes: tuple[int, ...], details: int, rank: int, tensors: int
) -> str:
    """What is wrong with a blockwise or multi-axis quantization."""
    word = "MultiAxisQuantization" if details == DetailsType.MULTI_AXIS else "BlockwiseQuantization"
    if not 0 <= quantization.scale_tensor < tensors:
        return (
            f"{word} scales tensor index must be in range [0, {tensors}). "
            f"Was {quantization.scale_tensor}."
        )
    if not -1 <= quantization.zero_point_tensor < tensors:
        return (
            f"{word} zero_points tensor index must be in range [0, {tensors}), or -1 if optional. "
            f"Was {quantization.zero_point_tensor}."
        )
    if quantization.block_size < 0:
        return f"{word} block_size must be non-negative. Was {quantization.block_size}."
    if details == DetailsType.MULTI_AXIS and not axes:
        return f"{word} must have at least one quantized dimension."
    for place, axis in enumerate(axes):
        if axis < 0 or (rank and axis >= rank):
            return (
                f"{word} quantized_dimensions must be in range [0, {rank}). "
                f"Value {axis} at index {place} is invalid."
            )
    return ""


def _sparsity_fault(sparsity: Sparsity) -> str:
    """What is wrong with the sparsity of a constant, in LiteRT's words; '' where nothing is."""
    for place, dimension in enumerate(sparsity.dim_metadata):
        if dimension.format not in (0, 1):
            return f"The {place}th dimension has unknown type: {dimension.format}."
        if dimension.format == 1 and (dimension.segments is None or dimension.indices is None):
            return f"The {place}th sparse dimension has invalid parameters."
    return ""


def _size_fault(tensor: Tensor, size: int | None) -> str:
    """What is wrong with a tensor's size: LiteRT's words, a bar, ours; '' where nothing is.

    A shape needs a size, and a constant at least that many bytes (`size`).
    """
    dtype, shape = tensor.dtype, tensor.shape
    if len(shape) > MAX_RANK:
        # Before the product: of a million dimensions it would take minutes.
        return f"|its rank is {len(shape)}, the largest one is {MAX_RANK}"
    if dtype.name in _NO_SIZE:
        if tensor.is_variable and size is None:
            return f"String variable tensor isn't supported.|a variable cannot be of type {dtype}"
        return ""
    count = math.prod(shape)
    if not 0 <= count < _OVERFLOW or (shape and min(shape) < 0):
        return (
            f"tflite/util.cc BytesRequired number of elements overflowed.\n|its shape is {shape}; "
            f"unknown dimensions belong in shape_signature"
        )
    needed = packed_bytes(dtype, count)
    if needed >= _OVERFLOW:
        return f"tflite/util.cc BytesRequired number of bytes overflowed.\n|its shape is {shape}"
    if size is not None and not tensor.external_buffer and needed > size:
        return (
            f"tflite/core/subgraph.cc:1965 required_bytes <= bytes was not true.|"
            f"{shape} of {dtype} takes {needed} bytes, its buffer has {size}"
        )
    return ""


def _verify_operator(model: Model, operator: Operator, place: int, graph: int) -> None:
    if operator.code >= len(model.operator_codes):
        raise ModelError(
            f"Missing registration for opcode_index {operator.code}\n"
            f"operator {place} of subgraph {graph}: the model has {len(model.operator_codes)} codes"
        )
    try:
        # Decoding is what checks options; it is done once, here.
        for options in (operator.options, operator.options_2):
            if options.type:
                options.decode()
    except ModelError as error:
        name = model.operator_name(operator)
        raise ModelError(
            f"{error} (options of {name}, operator {place} of subgraph {graph})"
        ) from None


def _verify_signatures(model: Model) -> None:
    for signature in model.signatures:
        if signature.subgraph >= len(model.subgraphs):
            raise ModelError(
                f"signature {signature.key!r} names subgraph {signature.subgraph}, "
                f"but the model has {len(model.subgraphs)}"
            )
        tensors = len(model.subgraphs[signature.subgraph].tensors)
        for name, index in (*signature.inputs, *signature.outputs):
            if index >= tensors:
                raise ModelError(
                    f"signature {signature.key!r} names tensor {index} for {name!r}, "
                    f"but subgraph {signature.subgraph} has {tensors}"
                )


def check_graph(graph: Subgraph, model: Model | None = None) -> None:
    """Check the tensor numbers of a graph, and that each value is written once, before it is read.

    LiteRT checks, at allocation, that numbers are in range and that no builtin operator writes
    its own input; it runs graphs that read what nobody wrote. `model` tells which operators are
    custom ones, which may write their own input, and which buffers hold data: without it, all
    operators count as builtin, and all tensors with a buffer as constants that may be written.
    Raises PrepareError.
    """
    tensors = len(graph.tensors)
    codes = None if model is None else model.operator_codes
    names = _names(graph, codes)
    _check_numbers("inputs", graph.inputs, tensors, "graph", optional=False)
    _check_numbers("outputs", graph.outputs, tensors, "graph", optional=False)
    for place, operator in enumerate(graph.operators):
        _check_numbers("node inputs", operator.inputs, tensors, names[place])
        custom = codes is not None and codes[operator.code].is_custom
        _check_numbers("node outputs", operator.outputs, tensors, names[place], optional=custom)
        _check_numbers("node intermediates", operator.intermediates, tensors, names[place])
        if not custom:
            _check_overlap(operator, names[place])
    _check_order(graph, names, None if model is None else _with_data(graph, model))


_INCONSISTENT = "AllocateTensors() called on inconsistent model."


def _names(graph: Subgraph, codes: Sequence[OperatorCode] | None) -> list[str]:
    """How messages call the operators of a graph."""
    if codes is None:
        return [f"operator {place}" for place in range(len(graph.operators))]
    return [
        f"{codes[operator.code].name} (operator {place})"
        for place, operator in enumerate(graph.operators)
    ]


def _check_numbers(
    what: str, numbers: Iterable[int], tensors: int, who: str, *, optional: bool = True
) -> None:
    least = -1 if optional else 0
    for number in numbers:
        if not least <= number < tensors:
            raise PrepareError(
                f"Invalid tensor index {number} in {what}. The subgraph has {tensors} tensors\n"
                f"{_INCONSISTENT}\n{who}: tensors are numbered from 0"
            )


def _check_overlap(operator: Operator, who: str) -> None:
    outputs = set(operator.outputs)
    for place, number in enumerate(operator.inputs):
        if number in outputs:
            raise PrepareError(
                f"Tensor {number} is both input {place} and output "
                f"{operator.outputs.index(number)}\n{_INCONSISTENT}\n{who}"
            )


def _with_data(graph: Subgraph, model: Model) -> set[int]:
    """The tensors of a graph that are constants."""
    buffers = model.buffers or ()
    return {
        number
        for number, tensor in enumerate(graph.tensors)
        if tensor.external_buffer or (tensor.buffer and buffers[tensor.buffer].data is not None)
    }


def _check_order(graph: Subgraph, names: list[str], constants: set[int] | None) -> None:
    """Check that each value is written once, by an operator or from outside, before it is read."""
    writer: dict[int, str] = {}
    if constants is None:
        known = {n for n, t in enumerate(graph.tensors) if t.buffer or t.external_buffer}
    else:
        known = set(constants)
        writer = dict.fromkeys(constants, "the file: it is a constant")
    writer.update((number, "the caller: it is an input") for number in graph.inputs)
    known.update(graph.inputs)
    known.update(number for number, tensor in enumerate(graph.tensors) if tensor.is_variable)
    for place, operator in enumerate(graph.operators):
        for number in operator.inputs:
            if number >= 0 and number not in known:
                raise PrepareError(
                    f"{names[place]}: tensor {number} {graph.tensors[number].name!r} is read "
                    f"before anything has written it"
                )
        for number in operator.outputs:
            if number < 0 or number in operator.inputs:
                continue
            if number in writer:
                raise PrepareError(
                    f"{names[place]}: tensor {number} {graph.tensors[number].name!r} is written "
                    f"already by {writer[number]}"
                )
            writer[number] = names[place]
            known.add(number)
