"""Functions of numbers and truth values, conversions, look-ups: one row each."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

from litejit.codegen import math
from litejit.codegen.isa import Isa
from litejit.codegen.lang import (
    Function,
    Ptr,
    Type,
    Value,
    f32,
    f64,
    i8,
    i32,
    i64,
    u8,
    u32,
    u64,
)  # fmt: skip
from litejit.kernels.base import REFUSED, KernelSpec, type_of
from litejit.kernels.walk import WalkSpec, closed, computed, opened
from litejit.types import DType

_TOP32 = 2.0**31
_INFINITY = float("inf")

Body = Callable[..., Value]


def _hard_swish(x: Value) -> Value:
    return x * math.clamp(x + 3.0, 0.0, 6.0) * (1 / 6)


def _sign(x: Value) -> Value:
    one, minus_one = x.fn.const(1, x.type), x.fn.const(-1, x.type)
    return (x > 0).choose(one, (x < 0).choose(minus_one, x * x.fn.const(0, x.type)))


def _square_of_difference(a: Value, b: Value) -> Value:
    difference = a - b
    return difference * difference


def _clamped(operation: Callable[[Value, Value], Value]) -> Body:
    """With a fused activation, whose bounds are the last two parameters."""

    def body(a: Value, b: Value, *bounds: Value) -> Value:
        y = operation(a, b)
        if not y.type.is_float:
            bounds = tuple(bound.saturate_to(y.type.scalar) for bound in bounds)
        return math.clamp(y, *bounds) if bounds else y

    return body


def _sum_within(low: Value, high: Value) -> Body:
    return lambda a, b: math.clamp(a + b, low, high)


def _quotient(a: Value, b: Value) -> tuple[Value, Value]:
    """a / b of float32 or of whole numbers of at most 32 bits, and b, in float64; 1 for b = 0.

    Rounding such a quotient to 53 bits does not carry it to the next whole number.
    """
    divisor = b.to(f64)
    divisor = divisor.equals(0.0).choose(divisor.fn.const(1.0, divisor.type), divisor)
    return a.to(f64) / divisor, divisor


def _whole(x: Value, kind: Type) -> Value:
    """A float64 as a whole number, cut; 2**31 wraps to -2**31."""
    wrapped = (x >= _TOP32).choose(x.fn.const(-_TOP32, x.type), x)
    return wrapped.to(i32).to(kind)


def _divide(a: Value, b: Value, *bounds: Value) -> Value:
    """Whole numbers are cut toward zero."""
    if a.type.is_float:
        return _clamped(lambda x, y: x / y)(a, b, *bounds)
    quotient, _ = _quotient(a, b)
    low, high = (bound.to(f64) for bound in bounds) if bounds else (None, None)
    return _whole(math.clamp(quotient, low, high), a.type.scalar)


def _floor_divide(a: Value, b: Value) -> Value:
    below = math.floor(_quotient(a, b)[0])
    return below.to(f32) if a.type.is_float else _whole(below, a.type.scalar)


def _floor_modulo(a: Value, b: Value) -> Value:
    """The rest with b's sign."""
    fn = a.fn
    if a.type.is_float:
        rest = math.remainder(a, b)
        return (rest.differs(0.0) & ((b < 0.0) ^ (rest < 0.0))).choose(rest + b, rest)
    if a.type.bits <= 32:
        quotient, divisor = _quotient(a, b)
        return _whole(a.to(f64) - math.floor(quotient) * divisor, a.type.scalar)
    trapping = b.equals(0) | b.equals(-1)  # nothing is left of a division by -1
    rest = a % trapping.choose(fn.const(1, b.type), b)
    return (rest.differs(0) & ((b ^ rest) < 0)).choose(rest + b, rest)


def _whole_power(a: Value, b: Value) -> Value:
    """a**b of int32, b >= 0, by squaring in float64; what int32 cannot hold is -2**31."""
    fn, lanes = a.fn, a.type.lanes
    size = fn.absolute(a).bitcast(u32 * lanes)
    # powers of 0, 1 and -1 depend on whether b is 0 and odd, those of others have few bits
    exponent = (size < 2).choose(fn.minimum(b, 2) - (b > 2).to(i32) * (b & 1), fn.minimum(b, 32))
    base = a.to(f64)
    result = fn.const(1.0, base.type)
    for bit in range(6):
        result = ((exponent >> bit) & 1).differs(0).choose(result * base, result)
        base = base * base
    fits = fn.absolute(result) < _TOP32
    return fits.choose(result, fn.const(-_TOP32, result.type)).to(i32)


