"""One check of sizes before anything is allocated."""

from __future__ import annotations

import os

from litejit import settings
from litejit.errors import MemoryLimitError

_CERTAINLY_SMALL = 1 << 26


def memory_limit() -> int:
    """Bytes that one interpreter's tensors may take: LITEJIT_MEMORY, else what is free."""
    wanted = settings.get("LITEJIT_MEMORY")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, _address_space_left())
    except OSError:
        return _physical_memory()
    return _physical_memory()


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 34


def _address_space_left() -> int:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return 1 << 62
    with open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return max(limit - used, 0)


def check(nbytes: int, what: str) -> None:
    """Refuse `what` if it is larger than the memory that may be used."""
    if nbytes <= _CERTAINLY_SMALL:
        return
    limit = memory_limit()
    if nbytes > limit:
        raise MemoryLimitError(f"{what} needs {nbytes} bytes, more than the {limit} allowed")
