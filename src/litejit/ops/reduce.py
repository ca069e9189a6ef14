"""Reductions, positions of extremes, running sums."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options.index import (
    ArgMaxOptions,
    ArgMinOptions,
    CumsumOptions,
    ReducerOptions,
)
from litejit.ops import fixedpoint
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.indexing import (
    made,
    normal_axes,
    normal_axis,
    require_same_quantization,
    require_scales,
)
from litejit.types import BOOL, F32, I8, I16, I32, I64, U8, Array, DType, TensorType

_NARROW = ("UINT8", "INT8", "INT16")


def reduced_shape(shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    """Shape of a reduction of `shape` over `axes`."""
    if keep:
        return tuple(1 if j in axes else n for j, n in enumerate(shape))
    return tuple(n for j, n in enumerate(shape) if j not in axes)


class Reduction(Op):
    """y = fold of x over axes (input 1, int32; negative counts from the end, duplicates once).

    A scalar is folded over itself alone. `keep_dims` leaves reduced axes as 1. Axes that are
    not constant make the shape depend on data. int16 tensors have zero point 0.
    Source: LiteRT tflite/kernels/reduce.cc.
    """

    options = ReducerOptions
    arity = (2, 2)
    dtypes: ClassVar[tuple[DType, ...]] = (F32, I32, I64, U8, I8, I16)

    def infer(self, node: Node) -> Types:
        x, axis = node.input(0), node.input(1)
        node.require_dtype(x, self.dtypes, "input")
        node.require(axis.dtype.name == "INT32", f"axes are {axis.dtype.name}, expected INT32")
        y = node.output()
        if x.dtype.name == "INT16":
            zero = x.zero_point == 0 and y.zero_point == 0
            node.require(zero, "INT16 needs zero point 0")
        self.require_quantization(node, x, y)
        found = np.zeros(0, np.int32) if axis.size == 0 else axis.value
        if found is None:
            return [made(node, None, x.dtype)]
        axes = normal_axes(node.require, found, x.rank)
        y = made(node, reduced_shape(x.dims, axes, self.keeps(node)), x.dtype)
        if x.size == 0:  # nothing is folded: the result is known
            nothing = self.reference(node, np.zeros(x.dims, x.dtype.numpy), found)
            return [y.with_value(np.asarray(nothing))]
        return [y]

    def require_quantization(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Refuse scales and zero points that the arithmetic has no answer for."""
        if x.dtype.name in _NARROW:
            require_same_quantization(node, x, y)

    def keeps(self, node: Node) -> bool:
        """Whether reduced axes stay, as 1."""
        return bool(node.options and node.options.keep_dims)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, axis = inputs
        axes = normal_axes(node.check, axis, x.ndim)
        shape = reduced_shape(x.shape, axes, self.keeps(node))
        others = tuple(j for j in range(x.ndim) if j not in axes)
        count = int(np.prod([x.shape[j] for j in axes], dtype=np.int64))
        rows = np.transpose(x, (*others, *axes))
        rows = rows.reshape(*rows.shape[: len(others)], count)
        with np.errstate(all="ignore"):
            y = self.fold(node, rows, whole=len(others) == 0 and x.ndim > 0)
        return np.asarray(y).astype(x.dtype, copy=False).reshape(shape)

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        """Fold the last axis (which may be empty); `whole`: all axes of x were reduced."""
        raise NotImplementedError

    word: ClassVar[str]  # of the compiled fold

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.ops.reduce_lowering import lower_reduction

        lower_reduction(self, node, steps)

    def start(self, node: Node, *, whole: bool) -> int:
        """What compiled folds begin from: an integer, or the bits of a float32."""
        return 0


def _divide_toward_zero(a: Array, n: int) -> Array:
    quotient = a // n
    result: Array = quotient + ((a < 0) & (quotient * n != a))
    return result


