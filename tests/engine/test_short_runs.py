"""Runs of microseconds: what they may cost besides their kernels."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.engine.test_native import LINUX, Counting, kernels

from litejit import Interpreter
from litejit.engine import layout, native

__all__ = ["kernels"]  # the fixture

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_int8.tflite"


def test_a_thousand_invokes_allocate_nothing() -> None:
    interpreter = Interpreter(str(DIGITS))
    interpreter.allocate_tensors()
    interpreter.invoke()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(1000):
            interpreter.invoke()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200  # the loop's own numbers
    assert peak - before < 1000


def test_values_go_in_and_out_without_growth() -> None:
    interpreter = Interpreter(str(DIGITS))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    image = np.zeros((1, 8, 8, 1), np.int8)
    tracemalloc.start()
    try:
        for turn in range(2000):
            if turn == 100:
                before = tracemalloc.get_traced_memory()[0]
            interpreter.set_tensor(source, image)
            interpreter.invoke()
            interpreter.get_tensor(target)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 2000


@LINUX
@pytest.mark.parametrize("spins", [0, 100, 2000])
def test_brief_runs_are_exact_back_to_back_and_after_pauses(
    kernels: dict[object, int], monkeypatch: pytest.MonkeyPatch, spins: int
) -> None:
    monkeypatch.setattr(native, "_SPINS", spins)
    monkeypatch.setattr(native, "_pools", {})
    counting = Counting(
        kernels, chunks=(2, 4, 1, 2), threads=3, cost_ns=native.SHARED_RUN_NS // 4
    )
    for run in range(3000):
        counting.program.run()
        if run % 500 == 499:
            time.sleep(0.002)
    assert counting.is_exact(3000)


@LINUX
def test_brief_programs_start_workers_when_they_run_often(
    kernels: dict[object, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_pools", {})
    counting = Counting(kernels, threads=2, cost_ns=native.SHARED_RUN_NS)
    pool = native.pool(2)
    assert pool is not None
    started = []
    for _ in range(20):
        counting.program.run()
        started.append(pool.block.get(layout.PoolBlock.STARTED, "<i"))
    assert started == [0] * 16 + [1] * 4
    assert counting.is_exact(20)


@pytest.mark.parametrize("cost_ns, shares", [(1_000, False), (native.SHARED_RUN_NS, True)])
def test_only_runs_that_gain_from_threads_have_any(
    kernels: dict[object, int], cost_ns: int, shares: bool
) -> None:
    program = Counting(kernels, threads=2, cost_ns=cost_ns).program
    assert (program._pool is not None) is (shares and sys.platform == "linux")
