"""Operators that cut a tensor into parts."""

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

from litejit.errors import InvokeError, PrepareError
from litejit.model.options.shape import (
    DynamicUpdateSliceOptions,
    SliceOptions,
    SplitOptions,
    SplitVOptions,
    StridedSliceOptions,
    UnpackOptions,
)
from litejit.types import F32, I8, I32, I64, STRING

ANY_TYPE = pytest.mark.parametrize("dtype", FIXED, ids=str)
WITH_STRINGS = pytest.mark.parametrize("dtype", [*FIXED, STRING], ids=str)


def refused(name, options, *args, match, **more):
    node = node_of(name, options, *args, **more)
    with pytest.raises(PrepareError, match=match):
        node.op.infer(node)


@WITH_STRINGS
def test_slice_cuts_a_box(dtype):
    x = data((4, 5, 6), dtype)
    y = one("SLICE", SliceOptions(), x, ints(1, 0, 2), ints(2, -1, 3))
    np.testing.assert_array_equal(y, x.value[1:3, :, 2:5])
    y = one("SLICE", SliceOptions(), x, ints(0, 0, 0), ints(4, 5, -1))
    np.testing.assert_array_equal(y, x.value)
    assert one("SLICE", SliceOptions(), x, ints(4, 0, 0), ints(-1, 5, 6)).shape == (0, 5, 6)


def test_slice_may_depend_on_data():
    begin, size = ints(1, 2, dtype=I64), ints(2, -1, dtype=I64)
    agrees_when_not_constant("SLICE", SliceOptions(), data((4, 5)), begin, size)


def test_a_window_that_moves_has_a_known_size():
    x, begin, size = data((6, 4)), ints(3, 1, constant=False), ints(2, 3)
    node = node_of("SLICE", SliceOptions(), x, begin, size)
    (y,) = node.op.infer(node)
    assert y.shape == (2, 3)
    got = node.op.reference(node, x.value, begin.value, size.value)
    np.testing.assert_array_equal(got, x.value[3:5, 1:4])
    with pytest.raises(InvokeError, match="do not fit"):
        node.op.reference(node, x.value, np.array([5, 0], np.int32), size.value)


@pytest.mark.parametrize(("begin", "size"), [(0, 5), (3, 2), (-1, 1), (5, -1), (1, -2)])
def test_slice_refuses_boxes_that_stick_out(begin, size):
    refused("SLICE", SliceOptions(), data((4,)), ints(begin), ints(size), match="do not fit")


def strided(x, begin, end, strides, **masks):
    args = [x, ints(list(begin)), ints(list(end)), ints(list(strides))]
    return one("STRIDED_SLICE", StridedSliceOptions(**masks), *args)


@WITH_STRINGS
def test_strided_slice_steps_in_both_directions(dtype):
    x = data((9, 70), dtype)
    for rows, columns in ((slice(1, 8, 3), slice(2, 60, 2)), (slice(7, 1, -2), slice(60, 5, -1)),
                          (slice(0, 9, 1), slice(1, 70, 4)), (slice(-3, -1, 1), slice(3, 64, 7)),
                          (slice(2, 2, 1), slice(0, 3, 1))):  # fmt: skip
        keys = (rows, columns)
        y = strided(x, *[[getattr(k, f) for k in keys] for f in ("start", "stop", "step")])
        np.testing.assert_array_equal(y, x.value[keys])


def test_masks_take_whole_ranges():
    x = data((4, 6))
    y = strided(x, (2, 2), (3, 3), (1, 2), begin_mask=2, end_mask=1)
    np.testing.assert_array_equal(y, x.value[2:, :3:2])
    y = strided(x, (2, 2), (3, 3), (-1, -2), begin_mask=3, end_mask=3)
    np.testing.assert_array_equal(y, x.value[::-1, ::-2])