@builtin("MEAN", versions=range(1, 4))
class Mean(Reduction):
    """y = sum of x over axes / n.

    f32: one rounding of the sum, one of the division. int32, int64: the 64-bit sum divided
    toward zero. uint8, int8, int16: scale ratio and 1/n in one fixed-point multiplier, two
    roundings. No elements: NaN, or 0 for integers.
    Source: LiteRT tflite/kernels/internal/reference/reduce.h.
    """

    word = "mean"

    def require_quantization(self, node: Node, x: TensorType, y: TensorType) -> None:
        if x.dtype.name in _NARROW:
            require_scales(node, x, y)
            fixedpoint.require_multiplier(node, x.scale / y.scale)

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        n = rows.shape[-1]
        if rows.dtype == np.float32:
            if rows.size == 0:
                return np.full(rows.shape[:-1], np.nan, np.float32)
            total = rows.sum(-1, dtype=np.float64).astype(np.float32)
            return np.asarray(total / np.float32(n))
        if rows.size == 0:
            return np.zeros(rows.shape[:-1], rows.dtype)
        total = rows.sum(-1, dtype=np.int64)
        if rows.dtype.itemsize >= 4:
            return _divide_toward_zero(total, n)
        return rescaled(node.input(0), node.output(), total, n, divisor=n)


