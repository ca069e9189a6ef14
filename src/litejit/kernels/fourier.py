"""Fourier transforms of real rows, in the arithmetic of `litejit.micro.kiss_fft`."""

from __future__ import annotations

from math import prod

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i16, i32, i64
from litejit.kernels.base import KernelSpec

Pair = tuple[Value, Value]
RADICES = (2, 4)  # what this kernel has
_TYPES = {"INT16": (i16, i32), "INT32": (i32, i64), "FLOAT32": (f32, f32)}


def wide_bytes(dtype: str) -> int:
    """Bytes of a number between the stages, and of a twiddle."""
    return _TYPES[dtype][1].bits // 8


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
    x, y, order (i32), twiddles and turns (pairs), scratch, its stride (bytes), length of a row
    of x (forward; what is missing is 0). Items: rows.
    """

    dtype: str
    radices: tuple[int, ...]
    inverse: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Order, stages, and the pass that separates or joins the real parts."""
        element, wide = _TYPES[self.dtype]
        fn = Function(
            name, isa, x=Ptr(element), y=Ptr(element), order=Ptr(i32), twiddles=Ptr(wide),
            turns=Ptr(wide), scratch=Ptr(wide), stride=i64, length=i64,
        )  # fmt: skip
        x, y, order, twiddles, turns, scratch, stride, length = fn.args
        a, half = _Arithmetic(fn, element, wide), prod(self.radices)
        work = scratch + fn.worker * (stride / (wide.bits // 8))
        source = work + 2 * half
        with fn.loop(fn.end, start=fn.begin) as row:
            if self.inverse:
                _join(a, x + row * (2 * half + 2), source, turns, half)
            else:
                with fn.loop(length) as i:
                    source[i] = x[row * length + i].to(wide)
                with fn.loop(fn.const(2 * half, i64), start=length) as i:
                    source[i] = 0
            with fn.loop(fn.const(half, i64)) as i:
                place = order[i].to(i64)
                _put(work, i, _get(source, place))
            self._stages(a, work, twiddles, half)
            if self.inverse:
                self._finish(a, work, y + row * (2 * half), half)
            else:
                _separate(a, work, y + row * (2 * half + 2), turns, half)
        return fn.ir()

    def _stages(self, a: _Arithmetic, work: Pointer, twiddles: Pointer, half: int) -> None:
        fn, size = a.fn, 1
        for p in reversed(self.radices):
            blocks = half // (size * p)
            with fn.loop(fn.const(blocks, i64)) as block, fn.loop(fn.const(size, i64)) as k:
                base = block * (p * size) + k
                parts = [a.divided(_get(work, base + q * size), p) for q in range(p)]
                parts[1:] = [
                    a.times(part, _get(twiddles, k * (blocks * q)))
                    for q, part in enumerate(parts)
                    if q
                ]
                made = self._butterfly(a, parts)
                for q, pair in enumerate(made):
                    _put(work, base + q * size, pair)
            size *= p

    def _butterfly(self, a: _Arithmetic, x: list[Pair]) -> list[Pair]:
        if len(x) == 2:
            return [a.plus(x[0], x[1]), a.minus(x[0], x[1])]
        low, total = a.minus(x[0], x[2]), a.plus(x[0], x[2])
        outer, cross = a.plus(x[1], x[3]), a.minus(x[1], x[3])
        turned = (cross[1], -cross[0])
        first, last = a.plus(low, turned), a.minus(low, turned)
        if self.inverse:
            first, last = last, first
        return [a.plus(total, outer), first, a.minus(total, outer), last]

    def _finish(self, a: _Arithmetic, work: Pointer, y: Pointer, half: int) -> None:
        with a.fn.loop(a.fn.const(2 * half, i64)) as i:
            value = work[i]
            y[i] = value.to(a.element) if a.fixed else value / float(2 * half)


def _get(at: Pointer, index: Value | int) -> Pair:
    place = at + (index * 2)
    return place[0], place[1]


def _put(at: Pointer, index: Value | int, pair: Pair) -> None:
    place = at + (index * 2)
    place[0], place[1] = pair


def _separate(a: _Arithmetic, work: Pointer, y: Pointer, turns: Pointer, half: int) -> None:
    fn, narrow = a.fn, a.element
    first = a.divided(_get(work, 0), 2)
    y[0], y[2 * half] = (first[0] + first[1]).to(narrow), (first[0] - first[1]).to(narrow)
    y[1] = y[2 * half + 1] = 0
    with fn.loop(fn.const(half // 2 + 1, i64), start=1) as k:
        far = _get(work, half - k)
        here = a.divided(_get(work, k), 2)
        there = a.divided((far[0], a.store(-far[1])), 2)
        even, odd = a.plus(here, there), a.times(a.minus(here, there), _get(turns, k - 1))
        near, away = y + k * 2, y + (half - k) * 2
        near[0], near[1] = (a.halved(even[i] + odd[i]).to(narrow) for i in (0, 1))
        away[0] = a.halved(even[0] - odd[0]).to(narrow)
        away[1] = a.halved(odd[1] - even[1]).to(narrow)


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
