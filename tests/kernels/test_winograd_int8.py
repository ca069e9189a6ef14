"""Exact Winograd convolutions of bytes against NumPy's direct ones."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels import oracle_int8 as oracle
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS
from litejit.codegen.lang import i16, i32
from litejit.kernels import epilogue_int8 as ep
from litejit.kernels import packing_int8 as packing
from litejit.kernels.winograd_int8 import WinogradInt8, pack_weights, scratch_bytes

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


def winograd(isa, spec, shape, n, pad=(1, 1), out=None, *, block=5, cuts=(), extreme=False,
             residual=None):  # fmt: skip
    """(what the kernel makes, what it should make before a residual, the residual's numbers)."""
    rng = np.random.default_rng(5)
    (h, wd, depth), (oh, ow) = shape, out or shape[:2]
    s = oracle.Scaling(rng, n, 9 * depth, unsigned=spec.unsigned)
    x = rng.integers(s.low, s.high + 1, shape).astype(s.dtype)
    low, high = (-255, 256) if spec.unsigned else (-128, 128)
    w = rng.integers(low, high, (3, 3, n, depth))
    if extreme:  # the largest sums that there can be
        x[:], w[:] = s.high, high - 1
        w[:, :, ::2] = low
    lanes = isa.lanes(i32)
    order = packing.channel_order(n, lanes, spec.vectors)
    panels = len(order) // lanes // spec.vectors
    across, block = -(-ow // 4), max(block, spec.rows)
    tiles = across * -(-oh // 4)
    scratch = scratch_bytes(isa, spec, depth, panels, block)
    channels = oracle.channel_block(lanes, order, spec.epilogue, s, w.sum((0, 1, 3)), 0)
    add = None
    if residual is not None:
        add = ep.AddNumbers((1 << 30, 0), (1 << 30, 0), (1 << 30, -18), 0, 0, 0, s.low, s.high,
                            (4, 4, 1, 2))  # fmt: skip
    items = -(-tiles // block)
    got = run(
        spec, x, pack_weights(w, order, lanes * spec.vectors), channels,
        np.zeros(scratch, np.uint8), np.zeros((oh, ow, n), s.dtype),
        ep.common_constants(lanes, s.low, s.high, add), 0 if residual is None else residual, 0,
        scratch, h, wd, depth, oh, ow, n, max(n - lanes, 0), *pad, s.input_zero, across, tiles,
        block, panels, items=items, isa=isa, cuts=tuple(cut for cut in cuts if cut < items),
    )[4]  # fmt: skip
    rows = oracle.conv_windows(x, s.input_zero, 3, 3, (1, 1), (1, 1), pad, (oh, ow))
    acc = np.einsum("tmk,tnk->mn", rows - s.input_zero, w.reshape(9, n, depth)) + s.bias
    return got, s.finish(acc).reshape(oh, ow, n)


def spec_of(isa, n, depth, *, rows=4, vectors=1, unsigned=False, **epilogue):
    narrow = n if n < isa.lanes(i32) else 0
    half = depth <= isa.lanes(i16) // 2
    numbers = ep.Epilogue("u64", unsigned, narrow=narrow, **epilogue)
    return WinogradInt8(rows, vectors, numbers, unsigned, half)


@BY_ISA
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize(
    "size, pad, out",
    [
        ((8, 8), (1, 1), (8, 8)),
        ((5, 7), (1, 1), (5, 7)),
        ((9, 6), (0, 0), (7, 4)),
        ((2, 13), (2, 0), (4, 11)),
        ((2, 2), (4, 5), (9, 10)),
    ],
)
def test_tiles_are_exact_at_every_border(isa, unsigned, size, pad, out):
    lanes = isa.lanes(i32)
    for depth, n, rows, vectors in ((3, lanes, 4, 1), (2 * lanes + 5, 2 * lanes + 3, 3, 2),
                                    (lanes, 5, 2, 1)):  # fmt: skip
        spec = spec_of(isa, n, depth, rows=rows, vectors=vectors, unsigned=unsigned)
        got, want = winograd(isa, spec, (*size, depth), n, pad, out)
        np.testing.assert_array_equal(got, want)


@BY_ISA
@pytest.mark.parametrize("unsigned", [False, True])
def test_the_largest_sums_wrap_without_harm(isa, unsigned):
    depth = 57 if unsigned else 113  # 9 * depth * 255 * (255 or 128) stays below 2^25
    spec = spec_of(isa, 6, depth, unsigned=unsigned)
    got, want = winograd(isa, spec, (6, 6, depth), 6, extreme=True)
    np.testing.assert_array_equal(got, want)


@BY_ISA
def test_cuts_change_nothing(isa):
    spec = spec_of(isa, 19, 9, vectors=2)
    got, want = winograd(isa, spec, (18, 21, 9), 19, cuts=(1, 3, 4))
    np.testing.assert_array_equal(got, want)


@BY_ISA
def test_residuals_are_added_at_their_places(isa):
    rng = np.random.default_rng(7)
    residual = rng.integers(-128, 128, (7, 6, 20)).astype(np.int8)
    spec = spec_of(isa, 20, 8, vectors=1, clamp=True, add="linear", add_clamp=True)
    got, plain = winograd(isa, spec, (7, 6, 8), 20, residual=residual)
    want = np.clip(plain + residual.astype(np.int64), -128, 127)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_the_kernel_compiles_for_every_instruction_set(isa):
    assert llvm.compile_ir(spec_of(isa, 40, 40, rows=2, vectors=2).emit("kernel", isa), isa)
