"""Writes recorded.json: what the module named (or LiteRT) gives for every case, in JSON."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from tests.api.cases import CASES, outcome

RECORD = Path(__file__).with_name("recorded.json")


def _work(module: str, names: list[str], queue: Any) -> None:
    loaded = importlib.import_module(module)
    for name in names:
        queue.put((name, outcome(CASES[name], loaded)))


def record(module: str) -> dict[str, Any]:
    """The outcome of every case; {"crash": true} where the process died."""
    context = multiprocessing.get_context("spawn")
    results: dict[str, Any] = {}
    names = list(CASES)
    while names:
        queue = context.SimpleQueue()
        process = context.Process(target=_work, args=(module, names, queue))
        process.start()
        while process.is_alive() or not queue.empty():
            if queue.empty():
                process.join(0.02)
                continue
            name, result = queue.get()
            results[name] = result
        names = [name for name in names if name not in results]
        if names:
            results[names.pop(0)] = {"crash": True}
    return {name: results[name] for name in CASES}


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else "ai_edge_litert.interpreter"
    path = Path(sys.argv[2]) if len(sys.argv) > 2 else RECORD
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record(target).items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
