"""Row programs, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.kernels.row_program import RowProgramSpec

RNG = np.random.default_rng(1)
NAMES = [isa.name for isa in HOST_ISAS]
# (x - mean) * (1 / sqrt(mean((x - mean)**2) + small)) * column + row
NORM = RowProgramSpec(
    ("full", "scalar", "column", "row"),
    (
        ("mean", (0,), ()), ("squared_difference", (0, 4), ()), ("mean", (5,), ()),
        ("add", (6, 1), ()), ("rsqrt", (7,), ()), ("sub", (0, 4), ()), ("mul", (9, 8), ()),
        ("mul", (10, 2), ()), ("add", (11, 3), ()),
    ),
    (12, 8),
)  # fmt: skip


@pytest.mark.parametrize("isa", HOST_ISAS, ids=NAMES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (6, 37), (9, 130)])
def test_means_and_functions_of_rows(isa, rows, columns):
    x = RNG.normal(size=(rows, columns)).astype(np.float32)
    small, column = np.array([1e-3], np.float32), RNG.normal(size=columns).astype(np.float32)
    row = RNG.normal(size=rows).astype(np.float32)
    results = [np.zeros_like(x), np.zeros(rows, np.float32)]
    *_, y, root = run(NORM, x, small, column, row, *results, columns, items=rows, isa=isa,
                      cuts=(rows // 3,))  # fmt: skip
    centered = x.astype(np.float64) - x.mean(1, keepdims=True, dtype=np.float64)
    want = 1 / np.sqrt((centered**2).mean(1) + 1e-3)
    np.testing.assert_allclose(root, want, rtol=1e-5)
    np.testing.assert_allclose(
        y, centered * want[:, None] * column + row[:, None], rtol=1e-4, atol=1e-5
    )
