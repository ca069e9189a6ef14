"""InterpreterApi: TensorFlow Lite's Java interface in Python.

Indices are positions among the inputs and outputs, not tensor numbers as in `Interpreter`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from litejit.api_values import copy_output, copy_raw, input_array, is_raw
from litejit.cpp_model import Model
from litejit.engine.cancel import run_cancellable
from litejit.engine.runner import LoadedModel, SubgraphRunner
from litejit.errors import LitejitError
from litejit.opening import load_model, load_path, open_runners
from litejit.ops.resolver import BuiltinOpResolver, OpResolver
from litejit.record import Record
from litejit.tensor_values import resize
from litejit.types import Array


class ApiOptions(Record):
    """How an InterpreterApi is made.

    `num_threads` of -1 and 0 mean 1. `cancellable` lets `set_cancelled` end runs. The others
    are accepted and change nothing.
    """

    num_threads: int = -1
    cancellable: bool = False
    use_xnnpack: bool = True
    use_nnapi: bool = False
    allow_fp16_precision_for_fp32: bool = False
    allow_buffer_handle_output: bool = False
    runtime: str = ""


class ApiTensor:
    """An input or output of an InterpreterApi as it is now."""

    def __init__(self, runner: SubgraphRunner, index: int) -> None:
        tensor, declared = runner.types[index], runner.subgraph.tensors[index]
        array = runner.array(index)
        self.index, self.name = index, tensor.name
        self.data_type = tensor.dtype.name
        present = tensor.shape if array is None else array.shape
        self.shape: tuple[int, ...] = declared.shape if present is None else tuple(present)
        self.shape_signature = declared.shape_signature or self.shape
        self.quantization_params = (tensor.scale, tensor.zero_point)
        self.num_dimensions = len(self.shape)
        self.num_elements = int(np.prod(self.shape, dtype=np.int64))
        self.num_bytes = self.num_elements * tensor.dtype.itemsize
        self._array = array

    def as_read_only_buffer(self) -> memoryview:
        """The tensor's bytes, which change with the next run. Raises ValueError."""
        if self._array is None or self._array.dtype.hasobject:
            raise ValueError(f"tensor {self.name!r} has no bytes to show")
        flat: Any = self._array.reshape(-1).view(np.uint8)
        return memoryview(flat).toreadonly()


