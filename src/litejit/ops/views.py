"""Where elements lie in memory behind operators that only rename their places or repeat them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from litejit.model.options import Activation
from litejit.ops.base import Node
from litejit.ops.blocks import row_strides
from litejit.types import TensorType


def renames(link: Node) -> bool:
    """Does the result hold every element of input 0 once, in places that are known?"""
    if link.name != "TRANSPOSE" and not link.op.keeps_bytes:
        return False
    return _is_plain(link)


def repeats(link: Node) -> bool:
    """Is the result input 0, broadcast: by BROADCAST_TO, or by a product with ones?"""
    if link.name not in ("BROADCAST_TO", "MUL") or not _is_plain(link):
        return False
    clamped = link.name == "MUL" and link.options.activation != Activation.NONE
    return link.name == "BROADCAST_TO" or (not clamped and bool(np.all(link.input(1).value == 1)))


def _is_plain(link: Node) -> bool:
    x, y = link.input(0), link.output(0)
    known = all(t is None or t.value is not None for t in link.inputs[1:])
    return known and not link.chain and x.dtype == y.dtype and None not in (x.shape, y.shape)


def read_strides(
    tensor: TensorType, links: Sequence[Node], shape: Sequence[int], split: Sequence[int]
) -> list[int] | None:
    """Strides, in elements, of `tensor` in the memory of what it was made of by `links`.

    It is broadcast to `shape`, and that is seen as `split`. None where no strides tell the places.
    """
    dims = links[0].input(0).dims if links else tensor.dims
    strides = row_strides(dims, 1)
    for link in links:
        moved = _behind(link, dims, strides)
        if moved is None:
            return None
        dims, strides = link.output(0).dims, moved
    return _reshaped(shape, _repeated(dims, strides, shape), split)


def written_strides(
    tensor: TensorType, links: Sequence[Node], split: Sequence[int]
) -> list[int] | None:
    """Strides of `tensor`, seen as `split`, in the memory of what `links` make of it."""
    dims = links[-1].output(0).dims if links else tensor.dims
    strides = row_strides(dims, 1)
    for link in reversed(links):
        moved = _before(link, dims, strides)
        if moved is None:
            return None
        dims, strides = link.input(0).dims, moved
    return _reshaped(dims, strides, split)


def _behind(link: Node, dims: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    if link.name == "TRANSPOSE":
        return [strides[axis] for axis in _order(link)]
    change = _reshaped if link.op.keeps_bytes else _repeated
    return change(dims, strides, link.output(0).dims)


def _before(link: Node, dims: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    if link.name == "TRANSPOSE":
        order = _order(link)
        return [strides[order.index(axis)] for axis in range(len(order))]
    return _reshaped(dims, strides, link.input(0).dims)


def _order(link: Node) -> list[int]:
    rank = link.input(0).rank
    return [int(axis) % rank for axis in np.asarray(link.input(1).value).reshape(-1)]


def _repeated(dims: Sequence[int], strides: Sequence[int], to: Sequence[int]) -> list[int]:
    missing = len(to) - len(dims)
    pairs = zip((1,) * missing + tuple(dims), [0] * missing + list(strides), to, strict=True)
    return [step if m == n else 0 for m, step, n in pairs]


def _reshaped(dims: Sequence[int], strides: Sequence[int], to: Sequence[int]) -> list[int] | None:
    """The strides of another shape; any where no step is taken, along 1."""
    axes: list[tuple[int, int]] = []
    for n, step in zip(dims, strides, strict=True):
        if axes and axes[-1][1] == n * step:
            axes[-1] = axes[-1][0] * n, step
        elif n != 1:
            axes.append((n, step))
    made, room, step = [], 1, 1
    for n in reversed(to):
        if n != 1 and room == 1:
            room, step = axes.pop()
        if room % n:
            return None
        made.append(step if n != 1 else 1)
        room, step = room // n, step * n
    return made[::-1]
