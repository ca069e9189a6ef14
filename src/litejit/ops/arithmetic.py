"""Binary arithmetic, with broadcasting, of floats, plain integers and quantized integers.

Sources: LiteRT tflite/kernels/{add,sub,mul,div,maximum_minimum,squared_difference,pow,floor_div,
floor_mod,atan2}.cc and internal/reference/.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from litejit.model.options import elementwise as options
from litejit.ops import fixedexp, fixedpoint
from litejit.ops.base import Lowering, Node, builtin
from litejit.ops.elementwise import Binary, require_scales, require_symmetric
from litejit.record import Record, replace
from litejit.types import (
    BF16,
    C64,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U32,
    Array,
    DType,
    TensorType,
)  # fmt: skip

_mbqm = fixedpoint.multiply_by_quantized_multiplier


class Terms(Record):
    """How both operands come to one scale: ((q - zero point) << left_shift) * multiplier.

    `a`, `b` and `y` are (m, shift); `low` and `high` clamp the result, `limit` bounds the
    absolute value of a term.
    """

    left_shift: int
    a: tuple[int, int]
    b: tuple[int, int]
    y: tuple[int, int]
    low: int
    high: int


def common_scale(node: Node, left_shift: int, *, squared: bool = False) -> Terms:
    """Multipliers relative to twice the larger input scale, as ADD, SUB and their kin have them.

    LiteRT forms `twice` and the divisor in float32, the quotients in float64.
    """
    a, b, y = node.input(0), node.input(1), node.output(0)
    f, quantize = np.float32, fixedpoint.quantize_multiplier
    twice = float(f(2) * max(f(a.scale), f(b.scale)))
    power = f(1 << (2 * left_shift if squared else left_shift))
    real = (twice * twice if squared else twice) / float(power * f(y.scale))
    fixedpoint.require_multiplier(node, real)
    activation = int(getattr(node.options, "activation", 0))
    low, high = fixedpoint.activation_range(y, activation)
    halves = quantize(a.scale / twice), quantize(b.scale / twice)
    return Terms(left_shift, *halves, quantize(real), low, high)


def scaled_terms(node: Node, terms: Terms, a: Array, b: Array) -> tuple[Array, Array]:
    """Both operands on the common scale, int64."""
    operands = ((a, node.input(0), terms.a), (b, node.input(1), terms.b))
    x, y = (
        _mbqm((q.astype(np.int64) - t.zero_point) << terms.left_shift, *multiplier)
        for q, t, multiplier in operands
    )
    return x, y


def finish(node: Node, total: Array, multiplier: tuple[int, int], low: int, high: int) -> Array:
    """Scale an int32 result to the output, add its zero point, clamp."""
    y = _mbqm(fixedpoint.wrap32(total), *multiplier) + node.output(0).zero_point
    return np.asarray(np.clip(y, low, high))


def scale_log2(scale: float) -> int | None:
    """The exponent of a scale that is a power of two, to 0.1 %; else None."""
    exact = np.float32(math.log2(scale)) if scale > 0 else np.float32(0.5)
    rounded = np.floor(exact + np.float32(0.5))
    return int(rounded) if abs(exact - rounded) < 1e-3 else None


class _Sum(Binary):
    """Shared by ADD and SUB, which differ in a sign."""

    sign = 1

    def is_quantized(self, node: Node) -> bool:
        """8-bit tensors always; 16-bit ones where they have scales."""
        a = node.input(0)
        return a.dtype in (I8, U8) or (a.dtype == I16 and a.is_quantized)

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Scales must give multipliers; 16-bit tensors are symmetric."""
        if not self.is_quantized(node):
            return
        require_scales(node, a, b, y)
        if a.dtype == I16:
            require_symmetric(node, a, b, y)
        if self.shifts(node) is None:
            common_scale(node, 15 if a.dtype == I16 else 20)

    def shifts(self, node: Node) -> tuple[int, int] | None:
        """Right shifts of the inputs where 16-bit scales are powers of two; else None."""
        tensors = node.input(0), node.input(1), node.output(0)
        if tensors[0].dtype != I16 or not node.options.pot_scale_int16:
            return None
        logs = [scale_log2(t.scale) for t in tensors]
        if None in logs:
            return None
        a, b, y = (log or 0 for log in logs)
        node.require(a <= y and b <= y, "an int16 input has a larger scale than the output")
        node.require(y in (a, b), "no int16 input has the output's scale")
        return y - a, y - b

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Exactly LiteRT's reference kernels."""
        shifts = self.shifts(node)
        if shifts is None:
            terms = common_scale(node, 15 if a.dtype == np.int16 else 20)
            x, y = scaled_terms(node, terms, a, b)
            return finish(node, x + self.sign * y, terms.y, terms.low, terms.high)
        divide = fixedpoint.rounding_divide_by_pot
        total = divide(a.astype(np.int64), shifts[0]) + self.sign * divide(b, shifts[1])
        low, high = fixedpoint.activation_range(node.output(0), int(node.options.activation))
        return np.asarray(np.clip(np.clip(total, -32768, 32767), low, high))

    def lower(self, node: Node, steps: Lowering) -> None:
        """Exact vector kernels for 8-bit sums too."""
        from litejit.ops import elementwise_lowering

        if not self.is_quantized(node):
            super().lower(node, steps)
            return
        shifts = self.shifts(node)
        if shifts is None:
            left = 15 if node.input(0).dtype == I16 else 20
            elementwise_lowering.sum8(node, steps, common_scale(node, left), self.sign)
        else:
            limits = fixedpoint.activation_range(node.output(0), int(node.options.activation))
            elementwise_lowering.shifted16(node, steps, shifts, limits, self.sign)


