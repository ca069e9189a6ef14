"""What LiteRT checks of a model when an interpreter is made, and when it is allocated."""

from __future__ import annotations

from litejit.errors import ModelError
from litejit.model.model import Model
from litejit.model.schema import VERSION


def verify_model(model: Model) -> None:
    """Check a model as LiteRT's interpreter does at construction. Raises ModelError."""
    if model.version != VERSION:
        raise ModelError(
            f"Model provided is schema version {model.version} not equal to supported version "
            f"{VERSION}.\n"
        )
    if not model.subgraphs:
        raise ModelError("No subgraph in the model.\n")
    if model.buffers is None:
        raise ModelError("No buffers in the model.\n")
