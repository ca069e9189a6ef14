"""The dictionaries in which LiteRT describes tensors and operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.engine.runner import SubgraphRunner
from litejit.model.model import Sparsity
from litejit.tensor_values import tensor_of
from litejit.types import Array, DType, Quantization, TensorType


def numpy_type(dtype: DType) -> Any:
    """The NumPy type that users see; ValueError for one that NumPy does not have."""
    if dtype.name == "STRING":
        return np.bytes_
    if dtype.name == "BFLOAT16":
        return _bfloat16()
    return dtype.numpy.type if dtype.name not in ("RESOURCE", "VARIANT") else np.object_


def _bfloat16() -> Any:
    try:
        import ml_dtypes
    except ImportError as error:
        raise ValueError("Invalid data-type for array: BFLOAT16 needs ml_dtypes") from error
    return ml_dtypes.bfloat16


def tensor_details(runner: SubgraphRunner, index: int, *, compress: bool) -> dict[str, Any]:
    """Details of one tensor, in LiteRT's keys and order."""
    tensor = tensor_of(runner, index, "TensorDetails")
    declared = runner.subgraph.tensors[tensor.index]
    shape = np.array(_shape(runner, tensor), np.int32)
    signature = declared.shape_signature
    q = tensor.quantization
    single = q is not None and len(q.scales) == 1
    return {
        "name": declared.name,
        "index": tensor.index,
        "shape": shape,
        "shape_signature": np.array(signature, np.int32) if signature else shape.copy(),
        "dtype": numpy_type(tensor.dtype),
        "quantization": (tensor.scale, tensor.zero_point) if single else (0.0, 0),
        "quantization_parameters": _quantization(runner, q, compress=compress),
        "sparsity_parameters": _sparsity(declared.sparsity),
    }


def _shape(runner: SubgraphRunner, tensor: TensorType) -> tuple[int, ...]:
    """The shape at present: what a run found, where it depends on data."""
    declared = runner.subgraph.tensors[tensor.index]
    if declared.sparsity is not None and tensor.is_constant:
        return declared.shape  # the value holds the stored elements only
    if tensor.shape is not None:
        return tensor.shape
    found = runner.array(tensor.index)
    return declared.shape if found is None else found.shape


def _quantization(
    runner: SubgraphRunner, q: Quantization | None, *, compress: bool
) -> dict[str, Any]:
    scales, zero_points = np.empty(0, np.float32), np.empty(0, np.int32)
    if q is not None and q.block_size:
        scale_value = runner.types[q.scale_tensor].value
        if scale_value is not None:
            scales = np.frombuffer(scale_value.tobytes(), np.float16)
        if q.zero_point_tensor >= 0:
            value = runner.types[q.zero_point_tensor].value
            zero_points = np.zeros(0, np.int32) if value is None else value.astype(np.int32)
    elif q is not None and len(q.scales):
        scales = np.array(q.scales, np.float32)
        zero_points = np.array(q.zero_points, np.int32)
        if len(zero_points) == 1 and len(scales) > 1:
            zero_points = np.repeat(zero_points, len(scales))
        if compress and len(set(zero_points.tolist())) == 1:
            zero_points = zero_points[:1]
    known = q is not None and (len(scales) or q.block_size)
    return {
        "scales": scales,
        "zero_points": zero_points,
        "quantized_dimension": q.axis if q is not None and known else 0,
        "block_size": q.block_size if q is not None else 0,
    }


def _sparsity(sparsity: Sparsity | None) -> dict[str, Any]:
    if sparsity is None:
        return {}
    result: dict[str, Any] = {"traversal_order": np.array(sparsity.traversal_order, np.int32)}
    if sparsity.block_map:
        result["block_map"] = np.array(sparsity.block_map, np.int32)
    result["dim_metadata"] = [
        {"format": 0, "dense_size": int(d.dense_size)}
        if d.format == 0
        else {
            "format": 1,
            "array_segments": np.array(d.segments, np.int32),
            "array_indices": np.array(d.indices, np.int32),
        }
        for d in sparsity.dim_metadata
    ]
    return result


def op_details(runner: SubgraphRunner, index: int) -> dict[str, Any]:
    """Details of one operator, in LiteRT's keys and order."""
    resolved = runner.operators[index]
    operator = runner.subgraph.operators[index]  # the resolved one may stand for several
    types = [[numpy_type(runner.types[i].dtype) for i in side if i >= 0]
             for side in (operator.inputs, operator.outputs)]  # fmt: skip
    return {
        "index": index,
        "op_name": resolved.name,
        "inputs": np.array(operator.inputs, np.int32),
        "outputs": np.array(operator.outputs, np.int32),
        "operand_types": types[0],
        "result_types": types[1],
    }


def value_of(tensor_type: DType, array: Array) -> Any:
    """What get_tensor returns: a fresh array, or a NumPy scalar for rank 0."""
    if tensor_type.name == "BFLOAT16":
        array = array.view(_bfloat16())
    if array.ndim == 0 and not array.dtype.hasobject:
        return array[()]
    return array.copy(order="C")
