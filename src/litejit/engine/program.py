"""Program: steps bound to addresses, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from litejit.engine import budget, native
from litejit.engine.steps import JumpStep, Lowered, NativeStep, Place, PythonStep
from litejit.errors import InvokeError, LitejitError, MemoryLimitError
from litejit.ops.base import Node
from litejit.types import Array

StepList: TypeAlias = "Sequence[NativeStep | JumpStep]"


class Program:
    """Runs all steps of a stretch of operators whose shapes are known.

    `views` are arrays on the tensors' memory; `results` holds the arrays of tensors whose
    shapes were found by the run. `print(program)` lists the steps.
    """

    __slots__ = ("__weakref__", "_lowered", "arena", "results", "run", "segments", "views")

    def __init__(
        self,
        segments: tuple[NativeCall | PythonCall, ...],
        views: dict[int, Array],
        arena: Array,
        lowered: Lowered | Callable[[Program], Lowered],
    ) -> None:
        self.segments, self.views, self.arena, self._lowered = segments, views, arena, lowered
        single = segments[0].run if len(segments) == 1 else None
        self.run: Callable[[], None] = single or partial(_run_all, segments)

    @property
    def lowered(self) -> Lowered:
        """The steps before they were bound; found now, where the Program came from disk."""
        if not isinstance(self._lowered, Lowered):
            self._lowered = self._lowered(self)
        return self._lowered

    @property
    def fails_unchanged(self) -> bool:
        """Has a run that fails changed no state?

        So it is where one run of kernels ends before anything interrupts it, and those that may
        refuse their data come before the first that changes state.
        """
        (first, *more) = self.segments or (None,)
        if more or not isinstance(first, NativeCall) or not first.native.is_short:
            return False
        may_have_changed = False
        for step in first.steps:
            if isinstance(step, NativeStep):
                op = step.node.op
                kinds = {place.kind for place in step.operands if isinstance(place, Place)}
                impure = not op.is_pure and not op.only_refuses
                may_have_changed = may_have_changed or impure or bool(op.mutates)
                if "status" in kinds and may_have_changed:
                    return False
        return True

    def __str__(self) -> str:
        lines = []
        for number, step in enumerate(self.lowered.steps):
            who = f"{number:4d} {step.node.who}"
            if isinstance(step, NativeStep):
                what = f"{step.spec!r} items={step.items} chunks={step.chunks}"
                lines.append(f"{who}: {what} cost={step.cost_ns / 1e3:.1f}us")
            elif isinstance(step, PythonStep):
                lines.append(f"{who}: NumPy")
            else:
                when = "" if step.flag is None else " where the condition is false"
                lines.append(f"{who}: go on with step {step.target}{when}")
        return "\n".join(lines)


def _run_all(segments: tuple[NativeCall | PythonCall, ...]) -> None:
    for segment in segments:
        segment.run()


class NativeCall:
    """A run of kernels, the nodes that they belong to, and the arrays that they work on."""

    __slots__ = ("_call", "_steps", "native", "views")

    def __init__(
        self,
        program: native.NativeProgram,
        steps: StepList | Callable[[], StepList],
        views: dict[int, Array],
    ) -> None:
        self.native, self._steps, self._call = program, steps, program.call
        self.views = views

    @property
    def steps(self) -> StepList:
        """What runs; found now, where the Program came from disk."""
        if callable(self._steps):
            self._steps = self._steps()
        return self._steps

    def run(self) -> None:
        """Run all kernels once; a refusal names the node whose kernel it was."""
        code = self._call()
        if code:
            self._finish(code)

    def _finish(self, code: int) -> None:
        try:
            self.native.settle(code)
        except InvokeError as error:
            refusal = self.native.status()
            if refusal is None:
                raise
            step = self.steps[refusal.step]
            raise node_failed(step.node, self._reason(step, str(error))) from error

    def _reason(self, step: NativeStep | JumpStep, otherwise: str) -> str:
        """Why a kernel refuses its data, in the words of the node's NumPy meaning."""
        if isinstance(step, NativeStep) and not step.is_inner:
            from litejit.engine.graph import run_reference

            try:
                run_reference(step.node, self.views)
            except LitejitError as reason:
                return str(reason)
        return otherwise


class PythonCall:
    """The NumPy meaning of a node, on the arrays of a Program."""

    __slots__ = ("_reference", "_renamed", "node", "views")

    def __init__(self, node: Node, views: dict[int, Array]) -> None:
        from litejit.engine.graph import run_reference

        self.node, self.views, self._reference = node, views, run_reference
        self._renamed = self._find_renamed()

    def _find_renamed(self) -> tuple[int, int] | None:
        """Numbers of two tensors, where the second is the first under a shape that is known."""
        node = self.node
        if not node.op.keeps_bytes or node.chain:
            return None
        x, y = node.input(0), node.output()
        plain = x.value is None and x.dtype == y.dtype and None not in (x.shape, y.shape)
        return (x.index, y.index) if plain else None

    def run(self) -> None:
        """Compute the node's outputs into their memory."""
        if self._renamed is not None:
            source, target = self._renamed
            y = self.views[target]
            y[...] = self.views[source].reshape(y.shape)
            return
        node = self.node
        try:
            with np.errstate(all="ignore"):
                results = self._reference(node, self.views)
        except LitejitError as error:
            raise node_failed(node, str(error), type(error)) from error
        except MemoryError as error:
            shortage = budget.out_of_memory(node.who, error)
            raise node_failed(node, str(shortage), MemoryLimitError) from error
        except Exception as error:
            what = f"{node.who}: {type(error).__name__}: {error}"
            raise node_failed(node, what) from error
        outputs = [t for t in node.outputs if t is not None]
        for tensor, result in zip(outputs, results, strict=False):
            if tensor.shape is None:
                self._check_size(result)
                self.views[tensor.index] = result
            else:
                self._write(tensor.index, result)

    def _check_size(self, result: Array) -> None:
        node = self.node
        what = f"{node.who}: result {np.shape(result)}"
        if max(np.shape(result), default=0) >= 1 << 31:  # files count in 32 bits, as LiteRT does
            raise node_failed(node, f"{what} has a dimension that no tensor can have")
        try:
            budget.check(np.asarray(result).nbytes, what)  # of a view, all that it stands for
        except MemoryLimitError as error:
            raise node_failed(node, str(error), MemoryLimitError) from error

    def _write(self, index: int, result: Array) -> None:
        view = self.views[index]
        if view.shape != np.shape(result):
            what = f"result has shape {np.shape(result)}, expected {view.shape}"
            raise node_failed(self.node, what)
        view[...] = result


def node_failed(node: Node, what: str, kind: type[LitejitError] = InvokeError) -> LitejitError:
    """The error of a node in a run, closed with LiteRT's words."""
    return kind(f"{what}\nNode number {node.index} ({node.name}) failed to invoke.")


def kernel_steps(program: Program | None) -> StepList:
    """The steps of a Program that consists of kernels alone."""
    assert program is not None
    return [step for step in program.lowered.steps if not isinstance(step, PythonStep)]
