"""A tensor that has to hold one value: the condition of a Program that was made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.ops.base import Arrays, Node, Op, Types
from litejit.record import Record

if TYPE_CHECKING:
    from litejit.ops.base import Lowering
    from litejit.ops.session import Session
    from litejit.types import Array, TensorType


class ExpectedOptions(Record):
    """The value, byte for byte."""

    value: Array

    __hash__ = object.__hash__


class Expected(Op):
    """Refuses a run in which input 0 holds other bytes than the options' value; no result."""

    results = (0, 0)
    is_pure = False
    only_refuses = True

    def infer(self, node: Node) -> Types:
        return []

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        same = np.asarray(inputs[0]).tobytes() == node.options.value.tobytes()
        node.check(same, "the tensor holds another value than the Program was made for")
        return ()

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.copy import SameSpec
        from litejit.ops.blocks import input_of

        value = np.ascontiguousarray(node.options.value)
        wanted = steps.constant(f"value {value.tobytes().hex()}", lambda: value)
        spec, size = SameSpec(value.dtype.itemsize), value.size
        steps.call(spec, input_of(steps, 0), wanted, steps.status, size, items=1, cost_ns=5 + size)


EXPECTED = Expected()


def expected_node(tensor: TensorType, value: Array, session: Session) -> Node:
    """The node that looks whether `tensor` holds `value`; its number is like no operator's."""
    options = ExpectedOptions(value)
    return Node(EXPECTED, "EXPECTED", -1 - tensor.index, 1, options, (tensor,), (), session=session)
