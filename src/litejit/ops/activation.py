"""Activation functions of floats and of quantized integers.

Sources: LiteRT tflite/kernels/activations.cc, internal/reference/{hard_swish,leaky_relu,prelu,
gelu}.h, internal/reference/integer_ops/{logistic,tanh}.h.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from litejit.model.options import elementwise as options
from litejit.ops import fixedpoint, lut
from litejit.ops.arithmetic import scale_log2
from litejit.ops.base import Lowering, Node, builtin
from litejit.ops.broadcast import broadcast_shape
from litejit.ops.elementwise import Binary, Unary, require_scales, require_symmetric
from litejit.ops.floats import largest
from litejit.types import BF16, F16, F32, I8, I16, U8, Array, DType, TensorType

_mbqm = fixedpoint.multiply_by_quantized_multiplier


def _sigmoid_table() -> Array:
    """LiteRT's table: sigmoid(j / 24) in Q0.16, each entry moved by half the error that
    interpolation makes in the middle of its segment; the last entry saturates."""
    exact = 65536 / (1 + np.exp(-np.arange(513) / 48))
    ends, middle = exact[::2], exact[1::2]
    error = middle - (ends[:-1] + ends[1:]) / 2
    table = np.floor(ends[:-1] + error / 2 + 0.5).astype(np.int64)
    table[-1] = 65535
    return table


SIGMOID = _sigmoid_table()


def via_float64(function: Any, x: Array) -> Array:
    """A float32 function as accurate as C's: computed in float64, rounded once."""
    return np.asarray(function(np.asarray(x, np.float64)), x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e**-x); for negative x as e**x / (1 + e**x), which is the same number."""
    wide = np.asarray(x, np.float64)
    e = np.exp(-np.abs(wide))
    return np.asarray(np.where(wide < 0, e, 1) / (1 + e), x.dtype)


def _sigmoid_of_table(x: Array) -> Array:
    """As LiteRT's table is built: float32 steps after the exponential."""
    one = x.dtype.type(1)
    return np.asarray(one / (one + via_float64(np.exp, -x)))


def gelu(x: Array) -> Array:
    """x / 2 * erfc(-x / sqrt(2)), the product rounded in float32 before erfc."""
    scaled = -x * x.dtype.type(math.sqrt(0.5))
    erfc: Any = np.frompyfunc(math.erfc, 1, 1)(np.asarray(scaled, np.float64))
    return np.asarray(x.dtype.type(0.5) * x * np.asarray(erfc, x.dtype))


def gelu_tanh(x: Array) -> Array:
    """x / 2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))."""
    f = x.dtype.type
    inner = f(math.sqrt(2 / math.pi)) * (x + f(0.044715) * x * x * x)
    return np.asarray(f(0.5) * x * (f(1) + via_float64(np.tanh, inner)))


def elu(x: Array) -> Array:
    """x, or e**x - 1 below 0."""
    return np.where(x < 0, via_float64(np.expm1, x), x)


class _Sigmoidal(Unary):
    """8-bit through LiteRT's table; int16 by interpolation of a sigmoid table."""

    dtypes = (F32, F16, BF16, I8, U8, I16)

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """int16 is symmetric and gives scale 2**-15."""
        super().check_types(node, x, y)
        if x.dtype == I16:
            require_scales(node, x, y)
            require_symmetric(node, x, y)
            node.require(
                scale_log2(y.scale) == -15, f"int16 output has scale {y.scale}, not 2**-15"
            )

    def scaled(self, node: Node, x: Array, shifts: tuple[int, ...]) -> Array:
        """int16 codes as multiples of 1/12288: sigmoid's table has a step of 512 of them."""
        scale = node.input(0).scale
        log2 = scale_log2(scale)
        if log2 is not None and log2 + 12 in shifts:
            return x.astype(np.int64) * (3 << (log2 + 12))
        multiplier, shift = scale * 4096.0 * 3.0, 0
        while multiplier <= 32767 / 2 and shift <= 30:
            multiplier, shift = multiplier * 2, shift + 1
        half = 1 << (shift - 1) if shift else 0
        return (
            fixedpoint.wrap32(x.astype(np.int64) * int(min(multiplier, 2**31 - 1)) + half) >> shift
        )


def _interpolated(size: Array, bits: int, saturated: int) -> Array:
    index = np.minimum(size >> bits, 254)
    base, step = SIGMOID[index], SIGMOID[index + 1] - SIGMOID[index]
    value = (base << bits) + (size & ((1 << bits) - 1)) * step
    return np.where(size >> bits >= 255, saturated, value)


def logistic16(value: Array) -> Array:
    """1 / (1 + e**-x) in Q0.15 of x * 12288, by the interpolated table."""
    result = _interpolated(np.abs(value), 9, 0x7FFF << 10)
    mirrored = (1 << 25) - result + (1 << 9) - 1
    return np.where(value >= 0, result + (1 << 9), mirrored) >> 10