def mean_multiplier(x: TensorType, y: TensorType, n: int) -> tuple[int, int]:
    """(multiplier, shift) that hold scale(x) / scale(y) / n."""
    multiplier, shift = fixedpoint.quantize_multiplier(x.scale / y.scale)
    extra = min(n.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // n, shift - extra


def rescaled(x: TensorType, y: TensorType, total: Array, n: int, *, divisor: int) -> Array:
    """Quantized means (divisor n) or sums (1) of rows of n elements from their 64-bit sums."""
    info = np.iinfo(x.dtype.numpy)
    multiplier, shift = mean_multiplier(x, y, divisor)
    centred = fixedpoint.wrap32(total - x.zero_point * n)
    value = fixedpoint.multiply_by_quantized_multiplier(centred, multiplier, shift)
    return np.asarray(np.clip(value + y.zero_point, info.min, info.max))


@builtin("SUM", versions=range(1, 3))
class Sum(Reduction):
    """y = sum of x over axes; integers wrap; no elements: 0.

    uint8, int8, int16: round(sum * scale - n * zero_point * scale) in float32, half away from
    zero, with scale = scale(x) / scale(y): what TensorFlow means and LiteRT's optimized kernel
    computes. (Its reference kernel reads every type as uint8, which is wrong.)
    Source: LiteRT tflite/kernels/internal/optimized/reduce.h.
    """

    word = "sum"
    in_floats: ClassVar[bool] = True  # else by a fixed-point multiplier, as means

    def require_quantization(self, node: Node, x: TensorType, y: TensorType) -> None:
        if x.dtype.name in _NARROW:
            require_scales(node, x, y)

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        if rows.dtype == np.float32:
            return np.asarray(rows.sum(-1, dtype=np.float64))
        if rows.dtype.itemsize >= 4:
            return np.asarray(rows.sum(-1, dtype=rows.dtype))
        if rows.size == 0:
            return np.zeros(rows.shape[:-1], rows.dtype)
        if not self.in_floats:
            total = rows.sum(-1, dtype=np.int64)
            return rescaled(node.input(0), node.output(), total, rows.shape[-1], divisor=1)
        scale, bias = sum_factor(node.input(0), node.output(), rows.shape[-1])
        whole_sum = fixedpoint.wrap32(rows.sum(-1, dtype=np.int64)).astype(np.float32)
        info = np.iinfo(rows.dtype)
        value = np.clip(fixedpoint.round_half_away(whole_sum * scale + bias), -(2**31), 2**31 - 1)
        result = value.astype(np.int64) + node.output().zero_point
        return np.asarray(np.clip(result, info.min, info.max))


def sum_factor(x: TensorType, y: TensorType, n: int) -> tuple[np.float32, np.float32]:
    """(scale, bias) of sums of n quantized elements."""
    scale = np.float32(x.scale) / np.float32(y.scale)
    return scale, np.float32(-x.zero_point) * scale * np.float32(n)


class _Extreme(Reduction):
    largest: ClassVar[bool]

    def start(self, node: Node, *, whole: bool) -> int:
        first = first_extreme(node.input(0).dtype.numpy, self.largest, whole)
        bits = np.float32(first).view(np.int32) if node.input(0).dtype.is_float else first
        return int(bits)

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        return np.asarray(extreme(rows, largest=self.largest, whole=whole))


def extreme(rows: Array, *, largest: bool, whole: bool) -> Any:
    """Largest or smallest along the last axis; an empty one has the type's opposite end."""
    fold = np.fmax if largest else np.fmin
    return fold.reduce(rows, axis=-1, initial=first_extreme(rows.dtype, largest, whole))


def first_extreme(dtype: np.dtype[Any], largest: bool, whole: bool) -> Any:
    """What a search starts from: the last finite float, or infinity where all is one row."""
    if dtype.kind == "f":
        end = np.inf if whole else float(np.finfo(dtype).max)
        return -end if largest else end
    info = np.iinfo(dtype)
    return info.min if largest else info.max


@builtin("REDUCE_MAX", versions=range(1, 4))
class ReduceMax(_Extreme):
    """y = largest of x over axes; NaN is passed over; 8- and 16-bit: x and y scaled alike.

    Starts from the lowest finite float, as LiteRT's reference kernel does (from -inf where all
    axes are reduced), so that a row of -inf gives -3.4e38.
    """

    largest = True
    word = "max"


@builtin("REDUCE_MIN", versions=range(1, 4))
class ReduceMin(_Extreme):
    """y = smallest of x over axes; see REDUCE_MAX."""

    largest = False
    word = "min"


@builtin("REDUCE_PROD", versions=range(1, 3))
class ReduceProd(Reduction):
    """y = product of x over axes; integers wrap; no elements: 1.

    Quantized int8, int16: from the first element on, in index order, each product is brought
    back by scale(x) / scale(y) ** (1 / n), a 15-bit multiplier with one rounding.
    Source: LiteRT tflite/kernels/internal/reference/reduce.h.
    """

    dtypes = (F32, I32, I64, I8, I16, U8)
    word = "prod"

    def require_quantization(self, node: Node, x: TensorType, y: TensorType) -> None:
        if not x.is_quantized:
            node.require(not y.is_quantized or x.dtype.is_float, "output is quantized, input not")
            return
        ok = x.dtype.name in ("INT8", "INT16")
        node.require(ok, f"no product of quantized {x.dtype.name}")
        require_scales(node, x, y)

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        if not node.input(0).is_quantized:
            return np.asarray(np.multiply.reduce(rows, axis=-1, dtype=rows.dtype))
        if rows.size == 0:
            return np.zeros(rows.shape[:-1], rows.dtype)
        x, y, n = node.input(0), node.output(), rows.shape[-1]
        multiplier, shift = product_multiplier(x, y, n)
        node.check(shift < 15, f"scales {x.scale} and {y.scale} give a product no range")
        values = rows.astype(np.int64) - x.zero_point
        product = values[..., 0]
        for j in range(1, n):
            product = fixedpoint.mbqm64(product * values[..., j], multiplier, shift)
        info = np.iinfo(rows.dtype)
        product = fixedpoint.mbqm64(product, multiplier, shift) + y.zero_point
        return np.clip(product, info.min, info.max)

    def start(self, node: Node, *, whole: bool) -> int:
        return int(np.float32(1).view(np.int32)) if node.input(0).dtype.is_float else 1


def product_multiplier(x: TensorType, y: TensorType, n: int) -> tuple[int, int]:
    """What every one of n quantized factors is scaled by."""
    return fixedpoint.quantize_multiplier(x.scale / y.scale ** (1.0 / n))


@builtin("REDUCE_ANY")
class ReduceAny(Reduction):
    """y = is any x over axes true; no elements: false."""

    dtypes = (BOOL,)
    word = "max"

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        return np.asarray(rows.any(-1))


@builtin("REDUCE_ALL")
class ReduceAll(Reduction):
    """y = are all x over axes true; no elements: true."""

    dtypes = (BOOL,)
    word = "min"

    def fold(self, node: Node, rows: Array, *, whole: bool) -> Array:
        return np.asarray(rows.all(-1))

    def start(self, node: Node, *, whole: bool) -> int:
        return 1


class _ArgExtreme(Op):
    arity = (2, 2)
    largest: ClassVar[bool]

    def infer(self, node: Node) -> Types:
        x, axis = node.input(0), node.input(1)
        node.require_dtype(x, (F32, U8, I8, I32, BOOL), "input")
        node.require_dtype(axis, (I32, I64), "axis")
        node.require(axis.size == 1, f"axis must be one number, got shape {axis.dims}")
        node.require(x.rank >= 1, "input must have at least one dimension")
        kind = node.options.output_type if node.options else I32
        node.require(kind.name in ("INT32", "INT64"), f"indices cannot be {kind.name}")
        if axis.value is None:
            return [made(node, None, kind)]
        k = normal_axis(node.require, int(axis.value.reshape(-1)[0]), x.rank)
        node.require(x.dims[k] > 0, "cannot search an empty axis")
        return [made(node, x.dims[:k] + x.dims[k + 1 :], kind)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, axis = inputs
        k = normal_axis(node.check, int(axis.reshape(-1)[0]), x.ndim)
        node.check(x.shape[k] > 0, "cannot search an empty axis")
        if x.dtype.kind == "f":
            x = np.where(np.isnan(x), np.float32(-np.inf if self.largest else np.inf), x)
        found = x.argmax(k) if self.largest else x.argmin(k)
        return np.asarray(found).astype(node.output().dtype.numpy)

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.ops.reduce_lowering import lower_places

        lower_places(node, steps, largest=self.largest)


@builtin("ARG_MAX", versions=range(1, 4))
class ArgMax(_ArgExtreme):
    """y = first position of the largest x along one axis; NaN counts as the lowest.

    f32 | u8 | i8 | i32 | bool -> int32 | int64. Source: LiteRT tflite/kernels/arg_min_max.cc.
    """

    options = ArgMaxOptions
    largest = True


@builtin("ARG_MIN", versions=range(1, 4))
class ArgMin(_ArgExtreme):
    """y = first position of the smallest x along one axis; NaN counts as the largest."""

    options = ArgMinOptions
    largest = False


@builtin("CUMSUM")
class Cumsum(Op):
    """y[i] = x[0] + ... + x[i] along one axis; `exclusive` leaves x[i] out, `reverse` runs back.

    f32 in index order, int32 and int64 wrap. Source: LiteRT tflite/kernels/cumsum.cc.
    """

    options = CumsumOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, axis = node.input(0), node.input(1)
        node.require_dtype(x, (F32, I32, I64), "input")
        node.require_dtype(axis, (I32,), "axis")
        node.require(axis.size == 1, f"axis must be one number, got shape {axis.dims}")
        node.require(x.rank >= 1, "input must have at least one dimension")
        if axis.value is not None:
            normal_axis(node.require, int(axis.value.reshape(-1)[0]), x.rank)
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, axis = inputs
        k = normal_axis(node.check, int(axis.reshape(-1)[0]), x.ndim)
        options = node.options or CumsumOptions()
        rows = np.moveaxis(x, k, -1)
        rows = rows[..., ::-1] if options.reverse else rows
        with np.errstate(all="ignore"):
            sums = np.add.accumulate(rows, axis=-1, dtype=x.dtype)
        if options.exclusive and sums.shape[-1]:
            sums = np.concatenate([np.zeros_like(sums[..., :1]), sums[..., :-1]], -1)
        sums = sums[..., ::-1] if options.reverse else sums
        return np.ascontiguousarray(np.moveaxis(sums, -1, k))

    def lower(self, node: Node, steps: Lowering) -> None:
        from litejit.ops.reduce_lowering import lower_running_sum

        lower_running_sum(node, steps)
