"""Each rescaling form against the gemmlowp rule written out, on extremes, ties and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen.isa import ISAS, Isa
from litejit.codegen.lang import Function, Ptr, i8, i32, i64
from litejit.kernels import requantize
from litejit.kernels.base import KernelSpec


class RescaleSpec(KernelSpec):
    form: str
    unsigned: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        lanes = isa.lanes(i32)
        fn = Function(name, isa, x=Ptr(i32), y=Ptr(i8), c=Ptr(i8), blocks=i64)
        x, y, c, blocks = fn.args
        size = requantize.nbytes(self.form, lanes)
        with fn.loop(fn.end, start=fn.begin) as row, fn.loop(blocks) as block:
            at = row * blocks * lanes + block * lanes
            constants = requantize.load(self.form, c + block * size, lanes)
            result = requantize.apply(self.form, isa, (x + at).load(lanes=lanes), constants)
            (y + at).store(0, requantize.narrow(result, unsigned=self.unsigned))
        return fn.ir()


def rounded(x, m, shift):
    """MultiplyByQuantizedMultiplier with Python integers' room."""
    x = (x.astype(np.int64) << np.maximum(shift, 0)) & 0xFFFFFFFF
    product = np.where(x >= 1 << 31, x - (1 << 32), x) * m
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    first = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    e = np.maximum(-shift, 0)
    mask = (np.int64(1) << e) - 1
    return (first >> e) + ((first & mask) > (mask >> 1) + (first < 0))


def rescaled(isa, form, x, m, shift, zero_point):
    lanes = isa.lanes(i32)
    block = requantize.constants(form, lanes, m, shift, zero_point)
    biased = (x + requantize.input_offset(form)).astype(np.uint32).view(np.int32)
    y = np.zeros(x.shape, np.int8)
    return run(
        RescaleSpec(form), biased, y, block, x.shape[1] // lanes, items=len(x), isa=isa
    )[1]


def hard_values(rng, m, shift, limit, rows=240):
    """Values at and beside the thresholds between results, random ones and the extremes."""
    e = np.maximum(-shift, 0)
    left = np.maximum(shift, 0)
    k = rng.integers(-260, 261, (rows, len(m)))
    x = np.floor((k + 0.5) * 2.0 ** (31 + e - left) / m) + rng.integers(-1, 2, k.shape)
    x[: rows // 4] = rng.integers(-limit, limit + 1, (rows // 4, len(m)))
    x[0], x[1], x[2], x[3], x[4] = -limit, limit, 0, -1, 1
    return np.clip(x, -limit, limit).astype(np.int64)


def multipliers(rng, trial, channels=64):
    m = rng.integers(1 << 30, 1 << 31, channels)
    if trial == 1:
        m = (m >> 24) << 24
    if trial == 2:
        m[::2], m[1::2] = 1 << 30, (1 << 31) - 1
    return m


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("trial", range(3))
@pytest.mark.parametrize("form", ["u64", "u64r"])
def test_narrow_forms_equal_two_roundings(isa, trial, form):
    rng = np.random.default_rng(trial)
    m, shift = multipliers(rng, trial), -rng.integers(0, 20, 64)
    zero_point = int(rng.integers(-128, 128))
    x = hard_values(rng, m, shift, (1 << 29) - 1)
    assert requantize.best_form(m, shift, zero_point, 1 << 29) == "u64"
    low = zero_point if form == "u64r" else -128
    want = np.clip(rounded(x, m, shift) + zero_point, low, 127)
    np.testing.assert_array_equal(
        np.maximum(rescaled(isa, form, x, m, shift, zero_point), low), want
    )


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("trial", range(3))
def test_wide_form_takes_every_value_and_shift(isa, trial):
    rng = np.random.default_rng(trial + 10)
    m, shift = multipliers(rng, trial), rng.integers(-31, 9, 64)
    zero_point = int(rng.integers(-128, 128))
    x = hard_values(rng, m, shift, (1 << 31) - 1)
    x[5] = -(1 << 31)
    want = np.clip(rounded(x, m, shift) + zero_point, -128, 127)
    np.testing.assert_array_equal(rescaled(isa, "wide", x, m, shift, zero_point), want)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
def test_scale_form_rounds_half_away_from_zero(isa):
    rng = np.random.default_rng(5)
    factor = np.where(rng.random(64) < 0.5, 2.0 ** -rng.integers(1, 9, 64), rng.random(64) / 50)
    x = rng.integers(-20000, 20000, (200, 64))
    x[0], x[1] = -(1 << 31), (1 << 31) - 1
    product = x * factor
    want = np.copysign(np.floor(np.abs(product) + 0.5), product) + 3
    got = rescaled(isa, "scale", x, factor, np.zeros(64), 3)
    np.testing.assert_array_equal(got, np.clip(want, -128, 127))


def test_form_is_wide_where_the_sum_could_overflow():
    m, shift = np.array([1 << 30]), np.array([-8])
    assert requantize.best_form(m, shift, 5, (1 << 31) - 2000) == "u64"
    assert requantize.best_form(m, shift, 5, (1 << 31) - 1000) == "wide"
    assert requantize.best_form(m, np.array([1]), 5, 100) == "wide"
    assert requantize.best_form(m, shift, 5, 1 << 20, floor=True) == "u64r"


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_every_form_compiles_for_every_instruction_set(isa):
    from litejit.codegen import llvm

    for form in requantize.FORMS:
        assert llvm.compile_ir(RescaleSpec(form, True).emit("kernel", isa), isa)
