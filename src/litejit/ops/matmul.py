"""FULLY_CONNECTED and BATCH_MATMUL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.model.options import Activation, BatchMatMulOptions, FullyConnectedOptions
from litejit.model.options.conv import WeightsFormat
from litejit.ops import hybrid, sums
from litejit.ops.base import Lowering, Node, Op, Types, builtin
from litejit.ops.fixedpoint import (
    activation_range,
    quantize_multipliers,
    requantize,
    require_activation,
    require_multiplier,
    require_scale,
    round_half_away,
    type_range,
    wrap32,
)
from litejit.ops.hybrid import quantize_asymmetric, quantize_symmetric
from litejit.types import F16, F32, I2, I4, I8, I16, I32, I64, U8, Array, TensorType

_PACKED = (I8, I4, I2)
_WEIGHTS = {F32: (F32, F16, U8, *_PACKED), U8: (U8,), I8: _PACKED, I16: (*_PACKED, I16)}
_OUTPUT = {F32: (F32,), U8: (U8, I16), I8: (I8,), I16: (I16,)}
_CLAMPS = (Activation.NONE, Activation.RELU, Activation.RELU_N1_TO_1, Activation.RELU6)
_WIDE_SHIFT = 14


# -- what lowerings of FULLY_CONNECTED ask of a node (fused or not) --


def fc_is_hybrid(node: Node) -> bool:
    """True for float data with integer weights."""
    return node.core.input(0).dtype == F32 and node.core.input(1).dtype.is_integer


def fc_is_shuffled(node: Node) -> bool:
    """True where the weights lie in blocks of 4 x 16."""
    return bool(node.core.options.weights_format == WeightsFormat.SHUFFLED4x16INT8)


def fc_is_static(node: Node) -> bool:
    """True where weights and bias are constants, so that they can be packed before a run.

    Float and int16 weights may be packed by every run, and those of int8 without a zero point.
    """
    x, weights, bias = node.core.input(0), node.core.input(1), node.core.optional(2)
    late = x.dtype == weights.dtype and x.dtype in (F32, I16)
    late = late or (x.dtype == weights.dtype == I8 and not fc_zero_points(node)[1])
    known = weights.is_constant or late
    return known and (bias is None or bias.is_constant)


def fc_scales(node: Node) -> Array:
    """input scale * weights' scale / output scale for every unit, float64, as LiteRT scales by."""
    x, weights, out = node.core.input(0), node.core.input(1), node.core.output(0)
    assert weights.quantization is not None
    scales = np.float64(x.scale) * weights.quantization.scales.astype(np.float64)
    reals: Array = np.broadcast_to(scales / np.float64(out.scale), (weights.dims[0],)).copy()
    return reals


def fc_multipliers(node: Node) -> tuple[Array, Array]:
    """(m, shift) for every unit, for the forms that scale in fixed point (TFLM, 16 x 16 bits).

    One scale for all units: the product of the scales as `scale_product` has it.
    """
    x, weights, out = node.core.input(0), node.core.input(1), node.core.output(0)
    assert weights.quantization is not None
    if weights.quantization.per_channel:
        return quantize_multipliers(fc_scales(node))
    product = scale_product(node, x.scale, weights.scale)
    real = np.full(weights.dims[0], product / np.float64(out.scale))
    return quantize_multipliers(real)


def scale_product(node: Node, a: float, b: float) -> float:
    """The product of two scales: rounded to float32, but where the operator says it is exact."""
    exact = getattr(node.core.op, "exact_scale_product", False)
    return float(a) * float(b) if exact else float(np.float32(a) * np.float32(b))


def fc_zero_points(node: Node) -> tuple[int, int, int]:
    """(input, weights, output); weights with a scale for every unit count as symmetric."""
    x, weights, out = node.core.input(0), node.core.input(1), node.core.output(0)
    assert weights.quantization is not None
    middle = 0 if weights.quantization.per_channel else weights.zero_point
    return x.zero_point, middle, out.zero_point


def fc_activation(node: Node) -> tuple[Any, Any]:
    """What the operator itself clamps to."""
    return activation_range(node.core.output(0), node.core.options.activation)


