"""Shapes that meet in one operation, and the loops that walk them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from litejit.ops.base import Node
from litejit.record import Record

MAX_RANK = 8  # LiteRT's loops end here
_MOST_VECTORS = 8  # that hold a short operand, over and over, in registers

Shape = tuple[int, ...]


def broadcast_shape(node: Node, *shapes: Shape) -> Shape:
    """The shape that all `shapes` stretch to: trailing dimensions are equal or 1 (0 beats 1).

    Raises PrepareError where they do not fit, or differ and have more than eight dimensions.
    """
    if all(shape == shapes[0] for shape in shapes):
        return tuple(shapes[0]) if shapes else ()
    rank = max((len(shape) for shape in shapes), default=0)
    node.require(rank <= MAX_RANK, f"inputs have rank {rank}, at most {MAX_RANK} is possible")
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        other = {n for n in sizes if n != 1}
        if len(other) > 1:
            names = " and ".join(str(tuple(shape)) for shape in shapes)
            node.require(False, f"shapes {names} cannot be broadcast to one")
        result.append(other.pop() if other else 1)
    return tuple(result)


class Walk(Record):
    """A broadcast as loops: `outer` sizes, then one `inner` run of elements.

    `strides[k]` holds operand k's step in elements along every outer dimension and then along
    the run (there 0 or 1). Dimensions that all operands cross alike are merged.
    """

    outer: tuple[int, ...]
    inner: int
    strides: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> int:
        """How many runs there are."""
        return math.prod(self.outer)

    def flattened(self, lanes: int) -> Walk:
        """Short runs of vectors of `lanes`, one after the other, as one; else the same.

        An operand that stays while others cross the old run then steps by -run, one that crosses
        it anew each time by run: what `litejit.kernels.walk.WalkSpec` calls its moves.
        """
        run = self.inner
        vectors = math.lcm(run, lanes) // lanes
        if not self.outer or run > 4 * lanes or vectors > _MOST_VECTORS:
            return self
        move = {(True, True): 1, (True, False): -run, (False, True): run, (False, False): 0}
        strides = tuple((*own[:-2], move[own[-2] != 0, own[-1] != 0]) for own in self.strides)
        return Walk(self.outer[:-1], self.outer[-1] * run, strides)


def walk(result: Shape, shapes: Sequence[Shape]) -> Walk:
    """Merge the dimensions of a broadcast whose result is not empty."""
    rank = len(result)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in shapes]  # 1: moves with the dimension, 0: stays
    for axis in range(rank):
        if result[axis] == 1:
            continue
        moves = [int(shape[axis] != 1) for shape in padded]
        if sizes and all(own[-1] == move for own, move in zip(steps, moves, strict=True)):
            sizes[-1] *= result[axis]
            continue
        sizes.append(result[axis])
        for own, move in zip(steps, moves, strict=True):
            own.append(move)
    if not sizes:
        return Walk((), 1, tuple((int(math.prod(s) == 1),) for s in shapes))
    strides = []
    for own in steps:
        size, row = 1, [0] * len(sizes)
        for axis in reversed(range(len(sizes))):
            row[axis] = size if own[axis] else 0
            size *= sizes[axis] if own[axis] else 1
        strides.append(tuple(row))
    return Walk(tuple(sizes[:-1]), sizes[-1], tuple(strides))
