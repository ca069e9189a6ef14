"""Borders: of a constant, and of mirror images."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import FIXED, Arg, agrees_when_not_constant, data, ints, node_of, one

from litejit.errors import InvokeError, PrepareError
from litejit.model.options.shape import (
    MirrorPadMode,
    MirrorPadOptions,
    PadOptions,
    PadV2Options,
)
from litejit.ops.blocks import ARITHMETIC
from litejit.ops.padding import gaps
from litejit.types import F32, I8, I16, I32, I64, STRING, U8

SHAPES = (
    ((2, 3), ((1, 0), (0, 2))),
    ((1, 5, 6, 3), ((0, 0), (1, 1), (1, 1), (0, 0))),
    ((2, 4, 5, 7), ((0, 0), (0, 1), (2, 0), (1, 3))),
    ((3, 2, 2, 2, 2), ((1, 1), (0, 0), (0, 3), (0, 0), (2, 1))),
    ((4,), ((3, 70),)),
    ((2, 0, 3), ((0, 1), (1, 1), (0, 0))),
    ((2, 3), ((0, 0), (0, 0))),
    ((5, 1), ((2, 2), (0, 0))),
)


def refused(name, options, *args, match, **more):
    node = node_of(name, options, *args, **more)
    with pytest.raises(PrepareError, match=match):
        node.op.infer(node)


@pytest.mark.parametrize("dtype", ARITHMETIC, ids=str)
@pytest.mark.parametrize(("shape", "pads"), SHAPES)
def test_pad_writes_zeros_around(dtype, shape, pads):
    x = data(shape, dtype)
    y = one("PAD", PadOptions(), x, ints([list(p) for p in pads]))
    np.testing.assert_array_equal(y, np.pad(x.value, pads))


@pytest.mark.parametrize("dtype", ARITHMETIC, ids=str)
@pytest.mark.parametrize(("shape", "pads"), SHAPES[:4])
def test_padv2_writes_its_constant_around(dtype, shape, pads):
    x, value = data(shape, dtype), data((1,), dtype, seed=4)
    y = one("PADV2", PadV2Options(), x, ints([list(p) for p in pads], dtype=I64), value)
    np.testing.assert_array_equal(y, np.pad(x.value, pads, constant_values=value.value[0]))


def test_quantized_pad_writes_the_zero_point_of_the_output():
    for dtype, zero_point in ((I8, -7), (U8, 200), (I16, 5)):
        x = data((2, 2), dtype, scale=0.5, zero_point=1)
        y = one("PAD", PadOptions(), x, ints([[1, 0], [0, 1]]), scale=0.5, zero_point=zero_point)
        want = np.pad(x.value, ((1, 0), (0, 1)), constant_values=zero_point)
        np.testing.assert_array_equal(y, want)


def test_pad_may_depend_on_data():
    agrees_when_not_constant("PAD", PadOptions(), data((2, 3)), ints([[1, 0], [0, 2]], dtype=I8))


def test_pad_refuses_bad_operands():
    o = PadOptions()
    refused("PAD", o, data((2, 3)), ints([[1, 0]]), match="paddings must have shape")
    refused("PAD", o, data((2,)), ints([[1, -1]]), match="negative")
    refused("PAD", o, data((1,) * 6), ints([[0, 1]] * 6), match="rank 6")
    refused("PAD", o, data((2,), STRING), ints([[1, 1]]), match="STRING")
    refused("PAD", o, data((2,), U8), ints([[1, 1]]), scale=1.0, zero_point=-1, match="zero point")
    v2 = PadV2Options()
    refused("PADV2", v2, data((2,)), ints([[1, 1]]), data((2,)), match="one element")
    refused("PADV2", v2, data((2,)), ints([[1, 1]]), data((1,), I32), match="constant is INT32")
    x, value = data((2,), I8, scale=0.5), data((1,), I8, scale=0.25)
    refused("PADV2", v2, x, ints([[1, 1]]), value, match="scale")


def test_paddings_that_are_data_are_checked_in_the_run():
    args = data((2,)), ints([[1, -1]], constant=False)
    node = node_of("PAD", PadOptions(), *args)
    with pytest.raises(InvokeError, match="negative"):
        node.op.reference(node, *[a.value for a in args])


@pytest.mark.parametrize("seed", range(30))
def test_gaps_and_inside_make_up_the_whole_once(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 6))
    inside = tuple(int(n) for n in rng.integers(1, 4, rank))
    pads = [tuple(int(v) for v in row) for row in rng.integers(0, 3, (rank, 2))]
    if not any(a or b for a, b in pads):
        pads[0] = (1, 0)
    whole = [n + a + b for n, (a, b) in zip(inside, pads, strict=True)]
    count = np.zeros(whole, np.uint8)
    count[tuple(slice(a, a + n) for n, (a, _) in zip(inside, pads, strict=True))] = 1
    flat = count.reshape(-1)
    for offset, box, run in gaps(inside, pads, list(count.strides), count.nbytes):
        places = np.array(offset)
        for n, step in [*box, (run, 1)]:
            places = places[..., None] + np.arange(n) * step
        np.add.at(flat, places.reshape(-1), 1)
    assert (count == 1).all()


@pytest.mark.parametrize("dtype", FIXED, ids=str)
@pytest.mark.parametrize("mode", list(MirrorPadMode), ids=str)
def test_mirror_pad_continues_the_image(dtype, mode):
    word = mode.name.lower()
    for shape, pads in (((3, 4), ((2, 1), (1, 2))),
                        ((2, 5, 20, 3), ((0, 0), (1, 4), (3, 0), (0, 0))),
                        ((70,), ((69, 3),)), ((3, 2), ((0, 0), (0, 0)))):  # fmt: skip
        x = data(shape, dtype)
        y = one("MIRROR_PAD", MirrorPadOptions(mode=mode), x, ints([list(p) for p in pads]))
        np.testing.assert_array_equal(y, np.pad(x.value, pads, mode=word))


def test_mirror_pad_by_hand():
    x = Arg(np.array([1, 2, 3], np.float32), constant=False)
    assert one("MIRROR_PAD", MirrorPadOptions(mode=MirrorPadMode.REFLECT), x,
               ints([[2, 1]])).tolist() == [3, 2, 1, 2, 3, 2]  # fmt: skip
    assert one("MIRROR_PAD", MirrorPadOptions(mode=MirrorPadMode.SYMMETRIC), x,
               ints([[2, 1]])).tolist() == [2, 1, 1, 2, 3, 3]  # fmt: skip


def test_mirror_pad_refuses_what_the_mirror_does_not_show():
    reflect = MirrorPadOptions(mode=MirrorPadMode.REFLECT)
    symmetric = MirrorPadOptions(mode=MirrorPadMode.SYMMETRIC)
    refused("MIRROR_PAD", reflect, data((3,)), ints([[3, 0]]), match="above 2")
    refused("MIRROR_PAD", symmetric, data((3,)), ints([[0, 4]]), match="above 3")
    refused("MIRROR_PAD", MirrorPadOptions(mode=7), data((3,)), ints([[0, 0]]), match="mode 7")
    x = data((3,), I8, scale=0.5)
    refused("MIRROR_PAD", reflect, x, ints([[1, 1]]), scale=0.25, match="scale")
    agrees_when_not_constant("MIRROR_PAD", reflect, data((3,), F32), ints([[1, 2]], dtype=I64))
