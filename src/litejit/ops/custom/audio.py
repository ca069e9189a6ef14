"""AudioSpectrogram and Mfcc: what speech models begin with."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from litejit.ops.base import Arrays, Lowering, Node, Types, builtin
from litejit.ops.custom.options import CustomOp, Fields
from litejit.ops.indexing import made
from litejit.record import Record
from litejit.types import F32, I32, Array

_MOST = 1 << 24  # samples in a window, channels in a filter bank
_FLOOR = 1e-12  # what a band holds at least before its logarithm is taken


class SpectrogramOptions(Record):
    """Samples in a window and between windows; squares, or their roots."""

    window_size: int
    stride: int
    magnitude_squared: bool


@builtin("AudioSpectrogram")
class AudioSpectrogram(CustomOp):
    """y[c, t, f] = |Fourier transform of window t of channel c|, or its square.

    x: f32 [samples, channels]. A window is weighted by a periodic Hann function and filled with
    zeros up to a power of two; sums are doubles.
    Source: LiteRT tflite/kernels/audio_spectrogram.cc, internal/spectrogram.cc.
    """

    def read(self, fields: Fields) -> Any:
        return SpectrogramOptions(
            fields.integer("window_size"),
            fields.integer("stride"),
            fields.flag("magnitude_squared"),
        )

    def infer(self, node: Node) -> Types:
        x, o = node.input(0), node.options
        node.require_dtype(x, (F32,), "input")
        node.require(x.rank == 2, f"input must be (samples, channels), got shape {x.dims}")
        ok = 2 <= o.window_size <= _MOST and o.stride >= 1
        node.require(ok, f"window of {o.window_size} samples, stride {o.stride}")
        frames = max((x.dims[0] - o.window_size) // o.stride + 1, 0)
        return [made(node, (x.dims[1], frames, self._length(node) // 2 + 1), F32)]

    @staticmethod
    def _length(node: Node) -> int:
        return 1 << int(node.options.window_size - 1).bit_length()

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        o, (channels, frames, bins) = node.options, node.output(0).dims
        result = np.zeros((channels, frames, bins), np.float32)
        weights = _hann(o.window_size)
        with np.errstate(all="ignore"):
            for frame in range(frames):
                part = x[frame * o.stride : frame * o.stride + o.window_size].astype(np.float64)
                found = np.fft.rfft(part.T * weights, n=self._length(node), axis=1)
                result[:, frame] = found.real**2 + found.imag**2
            return result if o.magnitude_squared else np.sqrt(result)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A kernel for all windows."""
        from litejit.ops.fft_lowering import lower_spectrogram

        lower_spectrogram(node, steps, _hann(node.options.window_size), self._length(node))


def _hann(size: int) -> Array:
    turn = 2.0 * np.pi * np.arange(size) / size
    return np.asarray(0.5 - 0.5 * np.cos(turn))


class MfccOptions(Record):
    """Frequencies in Hz, bands of the filter bank, and coefficients that are kept."""

    upper: float
    lower: float
    bands: int
    coefficients: int


