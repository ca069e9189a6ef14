"""Functions of floats and plain integers, conversions, look-ups: one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litejit.codegen import math
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Type, Value, f32, i8, i32, i64, u8
from litejit.kernels.base import KernelSpec
from litejit.kernels.walk import WalkSpec, type_of
from litejit.types import DType

_BELOW_HALF = 0.49999997  # trunc(r + this, with r's sign) rounds halves away from zero, no others

Body = Callable[..., Value]


def _hard_swish(x: Value) -> Value:
    return x * math.clamp(x + 3.0, 0.0, 6.0) * (1 / 6)


def _sign(x: Value) -> Value:
    one, minus_one = x.fn.const(1.0, x.type), x.fn.const(-1.0, x.type)
    return (x > 0.0).choose(one, (x < 0.0).choose(minus_one, x * 0.0))


def _square_of_difference(a: Value, b: Value) -> Value:
    difference = a - b
    return difference * difference


def _clamped(operation: Callable[[Value, Value], Value]) -> Body:
    """Floats with a fused activation; its bounds are the last two parameters."""

    def body(a: Value, b: Value, *bounds: Value) -> Value:
        y = operation(a, b)
        return math.clamp(y, *bounds) if bounds else y

    return body


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
    # of two operands; floats that can take an activation have its bounds as parameters
    "add": _clamped(lambda a, b: a + b), "sub": _clamped(lambda a, b: a - b),
    "mul": _clamped(lambda a, b: a * b), "div": _clamped(lambda a, b: a / b),
    "maximum": lambda a, b: (a > b).choose(a, b), "minimum": lambda a, b: (a < b).choose(a, b),
    "squared_difference": _square_of_difference, "power": math.power,
    "prelu": lambda x, alpha: (x >= 0 if not x.type.is_float else x >= 0.0).choose(x, x * alpha),
    "logical_and": lambda a, b: a & b, "logical_or": lambda a, b: a | b,
    "equal": lambda a, b: _byte(a.equals(b)), "not_equal": lambda a, b: _byte(a.differs(b)),
    "less": lambda a, b: _byte(a < b), "less_equal": lambda a, b: _byte(a <= b),
    "greater": lambda a, b: _byte(a > b), "greater_equal": lambda a, b: _byte(a >= b),
    # of three
    "select": lambda condition, x, other: condition.differs(0).choose(x, other),
}  # fmt: skip


class ElementwiseSpec(WalkSpec):
    """A row of FUNCTIONS; `parameters` float32 arguments follow y."""

    function: str
    inputs: tuple[DType, ...]
    output: DType
    parameters: int

    def operands(self) -> tuple[Type, ...]:
        """The inputs' types."""
        return tuple(type_of(dtype) for dtype in self.inputs)

    def result(self) -> Type:
        """The output's type."""
        return type_of(self.output)

    def extras(self) -> dict[str, Type | Ptr]:
        """The parameters."""
        return {f"p{k}": f32 for k in range(self.parameters)}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """Parameters in every lane."""
        return [value.splat(self.lanes(isa)) for value in extras]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """One row of the table."""
        return FUNCTIONS[self.function](*values, *made)


class CastSpec(WalkSpec):
    """y = x as another type: floats are cut and saturate, NaN is the largest; integers wrap."""

    source: DType
    target: DType

    def operands(self) -> tuple[Type, ...]:
        """x."""
        return (type_of(self.source),)

    def result(self) -> Type:
        """y."""
        return type_of(self.target)

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """By the kinds of both types."""
        (x,) = values
        target = self.result()
        if self.target.name == "BOOL":
            return _byte(x.differs(0.0 if x.type.is_float else 0))
        if not x.type.is_float or target.is_float:
            return x.to(target)
        unsigned = target.kind == "u"
        largest = (1 << (target.bits - (0 if unsigned else 1))) - 1
        if target.bits < 32:
            low = 0 if unsigned else -largest - 1
            whole = fn.minimum(fn.maximum(x.saturate_to(i32), low), largest).to(target)
        else:
            whole = x.saturate_to(target)
        return x.differs(x).choose(fn.const(largest, whole.type), whole)


class QuantizeSpec(WalkSpec):
    """y = clamp(round_half_away(x / scale) + zero_point) of float32.

    Arguments: scale, then three codes less the zero point, as float32: the smallest, the
    largest, that of NaN; then the zero point.
    """

    target: DType

    def operands(self) -> tuple[Type, ...]:
        """x."""
        return (f32,)

    def result(self) -> Type:
        """y."""
        return type_of(self.target)

    def extras(self) -> dict[str, Type | Ptr]:
        """Scale, bounds, zero point."""
        return {"scale": f32, "low": f32, "high": f32, "nan": f32, "zero": i64}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """In every lane."""
        *floats, zero = extras
        return [value.splat(self.lanes(isa)) for value in (*floats, zero.to(i32))]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """The bounds are whole numbers: clamping first changes nothing and keeps integers small."""
        scale, low, high, nan, zero = made
        real = values[0] / scale
        real = real.differs(real).choose(nan, math.clamp(real, low, high))
        moved = real + fn.copysign(fn.const(_BELOW_HALF, real.type), real)
        codes: Value = moved.to(i32) + zero
        return codes.to(self.result())


class DequantizeSpec(WalkSpec):
    """y = scale * (x - zero_point), one rounding. Arguments: scale, zero point."""

    source: DType

    def operands(self) -> tuple[Type, ...]:
        """x."""
        return (type_of(self.source),)

    def result(self) -> Type:
        """float32."""
        return f32

    def extras(self) -> dict[str, Type | Ptr]:
        """Scale and zero point."""
        return {"scale": f32, "zero": i64}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """In every lane."""
        lanes = self.lanes(isa)
        return [extras[0].splat(lanes), extras[1].to(i32).splat(lanes)]

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """A difference, a conversion, a product."""
        scale, zero = made
        real: Value = (values[0].to(i32) - zero).to(f32) * scale
        return real


class LookupSpec(KernelSpec):
    """y[i] = table[x[i]] for bytes; `table` has 256. An item is an element."""

    def emit(self, name: str, isa: Isa) -> str:
        """A register of bytes at a time, then one with a mask."""
        lanes = isa.lanes(i8)
        fn = Function(name, isa, x=Ptr(u8), y=Ptr(u8), table=Ptr(u8))
        x, y, table = fn.args
        whole = fn.begin + (fn.end - fn.begin) / lanes * lanes
        with fn.loop(whole, start=fn.begin, step=lanes) as i:
            y.store(i, isa.lookup(fn, table, x.load(i, lanes=lanes)))
        with fn.when(whole < fn.end):
            found = isa.lookup(fn, table, x.load(whole, lanes=lanes))
            y.store(whole, found, mask=fn.first(fn.end - whole, lanes))
        return fn.ir()
