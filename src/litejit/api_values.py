"""Values of InterpreterApi <-> tensor memory, by the rules of TensorFlow Lite's Java classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.types import STRING, Array, TensorType

_RAW = (bytes, bytearray, memoryview)
_NAMES = {
    "float32": "FLOAT32", "int32": "INT32", "int64": "INT64", "int16": "INT16", "int8": "INT8",
    "uint8": "UINT8", "bool": "BOOL",
}  # fmt: skip


def is_raw(value: Any) -> bool:
    """True for buffers of bytes, which never resize a tensor."""
    return isinstance(value, _RAW)


def input_array(value: Any, tensor: TensorType) -> Array:
    """A value as an array of the tensor's type and of its own shape.

    NumPy arrays and scalars have a type, which must be the tensor's; Python numbers take it.
    Raises ValueError.
    """
    if isinstance(value, np.ndarray | np.generic):
        return _typed(np.asarray(value), tensor)
    shape = list_shape(value)
    if tensor.dtype == STRING:
        return _strings(np.array(value, object), tensor)
    if any(isinstance(item, str | bytes) for item in _leaves(value)):
        raise ValueError(_cannot_convert(tensor, "str", "STRING"))
    try:
        loose = np.array(value)
        if loose.dtype.kind not in "biuf":
            raise TypeError
        return exact(loose, tensor).reshape(shape)
    except (TypeError, OverflowError) as error:
        kind = type(value).__name__
        raise ValueError(f"DataType error: cannot resolve DataType of {kind}") from error


def exact(loose: Array, tensor: TensorType) -> Array:
    """Python numbers in a tensor's type; ValueError where one does not fit."""
    kind = tensor.dtype.numpy
    if kind.kind in "iub" and loose.dtype.kind == "f":
        raise ValueError(_cannot_convert(tensor, "float", "FLOAT32"))
    if kind.kind in "iu" and loose.size:
        limits = np.iinfo(kind)
        if loose.min() < limits.min or loose.max() > limits.max:
            raise ValueError(
                f"{tensor.dtype} holds {limits.min} to {limits.max}, got "
                f"{loose.min()} to {loose.max()} for tensor {tensor.name!r}"
            )
    return loose.astype(kind)


def list_shape(value: Any) -> tuple[int, ...]:
    """The shape of nested lists. Raises ValueError for empty and for ragged ones."""
    shape: list[int] = []
    level = [value]
    while isinstance(level[0], list | tuple):
        first = len(level[0])
        for row in level:
            length = len(row) if isinstance(row, list | tuple) else 0
            if length != first:
                raise ValueError(f"Mismatched lengths ({first} and {length}) in dimension "
                                 f"{len(shape)}")  # fmt: skip
        if not first:
            raise ValueError("Array lengths cannot be 0.")
        shape.append(first)
        level = [item for row in level for item in row]
    return tuple(shape)


def _leaves(value: Any) -> list[Any]:
    level = [value]
    while isinstance(level[0], list | tuple):
        level = [item for row in level for item in row]
    return level


def _typed(array: Array, tensor: TensorType) -> Array:
    if 0 in array.shape:
        raise ValueError("Array lengths cannot be 0.")
    if array.dtype.kind in "SU" or array.dtype == object and tensor.dtype == STRING:
        return _strings(array.astype(object), tensor)
    name = _NAMES.get(array.dtype.name)
    if name is None:
        raise ValueError(f"DataType error: cannot resolve DataType of {array.dtype.name}")
    bytes_alike = {name, tensor.dtype.name} == {"INT8", "UINT8"}
    if name != tensor.dtype.name and not bytes_alike:
        raise ValueError(_cannot_convert(tensor, f"{array.dtype.name} array", name))
    return array.view(tensor.dtype.numpy) if bytes_alike else array


def _strings(array: Array, tensor: TensorType) -> Array:
    if tensor.dtype != STRING:
        raise ValueError(_cannot_convert(tensor, "str", "STRING"))
    result: Array = np.empty(array.shape, object)
    for position, item in np.ndenumerate(array):
        if not isinstance(item, str | bytes):
            raise ValueError(
                f"DataType error: cannot resolve DataType of {type(item).__name__}"
            )
        result[position] = item.encode() if isinstance(item, str) else item
    return result


def _cannot_convert(tensor: TensorType, kind: str, name: str) -> str:
    return (
        f"Cannot convert between a TensorFlowLite tensor with type {tensor.dtype} and a Java "
        f"object of type {kind} (which is compatible with the TensorFlowLite type {name})."
    )


def copy_raw(value: Any, memory: Array, tensor: TensorType) -> None:
    """Copy a buffer into a tensor of exactly as many bytes. Raises ValueError."""
    data = memoryview(value).cast("B")
    _no_strings(tensor)
    if data.nbytes != memory.nbytes:
        raise ValueError(
            f"Cannot copy to a TensorFlowLite tensor ({tensor.name}) with {memory.nbytes} bytes "
            f"from a Java Buffer with {data.nbytes} bytes."
        )
    memory[...] = np.frombuffer(data, memory.dtype).reshape(memory.shape)


def copy_output(array: Array, target: Any, tensor: TensorType) -> None:
    """Copy a result into what the caller provides. Raises ValueError where it does not fit."""
    if is_raw(target):
        _copy_output_raw(array, target, tensor)
        return
    is_list = isinstance(target, list)
    shape = list_shape(target) if is_list else np.shape(target)
    if shape != array.shape:
        raise ValueError(
            f"Cannot copy from a TensorFlowLite tensor ({tensor.name}) with shape "
            f"{list(array.shape)} to a Java object with shape {list(shape)}."
        )
    if is_list:
        target[:] = array.tolist()
    else:
        _typed(target, tensor)
        target[...] = array.view(target.dtype) if tensor.dtype != STRING else array


def _copy_output_raw(array: Array, target: Any, tensor: TensorType) -> None:
    _no_strings(tensor)
    data = memoryview(target).cast("B")
    if data.nbytes < array.nbytes:
        raise ValueError(
            f"Cannot copy from a TensorFlowLite tensor ({tensor.name}) with {array.nbytes} bytes "
            f"to a Java Buffer with {data.nbytes} bytes."
        )
    if data.readonly:
        raise ValueError(f"the buffer for tensor {tensor.name!r} is read-only")
    data[: array.nbytes] = array.tobytes()


def _no_strings(tensor: TensorType) -> None:
    if tensor.dtype == STRING:
        raise ValueError(
            "Cannot convert between a TensorFlowLite tensor with type STRING and a Java object "
            "of type buffer: pass an array or a list of strings"
        )
