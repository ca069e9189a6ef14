"""Runs that can be ended from outside: by a question that is asked again and again, or a call."""

from __future__ import annotations

import threading
from collections.abc import Callable

from litejit.engine.program import NativeCall
from litejit.engine.runner import SubgraphRunner
from litejit.errors import InvokeError

CANCELLED = "Client requested cancel during Invoke()"
_EVERY_S = 0.001  # between two questions while native code runs


def run_cancellable(runner: SubgraphRunner, is_cancelled: Callable[[], bool]) -> None:
    """Run the graph; ask before it begins, and every millisecond from another thread.

    Kernels end at the next step, operators in NumPy are finished. Raises InvokeError.
    """
    if is_cancelled():
        raise InvokeError(CANCELLED)
    ended, asked = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(_EVERY_S):
            if asked.is_set() or is_cancelled():
                asked.set()
                stop(runner)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        if runner.ready and runner.has_state:
            runner.run_or_restore()
        else:
            runner.invoke()
    except InvokeError as error:
        if asked.is_set():
            raise InvokeError(CANCELLED) from error
        raise
    finally:
        ended.set()
        watcher.join()
    if asked.is_set():
        raise InvokeError(CANCELLED)


def stop(runner: SubgraphRunner) -> None:
    """Tell all programs of a runner to end at their next step."""
    for section in list(runner.sections):
        for segment in section.program.segments:
            if isinstance(segment, NativeCall):
                segment.native.cancel()
