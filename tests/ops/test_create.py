"""Fills, ranges, zeros, diagonals."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import data
from tests.ops.reducing import arg, litert, refuses, refuses_data, run

from litejit.model.options.elementwise import ZerosLikeOptions
from litejit.model.options.shape import (
    FillOptions,
    MatrixDiagOptions,
    MatrixSetDiagOptions,
    RangeOptions,
)
from litejit.types import BOOL, F16, F32, I4, I8, I16, I32, I64, STRING, U8


@pytest.mark.parametrize("dtype", [F32, F16, U8, I8, I16, I32, I64, BOOL, STRING], ids=str)
@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("late", [True, False])
def test_fill(dtype, kind, late):
    value = data((), dtype)
    dims = arg(np.array([2, 0, 3], kind), late=late)
    assert run("FILL", FillOptions(), [dims, value], [dtype])[0].shape == (2, 0, 3)
    dims = arg(np.array([2, 3], kind), late=late)
    (y,) = run("FILL", FillOptions(), [dims, value], [dtype])
    assert y.tolist() == [[value.value.item()] * 3] * 2


def test_fill_refuses():
    dims, one = arg(np.array([2, -1], np.int32), late=False), arg(np.float32(1))
    refuses("FILL", FillOptions(), [dims, one], [F32], "negative size")
    late = arg(np.array([2, -1], np.int32))
    refuses_data("FILL", FillOptions(), [late, one], [F32], "negative size")
    refuses("FILL", FillOptions(), [late, arg(np.ones(1, np.float32))], [F32], "must be a scalar")
    scaled = arg(np.int8(1), scale=0.5)
    refuses("FILL", FillOptions(), [late, scaled], [(I8, 0.25, 0)], "must be equal")
    refuses("FILL", FillOptions(), [late, arg(1, I4)], [I4], "no fill with INT4")


@pytest.mark.parametrize("dtype", [F32, I32, I64], ids=str)
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize(
    ("start", "limit", "delta"), [(0, 10, 3), (5, -5, -2), (0, 9, 3), (-3, 40, 1)]
)
def test_range_is_litert_s(dtype, late, start, limit, delta):
    args = [arg(dtype.numpy.type(v), late=late) for v in (start, limit, delta)]
    case = "RANGE", RangeOptions(), args, [dtype]
    (y,) = run(*case)
    assert y.tolist() == list(range(start, limit, delta))
    if late and dtype is not I64:
        np.testing.assert_array_equal(y, litert(*case, reference=False)[0])


def test_range_of_floats_adds_up_its_errors():
    args = [arg(np.float32(v)) for v in (0, 10, 0.1)]
    case = "RANGE", RangeOptions(), args, [F32]
    (y,) = run(*case)
    np.testing.assert_array_equal(y, litert(*case, reference=False)[0])
    assert y[50] != np.float32(50) * np.float32(0.1)


def test_range_refuses():
    for late in (True, False):
        refuse = refuses_data if late else refuses
        for values, match in (
            ((0, 5, 0), "delta is 0"),
            ((0, 5, -1), "does not lead"),
            ((5, 0, 1), "does not lead"),
        ):
            args = [arg(np.int32(v), late=late) for v in values]
            refuse("RANGE", RangeOptions(), args, [I32], match)
        args = [arg(np.float32(v), late=late) for v in (0, 1e30, 1e-3)]
        refuse("RANGE", RangeOptions(), args, [F32], "too long")
        args = [arg(np.float32(v), late=late) for v in (0, np.nan, 1)]
        refuse("RANGE", RangeOptions(), args, [F32], "does not lead")
        args = [arg(np.int64(v), late=late) for v in (-(2**63), 2**63 - 1, 1)]
        refuse("RANGE", RangeOptions(), args, [I64], "too long")
    assert run("RANGE", RangeOptions(), [arg(np.int32(v)) for v in (3, 3, 1)], [I32])[0].size == 0


@pytest.mark.parametrize("dtype", [F32, I32, I64], ids=str)
def test_zeros_like(dtype):
    (y,) = run("ZEROS_LIKE", ZerosLikeOptions(), [data((2, 3), dtype)], [dtype])
    assert y.tolist() == [[0] * 3] * 2
    refuses("ZEROS_LIKE", ZerosLikeOptions(), [data((2,), I8)], [I8], "input is INT8")


@pytest.mark.parametrize("dtype", [F32, I8, U8, I16, I32, I64], ids=str)
def test_diagonals(dtype):
    x = arg(np.array([[1, 2], [3, 4]]).astype(dtype.numpy))
    (y,) = run("MATRIX_DIAG", MatrixDiagOptions(), [x], [dtype])
    assert y.tolist() == [[[1, 0], [0, 2]], [[3, 0], [0, 4]]]
    matrix = arg(np.full((2, 2, 3), 9).astype(dtype.numpy))
    (y,) = run("MATRIX_SET_DIAG", MatrixSetDiagOptions(), [matrix, x], [dtype])
    assert y.tolist() == [[[1, 9, 9], [9, 2, 9]], [[3, 9, 9], [9, 4, 9]]]


def test_a_diagonal_is_read_in_order_whatever_its_shape():
    matrix, x = arg(np.full((2, 2, 3), 9, np.int32)), arg(np.int32([1, 2, 3, 4, 5]))
    (y,) = run("MATRIX_SET_DIAG", MatrixSetDiagOptions(), [matrix, x], [I32])
    assert y.tolist() == [[[1, 9, 9], [9, 2, 9]], [[3, 9, 9], [9, 4, 9]]]


def test_diagonals_refuse():
    x, d = data((2, 3)), data((3,))
    refuses("MATRIX_SET_DIAG", MatrixSetDiagOptions(), [d, d], [F32], "must be a matrix")
    refuses("MATRIX_SET_DIAG", MatrixSetDiagOptions(), [x, data((1,))], [F32], "must have shape")
    refuses("MATRIX_DIAG", MatrixDiagOptions(), [data(())], [F32], "at least one dimension")
