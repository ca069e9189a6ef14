"""The kernel language where what LLVM makes of it is not what it says."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels import harness

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Ptr, Type, i8, i16, i32, i64
from litejit.kernels.base import KernelSpec

NUMPY = {i8: np.int8, i16: np.int16, i32: np.int32, i64: np.int64}


class NarrowingSpec(KernelSpec):
    """y[j] = x[j], narrowed, for the first `count` lanes of a vector."""

    source: Type
    target: Type
    count: int

    def emit(self, name: str, isa: Isa) -> str:
        lanes = isa.lanes(self.source)
        fn = Function(name, isa, x=Ptr(self.source), y=Ptr(self.target))
        x, y = fn.args
        mask = fn.first(fn.const(self.count, i64), lanes)
        y.store(0, x.load(0, lanes=lanes).to(self.target), mask=mask)
        return fn.ir()


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("source, target", [(i32, i16), (i32, i8), (i16, i8), (i64, i32)])
def test_masked_stores_of_narrowed_lanes_write_no_other_lane(
    source: Type, target: Type, isa: Isa
) -> None:
    lanes = isa.lanes(source)
    x = np.arange(1, lanes + 1, dtype=NUMPY[source])
    for count in (1, lanes - 1, lanes):
        y = np.zeros(count, NUMPY[target])
        _, y = harness.run(NarrowingSpec(source, target, count), x, y, items=1, isa=isa)
        np.testing.assert_array_equal(y, x[:count])
