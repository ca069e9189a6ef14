"""Fourier transforms of real signals as TFLM's library computes them: int16, int32, float32.

A mixed-radix transform of half the length (radices 4, 2, 3, 5 and others, largest blocks last),
then one pass that separates the real parts. Fixed point scales by 1/radix before every butterfly
and rounds every product. Numbers of integers are int64 arrays that hold int16 or int32 values.
Source: the arithmetic of kissfft 130, on which signal/src/{rfft,irfft}_*.cc of tflite-micro rest.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from litejit.kernels.fourier import factors, order
from litejit.types import Array

Pair = tuple[Array, Array]  # real and imaginary parts


class Arithmetic:
    """Sums, products and scaling of one element type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.fixed = self.dtype.kind == "i"
        self.bits = 8 * self.dtype.itemsize - 1
        self.wide = np.dtype(np.int64) if self.fixed else self.dtype

    def store(self, x: Array) -> Array:
        """What is left of x in the element type."""
        return x.astype(self.dtype).astype(self.wide) if self.fixed else x

    def rounded(self, x: Array) -> Array:
        """A product of fixed-point numbers, or the float itself."""
        return self.store((x + (1 << (self.bits - 1))) >> self.bits) if self.fixed else x

    def divided(self, x: Pair, k: int) -> Pair:
        """x / k in fixed point; floats stay as they are."""
        if not self.fixed:
            return x
        factor = ((1 << self.bits) - 1) // k
        return self.rounded(x[0] * factor), self.rounded(x[1] * factor)

    def halved(self, x: Array) -> Array:
        """x / 2, toward minus infinity in fixed point."""
        return self.store(x >> 1) if self.fixed else x * self.dtype.type(0.5)

    def times(self, a: Pair, b: Pair) -> Pair:
        """A complex product."""
        real, imaginary = a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
        return self.rounded(real), self.rounded(imaginary)

    def plus(self, a: Pair, b: Pair) -> Pair:
        """A complex sum."""
        return self.store(a[0] + b[0]), self.store(a[1] + b[1])

    def minus(self, a: Pair, b: Pair) -> Pair:
        """A complex difference."""
        return self.store(a[0] - b[0]), self.store(a[1] - b[1])

    def circle(self, phases: Any) -> Pair:
        """exp(i phase)."""
        phase = np.asarray(phases, np.float64)
        parts = [[f(p) for p in phase.ravel().tolist()] for f in (math.cos, math.sin)]
        real, imaginary = (np.array(part).reshape(phase.shape) for part in parts)
        if not self.fixed:
            return real.astype(self.dtype), imaginary.astype(self.dtype)
        largest = float((1 << self.bits) - 1)
        whole = (np.floor(0.5 + largest * part).astype(np.int64) for part in (real, imaginary))
        return tuple(whole)  # type: ignore[return-value]


class Transform:
    """A complex transform of n numbers."""

    def __init__(self, dtype: Any, n: int, *, inverse: bool) -> None:
        self.math, self.n, self.inverse = Arithmetic(dtype), n, inverse
        sign = 2.0 if inverse else -2.0
        self.twiddles = self.math.circle([sign * math.pi * i / n for i in range(n)])
        radices = factors(n)
        self.order = order(radices)
        self.stages: list[tuple[int, int, int]] = []  # radix, length of its parts, blocks
        blocks, size = 1, n
        for p in radices:
            size //= p
            self.stages.insert(0, (p, size, blocks))
            blocks *= p

    def run(self, x: Pair) -> Pair:
        """Transform the last axis of [rows, n]."""
        real, imaginary = (part[:, self.order] for part in x)
        for p, m, blocks in self.stages:
            shape = (len(real), blocks, p, m)
            parts = [
                (real.reshape(shape)[:, :, q], imaginary.reshape(shape)[:, :, q]) for q in range(p)
            ]
            made = self._butterfly(parts, m, blocks)
            real, imaginary = (
                np.stack([pair[i] for pair in made], axis=2).reshape(len(real), self.n)
                for i in (0, 1)
            )
        return real, imaginary

    def _twiddle(self, places: Any) -> Pair:
        index = np.asarray(places) % self.n
        return self.twiddles[0][index], self.twiddles[1][index]

    def _butterfly(self, x: list[Pair], m: int, stride: int) -> list[Pair]:
        p, a = len(x), self.math
        x = [a.divided(part, p) for part in x]
        k = np.arange(m) * stride
        if p not in (2, 3, 4, 5):
            return self._any_radix(x, m, stride)
        x[1:] = [a.times(part, self._twiddle(k * q)) for q, part in enumerate(x) if q]
        if p == 2:
            return [a.plus(x[0], x[1]), a.minus(x[0], x[1])]
        if p == 4:
            return self._radix4(x)
        return self._radix3(x, m * stride) if p == 3 else self._radix5(x, m * stride)

    def _radix4(self, x: list[Pair]) -> list[Pair]:
        a = self.math
        low, total = a.minus(x[0], x[2]), a.plus(x[0], x[2])
        outer, cross = a.plus(x[1], x[3]), a.minus(x[1], x[3])
        turned = (cross[1], -cross[0])  # times -i
        first, last = a.plus(low, turned), a.minus(low, turned)
        if self.inverse:
            first, last = last, first
        return [a.plus(total, outer), first, a.minus(total, outer), last]

    def _radix3(self, x: list[Pair], place: int) -> list[Pair]:
        a, turn = self.math, self._twiddle(place)[1]
        total, cross = a.plus(x[1], x[2]), a.minus(x[1], x[2])
        half = a.minus(x[0], (a.halved(total[0]), a.halved(total[1])))
        moved = a.rounded(cross[0] * turn), a.rounded(cross[1] * turn)
        turned = (moved[1], -moved[0])
        return [a.plus(x[0], total), a.minus(half, turned), a.plus(half, turned)]

    def _radix5(self, x: list[Pair], place: int) -> list[Pair]:
        a = self.math
        ya, yb = self._twiddle(place), self._twiddle(2 * place)
        s7, s10 = a.plus(x[1], x[4]), a.minus(x[1], x[4])
        s8, s9 = a.plus(x[2], x[3]), a.minus(x[2], x[3])

        def by(part: Array, factor: Array) -> Array:
            return a.rounded(part * factor)

        first = [a.store(x[0][i] + a.store(s7[i] + s8[i])) for i in (0, 1)]
        result: list[Any] = [tuple(first), None, None, None, None]
        for near, far, c1, c2, sign in ((1, 4, ya, yb, 1), (2, 3, yb, ya, -1)):
            even = [a.store(x[0][i] + by(s7[i], c1[0]) + by(s8[i], c2[0])) for i in (0, 1)]
            real = by(s10[1], c1[1]) + sign * by(s9[1], c2[1])
            imaginary = by(s10[0], c1[1]) + sign * by(s9[0], c2[1])
            odd = a.store(real), a.store(-imaginary)
            both = even[0], even[1]
            result[near], result[far] = a.minus(both, odd), a.plus(both, odd)
        return result

    def _any_radix(self, x: list[Pair], m: int, stride: int) -> list[Pair]:
        a, p = self.math, len(x)
        result = []
        for q1 in range(p):
            total = x[0]
            place = stride * (np.arange(m) + q1 * m)
            for q in range(1, p):
                total = a.plus(total, a.times(x[q], self._twiddle(place * q)))
            result.append(total)
        return result


