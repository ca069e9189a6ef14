"""Compiled int16 layers give the bytes that NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.layers import quantized
from tests.ops.numbered import both, numbered

from litejit.codegen.isa import host_isas
from litejit.model.options import Activation, Padding
from litejit.types import I8, I16, I32, I64

ISAS = host_isas()
NAMES = [isa.name for isa in ISAS]
RNG = np.random.default_rng(5)


def operands(image, filter, units, bias_type, *, large=False):
    x = RNG.integers(-32768, 32768, image).astype(np.int16)
    w = RNG.integers(-127, 128, filter).astype(np.int8)
    if large:
        x[...], w[...] = -32768, -127
    bias = RNG.integers(-(10**6), 10**6, units).astype(bias_type.numpy)
    scales = RNG.uniform(0.5, 2, units).astype(np.float32) / 100
    return [x, w, bias], scales


def same(node, arrays, isa):
    want, got = both(node, arrays, isa)
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) > 3 or want.size < 4


def types_of(scales, bias_type, axis=0):
    return [quantized(I16, 0.001), quantized(I8, scales, axis=axis), bias_type]


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("bias_type", [I32, I64])
@pytest.mark.parametrize(("rows", "units", "depth"), [(1, 70, 33), (7, 5, 64), (20, 33, 50)])
def test_dense_layers_round_once_in_double(isa, bias_type, rows, units, depth):
    arrays, scales = operands((rows, depth), (units, depth), units, bias_type)
    arrays[2] //= 100
    types = types_of(float(scales[0]), bias_type)
    types[2] = quantized(bias_type, np.float32(0.001) * scales[0])
    node = numbered("FULLY_CONNECTED", types, arrays, quantized(I16, 0.02),
                    quantized_bias_type=bias_type)  # fmt: skip
    same(node, arrays, isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("bias_type", [I32, I64])
@pytest.mark.parametrize(
    ("filter", "options"),
    [
        ((1, 1), {}),
        ((3, 3), {"padding": Padding.SAME, "stride_h": 2, "stride_w": 2}),
        ((1, 3), {"padding": Padding.SAME, "activation": Activation.RELU6}),
    ],
)
def test_convolutions_are_exact(isa, bias_type, filter, options):
    arrays, scales = operands((2, 7, 9, 11), (19, *filter, 11), 19, bias_type)
    node = numbered("CONV_2D", types_of(scales, bias_type), arrays, quantized(I16, 0.01),
                    quantized_bias_type=bias_type, **options)  # fmt: skip
    same(node, arrays, isa)


@pytest.mark.parametrize("depth", [520, 1100, 4000])
def test_deep_sums_pass_32_bits(depth):
    arrays, scales = operands((1, 2, 2, depth), (6, 1, 1, depth), 6, I64, large=True)
    arrays[0][0, 0] = 100
    arrays[0][0, 1, 0] = RNG.integers(-32768, 32768, depth)
    node = numbered("CONV_2D", types_of(scales * 20, I64), arrays, quantized(I16, 40.0))
    want, got = both(node, arrays, ISAS[0])
    np.testing.assert_array_equal(got, want)
    assert np.abs(want[0, 1, 1]).max() > 100


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize(("channels", "multiplier"), [(5, 1), (40, 1), (4, 3)])
def test_depthwise_convolutions_are_exact(isa, channels, multiplier):
    units = channels * multiplier
    arrays, scales = operands((2, 8, 9, channels), (1, 3, 3, units), units, I64)
    node = numbered("DEPTHWISE_CONV_2D", types_of(scales, I64, axis=3), arrays,
                    quantized(I16, 0.004), padding=Padding.SAME, stride_h=2, stride_w=2,
                    dilation_w_factor=1)  # fmt: skip
    same(node, arrays, isa)


def test_dilated_windows_that_hang_over_all_edges_are_exact():
    arrays, scales = operands((1, 5, 4, 18), (1, 5, 3, 18), 18, I64)
    node = numbered("DEPTHWISE_CONV_2D", types_of(scales, I64, axis=3), arrays,
                    quantized(I16, 0.004), padding=Padding.SAME, dilation_h_factor=2,
                    dilation_w_factor=3)  # fmt: skip
    same(node, arrays, ISAS[0])


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("other", [I8, I16], ids=repr)
@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
def test_batches_of_products_are_summed_in_64_bits(isa, other, adj_x, adj_y):
    for left, right in (
        ((3, 5, 33), (3, 33, 20)), ((1, 7, 2000), (2, 1, 2000, 3)), ((1, 1), (4, 2, 1, 70)),
    ):  # fmt: skip
        x = RNG.integers(-32768, 32768, left).astype(np.int16)
        w = RNG.integers(-100, 128, right).astype(other.numpy) << (8 * other.bits // 16 - 4)
        x, w = (a.swapaxes(-1, -2) if turn else a for a, turn in ((x, adj_x), (w, adj_y)))
        arrays = [np.ascontiguousarray(x), np.ascontiguousarray(w)]
        out = quantized(I16, 2e-5 * w.std() * np.sqrt(left[-1]))
        types = [quantized(I16, 0.001), quantized(other, 0.001)]
        node = numbered("BATCH_MATMUL", types, arrays, out, constant=(), adj_x=adj_x, adj_y=adj_y)
        same(node, arrays, isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("late", [False, True])
def test_dense_layers_of_int16_weights_are_summed_in_64_bits(isa, late):
    for rows, units, depth in ((1, 70, 33), (7, 5, 3000)):
        x = RNG.integers(-32768, 32768, (rows, depth)).astype(np.int16)
        w = RNG.integers(-32768, 32768, (units, depth)).astype(np.int16)
        arrays = [x, w, RNG.integers(-(10**9), 10**9, units)]
        bias = quantized(I64, np.float32(0.001) * np.float32(0.001))
        types = [quantized(I16, 0.001), quantized(I16, 0.001), bias]
        out = quantized(I16, 0.05 * np.sqrt(depth))
        constant = (2,) if late else (1, 2)
        same(numbered("FULLY_CONNECTED", types, arrays, out, constant=constant), arrays, isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("bias_type", [I32, I64])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": Padding.SAME, "stride_h": 2, "activation": Activation.RELU6},
        {"dilation_w_factor": 2, "dilation_h_factor": 3},
        {"padding": Padding.SAME, "dilation_h_factor": 5},
    ],
)
def test_convolutions_with_weights_of_a_run_are_exact(isa, bias_type, options):
    for filter, units in (((3, 2), 5), ((1, 1), 40)):
        arrays, scales = operands((2, 9, 8, 3), (units, *filter, 3), units, bias_type)
        out = quantized(I16, 0.02)
        node = numbered("CONV_2D", types_of(scales, bias_type), arrays, out, constant=(2,),
                        quantized_bias_type=bias_type, **options)  # fmt: skip
        same(node, arrays, isa)


@pytest.mark.parametrize("late", [False, True])
def test_int16_filters_are_read_as_bytes(late):
    x = RNG.integers(-32768, 32768, (1, 6, 7, 4)).astype(np.int16)
    w = RNG.integers(-32768, 32768, (9, 3, 3, 4)).astype(np.int16)
    arrays = [x, w, RNG.integers(-(10**6), 10**6, 9)]
    types = [quantized(I16, 0.001), quantized(I16, 0.01), I64]
    constant = (2,) if late else (1, 2)
    node = numbered("CONV_2D", types, arrays, quantized(I16, 0.05), constant=constant)
    same(node, arrays, ISAS[0])
