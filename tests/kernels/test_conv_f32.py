"""Convolutions with a window: every ISA, borders, strides, dilations, groups, channel counts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.codegen.lang import f32
from litejit.kernels.conv_f32 import ConvF32, scratch_floats
from litejit.kernels.gemm_f32 import Tile, pack_panels, pad_bias

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


def oracle(x, w, bias, sh, sw, top, left, oh, ow, dh=1, dw=1):
    """w is [kh, kw, c, n]; cells outside the image count as 0."""
    n, h, wd, c = x.shape
    kh, kw = w.shape[:2]
    big = np.zeros((n, h + 99, wd + 99, c))
    big[:, top : top + h, left : left + wd] = x
    y = np.zeros((n, oh, ow, w.shape[3])) + bias
    for i in range(kh):
        for j in range(kw):
            rows = big[:, i * dh : i * dh + oh * sh : sh][:, :oh]
            y += rows[:, :, j * dw : j * dw + ow * sw : sw][:, :, :ow] @ w[i, j].astype(np.float64)
    return y


def conv(isa, tile, shape, kernel, n, out, *, stride=1, pad=(0, 0), dilation=1, epilogue=(),
         cuts=(), rows=2, panels=1):  # fmt: skip
    rng = np.random.default_rng(1)
    batch, h, wd, c = shape
    kh, kw = kernel
    oh, ow = out
    x = rng.standard_normal(shape, np.float32)
    w = rng.standard_normal((kh, kw, c, n), np.float32)
    bias = rng.standard_normal(n, np.float32)
    residual = rng.standard_normal((batch, oh, ow, n), np.float32)
    columns, span = tile.columns(isa), (kw - 1) * dilation + 1
    taps, run_length = (1, kw * c) if dilation == 1 else (kw, c)
    scratch = np.zeros(scratch_floats(kh, span, stride, c, tile), np.float32)
    across = -(-(-(-n // columns)) // panels)  # noqa: B002
    parts = -(-ow // (2 * tile.rows))
    items = batch * -(-oh // rows) * parts * across
    got = run(
        ConvF32(tile, n % columns != 0, epilogue), x, pack_panels(w.reshape(-1, n), columns),
        pad_bias(bias, n, columns), np.full((batch, oh, ow, n), 7, np.float32), residual, scratch,
        scratch.size, h, wd, c, oh, ow, n, n, ow * n, oh * ow * n,
        kh, stride, stride, *pad, dilation, span, taps,
        dilation * c, run_length, rows, 2, panels, parts, across,
        items=items, isa=isa, cuts=tuple(cut for cut in cuts if cut < items),
    )[3]  # fmt: skip
    want = oracle(x, w, bias, stride, stride, *pad, oh, ow, dilation, dilation)
    want = want + residual if "add" in epilogue else want
    return got, np.maximum(want, 0) if "relu" in epilogue else want


def close(got, want):
    assert np.abs(got - want).max() <= 3e-6 * np.abs(want).max()


@BY_ISA
@pytest.mark.parametrize(
    "shape, kernel, out, stride, pad, dilation",
    [
        ((2, 5, 6, 3), (3, 3), (5, 6), 1, (1, 1), 1),
        ((1, 9, 8, 3), (3, 3), (5, 4), 2, (1, 1), 1),
        ((1, 8, 8, 3), (3, 3), (4, 4), 2, (0, 0), 1),
        ((1, 6, 7, 1), (5, 5), (6, 7), 1, (2, 2), 1),
        ((1, 6, 7, 5), (3, 3), (6, 7), 1, (2, 2), 2),
        ((2, 1, 17, 4), (1, 3), (1, 13), 1, (0, 0), 2),
        ((1, 3, 3, 2), (3, 3), (9, 9), 1, (5, 5), 1),
        ((1, 2, 2, 2), (3, 3), (4, 4), 1, (4, 4), 3),
        ((1, 10, 7, 1), (10, 4), (5, 4), 2, (4, 1), 1),
        ((1, 5, 5, 20), (1, 1), (3, 3), 2, (0, 0), 1),
    ],
)
def test_windows_are_right_at_every_border(isa, shape, kernel, out, stride, pad, dilation):
    lanes = isa.lanes(f32)
    for rows, vectors, n in ((1, 1, lanes), (3, 2, 2 * lanes + 3), (4, 1, 1)):
        tile = Tile(min(rows, out[1]), vectors)
        close(*conv(isa, tile, shape, kernel, n, out, stride=stride, pad=pad, dilation=dilation))


@BY_ISA
def test_cuts_change_no_bit_and_epilogues_run_in_order(isa):
    case = (isa, Tile(4, 2), (2, 7, 9, 3), (3, 3), 5 * isa.lanes(f32) + 1, (7, 9))
    whole, want = conv(*case, pad=(1, 1), epilogue=("add", "relu"))
    cut, _ = conv(*case, pad=(1, 1), epilogue=("add", "relu"), cuts=(1, 2, 7))
    close(whole, want)
    assert whole.tobytes() == cut.tobytes()


@BY_ISA
def test_groups_read_and_write_their_channels_only(isa):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 5, 7, 6), np.float32)
    w, tile = rng.standard_normal((3, 3, 3, 4), np.float32), Tile(3, 1)
    columns = tile.columns(isa)
    scratch = np.zeros(scratch_floats(3, 3, 1, 6, tile), np.float32)
    y = np.full((1, 5, 7, 8), 7, np.float32)
    shifted = np.roll(x.ravel(), -3)  # what a pointer to channel 3 sees
    got = run(
        ConvF32(tile, True), shifted, pack_panels(w.reshape(-1, 4), columns),
        pad_bias(None, 4, columns), y, y, scratch,
        scratch.size, 5, 7, 6, 5, 7, 4, 8, 56, 280, 3, 1, 1,
        1, 1, 1, 3, 3, 6, 3, 5, 9, 1, 1, 1, items=1, isa=isa,
    )[3]  # fmt: skip
    close(got[..., :4], oracle(x[..., 3:], w, np.zeros(4), 1, 1, 1, 1, 5, 7))
    assert (got[..., 4:] == 7).all()


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_kernels_compile_for_every_isa(isa):
    assert llvm.compile_ir(ConvF32(Tile(4, 2), True, ("relu6",)).emit("kernel", isa), isa)
