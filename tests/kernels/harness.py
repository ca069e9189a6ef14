"""Runs one kernel on fenced copies of its operands."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from litejit.codegen import cache, isa

FENCE = 256
POISON = 0xA5
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
HOST_ISAS = isa.host_isas()


class Fenced:
    """A 64-byte aligned copy of an array between guard zones that nobody may write."""

    def __init__(self, array: np.ndarray) -> None:
        array = np.asarray(array)
        self.raw = np.full(array.nbytes + 2 * FENCE + 64, POISON, np.uint8)
        self.start = FENCE + (-(self.raw.ctypes.data + FENCE)) % 64
        self.stop = self.start + array.nbytes
        self.array = self.raw[self.start : self.stop].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    @property
    def address(self) -> int:
        return self.raw.ctypes.data + self.start

    def check(self) -> None:
        outside = np.r_[self.raw[: self.start], self.raw[self.stop :]]
        assert (outside == POISON).all(), "a kernel wrote outside its buffer"


def run(
    spec: Any, *operands: Any, items: int, isa: Any = None, cuts: tuple[int, ...] = ()
) -> list[np.ndarray]:
    """Run `spec` over [0, items), cut at `cuts`; returns the array operands as it left them."""
    isa = isa or HOST_ISAS[0]
    kernel = _KERNEL(cache.addresses([spec], isa)[spec])
    slots = np.zeros(max(len(operands), 1), np.int64)
    fenced: list[Fenced] = []
    for j, operand in enumerate(operands):
        if isinstance(operand, np.ndarray):
            fenced.append(Fenced(operand))
            slots[j] = fenced[-1].address
        elif isinstance(operand, float):
            slots[j : j + 1].view(np.float32)[0] = operand
        else:
            slots[j] = operand
    edges = [0, *cuts, items]
    for begin, end in zip(edges, edges[1:], strict=False):
        kernel(slots.ctypes.data, begin, end, 0)
    for buffer in fenced:
        buffer.check()
    return [buffer.array for buffer in fenced]
