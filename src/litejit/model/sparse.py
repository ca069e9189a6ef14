"""Sparse constants: stored values and their places -> the dense array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from litejit.errors import ModelError
from litejit.model.model import DimensionMetadata, Sparsity

_Array = NDArray[Any]


def densify(values: _Array, shape: tuple[int, ...], sparsity: Sparsity, where: str) -> _Array:
    """Return the dense array of `shape` whose stored values are `values` (1-D, in file order).

    A level of the traversal is a dimension of the tensor, or a block inside one: it enumerates
    all of its indices (dense) or lists some for every index of the level outside (compressed).
    Raises ModelError where the levels contradict the shape or each other.
    """
    order, blocks = sparsity.traversal_order, sparsity.block_map or ()
    rank = len(shape)
    levels = len(sparsity.dim_metadata)
    good = levels == len(order) == rank + len(blocks) and sorted(order) == list(range(levels))
    if not good or any(not 0 <= axis < rank for axis in blocks):
        raise ModelError(f"{where}: its sparsity names dimensions that do not exist")
    position = np.zeros(1, np.int64)
    index = [np.zeros(1, np.int64) for _ in range(levels)]
    for dimension, metadata in zip(order, sparsity.dim_metadata, strict=True):
        limit = math.prod(shape)
        parent, position, found = _next_level(position, metadata, limit, where)
        index = [known[parent] for known in index]
        index[dimension] = found
    sizes = {order[k]: sparsity.dim_metadata[k].dense_size for k in range(levels)}
    for number, axis in enumerate(blocks):
        index[axis] = index[axis] * sizes[rank + number] + index[rank + number]
    place = index[:rank]
    inside = all(((i >= 0) & (i < n)).all() for i, n in zip(place, shape, strict=True))
    if not inside or position.max(initial=-1) >= values.size:
        raise ModelError(f"{where}: its sparsity points outside of shape {shape}")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(place)] = values.ravel()[position]
    return dense


def _next_level(
    position: _Array, metadata: DimensionMetadata, limit: int, where: str
) -> tuple[_Array, _Array, _Array]:
    """Parents (numbers in `position`), positions and indices of one level."""
    if metadata.format == 0:
        size = metadata.dense_size
        if size < 0 or len(position) * size > limit:
            raise ModelError(f"{where}: a dimension of its sparsity has size {size}")
        parent = np.repeat(np.arange(len(position)), size)
        found = np.tile(np.arange(size, dtype=np.int64), len(position))
        return parent, position[parent] * size + found, found
    if metadata.segments is None or metadata.indices is None:
        raise ModelError(f"{where}: a compressed dimension has no segments or indices")
    segments = metadata.segments.astype(np.int64)
    indices = metadata.indices.astype(np.int64)
    if position.max(initial=-1) + 1 >= len(segments):
        raise ModelError(f"{where}: a compressed dimension has {len(segments)} segments, too few")
    begin, count = segments[position], segments[position + 1] - segments[position]
    total = int(count.sum())
    if (count < 0).any() or (begin < 0).any() or total > limit:
        raise ModelError(f"{where}: the segments of a compressed dimension do not ascend")
    parent = np.repeat(np.arange(len(position)), count)
    start = np.repeat(begin - (np.cumsum(count) - count), count)
    entry = start + np.arange(total)
    if entry.max(initial=-1) >= len(indices):
        raise ModelError(f"{where}: a compressed dimension has {len(indices)} indices, too few")
    return parent, entry, indices[entry]
