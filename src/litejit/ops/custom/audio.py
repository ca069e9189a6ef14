"""AudioSpectrogram and Mfcc: what speech models begin with."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops.base import Arrays, Node, Types, builtin
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
        turn = 2.0 * np.pi * np.arange(o.window_size) / o.window_size
        weights = 0.5 - 0.5 * np.cos(turn)
        with np.errstate(all="ignore"):
            for frame in range(frames):
                part = x[frame * o.stride : frame * o.stride + o.window_size].astype(np.float64)
                found = np.fft.rfft(part.T * weights, n=self._length(node), axis=1)
                result[:, frame] = found.real**2 + found.imag**2
            return result if o.magnitude_squared else np.sqrt(result)


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
        hz_per_bin = 0.5 * rate / (x.shape[2] - 1)
        first, last = int(1.5 + o.lower / hz_per_bin), int(o.upper / hz_per_bin)
        if last >= x.shape[2]:  # the spectrum ends below: nothing is filtered
            return result
        bins = np.arange(first, last + 1)
        weights = _filters(o, _mel(bins * hz_per_bin))
        place = np.arange(o.bands) + 0.5
        turn = np.arange(o.coefficients)[:, None] * (np.pi / o.bands) * place
        cosines = np.sqrt(2.0 / o.bands) * np.cos(turn)
        with np.errstate(all="ignore"):
            bands = np.sqrt(x[..., first : last + 1]) @ weights
            result[...] = np.log(np.where(bands < _FLOOR, _FLOOR, bands)) @ cosines.T
        return result


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
