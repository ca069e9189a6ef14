"""Session: what the nodes of one interpreter share, across subgraphs and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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

    A handle is a number; variables and tables are found by it.
    """

    def __init__(self) -> None:
        self.variables: dict[int, Array] = {}
        self.tables: dict[int, dict[Any, Any]] = {}
        self.done_once: set[int] = set()
        # where random generators stand, by the id of their options, which live as long as this
        self.generators: dict[int, tuple[int, int, int]] = {}
        self._handles: dict[tuple[Any, ...], int] = {}

    def handle(self, *name: Any) -> int:
        """The number of the resource of this name, the same for every node that asks."""
        return self._handles.setdefault(name, len(self._handles))

    def subgraph(self, number: int) -> SubgraphCall:
        """The subgraph of that number, to be called."""
        raise NotImplementedError

    def snapshot(self) -> Any:
        """The state as it is now, for `restore`."""
        tables = {handle: dict(table) for handle, table in self.tables.items()}
        return dict(self.variables), tables, set(self.done_once), dict(self.generators)

    def restore(self, snapshot: Any) -> None:
        """Take back what a failed run changed."""
        self.variables, self.tables, self.done_once, self.generators = snapshot
