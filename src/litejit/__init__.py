"""litejit: runs .tflite models from Python, exactly and fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litejit.errors import CodegenError, InvokeError, LitejitError, ModelError, PrepareError
from litejit.interpreter import (
    Delegate,
    Interpreter,
    InterpreterWithCustomOps,
    OpResolverType,
    load_delegate,
)
from litejit.ops.resolver import (
    BuiltinOpResolver,
    BuiltinRefOpResolver,
    MutableOpResolver,
    OpResolver,
)
from litejit.signature import SignatureRunner

if TYPE_CHECKING:
    from litejit import native
    from litejit.cpp_api import (
        CppInterpreter,
        FlatBufferModel,
        InterpreterBuilder,
        InterpreterOptions,
        Model,
        Status,
    )
    from litejit.interpreter_api import InterpreterApi
    from litejit.ops.custom.api import Context, CustomNode, CustomOp, CustomTensor
    from litejit.ops.custom.decorator import FunctionOp, custom_op
    from litejit.predictor import Predictor, load

__version__ = "0.1.0"

__all__ = [
    "BuiltinOpResolver",
    "BuiltinRefOpResolver",
    "CodegenError",
    "Context",
    "CppInterpreter",
    "CustomNode",
    "CustomOp",
    "CustomTensor",
    "Delegate",
    "FlatBufferModel",
    "FunctionOp",
    "Interpreter",
    "InterpreterApi",
    "InterpreterBuilder",
    "InterpreterOptions",
    "InterpreterWithCustomOps",
    "InvokeError",
    "LitejitError",
    "Model",
    "ModelError",
    "MutableOpResolver",
    "OpResolver",
    "OpResolverType",
    "Predictor",
    "PrepareError",
    "SignatureRunner",
    "Status",
    "custom_op",
    "load",
    "load_delegate",
    "native",
]

_LAZY = {
    "Context": "ops.custom.api",
    "CppInterpreter": "cpp_api",
    "CustomNode": "ops.custom.api",
    "CustomOp": "ops.custom.api",
    "CustomTensor": "ops.custom.api",
    "FlatBufferModel": "cpp_api",
    "FunctionOp": "ops.custom.decorator",
    "InterpreterApi": "interpreter_api",
    "InterpreterBuilder": "cpp_api",
    "InterpreterOptions": "cpp_api",
    "Model": "cpp_api",
    "Predictor": "predictor",
    "Status": "cpp_api",
    "custom_op": "ops.custom.decorator",
    "load": "predictor",
    "native": "",
}  # imported when first asked for: most programs need none of them


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = _LAZY[name]
    module = import_module(f"{__name__}.{home or name}")
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value
