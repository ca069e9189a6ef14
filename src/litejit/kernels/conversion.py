"""Numbers of one type as another: casts, codes of real numbers, and back."""

from __future__ import annotations

from typing import Any

from litejit.codegen import math
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Operand, Ptr, Type, Value, f32, f64, i32, i64, u8
from litejit.kernels.base import type_of
from litejit.kernels.elementwise import joined, parts
from litejit.kernels.walk import WalkSpec, closed, computed, opened
from litejit.types import I16, DType

_BELOW_HALF = 0.49999997  # trunc(r + this, with r's sign) rounds halves away from zero, no others
_TOP32 = 2.0**31
_FAR = 2.0**18  # beyond all codes less a zero point


def _at_most(x: Value, bound: Operand) -> Value:
    """The bound where x is above it, or NaN: one instruction."""
    high = x.fn.const(bound, x.type)
    return (x < high).choose(x, high)


def _at_least(x: Value, bound: Operand) -> Value:
    """The bound where x is below it, or NaN: one instruction."""
    low = x.fn.const(bound, x.type)
    return (x > low).choose(x, low)


class CastSpec(WalkSpec):
    """y = x as another type: floats are cut and saturate; integers wrap.

    NaN becomes the largest integer, or 0 where `nan_is_zero`. Complex numbers lose their
    imaginary part.
    """

    source: DType
    target: DType
    nan_is_zero: bool = False

    def operands(self) -> tuple[Type, ...]:
        """x."""
        return (type_of(self.source),)

    def result(self) -> Type:
        """y."""
        return type_of(self.target)

    def lanes(self, isa: Isa) -> int:
        """As many as the widest type that is computed with has in one register."""
        return min(isa.lanes(computed(dtype)) for dtype in (self.source, self.target))

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """By the kinds of both types."""
        (loaded,) = values
        x = parts(loaded)[0] if self.source.name == "COMPLEX64" else opened(self.source, loaded)
        if self.target.name == "BOOL":
            return x.differs(0.0 if x.type.is_float else 0).to(u8)
        if self.target.name == "COMPLEX64":
            return joined(x.to(f32))
        if self.target.is_float:  # a float64 is rounded to 16 bits at once
            short = computed(self.target) != self.result() and x.type.scalar == f64
            return closed(self.target, x if short else x.to(computed(self.target)))
        return self._whole(fn, x) if x.type.is_float else x.to(self.result())

    def _whole(self, fn: Function, x: Value) -> Value:
        """Saturated."""
        target, bits = self.result(), self.target.bits
        low, largest = 0, (1 << bits) - 1
        if target.kind == "i":
            low, largest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        if self.nan_is_zero:
            x = x.differs(x).choose(fn.const(0.0, x.type), x)
        if bits < 32:  # NaN is not below the largest
            x = _at_least(_at_most(x, largest), low)
            return x.to(i32).to(target)
        whole = x.saturate_to(target)
        return x.differs(x).choose(fn.const(largest, whole.type), whole)


def _codes(x: Value, zero: Value, target: DType) -> Value:
    """Cut to whole numbers, moved by the zero point, clamped to what the type can hold."""
    kind, bits = type_of(target), target.bits
    low = 0 if kind.kind == "u" else -(1 << (bits - 1))
    codes = x.fn.minimum(x.fn.maximum(x.to(i32) + zero, low), low + (1 << bits) - 1)
    return codes.to(kind)


