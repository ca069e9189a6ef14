"""TensorFlow Lite's C structs as ctypes lays them out, and a TfLiteContext that works."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from litejit.errors import LitejitError
from litejit.types import Array, DType

_Pointer = ctypes.c_void_p
_TYPES = (  # noqa: SIM905 - a list of strings would fill 22 lines
    "NOTYPE FLOAT32 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT16 FLOAT64 COMPLEX128 "
    "UINT64 RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4"
).split()  # in the order of TfLiteType
_NUMPY_OF = {1: "f4", 2: "i4", 3: "u1", 4: "i8", 6: "?", 7: "i2", 8: "c8", 9: "i1", 10: "f2",
             11: "f8", 12: "c16", 13: "u8", 16: "u4", 17: "u2", 19: "u2"}  # fmt: skip
_DYNAMIC = 4
_FORBIDDEN = "The function is forbidden if not calling in delegate."
_REFUSED = (
    "litejit runs every operator itself: this delegate cannot take operators over. "
    "Leave experimental_delegates out; results stay the same."
)


def type_code(dtype: DType) -> int:
    """The number of an element type in TfLiteType."""
    return _TYPES.index(dtype.name)


def _libc() -> Any:
    libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    libc.malloc.restype, libc.malloc.argtypes = _Pointer, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [_Pointer]
    return libc


_LIBC = _libc()


class Arrays:
    """TfLiteIntArray and TfLiteFloatArray: a count, then the items, from malloc."""

    @staticmethod
    def make(items: Sequence[int]) -> int:
        """A new array of ints; its owner gives it back with `drop`."""
        return Arrays._make(items, ctypes.c_int32)

    @staticmethod
    def make_floats(items: Sequence[float]) -> int:
        """A new array of floats; its owner gives it back with `drop`."""
        return Arrays._make([float(x) for x in items], ctypes.c_float)

    @staticmethod
    def _make(items: Sequence[Any], kind: Any) -> int:
        address = _LIBC.malloc(4 + 4 * len(items))
        if not address:
            raise MemoryError("malloc gave no memory for a TfLiteIntArray")
        ctypes.c_int32.from_address(address).value = len(items)
        (kind * len(items)).from_address(address + 4)[:] = list(items)
        return int(address)

    @staticmethod
    def read(address: int | None) -> tuple[int, ...] | None:
        """The items; None for NULL."""
        if not address:
            return None
        count = ctypes.c_int32.from_address(address).value
        return tuple((ctypes.c_int32 * max(count, 0)).from_address(address + 4))

    @staticmethod
    def drop(address: int | None) -> None:
        """Give an array back; NULL is fine."""
        if address:
            _LIBC.free(address)


class _Params(ctypes.Structure):
    _fields_ = (("scale", ctypes.c_float), ("zero_point", ctypes.c_int32))


class TensorStruct(ctypes.Structure):
    """TfLiteTensor: 112 bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("data", _Pointer),
        ("dims", _Pointer),
        ("params", _Params),
        ("allocation_type", ctypes.c_int),
        ("bytes", ctypes.c_size_t),
        ("allocation", _Pointer),
        ("name", ctypes.c_char_p),
        ("delegate", _Pointer),
        ("buffer_handle", ctypes.c_int),
        ("data_is_stale", ctypes.c_bool),
        ("is_variable", ctypes.c_bool),
        ("quantization_type", ctypes.c_int),
        ("quantization_params", _Pointer),
        ("sparsity", _Pointer),
        ("dims_signature", _Pointer),
    )


class NodeStruct(ctypes.Structure):
    """TfLiteNode: 80 bytes."""

    _fields_ = (
        ("inputs", _Pointer),
        ("outputs", _Pointer),
        ("intermediates", _Pointer),
        ("temporaries", _Pointer),
        ("user_data", _Pointer),
        ("builtin_data", _Pointer),
        ("custom_initial_data", _Pointer),
        ("custom_initial_data_size", ctypes.c_int),
        ("delegate", _Pointer),
        ("might_have_side_effect", ctypes.c_bool),
    )


class AffineQuantization(ctypes.Structure):
    """TfLiteAffineQuantization: 24 bytes."""

    _fields_ = (
        ("scale", _Pointer),
        ("zero_point", _Pointer),
        ("quantized_dimension", ctypes.c_int),
    )


_INIT = ctypes.CFUNCTYPE(_Pointer, _Pointer, _Pointer, ctypes.c_size_t)
_FREE = ctypes.CFUNCTYPE(None, _Pointer, _Pointer)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer)


