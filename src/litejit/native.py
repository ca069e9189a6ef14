"""Operators and delegates from shared libraries: the structs of TensorFlow Lite's C interface.

This is the only module that knows how TfLiteContext, TfLiteNode and TfLiteTensor lie in memory
(64-bit systems). Native code runs in this process: a library that breaks the rules of the
interface can end it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any

from litejit.engine.runner import SubgraphRunner
from litejit.errors import InvokeError, PrepareError
from litejit.native_structs import (
    AffineQuantization,
    Arrays,
    DelegateStruct,
    NativeContext,
    NodeStruct,
    RegistrationStruct,
    TensorStruct,
    c_strings,
    type_code,
)
from litejit.ops.custom.api import Context, CustomNode, CustomTensor
from litejit.ops.resolver import MutableOpResolver
from litejit.types import Array

_ARENA, _DYNAMIC, _CONSTANT, _VARIABLE = 2, 4, 1, 3  # TfLiteAllocationType


def registration(library: str | os.PathLike[str], symbol: str) -> NativeOp:
    """A custom operator from a shared library, for `resolver.add_custom`.

    `symbol` is a C function without arguments that returns `TfLiteRegistration*`.

    Raises OSError where the library cannot be loaded, ValueError where it has no such function
    or the registration has no invoke.
    """
    loaded = ctypes.CDLL(os.fspath(library))
    return NativeOp(_call_factory(loaded, symbol), symbol, keep=loaded)


def from_address(address: int, name: str = "native") -> NativeOp:
    """A custom operator from the address of a TfLiteRegistration, which must stay valid."""
    return NativeOp(address, name)


def register_symbol(resolver: MutableOpResolver, name: str) -> None:
    """Add the operator of "library.so:Register_NAME", or of a symbol of this process.

    Its name is the registration's custom_name; where that is NULL, the symbol without
    "Register_". Raises ValueError.
    """
    path, _, symbol = name.rpartition(":")
    try:
        library = ctypes.CDLL(path or None)
    except OSError as error:
        raise ValueError(f"Loading library '{path}' failed with error '{error}'.") from error
    try:
        library[symbol]
    except AttributeError as error:
        raise ValueError(f"Looking up symbol '{symbol}' failed with error '{error}'.") from error
    if not path and not symbol.startswith("Register_"):
        raise ValueError(
            f"Looking up symbol '{symbol}' failed with error 'it does not begin with Register_': "
            "name a C function that returns a TfLiteRegistration, or pass a callable"
        )
    operation = NativeOp(_call_factory(library, symbol), symbol, keep=library)
    resolver.add_custom(operation.custom_name or symbol.removeprefix("Register_"), operation)


def _call_factory(library: ctypes.CDLL, symbol: str) -> int:
    try:
        factory = library[symbol]
    except AttributeError as error:
        raise ValueError(f"{symbol} is not in the library: {error}") from error
    factory.restype, factory.argtypes = ctypes.c_void_p, []
    address: int | None = factory()
    if not address:
        raise ValueError(f"{symbol}() returned no registration")
    return address


class NativeOp:
    """A TfLiteRegistration as the four functions of a custom operator."""

    wants_operator = True  # init is given the Operator, whose bytes and operands it needs

    def __init__(self, address: int, name: str, *, keep: Any = None) -> None:
        # Older libraries hold shorter structs: no more than the first 64 bytes are read.
        self._struct = RegistrationStruct.from_buffer_copy(ctypes.string_at(address, 64))
        self.name, self._keep = name, keep
        if not self._struct.invoke:
            raise ValueError(f"{name}: its registration has no invoke")
        text = self._struct.custom_name
        self.custom_name = text.decode() if text else ""

    def init(self, context: Context, operator: Any) -> NativeUse:
        """Call the C function with the operator's custom options."""
        use = NativeUse(operator)
        data = bytes(operator.custom_options)
        pointer = use.options_pointer(data)
        if self._struct.init:
            use.node.user_data = self._struct.init(use.context.address, pointer, len(data))
        return use

    def prepare(self, context: Context, node: CustomNode) -> None:
        """Call the C function, and read the outputs' shapes back."""
        use: NativeUse = node.state
        use.context.struct.recommended_num_threads = context.recommended_num_threads
        use.show(node)
        if self._struct.prepare:
            status = self._struct.prepare(use.context.address, ctypes.addressof(use.node))
            use.context.raise_for(status, PrepareError, self.name)
        for tensor, at in zip(node.outputs, use.outputs, strict=True):
            if tensor is not None:
                struct = use.context.tensors[at]
                dynamic = struct.allocation_type == _DYNAMIC
                tensor.shape = None if dynamic else Arrays.read(struct.dims)
                if struct.type != type_code(tensor.tensor_type):
                    raise PrepareError(
                        f"{self.name} gives output {tensor.name!r} type {struct.type}, the file "
                        f"declares {tensor.tensor_type}"
                    )

    def invoke(self, context: Context, node: CustomNode) -> None:
        """Call the C function on the tensors' memory."""
        use: NativeUse = node.state
        use.show(node)
        status = self._struct.invoke(use.context.address, ctypes.addressof(use.node))
        use.context.raise_for(status, InvokeError, self.name)
        for tensor, at in zip(node.outputs, use.outputs, strict=True):
            if tensor is not None and tensor.data is None:
                tensor.data = use.context.dynamic_value(at, tensor.dtype)

    def free(self, context: Context, state: NativeUse) -> None:
        """Call the C function where init returned something."""
        if self._struct.free and state.node.user_data:
            self._struct.free(state.context.address, state.node.user_data)
        state.close()


