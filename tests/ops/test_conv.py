"""Convolutions in NumPy: sums against plain loops, rounding, hybrid operators, refusals."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tests.ops.layers import layer, quantized, run

from litejit.errors import InvokeError, PrepareError
from litejit.model.options import Activation, Padding
from litejit.ops.convolution import conv_multipliers
from litejit.ops.fixedpoint import mbqm, mbqm64, quantize_multiplier
from litejit.ops.hybrid import quantize_asymmetric, quantize_symmetric
from litejit.types import F16, F32, I4, I8, I16, I32, I64, U8

RNG = np.random.default_rng(3)


def padding_of(size, filter, stride, dilation, same):
    reach = (filter - 1) * dilation + 1
    if not same:
        return (size - reach) // stride + 1, 0
    out = -(-size // stride)
    return out, max((out - 1) * stride + reach - size, 0) // 2


def sums(x, w, stride=(1, 1), dilation=(1, 1), same=False, depthwise=False):
    """Loops over everything, in int64 or float64."""
    kind = np.float64 if x.dtype.kind == "f" else np.int64
    x, w = x.astype(kind), w.astype(kind)
    n, h, wide, c = x.shape
    (oh, top), (ow, left) = (
        padding_of(size, f, s, d, same)
        for size, f, s, d in zip((h, wide), w.shape[1:3], stride, dilation, strict=True)
    )
    units = w.shape[3] if depthwise else w.shape[0]
    y = np.zeros((n, oh, ow, units), kind)
    share = units // max(c // w.shape[3], 1)
    for i, j, a, b in product(range(oh), range(ow), range(w.shape[1]), range(w.shape[2])):
        row = i * stride[0] - top + a * dilation[0]
        column = j * stride[1] - left + b * dilation[1]
        if not (0 <= row < h and 0 <= column < wide):
            continue
        for o in range(units):
            if depthwise:
                y[:, i, j, o] += x[:, row, column, o // (units // c)] * w[0, a, b, o]
            else:
                first = o // share * w.shape[3]
                part = x[:, row, column, first : first + w.shape[3]]
                y[:, i, j, o] += part @ w[o, a, b]
    return y


SHAPES = [
    ((2, 6, 5, 4), (3, 3, 2, 4), {}),
    ((1, 7, 8, 3), (5, 3, 3, 3), {"stride": (2, 1), "same": True}),
    ((1, 9, 9, 4), (6, 3, 3, 2), {"dilation": (2, 3), "same": True}),
    ((2, 4, 4, 6), (6, 1, 1, 1), {}),
    ((1, 3, 3, 2), (4, 1, 1, 2), {"stride": (2, 2)}),
    ((1, 2, 2, 2), (2, 5, 4, 2), {"same": True}),
]


def options_of(stride=(1, 1), dilation=(1, 1), same=False):
    return {
        "padding": Padding.SAME if same else Padding.VALID, "stride_h": stride[0],
        "stride_w": stride[1], "dilation_h_factor": dilation[0], "dilation_w_factor": dilation[1],
    }  # fmt: skip


@pytest.mark.parametrize(("image", "filter", "window"), SHAPES)
@pytest.mark.parametrize("weights_type", [F32, F16], ids=repr)
def test_float_convolutions_are_the_sums(image, filter, window, weights_type):
    x = RNG.normal(size=image).astype(np.float32)
    w = RNG.normal(size=filter).astype(weights_type.numpy)
    bias = RNG.normal(size=filter[0]).astype(np.float32)
    got = run("CONV_2D", [F32, weights_type, F32], [x, w, bias], **options_of(**window))
    np.testing.assert_allclose(got, sums(x, w, **window) + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("image", "filter", "window"), SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
def test_int8_convolutions_round_each_channel_by_its_multiplier(image, filter, window, per_channel):
    x = RNG.integers(-128, 128, image).astype(np.int8)
    w = RNG.integers(-127, 128, filter).astype(np.int8)
    bias = RNG.integers(-500, 500, filter[0]).astype(np.int32)
    scales = RNG.uniform(0.001, 0.02, filter[0] if per_channel else 1).astype(np.float32)
    types = [quantized(I8, 0.05, -7), quantized(I8, scales), I32]
    out = quantized(I8, 0.2, 4)
    got = run("CONV_2D", types, [x, w, bias], out, **options_of(**window))
    acc = sums(x.astype(np.int64) + 7, w, **window) + bias
    for o in range(filter[0]):
        real = float(np.float32(0.05)) * float(scales[o % len(scales)]) / float(np.float32(0.2))
        want = np.clip(mbqm(acc[..., o], *quantize_multiplier(real)) + 4, -128, 127)
        np.testing.assert_array_equal(got[..., o], want)


def test_uint8_weights_have_a_zero_point():
    x = RNG.integers(0, 256, (1, 5, 5, 3)).astype(np.uint8)
    w = RNG.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
    bias = np.arange(4, dtype=np.int32)
    kinds = [quantized(U8, 0.5, 100), quantized(U8, 0.25, 120), quantized(I32, 0.125)]
    got = run("CONV_2D", kinds, [x, w, bias], quantized(U8, 40.0, 9))
    acc = sums(x.astype(np.int64) - 100, w.astype(np.int64) - 120) + bias
    want = np.clip(mbqm(acc, *quantize_multiplier(0.125 / 40)) + 9, 0, 255)
    np.testing.assert_array_equal(got, want)


def test_fused_relu6_clamps_quantized_values():
    x = np.full((1, 1, 1, 1), 127, np.int8)
    w = np.array([100, -100], np.int8).reshape(2, 1, 1, 1)
    types = [quantized(I8, 1.0), quantized(I8, 1.0), I32]
    out = quantized(I8, 0.1, -50)
    got = run("CONV_2D", types, [x, w, np.zeros(2, np.int32)], out, activation=Activation.RELU6)
    assert got.ravel().tolist() == [10, -50]


@pytest.mark.parametrize("bias_type", [I32, I64], ids=repr)
def test_int16_sums_follow_the_type_of_the_bias(bias_type):
    x = RNG.integers(-32768, 32768, (1, 4, 4, 6)).astype(np.int16)
    w = RNG.integers(-127, 128, (3, 2, 2, 6)).astype(np.int8)
    bias = RNG.integers(-9000, 9000, 3).astype(bias_type.numpy)
    types = [quantized(I16, 0.001), quantized(I8, [0.01, 0.02, 0.03]), bias_type]
    got = run("CONV_2D", types, [x, w, bias], quantized(I16, 0.05), quantized_bias_type=bias_type)
    acc = sums(x, w) + bias
    rule = mbqm if bias_type == I32 else mbqm64
    node = layer("CONV_2D", types, [x, w, bias], quantized(I16, 0.05))
    want = np.clip(rule(acc, *conv_multipliers(node)), -32768, 32767)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize(
    "window", [{}, {"stride": (2, 2), "same": True}, {"dilation": (2, 2), "same": True}]
)
def test_depthwise_convolutions_keep_channels_apart(multiplier, window):
    x = RNG.integers(-128, 128, (2, 6, 7, 5)).astype(np.int8)
    w = RNG.integers(-127, 128, (1, 3, 3, 5 * multiplier)).astype(np.int8)
    scales = RNG.uniform(0.001, 0.02, 5 * multiplier).astype(np.float32)
    types = [quantized(I8, 0.05, 3), quantized(I8, scales, axis=3), None]
    out = quantized(I8, 0.1, -4)
    node = layer("DEPTHWISE_CONV_2D", types, [x, w, None], out, **options_of(**window))
    got = node.op.reference(node, x, w, None)
    acc = sums(x.astype(np.int64) - 3, w, depthwise=True, **window)
    want = np.clip(mbqm(acc, *conv_multipliers(node)) - 4, -128, 127)
    np.testing.assert_array_equal(got, want)


def test_depthwise_float():
    x = RNG.normal(size=(1, 5, 5, 70)).astype(np.float32)
    w = RNG.normal(size=(1, 3, 3, 70)).astype(np.float32)
    got = run("DEPTHWISE_CONV_2D", [F32, F32, None], [x, w, None], **options_of(same=True))
    want = sums(x, w, same=True, depthwise=True)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("same", [False, True])
def test_transposed_convolution_is_the_gradient(same):
    window = {"stride": (2, 3), "same": same}
    shape, w = (2, 7, 9, 4), RNG.integers(-9, 9, (4, 3, 3, 5)).astype(np.int8)
    inner = sums(np.zeros(shape, np.int64), np.zeros((1, 3, 3, 4), np.int64), **window).shape
    x = RNG.integers(-20, 20, (*inner[:3], 5)).astype(np.int8)
    types = [I32, quantized(I8, 1.0), quantized(I8, 1.0), None]
    arrays = [np.array(shape, np.int32), w, x, None]
    options = {"padding": Padding.SAME if same else Padding.VALID, "stride_h": 2, "stride_w": 3}
    got = run("TRANSPOSE_CONV", types, arrays, quantized(I8, 16.0), constant=(0,), **options)
    acc = np.zeros(shape, np.int64)
    for at in product(range(3), range(3), range(4)):  # each cell of one patch, by the definition
        probe = np.zeros((1, 3, 3, 4), np.int64)
        probe[(0, *at)] = 1
        acc_at = w[at[2], at[0], at[1]].astype(np.int64)
        for n, i, j in product(*(range(k) for k in x.shape[:3])):
            top, left = (padding_of(s, 3, t, 1, same)[1] for s, t in ((7, 2), (9, 3)))
            row, column = i * 2 - top + at[0], j * 3 - left + at[1]
            if 0 <= row < 7 and 0 <= column < 9:
                acc[n, row, column, at[2]] += x[n, i, j].astype(np.int64) @ acc_at
    want = np.clip(mbqm(acc, *quantize_multiplier(1 / 16)), -128, 127)
    np.testing.assert_array_equal(got, want)


def test_the_shape_of_a_transposed_convolution_may_come_late():
    w, x = np.ones((1, 2, 2, 1), np.float32), np.ones((1, 2, 2, 1), np.float32)
    types = [I32, F32, F32]
    options = {"stride_h": 2, "stride_w": 2}
    shape = np.array([1, 4, 4, 1], np.int32)
    node = layer("TRANSPOSE_CONV", types, [shape, w, x], **options)
    assert node.output(0).shape is None
    assert node.op.reference(node, shape, w, x).tolist() == np.ones((1, 4, 4, 1)).tolist()
    with pytest.raises(InvokeError, match="gives 3 x 3"):
        node.op.reference(node, np.array([1, 6, 6, 1], np.int32), w, x)


def test_symmetric_quantization_of_rows():
    values, scales = quantize_symmetric(np.array([[0, 0], [-2.54, 1], [0.5, 127]], np.float32))
    assert values.tolist() == [[0, 0], [-127, 50], [1, 127]]
    np.testing.assert_allclose(scales, [1, 0.02, 1], rtol=1e-6)


def test_asymmetric_quantization_of_rows():
    rows = np.array([[0, 0, 0], [0, 127.5, 255], [-255, -255, -1], [-1, 0, 2]], np.float32)
    values, scales, points = quantize_asymmetric(rows)
    assert points.tolist() == [0, -128, 127, -43]
    np.testing.assert_allclose(scales, [1, 1, 1, 1 / 85], rtol=1e-6)
    assert values.tolist() == [[0, 0, 0], [-128, 0, 127], [-128, -128, 126], [-128, -43, 127]]


def test_the_range_of_a_row_is_a_difference_of_float32():
    low, high = np.float32(-16777216), np.float32(3)
    _, scales, _ = quantize_asymmetric(np.array([[low, high]]))
    assert scales.tolist() == [np.float32(16777220 / 255)]  # 16777219 is no float32


@pytest.mark.parametrize("kind", [I8, U8, I4], ids=repr)
def test_hybrid_convolution_with_one_scale_is_symmetric(kind):
    x = RNG.normal(size=(2, 4, 4, 3)).astype(np.float32)
    w = RNG.integers(-7, 8, (2, 3, 3, 3)).astype(np.int8).view(kind.numpy)
    bias = np.array([0.5, -1], np.float32)
    got = run("CONV_2D", [F32, quantized(kind, 0.5), F32], [x, w, bias])
    values, scales = quantize_symmetric(x.reshape(2, -1))
    acc = sums(values.reshape(x.shape), w.view(np.int8))
    want = acc * (scales[:, None, None, None] * 0.5) + bias
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_hybrid_convolution_with_many_scales_is_asymmetric(name):
    x = RNG.normal(size=(2, 4, 4, 2)).astype(np.float32) + 1
    depthwise = name != "CONV_2D"
    shape = (1, 3, 3, 2) if depthwise else (2, 3, 3, 2)
    w = RNG.integers(-127, 128, shape).astype(np.int8)
    kind = quantized(I8, [0.5, 0.25], axis=3 if depthwise else 0)
    got = run(name, [F32, kind, F32], [x, w, np.ones(2, np.float32)], **options_of(same=True))
    values, scales, points = quantize_asymmetric(x.reshape(2, -1))
    centered = (values.astype(np.int64) - points[:, None]).reshape(x.shape)
    acc = sums(centered, w, same=True, depthwise=depthwise)
    want = acc * np.array([0.5, 0.25]) * scales[:, None, None, None] + 1
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_an_empty_batch_gives_an_empty_result():
    x, w = np.zeros((0, 4, 4, 2), np.float32), np.zeros((3, 2, 2, 2), np.float32)
    got = run("CONV_2D", [F32] * 3, [x, w, np.zeros(3, np.float32)])
    assert got.shape == (0, 3, 3, 3)


def test_infinities_end_at_the_largest_float_and_nan_stays():
    x = np.array([np.inf, -np.inf, np.nan], np.float32).reshape(1, 1, 3, 1)
    w = np.ones((1, 1, 1, 1), np.float32)
    got = run("CONV_2D", [F32] * 3, [x, w, np.zeros(1, np.float32)]).ravel()
    largest = np.finfo(np.float32).max
    assert got[:2].tolist() == [largest, -largest]
    assert np.isnan(got[2])


GOOD = [quantized(I8, 0.5), quantized(I8, 0.5), I32]
IMAGE, FILTER = np.zeros((1, 4, 4, 4), np.int8), np.zeros((4, 3, 3, 4), np.int8)


@pytest.mark.parametrize(
    ("types", "filter", "units", "options", "words"),
    [
        (GOOD, FILTER[..., :3], 4, {}, "does not divide 4"),
        (GOOD, np.zeros((3, 3, 3, 2), np.int8), 3, {}, "do not fall into 2 groups"),
        (GOOD, FILTER, 5, {}, "bias has shape"),
        (GOOD, FILTER[:0], 0, {}, "must not be empty"),
        (GOOD, FILTER, 4, {"stride_h": 0}, "stride along height is 0"),
        (GOOD, FILTER, 4, {"dilation_w_factor": 0}, "dilation along width is 0"),
        (GOOD, FILTER, 4, {"activation": 77}, "activation 77 is not known"),
        (GOOD, FILTER, 4, {"padding": 5}, "neither SAME nor VALID"),
        ([I8, GOOD[1], I32], FILTER, 4, {}, "input has no quantization scale"),
        ([quantized(I8, -1.0), GOOD[1], I32], FILTER, 4, {}, "not positive and finite"),
        ([quantized(I8, 0.5, 300), GOOD[1], I32], FILTER, 4, {}, "zero point outside"),
        ([quantized(I8, 1e30), GOOD[1], I32], FILTER, 4, {}, "ratio of the scales"),
        ([GOOD[0], quantized(I8, [0.5, 0.5]), I32], FILTER, 4, {}, "2 scales, expected 1 or 4"),
        ([GOOD[0], quantized(I8, 0.5, 3), I32], FILTER, 4, {}, "zero point must be 0"),
        ([GOOD[0], F32, I32], FILTER, 4, {}, "filter of INT8 input is FLOAT32"),
    ],
)
def test_what_cannot_run_is_refused_by_name(types, filter, units, options, words):
    arrays = [IMAGE, filter, np.zeros(units, np.int32)]
    with pytest.raises(PrepareError, match=words) as error:
        layer("CONV_2D", types, arrays, quantized(I8, 0.5), **options)
    assert str(error.value).startswith("CONV_2D (operator 0): ")


def test_convolutions_in_space_are_the_sums_over_three_axes():
    x = RNG.normal(size=(1, 4, 5, 6, 2)).astype(np.float32)
    w = RNG.normal(size=(2, 3, 3, 2, 4)).astype(np.float32)
    got = run("CONV_3D", [F32, F32, None], [x, w, None], padding=Padding.SAME, stride_h=2)
    want = np.zeros((1, 4, 3, 6, 4))
    for at in product(range(4), range(3), range(6), range(2), range(3), range(3)):
        d, i, j, a, b, c = at
        place = (d + a, 2 * i - 1 + b, j - 1 + c)
        if all(0 <= p < n for p, n in zip(place, (4, 5, 6), strict=True)):
            want[0, d, i, j] += x[(0, *place)].astype(np.float64) @ w[a, b, c]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    y = RNG.normal(size=want.shape).astype(np.float32)
    shape = np.array(x.shape, np.int32)
    back = run(
        "CONV_3D_TRANSPOSE", [I32, F32, F32], [shape, w, y],
        padding=Padding.SAME, stride_h=2, constant=(0,),
    )  # fmt: skip
    # <conv(x), y> == <x, transposed(y)> is what makes it the gradient
    np.testing.assert_allclose(np.vdot(got, y), np.vdot(x, back), rtol=1e-4)
