"""Nodes whose operands have numbers of their own, and what compiled kernels make of them."""

from __future__ import annotations

import numpy as np
from tests.ops.layers import layer
from tests.ops.lowered import run_lowered

from litejit.record import replace


def numbered(name, types, arrays, out, **options):
    """As `layer`, with constants behind the first input and tensors numbered in order."""
    constant = options.pop("constant", tuple(range(1, len(arrays))))
    node = layer(name, types, arrays, out, constant=constant, **options)
    inputs = tuple(None if t is None else replace(t, index=k) for k, t in enumerate(node.inputs))
    outputs = tuple(replace(t, index=100 + k) for k, t in enumerate(node.outputs))
    return node.with_types(inputs, outputs)


def both(node, arrays, isa):
    """(what NumPy makes, what kernels make) of the first output."""
    want = node.op.reference(node, *arrays)
    got, calls = run_lowered(node, isa, arrays)
    assert calls > 0, "no kernel was asked for"
    return np.asarray(want), got[0]