@builtin("ADD", versions=range(1, 6))
class Add(_Sum):
    """y = act(a + b). Integers that are not quantized wrap; int8, uint8 and int16 are rescaled.

    Quantized: ((q - zp) << 20 (int16: 15)) times s / (2 max(s_a, s_b)), summed, scaled to y.
    """

    options = options.AddOptions
    dtypes = (F32, F16, I32, I64, I8, U8, I16)
    kernel = "add"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The plain sum."""
        return a + b


@builtin("SUB", versions=range(1, 6))
class Sub(_Sum):
    """y = act(a - b); see ADD."""

    options = options.SubOptions
    dtypes = (F32, I32, I64, I8, U8, I16)
    kernel = "sub"
    sign = -1

    def is_quantized(self, node: Node) -> bool:
        """16-bit tensors are always quantized here."""
        return node.input(0).dtype in (I8, U8, I16)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The plain difference."""
        return a - b


@builtin("MUL", versions=range(1, 9))
class Mul(Binary):
    """y = act(a * b). Quantized: (qa - zpa)(qb - zpb) times s_a s_b / s_y, formed in float32.

    int16 factors may give an 8-bit product: their Q15 product's upper byte plus y's zero point.
    """

    options = options.MulOptions
    dtypes = (F32, F16, I32, I64, U32, C64, I8, U8, I16)
    kernel = "mul"

    def results_of(self, dtype: DType) -> tuple[DType, ...]:
        """int16 factors may give 8-bit products."""
        return (I16, I8, U8) if dtype == I16 else (dtype,)

    def is_quantized(self, node: Node) -> bool:
        """8-bit outputs always; 16-bit ones where they have scales."""
        y = node.output(0)
        return y.dtype in (I8, U8) or (y.dtype == I16 and y.is_quantized)

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Scales must give multipliers; 16-bit tensors are symmetric."""
        activation = int(node.options.activation)
        node.require(a.dtype != C64 or not activation, "complex products take no activation")
        if not self.is_quantized(node):
            return
        if a.dtype != y.dtype:
            node.require(a.dims == b.dims, "int16 factors of an 8-bit product are not broadcast")
            require_scales(node, y)
        else:
            require_scales(node, a, b, y)
            fixedpoint.require_multiplier(node, self.multiplier(node))
        if y.dtype == I16:
            require_symmetric(node, a, b, y)

    def multiplier(self, node: Node) -> float:
        """s_a * s_b / s_y in float32."""
        a, b, y = (np.float32(t.scale) for t in (node.input(0), node.input(1), node.output(0)))
        with np.errstate(all="ignore"):
            return float(a * b / y)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The plain product."""
        return a * b

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Exactly LiteRT's reference kernels."""
        y = node.output(0)
        low, high = fixedpoint.activation_range(y, int(node.options.activation))
        if node.input(0).dtype != y.dtype:
            product = (a.astype(np.int64) * b + (1 << 14)) >> 15
            rescaled = fixedpoint.rounding_divide_by_pot(np.minimum(product, 32767), 8)
            return np.clip(rescaled, low - y.zero_point, high - y.zero_point) + y.zero_point
        product = (a.astype(np.int64) - node.input(0).zero_point) * (
            b.astype(np.int64) - node.input(1).zero_point
        )
        multiplier = fixedpoint.quantize_multiplier(self.multiplier(node))
        return finish(node, product, multiplier, low, high)

    def joined(self, node: Node, producer: Node) -> Node | None:
        """x * LOGISTIC(x) of floats is one function."""
        from litejit.ops.activation import SWISH

        x = producer.input(0)
        read = [t.index for t in node.inputs if t is not None]
        plain = x.dtype == F32 and not int(node.options.activation)
        if producer.name != "LOGISTIC" or not plain or x.index not in read:
            return None
        joined: Node = replace(node, op=SWISH, name="SWISH", options=None, inputs=(x,))
        return joined

    def lower(self, node: Node, steps: Lowering) -> None:
        """Exact vector kernels for 8-bit products too."""
        from litejit.ops import elementwise_lowering

        if not self.is_quantized(node):
            super().lower(node, steps)
            return
        limits = fixedpoint.activation_range(node.output(0), int(node.options.activation))
        if node.input(0).dtype == node.output(0).dtype:
            multiplier = fixedpoint.quantize_multiplier(self.multiplier(node))
            elementwise_lowering.product8(node, steps, multiplier, limits)
        else:
            elementwise_lowering.high_product(node, steps, limits)


