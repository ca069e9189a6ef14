"""Transposed copies: every element size and ISA, at sizes around the edges of tiles."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.kernels.copy import plan_copy
from litejit.kernels.transpose import TransposeSpec, tile_lanes

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def transposed(batch, a, b, itemsize, isa, cuts=()):
    """Turn `batch` matrices [a, b] into [b, a] and compare; returns the plan."""
    high = min(256**itemsize, 1 << 62)
    x = np.random.default_rng(a * 1000 + b).integers(0, high, (batch, a, b), np.int64)
    x = x.astype(UNSIGNED[itemsize])
    dims = [(batch, a * b * itemsize, a * b * itemsize), (b, itemsize, a * itemsize),
            (a, b * itemsize, itemsize)]  # fmt: skip
    plan = plan_copy(dims, itemsize, isa)
    y = np.full((batch, b, a), 0xEE, x.dtype)
    places = tuple(cut for cut in cuts if cut < plan.items)
    _, got = run(plan.spec, x, y, *plan.numbers, items=plan.items, isa=isa, cuts=places)
    np.testing.assert_array_equal(got, x.transpose(0, 2, 1))
    return plan


@BY_ISA
@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
def test_matrices_are_turned_at_the_edges_of_tiles(isa, itemsize):
    lanes = tile_lanes(itemsize, 999, 999, isa)
    for a in (lanes, lanes + 1, 2 * lanes - 1, 5 * lanes + 3):
        for b in (lanes, lanes + 1, 3 * lanes):
            plan = transposed(2, a, b, itemsize, isa, cuts=(1, 2))
            assert isinstance(plan.spec, TransposeSpec)


@BY_ISA
@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@pytest.mark.parametrize("few", [2, 3, 4, 5, 7])
def test_a_few_rows_or_columns_are_turned(isa, itemsize, few):
    for many in (16, 19, 70):
        transposed(2, few, many, itemsize, isa)
        transposed(2, many, few, itemsize, isa)


def test_large_matrices_are_cut_into_items_that_change_nothing():
    plan = transposed(1, 300, 333, 4, HOST_ISAS[0], cuts=(1, 5, 6, 20))
    assert plan.items > 20


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_isa_compiles(isa):
    for itemsize in (1, 2, 4, 8):
        lanes = tile_lanes(itemsize, 999, 999, isa)
        for rows, columns in ((0, 0), (1, 0), (0, 1)):
            spec = TransposeSpec(itemsize, lanes, rows, columns, 1)
            assert llvm.compile_ir(spec.emit("kernel", isa), isa)
