"""FULLY_CONNECTED and BATCH_MATMUL in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.layers import layer, quantized, run

from litejit.errors import PrepareError
from litejit.model.options import Activation
from litejit.model.options.conv import WeightsFormat
from litejit.ops.fixedpoint import mbqm, mbqm64, quantize_multiplier
from litejit.ops.hybrid import quantize_asymmetric, quantize_symmetric
from litejit.record import replace
from litejit.types import F32, I2, I4, I8, I16, I32, I64, U8, Quantization, TensorType

RNG = np.random.default_rng(4)
FC, BMM = "FULLY_CONNECTED", "BATCH_MATMUL"


def away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def test_rows_are_cut_by_the_depth_of_the_weights():
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    w = np.array([[1, 0, 0], [1, 1, 1]], np.float32)
    got = run(FC, [F32, F32, F32], [x, w, np.array([0, 100], np.float32)])
    assert got.tolist() == [[0, 103], [3, 112], [6, 121], [9, 130]]
    kept = run(FC, [F32, F32, None], [x, w, None], keep_num_dims=True)
    assert kept.shape == (2, 2, 2)
    assert kept[1, 1].tolist() == [9, 30]


def test_no_depth_gives_zeros():
    x, w = np.zeros((3, 0), np.float32), np.zeros((2, 0), np.float32)
    assert run(FC, [F32, F32, None], [x, w, None]).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("kind", "weights", "bias_type"),
    [(I8, I8, I32), (I8, I4, I32), (I8, I2, I32), (U8, U8, I32), (I16, I8, I64), (I16, I8, I32)],
)
def test_quantized_products_are_scaled_in_double(kind, weights, bias_type):
    low = 0 if kind == U8 else -(1 << (kind.bits - 1))
    zero = 0 if kind == I16 else low + 100
    middle = 120 if weights == U8 else 0
    x = RNG.integers(low, low + (1 << kind.bits), (6, 40)).astype(kind.numpy)
    least = 0 if weights == U8 else -(1 << (weights.bits - 1))
    w = RNG.integers(least, least + (1 << weights.bits), (9, 40)).astype(weights.numpy)
    bias = RNG.integers(-900, 900, 9).astype(bias_type.numpy)
    one, two, three = (float(np.float32(s)) for s in (0.01, 0.02, 0.3))
    types = [
        quantized(kind, one, zero),
        quantized(weights, two, middle),
        quantized(bias_type, 2e-4),
    ]
    got = run(FC, types, [x, w, bias], quantized(kind, three, zero), quantized_bias_type=bias_type)
    acc = (x.astype(np.int64) - zero) @ (w.astype(np.int64) - middle).T + bias
    info = np.iinfo(kind.numpy)
    want = np.clip(away(acc * (one * two / three)) + zero, info.min, info.max)
    np.testing.assert_array_equal(got, want)


def test_each_unit_may_have_a_scale():
    x = RNG.integers(-128, 128, (3, 20)).astype(np.int8)
    w = RNG.integers(-127, 128, (4, 20)).astype(np.int8)
    scales = np.array([0.5, 0.25, 0.125, 1.0], np.float32)
    types = [quantized(I8, 1.0, 5), quantized(I8, scales), None]
    got = run(FC, types, [x, w, None], quantized(I8, 32.0))
    acc = (x.astype(np.int64) - 5) @ w.astype(np.int64).T
    np.testing.assert_array_equal(got, np.clip(away(acc * (scales / 32)), -128, 127))


def test_int16_products_are_scaled_by_15_bits():
    x = RNG.integers(-32768, 32768, (3, 20)).astype(np.int16)
    w = RNG.integers(-32768, 32768, (4, 20)).astype(np.int16)
    types = [quantized(I16, 0.25), quantized(I16, 0.5), None]
    got = run(FC, types, [x, w, None], quantized(I16, 16384.0))
    acc = x.astype(np.int64) @ w.astype(np.int64).T
    want = np.clip(mbqm64(acc, *quantize_multiplier(0.125 / 16384)), -32768, 32767)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rows", [1, 4])
def test_shuffled_weights_lie_in_blocks(rows):
    x = RNG.integers(0, 256, (rows, 32)).astype(np.uint8)
    w = RNG.integers(-128, 128, (8, 32)).astype(np.int8)
    blocks = w.reshape(2, 4, 2, 16).transpose(0, 2, 1, 3).reshape(8, 32).view(np.uint8)
    bias = RNG.integers(-900, 900, 8).astype(np.int32)
    types = [quantized(U8, 1.0, 128), quantized(U8, 1.0, 128), quantized(I32, 1.0)]
    outs = (quantized(I16, 64.0), TensorType(None, U8))
    got, workspace = run(
        FC, types, [x, blocks, bias], outs, weights_format=WeightsFormat.SHUFFLED4x16INT8
    )
    acc = (x.astype(np.int64) - 128) @ w.astype(np.int64).T + bias
    want = np.clip(mbqm(acc, *quantize_multiplier(1 / 64)), -32768, 32767)
    np.testing.assert_array_equal(got, want)
    assert workspace.shape == x.shape
    assert sorted(workspace.ravel()) == sorted((x ^ 128).ravel())


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("kind", [I8, U8, I4], ids=repr)
def test_hybrid_rows_are_quantized_apart(asymmetric, kind):
    x = RNG.normal(size=(5, 24)).astype(np.float32) * 10 ** np.arange(5.0)[:, None].astype("f4")
    w = RNG.integers(-8, 8, (3, 24)).astype(np.int8)
    bias = np.ones(3, np.float32)
    got = run(
        FC, [F32, quantized(kind, 0.5), F32], [x, w.view(kind.numpy), bias],
        asymmetric_quantize_inputs=asymmetric,
    )  # fmt: skip
    if asymmetric:
        values, scales, points = quantize_asymmetric(x)
    else:
        (values, scales), points = quantize_symmetric(x), np.zeros(5, np.int64)
    acc = (values.astype(np.int64) - points[:, None]) @ w.astype(np.int64).T
    np.testing.assert_allclose(got, acc * scales[:, None] * 0.5 + 1, rtol=1e-5)


def test_hybrid_products_take_any_activation():
    x, w = np.array([[1, 0]], np.float32), np.array([[127, 0], [-127, 0]], np.int8)
    types, arrays = [F32, quantized(I8, 0.01), None], [x, w, None]
    got = run(FC, types, arrays, activation=Activation.TANH)
    np.testing.assert_allclose(got, np.tanh([[1.27, -1.27]]), rtol=1e-5)
    assert run(FC, types, arrays, activation=Activation.SIGN_BIT).tolist() == [[0, 1]]
    assert run(FC, types, arrays, activation=Activation.RELU_N1_TO_1).tolist() == [[1, -1]]
    with pytest.raises(PrepareError, match="is for float data with integer weights"):
        layer(FC, [F32, F32, None], [x, w.astype(np.float32), None], activation=Activation.TANH)


def test_blockwise_weights_have_a_scale_for_each_block():
    x = RNG.normal(size=(2, 8)).astype(np.float32)
    w = RNG.integers(-8, 8, (3, 8)).astype(np.int8)
    scales = RNG.uniform(0.1, 1, (3, 2)).astype(np.float32)
    q = Quantization(scales.ravel(), np.zeros(1, np.int64), 0, 4)
    got = run(FC, [F32, TensorType(None, I4, q), None], [x, w, None])
    values, factors, points = quantize_asymmetric(x)
    centered = values.astype(np.float64) - points[:, None]
    want = centered @ (w * np.repeat(scales, 4, axis=1)).T * factors[:, None]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("types", "shape", "options", "words"),
    [
        ([F32, F32, None], (2, 4, 4), {}, r"weights must be \[units, depth\]"),
        ([F32, F32, F32], (2, 4), {}, "expected 2 values"),
        ([F32, F32, None], (2, 3), {"keep_num_dims": True}, "must end with weights' depth 3"),
        ([F32, I32, None], (2, 4), {}, "weights of FLOAT32 input is INT32"),
        ([F32, F32, None], (2, 4), {"activation": 9}, "activation 9 is not known"),
        ([F32, F32, None], (2, 4), {"weights_format": 4}, "weights format 4 is not known"),
        ([F32, I8, None], (2, 4), {}, "weights has no quantization scale"),
        ([F32, quantized(I4, 1.0, 3), None], (2, 4), {}, "must be 0"),
        ([F32, quantized(I8, [1, 1, 1]), None], (2, 4), {}, "3 scales along dimension 0"),
    ],
)
def test_what_cannot_run_is_refused_by_name(types, shape, options, words):
    arrays = [np.zeros((2, 4), np.float32), np.zeros(shape), np.zeros(5, np.float32)]
    with pytest.raises(PrepareError, match=words) as error:
        layer(FC, types, arrays, **options)
    assert str(error.value).startswith("FULLY_CONNECTED (operator 0): ")


@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
def test_batches_broadcast_and_adjoints_swap(adj_x, adj_y):
    left = RNG.normal(size=(2, 1, 3, 4)).astype(np.float32)
    right = RNG.normal(size=(5, 4, 6)).astype(np.float32)
    a = left.swapaxes(-1, -2).copy() if adj_x else left
    b = right.swapaxes(-1, -2).copy() if adj_y else right
    got = run(BMM, [F32, F32], [a, b], adj_x=adj_x, adj_y=adj_y)
    np.testing.assert_allclose(got, left @ right, rtol=1e-5, atol=1e-5)
    assert got.shape == (2, 5, 3, 6)


def test_int8_products_round_twice():
    left = RNG.integers(-128, 128, (2, 3, 400)).astype(np.int8)
    right = RNG.integers(-128, 128, (2, 400, 5)).astype(np.int8)
    types = [quantized(I8, 0.5, 3), quantized(I8, 0.25, -4)]
    got = run(BMM, types, [left, right], quantized(I8, 90.0, 7))
    acc = (left.astype(np.int64) - 3) @ (right.astype(np.int64) + 4)
    want = np.clip(mbqm(acc, *quantize_multiplier(0.125 / 90)) + 7, -128, 127)
    np.testing.assert_array_equal(got, want)
    raw = run(BMM, types, [left, right], I32)
    np.testing.assert_array_equal(raw, left.astype(np.int64) @ right.astype(np.int64))


@pytest.mark.parametrize("other", [I8, I16], ids=repr)
def test_int16_batches_round_once(other):
    left = RNG.integers(-32768, 32768, (3, 50)).astype(np.int16)
    right = RNG.integers(-128, 128, (50, 5)).astype(other.numpy)
    types = [quantized(I16, 0.5), quantized(other, 0.25)]
    got = run(BMM, types, [left, right], quantized(I16, 90.0))
    acc = left.astype(np.int64) @ right.astype(np.int64)
    want = np.clip(mbqm64(acc, *quantize_multiplier(0.125 / 90)), -32768, 32767)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_hybrid_batches(asymmetric):
    left = RNG.normal(size=(2, 3, 20)).astype(np.float32)
    right = RNG.integers(-127, 128, (20, 4)).astype(np.int8)
    scales = np.array([1, 2, 3, 4], np.float32)
    types = [F32, quantized(I8, scales, axis=1)]
    got = run(BMM, types, [left, right], asymmetric_quantize_inputs=asymmetric)
    want = left @ (right * scales)
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


def test_products_that_do_not_fit_are_refused():
    left, right = np.zeros((2, 3, 4), np.float32), np.zeros((3, 4, 2), np.float32)
    with pytest.raises(PrepareError, match="do not broadcast"):
        layer(BMM, [F32, F32], [left, right])
    with pytest.raises(PrepareError, match="rows of 4 do not go with columns of 3"):
        layer(BMM, [F32, F32], [left, np.zeros((3, 2), np.float32)])
    with pytest.raises(PrepareError, match="no kernel for FLOAT32 x INT16"):
        layer(BMM, [F32, I16], [left, right])


def test_a_node_keeps_its_meaning_when_resized():
    x, w = np.ones((1, 4), np.float32), np.eye(4, dtype=np.float32)
    node = layer(FC, [F32, F32, None], [x, w, None])
    larger = node.with_types((node.input(0).with_shape((3, 4)), *node.inputs[1:]), node.outputs)
    assert larger.op.infer(larger)[0].shape == (3, 4)
    assert replace(larger, outputs=node.outputs).output(0).shape == (1, 4)
