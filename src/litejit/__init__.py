"""litejit: runs .tflite models from Python, exactly and fast."""

from __future__ import annotations

from litejit.errors import CodegenError, InvokeError, LitejitError, ModelError, PrepareError
from litejit.interpreter import Interpreter, InterpreterWithCustomOps, OpResolverType
from litejit.signature import SignatureRunner

__version__ = "0.1.0"

__all__ = [
    "CodegenError",
    "Interpreter",
    "InterpreterWithCustomOps",
    "InvokeError",
    "LitejitError",
    "ModelError",
    "OpResolverType",
    "PrepareError",
    "SignatureRunner",
]
