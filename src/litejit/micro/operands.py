"""Operators and tensors as TFLM's allocator sees them: declared shapes, sizes, quantization.

TFLM infers no shapes. It believes those in the file, but for a few kernels that write the shape
of their result when they are prepared; `View.set_shape` keeps what they wrote.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, TypeVar

from litejit.errors import ModelError, PrepareError
from litejit.micro.structs import Target
from litejit.model import Model, Operator, Tensor
from litejit.model.flexbuffer import decode
from litejit.model.table import Table
from litejit.record import Record, replace

T = TypeVar("T", bound=Table)

# Bytes of an element in TFLM's arena: 4-bit integers are counted as whole bytes.
ELEMENT_BYTES: dict[str, int] = {
    "FLOAT32": 4,
    "FLOAT16": 2,
    "INT32": 4,
    "UINT8": 1,
    "INT64": 8,
    "BOOL": 1,
    "INT16": 2,
    "COMPLEX64": 8,
    "INT8": 1,
    "FLOAT64": 8,
    "COMPLEX128": 16,
    "UINT64": 8,
    "RESOURCE": 4,
    "UINT32": 4,
    "UINT16": 2,
    "INT4": 1,
    "BFLOAT16": 2,
}
_WORDS = {"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}  # as struct writes them


class TensorView(Record):
    """A tensor with the shape that it has when TFLM plans its arena.

    `scales` is the number of scales if the tensor is affine-quantized (scales and zero points
    are both there and not empty), else 0. `data` is the constant value's bytes, None without;
    `has_zero_points` says that one of the zero points is not 0; `scale` and `zero_point` are
    the first of them, 0 without, and `axis` is the dimension that the scales belong to.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: int
    data: Any
    is_variable: bool
    has_zero_points: bool
    scale: float
    zero_point: int
    axis: int

    __hash__ = object.__hash__

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements; a scalar has one."""
        return math.prod(self.shape)

    def require_size(self) -> None:
        """Raise PrepareError for a type whose size TFLM does not know."""
        if self.dtype not in ELEMENT_BYTES:
            raise PrepareError(
                f"tensor {self.index} {self.name!r}: TFLM knows no size for {self.dtype}"
            )

    @property
    def item_bytes(self) -> int:
        """Bytes of one element. Raises PrepareError for a type whose size TFLM does not know."""
        self.require_size()
        return ELEMENT_BYTES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.elements * self.item_bytes

    @property
    def words(self) -> tuple[int, ...] | None:
        """The value of a constant of integers; None for any other tensor."""
        if self.data is None or self.dtype not in _WORDS:
            return None
        raw, size = bytes(self.data), ELEMENT_BYTES[self.dtype]
        return struct.unpack_from(f"<{len(raw) // size}{_WORDS[self.dtype]}", raw)

    @property
    def dims_bytes(self) -> int:
        """Bytes of the shape as TFLM stores it: the rank, then every dimension."""
        return 4 + 4 * self.rank


class GraphState:
    """The tensors of one subgraph, with the shapes that kernels have written so far."""

    def __init__(self, model: Model, number: int) -> None:
        self.number = number
        self.tensors = [
            tensor_view(model, index, tensor)
            for index, tensor in enumerate(model.subgraphs[number].tensors)
        ]
        self.variable_of: dict[int, tuple[str, str]] = {}  # handle tensor -> container, name
        self.placed_outside: set[int] = set()  # tensors that alternate memory holds

    def set_shape(self, index: int, shape: tuple[int, ...]) -> None:
        """Keep the shape that a kernel has written."""
        self.tensors[index] = replace(self.tensors[index], shape=tuple(shape))


def tensor_view(model: Model, index: int, tensor: Tensor) -> TensorView:
    """How TFLM sees a tensor of the file."""
    found = tensor.quantization
    affine = found is not None and len(found.scales) > 0 and len(found.zero_points) > 0
    buffers = model.buffers or ()
    data = buffers[tensor.buffer].data if 0 <= tensor.buffer < len(buffers) else None
    return TensorView(
        index,
        tensor.name,
        tuple(int(n) for n in tensor.shape),
        tensor.dtype.name,
        len(found.scales) if affine and found is not None else 0,
        data if data is not None and len(data) else None,
        tensor.is_variable,
        found is not None and any(int(z) for z in found.zero_points),
        float(found.scales[0]) if affine and found is not None else 0.0,
        int(found.zero_points[0]) if affine and found is not None else 0,
        found.axis if affine and found is not None else 0,
    )


class View:
    """One operator while it is prepared: its operands, and what it asks of the arena.

    `calls` collects ("T", tensor number) for a temporary tensor, ("P", bytes) for persistent
    memory and ("S", bytes) for a scratch buffer, in TFLM's order.
    """

    def __init__(
        self, model: Model, graph: GraphState, index: int, target: Target, shared: dict[Any, Any]
    ) -> None:
        self.graph = graph
        self.index = index
        self.operator: Operator = model.subgraphs[graph.number].operators[index]
        self.code = model.operator_codes[self.operator.code]
        self.name = self.code.name
        self.target = target
        self.shared = shared  # what operators of the whole model share: allocated variables
        self.calls: list[tuple[str, int]] = []

    @property
    def where(self) -> str:
        """How messages name this operator."""
        return f"{self.name} (operator {self.index} of subgraph {self.graph.number})"

    def input(self, position: int) -> TensorView | None:
        """The tensor of an input; None where it is absent."""
        return self._tensor(self.operator.inputs, position)

    def output(self, position: int = 0) -> TensorView | None:
        """The tensor of an output; None where it is absent."""
        return self._tensor(self.operator.outputs, position)

    def _tensor(self, numbers: tuple[int, ...], position: int) -> TensorView | None:
        if not 0 <= position < len(numbers) or numbers[position] < 0:
            return None
        if numbers[position] >= len(self.graph.tensors):
            raise ModelError(f"{self.where}: tensor {numbers[position]} does not exist")
        return self.graph.tensors[numbers[position]]

    def need(self, word: str) -> TensorView:
        """The tensor that `word` names (i0 an input, o0 an output). PrepareError without."""
        found = self.operand(word)
        if found is None:
            kind = "input" if word[0] == "i" else "output"
            raise PrepareError(f"{self.where}: {kind} {word[1:]} is missing")
        return found

    def operand(self, word: str) -> TensorView | None:
        """The tensor that `word` names (i0 an input, o0 an output); None where it is absent."""
        position = int(word[1:])
        return self.input(position) if word[0] == "i" else self.output(position)

    def temporaries(self, words: str) -> None:
        """Take temporary tensors, by words as in `need`; `i*`, `o*` mean all, D means shape.

        Absent operands cost nothing. D asks for persistent memory for the shape of output 0.
        """
        for word in words.split():
            if word == "D":
                self.persistent(self.need("o0").dims_bytes)
            elif word[1] == "*":
                numbers = self.operator.inputs if word[0] == "i" else self.operator.outputs
                self.calls += [("T", number) for number in numbers if number >= 0]
            else:
                found = self.operand(word)
                if found is not None:
                    self.calls.append(("T", found.index))

    def persistent(self, *sizes: int) -> None:
        """Ask for persistent memory, a block for each size in bytes."""
        self.calls += [("P", size) for size in sizes]

    def scratch(self, *sizes: int) -> None:
        """Ask for scratch buffers of these sizes in bytes."""
        self.calls += [("S", size) for size in sizes]

    def options(self, table: type[T]) -> T:
        """The options of a builtin operator; the schema's defaults where the file has none."""
        return self.operator.read_options(table)

    def custom(self, key: str, default: int = 0) -> int:
        """A number of a custom operator's options. PrepareError for what is no number."""
        options = decode(self.operator.custom_options) if self.operator.custom_options else {}
        value = options.get(key, default) if isinstance(options, Mapping) else default
        if not isinstance(value, int | float):
            raise PrepareError(f"{self.where}: its options have no number {key!r}")
        return int(value)
