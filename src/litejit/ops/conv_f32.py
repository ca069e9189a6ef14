"""Lowerings of float convolutions and matrix products to the kernels *_f32 and winograd."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import f32
from litejit.kernels import conv_f32, winograd
from litejit.kernels.depthwise_f32 import DepthwiseF32, DepthwiseRollF32, RepeatChannelsF32
from litejit.kernels.epilogue_f32 import ADD, Epilogue
from litejit.kernels.gemm_f32 import (
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
from litejit.ops.convolution import operands, transposed_window_of
from litejit.ops.window import Window2D, window_of
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
    "TANH": ("tanh",),
    "ELU": ("elu",),
}  # operators of one input that can run on the sums

_L1, _L2 = 24 << 10, 256 << 10  # bytes of one operand that should stay in these caches


# -- what is fused --


def fusible_after(node: Node, follower: Node, position: int) -> bool:
    """Activations, and one ADD of a tensor of the same shape."""
    if _epilogue(node) is None or follower.chain:
        return False
    out = follower.output(0)
    if out.dtype != F32 or out.shape is None or out.shape != node.output(0).shape:
        return False
    if follower.name in _FOLLOWERS:
        return True
    if follower.name != "ADD" or any(part.name == "ADD" for part in node.after):
        return False
    other = follower.input(1 - position)
    same = other.dtype == F32 and other.shape == out.shape
    return same and follower.options.activation in _FUSED


def _epilogue(node: Node) -> Epilogue | None:
    """The words for the node's own activation and its followers; None: there are none."""
    words = _FUSED.get(getattr(node.core.options, "activation", Activation.NONE))
    if words is None:
        return None
    for follower in node.after:
        if follower.name == "ADD":
            words += (ADD, *_FUSED[follower.options.activation])
        else:
            words += _FOLLOWERS[follower.name]
    return words


class _Float(Record):
    """What every float kernel of a node takes besides its input and weights."""

    epilogue: Epilogue
    y: Operand
    residual: Operand
    bias: Any
    units: int

    def padded_bias(self, steps: Lowering, columns: int) -> Operand:
        """The bias as long as whole panels."""
        return steps.constant(
            f"bias {columns}", lambda: pad_bias(self.bias, self.units, columns)
        )


def _float(node: Node, steps: Lowering, bias: TensorType | None, units: int) -> _Float | None:
    epilogue = _epilogue(node)
    if epilogue is None:
        return None
    y = steps.outputs[0]
    residual: Operand | None = y  # read only where the epilogue adds
    if ADD in epilogue:
        residual = steps.inputs[len(node.core.inputs)]
    assert residual is not None
    return _Float(epilogue, y, residual, None if bias is None else bias.value, units)


def _nanoseconds(isa: Isa, multiply_adds: float, nbytes: float) -> float:
    """Time on one thread: at most 2 vector multiply-adds a cycle, some 40 bytes a nanosecond."""
    return 50.0 + multiply_adds / (isa.lanes(f32) * 6.5) + nbytes / 40.0


# -- matrix products --