class InterpreterApi:
    """Runs a model on arrays, lists of Python numbers, and buffers.

    Arrays and lists resize the model's inputs to their shapes; buffers never resize, and must
    match in bytes. Tensors are allocated when it is made.

    Args:
        model: a path, the bytes of a file (anything with a buffer), or a `Model`.
        options: an `InterpreterApi.Options`.
        resolver: finds the operators.

    Raises:
        ValueError: this is no model.
        RuntimeError: an operator refuses its operands.
    """

    Options: ClassVar[type[ApiOptions]] = ApiOptions

    def __init__(
        self, model: Any, options: ApiOptions | None = None, *, resolver: OpResolver | None = None
    ) -> None:
        self._options = options or ApiOptions()
        self._closed = self._cancelled = False
        self._elapsed_ns: int | None = None
        self._loaded = _opened(model)
        try:
            self._runners = open_runners(
                self._loaded, resolver or BuiltinOpResolver(),
                threads=max(self._options.num_threads, 1),
            )  # fmt: skip
        except LitejitError as error:
            raise ValueError(f"Internal error: Cannot create interpreter: {error}") from error
        self._main = self._runners[0]
        _allocate(self._main)

    @classmethod
    def create(cls, model: Any, options: ApiOptions | None = None) -> InterpreterApi:
        """As the constructor."""
        return cls(model, options)

    # -- running --

    def run(self, input: Any, output: Any = None) -> Any:
        """Run a model on one input; return its first output, or fill `output` with it.

        Raises:
            ValueError: a value has another type or size than the tensor, or the run failed.
            RuntimeError: closed.
        """
        if output is not None:
            self.run_for_multiple_inputs_outputs([input], {0: output})
            return output
        self.run_for_multiple_inputs_outputs([input], {})
        return self._result(self._main, self._main.subgraph.outputs[0])

    def run_for_multiple_inputs_outputs(
        self, inputs: Sequence[Any] | None, outputs: Mapping[int, Any] | None
    ) -> None:
        """Run a model on inputs by position, and fill what `outputs` holds by position.

        Fewer inputs than the model's leave the others as they are; outputs may be a subset,
        and None among them is passed over. They are checked after the run.
        """
        self._open()
        if inputs is None or len(inputs) == 0:
            raise ValueError("Input error: Inputs should not be null or empty.")
        if outputs is None:
            raise ValueError("Input error: Outputs should not be null.")
        numbers = self._main.subgraph.inputs
        if len(inputs) > len(numbers):
            raise ValueError(f"Invalid input Tensor index: {len(numbers)}")
        given = dict(zip(numbers, inputs, strict=False))
        results = {}
        for position, target in outputs.items():
            results[self._output_number(position)] = target
        self._run(self._main, given, results)

    def _run(
        self, runner: SubgraphRunner, inputs: Mapping[int, Any], outputs: Mapping[int, Any]
    ) -> None:
        self._elapsed_ns = None
        arrays = {}
        for number, value in inputs.items():
            if not is_raw(value):
                arrays[number] = input_array(value, runner.types[number])
                _resize(runner, number, arrays[number].shape)
        _allocate(runner)
        for number, value in inputs.items():
            memory = runner.array(number)
            if memory is None:
                raise ValueError(f"input {runner.types[number].name!r} cannot be set")
            if number in arrays:
                memory[...] = arrays[number]
            else:
                copy_raw(value, memory, runner.types[number])
        begin = time.perf_counter_ns()
        self._invoke(runner)
        self._elapsed_ns = time.perf_counter_ns() - begin
        for number, target in outputs.items():
            if target is not None:
                copy_output(self._result(runner, number), target, runner.types[number])

    def _invoke(self, runner: SubgraphRunner) -> None:
        try:
            if self._options.cancellable:
                run_cancellable(runner, lambda: self._cancelled)
            else:
                runner.invoke()
        except LitejitError as error:
            raise ValueError(
                f"Internal error: Failed to run on the given Interpreter: {error}"
            ) from error

    def _result(self, runner: SubgraphRunner, number: int) -> Array:
        array = runner.array(number)
        if array is None:
            raise ValueError(f"output {runner.types[number].name!r} was not computed")
        result: Array = array.copy()
        return result

    # -- signatures --

    def run_signature(
        self,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any] | None = None,
        signature_key: str | None = None,
    ) -> dict[str, Any]:
        """Run a signature on inputs by name; fill `outputs`, or return all results by name."""
        runner, signature = self._signature(signature_key)
        if not inputs:
            raise ValueError("Input error: Inputs should not be null or empty.")
        names, results = dict(signature.inputs), dict(signature.outputs)
        given = {_named(names, name, "input"): value for name, value in inputs.items()}
        targets = {_named(results, k, "output"): v for k, v in (outputs or {}).items()}
        self._run(runner, given, targets)
        if outputs is not None:
            return dict(outputs)
        return {name: self._result(runner, number) for name, number in results.items()}

    def get_signature_keys(self) -> list[str]:
        """Keys of the signatures."""
        self._open()
        return [s.key for s in self._loaded.model.signatures]

    def get_signature_inputs(self, signature_key: str | None = None) -> list[str]:
        """Input names of a signature."""
        return [name for name, _ in self._signature(signature_key)[1].inputs]

    def get_signature_outputs(self, signature_key: str | None = None) -> list[str]:
        """Output names of a signature."""
        return [name for name, _ in self._signature(signature_key)[1].outputs]

    def get_input_tensor_from_signature(
        self, name: str | None, signature_key: str | None = None
    ) -> ApiTensor:
        """An input of a signature by its name."""
        runner, signature = self._signature(signature_key)
        return ApiTensor(runner, _named(dict(signature.inputs), name, "input"))

    def get_output_tensor_from_signature(
        self, name: str | None, signature_key: str | None = None
    ) -> ApiTensor:
        """An output of a signature by its name."""
        runner, signature = self._signature(signature_key)
        return ApiTensor(runner, _named(dict(signature.outputs), name, "output"))

    def _signature(self, key: str | None) -> tuple[SubgraphRunner, Any]:
        self._open()
        signatures = self._loaded.model.signatures
        if key is None:
            if len(signatures) != 1:
                keys = ", ".join(s.key for s in signatures)
                raise ValueError(
                    "Input error: SignatureDef signatureKey should not be null. null is only "
                    "allowed if the model has a single Signature. Available Signatures: "
                    f"[{keys}]"
                )
            key = signatures[0].key
        found = next((s for s in signatures if s.key == key), None)
        if found is None:
            raise ValueError(f"Input error: Signature {key} not found.")
        return self._runners[found.subgraph], found

    # -- tensors --

    def get_input_index(self, name: str) -> int:
        """The position of an input by its tensor's name. Raises ValueError."""
        self._open()
        return self._index(self._main.subgraph.inputs, name, "input")

    def get_output_index(self, name: str) -> int:
        """The position of an output by its tensor's name. Raises ValueError."""
        self._open()
        return self._index(self._main.subgraph.outputs, name, "output")

    def _index(self, numbers: Sequence[int], name: str, side: str) -> int:
        names = {self._main.types[number].name: k for k, number in enumerate(numbers)}
        if name not in names:
            listed = ", ".join(f"{known}={k}" for known, k in names.items())
            raise ValueError(
                f"Input error: '{name}' is not a valid name for any {side}. Names of {side}s and "
                f"their indexes are {{{listed}}}"
            )
        return names[name]

    def get_input_tensor_count(self) -> int:
        """Number of inputs."""
        self._open()
        return len(self._main.subgraph.inputs)

    def get_output_tensor_count(self) -> int:
        """Number of outputs."""
        self._open()
        return len(self._main.subgraph.outputs)

    def get_input_tensor(self, index: int) -> ApiTensor:
        """An input by its position. Raises ValueError."""
        self._open()
        numbers = self._main.subgraph.inputs
        if not 0 <= index < len(numbers):
            raise ValueError(f"Invalid input Tensor index: {index}")
        return ApiTensor(self._main, numbers[index])

    def get_output_tensor(self, index: int) -> ApiTensor:
        """An output by its position. Raises ValueError."""
        self._open()
        return ApiTensor(self._main, self._output_number(index))

    def _output_number(self, index: int) -> int:
        numbers = self._main.subgraph.outputs
        if not 0 <= index < len(numbers):
            raise ValueError(f"Invalid output Tensor index: {index}")
        return numbers[index]

    def resize_input(self, index: int, dims: Sequence[int], strict: bool = False) -> None:
        """Give an input another shape, by its position. Raises ValueError."""
        self._open()
        numbers = self._main.subgraph.inputs
        if not 0 <= index < len(numbers):
            raise ValueError(
                f"Input error: Can not resize {index}-th input for a model having "
                f"{len(numbers)} inputs."
            )
        _resize(self._main, numbers[index], tuple(int(n) for n in dims), strict=strict)

    def allocate_tensors(self) -> None:
        """Prepare the graph for its present shapes; runs do this by themselves."""
        self._open()
        _allocate(self._main)

    def reset_variable_tensors(self) -> None:
        """Give all variables their first value."""
        self._open()
        self._main.reset_variables()

    # -- the rest --

    @property
    def last_native_inference_duration_nanoseconds(self) -> int | None:
        """How long the last run took, in ns; None before the first and after a failed one."""
        self._open()
        return self._elapsed_ns

    def set_cancelled(self, cancelled: bool) -> None:
        """End the run that is going on, and all later ones until this is set to False.

        Raises RuntimeError where the options do not allow it.
        """
        self._open()
        if not self._options.cancellable:
            raise RuntimeError(
                "Cannot cancel the inference. Have you called "
                "InterpreterApi.Options.setCancellable?"
            )
        self._cancelled = bool(cancelled)

    def close(self) -> None:
        """Give everything back; any use after this is a RuntimeError, but for closing again."""
        if not self._closed:
            self._closed = True
            self._runners, self._main = [], None  # type: ignore[assignment]

    def __enter__(self) -> InterpreterApi:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle 'InterpreterApi' object")

    def _open(self) -> None:
        if self._closed:
            raise RuntimeError("Internal error: The Interpreter has already been closed.")


