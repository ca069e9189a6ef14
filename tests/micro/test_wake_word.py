"""The wake word example: it hears the word in its recording, with TFLM's numbers."""

from __future__ import annotations

import subprocess
import sys
import wave
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit.micro import runtime

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "wake_word"
SAID = [False, False, True, False, True]  # second by second

WORKER = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 16)
said = []
for frame in np.load(sys.argv[2]):
    interpreter.set_input(frame, 0)
    interpreter.invoke()
    said.append(interpreter.get_output(0))
np.save(sys.argv[3], np.array(said))
"""


def frames() -> Any:
    with wave.open(str(EXAMPLE / "recording.wav"), "rb") as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
    return np.array([sound[start : start + 480] for start in range(0, len(sound) - 480, 320)])


def test_the_word_is_heard_where_it_was_said() -> None:
    out = subprocess.run(
        [sys.executable, str(EXAMPLE / "listen.py")], capture_output=True, text=True, check=True
    )
    lines = out.stdout.splitlines()
    assert ["the word!" in line for line in lines] == SAID


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="no TFLM here")
def test_the_front_end_gives_tflms_features_over_the_whole_recording(tmp_path: Path) -> None:
    sound, said = tmp_path / "sound.npy", tmp_path / "said.npy"
    np.save(sound, frames())
    model = str(EXAMPLE / "front_end.tflite")
    subprocess.run([sys.executable, "-c", WORKER, model, str(sound), str(said)], check=True)

    interpreter = runtime.Interpreter.from_file(model, arena_size=1 << 16)
    found = []
    for frame in frames():
        interpreter.set_input(frame, 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0))
    np.testing.assert_array_equal(np.array(found), np.load(said))
