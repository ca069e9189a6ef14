"""Where words stand in the blocks that the run loop and Python share."""

from __future__ import annotations


class ProgramBlock:
    """Offsets in the block of a program."""

    STEPS, COUNT, POOL, HOST, STATUS, SLICE, ENDED_AT, HELD = range(0, 64, 8)
    BUSY, STOP = 64, 72  # BUSY: the fork count of the process in which a thread runs it
    COLD_RUNS, BRIEF = 80, 88  # runs of a brief program before it asked for workers; is it one?
    SIZE = 128


class PoolBlock:
    """Offsets in the block of a pool."""

    TICKET, DONE, CALLER_SLEEPS, STEP, CHUNKS, SLEEPERS, LOCK = 0, 64, 128, 192, 200, 256, 320
    HOST, SPINS, STARTED, AVOIDED, WORKERS, MASKS, CPUS = 384, 392, 396, 400, 404, 408, 416
    WAKING, MAY_WAKE, LAST_END = 448, 452, 456  # LAST_END: when the last run was over, ns
    TIDS = 512
    SIZE = 512 + 4 * 64


class HostBlock:
    """Offsets in the block of the process."""

    SAVE_THREAD, RESTORE_THREAD, LONG_FROM_INT64, CHECK_SIGNALS = range(0, 32, 8)
    SYSCALL, GETCPU, CLOCK, CLOCK_ID, FORKS = range(32, 72, 8)
    SIZE = 128


# what the run loop's table holds, in this order
FUNCTIONS = ("enter", "py_run", "profile", "worker")

# results of `enter` and of the Python function around it; -1: a Python exception is set
DONE, REFUSED, CANCELLED, BUSY, NOT_STARTED = range(5)
