"""The two stacks of TFLM's arena."""

from __future__ import annotations

from litejit.micro.ledger import (
    Category,
    Persist,
    Planner,
    Reset,
    Resize,
    Step,
    Temporary,
    least_arena,
    settle,
    shortage,
)


def test_persistent_memory_grows_down_to_aligned_addresses() -> None:
    assert settle([Persist(10, 4)]).tail == 12
    assert settle([Persist(10, 16), Persist(1, 1), Persist(4, 4)]).tail == 24


def test_a_category_counts_alignment_as_used_but_not_as_requested() -> None:
    ledger = settle([Persist(10, 16, "books"), Persist(3, 16, "books", count=5), Persist(8, 8)])
    assert ledger.categories == (("books", Category(32, 13, 6)),)
    assert ledger.tail == 40


def test_the_first_aligned_block_swallows_what_an_uneven_arena_has_left() -> None:
    steps: list[Step] = [Persist(8, 8), Persist(16, 16, "books")]
    assert settle(steps, 160).tail == 32
    assert settle(steps, 168).tail == 8 + 16
    assert settle(steps, 172).tail == 12 + 16


def test_temporaries_lie_above_the_head_until_they_are_reset() -> None:
    ledger = settle([Resize(16), Temporary(10, 8), Temporary(4, 8), Reset(), Temporary(4, 8)])
    assert [need.arena_bytes for need in ledger.needs] == [16, 26, 36, 20]
    assert ledger.head == 16


def test_the_head_is_resized_from_the_start_and_ends_all_temporaries() -> None:
    ledger = settle([Resize(100), Temporary(50, 8), Resize(40), Temporary(8, 8)])
    assert ledger.head == 40
    assert ledger.needs[-1].arena_bytes == 48


def test_every_step_needs_what_both_stacks_hold_then() -> None:
    ledger = settle([Resize(100), Persist(32, 16), Temporary(8, 8)])
    assert [need.arena_bytes for need in ledger.needs] == [100, 132, 144]
    assert ledger.least == 144


def test_persistent_memory_of_a_prepare_leaves_live_temporaries_alone() -> None:
    steps: list[Step] = [Resize(16), Temporary(64, 8), Persist(32, 16, guarded=True)]
    assert settle(steps).least == 112
    assert settle(steps, guarded=False).least == 80
    assert settle([Resize(16), Temporary(64, 8), Persist(32, 16)]).least == 80


def test_a_failure_to_make_room_for_more_requests_is_ignored() -> None:
    steps: list[Step] = [Resize(32), Persist(16, 16), Resize(96, soft=True), Persist(16, 16)]
    assert least_arena(steps) == 64  # the head stays at 32 bytes
    assert settle(steps, 64).head == 32
    assert settle(steps, 256).head == 96


def test_the_greedy_planner_needs_forty_bytes_a_buffer_of_what_is_left() -> None:
    steps: list[Step] = [Persist(8, 8), Temporary(24, 8), Planner(3)]
    assert settle(steps).least == 32 + 3 * 40 + 16
    assert least_arena(steps) == 176
    assert shortage(settle(steps, 160), 160) == "Too many buffers (max is 2)"


def test_the_least_arena_is_a_multiple_of_16_in_which_nothing_fails() -> None:
    steps: list[Step] = [Resize(24), Persist(9, 1), Temporary(100, 8), Reset(), Resize(0)]
    least = least_arena(steps)
    assert least == 144
    assert settle(steps, least).least <= least
    assert settle(steps, least - 16).least > least - 16


def test_the_first_shortage_is_told_in_tflms_words() -> None:
    steps: list[Step] = [Resize(192), Persist(192, 16), Temporary(64, 8)]
    say = [shortage(settle(steps, size), size) for size in (32, 272, 432, 448)]
    assert say == [
        "Failed to resize buffer. Requested: 192, available 32, missing: 160",
        "Failed to allocate tail memory. Requested: 192, available 80, missing: 112",
        "Failed to allocate temp memory. Requested: 64, available 48, missing: 16",
        "",
    ]
