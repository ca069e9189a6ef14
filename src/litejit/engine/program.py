"""Program: steps bound to addresses, ready to run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from litejit.engine.graph import run_reference
from litejit.engine.lower import Lowered, NativeStep
from litejit.errors import InvokeError, LitejitError
from litejit.ops.base import Node
from litejit.types import Array


class Program:
    """Runs all steps of a stretch of operators whose shapes are known.

    `views` are arrays on the tensors' memory; `results` holds the arrays of tensors whose
    shapes were found by the run. `print(program)` lists the steps.
    """

    __slots__ = ("arena", "lowered", "results", "run", "segments", "views")

    def __init__(
        self,
        segments: tuple[Callable[[], None], ...],
        views: dict[int, Array],
        arena: Array,
        lowered: Lowered,
    ) -> None:
        self.segments, self.views, self.arena, self.lowered = segments, views, arena, lowered
        self.run = segments[0] if len(segments) == 1 else self._run_all

    def _run_all(self) -> None:
        for segment in self.segments:
            segment()

    def __str__(self) -> str:
        lines = []
        for number, step in enumerate(self.lowered.steps):
            who = f"{number:4d} {step.node.name} (operator {step.node.index})"
            if isinstance(step, NativeStep):
                what = f"{step.spec!r} items={step.items} chunks={step.chunks}"
                lines.append(f"{who}: {what} cost={step.cost_ns / 1e3:.1f}us")
            else:
                lines.append(f"{who}: NumPy")
        return "\n".join(lines)


class PythonCall:
    """The NumPy meaning of a node, on the arrays of a Program."""

    __slots__ = ("node", "views")

    def __init__(self, node: Node, views: dict[int, Array]) -> None:
        self.node, self.views = node, views

    def __call__(self) -> None:
        """Compute the node's outputs into their memory."""
        node = self.node
        try:
            with np.errstate(all="ignore"):
                results = run_reference(node, self.views)
        except LitejitError as error:
            suffix = f"\nNode number {node.index} ({node.name}) failed to invoke."
            raise type(error)(f"{error}{suffix}") from error
        except MemoryError:
            raise
        except Exception as error:
            what = f"{node.name} (operator {node.index}): {type(error).__name__}: {error}"
            suffix = f"\nNode number {node.index} ({node.name}) failed to invoke."
            raise InvokeError(what + suffix) from error
        outputs = [t for t in node.outputs if t is not None]
        for tensor, result in zip(outputs, results, strict=False):
            if tensor.shape is None:
                self.views[tensor.index] = result
            else:
                self._write(tensor.index, result)

    def _write(self, index: int, result: Array) -> None:
        view = self.views[index]
        if view.shape != np.shape(result):
            node = self.node
            raise InvokeError(
                f"{node.name} (operator {node.index}): result has shape {np.shape(result)}, "
                f"expected {view.shape}\nNode number {node.index} ({node.name}) failed to invoke."
            )
        view[...] = result