def fc_sizes(node: Node) -> tuple[int, int, int]:
    """(rows, units, depth) of the product."""
    units, depth = node.core.input(1).dims
    return (node.core.input(0).size // depth if depth else 0), units, depth


def scale_in_double(
    acc: Array, reals: Array, *, zero_point: int, limits: tuple[int, int], dtype: Any
) -> Array:  # fmt: skip
    """round(acc * real) in float64, ties away from zero, + zero point, clamped."""
    scaled = round_half_away(acc.astype(np.float64) * reals)
    result: Array = np.clip(scaled + zero_point, *limits).astype(dtype)
    return result


@builtin("FULLY_CONNECTED", versions=range(1, 15))
class FullyConnected(Op):
    """y[n, u] = act(bias[u] + sum over k of x[n, k] w[u, k]).

    x is cut into rows of w's depth; y is [rows, units], or x's shape with its last dimension
    replaced where keep_num_dims. f32 | u8, i8, i16 with weights of 8, 4 or 2 bits | i16 x i16 |
    f32 with integer weights | u8 to i16.
    8-bit and i16 x i8: sums times input scale * weight scale / output scale in float64, rounded
    half away from zero. i16 x i16 and shuffled weights: fixed point. Float data with integer
    weights: every row is quantized to int8, symmetrically unless the options say otherwise;
    blockwise weights take it asymmetrically and ignore the activation. Depth 0 gives zeros.
    Source: LiteRT tflite/kernels/fully_connected.cc, internal/reference/fully_connected.h.
    """

    options = FullyConnectedOptions
    arity = (2, 3)
    results = (1, 2)
    optional = frozenset({2})

    def infer(self, node: Node) -> Types:
        """Check operands; [rows, units] or the input's shape with another last dimension."""
        x, weights = node.input(0), node.input(1)
        _require_fc_types(node)
        node.require(weights.rank == 2, f"weights must be [units, depth], got {weights.shape}")
        units, depth = weights.dims
        bias = node.optional(2)
        ok = bias is None or not depth or bias.size == units
        node.require(ok, f"bias has shape {bias and bias.shape}, expected {units} values")
        shape: list[int]
        if node.options.keep_num_dims:
            ok = x.rank > 0 and (not depth or x.dims[-1] == depth)
            node.require(ok, f"input {x.shape} must end with weights' depth {depth}")
            shape = [*x.dims[:-1], units]
        else:
            ok = not depth or x.size % depth == 0
            node.require(ok, f"input {x.shape} is no number of rows of weights' depth {depth}")
            shape = [x.size // depth if depth else math.prod(x.dims[:-1]), units]
        if depth:
            _require_fc_quantization(node)
        if not fc_is_shuffled(node):
            node.require(len(node.outputs) == 1, f"has {len(node.outputs)} outputs, expected 1")
            out = node.output(0).with_shape(shape)
            return [out if depth else out.with_value(np.zeros(shape, out.dtype.numpy))]
        node.require(len(node.outputs) == 2, "shuffled weights need a second output")
        ok = shape[0] in (1, 4) and depth % 16 == 0 and units % 4 == 0
        node.require(ok, f"shuffled weights take 1 or 4 rows, got {shape[0]} of {weights.shape}")
        workspace = node.output(1)
        node.require_dtype(workspace, (U8,), "workspace")
        return [node.output(0).with_shape(shape), workspace.with_shape(x.dims)]

    def reference(
        self, node: Node, x: Array, weights: Array, bias: Array | None = None
    ) -> Array | tuple[Array, ...]:  # fmt: skip
        """One exact matrix product."""
        out = node.output(0)
        rows, units, depth = fc_sizes(node)
        if depth == 0:
            return np.zeros(out.dims, out.dtype.numpy)
        data = x.reshape(-1)[: rows * depth].reshape(rows, depth)
        with np.errstate(all="ignore"):
            if fc_is_shuffled(node):
                return _shuffled(node, data, weights, bias).reshape(out.dims), _workspace(data, x)
            if fc_is_hybrid(node):
                result = hybrid.fully_connected(node, data, weights, bias)
            elif x.dtype == np.float32:
                product = data @ weights.astype(np.float32, copy=False).T
                total = product if bias is None else product + bias.ravel().astype(np.float32)
                low, high = fc_activation(node)
                result = np.clip(total, np.float32(low), np.float32(high))
            else:
                result = _quantized(node, data, weights, bias)
        return result.reshape(out.dims)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Compiled kernels for 8-bit and float data with constant weights."""
        module = lowering_module(node)
        if module is not None:
            module.lower_fully_connected(node, steps)

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """Whatever the compiled kernels apply to their sums."""
        module = lowering_module(node)
        return module is not None and bool(module.fusible_after(node, follower, position))


def lowering_module(node: Node) -> Any:
    """The module with compiled kernels for this node's types; None where there is none."""
    x, weights = node.core.input(0), node.core.input(1)
    if 0 in weights.dims or fc_is_shuffled(node) or not fc_is_static(node):
        return None
    if fc_is_hybrid(node):
        from litejit.ops import hybrid_lowering

        return hybrid_lowering if hybrid_lowering.compiles(node) else None
    if x.dtype == F32:
        from litejit.ops import matmul_f32

        return matmul_f32
    if x.dtype == I16:
        from litejit.ops import int16_lowering

        return int16_lowering
    if x.dtype in (I8, U8) and node.core.output(0).dtype != I16:
        from litejit.ops import conv_int8

        return conv_int8
    return None


def _require_fc_types(node: Node) -> None:
    x, weights, out, bias = node.input(0), node.input(1), node.output(0), node.optional(2)
    node.require_dtype(x, _WEIGHTS, "input")
    node.require_dtype(weights, _WEIGHTS[x.dtype], f"weights of {x.dtype.name} input")
    node.require_dtype(out, _OUTPUT[x.dtype], f"output of {x.dtype.name} input")
    shuffled, layout = fc_is_shuffled(node), node.options.weights_format
    ok = shuffled or layout == WeightsFormat.DEFAULT
    node.require(ok, f"weights format {layout} is not known")
    if shuffled:
        ok = (x.dtype, weights.dtype, out.dtype) == (U8, U8, I16)
        node.require(ok, "shuffled weights take UINT8 data to INT16")
    if bias is not None:
        kinds = (F32, F16) if x.dtype == F32 else (I32, I64)
        node.require_dtype(bias, kinds, f"bias of {x.dtype.name} input")
        asked = node.options.quantized_bias_type
        ok = x.dtype != I16 or asked in (F32, bias.dtype)
        node.require(ok, f"bias is {bias.dtype.name}, but the options name {asked.name}")
    require_activation(node, node.output(0), node.options.activation)
    what = f"activation {node.options.activation!r} is for float data with integer weights"
    node.require(fc_is_hybrid(node) or node.options.activation in _CLAMPS, what)


def _require_fc_quantization(node: Node) -> None:
    x, weights, out, bias = node.input(0), node.input(1), node.output(0), node.optional(2)
    if not weights.dtype.is_integer:
        return
    if weights.quantization is not None and weights.quantization.block_size:
        _require_blocks(node)
        return
    require_scale(node, weights, "weights", smallest=0.0)
    q = weights.quantization
    assert q is not None
    units = weights.dims[0]
    if q.per_channel:
        ok = q.axis == 0 and len(q.scales) == units
        what = f"{len(q.scales)} scales along dimension {q.axis}, expected {units} along 0"
        node.require(ok, what)
        node.require(weights.dtype != U8, "UINT8 weights have one scale, not one a unit")
    ok = weights.dtype not in (I4, I2) or not q.zero_points.any()
    node.require(ok, f"zero point of {weights.dtype.name} weights must be 0")
    if x.dtype == F32:
        return
    require_scale(node, x, "input")
    require_scale(node, out, "output")
    if x.dtype == I16:
        ok = x.zero_point == 0 and out.zero_point == 0
        node.require(ok, "zero points of int16 input and output must be 0")
    largest = _WIDE_SHIFT if weights.dtype == I16 else 31
    require_multiplier(node, float(fc_scales(node).max()), largest_shift=largest)
    if bias is not None and not q.per_channel:
        apart = abs(x.scale * weights.scale - bias.scale) / out.scale
        node.require(apart <= 0.02, "bias' scale is not input scale * weights' scale")


def _require_blocks(node: Node) -> None:
    weights = node.input(1)
    q = weights.quantization
    assert q is not None
    units, depth = weights.dims
    ok = weights.dtype == I4 and node.input(0).dtype == F32
    what = f"blockwise weights take FLOAT32 data and INT4 weights, got {weights.dtype.name}"
    node.require(ok, what)
    fits = depth % q.block_size == 0 and len(q.scales) == units * (depth // q.block_size)
    node.require(fits, f"{len(q.scales)} scales for {units} x {depth} in blocks of {q.block_size}")


def _quantized(node: Node, data: Array, weights: Array, bias: Array | None) -> Array:
    x, kind, out = node.input(0), node.input(1), node.output(0)
    zero, middle, result_zero = fc_zero_points(node)
    largest = (1 << x.dtype.bits) - 1
    acc = sums.integer_product(data, weights, data_zero=zero, weights_zero=middle, largest=largest)
    if bias is not None:
        acc += bias.astype(np.int64).ravel()
    limits = fc_activation(node)
    if kind.dtype == I16:
        multipliers = fc_multipliers(node)
        return requantize(acc, multipliers, zero_point=0, limits=limits, dtype=out.dtype, wide=True)
    if x.dtype != I16 or node.options.quantized_bias_type == I32:
        acc = wrap32(acc)
    reals = fc_scales(node)
    return scale_in_double(acc, reals, zero_point=result_zero, limits=limits, dtype=out.dtype.numpy)


def unshuffled(weights: Array) -> Array:
    """Weights from blocks of 4 units x 16 inputs, sign bits flipped, to [units, depth] int8."""
    units, depth = weights.shape
    blocks = weights.view(np.int8).reshape(units // 4, depth // 16, 4, 16)
    plain: Array = blocks.transpose(0, 2, 1, 3).reshape(units, depth)
    return plain


def _shuffled(node: Node, data: Array, weights: Array, bias: Array | None) -> Array:
    signed = (data ^ np.uint8(0x80)).view(np.int8)
    plain = unshuffled(np.ascontiguousarray(weights))
    acc = sums.integer_product(signed, plain, data_zero=0, weights_zero=0, largest=128)
    if bias is not None:
        acc += bias.astype(np.int64).ravel()
    limits, dtype = fc_activation(node), node.output(0).dtype
    multipliers = fc_multipliers(node)
    return requantize(wrap32(acc), multipliers, zero_point=0, limits=limits, dtype=dtype)


def _workspace(data: Array, x: Array) -> Array:
    """The input with sign bits flipped; four rows are interleaved by 16 bytes."""
    flipped = data ^ np.uint8(0x80)
    if len(data) == 4:
        flipped = flipped.reshape(4, -1, 16).transpose(1, 0, 2)
    return np.ascontiguousarray(flipped).reshape(x.shape)


_PAIRS = {
    (F32, F32): (F32,),
    (F32, I8): (F32,),
    (I8, I8): (I8, I32),
    (I16, I16): (I16,),
    (I16, I8): (I16,),
}


def bmm_multiplier(node: Node) -> float:
    """left scale * right scale / output scale in float64, the product as `scale_product` has it.

    LiteRT sees the scale 0 where an operand of an integer product has several, so that the
    result is the output's zero point everywhere; it is the same here.
    """
    left, right, out = node.core.input(0), node.core.input(1), node.core.output(0)
    for operand in (left, right):
        if operand.quantization is not None and operand.quantization.per_channel:
            return 0.0
    return float(scale_product(node, left.scale, right.scale) / out.scale)


@builtin("BATCH_MATMUL", versions=range(1, 5))
class BatchMatMul(Op):
    """y[..., i, j] = sum over k of l[..., i, k] r[..., k, j].

    adj_x, adj_y: the last two dimensions of l, r are swapped. The others broadcast. Rank 2 to 5.
    f32 | i8 x i8 to i8, or to i32 without zero points | i16 x i16, i16 x i8 | f32 x i8: rows of l
    are quantized to int8. i8: int32 sums, two roundings; i16: int64 sums, one rounding.
    Source: LiteRT tflite/kernels/batch_matmul.cc, internal/reference/batch_matmul.h.
    """

    options = BatchMatMulOptions
    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        """Check operands; broadcast dimensions, then rows of l and columns of r."""
        left, right, out = node.input(0), node.input(1), node.output(0)
        pair = (left.dtype, right.dtype)
        kinds = " x ".join(dtype.name for dtype in pair)
        node.require(pair in _PAIRS, f"no kernel for {kinds}")
        node.require_dtype(out, _PAIRS[pair], f"output of {kinds}")
        for tensor, what in ((left, "left"), (right, "right")):
            ok = 2 <= tensor.rank <= 5
            node.require(ok, f"{what} operand must have 2 to 5 dimensions, got {tensor.shape}")
        rows, depth = left.dims[-2:][:: -1 if node.options.adj_x else 1]
        other, columns = right.dims[-2:][:: -1 if node.options.adj_y else 1]
        node.require(depth == other, f"rows of {depth} do not go with columns of {other}")
        rank = max(left.rank, right.rank)
        batch = []
        for a, b in zip(_extended(left, rank), _extended(right, rank), strict=True):
            node.require(a == b or 1 in (a, b), f"{left.shape} and {right.shape} do not broadcast")
            batch.append(b if a == 1 else a)
        _require_bmm_quantization(node)
        return [out.with_shape((*batch, rows, columns))]

    def reference(self, node: Node, left: Array, right: Array) -> Array:
        """Matrix products, exact for integers."""
        x, w, out = node.input(0), node.input(1), node.output(0)
        left = left.swapaxes(-1, -2) if node.options.adj_x else left
        right = right.swapaxes(-1, -2) if node.options.adj_y else right
        with np.errstate(all="ignore"):
            if x.dtype == F32 and w.dtype == F32:
                return np.asarray(np.matmul(left, right), np.float32)
            if x.dtype == F32:
                return _bmm_hybrid(node, left, right)
            raw = out.dtype == I32
            zeros = (0, 0) if raw else (x.zero_point, w.zero_point)
            acc = _bmm_sums(left, right, zeros, bits=x.dtype.bits + w.dtype.bits)
        if raw:
            return acc.astype(np.int32)
        return requantize(
            acc if x.dtype == I16 else wrap32(acc),
            quantize_multipliers(np.array([bmm_multiplier(node)])),
            zero_point=out.zero_point,
            limits=type_range(out.dtype),
            dtype=out.dtype,
            wide=x.dtype == I16,
        )

    def fuses_before(self, node: Node, producer: Node, position: int = 0) -> bool:
        """Read floats where what only moves or repeats them has them from."""
        from litejit.ops.matmul_f32 import absorbs_view

        return absorbs_view(node, producer, position)

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """Write floats as what only moves them would."""
        from litejit.ops.matmul_f32 import absorbs_view

        return absorbs_view(node, follower, -1)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Compiled kernels for float operands."""
        if node.core.input(0).dtype == node.core.input(1).dtype == F32:
            from litejit.ops import matmul_f32

            matmul_f32.lower_batch_matmul(node, steps)
        elif node.core.input(0).dtype == I16:
            from litejit.ops import int16_lowering

            int16_lowering.lower_wide_products(node, steps)
        elif node.core.input(1).dtype == I8:
            from litejit.ops import batch_matmul_int8

            batch_matmul_int8.lower(node, steps)


def _extended(tensor: TensorType, rank: int) -> tuple[int, ...]:
    return (1,) * (rank - tensor.rank) + tensor.dims[:-2]


def _require_bmm_quantization(node: Node) -> None:
    left, right, out = node.input(0), node.input(1), node.output(0)
    if left.dtype == F32 and right.dtype == F32 or out.dtype == I32:
        return
    require_scale(node, right, "right operand", smallest=0.0)
    if left.dtype == F32:
        assert right.quantization is not None
        count = len(right.quantization.scales)
        columns = right.dims[-2 if node.options.adj_y else -1]
        node.require(count in (1, columns), f"right operand has {count} scales, not {columns}")
        return
    require_scale(node, left, "left operand")
    require_scale(node, out, "output")
    if left.dtype == I16:
        ok = left.zero_point == right.zero_point == out.zero_point == 0
        node.require(ok, "zero points of int16 products must be 0")
    largest = _WIDE_SHIFT if left.dtype == I16 else 31
    require_multiplier(node, bmm_multiplier(node), largest_shift=largest)


def _bmm_sums(left: Array, right: Array, zeros: tuple[int, int], *, bits: int) -> Array:
    depth = left.shape[-1]
    bound = depth << bits
    kind: Any = np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64
    product = sums.centered(left, zeros[0], kind) @ sums.centered(right, zeros[1], kind)
    result: Array = product.astype(np.int64)
    return result


def _bmm_hybrid(node: Node, left: Array, right: Array) -> Array:
    q = node.input(1).quantization
    assert q is not None
    rows = np.ascontiguousarray(left).reshape(math.prod(left.shape[:-1]), left.shape[-1])
    if node.options.asymmetric_quantize_inputs:
        values, scales, points = quantize_asymmetric(rows)
    else:
        (values, scales), points = quantize_symmetric(rows), np.zeros(len(rows), np.int32)
    shape = left.shape[:-1]
    total = _bmm_sums(values.reshape(left.shape), right, (0, 0), bits=16).astype(np.float32)
    offsets = points.reshape(*shape, 1).astype(np.float32)
    column_sums = right.astype(np.int64).sum(-2, keepdims=True).astype(np.float32)
    exact = np.trunc(total - column_sums * offsets)
    factors = scales.reshape(*shape, 1) * q.scales.astype(np.float32)
    result: Array = factors * exact
    return result
