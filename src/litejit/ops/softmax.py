"""Softmax, its logarithm, and normalization over the last axis."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from litejit.kernels.base import KernelSpec
from litejit.kernels.softmax import L2NormF32, SoftmaxF32, SoftmaxShortFloats
from litejit.model.options.elementwise import (
    L2NormOptions,
    LocalResponseNormalizationOptions,
    LogSoftmaxOptions,
    SoftmaxOptions,
)
from litejit.ops import fixedexp, fixedpoint
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.floats import narrow, widen
from litejit.ops.indexing import made, require_scales
from litejit.types import BF16, F16, F32, I8, I16, U8, Array, TensorType

_MADE_FROM = {
    "FLOAT32": ("FLOAT32",),
    "FLOAT16": ("FLOAT16",),
    "BFLOAT16": ("BFLOAT16",),
    "UINT8": ("UINT8", "INT16"),
    "INT8": ("INT8", "INT16"),
    "INT16": ("INT16",),
}
_FIXED = {"INT8": (-128, 1 / 256), "INT16": (0, 1 / 32768)}  # output: zero point, scale


class Differences:
    """How far below the largest code of a row its other codes are, in Q5.26, for 8-bit inputs.

    The real factor is beta * scale * 2**26, at most 2**31 - 1. LiteRT aborts the process where
    it is 1 or less (and where a row's sum reaches 512); here the same two roundings are done
    with a shift to the right: all differences shrink to 0, as they should.
    """

    def __init__(self, scale: float, beta: float) -> None:
        factor = min(beta * scale * (1 << 26), float(2**31 - 1))
        self.multiplier, self.shift = fixedpoint.quantize_multiplier(factor)
        self.least = -int(31 * (1 << 26) / 2.0**self.shift)  # what lies below counts as 0

    def scaled(self, codes: Array) -> Array:
        """Differences of codes (<= 0) in Q5.26; those below `least` as 0."""
        kept = np.where(codes >= self.least, codes, 0)
        return fixedpoint.multiply_by_quantized_multiplier(kept, self.multiplier, self.shift)

    def to_codes(self) -> tuple[int, int]:
        """The multiplier that turns Q5.26 into codes."""
        return fixedpoint.quantize_multiplier(2.0 ** (31 - self.shift) / self.multiplier)

    def table(self) -> Array:
        """exp of the differences 0, -1 ... -255 in Q0.31 (0 where they do not count)."""
        codes = -np.arange(256)
        values = fixedexp.exp_on_negative_values(self.scaled(codes))
        return np.where(codes >= self.least, values, 0)


def softmax8(rows: Array, differences: Differences, bits: int) -> Array:
    """Fixed-point softmax of 8-bit rows (int64) as unsigned values of `bits` bits."""
    table = differences.table()
    below = rows.max(-1, keepdims=True) - rows
    sums = fixedpoint.rounding_divide_by_pot(table, 12)[below].sum(-1)
    factor, over = fixedexp.reciprocal(sums, 12)
    product = fixedpoint.saturating_rounding_doubling_high_mul(table[below], factor[..., None])
    shift = (over + 31 - bits)[..., None]
    mask = (np.int64(1) << shift) - 1
    value = (product >> shift) + ((product & mask) > (mask >> 1))
    return np.asarray(np.minimum(value, (1 << bits) - 1))


def ratio16(scale: float, beta: float) -> float:
    """Codes of the int16 exponential table for one code of the input."""
    return float(np.float32(scale) * np.float32(beta)) / (10.0 / 65535.0)


def tables16() -> tuple[Array, Array]:
    """exp(x) for x in [-10, 0], and 1 / (1 + x) for x in [0, 1], for int16 codes."""
    span = 65535
    exp_table = fixedexp.table16(np.exp, 10.0 / span, 32767, 2.0 / span)
    return exp_table, fixedexp.table16(lambda v: 1.0 / (1.0 + v), 1.0 / span, -32768, 2.0 / span)


def softmax16(rows: Array, ratio: float) -> Array:
    """int16 softmax of int64 rows by two interpolated tables; `ratio` as from ratio16."""
    exp_table, inverse = tables16()
    multiplier, shift = fixedpoint.quantize_multiplier(ratio)
    below = rows - rows.max(-1, keepdims=True)
    codes = fixedpoint.multiply_by_quantized_multiplier(below, multiplier, shift) + 32767
    values = fixedexp.look_up16(exp_table, np.clip(codes, -32768, 32767))
    sums = values.sum(-1, keepdims=True)
    headroom = 32 - fixedexp.bit_length(sums)
    centred = ((sums << np.maximum(headroom - 1, 0)) + (1 << 13)) >> 14
    factor = fixedexp.look_up16(inverse, np.clip(centred - 98304, -32768, 32767))
    right = 31 - headroom
    value = (values * factor + (np.int64(1) << (right - 1))) >> right
    return np.asarray(np.clip(value, 0, 32767))


@builtin("SOFTMAX", versions=range(1, 5))
class Softmax(Op):
    """y = exp(beta * (x - max)) / sum of these, over the last axis.

    f32 | f16 | bf16 (through float32; the exponentials are rounded to the type before they are
    divided). int8 -> int8 | int16 and uint8 -> uint8 | int16: exponentials, sum and reciprocal
    in fixed point, see `softmax8`; int16: two tables. int8 has output scale 1/256 and zero
    point -128, int16 1/32768 and 0. A NaN or +inf makes its row NaN.
    Source: LiteRT tflite/kernels/internal/reference/softmax.h, activations.cc.
    """

    options = SoftmaxOptions

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        node.require_dtype(x, (F32, F16, BF16, U8, I8, I16), "input")
        node.require(x.rank >= 1, "input must have at least one dimension")
        node.require_dtype(y, _dtypes(_MADE_FROM[x.dtype.name]), "output")
        if not x.dtype.is_float:
            require_scales(node, x)
            node.require(0 <= self.beta(node) < np.inf, f"beta is {self.beta(node)}")
            if x.dtype.name == y.dtype.name and y.dtype.name in _FIXED:
                _require_near(node, y, *_FIXED[y.dtype.name])
            if x.dtype.name == "INT16":
                node.require(x.zero_point == 0, "INT16 needs zero point 0")
                fixedpoint.require_multiplier(node, ratio16(x.scale, self.beta(node)))
        return [made(node, x.dims, y.dtype)]

    def beta(self, node: Node) -> float:
        """The factor in front of the differences."""
        return float(node.options.beta) if node.options else 0.0

    def ratio(self, node: Node) -> float:
        """Codes of the int16 exponential table for one code of the input."""
        return ratio16(node.input(0).scale, self.beta(node))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        kind = node.output().dtype
        if x.size == 0:
            return np.zeros(x.shape, kind.numpy)
        if kind.is_float:
            return self._floats(node, x)
        scale, rows = node.input(0).scale, x.astype(np.int64)
        if x.dtype == np.int16:
            return softmax16(rows, self.ratio(node)).astype(np.int16)
        value = softmax8(rows, Differences(scale, self.beta(node)), kind.bits)
        least = np.iinfo(kind.numpy).min
        return np.asarray(value + least).astype(kind.numpy)

    def lower(self, node: Node, steps: Lowering) -> None:
        x, source = node.input(0), steps.inputs[0]
        if x.size == 0 or source is None:
            return
        if x.dtype.name == "INT16":
            self._lower16(node, steps)
        elif not x.dtype.is_float:
            self._lower8(node, steps)
        else:
            n, cost = x.dims[-1], x.size // x.dims[-1] * 12.0 + _vectors(node, steps) * 2.8
            operands: tuple[Any, ...] = (source, steps.outputs[0], n, self.beta(node))
            spec: KernelSpec = SoftmaxF32()
            if x.dtype.bits == 16:
                stride = (4 * n + 63) // 64 * 64
                spec, cost = SoftmaxShortFloats(x.dtype), 2 * cost
                operands += (steps.scratch(stride), stride)
            steps.may_share()
            steps.call(spec, *operands, items=x.size // n, cost_ns=cost)

    def _lower8(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels import softmax_fixed

        x, source = node.input(0), steps.inputs[0]
        assert source is not None
        n = x.dims[-1]
        rows, is_short = x.size // n, n <= softmax_fixed.SHORT
        if n > softmax_fixed.MOST_COLUMNS:
            return
        table = Differences(x.scale, self.beta(node)).table()[::-1].astype(np.int32)
        columns = n * steps.isa.vector_bytes // 8 if is_short else n
        stride = softmax_fixed.scratch_bytes(steps.isa, columns)
        operands = (source, steps.outputs[0], n, steps.constant("exponentials", lambda: table))
        cost = rows * 25 + x.size * 0.5 + _vectors(node, steps) * 6
        scratch = steps.scratch(stride)
        steps.may_share()
        unsigned, wide = x.dtype.name == "UINT8", node.output().dtype.name == "INT16"
        spec = softmax_fixed.Softmax8(unsigned, wide, is_short)
        steps.call(spec, *operands, scratch, stride, items=rows, cost_ns=cost)

    def _lower16(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.softmax_fixed import Softmax16

        x, source = node.input(0), steps.inputs[0]
        assert source is not None
        n, (multiplier, shift) = x.dims[-1], fixedpoint.quantize_multiplier(self.ratio(node))
        tables = [
            steps.constant(f"table {k}", lambda k=k: tables16()[k])  # type: ignore[misc]
            for k in range(2)
        ]
        stride = (4 * n + 63) // 64 * 64
        scratch = steps.scratch(stride)
        steps.may_share()
        steps.call(
            Softmax16(), source, steps.outputs[0], *tables, scratch, n, stride,
            multiplier, max(shift, 0), max(-shift, 0),
            items=x.size // n, cost_ns=x.size // n * 30 + x.size * 4,
        )  # fmt: skip

    def _floats(self, node: Node, x: Array) -> Array:
        kind = node.output().dtype
        wide = widen(x, kind)
        with np.errstate(all="ignore"):
            values = np.exp((wide - wide.max(-1, keepdims=True)) * np.float32(self.beta(node)))
            sums = values.sum(-1, keepdims=True, dtype=np.float64).astype(np.float32)
            return narrow(widen(narrow(values, kind), kind) / sums, kind)


def _vectors(node: Node, steps: Lowering) -> int:
    """Vectors that the rows of the input take, for estimates of time."""
    x = node.input(0)
    lanes = steps.isa.vector_bytes // 4
    return x.size // x.dims[-1] * -(-x.dims[-1] // lanes)


def _dtypes(names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(d for d in (F32, F16, BF16, U8, I8, I16) if d.name in names)


def _require_near(node: Node, y: TensorType, zero_point: int, scale: float) -> None:
    node.require(y.zero_point == zero_point, f"output zero point must be {zero_point}")
    ok = abs(np.float32(y.scale) - np.float32(scale)) <= np.float32(0.001 * scale)
    node.require(ok, f"output scale must be {scale}, got {y.scale}")


def log_softmax8(rows: Array, scale: float) -> Array:
    """Fixed-point log softmax of 8-bit rows (int64) in sixteenths: values -255 ... 0."""
    differences = Differences(scale, 1.0)
    below = rows - rows.max(-1, keepdims=True)
    exps = fixedpoint.rounding_divide_by_pot(differences.table(), 12)
    sums = np.minimum(exps[-below].sum(-1, keepdims=True), 2**31 - 1)
    log_sum = fixedexp.log_of_sum(sums)
    least = np.full(log_sum.shape, differences.least - 1)
    if differences.shift > 0:
        divisor, shift = differences.to_codes()
        bound = fixedpoint.multiply_by_quantized_multiplier(log_sum - 2**31, divisor, shift)
        least = np.maximum(least, bound)
    value = fixedpoint.rounding_divide_by_pot(differences.scaled(below) - log_sum, 22)
    return np.where(below > least, np.clip(value, -255, 0), -255)


@builtin("LOG_SOFTMAX", versions=range(1, 3))
class LogSoftmax(Op):
    """y = x - max - log(sum of exp(x - max)) over the last axis.

    f32; int8 and uint8 in fixed point with output scale 1/16 and zero point 127 or 255.
    Source: LiteRT tflite/kernels/internal/reference/log_softmax.h.
    """

    options = LogSoftmaxOptions

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        node.require_dtype(x, (F32, U8, I8), "input")
        node.require(x.rank >= 1, "input must have at least one dimension")
        if x.dtype.name != "FLOAT32":
            require_scales(node, x)
            ok = y.scale == 1 / 16 and y.zero_point == np.iinfo(x.dtype.numpy).max
            text = f"got {y.scale} and {y.zero_point}"
            node.require(ok, f"output needs scale 1/16 and its largest code as zero point, {text}")
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        if x.size == 0:
            return np.asarray(x.copy())
        if x.dtype == np.float32:
            with np.errstate(all="ignore"):
                below = x - x.max(-1, keepdims=True)
                sums = np.exp(below).sum(-1, keepdims=True, dtype=np.float64)
                return np.asarray(below - np.log(sums).astype(np.float32))
        value = log_softmax8(x.astype(np.int64), node.input(0).scale)
        return np.asarray(value + np.iinfo(x.dtype).max).astype(x.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.softmax_fixed import LogSoftmax8, scratch_bytes

        x, source = node.input(0), steps.inputs[0]
        if x.size == 0 or source is None:
            return
        n = x.dims[-1]
        rows = x.size // n
        steps.may_share()
        if x.dtype.is_float:
            cost = rows * 35 + _vectors(node, steps) * 7
            operands = (source, steps.outputs[0], n, 1.0)
            steps.call(SoftmaxF32(log=True), *operands, items=rows, cost_ns=cost)
            return
        differences = Differences(x.scale, 1.0)
        exps = fixedpoint.rounding_divide_by_pot(differences.table(), 12)
        scaled = differences.scaled(-np.arange(256))
        tables = [
            steps.constant(name, partial(table.astype, np.int32))
            for name, table in (("exponentials", exps[::-1]), ("differences", scaled[::-1]))
        ]
        bounded = differences.shift > 0
        divisor, shift = differences.to_codes() if bounded else (0, 0)
        stride = scratch_bytes(steps.isa, n)
        steps.call(
            LogSoftmax8(x.dtype.name == "UINT8", bounded), source, steps.outputs[0],
            *tables, steps.scratch(stride), n, stride, differences.least - 1,
            *(divisor, max(shift, 0), max(-shift, 0)), items=rows, cost_ns=rows * 40 + x.size * 1.2,
        )  # fmt: skip


@builtin("L2_NORMALIZATION", versions=range(1, 3))
class L2Normalization(Op):
    """y = x / max(sqrt(sum of x * x), 1e-6) over the last axis.

    f32; int8 and uint8 by a fixed-point inverse square root, output scale 1/128 and zero point
    0 or 128. Source: LiteRT tflite/kernels/l2norm.cc, internal/reference/l2normalization.h.
    """

    options = L2NormOptions
    needs_scale: ClassVar[bool] = True  # of the output: 1/128, which is what it gets anyway

    def infer(self, node: Node) -> Types:
        x, y = node.input(0), node.output()
        node.require_dtype(x, (F32, U8, I8), "input")
        node.require(x.rank >= 1, "input must have at least one dimension")
        activation = node.options.activation if node.options else 0
        node.require(activation == 0, "a fused activation is not supported")
        if x.dtype.name != "FLOAT32" and self.needs_scale:
            zero = 128 if x.dtype.name == "UINT8" else 0
            ok = y.scale == 1 / 128 and y.zero_point == zero
            text = f"got {y.scale} and {y.zero_point}"
            node.require(ok, f"output needs scale 1/128 and zero point {zero}, {text}")
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        if x.size == 0:
            return np.asarray(x.copy())
        if x.dtype == np.float32:
            with np.errstate(all="ignore"):
                squares = (x * x).sum(-1, keepdims=True, dtype=np.float64).astype(np.float32)
                return np.asarray(x / np.maximum(np.sqrt(squares), np.float32(1e-6)))
        wide = x.astype(np.int64) - node.input(0).zero_point
        rows = wide.reshape(-1, x.shape[-1])
        sums = np.minimum((rows * rows).sum(-1, keepdims=True), 2**31 - 1)
        scaled = self._scaled(x.dtype, rows, *fixedexp.inverse_sqrts(sums))
        zero, info = node.output().zero_point, np.iinfo(x.dtype)
        return np.asarray(np.clip(scaled + zero, info.min, info.max).reshape(x.shape), x.dtype)

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.softmax_fixed import L2Norm8, scratch_bytes

        x, source = node.input(0), steps.inputs[0]
        if x.size == 0 or source is None:
            return
        n = x.dims[-1]
        rows = x.size // n
        steps.may_share()
        operands = (source, steps.outputs[0])
        if x.dtype.is_float:
            cost = rows * 20 + _vectors(node, steps) * 5
            steps.call(L2NormF32(), *operands, n, items=rows, cost_ns=cost)
            return
        stride = scratch_bytes(steps.isa, 0)
        steps.call(
            L2Norm8(x.dtype.name == "UINT8"), *operands, steps.scratch(stride), stride, n,
            x.zero_point, items=rows, cost_ns=rows * 30 + x.size * 0.7,
        )  # fmt: skip

    @staticmethod
    def _scaled(dtype: np.dtype[Any], rows: Array, multiplier: Array, shift: Array) -> Array:
        if dtype == np.int8:
            return fixedpoint.multiply_by_quantized_multiplier(rows, multiplier, shift + 7)
        return fixedpoint.multiply_by_quantized_multiplier(128 * rows, multiplier, shift)


@builtin("LOCAL_RESPONSE_NORMALIZATION")
class LocalResponseNormalization(Op):
    """y[c] = x[c] * (bias + alpha * sum of x[k]**2 for |k - c| <= radius) ** -beta.

    f32, NHWC. As TensorFlow and LiteRT's optimized kernel have it; LiteRT's reference kernel
    leaves out k = c + radius. Source: LiteRT tflite/kernels/local_response_norm.cc.
    """

    options = LocalResponseNormalizationOptions

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, (F32,), "input")
        node.require(x.rank == 4, f"input must be NHWC, got shape {x.dims}")
        radius = node.options.radius if node.options else 0
        node.require(radius >= 0, f"radius is {radius}, expected 0 or more")
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        o = node.options or LocalResponseNormalizationOptions()
        depth = x.shape[-1]
        with np.errstate(all="ignore"):
            squares = (x * x).astype(np.float64)
            total = np.zeros_like(squares)
            for offset in range(-min(o.radius, depth), min(o.radius, depth) + 1):
                low, high = max(0, -offset), min(depth, depth - offset)
                total[..., low:high] += squares[..., low + offset : high + offset]
            base = (o.bias + o.alpha * total).astype(np.float32)
            return np.asarray(x * base ** np.float32(-o.beta))

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.kernels.pool import NeighboursF32

        x, source = node.input(0), steps.inputs[0]
        if x.size == 0 or source is None:
            return
        o, n = node.options or LocalResponseNormalizationOptions(), x.dims[-1]
        radius, lanes = min(o.radius, n - 1), steps.isa.vector_bytes // 8
        items = -(-x.size // lanes)
        channels = steps.constant(f"channels {n}", lambda: np.arange(n + 16, dtype=np.int32) % n)
        steps.call(
            NeighboursF32(), source, steps.outputs[0], channels, x.size, n, radius,
            *(float(number) for number in (o.alpha, o.bias, -o.beta)),
            items=items, cost_ns=items * (25 + 4.0 * radius),
        )  # fmt: skip
