"""STABLEHLO_GATHER, STABLEHLO_SCATTER and STABLEHLO_PAD, and DILATE."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.model.options.conv import DilateOptions
from litejit.model.options.stablehlo import (
    StablehloGatherOptions,
    StablehloPadOptions,
    StablehloScatterOptions,
)
from litejit.ops.base import Arrays, Node, Op, Types, builtin
from litejit.ops.control import call_of
from litejit.ops.indexing import made
from litejit.types import (
    BF16,
    BOOL,
    C64,
    C128,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Array,
    TensorType,
)

_NUMBERS = (F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL)
_WHOLE = (*_NUMBERS, BF16, C64, C128)  # types whose elements are whole bytes
MOST_PAD_DIMENSIONS = 8


def _require_axes(node: Node, axes: tuple[int, ...], rank: int, what: str) -> None:
    """Refuse axes that repeat, or that a tensor of this rank does not have."""
    ok = len(set(axes)) == len(axes) and all(0 <= axis < rank for axis in axes)
    node.require(ok, f"{what} {axes} are not different axes of rank {rank}")


def _require_indices(node: Node, indices: TensorType, depth: int, axis: int) -> tuple[int, ...]:
    """Check index vectors of `depth` elements along `axis`; the sizes of the other axes."""
    node.require_dtype(indices, (I32, I64), "indices")
    ok = 0 <= axis <= indices.rank
    node.require(ok, f"index_vector_dim {axis} is out of range for indices {indices.dims}")
    found = 1 if axis == indices.rank else indices.dims[axis]
    node.require(found == depth, f"index vectors have {found} elements, expected {depth}")
    return tuple(n for k, n in enumerate(indices.dims) if k != axis)


def _starts(indices: Array, axis: int, places: tuple[int, ...], rank: int) -> Array:
    """Index vectors with their elements at the axes `places` of `rank`, int64 [..., rank]."""
    vectors = indices[..., None] if axis == indices.ndim else np.moveaxis(indices, axis, -1)
    result = np.zeros((*vectors.shape[:-1], rank), np.int64)
    result[..., list(places)] = vectors
    return result


def _offsets(position: int, size: int, rank: int) -> Array:
    """0, 1 ... size - 1 along axis `position` of `rank` axes."""
    shape = [1] * rank
    shape[position] = size
    return np.arange(size, dtype=np.int64).reshape(shape)


@builtin("STABLEHLO_GATHER")
class Gather(Op):
    """Slices of x that start at index vectors; a start is moved so that its slice fits.

    Axes of y named in offset_dims run over a slice, the others over the index vectors.
    Source: StableHLO specification, gather; LiteRT tflite/kernels/stablehlo_gather.cc.
    """

    options = StablehloGatherOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, indices, o = node.input(0), node.input(1), node.options
        node.require_dtype(x, _WHOLE, "operand")
        sizes, rank = tuple(o.slice_sizes), x.rank
        _require_axes(node, o.start_index_map, rank, "start_index_map")
        _require_axes(node, o.collapsed_slice_dims, rank, "collapsed_slice_dims")
        batch = _require_indices(node, indices, len(o.start_index_map), o.index_vector_dim)
        fits = len(sizes) == rank and all(
            0 <= n <= limit for n, limit in zip(sizes, x.dims, strict=True)
        )
        node.require(fits, f"slices of {sizes} do not fit into {x.dims}")
        ones = all(sizes[axis] == 1 for axis in o.collapsed_slice_dims)
        node.require(ones, f"collapsed axes of slices {sizes} are not of size 1")
        window = [n for axis, n in enumerate(sizes) if axis not in o.collapsed_slice_dims]
        total = len(batch) + len(window)
        _require_axes(node, o.offset_dims, total, "offset_dims")
        same = len(o.offset_dims) == len(window)
        node.require(same, f"offset_dims {o.offset_dims} do not name {len(window)} axes")
        outer, inner = iter(batch), iter(window)
        shape = [next(inner if axis in o.offset_dims else outer) for axis in range(total)]
        return [made(node, shape, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, indices = inputs
        o = node.options
        starts = _starts(indices, o.index_vector_dim, o.start_index_map, x.ndim)
        starts = np.clip(starts, 0, np.array(x.shape, np.int64) - np.array(o.slice_sizes, np.int64))
        kept = [axis for axis in range(x.ndim) if axis not in o.collapsed_slice_dims]
        outer = starts.ndim - 1
        rank = outer + len(kept)
        places = []
        for axis in range(x.ndim):
            place = starts[..., axis].reshape(*starts.shape[:-1], *(1,) * len(kept))
            if axis in kept:
                place = place + _offsets(outer + kept.index(axis), o.slice_sizes[axis], rank)
            places.append(place)
        found = x[tuple(places)] if places else np.broadcast_to(x, starts.shape[:-1])
        inner = sorted(o.offset_dims)
        order = [axis for axis in range(rank) if axis not in inner]
        shape = found.shape if found.ndim == rank else node.output(0).dims
        moved = np.moveaxis(found.reshape(shape), range(rank), (*order, *inner))
        return np.ascontiguousarray(moved)


_BODIES = {
    **{"STABLEHLO_ADD": "add", "STABLEHLO_MULTIPLY": "multiply", "ADD": "add", "MUL": "multiply"},
    **{"STABLEHLO_MAXIMUM": "maximum", "STABLEHLO_MINIMUM": "minimum"},
    **{"MAXIMUM": "maximum", "MINIMUM": "minimum"},
}  # what a scatter's region may run on the old and the new value


@builtin("STABLEHLO_SCATTER")
class Scatter(Op):
    """x with windows of updates put, added, multiplied, ... at index vectors, in order.

    The region (a subgraph) holds nothing (the update is put) or one addition, product, maximum
    or minimum. Elements that lie outside of x are dropped. A NaN update leaves extremes alone.
    Source: StableHLO specification, scatter; LiteRT tflite/kernels/stablehlo_scatter.cc.
    """

    options = StablehloScatterOptions
    arity = (3, 3)

    def called(self, options: Any) -> tuple[int, ...]:
        return (options.update_computation_subgraph_index,)

    def infer(self, node: Node) -> Types:
        x, indices, updates, o = node.input(0), node.input(1), node.input(2), node.options
        node.require_dtype(x, _NUMBERS, "operand")
        node.require_dtype(updates, (x.dtype,), "updates")
        _require_axes(node, o.scatter_dims_to_operand_dims, x.rank, "scatter_dims_to_operand_dims")
        _require_axes(node, o.inserted_window_dims, x.rank, "inserted_window_dims")
        _require_axes(node, o.update_window_dims, updates.rank, "update_window_dims")
        depth = len(o.scatter_dims_to_operand_dims)
        outer = _require_indices(node, indices, depth, o.index_vector_dim)
        window = len(o.update_window_dims)
        same = window + len(o.inserted_window_dims) == x.rank
        node.require(same, f"{window} window axes and those inserted are not the {x.rank} of x")
        found = tuple(n for k, n in enumerate(updates.dims) if k not in o.update_window_dims)
        node.require(found == outer, f"updates {updates.dims} do not go with {outer} indices")
        self.combine(node)
        return [made(node, x.dims, x.dtype)]

    @staticmethod
    def combine(node: Node) -> str | None:
        """The name of the ufunc that the region stands for; None: put the update."""
        names = call_of(node, node.options.update_computation_subgraph_index).operators
        one = len(names) <= 1
        node.require(one, f"Only one kernel allowed within the region, it has {len(names)}")
        known = not names or names[0] in _BODIES
        node.require(known, f"only {', '.join(_BODIES)} can scatter, not {names}")
        return _BODIES[names[0]] if names else None

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, indices, updates = inputs
        o = node.options
        result: Array = x.copy()
        if not updates.size or not x.size:
            return result
        starts = _starts(indices, o.index_vector_dim, o.scatter_dims_to_operand_dims, x.ndim)
        window = sorted(o.update_window_dims)
        outer = [k for k, n in enumerate(updates.shape) if k not in window]
        shape = [1] * updates.ndim
        for k in outer:
            shape[k] = updates.shape[k]
        behind = iter(window)
        flat, inside = np.zeros(1, np.int64), np.ones(1, np.bool_)
        for axis, size in enumerate(x.shape):
            place = starts[..., axis].reshape(shape)
            if axis not in o.inserted_window_dims:
                k = next(behind)
                place = place + _offsets(k, updates.shape[k], updates.ndim)
            inside = inside & (place >= 0) & (place < size)
            flat = flat * size + place
        chosen = np.broadcast_to(inside, updates.shape).reshape(-1)
        flat = np.broadcast_to(flat, updates.shape).reshape(-1)[chosen]
        _apply(result.reshape(-1), flat, updates.reshape(-1)[chosen], self.combine(node))
        return result


def _apply(target: Array, places: Array, values: Array, name: str | None) -> None:
    """target[place] = name(target[place], value), one after the other."""
    if name is None:
        target[places] = values
        return
    if name in ("maximum", "minimum") and values.dtype.kind == "f":
        known = ~np.isnan(values)
        places, values = places[known], values[known]
    with np.errstate(all="ignore"):
        getattr(np, name).at(target, places, values)


@builtin("STABLEHLO_PAD")
class Pad(Op):
    """x with `interior` cells between its elements and cells, or crops, at its edges.

    Negative edges crop, between elements too. Any type; the cells hold input 1 (one element).
    Source: StableHLO specification, pad; LiteRT tflite/kernels/stablehlo_pad.cc.
    """

    options = StablehloPadOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, fill, o = node.input(0), node.input(1), node.options
        node.require_dtype(x, _WHOLE, "input")
        node.require_dtype(fill, (x.dtype,), "padding value")
        node.require(fill.size == 1, f"padding value has shape {fill.dims}, expected one element")
        ok = 1 <= x.rank <= MOST_PAD_DIMENSIONS
        node.require(ok, f"input has {x.rank} dimensions, expected 1 to {MOST_PAD_DIMENSIONS}")
        for sizes in (o.edge_padding_low, o.edge_padding_high, o.interior_padding):
            ok = 1 <= len(sizes) <= x.rank
            node.require(ok, f"paddings {sizes} are not 1 to {x.rank} numbers")
        ok = min(o.interior_padding, default=0) >= 0
        node.require(ok, f"interior padding {o.interior_padding} is negative")
        rows = zip(*self._columns(node), strict=True)
        shape = [n + low + high + max(n - 1, 0) * inner for n, low, high, inner in rows]
        if min(shape) <= 0:
            shape = [0] * len(shape)
        return [made(node, shape, x.dtype)]

    @staticmethod
    def _columns(node: Node) -> list[tuple[int, ...]]:
        """Size, low edge, high edge and interior of every axis; what the file omits is 0."""
        o, dims = node.options, node.input(0).dims
        paddings = o.edge_padding_low, o.edge_padding_high, o.interior_padding
        return [dims, *((*sizes, *(0,) * (len(dims) - len(sizes))) for sizes in paddings)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, fill = inputs
        shape = node.output(0).dims
        result = np.full(shape, fill.reshape(-1)[0], x.dtype)
        source, target = [], []
        for out, n, low, _, inner in zip(shape, *self._columns(node), strict=True):
            step = inner + 1
            first = max(-(low // step), 0)  # the first element that stays
            last = min((out - 1 - low) // step, n - 1)
            if first > last:
                return result
            source.append(slice(first, last + 1))
            target.append(slice(low + first * step, low + last * step + 1, step))
        result[tuple(target)] = x[tuple(source)]
        return result


@builtin("DILATE")
class Dilate(Op):
    """x with dilation - 1 cells of a padding value between its elements, for each axis.

    Inputs: x (any type), dilations (int32, at least 1), the padding value.
    Source: LiteRT tflite/kernels/dilate.cc.
    """

    options = DilateOptions
    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        x, dilations, fill = node.input(0), node.input(1), node.input(2)
        node.require_dtype(x, _WHOLE, "input")
        node.require_dtype(dilations, (I32,), "dilations")
        node.require_dtype(fill, (x.dtype,), "padding value")
        node.require(fill.size >= 1, "padding value is empty")
        node.require(x.rank >= 1, "input must have at least one dimension")
        ok = dilations.dims == (x.rank,)
        node.require(ok, f"dilations have shape {dilations.dims}, expected ({x.rank},)")
        if dilations.value is None:
            return [made(node, None, x.dtype)]
        return [made(node, self._shape(node.require, x.dims, dilations.value), x.dtype)]

    @staticmethod
    def _shape(refuse: Any, dims: tuple[int, ...], dilations: Array) -> tuple[int, ...]:
        steps = [int(n) for n in dilations]
        refuse(all(step >= 1 for step in steps), f"dilations {steps} must be at least 1")
        shape = tuple(max((n - 1) * k + 1, 0) if n else 0 for n, k in zip(dims, steps, strict=True))
        refuse(math.prod(shape) < 1 << 31, f"result {shape} is too large")
        return shape

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, dilations, fill = inputs
        shape = self._shape(node.check, x.shape, dilations)
        result = np.full(shape, fill.reshape(-1)[0], x.dtype)
        result[tuple(slice(None, None, int(step)) for step in dilations)] = x
        return result
