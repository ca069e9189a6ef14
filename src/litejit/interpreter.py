"""The façade with LiteRT's names: Interpreter, OpResolverType, Delegate, load_delegate."""

from __future__ import annotations

import enum
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from numpy import ndarray

from litejit import metrics
from litejit.delegate import Delegate, apply_delegates, load_delegate, register_all
from litejit.details import op_details, tensor_details, value_of
from litejit.engine.runner import SubgraphRunner
from litejit.errors import InvokeError, PrepareError
from litejit.opening import load_model, load_path, open_runners
from litejit.ops.resolver import BuiltinOpResolver, BuiltinRefOpResolver
from litejit.signature import SignatureRunner
from litejit.tensor_values import (
    NativeMemory,
    is_plain,
    readable,
    resize,
    shape_of,
    store,
    tensor_of,
)
from litejit.types import Array

_VIEWS_ALIVE = """There is at least 1 reference to internal data
      in the interpreter in the form of a numpy array or slice. Be sure to
      only hold the function returned from tensor() if you are using raw
      data access."""
_PRESERVE_WARNING = (
    "Warning: Enabling `experimental_preserve_all_tensors` with the BUILTIN or AUTO op resolver "
    "keeps every intermediate tensor in memory. The numbers stay the same."
)


@enum.unique
class OpResolverType(enum.Enum):
    """Which operators an Interpreter uses; BUILTIN_REF runs them all in NumPy."""

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


