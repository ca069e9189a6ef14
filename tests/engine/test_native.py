from __future__ import annotations

import ctypes
import gc
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from litejit.codegen import cache, isa, linker, llvm
from litejit.engine import layout, native
from litejit.engine.native import NativeProgram, Step
from litejit.errors import InvokeError
from litejit.record import Record

LONG_NS = native.BRIEF_RUN_NS  # a step that makes its program release the GIL and wake workers
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers exist on Linux")


class Count(Record):
    """Adds 1 to counters[i] for every item i, after `turns` of work; args: turns, counters."""

    key = "test: count"

    def emit(self, name: str, _: isa.Isa) -> str:
        return f"""define void @{name}(ptr %args, i64 %begin, i64 %end, i64 %w) nounwind {{
        entry:
          %turns = load i64, ptr %args
          %at = getelementptr i8, ptr %args, i64 8
          %counters = load ptr, ptr %at
          br label %items
        items:
          %i = phi i64 [%begin, %entry], [%i1, %done]
          %c = icmp ult i64 %i, %end
          br i1 %c, label %loop, label %out
        loop:
          %j = phi i64 [%turns, %items], [%j1, %loop]
          %x = phi i64 [%i, %items], [%x2, %loop]
          %x1 = mul i64 %x, 6364136223846793005
          %x2 = xor i64 %x1, %j
          %j1 = sub i64 %j, 1
          %m = icmp sgt i64 %j1, 0
          br i1 %m, label %loop, label %done
        done:
          %even = and i64 %x2, 0
          %one = add i64 %even, 1
          %p = getelementptr i64, ptr %counters, i64 %i
          %v = load volatile i64, ptr %p
          %v1 = add i64 %v, %one
          store volatile i64 %v1, ptr %p
          %i1 = add i64 %i, 1
          br label %items
        out:
          ret void
        }}"""


class Note(Record):
    """Writes (begin, end, worker) to rows[begin]; args: rows."""

    key = "test: note"

    def emit(self, name: str, _: isa.Isa) -> str:
        return f"""define void @{name}(ptr %args, i64 %begin, i64 %end, i64 %worker) nounwind {{
          %rows = load ptr, ptr %args
          %row = getelementptr [3 x i64], ptr %rows, i64 %begin
          store i64 %begin, ptr %row
          %row1 = getelementptr i8, ptr %row, i64 8
          store i64 %end, ptr %row1
          %row2 = getelementptr i8, ptr %row, i64 16
          store i64 %worker, ptr %row2
          ret void
        }}"""


class Refuse(Record):
    """Stores a status word; args: address of the status block, the word."""

    key = "test: refuse"

    def emit(self, name: str, _: isa.Isa) -> str:
        return f"""define void @{name}(ptr %args, i64 %b, i64 %e, i64 %w) nounwind {{
          %status = load ptr, ptr %args
          %at = getelementptr i8, ptr %args, i64 8
          %word = load i64, ptr %at
          store i64 %word, ptr %status
          ret void
        }}"""


@pytest.fixture(scope="module")
def kernels() -> dict[object, int]:
    return cache.addresses([Count(), Note(), Refuse(), native.RUN_LOOP], isa.host())


class Counting:
    """A program of equal steps that count into an array."""

    def __init__(
        self,
        kernels: dict[object, int],
        *,
        turns: int = 20,
        items: int = 16,
        chunks: Sequence[int] = (2,),
        threads: int = 1,
        cost_ns: int = LONG_NS,
    ) -> None:
        self.counters = np.zeros(items, np.int64)
        args = struct.pack("<qQ", turns, self.counters.ctypes.data)
        steps = [Step(kernels[Count()], args, items, n, cost_ns) for n in chunks]
        self.program = NativeProgram(steps, threads, keep=self.counters)
        self.steps = len(steps)

    def is_exact(self, runs: int) -> bool:
        return bool((self.counters == runs * self.steps).all())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_item_is_done_once_for_any_number_of_threads(
    kernels: dict[object, int], threads: int
) -> None:
    counting = Counting(kernels, items=37, chunks=(2, 1, 5, 32, 3), threads=threads)
    for _ in range(4000):
        counting.program.run()
    assert counting.is_exact(4000)


