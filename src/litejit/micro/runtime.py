"""The façade with TFLM's names: `runtime.Interpreter`, `InterpreterConfig`.

A drop-in for `tflite_micro.runtime`: same calls, same exceptions, same numbers, same memory
report; what ends TFLM's process is an exception here.
"""

from __future__ import annotations

import enum
import operator
import os
import sys
import warnings
from typing import Any, NoReturn

import numpy as np

from litejit.details import numpy_type
from litejit.engine.runner import LoadedModel
from litejit.errors import InvokeError, LitejitError
from litejit.micro.allocations import Allocations, allocations
from litejit.micro.loading import read_micro_model, shared_names
from litejit.micro.machine import Machine
from litejit.micro.resolver import MicroOpResolver
from litejit.micro.signal_op import GraphStopped
from litejit.model import Model, Tensor
from litejit.tensor_values import numpy_type_name
from litejit.types import Array

ABORTED = 15  # what invoke returns where CIRCULAR_BUFFER ended the run
_MOST_ARENA = 1 << 47  # bytes; what no machine has
_UNREADABLE = ("STRING", "RESOURCE", "VARIANT")


class InterpreterConfig(enum.Enum):
    """What an interpreter keeps: a record of its allocations, or all tensors."""

    kAllocationRecording = 0
    kPreserveAllTensors = 1


def count_resource_variables(model: bytes | bytearray | Model) -> int:
    """Number of different resource variables that the model's VAR_HANDLE operators name."""
    return len(shared_names(model if isinstance(model, Model) else read_micro_model(bytes(model))))