def _power(a: Value, b: Value) -> Value:
    return math.power(a, b) if a.type.is_float else _whole_power(a, b)


def _shift_right(a: Value, b: Value) -> Value:
    """A count outside the type's width is taken to its end."""
    return a >> a.fn.minimum(a.fn.maximum(b, 0), a.type.bits - 1)


def _shift_left(a: Value, b: Value) -> Value:
    """A count outside the type's width leaves nothing."""
    inside = (b >= 0) & (b < a.type.bits)
    return inside.choose(a << inside.choose(b, 0), 0)


def _fake_quant(x: Value, low: Value, high: Value, scale: Value, inverse: Value) -> Value:
    """Steps of `scale` from `low` on, halves away from zero."""
    steps = (math.clamp(x, low, high) - low) * inverse
    moved = math.floor(steps)
    moved = (steps - moved >= 0.5).choose(moved + 1.0, moved)
    return moved * scale + low


def parts(x: Value) -> tuple[Value, Value]:
    """The real and the imaginary part (f32 or f64) of complex numbers (u64 or u128)."""
    bits, lanes = x.type.bits // 2, x.type.lanes
    low, high = (half.to(Type("u", bits)) for half in (x, x >> bits))
    kind = Type("f", bits) * lanes
    return low.bitcast(kind), high.bitcast(kind)


def joined(real: Value, imaginary: Value | None = None) -> Value:
    """Complex numbers (u64) of their parts (f32)."""
    lanes = real.type.lanes
    low = real.bitcast(u32 * lanes).to(u64)
    return low if imaginary is None else low | (imaginary.bitcast(u32 * lanes).to(u64) << 32)


def _complex_product(a: Value, b: Value) -> Value:
    (a0, a1), (b0, b1) = parts(a), parts(b)
    return joined(a0 * b0 - a1 * b1, a0 * b1 + a1 * b0)


def _complex_size(x: Value) -> Value:
    """Infinite where a part is, even beside NaN, as C's hypot."""
    fn, (real, imaginary) = x.fn, parts(x)
    a, b = fn.absolute(real), fn.absolute(imaginary)
    large, small = (a > b).choose(a, b), (a > b).choose(b, a)
    ratio = small / large  # at most 1: its square cannot overflow
    size = large * fn.sqrt(ratio * ratio + 1.0)
    size = large.equals(0.0).choose(large + small, size)
    infinite = a.equals(_INFINITY) | b.equals(_INFINITY)
    return infinite.choose(fn.const(_INFINITY, size.type), size)


def _byte(condition: Value) -> Value:
    return condition.to(u8)


FUNCTIONS: dict[str, Body] = {
    # of one operand and parameters
    "exp": math.exp, "log": math.log, "tanh": math.tanh, "logistic": math.logistic,
    "swish": math.swish, "elu": math.elu, "gelu": math.gelu, "gelu_tanh": math.gelu_tanh,
    "rsqrt": math.rsqrt,
    "sin": math.sin, "cos": math.cos, "floor": math.floor, "ceil": math.ceil,
    "nearest": math.nearest, "sqrt": lambda x: x.fn.sqrt(x), "abs": lambda x: x.fn.absolute(x),
    "neg": lambda x: -x, "square": lambda x: x * x, "sign": _sign, "hard_swish": _hard_swish,
    "clip": math.clamp, "leaky_relu": lambda x, alpha: (x > 0.0).choose(x, x * alpha),
    "logical_not": lambda x: _byte(x.equals(0)), "fake_quant": _fake_quant,
    "real": lambda x: parts(x)[0], "imaginary": lambda x: parts(x)[1], "size": _complex_size,
    # of two operands; those that can take an activation have its bounds as parameters
    "add": _clamped(lambda a, b: a + b), "sub": _clamped(lambda a, b: a - b),
    "mul": _clamped(lambda a, b: a * b), "div": _divide, "complex_mul": _complex_product,
    "floor_div": _floor_divide, "floor_mod": _floor_modulo, "atan2": math.atan2,
    "maximum": lambda a, b: (a > b).choose(a, b), "minimum": lambda a, b: (a < b).choose(a, b),
    "larger": lambda a, b: (a < b).choose(b, a), "smaller": lambda a, b: (b < a).choose(b, a),
    "squared_difference": _square_of_difference, "power": _power,
    "prelu": lambda x, alpha: (x >= 0 if not x.type.is_float else x >= 0.0).choose(x, x * alpha),
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "shift_right": _shift_right, "shift_left": _shift_left,
    "equal": lambda a, b: _byte(a.equals(b)), "not_equal": lambda a, b: _byte(a.differs(b)),
    "less": lambda a, b: _byte(a < b), "less_equal": lambda a, b: _byte(a <= b),
    "greater": lambda a, b: _byte(a > b), "greater_equal": lambda a, b: _byte(a >= b),
    # of three
    "select": lambda condition, x, other: condition.differs(0).choose(x, other),
    # of any number
    "sum": lambda *terms: reduce(Value.__add__, terms),
    "bounded_sum": lambda *terms: reduce(_sum_within(*terms[-2:]), terms[:-2]),
}  # fmt: skip
_REFUSES: dict[str, Body] = {
    **dict.fromkeys(("div", "floor_div", "floor_mod"), lambda a, b: b.equals(0)),
    "power": lambda a, b: b < 0,
}


