"""Softmax, its logarithm, normalization over the last axis."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.reducing import arg, bfloat16, litert, refuses, run

from litejit.model.options.elementwise import (
    L2NormOptions,
    LocalResponseNormalizationOptions,
    LogSoftmaxOptions,
    SoftmaxOptions,
)
from litejit.model.options.enums import Activation
from litejit.ops.fixedexp import exp_on_negative_values, inverse_sqrt, log_of_sum, reciprocal
from litejit.types import BF16, F16, F32, I8, I16, I32, U8

PLAIN = SoftmaxOptions(beta=1.0)
OUT8 = {"INT8": (I8, 1 / 256, -128), "UINT8": (U8, 1 / 256, 0)}


def codes(shape, dtype, seed=0):
    info = np.iinfo(dtype.numpy)
    rng = np.random.default_rng(seed)
    return rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


def test_fixed_point_functions_are_near_the_real_ones():
    x = np.linspace(-31, 0, 1001)
    raw = np.round(x * 2**26).astype(np.int64)
    error = exp_on_negative_values(raw) / 2**31 - np.exp(raw / 2**26)
    assert np.abs(error).max() < 3e-7
    sums = np.unique(np.geomspace(1, 4000, 500))
    raw = np.round(sums * 2**19).astype(np.int64)
    factor, over = reciprocal(raw, 12)
    np.testing.assert_allclose(factor / 2.0**31 / 2.0**over, 2**19 / raw, rtol=1e-8)
    np.testing.assert_allclose(log_of_sum(raw) / 2**26, np.log(raw / 2**19), atol=2e-7)
    for value in (2, 3, 100, 12345, 2**30, 2**31 - 1):
        multiplier, shift = inverse_sqrt(value)
        assert multiplier / 2**31 * 2.0**shift == pytest.approx(value**-0.5, rel=5e-6)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 64, 65, 1000])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_float_softmax(n, beta):
    x = np.random.default_rng(n).standard_normal((3, 5, n)).astype(np.float32) * 4
    (y,) = run("SOFTMAX", SoftmaxOptions(beta=beta), [arg(x)], [F32], compiled=True)
    scaled = (x - x.max(-1, keepdims=True)) * np.float32(beta)
    e = np.exp(scaled.astype(np.float64))
    np.testing.assert_allclose(y, e / e.sum(-1, keepdims=True), rtol=1e-6)


def test_nan_and_infinity_take_their_row():
    inf, nan = np.inf, np.nan
    rows = [[0, nan, 1], [inf, 0, 0], [-inf, -inf, -inf], [-inf, 0, 0]]
    x = arg(np.array(rows, np.float32))
    (y,) = run("SOFTMAX", PLAIN, [x], [F32], compiled=True)
    assert np.isnan(y[:3]).all()
    assert y[3].tolist() == [0, 0.5, 0.5]


def test_halves_are_rounded_before_they_are_divided():
    x = np.array([[0, 1, 2, 3]], np.float16)
    e = np.exp(x.astype(np.float32) - 3)
    want = (e.astype(np.float16).astype(np.float32) / e.sum()).astype(np.float16)
    assert run("SOFTMAX", PLAIN, [arg(x)], [F16])[0].tolist() == want.tolist()
    (y,) = run("SOFTMAX", PLAIN, [bfloat16([[0, 0, 0, 0]])], [BF16])
    assert y.tolist() == [[0x3E80] * 4]


def test_int8_softmax_by_hand():
    # differences of 0 and ln 3 (11 / 10): 1/4 and 3/4 of 256, minus 128
    x = arg(np.array([[0, 11]], np.int8), scale=float(np.log(3) / 11))
    (y,) = run("SOFTMAX", PLAIN, [x], [OUT8["INT8"]], compiled=True)
    assert y.tolist() == [[-64, 64]]


@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("n", [1, 3, 16, 17, 300])
@pytest.mark.parametrize(("scale", "beta"), [(0.1, 1.0), (0.01, 1.7), (3.0, 1.0), (1e-6, 1.0)])
def test_8_bit_softmax_is_litert_s(dtype, n, scale, beta):
    x = arg(codes((4, n), dtype), scale=scale, zero_point=3)
    options = SoftmaxOptions(beta=beta)
    for out in (OUT8[dtype.name], (I16, 1 / 65536, -32768)):
        case = "SOFTMAX", options, [x], [out]
        (y,) = run(*case, compiled=True)
        np.testing.assert_array_equal(y, litert(*case)[0])


@pytest.mark.parametrize("scale", [7.8e-9, 1e-12, 1e-30])
def test_tiny_scales_and_long_rows_give_the_limit(scale):
    # LiteRT's reference preparation ends the process here
    x = arg(codes((2, 10), I8), scale=scale)
    (y,) = run("SOFTMAX", PLAIN, [x], [OUT8["INT8"]], compiled=True)
    assert (np.abs(y - (25.6 - 128)) < 1).all()
    x = arg(codes((2, 1000), I8), scale=scale)
    assert (run("SOFTMAX", PLAIN, [x], [OUT8["INT8"]], compiled=True)[0] == -128).all()
    equal = arg(np.full((1, 700), 5, np.uint8), scale=0.1)
    assert (run("SOFTMAX", PLAIN, [equal], [OUT8["UINT8"]], compiled=True)[0] == 0).all()
    x = arg(codes((2, 10), I8), scale=0.1)
    (y,) = run("SOFTMAX", SoftmaxOptions(beta=0.0), [x], [OUT8["INT8"]], compiled=True)
    assert (np.abs(y - (25.6 - 128)) < 1).all()


@pytest.mark.parametrize("scale", [1 / 32768, 0.0007, 0.02])
@pytest.mark.parametrize("n", [1, 5, 200])
def test_16_bit_softmax_is_litert_s(scale, n):
    x = arg(codes((4, n), I16), scale=scale)
    case = "SOFTMAX", SoftmaxOptions(beta=0.9), [x], [(I16, 1 / 32768, 0)]
    np.testing.assert_array_equal(run(*case)[0], litert(*case)[0])


def test_softmax_refuses():
    x = arg(np.zeros((2, 3), np.int8), scale=0.1)
    refuses("SOFTMAX", PLAIN, [x], [(I8, 1 / 256, 0)], "zero point must be -128")
    refuses("SOFTMAX", PLAIN, [x], [(I8, 1 / 128, -128)], "scale must be")
    refuses("SOFTMAX", PLAIN, [x], [U8], "output is UINT8")
    refuses("SOFTMAX", SoftmaxOptions(beta=-1.0), [x], [OUT8["INT8"]], "beta is -1")
    refuses("SOFTMAX", PLAIN, [arg(np.zeros(3, np.int8))], [OUT8["INT8"]], "quantization scale")
    refuses("SOFTMAX", PLAIN, [arg(np.float32(3))], [F32], "at least one dimension")
    refuses("SOFTMAX", PLAIN, [arg(np.zeros(3, np.int32))], [I32], "input is INT32")
    wild = arg(np.zeros(3, np.int16), scale=1e30)
    refuses("SOFTMAX", PLAIN, [wild], [(I16, 1 / 32768, 0)], "ratio of the scales")


def test_nothing_gives_nothing():
    for name, options in (("SOFTMAX", PLAIN), ("LOG_SOFTMAX", LogSoftmaxOptions())):
        for shape in ((0, 3), (3, 0)):
            assert run(name, options, [arg(np.zeros(shape, np.float32))], [F32])[0].size == 0


@pytest.mark.parametrize("n", [1, 16, 17, 100])
def test_float_log_softmax(n):
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32) * 5
    (y,) = run("LOG_SOFTMAX", LogSoftmaxOptions(), [arg(x)], [F32], compiled=True)
    wide = x.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    want = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("n", [1, 4, 200])
@pytest.mark.parametrize("scale", [0.3, 0.05, 0.001])
def test_8_bit_log_softmax_is_litert_s(dtype, n, scale):
    x = arg(codes((5, n), dtype), scale=scale, zero_point=1)
    out = (dtype, 1 / 16, 127 if dtype is I8 else 255)
    case = "LOG_SOFTMAX", LogSoftmaxOptions(), [x], [out]
    np.testing.assert_array_equal(run(*case)[0], litert(*case)[0])


def test_tiny_scales_of_log_softmax():
    x = arg(codes((2, 4), I8), scale=1e-10)
    (y,) = run("LOG_SOFTMAX", LogSoftmaxOptions(), [x], [(I8, 1 / 16, 127)])
    assert (y == 127 - round(np.log(4) * 16)).all()
    refuses("LOG_SOFTMAX", LogSoftmaxOptions(), [x], [(I8, 1 / 16, 0)], "output needs scale 1/16")


@pytest.mark.parametrize("n", [1, 16, 17, 100])
def test_float_l2_norm(n):
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    x[1] = 0
    (y,) = run("L2_NORMALIZATION", L2NormOptions(), [arg(x)], [F32], compiled=True)
    norm = np.maximum(np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True)), 1e-6)
    np.testing.assert_allclose(y, x / norm, rtol=1e-6)


@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("n", [1, 3, 64, 500])
def test_8_bit_l2_norm_is_litert_s(dtype, n):
    zero = 5 if dtype is I8 else 130
    values = codes((6, n), dtype)
    values[2] = zero
    values[3] = np.clip(values[3], zero - 1, zero + 1)
    out = (dtype, 1 / 128, 0 if dtype is I8 else 128)
    case = "L2_NORMALIZATION", L2NormOptions(), [arg(values, scale=0.2, zero_point=zero)], [out]
    np.testing.assert_array_equal(run(*case)[0], litert(*case)[0])


def test_l2_norm_refuses():
    x = arg(np.zeros((2, 3), np.int8), scale=0.1)
    options = L2NormOptions()
    refuses("L2_NORMALIZATION", options, [x], [(I8, 1 / 128, 1)], "zero point 0")
    fused = L2NormOptions(activation=Activation.RELU)
    refuses("L2_NORMALIZATION", fused, [arg(np.zeros(3, np.float32))], [F32], "activation")


@pytest.mark.parametrize("radius", [0, 1, 2, 20])
def test_response_is_normalized_over_both_neighbours(radius):
    x = np.random.default_rng(0).standard_normal((1, 2, 2, 9)).astype(np.float32)
    fields = {"radius": radius, "bias": 1.5, "alpha": 0.4, "beta": 0.6}
    options = LocalResponseNormalizationOptions(**fields)
    (y,) = run("LOCAL_RESPONSE_NORMALIZATION", options, [arg(x)], [F32])
    wide = x.astype(np.float64)
    for c in range(9):
        window = wide[..., max(0, c - radius) : c + radius + 1]
        want = wide[..., c] * (1.5 + 0.4 * (window**2).sum(-1)) ** -0.6
        np.testing.assert_allclose(y[..., c], want, rtol=1e-5)
    bad = LocalResponseNormalizationOptions(radius=-1)
    refuses("LOCAL_RESPONSE_NORMALIZATION", bad, [arg(x)], [F32], "radius is -1")
