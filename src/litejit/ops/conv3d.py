"""CONV_3D and CONV_3D_TRANSPOSE (NDHWC), float32 only."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from litejit.model.options import Conv3DOptions
from litejit.ops.base import Lowering, Node, Op, Types, builtin
from litejit.ops.fixedpoint import activation_range, require_activation
from litejit.ops.window import Span, span
from litejit.types import F32, I32, Array, TensorType

AXES = ("depth", "height", "width")


def _spans(node: Node, sizes: tuple[int, ...], filter: tuple[int, ...]) -> tuple[Span, ...]:
    """Depth, height and width of the window over an image of `sizes`."""
    o = node.options
    strides = (o.stride_d, o.stride_h, o.stride_w)
    dilations = (o.dilation_d_factor, o.dilation_h_factor, o.dilation_w_factor)
    rows = zip(sizes, filter, strides, dilations, AXES, strict=True)
    return tuple(span(node, size, f, s, d, axis) for size, f, s, d, axis in rows)


def _require_operands(
    node: Node, x: TensorType, weights: TensorType, bias: TensorType | None, units: int
) -> None:  # fmt: skip
    require_activation(node, node.output(0), node.options.activation)
    for tensor, what in ((x, "input"), (weights, "filter"), (node.output(0), "output")):
        node.require_dtype(tensor, (F32,), what)
    for tensor, what in ((x, "input"), (weights, "filter")):
        node.require(tensor.rank == 5, f"{what} must have 5 dimensions, got {tensor.shape}")
    empty = 0 in weights.dims or 0 in x.dims[1:]
    node.require(not empty, f"input {x.shape} and filter {weights.shape} must not be empty")
    if bias is not None:
        node.require_dtype(bias, (F32,), "bias")
        count = weights.dims[units]
        node.require(bias.size == count, f"bias has shape {bias.shape}, expected {count} values")


def _activate(node: Node, acc: Array, bias: Array | None) -> Array:
    low, high = activation_range(node.output(0), node.options.activation)
    total = acc if bias is None else acc + bias.ravel()
    result: Array = np.clip(total, np.float32(low), np.float32(high))
    return result


def _tap(spans: tuple[Span, ...], at: tuple[int, ...]) -> tuple[slice, ...]:
    """Cells of a framed image that filter position `at` meets, for every place of the window."""
    cells = [slice(None)]
    for i, s in zip(at, spans, strict=True):
        start = i * s.dilation
        cells.append(slice(start, start + max(s.out - 1, 0) * s.stride + min(s.out, 1), s.stride))
    return tuple(cells)


def _inner(spans: tuple[Span, ...]) -> tuple[slice, ...]:
    """The image within its frame."""
    return (slice(None), *(slice(s.before, s.before + s.size) for s in spans))


def _framed(spans: tuple[Span, ...]) -> tuple[int, ...]:
    """Sizes of the image with all the cells that windows reach."""
    return tuple(max(s.before + s.size + s.after, (s.out - 1) * s.stride + s.reach) for s in spans)


@builtin("CONV_3D")
class Conv3D(Op):
    """y[n, i, j, k, o] = act(bias[o] + sum over d, h, w, c of x[n, i s + d, ...] f[d, h, w, c, o]).

    x: NDHWC. f: DHWIO. Paddings, strides and dilations as in CONV_2D, for three axes.
    Source: LiteRT tflite/kernels/conv3d.cc, internal/reference/conv3d.h.
    """

    options = Conv3DOptions
    arity = (2, 3)
    optional = frozenset({2})

    def infer(self, node: Node) -> Types:
        """Check operands; [batch, out_d, out_h, out_w, filters]."""
        x, weights = node.input(0), node.input(1)
        _require_operands(node, x, weights, node.optional(2), 4)
        ok = x.dims[4] == weights.dims[3]
        node.require(ok, f"filter has {weights.dims[3]} input channels, input has {x.dims[4]}")
        spans = _spans(node, x.dims[1:4], weights.dims[:3])
        shape = (x.dims[0], *(s.out for s in spans), weights.dims[4])
        return [node.output(0).with_shape(shape)]

    def reference(self, node: Node, x: Array, weights: Array, bias: Array | None = None) -> Array:
        """One matrix product for each position of the filter."""
        spans = _spans(node, x.shape[1:4], weights.shape[:3])
        image = np.zeros((len(x), *_framed(spans), x.shape[4]), np.float32)
        image[_inner(spans)] = x
        acc = np.zeros(node.output(0).dims, np.float32)
        with np.errstate(all="ignore"):
            for at in product(*(range(n) for n in weights.shape[:3])):
                acc += image[_tap(spans, at)] @ weights[at]
            return _activate(node, acc, bias)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As a convolution of planes."""
        from litejit.ops.conv3d_lowering import lower_conv3d

        lower_conv3d(node, steps, _spans(node, node.input(0).dims[1:4], node.input(1).dims[:3]))


