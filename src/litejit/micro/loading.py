"""Reading a model as leniently as TFLM does, without its crashes."""

from __future__ import annotations

import struct

from litejit.errors import ModelError
from litejit.model import BUILTIN_NAMES, Model, read_model
from litejit.model.schema import IDENTIFIER
from litejit.model.verify import verify_model


class DamagedModelError(ModelError, struct.error, TypeError):
    """The bytes are no model; TFLM raises struct.error or TypeError, or ends the process."""


def read_micro_model(content: bytes) -> Model:
    """Read the content of a file; its identifier and operator versions are not looked at.

    Raises DamagedModelError, and RuntimeError for tensors that cannot be and for weights
    compressed the old way.
    """
    if not content:
        raise DamagedModelError(
            "unpack_from requires a buffer of at least 4 bytes for unpacking 4 bytes at offset 0 "
            "(actual buffer size is 0)"
        )
    if len(content) >= 8 and content[4:8] != IDENTIFIER:
        content = content[:4] + IDENTIFIER + content[8:]
    try:
        model = read_model(content, verify=False)
    except ModelError as error:
        raise DamagedModelError(str(error)) from error
    try:
        verify_model(model, strict=False)
    except ModelError as error:
        if not model.subgraphs or model.buffers is None:
            raise DamagedModelError(str(error)) from error
        raise RuntimeError(f"TFLM failed to allocate tensors\n{error}") from error
    if model.metadata_bytes("COMPRESSION_METADATA") is not None:
        raise RuntimeError(
            "Model contains compressed tensors but the interpreter was not built with compression "
            "support. (Weights compressed by the operator TFLM_DECODE are supported.)"
        )
    return model


def shared_names(model: Model) -> set[str]:
    """Names of the resource variables; their container is not looked at."""
    handle = BUILTIN_NAMES.index("VAR_HANDLE")
    names = set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            if model.operator_codes[operator.code].code == handle:
                from litejit.model.options.control import VarHandleOptions

                names.add(operator.read_options(VarHandleOptions).shared_name)
    return names
