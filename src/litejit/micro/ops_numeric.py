"""Elementwise operators and reductions whose numbers differ between TFLM and LiteRT.

Most differ in how a multiplier is formed: TFLM divides scales in float64 where LiteRT does it in
float32. Sources: tflite-micro tensorflow/lite/micro/kernels/{logistic,tanh,activations,mul_common,
prelu_common,leaky_relu_common,softmax_common,add_n,cumsum,squared_difference,cast,quantize,
comparisons}.cc.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from litejit.model.options import AddOptions
from litejit.ops import activation, arithmetic, bitwise, compare, create, fixedexp, quantize, unary
from litejit.ops import fixedpoint as fixed
from litejit.ops import reduce as reductions
from litejit.ops import softmax as softmaxes
from litejit.ops.base import Arrays, Lowering, Node, Types
from litejit.ops.elementwise import require_scales
from litejit.ops.indexing import made, normal_axis
from litejit.record import replace
from litejit.types import F32, I8, I16, I32, I64, U8, Array, DType, TensorType

_CODES = 128  # of int8 on either side of 0


def _fixed_input(node: Node, x: Array, integer_bits: int) -> tuple[Array, Array, int]:
    """(centred codes, their values with `integer_bits`, where the function saturates)."""
    source = node.input(0)
    m, shift = fixed.quantize_multiplier(source.scale * 2.0 ** (31 - integer_bits))
    radius = math.floor(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**shift)
    centred = x.astype(np.int64) - source.zero_point
    return centred, fixed.mbqm(centred, m, shift), radius


def _saturated(centred: Array, value: Array, radius: int) -> Array:
    """The ends of int8 where the input is beyond the radius."""
    clamped = np.clip(value, -_CODES, _CODES - 1)
    ends = np.where(centred > 0, _CODES - 1, -_CODES)
    return np.where(np.abs(centred) >= radius, ends, clamped)


class Logistic(activation.Logistic):
    """int8 in 31-bit fixed point instead of a table of float32 values."""

    def integers(self, node: Node, x: Array) -> Array:
        """Q4.27 to Q0.31, then to 8 bits."""
        if x.dtype != np.int8:
            return super().integers(node, x)
        centred, value, radius = _fixed_input(node, x, 4)
        with np.errstate(all="ignore"):
            codes = fixed.rounding_divide_by_pot(fixedexp.logistic(value, 4), 23) - _CODES
        return _saturated(centred, codes, radius)


class Tanh(activation.Tanh):
    """int8 in 31-bit fixed point instead of a table of float32 values."""

    def integers(self, node: Node, x: Array) -> Array:
        """Q4.27 to Q0.31, then to 8 bits."""
        if x.dtype != np.int8:
            return super().integers(node, x)
        centred, value, radius = _fixed_input(node, x, 4)
        codes = fixed.rounding_divide_by_pot(fixedexp.tanh(value, 4), 24)
        return _saturated(centred, codes, radius)


class Relu(activation.Relu):
    """The multiplier is formed in float64."""

    def multiplier(self, node: Node) -> float:
        """s_x / s_y."""
        return node.input(0).scale / node.output(0).scale


class Relu6(activation.Relu6):
    """Integers are clamped as they are: the output's scale and zero point are not looked at."""

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Integers need the input's scale."""
        if x.dtype != F32:
            require_scales(node, x)

    def bounds(self, node: Node) -> tuple[int, int]:
        """The codes of 0 and 6, which is the largest code where it lies beyond."""
        x = node.input(0)
        low, high = fixed.type_range(x.dtype)
        with np.errstate(all="ignore"):
            six = fixed.round_half_away(np.float32(6) / np.float32(x.scale))
        return x.zero_point, int(min(max(x.zero_point + float(six), low), high))

    def integers(self, node: Node, x: Array) -> Array:
        """Between the codes of 0 and 6."""
        low, high = self.bounds(node)
        return np.where(x > high, high, np.where(x < low, low, x))


