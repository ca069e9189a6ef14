"""8-bit depthwise kernels against NumPy: windows, strides, dilations, few and odd channels."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels import oracle_int8 as oracle
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS
from litejit.codegen.lang import i32
from litejit.kernels import depthwise_int8 as dw
from litejit.kernels import epilogue_int8 as ep


class Layer:
    """Random data of one depthwise layer, its operands and accumulators."""

    def __init__(self, rng, isa, spec, image, channels, out, *, stride=(1, 1), dilation=(1, 1),
                 pad=(0, 0)):  # fmt: skip
        lanes = isa.lanes(i32)
        taps = (spec.taps_y, spec.taps_x)
        s = oracle.Scaling(rng, channels, taps[0] * taps[1], unsigned=spec.unsigned)
        self.x = rng.integers(s.low, s.high + 1, (*image, channels)).astype(s.dtype)
        limit = (-255, 255) if spec.split else (-128, 128)
        w = rng.integers(*limit, (*taps, channels))
        order = dw.channel_order(channels, lanes)
        moved = oracle.moved_by(isa, unsigned=spec.unsigned)
        block = oracle.channel_block(lanes, order, spec.epilogue, s, w.sum((0, 1)), moved)
        columns = (out[1] - 1) * stride[1] + (taps[1] - 1) * dilation[1] + 1
        size = columns * spec.column_bytes(lanes)
        padding = np.full(image[1] * channels + 64, s.input_zero, s.dtype)
        common = ep.common_constants(lanes, s.low, s.high)
        blocks = len(dw.block_starts(channels, lanes))
        rows = oracle.conv_windows(self.x, s.input_zero, *taps, stride, dilation, pad, out)
        weights = w.reshape(-1, 1, channels)
        acc = ((rows - s.input_zero) * weights).sum(0) + s.bias
        self.want = s.finish(acc).reshape(*out, channels)
        self.operands = (
            self.x, dw.pack_weights(spec, w, lanes), block, padding, np.zeros(size, np.int8),
            np.zeros(self.want.shape, s.dtype), common, 0, 0, *image, channels, *out, blocks,
            *dilation, *stride, *pad, columns, size,
        )  # fmt: skip
        self.items = -(-out[0] // spec.out_rows) * blocks
        self.spec, self.isa = spec, isa

    def run(self, cuts=()):
        return run(self.spec, *self.operands, items=self.items, isa=self.isa, cuts=cuts)[5]


def spec_for(isa, channels, taps, *, unsigned=False, **fields):
    lanes = isa.lanes(i32)
    narrow = channels if channels < lanes else 0
    epilogue = ep.Epilogue("u64", unsigned, narrow=narrow)
    return dw.DepthwiseSpec(*taps, epilogue, unsigned=unsigned, **fields)


NAMES = [isa.name for isa in HOST_ISAS]


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("channels", [1, 3, 8, 15, 16, 17, 31, 32, 33, 40, 48, 50, 64, 65])
def test_every_number_of_channels(isa, channels):
    rng = np.random.default_rng(channels)
    spec = spec_for(isa, channels, (3, 3), out_rows=2)
    layer = Layer(rng, isa, spec, (5, 6), channels, (5, 6), pad=(1, 1))
    np.testing.assert_array_equal(layer.run(cuts=(1,)), layer.want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize("unsigned", [False, True])
def test_windows_strides_and_dilations(isa, unsigned):
    rng = np.random.default_rng(1)
    cases = [  # taps, image, stride, dilation, pad, out, rows at a time
        ((3, 3), (7, 9), (2, 2), (1, 1), (1, 1), (4, 5), 2),
        ((3, 3), (8, 8), (2, 2), (1, 1), (0, 0), (4, 4), 1),
        ((5, 5), (6, 7), (1, 1), (1, 1), (2, 2), (6, 7), 2),
        ((5, 5), (9, 9), (2, 2), (1, 1), (2, 2), (5, 5), 2),
        ((3, 3), (8, 9), (1, 1), (2, 4), (2, 4), (8, 9), 1),
        ((2, 4), (5, 6), (1, 3), (1, 1), (0, 1), (4, 2), 2),
        ((1, 1), (3, 3), (1, 1), (1, 1), (0, 0), (3, 3), 1),
        ((7, 1), (3, 2), (1, 1), (1, 1), (3, 0), (3, 2), 1),
    ]
    for taps, image, stride, dilation, pad, out, rows in cases:
        spec = spec_for(isa, 37, taps, out_rows=rows, stride=stride[0], unsigned=unsigned)
        layer = Layer(rng, isa, spec, image, 37, out, stride=stride, dilation=dilation, pad=pad)
        np.testing.assert_array_equal(layer.run(), layer.want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
def test_weights_of_two_bytes(isa):
    rng = np.random.default_rng(2)
    spec = spec_for(isa, 24, (3, 3), out_rows=2, unsigned=True, split=True)
    layer = Layer(rng, isa, spec, (6, 5), 24, (6, 5), pad=(1, 1))
    np.testing.assert_array_equal(layer.run(), layer.want)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_kernels_compile_for_every_instruction_set(isa):
    assert llvm.compile_ir(spec_for(isa, 40, (3, 3)).emit("kernel", isa), isa)
