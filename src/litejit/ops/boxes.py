"""Suppression of boxes that overlap better ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.types import Array

Candidate = tuple[int, Any, int]  # box, score (float32), first chosen box to compare with


class ScoreHeap:
    """A binary heap by score that orders equal scores as C++'s priority_queue happens to.

    Which of two equally good boxes is looked at first decides what is chosen, so the order is
    part of the result.
    """

    def __init__(self) -> None:
        self._items: list[Candidate] = []

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: Candidate) -> None:
        """Add a candidate."""
        self._items.append(item)
        self._rise(len(self._items) - 1, item)

    def pop(self) -> Candidate:
        """Take the candidate with the largest score."""
        items = self._items
        top, last = items[0], items.pop()
        if not items:
            return top
        hole, size = 0, len(items)
        child = 2
        while child < size:
            if items[child][1] < items[child - 1][1]:
                child -= 1
            items[hole] = items[child]
            hole, child = child, 2 * child + 2
        if child == size:  # a last left child without a sibling
            items[hole] = items[child - 1]
            hole = child - 1
        self._rise(hole, last)
        return top

    def _rise(self, hole: int, item: Candidate) -> None:
        items = self._items
        while hole > 0:
            parent = (hole - 1) // 2
            if not items[parent][1] < item[1]:
                break
            items[hole] = items[parent]
            hole = parent
        items[hole] = item


def corners_of(boxes: Array) -> Array:
    """Boxes (n, 4) of any two opposite corners as (y_min, x_min, y_max, x_max)."""
    first, second = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)


def overlaps(corners: Array, box: int, others: list[int]) -> Array:
    """Intersection over union of one box with others, in float32; 0 for empty boxes."""
    a, b = corners[box], corners[others]
    area = (a[2] - a[0]) * (a[3] - a[1])
    areas = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    sides = np.maximum(np.minimum(a[2:], b[:, 2:]) - np.maximum(a[:2], b[:, :2]), np.float32(0))
    inside = sides[:, 0] * sides[:, 1]
    empty = (area <= 0) | (areas <= 0)
    return np.asarray(np.where(empty, np.float32(0), inside / (area + areas - inside)))


def suppress(
    boxes: Array, scores: Array, most: int, *, overlap: Any, least: Any, sigma: Any
) -> list[tuple[int, Any]]:
    """Chosen boxes and their scores, at most `most`, in the order in which they are chosen.

    Only scores above `least` count; an overlap of at least `overlap` with a chosen box drops a
    box; sigma > 0 lowers the score by every overlap and queues the box again.
    """
    heap = ScoreHeap()
    for place in np.flatnonzero(scores > least).tolist():
        heap.push((place, scores[place], 0))
    most = min(most, len(heap))
    corners = corners_of(boxes)
    factor = np.float32(-0.5 / float(sigma)) if sigma > 0 else None
    chosen: list[tuple[int, Any]] = []
    with np.errstate(all="ignore"):
        while len(chosen) < most and len(heap):
            box, original, begin = heap.pop()
            others = [other for other, _ in chosen[begin:]]
            dropped, score = _lowered(
                original, overlaps(corners, box, others)[::-1], overlap, least, factor
            )
            queued = (box, score, len(chosen))
            if dropped:
                continue
            if score == original:
                chosen.append((box, score))
            if score > least:
                heap.push(queued)
    return chosen


def _lowered(score: Any, found: Array, overlap: Any, least: Any, factor: Any) -> tuple[bool, Any]:
    """(is dropped, score) of a box after its overlaps with the chosen ones, latest first."""
    if factor is None:
        return bool(np.any(found >= overlap)), score
    for value in found:
        if value >= overlap:
            return True, score
        score = score * np.exp(factor * value * value)
        if score <= least:
            break
    return False, score
