"""Checks of sizes before anything is allocated, and what is said where memory ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from litejit import settings
from litejit.codegen.loader import address_space_left
from litejit.errors import LitejitError, MemoryLimitError

# Python and NumPy need some memory of their own. Where they get none they fail without saying
# why, or end the process: a ufunc whose buffer cannot be allocated does (NumPy 2.3).
ROOM = 8 << 20
_CERTAINLY_SMALL = 1 << 26
_CGROUPS = (  # folder, names of the limit and of what is used; of versions 2 and 1
    ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def memory_limit() -> int:
    """Bytes that one interpreter's tensors may take: LITEJIT_MEMORY, else most of what is free.

    An eighth stays free: Linux ends a process that takes the last page, without an exception.
    """
    free = min(_free_memory(), _left_to_container(), address_space_left())
    return _wanted() or free - free // 8


def _wanted() -> int:
    """LITEJIT_MEMORY; 0 where it is no number."""
    value = settings.get("LITEJIT_MEMORY")
    return int(value) if value.isdecimal() else 0


def _free_memory() -> int:
    with suppress(OSError), open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 34


def _left_to_container() -> int:
    """What the control group, as a container sees it, may still take."""
    for folder, limit, used in _CGROUPS:
        with suppress(OSError, ValueError):  # no such group, or "max"
            return max(_number(f"{folder}/{limit}") - _number(f"{folder}/{used}"), 0)
    return 1 << 62


def _number(path: str) -> int:
    with open(path, "rb") as file:
        return int(file.read())


def check(nbytes: int, what: str) -> None:
    """Refuse `what` if it is larger than the memory that may be used."""
    if nbytes <= _CERTAINLY_SMALL and not _wanted():
        return
    limit = memory_limit()
    if nbytes > limit:
        raise MemoryLimitError(f"{what} needs {nbytes} bytes, more than the {limit} allowed")


def check_room(what: str, nbytes: int = 0) -> None:
    """Refuse to begin `what` where the address space ends within `nbytes` and a reserve."""
    left = address_space_left()
    if left < nbytes + ROOM:
        raise MemoryLimitError(
            f"{what} needs {nbytes + ROOM} bytes of address space, {left} are left"
        )


@contextmanager
def shortage_named(what: str) -> Iterator[None]:
    """Turn whatever tells that memory ended into a MemoryLimitError that says where."""
    try:
        yield
    except LitejitError:
        raise
    except MemoryError as error:
        raise out_of_memory(what, error) from error
    except (SystemError, SyntaxError, ImportError) as error:
        # So Python tells that memory ended while it called, parsed or mapped something.
        if address_space_left() > ROOM:
            raise
        raise out_of_memory(what, error) from error


def out_of_memory(what: str, error: BaseException) -> MemoryLimitError:
    """The exception for an allocation that the system refused."""
    return MemoryLimitError(f"{what}: {str(error) or 'the system gives no more memory'}")