@builtin("CONV_3D_TRANSPOSE")
class Conv3DTranspose(Op):
    """The gradient of CONV_3D: x[n, i, j, k, c] f[d, h, w, o, c] is added to y[n, i s + d, ...].

    Inputs: y's shape, f (DHWOI), x (NDHWC), optional bias. A convolution over y must have x's
    sizes. The shape of y depends on data where input 0 is no constant.
    Source: LiteRT tflite/kernels/conv3d_transpose.cc, internal/reference/conv3d_transpose.h.
    """

    options = Conv3DOptions
    arity = (3, 4)
    optional = frozenset({3})

    def infer(self, node: Node) -> Types:
        """Check operands; the shape is the value of input 0."""
        shape, weights, x = node.input(0), node.input(1), node.input(2)
        node.require_dtype(shape, (I32,), "output shape")
        node.require(shape.dims == (5,), f"output shape must be 5 numbers, got {shape.shape}")
        _require_operands(node, x, weights, node.optional(3), 3)
        ok = x.dims[4] == weights.dims[4]
        node.require(ok, f"filter has {weights.dims[4]} input channels, input has {x.dims[4]}")
        if shape.value is None:
            return [node.output(0).with_shape(None)]
        sizes = tuple(int(n) for n in shape.value)
        self._window(node, sizes, node.require)
        return [node.output(0).with_shape(sizes)]

    def reference(
        self, node: Node, shape: Array, weights: Array, x: Array, bias: Array | None = None
    ) -> Array:  # fmt: skip
        """One matrix product for each position of the filter, scattered."""
        sizes = tuple(int(n) for n in shape)
        spans = self._window(node, sizes, node.check)
        image = np.zeros((len(x), *_framed(spans), sizes[4]), np.float32)
        with np.errstate(all="ignore"):
            for at in product(*(range(n) for n in weights.shape[:3])):
                image[_tap(spans, at)] += x @ weights[at].T
            return _activate(node, image[_inner(spans)], bias)

    def lower(self, node: Node, steps: Lowering) -> None:
        """As a transposed convolution of planes."""
        from litejit.ops.conv3d_lowering import lower_conv3d_transpose

        if node.input(0).value is not None:
            spans = self._window(node, node.output(0).dims, node.require)
            lower_conv3d_transpose(node, steps, spans)

    @staticmethod
    def _window(node: Node, shape: tuple[int, ...], refuse: Any) -> tuple[Span, ...]:
        weights, x = node.input(1), node.input(2)
        ok = shape[0] == x.dims[0] and shape[4] == weights.dims[3] and min(shape[1:4]) >= 1
        refuse(ok, f"output shape {shape} does not go with {x.shape}, filter {weights.shape}")
        spans = _spans(node, shape[1:4], weights.dims[:3])
        found = tuple(s.out for s in spans)
        refuse(found == x.dims[1:4], f"a window over {shape} gives {found}, input is {x.shape}")
        return spans
