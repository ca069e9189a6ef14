"""Resolved operators -> the same with others in the place of some that say it in many words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litejit.engine.prepare import ResolvedOperator
from litejit.model import Operator
from litejit.record import replace
from litejit.types import Array, DType, TensorType


def simplify(
    operators: list[ResolvedOperator], types: Callable[[], dict[int, TensorType]]
) -> list[ResolvedOperator]:
    """Ask every Op whether it stands for a simpler one; the others become unread, and vanish."""
    around = _Around(operators, types)
    return [_simplified(resolved, around) for resolved in operators]


def _simplified(resolved: ResolvedOperator, around: _Around) -> ResolvedOperator:
    found = None
    if resolved.op is not None:
        found = resolved.op.stands_for(resolved.operator, resolved.options, around)
    if found is None:
        return resolved
    op, inputs = found
    operator = replace(resolved.operator, inputs=inputs)
    simple: ResolvedOperator = replace(resolved, op=op, operator=operator, options=None)
    return simple


class _Around:
    """What an Op may ask about the operators before it: see litejit.ops.base.Surroundings."""

    def __init__(
        self, operators: list[ResolvedOperator], types: Callable[[], dict[int, TensorType]]
    ) -> None:
        self._made = {index: r for r in operators for index in r.operator.outputs}
        self._types = types
        self._known: dict[int, TensorType] | None = None

    def producer(self, index: int) -> tuple[str, Operator | None, Any]:
        """Name, operator and options that make a tensor."""
        found = self._made.get(index)
        return ("", None, None) if found is None else (found.name, found.operator, found.options)

    def dtype(self, index: int) -> DType | None:
        """A tensor's element type."""
        tensor = self._tensor(index)
        return None if tensor is None else tensor.dtype

    def constant(self, index: int) -> Array | None:
        """The value of a tensor that the file holds."""
        tensor = self._tensor(index)
        return None if tensor is None else tensor.value

    def _tensor(self, index: int) -> TensorType | None:
        if self._known is None:
            self._known = self._types()
        return self._known.get(index)
