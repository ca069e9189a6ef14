"""Comparisons and choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.pointwise import Q, evaluate

from litejit.errors import PrepareError
from litejit.types import BOOL

RELATIONS = {
    "EQUAL": np.equal, "NOT_EQUAL": np.not_equal, "LESS": np.less, "LESS_EQUAL": np.less_equal,
    "GREATER": np.greater, "GREATER_EQUAL": np.greater_equal,
}  # fmt: skip


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16, np.int32, np.int64, np.uint8])
def test_values_are_compared_as_numpy_does(name: str, dtype: Any) -> None:
    a = np.array([[1, 2, 3, 100, 0]] * 5).astype(dtype)
    b = a.T.copy()
    if a.dtype.kind == "f":
        a[0, 0] = np.nan
    y = evaluate(name, None, Q(a), Q(b[:, :1]), out=BOOL)
    np.testing.assert_array_equal(y, RELATIONS[name](a, b[:, :1]))


def test_small_scales_make_different_codes_equal() -> None:
    a, b = Q(np.int8([10, 10, 100]), 0.001), Q(np.int8([11, 13, 100]), 0.001)
    # 256 * 10 * 0.001 = 2.56, 256 * 11 * 0.001 = 2.8: both 3; 13 gives 3.3, 3 as well
    assert evaluate("EQUAL", None, a, b, out=BOOL).tolist() == [True, True, True]
    a, b = Q(np.int8([10]), 0.1), Q(np.int8([11]), 0.1)
    assert evaluate("LESS", None, a, b, out=BOOL).tolist() == [True]


def test_strings_are_compared_byte_by_byte() -> None:
    a, b = np.array([b"ab", b"", b"c"], object), np.array([b"ab", b"x", b"C"], object)
    assert evaluate("EQUAL", None, Q(a), Q(b), out=BOOL).tolist() == [True, False, False]
    assert evaluate("NOT_EQUAL", None, Q(a), Q(b), out=BOOL).tolist() == [False, True, True]
    with pytest.raises(PrepareError, match="STRING"):
        evaluate("LESS", None, Q(a), Q(b), out=BOOL)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.int16, np.int64, np.bool_])
def test_a_condition_chooses_elements_or_rows(dtype: Any) -> None:
    x, z = np.ones((2, 3), dtype), np.zeros((2, 3), dtype)
    row = Q(np.array([True, False]))
    y = evaluate("SELECT", None, row, Q(x), Q(z), out=Q(x).dtype)
    np.testing.assert_array_equal(y, [[1, 1, 1], [0, 0, 0]])
    wide = Q(np.array([[True], [False]]))
    y = evaluate("SELECT_V2", None, wide, Q(x), Q(z[:1]), out=Q(x).dtype)
    np.testing.assert_array_equal(y, [[1, 1, 1], [0, 0, 0]])
    y = evaluate("SELECT", None, Q(np.array(False)), Q(x), Q(z), out=Q(x).dtype)
    assert not y.any()


def test_conditions_that_do_not_fit_are_refused() -> None:
    x = Q(np.ones((2, 3), np.float32))
    with pytest.raises(PrepareError, match="does not fit"):
        evaluate("SELECT", None, Q(np.ones(3, np.bool_)), x, x, out=x.dtype)
    with pytest.raises(PrepareError, match="condition is FLOAT32"):
        evaluate("SELECT_V2", None, x, x, x)
