"""Programs of compiled steps: one call from Python runs them all, on one or more threads.

What a kernel may report: a program has a status block of 64 bytes, whose address kernels can
take as an operand. A kernel that must refuse its data stores `code << 48 | position` (code from
1, position of the offending element) in the first 8 bytes and returns; the run ends after that
step, and `NativeProgram.status()` says where.

Workers exist on Linux; elsewhere every program runs on the caller's thread, with equal results.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from _thread import RLock
from collections.abc import Callable, Sequence
from typing import Any

from litejit.codegen import cache as kernels
from litejit.codegen import isa
from litejit.codegen.loader import immortal
from litejit.engine.layout import (
    BUSY,
    CANCELLED,
    FUNCTIONS,
    NOT_STARTED,
    REFUSED,
    HostBlock,
    PoolBlock,
    ProgramBlock,
)
from litejit.errors import InvokeError
from litejit.record import Record

MOST_CHUNKS = 32  # claims of a parallel step are bits of one 32-bit mask
SHORT_RUN_NS = 50_000  # below, a run keeps the GIL: giving it away costs up to 5 ms
SHARED_RUN_NS = 12_000  # below, a run keeps to one thread
BRIEF_RUN_NS = 120_000  # below, a run is over before sleeping workers are up: it wakes none
_SLICE_NS = 50_000_000  # between two looks for signals
_SPINS = 2000  # about 50 us, before a thread sleeps
_SOURCES = ("layout", "runloop", "workers")  # of the run loop
_STEP = struct.Struct("<QQqii")
_COST_NS = 100  # unit of a step's cost
_FULL_MASK = 0xFFFFFFFF << 32
_CODE_SHIFT = 48  # of a status word; the position is below


class Step(Record):
    """One kernel call: `items` of work in `chunks` (1 to 32), about `cost_ns` on one thread.

    `args` is the block of the kernel's arguments, or its address if it lives elsewhere. The
    number of chunks must not depend on the number of threads.
    """

    kernel: int
    args: bytes | int
    items: int
    chunks: int
    cost_ns: int


def jump(target: int, flag_address: int = 0) -> Step:
    """Go on with step `target` where the byte at `flag_address` is 0, or always without one."""
    return Step(0, flag_address, target, 0, 0)


class Refusal(Record):
    """What a kernel reported: the step that ended the run, its code, and a position."""

    step: int
    code: int
    position: int


class RunLoop(Record):
    """The spec of the run loop: it is compiled and kept as kernels are."""

    head: int

    @property
    def key(self) -> str:
        """Names the text by size and time of its sources, so that a warm start imports none."""
        folder = os.path.dirname(os.path.abspath(__file__))
        stats = [os.stat(f"{folder}/{name}.py") for name in _SOURCES]
        times = " ".join(f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats)
        return f"run loop {self.head} {times}"

    def emit(self, name: str, isa: isa.Isa) -> str:
        """The text of all functions; `name` tells their addresses."""
        from litejit.engine import runloop

        return runloop.emit(name, isa, head=self.head)


RUN_LOOP = RunLoop(object.__basicsize__)  # add it to a program's specs: one pack then holds all


class Block:
    """Zeroed memory that starts at a multiple of 64 and does not move."""

    __slots__ = ("address", "raw", "start")

    def __init__(self, size: int) -> None:
        self.raw = ctypes.create_string_buffer(size + 63)
        base = ctypes.addressof(self.raw)
        self.address = (base + 63) & -64
        self.start = self.address - base

    def put(self, offset: int, format: str, *values: Any) -> None:
        """Store values as struct.pack does."""
        struct.pack_into(format, self.raw, self.start + offset, *values)

    def get(self, offset: int, format: str) -> int:
        """Read one integer."""
        value: int = struct.unpack_from(format, self.raw, self.start + offset)[0]
        return value


class _Runtime:
    """The compiled run loop, and the block of addresses that it calls; one a process."""

    def __init__(self) -> None:
        loop = kernels.addresses([RUN_LOOP], isa.host())[RUN_LOOP]
        table = Block(8 * len(FUNCTIONS))
        _NATIVE_KERNEL(loop)(table.address, 0, 0, 0)
        self.functions = {name: table.get(8 * i, "<Q") for i, name in enumerate(FUNCTIONS)}
        self.host = Block(HostBlock.SIZE)
        python, libc = ctypes.pythonapi, None if sys.platform == "win32" else ctypes.CDLL(None)
        self.libc: Any = libc
        clock = getattr(libc, "clock_gettime", None) or _portable_clock()
        pointers = {
            HostBlock.SAVE_THREAD: python.PyEval_SaveThread,
            HostBlock.RESTORE_THREAD: python.PyEval_RestoreThread,
            HostBlock.LONG_FROM_INT64: python.PyLong_FromLongLong,
            HostBlock.CHECK_SIGNALS: python.PyErr_CheckSignals,
            HostBlock.SYSCALL: getattr(libc, "syscall", None),
            HostBlock.GETCPU: getattr(libc, "sched_getcpu", None),
            HostBlock.CLOCK: clock,
        }
        for offset, function in pointers.items():
            self.host.put(offset, "<Q", _address(function))
        self.host.put(HostBlock.CLOCK_ID, "<q", getattr(time, "CLOCK_MONOTONIC", 0))
        self.host.put(HostBlock.FORKS, "<q", 1)
        self.definition = _PyMethodDef(b"run", self.functions["py_run"], _METH_NOARGS, None)
        self.enter = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.functions["enter"])
        self.profile = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(
            self.functions["profile"]
        )
        for thing in (
            self,
            self.host.raw,
            self.definition,
            clock,
        ):  # native threads outlive modules
            immortal(thing)


class Pool:
    """What a caller shares with up to threads - 1 workers, for as long as the process lives.

    Workers are started by the first run that can use them, sleep when there is nothing to do,
    and take no signals. Starting fewer than asked for changes no result.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.block = Block(PoolBlock.SIZE)
        self._numbers = Block(16 * threads)
        cpus = os.sched_getaffinity(0)
        self._masks = Block(128 * (max(cpus) + 1))
        for cpu in range(max(cpus) + 1):
            others = sum(1 << other for other in (cpus - {cpu} or cpus) if other < 1024)
            self._masks.put(128 * cpu, "<128s", others.to_bytes(128, "little"))
        self.block.put(PoolBlock.HOST, "<QiiiiQi", _runtime().host.address, _SPINS, 0, -1,
                       threads - 1, self._masks.address, min(max(cpus) + 1, 1024))  # fmt: skip
        self.block.put(PoolBlock.TICKET, "<Q", _FULL_MASK)
        for thing in (self, self.block.raw, self._numbers.raw, self._masks.raw):
            immortal(thing)

    def start(self) -> None:
        """Start the workers, unless another thread just did."""
        with _locks[0]:
            if self.block.get(PoolBlock.STARTED, "<i"):
                return
            libc = _runtime().libc
            # Before they are: an exception, or a signal's handler that runs a program, must not
            # lead to two workers of one number. Fewer than asked for change no result.
            self.block.put(PoolBlock.STARTED, "<ii", 1, libc.sched_getcpu())
            everything, before = b"\xff" * 128, ctypes.create_string_buffer(128)
            libc.pthread_sigmask(0, everything, before)  # Ctrl-C is for Python's threads
            try:
                for number in range(1, self.threads):
                    if not self._start_worker(libc, number):
                        break
            finally:
                libc.pthread_sigmask(2, before, None)

    def _start_worker(self, libc: Any, number: int) -> bool:
        self._numbers.put(16 * number, "<Qi", self.block.address, number)
        handle = ctypes.c_size_t()
        worker = ctypes.c_void_p(_runtime().functions["worker"])
        argument = ctypes.c_void_p(self._numbers.address + 16 * number)
        if libc.pthread_create(ctypes.byref(handle), None, worker, argument):
            return False  # the system gives no more threads: go on with fewer
        libc.pthread_detach(handle)
        return True

    def reset(self) -> None:
        """In the child of a fork: no worker exists, no step is published, nobody waits."""
        ticket = (self.block.get(PoolBlock.TICKET, "<I") + 1) & 0xFFFFFFFF
        self.block.put(PoolBlock.TICKET, "<Q", _FULL_MASK | ticket)
        words = (PoolBlock.CALLER_SLEEPS, PoolBlock.SLEEPERS, PoolBlock.LOCK, PoolBlock.WAKING)
        for word in words:
            self.block.put(word, "<i", 0)
        self.block.put(PoolBlock.STARTED, "<ii", 0, -1)
        self.block.put(PoolBlock.TIDS, f"<{self.threads}i", *[0] * self.threads)


