"""Tensors made of little: fills, ranges, zeros, diagonals."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from litejit.model.options.elementwise import ZerosLikeOptions
from litejit.model.options.shape import (
    FillOptions,
    MatrixDiagOptions,
    MatrixSetDiagOptions,
    RangeOptions,
)
from litejit.ops.base import Arrays, Lowering, Node, Op, Operand, Types, builtin
from litejit.ops.blocks import copy_box, copy_whole, input_of, lowers
from litejit.ops.indexing import Refuse, made, require_same_quantization, shape_from
from litejit.types import F32, I8, I16, I32, I64, U8, Array, DType, TensorType

_MOST = 2**31 - 1  # elements of a range, as in LiteRT


@builtin("FILL", versions=range(1, 6))
class Fill(Op):
    """y = the scalar input 1 in every place of shape (input 0, int32 or int64 vector).

    Any type of 8, 16, 32 or 64 bits and strings; quantization of y as of the scalar.
    Source: LiteRT tflite/kernels/fill.cc.
    """

    options = FillOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        dims, value = node.input(0), node.input(1)
        node.require_dtype(dims, (I32, I64), "shape")
        node.require(dims.rank == 1, f"shape must be a vector, got shape {dims.dims}")
        node.require(value.rank == 0, f"value must be a scalar, got shape {value.dims}")
        known = value.dtype.name == "STRING" or value.dtype.bits in (8, 16, 32, 64)
        node.require(known, f"no fill with {value.dtype.name}")
        if value.dtype.name != "STRING":
            require_same_quantization(node, value, node.output())
        centred = value.dtype.name != "INT16" or value.zero_point == 0
        node.require(centred, "INT16 needs zero point 0")
        if dims.value is None:
            return [made(node, None, value.dtype)]
        return [made(node, shape_from(node.require, dims.value), value.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        dims, value = inputs
        return np.broadcast_to(value, shape_from(node.check, dims))

    def lower(self, node: Node, steps: Lowering) -> None:
        y = node.output()
        if lowers(y):
            size = y.dtype.itemsize
            copy_box(steps, steps.outputs[0], input_of(steps, 1), [(y.size, 0, size)], size)


def range_size(refuse: Refuse, start: Any, limit: Any, delta: Any) -> int:
    """Number of elements of start, start + delta, ... before limit."""
    refuse(delta != 0, "delta is 0")
    toward = (start >= limit and delta < 0) or (start <= limit and delta > 0)
    refuse(toward, f"delta {delta} does not lead from {start} to {limit}")
    if isinstance(start, np.floating):
        with np.errstate(all="ignore"):
            steps = float(np.abs((limit - start) / delta))
        refuse(steps <= _MOST, f"a range of {steps} elements is too long")
        return math.ceil(steps)
    first, last, step = int(start), int(limit), abs(int(delta))
    size = (abs(last - first) + step - 1) // step
    refuse(size <= _MOST, f"a range of {size} elements is too long")
    return size


@builtin("RANGE", versions=range(1, 3))
class Range(Op):
    """y = start, start + delta, ... before limit (inputs 0, 2, 1: scalars).

    f32 by repeated addition, in float32 as LiteRT does it; int32, int64.
    Source: LiteRT tflite/kernels/range.cc.
    """

    options = RangeOptions
    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        start, limit, delta = (node.input(j) for j in range(3))
        node.require_dtype(start, (F32, I32, I64), "start")
        for tensor, what in ((start, "start"), (limit, "limit"), (delta, "delta")):
            node.require_dtype(tensor, (start.dtype,), what)
            node.require(tensor.rank == 0, f"{what} must be a scalar, got shape {tensor.dims}")
        if start.value is None or limit.value is None or delta.value is None:
            return [made(node, None, start.dtype)]
        size = range_size(node.require, start.value[()], limit.value[()], delta.value[()])
        return [made(node, (size,), start.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        start, limit, delta = (value[()] for value in inputs)
        size = range_size(node.check, start, limit, delta)
        if size == 0:
            return np.zeros(0, start.dtype)
        if start.dtype.kind == "i":
            return np.asarray(np.arange(size, dtype=np.int64).astype(start.dtype) * delta + start)
        steps = np.full(size, delta, start.dtype)
        steps[0] = start
        return np.asarray(np.add.accumulate(steps, dtype=start.dtype))


@builtin("ZEROS_LIKE")
class ZerosLike(Op):
    """y = zeros of x's shape, known before the run: f32 | i32 | i64.

    Source: LiteRT tflite/kernels/zeros_like.cc.
    """

    options = ZerosLikeOptions
    dtypes: ClassVar[tuple[DType, ...]] = (F32, I32, I64)

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, self.dtypes, "input")
        return [made(node, x.dims, x.dtype).with_value(np.zeros(x.dims, x.dtype.numpy))]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        return np.zeros(inputs[0].shape, inputs[0].dtype)


_DIAGONAL = (F32, I8, U8, I16, I32, I64)


@builtin("MATRIX_DIAG")
class MatrixDiag(Op):
    """y[..., i, i] = x[..., i], else 0. Source: LiteRT tflite/kernels/matrix_diag.cc."""

    options = MatrixDiagOptions

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, _DIAGONAL, "input")
        node.require(x.rank >= 1, "input must have at least one dimension")
        return [made(node, (*x.dims, x.dims[-1]), x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        return _with_diagonal(np.zeros((*x.shape, x.shape[-1]), x.dtype), x)

    def lower(self, node: Node, steps: Lowering) -> None:
        y = node.output()
        if lowers(y):
            size, zero = y.dtype.itemsize, np.zeros(1, y.dtype.numpy)
            fill = steps.constant("zero", lambda: zero)
            copy_box(steps, steps.outputs[0], fill, [(y.size, 0, size)], size)
            _copy_diagonal(steps, input_of(steps, 0), y)


@builtin("MATRIX_SET_DIAG")
class MatrixSetDiag(Op):
    """y = x (input 0) with y[..., i, i] = input 1[..., i].

    Source: LiteRT tflite/kernels/matrix_set_diag.cc.
    """

    options = MatrixSetDiagOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, diagonal = node.input(0), node.input(1)
        node.require_dtype(x, _DIAGONAL, "input")
        node.require_dtype(diagonal, (x.dtype,), "diagonal")
        node.require(x.rank >= 2, f"input must be a matrix, got shape {x.dims}")
        expected = (*x.dims[:-2], min(x.dims[-2:]))
        ok = diagonal.size >= math.prod(expected)
        node.require(ok, f"diagonal must have shape {expected}, got {diagonal.dims}")
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, diagonal = inputs
        rows = (*x.shape[:-2], min(x.shape[-2:]))
        return _with_diagonal(x.copy(), diagonal.reshape(-1)[: math.prod(rows)].reshape(rows))

    def lower(self, node: Node, steps: Lowering) -> None:
        y = node.output()
        if lowers(y):
            steps.may_share()
            copy_whole(steps, input_of(steps, 0), steps.outputs[0], y.nbytes)
            _copy_diagonal(steps, input_of(steps, 1), y)


def _copy_diagonal(steps: Lowering, diagonal: Operand, y: TensorType) -> None:
    """Put the rows of `diagonal` on the diagonals of the matrices in y."""
    rows, columns = y.dims[-2:]
    n, size = min(rows, columns), y.dtype.itemsize
    box = [
        (y.size // (rows * columns), n * size, rows * columns * size),
        (n, size, (columns + 1) * size),
    ]
    copy_box(steps, steps.outputs[0], diagonal, box, size)


def _with_diagonal(matrices: Array, diagonal: Array) -> Array:
    places = np.arange(diagonal.shape[-1])
    matrices[..., places, places] = diagonal
    return matrices
