"""PAD, PADV2 and MIRROR_PAD."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from litejit.model.options.shape import (
    MirrorPadMode,
    MirrorPadOptions,
    PadOptions,
    PadV2Options,
)
from litejit.ops.base import Op, builtin
from litejit.ops.blocks import (
    ANY_INDEX,
    ARITHMETIC,
    FIXED_WIDTH,
    INDEX,
    Refuse,
    copy_box,
    input_of,
    lowers,
    numbers,
    require_same_quantization,
    require_same_type,
    row_strides,
)

if TYPE_CHECKING:
    from litejit.ops.base import Lowering, Node, Operand, Types
    from litejit.types import Array, TensorType

MAX_RANK = 5  # of PAD and PADV2 in LiteRT

MAX_CALLS = 81  # kernel calls of one node; beyond them NumPy is as fast

Pads: TypeAlias = list[tuple[int, int]]
Gap: TypeAlias = tuple[int, list[tuple[int, int]], int]  # offset, loops of (n, stride), run


def pads_of(paddings: Array, refuse: Refuse) -> Pads:
    """Rows of a [rank, 2] paddings operand: (elements in front, elements behind)."""
    flat = numbers(paddings)
    refuse(min(flat, default=0) >= 0, f"paddings {flat} must not be negative")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _require_paddings(node: Node, x: TensorType, paddings: TensorType) -> None:
    ok = paddings.dims == (x.rank, 2)
    node.require(ok, f"paddings must have shape {(x.rank, 2)}, got {paddings.shape}")


class _PadOp(Op):
    """y = x with paddings[d] elements of one value put in front of and behind dimension d."""

    def infer(self, node: Node) -> Types:
        x, paddings, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, ARITHMETIC)
        node.require_dtype(paddings, ANY_INDEX, "paddings")
        node.require(x.rank <= MAX_RANK, f"rank {x.rank} is above {MAX_RANK}")
        _require_paddings(node, x, paddings)
        if y.is_quantized and y.dtype.is_integer and y.dtype.bits <= 16:
            info = np.iinfo(y.dtype.numpy)
            ok = info.min <= y.zero_point <= info.max
            node.require(ok, f"output zero point {y.zero_point} is no {y.dtype}")
        if paddings.value is None:
            return [y.with_shape(None)]
        pads = pads_of(paddings.value, node.require)
        return [y.with_shape([n + a + b for n, (a, b) in zip(x.dims, pads, strict=True)])]

    @staticmethod
    def _padded(node: Node, x: Array, paddings: Array, value: Array) -> Array:
        pads = pads_of(paddings, node.check)
        shape = [n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)]
        y = np.full(shape, value, x.dtype)
        y[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pads, strict=True))] = x
        return y

    @staticmethod
    def _lower(node: Node, steps: Lowering, value: Operand) -> None:
        x, y, paddings = node.input(0), node.output(), node.input(1).value
        if paddings is None or not lowers(y):
            return
        pads = pads_of(paddings, node.require)
        if not any(a or b for a, b in pads):
            steps.alias()
            return
        size, target = y.dtype.itemsize, steps.outputs[0]
        strides = row_strides(y.dims, size)
        rows = zip(x.dims, row_strides(x.dims, size), strides, strict=True)
        start = sum(a * step for (a, _), step in zip(pads, strides, strict=True))
        copy_box(steps, target.at(start), input_of(steps, 0), list(rows), size)
        fill_border(steps, target, value, (x.dims, pads, strides, y.nbytes), size)


def fill_border(
    steps: Lowering,
    target: Operand,
    value: Operand,
    border: tuple[tuple[int, ...], Pads, list[int], int],
    itemsize: int,
) -> None:
    """Write one element all over what `gaps(*border)` names, and all over it without an inside."""
    inside, pads, _, nbytes = border
    found: list[Gap] = [(0, [], nbytes)] if 0 in inside else []
    if 0 not in inside and any(a or b for a, b in pads):
        found = gaps(*border)
    for offset, box, run in found:
        dims = [*((n, 0, step) for n, step in box), (run // itemsize, 0, itemsize)]
        copy_box(steps, target.at(offset), value, dims, itemsize)


def gaps(inside: tuple[int, ...], pads: Pads, strides: list[int], nbytes: int) -> list[Gap]:
    """What is left of a padded array (byte strides, nbytes) once its inside is written.

    Each (offset, [(count, stride), ...], run): a run of bytes repeated over a box. Seen along
    memory the border consists of a head, a tail, and between two neighbours of every padded
    dimension a gap that holds one's end and the other's beginning.
    """
    found: list[Gap] = []
    padded = [d for d, (a, b) in enumerate(pads) if a or b]
    last = padded[-1]
    start = sum(pads[d][0] * strides[d] for d in padded)
    filled = inside[last] * strides[last]  # bytes from one first to one last inner element
    span = filled
    for d in range(last - 1, -1, -1):
        gap = strides[d] - span
        if gap and inside[d] > 1:
            outer = [(inside[k], strides[k]) for k in range(d)]
            found.append((start + span, [*outer, (inside[d] - 1, strides[d])], gap))
        span += (inside[d] - 1) * strides[d]
    if start:
        found.append((0, [], start))
    if start + span < nbytes:
        found.append((start + span, [], nbytes - start - span))
    return found


@builtin("PAD", versions=range(1, 7))
class Pad(_PadOp):
    """y = x with a border of zeros (the output's zero point where it is quantized).

    f32 | f16 | bf16 | f64 | i8 | u8 | i16 | i32 | i64 | bool, rank at most 5; paddings [rank, 2]
    of i8 | i16 | i32 | i64. Source: LiteRT tflite/kernels/pad.cc.
    """

    options = PadOptions
    arity = (2, 2)

    def reference(self, node: Node, x: Array, paddings: Array) -> Array:
        return self._padded(node, x, paddings, border_value(node.output()))

    def lower(self, node: Node, steps: Lowering) -> None:
        y = node.output()
        self._lower(node, steps, steps.constant("border", lambda: border_value(y)))


def border_value(y: TensorType) -> Array:
    """What PAD writes around the data of y: one element, shape (1,)."""
    integer = y.dtype.is_integer and y.dtype.bits <= 16
    return np.full(1, y.zero_point if integer else 0, y.dtype.numpy)


@builtin("PADV2", versions=range(1, 7))
class PadV2(_PadOp):
    """y = x with a border of the one element of input 2, which has y's scale and zero point.

    Types as in PAD. Source: LiteRT tflite/kernels/pad.cc.
    """

    options = PadV2Options
    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        value, y = node.input(2), node.output()
        node.require_dtype(value, (y.dtype,), "the constant")
        node.require(value.size == 1, f"the constant must be one element, got {value.shape}")
        if value.is_quantized and y.is_quantized:
            require_same_quantization(node, value, y, "the constant")
        return super().infer(node)

    def reference(self, node: Node, x: Array, paddings: Array, value: Array) -> Array:
        return self._padded(node, x, paddings, value.reshape(1))

    def lower(self, node: Node, steps: Lowering) -> None:
        self._lower(node, steps, input_of(steps, 2))


@builtin("MIRROR_PAD", versions=range(1, 4))
class MirrorPad(Op):
    """y = x continued beyond its borders by its own mirror image.

    REFLECT leaves the border element out of the image, SYMMETRIC repeats it; a padding is at most
    the number of elements that this leaves. Any type of fixed width; paddings i32 | i64.
    Source: LiteRT tflite/kernels/mirror_pad.cc.
    """

    options = MirrorPadOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, paddings, y = node.input(0), node.input(1), node.output()
        require_same_type(node, x, y, FIXED_WIDTH)
        node.require_dtype(paddings, INDEX, "paddings")
        _require_paddings(node, x, paddings)
        require_same_quantization(node, x, y, "input")
        known = node.options.mode in (MirrorPadMode.REFLECT, MirrorPadMode.SYMMETRIC)
        node.require(known, f"mode {node.options.mode} is unknown")
        if paddings.value is None:
            return [y.with_shape(None)]
        pads = self._pads(node, x.dims, paddings.value, node.require)
        return [y.with_shape([n + a + b for n, (a, b) in zip(x.dims, pads, strict=True)])]

    @staticmethod
    def _pads(node: Node, dims: tuple[int, ...], paddings: Array, refuse: Refuse) -> Pads:
        pads = pads_of(paddings, refuse)
        reflect = node.options.mode == MirrorPadMode.REFLECT
        for n, (a, b) in zip(dims, pads, strict=True):
            room = max(n - 1, 0) if reflect else n
            refuse(max(a, b) <= room, f"a padding of {max(a, b)} is above {room}, for {n} elements")
        return pads

    def reference(self, node: Node, x: Array, paddings: Array) -> Array:
        pads = self._pads(node, x.shape, paddings, node.check)
        reflect = node.options.mode == MirrorPadMode.REFLECT
        y = x
        for axis, (a, b) in enumerate(pads):
            n, skip = x.shape[axis], int(reflect)
            if a or b:
                front = np.arange(a - 1 + skip, skip - 1, -1)
                behind = np.arange(n - 1 - skip, n - 1 - skip - b, -1)
                y = np.take(y, np.r_[front, np.arange(n), behind].astype(np.int64), axis=axis)
        return y

    def lower(self, node: Node, steps: Lowering) -> None:
        x, y, paddings = node.input(0), node.output(), node.input(1).value
        if paddings is None or not lowers(x, y):
            return
        pads = pads_of(paddings, node.require)
        skip = int(node.options.mode == MirrorPadMode.REFLECT)
        size = x.dtype.itemsize
        pieces = [
            # (first element of x, its direction, first element of y, elements)
            [
                p
                for p in ((a - 1 + skip, -1, 0, a), (0, 1, a, n), (n - 1 - skip, -1, a + n, b))
                if p[3]
            ]
            for n, (a, b) in zip(x.dims, pads, strict=True)
        ]
        if math.prod(len(p) for p in pieces) == 1:
            steps.alias()
            return
        if math.prod(len(p) for p in pieces) > MAX_CALLS:
            return
        froms, tos = row_strides(x.dims, size), row_strides(y.dims, size)
        for region in product(*pieces):
            rows = list(zip(region, froms, tos, strict=True))
            box = [(n, s * sign, t) for (_, sign, _, n), s, t in rows]
            source = sum(first * s for (first, _, _, _), s, _ in rows)
            target = sum(first * t for (_, _, first, _), _, t in rows)
            operand = input_of(steps, 0).at(source)
            copy_box(steps, steps.outputs[0].at(target), operand, box, size)
