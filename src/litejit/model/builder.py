"""Models from scratch: for examples, tests and tools.

builder = ModelBuilder()
graph = builder.main
x = graph.add_input("x", (1, 8), F32)
w = graph.add_constant("w", weights)
y = graph.add_output("y", (1, 4), F32)
graph.add_operator("FULLY_CONNECTED", [x, w, -1], [y], FullyConnectedOptions())
data = builder.to_bytes()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litejit.model.constant import pack_constant
from litejit.model.model import (
    NO_OPTIONS,
    NO_OPTIONS_2,
    Buffer,
    Metadata,
    Model,
    Operator,
    OperatorCode,
    OptionsRef,
    Signature,
    Sparsity,
    Subgraph,
    Tensor,
)
from litejit.model.schema import BUILTIN_NAMES, CUSTOM
from litejit.model.table import Table
from litejit.model.writer import write_model
from litejit.types import BF16, DTYPES, I2, I4, RESOURCE, U4, VARIANT, DType, Quantization

_CODES = {name: code for code, name in enumerate(BUILTIN_NAMES)}
_DTYPE_OF = {
    dtype.numpy: dtype for dtype in DTYPES if dtype not in (BF16, I4, I2, U4, RESOURCE, VARIANT)
}


class ModelBuilder:
    """Collects graphs, constants and signatures of a model; `main` is subgraph 0."""

    def __init__(self, description: str = "") -> None:
        self.description = description
        self.graphs: list[GraphBuilder] = []
        self._codes: list[OperatorCode] = []
        # Buffer 0 is, by convention, the one without data.
        self._buffers: list[Buffer] = [Buffer()]
        self._metadata: list[Metadata] = []
        self._signatures: list[Signature] = []
        self.main = self.add_subgraph("main")

    def add_subgraph(self, name: str = "") -> GraphBuilder:
        """Start another graph; its number is `graph.index`."""
        graph = GraphBuilder(self, len(self.graphs), name)
        self.graphs.append(graph)
        return graph

    def add_buffer(self, data: bytes | memoryview | None, *, behind: bool = False) -> int:
        """Add a buffer and return its number; `behind` places it behind the FlatBuffer."""
        self._buffers.append(Buffer(data, behind))
        return len(self._buffers) - 1

    def add_metadata(self, name: str, data: bytes) -> None:
        """Add a named buffer."""
        self._metadata.append(Metadata(name, self.add_buffer(data)))

    def add_signature(
        self,
        key: str,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        *,
        subgraph: int = 0,
    ) -> None:
        """Name a graph and its tensors (numbers) for callers."""
        pairs = tuple(inputs.items()), tuple(outputs.items())
        self._signatures.append(Signature(key, subgraph, *pairs))

    def operator_code(self, name: str, version: int = 1, *, custom: bool = False) -> int:
        """Return the index of an operator code, added where there is none yet.

        Raises ValueError where the schema knows no builtin operator of that name.
        """
        if custom:
            code = OperatorCode(CUSTOM, name, version)
        elif name in _CODES:
            code = OperatorCode(_CODES[name], None, version)
        else:
            raise ValueError(f"no builtin operator is called {name!r}; pass custom=True for others")
        if code not in self._codes:
            self._codes.append(code)
        return self._codes.index(code)

    def build(self) -> Model:
        """Return the model as it is now."""
        return Model(
            description=self.description,
            operator_codes=tuple(self._codes),
            subgraphs=tuple(graph.build() for graph in self.graphs),
            buffers=tuple(self._buffers),
            metadata=tuple(self._metadata),
            signatures=tuple(self._signatures),
        )

    def to_bytes(self) -> bytes:
        """Return the model as the bytes of a .tflite file."""
        return write_model(self.build())


class GraphBuilder:
    """Collects the tensors and operators of one subgraph; made by ModelBuilder."""

    def __init__(self, model: ModelBuilder, index: int, name: str) -> None:
        self.model = model
        self.index = index
        self.name = name
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DType,
        data: NDArray[Any] | bytes | None = None,
        *,
        quantization: Quantization | None = None,
        is_variable: bool = False,
        shape_signature: Sequence[int] | None = None,
        sparsity: Sparsity | None = None,
        buffer: int | None = None,
    ) -> int:
        """Add a tensor and return its number.

        `data` makes it a constant: an array as litejit stores it (4-bit values one to a byte,
        bfloat16 as uint16, strings as an object array), or the bytes as a file holds them.
        `buffer` names a buffer that exists already.
        """
        if data is not None and not isinstance(data, bytes):
            data = pack_constant(np.asarray(data, dtype.numpy), dtype)
        if buffer is None:
            # Converters give every tensor a buffer; one without data is as good as none.
            buffer = 0 if data is None else self.model.add_buffer(data)
        self._tensors.append(
            Tensor(
                name,
                tuple(int(n) for n in shape),
                dtype,
                buffer,
                quantization,
                is_variable,
                None if shape_signature is None else tuple(int(n) for n in shape_signature),
                sparsity,
                True,
            )
        )
        return len(self._tensors) - 1

    def add_constant(
        self,
        name: str,
        value: Any,
        dtype: DType | None = None,
        *,
        quantization: Quantization | None = None,
    ) -> int:
        """Add a constant of the shape (and, without `dtype`, the type) of `value`."""
        array = np.asarray(value)
        if array.dtype.kind in "SU":
            array = array.astype(object)
        found = dtype or _DTYPE_OF.get(array.dtype)
        if found is None:
            raise ValueError(f"{name}: no tensor type for {array.dtype}; pass dtype=")
        return self.add_tensor(name, array.shape, found, array, quantization=quantization)

    def add_input(self, name: str, shape: Sequence[int], dtype: DType, **more: Any) -> int:
        """Add a tensor, with the arguments of `add_tensor`, that is an input of the graph."""
        self.inputs.append(self.add_tensor(name, shape, dtype, **more))
        return self.inputs[-1]

    def add_output(self, name: str, shape: Sequence[int], dtype: DType, **more: Any) -> int:
        """Add a tensor, with the arguments of `add_tensor`, that is an output of the graph."""
        self.outputs.append(self.add_tensor(name, shape, dtype, **more))
        return self.outputs[-1]

    def add_operator(
        self,
        name: str,
        inputs: Iterable[int],
        outputs: Iterable[int],
        options: Table | None = None,
        *,
        version: int = 1,
        custom: bool = False,
        custom_options: bytes = b"",
        intermediates: Iterable[int] = (),
        mutating_variable_inputs: Iterable[bool] = (),
    ) -> int:
        """Add an operator, by its name in the schema or (`custom`) its custom code.

        An input of -1 is left out. Returns the operator's number.
        """
        ref = NO_OPTIONS if options is None else OptionsRef.of(options)
        self._operators.append(
            Operator(
                self.model.operator_code(name, version, custom=custom),
                tuple(inputs),
                tuple(outputs),
                ref if ref.union == 1 else NO_OPTIONS,
                ref if ref.union == 2 else NO_OPTIONS_2,
                custom_options,
                tuple(intermediates),
                tuple(mutating_variable_inputs),
            )
        )
        return len(self._operators) - 1

    def build(self) -> Subgraph:
        """Return the subgraph as it is now."""
        return Subgraph(
            self.name,
            tuple(self._tensors),
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(self._operators),
        )


def per_tensor(scale: float, zero_point: int = 0) -> Quantization:
    """Return the quantization of a tensor with one scale."""
    return per_channel([scale], [zero_point])


def per_channel(
    scales: Iterable[float], zero_points: Iterable[int] | None = None, *, axis: int = 0
) -> Quantization:
    """Return a quantization along `axis`; zero points are 0 where they are not given."""
    wide = np.array(list(scales), np.float32)
    zeros = np.zeros(len(wide), np.int64)
    if zero_points is not None:
        zeros = np.array(list(zero_points), np.int64)
    return Quantization(wide, zeros, axis)
