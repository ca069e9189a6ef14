"""BATCH_MATMUL of int8 operands, and of float rows with an int8 matrix, both found by the run."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from litejit.codegen.lang import i32
from litejit.kernels import epilogue_int8, requantize
from litejit.kernels import hybrid as hybrid_kernels
from litejit.kernels import packing_int8 as packing
from litejit.kernels.conv_int8 import ConvSpec
from litejit.kernels.pack_columns import PackColumnsSpec
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.blocks import copy_box, row_strides
from litejit.ops.fixedpoint import quantize_multipliers, type_range
from litejit.ops.hybrid_lowering import quantize_rows
from litejit.ops.layer_int8 import with_sum_factor
from litejit.ops.matmul_f32 import batches_of
from litejit.ops.product_int8 import FEW_TILES, product_ns, tile_of
from litejit.record import Record
from litejit.types import F32, I8, Array

EXACT_DEPTH = 500  # float sums of products with zero points stay below 2**24
LARGEST_DEPTH = 1 << 16  # sums of products stay below 2**31


class _Matrices(Record):
    """Sizes of one product, how its epilogue works, and what the packing adds to the columns.

    `blocks` has the constants of one vector of columns, or of each.
    """

    m: int
    k: int
    n: int
    epilogue: Any
    sums: bool
    blocks: Array
    common: Any
    factor: int

    __hash__ = object.__hash__


def lower(node: Node, steps: Lowering) -> None:
    """int8 x int8 to int8, or float32 x int8."""
    x, w, y = node.core.input(0), node.core.input(1), node.core.output(0)
    adj_x = bool(node.core.options.adj_x)
    m, n = y.dims[-2:]
    k = x.dims[-2 if adj_x else -1]
    plan = batches_of(x.dims[:-2], w.dims[:-2], y.dims[:-2])
    left = steps.inputs[0]
    if plan is None or not y.size or not k or left is None or steps.inputs[1] is None:
        return
    if x.dtype == I8 and w.dtype == I8 and y.dtype == I8:
        made, parameters = _integers(node, steps, m, k, n), None
        left = turned(steps, left, x.dims, 1) if adj_x else left
    elif x.dtype == F32 and w.dtype == I8 and k <= _deepest(node):
        symmetric = not node.core.options.asymmetric_quantize_inputs
        source = turned(steps, left, x.dims, 4) if adj_x else None
        rows = quantize_rows(steps, 0, x.size // k, k, symmetric=symmetric, source=source)
        made, left, parameters = _floats(node, steps, m, k, n), rows.values, rows.parameters
    else:
        return
    tile = tile_of(steps.isa, m, n, sums=made.sums)
    packed = _pack(node, steps, made, tile)
    for position, first in enumerate(plan[3]):
        _multiply(steps, made, tile, (left, parameters), packed, (plan, position, first))


def _deepest(node: Node) -> int:
    return EXACT_DEPTH if node.core.options.asymmetric_quantize_inputs else LARGEST_DEPTH


def turned(steps: Lowering, source: Operand, dims: tuple[int, ...], size: int) -> Operand:
    """A copy with the last two dimensions exchanged, of elements of `size` bytes."""
    rows, columns = dims[-2:]
    strides = row_strides((rows, columns), size)
    places = row_strides((columns, rows), size)[::-1]
    matrix = rows * columns * size
    box = [(prod(dims[:-2]), matrix, matrix)]
    box += zip((rows, columns), strides, places, strict=True)
    copy = steps.temporary(prod(dims) * size)
    copy_box(steps, copy, source, box, size)
    return copy


def _integers(node: Node, steps: Lowering, m: int, k: int, n: int) -> _Matrices:
    from litejit.ops.matmul import bmm_multiplier

    x, w, y = node.core.input(0), node.core.input(1), node.core.output(0)
    lanes = steps.isa.lanes(i32)
    multiplier, shift = quantize_multipliers(np.array([bmm_multiplier(node)]))
    form = requantize.best_form(multiplier, shift, y.zero_point, k * 255 * 255)
    moved = 128 if steps.isa.dot_is_unsigned else 0
    factor = -(x.zero_point + moved)
    blocks = epilogue_int8.channel_constants(
        form, lanes, np.full(lanes, -k * w.zero_point * factor), np.full(lanes, multiplier[0]),
        np.full(lanes, shift[0]), y.zero_point,
    )  # fmt: skip
    common = with_sum_factor(epilogue_int8.common_constants(lanes, *type_range(I8)), -w.zero_point)
    narrow = n if n < lanes else 0
    return _Matrices(
        m, k, n, epilogue_int8.Epilogue(form, narrow=narrow), w.zero_point != 0, blocks,
        steps.constant("common", lambda: common), factor,
    )  # fmt: skip


def _floats(node: Node, steps: Lowering, m: int, k: int, n: int) -> _Matrices:
    q = node.core.input(1).quantization
    assert q is not None
    lanes = steps.isa.lanes(i32)
    vectors = tile_of(steps.isa, m, n, sums=False)[1]
    order = packing.channel_order(n, lanes, vectors)
    scales = np.broadcast_to(q.scales.astype(np.float32), (n,))[order]
    zeros = np.zeros(len(order))
    blocks = hybrid_kernels.channel_constants(lanes, zeros, scales, zeros)
    narrow = n if n < lanes else 0
    epilogue = hybrid_kernels.Rescaling(by_row=True, joined=True, narrow=narrow)
    return _Matrices(m, k, n, epilogue, False, blocks, None, 1)


def _pack(
    node: Node, steps: Lowering, made: _Matrices, tile: tuple[int, int, int]
) -> tuple[Operand, Operand, int, int]:
    """(weights, blocks, bytes of a matrix of each) of all right matrices."""
    w, right = node.core.input(1), steps.inputs[1]
    assert right is not None
    _, vectors, chains = tile
    lanes = steps.isa.lanes(i32)
    panels = -(-made.n // (lanes * vectors))
    full = -(-made.k // (4 * chains)) * 4 * chains
    adj_y = bool(node.core.options.adj_y)
    matrices, block = w.size // (made.k * made.n), made.blocks.shape[1]
    sizes = panels * vectors * lanes * full, panels * vectors * block
    weights, blocks = (steps.temporary(size * matrices) for size in sizes)
    steps.call(
        PackColumnsSpec(vectors, adj_y), right, weights, blocks,
        steps.constant(
            f"blocks {vectors} of {made.k} x {made.n}", lambda: np.ascontiguousarray(made.blocks)
        ),
        made.k, full, made.n, panels, made.k if adj_y else made.n, made.k * made.n,
        block, block if len(made.blocks) > 1 else 0, made.factor, 1, 1, 0, 0,
        items=matrices * panels, cost_ns=50 + matrices * sizes[0] / (4.0 if adj_y else 12.0),
    )  # fmt: skip
    return weights, blocks, *sizes


def _multiply(
    steps: Lowering, made: _Matrices, tile: tuple[int, int, int],
    left: tuple[Operand, Operand | None], right: tuple[Operand, Operand, int, int],
    place: tuple[Any, int, tuple[int, int]],
) -> None:  # fmt: skip
    """As many matrices as move alike (`batches_of`)."""
    weights, blocks, weight_bytes, block_bytes = right
    (count, x_step, w_step, _), position, (left_at, right_at) = place
    rows, vectors, chains = tile
    lanes = steps.isa.lanes(i32)
    full = -(-made.k // (4 * chains)) * 4 * chains
    panels = -(-made.n // (lanes * vectors))
    ones = np.zeros(full + 64, np.int8)
    ones[: made.k] = 1
    common, out_bytes, flipped = made.common, 1, False
    if left[1] is not None:  # rows that were quantized as the kernel wants them
        common = left[1].at(left_at * made.m * hybrid_kernels.PARAMETER_BYTES)
        out_bytes, flipped = 4, steps.isa.dot_is_unsigned
    spec = ConvSpec(
        rows, vectors, made.epilogue, flipped, chains=chains, sums=made.sums, batched=count > 1
    )
    tiles, size = -(-made.m // rows), made.m * made.n
    group = panels if tiles * count >= FEW_TILES else 1
    steps.call(
        spec, left[0].at(left_at * made.m * made.k), weights.at(right_at * weight_bytes),
        blocks.at(right_at * block_bytes),
        steps.constant(f"ones {made.k} {full}", lambda: ones) if made.sums else 0, 0, 0,
        steps.outputs[0].at(position * count * size * out_bytes), common, 0, 0,
        *(full, made.m, max(made.n - lanes, 0), made.k, made.n, 0, panels, group),
        *(1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0),
        *(x_step * made.m * made.k, w_step * weight_bytes, w_step * block_bytes),
        *(x_step * made.m, size),
        items=count * tiles * -(-panels // group),
        cost_ns=count * product_ns(steps.isa, tiles * rows, panels * vectors * lanes, full),
    )  # fmt: skip