class Add(arithmetic.Add):
    """int32 sums are not clamped: their fused activation is not looked at."""

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """As LiteRT's."""
        return super().reference(_without_clamp(node), *inputs)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's."""
        super().lower(_without_clamp(node), steps)


def _without_clamp(node: Node) -> Node:
    plain: Node = replace(node, options=AddOptions()) if node.output(0).dtype == I32 else node
    return plain


class Mul(arithmetic.Mul):
    """The multiplier is formed in float64."""

    def multiplier(self, node: Node) -> float:
        """s_a * s_b / s_y."""
        return node.input(0).scale * node.input(1).scale / node.output(0).scale


class Prelu(activation.Prelu):
    """Both multipliers are formed in float64."""

    def multipliers(self, node: Node) -> tuple[float, float]:
        """s_x / s_y and s_x * s_alpha / s_y."""
        x, alpha, y = node.input(0).scale, node.input(1).scale, node.output(0).scale
        return x / y, x * alpha / y


class LeakyRelu(activation.LeakyRelu):
    """Both multipliers are formed in float64."""

    def multipliers(self, node: Node) -> tuple[float, float]:
        """s_x / s_y and s_x * alpha / s_y."""
        x, y = node.input(0).scale, node.output(0).scale
        return x / y, x * float(np.float32(node.options.alpha)) / y


class Softmax(softmaxes.Softmax):
    """int16 rescales its differences by a factor formed in float64.

    Where int8 exponentials add up to 2**31 in Q12.19 (512 equal classes and more) TFLM's process
    ends; here the sum has as many bits as it needs.
    """

    def ratio(self, node: Node) -> float:
        """In float64."""
        return node.input(0).scale * self.beta(node) / (10.0 / 65535.0)


def _one_scale(node: Node) -> tuple[tuple[int, int], tuple[int, int]]:
    """Multipliers of ADD_N and CUMSUM: from the inputs' scale to twice it, and to the output."""
    x, y = node.input(0), node.output(0)
    return (1 << 30, 0), fixed.quantize_multiplier(2 * x.scale / ((1 << 20) * y.scale))


def _require_one_scale(node: Node) -> None:
    require_scales(node, node.input(0), node.output(0))
    ratio = 2 * node.input(0).scale / ((1 << 20) * node.output(0).scale)
    node.require(ratio < 1, "the output's scale is too small for the input's")


def _scaled(node: Node, codes: Array) -> Array:
    """Codes with 20 more bits, on twice the input's scale."""
    term, _ = _one_scale(node)
    return fixed.mbqm((codes.astype(np.int64) - node.input(0).zero_point) << 20, *term)


def _finished(node: Node, total: Array) -> Array:
    """Sums as int8. TFLM starts them at code 0, which stands for -zero_point, not for nothing."""
    _, last = _one_scale(node)
    total = total + _scaled(node, np.zeros((), np.int64))
    codes = fixed.mbqm(fixed.wrap32(total), *last) + node.output(0).zero_point
    result: Array = np.clip(codes, -_CODES, _CODES - 1).astype(np.int8)
    return result


def _summed_in_order(rows: Array) -> Array:
    """float32 sums along the last axis, one addition after the other."""
    found: Array = np.add.accumulate(rows, axis=-1, dtype=np.float32)[..., -1]
    return found


class Sum(reductions.Sum):
    """int8 and int16 sums are scaled in fixed point, as means are; float32 is summed in order."""

    in_floats: ClassVar[bool] = False

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        """Of rows that are not empty."""
        if rows.dtype == np.float32 and rows.size:
            return _summed_in_order(rows)
        return super().fold(node, rows, whole=whole)


class Mean(reductions.Mean):
    """float32 is summed in order."""

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        """Of rows that are not empty."""
        if rows.dtype == np.float32 and rows.size:
            return np.asarray(_summed_in_order(rows) / np.float32(rows.shape[-1]))
        return super().fold(node, rows, whole=whole)


