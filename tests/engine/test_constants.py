"""Memory for kernels: aligned, zeroed, given back."""

from __future__ import annotations

import numpy as np
import pytest

from litejit.engine.constants import ConstantStore, address_of, aligned_copy, aligned_memory
from litejit.engine.plan import ALIGNMENT
from litejit.kernels.base import Pieces


@pytest.mark.parametrize("nbytes", [1, 100, 1 << 20, (1 << 21) + 3, 5 << 20])
def test_memory_is_zeroed_aligned_and_of_the_size_asked_for(nbytes: int) -> None:
    memory = aligned_memory(nbytes)
    assert memory.nbytes == nbytes
    assert address_of(memory) % ALIGNMENT == 0
    assert not memory.any()
    memory[:] = 7
    assert (memory == 7).all()


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * 4096


def test_large_memory_is_given_back() -> None:
    before = resident_bytes()
    for _ in range(50):
        aligned_memory(8 << 20)[:] = 1
    assert resident_bytes() - before < 100 << 20


def test_pieces_are_copied_to_their_places() -> None:
    rows, column = np.arange(8, dtype=np.int32).reshape(2, 4), np.array([[9], [10]], np.int32)
    pieces = Pieces((3, 4), rows.dtype, (((slice(0, 2),), rows), ((2, slice(0, 2)), column[:, 0])))
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [9, 10, 0, 0]]
    np.testing.assert_array_equal(aligned_copy(pieces), expected)


def test_the_source_of_a_copy_is_not_that_of_a_later_array_with_its_id() -> None:
    store, whole = ConstantStore(), np.arange(100, dtype=np.int32)
    views = [whole[k:] for k in range(50)]
    copies = [store.copy_of(k, view) for k, view in enumerate(views)]
    for copy, view in zip(copies, views, strict=True):
        assert store.source_of(copy) is view
    gone = set(map(id, copies))
    for k in range(50):
        store.copy_of(k, whole[k + 1 :])
    del copies, copy
    later = [store.copy_of(k, np.ones(100, np.int32)) for k in range(50, 300)]
    assert gone & set(map(id, later))  # or this shows nothing
    assert all(store.source_of(array) is None for array in later)
