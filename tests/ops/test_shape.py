"""Operators that change or tell shapes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import (
    FIXED,
    Arg,
    agrees_when_not_constant,
    data,
    evaluate,
    ints,
    node_of,
    one,
)

from litejit.errors import InvokeError, PrepareError
from litejit.model.options.shape import (
    ExpandDimsOptions,
    RankOptions,
    ReshapeOptions,
    ShapeOptions,
    SqueezeOptions,
)
from litejit.types import F32, I16, I32, I64, STRING


def refused(name, options, *args, match, **more):
    node = node_of(name, options, *args, **more)
    with pytest.raises(PrepareError, match=match):
        node.op.infer(node)


def reshape(shape, wanted, **more):
    return one("RESHAPE", ReshapeOptions(), data(shape), ints(wanted), **more).shape


def test_reshape_works_out_its_minus_one():
    assert reshape((2, 3, 4), [4, -1]) == (4, 6)
    assert reshape((2, 3), [-1]) == (6,)
    assert reshape((1, 1), []) == ()
    assert reshape((), [1, -1]) == (1, 1)


def test_reshape_of_nothing_infers_as_litert_does():
    assert reshape((0, 3), [0, -1]) == (0, 3)
    assert reshape((0, 3), [-1, 5]) == (0, 5)
    assert reshape((2, 0), [3, 0]) == (3, 0)


@pytest.mark.parametrize("wanted", [[5], [-1, -1], [-1, 4], [-2, -3], [0, 6]])
def test_reshape_refuses_what_does_not_fit(wanted):
    refused("RESHAPE", ReshapeOptions(), data((2, 3)), ints(wanted), match="shape")


def test_reshape_takes_the_option_where_there_is_no_int32_vector():
    x = data((2, 3))
    assert one("RESHAPE", ReshapeOptions(new_shape=(3, -1)), x).shape == (3, 2)
    assert one("RESHAPE", ReshapeOptions(new_shape=(6,)), x, None).shape == (6,)
    matrix = Arg(np.array([[1, 6]], np.int32))
    assert one("RESHAPE", ReshapeOptions(new_shape=(6,)), x, matrix).shape == (6,)
    assert one("RESHAPE", ReshapeOptions(new_shape=(0,)), data((1, 1))).shape == ()
    assert one("RESHAPE", ReshapeOptions(new_shape=(6,)), x, ints(3, 2)).shape == (3, 2)


def test_a_shape_that_is_data_is_checked_in_the_run():
    agrees_when_not_constant("RESHAPE", ReshapeOptions(), data((2, 6)), ints(3, -1))
    args = data((2, 6)), ints(5, -1, constant=False)
    node = node_of("RESHAPE", ReshapeOptions(), *args)
    with pytest.raises(InvokeError, match="cannot become"):
        node.op.reference(node, *[a.value for a in args])


@pytest.mark.parametrize("dtype", [*FIXED, STRING], ids=str)
def test_every_type_keeps_its_elements(dtype):
    x = data((2, 1, 3), dtype)
    for name, options, *more in (
        ("RESHAPE", ReshapeOptions(new_shape=(6,))),
        ("SQUEEZE", SqueezeOptions()),
        ("EXPAND_DIMS", ExpandDimsOptions(), ints([1])),
    ):
        y = one(name, options, x, *more)
        assert y.reshape(-1).tolist() == x.value.reshape(-1).tolist()


def test_squeeze_drops_the_listed_ones_or_all():
    x = data((1, 2, 1, 3, 1))
    assert one("SQUEEZE", SqueezeOptions(), x).shape == (2, 3)
    assert one("SQUEEZE", SqueezeOptions(squeeze_dims=(0, -1)), x).shape == (2, 1, 3)
    assert one("SQUEEZE", SqueezeOptions(squeeze_dims=(2, 2)), x).shape == (1, 2, 3, 1)
    refused("SQUEEZE", SqueezeOptions(squeeze_dims=(1,)), x, match="dimension 1 .* is not 1")
    refused("SQUEEZE", SqueezeOptions(squeeze_dims=(5,)), x, match="out of range")


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (1, 2, 3)), (2, (2, 3, 1)), (-1, (2, 3, 1)), (-3, (1, 2, 3))]
)
def test_expand_dims_counts_in_the_result(axis, shape):
    for dtype in (I16, I32, I64):
        index = Arg(np.array(axis, dtype.numpy))
        assert one("EXPAND_DIMS", ExpandDimsOptions(), data((2, 3)), index).shape == shape
    agrees_when_not_constant("EXPAND_DIMS", ExpandDimsOptions(), data((2, 3)), ints(axis))


def test_expand_dims_refuses_an_axis_out_of_range():
    for axis in (3, -4):
        refused("EXPAND_DIMS", ExpandDimsOptions(), data((2, 3)), ints(axis), match="out of range")
    refused("EXPAND_DIMS", ExpandDimsOptions(), data((2, 3)), ints(0, 1), match="one number")


def test_shape_and_rank_are_known_at_prepare():
    x = data((3, 0, 5), STRING)
    for dtype in (I32, I64):
        node = node_of("SHAPE", ShapeOptions(out_type=dtype), x, out=dtype)
        (y,) = node.op.infer(node)
        assert y.value.tolist() == [3, 0, 5]
        assert y.value.dtype == dtype.numpy
        assert node.op.reference(node, x.value).tolist() == [3, 0, 5]
    node = node_of("RANK", RankOptions(), x, out=I32)
    (y,) = node.op.infer(node)
    assert y.shape == ()
    assert y.value == 3 == node.op.reference(node, x.value)
    refused("SHAPE", ShapeOptions(), x, out=F32, match="output is FLOAT32")


def test_broadcast_args_merges_two_shapes():
    for dtype in (I32, I64):
        a, b = ints(2, 1, 4, dtype=dtype), ints(3, 1, dtype=dtype)
        got = evaluate(node_of("BROADCAST_ARGS", None, a, b), a, b, kernels=False)
        assert got[0].tolist() == [2, 3, 4]
        a, b = ints(1, dtype=dtype), ints(0, dtype=dtype)
        got = evaluate(node_of("BROADCAST_ARGS", None, a, b), a, b, kernels=False)
        assert got[0].tolist() == [0]
    args = ints(2, 3), ints(4, dtype=I32)
    node = node_of("BROADCAST_ARGS", None, *args)
    with pytest.raises(InvokeError, match="do not broadcast"):
        node.op.reference(node, *[a.value for a in args])
    refused("BROADCAST_ARGS", None, ints(1), ints(1, dtype=I64), match="must be equal")
