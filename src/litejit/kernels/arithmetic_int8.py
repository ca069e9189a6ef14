"""Exact sums, products, quotients, comparisons and piecewise lines of quantized tensors.

The constants of a kernel are blocks of kernels/requantize.py, one after the other, for one
vector of equal channels. Zero points and bounds are arguments.
"""

from __future__ import annotations

from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Type, Value, i8, i32, i64
from litejit.kernels import requantize
from litejit.kernels.base import type_of
from litejit.kernels.elementwise import FUNCTIONS
from litejit.kernels.fixedpoint import (
    divided_by_power,
    high_multiply,
    leading_zeros,
    reciprocal,
)
from litejit.kernels.walk import WalkSpec
from litejit.types import DType

_INVERSE_OF_0 = -1515870788  # 1 / 0 by three of Newton's steps in wrapping int32, Q0.31
HALF = "half"  # the term whose multiplier is exactly 1/2: no rounding, one shift less


class _Bytes(WalkSpec):
    """`forms` are those of the blocks of constants; `full`: the bounds are the type's own."""

    inputs: tuple[DType, ...]
    dtype: DType
    forms: tuple[str, ...]
    full: bool

    def operands(self) -> tuple[Type, ...]:
        """Tensors of 8 or 16 bits."""
        return tuple(type_of(dtype) for dtype in self.inputs)

    def result(self) -> Type:
        """The output's type."""
        return type_of(self.dtype)

    def lanes(self, isa: Isa) -> int:
        """The arithmetic is 32 bits wide."""
        return isa.lanes(i32)

    def extras(self) -> dict[str, Type | Ptr]:
        """Constants, zero points of both inputs, bounds."""
        return {"constants": Ptr(i8), "zero0": i64, "zero1": i64, "low": i64, "high": i64}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """Zero points and bounds in every lane, then a list of blocks."""
        constants, *numbers = extras
        lanes, at, blocks = self.lanes(isa), 0, []
        for form in self.forms:
            if form != HALF:
                blocks.append(requantize.load(form, constants + at, lanes))
                at += requantize.nbytes(form, lanes)
            else:
                blocks.append([])
        return [*(number.to(i32).splat(lanes) for number in numbers), blocks]

    def centred(self, values: list[Value], made: list[Any]) -> list[Value]:
        """The inputs less their zero points, i32."""
        return [value.to(i32) - made[k] for k, value in enumerate(values)]

    def scaled(self, isa: Isa, block: int, x: Value, made: list[Any]) -> Value:
        """One rescaling of any int32 within its form's bound."""
        form = self.forms[block]
        offset = requantize.input_offset(form)
        biased = x ^ -(1 << 31) if offset else x
        return requantize.apply(form, isa, biased, made[-1][block])

    def narrowed(self, fn: Function, x: Value, made: list[Any]) -> Value:
        """Clamped and cut to a byte."""
        if self.full and self.dtype.bits == 8:
            return requantize.narrow(x, unsigned=self.dtype.name == "UINT8")
        return fn.minimum(fn.maximum(x, made[2]), made[3]).to(self.result())


class Sum8Spec(_Bytes):
    """act(a + sign * b) with both terms on a common scale; forms: a, b, sum.

    `squared` squares the difference instead (SQUARED_DIFFERENCE).
    """

    left_shift: int
    sign: int
    squared: bool

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Two terms, their sum, one more rescaling."""
        terms = []
        for block, x in enumerate(self.centred(values, made)):
            if self.forms[block] == HALF:
                terms.append(x << (self.left_shift - 1))
            else:
                terms.append(self.scaled(isa, block, x << self.left_shift, made))
        total = terms[0] + terms[1] if self.sign > 0 else terms[0] - terms[1]
        total = total * total if self.squared else total
        return self.narrowed(fn, self.scaled(isa, 2, total, made), made)


class Line8Spec(_Bytes):
    """(a * scale_a + b * scale_b + offset) >> shift, clamped; no blocks of constants."""

    def extras(self) -> dict[str, Type | Ptr]:
        """The numbers of the linear form, and bounds."""
        names = ("scale_a", "scale_b", "low", "high", "offset", "shift")
        return dict.fromkeys(names, i64)

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """Everything in every lane."""
        return [number.to(i32).splat(self.lanes(isa)) for number in extras]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Two products."""
        a, b = (value.to(i32) for value in values)
        total = a * made[0] + (b * made[1] + made[4])
        return self.narrowed(fn, total >> made[5], made)


class Product8Spec(_Bytes):
    """act(a * b); forms: product."""

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """One product, one rescaling."""
        a, b = self.centred(values, made)
        return self.narrowed(fn, self.scaled(isa, 0, a * b, made), made)


