"""How long every step of a run takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from litejit.engine.program import NativeCall, Program
from litejit.engine.steps import JumpStep, NativeStep
from litejit.ops.base import Node
from litejit.record import Record

if TYPE_CHECKING:
    from litejit.engine.runner import SubgraphRunner


class StepTime(Record):
    """One step of one run: its node, what ran (a kernel's spec, or NumPy), and how long."""

    node: Node
    what: str
    elapsed_ns: int


def profile(runner: SubgraphRunner) -> list[StepTime]:
    """Run the graph once, step by step, and time the steps."""
    runner.invoke()  # finds the sections that these inputs lead through
    return [step for section in runner.sections for step in profile_program(section.program)]


def profile_program(program: Program) -> list[StepTime]:
    """Run one Program once, step by step."""
    result = []
    for segment in program.segments:
        if isinstance(segment, NativeCall):
            times = segment.native.run_profiled()
            for step, elapsed_ns in zip(segment.steps, times, strict=True):
                result.append(StepTime(step.node, describe(step), elapsed_ns))
            continue
        begin = time.perf_counter_ns()
        segment.run()
        result.append(StepTime(segment.node, "NumPy", time.perf_counter_ns() - begin))
    return result


def describe(step: NativeStep | JumpStep) -> str:
    """A step's kernel in a few words."""
    return repr(step.spec) if isinstance(step, NativeStep) else f"jump to {step.target}"
