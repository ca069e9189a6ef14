"""ELF64 relocatable objects -> one position-independent blob. Pure Python, no llvmlite.

Read-only sections only: code and constants lie in the same mapping, so every internal reference is PC-relative and
is resolved here, once, when a kernel goes into the cache. Loading a blob is then a mapping and nothing else.
Writable sections (.data, .bss, .got*) and undefined symbols are refused by name: kernels take all they need as arguments.
"""
from __future__ import annotations

import struct

from litejit.errors import CodegenError
from litejit.record import Record

SHF_WRITE, SHF_ALLOC, SHF_TLS = 1, 2, 0x400
SHT_NOBITS, SHT_RELA, SHT_SYMTAB = 8, 4, 2
X86_64, AARCH64 = 62, 183
PAGE = 4096


class LinkError(CodegenError):
    """The object needs something that a position-independent, read-only blob cannot have."""



class Blob(Record):
    code: bytes
    symbols: dict[str, int]  # name -> offset of every global function


def _align(n: int, a: int) -> int:
    return (n + a - 1) // a * a


def link(objects: list[bytes]) -> Blob:
    """Lay the objects' sections out one after another and resolve all that points inside.

    Undefined symbols are looked up among the other objects' globals (that is the import table: memcpy and the like
    may be supplied as one more object, written in the kernel language).
    """
    image, defined, pending = bytearray(), {}, []
    for data in objects:
        if data[:6] != b"\x7fELF\x02\x01":
            raise LinkError("not a little-endian ELF64 object")
        machine, shoff = struct.unpack_from("<HxxxxxxxxxxxxxxxxxxxxQ", data, 18)
        shentsize, shnum, shstrndx = struct.unpack_from("<HHH", data, 58)
        heads = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
        names = data[heads[shstrndx][4]:][:heads[shstrndx][5]]
        label = lambda off, table: table[off:table.index(0, off)].decode()
        base = {}
        for i, (name, kind, flags, _, off, size, _, _, align, _) in enumerate(heads):
            if not flags & SHF_ALLOC or not size:
                continue
            if kind == SHT_NOBITS or flags & (SHF_WRITE | SHF_TLS):
                raise LinkError(f"writable section {label(name, names)}")
            if label(name, names) in (".eh_frame",):
                continue
            image += b"\xcc" * (_align(len(image), max(align, 16)) - len(image))
            base[i] = len(image)
            image += data[off:off + size]
        symtab = next(h for h in heads if h[1] == SHT_SYMTAB)
        strings = data[heads[symtab[6]][4]:][:heads[symtab[6]][5]]
        symbols = []
        for at in range(symtab[4], symtab[4] + symtab[5], 24):
            name, info, _, shndx, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            where = base[shndx] + value if shndx in base else None
            text = label(name, strings)
            symbols.append((text, where))
            if info >> 4 and where is not None:
                if text in defined:
                    raise LinkError(f"{text} is defined twice")
                defined[text] = where
        for h in heads:
            if h[1] == SHT_RELA and h[7] in base:
                for at in range(h[4], h[4] + h[5], 24):
                    offset, info, addend = struct.unpack_from("<QQq", data, at)
                    pending.append((machine, base[h[7]] + offset, info & 0xFFFFFFFF, symbols[info >> 32], addend))
    for machine, at, kind, (name, where), addend in pending:
        where = defined.get(name) if where is None else where
        if where is None:
            raise LinkError(f"undefined symbol {name}")
        (_x86 if machine == X86_64 else _arm)(image, at, kind, where + addend)
    return Blob(bytes(image), defined)


def _x86(image: bytearray, at: int, kind: int, target: int) -> None:
    if kind in (2, 4):                       # PC32, PLT32
        struct.pack_into("<i", image, at, target - at)
    elif kind == 24:                         # PC64
        struct.pack_into("<q", image, at, target - at)
    else:
        raise LinkError(f"R_X86_64 type {kind}")


def _arm(image: bytearray, at: int, kind: int, target: int) -> None:
    word = struct.unpack_from("<I", image, at)[0]
    if kind == 275:                          # ADR_PREL_PG_HI21: pages between the two
        delta = (target // PAGE) - (at // PAGE)
        word = word & 0x9F00001F | (delta & 3) << 29 | (delta >> 2 & 0x7FFFF) << 5
    elif kind == 274:                        # ADR_PREL_LO21
        delta = target - at
        word = word & 0x9F00001F | (delta & 3) << 29 | (delta >> 2 & 0x7FFFF) << 5
    elif kind in (277, 278, 284, 285, 286, 299):  # ADD / LDST{8,16,32,64,128}_ABS_LO12_NC
        shift = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}[kind]
        word = word & ~(0xFFF << 10) | ((target & 0xFFF) >> shift) << 10
    elif kind == 273:                        # LD_PREL_LO19
        word = word & ~(0x7FFFF << 5) | ((target - at) >> 2 & 0x7FFFF) << 5
    elif kind in (282, 283):                 # JUMP26, CALL26
        word = word & ~0x3FFFFFF | (target - at) >> 2 & 0x3FFFFFF
    elif kind == 261:                        # PREL32
        word = (target - at) & 0xFFFFFFFF
    else:
        raise LinkError(f"R_AARCH64 type {kind}")
    struct.pack_into("<I", image, at, word)