def test_shrunk_axes_are_dropped():
    x = data((4, 6))
    np.testing.assert_array_equal(strided(x, (-1,), (0,), (1,), shrink_axis_mask=1), x.value[-1])
    y = strided(x, (1, -2), (2, 0), (1, 1), shrink_axis_mask=3)
    assert y.shape == ()
    assert y == x.value[1, -2]
    y = strided(x, (-9, 0), (0, 6), (1, 1), shrink_axis_mask=1)  # clamped, as LiteRT does
    np.testing.assert_array_equal(y, x.value[0])
    args = x, ints(4), ints(5), ints(1)
    refused("STRIDED_SLICE", StridedSliceOptions(shrink_axis_mask=1), *args, match="out of range")


def test_ellipsis_and_new_axes_are_put_in():
    x = data((3, 4, 5))
    y = strided(x, (0, 1), (0, 3), (1, 1), ellipsis_mask=1)
    np.testing.assert_array_equal(y, x.value[..., 1:3])
    y = strided(x, (1, 0, 0, 2), (2, 0, 0, 0), (1, 1, 1, 1), ellipsis_mask=2, new_axis_mask=4,
                shrink_axis_mask=9)  # fmt: skip
    np.testing.assert_array_equal(y, x.value[1, ..., None, 2])
    y = strided(x, (0, 0), (0, 2), (1, 1), new_axis_mask=1)
    np.testing.assert_array_equal(y, x.value[None, 0:2])
    y = strided(x, (0, 0, 0, 0), (0, 3, 4, 5), (1, 1, 1, 1), ellipsis_mask=1)
    np.testing.assert_array_equal(y, x.value)


def test_offset_counts_the_end_from_the_begin():
    x = data((9,))
    np.testing.assert_array_equal(strided(x, (2,), (3,), (1,), offset=True), x.value[2:5])
    np.testing.assert_array_equal(strided(x, (-4,), (2,), (1,), offset=True), x.value[5:7])


def test_a_negative_step_reaches_the_first_element():
    x = Arg(np.arange(5, dtype=np.int32), constant=False)
    assert strided(x, (4,), (-9,), (-2,)).tolist() == [4, 2, 0]
    assert strided(x, (-1,), (0,), (-1,)).tolist() == [4, 3, 2, 1]
    assert strided(x, (0,), (9,), (-1,)).tolist() == []


@pytest.mark.parametrize("seed", range(40))
def test_random_strided_slices_equal_numpy(seed):
    rng = np.random.default_rng(seed)
    x = data((7, 3, 8), rng.choice(np.array([F32, I8, I64], object)), seed=seed)
    keys, rows = [], []
    for n in x.value.shape:
        step = int(rng.choice([-3, -2, -1, 1, 2, 3]))
        begin, end = (int(v) for v in rng.integers(-n - 2, n + 3, 2))
        # beyond the first element NumPy has no number for the end of a negative step
        keys.append(slice(begin, end, step))
        rows.append((begin, end, step))
    np.testing.assert_array_equal(strided(x, *zip(*rows, strict=True)), x.value[tuple(keys)])


def test_strided_slice_refuses_bad_indices():
    o, x = StridedSliceOptions, data((3, 4))
    refused("STRIDED_SLICE", o(), x, ints(0), ints(1), ints(0), match="must not be 0")
    smallest = ints(-(1 << 31))
    refused("STRIDED_SLICE", o(), x, ints(0), ints(1), smallest, match="stride")
    three = ints(0, 0, 0)
    refused("STRIDED_SLICE", o(), x, three, three, ints(1, 1, 1), match="3 indices")
    refused("STRIDED_SLICE", o(), x, ints(0, 0), ints(1), ints(1, 1), match="end holds 1")
    two = ints(0, 0)
    refused("STRIDED_SLICE", o(ellipsis_mask=3), x, two, two, ints(1, 1), match="more than one")
    begin, end, strides = ints(0, 1), ints(2, 4), ints(1, 2)
    agrees_when_not_constant("STRIDED_SLICE", o(), x, begin, end, strides)


