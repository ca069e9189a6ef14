"""Where 8-bit 3x3 convolutions take Winograd's way, and its call."""

from __future__ import annotations

import numpy as np

from litejit.codegen.lang import i16
from litejit.kernels import packing_int8 as packing
from litejit.kernels.epilogue_int8 import Epilogue
from litejit.kernels.winograd import PLANES
from litejit.kernels.winograd_int8 import LARGEST_SUM, WinogradInt8, pack_weights, scratch_bytes
from litejit.ops.layer_int8 import Layer
from litejit.ops.window import Window2D
from litejit.types import Array

_SCRATCH = 320 << 10  # bytes of a block's planes that should stay in the second cache
_CACHED = 512 << 10  # bytes of weights that stay there beside them
_TILES = {32: ((16, 1, 1.06), (14, 2, 1.0), (8, 2, 1.02), (7, 3, 1.0), (4, 4, 1.02)),
          16: ((6, 1, 1.1), (4, 2, 1.0))}  # fmt: skip


def pays(layer: Layer, window: Window2D, depth: int) -> bool:
    """Is Winograd possible, exact, and clearly sooner than the direct products?"""
    shape = (window.filter_h, window.filter_w, window.stride_h, window.stride_w)
    plain = shape == (3, 3, 1, 1) and window.dilation_h == window.dilation_w == 1
    fits = window.out_h >= 4 and window.out_w >= 4 and depth == window.channels
    if not plain or not fits or layer.isa.arch != "x86_64":
        return False
    if not isinstance(layer.epilogue(window.channels), Epilogue):
        return False
    return _winograd_ns(layer, window) < 0.85 * _direct_ns(layer, window) and _is_exact(layer)


def _is_exact(layer: Layer) -> bool:
    """Do all sums stay below what the kernel can tell apart?"""
    weights = layer.numbers.weights
    sizes = np.abs(weights.raw.astype(np.int32) - weights.zero)
    largest = int(sizes.sum((1, 2, 3), dtype=np.int64).max()) * (255 if layer.unsigned else 128)
    return largest < LARGEST_SUM and int(sizes.max()) <= 255


def _tiles(window: Window2D) -> int:
    return -(-window.out_h // 4) * -(-window.out_w // 4)


def _direct_ns(layer: Layer, window: Window2D) -> float:
    units = -(-len(layer.numbers.bias) // layer.lanes) * layer.lanes
    products = 9.0 * window.out_h * window.out_w * window.channels * units
    rate = layer.lanes * (30 if layer.isa.dot else 7)
    return products / rate * (1.25 if layer.numbers.weights.parts == "sums" else 1.0)


def _winograd_ns(layer: Layer, window: Window2D) -> float:
    lanes, depth = layer.lanes, window.channels
    vectors = -(-len(layer.numbers.bias) // lanes)
    tiles = _tiles(window)
    data = -(-depth // (2 * lanes)) * 32.0
    products = PLANES * depth * vectors / (15.5 if layer.isa.dot else 9)
    read = max(0, PLANES * 2 * depth * vectors * lanes - _CACHED) / 40
    return tiles * (data + products + vectors * 26.0) + read


def _tile(layer: Layer, block: int, vectors: int) -> tuple[int, int]:
    def cost(tile: tuple[int, int, float]) -> float:
        rows, wide, factor = tile
        return -(-block // rows) * rows * -(-vectors // wide) * wide * factor

    rows, wide, _ = min(_TILES[layer.isa.registers], key=cost)
    return rows, wide


def convolve(layer: Layer, window: Window2D) -> None:
    """One call."""
    steps, numbers = layer.steps, layer.numbers
    lanes, depth, units = layer.lanes, window.channels, len(numbers.bias)
    vectors, tiles = -(-units // lanes), _tiles(window)
    wide = -(-depth // 32) * 32
    largest = max(4, min(48, _SCRATCH // (PLANES * (2 * wide + 4 * lanes * vectors))))
    blocks = -(-tiles // largest)
    if tiles >= 16:
        blocks += blocks % 2  # two threads get equal shares
    rows, across = _tile(layer, -(-tiles // blocks), vectors)
    block = max(rows, -(-tiles // blocks))
    epilogue = layer.epilogue(units)
    assert isinstance(epilogue, Epilogue)
    half = depth <= steps.isa.lanes(i16) // 2
    spec = WinogradInt8(rows, across, epilogue, layer.unsigned, half, window.batch > 1)
    order = packing.channel_order(units, lanes, across)
    panels = len(order) // lanes // across
    scratch = scratch_bytes(steps.isa, spec, depth, panels, block)

    def meant() -> Array:
        return numbers.weights.raw.astype(np.int32) - numbers.weights.zero

    weights = steps.constant(
        f"winograd {across}",
        lambda: pack_weights(meant().transpose(1, 2, 0, 3), order, lanes * across),
    )
    channels = steps.constant(
        f"biases {across}",
        lambda: layer.unmoved_constants(order, meant().sum((1, 2, 3))),
    )
    steps.call(
        spec, layer.data(0), weights, channels, steps.scratch(scratch),
        layer.result(0), *layer.shared_operands(), scratch,
        *(window.in_h, window.in_w, depth, window.out_h, window.out_w, units),
        *(max(units - lanes, 0), window.top, window.left, numbers.input.zero_point),
        *(-(-window.out_w // 4), tiles, block, panels),
        items=window.batch * -(-tiles // block),
        cost_ns=window.batch * _winograd_ns(layer, window),
    )  # fmt: skip
