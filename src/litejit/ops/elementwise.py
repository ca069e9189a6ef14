"""Bases of the operators whose elements depend on the elements at the same place only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from litejit.ops import fixedpoint, lut
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.broadcast import broadcast_shape
from litejit.ops.floats import largest, narrow, widen
from litejit.record import replace
from litejit.types import I8, U8, Array, DType, TensorType

Compute = Callable[..., Any]

# by Activation
FLOAT_RANGES: dict[int, tuple[float | None, float | None]] = {
    0: (None, None), 1: (0, None), 2: (-1, 1), 3: (0, 6),
    4: (None, None), 5: (None, None),  # TANH and SIGN_BIT: LiteRT does nothing here
}  # fmt: skip


def clamped(node: Node, values: Array, activation: int, dtype: DType) -> Array:
    """Values after a fused activation. Without one, floats end at the largest finite number."""
    low, high = FLOAT_RANGES[int(activation)]
    if dtype.is_float:
        low = -largest(dtype) if low is None else low
        high = largest(dtype) if high is None else high
    elif low is not None:
        low = max(low, fixedpoint.type_range(dtype)[0])
    if low is not None:
        values = np.where(values < low, values.dtype.type(low), values)
    return values if high is None else np.where(values > high, values.dtype.type(high), values)


def require_activation(node: Node) -> None:
    """Refuse a fused activation that elementwise operators do not have."""
    activation = int(getattr(node.options, "activation", 0))
    node.require(activation in FLOAT_RANGES, f"fused activation {activation} is not supported")


def require_scales(node: Node, *tensors: TensorType) -> None:
    """Refuse quantized operands without a positive, finite scale and a zero point in range."""
    for tensor in tensors:
        what = f"{tensor.dtype.name} tensor {tensor.name or tensor.index!r}"
        fixedpoint.require_scale(node, tensor, what)


def require_symmetric(node: Node, *tensors: TensorType) -> None:
    """Refuse 16-bit operands whose zero point is not 0."""
    for tensor in tensors:
        ok = tensor.zero_point == 0
        node.require(
            ok, f"int16 tensor {tensor.name!r} needs zero point 0, not {tensor.zero_point}"
        )


class Unary(Op):
    """y = f(x), element by element; x and y have one shape and, unless said, one type.

    `dtypes` are those with a kernel. Floats are computed in float32 (float64 in float64).
    """

    is_elementwise = True
    dtypes: ClassVar[tuple[DType, ...]] = ()
    kernel: ClassVar[str] = ""  # name of the float function in kernels/elementwise.py

    def infer(self, node: Node) -> Types:
        """One output, as x."""
        x, y = node.input(0), node.output(0)
        node.require_dtype(x, self.dtypes, "input")
        expected = self.result(x.dtype)
        node.require(y.dtype == expected, f"output is {y.dtype.name}, expected {expected.name}")
        self.check_types(node, x, y)
        return [y.with_shape(x.dims)]

    def result(self, dtype: DType) -> DType:
        """The output's type."""
        return dtype

    def check_types(self, node: Node, x: TensorType, y: TensorType) -> None:
        """Refuse quantizations; 8-bit tensors need scales."""
        if x.dtype in (I8, U8):
            require_scales(node, x, y)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Evaluate, with floating point warnings off."""
        (x,) = inputs
        dtype = node.input(0).dtype
        with np.errstate(all="ignore"):
            if dtype.is_float:
                y = self.compute(node, widen(np.asarray(x), dtype))
            else:
                y = self.integers(node, np.asarray(x))
        return narrow(y, node.output(0).dtype)

    def compute(self, node: Node, x: Array) -> Array:
        """The float function, float32 or float64."""
        raise NotImplementedError

    def integers(self, node: Node, x: Array) -> Array:
        """The function of integers, quantized or not."""
        raise NotImplementedError

    def lower(self, node: Node, steps: Lowering) -> None:
        """A 256-byte table for 8-bit tensors, a vector kernel for float32."""
        from litejit.ops import elementwise_lowering

        elementwise_lowering.unary(node, steps, self.kernel, self.kernel_parameters(node))

    def kernel_parameters(self, node: Node) -> tuple[float, ...]:
        """Numbers that the kernel takes besides x."""
        return ()


class Binary(Op):
    """y = f(a, b), element by element; the shapes are broadcast, both types are the same."""

    is_elementwise = True
    arity = (2, 2)
    dtypes: ClassVar[tuple[DType, ...]] = ()
    kernel: ClassVar[str] = ""

    def infer(self, node: Node) -> Types:
        """One output of the broadcast shape."""
        a, b, y = node.input(0), node.input(1), node.output(0)
        node.require_dtype(a, self.dtypes, "input 0")
        same = a.dtype == b.dtype
        node.require(same, f"inputs are {a.dtype.name} and {b.dtype.name}, expected one type")
        allowed = self.results_of(a.dtype)
        if len(allowed) == 1:  # whatever the file says, as LiteRT decides it
            y = replace(y, dtype=allowed[0])
        node.require_dtype(y, allowed, "output")
        require_activation(node)
        self.check_types(node, a, b, y)
        return [y.with_shape(broadcast_shape(node, a.dims, b.dims))]

    def results_of(self, dtype: DType) -> tuple[DType, ...]:
        """The output types that inputs of `dtype` may give."""
        return (dtype,)

    def check_types(self, node: Node, a: TensorType, b: TensorType, y: TensorType) -> None:
        """Refuse quantizations."""

    def is_quantized(self, node: Node) -> bool:
        """Whether the integers of this node stand for scaled numbers."""
        return False

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Evaluate, with floating point warnings off."""
        a, b = (np.asarray(x) for x in inputs)
        dtype = node.input(0).dtype
        with np.errstate(all="ignore"):
            if self.is_quantized(node):
                y = self.quantized(node, a, b)
            else:
                y = self.compute(node, widen(a, dtype), widen(b, dtype))
                if hasattr(node.options, "activation"):
                    y = clamped(node, y, node.options.activation, dtype)
        return narrow(y, node.output(0).dtype)

    def compute(self, node: Node, a: Array, b: Array) -> Array:
        """The function of floats, or of integers that are not quantized."""
        raise NotImplementedError

    def quantized(self, node: Node, a: Array, b: Array) -> Array:
        """The function of quantized integers, clamped to the output's type."""
        raise NotImplementedError

    def lower(self, node: Node, steps: Lowering) -> None:
        """A vector kernel for float32 and plain integers."""
        from litejit.ops import elementwise_lowering

        if not self.is_quantized(node):
            elementwise_lowering.binary(node, steps, self.kernel)


