"""What a file declares: the types of its tensors, its operators."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from litejit.model import Model, constant_array
from litejit.record import replace
from litejit.types import Quantization, TensorType

if TYPE_CHECKING:
    from litejit.engine.prepare import ResolvedOperator
    from litejit.ops.resolver import OpResolver


def declared_types(model: Model, subgraph_index: int) -> dict[int, TensorType]:
    """The type that the file declares for every tensor, constants with their (dense) values."""
    count = len(model.subgraphs[subgraph_index].tensors)
    return {index: declared_type(model, subgraph_index, index) for index in range(count)}


def declared_type(model: Model, subgraph_index: int, index: int) -> TensorType:
    """The type that the file declares for one tensor, with its (dense) value if constant."""
    tensor = model.subgraphs[subgraph_index].tensors[index]
    value = None if tensor.is_variable else constant_array(model, subgraph_index, index)
    if value is not None and tensor.sparsity is not None:
        from litejit.model.sparse import densify

        value = densify(value, tensor.shape, tensor.sparsity, f"tensor {index}")
    quantization = tensor.quantization
    if quantization is not None and quantization.block_size:
        quantization = _blockwise(model, subgraph_index, quantization)
    shape = tensor.shape if value is None else tuple(value.shape)
    return TensorType(
        shape, tensor.dtype, quantization, value, tensor.name, index, tensor.is_variable
    )


def has_data(model: Model, subgraph: int, index: int) -> bool:
    """Does the file hold the value of a tensor?"""
    buffer, buffers = model.subgraphs[subgraph].tensors[index].buffer, model.buffers or ()
    return 0 < buffer < len(buffers) and buffers[buffer].data is not None


def _blockwise(model: Model, subgraph_index: int, quantization: Quantization) -> Quantization:
    """A blockwise quantization with the scales that lie in a tensor of their own."""
    count = len(model.subgraphs[subgraph_index].tensors)
    if not 0 <= quantization.scale_tensor < count:
        return quantization
    scales = constant_array(model, subgraph_index, quantization.scale_tensor)
    if scales is None:
        return quantization
    filled: Quantization = replace(quantization, scales=scales.astype(np.float32).ravel())
    return filled


class Operators:
    """The resolved operators of all subgraphs; resolved when they are first asked for."""

    def __init__(self, model: Model, resolver: OpResolver) -> None:
        self._model, self._resolver = model, resolver
        self._found: list[list[ResolvedOperator]] | None = None

    def all(self) -> list[list[ResolvedOperator]]:
        """Operators by subgraph. Raises ModelError for builtins that are not known."""
        if self._found is None:
            from litejit.engine.prepare import resolve
            from litejit.engine.simplify import simplify

            model = self._model
            self._found = [
                simplify(
                    resolve(model, subgraph, self._resolver), partial(declared_types, model, index)
                )
                for index, subgraph in enumerate(model.subgraphs)
            ]
        return self._found
