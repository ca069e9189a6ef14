"""Elements by index: gathered, scattered, looked up, summed by segment."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np

from litejit.kernels.resize import pick_spec
from litejit.model.options.index import (
    GatherNdOptions,
    GatherOptions,
    OneHotOptions,
    ScatterNdOptions,
    SparseToDenseOptions,
)
from litejit.ops.base import Arrays, Lowering, Node, Op, Operand, Types, builtin
from litejit.ops.blocks import copy_box, input_of, lowers, row_strides
from litejit.ops.indexing import Refuse, check_indices, made, normal_axis, shape_from
from litejit.types import (
    BF16,
    BOOL,
    F16,
    F32,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    Array,
    TensorType,
)

_MOVED = (F32, F16, BF16, U8, I8, I16, I32, I64, BOOL, STRING)


@builtin("GATHER", versions=range(1, 9))
class Gather(Op):
    """y = x[..., i, ...] with i along `axis`, separately for each of the first batch_dims.

    Shape: x[:axis] + i[batch_dims:] + x[axis + 1:]. Any type; indices int16, int32, int64; an
    index outside the axis refuses the run. Strings: from a vector.
    Source: LiteRT tflite/kernels/gather.cc.
    """

    options = GatherOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, indices = node.input(0), node.input(1)
        node.require_dtype(x, (*_MOVED, I4), "input")
        node.require_dtype(indices, (I16, I32, I64), "indices")
        node.require(x.dtype.name != "STRING" or x.rank == 1, "strings are gathered from vectors")
        axis, batch = self.axes(node, x.dims, indices.dims)
        shape = x.dims[:axis] + indices.dims[batch:] + x.dims[axis + 1 :]
        return [made(node, shape, x.dtype)]

    def axes(self, node: Node, shape: tuple[int, ...], indices: tuple[int, ...]) -> tuple[int, int]:
        """(axis, batch_dims), both from the front, checked against the shapes."""
        options = node.options or GatherOptions()
        axis = normal_axis(node.require, options.axis, len(shape))
        batch, rank = options.batch_dims, len(indices)
        node.require(-rank <= batch <= rank, f"batch_dims {batch} exceeds the indices' rank {rank}")
        batch += rank if batch < 0 else 0
        node.require(batch <= axis, f"batch_dims {batch} lies behind axis {axis}")
        same = shape[:batch] == indices[:batch]
        node.require(same, f"first {batch} sizes of {shape} and {indices} differ")
        return axis, batch

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, indices = inputs
        axis, batch = self.axes(node, x.shape, indices.shape)
        check_indices(node, indices, x.shape[axis])
        if batch == 0:
            return np.asarray(np.take(x, indices.astype(np.int64), axis), x.dtype)
        count = int(np.prod(x.shape[:batch], dtype=np.int64))
        rows = x.reshape(count, *x.shape[batch:])
        places = indices.reshape(count, *indices.shape[batch:]).astype(np.int64)
        shape = x.shape[:axis] + indices.shape[batch:] + x.shape[axis + 1 :]
        if count == 0:
            return np.zeros(shape, x.dtype)
        parts = [np.take(row, at, axis - batch) for row, at in zip(rows, places, strict=True)]
        return np.asarray(np.stack(parts).reshape(shape))

    def lower(self, node: Node, steps: Lowering) -> None:
        x, indices, source = node.input(0), node.input(1), steps.inputs[0]
        axis, batch = self.axes(node, x.dims, indices.dims)
        late = steps.inputs[1]
        if source is None or late is None or not x.size or not indices.size:
            return
        if indices.value is None or batch:
            _gather_rows(steps, x, indices, axis, batch)
            return
        places = indices.value.reshape(-1).astype(np.int64)
        if places.min() < 0 or places.max() >= x.dims[axis]:
            return  # the reference says what is wrong
        run = math.prod(x.dims[axis + 1 :]) * x.dtype.itemsize
        items = math.prod(x.dims[:axis]) * places.size
        rows = steps.constant(f"rows {run}", lambda: places * run)
        columns = steps.constant("columns", lambda: np.zeros(1, np.int64))
        numbers = (places.size, 1, x.dims[axis] * run, run)
        spec = pick_spec(run, steps.isa.vector_bytes)
        operands = (source, steps.outputs[0], rows, columns, *numbers)
        steps.call(spec, *operands, items=items, cost_ns=items * (4 + 0.05 * run))


def _gather_rows(
    steps: Lowering, x: TensorType, at: TensorType, axis: int, batch: int = 0, *, table: int = 0
) -> None:
    """Gather slices of x (input `table`) along `axis` by indices that the kernel checks."""
    run, size = math.prod(x.dims[axis + 1 :]) * x.dtype.itemsize, x.dims[axis]
    count, outer = math.prod(at.dims[batch:]), math.prod(x.dims[:axis])
    between = math.prod(x.dims[batch:axis])
    _gather_tuples(steps, at, (count, between, size * run, run), [(size, run)], outer, table)


def _gather_tuples(
    steps: Lowering, at: TensorType, numbers: tuple[int, int, int, int],
    sizes: list[tuple[int, int]], outer: int, table: int = 0,
) -> None:  # fmt: skip
    """Gather by tuples of indices into dimensions of (size, bytes): see GatherSpec."""
    from litejit.kernels.indexed import GatherSpec

    count, *_, run = numbers
    pick = pick_spec(run, steps.isa.vector_bytes)
    spec = GatherSpec(at.dtype.bits, pick.lanes, pick.groups, len(sizes), outer == 1)
    source, indices = input_of(steps, table), input_of(steps, 1 - table)
    steps.call(
        spec, source, steps.outputs[0], indices, steps.status, *numbers, *chain(*sizes),
        items=outer * count, cost_ns=outer * count * (4 + 0.05 * run),
    )  # fmt: skip


def _dimensions(sizes: tuple[int, ...], depth: int, itemsize: int) -> list[tuple[int, int]]:
    """(size, step) of the first `depth` dimensions of an array."""
    return list(zip(sizes, row_strides(sizes, itemsize), strict=True))[:depth]


def _scatter(
    node: Node, steps: Lowering, positions: tuple[int, int], fold: str,
    sizes: list[tuple[int, int]], run: int, *, grid: tuple[int, int, int] | None = None,
) -> None:  # fmt: skip
    """Put updates to the places of y that indices name; `positions` are those of the inputs."""
    from litejit.kernels.indexed import ScatterSpec

    at, updates, y = node.input(positions[0]), node.input(positions[1]), node.output()
    count = at.size // len(sizes)
    pitch = run if updates.size == count * run and not grid else 0
    spec = ScatterSpec(y.dtype, at.dtype.bits, len(sizes), fold, grid is not None)
    indices, values = (input_of(steps, position) for position in positions)
    steps.call(
        spec, steps.outputs[0], values, indices, steps.status, count, run, pitch,
        *(grid or (1, 0, 0)), *chain(*sizes), items=1, cost_ns=10 + count * (5 + 0.1 * run),
    )  # fmt: skip


def _fill(steps: Lowering, y: TensorType, value: Operand) -> None:
    size = y.dtype.itemsize
    copy_box(steps, steps.outputs[0], value, [(y.size, 0, size)], size)


def _check_tuples(node: Node, indices: Array, sizes: tuple[int, ...]) -> None:
    for j, size in enumerate(sizes):
        check_indices(node, indices[..., j], size, what=f"index of dimension {j}")


@builtin("GATHER_ND", versions=range(1, 7))
class GatherNd(Op):
    """y[k] = x[indices[k, 0], indices[k, 1], ...]: slices of x by tuples of indices.

    Shape: indices[:-1] + x[indices.shape[-1]:]. Any type; an index outside refuses the run.
    Source: LiteRT tflite/kernels/gather_nd.cc.
    """

    options = GatherNdOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, indices = node.input(0), node.input(1)
        node.require_dtype(x, _MOVED, "input")
        node.require_dtype(indices, (I16, I32, I64), "indices")
        node.require(x.rank >= 1 and indices.rank >= 1, "input and indices need a dimension")
        depth = indices.dims[-1]
        node.require(depth <= x.rank, f"tuples of {depth} indices exceed the input's {x.rank}")
        return [made(node, indices.dims[:-1] + x.dims[depth:], x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, indices = inputs
        depth = indices.shape[-1]
        node.check(x.size > 0 or indices.size == 0, "an empty input has nothing to gather")
        _check_tuples(node, indices, x.shape[:depth])
        if depth == 0:
            shape = indices.shape[:-1] + x.shape
            return np.ascontiguousarray(np.broadcast_to(x, shape))
        return np.asarray(x[tuple(np.moveaxis(indices, -1, 0).astype(np.int64))], x.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, indices = node.input(0), node.input(1)
        depth, size = indices.dims[-1], x.dtype.itemsize
        if depth and lowers(x, node.output()):
            run, count = math.prod(x.dims[depth:]) * size, indices.size // depth
            sizes = _dimensions(x.dims, depth, size)
            _gather_tuples(steps, indices, (count, 1, 0, run), sizes, 1)


@builtin("SCATTER_ND")
class ScatterNd(Op):
    """y = zeros of shape (input 2), to which updates[k] are added at indices[k].

    Integers wrap, a bool is true where any update is. f32 | u8 | i8 | i32 | i64 | bool.
    Source: LiteRT tflite/kernels/scatter_nd.cc.
    """

    options = ScatterNdOptions
    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        indices, updates, shape = node.input(0), node.input(1), node.input(2)
        node.require_dtype(updates, (F32, U8, I8, I32, I64, BOOL), "updates")
        node.require_dtype(indices, (I32,), "indices")
        node.require_dtype(shape, (I32,), "shape")
        if shape.value is None:
            return [made(node, None, updates.dtype)]
        sizes = self.sizes(node.require, indices.dims, updates.dims, shape.value)
        return [made(node, sizes, updates.dtype)]

    def sizes(
        self, refuse: Refuse, indices: tuple[int, ...], updates: tuple[int, ...], shape: Array
    ) -> tuple[int, ...]:
        """The output's shape, after comparing it with those of indices and updates."""
        refuse(len(indices) >= 1 and len(updates) >= 1, "indices and updates need a dimension")
        refuse(shape.ndim == 1, f"shape must be a vector, got shape {shape.shape}")
        sizes = shape_from(refuse, shape)
        outer, depth = indices[:-1], indices[-1]
        refuse(depth <= len(sizes), f"tuples of {depth} indices exceed shape {sizes}")
        expected = outer + sizes[depth:]
        refuse(updates == expected, f"updates must have shape {expected}, got {updates}")
        return sizes

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        indices, updates, shape = inputs
        sizes = self.sizes(node.check, indices.shape, updates.shape, shape)
        depth = indices.shape[-1]
        _check_tuples(node, indices, sizes[:depth])
        y = np.zeros(sizes, updates.dtype)
        tuples = indices.reshape(-1, depth) if depth else indices.reshape(-1, 0)
        count = int(np.prod(indices.shape[:-1], dtype=np.int64))
        values = updates.reshape(count, *sizes[depth:])
        add = np.logical_or if updates.dtype == np.bool_ else np.add
        with np.errstate(all="ignore"):
            if depth:
                add.at(y, tuple(tuples.T), values)
            else:
                y[...] = add.reduce(values, axis=0, dtype=y.dtype)
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        indices, updates, y = node.input(0), node.input(1), node.output()
        depth = indices.dims[-1]
        if not depth or not lowers(y):
            return
        _fill(steps, y, steps.constant("zero", lambda: np.zeros(1, y.dtype.numpy)))
        if updates.size:
            run = math.prod(y.dims[depth:])
            fold = "or" if y.dtype == BOOL else "add"
            _scatter(node, steps, (0, 1), fold, _dimensions(y.dims, depth, 1), run)


