"""Lowerings that only litejit.micro needs."""

from __future__ import annotations

import numpy as np

from litejit.errors import InvokeError
from litejit.kernels.lookup16 import CODES, Lookup16Spec
from litejit.ops.base import Lowering, Node
from litejit.types import Array

_LEAST = -(CODES // 2)


def table16(node: Node, steps: Lowering) -> None:
    """An elementwise operator from int16 to int16 as a table of all its values.

    Where the operator refuses codes, they are those below its zero point.
    """
    x, y = steps.inputs[0], steps.outputs[0]
    size = node.output(0).size
    if x is None or not size:
        return
    codes, least = np.arange(_LEAST, -_LEAST), _LEAST
    values = _values(node, codes)
    if values is None:
        least = node.input(0).zero_point
        values = _values(node, np.maximum(codes, least))
    if values is None:
        return
    content: Array = np.ascontiguousarray(values, np.int16)
    table = steps.constant("int16 values", lambda: content)
    steps.may_share(0, 0)
    steps.call(
        Lookup16Spec(), x, y, table, steps.status, least, items=size, cost_ns=20 + size * 0.7,
        grain=1024,
    )  # fmt: skip


def _values(node: Node, codes: Array) -> Array | None:
    try:
        found: Array = np.asarray(node.op.reference(node, codes.astype(np.int16)))
    except InvokeError:
        return None
    return found
