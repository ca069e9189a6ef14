"""Lowerings of float matrix products, and what they share with convolutions: epilogues, costs."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import f32
from litejit.kernels.epilogue_f32 import ADD, Epilogue
from litejit.kernels.gemm_f32 import (
    DotF32,
    F32Array,
    GemmF32,
    Tile,
    TransposePanelsF32,
    choose_tile,
    pack_panels,
    pad_bias,
)
from litejit.model.options import Activation
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.blocks import copy_box
from litejit.ops.views import read_strides, renames, repeats, written_strides
from litejit.record import Record
from litejit.types import F32, TensorType

_FUSED: dict[Any, Epilogue] = {
    Activation.NONE: (),
    Activation.RELU: ("relu",),
    Activation.RELU6: ("relu6",),
    Activation.RELU_N1_TO_1: ("relu_n1_to_1",),
    Activation.TANH: ("tanh",),
}  # fused activations, as words of an epilogue
_FOLLOWERS: dict[str, Epilogue] = {
    "RELU": ("relu",),
    "RELU6": ("relu6",),
    "RELU_N1_TO_1": ("relu_n1_to_1",),
    "RELU_0_TO_1": ("relu_0_to_1",),
    "HARD_SWISH": ("hard_swish",),
    "LOGISTIC": ("logistic",),
    "SWISH": ("swish",),
    "TANH": ("tanh",),
    "ELU": ("elu",),
}  # operators of one input that can run on the sums

L1, L2 = 24 << 10, 256 << 10  # bytes of one operand that should stay in these caches


# -- what is fused --


def fusible_after(node: Node, follower: Node, position: int) -> bool:
    """Activations, one ADD of a tensor of the same shape, and what leaves the bytes as they are."""
    if epilogue_of(node) is None or follower.chain:
        return False
    out = follower.output(0)
    if follower.op.keeps_bytes and out.shape is not None:
        return position == 0 and out.dtype == F32 and out.nbytes == node.output(0).nbytes
    if out.dtype != F32 or out.shape is None or out.shape != node.output(0).shape:
        return False
    if follower.name in _FOLLOWERS:
        return True
    if follower.name != "ADD" or any(part.name == "ADD" for part in node.after):
        return False
    other = follower.input(1 - position)
    same = other.dtype == F32 and other.shape == out.shape
    return same and follower.options.activation in _FUSED


def epilogue_of(node: Node) -> Epilogue | None:
    """The words for the node's own activation and its followers; None: there are none."""
    words = _FUSED.get(getattr(node.core.options, "activation", Activation.NONE))
    if words is None:
        return None
    bound = ("bound",) if node.core.op.is_bounded else ()
    words = (*bound, *words)
    for follower in node.after:
        if follower.name == "ADD":
            words += (ADD, *bound, *_FUSED[follower.options.activation])
        elif not follower.op.keeps_bytes:
            words += _FOLLOWERS[follower.name]
    return words


def residual_of(node: Node, steps: Lowering) -> Operand | None:
    """What a fused ADD adds; None where none is fused."""
    taken = len(node.core.inputs)
    for follower in node.after:
        if follower.name == "ADD":
            return steps.inputs[taken]
        taken += len(follower.inputs) - 1
    return None


class Sums(Record):
    """What every float kernel of a node takes besides its input and weights."""

    epilogue: Epilogue
    y: Operand
    residual: Operand
    bias: Any
    units: int

    def padded_bias(self, steps: Lowering, columns: int) -> Operand:
        """The bias as long as whole panels."""
        return steps.constant(f"bias {columns}", lambda: pad_bias(self.bias, self.units, columns))


def sums_of(node: Node, steps: Lowering, bias: TensorType | None, units: int) -> Sums | None:
    """What follows the sums of a node; None where no kernel applies its activation."""
    epilogue = epilogue_of(node)
    if epilogue is None:
        return None
    y = steps.outputs[0]
    residual: Operand | None = y  # read only where the epilogue adds
    if ADD in epilogue:
        residual = residual_of(node, steps)
    assert residual is not None
    return Sums(epilogue, y, residual, None if bias is None else bias.value, units)


def nanoseconds(isa: Isa, multiply_adds: float, nbytes: float) -> float:
    """Time on one thread: some 7.5 vector multiply-adds and 100 bytes a nanosecond."""
    return 50.0 + multiply_adds / (isa.lanes(f32) * 7.5) + nbytes / 100.0


# -- matrix products --