class Interpreter:
    """Runs a .tflite model as TFLM's Python interpreter does.

    Args:
        model_data: the file's content, `bytes`.
        custom_op_registerers: a list of names of C functions in TFLM's extension, of which there
            are none here: any name is refused.
        arena_size: bytes of the arena that the model must fit into; None: 10 times the model's
            size, and more where it needs more, with a warning that says how much.
        intrepreter_config: kAllocationRecording or kPreserveAllTensors (TFLM's spelling).
        alt_decompression_memory_size: bytes beside the arena for decompressed weights.
        interpreter_config: the same as `intrepreter_config`, spelt correctly.

    Raises:
        ValueError, TypeError, KeyError, struct.error: an argument or the file is not valid.
        RuntimeError: "TFLM failed to allocate tensors", and why.
    """

    def __init__(
        self,
        model_data: Any,
        custom_op_registerers: Any,
        arena_size: Any,
        intrepreter_config: Any = InterpreterConfig.kAllocationRecording,
        alt_decompression_memory_size: Any = 0,
        *,
        interpreter_config: Any = None,
    ) -> None:
        if model_data is None:
            raise ValueError("Model must not be None")
        named = custom_op_registerers
        if not isinstance(named, list) or not all(isinstance(f, str) for f in named):
            raise ValueError("Custom ops registerers must be a list of strings")
        config = intrepreter_config if interpreter_config is None else interpreter_config
        if isinstance(model_data, str):
            raise TypeError("memoryview: a bytes-like object is required, not 'str'")
        arguments = (model_data, named, arena_size, alt_decompression_memory_size)
        if not isinstance(model_data, bytes):
            _incompatible("__init__()", arguments)
        model = read_micro_model(model_data)
        if not isinstance(config, InterpreterConfig):
            raise KeyError(config)
        default = arena_size is None
        size = 10 * len(model_data) if default else _bytes(arena_size, arguments)
        beside = _bytes(alt_decompression_memory_size, arguments)
        if max(size, beside) >= _MOST_ARENA:
            raise MemoryError("std::bad_alloc")
        self._recording = config is InterpreterConfig.kAllocationRecording
        self._report: Allocations | None = None
        self._alternate = beside
        for registerer in named:
            raise RuntimeError(f"TFLM could not register custom op via {registerer}")
        self._interpreter = self._open(model)
        self._arena = self._fit(size, default=default)

    @classmethod
    def from_file(
        cls,
        model_path: Any,
        custom_op_registerers: Any = None,
        arena_size: Any = None,
        intrepreter_config: Any = InterpreterConfig.kAllocationRecording,
        alt_decompression_memory_size: Any = 0,
        *,
        interpreter_config: Any = None,
    ) -> Interpreter:
        """An interpreter of the model in a file (str, bytes or os.PathLike)."""
        try:
            is_file = model_path is not None and os.path.isfile(model_path)
        except TypeError:
            is_file = False
        if not is_file or isinstance(model_path, int):
            raise ValueError("Invalid model file path")
        with open(model_path, "rb") as file:
            content = file.read()
        return Interpreter(
            content, [] if custom_op_registerers is None else custom_op_registerers, arena_size,
            intrepreter_config, alt_decompression_memory_size,
            interpreter_config=interpreter_config,
        )  # fmt: skip

    @classmethod
    def from_bytes(
        cls,
        model_data: Any,
        custom_op_registerers: Any = None,
        arena_size: Any = None,
        intrepreter_config: Any = InterpreterConfig.kAllocationRecording,
        alt_decompression_memory_size: Any = 0,
        *,
        interpreter_config: Any = None,
    ) -> Interpreter:
        """An interpreter of the model in `model_data`, bytes."""
        return Interpreter(
            model_data, [] if custom_op_registerers is None else custom_op_registerers, arena_size,
            intrepreter_config, alt_decompression_memory_size,
            interpreter_config=interpreter_config,
        )  # fmt: skip

    # -- the arena --

    def allocations(self) -> Allocations:
        """The arena as a record: head, tail, categories, operators, planned buffers."""
        if self._report is None:
            self._report = allocations(
                self._interpreter.model,
                planner="greedy" if self._recording else "linear",
                alternate_bytes=self._alternate,
                arena_bytes=self._arena,
            )
        return self._report

    def print_allocations(self) -> None:
        """Write TFLM's memory report to the process's stderr, in its words.

        Raises ValueError with kPreserveAllTensors, which keeps no books.
        """
        if not self._recording:
            raise ValueError("Cannot print allocations as they were not recorded")
        text = self.allocations().text()
        if sys.stderr is not None:
            sys.stderr.flush()
        os.write(2, text.encode())

    def _open(self, model: Model) -> Machine:
        keep = not self._recording
        try:
            return Machine(LoadedModel(model), MicroOpResolver(), preserve_all=keep)
        except LitejitError as error:
            raise _not_allocated(error) from error

    def _fit(self, size: int, *, default: bool) -> int:
        """The arena's size: the one that was asked for, or a larger default."""
        planner = "greedy" if self._recording else "linear"
        try:
            needed = least_arena_bytes(self._interpreter.model, planner, self._alternate)
            if needed > size and not default:
                allocations(
                    self._interpreter.model, planner=planner, alternate_bytes=self._alternate,
                    arena_bytes=size,
                )  # fmt: skip
        except LitejitError as error:
            raise _not_allocated(error) from error
        if needed <= size or not default:
            return size
        warnings.warn(
            f"The model needs an arena of {needed} bytes, more than the default of {size} bytes "
            f"(10 times its size), with which TFLM fails: pass arena_size={needed} there.",
            UserWarning,
            stacklevel=4,
        )
        return needed

    # -- running --

    def invoke(self) -> int:
        """Run the model once; 0, or 15 where a CIRCULAR_BUFFER ended the run.

        Raises RuntimeError: "Interpreter invocation failed.", and why.
        """
        try:
            self._interpreter.run()
        except GraphStopped:
            return ABORTED
        except InvokeError as error:
            raise RuntimeError(f"Interpreter invocation failed.\n{error}") from error
        return 0

    def reset(self) -> int:
        """Forget all state: variables, resource variables, what signal operators keep. 0."""
        self._interpreter.reset()
        return 0

    def set_input(self, input_data: Any, index: Any) -> None:
        """Copy an array into input `index`; its type and shape must be the input's.

        Raises ValueError, TypeError or IndexError where they are not, or there is no such input.
        """
        if input_data is None:
            raise ValueError("Input data must not be None")
        number = _index(index, "SetInputTensor()")
        try:
            array = np.asarray(input_data)
        except Exception as error:
            raise ValueError("TFLM cannot convert input to PyArray") from error
        machine = self._interpreter
        tensor = _tensor(machine, machine.inputs, number, "Input")
        _check_value(array, tensor, number)
        target = machine.writable(machine.inputs[number])
        if target is None:
            raise ValueError(f"Cannot set tensor: input {number} is a constant of the model")
        target[...] = array.view(target.dtype) if array.dtype.byteorder == ">" else array

    def get_output(self, index: Any) -> Any:
        """A copy of output `index`; a NumPy scalar where its rank is 0."""
        machine, number = self._interpreter, _index(index, "GetOutputTensor()")
        tensor = _tensor(machine, machine.outputs, number, "Output")
        return _copied(tensor, machine.value(machine.outputs[number]))

    def get_input_details(self, index: Any) -> dict[str, Any]:
        """`dtype`, `shape` and `quantization_parameters` of input `index`."""
        machine, number = self._interpreter, _index(index, "GetInputTensorDetails()")
        return _details(_tensor(machine, machine.inputs, number, "Input"))

    def get_output_details(self, index: Any) -> dict[str, Any]:
        """`dtype`, `shape` and `quantization_parameters` of output `index`."""
        machine, number = self._interpreter, _index(index, "GetOutputTensorDetails()")
        return _details(_tensor(machine, machine.outputs, number, "Output"))

    def GetTensor(self, tensor_index: Any, subgraph_index: Any) -> dict[str, Any]:
        """`dtype`, `shape` and `tensor_data` of any tensor, with kPreserveAllTensors.

        A tensor that no run has made holds zeros (in TFLM: anything). Raises IndexError where
        there is no such tensor, which ends TFLM's process.
        """
        tensor_number, graph = (
            _index(i, "GetTensor()", negative=False) for i in (tensor_index, subgraph_index)
        )
        if self._recording:
            raise RuntimeError(
                "TFLM only supports GetTensor() when using a python interpreter with the "
                "InterpreterConfig.kPeserverAllTensors interpreter_config"
            )
        machine = self._interpreter
        tensors = machine.tensors(graph)
        if not 0 <= tensor_number < len(tensors):
            raise IndexError("Tensor is out of bound, please check tensor index.")
        tensor = tensors[tensor_number]
        data = _copied(tensor, machine.value(tensor_number, graph))
        return {
            "dtype": numpy_type(tensor.dtype),
            "shape": np.array(np.shape(data), np.int32),
            "tensor_data": data,
        }

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


