"""Rows of quantized numbers divided by what they add up to, in LiteRT's fixed point."""

from __future__ import annotations

from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, i8, i16, i32, i64, u8
from litejit.kernels.base import KernelSpec
from litejit.kernels.fixedpoint import (
    divided_by_power,
    inverse_sqrt,
    leading_zeros,
    log_of_sum,
    multiplied,
)


def _byte(unsigned: bool) -> Type:
    return u8 if unsigned else i8


def _largest(fn: Function, source: Pointer, n: Value) -> Value:
    """The largest of n >= 1 integers, i64."""
    kind = source.element
    lanes = fn.isa.lanes(kind)
    least = fn.const(0 if kind.kind == "u" else -(1 << (kind.bits - 1)), kind * lanes)
    best = [least]
    with fn.loop(n, step=lanes, carry=best) as at:
        value = fn.first(n - at, lanes).choose(source.load(at, lanes=lanes), least)
        best[0] = fn.maximum(best[0], value)
    return fn.reduce("max", best[0]).to(i64)


class LogSoftmax8(KernelSpec):
    """Fixed-point logarithms of the softmax of rows of n bytes, in sixteenths, at most 0.

    Arguments: x, y, n, exps, differences (int32 tables of the differences 0 ... 255 from the
    largest code: exp in Q12.19, the difference in Q5.26), least, then multiplier, left and right
    shift of what turns a logarithm into codes, which only `bounded` rows have. An item is a row.
    """

    unsigned: bool
    bounded: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Largest code, sum, logarithm; then code by code."""
        byte = _byte(self.unsigned)
        numbers = dict.fromkeys(("n", "least", "multiplier", "left", "right"), i64)
        fn = Function(
            name, isa, x=Ptr(byte), y=Ptr(byte), exps=Ptr(i32), differences=Ptr(i32), **numbers
        )
        x, y, exps, differences, n, least, multiplier, left, right = fn.args
        with fn.loop(fn.end, start=fn.begin) as row:
            source, target = x + row * n, y + row * n
            top = _largest(fn, source, n)
            total = [fn.const(0, i64)]
            with fn.loop(n, carry=total) as at:
                total[0] = total[0] + exps[top - source[at].to(i64)].to(i64)
            log_sum = log_of_sum(fn.minimum(total[0], (1 << 31) - 1))
            bound = least
            if self.bounded:
                found = multiplied(log_sum - (1 << 31), multiplier, left, right)
                bound = fn.maximum(bound, found)
            with fn.loop(n) as at:
                below = source[at].to(i64) - top
                value = differences[fn.const(0, i64) - below].to(i64) - log_sum
                value = fn.minimum(fn.maximum(divided_by_power(value, 22), -255), 0)
                value = (below > bound).choose(value, -255)
                target[at] = (value + (255 if self.unsigned else 127)).to(byte)
        return fn.ir()


class Softmax16(KernelSpec):
    """Softmax of rows of n int16 by two tables of 513 entries, linear between them.

    Arguments: x, y, n, exp table, table of 1 / (1 + x), scratch, stride, then multiplier, left
    and right shift of the differences from a row's largest code. Thread `worker` owns the scratch
    from worker * stride bytes on, n int32. An item is a row.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """Exponentials to the scratch, then their shares of the sum."""
        numbers = dict.fromkeys(("n", "stride", "multiplier", "left", "right"), i64)
        fn = Function(
            name, isa, x=Ptr(i16), y=Ptr(i16), table=Ptr(i16), inverse=Ptr(i16), scratch=Ptr(i8),
            **numbers,
        )  # fmt: skip
        x, y, table, inverse, scratch, n, stride, *change = fn.args
        values = (scratch + fn.worker * stride).cast(i32)
        with fn.loop(fn.end, start=fn.begin) as row:
            source, target = x + row * n, y + row * n
            top = _largest(fn, source, n)
            total = [fn.const(0, i64)]
            with fn.loop(n, carry=total) as at:
                below = multiplied(source[at].to(i64) - top, *change) + 32767
                value = _interpolated(table, below)
                values[at] = value.to(i32)
                total[0] = total[0] + value
            room = leading_zeros(total[0]) - 32
            moved = ((total[0] << fn.maximum(room - 1, 0)) + (1 << 13)) >> 14
            self._share(fn, values, target, n, _interpolated(inverse, moved - 98304), room)
        return fn.ir()

    @staticmethod
    def _share(
        fn: Function, values: Pointer, target: Pointer, n: Value, factor: Value, room: Value
    ) -> None:
        """target[j] = values[j] * factor, rounded half up."""
        lanes = fn.isa.lanes(i64)
        count = fn.const(31, i64) - room
        half, shift, m = (
            v.splat(lanes) for v in (fn.const(1, i64) << (count - 1), count, factor)
        )
        with fn.loop(n, step=lanes) as at:
            value = (values.load(at, lanes=lanes).to(i64) * m + half) >> shift
            code = fn.minimum(fn.maximum(value, 0), 32767).to(i16)
            target.store(at, code, mask=fn.first(n - at, lanes))


def _interpolated(table: Pointer, code: Value) -> Value:
    """An int16 code, after clamping, through 513 entries."""
    fn = code.fn
    code = fn.minimum(fn.maximum(code, -32768), 32767)
    place = table + ((code >> 7) + 256)
    base = place[0].to(i64)
    slope = (place[1].to(i64) - base).to(i16).to(i64)
    return base + ((slope * (code & 127) + 64) >> 7)


class L2Norm8(KernelSpec):
    """y = x / the root of the sum of squares of rows of n bytes, by an inverse square root.

    Arguments: x, y, n, the zero point of x. y has scale 1/128 and zero point 0 (128 where
    `unsigned`). An item is a row.
    """

    unsigned: bool

    def emit(self, name: str, isa: Isa) -> str:
        """The sum, its inverse root, then the products."""
        byte = _byte(self.unsigned)
        fn = Function(name, isa, x=Ptr(byte), y=Ptr(byte), n=i64, zero=i64)
        x, y, n, zero = fn.args
        lanes = isa.lanes(i64)
        moved = zero.splat(lanes)
        with fn.loop(fn.end, start=fn.begin) as row:
            source, target = x + row * n, y + row * n
            sums: list[Any] = [fn.const(0, i64 * lanes)]
            with fn.loop(n, step=lanes, carry=sums) as at:
                code = source.load(at, lanes=lanes).to(i64) - moved
                sums[0] = sums[0] + fn.first(n - at, lanes).choose(code * code, 0)
            total = fn.minimum(fn.reduce("add", sums[0]), (1 << 31) - 1)
            m, shift = inverse_sqrt(fn.maximum(total, 2))
            tiny = total <= 1
            m, shift = tiny.choose(fn.const((1 << 31) - 1, i64), m), tiny.choose(zero * 0, shift)
            # int8 codes are shifted with the multiplier, uint8 codes before it
            shift = shift if self.unsigned else shift + 7
            left = fn.maximum(shift, 0) + (7 if self.unsigned else 0)
            right = fn.const(0, i64) - fn.minimum(shift, 0)
            factors = [v.splat(lanes) for v in (m, left, right)]
            with fn.loop(n, step=lanes) as at:
                code = source.load(at, lanes=lanes).to(i64) - moved
                low, high, middle = (0, 255, 128) if self.unsigned else (-128, 127, 0)
                value = multiplied(code, *factors) + middle
                made = fn.minimum(fn.maximum(value, low), high).to(byte)
                target.store(at, made, mask=fn.first(n - at, lanes))
        return fn.ir()
