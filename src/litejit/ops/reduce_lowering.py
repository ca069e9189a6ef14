"""Lowerings of reductions, of the places of extremes and of running sums."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from litejit.kernels import requantize
from litejit.kernels.reduce import FLOAT, PRODUCT, AcrossSpec, ArgAcrossSpec, ArgSpec, RowsSpec
from litejit.kernels.scan import RunningSumSpec
from litejit.ops import fixedpoint
from litejit.ops.blocks import copy_box, row_strides
from litejit.ops.indexing import normal_axes, normal_axis
from litejit.ops.reduce import Sum, mean_multiplier, product_multiplier, sum_factor
from litejit.record import Record
from litejit.types import U8, Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from litejit.ops.base import Lowering, Node, Operand
    from litejit.ops.reduce import Reduction
    from litejit.ops.reduce_window import Geometry
    from litejit.types import TensorType

_NARROW = ("UINT8", "INT8", "INT16")


class _Rescaling(Record):
    """How a kernel finishes: the form, what folds begin from, a factor, and constants."""

    form: str = ""
    start: int = 0
    scale: float = 0.0
    make: Callable[[], Array] | None = None

    __hash__ = object.__hash__


def as_one_axis(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(outer, n, inner) if folding `axes` is folding one axis of that view; else None."""
    kept = [j for j, size in enumerate(shape) if size != 1 or j in axes]
    folded = [j for j in kept if j in axes and shape[j] != 1]
    if not folded:
        return 1, 1, math.prod(shape)
    first, last = folded[0], folded[-1]
    if any(j not in axes for j in kept if first < j < last):
        return None
    inside = math.prod(shape[first : last + 1])
    return math.prod(shape[:first]), inside, math.prod(shape[last + 1 :])


