"""Instruction sets as rows of data, and the few primitives that differ between them.

Kernels ask an Isa for lanes and primitives; they never compare its name.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from litejit import settings
from litejit.codegen.lang import Function, Pointer, Type, Value, i16, i32, i64, u8, u16, u64
from litejit.errors import CodegenError
from litejit.record import Record, replace


class Isa(Record):
    """One instruction set.

    `vector_bytes` is the width of a register, `registers` how many there are. `dot` names the
    way to multiply bytes by fours: "vnni" (u8 x i8), "sdot" (i8 x i8) or "" (made of 16-bit
    products; takes u8 x i8). `in_order` asks for float sums as a plain loop makes them: product
    by product, every product rounded, the bias last.
    """

    name: str
    arch: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    dot: str
    needs: frozenset[str]
    byte_permute: bool = False  # any 64 bytes of 128 in one instruction
    in_order: bool = False

    @property
    def attributes(self) -> str:
        """Function attributes in LLVM IR."""
        width = f'"prefer-vector-width"="{8 * self.vector_bytes}"'
        features = f' "target-features"="{self.features}"' if self.features else ""
        stack = '"no-stack-arg-probe"'
        return f'nounwind "no-builtins" {stack} {width} "target-cpu"="{self.cpu}"{features}'

    def lanes(self, type: Type) -> int:
        """Elements of `type` in one register."""
        return self.vector_bytes * 8 // type.bits

    @property
    def dot_is_unsigned(self) -> bool:
        """True where the activations of `dot4` are u8, false where they are i8."""
        return self.dot != "sdot"

    @property
    def converts_half(self) -> bool:
        """True where instructions convert float16 to float32 and back."""
        return self.arch == "aarch64" or "f16c" in self.needs

    def dot4(self, fn: Function, acc: Value, a: Value, b: Value) -> Value:
        """acc[l] += sum over j < 4 of a[4l + j] * b[4l + j], exactly (int32 wraps).

        acc: i32 x n. a: activations, u8 x 4n where `dot_is_unsigned`, else i8 x 4n.
        b: weights, i8 x 4n.
        """
        lanes = acc.type.lanes
        if self.dot == "vnni" and lanes in (4, 8, 16):
            name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
            return fn.call(name, acc.type, acc, a, b)
        if self.dot == "sdot" and lanes == 4:
            return fn.call("llvm.aarch64.neon.sdot.v4i32.v16i8", acc.type, acc, a, b)
        if self.arch == "x86_64":
            return _dot4_by_pairs(fn, acc, a, b, self.vector_bytes)
        return _dot4_widening(fn, acc, a, b)

    def dot2(self, fn: Function, acc: Value, a: Value, b: Value) -> Value:
        """acc[l] += a[2l] * b[2l] + a[2l + 1] * b[2l + 1] of int16 lanes (int32 wraps).

        Right where no lane has all four factors -2**15.
        """
        names = {8: "sse2.pmadd.wd", 16: "avx2.pmadd.wd", 32: "avx512.pmaddw.d.512"}
        words = a.type.lanes
        if self.arch == "x86_64" and words in names and 2 * words <= self.vector_bytes:
            return acc + fn.call(f"llvm.x86.{names[words]}", acc.type, a, b)
        return acc + _pair_sums(a, b)

    def times_power_of_2(self, fn: Function, x: Value, n: Value) -> Value | None:
        """x * 2**n for whole floats n, rounded once, where one instruction does it, else None."""
        if self.vector_bytes != 64 or str(x.type) != "<16 x float>":
            return None
        name = fn.declare(
            "llvm.x86.avx512.mask.scalef.ps.512",
            *("<16 x float>", "<16 x float>", "<16 x float>", "<16 x float>", "i16", "i32"),
        )
        values = f"<16 x float> {x.ref}, <16 x float> {n.ref}, <16 x float> zeroinitializer"
        return fn.emit(x.type, f"call <16 x float> @{name}({values}, i16 -1, i32 4)")

    def shift_right_logical(self, fn: Function, x: Value, count: Value) -> Value:
        """Bits of the i32 lanes of x moved right by `count` lanes; a count of 32 gives 0."""
        names = {16: "avx512.psrlv.d.512", 8: "avx2.psrlv.d.256", 4: "avx2.psrlv.d"}
        name = names.get(x.type.lanes)
        if self.arch == "x86_64" and self.vector_bytes >= 32 and name:
            return fn.call(f"llvm.x86.{name}", x.type, x, count)
        unsigned = Type("u", 32, x.type.lanes)
        moved = x.bitcast(unsigned) >> (count & 31).bitcast(unsigned)
        return (count < 32).choose(moved.bitcast(x.type), 0)

    def lookup(self, fn: Function, table: Pointer, x: Value) -> Value:
        """table[x[l]] for every lane of x (u8 x n, n <= 64); the table has 256 bytes."""
        lanes = x.type.lanes
        if not self.byte_permute:
            return _lookup_by_lane(fn, table, x)
        quarters = [table.cast(u8).load(64 * j, lanes=64, align=1) for j in range(4)]
        index = x.shuffle([*range(lanes), *[0] * (64 - lanes)]) if lanes < 64 else x
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        low, high = (
            fn.call(name, u8 * 64, a, index, b) for a, b in (quarters[:2], quarters[2:])
        )
        found = (index >= 128).choose(high, low)
        return found.shuffle(range(lanes)) if lanes < 64 else found


def _lookup_by_lane(fn: Function, table: Pointer, x: Value) -> Value:
    result = x
    for lane in range(x.type.lanes):
        found = table.cast(u8).load(x.lane(lane).to(u64).to(i64))
        text = f"insertelement {result.type} {result.ref}, {found.type} {found.ref}, i32 {lane}"
        result = fn.emit(result.type, text)
    return result


def _dot4_by_pairs(fn: Function, acc: Value, a: Value, b: Value, vector_bytes: int) -> Value:
    """Two 16-bit multiply-adds: even bytes and odd bytes. No product or pair saturates."""
    words = 2 * acc.type.lanes
    pairs_a, pairs_b = a.bitcast(u16 * words), b.bitcast(i16 * words)
    even_a, odd_a = (pairs_a & 0xFF).to(i16), (pairs_a >> 8).to(i16)
    even_b, odd_b = (pairs_b << 8) >> 8, pairs_b >> 8
    names = {8: "sse2.pmadd.wd", 16: "avx2.pmadd.wd", 32: "avx512.pmaddw.d.512"}
    if words in names and 2 * words <= vector_bytes:
        name = f"llvm.x86.{names[words]}"
        even = fn.call(name, acc.type, even_a, even_b)
        return acc + even + fn.call(name, acc.type, odd_a, odd_b)
    return acc + _pair_sums(even_a, even_b) + _pair_sums(odd_a, odd_b)


def _pair_sums(a: Value, b: Value) -> Value:
    product = a.to(i32) * b.to(i32)
    lanes = range(0, product.type.lanes, 2)
    return product.shuffle(lanes) + product.shuffle([j + 1 for j in lanes])


def _dot4_widening(fn: Function, acc: Value, a: Value, b: Value) -> Value:
    product = a.to(i16).to(i32) * b.to(i16).to(i32)
    for j in range(4):
        acc = acc + product.shuffle(range(j, product.type.lanes, 4))
    return acc


_V2 = frozenset({"sse4_1", "ssse3", "popcnt"})
_V3 = _V2 | {"avx2", "fma", "f16c", "bmi2"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"}

# best first: the host takes the first row whose needs it meets
ISAS = (
    Isa("avx512vnni-vbmi", "x86_64", "znver4", "", 64, 32, True, "vnni",
        _V4 | {"avx512_vnni", "avx512vbmi", "avx512_vbmi2", "avx512_bf16", "avx512ifma", "gfni"},
        byte_permute=True),
    Isa("avx512vnni", "x86_64", "cascadelake", "", 64, 32, True, "vnni", _V4 | {"avx512_vnni"}),
    Isa("avx512", "x86_64", "skylake-avx512", "", 64, 32, True, "", _V4),
    Isa("avxvnni", "x86_64", "alderlake", "", 32, 16, True, "vnni", _V3 | {"avx_vnni", "gfni"}),
    Isa("avx2", "x86_64", "haswell", "", 32, 16, True, "", _V3),
    Isa("sse41", "x86_64", "penryn", "", 16, 16, False, "", frozenset({"sse4_1", "ssse3"})),
    Isa("sse2", "x86_64", "x86-64", "", 16, 16, False, "", frozenset()),
    Isa("neon-dot", "aarch64", "cortex-a76", "", 16, 32, True, "sdot", frozenset({"asimddp"})),
    Isa("neon", "aarch64", "cortex-a72", "", 16, 32, True, "", frozenset()),
)  # fmt: skip


@cache
def host() -> Isa:
    """The best instruction set that this CPU runs, or the one that LITEJIT_ISA names."""
    runnable = host_isas()
    wanted = settings.get("LITEJIT_ISA")
    if not wanted:
        if not runnable:
            raise CodegenError(f"no kernels for this CPU ({_machine()})")
        return runnable[0]
    for isa in runnable:
        if isa.name == wanted:
            return isa
    names = ", ".join(isa.name for isa in runnable)
    raise CodegenError(f"LITEJIT_ISA={wanted}: this CPU runs {names or 'none of them'}")


@cache
def in_order(isa: Isa) -> Isa:
    """The same instruction set, with float sums as a plain loop makes them."""
    found: Isa = replace(isa, name=f"{isa.name}-in-order", in_order=True)
    return found


def _machine() -> str:
    if hasattr(os, "uname"):
        return os.uname().machine
    import platform  # Windows; elsewhere it is half a millisecond for nothing

    return platform.machine()


_AT_HWCAP, _HWCAP_ASIMDDP = 16, 1 << 20  # of <linux/auxvec.h> and AArch64's <asm/hwcap.h>


@cache
def host_isas() -> tuple[Isa, ...]:
    """Every instruction set that this CPU runs, best first."""
    arch = {"x86_64": "x86_64", "AMD64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
    machine = arch.get(_machine(), "")
    flags = _cpu_flags(machine)
    return tuple(isa for isa in ISAS if isa.arch == machine and isa.needs <= flags)


def _cpu_flags(machine: str) -> frozenset[str]:
    """Feature names in Linux's spelling; on other systems what every such CPU has."""
    if machine == "aarch64":
        return _flags_of_aarch64()
    try:
        with open("/proc/cpuinfo", "rb") as file:
            text = file.read(8192).decode("ascii", "replace")
    except OSError:
        return _flags_from_llvm()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _flags_of_aarch64() -> frozenset[str]:
    if sys.platform != "linux":  # every CPU that macOS or Windows runs on has dot products
        return frozenset({"asimddp"})
    try:  # what the kernel tells this process, where /proc/cpuinfo may be of another machine
        with open("/proc/self/auxv", "rb") as file:
            words = memoryview(file.read()).cast("Q")
    except OSError:
        return frozenset()
    found = dict(zip(words[::2], words[1::2], strict=True)).get(_AT_HWCAP, 0)
    return frozenset({"asimddp"}) if found & _HWCAP_ASIMDDP else frozenset()


def _flags_from_llvm() -> frozenset[str]:
    from litejit.codegen import llvm

    spelled = {"sse4.1": "sse4_1", "avxvnni": "avx_vnni", "avx512vnni": "avx512_vnni",
               "avx512vbmi2": "avx512_vbmi2", "avx512bf16": "avx512_bf16"}  # fmt: skip
    return frozenset(spelled.get(name, name) for name in llvm.host_features())
