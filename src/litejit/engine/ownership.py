"""Which results LiteRT gives memory of their own: it refuses to show those where they are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from litejit.engine.prepare import make_node
from litejit.errors import LitejitError
from litejit.ops.session import Session

if TYPE_CHECKING:
    from litejit.engine.prepare import ResolvedOperator
    from litejit.engine.runner import SubgraphRunner
    from litejit.types import TensorType


def owns_memory(runner: SubgraphRunner, index: int) -> bool:
    """Does tensor `index` follow from constants alone, or its operator find its shape in data?

    All other tensors lie in LiteRT's arena, which has no place for what is empty. The tensors
    have the shapes that they have now.
    """
    return _Before(runner).owns(index)


class _Before:
    """What an interpreter knows of a graph before a run, if it assumes nothing."""

    def __init__(self, runner: SubgraphRunner) -> None:
        self._runner = runner
        self._makers = {
            number: (position, resolved)
            for position, resolved in enumerate(runner.operators)
            for number in resolved.operator.outputs
        }
        self._known: dict[int, TensorType] = {}

    def owns(self, index: int) -> bool:
        """See `owns_memory`."""
        if index not in self._makers:
            return self._runner.types[index].is_constant
        position, resolved = self._makers[index]
        if resolved.op is not None and resolved.op.keeps_bytes:
            return False
        found = self._inferred(position, resolved, index)
        return found.shape is None or (found.is_constant and self._of_constants(resolved))

    def _of_constants(self, resolved: ResolvedOperator) -> bool:
        return all(self._type(i).is_constant for i in resolved.operator.inputs if i >= 0)

    def _type(self, index: int) -> TensorType:
        """The type of a tensor: its shape of now, and a value only where it is constant."""
        if index not in self._known:
            now = self._runner.types[index]
            maker = self._makers.get(index)
            if maker is not None and not self._inferred(*maker, index).is_constant:
                now = now.with_shape(now.shape)
            self._known[index] = now
        return self._known[index]

    def _inferred(self, position: int, resolved: ResolvedOperator, index: int) -> TensorType:
        """What a tensor's operator says of it; folded where its operands are constant."""
        now = self._runner.types[index]
        operands = {i: self._type(i) for i in resolved.operator.inputs if i >= 0}
        pure = resolved.op is not None and resolved.op.is_pure
        if pure and operands and all(operand.is_constant for operand in operands.values()):
            return now
        types = {**self._runner.types, **operands}
        calls = resolved.op is not None and resolved.op.called(resolved.options)
        session = self._runner.session if calls else Session()  # asking must not change state
        node = make_node(position, resolved, types, session)
        try:
            with np.errstate(all="ignore"):
                results = node.op.infer(node)
        except LitejitError:
            return now
        return next((found for found in results if found.index == index), now)