def _opened(model: Any) -> LoadedModel:
    if isinstance(model, Model):
        return model._loaded
    if isinstance(model, str | os.PathLike):
        try:
            return load_path(model)
        except LitejitError as error:
            raise ValueError(
                f"Contents of {os.fspath(model)!s} does not encode a valid TensorFlow Lite "
                f"model: {error}"
            ) from error
    try:
        data = model if isinstance(model, bytes) else bytes(memoryview(model).cast("B"))
        return load_model(data)
    except TypeError as error:
        raise ValueError(
            "Model ByteBuffer should be a path or hold the bytes of a file, got "
            f"{type(model).__name__}"
        ) from error
    except LitejitError as error:
        what = "ByteBuffer is not a valid TensorFlow Lite model flatbuffer"
        raise ValueError(f"{what}: {error}") from error


def _allocate(runner: SubgraphRunner) -> None:
    try:
        runner.allocate()
    except LitejitError as error:
        raise RuntimeError(
            f"Internal error: Unexpected failure when preparing tensor allocations: {error}"
        ) from error


def _resize(
    runner: SubgraphRunner, number: int, shape: tuple[int, ...], *, strict: bool = False
) -> None:
    try:
        resize(runner, number, shape, strict=strict)
    except RuntimeError as error:
        raise ValueError(f"Internal error: Failed to resize input: {error}") from error


def _named(names: Mapping[str, int], name: str | None, side: str) -> int:
    if name is None:
        raise ValueError(f"Invalid {side} tensor name provided (null)")
    if name not in names:
        raise ValueError(f"Input error: {side} {name} not found.")
    return names[name]
