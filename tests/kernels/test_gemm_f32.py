"""Matrix products: every ISA, sizes around the edges of tiles, cuts that change no bit."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.codegen.lang import f32
from litejit.kernels import gemm_f32
from litejit.kernels.gemm_f32 import (
    DotF32,
    GemmF32,
    Tile,
    TransposePanelsF32,
    choose_tile,
    pack_panels,
    pad_bias,
)

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


def close(got: np.ndarray, want: np.ndarray) -> None:
    span = max(float(np.ptp(want)), float(np.abs(want).max(initial=0.0)), 1e-3)
    assert float(np.abs(got - want).max(initial=0.0)) <= 3e-6 * span


def product(isa, tile, m, n, k, *, epilogue=(), tiles=2, panels=1, cuts=(), ahead=False, seed=0):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    bias, residual = rng.standard_normal(n, np.float32), rng.standard_normal((m, n), np.float32)
    columns = tile.columns(isa)
    spec = GemmF32(tile, n % columns != 0, epilogue, ahead)
    across = ceil(ceil(n / columns) / panels)
    items = -(-m // (tile.rows * tiles)) * across
    operands = (
        x, pack_panels(w, columns), pad_bias(bias, n, columns), np.full((m, n), 7, np.float32),
        residual, m, n, k, k, 1, n, columns, columns * k, 0, 0, 0, tiles, panels, items, across,
    )  # fmt: skip
    got = run(spec, *operands, items=items, isa=isa, cuts=tuple(c for c in cuts if c < items))[3]
    want = x.astype(np.float64) @ w + bias
    if "add" in epilogue:
        want = want + residual
    return got, np.maximum(want, 0) if "relu" in epilogue else want


@BY_ISA
@pytest.mark.parametrize("rows, vectors", [(1, 1), (1, 4), (3, 2), (6, 2), (4, 3)])
def test_products_are_right_around_the_edges_of_a_tile(isa, rows, vectors):
    tile, lanes = Tile(rows, vectors), isa.lanes(f32)
    for m in (rows, rows + 1, 3 * rows + 2):
        for n in (1, lanes - 1, lanes + 1, vectors * lanes, vectors * lanes + 1):
            for k in (1, 2, 5):
                close(*product(isa, tile, m, n, k))


@BY_ISA
def test_epilogues_add_the_residual_before_the_activation(isa):
    close(*product(isa, Tile(4, 2), 9, 3 * isa.lanes(f32), 7, epilogue=("add", "relu")))


@BY_ISA
def test_fetching_ahead_changes_no_bit(isa):
    plain, want = product(isa, Tile(4, 2), 37, 5 * isa.lanes(f32) + 3, 9)
    ahead, _ = product(isa, Tile(4, 2), 37, 5 * isa.lanes(f32) + 3, 9, ahead=True)
    close(ahead, want)
    assert plain.tobytes() == ahead.tobytes()


@BY_ISA
def test_cuts_change_no_bit(isa):
    whole, _ = product(isa, Tile(4, 2), 37, 5 * isa.lanes(f32) + 3, 9)
    cut, _ = product(isa, Tile(4, 2), 37, 5 * isa.lanes(f32) + 3, 9, cuts=(1, 4, 5))
    assert whole.tobytes() == cut.tobytes()


def test_nan_and_infinity_pass_the_clamps():
    x = np.array([[np.nan, np.inf, -np.inf, 2.0]], np.float32).T.copy()
    isa = HOST_ISAS[0]
    columns = isa.lanes(f32)
    clamps = {"relu": [np.inf, 0, 2], "relu6": [6, 0, 2], "relu_n1_to_1": [1, -1, 1]}
    for word, want in clamps.items():
        spec = GemmF32(Tile(4, 1), True, (word,))
        w = pack_panels(np.ones((1, 1), np.float32), columns)
        y = run(
            spec, x, w, pad_bias(None, 1, columns), np.zeros((4, 1), np.float32), x,
            4, 1, 1, 1, 1, 1, columns, columns, 0, 0, 0, 1, 1, 1, 1, items=1, isa=isa,
        )[3]  # fmt: skip
        assert np.isnan(y[0, 0])
        assert y[1:, 0].tolist() == want


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_tile_that_is_chosen_compiles_and_fits_the_matrix(isa):
    chosen = {choose_tile(isa, m, n) for m in (1, 2, 3, 5, 7, 49, 196) for n in (1, 24, 64, 1000)}
    for m in range(1, 40):
        assert choose_tile(isa, m, 96).rows <= m
    for tile in list(chosen)[:3]:
        assert llvm.compile_ir(GemmF32(tile, True, ("add", "relu6")).emit("kernel", isa), isa)


def test_padding_of_panels_is_zero():
    packed = pack_panels(np.ones((2, 3), np.float32), 4)
    assert packed.shape == (1, 2, 4)
    assert packed[..., 3].sum() == 0
    assert gemm_f32.pad_bias(None, 3, 4).tolist() == [0] * 4


@BY_ISA
def test_panels_transposed_at_run_time_are_those_packed_before(isa):
    lanes = isa.lanes(f32)
    for n, k in ((1, 1), (lanes + 1, 2 * lanes + 3), (4 * lanes, lanes)):
        w = np.random.default_rng(4).standard_normal((2, n, k), np.float32)
        panels = ceil(n / (2 * lanes))
        packed = np.zeros((2, panels, k, 2 * lanes), np.float32)
        got = run(
            TransposePanelsF32(2), w, packed, n, k, k, n * k, packed[0].size, panels,
            2 * lanes, 2 * lanes * k, items=2 * panels, isa=isa, cuts=(1,),
        )[1]  # fmt: skip
        for batch in range(2):
            flat = got[batch].transpose(1, 0, 2).reshape(k, -1)[:, :n]
            assert (flat == w[batch].T).all()
        beside = np.zeros((2, k, panels * 2 * lanes), np.float32)
        got = run(
            TransposePanelsF32(2), w, beside, n, k, k, n * k, beside[0].size, panels,
            panels * 2 * lanes, 2 * lanes, items=2 * panels, isa=isa, cuts=(1,),
        )[1]  # fmt: skip
        assert (got[..., :n] == w.transpose(0, 2, 1)).all()


@BY_ISA
def test_single_columns_are_right_around_the_edges_of_a_vector(isa):
    lanes = isa.lanes(f32)
    rng = np.random.default_rng(6)
    for m in (lanes, lanes + 1, 3 * lanes - 1):
        for k in (1, lanes, 2 * lanes + 3):
            x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal(k, np.float32)
            bias, residual = rng.standard_normal(1, np.float32), rng.standard_normal(m, np.float32)
            padded = np.concatenate([w, np.zeros(-k % lanes, np.float32)])
            got = run(
                DotF32(("add", "relu")), x, padded, bias, np.zeros(m, np.float32), residual,
                m, k, k, items=ceil(m / lanes), isa=isa, cuts=(1,),
            )[3]  # fmt: skip
            close(got, np.maximum(x.astype(np.float64) @ w + bias + residual, 0))
