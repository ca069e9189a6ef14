"""Binary arithmetic: hand-made values, special numbers, refusals; kernels give the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.pointwise import Q, evaluate

from litejit.errors import InvokeError, PrepareError
from litejit.model.options import Activation
from litejit.model.options import elementwise as options
from litejit.types import I8

f, i8, i16, i32, i64 = np.float32, np.int8, np.int16, np.int32, np.int64
ADD, SUB, MUL, DIV = (
    options.AddOptions(), options.SubOptions(), options.MulOptions(), options.DivOptions()
)  # fmt: skip
EXTREME = options.MaximumMinimumOptions()


def test_whole_numbers_wrap() -> None:
    top = Q(i32([2**31 - 1, -(2**31)]))
    assert evaluate("ADD", ADD, top, Q(i32([1, -1]))).tolist() == [-(2**31), 2**31 - 1]
    assert evaluate("MUL", MUL, Q(i64([2**62])), Q(i64([2]))).tolist() == [-(2**63)]
    assert evaluate("SUB", SUB, Q(i32(-(2**31))), Q(i32(1))).tolist() == 2**31 - 1


def test_infinite_results_end_at_the_largest_float_and_nan_stays() -> None:
    largest = np.finfo(f).max
    a, b = Q(f([1, -1, 0, np.inf, 6])), Q(f([0, 0, 0, 1, 3]))
    np.testing.assert_array_equal(
        evaluate("DIV", DIV, a, b), f([largest, -largest, np.nan, largest, 2])
    )
    relu6 = options.AddOptions(activation=Activation.RELU6)
    y = evaluate("ADD", relu6, a, b)
    np.testing.assert_array_equal(y, f([1, 0, 0, 6, 6]))


def test_a_nan_on_either_side_of_maximum_gives_the_second() -> None:
    a, b = Q(f([np.nan, 1, 2])), Q(f([1, np.nan, 3]))
    np.testing.assert_array_equal(evaluate("MAXIMUM", EXTREME, a, b), f([1, np.nan, 3]))
    np.testing.assert_array_equal(evaluate("MINIMUM", EXTREME, a, b), f([1, np.nan, 2]))


def test_int32_quotients_are_cut_toward_zero() -> None:
    y = evaluate("DIV", DIV, Q(i32([-7, 7, -7, 1])), Q(i32([2, -2, -2, 3])))
    assert y.tolist() == [-3, -3, 3, 0]


@pytest.mark.parametrize("name", ["FLOOR_DIV", "FLOOR_MOD", "DIV"])
def test_a_whole_divisor_zero_is_refused_in_the_run(name: str) -> None:
    option = DIV if name == "DIV" else None
    with pytest.raises(InvokeError, match="division by 0"):
        evaluate(name, option, Q(i32([1])), Q(i32([0])))


def test_floor_division_rounds_down_and_the_rest_takes_the_divisors_sign() -> None:
    a, b = i32([7, -7, 7, -7]), i32([3, 3, -3, -3])
    assert evaluate("FLOOR_DIV", None, Q(a), Q(b)).tolist() == [2, -3, -3, 2]
    assert evaluate("FLOOR_MOD", None, Q(a), Q(b)).tolist() == [1, 2, -2, -1]
    y = evaluate("FLOOR_MOD", None, Q(f([5.5, -5.5, 1])), Q(f([2, 2, 0])))
    np.testing.assert_array_equal(y, f([1.5, 0.5, np.nan]))


def test_powers_of_whole_numbers_refuse_negative_exponents() -> None:
    y = evaluate("POW", None, Q(i32([2, -3, 0])), Q(i32([10, 3, 0])))
    assert y.tolist() == [1024, -27, 1]
    with pytest.raises(InvokeError, match="negative"):
        evaluate("POW", None, Q(i32([2])), Q(i32([-1])))


ALL_A = np.repeat(np.arange(-128, 128), 64).astype(i8)
ALL_B = np.tile(np.arange(-128, 128, 4), 256).astype(i8)
REAL = {
    "ADD": (ADD, np.add), "SUB": (SUB, np.subtract), "MUL": (MUL, np.multiply),
    "SQUARED_DIFFERENCE": (None, lambda a, b: (a - b) ** 2),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [i8, np.uint8, i16])
@pytest.mark.parametrize("name", REAL)
def test_quantized_results_are_within_a_step_of_the_real_ones(name: str, dtype: Any) -> None:
    if name == "SQUARED_DIFFERENCE" and dtype != i8:
        pytest.skip("int8 only")
    option, true = REAL[name]
    offset = 128 if dtype == np.uint8 else 0
    a, b = ((x.astype(int) + offset).astype(dtype) for x in (ALL_A, ALL_B))
    zeros = (0, 0, 0) if dtype == i16 else (offset + 3, offset - 20, offset - 10)
    scales = (0.05, 0.02, 0.11)
    y = evaluate(
        name, option, Q(a, scales[0], zeros[0]), Q(b, scales[1], zeros[1]),
        scale=scales[2], zero_point=zeros[2],
    )  # fmt: skip
    reals = [(x.astype(float) - z) * s for x, z, s in zip((a, b), zeros, scales, strict=False)]
    info = np.iinfo(dtype)
    expected = np.clip(true(*reals) / scales[2] + zeros[2], info.min, info.max)
    assert np.abs(y - expected).max() < 1.02


def test_sums_on_one_scale_round_halves_away_from_zero() -> None:
    # (a + b) * 0.5: 1 and 3 halves
    y = evaluate("ADD", ADD, Q(i8([1, 3, -1, -3]), 1.0), Q(i8([0, 0, 0, 0]), 1.0), scale=2.0)
    assert y.tolist() == [1, 2, -1, -2]


def test_powers_of_two_add_int16_by_shifts() -> None:
    a, b = Q(i16([30000, 5, -5]), 2.0**-10), Q(i16([30000, 2, -2]), 2.0**-12)
    y = evaluate("ADD", ADD, a, b, scale=2.0**-10)
    assert y.tolist() == [32767, 6, -6]  # 2/4 rounds away from zero


def test_int16_factors_give_bytes() -> None:
    y = evaluate(
        "MUL", MUL, Q(i16([32767, -32768, 256]), 2.0**-15), Q(i16([32767, 32767, 128]), 2.0**-15),
        out=I8, scale=2.0**-7, zero_point=1,
    )  # fmt: skip
    assert y.tolist() == [127, -127, 1]


def test_quantized_quotients_are_near_the_real_ones_and_refuse_zero() -> None:
    a, b = i8([100, -50, 127, 3]), i8([10, 20, -128, 7])
    y = evaluate("DIV", DIV, Q(a, 0.1), Q(b, 0.5), scale=0.05)
    assert np.abs(y - a * 0.1 / (b * 0.5) / 0.05).max() <= 1
    with pytest.raises(InvokeError, match="zero point"):
        evaluate("DIV", DIV, Q(a, 0.1), Q(i8([1, 5, 2, 3]), 0.5, 5), scale=0.05)


@pytest.mark.parametrize(
    ("operands", "out", "words"),
    [
        ((Q(i8([1])), Q(i8([1]), 0.1)), {"scale": 0.1}, "no quantization scale"),
        ((Q(i8([1]), 0.1), Q(i8([1]), -0.1)), {"scale": 0.1}, "not positive"),
        ((Q(i8([1]), 0.1, 300), Q(i8([1]), 0.1)), {"scale": 0.1}, "zero point"),
        ((Q(i16([1]), 0.3, 1), Q(i16([1]), 0.1)), {"scale": 0.1}, "zero point 0"),
        ((Q(f([1])), Q(i32([1]))), {}, "FLOAT32 and INT32"),
        ((Q(np.uint64([1])), Q(np.uint64([1]))), {}, "UINT64"),
        ((Q(f([1, 2])), Q(f([1, 2, 3]))), {}, "broadcast"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_operands_that_cannot_be_added_are_refused(operands: Any, out: Any, words: str) -> None:
    with pytest.raises(PrepareError, match=words):
        evaluate("ADD", ADD, *operands, **out)


def test_bits_and_logic() -> None:
    assert evaluate("BITWISE_XOR", None, Q(i8([5, -1])), Q(i8([3, 1]))).tolist() == [6, -2]
    y = evaluate("RIGHT_SHIFT", None, Q(i8([-128, 7, -1])), Q(i8([9, 1, -4])))
    assert y.tolist() == [-1, 3, -1]
    a, b = Q(np.array([True, True, False])), Q(np.array([True, False, False]))
    assert evaluate("LOGICAL_AND", None, a, b).tolist() == [True, False, False]
    assert evaluate("LOGICAL_OR", None, a, b).tolist() == [True, True, False]
    assert evaluate("STABLEHLO_ADD", None, a, b).tolist() == [True, True, False]
    y = evaluate("STABLEHLO_SHIFT_LEFT", None, Q(i8([1, 64, 3])), Q(i8([3, 1, 8])))
    assert y.tolist() == [8, -128, 0]
    assert evaluate("ADD_N", None, Q(i32([1])), Q(i32([2])), Q(i32([2**31 - 1]))) == [-(2**31) + 2]


def test_sums_of_many_floats_end_at_the_largest_number() -> None:
    largest = np.finfo(f).max
    x = Q(f([np.inf, 3e38, -np.inf, np.nan, 1]))
    y = evaluate("ADD_N", None, x, x, Q(f([1, 1, 1, 1, 1])))
    np.testing.assert_array_equal(y, f([largest, largest, -largest, np.nan, 3]))


@pytest.mark.parametrize("activation", [4, 5], ids=["TANH", "SIGN_BIT"])
def test_activations_that_do_not_clamp_change_nothing(activation: int) -> None:
    plain = options.AddOptions(activation=Activation(activation))
    y = evaluate("ADD", plain, Q(f([1, -5])), Q(f([7, 2])))
    assert y.tolist() == [8, -3]
    q = Q(i8([1, -50]), 1.0)
    y = evaluate("MUL", options.MulOptions(activation=Activation(activation)), q, q, scale=100.0)
    assert y.tolist() == [0, 25]


def test_equal_shapes_of_any_rank_meet() -> None:
    x = np.arange(4, dtype=f).reshape((1,) * 8 + (2, 2))
    np.testing.assert_array_equal(evaluate("ADD", ADD, Q(x), Q(x)), 2 * x)


@pytest.mark.parametrize("shapes", [((0, 3), (1, 3)), ((), ()), ((2, 1, 4), (3, 1))], ids=str)
def test_empty_scalar_and_stretched_operands(shapes: Any) -> None:
    a, b = (np.arange(np.prod(s, dtype=int), dtype=f).reshape(s) for s in shapes)
    np.testing.assert_array_equal(evaluate("ADD", ADD, Q(a), Q(b)), a + b)
