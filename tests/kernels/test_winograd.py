"""Winograd convolutions: right on every ISA at every border, with small errors."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run
from tests.kernels.test_conv_f32 import oracle

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.codegen.lang import f32
from litejit.kernels.gemm_f32 import Tile, pad_bias
from litejit.kernels.winograd import WinogradF32, scratch_floats, transform_weights

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


def winograd(isa, tile, shape, n, pad=(1, 1), out=None, *, block=5, epilogue=(), cuts=(), x=None):
    rng = np.random.default_rng(3)
    batch, h, wd, c = shape
    oh, ow = out or (h, wd)
    x = rng.standard_normal(shape, np.float32) if x is None else x
    w = (rng.standard_normal((3, 3, c, n)) * (2 / (9 * c)) ** 0.5).astype(np.float32)
    bias = rng.standard_normal(n, np.float32)
    residual = rng.standard_normal((batch, oh, ow, n), np.float32)
    across, block = -(-ow // 4), max(block, tile.rows)
    tiles = across * -(-oh // 4)
    scratch = np.zeros(scratch_floats(isa, tile, c, n, block), np.float32)
    items = batch * -(-tiles // block)
    columns = tile.columns(isa)
    got = run(
        WinogradF32(tile, n % isa.lanes(f32) != 0, epilogue), x, transform_weights(w, columns),
        pad_bias(bias, n, columns), np.full((batch, oh, ow, n), 7, np.float32), residual,
        scratch, scratch.size, h, wd, c, oh, ow, n, *pad, across, tiles, block,
        items=items, isa=isa, cuts=tuple(cut for cut in cuts if cut < items),
    )[3]  # fmt: skip
    want = oracle(x, w, bias, 1, 1, *pad, oh, ow)
    want = want + residual if "add" in epilogue else want
    return got, np.maximum(want, 0) if "relu" in epilogue else want


def close(got, want, bound=3e-6):
    assert np.abs(got - want).max() <= bound * np.ptp(want)


@BY_ISA
@pytest.mark.parametrize(
    "h, wd, pad, out",
    [
        (8, 8, (1, 1), (8, 8)),
        (5, 7, (1, 1), (5, 7)),
        (9, 6, (0, 0), (7, 4)),
        (1, 13, (2, 0), (3, 11)),
        (2, 2, (4, 5), (9, 10)),
    ],
)
def test_tiles_are_right_at_every_border(isa, h, wd, pad, out):
    lanes = isa.lanes(f32)
    for c, n, tile in ((3, lanes, Tile(4, 1)), (lanes + 1, 2 * lanes + 3, Tile(3, 2))):
        close(*winograd(isa, tile, (2, h, wd, c), n, pad, out))


@BY_ISA
def test_cuts_change_no_bit_and_epilogues_run_in_order(isa):
    case = (isa, Tile(4, 2), (2, 11, 18, 9), 3 * isa.lanes(f32) - 1)
    whole, want = winograd(*case, epilogue=("add", "relu"))
    cut, _ = winograd(*case, epilogue=("add", "relu"), cuts=(1, 3, 4))
    close(whole, want)
    assert whole.tobytes() == cut.tobytes()


@pytest.mark.parametrize("kind", ["normal", "relu", "uniform", "image", "shifted"])
def test_errors_stay_far_below_a_hundred_thousandth_of_the_range(kind):
    rng = np.random.default_rng(5)
    shape = (1, 12, 12, 256)
    x = {
        "normal": rng.standard_normal(shape),
        "relu": np.maximum(rng.standard_normal(shape), 0),
        "uniform": rng.random(shape) * 6,
        "image": rng.integers(0, 256, shape),
        "shifted": rng.standard_normal(shape) + 10,
    }[kind].astype(np.float32)
    close(*winograd(HOST_ISAS[0], Tile(7, 2), shape, 32, x=x, block=9), 4e-6)


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_kernels_compile_for_every_isa(isa):
    spec = WinogradF32(Tile(4, 2), True, ("add", "relu6"))
    assert llvm.compile_ir(spec.emit("kernel", isa), isa)
