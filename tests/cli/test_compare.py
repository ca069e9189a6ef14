"""`litejit compare`: it finds the operator at which two runtimes part, and says by how much."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_cli import MODEL, litejit

from litejit.cli.compare import differences, inputs_of
from litejit.cli.runtimes import values_of
from litejit.micro.loading import read_micro_model

needs = {
    "litert": pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="no LiteRT here"),
    "tflm": pytest.mark.skipif(find_spec("tflite_micro") is None, reason="no TFLM here"),
}


@pytest.mark.parametrize(
    "other",
    ["reference", "micro", pytest.param("litert", marks=needs["litert"]),
     pytest.param("tflm", marks=needs["tflm"])],
)  # fmt: skip
def test_runtimes_agree_on_a_quantized_model(other: str) -> None:
    out = litejit("compare", MODEL, "--with", other)

    assert out.returncode == 0, out.stdout + out.stderr
    assert "agree on all" in out.stdout


def test_the_first_operator_that_differs_is_named_with_the_distance() -> None:
    model = read_micro_model(Path(MODEL).read_bytes())
    a = values_of("litejit", MODEL, inputs_of(model, (), 0))
    third = model.subgraphs[0].operators[2].outputs[0]
    last = model.subgraphs[0].operators[-1].outputs[0]
    changed = {**a, third: a[third].copy(), last: a[last].copy()}
    changed[third].reshape(-1)[5] ^= 3
    changed[last].reshape(-1)[0] ^= 1

    first, *rest = differences(model, a, changed, rtol=0.0)

    assert (first.operator, first.elements) == (2, 1)
    assert first.largest in (1.0, 2.0, 3.0)
    assert first.position == tuple(int(i) for i in np.unravel_index(5, a[third].shape))
    assert [d.tensor for d in rest] == [last]


def test_floats_may_differ_within_the_tolerance() -> None:
    model = read_micro_model(Path(MODEL).read_bytes())
    index = model.subgraphs[0].operators[0].outputs[0]
    a = {index: np.array([1.0, 100.0], np.float32)}
    b = {index: np.array([1.0001, 100.0], np.float32)}

    assert differences(model, a, b, rtol=1e-5) == []
    assert len(differences(model, a, b, rtol=1e-7)) == 1


def test_a_file_that_is_no_model_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"nothing here")
    out = litejit("compare", str(path))

    assert out.returncode == 1
    assert "Traceback" not in out.stderr
