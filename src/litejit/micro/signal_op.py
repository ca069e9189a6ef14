"""What TFLM's custom operators share: options in a FlexBuffer, and state that outlives a run."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.errors import InvokeError, ModelError
from litejit.model import Operator
from litejit.model.flexbuffer import decode
from litejit.ops.base import Node, Op, Types
from litejit.types import Array, DType


class GraphStopped(InvokeError):
    """An operator ended this run on purpose: the operators behind it did not run."""


class Settings:
    """Options of one operator of one interpreter, and its state.

    The engine decodes options once for every interpreter, so that this object is the one place
    that belongs to both.
    """

    __slots__ = ("state", "values")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.state: Any = None

    def number(self, key: str, default: int = 0) -> int:
        """An integer option; 0 where it is missing, as TFLM reads it."""
        value = self.values.get(key, default)
        return int(value) if isinstance(value, bool | int | float) else default

    def saved(self) -> Any:
        """The state as it is now, for `restore`."""
        return self.state.copy() if isinstance(self.state, np.ndarray) else self.state

    def restore(self, saved: Any) -> None:
        """Take back what a failed run changed; an array that kernels share stays where it is."""
        shared = isinstance(self.state, np.ndarray) and isinstance(saved, np.ndarray)
        if shared and self.state.shape == saved.shape:
            self.state[...] = saved
        else:
            self.state = saved

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class CustomOp(Op):
    """A custom operator with FlexBuffer options.

    `inputs` and `outputs` are the element types; a result has the shape that the file declares
    unless `infer` says otherwise.
    """

    inputs: ClassVar[tuple[DType, ...]] = ()
    results_of: ClassVar[tuple[DType, ...]] = ()
    vectors: ClassVar[bool] = True  # operands must have one dimension

    def decode_options(self, operator: Operator, who: str) -> Settings:
        """The map of the FlexBuffer; ModelError where it is none."""
        data = operator.custom_options
        found = decode(data) if data else {}
        if not isinstance(found, dict):
            raise ModelError(f"{who}: custom options are no map")
        return Settings(found)

    def infer(self, node: Node) -> Types:
        """Check operands; results as declared."""
        for position, dtype in enumerate(self.inputs):
            node.require_dtype(node.input(position), (dtype,), f"input {position}")
        for position, dtype in enumerate(self.results_of):
            node.require_dtype(node.output(position), (dtype,), f"output {position}")
        if self.vectors:
            for position, tensor in enumerate(t for t in node.inputs if t is not None):
                ok = tensor.rank <= 1
                node.require(ok, f"input {position} has shape {tensor.shape}, expected a vector")
        self.check(node)
        return [t.with_shape(t.shape) for t in node.outputs if t is not None]

    def check(self, node: Node) -> None:
        """Refuse options and shapes that do not go together."""

    def require_output(self, node: Node, shape: tuple[int, ...], position: int = 0) -> None:
        """Refuse a declared result of another shape."""
        declared = node.output(position)
        same = declared.shape == shape
        node.require(same, f"output {position} is declared {declared.shape}, expected {shape}")


class StatefulOp(CustomOp):
    """A custom operator that remembers something between runs."""

    is_pure = False

    def memory(self, settings: Settings, nbytes: int) -> Array:
        """The bytes that are remembered, which a kernel may share: they are changed in place."""
        if settings.state is None:
            raw = np.zeros(nbytes + 192, np.uint8)  # kernels may read up to 64 bytes too much
            start = -int(raw.__array_interface__["data"][0]) % 64
            settings.state = raw[start : start + nbytes]
            self.begin(settings, settings.state)
        found: Array = settings.state
        return found

    def begin(self, settings: Settings, memory: Array) -> None:
        """Write what is remembered before the first run."""
        memory[...] = 0

    def reset(self, settings: Settings) -> None:
        """Forget everything."""
        if settings.state is not None:
            self.begin(settings, settings.state)


def rows_of(x: Array) -> Array:
    """[rows, last dimension]."""
    return x.reshape(-1, x.shape[-1])
