"""In how many chunks a step is cut."""

from __future__ import annotations

import pytest

from litejit.engine.node_lowering import MAX_CHUNKS, SPLIT_ABOVE_NS, chunk_count


def busiest(items: int, chunks: int, threads: int) -> int:
    """Items of the thread with most to do, where all chunks are as long as the longest."""
    return -(-chunks // threads) * -(-items // chunks)


@pytest.mark.parametrize("items", [2, 3, 5, 7, 8, 12, 16, 49, 84, 128, 1000])
@pytest.mark.parametrize("cost_ns", [3e3, 7e3, 16e3, 26e3, 40e3, 80e3, 1e6])
def test_chunks_are_neither_more_than_the_items_nor_than_the_mask_of_the_run_loop(
    items: int, cost_ns: float
) -> None:
    chunks = chunk_count(items, cost_ns, 1)
    assert 2 <= chunks <= min(items, MAX_CHUNKS)
    assert items // 2 < 2 or chunk_count(items, cost_ns, items // 2) <= 2


@pytest.mark.parametrize(("items", "cost_ns"), [(8, 39e3), (12, 39e3), (16, 26e3), (84, 70e3)])
def test_two_threads_share_evenly_what_can_be_shared_evenly(items: int, cost_ns: float) -> None:
    assert busiest(items, chunk_count(items, cost_ns, 1), 2) == items // 2


def test_short_and_indivisible_steps_stay_whole() -> None:
    assert chunk_count(1000, SPLIT_ABOVE_NS - 1, 1) == 1
    assert chunk_count(1, 1e6, 1) == 1
    assert chunk_count(63, 1e6, 32) == 1
