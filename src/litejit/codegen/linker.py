"""ELF64 relocatable objects -> one position-independent blob, in Python.

Code and constants go into one mapping, so every reference inside is relative to the place that
makes it and is resolved here, once, when a kernel enters the cache: loading a blob is a mapping
and nothing else. What such a blob cannot have is refused by name: writable sections, and
symbols that no object defines (kernels take all they need as arguments).

Relocation numbers: System V ABI, AMD64 supplement, table 4.9; ELF for the Arm 64-bit
Architecture, section 5.7. A blob must be mapped at a multiple of 4096: AArch64 addresses
constants by page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from litejit.errors import CodegenError
from litejit.record import Record

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_WRITE, _ALLOC, _TLS = 1, 2, 0x400
_SYMTAB, _RELA, _NOBITS, _REL = 2, 4, 8, 9
_X86_64, _AARCH64 = 62, 183
_PAGE = 4096
_SKIPPED = (b".eh_frame",)  # nothing unwinds through kernels
_LOW12_SHIFT = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}


class LinkError(CodegenError):
    """An object needs what a read-only, position-independent blob cannot have."""


class Blob(Record):
    """Linked machine code: `symbols` maps every global function to its offset in `code`."""

    code: bytes
    symbols: dict[str, int]


class _Section(Record):
    name: bytes
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class _Place(Record):
    """A relocation whose own place in the image is known."""

    machine: int
    at: int
    kind: int
    symbol: str
    target: int | None
    addend: int


def link(objects: Sequence[bytes]) -> Blob:
    """Lay the objects' read-only sections out one after another and resolve what points inside.

    A symbol that one object leaves open is looked up among the other objects' global ones.
    Raises LinkError if it is found nowhere, is defined twice, or if an object holds writable
    data or a relocation that is not relative.
    """
    image = bytearray()
    defined: dict[str, int] = {}
    places: list[_Place] = []
    for data in objects:
        try:
            _add(data, image, defined, places)
        except (struct.error, IndexError, ValueError, OverflowError) as error:
            raise LinkError(f"not a whole object file: {error}") from error
    for place in places:
        target = defined.get(place.symbol) if place.target is None else place.target
        if target is None:
            raise LinkError(f"undefined symbol {place.symbol}: kernels may call nothing outside")
        if not 0 <= place.at <= len(image) - 4:
            raise LinkError(f"a reference to {place.symbol} lies outside of its section")
        resolve = _resolve_x86 if place.machine == _X86_64 else _resolve_arm
        try:
            resolve(image, place.at, place.kind, target + place.addend)
        except struct.error as error:
            raise LinkError(f"{place.symbol} is out of reach: {error}") from error
    return Blob(bytes(image), defined)


def _add(data: bytes, image: bytearray, defined: dict[str, int], places: list[_Place]) -> None:
    if data[:6] != b"\x7fELF\x02\x01":
        raise LinkError("not a little-endian ELF64 object")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine not in (_X86_64, _AARCH64):
        raise LinkError(f"objects for machine {machine} are not known, only x86-64 and AArch64")
    sections = _sections(data)
    base = _place_sections(data, sections, image)
    symbols = list(_symbols(data, sections, base))
    for name, where, is_global in symbols:
        if is_global and where is not None:
            if name in defined:
                raise LinkError(f"{name} is defined twice")
            defined[name] = where
    for section in sections:
        if section.info not in base or section.kind not in (_RELA, _REL):
            continue
        if section.kind == _REL:
            raise LinkError("relocations without addends")
        for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
            offset, info, addend = _RELOCATION.unpack_from(data, at)
            name, where, _ = symbols[info >> 32]
            kind = info & 0xFFFFFFFF
            places.append(_Place(machine, base[section.info] + offset, kind, name, where, addend))


def _sections(data: bytes) -> list[_Section]:
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count, names_at = struct.unpack_from("<HHH", data, 58)
    heads = [_SECTION.unpack_from(data, start + i * size) for i in range(count)]
    names = data[heads[names_at][4] :][: heads[names_at][5]]
    return [
        _Section(_text(names, name), kind, flags, offset, length, link, info, align)
        for name, kind, flags, _, offset, length, link, info, align, _ in heads
    ]


def _place_sections(data: bytes, sections: list[_Section], image: bytearray) -> dict[int, int]:
    """Append what is loaded at run time; section number -> offset in the image."""
    base = {}
    for number, section in enumerate(sections):
        if not section.flags & _ALLOC or not section.size or section.name in _SKIPPED:
            continue
        if section.kind == _NOBITS or section.flags & (_WRITE | _TLS):
            raise LinkError(f"writable section {section.name.decode()}")
        align = max(section.align, 16)
        if align > _PAGE:
            raise LinkError(f"section {section.name.decode()} is aligned to {align} bytes")
        image += b"\xcc" * (-len(image) % align)
        base[number] = len(image)
        image += data[section.offset :][: section.size]
    return base


def _symbols(
    data: bytes, sections: list[_Section], base: dict[int, int]
) -> Iterator[tuple[str, int | None, bool]]:
    """(name, offset in the image if it is defined here, visible to other objects)."""
    table = next((section for section in sections if section.kind == _SYMTAB), None)
    if table is None:
        raise LinkError("an object without symbols")
    strings = data[sections[table.link].offset :][: sections[table.link].size]
    for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
        name, info, _, section, value, _ = _SYMBOL.unpack_from(data, at)
        where = base[section] + value if section in base else None
        yield _text(strings, name).decode(), where, info >> 4 != 0


def _text(strings: bytes, at: int) -> bytes:
    return strings[at : strings.index(0, at)]


def _resolve_x86(image: bytearray, at: int, kind: int, target: int) -> None:
    if kind in (2, 4):  # PC32, PLT32
        struct.pack_into("<i", image, at, target - at)
    elif kind == 24:  # PC64
        struct.pack_into("<q", image, at, target - at)
    else:
        raise LinkError(f"relocation R_X86_64 {kind} is not relative to its place")


def _resolve_arm(image: bytearray, at: int, kind: int, target: int) -> None:
    (word,) = struct.unpack_from("<I", image, at)
    if kind in (274, 275):  # ADR_PREL_LO21; ADR_PREL_PG_HI21 counts pages
        delta = target - at if kind == 274 else target // _PAGE - at // _PAGE
        word = word & 0x9F00001F | (delta & 3) << 29 | (delta >> 2 & 0x7FFFF) << 5
    elif kind in _LOW12_SHIFT:  # ADD_ABS_LO12_NC, LDST8 .. LDST128_ABS_LO12_NC
        low = (target & 0xFFF) >> _LOW12_SHIFT[kind]
        word = word & ~(0xFFF << 10) | low << 10
    elif kind == 273:  # LD_PREL_LO19
        word = word & ~(0x7FFFF << 5) | ((target - at) >> 2 & 0x7FFFF) << 5
    elif kind in (282, 283):  # JUMP26, CALL26
        word = word & ~0x3FFFFFF | (target - at) >> 2 & 0x3FFFFFF
    elif kind == 261:  # PREL32
        word = (target - at) & 0xFFFFFFFF
    else:
        raise LinkError(f"relocation R_AARCH64 {kind} is not known")
    struct.pack_into("<I", image, at, word)
