"""No file ends the process: malformed and mutated models run or raise an exception."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent.parent.parent.parent / "shared" / "fuzz"
SAMPLED = ("alloc/*0*", "flow/*if*", "op/*ADD*", "param/*CONV*", "quant/*0*", "runtime/*a*")
pytestmark = pytest.mark.skipif(not FUZZ.is_dir(), reason="no hostile models beside this checkout")


def assert_nothing_dies(*arguments: str) -> None:
    command = [sys.executable, str(FUZZ / "harness.py"), "litejit", *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"crash (\d+) .*hang (\d+) .*blowup (\d+) ", out.stdout)
    assert found is not None, out.stdout + out.stderr
    assert found.groups() == ("0", "0", "0"), out.stdout
    assert out.returncode == 0, out.stdout


@pytest.mark.parametrize("pattern", SAMPLED)
def test_malformed_models_run_or_raise(pattern: str, all_cases: bool, tmp_path: Path) -> None:
    if all_cases:
        pytest.skip("all of them run in the next test")
    cases = str(FUZZ / "cases" / "open")
    assert_nothing_dies("--cases", cases, "--only", pattern, "--out", str(tmp_path / "out"))


def test_all_malformed_models_run_or_raise(all_cases: bool, tmp_path: Path) -> None:
    if not all_cases:
        pytest.skip("all 3383 of them: runs with --all-cases")
    assert_nothing_dies("--cases", str(FUZZ / "cases" / "open"), "--out", str(tmp_path / "out"))


def test_mutated_models_run_or_raise(all_cases: bool, tmp_path: Path) -> None:
    count = "3000" if all_cases else "200"
    assert_nothing_dies("--seed", "1", "--count", count, "--out", str(tmp_path / "out"))


def test_misuse_of_the_interpreter_is_answered_by_exceptions(all_cases: bool) -> None:
    if not all_cases:
        pytest.skip("115 uses, some of them slow: runs with --all-cases")
    command = [sys.executable, str(FUZZ / "harness.py"), "litejit", "--api"]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stdout[-3000:]
