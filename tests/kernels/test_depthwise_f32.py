"""Depthwise convolutions: every ISA, windows, paddings and channel counts around the edges."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.codegen.lang import f32
from litejit.kernels.depthwise_f32 import DepthwiseF32, DepthwiseRollF32, RepeatChannelsF32

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


def oracle(x, w, bias, sh, sw, top, left, oh, ow, dh=1, dw=1):
    n, h, wd, c = x.shape
    kh, kw = w.shape[:2]
    big = np.zeros((n, h + 99, wd + 99, c))
    big[:, top : top + h, left : left + wd] = x
    y = np.zeros((n, oh, ow, c)) + bias
    for i in range(kh):
        for j in range(kw):
            rows = big[:, i * dh : i * dh + oh * sh : sh][:, :oh]
            y += rows[:, :, j * dw : j * dw + ow * sw : sw][:, :, :ow] * w[i, j]
    return y


def make(n, h, wd, c, kh, kw, oh, ow, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, h, wd, c), np.float32)
    w, bias = rng.standard_normal((kh, kw, c), np.float32), rng.standard_normal(c, np.float32)
    return (
        x,
        w,
        bias,
        np.full((n, oh, ow, c), 7, np.float32),
        rng.standard_normal((n, oh, ow, c), np.float32),
    )


def roll(isa, c, kernel, stride, h, wd, top, left, oh, ow, rows, *, epilogue=(), cuts=(), n=2):
    x, w, bias, y, residual = make(n, h, wd, c, kernel, kernel, oh, ow)
    lanes = isa.lanes(f32)
    missing = max(0, (ow - 1) * stride + kernel - left - wd)
    spec = DepthwiseRollF32(
        kernel, kernel, stride, stride, left, missing, rows, c < lanes, epilogue
    )
    across = -(-c // lanes)
    items = n * -(-oh // rows) * across
    zeros = np.zeros(wd * c + 16, np.float32)
    got = run(
        spec, x, w, bias, y, residual, zeros, h, wd, c, oh, ow, top, 1, across,
        items=items, isa=isa, cuts=tuple(cut for cut in cuts if cut < items),
    )[3]  # fmt: skip
    want = oracle(x, w, bias, stride, stride, top, left, oh, ow)
    want = want + residual if "add" in epilogue else want
    return got, np.clip(want, 0, 6) if "relu6" in epilogue else want


def close(got, want):
    assert np.abs(got - want).max() <= 3e-6 * np.abs(want).max()


@BY_ISA
@pytest.mark.parametrize(
    "kernel, stride, h, wd, top, left, oh, ow",
    [
        (3, 1, 5, 6, 1, 1, 5, 6),
        (3, 1, 6, 5, 0, 0, 4, 3),
        (3, 1, 4, 4, 2, 2, 4, 4),
        (3, 1, 3, 3, 0, 0, 3, 3),
        (3, 2, 6, 6, 0, 0, 3, 3),
        (3, 2, 7, 7, 1, 1, 4, 4),
        (5, 1, 6, 7, 2, 2, 6, 7),
        (5, 2, 8, 8, 1, 1, 4, 4),
        (2, 2, 6, 6, 0, 0, 3, 3),
        (1, 2, 5, 5, 0, 0, 3, 3),
        (4, 3, 9, 9, 1, 1, 3, 3),
    ],
)
def test_rolling_sums_are_right_at_every_border(isa, kernel, stride, h, wd, top, left, oh, ow):
    lanes = isa.lanes(f32)
    for c, rows in ((lanes, 1), (2 * lanes + 3, 2), (lanes - 1, 3)):
        close(*roll(isa, c, kernel, stride, h, wd, top, left, oh, ow, min(rows, oh)))


@BY_ISA
def test_cuts_change_no_bit_and_epilogues_run_in_order(isa):
    case = (isa, 2 * isa.lanes(f32) + 1, 3, 1, 9, 6, 1, 1, 9, 6, 2)
    whole, want = roll(*case, epilogue=("add", "relu6"))
    cut, _ = roll(*case, epilogue=("add", "relu6"), cuts=(1, 5, 6, 17))
    close(whole, want)
    assert whole.tobytes() == cut.tobytes()


@BY_ISA
@pytest.mark.parametrize(
    "kernel, stride, dilation, h, wd, top, left, oh, ow",
    [
        (3, 1, 2, 7, 8, 2, 2, 7, 8),
        (3, 2, 3, 9, 9, 3, 3, 5, 5),
        (7, 1, 1, 3, 3, 3, 3, 3, 3),
        (3, 1, 4, 3, 2, 4, 4, 3, 2),
        (2, 1, 1, 2, 2, 5, 5, 9, 9),
    ],
)
def test_any_window_is_right(isa, kernel, stride, dilation, h, wd, top, left, oh, ow):
    lanes = isa.lanes(f32)
    for c, vectors in ((lanes, 1), (3 * lanes - 1, 2), (lanes - 1, 1)):
        x, w, bias, y, residual = make(2, h, wd, c, kernel, kernel, oh, ow)
        across = -(-c // (lanes * vectors))
        got = run(
            DepthwiseF32(vectors, c < lanes), x, w, bias, y, residual, 0, h, wd, c, oh, ow, top,
            1, across, kernel, kernel, stride, stride, dilation, dilation, left,
            items=2 * oh * across, isa=isa, cuts=(1, 3),
        )[3]  # fmt: skip
        close(got, oracle(x, w, bias, stride, stride, top, left, oh, ow, dilation, dilation))


@BY_ISA
def test_repeated_channels_keep_their_order(isa):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    y = run(RepeatChannelsF32(), x, np.zeros((4, 6), np.float32), 3, 2, items=4, isa=isa)[1]
    assert (y == np.repeat(x, 2, axis=1)).all()


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_kernels_compile_for_every_isa(isa):
    specs = (DepthwiseRollF32(3, 3, 2, 2, 0, 1, 2, True, ("relu6",)), DepthwiseF32(2))
    for spec in specs:
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
