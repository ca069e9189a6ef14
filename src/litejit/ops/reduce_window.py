"""STABLEHLO_REDUCE_WINDOW, and REDUCE_WINDOW, its first form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.model.options.index import ReduceWindowFunction, ReduceWindowOptions
from litejit.model.options.stablehlo import StablehloReduceWindowOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.control import call_of
from litejit.ops.indexing import made
from litejit.record import Record
from litejit.types import BOOL, F32, F64, I8, I16, I32, I64, U8, Array

_TYPES = (F32, F64, I8, U8, I16, I32, I64, BOOL)
_MOST_DIMENSIONS = 6
_AT_ONCE = 1 << 20  # window elements that are gathered at a time

_BODIES = {
    **dict.fromkeys(("ADD", "STABLEHLO_ADD"), "add"),
    **dict.fromkeys(("MUL", "STABLEHLO_MULTIPLY"), "multiply"),
    **dict.fromkeys(("MAXIMUM", "STABLEHLO_MAXIMUM"), "maximum"),
    **dict.fromkeys(("MINIMUM", "STABLEHLO_MINIMUM"), "minimum"),
    **dict.fromkeys(("LOGICAL_AND", "STABLEHLO_AND"), "all"),
    **dict.fromkeys(("LOGICAL_OR", "STABLEHLO_OR"), "any"),
}
_FUNCTIONS = {
    ReduceWindowFunction.ADD: "add",
    ReduceWindowFunction.MUL: "multiply",
    ReduceWindowFunction.MAXIMUM: "maximum",
    ReduceWindowFunction.MINIMUM: "minimum",
    ReduceWindowFunction.ALL: "all",
    ReduceWindowFunction.ANY: "any",
}


class Geometry(Record):
    """Sizes along every axis: the window, its steps and dilations, the image's and its edges."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    base: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    def image(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        """The image that windows move over: dilated, with its edges; 0 where nothing is left."""
        rows = zip(dims, self.base, self.low, self.high, strict=True)
        return tuple(max(_dilated(n, b) + low + high, 0) for n, b, low, high in rows)

    def out(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows fit along every axis."""
        rows = zip(self.image(dims), self.window, self.dilations, self.strides, strict=True)
        return tuple(max((n - _dilated(w, d)) // s + 1, 0) for n, w, d, s in rows)


def _dilated(count: int, step: int) -> int:
    return (count - 1) * step + 1 if count else 0


def framed(x: Array, geometry: Geometry, fill: Any) -> Array:
    """x dilated, with its edges; every new cell holds `fill`."""
    shape = geometry.image(x.shape)
    result = np.full(shape, fill, x.dtype)
    source, target = [], []
    for out, n, step, low in zip(shape, x.shape, geometry.base, geometry.low, strict=True):
        first = max(-(low // step), 0)
        last = min((out - 1 - low) // step, n - 1)
        if first > last:
            return result
        source.append(slice(first, last + 1))
        target.append(slice(low + first * step, low + last * step + 1, step))
    result[tuple(target)] = x[tuple(source)]
    return result


def reduced(image: Array, geometry: Geometry, init: Any, name: str, out: tuple[int, ...]) -> Array:
    """Fold every window of the image, element after element, from `init`."""
    result = np.empty(math.prod(out), image.dtype)
    if not result.size:
        return result.reshape(out)
    element = np.array(image.strides, np.int64)
    steps = [int(n) for n in element * np.array(geometry.dilations, np.int64)]
    moves = [int(n) for n in element * np.array(geometry.strides, np.int64)]
    view = np.lib.stride_tricks.as_strided(
        image, (*out, *geometry.window), (*moves, *steps), writeable=False
    )
    cells = math.prod(geometry.window)
    inner = view.shape[1:]
    some = max(_AT_ONCE // max(math.prod(inner), 1), 1)
    done = 0
    for first in range(0, out[0], some):
        part = view[first : first + some].reshape(-1, cells)
        result[done : done + len(part)] = _folded(part, init, name)
        done += len(part)
    return result.reshape(out)


def _folded(rows: Array, init: Any, name: str) -> Array:
    """init combined with the elements of every row, from left to right."""
    with np.errstate(all="ignore"):
        if name in ("all", "any"):
            found = (rows != 0).all(axis=1) if name == "all" else (rows != 0).any(axis=1)
            start = bool(init != 0)
            return np.asarray((found & start if name == "all" else found | start), rows.dtype)
        chain = np.concatenate([np.full((len(rows), 1), init, rows.dtype), rows], axis=1)
        if name in ("maximum", "minimum"):
            return _extreme(chain, getattr(np, name))
        ufunc = getattr(np, name)
        return np.asarray(ufunc.accumulate(chain, axis=1, dtype=chain.dtype)[:, -1])


def _extreme(chain: Array, ufunc: Any) -> Array:
    """The extreme of every row; whatever follows a NaN replaces it."""
    result: Array = ufunc.reduce(chain, axis=1)
    if chain.dtype.kind == "f":
        for row in np.flatnonzero(np.isnan(chain).any(axis=1)):
            after = chain[row, np.flatnonzero(np.isnan(chain[row]))[-1] + 1 :]
            result[row] = ufunc.reduce(after) if after.size else np.nan
    return result


class _ReduceWindow(Op):
    """Checks and arithmetic that both forms share."""

    def geometry(self, node: Node) -> Geometry:
        """The sizes that options or operands tell."""
        raise NotImplementedError

    def body(self, node: Node) -> str:
        """What is done with the elements."""
        raise NotImplementedError

    def infer(self, node: Node) -> Types:
        x, init = node.input(0), node.input(1)
        node.require_dtype(x, _TYPES, "input")
        node.require_dtype(init, (x.dtype,), "initial value")
        node.require(init.size >= 1, "initial value is empty")
        ok = 1 <= x.rank <= _MOST_DIMENSIONS
        node.require(ok, f"input has {x.rank} dimensions, expected 1 to {_MOST_DIMENSIONS}")
        g = self.geometry(node)
        for sizes, what in (
            *((g.window, "window"), (g.strides, "strides"), (g.dilations, "window dilations")),
            (g.base, "base dilations"),
        ):
            ok = len(sizes) == x.rank and min(sizes) > 0
            node.require(ok, f"{what} {sizes} must be {x.rank} numbers from 1 on")
        ok = len(g.low) == len(g.high) == x.rank
        node.require(ok, f"padding {g.low}, {g.high} is not two numbers for each of {x.rank} axes")
        image = g.image(x.dims)
        small = math.prod(image) < 1 << 31 and math.prod(g.window) < 1 << 31
        node.require(small, f"image {image} or window {g.window} is too large")
        padded = any(g.low) or any(g.high)
        node.require(not padded or min(image) > 0, f"the padding leaves nothing of {x.dims}")
        self.body(node)
        return [made(node, g.out(x.dims), x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, init = inputs[0], inputs[1].reshape(-1)[0]
        g = self.geometry(node)
        return reduced(framed(x, g, init), g, init, self.body(node), g.out(x.shape))

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.ops.reduce_lowering import lower_windows

        lower_windows(node, steps, self.geometry(node), self.body(node))


@builtin("STABLEHLO_REDUCE_WINDOW")
class StablehloReduceWindow(_ReduceWindow):
    """y[i] = init combined with the elements of window i, in row-major order.

    x is dilated and padded (negative: cropped) with init first; windows that do not fit are
    left out. The body (a subgraph) must be one sum, product, maximum, minimum, and or or.
    Source: StableHLO specification; LiteRT tflite/kernels/stablehlo_reduce_window.cc.
    """

    options = StablehloReduceWindowOptions
    arity = (2, 2)

    def called(self, options: Any) -> tuple[int, ...]:
        return (options.body_subgraph_index,)

    def geometry(self, node: Node) -> Geometry:
        o, rank = node.options, node.input(0).rank
        padding = o.padding or (0,) * 2 * rank
        ones = (1,) * rank
        return Geometry(
            *(o.window_dimensions, o.window_strides or ones, o.window_dilations or ones),
            *(o.base_dilations or ones, tuple(padding[0::2]), tuple(padding[1::2])),
        )

    def body(self, node: Node) -> str:
        names = call_of(node, node.options.body_subgraph_index).operators
        known = len(names) == 1 and names[0] in _BODIES
        node.require(known, f"a body must be one of {', '.join(_BODIES)}, not {names}")
        return _BODIES[names[0]]


@builtin("REDUCE_WINDOW")
class ReduceWindow(_ReduceWindow):
    """STABLEHLO_REDUCE_WINDOW with window, strides and dilations as constant int64 operands.

    Source: LiteRT tflite/kernels/stablehlo_reduce_window.cc.
    """

    options = ReduceWindowOptions
    arity = (5, 5)

    def geometry(self, node: Node) -> Geometry:
        window, strides, dilations = (self._sizes(node, position) for position in (2, 3, 4))
        zeros = (0,) * node.input(0).rank
        return Geometry(window, strides, dilations, (1,) * len(zeros), zeros, zeros)

    @staticmethod
    def _sizes(node: Node, position: int) -> tuple[int, ...]:
        tensor = node.input(position)
        node.require_dtype(tensor, (I64,), f"input {position}")
        node.require(tensor.is_constant, f"input {position} must be constant")
        assert tensor.value is not None
        return tuple(int(n) for n in tensor.value.reshape(-1))

    def body(self, node: Node) -> str:
        function = node.options.reduce_function
        node.require(function in _FUNCTIONS, f"unsupported reduction {function}")
        return _FUNCTIONS[function]
