"""Numbers and refusals in which TFLM differs from LiteRT, checked against its wheel's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.micro.arena_models import ints, runnable

from litejit.micro import runtime
from litejit.micro.resolver import MicroRefOpResolver
from litejit.micro.runtime import Interpreter
from litejit.model.builder import per_channel
from litejit.model.options import (
    Activation,
    AddOptions,
    BatchMatMulOptions,
    Conv2DOptions,
    DepthwiseConv2DOptions,
    FullyConnectedOptions,
    MirrorPadMode,
    MirrorPadOptions,
    PackOptions,
    Padding,
    ReducerOptions,
    ResizeBilinearOptions,
    TransposeConvOptions,
)
from litejit.ops import fixedpoint
from litejit.record import replace
from litejit.types import BOOL, F32, I8, I16, I32, I64, U32, Array, DType

BIG = 1 << 22
MAX = float(np.finfo(np.float32).max)


def run(model: Any, *values: Array) -> Array:
    interpreter = Interpreter.from_bytes(model.to_bytes(), arena_size=BIG)
    for number, value in enumerate(values):
        interpreter.set_input(value, number)
    assert interpreter.invoke() == 0
    return np.asarray(interpreter.get_output(0))


def refusal(model: Any) -> str:
    with pytest.raises(RuntimeError, match="^TFLM failed to allocate tensors") as caught:
        Interpreter.from_bytes(model.to_bytes(), arena_size=BIG)
    return str(caught.value)


@pytest.mark.parametrize("zero", [-5, 0, 5])
def test_what_int32_cannot_hold_is_quantized_as_nan_is(zero: int) -> None:
    # the sum of int32's least number and the zero point wraps where that is negative
    values = np.array([np.nan, 3e38, -3e38, 1.0, -1.0], np.float32)
    model = runnable("QUANTIZE", [((5,), F32)], [((5,), I8, per_channel([0.5], [zero]))])
    lost = 127 if zero < 0 else -128
    assert run(model, values).tolist() == [lost, lost, lost, 2 + zero, zero - 2]


def test_sums_of_int8_are_scaled_in_fixed_point() -> None:
    scale, total = per_channel([0.25], [0]), per_channel([0.5], [0])
    model = runnable(
        "SUM", [((4, 1), I8, scale), ((1,), I32, ints(0))], [((1,), I8, total)],
        options=ReducerOptions(keep_dims=False),
    )  # fmt: skip
    # halves go up in the high half of a product; LiteRT's float32 takes -2.5 to -3
    assert run(model, np.array([[5], [0], [0], [0]], np.int8)).tolist() == [3]
    assert run(model, np.array([[-5], [0], [0], [0]], np.int8)).tolist() == [-2]


@pytest.mark.parametrize("dtype", [F32, I8, I32, I64])
def test_zeros_like_takes_int8_too(dtype: DType) -> None:
    model = runnable("ZEROS_LIKE", [((2, 3), dtype)], [((2, 3), dtype)])
    assert not run(model, np.ones((2, 3), dtype.numpy)).any()


@pytest.mark.parametrize("name", ["LOG", "SIN", "SQUARE", "ABS", "RSQRT"])
def test_types_of_elementwise_operators_are_refused_when_they_run(name: str) -> None:
    model = runnable(name, [((4,), I32)], [((4,), I32)])
    interpreter = Interpreter.from_bytes(model.to_bytes(), arena_size=BIG)
    with pytest.raises(RuntimeError, match="^Interpreter invocation failed"):
        interpreter.invoke()


def test_what_has_to_be_constant_is_refused_when_it_is_prepared() -> None:
    pads = runnable("PAD", [((2, 3), F32), ((2, 2), I32)], [((4, 5), F32)])
    assert "computed while the model runs" in refusal(pads)


def test_a_reshape_to_another_number_of_elements_is_refused() -> None:
    model = runnable("RESHAPE", [((4, 5), F32), ((2,), I32)], [((1, 1), F32)])
    assert "declared as (1, 1)" in refusal(model)


def test_six_dimensions_are_too_many_to_broadcast() -> None:
    wide = (1, 1, 1, 1, 1, 2)
    inputs = [(wide, F32), ((6,), I32, ints(*wide))]
    assert "of 0 to 5 dimensions" in refusal(runnable("BROADCAST_TO", inputs, [(wide, F32)]))


@pytest.mark.parametrize("scale", [0.25, 0.3])
def test_a_bias_of_another_scale_than_its_sum_is_refused(scale: float) -> None:
    half, one = per_channel([0.5], [0]), per_channel([1.0], [0])
    weights, bias = ((2, 4), I8, bytes(8)), ((2,), I32, ints(4, -4))
    builder = runnable("FULLY_CONNECTED", [((1, 4), I8, half), weights, bias], [((1, 2), I8, one)])
    tensors = builder.main._tensors
    tensors[1] = replace(tensors[1], quantization=half)
    tensors[2] = replace(tensors[2], quantization=per_channel([scale], [0]))
    if scale == 0.25:
        assert run(builder, np.zeros((1, 4), np.int8)).tolist() == [[1, -1]]
    else:
        assert "bias" in refusal(builder)


def test_expanding_other_types_is_refused_when_it_runs() -> None:
    inputs = [((4,), I64), ((1,), I32, ints(0))]
    model = runnable("EXPAND_DIMS", inputs, [((1, 4), I64)])
    interpreter = Interpreter.from_bytes(model.to_bytes(), arena_size=BIG)
    with pytest.raises(RuntimeError, match="^Interpreter invocation failed"):
        interpreter.invoke()


def test_int16_is_rectified_by_a_multiplier_formed_in_float64() -> None:
    pair = per_channel([0.00024404373834840953]), per_channel([0.00024360211682505906])
    model = runnable("RELU", [((65536,), I16, pair[0])], [((65536,), I16, pair[1])])
    codes = np.arange(-32768, 32768, dtype=np.int16)
    results = []
    for ratio in (
        float(pair[0].scales[0]) / float(pair[1].scales[0]),
        float(pair[0].scales[0] / pair[1].scales[0]),  # in float32, as LiteRT
    ):
        scaled = fixedpoint.mbqm(codes.astype(np.int64), *fixedpoint.quantize_multiplier(ratio))
        results.append(np.clip(scaled, 0, 32767))
    np.testing.assert_array_equal(run(model, codes), results[0])
    assert (results[0] != results[1]).any()


def test_codes_that_stand_for_nothing_divide_as_tflm_divides() -> None:
    # figures of TFLM's wheel; LiteRT refuses the data
    a, b, y = per_channel([0.01], [-4]), per_channel([0.02], [3]), per_channel([2.0], [10])
    model = runnable("DIV", [((5,), I8, a), ((5,), I8, b)], [((5,), I8, y)])
    found = run(model, np.array([96, 96, -104, -4, 127], np.int8), np.full(5, 3, np.int8))
    assert found.tolist() == [-25, -25, 45, 10, -36]


@pytest.mark.parametrize("name", ["PACK", "MIRROR_PAD"])
def test_what_only_moves_codes_may_change_their_meaning(name: str) -> None:
    one, other = per_channel([0.5], [3]), per_channel([0.25], [-7])
    values = np.array([[1, 2, 3], [4, 5, 6]], np.int8)
    if name == "PACK":
        options = PackOptions(values_count=2, axis=0)
        model = runnable(
            "PACK", [((2, 3), I8, one)] * 2, [((2, 2, 3), I8, other)], options=options
        )  # fmt: skip
        assert run(model, values, values + 1).tolist() == np.stack([values, values + 1]).tolist()
    else:
        inputs = [((2, 3), I8, one), ((2, 2), I32, ints(0, 0, 1, 1))]
        model = runnable(
            "MIRROR_PAD", inputs, [((2, 5), I8, other)],
            options=MirrorPadOptions(mode=MirrorPadMode.REFLECT),
        )  # fmt: skip
        expected = np.pad(values, ((0, 0), (1, 1)), mode="reflect")
        assert run(model, values).tolist() == expected.tolist()


def test_products_of_int16_are_scaled_by_an_exact_product_of_scales() -> None:
    # the product rounded to float32 gives the next of the 16-bit multipliers
    a, b = per_channel([6.733210466336459e-05]), per_channel([5.901813710806891e-05])
    y = per_channel([5.8773683122126386e-05])
    inputs = [((1, 1, 2), I16, a), ((1, 2, 1), I16, b)]
    model = runnable("BATCH_MATMUL", inputs, [((1, 1, 1), I16, y)], options=BatchMatMulOptions())
    left, right = np.full((1, 1, 2), 32767, np.int16), np.array([[[10000], [1000]]], np.int16)
    exact = float(a.scales[0]) * float(b.scales[0]) / float(y.scales[0])
    rounded = float(a.scales[0] * b.scales[0]) / float(y.scales[0])
    total = np.array(32767 * 11000)
    codes = [
        int(fixedpoint.mbqm64(total, *fixedpoint.quantize_multiplier(r))) for r in (exact, rounded)
    ]
    assert codes[0] != codes[1]
    assert int(run(model, left, right)[0, 0, 0]) == codes[0]


def test_absolute_values_of_int16_are_scaled_by_a_multiplier_formed_in_float64() -> None:
    pair = per_channel([0.008259947411715984]), per_channel([0.05506093427538872])
    model = runnable("ABS", [((32768,), I16, pair[0])], [((32768,), I16, pair[1])])
    codes = np.arange(32768, dtype=np.int16)
    ratio = float(pair[0].scales[0]) / float(pair[1].scales[0])
    expected = fixedpoint.mbqm(codes.astype(np.int64), *fixedpoint.quantize_multiplier(ratio))
    np.testing.assert_array_equal(run(model, -codes), expected)


def test_a_six_beyond_all_codes_is_the_largest_code() -> None:
    scale = per_channel([2.2158801584737375e-05])
    model = runnable("RELU6", [((4,), I16, scale)], [((4,), I16, scale)])
    codes = np.array([-5, 0, 9000, 32767], np.int16)
    assert run(model, codes).tolist() == [0, 0, 9000, 32767]


def test_zero_points_of_convolution_weights_are_not_looked_at() -> None:
    def model(zero: int) -> Any:
        half, one = per_channel([0.5], [0]), per_channel([1.0], [0])
        inputs = [((1, 1, 1, 2), I8, half), ((1, 1, 1, 2), I8, bytes([2, 4])), None]
        options = Conv2DOptions(padding=Padding.VALID, stride_w=1, stride_h=1)
        builder = runnable("CONV_2D", inputs, [((1, 1, 1, 1), I8, one)], options=options)
        tensors = builder.main._tensors
        tensors[1] = replace(tensors[1], quantization=per_channel([0.5], [zero]))
        return builder

    values = np.array([[[[10, 20]]]], np.int8)
    assert run(model(7), values).tolist() == run(model(0), values).tolist() == [[[[25]]]]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
@pytest.mark.parametrize("name", ["SUM", "MEAN"])
@pytest.mark.parametrize(("axes", "shape"), [((1, 2), (2, 3)), ((3,), (2, 9, 7)), ((0, 2), (9, 3))])
def test_floats_are_summed_one_after_the_other(
    name: str, axes: tuple[int, ...], shape: tuple[int, ...], compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not compiled:
        monkeypatch.setattr(runtime, "MicroOpResolver", MicroRefOpResolver)
    x = np.random.default_rng(3).normal(0, 1000, (2, 9, 7, 3)).astype(np.float32)
    model = runnable(
        name, [(x.shape, F32), ((len(axes),), I32, ints(*axes))], [(shape, F32)],
        options=ReducerOptions(keep_dims=False),
    )  # fmt: skip
    total = np.zeros(shape, np.float32)
    for place in np.ndindex(*x.shape):
        total[tuple(n for k, n in enumerate(place) if k not in axes)] += x[place]
    if name == "MEAN":
        total /= np.float32(x.size // total.size)
    np.testing.assert_array_equal(run(model, x), total)


@pytest.mark.parametrize("name", ["FLOAT32", "INT8", "INT32", "UINT32"])
def test_numbers_become_truth_values(name: str) -> None:
    dtype = next(d for d in (F32, I8, I32, U32) if d.name == name)
    model = runnable("CAST", [((3,), dtype)], [((3,), BOOL)])
    assert run(model, np.array([0, 1, 2], dtype.numpy)).tolist() == [False, True, True]


def test_blocks_are_padded_by_code_0() -> None:
    scale = per_channel([0.5], [3])
    pads = ((2, 2), I32, ints(1, 0, 0, 0))
    inputs = [((1, 1, 2, 1), I8, scale), ((2,), I32, ints(2, 1)), pads]
    model = runnable("SPACE_TO_BATCH_ND", inputs, [((2, 1, 2, 1), I8, scale)])
    assert run(model, np.array([[[[7], [8]]]], np.int8)).ravel().tolist() == [0, 0, 7, 8]


def test_aligned_corners_and_half_pixel_centers_exclude_each_other() -> None:
    inputs = [((1, 2, 2, 1), F32), ((2,), I32, ints(4, 4))]
    options = ResizeBilinearOptions(align_corners=True, half_pixel_centers=True)
    model = runnable("RESIZE_BILINEAR", inputs, [((1, 4, 4, 1), F32)], options=options)
    assert "align" in refusal(model)


_FLOAT_SUMS = {
    "CONV_2D": Conv2DOptions, "DEPTHWISE_CONV_2D": DepthwiseConv2DOptions,
    "TRANSPOSE_CONV": TransposeConvOptions, "FULLY_CONNECTED": FullyConnectedOptions,
}  # fmt: skip


def _tenfold(name: str, activation: int) -> Any:
    """y = act(10 x) of six numbers."""
    many, shape = (6, 1) if name == "FULLY_CONNECTED" else (1, 2, 3, 1), (1,) * 4
    inputs = [(many, F32), (shape[-len(many) :], F32, np.float32(10).tobytes())]
    if name == "TRANSPOSE_CONV":
        inputs = [((4,), I32, ints(*many)), *reversed(inputs)]
    options = _FLOAT_SUMS[name](activation=activation)
    if name != "FULLY_CONNECTED":
        options = type(options)(**{**vars(options), "stride_w": 1, "stride_h": 1})
    if name == "DEPTHWISE_CONV_2D":
        options = type(options)(**{**vars(options), "depth_multiplier": 1})
    return runnable(name, inputs, [(many, F32)], options=options)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
@pytest.mark.parametrize("name", _FLOAT_SUMS)
@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        (Activation.NONE, -MAX, MAX), (Activation.RELU, 0, MAX), (Activation.RELU6, 0, 6),
        (Activation.TANH, -MAX, MAX), (Activation.SIGN_BIT, -MAX, MAX),
    ],
)  # fmt: skip
def test_float_sums_end_at_finite_numbers_and_are_only_clamped(
    name: str, activation: int, low: float, high: float, compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not compiled:
        monkeypatch.setattr(runtime, "MicroOpResolver", MicroRefOpResolver)
    x = np.array([1, -0.5, 3e38, -3e38, np.inf, np.nan], np.float32)
    model = _tenfold(name, activation)
    shape = (6, 1) if name == "FULLY_CONNECTED" else (1, 2, 3, 1)
    with np.errstate(over="ignore"):
        expected = np.clip(x * np.float32(10), np.float32(low), np.float32(high))
    np.testing.assert_array_equal(run(model, x.reshape(shape)).ravel(), expected)


def test_a_sum_behind_a_convolution_ends_at_finite_numbers() -> None:
    builder = _tenfold("CONV_2D", Activation.NONE)
    graph = builder.main
    total = graph.add_tensor("total", (1, 2, 3, 1), F32)
    graph.add_operator("ADD", [graph.outputs[0], graph.inputs[0]], [total], AddOptions())
    graph.outputs[:] = [total]
    x = np.array([1, -2, 3e38, -3e38, np.inf, -np.inf], np.float32)
    expected = [11, -22, MAX, -MAX, MAX, -MAX]
    assert run(builder, x.reshape(1, 2, 3, 1)).ravel().tolist() == expected


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
def test_sums_of_many_floats_may_be_infinite(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    if not compiled:
        monkeypatch.setattr(runtime, "MicroOpResolver", MicroRefOpResolver)
    model = runnable("ADD_N", [((2,), F32)] * 3, [((2,), F32)])
    terms = np.float32([3e38, -3e38]), np.float32([3e38, -3e38]), np.float32([0, 3e38])
    assert run(model, *terms).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "NumPy"])
def test_sums_of_int32_are_not_clamped(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(runtime, "MicroOpResolver", MicroRefOpResolver)
    options = AddOptions(activation=Activation.RELU_N1_TO_1)
    model = runnable("ADD", [((2,), I32), ((2,), I32)], [((2,), I32)], options=options)
    assert run(model, np.array([5, -5], np.int32), np.array([1, 1], np.int32)).tolist() == [6, -4]


def test_rows_of_length_1_count_in_128ths_whatever_the_file_says() -> None:
    half = per_channel([0.5], [3])
    model = runnable("L2_NORMALIZATION", [((1, 2), I8, half)], [((1, 2), I8, half)])
    right = runnable(
        "L2_NORMALIZATION", [((1, 2), I8, half)], [((1, 2), I8, per_channel([1 / 128], [0]))]
    )
    x = np.array([[33, 43]], np.int8)
    assert run(model, x).tolist() == run(right, x).tolist() == [[77, 102]]


@pytest.mark.parametrize("name", ["REDUCE_MAX", "REDUCE_MIN"])
def test_ranges_of_extremes_are_compared_when_they_run(name: str) -> None:
    half, one = per_channel([0.5], [0]), per_channel([1.0], [0])
    inputs = [((4,), I8, half), ((1,), I32, ints(0))]
    model = runnable(name, inputs, [((1,), I8, one)], options=ReducerOptions(keep_dims=True))
    interpreter = Interpreter.from_bytes(model.to_bytes(), arena_size=BIG)
    with pytest.raises(RuntimeError, match="quantized differently"):
        interpreter.invoke()


def test_results_have_the_shapes_that_the_file_declares() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = [((2, 3), F32), ((1,), I32, ints(1))]
    options = ReducerOptions(keep_dims=True)
    model = runnable("REDUCE_MAX", inputs, [((2,), F32)], options=options)
    assert run(model, x).tolist() == [2, 5]
    late = runnable("REDUCE_MAX", [inputs[0], ((1,), I32)], [((2,), F32)], options=options)
    assert run(late, x, np.array([1], np.int32)).tolist() == [2, 5]


@pytest.mark.parametrize("before", [0, 1])
def test_paddings_are_read_as_int32(before: int) -> None:
    pads = ((1, 2), I64, np.array([before, 0], np.int64).tobytes())
    model = runnable("PAD", [((2,), F32), pads], [((2 + 2 * before,), F32)])
    if before:
        assert "it makes (3,)" in refusal(model)
    else:
        assert run(model, np.array([4, 5], np.float32)).tolist() == [4, 5]


@pytest.mark.parametrize("dtype", [I32, I64, BOOL], ids=str)
def test_sums_of_integers_need_scales_before_their_type_is_looked_at(dtype: DType) -> None:
    one = (1, 1, 1, 1)
    inputs = [(one, dtype), (one, dtype, bytes(dtype.itemsize)), None]
    options = DepthwiseConv2DOptions(stride_w=1, stride_h=1, depth_multiplier=1)
    model = runnable("DEPTHWISE_CONV_2D", inputs, [(one, dtype)], options=options)
    assert "have no scale" in refusal(model)