def tanh16(value: Array) -> Array:
    """tanh(x) in Q0.15 of x * 12288, as 2 sigmoid(2x) - 1 by the interpolated table."""
    result = _interpolated(np.abs(value), 8, 0xFFFF << 8)
    positive = result - (1 << 23) + (1 << 7)
    return np.where(value >= 0, positive, -result + (1 << 23) + (1 << 7) - 1) >> 8


@builtin("LOGISTIC", versions=range(1, 4))
class Logistic(_Sigmoidal):
    """y = 1 / (1 + e**-x). 8-bit outputs have scale 1/256."""

    kernel = "logistic"

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """The output's scale is fixed."""
        super().check_types(node, x, y)
        fixed = x.dtype not in (I8, U8) or y.scale == 1 / 256
        node.require(fixed, f"8-bit output has scale {y.scale}, expected 1/256")

    def compute(self, node: Node, x: Array) -> Array:
        """The sigmoid."""
        return sigmoid(x)

    def integers(self, node: Node, x: Array) -> Array:
        """Tables."""
        if x.dtype.itemsize == 1:
            return lut.apply(node, _sigmoid_of_table, x)
        return logistic16(self.scaled(node, x, (0,)))


@builtin("TANH", versions=range(1, 4))
class Tanh(_Sigmoidal):
    """The hyperbolic tangent."""

    kernel = "tanh"

    def compute(self, node: Node, x: Array) -> Array:
        """tanh."""
        return via_float64(np.tanh, x)

    def integers(self, node: Node, x: Array) -> Array:
        """Tables; int16 as 2 sigmoid(2x) - 1."""
        if x.dtype.itemsize == 1:
            return lut.apply(node, lambda real: via_float64(np.tanh, real), x)
        return tanh16(self.scaled(node, x, (0, 1)))


class Swish(Unary):
    """y = x * sigmoid(x) of floats: what a LOGISTIC and a MUL are together. In no file."""

    dtypes = (F32,)
    kernel = "swish"

    def compute(self, node: Node, x: Array) -> Array:
        """As the two operators would: a product of finite range."""
        return np.asarray(np.where(x > largest(F32), x.dtype.type(largest(F32)), x * sigmoid(x)))


SWISH = Swish()


@builtin("HARD_SWISH")
class HardSwish(Unary):
    """y = x * min(6, max(0, x + 3)) / 6; 8-bit in 16-bit fixed point."""

    options = options.HardSwishOptions
    dtypes = (F32, I8, U8)
    kernel = "hard_swish"

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """The output's multiplier may not exceed 1."""
        super().check_types(node, x, y)
        if x.dtype != F32:
            _, exponent = self.multipliers(node)[0]
            node.require(exponent <= 0, "the output's scale is too small for the input's")

    def multipliers(self, node: Node) -> list[tuple[int, int]]:
        """16-bit multipliers to the output and to 3/32768, with their exponents."""
        hires = np.float32(1 / 128) * np.float32(node.input(0).scale)
        result = []
        for scale in (np.float32(node.output(0).scale), np.float32(3 / 32768)):
            m, exponent = fixedpoint.quantize_multiplier(float(hires / scale))
            result.append((min((m + (1 << 15)) >> 16, 32767), exponent))
        return result

    def compute(self, node: Node, x: Array) -> Array:
        """In float32, from left to right."""
        f = x.dtype.type
        inner = x + f(3)
        inner = np.where(inner > 0, inner, f(0))
        return np.asarray(x * np.where(inner < 6, inner, f(6)) / f(6))

    def integers(self, node: Node, x: Array) -> Array:
        """Exactly LiteRT's reference kernel."""
        (scale, exponent), (relu_scale, relu_exponent) = self.multipliers(node)
        y = node.output(0)
        hires = (x.astype(np.int64) - node.input(0).zero_point) << 7
        preshift = _round_product16(hires, scale)
        relu = hires
        if relu_exponent > 0:
            relu = _saturate16(relu << min(relu_exponent - 1, 31))
        relu = _round_product16(relu, relu_scale)
        if relu_exponent > 0:
            relu = _saturate16(relu << 1)
        elif relu_exponent < 0:
            relu = _shift16(relu, -relu_exponent)
        product = ((relu + (1 << 15)) >> 1) * preshift
        truncated = np.where(product >= 0, product >> 15, -(-product >> 15))
        result = _shift16(truncated, -exponent) + y.zero_point
        return np.asarray(np.clip(result, *fixedpoint.type_range(y.dtype)))


def _saturate16(x: Array) -> Array:
    return np.clip(x, -32768, 32767)