def _gemm(
    steps: Lowering, out: _Float, x: Operand, w: Operand, tile: Tile, m: int, k: int,
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
    if panels * columns * k * 4 <= _L2 // 2 and row_tiles > 1:
        tiles, wide = max(1, min(row_tiles, _L1 // tile_bytes)), panels
    else:
        tiles = max(1, min(row_tiles, _L2 // tile_bytes))
        wide = max(1, min(panels, (32 << 10) // (columns * k * 4)))
    # few items do not split evenly: make them smaller
    while tiles > 1 and batches * -(-row_tiles // tiles) * -(-panels // wide) < 12:
        tiles = -(-tiles // 2)
    across, down = -(-panels // wide), -(-row_tiles // tiles)
    work = batches * m * k * panels * columns
    traffic = 4.0 * (batches * m * (k + n) + k * n)
    steps.call(
        GemmF32(tile, n % columns != 0, out.epilogue),
        x, w, bias, y or out.y, residual or out.residual, m, n, k,
        x_row or k, x_k, y_row or n, w_k or columns, w_panel or columns * k,
        x_batch, w_batch, y_batch, tiles, wide, across * down, across,
        items=batches * across * down, cost_ns=_nanoseconds(steps.isa, work, traffic),
    )  # fmt: skip


def _packed(steps: Lowering, weights: TensorType, matrix: Any, tile: Tile) -> Operand:
    """Weights as panels; `matrix` makes [K, N] of the constant."""
    columns = tile.columns(steps.isa)
    return steps.constant(
        f"panels {columns}", lambda: pack_panels(matrix(_plain(weights)), columns)
    )


def _plain(weights: TensorType) -> F32Array:
    return np.asarray(weights.value).astype(np.float32, copy=False)


def lower_fully_connected(node: Node, steps: Lowering) -> None:
    """FULLY_CONNECTED of floats; weights that are no constant are packed at every run."""
    core = node.core
    x, weights, bias = core.input(0), core.input(1), core.optional(2)
    units, depth = weights.dims
    out = _float(node, steps, bias, units)
    if out is None or not depth or not units or not x.size or weights.dtype.bits not in (16, 32):
        return
    if (bias is not None and not bias.is_constant) or steps.inputs[0] is None:
        return
    m = x.size // depth
    tile = choose_tile(steps.isa, m, units)
    columns = tile.columns(steps.isa)
    if weights.is_constant:
        w = _packed(steps, weights, lambda a: a.T, tile)
    elif weights.dtype == F32 and steps.inputs[1] is not None:
        w = _pack_at_run(steps, steps.inputs[1], tile, units, depth)
    else:
        return
    _gemm(steps, out, steps.inputs[0], w, tile, m, depth, bias=out.padded_bias(steps, columns))


def _pack_at_run(
    steps: Lowering, w: Operand, tile: Tile, n: int, k: int, batches: int = 1
) -> Operand:
    """[batches, n, k] to panels in temporary memory."""
    columns = tile.columns(steps.isa)
    panels = -(-n // columns)
    size = panels * columns * k
    packed = steps.temporary(4 * size * batches)
    steps.call(
        TransposePanelsF32(tile.vectors), w, packed, n, k, k, n * k, size, panels,
        items=batches * panels, cost_ns=50 + batches * size / 6,
    )  # fmt: skip
    return packed


def lower_batch_matmul(node: Node, steps: Lowering) -> None:
    """BATCH_MATMUL of floats; batch dimensions are broadcast by pitches of 0."""
    core = node.core
    x, y, result = core.input(0), core.input(1), core.output(0)
    floats = x.dtype == y.dtype == result.dtype == F32
    if not floats or not result.size or not x.size or steps.inputs[0] is None:
        return
    if steps.inputs[1] is None or _epilogue(node) is None:
        return
    adj_x, adj_y = core.options.adj_x, core.options.adj_y
    m, n = result.dims[-2:]
    k = x.dims[-2] if adj_x else x.dims[-1]
    plan = _batches(x.dims[:-2], y.dims[:-2], result.dims[:-2])
    if plan is None:
        return
    out = _float(node, steps, None, n)
    assert out is not None
    isa, right = steps.isa, steps.inputs[1]
    vectors = -(-n // isa.lanes(f32))
    # rows of an operand that lies as it is may be read less than a vector past their end
    wide = 0 if adj_y else next(v for v in (2, 3, 1) if vectors % v == 0)
    tile = choose_tile(isa, m, n, fixed_vectors=wide)
    columns = tile.columns(isa)
    count, x_step, y_step, outer = plan
    if adj_y:
        panels = -(-n // columns)
        right = _pack_at_run(steps, right, tile, n, k, prod(y.dims[:-2]))
        size, pitches = panels * columns * k, (columns, columns * k)
    else:
        size, pitches = n * k, (n, columns)
    bias = out.padded_bias(steps, columns)
    for position, (left_at, right_at) in enumerate(outer):
        _gemm(
            steps, out, steps.inputs[0].at(4 * left_at * m * k), right.at(4 * right_at * size),
            tile, m, k, bias=bias, x_row=1 if adj_x else k, x_k=m if adj_x else 1,
            w_k=pitches[0], w_panel=pitches[1], y=out.y.at(4 * position * count * m * n),
            residual=out.residual.at(4 * position * count * m * n),
            batches=count, x_batch=x_step * m * k, w_batch=y_step * size, y_batch=m * n,
        )  # fmt: skip


def _batches(
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


# -- convolutions --


def lower_conv(node: Node, steps: Lowering) -> None:
    """CONV_2D: a matrix product, Winograd, or the direct kernel, group by group."""
    window = window_of(node)
    _, weights, bias = operands(node)
    units, depth = weights.dims[0], weights.dims[3]
    out = _float(node, steps, bias, units)
    if out is None or not node.output(0).size or steps.inputs[0] is None:
        return
    x = steps.inputs[0]
    if depth == window.channels and window.is_pointwise:
        m = window.batch * window.out_h * window.out_w
        tile = choose_tile(steps.isa, m, units)
        w = _packed(steps, weights, lambda a: a.reshape(units, depth).T, tile)
        bias_row = out.padded_bias(steps, tile.columns(steps.isa))
        _gemm(steps, out, x, w, tile, m, depth, bias=bias_row)
    elif depth == window.channels and _pays_winograd(window, units):
        _winograd(steps, out, window, weights, x)
    else:
        _direct(steps, out, window, weights, x)


def _pays_winograd(window: Window2D, units: int) -> bool:
    shape = (window.filter_h, window.filter_w, window.stride_h, window.stride_w)
    plain = shape == (3, 3, 1, 1) and window.dilation_h == window.dilation_w == 1
    tiles = window.batch * -(-window.out_h // 4) * -(-window.out_w // 4)
    whole = tiles * 16 <= 1.8 * window.batch * window.out_h * window.out_w
    return plain and window.channels >= 8 and units >= 5 and tiles >= 4 and whole


def _winograd(
    steps: Lowering, out: _Float, window: Window2D, weights: TensorType, x: Operand
) -> None:
    isa, units, channels = steps.isa, out.units, window.channels
    across = -(-window.out_w // 4)
    tiles = across * -(-window.out_h // 4)
    lanes = isa.lanes(f32)
    wide = -(-channels // lanes) * lanes + -(-units // lanes) * lanes
    largest = max(8, min(56, (320 << 10) // (winograd.PLANES * 4 * wide)))
    blocks = -(-tiles // largest)
    if window.batch == 1 and tiles >= 8:
        blocks += blocks % 2  # two threads get equal shares
    tile = choose_tile(isa, -(-tiles // blocks), units)
    block = max(-(-tiles // blocks), tile.rows)
    columns = tile.columns(isa)
    w = steps.constant(
        f"winograd {columns}",
        lambda: winograd.transform_weights(_plain(weights).transpose(1, 2, 3, 0), columns),
    )
    floats = winograd.scratch_floats(isa, tile, channels, units, block)
    floats = -(-floats // 16) * 16
    sums = window.batch * tiles * winograd.PLANES * channels * -(-units // columns) * columns
    moved = window.batch * tiles * winograd.PLANES * wide * 8.0
    steps.call(
        winograd.WinogradF32(tile, units % lanes != 0, out.epilogue),
        x, w, out.padded_bias(steps, columns), out.y, out.residual, steps.scratch(4 * floats),
        floats, window.in_h, window.in_w, channels, window.out_h, window.out_w, units,
        window.top, window.left, across, tiles, block,
        items=window.batch * -(-tiles // block), cost_ns=_nanoseconds(isa, sums, moved),
    )  # fmt: skip


def _direct(
    steps: Lowering, out: _Float, window: Window2D, weights: TensorType, x: Operand
) -> None:
    depth = weights.dims[3]
    groups = window.channels // depth
    units = out.units // groups
    for group in range(groups):
        own = slice(group * units, (group + 1) * units)
        bias = None if out.bias is None else np.asarray(out.bias).reshape(-1)[own]
        part = _Float(
            out.epilogue, out.y.at(4 * group * units), out.residual.at(4 * group * units),
            bias, units,
        )  # fmt: skip
        _convolve(
            steps, part, window, f"group {group}", x.at(4 * group * depth),
            lambda own=own: _plain(weights)[own].transpose(1, 2, 3, 0), depth,
            pitches=(out.units, window.out_w * out.units),
        )  # fmt: skip


def _convolve(
    steps: Lowering, out: _Float, window: Window2D, name: str, x: Operand, filters: Any,
    depth: int, *, pitches: tuple[int, int], image: int = 0,
) -> None:  # fmt: skip
    """The direct kernel; `filters` makes [h, w, c, n]; pitches of y: pixel, row, and image."""
    isa, units = steps.isa, out.units
    tile = choose_tile(isa, window.out_w, units)
    columns = tile.columns(isa)
    taps, run = window.filter_w, depth
    if window.dilation_w == 1 and depth == window.channels:
        taps, run = 1, window.filter_w * depth
    reach = (window.filter_w - 1) * window.dilation_w + 1
    kernel = window.filter_h * window.filter_w * depth
    w = steps.constant(
        f"{name} filters {columns}", lambda: pack_panels(filters().reshape(kernel, units), columns)
    )
    bias = steps.constant(f"{name} bias {columns}", lambda: pad_bias(out.bias, units, columns))
    floats = conv_f32.scratch_floats(window.filter_h, reach, window.stride_w, window.channels, tile)
    floats = -(-floats // 16) * 16
    panels = -(-units // columns)
    wide = max(1, min(panels, _L2 // max(kernel * columns * 4, 1)))
    across = -(-panels // wide)
    pixels = window.batch * window.out_h * -(-window.out_w // tile.rows) * tile.rows
    cost = _nanoseconds(isa, pixels * kernel * panels * columns, 4.0 * pixels * units)
    # rows an item: some 10 microseconds, for its weights are read anew, but a dozen items at least
    lines = window.batch * window.out_h * across
    rows = max(1, min(int(10_000 * lines / cost), window.batch * window.out_h * across // 12))
    rows = min(rows, window.out_h)
    pixel, row = pitches
    steps.call(
        conv_f32.ConvF32(tile, units % columns != 0, out.epilogue),
        x, w, bias, out.y, out.residual, steps.scratch(4 * floats), floats,
        window.in_h, window.in_w, window.channels, window.out_h, window.out_w, units,
        pixel, row, image or window.out_h * row,
        window.filter_h, window.stride_h, window.stride_w, window.top, window.left,
        window.dilation_h, reach, taps, window.dilation_w * window.channels, run,
        rows, wide, across,
        items=window.batch * -(-window.out_h // rows) * across, cost_ns=cost,
    )  # fmt: skip


def lower_depthwise(node: Node, steps: Lowering) -> None:
    """DEPTHWISE_CONV_2D: rolling sums where the window allows, else the kernel for any window."""
    window = window_of(node)
    _, weights, bias = operands(node)
    units = weights.dims[3]
    out = _float(node, steps, bias, units)
    if out is None or not node.output(0).size or steps.inputs[0] is None:
        return
    x = steps.inputs[0]
    if window.channels == 1:  # every unit sees the one channel: a convolution
        _convolve(
            steps, out, window, "dense", x,
            lambda: _plain(weights).transpose(1, 2, 0, 3), 1, pitches=(units, window.out_w * units),
        )  # fmt: skip
        return
    if units != window.channels:
        x = _repeat_channels(steps, window, x, units)
    _depthwise(steps, out, window, weights, x)


def _repeat_channels(steps: Lowering, window: Window2D, x: Operand, units: int) -> Operand:
    pixels = window.batch * window.in_h * window.in_w
    repeated = steps.temporary(4 * pixels * units)
    steps.call(
        RepeatChannelsF32(), x, repeated, window.channels, units // window.channels,
        items=pixels, cost_ns=50 + pixels * units / 3,
    )  # fmt: skip
    return repeated


def _depthwise(
    steps: Lowering, out: _Float, window: Window2D, weights: TensorType, x: Operand
) -> None:
    isa, units = steps.isa, out.units
    lanes = isa.lanes(f32)
    masked = units < lanes
    w = steps.constant("taps", lambda: _plain(weights))
    bias = steps.constant("bias", lambda: pad_bias(out.bias, units, lanes))
    sizes = (window.in_h, window.in_w, units, window.out_h, window.out_w, window.top)
    taps = window.filter_h * window.filter_w
    work = window.batch * window.out_h * window.out_w * -(-units // lanes) * lanes
    traffic = 4.0 * window.batch * units * (
        window.in_h * window.in_w + window.out_h * window.out_w
    )
    if _may_roll(window):
        high = 4 if window.stride_h == 1 and taps <= 9 else 2 if taps <= 9 else 1
        high = min(high, window.out_h)
        groups, blocks = -(-window.out_h // high), -(-units // lanes)
        across = max(1, min(blocks, -(-8 // (groups * window.batch))))
        zeros = steps.constant("zeros", lambda: np.zeros(window.in_w * units, np.float32))
        steps.call(
            DepthwiseRollF32(
                window.filter_h, window.filter_w, window.stride_h, window.stride_w, window.left,
                window.right, high, masked, out.epilogue,
            ),
            x, w, bias, out.y, out.residual, zeros, *sizes, -(-blocks // across), across,
            items=window.batch * groups * across,
            cost_ns=_nanoseconds(isa, 1.5 * work * taps, traffic),
        )  # fmt: skip
        return
    vectors = 4 if units >= 4 * lanes else 1
    across = -(-units // (lanes * vectors))
    steps.call(
        DepthwiseF32(vectors, masked, out.epilogue),
        x, w, bias, out.y, out.residual, x, *sizes, 1, across,
        window.filter_h, window.filter_w, window.stride_h, window.stride_w,
        window.dilation_h, window.dilation_w, window.left,
        items=window.batch * window.out_h * across,
        cost_ns=_nanoseconds(isa, 3.0 * work * taps, traffic),
    )  # fmt: skip


def _may_roll(window: Window2D) -> bool:
    """What `DepthwiseRollF32` can do, at a reasonable length of code."""
    taps = window.filter_h * window.filter_w
    tails = -(-window.right // window.stride_w)
    return (
        (window.dilation_h == 1 or window.filter_h == 1)
        and (window.dilation_w == 1 or window.filter_w == 1)
        and taps <= 25
        and window.filter_w <= window.in_w
        and window.left <= max(window.filter_w - window.stride_w, 0)
        and tails <= min(window.out_w, 4)
    )


# -- transposed convolutions --


def lower_transpose_conv(node: Node, steps: Lowering) -> None:
    """TRANSPOSE_CONV: a convolution with stride 1 for every phase of the result.

    Where filters do not overlap, one row of the filter is a matrix product.
    """
    window = transposed_window_of(node)
    _, weights, bias = operands(node)
    units, depth = weights.dims[0], weights.dims[3]
    out = _float(node, steps, bias, units)
    position = 2
    if out is None or not node.output(0).size or steps.inputs[position] is None:
        return
    x = steps.inputs[position]
    assert x is not None
    high, wide = window.filter_h, window.filter_w
    apart = (high, wide) == (window.stride_h, window.stride_w) and not window.is_padded
    if apart and (window.in_h, window.in_w) == (window.out_h * high, window.out_w * wide):
        _transpose_apart(steps, out, window, weights, x)
        return
    for phase_h in range(min(window.stride_h, window.in_h)):
        for phase_w in range(min(window.stride_w, window.in_w)):
            _transpose_phase(steps, out, window, weights, x, (phase_h, phase_w), depth)


def _transpose_apart(
    steps: Lowering, out: _Float, window: Window2D, weights: TensorType, x: Operand
) -> None:
    """Each filter row h: [out_w, depth] x [depth, filter_w * units] fills row i * s + h of y."""
    units, depth = weights.dims[0], weights.dims[3]
    n = window.filter_w * units
    m = window.out_w
    tile = choose_tile(steps.isa, m, n)
    columns = tile.columns(steps.isa)
    bias = steps.constant(
        f"tiled bias {columns}",
        lambda: pad_bias(
            None if out.bias is None else np.tile(np.asarray(out.bias).ravel(), window.filter_w),
            n, columns,
        ),
    )  # fmt: skip
    for h in range(window.filter_h):
        w = steps.constant(
            f"row {h} {columns}",
            lambda h=h: pack_panels(
                _plain(weights)[:, h].transpose(2, 1, 0).reshape(depth, n), columns
            ),
        )
        at = 4 * h * window.in_w * units
        _gemm(
            steps, out, x, w, tile, m, depth, bias=bias, n=n, y=out.y.at(at),
            residual=out.residual.at(at), batches=window.batch * window.out_h,
            x_batch=m * depth, y_batch=window.filter_h * window.in_w * units,
        )  # fmt: skip


def _transpose_phase(
    steps: Lowering, out: _Float, window: Window2D, weights: TensorType, x: Operand,
    phase: tuple[int, int], depth: int,
) -> None:  # fmt: skip
    """Outputs whose row and column are `phase` modulo the strides: a convolution of its own."""
    units = weights.dims[0]
    rows, columns = window.rows, window.columns
    first_h, count_h, top = _phase_taps(phase[0], rows.filter, rows.stride, rows.before)
    first_w, count_w, left = _phase_taps(phase[1], columns.filter, columns.stride, columns.before)
    height = -(-(window.in_h - phase[0]) // rows.stride)
    width = -(-(window.in_w - phase[1]) // columns.stride)
    forward = Window2D(
        *(window.batch, window.out_h, window.out_w, depth, height, width),
        *(count_h, count_w, 1, 1, 1, 1, top, left, 0, 0),
    )
    at = 4 * (phase[0] * window.in_w + phase[1]) * units

    def filters() -> F32Array:
        some = _plain(weights)[:, first_h :: rows.stride, first_w :: columns.stride]
        return some[:, ::-1, ::-1].transpose(1, 2, 3, 0)

    part = _Float(out.epilogue, out.y.at(at), out.residual.at(at), out.bias, units)
    _convolve(
        steps, part, forward, f"phase {phase}", x, filters, depth,
        pitches=(columns.stride * units, rows.stride * window.in_w * units),
        image=window.in_h * window.in_w * units,
    )  # fmt: skip


def _phase_taps(phase: int, filter: int, stride: int, before: int) -> tuple[int, int, int]:
    """(first tap, number of taps, padding before) of the convolution for one phase.

    Output phase + stride * q takes tap h of input (phase + before - h) / stride + q: taps in
    steps of `stride`, the last of which meets the first input.
    """
    first = (phase + before) % stride
    count = max(-(-(filter - first) // stride), 0)
    ahead = (phase + before - first) // stride
    return first, count, count - 1 - ahead
