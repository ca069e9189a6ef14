"""Whole models give the results recorded from LiteRT, for any number of threads and in NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from litejit import Interpreter, OpResolverType

MODELS = Path(__file__).parent.parent.parent.parent / "shared" / "models"
RECORDED = sorted(MODELS.glob("*.npz"))
SLOW_IN_NUMPY = 3_000_000  # bytes of a model
pytestmark = pytest.mark.skipif(not RECORDED, reason="no recorded models beside this checkout")


def run(path: Path, **arguments: object) -> list[np.ndarray]:
    interpreter = Interpreter(str(path.with_suffix(".tflite")), **arguments)
    interpreter.allocate_tensors()
    with np.load(path) as data:
        for k, detail in enumerate(interpreter.get_input_details()):
            interpreter.set_tensor(detail["index"], data[f"in_{k}"])
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def assert_agrees(got: np.ndarray, want: np.ndarray, *, tolerance: float) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    span = float(np.ptp(want)) or 1.0
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * span)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_outputs_equal_the_recorded_ones_with_any_number_of_threads(path: Path) -> None:
    with np.load(path) as data:
        count = sum(name.startswith("xnn_") for name in data.files)
        reference = [data[f"ref_{k}"] for k in range(count) if f"ref_{k}" in data.files]
        default = [data[f"xnn_{k}"] for k in range(count)]
    tolerance = 1e-2 if path.stem.endswith("_dyn") else 1e-4
    outputs = run(path)
    for got, want in zip(outputs, reference, strict=False):
        assert_agrees(got, want, tolerance=tolerance)
    if not reference:
        for got, want in zip(outputs, default, strict=True):
            assert np.abs(got.astype(float) - want.astype(float)).mean() <= 1
        numpy_only = run(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        for got, want in zip(outputs, numpy_only, strict=True):
            assert_agrees(got, want, tolerance=tolerance)
    for threads in (2, 3):
        for got, want in zip(run(path, num_threads=threads), outputs, strict=True):
            assert got.tobytes() == want.tobytes(), f"{threads} threads change the result"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_integer_results_in_numpy_are_the_same_bytes(path: Path, all_cases: bool) -> None:
    if path.with_suffix(".tflite").stat().st_size > SLOW_IN_NUMPY and not all_cases:
        pytest.skip("a large model in NumPy: runs with --all-cases")
    compiled = run(path)
    numpy_only = run(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    tolerance = 1e-2 if path.stem.endswith("_dyn") else 1e-4
    for got, want in zip(numpy_only, compiled, strict=True):
        assert_agrees(got, want, tolerance=tolerance)


def test_a_process_without_llvmlite_gives_the_same_bytes() -> None:
    path = MODELS / "hello_world_int8.npz"
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "from litejit import Interpreter\nimport numpy as np\n"
        f"it = Interpreter({str(path.with_suffix('.tflite'))!r}); it.allocate_tensors()\n"
        f"it.set_tensor(it.get_input_details()[0]['index'], np.load({str(path)!r})['in_0'])\n"
        "it.invoke(); print(it.get_tensor(it.get_output_details()[0]['index']).tolist())"
    )
    environment = {**os.environ, "LITEJIT_CACHE": "off"}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.strip() == str(run(path)[0].tolist())