@pytest.mark.parametrize("at", [0, 2, -1, -3, -7])
@pytest.mark.parametrize(
    ("masks", "want"),
    [
        ({"shrink_axis_mask": 1, "begin_mask": 2, "end_mask": 2}, lambda x, at: x[at]),
        ({"shrink_axis_mask": 2, "ellipsis_mask": 1}, lambda x, at: x[..., at]),
        ({"shrink_axis_mask": 1, "new_axis_mask": 2}, lambda x, at: x[at, None]),
        ({"shrink_axis_mask": 1, "begin_mask": 3, "end_mask": 2}, lambda x, at: x[0]),
    ],
)
def test_an_element_that_the_run_names_has_a_known_shape(at, masks, want):
    x = data((3, 4, 3), seed=at + 9)
    begin, end = ints(at, at, constant=False), ints(at + 1, at + 1, constant=False)
    y = one("STRIDED_SLICE", StridedSliceOptions(**masks), x, begin, end, ints(1, 1))
    np.testing.assert_array_equal(y, want(x.value, max(at, -3)))


def test_an_element_that_is_not_there_is_refused():
    o = StridedSliceOptions(shrink_axis_mask=1)
    late = [ints(v, constant=False) for v in (3, 4)]
    node = node_of("STRIDED_SLICE", o, data((3, 2)), *late, ints(1))
    with pytest.raises(InvokeError, match="index 3 is out of range"):
        node.op.reference(node, np.zeros((3, 2), np.float32), *[a.value for a in late], np.ones(1))
    inferred = node.with_types(node.inputs, tuple(node.op.infer(node)))
    x = np.zeros((3, 2), np.float32)
    steps = Immediate(inferred, [x, late[0].value, late[1].value, np.ones(1, np.int32)])
    node.op.lower(inferred, steps)
    assert steps.refusal[0] == 1 << 48


@pytest.mark.parametrize("begin", [(5, 0), (-1, 0), (0, 2)])
def test_a_window_beyond_the_border_is_refused(begin):
    x, place, size = data((6, 4)), ints(*begin, constant=False), ints(2, 3)
    node = node_of("SLICE", SliceOptions(), x, place, size)
    inferred = node.with_types(node.inputs, tuple(node.op.infer(node)))
    steps = Immediate(inferred, [x.value, place.value, size.value])
    node.op.lower(inferred, steps)
    assert steps.refusal[0] == 1 << 48
    assert one("SLICE", SliceOptions(), x, ints(4, 1, constant=False), size).shape == (2, 3)


@pytest.mark.parametrize(
    ("begin", "is_outside"), [((6, 4), 0), ((0, 0), 0), ((7, 0), 1), ((0, 5), 1)]
)
def test_a_window_of_no_elements_must_lie_inside_too(begin, is_outside):
    x, place, size = data((6, 4)), ints(*begin, constant=False), ints(0, 0)
    node = node_of("SLICE", SliceOptions(), x, place, size)
    inferred = node.with_types(node.inputs, tuple(node.op.infer(node)))
    steps = Immediate(inferred, [x.value, place.value, size.value])
    node.op.lower(inferred, steps)
    assert steps.refusal[0] == is_outside << 48


@ANY_TYPE
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_split_makes_equal_parts(dtype, axis):
    x = data((6, 4, 2), dtype)
    args = Arg(np.int32(axis)), x
    node = node_of("SPLIT", SplitOptions(num_splits=2), *args, results=2)
    for got, want in zip(evaluate(node, *args), np.split(x.value, 2, axis), strict=True):
        np.testing.assert_array_equal(got, want)
    more = {"results": 2}
    agrees_when_not_constant("SPLIT", SplitOptions(num_splits=2), *args, **more)


def test_split_refuses_unequal_parts():
    args = Arg(np.int32(0)), data((5, 2))
    refused("SPLIT", SplitOptions(num_splits=2), *args, results=2, match="no 2 equal parts")
    refused("SPLIT", SplitOptions(num_splits=0), *args, results=1, match="num_splits is 0")
    args = Arg(np.int32(2)), data((4, 2))
    refused("SPLIT", SplitOptions(num_splits=2), *args, results=2, match="out of range")


