"""Fresh processes: import + load + allocate + first invoke, and peak memory.

    python benchmarks/cold.py [MODEL] [--rounds 15] [--json FILE]

Each round starts one process of every kind in turn: LiteRT, litejit with a warm kernel cache,
litejit with an empty one (a third of the rounds). Times are milliseconds from before the import
of NumPy; memory is the peak resident set in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import peers

CHILD = """
import sys, time
begin = time.perf_counter()
from {module} import Interpreter
import numpy as np
interpreter = Interpreter({path!r}, num_threads={threads})
interpreter.allocate_tensors()
for detail in interpreter.get_input_details():
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
interpreter.invoke()
for detail in interpreter.get_output_details():
    interpreter.get_tensor(detail["index"])
elapsed = time.perf_counter() - begin
import json, resource
print(json.dumps([elapsed * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
MODULES = {"litert": "ai_edge_litert.interpreter", "warm": "litejit.interpreter",
           "cold": "litejit.interpreter"}  # fmt: skip


def run(kind: str, path: Path, threads: int, cache: str) -> list[float]:
    code = CHILD.format(module=MODULES[kind], path=str(path), threads=threads)
    environment = {**os.environ, "LITEJIT_CACHE": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    figures: list[float] = json.loads(out.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="mobilenet_v2_int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    path = peers.MODELS / f"{options.model}.tflite"
    figures: dict[str, list[list[float]]] = {"litert": [], "warm": [], "cold": []}
    with tempfile.TemporaryDirectory() as warm:
        run("warm", path, options.threads, warm)
        for number in range(options.rounds):
            figures["litert"].append(run("litert", path, options.threads, warm))
            figures["warm"].append(run("warm", path, options.threads, warm))
            if number % 3 == 0:
                with tempfile.TemporaryDirectory() as empty:
                    figures["cold"].append(run("cold", path, options.threads, empty))
    result = {}
    for kind, rows in figures.items():
        milliseconds, megabytes = np.median(np.array(rows), axis=0)
        result[kind] = {"ms": float(milliseconds), "peak_mb": float(megabytes)}
        print(f"{kind:7s} {milliseconds:8.1f} ms {megabytes:8.1f} MB")
    pairs = np.array(figures["warm"])[:, 0] / np.array(figures["litert"])[:, 0]
    result["warm over litert"] = float(np.median(pairs))
    print(f"warm over LiteRT: {np.median(pairs):.2f} (median of pairs)")
    peers.save(options.json, {"model": options.model, **result})


if __name__ == "__main__":
    main()
