"""Which bytes of the arena every tensor and scratch area takes."""

from __future__ import annotations

from collections.abc import Sequence

from litejit.record import Record

ALIGNMENT = 64
SLACK = 64  # kernels may read this far past the end of a tensor


class Request(Record):
    """A piece of memory that must be there from step `first` to step `last`, both included."""

    nbytes: int
    first: int
    last: int


class MemoryPlan(Record):
    """Offset of every request, and the size of the arena, all in bytes."""

    offsets: tuple[int, ...]
    arena_bytes: int


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to whole cache lines."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def plan_memory(requests: Sequence[Request]) -> MemoryPlan:
    """Largest first, each into the tightest gap between those it must not overlap."""
    offsets = [0] * len(requests)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted by offset
    top = 0
    order = sorted(range(len(requests)), key=lambda i: (-requests[i].nbytes, requests[i].first))
    for i in order:
        request = requests[i]
        size = aligned(request.nbytes)
        if size == 0:
            continue
        offset = _tightest_gap(placed, request, size)
        offsets[i] = offset
        placed.append((offset, offset + size, request.first, request.last))
        placed.sort()
        top = max(top, offset + size)
    return MemoryPlan(tuple(offsets), top + SLACK)


def _tightest_gap(placed: list[tuple[int, int, int, int]], request: Request, size: int) -> int:
    best, best_gap, end = -1, 0, 0
    for start, stop, first, last in placed:
        if last < request.first or first > request.last:
            continue
        gap = start - end
        if gap >= size and (best < 0 or gap < best_gap):
            best, best_gap = end, gap
        end = max(end, stop)
    return best if best >= 0 else end
