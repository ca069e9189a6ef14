"""TFLM's wheel, where it is installed, reports the arenas that litejit works out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.micro.arena_models import MODELS

from litejit.micro.allocations import allocations
from litejit.micro.ledger import least_arena
from litejit.micro.script import Setup, write_script
from litejit.micro.structs import TARGETS

ROOT = Path(__file__).parent.parent.parent
SIZES = [(32768, 0), (32776, 0), (32768, 20)]  # arena, alternate memory
# Every question runs in a process of its own: TFLM dies of some arenas that are too small.
ASK = """
import json, os, sys, tempfile
from tflite_micro import runtime
from tests.micro.arena_models import MODELS

found = {}
for name, size, alternate in json.load(sys.stdin):
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if not child:
            os.dup2(file.fileno(), 2)
            try:
                interpreter = runtime.Interpreter.from_bytes(
                    MODELS[name].to_bytes(), arena_size=size,
                    alt_decompression_memory_size=alternate)
                interpreter.print_allocations()
            except BaseException:
                os._exit(1)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        file.seek(0)
        text = file.read().decode()
        found[f"{name}/{size}/{alternate}"] = [ended, text]
print(json.dumps(found))
"""


def least_of(name: str, *, guarded: bool = True) -> int:
    script = write_script(MODELS[name].build(), Setup(TARGETS["wheel"]))
    return least_arena(script.steps, guarded=guarded)


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str]]:
    pytest.importorskip("tflite_micro")
    questions = [(name, *size) for name in MODELS for size in SIZES]
    for name in MODELS:
        least = least_of(name)
        questions += [(name, least, 0), (name, least - 16, 0)]
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(questions), capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip
    return {name: (ended, text) for name, (ended, text) in json.loads(done.stdout).items()}


@pytest.mark.parametrize(("size", "alternate"), SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_the_wheel_reports_the_same_arena(
    name: str, size: int, alternate: int, answers: dict[str, tuple[int, str]]
) -> None:
    model = MODELS[name].build()
    found = allocations(model, alternate_bytes=alternate, arena_bytes=size)
    assert (0, found.text()) == answers[f"{name}/{size}/{alternate}"]


@pytest.mark.parametrize("name", MODELS)
def test_the_wheel_allocates_in_the_least_arena_and_not_below(
    name: str, answers: dict[str, tuple[int, str]]
) -> None:
    least = least_of(name)
    assert answers[f"{name}/{least}/0"][0] == 0
    # Where Init's blocks do not fit, or Prepare's run into temporaries, TFLM may not notice.
    certain = least_of(name, guarded=False) == least and not name.startswith(("Rfft", "Irfft"))
    assert not certain or answers[f"{name}/{least - 16}/0"][0] != 0
