"""Exact sums, products, squares of differences and PRELU of 8-bit tensors.

The constants of a kernel are blocks of kernels/requantize.py, one after the other, for one
vector of equal channels. Zero points and bounds are arguments.
"""

from __future__ import annotations

from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Type, Value, i8, i32, i64
from litejit.kernels import requantize
from litejit.kernels.walk import WalkSpec, type_of
from litejit.types import DType

HALF = "half"  # the term whose multiplier is exactly 1/2: no rounding, one shift less


class _Bytes(WalkSpec):
    """`forms` are those of the blocks of constants; `full`: the bounds are the type's own."""

    dtype: DType
    forms: tuple[str, ...]
    full: bool

    def operands(self) -> tuple[Type, ...]:
        """Two 8-bit tensors."""
        return (type_of(self.dtype), type_of(self.dtype))

    def result(self) -> Type:
        """The same type."""
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
        """Both inputs less their zero points, i32."""
        return [value.to(i32) - zero for value, zero in zip(values, made[:2], strict=True)]

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
    """x where x >= 0, else x * alpha; forms: x, product."""

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """Both sides, then a choice."""
        x, alpha = self.centred(values, made)
        positive = self.scaled(isa, 0, x, made)
        negative = self.scaled(isa, 1, x * alpha, made)
        return self.narrowed(fn, (x >= 0).choose(positive, negative), made)
