"""Run a recording through both models, second by second, as a microcontroller would.

    python examples/wake_word/listen.py [FILE.wav]
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np

from litejit.micro import runtime

HERE = Path(__file__).parent
FRAME, STEP, FRAMES = 480, 320, 48


def heard(path: Path) -> list[float]:
    """The probability of the word, for every second of a 16 kHz recording."""
    with wave.open(str(path), "rb") as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
        rate = file.getframerate()
    front_end = runtime.Interpreter.from_file(HERE / "front_end.tflite", arena_size=1 << 16)
    classifier = runtime.Interpreter.from_file(HERE / "classifier.tflite", arena_size=1 << 16)
    result = []
    for second in range(len(sound) // rate):
        front_end.reset()
        rows = []
        for frame in range(FRAMES):
            start = second * rate + frame * STEP
            front_end.set_input(sound[start : start + FRAME], 0)
            front_end.invoke()
            rows.append(front_end.get_output(0))
        classifier.set_input(np.array(rows).reshape(1, FRAMES, -1, 1), 0)
        classifier.invoke()
        result.append((int(classifier.get_output(0)[0, 1]) + 128) / 256)
    return result


if __name__ == "__main__":
    recording = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "recording.wav"
    for number, probability in enumerate(heard(recording)):
        print(f"second {number}: {probability:4.0%} {'the word!' if probability > 0.5 else ''}")