class NativeProgram:
    """Steps that run in order, in native code; the fastest way in is `call`.

    `call()` returns 0, or why it did not finish: give that to `settle`. `run()` does both.
    A program is run by one thread at a time; two programs may run at once, and share workers.
    `keep` is held as long as the program or its `call` lives: the memory that steps point to.
    """

    __slots__ = ("_memory", "_pool", "call", "is_short", "status_address")

    def __init__(
        self,
        steps: Sequence[Step],
        threads: int = 1,
        *,
        status: Block | None = None,
        keep: object = None,
    ) -> None:
        for number, step in enumerate(steps):
            if step.chunks == 0 and 0 <= step.items <= len(steps):
                continue  # a jump
            if not 1 <= step.chunks <= MOST_CHUNKS or step.items < 0:
                raise ValueError(f"step {number}: {step.chunks} chunks of {step.items} items")
        status = status or Block(64)
        self.status_address = status.address
        total_ns = sum(step.cost_ns for step in steps)
        jumps = ((n, step) for n, step in enumerate(steps) if step.chunks == 0)
        loops = any(step.items <= n for n, step in jumps)
        self.is_short = short = total_ns < SHORT_RUN_NS and not loops  # never interrupted
        long = total_ns >= SHARED_RUN_NS or loops
        splits = threads > 1 and long and any(step.chunks > 1 for step in steps)
        self._pool = pool(threads) if splits else None
        self._memory = _Memory(steps, status, keep)
        self._memory.program.put(
            ProgramBlock.POOL,
            "<QQQqqq",
            self._pool.block.address if self._pool else 0,
            _runtime().host.address,
            status.address,
            (1 << 62) if short else _SLICE_NS // _COST_NS,
            0,
            int(short),
        )
        brief = total_ns < BRIEF_RUN_NS and not loops
        self._memory.program.put(ProgramBlock.BRIEF, "<q", int(brief))
        self.call = _callable(self._memory)

    def run(self) -> None:
        """Run all steps once.

        Raises InvokeError where a kernel refuses its data, where another thread is running this
        program, or after `cancel`; KeyboardInterrupt between steps. The next run starts afresh.
        """
        code = self.call()
        if code:
            self.settle(code)

    def settle(self, code: int) -> None:
        """Do what a result of `call` other than 0 asks for: start the workers, or raise."""
        if code == NOT_STARTED and self._pool:
            self._pool.start()
            self.run()
            return
        if code == BUSY:
            raise InvokeError("this interpreter is being used by another thread: use one for each")
        if code == CANCELLED:
            raise InvokeError("the run was cancelled")
        refusal = self.status()
        if code == REFUSED and refusal:
            what = f"code {refusal.code} at position {refusal.position}"
            raise InvokeError(f"step {refusal.step} refuses its data: {what}")
        raise InvokeError(f"the run loop returned {code}")

    def cancel(self) -> None:
        """End a run that another thread is in, after the step that it is at."""
        self._memory.program.put(ProgramBlock.STOP, "<i", 1)

    def status(self) -> Refusal | None:
        """What a kernel refused in the last run, if one did."""
        word = self._memory.status.get(0, "<Q")
        if not word:
            return None
        step = self._memory.program.get(ProgramBlock.ENDED_AT, "<q")
        return Refusal(step, word >> _CODE_SHIFT, word & ((1 << _CODE_SHIFT) - 1))

    def run_profiled(self) -> list[int]:
        """Run all steps once and return the time that each took, in ns (clock: about 20 ns)."""
        memory = self._memory
        times = (ctypes.c_int64 * max(memory.count, 1))()
        code = NOT_STARTED
        while code == NOT_STARTED:
            if self._pool:
                self._pool.start()
            code = _runtime().profile(memory.program.address, ctypes.addressof(times))
        if code:
            self.settle(code)
        return list(times[: memory.count])


