"""How long every operator took, as a table and as a Chrome trace."""

from __future__ import annotations

import os
from typing import Any

from litejit.engine.profile import StepTime, profile_program
from litejit.engine.runner import SubgraphRunner
from litejit.record import Record


class OperatorTime(Record):
    """All steps of one operator over the profiled calls: how often, and how long, in ns."""

    operator: int
    name: str
    what: str
    calls: int
    elapsed_ns: int


class Profile:
    """What `Predictor.profile` collects; `print(profile)` shows the table."""

    def __init__(self) -> None:
        self.steps: list[StepTime] = []
        self.calls = 0

    def run(self, runner: SubgraphRunner) -> None:
        """Run a graph once, step by step.

        Where shapes depend on data, or where the graph holds state, one more run comes before
        or is all that is timed.
        """
        self.calls += 1
        if runner.is_whole:
            self.steps += profile_program(runner.sections[0].program)
            return
        runner.invoke()
        if not runner.has_state:
            for section in runner.sections:
                self.steps += profile_program(section.program)

    @property
    def operators(self) -> list[OperatorTime]:
        """The operators, in order; fused ones stand with the first of them."""
        rows: dict[int, OperatorTime] = {}
        for step in self.steps:
            node = step.node
            name = "+".join(part.name for part in node.chain) or node.name
            old = rows.get(node.index)
            calls, elapsed = (old.calls, old.elapsed_ns) if old is not None else (0, 0)
            rows[node.index] = OperatorTime(
                node.index, name, step.what, calls + 1, elapsed + step.elapsed_ns
            )
        return [rows[index] for index in sorted(rows)]

    def __str__(self) -> str:
        total = sum(row.elapsed_ns for row in self.operators) or 1
        lines = [f"{'operator':>8}  {'us':>10}  {'%':>5}  name"]
        for row in self.operators:
            share, each = 100 * row.elapsed_ns / total, row.elapsed_ns / 1e3 / max(self.calls, 1)
            lines.append(f"{row.operator:8d}  {each:10.1f}  {share:5.1f}  {row.name}")
        return "\n".join(lines)

    def trace(self) -> dict[str, Any]:
        """The steps one after another, in the format of Chrome's about:tracing (times in us)."""
        events, begin = [], 0
        for step in self.steps:
            events.append({
                "name": step.node.name, "cat": "operator", "ph": "X", "pid": 1, "tid": 1,
                "ts": begin / 1e3, "dur": step.elapsed_ns / 1e3,
                "args": {"operator": step.node.index, "kernel": step.what},
            })  # fmt: skip
            begin += step.elapsed_ns
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the trace as JSON."""
        import json

        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.trace(), file)
