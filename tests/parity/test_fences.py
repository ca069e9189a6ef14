"""No compiled step writes outside its results, or lets what lies around it change a number.

Every case runs on ordinary memory, twice between fences (see fences.py), and in NumPy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parent.parent.parent.parent / "shared"
WORKER = Path(__file__).parent / "fences.py"
PARTS = 8
SAMPLE = 12  # every twelfth case by default
pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason="no corpora beside this checkout"),
    pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does"),
]


def cases() -> Iterator[Path]:
    corpus = SHARED / "corpus" / "open"
    for line in (corpus / "index.jsonl").read_text().splitlines():
        case = json.loads(line)
        if case["expect"] == "run":
            yield corpus / case["op_test"] / f"{case['id']}.tflite"
    for path in sorted((SHARED / "tflm_golden").glob("*/*.json")):
        said = json.loads(path.read_text())
        if said["status"] == "ok" and (path.parent / said["model_file"]).is_file():
            yield path


def problems(paths: list[Path]) -> dict[str, str]:
    """What is wrong, by name; a process that dies costs the case that it had begun."""
    found: dict[str, str] = {}
    while paths:
        done = subprocess.run(
            [sys.executable, str(WORKER)], input="\n".join(map(str, paths)),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        answered = len(lines) // 2
        found |= {
            Path(lines[2 * n]).stem: lines[2 * n + 1] for n in range(answered) if lines[2 * n + 1]
        }
        if answered < len(paths):
            found[paths[answered].stem] = (
                f"the process died ({done.returncode}) {done.stderr[-300:]}"
            )
        paths = paths[answered + 1 :]
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_steps_keep_to_their_own_memory_and_give_what_numpy_gives(
    part: int, all_cases: bool
) -> None:
    chosen = list(cases())[:: 1 if all_cases else SAMPLE]
    assert problems(chosen[part::PARTS]) == {}