@LINUX
def test_no_wake_up_is_lost_when_all_threads_sleep_at_once(
    kernels: dict[object, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_SPINS", 0)
    monkeypatch.setattr(native, "_pools", {})
    counting = Counting(kernels, turns=300, chunks=(2, 4, 2), threads=3)
    for _ in range(4000):
        counting.program.run()
    assert counting.is_exact(4000)


@pytest.mark.parametrize("chunks", [1, 2, 3, 7, 32])
@pytest.mark.parametrize("threads", [1, 3])
def test_runs_of_chunks_cover_the_items_and_end_at_borders_of_chunks(
    kernels: dict[object, int], chunks: int, threads: int
) -> None:
    rows = np.full((40, 3), -1, np.int64)
    args = struct.pack("<Q", rows.ctypes.data)
    NativeProgram([Step(kernels[Note()], args, 40, chunks, LONG_NS)], threads).run()
    found = rows[rows[:, 0] >= 0]
    alone = threads == 1 or chunks == 1
    borders = {0, 40} if alone else {40 * c // chunks for c in range(chunks + 1)}
    ends = [0, *found[:, 1].tolist()]
    assert found[:, 0].tolist() == ends[:-1]
    assert ends[-1] == 40
    assert borders.issuperset(ends)
    assert ((found[:, 2] >= 0) & (found[:, 2] < threads)).all()


def test_a_program_without_steps_or_items_runs(kernels: dict[object, int]) -> None:
    NativeProgram([], 2).run()
    assert NativeProgram([]).run_profiled() == []
    Counting(kernels, items=0, chunks=(1, 2), threads=2).program.run()


@pytest.mark.parametrize("chunks", [-1, 33])
def test_chunks_that_do_not_fit_a_ticket_are_refused(
    kernels: dict[object, int], chunks: int
) -> None:
    with pytest.raises(ValueError, match=f"step 0: {chunks} chunks"):
        NativeProgram([Step(kernels[Count()], b"", 1, chunks, 0)])


def test_a_jump_whose_byte_is_zero_leaves_a_loop() -> None:
    flag = np.zeros(1, np.uint8)
    NativeProgram([native.jump(2, flag.ctypes.data), native.jump(0)]).run()


def test_a_jump_past_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="step 0"):
        NativeProgram([native.jump(2)])


def refusing(
    kernels: dict[object, int], word: int, cost_ns: int
) -> tuple[NativeProgram, np.ndarray]:
    status = native.Block(64)
    counters = np.zeros(1, np.int64)
    count = Step(kernels[Count()], struct.pack("<qQ", 1, counters.ctypes.data), 1, 1, cost_ns)
    refuse = Step(kernels[Refuse()], struct.pack("<QQ", status.address, word), 1, 1, cost_ns)
    return NativeProgram([count, refuse, count], status=status, keep=counters), counters


@pytest.mark.parametrize("cost_ns", [100, LONG_NS])
def test_a_kernel_that_refuses_ends_the_run_and_says_where(
    kernels: dict[object, int], cost_ns: int
) -> None:
    program, counters = refusing(kernels, 3 << 48 | 1234, cost_ns)
    for runs in (1, 2):
        with pytest.raises(InvokeError, match="step 1 refuses its data: code 3 at position 1234"):
            program.run()
        assert program.status() == native.Refusal(step=1, code=3, position=1234)
        assert counters[0] == runs
    with pytest.raises(InvokeError, match="step 1"):
        program.run_profiled()


def test_a_status_is_forgotten_by_the_next_run(kernels: dict[object, int]) -> None:
    program, counters = refusing(kernels, 0, LONG_NS)
    program._memory.status.put(0, "<Q", 77)
    program.run()
    assert program.status() is None
    assert counters[0] == 2


def slow(kernels: dict[object, int], *, threads: int = 1, steps: int = 6_000) -> Counting:
    """About half a second in steps of about 100 us."""
    return Counting(
        kernels, turns=6000, items=16, chunks=(2,) * steps, threads=threads, cost_ns=100_000
    )


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
def test_a_second_thread_is_told_that_the_program_is_in_use(kernels: dict[object, int]) -> None:
    counting = slow(kernels)
    thread = threading.Thread(target=counting.program.run)
    thread.start()
    while not counting.counters.any():
        time.sleep(0.001)
    with pytest.raises(InvokeError, match="being used by another thread"):
        counting.program.run()
    with pytest.raises(InvokeError, match="being used by another thread"):
        counting.program.run_profiled()
    thread.join()
    assert counting.is_exact(1)
    counting.program.run()
    assert counting.is_exact(2)


def test_cancel_ends_a_run_of_another_thread(kernels: dict[object, int]) -> None:
    counting = slow(kernels, steps=100_000)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            counting.program.run()
        except InvokeError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not counting.counters.any():
        time.sleep(0.001)
    counting.program.cancel()
    thread.join(5)
    assert not thread.is_alive()
    assert "cancelled" in str(errors[0])
    assert 0 < counting.counters[0] < counting.steps


def test_cancel_before_a_run_cancels_nothing(kernels: dict[object, int]) -> None:
    counting = Counting(kernels)
    counting.program.cancel()
    counting.program.run()
    assert counting.is_exact(1)


@LINUX
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_a_long_run_and_the_next_starts_at_the_first_step(
    kernels: dict[object, int], threads: int
) -> None:
    counting = slow(kernels, threads=threads, steps=3_000)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            counting.program.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    done = counting.counters.copy()
    assert 0 < done[0] < counting.steps
    counting.program.run()
    assert (counting.counters - done == counting.steps).all()


def test_programs_of_many_threads_share_one_pool(kernels: dict[object, int]) -> None:
    countings = [Counting(kernels, chunks=(2, 4, 2), threads=2) for _ in range(4)]

    def go(counting: Counting) -> None:
        for _ in range(3000):
            counting.program.run()

    threads = [threading.Thread(target=go, args=(counting,)) for counting in countings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(counting.is_exact(3000) for counting in countings)


def test_a_call_allocates_nothing(kernels: dict[object, int]) -> None:
    counting = Counting(kernels, threads=2)
    call = counting.program.call
    for _ in range(10):
        counting.program.run()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        call()
    assert sys.getallocatedblocks() - before < 20


def test_a_call_outlives_its_program_and_then_frees_its_memory(
    kernels: dict[object, int],
) -> None:
    counting = Counting(kernels)
    counters = counting.counters
    held = sys.getrefcount(counters)
    call = counting.program.call
    del counting
    assert call() == 0
    assert (counters == 1).all()
    del call
    gc.collect()
    assert sys.getrefcount(counters) == held - 2  # of Counting and of its program


@pytest.mark.parametrize("cost_ns", [100, LONG_NS])
def test_a_call_through_ctypes_does_the_same(kernels: dict[object, int], cost_ns: int) -> None:
    counting = Counting(kernels, cost_ns=cost_ns)
    call = native._call_through_ctypes(counting.program._memory)
    assert [call() for _ in range(3)] == [0, 0, 0]
    assert counting.is_exact(3)
    program, _ = refusing(kernels, 1 << 48, cost_ns)
    assert native._call_through_ctypes(program._memory)() == layout.REFUSED


@pytest.mark.parametrize("threads", [1, 2])
def test_a_profile_has_the_time_of_every_step(kernels: dict[object, int], threads: int) -> None:
    counters = np.zeros(16, np.int64)
    steps = [
        Step(kernels[Count()], struct.pack("<qQ", turns, counters.ctypes.data), 16, 2, LONG_NS)
        for turns in (1, 20_000, 1)
    ]
    program = NativeProgram(steps, threads, keep=counters)
    start = time.perf_counter_ns()
    times = program.run_profiled()
    elapsed = time.perf_counter_ns() - start
    assert (counters == 3).all()
    assert all(ns > 0 for ns in times)
    assert times[1] > 100_000
    assert sum(times) <= elapsed


def test_the_portable_clock_counts_nanoseconds() -> None:
    clock = native._portable_clock()
    pair = (ctypes.c_int64 * 2)()
    before = time.perf_counter_ns()
    assert clock(0, ctypes.addressof(pair)) == 0
    assert before <= pair[0] * 10**9 + pair[1] <= time.perf_counter_ns()


@pytest.mark.parametrize("row", isa.ISAS, ids=lambda row: row.name)
def test_the_run_loop_compiles_for_every_instruction_set(row: isa.Isa) -> None:
    blob = linker.link([llvm.compile_ir(native.RUN_LOOP.emit("loop", row), row)])
    assert set(blob.symbols) == {"loop"}


# -- whole processes ----------------------------------------------------------------------------

PREPARE = """
import os, sys, threading, time
sys.path.insert(0, os.path.dirname(sys.argv[1]))
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("native_tests", sys.argv[1])
tests = module_from_spec(spec)
sys.modules["native_tests"] = tests
spec.loader.exec_module(tests)
kernels = tests.cache.addresses([tests.Count(), tests.native.RUN_LOOP], tests.isa.host())
def counting(**options):
    return tests.Counting(kernels, threads=2, **options)
"""


def process(body: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARE + body, os.path.abspath(__file__)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}"
    return done.stdout


@LINUX
def test_after_a_fork_parent_and_child_run_right_and_the_child_gets_workers() -> None:
    told = process("""
used = counting()
for _ in range(1000): used.program.run()
child = os.fork()
for _ in range(1000): used.program.run()
new = counting()
for _ in range(1000): new.program.run()
threads = len(os.listdir("/proc/self/task"))
os.write(1, f"{used.is_exact(2000)} {new.is_exact(1000)} {threads}\\n".encode())
if child: print("status", os.waitpid(child, 0)[1])
else: os._exit(0)
""")
    assert sorted(told.splitlines()) == ["True True 2", "True True 2", "status 0"]


@LINUX
def test_a_fork_during_a_run_of_another_thread_leaves_the_child_free() -> None:
    told = process("""
used = counting(turns=6000, chunks=(2,) * 6_000, cost_ns=100_000)
thread = threading.Thread(target=used.program.run)
thread.start()
while not used.counters.any(): time.sleep(0.001)
child = os.fork()
if not child:
    used.counters[:] = 0
    used.program.run()
    os.write(1, f"{used.is_exact(1)}\\n".encode())
    os._exit(0)
thread.join()
print(used.is_exact(1), os.waitpid(child, 0)[1])
""")
    assert sorted(told.splitlines()) == ["True", "True 0"]


@LINUX
@pytest.mark.parametrize(
    "body",
    [
        "used = counting()\nfor _ in range(1000): used.program.run()",
        "used = counting()\nused.program.run()\ntime.sleep(0.05)",
        "call = counting(chunks=(1,)).program.call\nfor _ in range(100): call()",
        "used = counting(turns=6000, chunks=(2,) * 40_000, cost_ns=100_000)\n"
        "threading.Thread(target=used.program.run, daemon=True).start()\n"
        "while not used.counters.any(): time.sleep(0.001)",
    ],
    ids=["hot workers", "sleeping workers", "no workers", "a daemon thread in a run"],
)
def test_a_process_ends_cleanly_with(body: str) -> None:
    for _ in range(4):
        assert process(body + "\nprint('end')") == "end\n"


@LINUX
def test_workers_take_no_signals() -> None:
    told = process("""
used = counting()
used.program.run()
block, tids = used.program._pool.block, tests.layout.PoolBlock.TIDS
for _ in range(1000):
    worker = block.get(tids, "<i")
    if worker: break
    time.sleep(0.001)
status = open(f"/proc/self/task/{worker}/status").read().splitlines()
mask = [line for line in status if line.startswith("SigBlk")][0]
print(worker != os.getpid(), int(mask.split()[1], 16) & 2)
""")
    assert told == "True 2\n"


def test_a_signals_handler_may_load_and_run_while_kernels_are_being_loaded() -> None:
    held = [cache._locks[0], *native._locks]
    for lock in held:
        lock.acquire()
    try:
        assert cache.addresses([native.RUN_LOOP], isa.host())
        assert native.pool(2) is native.pool(2)
    finally:
        for lock in held:
            lock.release()


def test_an_interrupt_while_workers_start_leads_to_no_two_of_one_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared, started = native.Pool(3), []

    def interrupted(pool: object, libc: object, number: int) -> bool:
        started.append(number)
        raise KeyboardInterrupt

    monkeypatch.setattr(native.Pool, "_start_worker", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shared.start()
    shared.start()
    assert started == [1]
