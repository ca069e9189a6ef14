"""A small typed language for SIMD kernels; it prints LLVM IR as text.

Nothing here imports llvmlite: the result of `Function.ir()` is a string. A kernel is

    void name(ptr args, i64 begin, i64 end, i64 worker)

where `args` is a block of 8-byte slots (one an argument, in the order declared), [begin, end)
are the work items to do and `worker` is the number of the thread, which picks a scratch area.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from litejit.record import Record

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa


class Type(Record):
    """A scalar (lanes == 1) or SIMD vector type. `kind` is 'i', 'u' or 'f'."""

    kind: str
    bits: int
    lanes: int = 1

    def __str__(self) -> str:
        return _type_name(self.kind, self.bits, self.lanes)

    def __mul__(self, lanes: int) -> Type:
        """`f32 * 16` is a vector of 16 floats."""
        return Type(self.kind, self.bits, lanes)

    @property
    def scalar(self) -> Type:
        """The type of one lane."""
        return Type(self.kind, self.bits)

    @property
    def is_float(self) -> bool:
        """True for half, float and double lanes."""
        return self.kind == "f"

    @property
    def suffix(self) -> str:
        """How LLVM spells this type in the name of an overloaded intrinsic."""
        base = f"{'f' if self.is_float else 'i'}{self.bits}"
        return base if self.lanes == 1 else f"v{self.lanes}{base}"


@cache
def _type_name(kind: str, bits: int, lanes: int) -> str:
    floats = {16: "half", 32: "float", 64: "double"}
    name = floats[bits] if kind == "f" else f"i{bits}"
    return name if lanes == 1 else f"<{lanes} x {name}>"


i1, i8, i16, i32, i64 = (Type("i", b) for b in (1, 8, 16, 32, 64))
u8, u16, u32, u64 = (Type("u", b) for b in (8, 16, 32, 64))
f16, f32, f64 = (Type("f", b) for b in (16, 32, 64))


class Ptr(Record):
    """Address of elements of `element`, as an argument of a kernel."""

    element: Type


class KernelTypeError(TypeError):
    """Two values of different types met in one operation: convert one with `.to()`."""


class Value:
    """One SSA value. Python operators emit the instruction its type calls for."""

    __slots__ = ("fn", "ref", "type")

    def __init__(self, fn: Function, type: Type, ref: str) -> None:
        self.fn, self.type, self.ref = fn, type, ref

    def _op(
        self, other: Operand, integer: str, floating: str | None = None, unsigned: str = ""
    ) -> Value:
        other = self.fn.const(other, self.type)
        if other.type != self.type:
            raise KernelTypeError(f"{self.type!r} {integer} {other.type!r}")
        name = floating if self.type.is_float else integer
        if self.type.kind == "u" and unsigned:
            name = unsigned
        if name is None:
            raise KernelTypeError(f"{integer} needs integers, got {self.type}")
        return self.fn.emit(self.type, f"{name} {self.type} {self.ref}, {other.ref}")

    def __add__(self, other: Operand) -> Value:
        return self if _is_zero(other) else self._op(other, "add", "fadd")

    def __sub__(self, other: Operand) -> Value:
        return self if _is_zero(other) else self._op(other, "sub", "fsub")

    def __mul__(self, other: Operand) -> Value:
        return self if _is_one(other) else self._op(other, "mul", "fmul")

    def __rsub__(self, other: Operand) -> Value:
        return self.fn.const(other, self.type) - self

    def __and__(self, other: Operand) -> Value:
        return self._op(other, "and")

    def __or__(self, other: Operand) -> Value:
        return self._op(other, "or")

    def __xor__(self, other: Operand) -> Value:
        return self._op(other, "xor")

    def __lshift__(self, other: Operand) -> Value:
        return self._op(other, "shl")

    def __rshift__(self, other: Operand) -> Value:
        return self._op(other, "ashr", unsigned="lshr")

    def __truediv__(self, other: Operand) -> Value:
        """Divide; integers truncate toward zero, and the divisor must not be 0."""
        return self._op(other, "sdiv", "fdiv", "udiv")

    def __mod__(self, other: Operand) -> Value:
        """Remainder with the sign of the dividend; the divisor must not be 0."""
        return self._op(other, "srem", "frem", "urem")

    def __neg__(self) -> Value:
        if self.type.is_float:
            return self.fn.emit(self.type, f"fneg {self.type} {self.ref}")
        return self.fn.const(0, self.type) - self

    __radd__, __rmul__ = __add__, __mul__

    def _compare(self, other: Operand, relation: str) -> Value:
        other = self.fn.const(other, self.type)
        if other.type != self.type:
            raise KernelTypeError(f"{self.type!r} {relation} {other.type!r}")
        if self.type.is_float:
            # `!=` is true of NaN, as in C
            word = f"fcmp {'u' if relation == 'ne' else 'o'}{relation}"
        elif relation in ("eq", "ne"):
            word = f"icmp {relation}"
        else:
            word = f"icmp {'u' if self.type.kind == 'u' else 's'}{relation}"
        return self.fn.emit(i1 * self.type.lanes, f"{word} {self.type} {self.ref}, {other.ref}")

    def __lt__(self, other: Operand) -> Value:
        return self._compare(other, "lt")

    def __le__(self, other: Operand) -> Value:
        return self._compare(other, "le")

    def __gt__(self, other: Operand) -> Value:
        return self._compare(other, "gt")

    def __ge__(self, other: Operand) -> Value:
        return self._compare(other, "ge")

    def equals(self, other: Operand) -> Value:
        """Lane-wise ==; false for NaN."""
        return self._compare(other, "eq")

    def differs(self, other: Operand) -> Value:
        """Lane-wise !=; true for NaN."""
        return self._compare(other, "ne")

    def to(self, type: Type) -> Value:
        """Convert numerically (widen, narrow, int <-> float), lanes unchanged.

        Float to integer is poison outside the integer's range: use `saturate_to` on data.
        """
        source, target = self.type, type * self.type.lanes
        if source == target:
            return self
        if source.is_float and target.is_float:
            op = "fpext" if target.bits > source.bits else "fptrunc"
        elif source.is_float:
            op = "fptoui" if target.kind == "u" else "fptosi"
        elif target.is_float:
            op = "uitofp" if source.kind == "u" else "sitofp"
        elif target.bits == source.bits:
            return Value(self.fn, target, self.ref)
        else:
            extend = "zext" if source.kind == "u" or source.bits == 1 else "sext"
            op = "trunc" if target.bits < source.bits else extend
        return self.fn.emit(target, f"{op} {source} {self.ref} to {target}")

    def saturate_to(self, type: Type) -> Value:
        """Float to integer, clamped to the integer's range; NaN becomes 0."""
        target = type * self.type.lanes
        word = "fptoui" if target.kind == "u" else "fptosi"
        name = f"llvm.{word}.sat.{target.suffix}.{self.type.suffix}"
        return self.fn.call(name, target, self)

    def bitcast(self, type: Type) -> Value:
        """Read the same bits as another type of the same size."""
        if str(type) == str(self.type):
            return Value(self.fn, type, self.ref)
        return self.fn.emit(type, f"bitcast {self.type} {self.ref} to {type}")

    def splat(self, lanes: int) -> Value:
        """Repeat a scalar into every lane."""
        if lanes == 1:
            return self
        vector = self.type * lanes
        text = f"insertelement {vector} poison, {self.type} {self.ref}, i32 0"
        first = self.fn.emit(vector, text)
        mask = f"<{lanes} x i32> zeroinitializer"
        return self.fn.emit(
            vector, f"shufflevector {vector} {first.ref}, {vector} poison, {mask}"
        )

    def lane(self, index: int) -> Value:
        """One lane as a scalar."""
        return self.fn.emit(
            self.type.scalar, f"extractelement {self.type} {self.ref}, i32 {index}"
        )

    def shuffle(self, lanes: Sequence[int], other: Value | None = None) -> Value:
        """Any lanes of self (0 .. n-1) and `other` (n .. 2n-1), in any order."""
        result = self.type.scalar * len(lanes)
        second = f"{self.type} {other.ref if other is not None else 'poison'}"
        mask = ", ".join(f"i32 {j}" for j in lanes)
        text = f"shufflevector {self.type} {self.ref}, {second}, <{len(lanes)} x i32> <{mask}>"
        return self.fn.emit(result, text)

    def choose(self, yes: Value, no: Operand) -> Value:
        """`self` is a condition (i1, one a lane or one for all): yes where it holds, else no."""
        other = self.fn.const(no, yes.type)
        text = f"select {self.type} {self.ref}, {yes.type} {yes.ref}, {other.type} {other.ref}"
        return self.fn.emit(yes.type, text)

    def choose_pointer(self, yes: Pointer, no: Pointer) -> Pointer:
        """Select one of two addresses."""
        ref = self.fn.emit(yes.element, f"select i1 {self.ref}, ptr {yes.ref}, ptr {no.ref}").ref
        return Pointer(self.fn, yes.element, ref)


