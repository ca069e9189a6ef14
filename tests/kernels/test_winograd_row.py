"""Three taps in a row by F(4, 3): right on every ISA, for every dilation, with small errors."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS
from litejit.codegen.lang import f32
from litejit.kernels.gemm_f32 import Tile, pad_bias
from litejit.kernels.winograd_row import WinogradRowF32, scratch_floats, transform_weights

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


def expected(x, w, bias, left, dilation, ow):
    lines, wd, c = x.shape
    wide = np.zeros((lines, left + wd + ow + 3 * dilation, c))
    wide[:, left : left + wd] = x
    parts = [wide[:, k * dilation : k * dilation + ow] @ w[k].astype(np.float64) for k in range(3)]
    return sum(parts) + bias


def row(isa, tile, lines, wd, c, n, left, dilation, ow, *, block=5, epilogue=(), cuts=()):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((lines, wd, c), np.float32)
    w = (rng.standard_normal((3, c, n)) * (2 / (3 * c)) ** 0.5).astype(np.float32)
    bias = rng.standard_normal(n, np.float32)
    residual = rng.standard_normal((lines, ow, n), np.float32)
    columns, block = tile.columns(isa), max(block, tile.rows)
    per_phase = -(-ow // (4 * dilation))
    tiles = lines * dilation * per_phase
    scratch = np.zeros(scratch_floats(isa, tile, c, n, block), np.float32)
    items = -(-tiles // block)
    got = run(
        WinogradRowF32(tile, n % isa.lanes(f32) != 0, epilogue), x, transform_weights(w, columns),
        pad_bias(bias, n, columns), np.full((lines, ow, n), 7, np.float32), residual,
        np.zeros(c + 2 * isa.lanes(f32), np.float32), scratch, scratch.size, wd, c, ow, n, left,
        dilation, per_phase, dilation * per_phase, tiles, block,
        items=items, isa=isa, cuts=tuple(cut for cut in cuts if cut < items),
    )[3]  # fmt: skip
    want = expected(x, w, bias, left, dilation, ow)
    want = want + residual if "add" in epilogue else want
    return got, np.maximum(want, 0) if "relu" in epilogue else want


@BY_ISA
@pytest.mark.parametrize(
    "lines, wd, left, dilation, ow",
    [(1, 20, 1, 1, 20), (3, 22, 0, 1, 20), (1, 25, 3, 3, 25), (2, 40, 4, 5, 39), (1, 4, 2, 1, 6)],
)
def test_tiles_are_right_for_every_dilation(isa, lines, wd, left, dilation, ow):
    lanes = isa.lanes(f32)
    for c, n, tile in ((3, lanes, Tile(4, 1)), (lanes + 1, 2 * lanes + 3, Tile(3, 2))):
        got, want = row(isa, tile, lines, wd, c, n, left, dilation, ow)
        assert np.abs(got - want).max() <= 1e-6 * np.ptp(want)


@BY_ISA
def test_cuts_change_no_bit_and_epilogues_run_in_order(isa):
    case = (isa, Tile(4, 2), 2, 50, 24, 2 * isa.lanes(f32) - 1, 2, 2, 50)
    whole, want = row(*case, epilogue=("add", "relu"))
    cut, _ = row(*case, epilogue=("add", "relu"), cuts=(1, 3, 4))
    assert np.abs(whole - want).max() <= 1e-6 * np.ptp(want)
    assert whole.tobytes() == cut.tobytes()


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_the_kernel_compiles_for_every_instruction_set(isa):
    assert llvm.compile_ir(WinogradRowF32(Tile(4, 2), True, ("add",)).emit("kernel", isa), isa)
