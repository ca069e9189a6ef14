"""An audio front end as a model of TFLM's signal operators: 30 ms of sound to 40 int8 features.

Window, Fourier transform, energies, mel filters, square root, noise suppression, automatic gain,
logarithm: what runs on a microcontroller in fixed point, and here with the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.flexbuffer import encode
from litejit.types import F32, I8, I16, I32, U32, U64

RATE = 16_000
FRAME, STEP = 480, 320  # samples: 30 ms, every 20 ms
POINTS = 512  # of the transform
CHANNELS = 40
LOW_HZ, HIGH_HZ = 125.0, 7500.0
FEATURE = per_tensor(5.0, -128)  # quantization of the features


def _mel(hz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def _filters() -> tuple[Any, ...]:
    """Weights that fall from one centre to the next, their complements, and the ranges."""
    centres = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), CHANNELS + 2)
    mels = _mel(np.arange(POINTS // 2 + 1) * RATE / POINTS)
    starts, widths, weights = [], [], []
    for left, right in zip(centres[:-1], centres[1:], strict=True):
        inside = np.flatnonzero((mels >= left) & (mels < right))
        starts.append(int(inside[0]) if len(inside) else 0)
        widths.append(len(inside))
        weights += ((right - mels[inside]) / (right - left) * 4096).tolist()
    falling = np.array(weights).round().astype(np.int16)
    firsts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    ranges = (np.array(part, np.int16) for part in (starts, firsts, widths))
    return falling, (4096 - falling).astype(np.int16), *ranges


def _gains() -> Any:
    """Gains that fall with the noise: three numbers of a parabola for every power of two."""

    def gain(noise: float) -> int:
        value = (noise / 2**10 + 80.0) ** -0.95 * 2**21
        return int(min(value + 0.5, 32767))

    table = np.zeros(125, np.int16)
    table[:3] = gain(0), gain(1), gain(2)
    for power in range(2, 33):
        begin = 1 << (power - 1)
        end = 2 * begin - (power == 32)
        y0, y1, y2 = gain(begin), gain(begin * 1.5), gain(end)
        slope = 4 * (y1 - y0) - (y2 - y0)
        place = 4 * power - 6
        table[place : place + 3] = y0, slope, y2 - y0 - slope
    return table


def build() -> bytes:
    """The model: "sound" int16 [480] to "features" int8 [40]."""
    model = ModelBuilder("audio front end")
    graph = model.main

    def signal(name: str, inputs: list[int], shape: Any, dtype: Any, **options: Any) -> int:
        shapes = shape if isinstance(shape, list) else [(shape, dtype)]
        outputs = [graph.add_tensor(name, s, d) for s, d in shapes]
        data = encode(options) if options else b""
        graph.add_operator(f"Signal{name}", inputs, outputs, custom=True, custom_options=data)
        results.append(outputs)
        return outputs[0]

    results: list[list[int]] = []
    sound = graph.add_input("sound", (FRAME,), I16)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(FRAME) + 0.5) / FRAME)
    window = graph.add_constant("window", (hann * 4096).round().astype(np.int16))
    x = signal("Window", [sound, window], (FRAME,), I16, shift=12)
    x = signal("FftAutoScale", [x], [((FRAME,), I16), ((), I32)], None)
    bits = results[-1][1]
    x = signal("Rfft", [x], (POINTS + 2,), I16, T=I16.code, fft_length=POINTS)
    half = POINTS // 2 + 1
    x = signal("Energy", [x], (half,), U32, start_index=0, end_index=half)
    constants = [graph.add_constant("filters", part) for part in _filters()]
    x = signal("FilterBank", [x, *constants], (CHANNELS,), U64, num_channels=CHANNELS)
    x = signal("FilterBankSquareRoot", [x, bits], (CHANNELS,), U32)
    x = signal(
        "FilterBankSpectralSubtraction", [x], [((CHANNELS,), U32)] * 2, None,
        alternate_one_minus_smoothing=16384 - 983, alternate_smoothing=983, clamping=False,
        min_signal_remaining=819, num_channels=CHANNELS, one_minus_smoothing=16384 - 410,
        smoothing=410, smoothing_bits=10, spectral_subtraction_bits=14,
    )  # fmt: skip
    noise = results[-1][1]
    gains = graph.add_constant("gains", _gains())
    x = signal("PCAN", [x, noise, gains], (CHANNELS,), U32, snr_shift=6)
    x = signal("FilterBankLog", [x], (CHANNELS,), I16, input_correction_bits=3, output_scale=100)
    real = graph.add_tensor("logarithms", (CHANNELS,), F32)
    graph.add_operator("CAST", [x], [real])
    features = graph.add_output("features", (CHANNELS,), I8, quantization=FEATURE)
    graph.add_operator("QUANTIZE", [real], [features])
    return model.to_bytes()