class ElementwiseSpec(WalkSpec):
    """A row of FUNCTIONS; `parameters` float32 arguments follow y, then a status where `checked`.

    Floats of 16 bits are computed in float32.
    """

    function: str
    inputs: tuple[DType, ...]
    output: DType
    parameters: int
    checked: bool = False

    def operands(self) -> tuple[Type, ...]:
        """The inputs' types."""
        return tuple(type_of(dtype) for dtype in self.inputs)

    def result(self) -> Type:
        """The output's type."""
        return type_of(self.output)

    def lanes(self, isa: Isa) -> int:
        """As many as the widest type that is computed with has in one register; at least two."""
        return max(2, min(isa.lanes(computed(dtype)) for dtype in (*self.inputs, self.output)))

    def extras(self) -> dict[str, Type | Ptr]:
        """The parameters and the status."""
        parameters: dict[str, Type | Ptr] = {f"p{k}": f32 for k in range(self.parameters)}
        return parameters | ({"status": Ptr(i64)} if self.checked else {})

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """Parameters in every lane."""
        return [value.splat(self.lanes(isa)) for value in extras]

    def refuses(self, values: list[Value], made: list[Any]) -> Value:
        """By the function."""
        return _REFUSES[self.function](*values)

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """One row of the table."""
        operands = [opened(dtype, x) for dtype, x in zip(self.inputs, values, strict=True)]
        return closed(self.output, FUNCTIONS[self.function](*operands, *made))


class LookupSpec(KernelSpec):
    """y[i] = table[x[i]] for bytes; `table` has 256. An item is an element.

    Where `checked` a status and the least code (int8) follow the table: a lesser one is refused.
    """

    checked: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """A register of bytes at a time, then one with a mask."""
        lanes = isa.lanes(i8)
        more: dict[str, Type | Ptr] = {"status": Ptr(i64), "least": i64} if self.checked else {}
        fn = Function(name, isa, x=Ptr(u8), y=Ptr(u8), table=Ptr(u8), **more)
        x, y, table, *check = fn.args
        lowest = [fn.const(127, i8 * lanes)] if check else []

        def change(i: Value, mask: Value | None) -> None:
            codes = x.load(i, lanes=lanes)
            if lowest:
                kept = codes.bitcast(i8 * lanes)
                kept = kept if mask is None else mask.choose(kept, 127)
                lowest[0] = fn.minimum(lowest[0], kept)
            y.store(i, isa.lookup(fn, table, codes), mask=mask)

        whole = fn.begin + (fn.end - fn.begin) / lanes * lanes
        with fn.loop(whole, start=fn.begin, step=lanes, carry=lowest) as i:
            change(i, None)
        with fn.when(whole < fn.end, carry=lowest):
            change(whole, fn.first(fn.end - whole, lanes))
        if check:
            with fn.when(fn.reduce("min", lowest[0]).to(i64) < check[1]):
                check[0][0] = REFUSED
        return fn.ir()
