"""Conversions between real numbers, quantized codes, and element types.

Sources: LiteRT tflite/kernels/{quantize,dequantize,cast,fake_quant,bitcast}.cc,
internal/reference/{quantize,requantize,dequantize}.h, internal/quantization_util.cc.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options import elementwise as options
from litejit.ops import fixedpoint, lut
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.elementwise import require_scales
from litejit.ops.floats import narrow, widen
from litejit.types import (
    BF16,
    BOOL,
    C64,
    F16,
    F32,
    F64,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    U4,
    U8,
    U16,
    U32,
    Array,
    DType,
    Quantization,
    TensorType,
)  # fmt: skip

_PACKED = (I2, I4, U4)
_REQUANTIZED: dict[DType, tuple[DType, ...]] = {
    I32: (I8, I16),
    I16: (I8, I16, I32),
    I8: (I8, U8, I16),
    U8: (I8, U8, I16),
}


def _require_axis(node: Node, tensor: TensorType) -> None:
    q = tensor.quantization
    if q is None or not q.per_channel:
        return
    node.require(0 <= q.axis < tensor.rank, f"quantized dimension {q.axis} of rank {tensor.rank}")
    fits = len(q.scales) == tensor.dims[q.axis] and len(q.zero_points) in (1, len(q.scales))
    node.require(fits, f"{len(q.scales)} scales for a dimension of {tensor.dims[q.axis]}")


def _along_axis(q: Quantization, rank: int) -> tuple[Array, Array]:
    """Scales (float32) and zero points (int64) that broadcast along the quantized dimension."""
    shape = [1] * rank
    if q.per_channel:
        shape[q.axis] = -1
    scales = q.scales if q.per_channel else q.scales[:1]
    zero_points = np.asarray(q.zero_points, np.int64)
    if len(zero_points) == 0:
        zero_points = np.zeros(1, np.int64)
    if not q.per_channel:
        zero_points = zero_points[:1]
    points = zero_points.reshape(shape if len(zero_points) > 1 else [1] * rank)
    return np.asarray(scales, np.float32).reshape(shape), points


@builtin("QUANTIZE", versions=range(1, 7))
class Quantize(Op):
    """float32: y = clamp(round_half_away(x / scale) + zero_point), per tensor or per channel.

    NaN becomes the largest code where the zero point is negative, else the smallest: what the
    reference kernel's sum wraps to. To int16 so does what int32 cannot hold. Integers are
    rescaled by s_x / s_y (float64) with two roundings. int4 and uint4 lie one to a byte.

    In a model that LiteRT's reference kernels do not run, float32 becomes 8 bits as LiteRT's
    default run has it: clamp(round_half_even(x * (1 / scale)) + zero_point), NaN the largest.
    """

    options = options.QuantizeOptions
    is_elementwise = True
    wraps: ClassVar[bool] = False  # to 8 bits, too, what int32 cannot hold is as NaN

    def infer(self, node: Node) -> Types:
        """One output of x's shape."""
        x, y = node.input(0), node.output(0)
        y = y.with_shape(x.dims)
        if x.dtype == F32:
            node.require_dtype(y, (U8, I8, I16, I4, U4), "output")
            fixedpoint.require_scale(node, y, "output")
            _require_axis(node, y)
            return [y]
        node.require_dtype(x, (F32, *_REQUANTIZED), "input")
        node.require_dtype(y, _REQUANTIZED[x.dtype], "output")
        require_scales(node, x, y)
        fixedpoint.require_multiplier(node, x.scale / y.scale)
        if x.dtype == I16 and y.dtype == I16:
            symmetric = x.zero_point == y.zero_point == 0
            node.require(symmetric, "int16 tensors need zero point 0")
        return [y]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Exactly LiteRT's reference kernels."""
        x, source, target = np.asarray(inputs[0]), node.input(0), node.output(0)
        low, high = fixedpoint.type_range(target.dtype)
        if x.dtype == np.float32:
            assert target.quantization is not None
            if self.rounds_to_even(node):
                return self._to_even(x, target)
            with np.errstate(all="ignore"):
                scales, zero_points = _along_axis(target.quantization, x.ndim)
                rounded = lut.round_away(x / scales)
                codes = lut.to_integer(rounded, -(2**31), 2**31 - 1, nan=-(2**31))
                lost = np.isnan(rounded)
                if self.wraps or target.dtype == I16:
                    lost |= np.abs(rounded) >= 2**31
                    codes = np.where(lost, -(2**31), codes)
                wrapped = lost & (zero_points < 0)
                codes = np.where(wrapped, 2**31 - 1, codes)
            return narrow(np.clip(codes + zero_points, low, high), target.dtype)
        m, shift = fixedpoint.quantize_multiplier(source.scale / target.scale)
        centred = fixedpoint.wrap32(x.astype(np.int64) - source.zero_point)
        codes = fixedpoint.multiply_by_quantized_multiplier(centred, m, shift)
        return narrow(np.clip(codes + target.zero_point, low, high), target.dtype)

    def rounds_to_even(self, node: Node) -> bool:
        """Whether LiteRT's default run decides how float32 becomes codes."""
        y, session = node.output(0), node.session
        beyond = session is not None and session.beyond_reference
        one = y.quantization is not None and not y.quantization.per_channel
        return beyond and one and y.dtype in (I8, U8)

    @staticmethod
    def _to_even(x: Array, target: TensorType) -> Array:
        low, high = fixedpoint.type_range(target.dtype)
        with np.errstate(all="ignore"):
            real = np.rint(x * (np.float32(1) / np.float32(target.scale)))
        codes = lut.to_integer(real, -(2**16), 2**16, nan=2**16) + target.zero_point
        return narrow(np.clip(codes, low, high), target.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel from float32, a table from 8-bit to 8-bit codes."""
        from litejit.ops.elementwise_lowering import quantize

        quantize(node, steps, to_even=self.rounds_to_even(node), wraps=self.wraps)


@builtin("DEQUANTIZE", versions=range(1, 10))
class Dequantize(Op):
    """y = scale * (q - zero_point) rounded once to float32; float16 and bfloat16 are widened."""

    options = options.DequantizeOptions
    is_elementwise = True

    def infer(self, node: Node) -> Types:
        """One float32 output of x's shape."""
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, (I2, I4, U4, I8, U8, I16, F16), "input")
        node.require_dtype(y, (F32,), "output")
        if x.dtype != F16:
            fixedpoint.require_scale(node, x, "input")
            _require_axis(node, x)
        symmetric = x.dtype != I16 or x.zero_point == 0
        node.require(symmetric, f"int16 input has zero point {x.zero_point}, expected 0")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """The exact product, rounded."""
        x, source = np.asarray(inputs[0]), node.input(0)
        if source.dtype == F16:
            return x.astype(np.float32)
        assert source.quantization is not None
        scales, zero_points = _along_axis(source.quantization, x.ndim)
        centred = (x.astype(np.int64) - zero_points).astype(np.float32)
        return np.asarray(scales * centred, np.float32)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel from 8- and 16-bit codes with one scale."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.dequantize(node, steps)


