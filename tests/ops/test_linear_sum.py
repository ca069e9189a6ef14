"""Sums of bytes in one linear form, against TFLite's arithmetic for every pair of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from litejit.ops.fixedpoint import multiply_by_quantized_multiplier, quantize_multiplier
from litejit.ops.linear_sum import linear_sum


def multipliers(a, b, y):
    twice = 2 * max(a, b)
    total = twice / ((1 << 20) * y)
    return tuple(quantize_multiplier(real) for real in (a / twice, b / twice, total))


def expected(scales, zeros, limits, *, sign, unsigned):
    codes = np.arange(256) - (0 if unsigned else 128)
    own, other, total = multipliers(*scales)
    x, y = (
        multiply_by_quantized_multiplier((codes - zero) << 20, *m)
        for zero, m in zip(zeros, (own, other), strict=False)
    )
    result = multiply_by_quantized_multiplier(np.add.outer(x, sign * y), *total)
    return codes, np.clip(result + zeros[2], *limits)


def draws(count):
    rng = np.random.default_rng(11)
    for _ in range(count):
        unsigned = bool(rng.integers(2))
        low, high = (0, 255) if unsigned else (-128, 127)
        scales = np.exp(rng.uniform(-4, 0, 2))
        zeros = tuple(int(z) for z in rng.integers(low, high, 3, endpoint=True))
        total = float(scales.sum() * rng.uniform(0.3, 1.5))
        limits = (low, high) if rng.integers(2) else (zeros[2], high)
        sign = 1 if rng.integers(2) else -1
        yield (*map(float, scales), total), zeros, limits, sign, unsigned


def test_a_linear_form_equals_the_rescaled_sum_of_every_pair_of_bytes():
    found = 0
    for scales, zeros, limits, sign, unsigned in draws(60):
        line = linear_sum(*multipliers(*scales), zeros, limits, sign=sign, unsigned=unsigned)
        if line is None:
            continue
        a, b, c, shift = line
        codes, want = expected(scales, zeros, limits, sign=sign, unsigned=unsigned)
        places = np.add.outer(a * codes, b * codes) + c
        assert places.min() >= -(2**31) and places.max() < 2**31
        np.testing.assert_array_equal(np.clip(places >> shift, *limits), want)
        found += 1
    assert found >= 50  # nearly all of them have one


@pytest.mark.parametrize("ratio", [1.0, 0.5, 2.0])
def test_sums_full_of_ties_round_as_tflite_rounds_them(ratio):
    scales, zeros, limits = (0.05, 0.05 * ratio, 0.1), (3, -7, 5), (-128, 127)
    line = linear_sum(*multipliers(*scales), zeros, limits)
    codes, want = expected(scales, zeros, limits, sign=1, unsigned=False)
    if line is not None:
        a, b, c, shift = line
        places = np.add.outer(a * codes, b * codes) + c
        np.testing.assert_array_equal(np.clip(places >> shift, *limits), want)
    else:  # ties go away from zero: no line does that on both sides
        assert np.ptp(want) > 0


def test_scales_too_far_apart_have_no_linear_form():
    assert linear_sum(*multipliers(1.0, 1.0, 1e-6), (0, 0, 0), (-128, 127)) is None