@builtin("Mfcc")
class Mfcc(CustomOp):
    """Mel-frequency cepstral coefficients of squared magnitudes: f32 [c, t, bins] -> [c, t, k].

    Roots of the squares in triangular bands, evenly spaced on the mel scale 1127 ln(1 + f / 700);
    their logarithms; a cosine transform scaled by sqrt(2 / bands). Input 1 is the sample rate
    in Hz (int32, one element). Source: LiteRT tflite/kernels/mfcc.cc, internal/mfcc*.cc.
    """

    arity = (2, 2)

    def read(self, fields: Fields) -> Any:
        return MfccOptions(
            float(fields.integer("upper_frequency_limit")),
            float(fields.integer("lower_frequency_limit")),
            fields.integer("filterbank_channel_count"),
            fields.integer("dct_coefficient_count"),
        )

    def infer(self, node: Node) -> Types:
        x, rate, o = node.input(0), node.input(1), node.options
        node.require_dtype(x, (F32,), "input")
        node.require_dtype(rate, (I32,), "sample rate")
        node.require(x.rank == 3, f"input must have 3 dimensions, got shape {x.dims}")
        node.require(rate.size == 1, f"sample rate has shape {rate.dims}, expected one element")
        ok = 1 <= o.coefficients <= o.bands <= _MOST
        node.require(ok, f"{o.coefficients} coefficients of {o.bands} bands")
        ok = 0 <= o.lower < o.upper
        node.require(ok, f"frequencies from {o.lower} to {o.upper} Hz")
        node.require(x.dims[2] >= 2, f"input has {x.dims[2]} bins, expected at least 2")
        return [made(node, (*x.dims[:2], o.coefficients), F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, rate = inputs[0].astype(np.float64), int(inputs[1].reshape(-1)[0])
        o = node.options
        node.check(rate > 0, f"sample rate is {rate}")
        result = np.zeros(node.output(0).dims, np.float32)
        found = _bank(o, rate, x.shape[2])
        if found is None:
            return result
        first, weights = found
        bands = np.empty((*x.shape[:2], o.bands))
        with np.errstate(all="ignore"):
            root = np.sqrt(x[..., first : first + len(weights)])
            for band, (start, stop) in enumerate(_ranges(weights)):
                bands[..., band] = root[..., start:stop] @ weights[start:stop, band]
            result[...] = np.log(np.where(bands < _FLOOR, _FLOOR, bands)) @ _cosines(o).T
        return result

    def lower(self, node: Node, steps: Lowering) -> None:
        """A kernel, where the sample rate is a constant and there is something to filter."""
        from litejit.kernels.mel import MelSpec

        o, value, (*outer, bins) = node.options, node.input(1).value, node.input(0).dims
        rate, x = 0 if value is None else int(value.reshape(-1)[0]), steps.inputs[0]
        found = _bank(o, rate, bins) if rate > 0 else None
        if found is None or x is None:
            return
        first, weights = found
        ranges = np.array(_ranges(weights), np.int32)
        parts = [weights[start:stop, band] for band, (start, stop) in enumerate(ranges)]
        constants = [
            ranges[:, 0] + np.int32(first), ranges[:, 1] - ranges[:, 0],
            np.concatenate([*parts, np.zeros(1)]), _cosines(o),
        ]  # fmt: skip
        stride, rows = -(-o.bands // 8) * 64, int(np.prod(outer))
        steps.call(
            MelSpec(_FLOOR), x, steps.outputs[0],
            *(steps.constant(f"{k}", partial(np.ascontiguousarray, c))
              for k, c in enumerate(constants)),
            steps.scratch(stride), stride, bins, o.bands, o.coefficients, items=rows,
            cost_ns=20 + rows * (len(weights) * 4.0 + o.bands * (20.0 + o.coefficients)),
        )  # fmt: skip


def _bank(o: MfccOptions, rate: int, bins: int) -> tuple[int, Array] | None:
    """The first bin, and weights from there on; None where the spectrum ends below the bands."""
    hz_per_bin = 0.5 * rate / (bins - 1)
    first, last = int(1.5 + o.lower / hz_per_bin), int(o.upper / hz_per_bin)
    if last >= bins:
        return None
    return first, _filters(o, _mel(np.arange(first, last + 1) * hz_per_bin))


def _ranges(weights: Array) -> list[tuple[int, int]]:
    """First and last bin (not included) of every band."""
    found = [np.flatnonzero(column) for column in weights.T]
    return [(int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0) for used in found]


def _cosines(o: MfccOptions) -> Array:
    place = np.arange(o.bands) + 0.5
    turn = np.arange(o.coefficients)[:, None] * (np.pi / o.bands) * place
    return np.asarray(np.sqrt(2.0 / o.bands) * np.cos(turn))


def _mel(hz: Any) -> Any:
    return 1127.0 * np.log1p(hz / 700.0)


def _filters(o: MfccOptions, mels: Array) -> Array:
    """Weight of every bin (at `mels`) in every band, float64 [bins, bands]."""
    low = _mel(o.lower)
    spacing = (_mel(o.upper) - low) / (o.bands + 1)
    centers = low + spacing * np.arange(1, o.bands + 2)
    below = np.concatenate([[low], centers])
    band = np.searchsorted(centers[: o.bands], mels, side="left")
    share = (centers[band] - mels) / (centers[band] - below[band])
    weights = np.zeros((len(mels), o.bands + 2), np.float64)
    rows = np.arange(len(mels))
    weights[rows, band] = share  # the falling side of the band below
    weights[rows, band + 1] = 1.0 - share
    return weights[:, 1 : o.bands + 1]