class Prelu8Spec(_Bytes):
    """x where x >= 0, else x * alpha; forms: x, product.

    Without an alpha x is rescaled by another number below 0, by its negative where `negates`;
    with one form alone everywhere alike.
    """

    negates: bool = False

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Both sides, then a choice."""
        x, *alpha = self.centred(values, made)
        y = self.scaled(isa, 0, x, made)
        if len(self.forms) > 1:
            below = self.scaled(isa, 1, x * alpha[0] if alpha else x, made)
            y = (x >= 0).choose(y, -below if self.negates else below)
        return self.narrowed(fn, y, made)


class Total8Spec(_Bytes):
    """The sum of codes less one zero point for each and one more, << 19; forms: sum."""

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """int32 wraps."""
        total = -made[0]
        for value in values:
            total = total + (value.to(i32) - made[0])
        return self.narrowed(fn, self.scaled(isa, 0, total << 19, made), made)


class Compare8Spec(_Bytes):
    """A comparison of FUNCTIONS after both codes, with 8 more bits, are scaled; forms: a, b."""

    function: str

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Two rescalings."""
        a, b = (
            self.scaled(isa, block, x << 8, made)
            for block, x in enumerate(self.centred(values, made))
        )
        return FUNCTIONS[self.function](a, b)


class Shifted16Spec(_Bytes):
    """act(a + sign * b) of int16 terms that are moved to the right; no blocks of constants."""

    sign: int

    def extras(self) -> dict[str, Type | Ptr]:
        """Both shifts and the bounds."""
        return dict.fromkeys(("shift0", "shift1", "low", "high"), i64)

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """Everything in every lane."""
        return [number.to(i32).splat(self.lanes(isa)) for number in extras]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Both are rounded half away from zero."""
        a, b = (divided_by_power(x.to(i32), e) for x, e in zip(values, made[:2], strict=True))
        return self.narrowed(fn, a + b if self.sign > 0 else a - b, made)


class HighProductSpec(_Bytes):
    """Bytes of the Q15 products of int16 factors; bounds are without the zero point, zero0."""

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Rounded half up to 15 bits, then half away from zero to 8."""
        a, b = (value.to(i32) for value in values)
        product = fn.minimum((a * b + (1 << 14)) >> 15, 32767)
        code = fn.minimum(fn.maximum(divided_by_power(product, 8), made[2]), made[3])
        moved: Value = code + made[0]
        return moved.to(self.result())


class Quotient8Spec(_Bytes):
    """act(a / b): a 31-bit reciprocal of b, then one multiplier; no blocks of constants.

    After the bounds come the multiplier, its shift, the output's zero point and, where `checked`,
    a status, for codes of b that equal its zero point; else those have a reciprocal, too.
    """

    checked: bool = True

    def lanes(self, isa: Isa) -> int:
        """The arithmetic is 64 bits wide."""
        return isa.lanes(i64)

    def extras(self) -> dict[str, Type | Ptr]:
        """All numbers, and the status where there is one."""
        names = ("zero0", "zero1", "low", "high", "multiplier", "shift", "zero")
        status: dict[str, Type | Ptr] = {"status": Ptr(i64)} if self.checked else {}
        return {**dict.fromkeys(names, i64), **status}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """Everything in every lane."""
        return [number.splat(self.lanes(isa)) for number in extras]

    def refuses(self, values: list[Value], made: list[Any]) -> Value:
        """Divisors that stand for 0."""
        return values[1].to(i64).equals(made[1])

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """The reciprocal of abs(b), the numerator with as many bits as fit, two products."""
        a, b = (value.to(i64) - zero for value, zero in zip(values, made[:2], strict=True))
        a = (b < 0).choose(-a, a)
        inverse, over = reciprocal(fn.maximum(fn.absolute(b), 1), 31)
        if not self.checked:
            nothing = b.equals(fn.const(0, b.type))
            inverse = nothing.choose(fn.const(_INVERSE_OF_0, b.type), inverse)
            over = nothing.choose(fn.const(-1, b.type), over)
        room = leading_zeros(a ^ (a >> 63)) - 33
        quotient = high_multiply(high_multiply(a << room, inverse), made[4])
        count = over + room - made[5]
        near = divided_by_power(quotient, fn.minimum(fn.maximum(count, 0), 31))
        far = (quotient >> (count & 31)) + (quotient >= 0).to(i64)
        y = (count > 31).choose(far, near) + made[6]
        return fn.minimum(fn.maximum(y, made[2]), made[3]).to(self.result())
