"""Reductions, positions of extremes, running sums."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.reducing import arg, litert, refuses, refuses_data, run

from litejit.model.options.index import (
    ArgMaxOptions,
    ArgMinOptions,
    CumsumOptions,
    ReducerOptions,
)
from litejit.ops.reduce_lowering import as_one_axis
from litejit.types import BOOL, F16, F32, I8, I16, I32, I64, U8

KEEP, DROP = ReducerOptions(keep_dims=True), ReducerOptions()
NARROW = [U8, I8, I16]


def axes(*values, late=False):
    return arg(np.array(values, np.int32), late=late)


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype.numpy.kind == "f":
        return rng.standard_normal(shape).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    low, high = max(info.min, -1000), min(info.max, 1000)
    return rng.integers(low, high, shape, dtype.numpy, endpoint=True)


def quantized(shape, dtype, scale=0.05, zero_point=None, seed=0):
    zero = {"UINT8": 120, "INT8": -7, "INT16": 0}[dtype.name] if zero_point is None else zero_point
    return arg(numbers(shape, dtype, seed), dtype, scale=scale, zero_point=zero)


@pytest.mark.parametrize(
    ("shape", "folded", "view"),
    [
        ((2, 3, 4, 5), (1, 2), (2, 12, 5)),
        ((2, 3, 4, 5), (3,), (24, 5, 1)),
        ((2, 3, 4, 5), (0, 1, 2, 3), (1, 120, 1)),
        ((2, 3, 1, 5), (1, 3), (2, 15, 1)),
        ((2, 3, 4, 5), (1, 3), None),
        ((2, 1, 4), (1,), (1, 1, 8)),
        ((), (), (1, 1, 1)),
    ],
)
def test_neighbouring_axes_fold_as_one(shape, folded, view):
    assert as_one_axis(shape, folded) == view


FOLDED = {
    "SUM": (F32, I32, I64, U8, I8, I16),
    "MEAN": (F32, I32, I64, U8, I8, I16),
    "REDUCE_MAX": (F32, I32, I64, U8, I8, I16),
    "REDUCE_MIN": (F32, I32, I64, U8, I8, I16),
    "REDUCE_PROD": (F32, I32, I64, U8, I8, I16),
    "REDUCE_ANY": (BOOL,),
    "REDUCE_ALL": (BOOL,),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, kinds in FOLDED.items() for dtype in kinds], ids=str
)
def test_every_type_and_set_of_axes_is_compiled(name, dtype):
    shape = (3, 4, 2, 19)
    for folded in [(0,), (2,), (3,), (0, 2), (1, 3), (0, 1, 3), (0, 1, 2, 3), ()]:
        if dtype in (U8, I8, I16) and not (name == "REDUCE_PROD" and dtype is U8):
            zero = 0 if dtype is I16 else 3
            x, out = quantized(shape, dtype, zero_point=zero), (dtype, 0.05, zero)
        elif dtype is BOOL:
            x, out = arg(np.random.default_rng(4).random(shape) < 0.8), dtype
        else:
            x, out = arg(numbers(shape, dtype)), dtype
        run(name, KEEP if len(folded) % 2 else DROP, [x, axes(*folded)], [out], compiled=True)


def test_mean_of_floats_and_shapes():
    x = arg(np.array([[1, 2, 3], [4, 5, 9]], np.float32))
    (y,) = run("MEAN", DROP, [x, axes(1)], [F32], compiled=True)
    assert y.tolist() == [2, 6]
    (y,) = run("MEAN", KEEP, [x, axes(-2, 0)], [F32], compiled=True)
    assert y.tolist() == [[2.5, 3.5, 6]]
    (y,) = run("MEAN", DROP, [x, axes(0, 1)], [F32], compiled=True)
    assert y.shape == ()
    assert y == 4
    (y,) = run("MEAN", DROP, [arg(np.float32(3)), axes()], [F32])
    assert y == 3


def test_integer_means_divide_toward_zero():
    for dtype in (I32, I64):
        x = arg(np.array([[-3, -4], [3, 4], [-8, 2]], dtype.numpy))
        (y,) = run("MEAN", DROP, [x, axes(1)], [dtype])
        assert y.tolist() == [-3, 3, -3]


def test_mean_of_nothing_is_nan_or_zero():
    (y,) = run("MEAN", DROP, [arg(np.zeros((2, 0), np.float32)), axes(1)], [F32])
    assert np.isnan(y).all()
    (y,) = run("MEAN", DROP, [arg(np.zeros((2, 0), np.int32)), axes(1)], [I32])
    assert y.tolist() == [0, 0]


def test_quantized_mean_by_hand():
    # (10 + 20 + 30 + 41) / 4 - zero point 5 = 20.25, times 0.5 / 0.25 = 40.5 -> 41, plus 3
    x = arg(np.array([10, 20, 30, 41], np.int8), scale=0.5, zero_point=5)
    (y,) = run("MEAN", DROP, [x, axes(0)], [(I8, 0.25, 3)], compiled=True)
    assert y == 44


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize(
    ("shape", "folded", "keep"),
    [((2, 7, 7, 33), (1, 2), True), ((3, 5, 64), (2,), False), ((2, 3, 4, 5), (1, 3), False),
     ((1, 8, 3, 1000), (1, 2), False), ((4, 6, 1), (1, 2), True)],
)  # fmt: skip
@pytest.mark.parametrize("out_scale", [0.05, 0.021, 0.4])
def test_quantized_mean_is_litert_s(dtype, shape, folded, keep, out_scale):
    x = quantized(shape, dtype)
    out = (dtype, out_scale, 0 if dtype is I16 else 11)
    case = "MEAN", ReducerOptions(keep_dims=keep), [x, axes(*folded)], [out]
    one_axis = as_one_axis(shape, folded) is not None
    (y,) = run(*case, compiled=one_axis and dtype is not I16)
    np.testing.assert_array_equal(y, litert(*case)[0])


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("keep", [False, True])
def test_quantized_sum_is_litert_s_optimized_one(dtype, keep):
    x = quantized((3, 8, 5), dtype)
    out = (dtype, 0.9, 0 if dtype is I16 else 4)
    case = "SUM", ReducerOptions(keep_dims=keep), [x, axes(1)], [out]
    (y,) = run(*case)
    np.testing.assert_array_equal(y, litert(*case, reference=False)[0])


def test_sums_of_integers_wrap():
    for dtype in (I32, I64):
        top = np.iinfo(dtype.numpy).max
        x = arg(np.array([[top, 1], [5, 6]], dtype.numpy))
        (y,) = run("SUM", DROP, [x, axes(1)], [dtype], compiled=dtype is I32)
        assert y.tolist() == [-top - 1, 11]


@pytest.mark.parametrize("count", [1, 3, 64, 1000, 100_000])
def test_float_sums_keep_their_digits(count):
    x = np.random.default_rng(1).random((2, count, 3), np.float32)
    want = x.astype(np.float64)
    for axis in (1, 2):
        (y,) = run("SUM", DROP, [arg(x), axes(axis)], [F32], compiled=True)
        np.testing.assert_allclose(y, want.sum(axis), rtol=1e-6)


@pytest.mark.parametrize("dtype", [F32, I32, I64, U8, I8, I16], ids=str)
@pytest.mark.parametrize("folded", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_extremes(dtype, folded):
    x = numbers((4, 5, 17), dtype)
    given = arg(x, dtype, scale=0.5 if dtype in NARROW else 0.0)
    out = (dtype, 0.5 if dtype in NARROW else 0.0, 0)
    compiled = dtype is not I64 and folded != (0, 2)
    (y,) = run("REDUCE_MAX", DROP, [given, axes(*folded)], [out], compiled=compiled)
    np.testing.assert_array_equal(y, x.max(folded))
    (y,) = run("REDUCE_MIN", KEEP, [given, axes(*folded)], [out], compiled=compiled)
    np.testing.assert_array_equal(y, x.min(folded, keepdims=True))


def test_extremes_pass_over_nan_and_start_finite():
    inf, nan, most = np.inf, np.nan, np.finfo(np.float32).max
    x = arg(np.array([[1, 3, nan, 2], [nan, -inf, -inf, -inf]], np.float32))
    (y,) = run("REDUCE_MAX", DROP, [x, axes(1)], [F32], compiled=True)
    assert y.tolist() == [3, -most]
    (y,) = run("REDUCE_MIN", DROP, [x, axes(1)], [F32], compiled=True)
    assert y.tolist() == [1, -inf]


def test_empty_folds_hold_what_changes_nothing():
    x, empty = arg(np.zeros((0, 2), np.int32)), axes(0)
    assert run("SUM", DROP, [x, empty], [I32])[0].tolist() == [0, 0]
    assert run("REDUCE_PROD", DROP, [x, empty], [I32])[0].tolist() == [1, 1]
    assert run("REDUCE_MAX", DROP, [x, empty], [I32])[0].tolist() == [-(2**31)] * 2
    b = arg(np.zeros((0, 2), np.bool_))
    assert run("REDUCE_ANY", DROP, [b, empty], [BOOL])[0].tolist() == [False, False]
    assert run("REDUCE_ALL", DROP, [b, empty], [BOOL])[0].tolist() == [True, True]


def test_products():
    for dtype in (F32, I32, I64, I8, I16):
        x = arg(np.array([[2, 3], [-4, 5]], dtype.numpy))
        assert run("REDUCE_PROD", DROP, [x, axes(0)], [dtype])[0].tolist() == [-8, 15]
    x = arg(np.array([2**31 - 1, 2], np.int32))
    assert run("REDUCE_PROD", DROP, [x, axes(0)], [I32])[0] == -2


@pytest.mark.parametrize("dtype", [I8, I16], ids=str)
@pytest.mark.parametrize("folded", [(1,), (0, 2), (0, 1, 2)])
def test_quantized_products_are_litert_s(dtype, folded):
    x = quantized((2, 3, 4), dtype, scale=0.01 if dtype is I16 else 0.02)
    case = "REDUCE_PROD", DROP, [x, axes(*folded)], [(dtype, 0.03, 0)]
    np.testing.assert_array_equal(run(*case)[0], litert(*case)[0])


def test_any_and_all():
    x = arg(np.array([[True, False], [True, True]]))
    assert run("REDUCE_ANY", DROP, [x, axes(0)], [BOOL])[0].tolist() == [True, True]
    assert run("REDUCE_ALL", KEEP, [x, axes(1)], [BOOL])[0].tolist() == [[False], [True]]


def test_axes_of_a_run_leave_the_shape_open():
    x = arg(np.arange(6, dtype=np.float32).reshape(2, 3))
    (y,) = run("SUM", KEEP, [x, axes(-1, 1, late=True)], [F32])
    assert y.tolist() == [[3], [12]]
    refuses_data("SUM", DROP, [x, axes(2, late=True)], [F32], "axis 2 is out of range")


@pytest.mark.parametrize("name", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_PROD"])
def test_reductions_refuse(name):
    x = arg(np.zeros((2, 3), np.float32))
    refuses(name, DROP, [x, axes(2)], [F32], "axis 2 is out of range for rank 2")
    refuses(name, DROP, [x, axes(-3)], [F32], "axis -3 is out of range")
    refuses(name, DROP, [x, arg(np.array([0]), late=False)], [F32], "axes are INT64")
    refuses(name, DROP, [x, axes(0)], [I32], "output 0 is INT32")
    refuses(name, DROP, [arg(np.zeros(2, np.float16)), axes(0)], [F16], "input is FLOAT16")


def test_quantization_is_checked():
    x = quantized((2, 3), I8)
    refuses("REDUCE_MAX", DROP, [x, axes(0)], [(I8, 0.5, 0)], "must be equal")
    refuses("MEAN", DROP, [x, axes(0)], [I8], "no quantization scale")
    wide = quantized((2, 3), I16, zero_point=3)
    refuses("SUM", DROP, [wide, axes(0)], [(I16, 0.5, 0)], "zero point 0")
    refuses("REDUCE_PROD", DROP, [quantized((2,), U8), axes(0)], [(U8, 1.0, 0)], "no product")


@pytest.mark.parametrize("dtype", [F32, U8, I8, I32, BOOL], ids=str)
@pytest.mark.parametrize("kind", [I32, I64], ids=str)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_first_places_of_extremes(dtype, kind, axis):
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2 if dtype is BOOL else 9, (3, 4, 70)).astype(dtype.numpy)
    at = arg(np.array(axis, np.int64), late=False)
    given = [arg(x, dtype), at]
    (y,) = run("ARG_MAX", ArgMaxOptions(output_type=kind), given, [kind], compiled=True)
    np.testing.assert_array_equal(y, x.argmax(axis))
    (y,) = run("ARG_MIN", ArgMinOptions(output_type=kind), given, [kind], compiled=True)
    np.testing.assert_array_equal(y, x.argmin(axis))


def test_nan_is_never_the_best_place():
    x = arg(np.array([[np.nan, 1, 3, np.nan], [np.nan, -np.inf, np.nan, 0]], np.float32))
    options = ArgMaxOptions(output_type=I32)
    (y,) = run("ARG_MAX", options, [x, axes(1)], [I32], compiled=True)
    assert y.tolist() == [2, 3]


def test_places_refuse():
    options, x = ArgMaxOptions(output_type=I32), arg(np.zeros((2, 0), np.float32))
    refuses("ARG_MAX", options, [x, axes(1)], [I32], "empty axis")
    refuses("ARG_MAX", options, [x, axes(0, 1)], [I32], "one number")
    refuses("ARG_MAX", ArgMaxOptions(output_type=F32), [x, axes(0)], [F32], "indices cannot be")
    refuses_data("ARG_MAX", options, [x, axes(5, late=True)], [I32], "axis 5 is out of range")


@pytest.mark.parametrize("dtype", [F32, I32, I64], ids=str)
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, -1])
def test_running_sums_are_litert_s(dtype, exclusive, reverse, axis):
    options = CumsumOptions(exclusive=exclusive, reverse=reverse)
    case = "CUMSUM", options, [arg(numbers((3, 5), dtype)), axes(axis)], [dtype]
    np.testing.assert_array_equal(run(*case)[0], litert(*case)[0])


def test_running_sums_by_hand():
    x = arg(np.array([1, 2, 4], np.int32))
    both = CumsumOptions(exclusive=True, reverse=True)
    assert run("CUMSUM", both, [x, axes(0)], [I32])[0].tolist() == [6, 4, 0]
    refuses("CUMSUM", both, [x, axes(1)], [I32], "axis 1 is out of range")