def _shift16(x: Array, exponent: int) -> Array:
    """round(x / 2**exponent), ties away from zero, with a remainder of 16 bits.

    From 16 bits on the remainder is x itself and its bound -1 or 0, so that everything but
    negative numbers ends one higher: what gemmlowp's RoundingDivideByPOT makes of int16.
    """
    if exponent < 16:
        return fixedpoint.rounding_divide_by_pot(x, exponent)
    return np.where(x < 0, -1, 1)


def _round_product16(a: Array, b: int) -> Array:
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, 32767))


class _Relu(Unary):
    """y = min(max(x, low), high); quantized: rescaled by s_x / s_y (float32), then clamped."""

    dtypes: ClassVar[tuple[DType, ...]] = (F32, I8, U8)
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = math.inf

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Scales must give a multiplier."""
        if x.dtype == F32:
            return
        require_scales(node, x, y)
        fixedpoint.require_multiplier(node, self.multiplier(node))
        if x.dtype == I16:
            require_symmetric(node, x, y)

    def multiplier(self, node: Node) -> float:
        """s_x / s_y in float32."""
        with np.errstate(all="ignore"):
            return float(np.float32(node.input(0).scale) / np.float32(node.output(0).scale))

    def kernel_parameters(self, node: Node) -> tuple[float, ...]:
        """The bounds."""
        return self.low, self.high

    def compute(self, node: Node, x: Array) -> Array:
        """NaN stays NaN."""
        f = x.dtype.type
        x = np.where(x < f(self.low), f(self.low), x)
        return np.where(x > f(self.high), f(self.high), x)

    def lower(self, node: Node, steps: Lowering) -> None:
        """int16 by a rescaling; a table for 8-bit tensors."""
        from litejit.ops import elementwise_lowering

        if node.input(0).dtype == I16:
            first = fixedpoint.quantize_multiplier(self.multiplier(node))
            elementwise_lowering.piecewise8(node, steps, first, limits=self.limits(node.output(0)))
        else:
            super().lower(node, steps)

    def limits(self, y: TensorType) -> tuple[int, int]:
        """The bounds as codes of the output."""
        low, high = fixedpoint.type_range(y.dtype)
        with np.errstate(all="ignore"):
            bounds = np.array([self.low, self.high], np.float32) / np.float32(y.scale)
            codes = fixedpoint.round_half_away(bounds) + np.float64(y.zero_point)
        return int(max(low, codes[0])), int(min(high, codes[1]))

    def integers(self, node: Node, x: Array) -> Array:
        """Exactly LiteRT's reference kernel."""
        y = node.output(0)
        m, shift = fixedpoint.quantize_multiplier(self.multiplier(node))
        centred = x.astype(np.int64) - node.input(0).zero_point
        low, high = self.limits(y)
        return np.asarray(np.clip(_mbqm(centred, m, shift) + y.zero_point, low, high))


@builtin("RELU", versions=range(1, 4))
class Relu(_Relu):
    """y = max(x, 0)."""

    dtypes = (F32, I8, U8, I16)
    kernel = "relu"


@builtin("RELU6", versions=range(1, 4))
class Relu6(_Relu):
    """y = min(max(x, 0), 6)."""

    dtypes = (F32, I8, U8, I16)
    kernel = "clip"
    high = 6.0


@builtin("RELU_0_TO_1")
class Relu0To1(_Relu):
    """y = min(max(x, 0), 1)."""

    kernel = "clip"
    high = 1.0


@builtin("RELU_N1_TO_1")
class ReluN1To1(_Relu):
    """y = min(max(x, -1), 1)."""

    kernel = "clip"
    low = -1.0
    high = 1.0


@builtin("LEAKY_RELU", versions=range(1, 3))
class LeakyRelu(Unary):
    """y = x where x > 0, else alpha * x; quantized with two float32 multipliers."""

    options = options.LeakyReluOptions
    dtypes = (F32, I8, U8, I16)
    kernel = "leaky_relu"

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Scales must give multipliers."""
        if x.dtype == F32:
            return
        require_scales(node, x, y)
        for real in self.multipliers(node):
            fixedpoint.require_multiplier(node, abs(real))
        if x.dtype == I16:
            require_symmetric(node, x, y)

    def multipliers(self, node: Node) -> tuple[float, float]:
        """s_x / s_y and s_x * alpha / s_y in float32."""
        x, y = np.float32(node.input(0).scale), np.float32(node.output(0).scale)
        with np.errstate(all="ignore"):
            return float(x / y), float(x * np.float32(node.options.alpha) / y)

    def kernel_parameters(self, node: Node) -> tuple[float, ...]:
        """alpha."""
        return (float(node.options.alpha),)

    def compute(self, node: Node, x: Array) -> Array:
        """In float32."""
        return np.where(x > 0, x, x * x.dtype.type(node.options.alpha))

    def integers(self, node: Node, x: Array) -> Array:
        """Exactly LiteRT's reference kernel; a negative alpha is applied by its size."""
        y = node.output(0)
        centred = x.astype(np.int64) - node.input(0).zero_point
        real, alpha = self.multipliers(node)
        positive = _mbqm(centred, *fixedpoint.quantize_multiplier(real))
        negative = _mbqm(centred, *fixedpoint.quantize_multiplier(abs(alpha)))
        negative = -negative if alpha < 0 else negative
        result = np.where(centred >= 0, positive, negative) + y.zero_point
        return np.asarray(np.clip(result, *fixedpoint.type_range(y.dtype)))

    def lower(self, node: Node, steps: Lowering) -> None:
        """int16 by two rescalings; a table for 8-bit tensors."""
        from litejit.ops import elementwise_lowering

        if node.input(0).dtype == I16:
            first, second = (
                fixedpoint.quantize_multiplier(abs(real)) for real in self.multipliers(node)
            )
            negates = self.multipliers(node)[1] < 0
            elementwise_lowering.piecewise8(node, steps, first, second, negates=negates)
        else:
            super().lower(node, steps)


