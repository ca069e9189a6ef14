"""TFLM's wheel and litejit.micro on the same inputs, one thread, in one run.

    python benchmarks/micro.py [--json FILE] [--seconds 1] [NAME ...]

Each model runs in a process of its own, because TFLM's wheel can end it; both interpreters are
timed in turn in that process, and their outputs compared. Without names: every model of
shared/models, and every real and one-operator model whose recording says that TFLM runs it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from peers import MODELS, ROOT, interleaved, random_input, save

GOLDEN = ROOT.parent / "shared" / "tflm_golden"
ARENA = 256 << 20
CONVOLUTIONAL = (
    "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "person_detect",
    "micro_speech_quantized",
)  # fmt: skip
BARS = dict.fromkeys(CONVOLUTIONAL, 50.0)  # times TFLM's speed; every other model: not slower


def measure(path: Path, recorded: Path, seconds: float) -> dict[str, Any]:
    """Microseconds of one invoke of both, and whether their outputs agree."""
    from tflite_micro.python.tflite_micro import runtime as tflm

    from litejit.micro import runtime

    warnings.simplefilter("ignore")
    pair = {}
    for name, module in (("tflm", tflm), ("litejit.micro", runtime)):
        pair[name] = module.Interpreter.from_file(str(path), arena_size=ARENA)
    values = _inputs(pair["litejit.micro"], recorded)
    for interpreter in pair.values():
        for number, value in enumerate(values):
            interpreter.set_input(value, number)
        interpreter.invoke()
    found = [np.asarray(interpreter.get_output(0)) for interpreter in pair.values()]
    agree = _agree(*(values[_written(recorded, values)] for values in found))
    times = interleaved({name: each.invoke for name, each in pair.items()}, seconds)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    ratios = np.array(times["tflm"]) / np.array(times["litejit.micro"])
    return {**medians, "times": float(np.median(ratios)), "agree": agree}


def _inputs(interpreter: Any, recorded: Path) -> list[Any]:
    if recorded.is_file():
        with np.load(recorded) as data:
            if "in0" in data:
                return [data[f"in{k}"] for k in range(sum(n.startswith("in") for n in data))]
    rng = np.random.default_rng(0)
    details = []
    while len(details) < 64:
        try:
            details.append(interpreter.get_input_details(len(details)))
        except IndexError:
            break
    return [random_input(rng, d["shape"], np.dtype(d["dtype"])) for d in details]


def _written(recorded: Path, values: Any) -> Any:
    """Where TFLM's two configurations give the same: elsewhere is memory that nobody wrote."""
    if recorded.is_file():
        with np.load(recorded) as data:
            if "out0_preserve" in data:
                return data["out0"] == data["out0_preserve"]
    return np.ones(values.shape, np.bool_)


def _agree(a: Any, b: Any) -> bool:
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-6 * largest, equal_nan=True))


def cases(names: list[str]) -> list[tuple[str, Path, Path]]:
    """(name, model, recorded inputs) of what is to be measured."""
    found = {}
    for path in sorted(MODELS.glob("*.tflite")):
        found[path.stem] = (path.stem, path, Path("none"))
    for file in sorted(GOLDEN.glob("*/*.json")):
        said = json.loads(file.read_text(encoding="utf-8"))
        path = (file.parent / said["model_file"]).resolve()
        if said["status"] == "ok" and path.is_file():
            found[path.stem] = (path.stem, path, file.with_suffix(".npz"))
        elif path.stem in found:
            del found[path.stem]
    return [case for name, case in found.items() if not names or name in names]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process measured nothing: the signal that ended it, or the last line that it wrote."""
    if done.returncode < 0:
        return f"ended by {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {done.returncode}"


def main() -> None:
    """Measure, print a line a model, and tell which ones miss their bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        path, recorded = (Path(part) for part in arguments.one)
        print(json.dumps(measure(path, recorded, arguments.seconds)))
        return
    result, missed = {}, []
    found = cases(arguments.names)
    for name in sorted(set(arguments.names) - {case[0] for case in found}):
        print(f"{name:48s} not measured: no model of this name that TFLM runs")
    for name, path, recorded in found:
        command = [sys.executable, __file__, "--one", str(path), str(recorded)]
        command += ["--seconds", str(arguments.seconds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired as late:
            print(f"{name:48s} not measured: not done in {late.timeout:.0f} seconds")
            continue
        if done.returncode or not done.stdout.strip():
            print(f"{name:48s} not measured: {_reason(done)}")
            continue
        row = result[name] = json.loads(done.stdout.splitlines()[-1])
        slow = row["times"] < BARS.get(name, 1.0)
        missed += [name] if slow or not row["agree"] else []
        print(
            f"{name:48s} TFLM {row['tflm']:11.1f} µs   litejit.micro {row['litejit.micro']:9.1f} µs"
            f"   {row['times']:7.1f} times{'' if row['agree'] else '   OUTPUTS DIFFER'}"
            f"{'   below its bar' if slow else ''}"
        )
    save(arguments.json, result)
    print(f"{len(result)} models, {len(missed)} miss their bar: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
