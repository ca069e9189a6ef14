"""Height and width traded for channels or batch."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import (
    FIXED,
    Arg,
    Immediate,
    agrees_when_not_constant,
    data,
    evaluate,
    ints,
    node_of,
    one,
)

from litejit.errors import PrepareError
from litejit.model.options.shape import (
    BatchToSpaceNDOptions,
    DepthToSpaceOptions,
    SpaceToBatchNDOptions,
    SpaceToDepthOptions,
)
from litejit.types import BOOL, F16, F32, I8, I16, I32, I64, U8

D2S, S2D = DepthToSpaceOptions, SpaceToDepthOptions
S2B, B2S = SpaceToBatchNDOptions, BatchToSpaceNDOptions


def refused(name, options, *args, match, **more):
    node = node_of(name, options, *args, **more)
    with pytest.raises(PrepareError, match=match):
        node.op.infer(node)


def test_depth_goes_to_space_by_rows_then_columns_then_channels():
    x = Arg(np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8), constant=False)
    y = one("DEPTH_TO_SPACE", D2S(block_size=2), x)
    assert y.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]
    back = one("SPACE_TO_DEPTH", S2D(block_size=2), Arg(y, constant=False))
    np.testing.assert_array_equal(back, x.value)


@pytest.mark.parametrize("dtype", [F32, F16, I8, U8, I16, I32, I64], ids=str)
@pytest.mark.parametrize(("block", "channels"), [(1, 3), (2, 1), (3, 1), (2, 5), (3, 16)])
def test_depth_and_space_are_inverse(dtype, block, channels):
    x = data((2, 3, 5, block * block * channels), dtype)
    y = one("DEPTH_TO_SPACE", D2S(block_size=block), x)
    assert y.shape == (2, 3 * block, 5 * block, channels)
    i, j = block - 1, 0
    part = x.value[..., (i * block + j) * channels : (i * block + j + 1) * channels]
    np.testing.assert_array_equal(y[:, i::block, j::block], part)
    back = one("SPACE_TO_DEPTH", S2D(block_size=block), Arg(y, dtype=dtype, constant=False))
    np.testing.assert_array_equal(back, x.value)


def test_depth_and_space_refuse_what_has_no_blocks():
    refused("DEPTH_TO_SPACE", D2S(block_size=2), data((1, 1, 1, 6)), match="no multiple")
    refused("DEPTH_TO_SPACE", D2S(block_size=0), data((1, 1, 1, 4)), match="block_size is 0")
    refused("DEPTH_TO_SPACE", D2S(block_size=1), data((1, 1, 4)), match="NHWC")
    refused("DEPTH_TO_SPACE", D2S(block_size=1), data((1, 1, 1, 4), BOOL), match="BOOL")
    refused("SPACE_TO_DEPTH", S2D(block_size=2), data((1, 2, 3, 1)), match="no multiples")


def naive_space_to_batch(x, block, pads, value):
    """Pixel by pixel."""
    n, h, w, c = x.shape
    padded = np.full((n, h + sum(pads[0]), w + sum(pads[1]), c), value, x.dtype)
    padded[:, pads[0][0] : pads[0][0] + h, pads[1][0] : pads[1][0] + w] = x
    rows = [
        padded[:, i :: block[0], j :: block[1]] for i in range(block[0]) for j in range(block[1])
    ]
    return np.concatenate(rows, 0)


CASES = (
    ((1, 4, 6, 3), (2, 3), ((0, 0), (0, 0))),
    ((2, 3, 5, 1), (2, 2), ((1, 0), (2, 1))),
    ((1, 7, 7, 16), (4, 4), ((4, 5), (0, 1))),
    ((3, 2, 1, 2), (1, 1), ((0, 0), (0, 0))),
    ((1, 1, 1, 1), (3, 2), ((4, 4), (1, 2))),
)


@pytest.mark.parametrize("dtype", FIXED, ids=str)
@pytest.mark.parametrize(("shape", "block", "pads"), CASES)
def test_space_to_batch_and_back(dtype, shape, block, pads):
    x, edges = data(shape, dtype), ints([list(p) for p in pads])
    y = one("SPACE_TO_BATCH_ND", S2B(), x, ints(list(block)), edges)
    np.testing.assert_array_equal(y, naive_space_to_batch(x.value, block, pads, 0))
    late = Arg(y, dtype=dtype, constant=False)
    back = one("BATCH_TO_SPACE_ND", B2S(), late, ints(list(block)), edges)
    np.testing.assert_array_equal(back, x.value)


def test_quantized_space_to_batch_pads_with_the_zero_point():
    x = data((1, 3, 3, 2), I8, scale=0.5, zero_point=-9)
    y = one("SPACE_TO_BATCH_ND", S2B(), x, ints(2, 2), ints([[0, 1], [1, 0]]))
    np.testing.assert_array_equal(y, naive_space_to_batch(x.value, (2, 2), ((0, 1), (1, 0)), -9))


def test_rank_3_has_one_block_size():
    x = data((2, 6, 5))
    y = one("SPACE_TO_BATCH_ND", S2B(), x, ints([3]), ints([[2, 1]]))
    want = naive_space_to_batch(x.value[:, :, None], (3, 1), ((2, 1), (0, 0)), 0)[:, :, 0]
    np.testing.assert_array_equal(y, want)
    back = one("BATCH_TO_SPACE_ND", B2S(), Arg(y, constant=False), ints([3]), ints([[2, 1]]))
    np.testing.assert_array_equal(back, x.value)


def calls_of(node, args):
    """How many kernel calls a node is lowered to."""
    inferred = node.with_types(node.inputs, tuple(node.op.infer(node)))
    steps = Immediate(inferred, [a.value for a in args])
    node.op.lower(inferred, steps)
    return steps.calls


def test_large_blocks_are_left_to_numpy():
    args = data((1, 3, 3, 1)), ints(10, 10), ints([[0, 7], [0, 7]])
    node = node_of("SPACE_TO_BATCH_ND", S2B(), *args)
    (y,) = evaluate(node, *args, kernels=False)
    assert y.shape == (100, 1, 1, 1)
    assert calls_of(node, args) == 0


def test_blocks_may_depend_on_data():
    block, edges = ints(2, 2), ints([[0, 0], [1, 1]])
    agrees_when_not_constant("SPACE_TO_BATCH_ND", S2B(), data((1, 2, 2, 1)), block, edges)
    agrees_when_not_constant("BATCH_TO_SPACE_ND", B2S(), data((4, 2, 2, 1)), block, edges)


def test_batch_operators_refuse_bad_blocks():
    two, none = ints(2, 2), ints([[0, 0], [0, 0]])
    refused("SPACE_TO_BATCH_ND", S2B(), data((1, 3, 2, 1)), two, none, match="no blocks of 2")
    refused("SPACE_TO_BATCH_ND", S2B(), data((1, 2, 2, 1)), ints(0, 1), none, match="positive")
    refused("SPACE_TO_BATCH_ND", S2B(), data((1, 2)), two, none, match="rank 3 or 4")
    refused("SPACE_TO_BATCH_ND", S2B(), data((1, 2, 2, 1)), ints([2]), none, match="block_shape")
    refused("BATCH_TO_SPACE_ND", B2S(), data((6, 2, 2, 1)), two, none, match="no multiple")
    crops = ints([[3, 2], [0, 0]])
    refused("BATCH_TO_SPACE_ND", B2S(), data((4, 2, 2, 1)), two, crops, match="exceed")
    crops = ints([[-1, 2], [0, 0]])
    refused("BATCH_TO_SPACE_ND", B2S(), data((4, 2, 2, 1)), two, crops, match="negative")
    x = data((1, 2, 2, 1), I16, scale=1.0, zero_point=4)
    refused("SPACE_TO_BATCH_ND", S2B(), x, two, none, match="zero point is 4")
