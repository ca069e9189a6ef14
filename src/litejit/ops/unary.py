"""Mathematical functions of one tensor.

Sources: LiteRT tflite/kernels/{elementwise,neg,exp,ceil,floor,round,sign,complex_support}.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from litejit.model.options import elementwise as options
from litejit.ops import fixedexp, fixedpoint, lut
from litejit.ops.base import Lowering, Node, Op, Types, builtin
from litejit.ops.elementwise import require_scales, require_symmetric, unary
from litejit.ops.floats import narrow
from litejit.types import (
    BF16,
    BOOL,
    C64,
    C128,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    Array,
    DType,
    TensorType,
)  # fmt: skip

_mbqm = fixedpoint.multiply_by_quantized_multiplier


def _precise(function: Any) -> Callable[[Array], Array]:
    """A function computed in float64 and rounded once, as good as C's float32 one."""

    def evaluate(x: Array) -> Array:
        return np.asarray(function(np.asarray(x, np.float64)), x.dtype)

    return evaluate


def _reciprocal_root(x: Array) -> Array:
    return np.asarray(x.dtype.type(1) / np.sqrt(x))


def _sign(x: Array) -> Array:
    return np.asarray(
        np.where(x > 0, x.dtype.type(1), np.where(x < 0, x.dtype.type(-1), x * x.dtype.type(0)))
    )


def _plain(function: Any) -> Callable[[Node, Array], Array]:
    """The same function for integers that are not scaled."""
    return lambda _, x: np.asarray(function(x))


def _scaled(node: Node, x: TensorType, y: TensorType) -> None:
    """int8 needs scales; int16 has them or not, and is symmetric where it has."""
    if x.dtype == I8 or (x.dtype == I16 and x.is_quantized):
        require_scales(node, x, y)
        if x.dtype == I16:
            require_symmetric(node, x, y)


def _always_scaled(node: Node, x: TensorType, y: TensorType) -> None:
    """Integers need scales."""
    if not x.dtype.is_float:
        require_scales(node, x, y)
        if x.dtype == I16:
            require_symmetric(node, x, y)


def _centred(node: Node, x: Array) -> Array:
    return x.astype(np.int64) - node.input(0).zero_point


def _absolute(node: Node, x: Array) -> Array:
    """|x - zp| on the output's scale; as it is where no tensor has a scale."""
    source, target = node.input(0), node.output(0)
    if not source.is_quantized:
        return np.abs(x)
    value = np.abs(_centred(node, x))
    if source.scale != target.scale:
        ratio = float(np.float32(source.scale) / np.float32(target.scale))
        value = _mbqm(value, *fixedpoint.quantize_multiplier(ratio))
    return np.asarray(np.clip(value + target.zero_point, *fixedpoint.type_range(target.dtype)))


def _root(node: Node, x: Array) -> Array:
    """The root of the real number, its quotient by the output's scale cut, not rounded."""
    source, target = node.input(0), node.output(0)
    real = np.float32(source.scale) * _centred(node, x).astype(np.float32)
    node.check((real >= 0).all(), "the square root of a negative number")
    code = np.trunc(np.sqrt(real) / np.float32(target.scale))
    low, high = fixedpoint.type_range(target.dtype)
    whole = lut.to_integer(code, -(2**31), 2**31 - 1, nan=0)
    return np.asarray(np.clip(whole + target.zero_point, low, high))


def _inverse_root(node: Node, x: Array) -> Array:
    """int8 through 20 extra bits; a code at its zero point gives the largest output."""
    source, target = node.input(0), node.output(0)
    value = _centred(node, x)
    node.check((value >= 0).all(), "the square root of a negative number")
    if x.dtype == np.int16:
        return lut.interpolate(lut.interpolation_table(node, _inverse_root_of_table(target)), x)
    real = np.float32(np.sqrt(np.float32(source.scale))) * np.float32(target.scale)
    m, shift = fixedpoint.quantize_multiplier(1 / float(real))
    inverse, left = fixedexp.inverse_sqrts(value)
    data = _mbqm(np.ones_like(value), inverse, left + 20)
    codes = np.clip(_mbqm(data, m, shift - 20) + target.zero_point, -128, 127)
    return np.where(value == 0, 127, codes)


def _inverse_root_of_table(target: TensorType) -> Callable[[Array], Array]:
    largest = np.float32(32767) * np.float32(target.scale)
    return lambda real: np.where(real <= 0, largest, np.float32(1) / np.sqrt(real))


