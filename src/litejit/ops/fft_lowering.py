"""How Fourier transforms of images ask for their kernels; they work in double."""

from __future__ import annotations

from math import pi, prod
from typing import Any

import numpy as np

from litejit.kernels.fourier import ColumnsSpec, FourierSpec, factors, order, packed_twiddles
from litejit.ops.base import Lowering, Node, Operand
from litejit.types import Array

_MOST = 1 << 20  # numbers in a row or column: tables of more are too large
_NS = 1.5  # of a complex number in a stage


def circle(phases: Any) -> Array:
    """exp(i phase), float64 [n, 2]."""
    return np.stack([np.cos(phases), np.sin(phases)], axis=1)


class _Images:
    """Images of height x width real numbers, transformed over both axes."""

    def __init__(self, steps: Lowering, dims: tuple[int, ...], height: int, width: int) -> None:
        self.steps, self.height, self.width = steps, height, width
        self.columns = width // 2 + 1
        *outer, self.rows_in, self.columns_in = dims
        self.count = prod(outer)

    def _tables(self, n: int, *, inverse: bool) -> tuple[tuple[int, ...], list[Operand]]:
        """Radices, order and twiddles of a complex transform."""
        radices, sign = tuple(factors(n)), 1 if inverse else -1

        def twiddles() -> Array:
            return packed_twiddles(circle(sign * 2 * pi / n * np.arange(n)), radices)

        places = self.steps.constant(f"order {n}", lambda: order(radices).astype(np.int32))
        return radices, [places, self.steps.constant(f"twiddles {n}", twiddles)]

    def _scratch(self, numbers: int) -> tuple[Operand, int]:
        stride = -(-numbers * 8 // 64) * 64
        return self.steps.scratch(stride), stride

    def rows(
        self, kind: str, x: Operand, y: Operand, *, length: int, pitch: int, known: int,
        inverse: bool, step: int = 1, image: int = 0, window: Operand | None = None,
        size: str = "",
    ) -> None:  # fmt: skip
        """Transforms of all rows between real and complex numbers."""
        image = image or known * pitch
        half, rows = self.width // 2, self.count * self.height
        radices, tables = self._tables(half, inverse=inverse)
        sign = pi if inverse else -pi

        def turns() -> Array:
            both = circle(sign * (np.arange(1, half // 2 + 1) / half + 0.5))
            return np.concatenate([both, np.zeros((1, 2))]).reshape(-1)

        self.steps.call(
            FourierSpec(kind, radices, inverse, window is not None, size), x, y, *tables,
            self.steps.constant(f"turns {half}", turns), x if window is None else window,
            *self._scratch(2 * self.width), length, step, pitch, image, known, self.height,
            items=rows,
            cost_ns=rows * half * (len(radices) + 2) * _NS,
        )  # fmt: skip

    def along_columns(
        self, kind: str, x: Operand, y: Operand, *, rows_in: int, columns_in: int, inverse: bool
    ) -> None:
        """Complex transforms of all columns."""
        radices, tables = self._tables(self.height, inverse=inverse)
        items = self.count * self.columns
        self.steps.call(
            ColumnsSpec(kind, radices, inverse), x, y, *tables, *self._scratch(2 * self.height),
            self.columns, rows_in, columns_in, items=items,
            cost_ns=items * self.height * (len(radices) + 2) * _NS,
        )  # fmt: skip

    def between(self) -> Operand:
        """Memory for the spectra of all rows, in double."""
        return self.steps.temporary(16 * self.count * self.height * self.columns)


def _images(node: Node, steps: Lowering) -> _Images | None:
    length = node.input(1).value
    if length is None or not node.input(0).size:
        return None
    height, width = (int(n) for n in length.reshape(-1))
    if width < 2 or max(height, width) > _MOST:
        return None
    return _Images(steps, node.input(0).dims, height, width)


def lower_rfft2d(node: Node, steps: Lowering) -> None:
    """Rows of the image to spectra, and their columns where there is more than one row."""
    images, x, y = _images(node, steps), steps.inputs[0], steps.outputs[0]
    if images is None or x is None:
        return
    length, known = min(images.columns_in, images.width), images.rows_in
    many = images.height > 1
    kind, spectra = ("FLOAT32 to FLOAT64", images.between()) if many else ("FLOAT32 by FLOAT64", y)
    images.rows(
        kind, x, spectra, length=length, pitch=images.columns_in, known=known, inverse=False
    )
    if many:
        images.along_columns(
            "FLOAT64 to FLOAT32", spectra, y, rows_in=images.height, columns_in=images.columns,
            inverse=False,
        )  # fmt: skip


def lower_irfft2d(node: Node, steps: Lowering) -> None:
    """Columns, where they are more than a number or not whole, then rows."""
    images, x, y = _images(node, steps), steps.inputs[0], steps.outputs[0]
    if images is None or x is None:
        return
    kind, spectra, pitch, known = "FLOAT32 by FLOAT64", x, 2 * images.columns_in, images.rows_in
    if images.height > 1 or images.columns_in < images.columns:
        spectra = images.between()
        images.along_columns(
            "FLOAT32 to FLOAT64", x, spectra, rows_in=images.rows_in,
            columns_in=images.columns_in, inverse=True,
        )  # fmt: skip
        kind, pitch, known = "FLOAT64 to FLOAT32", 2 * images.columns, images.height
    images.rows(kind, spectra, y, length=0, pitch=pitch, known=known, inverse=True)


def lower_spectrogram(node: Node, steps: Lowering, weights: Array, length: int) -> None:
    """Windows of every channel, `length` numbers with the zeros behind them."""
    (samples, channels), frames, x = node.input(0).dims, node.output(0).dims[1], steps.inputs[0]
    if length < 2 or length > _MOST or not node.output(0).size or x is None:
        return
    images = _Images(steps, (channels, frames, samples), frames, length)
    images.rows(
        "FLOAT32 by FLOAT64", x, steps.outputs[0], length=len(weights), step=channels,
        pitch=node.options.stride * channels, image=1, known=frames, inverse=False,
        window=steps.constant("window", lambda: weights),
        size="square" if node.options.magnitude_squared else "root",
    )  # fmt: skip