def unary(
    name: str,
    dtypes: tuple[DType, ...],
    compute: Compute | None = None,
    *,
    integers: Callable[[Node, Array], Array] | None = None,
    versions: range = range(1, 2),
    options: Any = None,
    kernel: str = "",
    check: Callable[[Node, TensorType, TensorType], None] | None = None,
) -> type[Unary]:
    """Register y = compute(x) as an operator; `integers(node, x)` is used for the other types.

    Where `integers` is absent, 8-bit tensors go through LiteRT's table of `compute`, and
    16-bit ones through its interpolated table.
    """

    class Row(Unary):
        __doc__ = f"{name} of every element; {', '.join(d.name for d in dtypes)}."

    def evaluate_floats(self: Unary, node: Node, x: Array) -> Array:
        assert compute is not None
        return np.asarray(compute(x))

    def evaluate_integers(self: Unary, node: Node, x: Array) -> Array:
        if integers is not None:
            return integers(node, x)
        assert compute is not None
        return lut.apply(node, compute, x)

    Row.dtypes, Row.options, Row.kernel = dtypes, options, kernel
    Row.compute = evaluate_floats  # type: ignore[method-assign]
    Row.integers = evaluate_integers  # type: ignore[method-assign]
    if check is not None:
        refuse = check

        def check_types(self: Unary, node: Node, x: TensorType, y: TensorType) -> None:
            refuse(node, x, y)

        Row.check_types = check_types  # type: ignore[method-assign]
    Row.__name__ = Row.__qualname__ = name.title().replace("_", "")
    return builtin(name, versions)(Row)
