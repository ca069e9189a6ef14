"""Pixels by tables of places: nearest and bilinear resizing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i8, i32, i64
from litejit.kernels.base import KernelSpec, type_of
from litejit.kernels.memory import copy_words
from litejit.types import DType

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa


class PickSpec(KernelSpec):
    """Copies pixels of `run` bytes: y[b, i, j] = x[b, rows[i], columns[j]].

    Arguments: x, y, rows, columns (byte offsets, int64), height, width, batch (bytes of an
    image of x), run. A work item is a row of y. `lanes` bytes are moved at a time, run >=
    lanes; `groups` is 1 or 2 where a pixel takes exactly that many (overlapping), else 0.
    """

    lanes: int
    groups: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, x=Ptr(i8), y=Ptr(i8), rows=Ptr(i64), columns=Ptr(i64),
                      height=i64, width=i64, batch=i64, run=i64)  # fmt: skip
        x, y, rows, columns, height, width, batch, run = fn.args
        word = Type("i", 8 * self.lanes) if self.lanes <= 8 else i8 * self.lanes
        with fn.loop(fn.end, start=fn.begin) as item:
            source = x + (item / height * batch + rows[item % height])
            target = y + item * width * run
            with fn.loop(width) as j:
                copy_words(fn, source + columns[j], target + j * run, run, word, self.groups)
        return fn.ir()


def pick_spec(run: int, vector_bytes: int) -> PickSpec:
    """The kernel that copies pixels of `run` bytes (at least 1) best."""
    lanes = 1
    while 2 * lanes <= min(run, vector_bytes):
        lanes *= 2
    return PickSpec(lanes, -(-run // lanes) if run <= 2 * lanes else 0)


WEIGHTS = {"INT8": i32, "INT16": i64}  # of types that are not mixed in float32


class BilinearSpec(KernelSpec):
    """y[b, i, j] = four pixels of x, each times the weight of its row and of its column.

    Arguments: x, y, rows, columns, row_weights, column_weights, height, width, batch (elements
    of an image of x), depth. `rows` and `columns` hold two element offsets (int64) a place,
    the weights two numbers (first pixel's, second pixel's): float32, or in 1/1024 int32 for
    INT8 and int64 for INT16. A work item is a row of y.

    INT8, INT16: the sum of four integer products, rounded half away from zero. UINT8: float32 in
    LiteRT's order of operations, plus 0.5, cut off. FLOAT32: columns first.
    """

    dtype: DType

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element = type_of(self.dtype)
        kind = WEIGHTS.get(self.dtype.name, f32)
        fn = Function(name, isa, x=Ptr(element), y=Ptr(element), rows=Ptr(i64), columns=Ptr(i64),
                      row_weights=Ptr(kind), column_weights=Ptr(kind), height=i64, width=i64,
                      batch=i64, depth=i64)  # fmt: skip
        x, y, rows, columns, row_weights, column_weights, height, width, batch, depth = fn.args
        lanes = isa.lanes(kind)
        with fn.loop(fn.end, start=fn.begin) as item:
            i, image = item % height, x + item / height * batch
            lines = [image + rows[i * 2 + k] for k in range(2)]
            down = [row_weights[i * 2 + k].splat(lanes) for k in range(2)]
            with fn.loop(width) as j:
                across = [column_weights[j * 2 + k].splat(lanes) for k in range(2)]
                pixels = [line + columns[j * 2 + k] for k in range(2) for line in lines]
                target = y + (item * width + j) * depth
                whole = depth / lanes * lanes
                with fn.loop(whole, step=lanes) as at:
                    target.store(at, self._mix(pixels, at, lanes, down, across))
                with fn.when(whole < depth):
                    value = self._mix(pixels, whole, lanes, down, across)
                    # lanes past the pixel are written again by the pixels that follow in the row
                    room = (width - j) * depth - whole
                    with fn.when(room >= lanes):
                        target.store(whole, value)
                    with fn.when(room < lanes):
                        target.store(whole, value, mask=fn.first(depth - whole, lanes))
        return fn.ir()

    def _mix(
        self,
        pixels: list[Pointer],
        at: Value,
        lanes: int,
        down: list[Value],
        across: list[Value],
    ) -> Value:
        """The weighted sum of pixels (top left, bottom left, top right, bottom right)."""
        values = [pixel.load(at, lanes=lanes) for pixel in pixels]
        fn = at.fn
        if self.dtype.name == "FLOAT32":
            left, right = (fn.fma(values[k + 1], down[1], values[k] * down[0]) for k in (0, 2))
            return fn.fma(right, across[1], left * across[0])
        integer = WEIGHTS.get(self.dtype.name)
        wide = [value.to(integer or i32) for value in values]
        if integer:
            left, right = (wide[k] * down[0] + wide[k + 1] * down[1] for k in (0, 2))
            total = left * across[0] + right * across[1]
            below = total >> (integer.bits - 1)
            return ((total + (1 << 19) + below) >> 20).to(values[0].type.scalar)
        a, b, c, d = (value.to(f32) for value in wide)
        total = a * down[0] * across[0] + b * down[1] * across[0]
        total = total + c * down[0] * across[1] + d * down[1] * across[1]
        # weights and pixels are finite, so that the sum is in the range of a byte
        return (total + 0.5).to(i32).to(values[0].type.scalar)
