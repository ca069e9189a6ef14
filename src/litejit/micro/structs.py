"""Sizes of TFLM's C++ structures on each target, computed from their fields.

A layout is written as its members in order: `b` 1 byte, `h` 2, `i` 4, `l` 8, `p` a pointer, `z` a
size_t, `e` a C enum, a number before a member repeats it, `(…)` is a nested structure, and `[…]`
is there only in builds that can decompress weights. C's rules hold on every target: a member is
aligned to its size, a structure to its widest member, and its size is a multiple of that.
"""

from __future__ import annotations

import re
from functools import lru_cache

from litejit.record import Record

ALIGNMENT = 16  # bytes: of the arena, of planned buffers and of what kernels ask for


class Target(Record):
    """What of a processor and its compiler TFLM's arena depends on.

    `column` is the position of the target in a row of four values (wheel, host64, cortex-m,
    cortex-m-short-enums). `recording` tells whether programs there use the allocator that keeps
    books, as the wheel does, or the plain one, as firmware does.
    """

    name: str
    title: str
    pointer_bytes: int
    enum_bytes: int
    decompresses: bool
    recording: bool
    column: int


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("wheel", "TFLM's Python wheel, 64-bit", 8, 4, True, True, 0),
        Target("host64", "a 64-bit build of TFLM", 8, 4, False, True, 1),
        Target("cortex-m", "Cortex-M, 4-byte enums", 4, 4, False, False, 2),
        Target("cortex-m-short-enums", "Cortex-M, GCC's short enums", 4, 1, False, False, 3),
        Target("riscv32", "RISC-V, 32-bit", 4, 4, False, False, 2),
    )
}

LAYOUTS: dict[str, str] = {
    "SingleArenaBufferAllocator": "pp 5p p i",
    "RecordingSingleArenaBufferAllocator": "pp 5p p i 4z",
    "GreedyMemoryPlanner": "p 2i 4p 2i p b",
    "LinearMemoryPlanner": "p 1024z i z",
    "MicroAllocator": "p 4p b z p z",
    "RecordingMicroAllocator": "(p 4p b z p z) p 21z [3z]",
    "MicroBuiltinDataAllocator": "pp",
    "SubgraphAllocations": "pp [p]",
    "TfLiteEvalTensor": "pp e",
    "NodeAndRegistration": "(6p i) p",
    "TfLiteTensor": "(i p) (i i) p p z e e b",
    "TfLiteAffineQuantization": "ppi",
    "ScratchBufferRequest": "z ii",
    "ScratchBufferHandle": "p",
    "AllocationInfo": "z p 3i b",
    "MicroResourceVariables": "p i i",
    "MicroResourceVariable": "p p p z b",
    "DecompressionRegions": "z",
    "DecodeStateLut": "3p (p 3z p 3b)",
    "DecodeStatePrune": "3p (p 3z pp 2b)",
    "DecodeStateHuffman": "3p (p z p 2b)",
}
PLANNER_BUFFER_BYTES = 40  # what the greedy planner needs for each buffer, on every target
MAX_LINEAR_BUFFERS = 1024  # buffers that the linear planner has room for

_TOKEN = re.compile(r"(\d*)([bhilpze(])|([)\[\]])")


def layout_of(fields: str, target: Target) -> tuple[int, int]:
    """Return (size, alignment) in bytes of the structure with these fields."""
    if not target.decompresses:
        fields = re.sub(r"\[[^]]*\]", "", fields)
    tokens = _TOKEN.findall(fields.replace(" ", "").replace("[", "").replace("]", ""))
    size, align = _members(tokens, target)
    return size, align


def _members(tokens: list[tuple[str, str, str]], target: Target) -> tuple[int, int]:
    """Consume the members up to the closing parenthesis, or to the end."""
    widths = {"b": 1, "h": 2, "i": 4, "l": 8, "e": target.enum_bytes}
    end, widest = 0, 1
    while tokens:
        count, kind, closing = tokens.pop(0)
        if closing:
            break
        if kind == "(":
            size, align = _members(tokens, target)
        else:
            size = align = widths.get(kind, target.pointer_bytes)
        end = round_up(end, align) + size * int(count or 1)
        widest = max(widest, align)
    return round_up(end, widest), widest


@lru_cache(maxsize=256)
def _sized(name: str, target_name: str) -> int:
    return layout_of(LAYOUTS[name], TARGETS[target_name])[0]


def size_of(name: str, target: Target) -> int:
    """Return the bytes that the structure `name` of LAYOUTS takes on a target."""
    return _sized(name, target.name)


def round_up(value: int, alignment: int) -> int:
    """Round up to a multiple of `alignment`."""
    return -(-value // alignment) * alignment


def target_named(name: str | Target) -> Target:
    """Return the target of that name. Raises ValueError, with the names there are."""
    if isinstance(name, Target):
        return name
    if name not in TARGETS:
        raise ValueError(f"no target {name!r}: expected {', '.join(TARGETS)}")
    return TARGETS[name]
