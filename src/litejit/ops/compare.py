"""Comparisons and choices.

Sources: LiteRT tflite/kernels/{comparisons,select}.cc, internal/reference/comparisons.h.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options import elementwise as options
from litejit.ops import fixedpoint
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.broadcast import broadcast_shape
from litejit.ops.elementwise import Binary, require_scales
from litejit.types import (
    BF16,
    BOOL,
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    Array,
    DType,
    TensorType,
)  # fmt: skip

_NUMBERS = (F32, F16, I16, I32, I64, U8, I8)


class _Comparison(Binary):
    """Quantized codes become ((q - zp) << 8) * scale with two roundings before they compare:

    small scales make different codes equal, as they do in LiteRT.
    """

    relation: ClassVar[Any] = None
    rescales_int16: ClassVar[bool] = False

    def results_of(self, dtype: DType) -> tuple[DType, ...]:
        """Always bool."""
        return (BOOL,)

    def is_quantized(self, node: Node) -> bool:
        """8-bit tensors with scales; int16 only where it is tested for equality."""
        a = node.input(0)
        scaled = a.is_quantized or node.input(1).is_quantized
        return scaled and (a.dtype in (I8, U8) or (a.dtype == I16 and self.rescales_int16))

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Scales must give multipliers."""
        if self.is_quantized(node):
            require_scales(node, a, b)
            for tensor in (a, b):
                fixedpoint.require_multiplier(node, tensor.scale)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """Compare the values."""
        return np.asarray(type(self).relation(a, b), np.bool_)

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """Compare the scaled codes."""
        values = []
        for q, tensor in ((a, node.input(0)), (b, node.input(1))):
            shifted = (q.astype(np.int64) - tensor.zero_point) << 8
            m, shift = fixedpoint.quantize_multiplier(tensor.scale)
            values.append(fixedpoint.multiply_by_quantized_multiplier(shifted, m, shift))
        return np.asarray(type(self).relation(*values), np.bool_)

    def lower(self, node: Node, steps: Lowering) -> None:
        """Vector kernels; strings are compared in NumPy."""
        from litejit.ops import elementwise_lowering

        if self.is_quantized(node):
            elementwise_lowering.compare8(node, steps, self.kernel)
        elif node.input(0).dtype != STRING:
            super().lower(node, steps)


@builtin("EQUAL", versions=range(1, 6))
class Equal(_Comparison):
    """y = a == b; strings byte by byte; NaN equals nothing."""

    options = options.EqualOptions
    dtypes = (BOOL, *_NUMBERS, STRING)
    relation = np.equal
    rescales_int16 = True
    kernel = "equal"


@builtin("NOT_EQUAL", versions=range(1, 5))
class NotEqual(_Comparison):
    """y = a != b; strings byte by byte; NaN differs from everything."""

    options = options.NotEqualOptions
    dtypes = (BOOL, *_NUMBERS, STRING)
    relation = np.not_equal
    rescales_int16 = True
    kernel = "not_equal"


@builtin("LESS", versions=range(1, 4))
class Less(_Comparison):
    """y = a < b."""

    options = options.LessOptions
    dtypes = (*_NUMBERS, BF16)
    relation = np.less
    kernel = "less"


@builtin("LESS_EQUAL", versions=range(1, 3))
class LessEqual(_Comparison):
    """y = a <= b."""

    options = options.LessEqualOptions
    dtypes = _NUMBERS
    relation = np.less_equal
    kernel = "less_equal"


@builtin("GREATER", versions=range(1, 3))
class Greater(_Comparison):
    """y = a > b."""

    options = options.GreaterOptions
    dtypes = (*_NUMBERS, BF16)
    relation = np.greater
    kernel = "greater"


@builtin("GREATER_EQUAL", versions=range(1, 4))
class GreaterEqual(_Comparison):
    """y = a >= b."""

    options = options.GreaterEqualOptions
    dtypes = _NUMBERS
    relation = np.greater_equal
    kernel = "greater_equal"


class _Select(Op):
    """y = x where the condition holds, else the other; bytes are copied as they are."""

    arity = (3, 3)
    is_elementwise = True

    def infer(self, node: Node) -> Types:
        """One output, of x's type."""
        condition, x, other, y = node.input(0), node.input(1), node.input(2), node.output(0)
        node.require_dtype(condition, (BOOL,), "condition")
        node.require(x.dtype == other.dtype, f"inputs are {x.dtype.name} and {other.dtype.name}")
        node.require(x.dtype.bits >= 8, f"no kernel for {x.dtype.name}")
        node.require_dtype(y, (x.dtype,), "output")
        return [y.with_shape(self.shape(node))]

    def shape(self, node: Node) -> tuple[int, ...]:
        """The output's shape."""
        raise NotImplementedError

    def one_each(self, node: Node) -> tuple[int, ...] | None:
        """The declared shape where all operands have one element, as LiteRT keeps it."""
        y = node.output(0)
        operands = [node.input(position) for position in range(3)]
        single = y.shape is not None and y.size == 1 and all(t.size == 1 for t in operands)
        return y.dims if single else None

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.select(node, steps)


@builtin("SELECT", versions=range(1, 5))
class Select(_Select):
    """x and the other have one shape; so has the condition, or it is a scalar, or one per row."""

    options = options.SelectOptions

    def shape(self, node: Node) -> tuple[int, ...]:
        """As x."""
        condition, x, other = (node.input(position) for position in range(3))
        single = self.one_each(node)
        if single is not None:
            return single
        node.require(x.dims == other.dims, f"shapes {x.dims} and {other.dims} differ")
        rows = condition.rank == 1 and x.rank > 0 and condition.dims[0] == x.dims[0]
        ok = condition.dims == x.dims or condition.rank == 0 or rows
        node.require(ok, f"condition {condition.dims} does not fit values {x.dims}")
        return x.dims

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Rows are chosen as a whole where the condition has rank 1."""
        condition, x, other = (np.asarray(a) for a in inputs)
        shape = node.output(0).dims
        if condition.shape != x.shape and condition.ndim == 1 and x.ndim > 1:
            condition = condition.reshape(-1, *[1] * (x.ndim - 1))
        if condition.size == x.size == other.size == 1:
            condition, x, other = condition.reshape(()), x.reshape(()), other.reshape(())
            return np.where(condition, x, other).reshape(shape)
        return np.where(condition, x, other)


@builtin("SELECT_V2", versions=range(1, 3))
class SelectV2(_Select):
    """All three are broadcast to one shape."""

    options = options.SelectV2Options

    def shape(self, node: Node) -> tuple[int, ...]:
        """The broadcast of all three."""
        single = self.one_each(node)
        if single is not None:
            return single
        return broadcast_shape(node, *(node.input(position).dims for position in range(3)))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """The choice."""
        chosen = np.where(*(np.asarray(a) for a in inputs))
        if chosen.size == 1 and node.output(0).shape is not None:
            return chosen.reshape(node.output(0).dims)
        return chosen
