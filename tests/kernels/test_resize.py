"""Picked and interpolated pixels: every ISA, depths around the edges of vectors."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.kernels.resize import BilinearSpec, PickSpec, pick_spec
from litejit.types import F32, I8, U8

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
DEPTHS = [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130, 200]


def image(depth, dtype):
    rng = np.random.default_rng(depth)
    if dtype is F32:
        return rng.standard_normal((2, 5, 4, depth)).astype(np.float32)
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max, (2, 5, 4, depth), dtype.numpy, endpoint=True)


@BY_ISA
def test_pixels_of_any_size_are_picked(isa):
    rows, columns = np.array([4, 0, 2, 2, 1, 3, 0]), np.array([3, 3, 0, 1, 2])
    for depth in DEPTHS:
        x = image(depth, U8)
        y = np.zeros((2, 7, 5, depth), np.uint8)
        args = (rows * 4 * depth, columns * depth, 7, 5, 20 * depth, depth)
        spec = pick_spec(depth, isa.vector_bytes)
        got = run(spec, x, y, *args, items=14, isa=isa, cuts=(3, 9))[1]
        np.testing.assert_array_equal(got, x[:, rows][:, :, columns])


def weights(dtype, count, size):
    rng = np.random.default_rng(count)
    lower = rng.integers(0, size, count)
    upper = np.minimum(lower + 1, size - 1)
    second = rng.integers(0, 1025, count)
    first = 1024 - second
    if dtype is I8:
        return lower, upper, first.astype(np.int32), second.astype(np.int32)
    return lower, upper, (first / 1024).astype(np.float32), (second / 1024).astype(np.float32)


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, U8, I8], ids=str)
def test_four_pixels_are_mixed(isa, dtype):
    y0, y1, vy, wy = weights(dtype, 7, 5)
    x0, x1, vx, wx = weights(dtype, 6, 4)
    for depth in DEPTHS:
        x = image(depth, dtype)
        pairs = [np.stack(pair, 1) for pair in ((y0, y1), (x0, x1), (vy, wy), (vx, wx))]
        pairs[0], pairs[1] = pairs[0] * 4 * depth, pairs[1] * depth
        y = np.zeros((2, 7, 6, depth), dtype.numpy)
        args = (*pairs, 7, 6, 20 * depth, depth)
        got = run(BilinearSpec(dtype), x, y, *args, items=14, isa=isa, cuts=(5,))[1]
        a = x.astype(np.float64)
        down = a[:, y0] * vy[:, None, None] + a[:, y1] * wy[:, None, None]
        total = down[:, :, x0] * vx[:, None] + down[:, :, x1] * wx[:, None]
        if dtype is F32:
            np.testing.assert_allclose(got, total, rtol=1e-5, atol=1e-6)
        elif dtype is U8:  # exact in float32 as in float64: few bits
            np.testing.assert_array_equal(got, np.floor(total + 0.5))
        else:
            rounded = np.floor(np.abs(total) / 2**20 + 0.5)
            np.testing.assert_array_equal(got, np.copysign(rounded, total))


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_isa_compiles(isa):
    for spec in (BilinearSpec(F32), BilinearSpec(I8), PickSpec(16, 0), PickSpec(1, 1)):
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