class QuantizeSpec(WalkSpec):
    """y = clamp(round(x / scale) + zero_point) of float32.

    `rounding` is "away" (halves away from zero) or "even" (halves to even, of x * (1 / scale)).
    NaN becomes the largest code where `nan_is_high`, else the smallest; where `wraps`, and to
    int16, so does what int32 cannot hold. Arguments: scale, 1 / scale, zero point. Scale and
    inverse are `ordinary` if far from the ends of float32.
    """

    target: DType
    rounding: str
    nan_is_high: bool
    ordinary: bool
    wraps: bool = False

    @property
    def reach(self) -> float:
        """How far from 0 a quotient is not cut; int32 ends below 2**40."""
        return 2.0**40 if self.wraps or self.target == I16 else _FAR

    def operands(self) -> tuple[Type, ...]:
        """x."""
        return (f32,)

    def result(self) -> Type:
        """y."""
        return type_of(self.target)

    def extras(self) -> dict[str, Type | Ptr]:
        """Scale, its inverse, zero point."""
        return {"scale": f32, "inverse": f32, "zero": i64}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """In every lane; and how far x may be from 0."""
        scale, inverse, zero = (value.splat(self.lanes(isa)) for value in extras)
        return [scale, inverse, zero.to(i32), scale * self.reach]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """What is far outside is cut before integers are made."""
        real, zero = self._quotient(fn, isa, values[0], made), made[2]
        if self.reach > _FAR:
            end = fn.const(_FAR if self.nan_is_high else -_FAR, real.type)
            held = (real < _TOP32) & (real > -_TOP32)
            real = self._near(held.choose(real, end), fn.const(_FAR, real.type))
        if self.rounding == "even":
            whole = math.nearest(real)
        else:
            whole = real + fn.copysign(fn.const(_BELOW_HALF, real.type), real)
        return _codes(whole, zero, self.target)

    def _near(self, x: Value, bound: Value) -> Value:
        """Within +-bound; NaN at one end."""
        if self.nan_is_high:
            return _at_least(_at_most(x, bound), -bound)
        return _at_most(_at_least(x, -bound), bound)

    def _quotient(self, fn: Function, isa: Isa, x: Value, made: list[Any]) -> Value:
        """x / scale, rounded; what is farther from 0 than made[3] / scale is cut."""
        scale: Value = made[0]
        inverse, far = made[1], made[3]
        if not self.ordinary:
            quotient: Value = x * inverse if self.rounding == "even" else x / scale
            return self._near(quotient, fn.const(self.reach, x.type))
        x = self._near(x, far)
        near: Value = x * inverse
        if self.rounding == "even":
            return near
        if not isa.has_fma:
            return x / scale
        # As a division rounds it, but for what is next to 0, in a fifth of the time: the rounded
        # inverse's product, corrected by what it leaves (Markstein).
        return fn.fma(fn.fma(-near, scale, x), inverse, near)


class DequantizeSpec(WalkSpec):
    """y = scale * (x - zero_point), one rounding.

    Arguments: scale, zero point; where `per_channel` they are operands, float32 and int32.
    """

    source: DType
    per_channel: bool = False

    def operands(self) -> tuple[Type, ...]:
        """x, and what is known of its channels."""
        return (type_of(self.source), *((f32, i32) if self.per_channel else ()))

    def result(self) -> Type:
        """float32."""
        return f32

    def extras(self) -> dict[str, Type | Ptr]:
        """Scale and zero point."""
        return {} if self.per_channel else {"scale": f32, "zero": i64}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """In every lane."""
        lanes = self.lanes(isa)
        kinds = (f32, i32)
        return [x.to(kind).splat(lanes) for x, kind in zip(extras, kinds, strict=False)]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """A difference, a conversion, a product."""
        scale, zero = values[1:] or made
        real: Value = (values[0].to(i32) - zero).to(f32) * scale
        return real


class QuantizeChannelsSpec(WalkSpec):
    """QuantizeSpec with a scale (float32) and a zero point (int32) for each channel.

    They are operands; halves are rounded away from zero, and a negative zero point says that NaN
    becomes the largest code.
    """

    target: DType

    def operands(self) -> tuple[Type, ...]:
        """x, scales, zero points."""
        return (f32, f32, i32)

    def result(self) -> Type:
        """y."""
        return type_of(self.target)

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """A division, then integers."""
        x, scale, zero = values
        real = x / scale
        far = fn.const(_FAR, real.type)
        held = real < _TOP32 if self.target == I16 else real.equals(real)
        real = held.choose(real, (zero < 0).choose(far, -far))
        real = _at_most(_at_least(real, -far), far)
        moved = real + fn.copysign(fn.const(_BELOW_HALF, real.type), real)
        return _codes(moved, zero, self.target)