class AddN(bitwise.AddN):
    """float32 without bounds, and int8 of one scale: terms are summed with 20 more bits."""

    is_bounded: ClassVar[bool] = False

    def infer(self, node: Node) -> Types:
        """One output, as the first input."""
        first, y = node.input(0), node.output(0)
        if first.dtype != I8:
            return super().infer(node)
        _require_one_scale(node)
        for position in range(1, len(node.inputs)):
            other = node.input(position)
            same = other.dims == first.dims and other.dtype == first.dtype
            same = same and (other.scale, other.zero_point) == (first.scale, first.zero_point)
            node.require(same, f"input {position} differs from input 0 in shape, type or scale")
        return [y.with_shape(first.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """The sum of the terms, scaled once."""
        if node.input(0).dtype != I8:
            return super().reference(node, *inputs)
        terms = [_scaled(node, np.asarray(x)) for x in inputs]
        return _finished(node, np.asarray(sum(terms[1:], terms[0])))

    def lower(self, node: Node, steps: Lowering) -> None:
        """The sum of int8 terms is that of codes: the first multiplier is a half."""
        from litejit.ops import elementwise_lowering

        if node.input(0).dtype == I8:
            elementwise_lowering.total8(node, steps, _one_scale(node)[1])
        else:
            super().lower(node, steps)


class Cumsum(reductions.Cumsum):
    """float32, and int8: running sums with 20 more bits."""

    def infer(self, node: Node) -> Types:
        """One output, as the input."""
        x, axis = node.input(0), node.input(1)
        if x.dtype != I8:
            return super().infer(node)
        node.require(axis.size == 1, f"axis must be one number, got shape {axis.dims}")
        node.require(x.rank >= 1, "input must have at least one dimension")
        if axis.value is not None:
            normal_axis(node.require, int(axis.value.reshape(-1)[0]), x.rank)
        _require_one_scale(node)
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Sum the scaled terms, then scale every sum."""
        if node.input(0).dtype != I8:
            return super().reference(node, *inputs)
        x, axis = inputs
        sums = super().reference(node, _scaled(node, x), axis)
        return _finished(node, np.asarray(sums))

    def lower(self, node: Node, steps: Lowering) -> None:
        """The compiled terms are those of `_one_scale`, whose first multiplier is a half."""
        from litejit.ops.reduce_lowering import lower_running_sum

        is_byte = node.input(0).dtype == I8
        lower_running_sum(node, steps, _one_scale(node)[1] if is_byte else None)


class Div(arithmetic.Div):
    """Codes that stand for 0 are divisors, too: what wrapping int32 makes of their reciprocals."""

    checked: ClassVar[bool] = False


class SquaredDifference(arithmetic.SquaredDifference):
    """int16 too, without extra bits."""

    dtypes = (F32, I32, I8, I16)  # type: ignore[assignment]

    def is_quantized(self, node: Node) -> bool:
        """int8 and int16."""
        return node.input(0).dtype in (I8, I16)

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Scales must give multipliers."""
        if self.is_quantized(node):
            require_scales(node, a, b, y)
            arithmetic.common_scale(node, self.left_shift(node), squared=True)

    def left_shift(self, node: Node) -> int:
        """Extra bits of the difference."""
        return 7 if node.input(0).dtype == I8 else 0

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Both terms on one scale, the square of their difference scaled to y."""
        terms = arithmetic.common_scale(node, self.left_shift(node), squared=True)
        x, y = arithmetic.scaled_terms(node, terms, a, b)
        return arithmetic.finish(node, (x - y) ** 2, terms.y, terms.low, terms.high)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Exact vector kernels."""
        from litejit.ops import elementwise_lowering

        if self.is_quantized(node):
            terms = arithmetic.common_scale(node, self.left_shift(node), squared=True)
            elementwise_lowering.sum8(node, steps, terms, -1, squared=True)
        else:
            super().lower(node, steps)


class Greater(compare.Greater):
    """y = a > b. int16 codes are scaled by multipliers that TFLM leaves at 0: none is greater."""

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """False for int16."""
        if node.input(0).dtype == I16:
            return np.zeros(np.broadcast_shapes(a.shape, b.shape), np.bool_)
        return super().compute(node, a, b)

    def infer(self, node: Node) -> Types:
        """Known before the run for int16."""
        (y,) = super().infer(node)
        return [y.with_value(np.zeros(y.dims, np.bool_)) if node.input(0).dtype == I16 else y]


_ABS_OP = unary.Abs


class Abs(_ABS_OP):  # type: ignore[misc,valid-type]
    """The multiplier is formed in float64."""

    def integers(self, node: Node, x: Array) -> Array:
        """|x - zp| on the output's scale."""
        source, target = node.input(0), node.output(0)
        if not source.is_quantized or source.scale == target.scale:
            return np.asarray(super().integers(node, x))
        value = np.abs(x.astype(np.int64) - source.zero_point)
        value = fixed.mbqm(value, *fixed.quantize_multiplier(source.scale / target.scale))
        return np.asarray(np.clip(value + target.zero_point, *fixed.type_range(target.dtype)))


_RSQRT_OP = unary.Rsqrt


class Rsqrt(_RSQRT_OP):  # type: ignore[misc,valid-type]
    """int16 by the arithmetic of int8: LiteRT interpolates a table."""

    def integers(self, node: Node, x: Array) -> Array:
        """Codes at the zero point give the largest output."""
        if x.dtype != np.int16:
            return np.asarray(super().integers(node, x))
        source, target = node.input(0), node.output(0)
        value = x.astype(np.int64) - source.zero_point
        node.check((value >= 0).all(), "the square root of a negative number")
        real = np.float32(np.sqrt(np.float32(source.scale))) * np.float32(target.scale)
        m, shift = fixed.quantize_multiplier(1 / float(real))
        inverse, left = fixedexp.inverse_sqrts(value)
        data = fixed.mbqm(np.ones_like(value), inverse, left + 20)
        result = np.clip(fixed.mbqm(data, m, shift - 20) + target.zero_point, -32768, 32767)
        return np.where(value == 0, 32767, result)


class Cast(quantize.Cast):
    """NaN becomes 0, where LiteRT makes it the largest integer."""

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Without NaN where the result is an integer."""
        (x,) = inputs
        if node.input(0).dtype == F32 and node.output(0).dtype.is_integer:
            x = np.where(np.isnan(x), np.float32(0), x)
        return super().reference(node, x)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's, but for NaN."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.cast(node, steps, nan_is_zero=node.input(0).dtype == F32)


class Quantize(quantize.Quantize):
    """int8 to int32 too; float32 to int8 and int16, where what int32 cannot hold is as NaN."""

    wraps: ClassVar[bool] = True
    wide: ClassVar[tuple[DType, ...]] = (I8, U8)

    def infer(self, node: Node) -> Types:
        """One output of the input's shape."""
        x, y = node.input(0), node.output(0)
        if x.dtype not in self.wide or y.dtype != I32:
            return super().infer(node)
        require_scales(node, x, y)
        fixed.require_multiplier(node, x.scale / y.scale)
        return [y.with_shape(x.dims)]


class L2Normalization(softmaxes.L2Normalization):
    """int8 results count in 1/128, whatever the file says."""

    needs_scale: ClassVar[bool] = False


class _Extreme(reductions.Reduction):
    """Quantizations are compared when the operator runs."""

    def require_quantization(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Not before the run."""

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """As LiteRT's for equal quantizations."""
        node.check(_is_one_range(node), "input and result are quantized differently")
        return super().reference(node, *inputs)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As LiteRT's for equal quantizations."""
        if _is_one_range(node):
            super().lower(node, steps)


def _is_one_range(node: Node) -> bool:
    x, y = node.input(0), node.output(0)
    same = (x.scale, x.zero_point) == (y.scale, y.zero_point)
    return x.dtype.is_float or same


class ReduceMax(_Extreme, reductions.ReduceMax):
    """As LiteRT's."""


class ReduceMin(_Extreme, reductions.ReduceMin):
    """As LiteRT's."""


class ZerosLike(create.ZerosLike):
    """int8 too: code 0, which stands for another number where the zero point is not 0."""

    dtypes: ClassVar[tuple[DType, ...]] = (F32, I8, I32, I64)