class NativeUse:
    """The structs of one use of a native operator: they keep their addresses to its end.

    Tensors are numbered by this use alone: its inputs, its outputs, what AddTensors adds.
    """

    def __init__(self, operator: Any) -> None:
        numbers = dict.fromkeys(i for i in (*operator.inputs, *operator.outputs) if i >= 0)
        place = {number: at for at, number in enumerate(numbers)}
        self.inputs = [place.get(i, -1) for i in operator.inputs]
        self.outputs = [place.get(i, -1) for i in operator.outputs]
        self.context = NativeContext(len(place))
        self.node = NodeStruct()
        self.node.inputs = Arrays.make(self.inputs)
        self.node.outputs = Arrays.make(self.outputs)
        self.node.intermediates = Arrays.make(())
        self.node.temporaries = Arrays.make(())
        self._names: dict[int, bytes] = {}
        self._quantizations: dict[int, Any] = {}
        self._data: dict[int, Array] = {}

    def options_pointer(self, data: bytes) -> int | None:
        """The address of the custom options, which stay where they are; None for none."""
        if not data:
            return None
        self._options = ctypes.create_string_buffer(data, len(data))
        pointer = ctypes.addressof(self._options)
        self.node.custom_initial_data = pointer
        self.node.custom_initial_data_size = len(data)
        return pointer

    def show(self, node: CustomNode) -> None:
        """Write what is known of the operands into the structs."""
        for at, tensor in zip(self.inputs, node.inputs, strict=True):
            if tensor is not None:
                self._show(at, tensor, is_output=False)
        for at, tensor in zip(self.outputs, node.outputs, strict=True):
            if tensor is not None:
                self._show(at, tensor, is_output=True)
        self.context.fit_temporaries()

    def _show(self, at: int, tensor: CustomTensor, *, is_output: bool) -> None:
        kind = tensor.tensor_type
        if kind.numpy.hasobject or kind.bits != 8 * kind.itemsize:
            raise PrepareError(f"native operators cannot take {kind} ({tensor.name!r})")
        struct, data = self.context.tensors[at], tensor.data
        struct.type = type_code(kind)
        shape = tensor.shape if data is None else data.shape
        if shape is not None and Arrays.read(struct.dims) != shape:
            Arrays.drop(struct.dims)
            struct.dims = Arrays.make(shape)
        if not struct.name:
            self._names[at] = tensor.name.encode()
            struct.name = self._names[at]
        if not struct.dims_signature:
            struct.dims_signature = Arrays.make(())
        struct.buffer_handle = -1
        struct.is_variable = tensor.type.is_variable
        self._show_quantization(at, struct, tensor)
        self._show_data(at, struct, tensor, is_output=is_output)

    def _show_data(
        self, at: int, struct: TensorStruct, tensor: CustomTensor, *, is_output: bool
    ) -> None:
        data = tensor.data
        if data is not None:
            array = data if data.flags.c_contiguous else data.copy()
            self._data[at] = array
            struct.data, struct.bytes = array.ctypes.data, array.nbytes
        elif struct.allocation_type != _DYNAMIC:
            struct.data = None
        if is_output and struct.allocation_type == _DYNAMIC and data is None:
            return
        kinds = {tensor.is_constant: _CONSTANT, tensor.type.is_variable: _VARIABLE}
        struct.allocation_type = kinds.get(True, _ARENA)

    def _show_quantization(self, at: int, struct: TensorStruct, tensor: CustomTensor) -> None:
        q = tensor.type.quantization
        if q is None or not len(q.scales) or at in self._quantizations:
            return
        struct.params.scale, struct.params.zero_point = tensor.scale, tensor.zero_point
        zeros = [int(z) for z in q.zero_points] or [0]
        zeros = zeros * (len(q.scales) // len(zeros))
        scales = Arrays.make_floats([float(scale) for scale in q.scales])
        affine = AffineQuantization(scales, Arrays.make(zeros), q.axis)
        self._quantizations[at] = affine
        struct.quantization_type, struct.quantization_params = 1, ctypes.addressof(affine)

    def close(self) -> None:
        """Give all memory back that was taken with malloc."""
        for affine in self._quantizations.values():
            Arrays.drop(affine.scale)
            Arrays.drop(affine.zero_point)
        for field in ("inputs", "outputs", "intermediates", "temporaries"):
            Arrays.drop(getattr(self.node, field))
            setattr(self.node, field, None)
        self.context.close()


# -- delegates --


class NativeDelegate:
    """A TfLiteDelegate made by a plugin's tflite_plugin_create_delegate."""

    def __init__(self, library: str, options: Mapping[Any, Any]) -> None:
        self.pointer = 0
        self._library = ctypes.PyDLL(library)
        create = getattr(self._library, "tflite_plugin_create_delegate", None)
        if create is None or not hasattr(self._library, "tflite_plugin_destroy_delegate"):
            raise ValueError(f"{library} has no tflite_plugin_create_delegate: it is no delegate")
        told: list[str] = []
        report_type = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
        report = report_type(lambda text: told.append(text.decode(errors="replace")))
        create.restype = ctypes.c_void_p
        create.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p),
                           ctypes.c_size_t, report_type]  # fmt: skip
        keys, values = c_strings(options.keys()), c_strings(options.values())
        self.pointer = create(keys, values, len(options), report) or 0
        if not self.pointer:
            raise ValueError("".join(told))

    def close(self) -> None:
        """Destroy the delegate; once."""
        pointer, self.pointer = self.pointer, 0
        if pointer:
            destroy = self._library.tflite_plugin_destroy_delegate
            destroy.argtypes, destroy.restype = [ctypes.c_void_p], None
            destroy(pointer)


def apply_delegate(pointer: int, runner: SubgraphRunner) -> None:
    """Call a delegate's Prepare with a context that shows the graph and gives nothing away.

    Raises RuntimeError where Prepare fails: always, where it wants to take operators over.
    """
    struct = DelegateStruct.from_address(pointer)
    context = NativeContext(len(runner.subgraph.tensors), plan=range(len(runner.operators)))
    try:
        if struct.prepare and struct.prepare(context.address, pointer):
            told = "".join(context.told)
            raise RuntimeError(
                "Restored original execution plan after delegate application failure."
                + (f" {told}" if told else "")
            )
    finally:
        context.close()
