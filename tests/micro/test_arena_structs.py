"""Sizes of TFLM's structures on its targets."""

from __future__ import annotations

import pytest

from litejit.micro.structs import LAYOUTS, TARGETS, layout_of, round_up, size_of, target_named

WHEEL, HOST, CORTEX_M, SHORT, RISCV = TARGETS.values()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("SingleArenaBufferAllocator", (72, 72, 36, 36)),
        ("RecordingSingleArenaBufferAllocator", (104, 104, 52, 52)),
        ("GreedyMemoryPlanner", (72, 72, 44, 44)),
        ("LinearMemoryPlanner", (8216, 8216, 4108, 4108)),
        ("MicroAllocator", (72, 72, 36, 36)),
        ("RecordingMicroAllocator", (272, 248, 124, 124)),
        ("MicroBuiltinDataAllocator", (16, 16, 8, 8)),
        ("SubgraphAllocations", (24, 16, 8, 8)),
        ("TfLiteEvalTensor", (24, 24, 12, 12)),
        ("NodeAndRegistration", (64, 64, 32, 32)),
        ("TfLiteTensor", (64, 64, 40, 32)),
        ("TfLiteAffineQuantization", (24, 24, 12, 12)),
        ("ScratchBufferRequest", (16, 16, 12, 12)),
        ("ScratchBufferHandle", (8, 8, 4, 4)),
        ("AllocationInfo", (32, 32, 24, 24)),
        ("MicroResourceVariables", (16, 16, 12, 12)),
        ("MicroResourceVariable", (40, 40, 20, 20)),
        ("DecodeStateLut", (72, 72, 36, 36)),
    ],
)
def test_structures_have_tflms_sizes_on_every_target(name: str, sizes: tuple[int, ...]) -> None:
    assert tuple(size_of(name, target) for target in (WHEEL, HOST, CORTEX_M, SHORT)) == sizes
    assert size_of(name, RISCV) == size_of(name, CORTEX_M)


def test_every_layout_can_be_sized_on_every_target() -> None:
    for name in LAYOUTS:
        for target in TARGETS.values():
            assert size_of(name, target) % layout_of(LAYOUTS[name], target)[1] == 0


def test_a_member_is_aligned_to_its_size_on_32_bit_targets_too() -> None:
    assert layout_of("b l", CORTEX_M) == (16, 8)
    assert layout_of("b i", WHEEL) == (8, 4)
    assert layout_of("b h b", WHEEL) == (6, 2)


def test_a_structure_is_padded_to_its_widest_member() -> None:
    assert layout_of("p b", WHEEL) == (16, 8)
    assert layout_of("p b", CORTEX_M) == (8, 4)


def test_a_nested_structure_is_padded_before_its_neighbour() -> None:
    assert layout_of("(i p) b", WHEEL) == (24, 8)
    assert layout_of("(6p i) p", CORTEX_M) == (32, 4)


def test_c_enums_take_one_byte_with_short_enums() -> None:
    assert layout_of("e e b", SHORT) == (3, 1)
    assert layout_of("e e b", CORTEX_M) == (12, 4)


def test_members_in_brackets_are_there_only_where_weights_are_decompressed() -> None:
    assert layout_of("pp [p]", WHEEL) == (24, 8)
    assert layout_of("pp [p]", HOST) == (16, 8)


def test_riscv_follows_the_rules_of_cortex_m() -> None:
    assert RISCV.column == CORTEX_M.column
    assert (RISCV.pointer_bytes, RISCV.enum_bytes) == (4, 4)


def test_an_unknown_target_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="'avr': expected wheel, host64, cortex-m, "):
        target_named("avr")
    assert target_named(HOST) is HOST


def test_rounding_up_keeps_multiples() -> None:
    assert [round_up(value, 16) for value in (0, 1, 16, 17)] == [0, 16, 16, 32]
