"""A .tflite file as frozen records, read and written; knows no operator's meaning."""

from __future__ import annotations

from litejit.model.model import (
    Buffer,
    Metadata,
    Model,
    Operator,
    OperatorCode,
    OptionsRef,
    Signature,
    Subgraph,
    Tensor,
    constant_array,
    read_content,
    read_model,
)
from litejit.model.schema import BUILTIN_NAMES

__all__ = [
    "BUILTIN_NAMES",
    "Buffer",
    "Metadata",
    "Model",
    "Operator",
    "OperatorCode",
    "OptionsRef",
    "Signature",
    "Subgraph",
    "Tensor",
    "constant_array",
    "read_content",
    "read_model",
    "write_model",
]


def write_model(model: Model) -> bytes:
    """Return the bytes of a .tflite file that says what `model` says."""
    from litejit.model.writer import write_model

    return write_model(model)