@builtin("DIV", versions=range(1, 3))
class Div(Binary):
    """y = act(a / b). int32 truncates toward zero; a divisor 0 is an error, except for floats.

    Quantized: a 31-bit reciprocal by Newton's iteration, then one multiplier s_a / (s_b s_y).
    """

    options = options.DivOptions
    dtypes = (F32, I32, I8, U8, I16)
    kernel = "div"
    checked: ClassVar[bool] = True  # codes that stand for 0 are refused as divisors

    def is_quantized(self, node: Node) -> bool:
        """All 8- and 16-bit tensors."""
        return node.input(0).dtype in (I8, U8, I16)

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Scales must give multipliers."""
        if self.is_quantized(node):
            require_scales(node, a, b, y)
            fixedpoint.require_multiplier(node, self.multiplier(node))

    def multiplier(self, node: Node) -> float:
        """s_a / (s_b * s_y) in float32."""
        a, b, y = (np.float32(t.scale) for t in (node.input(0), node.input(1), node.output(0)))
        with np.errstate(all="ignore"):
            return float(a / (b * y))

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The plain quotient."""
        if a.dtype.kind == "f":
            return a / b
        node.check((b != 0).all(), "division by 0")
        wide = np.asarray(a, np.int64)
        return np.asarray(np.sign(wide) * np.sign(b) * (np.abs(wide) // np.abs(b.astype(np.int64))))

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Exactly LiteRT's reference kernels."""
        numerator = a.astype(np.int64) - node.input(0).zero_point
        divisor = b.astype(np.int64) - node.input(1).zero_point
        node.check(not self.checked or (divisor != 0).all(), "a divisor equals its zero point")
        numerator = np.where(divisor < 0, -numerator, numerator)
        inverse, over = fixedexp.reciprocal(np.abs(divisor), 31)
        inverse = np.where(divisor == 0, fixedexp.INVERSE_OF_0, inverse)
        numerator, inverse, over = np.broadcast_arrays(numerator, inverse, over)
        headroom = 31 - fixedexp.bit_length(numerator ^ (numerator >> 63))
        high_mul = fixedpoint.saturating_rounding_doubling_high_mul
        quotient = high_mul(numerator << headroom, inverse)
        m, shift = fixedpoint.quantize_multiplier(self.multiplier(node))
        result = _shift_right(high_mul(quotient, m), over + headroom - shift)
        y = node.output(0)
        low, high = fixedpoint.activation_range(y, int(node.options.activation))
        return np.asarray(np.clip(result + y.zero_point, low, high))

    def lower(self, node: Node, steps: Lowering) -> None:
        """Exact vector kernels, which check the divisors."""
        from litejit.ops import elementwise_lowering

        if self.is_quantized(node):
            multiplier = fixedpoint.quantize_multiplier(self.multiplier(node))
            limits = fixedpoint.activation_range(node.output(0), int(node.options.activation))
            elementwise_lowering.quotient8(node, steps, multiplier, limits, checked=self.checked)
        else:
            super().lower(node, steps)


def _shift_right(x: Array, count: Array) -> Array:
    """round(x / 2**count), ties away from 0; a count above 31 acts as LiteRT's code does on CPUs.

    There the shift takes the count's five low bits, and the rounding adds 1 to all x >= 0:
    numerators near 0 give codes far off, in the reference kernel as here.
    """
    near = fixedpoint.rounding_divide_by_pot(x, np.clip(count, 0, 31))
    return np.where(count > 31, (x >> (count & 31)) + (x >= 0), near)


class _Extreme(Binary):
    """Codes are compared as they are: the scales of 8-bit tensors are taken to be equal."""

    options = options.MaximumMinimumOptions
    dtypes = (F32, F16, BF16, I8, U8, I16, I32, I64)


@builtin("MAXIMUM", versions=range(1, 5))
class Maximum(_Extreme):
    """y = a if a > b else b: a NaN on either side gives b. Quantized values are not rescaled."""

    kernel = "maximum"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The larger one."""
        return np.where(a > b, a, b)


@builtin("MINIMUM", versions=range(1, 5))
class Minimum(_Extreme):
    """y = a if a < b else b: a NaN on either side gives b. Quantized values are not rescaled."""

    kernel = "minimum"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The smaller one."""
        return np.where(a < b, a, b)


@builtin("SQUARED_DIFFERENCE", versions=range(1, 3))
class SquaredDifference(Binary):
    """y = (a - b)**2. int8: both terms << 7 on a common scale, the square scaled to y."""

    options = options.SquaredDifferenceOptions
    dtypes = (F32, I32, I8)
    kernel = "squared_difference"

    def is_quantized(self, node: Node) -> bool:
        """int8 always."""
        return node.input(0).dtype == I8

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Scales must give multipliers."""
        if self.is_quantized(node):
            require_scales(node, a, b, y)
            common_scale(node, 7, squared=True)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The plain square."""
        difference = a - b
        return np.asarray(difference * difference)

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Exactly LiteRT's reference kernel."""
        terms = common_scale(node, 7, squared=True)
        x, y = scaled_terms(node, terms, a, b)
        return finish(node, (x - y) ** 2, terms.y, terms.low, terms.high)

    def lower(self, node: Node, steps: Lowering) -> None:
        """An exact vector kernel for int8 too."""
        from litejit.ops import elementwise_lowering

        if self.is_quantized(node):
            terms = common_scale(node, 7, squared=True)
            elementwise_lowering.sum8(node, steps, terms, -1, squared=True)
        else:
            super().lower(node, steps)


@builtin("POW")
class Pow(Binary):
    """y = a**b, as C's pow; int32 powers are cut to int32 and negative exponents refused."""

    options = options.PowOptions
    dtypes = (F32, I32)
    kernel = "power"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """Through float64."""
        power = np.power(a.astype(np.float64), b.astype(np.float64))
        if a.dtype.kind == "f":
            return np.asarray(power)
        node.check((b >= 0).all(), "an int32 exponent is negative")
        fits = np.abs(power) < 2.0**31
        return np.where(fits, np.where(fits, power, 0).astype(np.int64), -(2**31))


def _require_divisor(node: Node, b: Array) -> None:
    node.check((b != 0).all(), "division by 0")


@builtin("FLOOR_DIV", versions=range(1, 4))
class FloorDiv(Binary):
    """y = floor(a / b), divided in float64; a divisor 0 is an error, for floats too."""

    options = options.FloorDivOptions
    kernel = "floor_div"
    dtypes = (F32, I8, I16, I32)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The floor of the quotient."""
        _require_divisor(node, b)
        quotient = np.floor(a.astype(np.float64) / b.astype(np.float64))
        return quotient if a.dtype.kind == "f" else quotient.astype(np.int64)


@builtin("FLOOR_MOD", versions=range(1, 3))
class FloorMod(Binary):
    """The rest of a / b with b's sign. An integer divisor 0 is an error, a float one gives NaN."""

    options = options.FloorModOptions
    kernel = "floor_mod"
    dtypes = (F32, I8, I16, I32, I64)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The truncated rest, moved by b where the signs differ."""
        if a.dtype.kind != "f":
            _require_divisor(node, b)
            return np.asarray(np.mod(a, b))
        rest = np.fmod(a, b)
        return np.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)


@builtin("ATAN2")
class Atan2(Binary):
    """The angle of the point (b, a), in (-pi, pi]; equal shapes only."""

    options = options.ATan2Options
    kernel = "atan2"
    dtypes = (F32, F16, BF16, F64)

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """LiteRT does not broadcast here."""
        node.require(a.dims == b.dims, f"shapes {a.dims} and {b.dims} differ")

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The angle."""
        return np.asarray(np.arctan2(a, b))
