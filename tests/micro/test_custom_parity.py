"""Custom operators beside TFLM's wheel, run for run: results, state, reset."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from tests.micro.customs import CASES, Case, build

from litejit.micro import runtime
from litejit.types import BOOL, I32

pytestmark = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="no TFLM here")
ARENA = 1 << 20

# A process of its own: TFLM's wheel can end it. Results are written as they come.
WORKER = """
import pickle, sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime

def outputs(interpreter):
    found = []
    while True:
        try:
            found.append(np.array(interpreter.get_output(len(found))))
        except IndexError:
            return found

for content, runs in pickle.load(sys.stdin.buffer):
    said = []
    try:
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=1 << 20)
        for again in range(2):
            for values in runs:
                for number, value in enumerate(values):
                    interpreter.set_input(value, number)
                said.append((interpreter.invoke(), outputs(interpreter)))
            interpreter.reset()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    pickle.dump(said, sys.stdout.buffer)
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def said_by_tflm() -> dict[str, Any]:
    asked = pickle.dumps([(case.content, case.runs) for case in CASES])
    done = subprocess.run(
        [sys.executable, "-c", WORKER], input=asked, capture_output=True, check=False, timeout=120
    )
    results = io.BytesIO(done.stdout)
    found = {}
    for case in CASES:
        if results.tell() < len(done.stdout):
            found[case.name] = pickle.load(results)
    return found


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_run_gives_what_tflm_gives(
    case: Case, compiled: bool, said_by_tflm: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setenv("LITEJIT_COMPILE", "0")
    said = said_by_tflm.get(case.name, "its process ended before")
    assert not isinstance(said, str), said
    interpreter = runtime.Interpreter.from_bytes(case.content, arena_size=ARENA)

    expected = iter(said)
    for number_of_round in range(2):
        for values in case.runs:
            for number, value in enumerate(values):
                interpreter.set_input(value, number)
            status = interpreter.invoke()
            code, outputs = next(expected)
            assert status == code
            unfilled = case.name.startswith("circular") and not number_of_round
            if not status and not unfilled:  # TFLM's slots hold anything at first
                assert_same(interpreter, outputs)
        interpreter.reset()


def assert_same(interpreter: runtime.Interpreter, outputs: list[Any]) -> None:
    flags = [bool(o) for o in outputs if o.dtype == np.bool_ and not o.ndim]
    for number, expected in enumerate(outputs):
        found = np.asarray(interpreter.get_output(number))
        assert found.dtype == expected.dtype
        if flags and not all(flags) and expected.dtype != np.bool_:
            continue  # not full yet: TFLM leaves what was there
        np.testing.assert_array_equal(found, expected)


def classifier(numbers: Any, indices: Any, thresholds: Any, shapes: Any) -> bytes:
    results = list(zip(shapes, (BOOL, I32), strict=True))
    return build("BasicClassifier", {}, [numbers, indices, thresholds], results)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
@pytest.mark.parametrize("index", [-1, 6, 1 << 30])
def test_a_classifier_refuses_an_index_beyond_its_numbers(
    index: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setenv("LITEJIT_COMPILE", "0")
    values = [np.zeros((2, 3), np.int32), np.array([0, index], np.int32), np.zeros(2, np.int32)]
    interpreter = runtime.Interpreter.from_bytes(classifier(*values, [(2,), (2,)]), arena_size=4096)
    for number, value in enumerate(values):
        interpreter.set_input(value, number)
    with pytest.raises(RuntimeError, match="an index lies beyond the 6 numbers"):
        interpreter.invoke()


@pytest.mark.parametrize(
    ("numbers", "indices", "thresholds", "results"),
    [((1, 2, 3), (2,), (2,), [(2,), (2,)]), ((), (2,), (2,), [(2,), (2,)]),
     ((3,), (1, 2), (2,), [(2,), (2,)]), ((3,), (2,), (3,), [(2,), (2,)]),
     ((3,), (2,), (2,), [(3,), (2,)]), ((3,), (2,), (2,), [(2,), (1, 2)])],
)  # fmt: skip
def test_a_classifier_refuses_shapes_that_do_not_fit(
    numbers: Any, indices: Any, thresholds: Any, results: Any
) -> None:
    values = [np.zeros(shape, np.int32) for shape in (numbers, indices, thresholds)]
    with pytest.raises(RuntimeError, match="failed to allocate tensors"):
        runtime.Interpreter.from_bytes(classifier(*values, results), arena_size=4096)
