"""Python values <-> tensor memory: the checks of the façade, and views that are counted."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from litejit.engine.runner import SubgraphRunner
from litejit.types import Array, DType, TensorType

_PACKED_RANGE = {"INT4": (-8, 7), "UINT4": (0, 15)}


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


def tensor_of(runner: SubgraphRunner, index: Any, use: str) -> TensorType:
    """The type of a tensor by its number; ValueError where there is none.

    TypeError, in the name of the function `use`, for what is no number.
    """
    number = index if type(index) is int else index_of(index, use)
    if 0 <= number < len(runner.types):
        return runner.types[number]
    if not -(1 << 31) <= number < 1 << 31:
        raise TypeError(f"{use}(): incompatible function arguments. {number} is no tensor index")
    count = len(runner.types)
    raise ValueError(f"Invalid tensor index {number} exceeds max tensor index {count}")


def is_plain(dtype: DType) -> bool:
    """True where NumPy's elements are the tensor's: no strings, 4 bits, bfloat16, handles."""
    return dtype.bits == 8 * dtype.itemsize and dtype.name != "BFLOAT16"


def index_of(index: Any, use: str) -> int:
    """A tensor index as an int: integers and NumPy numbers pass; else TypeError."""
    if isinstance(index, np.floating) and not isinstance(index, float) and np.isfinite(index):
        return int(index)
    try:
        return operator.index(index)
    except TypeError as error:
        kind = type(index).__name__
        raise TypeError(
            f"{use}(): incompatible function arguments. A tensor index is an int, got {kind}"
        ) from error


def readable(runner: SubgraphRunner, tensor: TensorType) -> Array:
    """The memory of a tensor that has a value; constants are read-only.

    Of a sparse constant these are the stored elements, as LiteRT gives them.
    """
    declared = runner.subgraph.tensors[tensor.index]
    if declared.sparsity is not None and tensor.is_constant:
        return np.frombuffer(runner.model.buffer_bytes(declared.buffer), tensor.dtype.numpy)
    array = runner.array(tensor.index)
    if array is None:
        raise ValueError(
            "Tensor data is null. Run allocate_tensors() first "
            f"(tensor {tensor.index}, {tensor.name!r}: not computed yet, or not kept)"
        )
    return array


def store(runner: SubgraphRunner, index: Any, value: Any) -> None:
    """Copy a value into a tensor, after all checks that LiteRT makes, in its order."""
    tensor = tensor_of(runner, index, "SetTensor")
    array = stored_value(value, tensor)
    if array.size or tensor.dtype.name == "STRING":
        writable(runner, tensor)[...] = array


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


def shape_of(size: Any) -> tuple[int, ...]:
    """A shape from anything that becomes a 1-D int32 array.

    Whole floats pass; a fraction is refused rather than cut off. Raises ValueError, TypeError
    or OverflowError.
    """
    array = np.array(size, dtype=np.int32)
    if array.ndim != 1:
        raise ValueError(f"Shape should be 1D instead of {array.ndim}.")
    if any(isinstance(n, float | np.floating) and n != int(n) for n in size):
        raise ValueError(f"Shape should hold whole numbers, got {list(size)}")
    return tuple(array.tolist())


def resize(runner: SubgraphRunner, index: Any, shape: tuple[int, ...], *, strict: bool) -> None:
    """Give a tensor another shape, after LiteRT's checks; nothing happens for the same one."""
    number = index_of(index, "ResizeInputTensor")
    if not 0 <= number < len(runner.types):
        line = 1264 if strict else 1234
        raise RuntimeError(
            f"tflite/core/subgraph.cc:{line} tensor_index < context_.tensors_size && "
            f"tensor_index >= 0 was not true. (tensor {number} of {len(runner.types)})"
        )
    tensor, declared = runner.types[number], runner.subgraph.tensors[number]
    present = declared.shape if tensor.shape is None else tensor.shape
    if strict:
        _check_strict(number, present, declared.shape_signature or present, shape)
    if shape == present:
        return
    if tensor.is_constant:
        raise RuntimeError(f"Attempting to resize a fixed-size tensor. (tensor {number})")
    if any(n < 0 for n in shape):
        raise RuntimeError(
            f"tflite/util.cc BytesRequired number of elements overflowed.\n(shape {shape})"
        )
    runner.resize(number, shape)


def _check_strict(
    index: int, dims: tuple[int, ...], signature: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    if len(dims) != len(shape):
        raise RuntimeError(
            f"tflite/core/subgraph.cc:1268 tensor->dims->size != dims.size() "
            f"({len(dims)} != {len(shape)})"
        )
    for axis, (old, fixed, new) in enumerate(zip(dims, signature, shape, strict=True)):
        if fixed not in (-1, new):
            raise RuntimeError(
                f"Attempting to resize dimension {axis} of tensor {index} with value {old} to "
                f"{new}. ResizeInputTensorStrict only allows mutating unknown dimensions "
                "identified by -1."
            )


_KINDS = {"f": "FLOAT", "i": "INT", "u": "UINT", "c": "COMPLEX"}
_NUMPY_ONLY = "gGpPqQ"  # long double, intp and long long beside the types of fixed width


def numpy_type_name(dtype: np.dtype[Any]) -> str:
    """How LiteRT names the type of a NumPy array in its messages."""
    if dtype.kind in "SUO":
        return "STRING"
    if dtype.kind == "b":
        return "BOOL"
    if dtype.kind not in _KINDS or dtype.char in _NUMPY_ONLY and dtype.char != _plain_char(dtype):
        return "NOTYPE"
    return f"{_KINDS[dtype.kind]}{8 * dtype.itemsize}"


def _plain_char(dtype: np.dtype[Any]) -> str:
    """The character of NumPy's own type of this width."""
    return "" if dtype.kind in "fc" else np.dtype(f"{dtype.kind}{dtype.itemsize}").char


def stored_value(value: Any, tensor: TensorType) -> Array:
    """`value` as an array that fits the tensor's memory, or ValueError in LiteRT's words."""
    dtype = tensor.dtype
    if (
        type(value) is np.ndarray
        and value.dtype is dtype.numpy
        and value.shape == tensor.shape
        and is_plain(dtype)
    ):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError("Failed to convert value into readable tensor.") from error
    if dtype.name in _PACKED_RANGE:
        return _packed(array, tensor)
    name = numpy_type_name(array.dtype)
    if not _same_type(array.dtype, name, dtype):
        raise ValueError(
            f"Cannot set tensor: Got value of type {name} but expected type "
            f"{dtype.name} for input {tensor.index}, name: {tensor.name} "
        )
    _check_shape(array, tensor)
    if dtype.name == "STRING":
        return _strings(value)
    if dtype.name == "BFLOAT16":
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


def _strings(value: Any) -> Array:
    if not isinstance(value, np.ndarray):
        kind = type(value).__name__
        raise ValueError(f"Passed in value type is not a numpy array, got type {kind}.")
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
