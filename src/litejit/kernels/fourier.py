"""Fourier transforms of real rows and complex columns, in the arithmetic of
`litejit.micro.kiss_fft`, or in double.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, f64, i16, i32, i64
from litejit.kernels.base import KernelSpec
from litejit.types import Array

Pair = tuple[Value, Value]
RADICES = (1, 2, 4)  # what these kernels have
_TYPES = {  # of the rows, between the stages, of the result
    "INT16": (i16, i32, i16),
    "INT32": (i32, i64, i32),
    "FLOAT32": (f32, f32, f32),
    "FLOAT32 by FLOAT64": (f32, f64, f32),
    "FLOAT32 to FLOAT64": (f32, f64, f64),
    "FLOAT64 to FLOAT32": (f64, f64, f32),
}


def wide_bytes(dtype: str) -> int:
    """Bytes of a number between the stages, and of a twiddle."""
    return _TYPES[dtype][1].bits // 8


def factors(n: int) -> list[int]:
    """The radices of a transform of n numbers, outermost first."""
    result, p, root = [], 4, math.isqrt(n)
    while True:
        while n % p:
            p = {4: 2, 2: 3}.get(p, p + 2)
            if p > root:
                p = n
        n //= p
        result.append(p)
        if n <= 1:
            return result


def order(radices: Sequence[int]) -> Array:
    """Where the innermost blocks take their numbers from."""
    places = np.zeros(1, np.int64)
    for p in reversed(radices):
        places = (np.arange(p)[:, None] + p * places).reshape(-1)
    return places


def packed_twiddles(pairs: Array, radices: Sequence[int]) -> Array:
    """exp(-+2 pi i k / n), [n, 2], in the order in which the stages take them."""
    size, parts = 1, [pairs[:1]]
    for p in reversed(radices):
        blocks = len(pairs) // (size * p)
        parts += [pairs[np.arange(size) * blocks * q] for q in range(1, p)]
        size *= p
    return np.ascontiguousarray(np.concatenate(parts[1:] or parts)).reshape(-1)


class _Arithmetic:
    """Complex arithmetic of one element type; values are held in `wide`."""

    def __init__(self, fn: Function, element: Type, wide: Type) -> None:
        self.fn, self.element, self.wide = fn, element, wide
        self.fixed, self.bits = not element.is_float, element.bits - 1

    def store(self, x: Value) -> Value:
        return x.to(self.element).to(self.wide) if self.fixed else x

    def rounded(self, x: Value) -> Value:
        return self.store((x + (1 << (self.bits - 1))) >> self.bits) if self.fixed else x

    def divided(self, x: Pair, k: int) -> Pair:
        if not self.fixed:
            return x
        factor = ((1 << self.bits) - 1) // k
        return self.rounded(x[0] * factor), self.rounded(x[1] * factor)

    def halved(self, x: Value) -> Value:
        return self.store(x >> 1) if self.fixed else x * 0.5

    def times(self, a: Pair, b: Pair) -> Pair:
        real, imaginary = a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
        return self.rounded(real), self.rounded(imaginary)

    def plus(self, a: Pair, b: Pair) -> Pair:
        return self.store(a[0] + b[0]), self.store(a[1] + b[1])

    def minus(self, a: Pair, b: Pair) -> Pair:
        return self.store(a[0] - b[0]), self.store(a[1] - b[1])


class FourierSpec(KernelSpec):
    """Rows of real numbers to their spectra, or back.

    `radices` are those of the complex transform of half the length, outermost first. Arguments:
    x, y, order (i32), twiddles (`packed_twiddles`) and turns (pairs), window, scratch, its stride
    (bytes), length of a row of x (forward; what is missing is 0), then elements from number to
    number of x (forward), from row to row and from image to image, known, rows: of every `rows`
    rows, an image, only the first `known` are there, others are 0. Items: rows.

    `windowed`: numbers of a row are multiplied by `window`. `size` makes one number of each
    complex one: the "square" of its size or its "root", the size itself.
    """

    dtype: str
    radices: tuple[int, ...]
    inverse: bool
    windowed: bool = False
    size: str = ""

    def emit(self, name: str, isa: Isa) -> str:
        """Order, stages, and the pass that separates or joins the real parts."""
        element, wide, narrow = _TYPES[self.dtype]
        fn = Function(
            name, isa, x=Ptr(element), y=Ptr(narrow), order=Ptr(i32), twiddles=Ptr(wide),
            turns=Ptr(wide), window=Ptr(wide), scratch=Ptr(wide),
            **dict.fromkeys(("stride", "length", "step", "pitch", "image", "known", "rows"), i64),
        )  # fmt: skip
        x, y, places, twiddles, turns, window, scratch, stride, length = fn.args[:9]
        step, pitch, image, known, rows = fn.args[9:]
        a, half = _Arithmetic(fn, element, wide), math.prod(self.radices)
        work = scratch + fn.worker * (stride / (wide.bits // 8))
        source = work + 2 * half
        with fn.loop(fn.end, start=fn.begin) as row:
            place = row % rows
            own = x + (row / rows * image + place * pitch)
            if self.inverse:
                _join(a, own, source, turns, half)
            else:
                there = (place < known).choose(length, 0)
                with fn.loop(there) as i:
                    value = own[i * step].to(wide)
                    source[i] = value * window[i] if self.windowed else value
                with fn.loop(fn.const(2 * half, i64), start=there) as i:
                    source[i] = 0
            with fn.loop(fn.const(half, i64)) as i:
                _put(work, i, _get(source, places[i].to(i64)))
            _stages(a, work, twiddles, self.radices, inverse=self.inverse)
            if self.inverse:
                with fn.loop(fn.const(2 * half, i64)) as i:
                    value = work[i] if a.fixed else work[i] / float(2 * half)
                    (y + row * (2 * half))[i] = value.to(narrow)
            else:
                self._separate(a, work, y + row * ((1 if self.size else 2) * (half + 1)), turns)
        return fn.ir()

    def _separate(self, a: _Arithmetic, work: Pointer, y: Pointer, turns: Pointer) -> None:
        """The spectrum of the real row whose even and odd numbers were transformed together."""
        fn, narrow, half = a.fn, y.element, math.prod(self.radices)

        def put(k: Value | int, real: Value, imaginary: Value | None) -> None:
            if not self.size:
                _put(y, k, [real.to(narrow), fn.const(0, narrow) if imaginary is None else
                            imaginary.to(narrow)])  # fmt: skip
                return
            square = real * real if imaginary is None else real * real + imaginary * imaginary
            found = square.to(narrow)
            y[k] = fn.sqrt(found) if self.size == "root" else found

        first = a.divided(_get(work, 0), 2)
        put(0, first[0] + first[1], None)
        put(half, first[0] - first[1], None)
        with fn.loop(fn.const(half // 2 + 1, i64), start=1) as k:
            far = _get(work, half - k)
            here = a.divided(_get(work, k), 2)
            there = a.divided((far[0], a.store(-far[1])), 2)
            even, odd = a.plus(here, there), a.times(a.minus(here, there), _get(turns, k - 1))
            put(k, a.halved(even[0] + odd[0]), a.halved(even[1] + odd[1]))
            put(half - k, a.halved(even[0] - odd[0]), a.halved(odd[1] - even[1]))


class ColumnsSpec(KernelSpec):
    """Complex transforms of the columns of images, divided by their length if `inverse`.

    Arguments: x, y, order (i32), twiddles, scratch, its stride (bytes), columns of y, rows and
    columns of x: more are cut off, missing ones are 0. Items: columns of all images.
    """

    dtype: str
    radices: tuple[int, ...]
    inverse: bool

    def emit(self, name: str, isa: Isa) -> str:
        """A column into the scratch area, the stages, and out."""
        element, wide, narrow = _TYPES[self.dtype]
        fn = Function(
            name, isa, x=Ptr(element), y=Ptr(narrow), order=Ptr(i32), twiddles=Ptr(wide),
            scratch=Ptr(wide), stride=i64, columns=i64, rows_in=i64, columns_in=i64,
        )  # fmt: skip
        x, y, places, twiddles, scratch, stride, columns, rows_in, columns_in = fn.args
        a, size = _Arithmetic(fn, element, wide), math.prod(self.radices)
        work = scratch + fn.worker * (stride / (wide.bits // 8))
        none = fn.const(0.0, wide)
        with fn.loop(fn.end, start=fn.begin) as item:
            image, column = item / columns, item % columns
            there = (column < columns_in).choose(rows_in, 0)
            with fn.loop(fn.const(size, i64)) as i:
                place = places[i].to(i64)
                known = place < there
                at = (image * rows_in + place) * columns_in + column
                pair = _get(x, known.choose(at, 0))
                _put(work, i, tuple(known.choose(part.to(wide), none) for part in pair))
            _stages(a, work, twiddles, self.radices, inverse=self.inverse)
            with fn.loop(fn.const(size, i64)) as i:
                at = (image * size + i) * columns + column
                scale = 1 / size if self.inverse else 1
                _put(y, at, tuple((part * scale).to(narrow) for part in _get(work, i)))
        return fn.ir()


def _stages(
    a: _Arithmetic, work: Pointer, twiddles: Pointer, radices: Sequence[int], *, inverse: bool
) -> None:
    """Butterflies in place, as many side by side as a register has lanes."""
    fn, size, half = a.fn, 1, math.prod(radices)
    for p in reversed(radices):
        lanes, blocks = min(fn.isa.lanes(a.wide), size), half // (size * p)
        turns = twiddles
        with (
            fn.loop(fn.const(blocks, i64)) as block,
            fn.loop(fn.const(size, i64), step=lanes) as k,
        ):
            base = block * (p * size) + k
            parts = [a.divided(_get(work, base + q * size, lanes), p) for q in range(p)]
            parts[1:] = [
                a.times(part, _get(turns, k + (q - 1) * size, lanes))
                for q, part in enumerate(parts)
                if q
            ]
            for q, pair in enumerate(_butterfly(a, parts, inverse=inverse)):
                _put(work, base + q * size, pair)
        twiddles = twiddles + 2 * size * (p - 1)
        size *= p


def _butterfly(a: _Arithmetic, x: list[Pair], *, inverse: bool) -> list[Pair]:
    if len(x) == 1:
        return x
    if len(x) == 2:
        return [a.plus(x[0], x[1]), a.minus(x[0], x[1])]
    low, total = a.minus(x[0], x[2]), a.plus(x[0], x[2])
    outer, cross = a.plus(x[1], x[3]), a.minus(x[1], x[3])
    turned = (cross[1], -cross[0])
    first, last = a.plus(low, turned), a.minus(low, turned)
    if inverse:
        first, last = last, first
    return [a.plus(total, outer), first, a.minus(total, outer), last]


def _get(at: Pointer, index: Value | int, lanes: int = 1) -> Pair:
    place = at + (index * 2)
    if lanes == 1:
        return place[0], place[1]
    both = place.load(lanes=2 * lanes)
    return both.shuffle(range(0, 2 * lanes, 2)), both.shuffle(range(1, 2 * lanes, 2))


def _put(at: Pointer, index: Value | int, pair: Sequence[Value]) -> None:
    place, lanes = at + (index * 2), pair[0].type.lanes
    if lanes == 1:
        place[0], place[1] = pair
        return
    order = [j + half for j in range(lanes) for half in (0, lanes)]
    place.store(0, pair[0].shuffle(order, pair[1]))


def _join(a: _Arithmetic, x: Pointer, work: Pointer, turns: Pointer, half: int) -> None:
    fn = a.fn

    def read(k: Value | int) -> Pair:
        real, imaginary = _get(x, k)
        return real.to(a.wide), imaginary.to(a.wide)

    low, high = read(0)[0], read(half)[0]
    _put(work, 0, a.divided((a.store(low + high), a.store(low - high)), 2))
    with fn.loop(fn.const(half // 2 + 1, i64), start=1) as k:
        far = read(half - k)
        here = a.divided(read(k), 2)
        there = a.divided((far[0], a.store(-far[1])), 2)
        even, odd = a.plus(here, there), a.times(a.minus(here, there), _get(turns, k - 1))
        _put(work, k, a.plus(even, odd))
        away = a.minus(even, odd)
        _put(work, half - k, (away[0], a.store(-away[1])))