class RealTransform:
    """Spectra of real rows of even length n, n / 2 + 1 complex numbers each, and back."""

    def __init__(self, dtype: Any, n: int, *, inverse: bool) -> None:
        self.half = n // 2
        self.complex = Transform(dtype, self.half, inverse=inverse)
        self.math = self.complex.math
        sign = math.pi if inverse else -math.pi
        steps = range(1, self.half // 2 + 1)
        self.turns = self.math.circle([sign * (k / self.half + 0.5) for k in steps])

    def forward(self, x: Array) -> Array:
        """[rows, n] to [rows, n + 2]: real and imaginary parts side by side."""
        a, h = self.math, self.half
        wide = x.astype(a.wide)
        real, imaginary = self.complex.run((wide[:, 0::2], wide[:, 1::2]))
        out = np.zeros((len(x), h + 1, 2), a.wide)
        first = a.divided((real[:, 0], imaginary[:, 0]), 2)
        out[:, 0, 0], out[:, h, 0] = first[0] + first[1], first[0] - first[1]
        k = np.arange(1, h // 2 + 1)
        here = a.divided((real[:, k], imaginary[:, k]), 2)
        there = a.divided((real[:, h - k], a.store(-imaginary[:, h - k])), 2)
        even, odd = a.plus(here, there), a.times(a.minus(here, there), self.turns)
        out[:, k, 0], out[:, k, 1] = (a.halved(even[i] + odd[i]) for i in (0, 1))
        out[:, h - k, 0] = a.halved(even[0] - odd[0])
        out[:, h - k, 1] = a.halved(odd[1] - even[1])
        return out.astype(a.dtype).reshape(len(x), -1)

    def backward(self, spectrum: Array) -> Array:
        """[rows, n + 2] to [rows, n], not scaled by 1 / n where floats are."""
        a, h = self.math, self.half
        wide = spectrum.astype(a.wide).reshape(len(spectrum), h + 1, 2)
        real, imaginary = wide[:, :, 0], wide[:, :, 1]
        low, high = real[:, 0], real[:, h]
        work = [np.zeros((len(wide), h), a.wide) for _ in range(2)]
        work[0][:, 0], work[1][:, 0] = a.divided((a.store(low + high), a.store(low - high)), 2)
        k = np.arange(1, h // 2 + 1)
        here = a.divided((real[:, k], imaginary[:, k]), 2)
        there = a.divided((real[:, h - k], a.store(-imaginary[:, h - k])), 2)
        even, odd = a.plus(here, there), a.times(a.minus(here, there), self.turns)
        near, far = a.plus(even, odd), a.minus(even, odd)
        work[0][:, k], work[1][:, k] = near
        work[0][:, h - k], work[1][:, h - k] = far[0], a.store(-far[1])
        made = self.complex.run((work[0], work[1]))
        return np.stack(made, axis=2).reshape(len(wide), -1).astype(a.dtype)


@cache
def transform(dtype: str, n: int, *, inverse: bool) -> RealTransform:
    """The tables of one transform, made once a process."""
    return RealTransform(dtype, n, inverse=inverse)