def product(
    steps: Lowering, out: Sums, x: Operand, w: Operand, tile: Tile, m: int, k: int,
    *, bias: Operand, x_row: int = 0, x_k: int = 1, w_k: int = 0, w_panel: int = 0,
    y: Operand | None = None, y_row: int = 0, batches: int = 1, x_batch: int = 0,
    w_batch: int = 0, y_batch: int = 0, residual: Operand | None = None, n: int = 0,
) -> None:  # fmt: skip
    """y[b, m, n] = epilogue(x[b, m, k] w[b, k, n] + bias); pitches default to packed ones."""
    n = n or out.units
    columns = tile.columns(steps.isa)
    panels = -(-n // columns)
    row_tiles = -(-m // tile.rows)
    tile_bytes = tile.rows * k * 4
    if panels * columns * k * 4 <= L2 // 2 and row_tiles > 1:
        tiles, wide = max(1, min(row_tiles, L1 // tile_bytes)), panels
    else:
        tiles = max(1, min(row_tiles, L2 // tile_bytes))
        wide = max(1, min(panels, (32 << 10) // (columns * k * 4)))
    # few items do not split evenly: make them smaller
    while tiles > 1 and batches * -(-row_tiles // tiles) * -(-panels // wide) < 8:
        tiles = -(-tiles // 2)
    across, down = -(-panels // wide), -(-row_tiles // tiles)
    ahead = tiles >= 3 and k * n * 4 > L2  # else they are in the second cache, or used once
    work = batches * m * k * panels * columns
    traffic = 4.0 * (batches * m * (k + n) + k * n)
    steps.call(
        GemmF32(tile, n % columns != 0, out.epilogue, ahead),
        x, w, bias, y or out.y, residual or out.residual, m, n, k,
        x_row or k, x_k, y_row or n, w_k or columns, w_panel or columns * k,
        x_batch, w_batch, y_batch, tiles, wide, across * down, across,
        items=batches * across * down, cost_ns=nanoseconds(steps.isa, work, traffic),
    )  # fmt: skip


def dense(
    steps: Lowering, out: Sums, x: Operand, weights: TensorType, m: int, k: int,
    at: Operand | None = None,
) -> None:  # fmt: skip
    """x[m, k] times weights [n, ..., k]: a product, or dots where n is 1.

    Weights that are no constant lie `at` the run's memory, and are packed by every run.
    """
    isa, units = steps.isa, out.units
    lanes = isa.lanes(f32)
    if at is not None:
        tile = choose_tile(isa, m, units)
        w = pack_at_run(steps, at, tile, units, k)
        product(steps, out, x, w, tile, m, k, bias=out.padded_bias(steps, tile.columns(isa)))
        return
    if units == 1 and m >= lanes and not isa.in_order:
        w = steps.constant("column", lambda: pad_bias(plain(weights), k, lanes))
        items = -(-m // lanes)
        steps.call(
            DotF32(out.epilogue), x, w, out.padded_bias(steps, 1), out.y, out.residual, m, k, k,
            items=items, cost_ns=nanoseconds(isa, items * (lanes * (k + 20.0)), 4.0 * m * k),
        )  # fmt: skip
        return
    tile = choose_tile(isa, m, units)
    w = packed_weights(steps, weights, lambda a: a.reshape(units, k).T, tile)
    bias = out.padded_bias(steps, tile.columns(isa))
    product(steps, out, x, w, tile, m, k, bias=bias)


def packed_weights(steps: Lowering, weights: TensorType, matrix: Any, tile: Tile) -> Operand:
    """Weights as panels; `matrix` makes [K, N] of the constant."""
    columns = tile.columns(steps.isa)
    return steps.constant(f"panels {columns}", lambda: pack_panels(matrix(plain(weights)), columns))


def plain(weights: TensorType) -> F32Array:
    """Constant weights, f16 ones widened."""
    return np.asarray(weights.value).astype(np.float32, copy=False)


def lower_fully_connected(node: Node, steps: Lowering) -> None:
    """FULLY_CONNECTED of floats; weights that are no constant are packed at every run."""
    core = node.core
    x, weights, bias = core.input(0), core.input(1), core.optional(2)
    units, depth = weights.dims
    out = sums_of(node, steps, bias, units)
    if out is None or not depth or not units or not x.size or weights.dtype.bits not in (16, 32):
        return
    at = None if weights.is_constant else steps.inputs[1]
    if steps.inputs[0] is not None:
        dense(steps, out, steps.inputs[0], weights, x.size // depth, depth, at)


def pack_at_run(
    steps: Lowering, w: Operand, tile: Tile, n: int, k: int, batches: int = 1
) -> Operand:
    """[batches, n, k] to panels in temporary memory."""
    columns = tile.columns(steps.isa)
    size = -(-n // columns) * columns * k
    pitches = (k, n * k, size, columns, columns * k)
    return _transposed(steps, w, tile.vectors, n, k, batches, pitches)


def _transposed(
    steps: Lowering, w: Operand, vectors: int, n: int, k: int, batches: int,
    pitches: tuple[int, int, int, int, int],
) -> Operand:  # fmt: skip
    """Pitches: rows of w, matrices of w, matrices of the result, k and panels in it."""
    w_row, w_batch, size, p_k, p_panel = pitches
    panels = -(-n // (vectors * steps.isa.lanes(f32)))
    packed = steps.temporary(4 * size * batches)
    steps.call(
        TransposePanelsF32(vectors), w, packed, n, k, w_row, w_batch, size, panels, p_k, p_panel,
        items=batches * panels, cost_ns=50 + batches * size / 14,
    )  # fmt: skip
    return packed


def lower_batch_matmul(node: Node, steps: Lowering) -> None:
    """BATCH_MATMUL of floats; batch dimensions are broadcast by pitches of 0."""
    core = node.core
    x, y, result = core.input(0), core.input(1), core.output(0)
    floats = x.dtype == y.dtype == result.dtype == F32
    if not floats or not result.size or not x.size or steps.inputs[0] is None:
        return
    if steps.inputs[1] is None:
        return
    if node.chain:
        _through_views(node, steps)
        return
    adj_x, adj_y = core.options.adj_x, core.options.adj_y
    m, n = result.dims[-2:]
    k = x.dims[-2] if adj_x else x.dims[-1]
    plan = batches_of(x.dims[:-2], y.dims[:-2], result.dims[:-2])
    if plan is None:
        return
    out = sums_of(node, steps, None, n)
    assert out is not None
    isa, right = steps.isa, steps.inputs[1]
    count, x_step, y_step, outer = plan
    if x_step and not y_step and not adj_x and len(outer) == 1:
        m, count = m * count, 1  # all rows meet the same matrix
    tile, parts = _column_parts(isa, m, n, free=adj_y)
    columns = tile.columns(isa)
    if adj_y:
        panels = -(-n // columns)
        right = pack_at_run(steps, right, tile, n, k, prod(y.dims[:-2]))
        size, pitches = panels * columns * k, (columns, columns * k)
    else:
        size, pitches = n * k, (n, columns)
    bias = out.padded_bias(steps, columns)
    for position, (left_at, right_at) in enumerate(outer):
        for start, width, part in parts:
            place = 4 * (position * count * m * n + start)
            product(
                steps, out, steps.inputs[0].at(4 * left_at * m * k),
                right.at(4 * (right_at * size + start)), part, m, k, bias=bias,
                x_row=1 if adj_x else k, x_k=m if adj_x else 1, w_k=pitches[0],
                w_panel=pitches[1] if adj_y else part.columns(isa), y=out.y.at(place), y_row=n,
                residual=out.residual.at(place), batches=count, x_batch=x_step * m * k,
                w_batch=y_step * size, y_batch=m * n, n=width,
            )  # fmt: skip


def absorbs_view(node: Node, link: Node, position: int) -> bool:
    """May the product read input `position`, or with -1 write its result, through `link`?

    It may where matrices lie at one pitch, with rows in one piece; of input 1 also columns.
    """
    core = node.core
    tensors = (core.input(0), core.input(1), core.output(0))
    known = all(t.dtype == F32 and t.shape is not None and t.size for t in tensors)
    turned = core.options.adj_x or core.options.adj_y
    if not known or turned or not (renames(link) or (position >= 0 and repeats(link))):
        return False
    found = _pitches(node, link if position == 0 else None, link if position == 1 else None,
                     link if position < 0 else None)  # fmt: skip
    if found is None or any(0 in pitches[1:] for pitches in found):
        return False
    return all(column == 1 for _, _, column in found) or (
        found[0][2] == found[2][2] == 1 and found[1][1] == 1
    )


def _pitches(
    node: Node, left: Node | None = None, right: Node | None = None, behind: Node | None = None
) -> list[list[int]] | None:
    """Of matrices, rows and columns of both operands and the result, in elements.

    `left`, `right` and `behind` are further nodes to read and write through.
    """
    core = node.core
    x, w, y = core.input(0), core.input(1), core.output(0)
    batch, (m, n), k = y.dims[:-2], y.dims[-2:], x.dims[-1]
    count = prod(batch)
    after = (*node.after, behind) if behind else node.after
    found = [
        read_strides(x, _links(node, x, left), (*batch, m, k), (count, m, k)),
        read_strides(w, _links(node, w, right), (*batch, k, n), (count, k, n)),
        written_strides(y, after, (count, m, n)),
    ]
    known = [pitches for pitches in found if pitches is not None]
    return known if len(known) == 3 else None


def _links(node: Node, tensor: TensorType, first: Node | None) -> list[Node]:
    """The fused nodes that make an operand of the product, and the one before them."""
    made = {part.output(0).index: part for part in node.chain if part.op is not node.core.op}
    links: list[Node] = []
    while tensor.index in made:
        links.insert(0, made[tensor.index])
        tensor = links[0].input(0)
    return [first, *links] if first else links


def _through_views(node: Node, steps: Lowering) -> None:
    """A product whose operands or result lie in memory as fused nodes have them."""
    core, isa = node.core, steps.isa
    pitches = _pitches(node)
    assert pitches is not None
    left, right, made = pitches
    result = core.output(0)
    m, n = result.dims[-2:]
    k, count = core.input(0).dims[-1], prod(result.dims[:-2])
    x, w = steps.inputs[:2]
    assert x is not None and w is not None
    if m == 1:  # no row follows in a matrix: those of all matrices are one
        left[1], made[1] = left[0] or k, made[0]
    if left[0] and not right[0] and left[0] == m * left[1] and made[0] == m * made[1]:
        m, count = m * count, 1
    tile, parts = _column_parts(isa, m, n, free=False)
    columns, lanes = tile.columns(isa), isa.lanes(f32)
    w_batch, w_k, apart = right
    if apart != 1:
        w_k = -(-n // lanes) * lanes + lanes  # no power of two
        w_batch = w_k * k if right[0] else 0
        copies, size = count if right[0] else 1, w_k * k
        if k < 2 * lanes:
            box = [(copies, right[0], size), (k, 1, w_k), (n, apart, 1)]
            target = steps.temporary(4 * copies * size)
            copy_box(steps, target, w, [(a, 4 * b, 4 * c) for a, b, c in box], 4)
            w = target
        else:
            w = _transposed(steps, w, 1, n, k, copies, (apart, right[0], size, w_k, lanes))
    out = Sums((), steps.outputs[0], steps.outputs[0], None, n)
    bias = out.padded_bias(steps, columns)
    for start, width, part in parts:
        product(
            steps, out, x, w.at(4 * start), part, m, k, bias=bias, x_row=left[1], x_k=left[2],
            w_k=w_k, w_panel=part.columns(isa), y=out.y.at(4 * start), y_row=made[1], batches=count,
            x_batch=left[0], w_batch=w_batch, y_batch=made[0], n=width,
        )  # fmt: skip


def _column_parts(
    isa: Isa, m: int, n: int, *, free: bool
) -> tuple[Tile, list[tuple[int, int, Tile]]]:
    """A tile, and (first column, columns, tile) of products that make all columns.

    Unless `free`, rows of the right operand lie as they are: they may be read less than a vector
    past their end, so that panels have no empty vectors.
    """
    lanes = isa.lanes(f32)
    vectors = -(-n // lanes)
    if free:
        tile = choose_tile(isa, m, n)
        return tile, [(0, n, tile)]
    wide = next(v for v in (2, 3, 1) if vectors % v == 0)
    if wide > 1 or vectors < 4:
        tile = choose_tile(isa, m, n, fixed_vectors=wide)
        return tile, [(0, n, tile)]
    most = (vectors - 1) * lanes
    tile = choose_tile(isa, m, most, fixed_vectors=2)
    rest = choose_tile(isa, m, n - most, fixed_vectors=1)
    return tile, [(0, most, tile), (most, n - most, rest)]


def batches_of(
    x: tuple[int, ...], y: tuple[int, ...], out: tuple[int, ...]
) -> tuple[int, int, int, list[tuple[int, int]]] | None:
    """(matrices a call, steps of x and y from one to the next, first matrices of every call).

    As many of the last batch dimensions as move alike go into one call.
    """
    rank = len(out)
    x, y = (1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y
    split = rank
    count, moves = 1, (True, True)
    while split and out[split - 1] >= 1:
        dims = x[split - 1], y[split - 1]
        now = tuple(d == out[split - 1] for d in dims)
        if out[split - 1] > 1:
            if count > 1 and now != moves:
                break
            moves = (now[0], now[1])
        count *= out[split - 1]
        split -= 1
    inner_x, inner_y = prod(x[split:]), prod(y[split:])
    numbers = np.indices(out[:split]).reshape(split, -1).T if split else np.zeros((1, 0), int)
    if len(numbers) > 64:
        return None
    outer = [(_number(x[:split], at) * inner_x, _number(y[:split], at) * inner_y) for at in numbers]
    return count, int(moves[0]), int(moves[1]), outer


def _number(dims: tuple[int, ...], at: Any) -> int:
    """Position of a matrix among those of an operand whose dimensions of 1 are broadcast."""
    number = 0
    for size, index in zip(dims, at, strict=True):
        number = number * size + (int(index) if size > 1 else 0)
    return number
