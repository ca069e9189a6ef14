"""Section: operators whose shapes are known when the first of them begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from litejit.types import Array

if TYPE_CHECKING:
    from litejit.engine.graph import Graph
    from litejit.engine.program import Program


class Section:
    """A stretch of operators whose shapes are known when it begins, ready to run.

    `following` holds the sections that ran after this one, by the shapes that it found. Where
    the Program came from disk, the graph is made when somebody asks for it.
    """

    __slots__ = ("_graph", "_link", "_program", "following", "readable")

    def __init__(
        self,
        graph: Graph | Callable[[], Graph],
        link: Callable[[], Program],
        readable: frozenset[int] | None = None,
    ) -> None:
        self._graph, self._link = graph, link
        self._program: Program | None = None
        self.readable = readable or self.graph.keep | set(self.graph.inputs)
        self.following: dict[tuple[Any, ...], Section] = {}

    @property
    def graph(self) -> Graph:
        """The nodes and the types of all tensors."""
        if callable(self._graph):
            self._graph = self._graph()
        return self._graph

    @property
    def nbytes(self) -> int:
        """Bytes of the Program's arena; 0 before it is made."""
        return 0 if self._program is None else self._program.arena.nbytes

    @property
    def program(self) -> Program:
        """The Program; made when it is first asked for."""
        if self._program is None:
            self._program = self._link()
        return self._program


def find_value(sections: list[Section], index: int) -> Array | None:
    """A tensor's memory in the last section that has it; None where none does."""
    for section in reversed(sections):
        if index in section.readable and index in section.program.views:
            return section.program.views[index]
    return None