@ANY_TYPE
def test_split_v_makes_parts_of_given_sizes(dtype):
    x = data((3, 9), dtype)
    for sizes in ((2, 3, 4), (2, -1, 1), (9, 0, -1)):
        args = x, ints(list(sizes)), Arg(np.int32(1))
        node = node_of("SPLIT_V", SplitVOptions(num_splits=3), *args, results=3)
        a, b, c = evaluate(node, *args)
        np.testing.assert_array_equal(np.concatenate([a, b, c], 1), x.value)
        assert a.shape == (3, sizes[0])
    more = {"results": 3}
    agrees_when_not_constant("SPLIT_V", SplitVOptions(num_splits=3), *args, **more)


def test_split_v_refuses_sizes_that_do_not_add_up():
    for sizes in ([2, 2], [-1, -1], [4, -1, 0], [5, -2], [4, 0]):
        args = data((3,)), ints(sizes), Arg(np.int32(0))
        options = SplitVOptions(num_splits=len(sizes))
        refused("SPLIT_V", options, *args, results=len(sizes), match="size")


@ANY_TYPE
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_unpack_takes_slices(dtype, axis):
    x = data((3, 3, 3), dtype)
    node = node_of("UNPACK", UnpackOptions(num=3, axis=axis), x, results=3)
    for j, got in enumerate(evaluate(node, x)):
        np.testing.assert_array_equal(got, np.take(x.value, j, axis))


def test_unpack_of_a_vector_gives_scalars():
    x = data((2,))
    node = node_of("UNPACK", UnpackOptions(num=2), x, results=2)
    assert [y.shape for y in evaluate(node, x)] == [(), ()]


def test_unpack_refuses_other_counts_and_scales():
    refused("UNPACK", UnpackOptions(num=2), data((3,)), results=2, match="num is 2")
    refused("UNPACK", UnpackOptions(num=3, axis=1), data((3,)), results=3, match="out of range")
    x = data((1,), I8, scale=0.5)
    refused("UNPACK", UnpackOptions(num=1), x, scale=0.25, match="scale")


@ANY_TYPE
def test_dynamic_update_slice_writes_where_the_update_fits(dtype):
    x, update = data((4, 5), dtype), data((2, 3), dtype, seed=5)
    for start, (i, j) in (((1, 1), (1, 1)), ((9, -4), (2, 0)), ((0, 2), (0, 2)), ((3, 3), (2, 2))):
        want = x.value.copy()
        want[i : i + 2, j : j + 3] = update.value
        for index in (I32, I64):
            late = ints(list(start), constant=False, dtype=index)
            y = one("DYNAMIC_UPDATE_SLICE", DynamicUpdateSliceOptions(), x, update, late)
            np.testing.assert_array_equal(y, want)


def test_dynamic_update_slice_takes_empty_whole_and_scalar_updates():
    o = DynamicUpdateSliceOptions()
    x = data((4, 5))
    np.testing.assert_array_equal(
        one("DYNAMIC_UPDATE_SLICE", o, x, data((0, 5)), ints(1, 1)), x.value
    )
    whole = data((4, 5), seed=3)
    y = one("DYNAMIC_UPDATE_SLICE", o, x, whole, ints(1, 1))
    np.testing.assert_array_equal(y, whole.value)
    scalar = data((), seed=3)
    assert one("DYNAMIC_UPDATE_SLICE", o, data(()), scalar, ints([])) == scalar.value


def test_dynamic_update_slice_refuses_updates_that_do_not_fit():
    o = DynamicUpdateSliceOptions()
    start = ints(0, 0)
    refused("DYNAMIC_UPDATE_SLICE", o, data((2, 3)), data((3, 3)), start, match="does not fit")
    refused("DYNAMIC_UPDATE_SLICE", o, data((2, 3)), data((2,)), start, match="does not fit")
    refused("DYNAMIC_UPDATE_SLICE", o, data((2, 3)), data((2, 3), I8), start, match="update is")


def test_indices_that_are_data_are_checked_in_the_run():
    args = data((3,)), ints(2, constant=False), ints(2, constant=False)
    node = node_of("SLICE", SliceOptions(), *args)
    with pytest.raises(InvokeError, match="do not fit"):
        node.op.reference(node, *[a.value for a in args])