def least_arena_bytes(model: Model, planner: str, alternate_bytes: int) -> int:
    """The smallest arena in which TFLM's wheel prepares the model."""
    found: int = allocations(model, planner=planner, alternate_bytes=alternate_bytes).least_arena
    return found


def _not_allocated(error: Exception) -> RuntimeError:
    return RuntimeError(f"TFLM failed to allocate tensors\n{error}")


def _incompatible(function: str, arguments: Any) -> NoReturn:
    kinds = ", ".join(type(value).__name__ for value in arguments)
    what = "constructor" if function == "__init__()" else "function"
    raise TypeError(
        f"{function}: incompatible {what} arguments. The following argument types are supported: "
        f"see the documentation.\n\nInvoked with: {kinds}"
    )


def _bytes(value: Any, arguments: Any) -> int:
    """A number of bytes; TypeError for what is none."""
    try:
        size = operator.index(value)
    except TypeError:
        _incompatible("__init__()", arguments)
    if not 0 <= size < 1 << 64:
        _incompatible("__init__()", arguments)
    return size


def _index(index: Any, function: str, *, negative: bool = True) -> int:
    if negative and (index is None or index < 0):
        raise ValueError("Index must be a non-negative integer")
    try:
        number = operator.index(index)
    except TypeError:
        _incompatible(function, (index,))
    if not 0 <= number < 1 << 64:
        _incompatible(function, (index,))
    return number


def _tensor(machine: Machine, numbers: tuple[int, ...], index: int, what: str) -> Tensor:
    if index >= len(numbers):
        raise IndexError(
            "Tensor is out of bound, please check tensor index. "
            f"({what} index {index} out of range: there are {len(numbers)})"
        )
    tensor = machine.tensors()[numbers[index]]
    if tensor.dtype.name in _UNREADABLE:
        raise ValueError(
            "TFLM doesn't support strings, resource variables, or variants as outputs."
        )
    return tensor


def _type_name(array: Array) -> str:
    if str(array.dtype) == "bfloat16":
        return "BFLOAT16"
    name = numpy_type_name(array.dtype)
    return "NOTYPE" if name == "UINT16" else name


def _check_value(array: Array, tensor: Tensor, number: int) -> None:
    got, wanted = _type_name(array), tensor.dtype.name
    if got != wanted:
        raise ValueError(
            f"Cannot set tensor: Got value of type {got} but expected type {wanted} for input "
            f"{number}"
        )
    mismatch = "Cannot set tensor: Dimension mismatch."
    if array.ndim != len(tensor.shape):
        raise ValueError(
            f"{mismatch} Got {array.ndim} but expected {len(tensor.shape)} for input {number}"
        )
    for axis, (size, expected) in enumerate(zip(array.shape, tensor.shape, strict=True)):
        if size != expected:
            raise ValueError(
                f"{mismatch} Got {size} but expected {expected} for dimension {axis} of input "
                f"{number}"
            )


def _details(tensor: Tensor) -> dict[str, Any]:
    q = tensor.quantization
    known = q is not None and len(q.scales) > 0 and len(q.zero_points) > 0
    scales, zeros, axis = np.empty(0, np.float32), np.empty(0, np.int32), 0
    if q is not None and known:
        scales, zeros, axis = q.scales.astype(np.float32), q.zero_points.astype(np.int32), q.axis
        if len(zeros) < len(scales):
            zeros = np.full(len(scales), zeros[0], np.int32)
    return {
        "dtype": numpy_type(tensor.dtype),
        "shape": np.array(tensor.shape, np.int32),
        "quantization_parameters": {
            "scales": scales,
            "zero_points": zeros,
            "quantized_dimension": axis,
        },
    }


def _copied(tensor: Tensor, array: Array) -> Any:
    """Numbers in the shape that the file declares, whatever the operator made."""
    if tensor.dtype.name == "BFLOAT16":
        array = array.view(numpy_type(tensor.dtype))
    if array.shape != tensor.shape and min(tensor.shape, default=0) >= 0:
        array = np.resize(array, tensor.shape)
    return array[()] if array.ndim == 0 else array.copy(order="C")
