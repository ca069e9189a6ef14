"""Lowerings of 8-bit convolutions and matrix products against their references, bit for bit."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest
from tests.ops.lowered import run_lowered

from litejit.codegen.isa import host_isas
from litejit.codegen.lang import i32
from litejit.model.options import (
    Activation,
    AddOptions,
    Conv2DOptions,
    DepthwiseConv2DOptions,
    FullyConnectedOptions,
    Padding,
    PadOptions,
    TransposeConvOptions,
)
from litejit.ops import arithmetic, conv, matmul, narrow_int8, padding, winograd_int8
from litejit.ops.base import Node, registered
from litejit.ops.table import TABLE, TableOptions
from litejit.record import replace
from litejit.types import I2, I4, I8, I32, U8, Quantization, TensorType

ISAS = host_isas()
NAMES = [isa.name for isa in ISAS]
assert arithmetic and conv and matmul and padding  # they register the operators


def quantization(scales, zeros, axis=0):
    scales = np.atleast_1d(np.asarray(scales, np.float32))
    return Quantization(scales, np.broadcast_to(np.int64(zeros), scales.shape).copy(), axis)


class Sample:
    """Random operands of one layer; the output's scale fits the spread of the sums."""

    def __init__(self, rng, name, options, image, filter, *, axis, units, dtype=I8, bias=True,
                 per_channel=True, products=None, extra=None, zero=None):  # fmt: skip
        self.rng, low = rng, -128 if dtype == I8 else 0
        x_zero = int(rng.integers(low + 60, low + 190))
        self.x = rng.integers(low, low + 256, image).astype(dtype.numpy)
        w_zero = 0 if dtype == I8 else int(rng.integers(100, 156)) if zero is None else zero
        weights = rng.integers(low + (dtype == I8), low + 256, filter).astype(dtype.numpy)
        per_channel = per_channel and dtype == I8
        w_scales = rng.uniform(0.5, 2, units if per_channel else 1) / 100
        spread = 74 * 74 * np.sqrt(products or np.prod(filter) / units)
        out_scale = 0.04 * 0.01 * spread / 40
        values = rng.integers(-3000, 3000, units).astype(np.int32)
        x_type = TensorType(image, dtype, quantization(0.04, x_zero), index=0)
        w_type = TensorType(filter, dtype, quantization(w_scales, w_zero, axis), index=1)
        b_type = TensorType((units,), I32, None, index=2)
        self.weights, self.bias = weights, values if bias else None
        inputs = [x_type, w_type.with_value(weights), b_type.with_value(values) if bias else None]
        self.arrays = [self.x, weights, self.bias]
        if extra is not None:
            shape = np.array(extra, np.int32)
            inputs = [TensorType((4,), I32, index=9).with_value(shape), inputs[1], *inputs[::2]]
            self.arrays = [shape, weights, self.x, self.bias]
        out_zero = -128 if options.activation == Activation.RELU else int(low + 120)
        if dtype == U8 and options.activation:
            out_zero = 0
        out = TensorType(None, dtype, quantization(out_scale, out_zero), index=3)
        op, _ = registered(name)
        node = Node(op, name, 0, 1, options, tuple(inputs), (out,))
        self.node = node.with_types(node.inputs, tuple(op.infer(node)))

    def check(self, isa):
        (got,), calls = run_lowered(self.node, isa, self.arrays)
        want = self.node.op.reference(self.node, *self.arrays)
        assert calls > 0
        assert len(np.unique(want)) > min(2, want.size // 2), "a sample that tells nothing"
        np.testing.assert_array_equal(got, want)
        return calls

    def late(self):
        """The same layer, whose weights only the run finds."""
        kinds = [replace(t, value=None) if t is not None and t.index == 1 else t
                 for t in self.node.inputs]  # fmt: skip
        found = copy(self)
        found.node = self.node.with_types(tuple(kinds), self.node.outputs)
        return found

    def narrowed(self, dtype):
        """The same layer with weights of fewer bits."""
        half = 1 << (dtype.bits - 1)
        few = np.clip(self.weights // (128 // half), -half, half - 1)
        self.weights[...] = few
        kinds = [replace(t, dtype=dtype, value=few) if t is not None and t.index == 1 else t
                 for t in self.node.inputs]  # fmt: skip
        self.node = self.node.with_types(tuple(kinds), self.node.outputs)
        return self


def conv_options(padding=Padding.SAME, stride=(1, 1), dilation=(1, 1), activation=0):
    return Conv2DOptions(padding=padding, stride_h=stride[0], stride_w=stride[1],
                         dilation_h_factor=dilation[0], dilation_w_factor=dilation[1],
                         activation=activation)  # fmt: skip


def conv_sample(rng, image, filter, **more):
    keys = ("dtype", "bias", "per_channel", "zero")
    own = {k: more.pop(k) for k in keys if k in more}
    options = conv_options(**more)
    return Sample(rng, "CONV_2D", options, image, filter, axis=0, units=filter[0], **own)


CONVOLUTIONS = [
    ((1, 9, 7, 24), (40, 1, 1, 24), {}),
    ((3, 5, 4, 13), (21, 1, 1, 13), {}),
    ((2, 9, 8, 16), (8, 1, 1, 16), {"stride": (2, 2)}),
    ((1, 12, 11, 3), (32, 3, 3, 3), {"stride": (2, 2), "activation": Activation.RELU}),
    ((2, 9, 9, 1), (20, 4, 2, 1), {"padding": Padding.VALID}),
    ((1, 10, 10, 20), (33, 3, 3, 20), {"dilation": (2, 3), "activation": Activation.RELU6}),
    ((1, 6, 5, 12), (18, 3, 3, 4), {}),
    ((1, 6, 5, 32), (4, 3, 3, 8), {"stride": (2, 1)}),
    ((1, 1, 1, 100), (70, 1, 1, 100), {}),
    ((1, 1, 1, 40), (5, 1, 1, 40), {}),
    ((1, 3, 3, 64), (300, 1, 1, 64), {"activation": Activation.RELU_N1_TO_1}),
    ((1, 8, 8, 6), (1, 3, 3, 6), {"per_channel": False}),
    ((2, 7, 18, 9), (16, 3, 3, 9), {}),
    ((1, 9, 5, 20), (1, 1, 1, 20), {"per_channel": False}),
    ((1, 9, 11, 6), (2, 3, 3, 6), {"stride": (2, 2)}),
    ((2, 5, 7, 12), (4, 1, 1, 12), {}),
    ((1, 7, 6, 12), (8, 1, 1, 12), {"activation": Activation.RELU6}),
    ((1, 9, 33, 16), (5, 3, 5, 16), {"stride": (2, 1), "dilation": (2, 1)}),
    ((1, 5, 20, 8), (13, 3, 2, 8), {"padding": Padding.VALID}),
    ((1, 4, 17, 32), (32, 2, 3, 16), {}),
]


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
def test_conv_2d(isa, dtype):
    rng = np.random.default_rng(1)
    for image, filter, more in CONVOLUTIONS:
        sample = conv_sample(rng, image, filter, dtype=dtype, **more)
        sample.check(isa)
        if dtype == I8:
            sample.late().check(isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_weights_of_four_and_two_bits_count_as_eight(isa):
    rng = np.random.default_rng(31)
    conv_sample(rng, (1, 6, 5, 12), (18, 3, 3, 12)).narrowed(I4).check(isa)
    depthwise_sample(rng, (1, 6, 5, 12), (3, 3)).narrowed(I4).check(isa)
    for bits in (I4, I2):
        options = FullyConnectedOptions(activation=Activation.NONE)
        sample = Sample(rng, "FULLY_CONNECTED", options, (3, 70), (40, 70), axis=0, units=40)
        sample.narrowed(bits).check(isa)


def test_a_batch_takes_as_many_calls_as_one_image():
    rng = np.random.default_rng(32)
    for sample, batch, shape, more in (
        (conv_sample, 2000, (3, 3, 8), {"filter": (20, 2, 2, 8)}),
        (conv_sample, 3, (14, 14, 48), {"filter": (64, 3, 3, 48)}),
        (conv_sample, 3, (7, 18, 9), {"filter": (16, 3, 3, 9)}),
        (depthwise_sample, 5, (6, 7, 20), {"window": (3, 3), "stride": (2, 2)}),
    ):
        one, many = (sample(rng, (n, *shape), **more) for n in (1, batch))
        assert many.check(ISAS[0]) == one.check(ISAS[0])


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
def test_deep_square_windows_take_winograds_way(isa, dtype, monkeypatch):
    rng, taken = np.random.default_rng(12), []
    convolve = winograd_int8.convolve
    monkeypatch.setattr(
        winograd_int8, "convolve", lambda *args: (taken.append(1), convolve(*args))
    )
    for image, filter, more in [
        ((2, 8, 12, 65), (48, 3, 3, 65), {}),
        ((1, 17, 16, 64), (70, 3, 3, 64), {"activation": Activation.RELU}),
        ((1, 14, 14, 48), (64, 3, 3, 48), {"padding": Padding.VALID}),
    ]:
        conv_sample(rng, image, filter, dtype=dtype, **more).check(isa)
    assert len(taken) == 3 or isa.arch != "x86_64"


def test_sums_too_large_for_winograd_are_multiplied_directly(monkeypatch):
    monkeypatch.setattr(winograd_int8, "LARGEST_SUM", 1000)
    monkeypatch.delattr(winograd_int8, "convolve")
    conv_sample(np.random.default_rng(13), (1, 8, 8, 64), (64, 3, 3, 64)).check(ISAS[0])


def test_uint8_weights_of_any_zero_point():
    rng = np.random.default_rng(2)
    for zero in (0, 1, 127, 128, 255):
        conv_sample(rng, (1, 6, 6, 5), (17, 3, 3, 5), dtype=U8, zero=zero).check(ISAS[0])
        depthwise_sample(rng, (1, 6, 6, 20), (3, 3), dtype=U8, zero=zero).check(ISAS[0])


def depthwise_sample(rng, image, window, multiplier=1, **more):
    own = {k: more.pop(k) for k in ("dtype", "bias", "per_channel", "zero") if k in more}
    o = conv_options(**more)
    units = image[3] * multiplier
    options = DepthwiseConv2DOptions(
        padding=o.padding, stride_h=o.stride_h, stride_w=o.stride_w, activation=o.activation,
        dilation_h_factor=o.dilation_h_factor, dilation_w_factor=o.dilation_w_factor,
        depth_multiplier=multiplier,
    )  # fmt: skip
    filter = (1, *window, units)
    return Sample(rng, "DEPTHWISE_CONV_2D", options, image, filter, axis=3, units=units, **own)


DEPTHWISE = [
    ((2, 8, 9, 40), (3, 3), {}),
    ((1, 9, 8, 17), (3, 3), {"stride": (2, 2), "activation": Activation.RELU}),
    ((1, 7, 7, 8), (5, 5), {"bias": False}),
    ((1, 9, 9, 33), (5, 5), {"stride": (2, 2)}),
    ((1, 10, 10, 48), (3, 3), {"dilation": (2, 2)}),
    ((1, 6, 5, 5), (3, 3), {"multiplier": 3}),
    ((2, 12, 5, 1), (10, 8), {"multiplier": 8, "stride": (2, 2)}),
    ((1, 20, 20, 24), (13, 13), {"padding": Padding.VALID}),
    ((1, 1, 6, 64), (1, 3), {"per_channel": False}),
]


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
def test_depthwise_conv_2d(isa, dtype):
    rng = np.random.default_rng(3)
    for image, window, more in DEPTHWISE:
        depthwise_sample(rng, image, window, dtype=dtype, **more).check(isa)


NARROW = [  # image, filter, units, more
    ((1, 9, 7, 1), (3, 3), 8, {}),
    ((3, 12, 5, 1), (10, 8), 8, {"stride": (2, 2)}),
    ((1, 9, 10, 1), (4, 4), 40, {"stride": (2, 2), "activation": Activation.RELU}),
    ((2, 8, 9, 2), (3, 2), 20, {}),
    ((1, 7, 11, 3), (5, 5), 17, {"stride": (1, 3)}),
    ((2, 9, 12, 1), (3, 6), 4, {"padding": Padding.VALID}),
    ((1, 13, 6, 1), (3, 5), 16, {"dilation": (3, 1)}),
    ((2, 6, 1, 1), (2, 7), 33, {}),
    ((1, 5, 40, 1), (1, 3), 21, {"stride": (1, 2)}),
]


def narrow_samples(rng, dtype, **own):
    for image, (height, width), units, more in NARROW:
        yield conv_sample(
            rng, image, (units, height, width, image[3]), dtype=dtype, **{**own, **more}
        )
        multiplier = units if image[3] == 1 else 6 // image[3]  # so few that groups are joined
        yield depthwise_sample(
            rng, image, (height, width), multiplier, dtype=dtype, **{**own, **more}
        )


@pytest.fixture
def taken(monkeypatch):
    """Copies cost nothing: every image with few channels goes by lines. Lists their weights."""
    found = []
    convolve = narrow_int8.convolve

    def listed(layer, *operands):
        found.append(layer.numbers.weights.parts)
        convolve(layer, *operands)

    monkeypatch.setattr(narrow_int8, "convolve", listed)
    monkeypatch.setattr(narrow_int8, "_copy_ns", lambda window: -1e9)
    return found


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
def test_lines_of_few_channels_are_one_tap(isa, dtype, taken):
    for sample in narrow_samples(np.random.default_rng(14), dtype):
        count = len(taken)
        sample.check(isa)
        assert len(taken) > count


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("zero, parts", [(90, "sums"), (128, "byte"), (166, "sums")])
def test_lines_are_exact_with_and_without_sums_of_the_data(isa, zero, parts, taken):
    for sample in narrow_samples(np.random.default_rng(15), U8, zero=zero):
        sample.check(isa)
    assert taken == [parts] * (2 * len(NARROW))


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_a_line_with_gaps_or_outside_of_the_image_is_no_tap(isa, taken):
    rng = np.random.default_rng(16)
    conv_sample(rng, (1, 9, 9, 1), (8, 3, 3, 1), dilation=(1, 2)).check(isa)
    conv_sample(rng, (1, 9, 9, 4), (8, 3, 3, 4)).check(isa)
    assert not taken


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_neighbours_that_share_their_cells_are_left_alone_for_small_gains(isa, taken):
    conv_sample(np.random.default_rng(18), (1, 6, 20, 2), (16, 3, 3, 2)).check(isa)
    assert bool(taken) == (isa.registers < 32 or isa.lanes(i32) < 16)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("sides", [(2, 2), (0, 2), (1, 0), (0, 0), (3, 1), (1, 4)], ids=repr)
def test_a_pad_in_front_makes_the_gaps_where_no_window_lies_beside_the_image(isa, sides, taken):
    rng = np.random.default_rng(17)
    pads = np.array([[0, 0], [1, 2], sides, [0, 0]], np.int32)
    wide = (2, 9, 7 + sum(sides), 1)
    sample = conv_sample(rng, wide, (20, 3, 3, 1), padding=Padding.VALID)
    conv = sample.node
    whole = conv.input(0)
    source = replace(whole, shape=(2, 6, 7, 1), index=7)
    value = TensorType((4, 2), I32).with_value(pads)
    pad = Node(registered("PAD")[0], "PAD", 1, 1, PadOptions(), (source, value), (whole,))
    assert conv.op.fuses_before(conv, pad)
    fused = replace(conv, inputs=(source, *conv.inputs[1:]), chain=(pad, conv))
    inside = rng.integers(-128, 128, source.dims).astype(np.int8)
    (got,), _ = run_lowered(fused, isa, [inside, *sample.arrays[1:]])
    image = np.pad(inside, pads, constant_values=whole.zero_point)
    np.testing.assert_array_equal(got, conv.op.reference(conv, image, *sample.arrays[1:]))
    assert len(taken) == (max(sides) < 3)


TRANSPOSED = [  # data, filter, stride, result
    ((1, 4, 5, 16), (20, 2, 2, 16), (2, 2), (1, 8, 10, 20)),
    ((2, 3, 4, 7), (9, 3, 3, 7), (2, 2), (2, 6, 8, 9)),
    ((1, 5, 5, 4), (16, 3, 3, 4), (1, 1), (1, 5, 5, 16)),
    ((1, 3, 3, 8), (33, 2, 4, 8), (3, 2), (1, 9, 6, 33)),
    ((1, 4, 4, 8), (18, 5, 5, 8), (2, 2), (1, 7, 8, 18)),
]


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
def test_transpose_conv(isa, dtype):
    rng = np.random.default_rng(4)
    for image, filter, stride, result in TRANSPOSED:
        options = TransposeConvOptions(padding=Padding.SAME, stride_h=stride[0], stride_w=stride[1])
        sample = Sample(rng, "TRANSPOSE_CONV", options, image, filter, axis=0, units=filter[0],
                        dtype=dtype, extra=result)  # fmt: skip
        sample.check(isa)
        if dtype == I8:
            sample.late().check(isa)


DENSE = [((1, 40), 100), ((1, 64), 8), ((5, 33), 17), ((1, 300), 1), ((20, 16), 260), ((3, 7), 33)]


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
def test_fully_connected(isa, dtype):
    rng = np.random.default_rng(5)
    for per_channel in (False, True):
        for image, units in DENSE:
            options = FullyConnectedOptions(activation=Activation.NONE)
            filter = (units, image[1])
            sample = Sample(rng, "FULLY_CONNECTED", options, image, filter, axis=0, units=units,
                            dtype=dtype, per_channel=per_channel)  # fmt: skip
            sample.check(isa)
            if dtype == I8:
                sample.late().check(isa)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_multipliers_that_need_room_take_the_wide_form(isa):
    rng = np.random.default_rng(6)
    sample = conv_sample(rng, (1, 4, 4, 8), (20, 3, 3, 8))
    node = sample.node
    sample.bias[:] = rng.integers(-(1 << 31), (1 << 31) - 1, 20)
    inputs = (node.inputs[0], node.inputs[1], node.inputs[2].with_value(sample.bias))
    scale = 0.04 * 0.01 * 2.0**31 / 128
    out = replace(node.outputs[0], quantization=quantization(scale, 3))
    sample.node = node.with_types(inputs, (out,))
    sample.check(isa)


def followed(sample, follower, extra):
    """The sample's node with `follower` fused behind it, as the engine joins them."""
    node = sample.node
    return replace(
        node, inputs=(*node.inputs, *extra), outputs=follower.outputs, chain=(node, follower)
    )


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize("dtype", [I8, U8], ids=repr)
@pytest.mark.parametrize("position", [0, 1])
def test_a_residual_add_is_taken_and_exact(isa, dtype, position):
    rng = np.random.default_rng(7)
    sample = depthwise_sample(rng, (1, 6, 7, 21), (3, 3), dtype=dtype)
    own = sample.node.output(0)
    scale = own.scale * (3 if position else 0.3)
    other = replace(own, quantization=quantization(scale, 7), index=8)
    result = replace(own, quantization=quantization(own.scale * 2, 20), index=9)
    pair = (other, own) if position else (own, other)
    op, _ = registered("ADD")
    follower = Node(op, "ADD", 1, 1, AddOptions(activation=0), pair, (result,))
    assert sample.node.op.fuses_after(sample.node, follower, position)
    wider = replace(follower, inputs=(own, replace(other, shape=(1, 1, 1, 21))))
    assert not sample.node.op.fuses_after(sample.node, wider, 0)
    low = -128 if dtype == I8 else 0
    residual = rng.integers(low, low + 256, own.dims).astype(dtype.numpy)
    node = followed(sample, follower, [other])
    (got,), _ = run_lowered(node, isa, [*sample.arrays, residual])
    alone = sample.node.op.reference(sample.node, *sample.arrays)
    operands = (residual, alone) if position else (alone, residual)
    np.testing.assert_array_equal(got, op.reference(follower, *operands))


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
def test_a_look_up_is_taken_once(isa):
    rng = np.random.default_rng(8)
    sample = conv_sample(rng, (1, 6, 20, 9), (16, 3, 3, 9))
    own = sample.node.output(0)
    table = rng.permutation(256).astype(np.uint8).view(np.int8)
    follower = Node(TABLE, "TABLE", 1, 1, TableOptions(table), (own,), (replace(own, index=9),))
    assert sample.node.op.fuses_after(sample.node, follower, 0)
    node = followed(sample, follower, [])
    assert not node.op.fuses_after(node, replace(follower, inputs=node.outputs), 0)
    (got,), _ = run_lowered(node, isa, sample.arrays)
    alone = sample.node.op.reference(sample.node, *sample.arrays)
    np.testing.assert_array_equal(got, TABLE.reference(follower, alone))
