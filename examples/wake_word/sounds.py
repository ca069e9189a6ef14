"""Sounds made from nothing: vowels from pulses and formants, hisses, noise, tones."""

from __future__ import annotations

from typing import Any

import numpy as np
from front_end import RATE

# formants (Hz) of vowels
VOWELS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "o": (570, 840, 2410),
          "u": (300, 870, 2240), "e": (530, 1840, 2480)}  # fmt: skip
WORD = "aio"  # the word to wake up to
OTHERS = ("oia", "uu", "ee", "iau", "oue", "aue", "iie", "aoi", "ueo", "aaa", "ooi")


def spoken(vowels: str, rng: np.random.Generator) -> Any:
    """A word of vowels that glide into each other, by a voice that is drawn anew."""
    length = int(RATE * rng.uniform(0.15, 0.2)) * len(vowels)
    pitch = rng.uniform(95, 210) * np.linspace(1.1, rng.uniform(0.8, 1.05), length)
    phase = np.cumsum(pitch) / RATE
    source = np.where(phase % 1 < 0.06, 1.0, 0.0) + rng.normal(0, 0.01, length)
    tract = rng.uniform(0.92, 1.12)
    centres = np.linspace(0, length - 1, len(vowels))
    sound = np.zeros(length)
    for k in range(3):
        path = np.interp(np.arange(length), centres, [VOWELS[v][k] * tract for v in vowels])
        sound += _resonance(source, path, 60 + 30 * k) / (1 + k)
    fade = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / 400)
    return sound / np.abs(sound).max() * fade * rng.uniform(0.15, 0.7)


def _resonance(source: Any, centre: Any, width: float) -> Any:
    """A resonator of two poles whose centre moves."""
    radius = np.exp(-np.pi * width / RATE)
    turn = (2 * radius * np.cos(2 * np.pi * centre / RATE)).tolist()
    loss, a, b, out = radius * radius, 0.0, 0.0, []
    for x, t in zip(source.tolist(), turn, strict=True):
        a, b = x + t * a - loss * b, a
        out.append(a)
    return np.array(out)


def second(content: str | None, rng: np.random.Generator) -> Any:
    """A second of int16 sound: noise, with a word somewhere in it or a tone or nothing."""
    sound = rng.normal(0, rng.uniform(0.001, 0.02), RATE)
    if content == "tone":
        sound += np.sin(np.arange(RATE) * rng.uniform(0.02, 1.2)) * rng.uniform(0.05, 0.5)
    elif content:
        word = spoken(content, rng)
        start = int(rng.uniform(0.1, 1) * (RATE - len(word)))
        sound[start : start + len(word)] += word
    return np.clip(sound * 32767, -32768, 32767).astype(np.int16)
