"""Bilinear and nearest-neighbour resizing."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.reducing import arg, litert, refuses, refuses_data, run

from litejit.model.options.shape import ResizeBilinearOptions, ResizeNearestNeighborOptions
from litejit.types import F16, F32, F64, I8, I16, I32, U8

FLAGS = [(False, False), (True, False), (False, True)]  # align corners, half pixel centers
SIZES = [((5, 4), (7, 9)), ((8, 8), (3, 5)), ((3, 3), (3, 3)), ((1, 1), (4, 2)), ((6, 7), (1, 1)),
         ((4, 4), (8, 8)), ((33, 17), (13, 40))]  # fmt: skip


def image(height, width, depth, dtype, batches=2):
    rng = np.random.default_rng(height * width)
    shape = (batches, height, width, depth)
    if dtype.numpy.kind == "f":
        return rng.standard_normal(shape).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


def size(height, width, late=False):
    return arg(np.array([height, width], np.int32), late=late)


def bilinear(align, half):
    return ResizeBilinearOptions(align_corners=align, half_pixel_centers=half)


def nearest(align, half):
    return ResizeNearestNeighborOptions(align_corners=align, half_pixel_centers=half)


def test_bilinear_by_hand():
    x = arg(np.array([0, 10, 20, 30], np.float32).reshape(1, 2, 2, 1))
    (y,) = run("RESIZE_BILINEAR", bilinear(True, False), [x, size(3, 3)], [F32], compiled=True)
    assert y.reshape(3, 3).tolist() == [[0, 5, 10], [10, 15, 20], [20, 25, 30]]
    (y,) = run("RESIZE_BILINEAR", bilinear(False, True), [x, size(1, 4)], [F32], compiled=True)
    assert y.reshape(-1).tolist() == [10, 12.5, 17.5, 20]


@pytest.mark.parametrize("dtype", [F32, U8, I8, I16], ids=str)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bilinear_is_litert_s(dtype, flags, before, after):
    for depth in (1, 3, 18):
        x = arg(image(*before, depth, dtype), scale=0.0 if dtype is F32 else 0.5)
        out = dtype if dtype is F32 else (dtype, 0.5, 0)
        case = "RESIZE_BILINEAR", bilinear(*flags), [x, size(*after)], [out]
        (y,) = run(*case, compiled=True)
        (want,) = litert(*case)
        if dtype is F32:
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(y, want)


def test_nearest_by_hand():
    x = arg(np.arange(4, dtype=np.int16).reshape(1, 1, 4, 1))
    for flags, want in (((False, False), [0, 2]), ((True, False), [0, 3]), ((False, True), [1, 3])):
        case = "RESIZE_NEAREST_NEIGHBOR", nearest(*flags), [x, size(1, 2)], [I16]
        assert run(*case, compiled=True)[0].reshape(-1).tolist() == want


@pytest.mark.parametrize("dtype", [F32, U8, I8, I16, I32], ids=str)
@pytest.mark.parametrize("flags", [*FLAGS, (True, True)])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_nearest_is_litert_s(dtype, flags, before, after):
    for depth in (1, 3, 16, 18):
        x = arg(image(*before, depth, dtype))
        case = "RESIZE_NEAREST_NEIGHBOR", nearest(*flags), [x, size(*after)], [dtype]
        (y,) = run(*case, compiled=True)
        np.testing.assert_array_equal(y, litert(*case)[0])


@pytest.mark.parametrize(
    ("name", "options"), [("RESIZE_BILINEAR", bilinear(False, False)),
                          ("RESIZE_NEAREST_NEIGHBOR", nearest(False, False))],
)  # fmt: skip
def test_resizes_refuse(name, options):
    x = arg(image(2, 3, 1, F32))
    refuses(name, options, [arg(np.zeros((2, 3), np.float32)), size(2, 2)], [F32], "must be NHWC")
    refuses(name, options, [x, size(0, 2)], [F32], "must be positive")
    refuses(name, options, [x, arg(np.ones(3, np.int32))], [F32], "height, width")
    refuses(name, options, [x, arg(np.ones(2, np.int64))], [F32], "size is INT64")
    refuses(name, options, [arg(np.zeros((1, 2, 2, 1))), size(2, 2)], [F64], "input is FLOAT64")
    refuses_data(name, options, [x, size(-1, 2, late=True)], [F32], "must be positive")
    empty = arg(np.zeros((1, 0, 2, 1), np.float32))
    refuses(name, options, [empty, size(2, 2)], [F32], "no pixels")


def test_resizes_of_nothing_and_of_a_size_known_late():
    x = arg(np.zeros((0, 2, 2, 1), np.float32))
    assert run("RESIZE_BILINEAR", bilinear(False, False), [x, size(3, 3)], [F32])[0].size == 0
    x = arg(image(2, 3, 2, I8))
    for name, options in (
        ("RESIZE_BILINEAR", bilinear(False, False)),
        ("RESIZE_NEAREST_NEIGHBOR", nearest(False, False)),
    ):
        (late,) = run(name, options, [x, size(4, 6, late=True)], [I8])
        (early,) = run(name, options, [x, size(4, 6)], [I8])
        np.testing.assert_array_equal(late, early)


def test_both_flags_exclude_each_other():
    x = arg(image(2, 3, 1, F32))
    refuses("RESIZE_BILINEAR", bilinear(True, True), [x, size(2, 2)], [F32], "exclude each other")
    refuses("RESIZE_BILINEAR", bilinear(False, False), [arg(image(2, 2, 1, F16)), size(2, 2)],
            [F16], "input is FLOAT16")  # fmt: skip