_CAST = (I8, U8, I16, U16, I32, U32, I64, F16, BF16, F32, F64, BOOL, C64)


@builtin("CAST", versions=range(1, 10))
class Cast(Op):
    """The same number in another type; quantization is not looked at.

    Floats to integers: cut toward zero, saturating, NaN to the largest; integers to integers
    wrap; anything to bool: not 0 (NaN is true); complex numbers lose their imaginary part.
    """

    options = options.CastOptions
    is_elementwise = True

    def infer(self, node: Node) -> Types:
        """One output of x's shape."""
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, _CAST + _PACKED, "input")
        node.require_dtype(y, _CAST + _PACKED, "output")
        narrow_ok = x.dtype not in _PACKED or y.dtype == F32
        node.require(narrow_ok, f"{x.dtype.name} is cast to FLOAT32 only, not {y.dtype.name}")
        wide_ok = y.dtype not in _PACKED or x.dtype == F32
        node.require(wide_ok, f"{y.dtype.name} is cast from FLOAT32 only, not {x.dtype.name}")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """By the kinds of both types."""
        source, target = node.input(0).dtype, node.output(0).dtype
        x = widen(np.asarray(inputs[0]), source)
        with np.errstate(all="ignore"):
            if source == C64 and target != C64:
                x = x.real
            if target == BOOL:
                return np.asarray(x != 0)
            if x.dtype.kind == "f" and target.is_integer:
                return narrow(_saturated(x, target), target)
            return narrow(x, target)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel for the usual pairs."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.cast(node, steps)


