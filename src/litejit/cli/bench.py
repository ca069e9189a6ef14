"""`litejit bench MODEL`: latency percentiles and a profile, LiteRT beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from litejit.engine.profile import profile
from litejit.interpreter import Interpreter

SECONDS_A_BLOCK = 0.005
PROFILED_RUNS = 20


@click.command("bench")
@click.argument("model", type=click.Path())
@click.option("--threads", "-t", default=1, show_default=True, help="threads of one run")
@click.option("--seconds", default=2.0, show_default=True, help="how long to measure")
@click.option("--peer/--no-peer", default=True, help="measure LiteRT in the same rounds")
@click.option("--top", default=15, show_default=True, help="rows of the profile")
def command(model: str, threads: int, seconds: float, peer: bool, top: int) -> None:
    """Time MODEL on random inputs; LiteRT runs in turn with it where it is installed."""
    ours = Interpreter(model, num_threads=threads)
    _fill(ours)
    calls: dict[str, Callable[[], Any]] = {"litejit": ours.invoke}
    if peer:
        calls.update(_peers(model, threads))
    _show_latency(_measure(calls, seconds))
    _show_profile(ours, top)


def _fill(interpreter: Any) -> None:
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        dtype = np.dtype(detail["dtype"])
        values = rng.standard_normal(detail["shape"]) * (1 if dtype.kind == "f" else 40)
        if dtype.kind == "S":
            interpreter.set_tensor(detail["index"], np.full(detail["shape"], b"x"))
        else:
            interpreter.set_tensor(detail["index"], np.asarray(np.abs(values)).astype(dtype))
    interpreter.invoke()


def _peers(model: str, threads: int) -> dict[str, Callable[[], Any]]:
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError:
        return {}
    result = {}
    kinds = {"LiteRT": "AUTO", "LiteRT, builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}
    for name, kind in kinds.items():
        try:
            other = litert.Interpreter(
                model,
                num_threads=threads,
                experimental_op_resolver_type=litert.OpResolverType[kind],
            )
            _fill(other)
        except (RuntimeError, ValueError) as error:
            click.echo(f"{name} does not run this model: {' '.join(str(error).split())}", err=True)
            continue
        result[name] = other.invoke
    return result


def _measure(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Microseconds a call, in rounds of short blocks, one of each kind after the other."""
    clock = time.perf_counter
    sizes = {}
    for name, call in calls.items():
        begin = clock()
        call()
        sizes[name] = max(1, int(SECONDS_A_BLOCK / max(clock() - begin, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    stop = clock() + seconds
    while clock() < stop or len(times["litejit"]) < 5:
        for name, call in calls.items():
            call()
            begin = clock()
            for _ in range(sizes[name]):
                call()
            times[name].append((clock() - begin) / sizes[name] * 1e6)
    return times


def _show_latency(times: dict[str, list[float]]) -> None:
    table = Table("runtime", "median µs", "p10", "p90", "p99", "litejit is")
    for name, values in times.items():
        q10, q50, q90, q99 = np.percentile(values, [10, 50, 90, 99])
        ratio = float(np.median(np.array(values) / np.array(times["litejit"])))
        faster = "" if name == "litejit" else f"{ratio:.2f} times as fast"
        table.add_row(name, f"{q50:.1f}", f"{q10:.1f}", f"{q90:.1f}", f"{q99:.1f}", faster)
    Console().print(table)


def _show_profile(interpreter: Interpreter, top: int) -> None:
    runner = interpreter._runner
    runs = [profile(runner) for _ in range(PROFILED_RUNS)]
    steps = runs[-1]
    times = [float(np.median([run[k].elapsed_ns for run in runs])) for k in range(len(steps))]
    total = sum(times) or 1.0
    table = Table("operator", "name", "µs", "share", "kernel")
    order = sorted(range(len(steps)), key=lambda k: -times[k])
    for k in order[:top]:
        step = steps[k]
        name = "+".join(part.name for part in step.node.chain) or step.node.name
        kernel = step.what if len(step.what) <= 60 else step.what[:59] + "…"
        share = f"{100 * times[k] / total:.1f}%"
        table.add_row(str(step.node.index), name, f"{times[k] / 1e3:.1f}", share, kernel)
    Console().print(table)
