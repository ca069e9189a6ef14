"""Fourier transforms over the last two axes: RFFT2D, and the custom IRFFT2D."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.model.options.elementwise import Rfft2dOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.indexing import Refuse, made
from litejit.types import C64, F32, I32, Array


class _Transform(Op):
    """Checks and shapes that both directions share."""

    arity = (2, 2)

    def lengths(self, refuse: Refuse, value: Array) -> tuple[int, int]:
        """Height and width of the real side; refused unless both are powers of two."""
        height, width = (int(n) for n in value.reshape(-1))
        for length in (height, width):
            power = length > 0 and length & (length - 1) == 0
            refuse(power, f"fft_length is {height} x {width}, expected powers of two")
            refuse(length <= 1 << 24, f"fft_length {height} x {width} is too large")
        return height, width

    def shape(self, node: Node, inner: Any) -> tuple[int, ...] | None:
        """The outer sizes of the input, then `inner(height, width)`; None where data decides."""
        x, length = node.input(0), node.input(1)
        node.require(x.rank >= 2, f"input must have at least 2 dimensions, got shape {x.dims}")
        node.require_dtype(length, (I32,), "fft_length")
        ok = length.dims == (2,)
        node.require(ok, f"fft_length must be two numbers, got shape {length.dims}")
        if length.value is None:
            return None
        return (*x.dims[:-2], *inner(*self.lengths(node.require, length.value)))


@builtin("RFFT2D")
class Rfft2d(_Transform):
    """y[u, v] = sum x[i, j] e^(-2 pi i (u i / h + v j / w)) for v <= w / 2.  f32 -> complex64.

    x is cropped or padded with zeros to h x w = fft_length (powers of two); sums are doubles.
    Source: LiteRT tflite/kernels/rfft2d.cc.
    """

    options = Rfft2dOptions

    def infer(self, node: Node) -> Types:
        node.require_dtype(node.input(0), (F32,), "input")
        shape = self.shape(node, lambda height, width: (height, width // 2 + 1))
        return [made(node, shape, C64)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, length = inputs
        size = self.lengths(node.check, length)
        if x.size == 0:
            return np.zeros((*x.shape[:-2], size[0], size[1] // 2 + 1), np.complex64)
        return np.fft.rfft2(x.astype(np.float64), s=size, axes=(-2, -1)).astype(np.complex64)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Rows, then columns."""
        from litejit.ops.fft_lowering import lower_rfft2d

        lower_rfft2d(node, steps)


@builtin("IRFFT2D")
class Irfft2d(_Transform):
    """The inverse of RFFT2D: complex64 -> f32 of h x w = fft_length, divided by h w.

    x is cropped or padded with zeros to h x (w / 2 + 1).
    Source: LiteRT tflite/kernels/irfft2d.cc.
    """

    def infer(self, node: Node) -> Types:
        node.require_dtype(node.input(0), (C64,), "input")
        shape = self.shape(node, lambda height, width: (height, width))
        return [made(node, shape, F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, length = inputs
        size = self.lengths(node.check, length)
        if x.size == 0:
            return np.zeros((*x.shape[:-2], *size), np.float32)
        return np.fft.irfft2(x.astype(np.complex128), s=size, axes=(-2, -1)).astype(np.float32)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Columns, then rows."""
        from litejit.ops.fft_lowering import lower_irfft2d

        lower_irfft2d(node, steps)
