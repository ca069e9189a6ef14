"""Logic, shifts, sums of many tensors, and StableHLO's elementwise operators.

Sources: LiteRT tflite/kernels/{logical,bitwise_xor,right_shift,add_n,stablehlo_elementwise,
stablehlo_shift_left}.cc.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options import elementwise as options
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.elementwise import Binary, clamped
from litejit.ops.floats import largest, narrow, widen
from litejit.types import (
    BOOL,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Array,
    DType,
)  # fmt: skip


class _Bits(Binary):
    """Whole numbers only."""

    dtypes = (I8, U8, I16, U16, I32, U32)


@builtin("BITWISE_XOR")
class BitwiseXor(_Bits):
    """y = a ^ b."""

    options = options.BitwiseXorOptions
    kernel = "xor"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """Bit by bit."""
        return np.asarray(a ^ b)


@builtin("RIGHT_SHIFT")
class RightShift(_Bits):
    """y = a >> b, keeping the sign; b is clamped to [0, width - 1]."""

    options = options.RightShiftOptions
    kernel = "shift_right"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """Move by a clamped count."""
        return np.asarray(a >> np.clip(b, 0, 8 * a.dtype.itemsize - 1).astype(a.dtype))


@builtin("LOGICAL_AND")
class LogicalAnd(Binary):
    """y = a and b."""

    options = options.LogicalAndOptions
    dtypes = (BOOL,)
    kernel = "and"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """Both."""
        return np.logical_and(a, b)


@builtin("LOGICAL_OR")
class LogicalOr(Binary):
    """y = a or b."""

    options = options.LogicalOrOptions
    dtypes = (BOOL,)
    kernel = "or"

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """Either."""
        return np.logical_or(a, b)


@builtin("ADD_N")
class AddN(Op):
    """The sum of two or more tensors of one shape, from left to right; int32 wraps.

    float32 ends at its largest finite number at every step.
    """

    options = options.AddNOptions
    arity = (2, 1 << 16)
    is_elementwise = True
    is_bounded: ClassVar[bool] = True

    def infer(self, node: Node) -> Types:
        """One output, as the first input."""
        first, y = node.input(0), node.output(0)
        node.require_dtype(first, (F32, I32), "input 0")
        for position in range(1, len(node.inputs)):
            other = node.input(position)
            same = other.dims == first.dims and other.dtype == first.dtype
            node.require(same, f"input {position} differs from input 0 in shape or type")
        node.require_dtype(y, (first.dtype,), "output")
        return [y.with_shape(first.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """The running sum."""
        total = np.array(inputs[0])
        with np.errstate(all="ignore"):
            for other in inputs[1:]:
                total = total + other
                if self.is_bounded:
                    total = clamped(node, total, 0, node.output(0).dtype)
        return np.asarray(total, node.output(0).dtype.numpy)

    def lower(self, node: Node, steps: Lowering) -> None:
        """One pass over all tensors."""
        from litejit.ops import elementwise_lowering

        if node.output(0).dtype == F32 and self.is_bounded:
            elementwise_lowering.function(node, steps, "bounded_sum", (-largest(F32), largest(F32)))
        else:
            elementwise_lowering.function(node, steps, "sum")


_ALL = (F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL)


class _Stablehlo(Op):
    """Equal shapes; integers wrap; bool counts as 0 and 1."""

    arity = (2, 2)
    is_elementwise = True
    dtypes: ClassVar[tuple[DType, ...]] = _ALL
    kernel: ClassVar[str] = ""
    of_bools: ClassVar[str] = ""  # the kernel of bools, where it is another

    def infer(self, node: Node) -> Types:
        """One output, as the inputs."""
        a, b, y = node.input(0), node.input(1), node.output(0)
        node.require_dtype(a, self.dtypes, "input 0")
        node.require(a.dtype == b.dtype, f"inputs are {a.dtype.name} and {b.dtype.name}")
        node.require(a.dims == b.dims, f"shapes {a.dims} and {b.dims} differ")
        node.require_dtype(y, (a.dtype,), "output")
        return [y.with_shape(a.dims)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Evaluate in the inputs' type."""
        dtype = node.input(0).dtype
        a, b = (widen(np.asarray(x), dtype) for x in inputs)
        with np.errstate(all="ignore"):
            return narrow(np.asarray(self.compute(a, b)), dtype)

    def compute(self, a: Array, b: Array) -> Array:
        """The operation."""
        raise NotImplementedError

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel."""
        from litejit.ops import elementwise_lowering

        other = self.of_bools if node.input(0).dtype == BOOL else ""
        elementwise_lowering.function(node, steps, other or self.kernel)


@builtin("STABLEHLO_ADD")
class StablehloAdd(_Stablehlo):
    """y = a + b; of bools, or."""

    kernel = "add"
    of_bools = "or"

    def compute(self, a: Array, b: Array) -> Array:
        """The sum."""
        return np.asarray(a + b)


@builtin("STABLEHLO_MULTIPLY")
class StablehloMultiply(_Stablehlo):
    """y = a * b; of bools, and."""

    kernel = "mul"

    def compute(self, a: Array, b: Array) -> Array:
        """The product."""
        return np.asarray(a * b)


@builtin("STABLEHLO_MAXIMUM")
class StablehloMaximum(_Stablehlo):
    """y = b if a < b else a, as C++'s max."""

    kernel = "larger"

    def compute(self, a: Array, b: Array) -> Array:
        """The larger one."""
        return np.where(a < b, b, a)


@builtin("STABLEHLO_MINIMUM")
class StablehloMinimum(_Stablehlo):
    """y = b if b < a else a, as C++'s min."""

    kernel = "smaller"

    def compute(self, a: Array, b: Array) -> Array:
        """The smaller one."""
        return np.where(b < a, b, a)


@builtin("STABLEHLO_AND")
class StablehloAnd(_Stablehlo):
    """y = a & b of integers or bools."""

    kernel = "and"
    dtypes = (I8, I16, I32, I64, U8, U16, U32, U64, BOOL)

    def compute(self, a: Array, b: Array) -> Array:
        """Bit by bit."""
        return np.asarray(a & b)


@builtin("STABLEHLO_SHIFT_LEFT")
class StablehloShiftLeft(_Stablehlo):
    """y = a << b; a count outside [0, width - 1] gives 0, as StableHLO defines it."""

    kernel = "shift_left"
    dtypes = (I8, I16, I32)

    def compute(self, a: Array, b: Array) -> Array:
        """Moved bits."""
        width = 8 * a.dtype.itemsize
        inside = (b >= 0) & (b < width)
        return np.where(inside, a << np.where(inside, b, 0).astype(a.dtype), 0)