class RegistrationStruct(ctypes.Structure):
    """The first 64 bytes of TfLiteRegistration, which all its versions have."""

    _fields_ = (
        ("init", _INIT),
        ("free", _FREE),
        ("prepare", _RUN),
        ("invoke", _RUN),
        ("profiling_string", _Pointer),
        ("builtin_code", ctypes.c_int32),
        ("custom_name", ctypes.c_char_p),
        ("version", ctypes.c_int),
    )


class DelegateStruct(ctypes.Structure):
    """The first fields of TfLiteDelegate."""

    _fields_ = (("data", _Pointer), ("prepare", _RUN))


_RESIZE = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.POINTER(TensorStruct), _Pointer)
# ReportError is variadic. On the systems below, a callback that declares enough integers and
# doubles finds every argument where the caller put it: both kinds have registers of their own.
_IN_REGISTERS = {"x86_64": 4, "AMD64": 0, "aarch64": 6, "arm64": 0}.get(platform.machine(), 0)
_ON_STACK = 4 if _IN_REGISTERS else 0
_DOUBLES = 8 if _IN_REGISTERS else 0
_REPORT = ctypes.CFUNCTYPE(
    None, _Pointer, ctypes.c_char_p, *[ctypes.c_uint64] * _IN_REGISTERS,
    *[ctypes.c_double] * _DOUBLES, *[ctypes.c_uint64] * _ON_STACK,
)  # fmt: skip
_ADD = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
_PLAN = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.POINTER(_Pointer))
_ANY = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer)
_GET_EXTERNAL = ctypes.CFUNCTYPE(_Pointer, _Pointer, ctypes.c_int)
_SET_EXTERNAL = ctypes.CFUNCTYPE(None, _Pointer, ctypes.c_int, _Pointer)


class ContextStruct(ctypes.Structure):
    """TfLiteContext: 200 bytes."""

    _fields_ = (
        ("tensors_size", ctypes.c_size_t),
        ("get_execution_plan", _PLAN),
        ("tensors", _Pointer),
        ("impl", _Pointer),
        ("resize_tensor", _RESIZE),
        ("report_error", _REPORT),
        ("add_tensors", _ADD),
        ("get_node_and_registration", _ANY),
        ("replace_node_subsets", _ANY),
        ("recommended_num_threads", ctypes.c_int),
        ("get_external_context", _GET_EXTERNAL),
        ("set_external_context", _SET_EXTERNAL),
        ("allow_fp32_relax_to_fp16", ctypes.c_bool),
        ("only_micro", _Pointer * 6),
        ("preview_delegate_partitioning", _ANY),
        ("get_tensor", _Pointer),
        ("get_eval_tensor", _Pointer),
        ("get_model_metadata", _ANY),
        ("acquire_subgraph_context", _ANY),
        ("release_subgraph_context", _ANY),
    )


