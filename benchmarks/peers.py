"""Runtimes side by side: loading a model in each, and timing them in turn in one process."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
MODELS = ROOT.parent / "shared" / "models"


def litejit(path: Path, threads: int) -> Any:
    from litejit import Interpreter

    return _ready(Interpreter(str(path), num_threads=threads), path)


def litert(path: Path, threads: int, *, xnnpack: bool) -> Any | None:
    """LiteRT with its default delegate or with its builtin kernels; None where it refuses."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = "AUTO" if xnnpack else "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    try:
        interpreter = Interpreter(
            str(path), num_threads=threads, experimental_op_resolver_type=OpResolverType[kind]
        )
        return _ready(interpreter, path)
    except (RuntimeError, ValueError):
        return None


def _ready(interpreter: Any, path: Path) -> Any:
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    for detail, value in zip(details, inputs(interpreter, path), strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return interpreter


def inputs(interpreter: Any, path: Path) -> list[np.ndarray]:
    """The model's recorded inputs, or random ones."""
    record = path.with_suffix(".npz")
    details = interpreter.get_input_details()
    if record.exists():
        with np.load(record, allow_pickle=False) as data:
            return [data[f"in_{k}"] for k in range(len(details))]
    rng = np.random.default_rng(0)
    return [random_input(rng, d["shape"], np.dtype(d["dtype"])) for d in details]


def random_input(rng: np.random.Generator, shape: Any, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return np.ones(shape, np.bool_)
    info = np.iinfo(dtype)
    high = info.max if info.bits <= 16 else 2
    return rng.integers(max(info.min, -high), high, shape, endpoint=True).astype(dtype)


def interleaved(
    calls: dict[str, Callable[[], None]], seconds: float, pause_seconds: float = 0.0
) -> dict[str, list[float]]:
    """Time the calls in turn, round after round: microseconds of each, one a round.

    With a pause every timed call is a single one that follows it.
    """
    clock = time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    repeats = {name: 1 if pause_seconds else _repeats(call) for name, call in calls.items()}
    stop = clock() + seconds
    while clock() < stop or len(next(iter(times.values()))) < 7:
        for name, call in calls.items():
            call()  # caches and clocks as in a run of this one alone
            if pause_seconds:
                time.sleep(pause_seconds)
            begin = clock()
            for _ in range(repeats[name]):
                call()
            times[name].append((clock() - begin) / repeats[name] * 1e6)
    return times


def _repeats(call: Callable[[], None], block_seconds: float = 0.01) -> int:
    for _ in range(3):
        call()
    begin = time.perf_counter()
    call()
    return max(1, int(block_seconds / max(time.perf_counter() - begin, 1e-8)))


def machine() -> dict[str, str]:
    """Where and when a figure was taken."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "commit": git.stdout.strip(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def save(path: str | None, result: Any) -> None:
    """Write a result as JSON, with the machine."""
    if path:
        text = json.dumps({"machine": machine(), "result": result}, indent=1)
        Path(path).write_text(text + "\n")