@builtin("EMBEDDING_LOOKUP", versions=range(1, 6))
class EmbeddingLookup(Op):
    """y[k] = table[ids[k]]; a quantized table with float output is multiplied by its scale(s).

    Per table or per row (axis 0); zero points are 0. Output: the table's type, or f32 | f16.
    Source: LiteRT tflite/kernels/embedding_lookup.cc.
    """

    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        ids, table, y = node.input(0), node.input(1), node.output()
        node.require_dtype(ids, (I32,), "ids")
        node.require(ids.rank == 1, f"ids must be a vector, got shape {ids.dims}")
        node.require(table.rank >= 2, f"the table needs rows, got shape {table.dims}")
        if self._widens(table, y):
            self._require_scales(node, table)
        else:
            node.require_dtype(y, (table.dtype,), "output")
            known = table.dtype.name not in ("STRING", "RESOURCE", "VARIANT")
            node.require(known, f"no table of {table.dtype.name}")
        return [made(node, ids.dims + table.dims[1:], y.dtype)]

    @staticmethod
    def _widens(table: TensorType, y: TensorType) -> bool:
        return y.dtype.name in ("FLOAT32", "FLOAT16") and table.dtype.name != y.dtype.name

    @staticmethod
    def _require_scales(node: Node, table: TensorType) -> None:
        node.require_dtype(table, (U8, I8, I4, I2), "table")
        q = table.quantization
        blocks = q is not None and q.block_size > 0
        node.require(not blocks, "scales by block are not supported here")
        node.require(q is not None and len(q.scales), "a quantized table needs a scale")
        if q is None:
            return
        node.require(not np.any(q.zero_points), "zero points must be 0")
        if q.per_channel:
            rows = q.axis == 0 and len(q.scales) == table.dims[0]
            node.require(rows, f"{len(q.scales)} scales of axis {q.axis}, expected one a row")

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        ids, table = inputs
        check_indices(node, ids, table.shape[0], what="id")
        rows = table[ids]
        kind = node.input(1)
        if not self._widens(kind, node.output()) or kind.quantization is None:
            return np.asarray(rows)
        scales = kind.quantization.scales.astype(np.float32)
        factor = scales[ids] if len(scales) > 1 else np.repeat(scales[:1], len(ids))
        factor = factor.reshape(-1, *[1] * (table.ndim - 1))
        with np.errstate(all="ignore"):
            wide = rows.astype(np.float32) * factor
            return np.asarray(wide.astype(node.output().dtype.numpy))

    def lower(self, node: Node, steps: Lowering) -> None:
        ids, table, y = node.input(0), node.input(1), node.output()
        if not table.size or not ids.size:
            return
        if not self._widens(table, y):
            _gather_rows(steps, table, ids, 0, table=1)
            return
        if y.dtype != F32 or table.quantization is None:
            return
        from litejit.kernels.indexed import EmbedSpec

        scales = table.quantization.scales.astype(np.float32)
        run = table.size // table.dims[0]
        steps.call(
            EmbedSpec(table.dtype), input_of(steps, 1), steps.outputs[0], input_of(steps, 0),
            steps.constant("scales", lambda: scales), steps.status, table.dims[0], run,
            int(len(scales) > 1), items=ids.size, cost_ns=ids.size * (5 + 0.1 * run),
        )  # fmt: skip