@builtin("PRELU")
class Prelu(Binary):
    """y = x where x >= 0, else alpha * x; alpha is broadcast to x's shape.

    Quantized: x by s_x / s_y, products by s_x s_alpha / s_y, both in float32.
    """

    dtypes = (F32, I8, U8, I16)
    kernel = "prelu"

    def infer(self, node: Node) -> list[TensorType]:
        """One output, as x."""
        x, alpha, y = node.input(0), node.input(1), node.output(0)
        node.require_dtype(x, self.dtypes, "input")
        node.require_dtype(alpha, (I8,) if x.dtype == I16 else (x.dtype,), "alpha")
        node.require_dtype(y, (x.dtype,), "output")
        shape = broadcast_shape(node, x.dims, alpha.dims)
        node.require(shape == x.dims, f"alpha {alpha.dims} does not stretch to {x.dims}")
        if x.dtype != F32:
            require_scales(node, x, alpha, y)
            for real in self.multipliers(node):
                fixedpoint.require_multiplier(node, real)
        return [y.with_shape(shape)]

    def multipliers(self, node: Node) -> tuple[float, float]:
        """s_x / s_y and s_x * s_alpha / s_y in float32."""
        tensors = node.input(0), node.input(1), node.output(0)
        x, alpha, y = (np.float32(t.scale) for t in tensors)
        with np.errstate(all="ignore"):
            return float(x / y), float(x * alpha / y)

    def is_quantized(self, node: Node) -> bool:
        """All but floats."""
        return node.input(0).dtype != F32

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """In float32."""
        return np.where(a >= 0, a, a * b)

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Exactly LiteRT's reference kernel."""
        y = node.output(0)
        x = a.astype(np.int64) - node.input(0).zero_point
        product = x * (b.astype(np.int64) - node.input(1).zero_point)
        first, second = (fixedpoint.quantize_multiplier(real) for real in self.multipliers(node))
        result = np.where(x >= 0, _mbqm(x, *first), _mbqm(product, *second)) + y.zero_point
        return np.asarray(np.clip(result, *fixedpoint.type_range(y.dtype)))

    def lower(self, node: Node, steps: Lowering) -> None:
        """Exact vector kernels for quantized tensors too."""
        from litejit.ops import elementwise_lowering

        if self.is_quantized(node):
            first, second = (fixedpoint.quantize_multiplier(m) for m in self.multipliers(node))
            elementwise_lowering.piecewise8(node, steps, first, second)
        else:
            super().lower(node, steps)


@builtin("ELU")
class Elu(Unary):
    """y = x where x >= 0, else e**x - 1."""

    dtypes = (F32, I8)
    kernel = "elu"

    def compute(self, node: Node, x: Array) -> Array:
        """Without cancellation near 0."""
        return elu(x)

    def integers(self, node: Node, x: Array) -> Array:
        """LiteRT's table."""
        return lut.apply(node, elu, x)


@builtin("GELU", versions=range(1, 4))
class Gelu(Unary):
    """y = x * (normal distribution's integral up to x), or its tanh approximation."""

    options = options.GeluOptions
    dtypes = (F32, F16, I8, U8, I16)

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Integers need scales."""
        if not x.dtype.is_float:
            require_scales(node, x, y)

    def compute(self, node: Node, x: Array) -> Array:
        """Either form."""
        return gelu_tanh(x) if node.options.approximate else gelu(x)

    def integers(self, node: Node, x: Array) -> Array:
        """LiteRT's tables."""
        return lut.apply(node, lambda real: self.compute(node, real), x)

    def lower(self, node: Node, steps: Lowering) -> None:
        """The kernel of the form that the options name."""
        from litejit.ops.elementwise_lowering import unary

        unary(node, steps, "gelu_tanh" if node.options.approximate else "gelu", ())