class NativeContext:
    """A TfLiteContext with `count` tensors, and those that native code adds.

    `told` collects what native code reports. With a `plan` it is the context of a delegate,
    which may look at the execution plan.
    """

    def __init__(self, count: int, plan: Sequence[int] | None = None) -> None:
        self.struct = ContextStruct()
        self.told: list[str] = []
        self.tensors: Any = (TensorStruct * count)()
        self._own = count  # tensors beyond are temporaries
        self._retired: list[Any] = []  # native code may hold pointers into them
        self._dynamic: dict[int, Array] = {}
        self._plan = None if plan is None else Arrays.make(tuple(plan))
        self.address = ctypes.addressof(self.struct)
        self._publish()
        self._fill()

    def _publish(self) -> None:
        self.struct.tensors_size = len(self.tensors)
        self.struct.tensors = ctypes.addressof(self.tensors)

    def _fill(self) -> None:
        struct, refused = self.struct, _ANY(self._refuse)
        struct.recommended_num_threads = 1
        struct.get_execution_plan = _PLAN(self._get_execution_plan)
        struct.resize_tensor = _RESIZE(self._resize)
        struct.report_error = _REPORT(self._report)
        struct.add_tensors = _ADD(self._add_tensors)
        struct.get_external_context = _GET_EXTERNAL(_no_external_context)
        struct.set_external_context = _SET_EXTERNAL(_ignore_external_context)
        for field in ("get_node_and_registration", "replace_node_subsets",
                      "preview_delegate_partitioning", "get_model_metadata",
                      "acquire_subgraph_context", "release_subgraph_context"):  # fmt: skip
            setattr(struct, field, refused)

    # -- what native code calls --

    def _refuse(self, _: int) -> int:
        self.told.append(_FORBIDDEN if self._plan is None else _REFUSED)
        return 1

    def _get_execution_plan(self, context: int, plan: Any) -> int:
        if self._plan is None:
            return self._refuse(context)
        plan[0] = self._plan
        return 0

    def _report(self, _: int, text: bytes, *arguments: Any) -> None:
        integers = (*arguments[:_IN_REGISTERS], *arguments[_IN_REGISTERS + _DOUBLES :])
        doubles = arguments[_IN_REGISTERS : _IN_REGISTERS + _DOUBLES]
        self.told.append(formatted(text, iter(integers), iter(doubles)))

    def _resize(self, _: int, tensor: Any, dims: int) -> int:
        struct = tensor.contents
        shape = Arrays.read(dims) or ()
        if any(n < 0 for n in shape):
            Arrays.drop(dims)
            self.told.append(f"ResizeTensor got the shape {shape}.")
            return 1
        if struct.dims != dims:
            Arrays.drop(struct.dims)
        struct.dims, struct.data = dims, None
        at = (ctypes.addressof(struct) - ctypes.addressof(self.tensors)) // ctypes.sizeof(struct)
        if struct.allocation_type == _DYNAMIC:
            self._allocate(at, struct, shape)
        return 0

    def _add_tensors(self, _: int, count: int, first: Any) -> int:
        if count < 0:
            return 1
        old = self.tensors
        self._retired.append(old)
        self.tensors = (TensorStruct * (len(old) + count))()
        ctypes.memmove(self.tensors, old, ctypes.sizeof(old))
        if first:
            first[0] = len(old)
        for at in range(len(old), len(self.tensors)):
            self.tensors[at].buffer_handle = -1
        self._publish()
        return 0

    # -- what litejit calls --

    def fit_temporaries(self) -> None:
        """Give every tensor that native code added the memory that its shape needs."""
        for at in range(self._own, len(self.tensors)):
            struct = self.tensors[at]
            shape = Arrays.read(struct.dims)
            if shape is not None and not struct.data and struct.type in _NUMPY_OF:
                self._allocate(at, struct, shape)

    def _allocate(self, at: int, struct: TensorStruct, shape: tuple[int, ...]) -> None:
        array = np.zeros(shape, np.dtype(_NUMPY_OF[struct.type]))
        self._dynamic[at] = array
        struct.data, struct.bytes = array.ctypes.data, array.nbytes

    def dynamic_value(self, at: int, dtype: np.dtype[Any]) -> Array | None:
        """The value of an output whose shape was set in invoke."""
        array = self._dynamic.get(at)
        return None if array is None else array.view(dtype).copy()

    def raise_for(self, status: int, kind: type[LitejitError], name: str) -> None:
        """Raise what native code reported, where its status is not 0."""
        told, self.told = " ".join(self.told), []
        if status:
            raise kind(f"{told or f'{name} returned {status}'}")

    def close(self) -> None:
        """Give all memory back that was taken with malloc."""
        for struct in self.tensors:
            Arrays.drop(struct.dims)
            Arrays.drop(struct.dims_signature)
            struct.dims = struct.dims_signature = None
        Arrays.drop(self._plan)
        self._plan = None


def _no_external_context(_: int, __: int) -> None:
    return None


def _ignore_external_context(_: int, __: int, ___: int) -> None:
    return None


def c_strings(items: Iterable[Any]) -> Any:
    """An array of char*."""
    texts = [str(item).encode() for item in items]
    return (ctypes.c_char_p * len(texts))(*texts)


_DIRECTIVE = re.compile(rb"%[-+ #0]*[\d*]*(?:\.[\d*]+)?(hh|h|ll|l|z|j|t|L)?([a-zA-Z%])")


def formatted(text: bytes, integers: Any, doubles: Any) -> str:
    """A printf format with its arguments, as far as they can be found; else the format alone."""

    def one(match: re.Match[bytes]) -> bytes:
        length, kind = match.group(1), match.group(2)
        plain = match.group(0).replace(length, b"", 1) if length else match.group(0)
        if kind == b"%":
            return b"%"
        try:
            value = next(doubles if kind in b"eEfFgG" else integers)
        except StopIteration:
            return match.group(0)
        if kind == b"s":
            return ctypes.string_at(value) if value else b"(null)"
        if kind in b"di":
            value = ctypes.c_int64(value).value if length else ctypes.c_int32(value).value
        elif kind in b"uxXo":
            value = value if length else value & 0xFFFFFFFF
        elif kind == b"p":
            return hex(value).encode()
        result: bytes = plain % value
        return result

    try:
        return _DIRECTIVE.sub(one, text).decode(errors="replace")
    except (ValueError, TypeError):
        return text.decode(errors="replace")
