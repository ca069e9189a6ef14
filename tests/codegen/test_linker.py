from __future__ import annotations

import ctypes
import random
import struct

import pytest

from litejit.codegen import isa, linker, llvm, loader

HOST = isa.host()
NEON = next(row for row in isa.ISAS if row.name == "neon")
ATTRIBUTES = 'nounwind "no-builtins"'

TABLE = f"""
@table = internal constant [4 x i64] [i64 11, i64 22, i64 33, i64 44]
define i64 @pick(i64 %i) {ATTRIBUTES} {{
  %p = getelementptr i64, ptr @table, i64 %i
  %v = load i64, ptr %p
  ret i64 %v
}}
"""
CALLER = f"""
declare hidden i64 @pick(i64)
define i64 @twice(i64 %i) {ATTRIBUTES} {{
  %v = call i64 @pick(i64 %i)
  %w = add i64 %v, %v
  ret i64 %w
}}
"""
SWITCH = f"""
define double @choose(i64 %i) {ATTRIBUTES} {{
  switch i64 %i, label %other [i64 0, label %a  i64 1, label %b  i64 2, label %c
                               i64 3, label %d  i64 4, label %e  i64 5, label %f]
a: ret double 1.5
b: ret double 2.25
c: ret double 3.125
d: ret double 4.0625
e: ret double 5.03125
f: ret double 6.015625
other: ret double 0.0
}}
"""


def function(text: str, name: str, result: type, others: tuple[str, ...] = ()) -> object:
    blob = linker.link([llvm.compile_ir(ir, HOST) for ir in (text, *others)])
    base = loader.executable(blob.code)
    return ctypes.CFUNCTYPE(result, ctypes.c_int64)(base + blob.symbols[name])


def test_constants_are_found_from_code() -> None:
    pick = function(TABLE, "pick", ctypes.c_int64)
    assert [pick(i) for i in range(4)] == [11, 22, 33, 44]


def test_a_call_into_another_object_is_resolved() -> None:
    twice = function(CALLER, "twice", ctypes.c_int64, (TABLE,))
    assert [twice(i) for i in range(4)] == [22, 44, 66, 88]


def test_a_switch_with_float_constants_works() -> None:
    choose = function(SWITCH, "choose", ctypes.c_double)
    assert [choose(i) for i in range(7)] == [1.5, 2.25, 3.125, 4.0625, 5.03125, 6.015625, 0]


def test_an_undefined_symbol_is_refused_by_name() -> None:
    with pytest.raises(linker.LinkError, match="undefined symbol pick"):
        linker.link([llvm.compile_ir(CALLER, HOST)])


@pytest.mark.parametrize("row", isa.ISAS, ids=lambda row: row.name)
def test_a_library_call_is_refused_on_every_instruction_set(row: isa.Isa) -> None:
    text = """declare double @llvm.exp.f64(double)
    define double @f(double %x) nounwind {
      %y = call double @llvm.exp.f64(double %x)
      ret double %y
    }"""
    with pytest.raises(linker.LinkError, match="undefined symbol exp"):
        linker.link([llvm.compile_ir(text, row)])


def test_writable_data_is_refused_by_section() -> None:
    text = f"""@counter = internal global i64 7
    define i64 @next() {ATTRIBUTES} {{
      %v = load i64, ptr @counter
      %w = add i64 %v, 1
      store i64 %w, ptr @counter
      ret i64 %w
    }}"""
    with pytest.raises(linker.LinkError, match=r"writable section \.data"):
        linker.link([llvm.compile_ir(text, HOST)])


def test_a_name_defined_twice_is_refused() -> None:
    code = llvm.compile_ir(TABLE, HOST)
    with pytest.raises(linker.LinkError, match="pick is defined twice"):
        linker.link([code, code])


def test_damaged_objects_are_refused_or_linked_but_never_crash() -> None:
    code = llvm.compile_ir(TABLE, HOST)
    dice = random.Random(7)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(code)
        for _ in range(dice.choice((1, 4, 16))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        cut = dice.randrange(len(code)) if dice.random() < 0.3 else len(code)
        try:
            linker.link([bytes(damaged[:cut])])
        except linker.LinkError:
            refused += 1
    assert refused > 400


@pytest.mark.parametrize("row", isa.ISAS, ids=lambda row: row.name)
def test_objects_of_every_instruction_set_link(row: isa.Isa) -> None:
    blob = linker.link([llvm.compile_ir(ir, row) for ir in (CALLER, SWITCH, TABLE)])
    assert set(blob.symbols) == {"twice", "choose", "pick"}
    assert all(0 <= at < len(blob.code) for at in blob.symbols.values())


@pytest.mark.parametrize("before", [(), (SWITCH,)])
def test_aarch64_addresses_its_constants_by_page_and_offset(before: tuple[str, ...]) -> None:
    filler = f"@pad = hidden constant [9000 x i8] zeroinitializer\n{TABLE}"
    blob = linker.link([llvm.compile_ir(ir, NEON) for ir in (*before, filler)])
    at = blob.symbols["pick"]
    words = struct.unpack_from("<6I", blob.code, at)
    adrp = next(i for i, word in enumerate(words) if word & 0x9F000000 == 0x90000000)
    add = next(word for word in words if word & 0xFFC00000 == 0x91000000)
    high = (words[adrp] >> 29 & 3) | (words[adrp] >> 5 & 0x7FFFF) << 2
    high -= (high & 1 << 20) * 2
    target = ((at + 4 * adrp) // 4096 + high) * 4096 + (add >> 10 & 0xFFF)
    assert struct.unpack_from("<4q", blob.code, target) == (11, 22, 33, 44)


def test_aarch64_calls_reach_their_target() -> None:
    blob = linker.link([llvm.compile_ir(ir, NEON) for ir in (CALLER, TABLE)])
    at = blob.symbols["twice"]
    calls = [
        (at + 4 * i, word)
        for i, word in enumerate(struct.unpack_from("<8I", blob.code, at))
        if word & 0xFC000000 == 0x94000000
    ]
    assert [place + 4 * (word & 0x3FFFFFF) for place, word in calls] == [blob.symbols["pick"]]


@pytest.mark.parametrize("system", ["linux", "win32", "darwin"])
def test_objects_are_elf_for_every_system(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = llvm.triple
    monkeypatch.setattr(llvm, "triple", lambda row: target(row, system=system))
    for row in (HOST, NEON):
        assert "pick" in linker.link([llvm.compile_ir(TABLE, row)]).symbols
