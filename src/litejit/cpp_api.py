"""The C++ classes of TensorFlow Lite, in Python: Model, InterpreterBuilder, CppInterpreter.

Where C++ returns a null pointer or a status, so do these: None or a `Status`, and a line to the
error reporter. `Model.from_file` and `Model.from_buffer` raise instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from litejit.cpp_model import FlatBufferModel, Model, Status, StderrReporter
from litejit.engine.cancel import run_cancellable
from litejit.engine.runner import SubgraphRunner
from litejit.errors import LitejitError
from litejit.opening import open_runners
from litejit.ops.resolver import OpResolver
from litejit.record import Record
from litejit.tensor_values import resize
from litejit.types import Array, DType, Quantization


class InterpreterOptions(Record):
    """What an InterpreterBuilder is told; only `preserve_all_tensors` changes what is done."""

    preserve_all_tensors: bool = False
    ensure_dynamic_tensors_are_released: bool = False
    dynamic_allocation_for_large_tensors: int = 0
    disable_delegate_clustering: bool = False
    cache_constant_cast_op: bool = False
    shlo_composite_inlining: bool = False
    use_signature_tensor_names: bool = False
    compress_quantization_zero_points: bool = False
    disable_delegate_node_fusion: bool = False
    force_delegate_node_profiling: bool = False


class InterpreterBuilder:
    """Makes interpreters of one model with the operators of one resolver; may be called again."""

    def __init__(
        self,
        model: Model | None,
        resolver: OpResolver,
        options: InterpreterOptions | None = None,
    ) -> None:
        self._model, self._resolver = model, resolver
        self._options = options or InterpreterOptions()
        self._threads = 1
        self._report = model.error_reporter if model is not None else StderrReporter().report

    def set_num_threads(self, num_threads: int) -> Status:
        """Threads that one invoke may use; 0 and -1 mean 1."""
        if num_threads < -1:
            self._report(
                "num_threads should be >= 0 or just -1 to let TFLite runtime set the value."
            )
            return Status.ERROR
        self._threads = max(num_threads, 1)
        return Status.OK

    def add_delegate(self, delegate: Any) -> None:
        """Refused with a message: litejit runs every operator itself."""
        what = "Null delegate." if delegate is None else "Delegates are not used by litejit."
        self._report(what)

    def __call__(self, num_threads: int | None = None) -> CppInterpreter | None:
        """Make an interpreter; None, and a message, where that fails."""
        if self._model is None:
            self._report("Null model.")
            return None
        if num_threads is not None and self.set_num_threads(num_threads) != Status.OK:
            return None
        try:
            runners = open_runners(
                self._model._loaded, self._resolver, threads=self._threads,
                preserve_all=self._options.preserve_all_tensors,
            )  # fmt: skip
        except (LitejitError, ValueError, TypeError) as error:
            self._report(str(error))
            return None
        return CppInterpreter(self._model, runners)


class TensorView:
    """A tensor as it is now: TfLiteTensor's fields. `data` is an array on its memory."""

    __slots__ = ("bytes", "data", "dims", "dims_signature", "index", "is_variable", "name",
                 "params", "quantization", "type")  # fmt: skip

    def __init__(self, runner: SubgraphRunner, index: int, data: Array | None) -> None:
        tensor, declared = runner.types[index], runner.subgraph.tensors[index]
        self.index, self.name = index, tensor.name
        self.type: DType = tensor.dtype
        self.data = data
        self.dims: tuple[int, ...] = tensor.shape or declared.shape if data is None else data.shape
        self.dims_signature = declared.shape_signature
        self.bytes = 0 if data is None else data.nbytes
        self.params = (tensor.scale, tensor.zero_point)
        self.quantization: Quantization | None = tensor.quantization
        self.is_variable = tensor.is_variable


