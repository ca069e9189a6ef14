"""LiteRT, where it is installed, still gives what was recorded for every case."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.api.cases import CASES
from tests.api.record import RECORD

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("importlib.metadata")
    try:
        version = importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ai-edge-litert is not installed")
    if version != "2.3.0":
        pytest.skip(f"recorded with ai-edge-litert 2.3.0, {version} is installed")
    path = tmp_path_factory.mktemp("api") / "now.json"
    folders = os.pathsep.join([str(ROOT), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "tests.api.record", "ai_edge_litert.interpreter", str(path)],
        check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": folders}, capture_output=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("name", CASES)
def test_litert_gives_what_was_recorded(name: str, now: dict[str, Any]) -> None:
    recorded = json.loads(RECORD.read_text())[name]
    for key in ("error", "value", "crash"):
        assert now[name].get(key) == recorded.get(key)
