"""TFLM's own outputs and refusals, recorded from its wheel: real models, single operators."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit.micro import runtime
from litejit.types import Array

GOLDEN = Path(__file__).parent.parent.parent.parent / "shared" / "tflm_golden"
if not GOLDEN.is_dir():
    pytest.skip("the folder with TFLM's recorded outputs is not there", allow_module_level=True)

STATUS: dict[Path, str] = {
    path: json.loads(path.read_text(encoding="utf-8"))["status"]
    for path in sorted(GOLDEN.glob("*/*.json"))
}
RELATIVE = 1e-6  # of the largest output
ARENA = 1 << 30  # more than any of the models needs
# Where TFLM refuses data, and the data was not recorded; any other data may be fine.
DATA_DEPENDENT = ("Rsqrt is only defined for positive values",)


def said_of(path: Path) -> tuple[dict[str, Any], Path, dict[str, Array]]:
    said = json.loads(path.read_text(encoding="utf-8"))
    file = path.parent / said["model_file"]
    if not file.is_file():
        pytest.skip(f"{file.name} is not beside its recording")
    arrays = path.with_suffix(".npz")
    recorded = dict(np.load(arrays)) if arrays.is_file() else {}
    return said, file, recorded


def ids(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def run(interpreter: runtime.Interpreter, recorded: dict[str, Array]) -> None:
    for number in range(len(recorded)):
        if f"in{number}" in recorded:
            interpreter.set_input(recorded[f"in{number}"], number)
    assert interpreter.invoke() == 0


def assert_outputs(
    interpreter: runtime.Interpreter, recorded: dict[str, Array], suffix: str
) -> None:
    for number in range(len(recorded)):
        expected = recorded.get(f"out{number}{suffix}")
        if expected is None:
            continue
        found = np.asarray(interpreter.get_output(number))
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        found, expected = determined(recorded, number, found, expected)
        if found.dtype.kind != "f":
            np.testing.assert_array_equal(found, expected)
            continue
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=RELATIVE * largest)


def determined(
    recorded: dict[str, Array], number: int, found: Array, expected: Array
) -> tuple[Array, Array]:
    """Without what differs between TFLM's two configurations: memory that nobody wrote."""
    other = recorded.get(f"out{number}_preserve")
    if other is None or f"out{number}" not in recorded:
        return found, expected
    written = recorded[f"out{number}"] == other
    if found.ndim > 1:  # rows of detections: whole ones
        written &= written.all(axis=-1, keepdims=True) & (found != 0).any(axis=-1, keepdims=True)
    return found[written], expected[written]


OK = [path for path, status in STATUS.items() if status == "ok"]


@pytest.mark.parametrize("path", OK, ids=ids)
@pytest.mark.parametrize("config", list(runtime.InterpreterConfig), ids=lambda c: c.name)
def test_outputs_are_tflms(path: Path, config: runtime.InterpreterConfig) -> None:
    _, file, recorded = said_of(path)
    interpreter = runtime.Interpreter.from_file(
        str(file), arena_size=ARENA, intrepreter_config=config
    )

    run(interpreter, recorded)
    preserved = config is runtime.InterpreterConfig.kPreserveAllTensors
    has_own = preserved and "out0_preserve" in recorded
    assert_outputs(interpreter, recorded, "_preserve" if has_own else "")

    run(interpreter, recorded)
    assert_outputs(interpreter, recorded, "_again" if "out0_again" in recorded else "")

    interpreter.reset()
    run(interpreter, recorded)
    assert_outputs(interpreter, recorded, "")


REFUSED = [path for path, status in STATUS.items() if status.startswith("RuntimeError")]


@pytest.mark.parametrize("path", REFUSED, ids=ids)
def test_what_tflm_refuses_is_refused_in_its_words(path: Path) -> None:
    said, file, _ = said_of(path)
    if any(reason in said["stderr"] for reason in DATA_DEPENDENT):
        pytest.skip("refused for its data, which was not recorded")
    words = said["status"].removeprefix("RuntimeError: ")

    with pytest.raises(RuntimeError) as refusal:
        interpreter = runtime.Interpreter.from_file(str(file), arena_size=ARENA)
        interpreter.invoke()

    assert type(refusal.value) is RuntimeError
    assert str(refusal.value).startswith(words)


KILLED = [path for path, status in STATUS.items() if status.startswith("signal")]


@pytest.mark.parametrize("path", KILLED, ids=ids)
def test_what_ends_or_hangs_tflms_process_runs(path: Path) -> None:
    _, file, recorded = said_of(path)
    interpreter = runtime.Interpreter.from_file(str(file), arena_size=ARENA)
    for number in range(len(interpreter._interpreter.inputs)):
        details = interpreter.get_input_details(number)
        interpreter.set_input(np.ones(details["shape"], details["dtype"]), number)

    assert interpreter.invoke() == 0

    output = interpreter.get_output(0)
    assert np.isfinite(output).all()
    if "out0_preserve" in recorded:
        assert output.shape == recorded["out0_preserve"].shape


@pytest.mark.parametrize("path", OK[::7], ids=ids)
def test_a_default_arena_that_tflm_finds_too_small_is_enlarged_with_a_warning(path: Path) -> None:
    said, file, _ = said_of(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runtime.Interpreter.from_file(str(file))

    warned = [w for w in caught if "more than the default" in str(w.message)]
    assert bool(warned) == (not said["default_arena_ok"])


@pytest.mark.parametrize("path", OK[::11], ids=ids)
def test_an_arena_that_is_too_small_is_refused_with_the_size_that_would_do(path: Path) -> None:
    said, file, _ = said_of(path)
    least = said["min_arena_16"]
    runtime.Interpreter.from_file(str(file), arena_size=least + 48)

    with pytest.raises(RuntimeError, match="TFLM failed to allocate tensors") as refusal:
        runtime.Interpreter.from_file(str(file), arena_size=least - 16)

    assert "would do" in str(refusal.value)