def _logarithm(node: Node, x: Array) -> Array:
    """LiteRT's tables; numbers that are not positive give the smallest output."""
    target = node.output(0)
    low, _ = fixedpoint.type_range(target.dtype)
    smallest = np.float32(low - target.zero_point) * np.float32(target.scale)
    logarithm = _precise(np.log)
    return lut.apply(node, lambda v: np.where(v <= 0, smallest, logarithm(v)), x)


def _refuse_nothing(node: Node, x: TensorType, y: TensorType) -> None:
    """Codes are taken as they are."""


Rsqrt = unary(
    "RSQRT", (F32, I8, I16), _reciprocal_root,
    integers=_inverse_root, versions=range(1, 4), kernel="rsqrt", check=_always_scaled,
)  # fmt: skip
Sqrt = unary(
    "SQRT", (F32, I8, I16), np.sqrt,
    integers=_root, versions=range(1, 3), kernel="sqrt", check=_always_scaled,
)  # fmt: skip
Neg = unary(
    "NEG", (F32, F16, BF16, I8, I16, I32, I64), np.negative, integers=_plain(np.negative),
    versions=range(1, 3), options=options.NegOptions, kernel="neg", check=_refuse_nothing,
)  # fmt: skip
Abs = unary(
    "ABS", (F32, I8, I16, I32), np.abs, integers=_absolute,
    versions=range(1, 6), options=options.AbsOptions, kernel="abs", check=_scaled,
)  # fmt: skip
Exp = unary(
    "EXP", (F32, I8, I16), _precise(np.exp),
    versions=range(1, 3), options=options.ExpOptions, kernel="exp", check=_always_scaled,
)  # fmt: skip
Log = unary(
    "LOG", (F32, I8, I16), _precise(np.log),
    integers=_logarithm, versions=range(1, 3), kernel="log", check=_always_scaled,
)  # fmt: skip
Sin = unary("SIN", (F32, F16), _precise(np.sin), versions=range(1, 3), kernel="sin")
Cos = unary(
    "COS", (F32, F16), _precise(np.cos),
    versions=range(1, 3), options=options.CosOptions, kernel="cos",
)  # fmt: skip
Ceil = unary("CEIL", (F32,), np.ceil, kernel="ceil")
Floor = unary("FLOOR", (F32, F16, BF16), np.floor, kernel="floor")
Round = unary("ROUND", (F32, F16, BF16), np.rint, kernel="nearest")
Sign = unary(
    "SIGN", (F32, F64, I32), _sign, integers=_plain(np.sign),
    versions=range(1, 3), options=options.SignOptions, kernel="sign",
)  # fmt: skip
Square = unary("SQUARE", (F32,), np.square, options=options.SquareOptions, kernel="square")
LogicalNot = unary(
    "LOGICAL_NOT", (BOOL,), integers=_plain(np.logical_not), options=options.LogicalNotOptions,
    kernel="logical_not",
)  # fmt: skip


class _ComplexPart(Op):
    """complex64 to float32, complex128 to float64."""

    is_elementwise = True
    kernel: ClassVar[str] = ""

    def infer(self, node: Node) -> Types:
        """One output of x's shape, in the type of its parts."""
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, (C64, C128), "input")
        expected: DType = F32 if x.dtype == C64 else F64
        node.require_dtype(y, (expected,), "output")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, *inputs: Any) -> Array:
        """Evaluate."""
        return narrow(np.asarray(self.part(np.asarray(inputs[0]))), node.output(0).dtype)

    def part(self, x: Array) -> Array:
        """The real number that is asked for."""
        raise NotImplementedError

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.function(node, steps, self.kernel)


@builtin("COMPLEX_ABS")
class ComplexAbs(_ComplexPart):
    """The absolute value."""

    kernel = "size"

    def part(self, x: Array) -> Array:
        """Its size."""
        return np.asarray(np.abs(x))


@builtin("REAL")
class Real(_ComplexPart):
    """The real part."""

    kernel = "real"

    def part(self, x: Array) -> Array:
        """Its first half."""
        return np.asarray(x.real)


@builtin("IMAG")
class Imag(_ComplexPart):
    """The imaginary part."""

    kernel = "imaginary"

    def part(self, x: Array) -> Array:
        """Its second half."""
        return np.asarray(x.imag)