Operand: TypeAlias = "Value | int | float"


def _float(x: float, bits: int) -> str:
    """LLVM writes floats as the 64 bits of the double equal to them."""
    if bits == 16:
        return f"0xH{struct.unpack('H', struct.pack('e', x))[0]:04X}"
    exact = struct.unpack("f", struct.pack("f", x))[0] if bits == 32 else float(x)
    return f"0x{struct.unpack('Q', struct.pack('d', exact))[0]:016X}"


def _is_zero(x: object) -> bool:
    return isinstance(x, int) and x == 0


def _is_one(x: object) -> bool:
    return isinstance(x, int) and x == 1


class Pointer:
    """`p + i` moves by elements, `p[i]` loads or stores one element."""

    __slots__ = ("element", "fn", "ref")

    def __init__(self, fn: Function, element: Type, ref: str) -> None:
        self.fn, self.element, self.ref = fn, element, ref

    def __add__(self, index: Value | int) -> Pointer:
        if _is_zero(index):
            return self
        at = self.fn.const(index, i64)
        text = f"getelementptr {self.element}, ptr {self.ref}, i64 {at.ref}"
        return Pointer(self.fn, self.element, self.fn.emit(self.element, text).ref)

    def load(
        self,
        index: Value | int = 0,
        *,
        lanes: int = 1,
        align: int | None = None,
        mask: Value | None = None,
    ) -> Value:
        """Read `lanes` elements; lanes whose `mask` is off read as zero and touch no memory."""
        type, at = self.element * lanes, self + index
        align = align or max(self.element.bits // 8, 1)
        if mask is None:
            return self.fn.emit(type, f"load {type}, ptr {at.ref}, align {align}")
        name = f"llvm.masked.load.{type.suffix}.p0"
        self.fn.declare(name, str(type), f"ptr align {align}", str(mask.type), str(type))
        where = f"ptr align {align} {at.ref}, {mask.type} {mask.ref}"
        return self.fn.emit(type, f"call {type} @{name}({where}, {type} zeroinitializer)")

    def store(
        self,
        index: Value | int,
        value: Value,
        *,
        align: int | None = None,
        mask: Value | None = None,
    ) -> None:
        """Write a scalar or a vector; lanes whose `mask` is off are left as they are."""
        type, at = value.type, self + index
        align = align or max(self.element.bits // 8, 1)
        if mask is None:
            self.fn.line(f"store {type} {value.ref}, ptr {at.ref}, align {align}")
            return
        name = f"llvm.masked.store.{type.suffix}.p0"
        self.fn.declare(name, "void", str(type), f"ptr align {align}", str(mask.type))
        where = f"ptr align {align} {at.ref}, {mask.type} {mask.ref}"
        self.fn.line(f"call void @{name}({type} {value.ref}, {where})")

    def __getitem__(self, index: Value | int) -> Value:
        return self.load(index)

    def __setitem__(self, index: Value | int, value: Operand) -> None:
        self.store(index, self.fn.const(value, self.element))

    def cast(self, element: Type) -> Pointer:
        """The same address, of elements of another type."""
        return Pointer(self.fn, element, self.ref)


Carry: TypeAlias = "list[Any]"  # Values, or lists of Values to any depth; rebound by `loop`


class Function:
    """One kernel under construction. `fn.loop` and `fn.when` nest as Python blocks.

    Keyword arguments declare the kernel's arguments in the order of their slots; `fn.args`
    holds their values, `fn.begin`, `fn.end` and `fn.worker` the rest of the signature.
    """

    def __init__(self, name: str, isa: Isa, **args: Type | Ptr) -> None:
        self.name, self.isa = name, isa
        self._lines: list[str] = []
        self._declares: dict[str, str] = {}
        self._count = 0
        self._block = "entry"
        self.begin, self.end, self.worker = (
            Value(self, i64, f"%{word}") for word in ("begin", "end", "worker")
        )
        block = Pointer(self, i64, "%args")
        self.args: list[Any] = [self._argument(block + j, t) for j, t in enumerate(args.values())]

    def _argument(self, slot: Pointer, type: Type | Ptr) -> Value | Pointer:
        if isinstance(type, Type):
            return slot.cast(type).load(align=8)
        ref = "%" + self._fresh()
        self.line(f"{ref} = load ptr, ptr {slot.ref}, align 8")
        return Pointer(self, type.element, ref)

    # -- instructions --

    def _fresh(self, stem: str = "v") -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def line(self, text: str) -> None:
        """Append one instruction that has no result."""
        self._lines.append("  " + text)

    def emit(self, type: Type, text: str) -> Value:
        """Append one instruction and name its result."""
        ref = "%" + self._fresh()
        self._lines.append(f"  {ref} = {text}")
        return Value(self, type, ref)

    def const(self, x: Operand, type: Type) -> Value:
        """A Python number as a value of `type`, in every lane; values pass through."""
        if isinstance(x, Value):
            return x
        one = _float(x, type.bits) if type.is_float else str(int(x))
        if type.bits == 1:
            one = "true" if x else "false"
        if type.lanes == 1:
            return Value(self, type, one)
        return Value(self, type, f"<{', '.join([f'{type.scalar} {one}'] * type.lanes)}>")

    def vector(self, type: Type, lanes: Sequence[int | float]) -> Value:
        """A constant with a number of its own in each lane; `type` is that of one lane."""
        items = ", ".join(f"{type} {self.const(x, type).ref}" for x in lanes)
        return Value(self, type * len(lanes), f"<{items}>")

    def declare(self, intrinsic: str, result: str, *args: str) -> str:
        """Declare an outside function once."""
        self._declares[intrinsic] = f"declare {result} @{intrinsic}({', '.join(args)})"
        return intrinsic

    def call(self, intrinsic: str, result: Type, *args: Value) -> Value:
        """Call an LLVM intrinsic by its full name, declaring it once."""
        self.declare(intrinsic, str(result), *(str(a.type) for a in args))
        inside = ", ".join(f"{a.type} {a.ref}" for a in args)
        return self.emit(result, f"call {result} @{intrinsic}({inside})")

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once (twice where the ISA has no fused multiply-add)."""
        word = "fma" if self.isa.has_fma else "fmuladd"
        return self.call(f"llvm.{word}.{a.type.suffix}", a.type, a, b, c)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c in a sum: as `fma`, with a rounded product where the ISA sums in order."""
        return a * b + c if self.isa.in_order else self.fma(a, b, c)

    def _extreme(self, a: Value, b: Operand, word: str) -> Value:
        other = self.const(b, a.type)
        sign = "u" if a.type.kind == "u" else "s"
        name = f"{word}num" if a.type.is_float else f"{sign}{word}"
        return self.call(f"llvm.{name}.{a.type.suffix}", a.type, a, other)

    def maximum(self, a: Value, b: Operand) -> Value:
        """Lane-wise maximum; a NaN on one float side gives the other side."""
        return self._extreme(a, b, "max")

    def minimum(self, a: Value, b: Operand) -> Value:
        """Lane-wise minimum; a NaN on one float side gives the other side."""
        return self._extreme(a, b, "min")

    def round(self, a: Value) -> Value:
        """To the nearest integer, ties to even, still as a float."""
        return self.call(f"llvm.roundeven.{a.type.suffix}", a.type, a)

    def floor(self, a: Value) -> Value:
        """To the integer below, still as a float."""
        return self.call(f"llvm.floor.{a.type.suffix}", a.type, a)

    def absolute(self, a: Value) -> Value:
        """Lane-wise absolute value; the smallest integer stays as it is."""
        if a.type.is_float:
            return self.call(f"llvm.fabs.{a.type.suffix}", a.type, a)
        return self.call(f"llvm.abs.{a.type.suffix}", a.type, a, self.const(0, i1))

    def sqrt(self, a: Value) -> Value:
        """Correctly rounded square root."""
        return self.call(f"llvm.sqrt.{a.type.suffix}", a.type, a)

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        """The first value with the sign bit of the second."""
        name = f"llvm.copysign.{magnitude.type.suffix}"
        return self.call(name, magnitude.type, magnitude, sign)

    def first(self, count: Value, lanes: int) -> Value:
        """A mask whose first `count` lanes are on: the tail of a vector loop."""
        ramp, most = self.vector(i32, range(lanes)), self.minimum(count, lanes).to(i32)
        if self.isa.vector_bytes >= 64:
            # Where LLVM knows that one lane is on, it makes a store of narrowed lanes one of the
            # whole lane that was narrowed (X86's combineMaskedStore): the count is hidden from it.
            most = self.emit(i32, f'call i32 asm "", "=r,0"(i32 {most.ref})')
        return ramp < most.splat(lanes)

    def reduce(self, word: str, a: Value) -> Value:
        """All lanes in one: 'add', 'max', 'min'; of floats in any order, and without NaN."""
        if word == "add" and a.type.is_float:
            name = f"llvm.vector.reduce.fadd.{a.type.suffix}"
            start = self.const(-0.0, a.type.scalar)
            self.declare(name, str(a.type.scalar), str(a.type.scalar), str(a.type))
            inside = f"{start.type} {start.ref}, {a.type} {a.ref}"
            return self.emit(a.type.scalar, f"call reassoc {a.type.scalar} @{name}({inside})")
        letter = {"f": "f", "i": "s", "u": "u"}[a.type.kind] if word != "add" else ""
        name = f"llvm.vector.reduce.{letter}{word}.{a.type.suffix}"
        if not a.type.is_float:
            return self.call(name, a.type.scalar, a)
        self.declare(name, str(a.type.scalar), str(a.type))
        text = f"call nnan nsz {a.type.scalar} @{name}({a.type} {a.ref})"
        return self.emit(a.type.scalar, text)

    # -- control flow --

    def _enter(self, block: str) -> None:
        self._lines.append(f"{block}:")
        self._block = block

    @contextmanager
    def loop(
        self,
        stop: Value | int,
        *,
        start: Value | int = 0,
        step: Value | int = 1,
        carry: Carry | None = None,
        nonempty: bool = False,
    ) -> Iterator[Value]:
        """Run the block for i = start, start + step, ... < stop, yielding i (i64).

        `carry` lists the values each turn hands to the next: reassign its items inside the
        block; after the block they hold the final values. `nonempty` promises at least one
        turn and drops the entry test.
        """
        cells = list(_cells(carry if carry is not None else []))
        stop, start = self.const(stop, i64), self.const(start, i64)
        head, body, done = self._fresh("head"), self._fresh("body"), self._fresh("done")
        before = self._block
        self.line(f"br label %{head}")
        self._enter(head)
        i = Value(self, i64, "%" + self._fresh("i"))
        first = [i, *(Value(self, row[j].type, "%" + self._fresh("phi")) for row, j in cells)]
        initial = [start, *(row[j] for row, j in cells)]
        slot = len(self._lines)
        self._lines += [""] * len(first)  # phis: filled in once the last block is known
        self._rebind(cells, first[1:])
        if not nonempty:
            self.line(f"br i1 {(i < stop).ref}, label %{body}, label %{done}")
            self._enter(body)
        yield i
        following = [i + step, *(row[j] for row, j in cells)]
        last = self._block
        if nonempty:
            self.line(f"br i1 {(following[0] < stop).ref}, label %{head}, label %{done}")
        else:
            self.line(f"br label %{head}")
            self._rebind(cells, first[1:])
        self._write_phis(slot, first, (before, initial), (last, following))
        self._enter(done)

    @contextmanager
    def loop_while(self, condition: Callable[[], Value], carry: Carry) -> Iterator[None]:
        """Run the block again and again as long as `condition()` (i1) holds; `carry` as in `loop`.

        The condition is asked before every turn and must not branch.
        """
        cells = list(_cells(carry))
        head, body, done = self._fresh("head"), self._fresh("body"), self._fresh("done")
        before, initial = self._block, [row[j] for row, j in cells]
        self.line(f"br label %{head}")
        self._enter(head)
        phis = [Value(self, a.type, "%" + self._fresh("phi")) for a in initial]
        slot = len(self._lines)
        self._lines += [""] * len(phis)  # filled in once the last block is known
        self._rebind(cells, phis)
        self.line(f"br i1 {condition().ref}, label %{body}, label %{done}")
        self._enter(body)
        yield
        following, last = [row[j] for row, j in cells], self._block
        self.line(f"br label %{head}")
        self._write_phis(slot, phis, (before, initial), (last, following))
        self._rebind(cells, phis)
        self._enter(done)

    def _write_phis(
        self,
        slot: int,
        phis: list[Value],
        entry: tuple[str, Sequence[Value]],
        turn: tuple[str, Sequence[Value]],
    ) -> None:
        """Fill the lines from `slot` on; `entry` and `turn`: a block, and what comes from there."""
        for k, (phi, a, b) in enumerate(zip(phis, entry[1], turn[1], strict=True)):
            ways = f"[{a.ref}, %{entry[0]}], [{b.ref}, %{turn[0]}]"
            self._lines[slot + k] = f"  {phi.ref} = phi {phi.type} {ways}"

    @staticmethod
    def _rebind(cells: list[tuple[list[Any], int]], values: list[Value]) -> None:
        for (row, j), value in zip(cells, values, strict=True):
            row[j] = value

    @contextmanager
    def when(self, condition: Value, carry: Carry | None = None) -> Iterator[None]:
        """Run the block only if `condition` (i1) holds; `carry` as in `loop`."""
        cells = list(_cells(carry if carry is not None else []))
        before, values = self._block, [row[j] for row, j in cells]
        then, done = self._fresh("then"), self._fresh("done")
        self.line(f"br i1 {condition.ref}, label %{then}, label %{done}")
        self._enter(then)
        yield
        last, changed = self._block, [row[j] for row, j in cells]
        self.line(f"br label %{done}")
        self._enter(done)
        merged = [
            self.emit(a.type, f"phi {a.type} [{a.ref}, %{before}], [{b.ref}, %{last}]")
            for a, b in zip(values, changed, strict=True)
        ]
        self._rebind(cells, merged)

    def ir(self) -> str:
        """The finished kernel as LLVM IR text."""
        body = "\n".join(self._lines)
        head = f"define void @{self.name}(ptr %args, i64 %begin, i64 %end, i64 %worker)"
        declares = "\n".join(self._declares.values())
        return f"{head} {self.isa.attributes} {{\nentry:\n{body}\n  ret void\n}}\n{declares}\n"


def _cells(carry: Sequence[Any]) -> Iterator[tuple[list[Any], int]]:
    for j, item in enumerate(carry):
        if isinstance(item, list):
            yield from _cells(item)
        else:
            yield carry, j  # type: ignore[misc]