class _Memory:
    """Blocks that the run loop reads; the callable of a program keeps them alive."""

    __slots__ = ("args", "count", "keep", "program", "status", "steps")

    def __init__(self, steps: Sequence[Step], status: Block, keep: object) -> None:
        self.status, self.keep, self.count = status, keep, len(steps)
        blocks = [step.args for step in steps if isinstance(step.args, bytes)]
        self.args = Block(sum(-(-len(block) // 64) * 64 for block in blocks))
        self.steps = Block(_STEP.size * len(steps))
        used = 0
        for number, step in enumerate(steps):
            args = step.args
            if isinstance(args, bytes):
                self.args.put(used, f"<{len(args)}s", args)
                address, used = self.args.address + used, used + -(-len(args) // 64) * 64
            else:
                address = args
            cost = min(-(-max(step.cost_ns, 0) // _COST_NS), 0x7FFFFFFF)
            values = (step.kernel, address, step.items, step.chunks, cost)
            _STEP.pack_into(self.steps.raw, self.steps.start + _STEP.size * number, *values)
        self.program = Block(ProgramBlock.SIZE)
        self.program.put(ProgramBlock.STEPS, "<Qq", self.steps.address, self.count)


def pool(threads: int) -> Pool | None:
    """The process's pool for so many threads; None where there are no workers to be had."""
    threads = min(threads, MOST_CHUNKS)
    if sys.platform != "linux" or threads < 2:
        return None
    with _locks[0]:
        if threads not in _pools:
            _pools[threads] = Pool(threads)
        return _pools[threads]


_pools: dict[int, Pool] = {}
_runtimes: list[_Runtime] = []  # at most one
# of the pools, of the runtime; a signal's handler may come back while its thread holds them
_locks = [RLock(), RLock()]
_METH_NOARGS = 4
_NATIVE_KERNEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)


class _PyMethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def _runtime() -> _Runtime:
    if not _runtimes:
        with _locks[1]:
            if not _runtimes:
                _runtimes.append(_Runtime())
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=_begin_child)
    return _runtimes[0]


def _begin_child() -> None:
    """No thread of the parent holds a lock, runs a program or works for a pool any more."""
    _locks[:] = [RLock(), RLock()]
    host = _runtime().host
    host.put(HostBlock.FORKS, "<q", host.get(HostBlock.FORKS, "<q") + 1)
    for shared in _pools.values():
        shared.reset()


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function is not None else 0


def _portable_clock() -> Any:
    """clock_gettime for systems without it."""

    def clock(_: int, time_at: int) -> int:
        (ctypes.c_int64 * 2).from_address(time_at)[:] = list(divmod(time.perf_counter_ns(), 10**9))
        return 0

    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(clock)


def _callable(memory: _Memory) -> Callable[[], int]:
    """A built-in function of no arguments whose self is a capsule around the program.

    A call through it takes a quarter of the time of one through ctypes.
    """
    runtime, api = _runtime(), ctypes.pythonapi
    program = memory.program.address
    new_capsule = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
    )(("PyCapsule_New", api))
    capsule = new_capsule(program, None, None)
    if ctypes.c_void_p.from_address(id(capsule) + RUN_LOOP.head).value != program:
        return _call_through_ctypes(memory)
    new_function = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object
    )(("PyCFunction_NewEx", api))
    # its "module" is the memory: a function that outlives its program still finds it
    function: Callable[[], int] = new_function(
        ctypes.addressof(runtime.definition), capsule, memory
    )
    return function


def _call_through_ctypes(memory: _Memory) -> Callable[[], int]:
    """For Pythons that lay a capsule out otherwise."""
    enter = _runtime().enter

    def call() -> int:
        code: int = enter(memory.program.address)
        return code

    return call
