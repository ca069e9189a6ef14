"""Runs one node's lowering on fenced memory, without the engine."""

from __future__ import annotations

import ctypes

import numpy as np
from tests.kernels.harness import Fenced

from litejit.codegen import cache
from litejit.engine.constants import aligned_copy
from litejit.kernels.base import Pieces
from litejit.ops.base import Node

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
WORKERS = 2


class Address(int):
    """An operand: a number that knows how to move."""

    def at(self, offset_bytes):
        return Address(self + offset_bytes)


class RunningSteps:
    """A Lowering that runs each call at once, in pieces, by two pretended threads."""

    def __init__(self, isa, inputs, outputs):
        self.isa = isa
        self.fences = []
        self.inputs = tuple(None if a is None else self._fenced(a) for a in inputs)
        self.results = [Fenced(a) for a in outputs]
        self.fences += self.results
        self.outputs = tuple(Address(f.address) for f in self.results)
        self.calls = 0
        self.names = {}

    def _fenced(self, array):
        self.fences.append(Fenced(array))
        return Address(self.fences[-1].address)

    def constant(self, name, make):
        made = make()
        array = aligned_copy(made) if isinstance(made, Pieces) else np.asarray(made)
        known = self.names.setdefault(name, array)
        assert np.array_equal(known, array), f"two constants are named {name!r}"
        return self._fenced(array)

    def temporary(self, nbytes):
        return self._fenced(np.zeros(nbytes, np.uint8))

    def shared(self, position, name, make):
        return make()

    def scratch(self, nbytes):
        return self._fenced(np.zeros(-(-nbytes // 64) * 64 * WORKERS, np.uint8))

    def call(self, spec, *operands, items, cost_ns, grain=1):
        assert cost_ns > 0
        self.calls += 1
        slots = np.array([0 if isinstance(o, float) else int(o) for o in operands], np.int64)
        for slot, operand in enumerate(operands):
            if isinstance(operand, float):
                slots[slot : slot + 1].view(np.float32)[0] = operand
        kernel = _KERNEL(cache.addresses([spec], self.isa)[spec])
        edges = sorted({0, items // 3, items // 2, items})
        for j, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):
            kernel(slots.ctypes.data, begin, end, j % WORKERS)
        for fence in self.fences:
            fence.check()


def run_lowered(node: Node, isa, arrays):
    """(outputs, number of kernel calls) of `node.op.lower` for the input arrays."""
    outputs = [np.zeros(t.dims, t.dtype.numpy) for t in node.outputs]
    steps = RunningSteps(isa, arrays, outputs)
    node.op.lower(node, steps)
    return [fence.array for fence in steps.results], steps.calls
