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

ROOT = Path(__file__).parent.parent.parent
SIZES = [(32768, 0), (32776, 0), (32768, 20)]  # arena, alternate memory
ASK = """
import json, os, sys, tempfile
from tflite_micro import runtime
from tests.micro.arena_models import MODELS

found = {}
for name, builder in MODELS.items():
    for size, alternate in SIZES:
        data = builder.to_bytes()
        with tempfile.TemporaryFile() as file:
            child = os.fork()
            if not child:
                os.dup2(file.fileno(), 2)
                interpreter = runtime.Interpreter.from_bytes(
                    data, arena_size=size, alt_decompression_memory_size=alternate)
                interpreter.print_allocations()
                os._exit(0)
            ended = os.waitpid(child, 0)[1]
            file.seek(0)
            found[f"{name}/{size}/{alternate}"] = file.read().decode()
            if ended:
                found[f"{name}/{size}/{alternate}"] += f"ended with {ended}"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def reports() -> dict[str, str]:
    pytest.importorskip("tflite_micro")
    done = subprocess.run(
        [sys.executable, "-c", f"SIZES = {SIZES}\n{ASK}"],
        capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("size", "alternate"), SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_the_wheel_reports_the_same_arena(
    name: str, size: int, alternate: int, reports: dict[str, str]
) -> None:
    model = MODELS[name].build()
    found = allocations(model, alternate_bytes=alternate, arena_bytes=size)
    assert found.text() == reports[f"{name}/{size}/{alternate}"]