class Interpreter:
    """Runs a .tflite model, with the interface of LiteRT's `Interpreter`.

    Args:
        model_path: file of the model (str, bytes or os.PathLike).
        model_content: the file's bytes, instead of a path.
        experimental_delegates: must hold only what `load_delegate` returned.
        num_threads: threads that one invoke may use; None means 1. Results do not depend on it.
        experimental_op_resolver_type: BUILTIN_REF runs every operator in NumPy.
        experimental_preserve_all_tensors: keep all intermediate tensors readable.

    The other arguments are accepted for compatibility; they change nothing here.

    Raises:
        ValueError: the model cannot be read, or an argument is not valid.
    """

    def __init__(
        self,
        model_path: Any = None,
        model_content: bytes | None = None,
        experimental_delegates: Iterable[Any] | None = None,
        num_threads: int | None = None,
        experimental_op_resolver_type: OpResolverType = OpResolverType.AUTO,
        experimental_preserve_all_tensors: bool = False,
        experimental_disable_delegate_clustering: bool = False,
        experimental_default_delegate_latest_features: bool = False,
        experimental_compress_quantization_zero_points: bool = False,
        experimental_disable_delegate_node_fusion: bool = False,
        experimental_force_delegate_node_profiling: bool = False,
    ) -> None:
        if not hasattr(self, "_custom_op_registerers"):
            self._custom_op_registerers: list[Any] = []
        kind = experimental_op_resolver_type
        if experimental_preserve_all_tensors and kind in (
            OpResolverType.AUTO,
            OpResolverType.BUILTIN,
        ):
            warnings.warn(_PRESERVE_WARNING, UserWarning, stacklevel=2)
        self._experimental_compress_quantization_zero_points = bool(
            experimental_compress_quantization_zero_points
        )
        threads = _checked(kind, num_threads)
        if model_path and not model_content:
            self._loaded = load_path(os.fspath(model_path))
        else:
            self._loaded = load_model(_content(model_path, model_content))
            self._model_content = model_content
        reference = kind is OpResolverType.BUILTIN_REF
        resolver = BuiltinRefOpResolver() if reference else BuiltinOpResolver()
        register_all(resolver, self._custom_op_registerers)
        self._interpreter = NativeMemory()
        self._runners = open_runners(
            self._loaded, resolver, threads=threads,
            preserve_all=bool(experimental_preserve_all_tensors),
        )  # fmt: skip
        self._runner = self._runners[0]
        # (memory, its dtype and shape) of plain tensors, as long as `_sections` are run
        self._memory: dict[int, tuple[Array, Any, tuple[int, ...]]] = {}
        self._sections: Any = None
        self._delegates = list(experimental_delegates or ())
        apply_delegates(self._delegates, self._runner)
        self._signature_defs = self.get_signature_list()
        self._metrics = metrics.TFLiteMetrics()
        self._metrics.increase_counter_interpreter_creation()

    def __del__(self) -> None:
        # The tensors go before the delegates that may have made them.
        self._interpreter = self._runner = self._runners = None  # type: ignore[assignment]
        self._delegates = None  # type: ignore[assignment]

    def __copy__(self) -> Interpreter:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    # -- safety of views --

    def _safe_to_run(self) -> bool:
        """True where nobody but this object holds the tensors' memory."""
        return sys.getrefcount(self._interpreter) == 2

    def _ensure_safe(self) -> None:
        if sys.getrefcount(self._interpreter) != 2:
            raise RuntimeError(_VIEWS_ALIVE)

    def _native_handle(self) -> int:
        return id(self._interpreter)

    # -- running --

    def allocate_tensors(self) -> None:
        """Prepare the graph for its present input shapes; nothing happens where that was done.

        Raises:
            RuntimeError: an operator refuses its operands, or a view of a tensor is alive.
        """
        self._ensure_safe()
        self._runner.allocate()

    def invoke(self) -> None:
        """Run the graph once; the GIL is released while kernels run.

        Raises:
            RuntimeError: not allocated, bad data, or a view of a tensor is alive.
        """
        if sys.getrefcount(self._interpreter) != 2:
            raise RuntimeError(_VIEWS_ALIVE)
        self._runner.invoke()

    def reset_all_variables(self) -> None:
        """Give all variable tensors their first value."""
        if not self._runner.ready and any(t.is_variable for t in self._runner.types.values()):
            raise RuntimeError(
                "tflite/core/subgraph.cc:1092 tensor.data.raw != nullptr was not true. "
                "Call allocate_tensors() first: the model has variables"
            )
        self._runner.reset_variables()

    def resize_tensor_input(self, input_index: int, tensor_size: Any, strict: bool = False) -> None:
        """Give an input another shape; `allocate_tensors` must be called before the next run.

        Args:
            input_index: number of a tensor.
            tensor_size: the new shape, anything that becomes a 1-D int32 array.
            strict: refuse to change a dimension that the model does not declare unknown.

        Raises:
            ValueError, TypeError, OverflowError: `tensor_size` is no shape.
            RuntimeError: no such tensor, a constant, or refused by `strict`.
        """
        self._ensure_safe()
        resize(self._runner, input_index, shape_of(tensor_size), strict=strict)

    # -- values --

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Copy a value into a tensor; its dtype and shape must be the tensor's.

        Raises:
            ValueError: unknown tensor, other dtype or shape, or not allocated.
        """
        runner = self._runner
        if runner.sections is self._sections and runner.ready and type(tensor_index) is int:
            known = self._memory.get(tensor_index)
            if (
                known is not None
                and type(value) is ndarray
                and value.dtype is known[1]
                and value.shape == known[2]
            ):
                known[0][...] = value
                return
        store(runner, tensor_index, value)
        self._remember(tensor_index)

    def _remember(self, tensor_index: Any) -> None:
        """Keep the memory of a tensor that needs none of the checks, for the next time."""
        runner = self._runner
        if not runner.ready or not runner.is_whole or type(tensor_index) is not int:
            return
        if runner.sections is not self._sections:
            self._sections, self._memory = runner.sections, {}
        tensor = runner.types[tensor_index]
        if tensor.shape is None or tensor.is_constant:  # or else its memory may change
            return
        if is_plain(tensor.dtype) and tensor.size:
            array = runner.array(tensor_index)
            if array is not None:
                self._memory[tensor_index] = array, array.dtype, array.shape

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> Any:
        """Return a copy of a tensor's value; a NumPy scalar where the tensor has rank 0.

        Raises:
            ValueError: unknown tensor, no value yet, or a value that was not kept.
        """
        runner = self._runner
        if runner.sections is self._sections and runner.ready and type(tensor_index) is int:
            known = self._memory.get(tensor_index)
            if known is not None and not subgraph_index:
                return known[0].copy() if known[2] else known[0][()]
        if subgraph_index:
            runner = self._subgraph(subgraph_index)
        tensor = tensor_of(runner, tensor_index, "GetTensor")
        array = readable(runner, tensor)
        is_empty = array.size == 0 and not array.dtype.hasobject
        if is_empty:
            from litejit.engine.ownership import owns_memory

            if owns_memory(runner, tensor.index):
                raise ValueError("Invalid tensor size.")
        if not subgraph_index:
            self._remember(tensor_index)
        return value_of(tensor.dtype, array)

    def tensor(self, tensor_index: int) -> Callable[[], Any]:
        """Return a function that gives a view of the tensor's memory.

        While such a view lives, `invoke`, `allocate_tensors` and `resize_tensor_input` refuse
        to run. Constants are given as read-only views.
        """
        return lambda: self._view(tensor_index)

    def _view(self, tensor_index: int) -> Any:
        tensor = tensor_of(self._runner, tensor_index, "tensor")
        array = readable(self._runner, tensor)
        if array.dtype.hasobject or tensor.dtype.bits not in (0, 8 * tensor.dtype.itemsize):
            raise ValueError(
                f"Cannot view tensor {tensor.index} ({tensor.name!r}): {tensor.dtype} does not lie "
                "in memory as NumPy would show it; use get_tensor and set_tensor"
            )
        return self._interpreter.view(array)

    # -- details --

    def get_input_details(self) -> list[dict[str, Any]]:
        """Details of the inputs: name, index, shape, dtype, quantization, sparsity."""
        return [self._get_tensor_details(i, 0) for i in self._runner.subgraph.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Details of the outputs, as `get_input_details`."""
        return [self._get_tensor_details(i, 0) for i in self._runner.subgraph.outputs]

    def get_tensor_details(self, subgraph_index: int = 0) -> list[dict[str, Any]]:
        """Details of every tensor of a subgraph that NumPy can describe."""
        count = len(self._runners)
        if not 0 <= subgraph_index < count:
            raise ValueError(
                f"subgraph_index is out of range: {subgraph_index} for the model, which has "
                f"{count} subgraphs."
            )
        result = []
        for index in range(len(self._runners[subgraph_index].subgraph.tensors)):
            try:
                result.append(self._get_tensor_details(index, subgraph_index))
            except ValueError:  # a type without a NumPy form: LiteRT leaves these out, too
                continue
        return result

    def _get_tensor_details(self, tensor_index: int, subgraph_index: int = 0) -> dict[str, Any]:
        compress = self._experimental_compress_quantization_zero_points
        return tensor_details(self._subgraph(subgraph_index), tensor_index, compress=compress)

    def _subgraph(self, index: int) -> SubgraphRunner:
        if not 0 <= index < len(self._runners):
            count = len(self._runners)
            raise ValueError(f"Invalid subgraph index {index} exceeds max subgraph index {count}")
        return self._runners[index]

    def num_subgraphs(self) -> int:
        """Number of subgraphs of the model."""
        return len(self._runners)

    def _get_op_details(self, op_index: int) -> dict[str, Any]:
        operators = self._runner.operators
        if not 0 <= op_index < len(operators):
            raise ValueError("Invalid node index")
        return op_details(self._runner, op_index)

    def _get_ops_details(self) -> list[dict[str, Any]]:
        return [self._get_op_details(i) for i in range(len(self._runner.operators))]

    @property
    def experimental_compress_quantization_zero_points(self) -> bool:
        """The constructor's value."""
        return self._experimental_compress_quantization_zero_points

    # -- signatures --

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Names of inputs and outputs of every signature: {key: {"inputs": [...], ...}}."""
        return {
            key: {side: list(names) for side, names in signature.items()}
            for key, signature in self._get_full_signature_list().items()
        }

    def _get_full_signature_list(self) -> dict[str, dict[str, dict[str, int]]]:
        return {
            s.key: {"inputs": dict(sorted(s.inputs)), "outputs": dict(sorted(s.outputs))}
            for s in self._loaded.model.signatures
        }

    def get_signature_runner(self, signature_key: str | None = None) -> Any:
        """Return a callable that runs one signature: `runner(name=array, ...)`.

        Args:
            signature_key: may be left out where the model has exactly one signature.
        """
        if signature_key is None:
            if len(self._signature_defs) != 1:
                raise ValueError(
                    "SignatureDef signature_key is None and model has "
                    f"{len(self._signature_defs)} Signatures. None is only allowed when the model "
                    "has 1 SignatureDef"
                )
            signature_key = next(iter(self._signature_defs))
        return SignatureRunner(interpreter=self, signature_key=signature_key)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class InterpreterWithCustomOps(Interpreter):
    """An Interpreter with operators of one's own.

    Args:
        custom_op_registerers: callables that are given the resolver and add operators to it
            (`resolver.add_custom("NAME", operator)`), or names of C functions that return a
            TfLiteRegistration: "library.so:Register_NAME", or "Register_NAME" where the
            library is loaded already. Names come first.
        kwargs: the arguments of `Interpreter`.

    Raises:
        ValueError: a name was not found.
        TypeError: something is neither a name nor callable.
    """

    def __init__(self, custom_op_registerers: Iterable[Any] | None = None, **kwargs: Any) -> None:
        self._custom_op_registerers = list(custom_op_registerers or ())
        super().__init__(**kwargs)


def _checked(kind: Any, num_threads: Any) -> int:
    """The number of threads; ValueError where an argument is not valid."""
    if kind not in set(OpResolverType):
        raise ValueError(f"Unrecognized passed in op resolver type: {kind}")
    if num_threads is None:
        return 1
    if not isinstance(num_threads, int):
        raise ValueError("type of num_threads should be int")
    if num_threads < 1:
        raise ValueError("num_threads should >= 1")
    return num_threads


def _content(model_path: Any, model_content: Any) -> bytes:
    if not model_path and not model_content:
        empty = "" if model_content is None else "\nmodel_content is an empty file"
        raise ValueError(f"`model_path` or `model_content` must be specified.{empty}")
    if model_path and model_content:
        raise ValueError("Can't both provide `model_path` and `model_content`")
    if not isinstance(model_content, bytes):
        raise TypeError(
            "CreateWrapperFromBuffer(): incompatible function arguments. model_content must be "
            f"bytes, got {type(model_content).__name__}"
        )
    return model_content


def _get_op_resolver_id(op_resolver_type: Any = OpResolverType.AUTO) -> int | None:
    """LiteRT's number of a resolver type."""
    return {
        OpResolverType.AUTO: 1,
        OpResolverType.BUILTIN: 1,
        OpResolverType.BUILTIN_REF: 2,
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES: 3,
    }.get(op_resolver_type)


__all__ = [
    "Delegate",
    "Interpreter",
    "InterpreterWithCustomOps",
    "InvokeError",
    "OpResolverType",
    "PrepareError",
    "SignatureRunner",
    "load_delegate",
    "metrics",
]