def lower_reduction(op: Reduction, node: Node, steps: Lowering) -> None:
    """One kernel; axes that do not lie side by side are brought together by a copy first."""
    x, axis, source = node.input(0), node.input(1), steps.inputs[0]
    if (axis.value is None and axis.size) or x.size == 0 or source is None:
        return
    axes = () if axis.value is None else normal_axes(node.require, axis.value, x.rank)
    view, in_order = as_one_axis(x.dims, axes), op.word == "prod"
    if steps.isa.in_order and x.dtype.is_float and op.word in ("sum", "mean"):
        in_order = True
    count = math.prod(x.dims[j] for j in axes)
    rescaling = _rescaling(op, node, steps, count, whole=len(axes) == x.rank > 0)
    if rescaling is None:
        return
    if view is None or (in_order and view[0] > 1 and view[2] == 1):
        across = in_order or x.size // count >= steps.isa.vector_bytes // 4
        source = _together(steps, source, x, axes, across=across)
        view = (1, count, x.size // count) if across else (x.size // count, count, 1)
    _fold(op.word, node, steps, rescaling, source, view, in_order=in_order)


def _rescaling(
    op: Reduction, node: Node, steps: Lowering, n: int, *, whole: bool
) -> _Rescaling | None:
    """What a reduction of n elements needs; None where its scales have no kernel."""
    x, y = node.input(0), node.output(0)
    if op.word == "prod" and x.is_quantized and not x.dtype.is_float:
        multiplier, shift = product_multiplier(x, y, n)
        limits = fixedpoint.type_range(y.dtype)
        reduced = int(fixedpoint.reduced_multiplier(multiplier))
        block = np.array([x.zero_point, reduced, 15 - shift, y.zero_point, *limits], np.int64)
        return _Rescaling(PRODUCT, make=lambda: block) if shift < 15 else None
    if x.dtype.name not in _NARROW or op.word not in ("sum", "mean"):
        return _Rescaling(start=op.start(node, whole=whole), scale=float(n))
    if isinstance(op, Sum) and op.in_floats:
        scale, bias = sum_factor(x, y, n)
        floats = np.array([bias, y.zero_point, *fixedpoint.type_range(y.dtype)], np.float32)
        return _Rescaling(FLOAT, scale=float(scale), make=lambda: floats)
    multiplier, shift = mean_multiplier(x, y, n if op.word == "mean" else 1)
    zero, many = y.zero_point, np.ones(steps.isa.vector_bytes // 4, np.int64)
    form = requantize.best_form(many * multiplier, many * shift, zero, n << x.dtype.bits)
    start = requantize.input_offset(form) - x.zero_point * n
    numbers = (form, len(many), many * multiplier, many * shift, zero)
    return _Rescaling(
        form, (start + (1 << 31)) % (1 << 32) - (1 << 31),
        make=lambda: requantize.constants(*numbers),
    )  # fmt: skip


def _together(
    steps: Lowering, source: Operand, x: TensorType, axes: tuple[int, ...], *, across: bool
) -> Operand:
    """x with `axes` in front (`across`) or behind the others, in a copy."""
    others = tuple(j for j in range(x.rank) if j not in axes)
    order = (*axes, *others) if across else (*others, *axes)
    size = x.dtype.itemsize
    strides = row_strides(x.dims, size)
    made = row_strides([x.dims[j] for j in order], size)
    copy = steps.temporary(x.nbytes)
    box = [(x.dims[j], strides[j], to) for j, to in zip(order, made, strict=True)]
    copy_box(steps, copy, source, box, size)
    return copy


def _fold(
    word: str, node: Node, steps: Lowering, rescaling: _Rescaling, source: Operand,
    view: tuple[int, int, int], *, in_order: bool,
) -> None:  # fmt: skip
    x, (outer, n, inner) = node.input(0), view
    target = constants = steps.outputs[0]
    if rescaling.make is not None:
        constants = steps.constant(f"{rescaling.form} {n}", rescaling.make)
    lanes = steps.isa.vector_bytes // 4
    element = U8 if x.dtype.name == "BOOL" else x.dtype
    bytes_ns = x.nbytes * 0.03 + x.size * 1.2 / lanes
    if x.dtype.itemsize == 1:
        bytes_ns = x.size * 0.35 / lanes
    if inner == 1 and not in_order:
        cost = outer * (2 if x.dtype.itemsize == 1 else 12) + bytes_ns
        spec: RowsSpec | AcrossSpec = RowsSpec(element, word, rescaling.form)
        items = blocks = outer
    else:
        lanes = AcrossSpec(element, word, rescaling.form).lanes(steps.isa)
        vectors = 4 if inner >= 4 * lanes else 1
        blocks = -(-inner // (vectors * lanes))
        items, spec = outer * blocks, AcrossSpec(element, word, rescaling.form, vectors)
        cost = items * 8 + bytes_ns * max(1.0, lanes / inner)
    numbers = (n, inner, blocks, rescaling.start, rescaling.scale, constants)
    steps.call(spec, source, target, *numbers, items=items, cost_ns=cost)


def lower_places(node: Node, steps: Lowering, *, largest: bool) -> None:
    """ARG_MAX, ARG_MIN."""
    x, axis, source = node.input(0), node.input(1), steps.inputs[0]
    if axis.value is None or source is None or x.size == 0:
        return
    k = normal_axis(node.require, int(axis.value.reshape(-1)[0]), x.rank)
    n = x.dims[k]
    if n >= 1 << 31:
        return
    inner, lanes = math.prod(x.dims[k + 1 :]), steps.isa.vector_bytes // 4
    element = U8 if x.dtype.name == "BOOL" else x.dtype
    wide = node.output().dtype.name == "INT64"
    target = steps.outputs[0]
    if inner == 1:
        rows = x.size // n
        cost = rows * 4 + x.size * 1.6 / lanes
        spec = ArgSpec(element, largest, wide)
        steps.call(spec, source, target, n, items=rows, cost_ns=cost)
        return
    blocks = -(-inner // lanes)
    items = x.size // (n * inner) * blocks
    across = ArgAcrossSpec(element, largest, wide)
    operands = (source, target, n, inner, blocks)
    steps.call(across, *operands, items=items, cost_ns=items * (4 + n * 1.0))


def lower_running_sum(
    node: Node, steps: Lowering, multiplier: tuple[int, int] | None = None
) -> None:
    """CUMSUM; `multiplier` rescales the sums of int8 (kernels/scan)."""
    x, axis, source = node.input(0), node.input(1), steps.inputs[0]
    if axis.value is None or source is None or x.size == 0:
        return
    k = normal_axis(node.require, int(axis.value.reshape(-1)[0]), x.rank)
    n, inner = x.dims[k], math.prod(x.dims[k + 1 :])
    reverse = bool(node.options and node.options.reverse)
    exclusive = bool(node.options and node.options.exclusive)
    form, zero, constants = "", 0, steps.outputs[0]
    if multiplier is not None:
        form, zero, many = "wide", x.zero_point, np.ones(steps.isa.vector_bytes // 4, np.int64)
        m, shift = (many * number for number in multiplier)
        result_zero = node.output().zero_point
        constants = steps.constant(
            "sums", lambda: requantize.constants(form, len(many), m, shift, result_zero)
        )
    single = inner == 1 and not form
    lanes = 1 if single else steps.isa.vector_bytes // max(x.dtype.itemsize, 4)
    blocks = -(-inner // lanes)
    items = x.size // (n * inner) * blocks
    steps.call(
        RunningSumSpec(x.dtype, exclusive, single, form), source, steps.outputs[0],
        n, inner, blocks, n - 1 if reverse else 0, -1 if reverse else 1, zero, constants,
        items=items, cost_ns=items * (4 + n * (1.2 if single else 3.0)),
    )  # fmt: skip


_WORDS = {"add": "sum", "multiply": "prod", "maximum": "greater", "minimum": "less"}
MOST_CELLS = 256  # of a window: each is a copy


def lower_windows(node: Node, steps: Lowering, g: Geometry, body: str) -> None:
    """REDUCE_WINDOW: a row of places for every cell of the window, folded behind a row of inits."""
    x, y, (source, init, *_) = node.input(0), node.output(0), steps.inputs
    logical = x.dtype.name == "BOOL" and {"all": "min", "any": "max"}.get(body)
    word, cells, places = str(logical or _WORDS.get(body)), math.prod(g.window), y.size
    kinds = ("FLOAT32", "INT64", "INT32", *_NARROW) if body in _WORDS else ("BOOL",)
    known = x.dtype.name in kinds and cells <= MOST_CELLS and x.size and places
    if not known or source is None or init is None:
        return
    size, strides = x.dtype.itemsize, row_strides(g.image(x.dims), x.dtype.itemsize)
    image = _framed(steps, source, init, x, g)
    rows = steps.temporary((cells + 1) * places * size)
    copy_box(steps, rows, init, [(places, 0, size)], size)
    moves = [step * stride for step, stride in zip(g.strides, strides, strict=True)]
    seen = list(zip(y.dims, moves, row_strides(y.dims, size), strict=True))
    for number, cell in enumerate(np.ndindex(*g.window), 1):
        at = sum(i * d * stride for i, d, stride in zip(cell, g.dilations, strides, strict=True))
        copy_box(steps, rows.at(number * places * size), image.at(at), seen, size)
    rescaling = _Rescaling(start=first_of(word, x.dtype.numpy), scale=1.0)
    _fold(word, node, steps, rescaling, rows, (1, cells + 1, places), in_order=True)


def _framed(steps: Lowering, source: Operand, init: Operand, x: TensorType, g: Geometry) -> Operand:
    """The image that windows move over; `init` lies between and around x."""
    size, image = x.dtype.itemsize, g.image(x.dims)
    image_strides, strides = row_strides(image, size), row_strides(x.dims, size)
    framed = steps.temporary(math.prod(image) * size)
    copy_box(steps, framed, init, [(math.prod(image), 0, size)], size)
    start, target, box = 0, 0, []
    for j, n in enumerate(x.dims):
        first = max(-(g.low[j] // g.base[j]), 0)
        last = min((image[j] - 1 - g.low[j]) // g.base[j], n - 1)
        start += first * strides[j]
        target += (g.low[j] + first * g.base[j]) * image_strides[j]
        box.append((max(last - first + 1, 0), strides[j], g.base[j] * image_strides[j]))
    if all(n for n, _, _ in box):
        copy_box(steps, framed.at(target), source.at(start), box, size)
    return framed


def first_of(word: str, dtype: np.dtype[Any]) -> int:
    """What a fold begins with: an integer, or the bits of a float32."""
    one = int(np.float32(1).view(np.int32)) if dtype.kind == "f" else 1
    greatest = word in ("greater", "max")
    if word in ("sum", "prod"):
        return one * (word == "prod")
    if dtype.kind == "f":
        return int(np.float32(-np.inf if greatest else np.inf).view(np.int32))
    if dtype.kind == "b":
        return int(not greatest)
    info = np.iinfo(dtype)
    return int(info.min if greatest else info.max)