class _Graph:
    """What interpreters and signature runners have in common: one subgraph that runs."""

    def __init__(self, runner: SubgraphRunner, report: Callable[[str], Any]) -> None:
        self._runner, self._report = runner, report
        self._allocations: dict[int, Array] = {}
        self._is_cancelled: Callable[[], bool] | None = None
        self._cancellable = self._running = self._cancel_asked = False

    def _tried(self, action: Callable[[], Any]) -> Status:
        try:
            action()
        except (LitejitError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            self._report(str(error))
            unresolved = any(r.op is None for r in self._runner.operators)
            return Status.UNRESOLVED_OPS if unresolved else Status.ERROR
        return Status.OK

    def allocate_tensors(self) -> Status:
        """Prepare the graph for its present input shapes, and check custom allocations."""
        status = self._tried(self._runner.allocate)
        for index, array in self._allocations.items():
            needed = self._runner.types[index].nbytes if status == Status.OK else 0
            if array.nbytes < needed:
                self._report(
                    f"Custom allocation is too small for tensor idx: {index} "
                    f"({array.nbytes} bytes, {needed} are needed)"
                )
                return Status.ERROR
        return status

    def invoke(self) -> Status:
        """Run the graph once."""
        for index in self._allocations:
            self._copy(index, inward=True)
        self._running, self._cancel_asked = True, False
        watched = self._is_cancelled is not None or self._cancellable
        try:
            if watched:
                status = self._tried(lambda: run_cancellable(self._runner, self._asked))
            else:
                status = self._tried(self._runner.invoke)
        finally:
            self._running = False
        if status != Status.OK:
            return Status.CANCELLED if self._cancel_asked else status
        for index in self._allocations:
            self._copy(index, inward=False)
        return status

    def _asked(self) -> bool:
        function = self._is_cancelled
        return self._cancel_asked or (function is not None and bool(function()))

    def set_cancellation_function(self, function: Callable[[], bool] | None) -> None:
        """Ask `function` while a run goes on, from another thread; True ends the run."""
        self._is_cancelled = function

    def enable_cancellation(self) -> Status:
        """Let `cancel` end runs."""
        self._cancellable = True
        return Status.OK

    def cancel(self) -> Status:
        """End the run that another thread is in; without one this does nothing."""
        if not self._cancellable:
            self._report("Cancellation is not enabled.")
            return Status.ERROR
        self._cancel_asked = self._running
        return Status.OK

    def set_custom_allocation_for_tensor(self, index: int, memory: Array) -> Status:
        """Let a tensor live in memory of one's own: an array on a 64-byte boundary.

        Its bytes are copied in before every run and out after it. Size is checked by
        `allocate_tensors`.
        """
        if not 0 <= index < len(self._runner.types) or self._runner.types[index].is_constant:
            self._report(f"Tensor {index} cannot have a custom allocation")
            return Status.ERROR
        if memory.ctypes.data % 64 or not memory.flags.c_contiguous:
            self._report(f"Custom allocation for tensor {index} is not 64-byte aligned")
            return Status.ERROR
        self._allocations[index] = memory.reshape(-1).view(np.uint8)
        return Status.OK

    def _array(self, index: int) -> Array | None:
        array = self._runner.array(index)
        mine = self._allocations.get(index)
        if mine is None or array is None:
            return array
        return mine[: array.nbytes].view(array.dtype).reshape(array.shape)

    def _copy(self, index: int, *, inward: bool) -> None:
        theirs, mine = self._runner.array(index), self._array(index)
        if theirs is not None and mine is not None:
            (theirs if inward else mine)[...] = mine if inward else theirs

    def resize_input_tensor(self, index: int, shape: Sequence[int]) -> Status:
        """Give a tensor another shape."""
        return self._resized(index, shape, strict=False)

    def resize_input_tensor_strict(self, index: int, shape: Sequence[int]) -> Status:
        """Give a tensor another shape where the model leaves the dimension open."""
        return self._resized(index, shape, strict=True)

    def _resized(self, index: int, shape: Sequence[int], *, strict: bool) -> Status:
        wanted = tuple(int(n) for n in shape)
        return self._tried(lambda: resize(self._runner, index, wanted, strict=strict))

    def tensor(self, index: int) -> TensorView | None:
        """A tensor by its number; None where there is none."""
        if not 0 <= index < len(self._runner.types):
            return None
        return TensorView(self._runner, index, self._array(index))

    def typed_tensor(self, index: int, dtype: Any = None) -> Array | None:
        """A tensor's memory; None where it has none, or `dtype` is not its type."""
        view = self.tensor(index)
        if view is None or view.data is None:
            return None
        same = dtype is None or np.dtype(dtype) == view.data.dtype
        return view.data if same else None

    def reset_variable_tensors(self) -> Status:
        """Give all variables their first value."""
        return self._tried(self._runner.reset_variables)


class CppInterpreter(_Graph):
    """tflite::Interpreter: made by InterpreterBuilder; not for several threads at once."""

    def __init__(self, model: Model, runners: list[SubgraphRunner]) -> None:
        super().__init__(runners[0], model.error_reporter)
        self._model, self._runners = model, runners

    @property
    def inputs(self) -> list[int]:
        """Tensor numbers of the inputs."""
        return list(self._runner.subgraph.inputs)

    @property
    def outputs(self) -> list[int]:
        """Tensor numbers of the outputs."""
        return list(self._runner.subgraph.outputs)

    @property
    def variables(self) -> list[int]:
        """Tensor numbers of the variables."""
        return [i for i, t in self._runner.types.items() if t.is_variable]

    @property
    def execution_plan(self) -> list[int]:
        """Numbers of the operators, in the order in which they run."""
        return list(range(self.nodes_size))

    @property
    def tensors_size(self) -> int:
        """Number of tensors."""
        return len(self._runner.types)

    @property
    def nodes_size(self) -> int:
        """Number of operators."""
        return len(self._runner.operators)

    @property
    def subgraphs_size(self) -> int:
        """Number of subgraphs."""
        return len(self._runners)

    def input_tensor(self, position: int) -> TensorView | None:
        """An input by its position."""
        return self.tensor(_at(self.inputs, position))

    def output_tensor(self, position: int) -> TensorView | None:
        """An output by its position."""
        return self.tensor(_at(self.outputs, position))

    def typed_input_tensor(self, position: int, dtype: Any = None) -> Array | None:
        """An input's memory; None where it has none, or `dtype` is not its type."""
        return self.typed_tensor(_at(self.inputs, position), dtype)

    def typed_output_tensor(self, position: int, dtype: Any = None) -> Array | None:
        """An output's memory; None where it has none, or `dtype` is not its type."""
        return self.typed_tensor(_at(self.outputs, position), dtype)

    def get_input_name(self, position: int) -> str:
        """The name of an input. Raises IndexError."""
        return self._runner.types[self.inputs[position]].name

    def get_output_name(self, position: int) -> str:
        """The name of an output. Raises IndexError."""
        return self._runner.types[self.outputs[position]].name

    def node_and_registration(self, index: int) -> tuple[Any, Any] | None:
        """An operator of the file and the Op that runs it; None where there is none."""
        if not 0 <= index < self.nodes_size:
            return None
        return self._runner.subgraph.operators[index], self._runner.operators[index].op

    def subgraph(self, index: int) -> CppInterpreter | None:
        """Another subgraph, to be run by itself; None where there is none."""
        if not 0 <= index < len(self._runners):
            return None
        return CppInterpreter(self._model, [self._runners[index]])

    def set_num_threads(self, num_threads: int) -> Status:
        """Threads that one invoke may use, from the next allocation on; results are the same."""
        if num_threads < -1:
            self._report(
                "num_threads should be >= 0 or just -1 to let TFLite runtime set the value."
            )
            return Status.ERROR
        for runner in self._runners:
            runner.set_threads(max(num_threads, 1))
        return Status.OK

    def set_allow_fp16_precision_for_fp32(self, allow: bool) -> None:
        """Accepted; results stay those of float32."""

    def release_non_persistent_memory(self) -> Status:
        """Give back the tensors' memory; the graph is then to be allocated again."""
        self._runner.sections, self._runner.ready = [], False
        return Status.OK

    def signature_keys(self) -> list[str]:
        """Keys of the signatures."""
        return [s.key for s in self._model._loaded.model.signatures]

    def signature_inputs(self, key: str) -> dict[str, int]:
        """Input names and tensor numbers of a signature; empty where there is none."""
        return next((dict(s.inputs) for s in self._signatures() if s.key == key), {})

    def signature_outputs(self, key: str) -> dict[str, int]:
        """Output names and tensor numbers of a signature; empty where there is none."""
        return next((dict(s.outputs) for s in self._signatures() if s.key == key), {})

    def _signatures(self) -> Sequence[Any]:
        return self._model._loaded.model.signatures

    def input_tensor_by_signature(self, name: str, key: str) -> TensorView | None:
        """An input by its name in a signature."""
        runner = self.get_signature_runner(key)
        return None if runner is None else runner.input_tensor(name)

    def output_tensor_by_signature(self, name: str, key: str) -> TensorView | None:
        """An output by its name in a signature."""
        runner = self.get_signature_runner(key)
        return None if runner is None else runner.output_tensor(name)

    def get_signature_runner(self, key: str | None = None) -> CppSignatureRunner | None:
        """The runner of a signature; None where there is none of that key.

        Without a key: the only signature, or subgraph 0 where the model has none.
        """
        signatures = self._signatures()
        if key is None and not signatures:
            names = [{t.name: t.index for t in map(self._runner.types.__getitem__, side)}
                     for side in (self.inputs, self.outputs)]  # fmt: skip
            return CppSignatureRunner("", self._runner, names[0], names[1], self._report)
        if key is None and len(signatures) == 1:
            key = signatures[0].key
        found = next((s for s in signatures if s.key == key), None)
        if found is None:
            return None
        runner = self._runners[found.subgraph]
        return CppSignatureRunner(
            found.key, runner, dict(found.inputs), dict(found.outputs), self._report
        )


class CppSignatureRunner(_Graph):
    """tflite::SignatureRunner: runs one signature with tensors by name."""

    def __init__(
        self,
        key: str,
        runner: SubgraphRunner,
        inputs: dict[str, int],
        outputs: dict[str, int],
        report: Callable[[str], Any],
    ) -> None:
        super().__init__(runner, report)
        self.signature_key, self._inputs, self._outputs = key, inputs, outputs

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs."""
        return list(self._inputs)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return list(self._outputs)

    def input_tensor(self, name: str) -> TensorView | None:
        """An input by its name; None where there is none."""
        return self.tensor(self._inputs.get(name, -1))

    def output_tensor(self, name: str) -> TensorView | None:
        """An output by its name; None where there is none."""
        return self.tensor(self._outputs.get(name, -1))

    def resize_input_tensor(self, name: str | int, shape: Sequence[int]) -> Status:
        """Give an input, by its name, another shape."""
        number = self._inputs.get(name, -1) if isinstance(name, str) else name
        return super().resize_input_tensor(number, shape)


def _at(numbers: list[int], position: int) -> int:
    return numbers[position] if 0 <= position < len(numbers) else -1


__all__ = [
    "CppInterpreter",
    "CppSignatureRunner",
    "FlatBufferModel",
    "InterpreterBuilder",
    "InterpreterOptions",
    "Model",
    "Status",
    "TensorView",
]