def _saturated(x: Array, target: DType) -> Array:
    low, high = fixedpoint.type_range(target)
    whole = np.trunc(x)
    inside = (whole >= low) & (whole < float(high) + (0 if high >= 2**53 else 1))
    values = np.where(inside, whole, 0).astype(target.numpy)
    # NaN is not below: it becomes the largest
    outside = np.where(whole < low, target.numpy.type(low), target.numpy.type(high))
    return np.where(inside, values, outside)


@builtin("FAKE_QUANT", versions=range(1, 3))
class FakeQuant(Op):
    """float32 rounded to the 2**num_bits steps between min and max, moved to contain 0."""

    options = options.FakeQuantOptions
    is_elementwise = True

    def infer(self, node: Node) -> Types:
        """One output, as x."""
        x, y, bits = node.input(0), node.output(0), node.options.num_bits
        node.require_dtype(x, (F32,), "input")
        node.require_dtype(y, (F32,), "output")
        node.require(not node.options.narrow_range, "narrow_range is not supported")
        node.require(2 <= bits <= 16, f"num_bits is {bits}, expected 2 ... 16")
        low, high = node.options.min, node.options.max
        ordered = np.isfinite(low) and np.isfinite(high) and low < high
        node.require(ordered, f"the range [{low}, {high}] is empty or not finite")
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """In float32, step by step."""
        x = np.asarray(inputs[0])
        low, high, scale, inverse = self.steps(node)
        with np.errstate(all="ignore"):
            clamped = np.where(x < low, low, x)
            clamped = np.where(clamped > high, high, clamped)
            steps = lut.round_away((clamped - low) * inverse)
            return np.asarray(steps * scale + low, np.float32)

    def steps(self, node: Node) -> tuple[Any, Any, Any, Any]:
        """The range after it was moved, the size of a step and its inverse, all float32."""
        f, options = np.float32, node.options
        low, high, top = f(options.min), f(options.max), f((1 << options.num_bits) - 1)
        with np.errstate(all="ignore"):
            scale = (high - low) / top
            zero_point = np.clip(lut.round_away(np.asarray(-low / scale, f)), f(0), top)
            return -zero_point * scale, (top - zero_point) * scale, scale, f(1) / scale

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel."""
        from litejit.ops import elementwise_lowering

        numbers = tuple(float(number) for number in self.steps(node))
        elementwise_lowering.function(node, steps, "fake_quant", numbers)


@builtin("BITCAST")
class Bitcast(Op):
    """The same bytes as another type; the last dimension appears or goes as the widths ask."""

    options = options.BitcastOptions
    keeps_bytes = True

    def infer(self, node: Node) -> Types:
        """One output; its shape follows from both widths."""
        x, y = node.input(0), node.output(0)
        for tensor, what in ((x, "input"), (y, "output")):
            plain = tensor.dtype.bits >= 8
            node.require(plain, f"{what} is {tensor.dtype.name}, whose elements are not bytes")
        wide, slim = x.dtype.itemsize, y.dtype.itemsize
        if wide > slim:
            return [y.with_shape((*x.dims, wide // slim))]
        if wide < slim:
            last = x.dims[-1] if x.rank else 0
            ok = last == slim // wide
            node.require(ok, f"the last dimension is {last}, expected {slim // wide}")
            return [y.with_shape(x.dims[:-1])]
        return [y.with_shape(x.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """A view of the bytes."""
        y = node.output(0)
        return (
            np.ascontiguousarray(inputs[0])
            .view(np.uint8)
            .ravel()
            .view(y.dtype.numpy)
            .reshape(y.dims)
        )

    def lower(self, node: Node, steps: Lowering) -> None:
        """Nothing moves."""
        steps.alias(0, 0)
