"""Machine code -> executable memory -> addresses, without llvmlite."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from litejit.errors import CodegenError

_ALIVE: list[Any] = []  # code is never unmapped: a native thread may still be running in it


def executable(code: bytes) -> int:
    """Address of an executable copy of `code`."""
    import ctypes

    memory = mmap.mmap(-1, len(code), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = code
    view = np.frombuffer(memory, np.uint8)
    _ALIVE.append(view)
    base = int(view.__array_interface__["data"][0])
    libc = ctypes.CDLL(None, use_errno=True)
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    if libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(len(code)), protection):
        raise CodegenError(f"no executable memory: errno {ctypes.get_errno()}")
    return base
