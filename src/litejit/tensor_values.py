"""Python values <-> tensor memory: the checks of the façade, and views that are counted."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from litejit.engine.runner import SubgraphRunner
from litejit.types import Array, DType, TensorType

_PACKED_RANGE = {"INT4": (-8, 7), "UINT4": (0, 15), "INT2": (-2, 1)}


class NativeMemory:
    """Stands for the tensors' memory: every view that users hold has it as its base.

    Python's count of references to it tells whether a view is alive.
    """

    __slots__ = ("__weakref__", "_interface")

    def __init__(self) -> None:
        self._interface: dict[str, Any] | None = None

    def view(self, array: Array) -> Any:
        """An array on the same memory, based on this object; a scalar where rank is 0."""
        if array.ndim == 0:
            return array[()]
        self._interface = dict(array.__array_interface__)
        try:
            return np.array(self, copy=False)
        finally:
            self._interface = None

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's description of the array that is being viewed."""
        if self._interface is None:
            raise AttributeError("__array_interface__")
        return self._interface


def tensor_of(runner: SubgraphRunner, index: Any) -> TensorType:
    """The type of a tensor by its number; ValueError where there is none."""
    number, count = operator.index(index), len(runner.types)
    if not 0 <= number < count:
        raise ValueError(f"Invalid tensor index {number} exceeds max tensor index {count}")
    return runner.types[number]


def readable(runner: SubgraphRunner, index: Any) -> Array:
    """The memory of a tensor that has a value; constants are read-only."""
    tensor = tensor_of(runner, index)
    array = runner.array(tensor.index)
    if array is None:
        raise ValueError(
            "Tensor data is null. Run allocate_tensors() first "
            f"(tensor {tensor.index}, {tensor.name!r}: not computed yet, or not kept)"
        )
    return array


def writable(runner: SubgraphRunner, tensor: TensorType) -> Array:
    """The memory of a tensor that may be set."""
    if tensor.is_constant:
        raise ValueError(
            f"Cannot set tensor: Tensor {tensor.index} ({tensor.name!r}) is a constant of the model"
        )
    array = runner.array(tensor.index)
    if array is None:
        raise ValueError(
            "Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first"
        )
    return array


def numpy_type_name(dtype: np.dtype[Any]) -> str:
    """How LiteRT names the type of a NumPy array in its messages."""
    if dtype.kind in "SUO":
        return "STRING"
    if dtype.kind == "b":
        return "BOOL"
    names = {"f": "FLOAT", "i": "INT", "u": "UINT", "c": "COMPLEX"}
    if dtype.kind not in names or dtype.char in "gGqQ" and dtype != np.dtype(dtype.str):
        return "NOTYPE"
    return f"{names[dtype.kind]}{8 * dtype.itemsize}"


def stored_value(value: Any, tensor: TensorType) -> Array:
    """`value` as an array that fits the tensor's memory, or ValueError in LiteRT's words."""
    if tensor.dtype.name == "STRING":
        return _strings(value, tensor)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError("Failed to convert value into readable tensor.") from error
    if tensor.dtype.name in _PACKED_RANGE:
        return _packed(array, tensor)
    name = numpy_type_name(array.dtype)
    if not _same_type(array.dtype, name, tensor.dtype):
        raise ValueError(
            f"Cannot set tensor: Got value of type {name} but expected type "
            f"{tensor.dtype.name} for input {tensor.index}, name: {tensor.name} "
        )
    _check_shape(array, tensor)
    if array.dtype.itemsize == tensor.dtype.itemsize and tensor.dtype.name == "BFLOAT16":
        return array.view(np.uint16)
    return array


def _same_type(dtype: np.dtype[Any], name: str, wanted: DType) -> bool:
    if wanted.name == "BFLOAT16":
        return str(dtype) == "bfloat16"
    return name == wanted.name


def _check_shape(array: Array, tensor: TensorType) -> None:
    dims = tensor.dims
    where = f"of input {tensor.index}"
    if array.ndim != len(dims):
        raise ValueError(
            f"Cannot set tensor: Dimension mismatch. Got {array.ndim} but expected {len(dims)} "
            f"for input {tensor.index}."
        )
    for axis, (got, expected) in enumerate(zip(array.shape, dims, strict=True)):
        if got != expected:
            raise ValueError(
                f"Cannot set tensor: Dimension mismatch. Got {got} but expected {expected} for "
                f"dimension {axis} {where}."
            )


def _packed(array: Array, tensor: TensorType) -> Array:
    name, wanted = tensor.dtype.name, tensor.dtype.numpy
    low, high = _PACKED_RANGE[name]
    what = f"{name} input {tensor.index}, name: {tensor.name}"
    if array.dtype != wanted:
        got = numpy_type_name(array.dtype)
        raise ValueError(
            f"Cannot set tensor: Expected a numpy array of {wanted.name} for {what}, but got {got}"
        )
    if array.size != tensor.size:
        raise ValueError(
            f"Cannot set tensor: Numpy array for {what}, has {array.size} bytes, but expected "
            f"{tensor.size} bytes for {tensor.size} elements"
        )
    if array.size and (array.min() < low or array.max() > high):
        raise ValueError(
            f"Cannot set tensor: Values for {name} input must be between {low} and {high}."
        )
    return array.reshape(tensor.dims)


def _strings(value: Any, tensor: TensorType) -> Array:
    if not isinstance(value, np.ndarray):
        kind = type(value).__name__
        raise ValueError(f"Passed in value type is not a numpy array, got type {kind}.")
    name = numpy_type_name(value.dtype)
    if name != "STRING":
        raise ValueError(
            f"Cannot set tensor: Got value of type {name} but expected type STRING for input "
            f"{tensor.index}, name: {tensor.name} "
        )
    _check_shape(value, tensor)
    if value.ndim == 0 and value.dtype.kind == "S":
        result: Array = np.empty((), np.object_)
        result[()] = value.tobytes()
        return result
    encoded = [_encoded(item) for item in value.ravel().tolist()]
    result = np.empty(value.shape, np.object_)
    result.reshape(-1)[...] = encoded
    return result


def _encoded(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if not isinstance(item, str):
        raise ValueError("PyBytes_AsStringAndSize() failed.")
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise ValueError("PyUnicode_AsUTF8AndSize() failed.") from error
