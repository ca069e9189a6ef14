"""BATCH_MATMUL of int8 operands, and of float rows with an int8 matrix, both found by the run."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.codegen.lang import i32
from litejit.kernels import epilogue_int8, requantize
from litejit.kernels import hybrid as hybrid_kernels
from litejit.kernels.conv_int8 import ConvSpec
from litejit.kernels.pack_columns import PackColumnsSpec
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.fixedpoint import quantize_multipliers, type_range
from litejit.ops.hybrid_lowering import quantize_rows
from litejit.ops.layer_int8 import with_sum_factor
from litejit.ops.matmul_f32 import batches_of
from litejit.ops.product_int8 import FEW_TILES, product_ns, tile_of
from litejit.record import Record
from litejit.types import F32, I8, Array

MOST_CALLS = 64
EXACT_DEPTH = 500  # float sums of hybrid products stay below 2**24


class _Matrices(Record):
    """Sizes of one product, how its epilogue works, and what the packing adds to the columns."""

    m: int
    k: int
    n: int
    epilogue: Any
    sums: bool
    shared: Array
    common: Any
    factor: int
    base: int
    offset: int
    unsigned: bool
    out_bytes: int

    __hash__ = object.__hash__


def lower(node: Node, steps: Lowering) -> None:
    """int8 x int8 to int8, or float32 x int8; the left operand as it lies."""
    x, w, y = node.core.input(0), node.core.input(1), node.core.output(0)
    adj_x = node.core.options.adj_x
    m, n = y.dims[-2:]
    k = x.dims[-1]
    plan = batches_of(x.dims[:-2], w.dims[:-2], y.dims[:-2])
    if adj_x or plan is None or not y.size or not k or None in steps.inputs:
        return
    count, x_step, w_step, outer = plan
    if count * len(outer) > MOST_CALLS:
        return
    if x.dtype == I8 and w.dtype == I8 and y.dtype == I8:
        made = _integers(node, steps, m, k, n)
        left, parameters = steps.inputs[0], None
    elif x.dtype == F32 and w.dtype == I8 and k <= EXACT_DEPTH:
        symmetric = not node.core.options.asymmetric_quantize_inputs
        rows = quantize_rows(steps, 0, x.size // k, k, symmetric=symmetric)
        made, left, parameters = _floats(node, steps, m, k, n), rows.values, rows.parameters
    else:
        return
    assert left is not None
    tile = tile_of(steps.isa, m, n, sums=made.sums)
    packed = _pack(node, steps, made, tile)
    for position, (left_at, right_at) in enumerate(outer):
        for j in range(count):
            _multiply(
                steps, made, tile, left, left_at + j * x_step, parameters,
                (packed, right_at + j * w_step), position * count + j,
            )  # fmt: skip


def _integers(node: Node, steps: Lowering, m: int, k: int, n: int) -> _Matrices:
    from litejit.ops.matmul import bmm_multiplier

    x, w, y = node.core.input(0), node.core.input(1), node.core.output(0)
    lanes = steps.isa.lanes(i32)
    multiplier, shift = quantize_multipliers(np.array([bmm_multiplier(node)]))
    form = requantize.best_form(multiplier, shift, y.zero_point, k * 255 * 255)
    shared = requantize.constants(
        form, lanes, np.full(lanes, multiplier[0]), np.full(lanes, shift[0]), y.zero_point
    )
    moved = 128 if steps.isa.dot_is_unsigned else 0
    block = with_sum_factor(epilogue_int8.common_constants(lanes, *type_range(I8)), -w.zero_point)
    narrow = n if n < lanes else 0
    return _Matrices(
        m, k, n, epilogue_int8.Epilogue(form, narrow=narrow), w.zero_point != 0, shared,
        steps.constant("common", lambda: block), -(x.zero_point + moved), k * w.zero_point,
        requantize.input_offset(form), False, 1,
    )  # fmt: skip


def _floats(node: Node, steps: Lowering, m: int, k: int, n: int) -> _Matrices:
    q = node.core.input(1).quantization
    assert q is not None
    lanes = steps.isa.lanes(i32)
    scales = np.full(lanes, q.scales[0], np.float32)
    shared = np.concatenate([scales, np.zeros(lanes, np.float32)]).view(np.uint8)
    narrow = n if n < lanes else 0
    epilogue = hybrid_kernels.Rescaling(by_row=True, joined=True, narrow=narrow)
    return _Matrices(
        m, k, n, epilogue, False, shared, None, 1, 0, 0, steps.isa.dot_is_unsigned, 4
    )


def _pack(
    node: Node, steps: Lowering, made: _Matrices, tile: tuple[int, int, int]
) -> tuple[Operand, Operand, int, int]:
    """(weights, blocks, bytes of a matrix of each) of all right matrices."""
    w = node.core.input(1)
    rows, vectors, chains = tile
    del rows
    lanes = steps.isa.lanes(i32)
    panels = -(-made.n // (lanes * vectors))
    full = -(-made.k // (4 * chains)) * 4 * chains
    turned = bool(node.core.options.adj_y)
    matrices = w.size // (made.k * made.n)
    block = 4 * lanes + made.shared.size
    sizes = panels * vectors * lanes * full, panels * vectors * block
    weights, blocks = (steps.temporary(size * matrices) for size in sizes)
    template = np.ascontiguousarray(made.shared).reshape(-1)
    right = steps.inputs[1]
    assert right is not None
    steps.call(
        PackColumnsSpec(vectors, turned), right, weights, blocks,
        steps.constant("shared", lambda: template), made.k, full, made.n, panels,
        made.k if turned else made.n, made.k * made.n, template.size,
        made.factor, made.base, made.offset,
        items=matrices * panels, cost_ns=50 + matrices * sizes[0] / (4.0 if turned else 12.0),
    )  # fmt: skip
    return weights, blocks, *sizes


def _multiply(
    steps: Lowering, made: _Matrices, tile: tuple[int, int, int], left: Operand, left_at: int,
    parameters: Operand | None, right: tuple[tuple[Operand, Operand, int, int], int], number: int,
) -> None:  # fmt: skip
    """One matrix times one matrix."""
    (weights, blocks, weight_bytes, block_bytes), right_at = right
    rows, vectors, chains = tile
    lanes = steps.isa.lanes(i32)
    full = -(-made.k // (4 * chains)) * 4 * chains
    panels = -(-made.n // (lanes * vectors))
    ones = np.zeros(full + 64, np.int8)
    ones[: made.k] = 1
    spec = ConvSpec(
        rows, vectors, made.epilogue, made.unsigned, chains=chains, sums=made.sums
    )
    common = made.common
    if parameters is not None:
        common = parameters.at(left_at * made.m * hybrid_kernels.PARAMETER_BYTES)
    tiles = -(-made.m // rows)
    group = panels if tiles >= FEW_TILES else 1
    steps.call(
        spec, left.at(left_at * made.m * made.k), weights.at(right_at * weight_bytes),
        blocks.at(right_at * block_bytes),
        steps.constant(f"ones {full}", lambda: ones) if made.sums else 0, 0, 0,
        steps.outputs[0].at(number * made.m * made.n * made.out_bytes), common, 0, 0,
        *(full, made.m, max(made.n - lanes, 0), made.k, made.n, 0, panels, group),
        *(1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0),
        items=tiles * -(-panels // group),
        cost_ns=product_ns(steps.isa, tiles * rows, panels * vectors * lanes, full),
    )  # fmt: skip
