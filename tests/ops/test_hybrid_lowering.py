"""Compiled layers of float data and integer weights give what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.layers import quantized
from tests.ops.numbered import both, numbered

from litejit.codegen.isa import host_isas
from litejit.model.options import Activation, Padding
from litejit.types import F32, I4, I8, I32, U8, Quantization, TensorType

ISAS = host_isas()
NAMES = [isa.name for isa in ISAS]
RNG = np.random.default_rng(12)
FC, CONV, DEPTHWISE = "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"


def floats(*shape):
    return (RNG.normal(size=shape) * RNG.uniform(0.1, 30)).astype(np.float32)


def codes(kind, *shape):
    low = -(1 << (kind.bits - 1)) + 1 if kind != U8 else 0
    return RNG.integers(low, low + (1 << kind.bits) - 1, shape).astype(kind.numpy)


def scales(count):
    return RNG.uniform(0.5, 2, count).astype(np.float32) / 64


def check(node, arrays, isa, tolerance=2e-7):
    want, got = both(node, arrays, isa)
    reach = np.abs(want).max() if np.isfinite(want).all() else 0
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * reach)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize(
    ("rows", "units", "depth"), [(1, 70, 33), (1, 512, 128), (5, 3, 40), (37, 35, 100), (20, 1, 7)]
)
@pytest.mark.parametrize("asymmetric", [False, True])
def test_dense_rows_have_scales_of_their_own(isa, rows, units, depth, asymmetric):
    x, w, bias = floats(rows, depth), codes(I8, units, depth), floats(units)
    x *= RNG.uniform(0.01, 100, (rows, 1)).astype(np.float32)
    types = [F32, quantized(I8, scales(units)), F32]
    node = numbered(FC, types, [x, w, bias], F32, asymmetric_quantize_inputs=asymmetric)
    check(node, [x, w, bias], isa)


@pytest.mark.parametrize("kind", [I8, U8, I4])
@pytest.mark.parametrize(
    "activation", [Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1, Activation.TANH]
)
def test_dense_layers_take_every_weight_type_and_activation(kind, activation):
    x, w = floats(6, 24), codes(kind, 18, 24)
    types = [F32, quantized(kind, 0.004), None]
    node = numbered(FC, types, [x, w, None], F32, activation=activation, keep_num_dims=True)
    check(node, [x, w, None], ISAS[0], 1e-6)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_halves_are_rounded_away_from_zero_before_the_zero_point_is_added(isa):
    x = np.resize(np.float32([-100, 155, 1.5, -1.5, 0.5, -0.5, 154.5, -99.5]), (1, 40))
    types = [F32, quantized(I8, 1.0), None]
    w = np.eye(40, dtype=np.int8)
    node = numbered(FC, types, [x, w, None], F32, asymmetric_quantize_inputs=True)
    want, got = both(node, [x, w, None], isa)
    assert want[0, :8].tolist() == [-100, 155, 2, -2, 1, -1, 155, -100]  # LiteRT's
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_rows_of_zeros_infinities_and_nan_stay_apart(asymmetric):
    x = floats(9, 20)
    x[0] = 0
    x[2, 3], x[4, 5], x[6, 1] = np.nan, np.inf, -np.inf
    x[7], x[8] = np.abs(x[7]), -np.abs(x[8])
    w = codes(I8, 17, 20)
    types = [F32, quantized(I8, 0.01), None]
    node = numbered(FC, types, [x, w, None], F32, asymmetric_quantize_inputs=asymmetric)
    want, got = both(node, [x, w, None], ISAS[0])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[~np.isnan(want)], want[~np.isnan(want)])


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("count", [1, 21])
@pytest.mark.parametrize(
    ("filter", "options"),
    [
        ((1, 1), {}),
        ((3, 3), {"padding": Padding.SAME, "stride_h": 2, "stride_w": 2}),
        ((2, 3), {"padding": Padding.SAME, "dilation_h_factor": 2, "activation": Activation.RELU}),
    ],
)
def test_convolutions_quantize_each_image(isa, count, filter, options):
    units = 21
    x, w, bias = floats(2, 9, 8, 12), codes(I8, units, *filter, 12), floats(units)
    x[1] *= 40
    types = [F32, quantized(I8, scales(count)), F32]
    node = numbered(CONV, types, [x, w, bias], F32, **options)
    check(node, [x, w, bias], isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize(("channels", "multiplier"), [(5, 1), (40, 1), (4, 3)])
def test_depthwise_convolutions_quantize_each_image(isa, channels, multiplier):
    units = channels * multiplier
    x, w, bias = floats(2, 10, 9, channels), codes(I8, 1, 3, 3, units), floats(units)
    types = [F32, quantized(I8, scales(units), axis=3), F32]
    node = numbered(DEPTHWISE, types, [x, w, bias], F32, padding=Padding.SAME, stride_h=2,
                    activation=Activation.RELU6)  # fmt: skip
    check(node, [x, w, bias], isa)


def test_groups_of_channels_see_their_own_part():
    x, w, bias = floats(1, 6, 6, 8), codes(I8, 12, 3, 3, 4), floats(12)
    types = [F32, quantized(I8, scales(12)), F32]
    node = numbered(CONV, types, [x, w, bias], F32, padding=Padding.SAME)
    check(node, [x, w, bias], ISAS[0])


def test_large_images_are_quantized_in_pieces():
    x, w, bias = floats(1, 70, 61, 9), codes(I8, 16, 3, 3, 9), floats(16)
    types = [F32, quantized(I8, scales(16)), F32]
    node = numbered(CONV, types, [x, w, bias], F32, padding=Padding.SAME)
    check(node, [x, w, bias], ISAS[0])


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_transposed_convolutions_quantize_each_image(isa):
    shape, w = np.array([2, 9, 9, 6], np.int32), codes(I8, 6, 3, 3, 5)
    x, bias = floats(2, 4, 4, 5), floats(6)
    types = [I32, quantized(I8, scales(6)), F32, F32]
    node = numbered("TRANSPOSE_CONV", types, [shape, w, x, bias], F32, constant=(0, 1, 3),
                    stride_h=2, stride_w=2)  # fmt: skip
    check(node, [shape, w, x, bias], isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize(("rows", "units", "depth", "size"), [(1, 70, 96, 32), (5, 3, 40, 8)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_blocks_of_weights_have_scales_of_their_own(isa, rows, units, depth, size, with_bias):
    x, w = floats(rows, depth), codes(I4, units, depth)
    bias = floats(units) if with_bias else None
    q = Quantization(scales(units * depth // size), np.zeros(1, np.int64), 0, size)
    types = [F32, TensorType(None, I4, q), F32 if with_bias else None]
    node = numbered(FC, types, [x, w, bias], F32, activation=Activation.RELU)
    check(node, [x, w, bias], isa, 1e-6)
    assert not node.op.fuses_after(node, node, 0)
