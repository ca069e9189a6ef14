"""Sizes and paddings of windows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.layers import layer

from litejit.errors import PrepareError
from litejit.model.options import Padding, PadOptions
from litejit.ops.base import Node, Op
from litejit.ops.window import Span, padded, taps, window_of
from litejit.record import replace
from litejit.types import F32, I32, TensorType


def pool_window(size, filter, stride, padding):
    x = np.zeros((1, size, size, 1), np.float32)
    node = layer("MAX_POOL_2D", [F32], [x], padding=padding, stride_h=stride, stride_w=stride,
                 filter_height=filter, filter_width=filter)  # fmt: skip
    return window_of(node)


@pytest.mark.parametrize(
    ("size", "filter", "stride", "out", "top", "bottom"),
    [
        (5, 3, 1, 5, 1, 1),
        (6, 3, 2, 3, 0, 1),
        (5, 3, 2, 3, 1, 1),
        (4, 1, 2, 2, 0, 0),
        (3, 6, 1, 3, 2, 3),
    ],
)
def test_same_padding_puts_the_odd_cell_behind(size, filter, stride, out, top, bottom):
    w = pool_window(size, filter, stride, Padding.SAME)
    assert (w.out_h, w.top, w.bottom) == (out, top, bottom)
    assert (w.out_w, w.left, w.right) == (out, top, bottom)


@pytest.mark.parametrize(
    ("size", "filter", "stride", "out"), [(5, 3, 1, 3), (6, 3, 2, 2), (4, 4, 7, 1)]
)
def test_valid_padding_keeps_windows_inside(size, filter, stride, out):
    w = pool_window(size, filter, stride, Padding.VALID)
    assert (w.out_h, w.is_padded) == (out, False)


def test_windows_larger_than_the_image_are_refused():
    with pytest.raises(PrepareError, match="window reaches over 9 cells"):
        pool_window(4, 9, 1, Padding.VALID)


@pytest.mark.parametrize("option", ["stride_h", "stride_w", "filter_height", "filter_width"])
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_that_are_not_positive_are_refused(option, value):
    x = np.zeros((1, 4, 4, 1), np.float32)
    options = {"filter_height": 2, "filter_width": 2, option: value}
    with pytest.raises(PrepareError, match=r"MAX_POOL_2D \(operator 0\)"):
        layer("MAX_POOL_2D", [F32], [x], **options)


def test_a_span_knows_its_cells():
    s = Span(size=5, out=5, filter=3, stride=1, dilation=2, before=2, after=2)
    assert [list(s.inside(i)) for i in range(5)] == [[0, 2], [1, 3], [0, 2, 4], [1, 3], [2, 4]]
    assert s.counts().tolist() == [2, 2, 3, 2, 2]
    assert [s.valid(tap) for tap in range(3)] == [(2, 5), (0, 5), (0, 3)]


def test_taps_see_what_the_filter_meets():
    x = np.arange(30.0).reshape(1, 5, 6, 1)
    w = pool_window(5, 3, 2, Padding.SAME)
    w = replace(w, in_w=6, out_w=3, left=1, right=1)
    image = padded(x, w, -1)
    seen = taps(image, w, 0, 2, start=1, stop=3)
    assert seen[0, :, :, 0].tolist() == [[7, 9, 11], [19, 21, 23]]
    assert taps(image, w, 0, 0, start=0, stop=1)[0, 0, :, 0].tolist() == [-1, -1, -1]


class _Pad(Op):
    """Stands for the operator that is fused in front."""


def test_a_fused_pad_becomes_part_of_the_padding():
    x = np.zeros((2, 7, 8, 3), np.float32)
    wide = np.zeros((2, 10, 12, 3), np.float32)
    weights, bias = np.zeros((4, 3, 3, 3), np.float32), np.zeros(4, np.float32)
    conv = layer("CONV_2D", [F32] * 3, [wide, weights, bias], stride_h=2, stride_w=2)
    pads = np.array([[0, 0], [1, 2], [3, 1], [0, 0]], np.int32)
    source = TensorType(x.shape, F32)
    value = TensorType((4, 2), I32).with_value(pads)
    pad = Node(_Pad(), "PAD", 1, 1, PadOptions(), (source, value), (conv.input(0),))
    assert conv.op.fuses_before(conv, pad)
    fused = replace(conv, inputs=(source, *conv.inputs[1:]), chain=(pad, conv))
    w = window_of(fused)
    assert (w.in_h, w.in_w, w.out_h, w.out_w) == (7, 8, 4, 5)
    assert (w.top, w.left, w.bottom, w.right) == (1, 3, 1, 0)


@pytest.mark.parametrize(
    "pads", [[[0, 0], [1, 1], [1, 1], [0, 1]], [[1, 0], [0, 0], [0, 0], [0, 0]]]
)
def test_a_pad_of_batch_or_channels_stays(pads):
    image = np.zeros((2, 10, 12, 3), np.float32)
    weights, bias = np.zeros((4, 3, 3, 3), np.float32), np.zeros(4, np.float32)
    conv = layer("CONV_2D", [F32] * 3, [image, weights, bias])
    value = TensorType((4, 2), I32).with_value(np.array(pads, np.int32))
    pad = Node(_Pad(), "PAD", 1, 1, PadOptions(), (conv.input(0), value), (conv.input(0),))
    assert not conv.op.fuses_before(conv, pad)
