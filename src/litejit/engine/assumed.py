"""Programs for values that decide shapes: run again as a whole as long as the values return.

Where an operand that a run brings decides a shape (paddings, a number of repetitions, an axis), the
graph falls into sections, between which Python looks at what was found. Such operands seldom
change. So the graph is prepared once more with the values of a run as if they were constants, and
with nodes that look whether they are the same: that Program needs no Python. As soon as a value is
another one, the sections run and find the values of the next Program.

Some operators have no such operand, but kernels that refuse a run whose results have other shapes
than they were made for: then it is the shapes of a run's results that are taken for known.

Results come from such a Program whenever there is one for a run's values, in the first run with
them, too: they do not depend on what ran before. An operator may run twice in such a run, so graphs
with the user's own operators always run in sections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING
from weakref import proxy

from litejit.engine.prepare import Assumed, infer
from litejit.engine.rewrite import may_decide
from litejit.errors import InvokeError
from litejit.ops.base import Node
from litejit.types import Array, TensorType

if TYPE_CHECKING:
    from litejit.engine.runner import SubgraphRunner
    from litejit.engine.section import Section

MOST_PROGRAMS = 8  # after so many different values, the sections run
MOST_BYTES = 1 << 27  # of memory of Programs that wait for their values to return


class Assumptions:
    """The Programs of one runner by the values that they were made for."""

    def __init__(self, runner: SubgraphRunner) -> None:
        self._runner: SubgraphRunner = proxy(runner)  # which holds this: who drops it is rid of it
        self._current: Section | None = None
        self._fails_unchanged = False  # of the current Program
        self._assumed: dict[int, Assumed] = {}  # by the current Program
        self._made: dict[tuple[tuple[int, object], ...], Section] = {}
        self._count = 0  # of Programs that were made
        self._first = runner.sections[0]
        self._are_useful = runner.isa is not None and not runner.runs_foreign_code

    def run_unchanged(self) -> bool:
        """Run the graph, if that cannot fail or a failure changes no state; False: it did not run.

        Where nothing has to be taken back, nothing has to be saved.
        """
        if self._current is None or not self._fails_unchanged:
            return False
        try:
            self._current.program.run()
        except InvokeError:
            return False
        return True

    def run(self) -> None:
        """Run the graph once."""
        runner = self._runner
        before = runner.saved() if self._are_useful and runner.has_state else None
        if self._current is not None:
            try:
                self._current.program.run()
                return
            except InvokeError:
                if self._hold():
                    raise
            if before is not None:
                runner.restore(before)
            self._current = None
            runner.sections = [self._first]
        runner.run_sections()
        after = runner.saved() if before is not None else None  # preparing begins sequences anew
        section = self._find() if self._are_useful else None
        if section is None:
            if after is not None:
                runner.restore(after)
            return
        if before is not None:
            runner.restore(before)
        self._current, runner.sections = section, [section]
        self._fails_unchanged = section.program.fails_unchanged
        runner.types = section.graph.types
        section.program.run()

    def _hold(self) -> bool:
        """Is it certain that the run that just failed was one that its Program was made for?"""
        assert self._current is not None
        views = self._current.program.views
        return all(
            not isinstance(found, tuple) and views[i].tobytes() == found.tobytes()
            for i, found in self._assumed.items()
        )

    def _find(self) -> Section | None:
        """The Program for what the sections just found; None: give up."""
        assumed = self._observed() or {}
        key = tuple([
            (i, found if isinstance(found, tuple) else found.tobytes())
            for i, found in sorted(assumed.items(), key=lambda pair: pair[0])
        ])  # fmt: skip
        if assumed and key not in self._made and self._count < MOST_PROGRAMS:
            made = self._runner.assuming(assumed)
            if made is not None:
                self._made[key] = made
                self._count += 1
                if sum(s.program.arena.nbytes for s in self._made.values()) > MOST_BYTES:
                    self._made = {key: made}
        self._assumed, section = assumed, self._made.get(key)
        if section is None:
            self._are_useful = False
            self._made.clear()
        return section

    def _observed(self) -> dict[int, Assumed] | None:
        """The values that decided shapes in this run, or the shapes; None where others did."""
        found: dict[int, Assumed] = {}
        for section in self._runner.sections:
            for node in section.graph.nodes:
                if any(t is not None and t.shape is None for t in node.outputs):
                    decided = self._deciding(node, section.program.views)
                    if decided is None:
                        return None
                    found.update(decided)
        return found

    @staticmethod
    def _deciding(node: Node, views: dict[int, Array]) -> Mapping[int, Assumed] | None:
        """The fewest operands whose values tell the shapes of a node's results, or the shapes."""
        if node.op.called(node.options):
            return None
        if node.op.checks_shape:
            return {t.index: views[t.index].shape for t in node.outputs if t is not None}
        for tensors in _subsets(may_decide(node)):
            values = {t.index: views[t.index].copy() for t in tensors}
            known = [
                t if t is None or t.index not in values else t.with_value(values[t.index])
                for t in node.inputs
            ]
            try:
                results = infer(node.with_types(tuple(known), node.outputs)).outputs
            except Exception:  # noqa: S112 - a refusal: these values are no part of the question
                continue
            if all(t is None or t.shape is not None for t in results):
                return values
        return None


def _subsets(tensors: list[TensorType]) -> Iterator[tuple[TensorType, ...]]:
    """All choices of at least one tensor, small ones first."""
    for count in range(1, len(tensors) + 1):
        yield from combinations(tensors, count)
