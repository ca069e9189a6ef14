"""Subgraphs that operators call: as functions of arrays, prepared anew when shapes change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from litejit.engine.constants import aligned_copy
from litejit.errors import PrepareError
from litejit.ops.session import Session, SubgraphCall
from litejit.types import Array, TensorType

if TYPE_CHECKING:
    from litejit.engine.prepare import ResolvedOperator
    from litejit.engine.runner import SubgraphRunner

MOST_NESTED = 40  # Python's stack must hold the calls of a run
# Calls are prepared, and made part of their caller, each for itself: 30 subgraphs that call the
# next one twice would be a thousand million.
MOST_WAYS = 1000


class EngineSession(Session):
    """A Session whose subgraphs are runners, made when they are first called.

    `operators` gives those of every subgraph.
    """

    def __init__(
        self,
        make_runner: Callable[[int, EngineSession], SubgraphRunner],
        operators: Callable[[], Sequence[Sequence[ResolvedOperator]]],
    ) -> None:
        super().__init__()
        self._make_runner, self._operators = make_runner, operators
        self._is_checked = False
        self._calls: dict[int, RunnerCall] = {}
        self.runners: WeakSet[SubgraphRunner] = WeakSet()  # those that have Programs

    def check(self) -> None:
        """Refuse subgraphs that call each other wrongly; a file's calls are looked at once."""
        if not self._is_checked:
            check_calls(self._operators())
            self._is_checked = True

    def subgraph(self, number: int) -> SubgraphCall:
        """The subgraph of that number; all callers share its memory."""
        if number not in self._calls:
            self._calls[number] = RunnerCall(self._make_runner(number, self))
        return self._calls[number]

    def move(self) -> None:
        """Say that a variable came to lie elsewhere: Programs are to be made anew."""
        super().move()
        for runner in self.runners:
            runner.is_plain = False

    def kept(self, value: Array) -> Array:
        """A copy that outlives the run, and that kernels may read."""
        return aligned_copy(value)

    def snapshot(self) -> Any:
        """The state as it is now, that of called subgraphs too, for `restore`."""
        called = [call.runner.state for call in self._calls.values()]
        return super().snapshot(), [(state, state.save()) for state in called if state.arrays]

    def restore(self, snapshot: Any) -> None:
        """Take back what a failed run changed."""
        own, called = snapshot
        super().restore(own)
        for state, before in called:
            state.restore(before)


class RunnerCall:
    """A SubgraphRunner as a function."""

    __slots__ = ("operators", "runner")

    def __init__(self, runner: SubgraphRunner) -> None:
        self.runner = runner
        runner.is_called = True
        self.operators = tuple(resolved.name for resolved in runner.operators)

    def infer(self, inputs: Sequence[TensorType]) -> list[TensorType]:
        """Prepare for operands of these types, and tell the types of the results."""
        runner, numbers = self.runner, self.runner.subgraph.inputs
        if len(inputs) != len(numbers):
            raise PrepareError(
                f"subgraph {runner.subgraph.name!r} takes {len(numbers)} operands, "
                f"got {len(inputs)}"
            )
        for number, given in zip(numbers, inputs, strict=True):
            wanted = runner.types[number]
            if wanted.dtype.name != given.dtype.name:
                raise PrepareError(
                    f"subgraph {runner.subgraph.name!r} takes {wanted.dtype} as tensor {number}, "
                    f"got {given.dtype}"
                )
            self._resize(number, given.dims)
        runner.prepare()
        return [runner.types[number] for number in runner.subgraph.outputs]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the subgraph on copies of `inputs`; returns copies of its results."""
        runner, numbers = self.runner, self.runner.subgraph.inputs
        for number, array in zip(numbers, inputs, strict=True):
            self._resize(number, np.shape(array))
        runner.allocate()
        for number, array in zip(numbers, inputs, strict=True):
            memory = runner.array(number)
            if memory is not None and not runner.types[number].is_constant:
                memory[...] = array
        runner.run_sections()
        results = [runner.array(number) for number in runner.subgraph.outputs]
        return [np.empty(0, np.uint8) if array is None else array.copy() for array in results]

    def _resize(self, number: int, shape: tuple[int, ...]) -> None:
        tensor = self.runner.types[number]
        if tensor.shape != shape and not tensor.is_constant:
            self.runner.resize(number, shape)


def check_calls(operators: Sequence[Sequence[ResolvedOperator]]) -> None:
    """Refuse calls of subgraphs that do not exist, cycles, and calls nested too deeply.

    `operators` are those of every subgraph.
    """
    called = [
        [number for resolved in graph if resolved.op is not None
         for number in resolved.op.called(resolved.options)]
        for graph in operators
    ]  # fmt: skip
    for caller, numbers in enumerate(called):
        for number in numbers:
            if not 0 <= number < len(operators):
                raise PrepareError(
                    f"subgraph {caller} calls subgraph {number}; the model has {len(operators)}"
                )
    depth, ways = _calls_below(called)
    if max(depth, default=0) > MOST_NESTED:
        raise PrepareError(
            f"subgraphs call each other {max(depth)} deep, at most {MOST_NESTED} can be run"
        )
    most = MOST_WAYS + 4 * sum(map(len, called))
    if sum(ways) > most:
        raise PrepareError(
            f"subgraphs call each other in {sum(ways)} ways or more, at most {most} can be prepared"
        )


def _calls_below(called: list[list[int]]) -> tuple[list[int], list[int]]:
    """How deep every subgraph lies below one that nobody calls, and in how many ways it is reached.

    Walks without recursion: a model may nest calls as deeply as it likes.
    """
    callers = [0] * len(called)  # calls of a subgraph that were not looked at yet
    for numbers in called:
        for number in numbers:
            callers[number] += 1
    ready = [number for number, count in enumerate(callers) if not count]
    depth, ways = [0] * len(called), [0] * len(called)
    for number in ready:
        ways[number] = 1
    seen = 0
    while ready:
        caller = ready.pop()
        seen += 1
        for number in called[caller]:
            depth[number] = max(depth[number], depth[caller] + 1)
            ways[number] = min(ways[number] + ways[caller], 1 << 30)
            callers[number] -= 1
            if not callers[number]:
                ready.append(number)
    if seen < len(called):
        loop = next(number for number, count in enumerate(callers) if count)
        raise PrepareError(f"subgraph {loop} calls itself, directly or through others")
    return depth, ways
