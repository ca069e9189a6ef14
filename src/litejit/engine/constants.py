"""Arrays that kernels read: packed once, on cache lines, shared by interpreters of a Model."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import ref

import numpy as np

from litejit.engine.plan import ALIGNMENT, SLACK
from litejit.kernels.base import Pieces
from litejit.types import Array

_PAGE = 1 << 21
_LARGE_PAGES: int | None = getattr(mmap, "MADV_HUGEPAGE", None)


class ConstantStore:
    """Arrays made once per subgraph of a Model: packed weights, tables; 64-byte aligned.

    `is_constant` tells of a tensor's number whether the file holds its value.
    """

    def __init__(self, is_constant: Callable[[int], bool] = lambda index: True) -> None:
        self.is_constant = is_constant
        self._arrays: dict[tuple[Any, ...], tuple[bytes, Array]] = {}
        self._copies: dict[int, tuple[Array, Array]] = {}
        # id of an array -> the array, and what it was copied from
        self._sources: dict[int, tuple[ref[Array], Array | Pieces]] = {}

    def get(
        self, key: tuple[Any, ...], make: Callable[[], Array | Pieces], source: bytes = b""
    ) -> Array:
        """The array of this key, made now if it was not before, or of another `source`."""
        known, array = self._arrays.get(key, (b"", None))
        if array is None or known != source:
            array = self._copied(make())
            self._arrays[key] = source, array
        return array

    def copy_of(self, index: int, value: Array) -> Array:
        """The aligned copy of a constant tensor's value."""
        known = self._copies.get(index)
        if known is None or known[0] is not value:
            known = self._copies[index] = (value, self._copied(value))
        return known[1]

    def _copied(self, made: Array | Pieces) -> Array:
        copy = aligned_copy(made)
        if isinstance(made, Pieces) or not made.flags.owndata:
            self._sources[id(copy)] = (ref(copy), made)
        return copy

    def source_of(self, array: Array) -> Array | Pieces | None:
        """What an array of this store is a copy of, where that is other arrays' memory."""
        copy, made = self._sources.get(id(array), (None, None))
        # an id is given again when its array is gone
        return made if copy is not None and copy() is array else None


def aligned_copy(made: Array | Pieces) -> Array:
    """A C-ordered copy on a 64-byte boundary, with readable slack behind it."""
    memory = aligned_memory(made.nbytes + SLACK)
    copy: Array = memory[: made.nbytes].view(made.dtype).reshape(made.shape)
    if isinstance(made, Pieces):
        made.fill(copy)
    else:
        copy[...] = made
    return copy


def aligned_memory(nbytes: int) -> Array:
    """Zeroed bytes on a 64-byte boundary, on large pages where that pays and Linux grants them.

    A small page takes a microsecond when it is first touched, and misses in the TLB later on.
    """
    if nbytes < _PAGE // 2 or _LARGE_PAGES is None:
        alignment, raw = ALIGNMENT, np.zeros(nbytes + ALIGNMENT, np.uint8)
    else:
        memory = mmap.mmap(-1, nbytes + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without them
            memory.madvise(_LARGE_PAGES)
        alignment, raw = _PAGE, np.frombuffer(memory, np.uint8)
    start = -address_of(raw) % alignment
    return raw[start : start + nbytes]


def address_of(array: Array) -> int:
    """Where the first element lies; half the time of `array.ctypes.data`."""
    address: int = array.__array_interface__["data"][0]
    return address
