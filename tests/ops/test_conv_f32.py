"""Lowerings of float convolutions and matrix products against their references."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.lowered import run_lowered

from litejit.codegen.isa import host_isas
from litejit.model.options import (
    Activation,
    AddOptions,
    BatchMatMulOptions,
    Conv2DOptions,
    Conv3DOptions,
    DepthwiseConv2DOptions,
    FullyConnectedOptions,
    Padding,
    TransposeConvOptions,
)
from litejit.ops import activation, arithmetic, conv, conv3d, conv_f32, matmul
from litejit.ops.base import Node, registered
from litejit.record import replace
from litejit.types import F16, F32, I32, TensorType

assert activation and arithmetic and conv and conv3d and matmul
BY_ISA = pytest.mark.parametrize("isa", host_isas(), ids=lambda isa: isa.name)
RNG = np.random.default_rng(11)
KNOWN, LATE = (1, 2), (2,)  # which operands are constants: weights may be found by the run


def tensor(array, index, *, constant=False):
    dtype = {"float32": F32, "float16": F16, "int32": I32}[array.dtype.name]
    kind = TensorType(array.shape, dtype, index=index)
    return kind.with_value(array) if constant else kind


def make(name, options, arrays, constants=(1, 2)):
    inputs = tuple(
        None if a is None else tensor(a, j, constant=j in constants) for j, a in enumerate(arrays)
    )
    op, _ = registered(name)
    node = Node(op, name, 0, 1, options, inputs, (TensorType(None, F32, index=50),))
    return node.with_types(inputs, tuple(op.infer(node)))


def check(node, arrays, isa, want=None):
    (got,), calls = run_lowered(node, isa, arrays)
    assert calls > 0
    if want is None:
        wide = [
            a.astype(np.float32) if a is not None and a.dtype.kind == "f" else a for a in arrays
        ]
        want = node.op.reference(node, *wide)
    span = max(float(np.abs(want).max(initial=0)), 1e-3)
    assert float(np.abs(got - want).max(initial=0)) <= 1e-5 * span


def floats(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def conv_options(kind=Conv2DOptions, padding=Padding.SAME, stride=1, dilation=1, activation=0):
    return kind(padding=padding, stride_h=stride, stride_w=stride, dilation_h_factor=dilation,
                dilation_w_factor=dilation, activation=activation)  # fmt: skip


CONVOLUTIONS = [
    # image, filters (OHWI), options: pointwise, Winograd, direct, dilated, grouped, narrow
    ((1, 7, 7, 20), (40, 1, 1, 20), {"activation": Activation.RELU6}),
    ((3, 2, 2, 5), (1, 1, 1, 5), {}),
    ((1, 1, 1, 33), (70, 1, 1, 33), {}),
    ((1, 9, 5, 19), (1, 1, 1, 19), {"activation": Activation.RELU}),
    ((1, 13, 18, 16), (24, 3, 3, 16), {"activation": Activation.RELU}),
    ((2, 9, 10, 9), (5, 3, 3, 9), {"padding": Padding.VALID}),
    ((1, 9, 11, 3), (17, 3, 3, 3), {"stride": 2}),
    ((1, 12, 12, 1), (64, 5, 5, 1), {}),
    ((1, 9, 9, 8), (12, 3, 3, 8), {"dilation": 2}),
    ((1, 1, 40, 12), (20, 1, 3, 12), {"dilation": 4, "padding": Padding.VALID}),
    ((1, 1, 56, 16), (20, 1, 3, 16), {"dilation": 4, "padding": Padding.VALID}),
    ((2, 3, 21, 24), (33, 1, 3, 24), {"activation": Activation.RELU}),
    ((2, 6, 7, 12), (9, 3, 3, 4), {"activation": Activation.RELU_N1_TO_1}),
    ((1, 5, 6, 8), (8, 3, 3, 2), {"stride": 2}),
    ((1, 8, 8, 6), (5, 8, 8, 6), {"padding": Padding.VALID}),
    ((1, 6, 6, 4), (3, 1, 1, 4), {"stride": 2}),
    ((0, 6, 6, 4), (3, 3, 3, 4), {}),
]


@BY_ISA
@pytest.mark.parametrize("image, filters, options", CONVOLUTIONS)
def test_convolutions_agree_with_the_reference(isa, image, filters, options):
    arrays = [floats(*image), floats(*filters), floats(filters[0])]
    for constants in (KNOWN, LATE):
        node = make("CONV_2D", conv_options(**options), arrays, constants)
        if image[0]:
            check(node, arrays, isa)
        else:
            assert run_lowered(node, isa, arrays)[0][0].size == 0


def test_half_precision_weights_count_as_floats():
    arrays = [floats(1, 8, 8, 12), floats(16, 3, 3, 12, dtype=np.float16), floats(16)]
    check(make("CONV_2D", conv_options(), arrays), arrays, host_isas()[0])


DEPTHWISE = [
    ((1, 12, 12, 40), (1, 3, 3, 40), {"activation": Activation.RELU6}),
    ((2, 9, 7, 5), (1, 3, 3, 5), {"stride": 2}),
    ((1, 9, 9, 18), (1, 5, 5, 18), {"stride": 2}),
    ((1, 9, 9, 18), (1, 3, 3, 18), {"dilation": 3}),
    ((1, 3, 3, 70), (1, 7, 7, 70), {}),
    ((1, 8, 9, 4), (1, 3, 3, 12), {}),
    ((1, 9, 9, 1), (1, 4, 5, 8), {"stride": 2}),
    ((1, 6, 6, 16), (1, 6, 6, 16), {"padding": Padding.VALID}),
    ((1, 1, 9, 16), (1, 1, 3, 16), {"dilation": 1, "padding": Padding.VALID}),
]


@BY_ISA
@pytest.mark.parametrize("image, filters, options", DEPTHWISE)
def test_depthwise_convolutions_agree_with_the_reference(isa, image, filters, options):
    for bias in (floats(filters[3]), None):
        arrays = [floats(*image), floats(*filters), bias]
        options_of = conv_options(DepthwiseConv2DOptions, **options)
        for constants in (KNOWN, LATE):
            check(make("DEPTHWISE_CONV_2D", options_of, arrays, constants), arrays, isa)


@BY_ISA
@pytest.mark.parametrize(
    "shape, filters, image, stride, padding",
    [
        ((1, 8, 12, 6), (6, 2, 2, 9), (1, 4, 6, 9), 2, Padding.SAME),
        ((2, 9, 9, 5), (5, 3, 3, 4), (2, 9, 9, 4), 1, Padding.SAME),
        ((1, 8, 8, 18), (18, 3, 3, 4), (1, 4, 4, 4), 2, Padding.SAME),
        ((1, 9, 9, 7), (7, 3, 3, 4), (1, 4, 4, 4), 2, Padding.VALID),
        ((1, 12, 12, 3), (3, 4, 4, 2), (1, 4, 4, 2), 3, Padding.SAME),
        ((1, 10, 10, 3), (3, 1, 1, 2), (1, 4, 4, 2), 3, Padding.SAME),
        ((1, 9, 10, 16), (16, 5, 5, 3), (1, 5, 5, 3), 2, Padding.SAME),
    ],
)
def test_transposed_convolutions_agree_with_the_reference(
    isa, shape, filters, image, stride, padding
):
    options = TransposeConvOptions(padding=padding, stride_h=stride, stride_w=stride)
    for bias in (floats(shape[3]), None):
        arrays = [np.array(shape, np.int32), floats(*filters), floats(*image), bias]
        for constants in ((0, 1, 3), (0, 3)):
            check(make("TRANSPOSE_CONV", options, arrays, constants), arrays, isa)


@BY_ISA
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (1, 130, 70), (2, 12, 64), (5, 33, 7), (50, 20, 9)])
def test_dense_layers_agree_with_the_reference(isa, m, n, k):
    for bias in (floats(n), None):
        arrays = [floats(m, k), floats(n, k), bias]
        options = FullyConnectedOptions(activation=Activation.RELU)
        for constants in (KNOWN, LATE):
            check(make("FULLY_CONNECTED", options, arrays, constants), arrays, isa)


@BY_ISA
@pytest.mark.parametrize(
    "adj_x, adj_y", [(False, False), (True, False), (False, True), (True, True)]
)
@pytest.mark.parametrize(
    "x, y",
    [((), ()), ((3,), (3,)), ((2, 1), (2, 3)), ((4, 1, 2), (1, 3, 2)), ((1,), (5,)), ((6,), (1,))],
)
def test_batches_of_products_agree_with_the_reference(isa, adj_x, adj_y, x, y):
    for m, n, k in ((5, 35, 9), (1, 3, 17)):
        left = floats(*x, k, m) if adj_x else floats(*x, m, k)
        right = floats(*y, n, k) if adj_y else floats(*y, k, n)
        options = BatchMatMulOptions(adj_x=adj_x, adj_y=adj_y)
        check(make("BATCH_MATMUL", options, [left, right], ()), [left, right], isa)


def fuse(node, follower, position, others=()):
    assert node.op.fuses_after(node, follower, position)
    return replace(
        node, inputs=(*node.inputs, *others), outputs=follower.outputs,
        chain=(*(node.chain or (node,)), follower),
    )  # fmt: skip


@BY_ISA
@pytest.mark.parametrize(
    "image, filters, options", [CONVOLUTIONS[0], CONVOLUTIONS[3], CONVOLUTIONS[4], CONVOLUTIONS[10]]
)
def test_sums_take_in_a_residual_and_activations(isa, image, filters, options):
    arrays = [floats(*image), floats(*filters), floats(filters[0])]
    node = make("CONV_2D", conv_options(**options), arrays)
    first = node.op.reference(node, *arrays)
    residual = floats(*first.shape)
    kind = tensor(residual, 9)
    add = Node(registered("ADD")[0], "ADD", 1, 1, AddOptions(activation=Activation.RELU),
               (kind, node.output(0)), (replace(node.output(0), index=60),))  # fmt: skip
    swish = Node(registered("HARD_SWISH")[0], "HARD_SWISH", 2, 1, None, (add.output(0),),
                 (replace(node.output(0), index=61),))  # fmt: skip
    fused = fuse(fuse(node, add, 1, (kind,)), swish, 0)
    total = np.maximum(first + residual, 0)
    check(fused, [*arrays, residual], isa, total * np.clip(total + 3, 0, 6) / 6)


def test_followers_of_another_shape_are_left_alone():
    arrays = [floats(1, 4, 4, 8), floats(8, 1, 1, 8), floats(8)]
    node = make("CONV_2D", conv_options(), arrays)
    row = tensor(floats(1, 1, 1, 8), 9)
    add = Node(registered("ADD")[0], "ADD", 1, 1, AddOptions(), (node.output(0), row),
               (replace(node.output(0), index=60),))  # fmt: skip
    assert not conv_f32.fusible_after(node, add, 0)


VOLUMES = [  # sizes, filter, strides, dilations, channels, units, padding
    ((4, 5, 6), (2, 3, 3), (1, 2, 1), (1, 1, 1), 2, 4, Padding.SAME),
    ((5, 6, 8), (2, 2, 3), (2, 1, 2), (1, 1, 1), 3, 2, Padding.VALID),
    ((3, 7, 5), (1, 2, 2), (1, 1, 1), (1, 1, 1), 3, 33, Padding.SAME),
    ((9, 4, 4), (3, 1, 1), (1, 1, 1), (2, 1, 1), 5, 7, Padding.SAME),
    ((7, 6, 6), (1, 2, 2), (3, 2, 2), (1, 1, 1), 3, 2, Padding.SAME),
    ((1, 2, 3), (4, 3, 3), (2, 2, 2), (1, 1, 1), 1, 1, Padding.SAME),
]


@BY_ISA
@pytest.mark.parametrize("sizes, filter, strides, dilations, channels, units, padding", VOLUMES)
def test_volumes_agree_with_the_reference(
    isa, sizes, filter, strides, dilations, channels, units, padding
):
    words = ("d", "h", "w")
    numbers = {f"stride_{w}": s for w, s in zip(words, strides, strict=True)}
    numbers |= {f"dilation_{w}_factor": d for w, d in zip(words, dilations, strict=True)}
    options = Conv3DOptions(padding=padding, activation=Activation.RELU, **numbers)
    x, weights = floats(2, *sizes, channels), floats(*filter, channels, units)
    for bias in (floats(units), None):
        for constants in (KNOWN, LATE):
            node = make("CONV_3D", options, [x, weights, bias], constants)
            check(node, [x, weights, bias], isa)
    y = floats(*node.output(0).dims)
    arrays = [np.array(x.shape, np.int32), weights, y, floats(channels)]
    for constants in ((0, 1, 3), (0, 3)):
        check(make("CONV_3D_TRANSPOSE", options, arrays, constants), arrays, isa)
