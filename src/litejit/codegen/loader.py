"""Linked machine code -> executable memory -> its address, without llvmlite.

Code is never unmapped: a native thread may be spinning in it while the process ends. Loading is
therefore for code that the process keeps and shares (`cache.addresses`).

Linux tries three ways, each with systems that forbid the others: a memory file, the cache file
itself, and anonymous memory that turns from writable to executable. The memory file is first
because it holds the very bytes that were hashed, whatever happens to the cache file later: a
mapped file that someone truncates kills the process (measured: 0.02 ms dearer for 64 KB).
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.errors import CodegenError


def executable(code: bytes, path: str = "") -> int:
    """Address of an executable copy of `code`, at a page border, for the life of the process.

    `path` is a file that begins with the same bytes, if there is one. Raises CodegenError where
    the system grants no executable memory at all.
    """
    if not code:
        raise CodegenError("no code to load")
    reasons = []
    for way in _WAYS.get(sys.platform, (map_memfd, map_file, map_anonymous)):
        try:
            return way(code, path)
        except (OSError, AttributeError) as error:
            reasons.append(f"{way.__name__}: {error}")
    raise CodegenError("the system grants no executable memory: " + "; ".join(reasons))


def map_memfd(code: bytes, path: str = "") -> int:
    """Linux: needs no file system, and no memory that was ever writable."""
    memory = os.memfd_create("litejit", os.MFD_CLOEXEC)
    try:
        written = os.write(memory, code)
        if written != len(code):
            raise OSError(f"only {written} of {len(code)} bytes fit into a memory file")
        return _address(_map_private(memory, len(code)))
    finally:
        os.close(memory)


def map_file(code: bytes, path: str = "") -> int:
    """Any POSIX system; EPERM on a file system that is mounted noexec."""
    if not path:
        raise OSError("there is no file")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        memory = _map_private(fd, len(code))
    finally:
        os.close(fd)
    if memory[:] != code:
        raise OSError("the file changed while it was loaded")
    return _address(memory)


def map_anonymous(code: bytes, path: str = "") -> int:
    """Any POSIX system; refused where memory that was writable may not become executable."""
    import ctypes

    size = len(code)
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = code
    base = _address(memory)
    libc = ctypes.CDLL(None, use_errno=True)
    protection = mmap.PROT_READ | mmap.PROT_EXEC
    if libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(size), protection):
        raise OSError(ctypes.get_errno(), "mprotect")
    return base  # mprotect also makes the cores' instruction caches see what was written


def map_windows(code: bytes, path: str = "") -> int:
    """VirtualAlloc, copy, VirtualProtect, FlushInstructionCache (untested: no such machine)."""
    import ctypes

    kernel32: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel32.VirtualAlloc.restype = ctypes.c_void_p
    size, old = ctypes.c_size_t(len(code)), ctypes.c_ulong()
    base = kernel32.VirtualAlloc(None, size, 0x3000, 0x04)  # commit and reserve, read and write
    if not base:
        raise OSError("VirtualAlloc gave nothing")
    ctypes.memmove(base, code, len(code))
    at = ctypes.c_void_p(base)
    if not kernel32.VirtualProtect(at, size, 0x20, ctypes.byref(old)):  # execute and read
        raise OSError("VirtualProtect refused")
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    kernel32.FlushInstructionCache(ctypes.c_void_p(kernel32.GetCurrentProcess()), at, size)
    return int(base)


def map_macos(code: bytes, path: str = "") -> int:
    """MAP_JIT memory, written while this thread may write to it (untested: no such machine)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size, map_jit = ctypes.c_size_t(len(code)), 0x0800
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | map_jit
    base = libc.mmap(None, size, 7, flags, -1, ctypes.c_longlong(0))
    if base is None or base == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap with MAP_JIT")
    protect = getattr(libc, "pthread_jit_write_protect_np", None)  # Apple silicon only
    if protect is not None:
        protect(0)
    ctypes.memmove(base, code, len(code))
    if protect is not None:
        protect(1)
    libc.sys_icache_invalidate(ctypes.c_void_p(base), size)
    return int(base)


_WAYS: dict[str, tuple[Callable[..., int], ...]] = {
    "win32": (map_windows,),
    "darwin": (map_macos, map_file),
}


def address_space_left() -> int:
    """Bytes that this process may still map: a limit set by RLIMIT_AS; without one, 2**62."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return 1 << 62
        with open("/proc/self/statm", "rb") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, AttributeError, OSError):  # systems without such limits
        return 1 << 62
    return max(limit - used, 0)


def immortal(thing: object) -> None:
    """Never free `thing`, not even while the interpreter shuts down."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _map_private(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)


def _address(memory: mmap.mmap) -> int:
    view = np.frombuffer(memory, np.uint8)
    immortal(view)
    return int(view.__array_interface__["data"][0])
