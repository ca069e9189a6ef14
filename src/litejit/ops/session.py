"""Session: what the nodes of one interpreter share, across subgraphs and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.types import Array, TensorType

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # a real Protocol takes a tenth of a millisecond to make


class SubgraphCall(Protocol):
    """A subgraph as a function of arrays; `operators` are the names of what it runs."""

    operators: tuple[str, ...]

    def infer(self, inputs: Sequence[TensorType]) -> list[TensorType]:
        """Types of the results for operands of these types; a shape is None if data gives it."""
        ...

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the subgraph; the results belong to the caller."""
        ...


class Session:
    """Resource variables, tables, and what ran already; the engine adds the subgraphs.

    A handle is a number; variables and tables are found by it. `beyond_reference` says that
    LiteRT's reference kernels do not run the model, so that only its default run tells what
    results should be.
    """

    beyond_reference = False

    def __init__(self) -> None:
        self.layout = 0  # another number whenever a variable came to lie elsewhere
        self.tables: dict[int, dict[Any, Any]] = {}
        self._variables: dict[int, Array] = {}
        self._restless: set[int] = set()  # variables whose values changed their shape or type
        self._pending: dict[int, Array] = {}
        # where random generators stand, by the id of their options, which live as long as this
        self.generators: dict[int, Array] = {}
        self._handles: dict[tuple[Any, ...], int] = {}

    def handle(self, *name: Any) -> int:
        """The number of the resource of this name, the same for every node that asks."""
        return self._handles.setdefault(name, len(self._handles))

    def subgraph(self, number: int) -> SubgraphCall:
        """The subgraph of that number, to be called."""
        raise NotImplementedError

    def value(self, handle: int) -> Array | None:
        """What a variable holds; None before the first assignment."""
        return self._variables.get(handle)

    def memory(self, handle: int) -> Array | None:
        """A variable's memory, for kernels; None where it has none that stays.

        Who took it for a program must ask anew when `layout` is another number.
        """
        value = self._variables.get(handle)
        gone = value is None or value.dtype.hasobject or handle in self._restless
        return None if gone else value

    def assign(self, handle: int, value: Array) -> None:
        """Copy a value into a variable."""
        held = self._variables.get(handle)
        if held is not None and _fits(held, value):
            held[...] = value
            return
        if held is not None:
            self.unsettle(handle)
        self._variables[handle] = self.kept(value)
        if handle not in self._restless:
            self.move()

    def unsettle(self, handle: int) -> None:
        """A variable takes values of several shapes: it has no memory that stays."""
        if handle not in self._restless:
            self._restless.add(handle)
            self.move()

    def move(self) -> None:
        """Say that a variable came to lie elsewhere."""
        self.layout += 1

    def pending(self, number: int) -> Array:
        """One byte: 0 as soon as the subgraph of that number ran its only time."""
        if number not in self._pending:
            self._pending[number] = self.kept(np.ones(1, np.uint8))
        return self._pending[number]

    def kept(self, value: Array) -> Array:
        """A copy that outlives the run."""
        copy: Array = value.copy()
        return copy

    def snapshot(self) -> Any:
        """The state as it is now, for `restore`."""
        tables = {handle: dict(table) for handle, table in self.tables.items()}
        bytes_ = [{k: array.copy() for k, array in held.items()} for held in self._arrays()]
        return bytes_, tables

    def restore(self, snapshot: Any) -> None:
        """Take back what a failed run changed."""
        bytes_, self.tables = snapshot
        for held, before in zip(self._arrays(), bytes_, strict=True):
            for k in [k for k, array in held.items() if not _fits(array, before.get(k))]:
                del held[k]
                self.move()
            for k, array in before.items():
                held.setdefault(k, self.kept(array))[...] = array

    def _arrays(self) -> tuple[dict[int, Array], ...]:
        return self._variables, self._pending, self.generators


def _fits(held: Array, value: Array | None) -> bool:
    return value is not None and held.shape == value.shape and held.dtype == value.dtype
