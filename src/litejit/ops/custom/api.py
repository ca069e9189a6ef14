"""What a custom operator is given: a Context, a CustomNode and its CustomTensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litejit.errors import InvokeError, PrepareError
from litejit.types import Array, DType, TensorType


class CustomOp:
    """A custom operator: the four functions of TensorFlow Lite's C interface.

    Subclass it, or write a class of your own with some of these functions (`invoke` must be
    there), and register an instance, or the class: then every use of the operator gets an
    instance of its own. An instance that several interpreters share may be called from several
    threads at once; state belongs into what `init` returns.
    """

    def init(self, context: Context, options: Any) -> Any:
        """Called once for every use of the operator, when a model is opened.

        `options` is what the file holds for this use: the FlexBuffer decoded (mostly a dict),
        the bytes where they are no FlexBuffer, {} where there are none. For a builtin operator
        that is replaced it is a dict of the schema's options. Return the state of this use.
        """
        return None

    def prepare(self, context: Context, node: CustomNode) -> None:
        """Called whenever shapes may have changed: check operands, set the outputs' shapes.

        Set `node.outputs[i].shape`; None where it depends on data. An output whose shape is
        not set keeps the shape that the file declares.
        """

    def invoke(self, context: Context, node: CustomNode) -> None:
        """Compute the outputs: write into `node.outputs[i].data`.

        Where a shape depends on data, call `node.outputs[i].resize(shape)` first.
        """
        raise NotImplementedError

    def free(self, context: Context, state: Any) -> None:
        """Called once for every `init`, when the interpreter ends."""


class Context:
    """What surrounds the uses of custom operators in one interpreter.

    `recommended_num_threads` is the number of threads that one use should take: 1, because
    litejit spreads its own kernels over the interpreter's threads.
    """

    __slots__ = ("recommended_num_threads",)

    def __init__(self, recommended_num_threads: int = 1) -> None:
        self.recommended_num_threads = recommended_num_threads


class CustomTensor:
    """An operand of a custom operator.

    `shape` is None where it depends on data and is not known yet. `data` is an array on the
    tensor's memory: read-only for inputs (variables can be written), writable for outputs in
    `invoke`, None before there is a value. Strings are arrays of bytes objects; 4- and 2-bit
    integers lie one to a byte, bfloat16 is uint16.
    """

    __slots__ = ("_data", "_shape", "_writable", "changed", "type")

    def __init__(self, type: TensorType, data: Array | None, *, writable: bool) -> None:
        self.type = type
        self._shape = type.shape
        self._data = data
        self._writable = writable
        self.changed = False

    @property
    def name(self) -> str:
        """The tensor's name in the file."""
        return self.type.name

    @property
    def index(self) -> int:
        """The tensor's number in its subgraph."""
        return self.type.index

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of `data`."""
        return self.type.dtype.numpy

    @property
    def tensor_type(self) -> DType:
        """The element type in the file's terms, such as INT4."""
        return self.type.dtype

    @property
    def scale(self) -> float:
        """The only (or first) scale; 0.0 where there is none."""
        return self.type.scale

    @property
    def zero_point(self) -> int:
        """The only (or first) zero point; 0 where there is none."""
        return self.type.zero_point

    @property
    def is_constant(self) -> bool:
        """True where the value is known before the run."""
        return self.type.is_constant

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape; None where it depends on data."""
        return self._shape

    @shape.setter
    def shape(self, shape: Sequence[int] | None) -> None:
        if not self._writable:
            raise PrepareError(f"input {self.name!r} cannot be given another shape")
        self._shape = None if shape is None else tuple(int(n) for n in shape)
        self.changed = True

    @property
    def data(self) -> Array | None:
        """The value, or None where there is none yet."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if not self._writable:
            raise InvokeError(f"input {self.name!r} cannot be written")
        array = np.asarray(value)
        if array.dtype != self.dtype:
            raise InvokeError(f"output {self.name!r} is {self.dtype}, got {array.dtype}")
        if self._data is None:
            self._shape, self._data = array.shape, array
        elif self._data.shape != array.shape:
            what = f"output {self.name!r} has shape {self._data.shape}, got {array.shape}"
            raise InvokeError(what)
        else:
            self._data[...] = array

    def resize(self, shape: Sequence[int]) -> Array:
        """Give an output its shape in `invoke`, and return its memory.

        Raises InvokeError where the shape was known already and is another one.
        """
        wanted = tuple(int(n) for n in shape)
        if self._data is not None and self._data.shape != wanted:
            what = f"output {self.name!r} has shape {self._data.shape}, got {wanted}"
            raise InvokeError(what)
        if not self._writable:
            raise InvokeError(f"input {self.name!r} cannot be given another shape")
        if self._data is None:
            self._shape, self._data = wanted, blank(wanted, self.dtype)
        return self._data


def blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory for a value: zeros, or empty byte strings."""
    memory: Array = np.zeros(shape, dtype)
    if dtype.hasobject:
        memory[...] = b""
    return memory


class CustomNode:
    """One use of a custom operator.

    `inputs` and `outputs` are CustomTensors in the operator's order (None: left out). `state`
    is what `init` returned, `options` what it was given.
    """

    __slots__ = ("_temporaries", "index", "inputs", "name", "options", "outputs", "state")

    def __init__(
        self,
        name: str,
        index: int,
        state: Any,
        options: Any,
        inputs: tuple[CustomTensor | None, ...],
        outputs: tuple[CustomTensor | None, ...],
        temporaries: dict[str, Array],
    ) -> None:
        self.name, self.index, self.state, self.options = name, index, state, options
        self.inputs, self.outputs = inputs, outputs
        self._temporaries = temporaries

    def input(self, position: int) -> CustomTensor:
        """An input that must be there. Raises PrepareError."""
        return self._operand(self.inputs, position, "input")

    def output(self, position: int = 0) -> CustomTensor:
        """An output that must be there. Raises PrepareError."""
        return self._operand(self.outputs, position, "output")

    def _operand(
        self, operands: tuple[CustomTensor | None, ...], position: int, what: str
    ) -> CustomTensor:
        found = operands[position] if 0 <= position < len(operands) else None
        if found is None:
            raise PrepareError(f"{what} {position} is missing")
        return found

    def temporary(self, name: str, shape: Sequence[int], dtype: Any) -> Array:
        """Memory of this use, the same from run to run while shape and dtype stay.

        Its content at the start of a run is what the run before left, zeros at first.
        """
        wanted, kind = tuple(int(n) for n in shape), np.dtype(dtype)
        array = self._temporaries.get(name)
        if array is None or array.shape != wanted or array.dtype != kind:
            array = self._temporaries[name] = blank(wanted, kind)
        return array
