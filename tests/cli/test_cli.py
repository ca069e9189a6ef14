"""The command line: what it prints, and one clear line for what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"
MODEL = str(DIGITS / "digits_int8.tflite")


def litejit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "litejit", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip


@pytest.mark.parametrize("image", sorted(DIGITS.glob("*.png")), ids=lambda path: path.stem)
def test_run_recognizes_the_digit_of_a_test_image(image: Path) -> None:
    out = litejit("run", MODEL, "-i", str(image), "--labels", str(DIGITS / "labels.txt"))
    assert out.returncode == 0, out.stderr
    best = next(line for line in out.stdout.splitlines() if "digit" in line and ":" in line)
    assert f"{image.stem[-1]}: " in best


def test_run_writes_outputs_as_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((1, 8, 8, 1), np.int8))
    given = f"image={tmp_path / 'image.npy'}"
    out = litejit("run", MODEL, "--input", given, "--output", str(tmp_path / "out"))
    assert out.returncode == 0, out.stderr
    (file,) = (tmp_path / "out").iterdir()
    assert np.load(file).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("run", "/nowhere/x.tflite"), "Could not open"),
        (("run", MODEL, "-i", "sound=x.npy"), "no input 'sound'"),
        (("run", MODEL, "-i", "/nowhere.npy"), "No such file"),
        (("show", str(DIGITS / "labels.txt")), "not a valid Flatbuffer"),
        (("show", MODEL, "--stage", "nothing"), "not one of"),
        (("dance",), "No such command"),
    ],
)
def test_errors_are_one_clear_line_and_exit_code_1(arguments: tuple[str, ...], word: str) -> None:
    out = litejit(*arguments)
    assert out.returncode == 1
    assert word in out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize("stage", ["model", "nodes", "steps", "plan", "program", "ir", "asm"])
def test_show_prints_every_stage(stage: str) -> None:
    out = litejit("show", MODEL, "--stage", stage)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip()


def test_bench_prints_latency_and_a_profile() -> None:
    out = litejit("bench", MODEL, "--seconds", "0.05", "--no-peer")
    assert out.returncode == 0, out.stderr
    assert "median" in out.stdout
    assert "FULLY_CONNECTED" in out.stdout


def test_cache_tells_its_folder_and_can_be_emptied(tmp_path: Path) -> None:
    environment = {**os.environ, "LITEJIT_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "litejit"]
    for arguments, word in ((["run", MODEL], "digit"), (["cache", "info"], str(tmp_path)),
                            (["cache", "clear"], "deleted")):  # fmt: skip
        out = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        assert word in out.stdout