@builtin("ONE_HOT")
class OneHot(Op):
    """y = on where the index equals the position along the new axis, else off.

    axis -1 is the last; an index outside [0, depth) is off everywhere; an int64 index is cut to
    32 bits. Source: LiteRT tflite/kernels/one_hot.cc.
    """

    options = OneHotOptions
    arity = (4, 4)

    def infer(self, node: Node) -> Types:
        indices, depth, on, off = (node.input(j) for j in range(4))
        node.require_dtype(on, (F32, I16, I32, I64, I8, U8, BOOL), "on value")
        node.require_dtype(off, (on.dtype,), "off value")
        node.require_dtype(indices, (I32, I64), "indices")
        node.require_dtype(depth, (I32,), "depth")
        single = depth.size == 1 and on.size == 1 and off.size == 1
        node.require(single, "depth, on and off values must be one number each")
        axis = self.axis(node, indices.rank)
        if depth.value is None:
            return [made(node, None, on.dtype)]
        count = int(depth.value.reshape(-1)[0])
        node.require(count >= 0, f"depth is {count}")
        return [made(node, (*indices.dims[:axis], count, *indices.dims[axis:]), on.dtype)]

    def axis(self, node: Node, rank: int) -> int:
        """Where the new axis goes."""
        axis = node.options.axis if node.options else 0
        node.require(-1 <= axis <= rank, f"axis {axis} is out of range for rank {rank} + 1")
        return rank if axis == -1 else int(axis)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        indices, depth, on, off = inputs
        axis = self.axis(node, indices.ndim)
        count = int(depth.reshape(-1)[0])
        node.check(count >= 0, f"depth is {count}")
        shape = [1] * (indices.ndim + 1)
        shape[axis] = count
        positions = np.arange(count, dtype=np.int32).reshape(shape)
        hit = np.expand_dims(indices.astype(np.int32), axis) == positions
        return np.asarray(np.where(hit, on.reshape(-1)[0], off.reshape(-1)[0]), on.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        indices, y = node.input(0), node.output()
        if not lowers(y):
            return
        axis = self.axis(node, indices.rank)
        inner, depth = math.prod(indices.dims[axis:]), y.dims[axis]
        _fill(steps, y, input_of(steps, 3))
        grid = (inner, depth * inner, 1)
        _scatter(node, steps, (0, 2), "set", [(depth, inner)], 1, grid=grid)


@builtin("SPARSE_TO_DENSE", versions=range(1, 4))
class SparseToDense(Op):
    """y = default everywhere but at indices, where it is values (a vector, or one for all).

    At most 4 dimensions; later duplicates win; an index outside refuses the run.
    Source: LiteRT tflite/kernels/sparse_to_dense.cc.
    """

    options = SparseToDenseOptions
    arity = (4, 4)

    def infer(self, node: Node) -> Types:
        indices, shape, values, default = (node.input(j) for j in range(4))
        node.require_dtype(indices, (I32, I64), "indices")
        node.require_dtype(shape, (I32, I64), "shape")
        node.require_dtype(values, (I32, I64, I8, U8, F32), "values")
        node.require_dtype(default, (values.dtype,), "default value")
        node.require(indices.rank < 3, f"indices have rank {indices.rank}, expected at most 2")
        node.require(shape.rank == 1, f"shape must be a vector, got shape {shape.dims}")
        node.require(values.rank < 2, f"values have rank {values.rank}, expected at most 1")
        node.require(default.size == 1, "the default value must be one number")
        rank = indices.dims[1] if indices.rank == 2 else 1
        node.require(shape.size == rank, f"indices of {rank} dimensions, shape of {shape.size}")
        node.require(rank <= 4, f"at most 4 dimensions, got {rank}")
        count = indices.dims[0] if indices.rank == 2 else indices.size
        ok = values.rank == 0 or values.size == count
        node.require(ok, f"{count} indices for {values.size} values")
        if shape.value is None:
            return [made(node, None, values.dtype)]
        return [made(node, shape_from(node.require, shape.value), values.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        indices, shape, values, default = inputs
        sizes = shape_from(node.check, shape)
        tuples = indices if indices.ndim == 2 else indices.reshape(-1, 1)
        _check_tuples(node, tuples, sizes)
        y = np.full(sizes, default.reshape(-1)[0], values.dtype)
        if len(sizes) == 0:
            return y
        flat = np.ravel_multi_index(tuple(tuples.T.astype(np.int64)), sizes) if y.size else []
        y.reshape(-1)[flat] = values
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        indices, y = node.input(0), node.output()
        if not lowers(y) or not y.rank:
            return
        _fill(steps, y, input_of(steps, 3))
        if indices.size:
            _scatter(node, steps, (0, 2), "set", _dimensions(y.dims, y.rank, 1), 1)
