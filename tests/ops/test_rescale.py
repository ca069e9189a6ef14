"""QUANTIZE between integers of different widths: the kernel beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.reducing import arg, run

from litejit.types import I8, I16, I32, U8

PAIRS = [(I32, I8), (I32, I16), (I16, I8), (I16, I16), (I16, I32), (I8, I16), (U8, I16), (U8, I8)]


@pytest.mark.parametrize("ratio", [1e-6, 0.003, 0.5, 1.0, 1.7, 3000.0])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_kernels_rescale_as_numpy_does(source, target, ratio):
    rng = np.random.default_rng(5)
    info = np.iinfo(source.numpy)
    x = rng.integers(info.min, int(info.max) + 1, (3, 37)).astype(source.numpy)
    x[0] = rng.integers(0, 100, 37)
    zero = 0 if (source, target) == (I16, I16) else 3
    run(
        "QUANTIZE", None, [arg(x, source, scale=0.01 * ratio, zero_point=zero)],
        [(target, 0.01, -zero)], compiled=target is not I32 or ratio < 100,
    )  # fmt: skip
