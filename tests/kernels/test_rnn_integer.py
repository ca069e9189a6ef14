"""Functions of the integer LSTMs: every code, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen.lang import Function, Ptr, i16, i32, i64
from litejit.kernels import rnn_integer
from litejit.kernels.base import KernelSpec
from litejit.ops import lstm_integer

CODES = np.arange(-32768, 32768).astype(np.int16)


class _Each(KernelSpec):
    """A function of every code. Arguments: x, y. Items: codes."""

    function: str

    def emit(self, name: str, isa: Any) -> str:
        fn = Function(name, isa, x=Ptr(i16), y=Ptr(i16))
        x, y = fn.args
        lanes = isa.lanes(i32)
        with fn.loop(fn.end, start=fn.begin, step=lanes) as at:
            value = x.load(at, lanes=lanes).to(i32)
            if self.function == "logistic":
                made = rnn_integer.float_logistic(value)
            else:
                made = rnn_integer.float_tanh(value, int(self.function))
            y.store(at, made.to(i16))
        return fn.ir()


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("function", ["logistic", "12", "15"])
def test_float_functions_give_numpy_s_codes(function: str, isa: Any) -> None:
    if function == "logistic":
        expected = lstm_integer._sigmoid_float(CODES.astype(np.int64))
    else:
        expected = lstm_integer._tanh_float(CODES, int(function))
    found = run(_Each(function), CODES, np.zeros_like(CODES), items=len(CODES), isa=isa)[1]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("row", [[5] * 9, [0] * 3, [-32768, 32767], list(range(-20, 21)), [7]])
@pytest.mark.parametrize("is_float", [False, True])
def test_rows_are_normalized_as_numpy_does(row: list[int], is_float: bool, isa: Any) -> None:
    count = len(row)
    rows = np.array([row], np.int64)
    rng = np.random.default_rng(count)
    weights = rng.integers(-30000, 30000, count).astype(np.int16)
    bias = rng.integers(-90000, 90000, count).astype(np.int32)
    multiplier, guard = (1518500250, -5), 3
    numbers = np.zeros(rnn_integer.PER_GATE, np.int64)
    numbers[rnn_integer.GUARD] = guard
    m, shift = multiplier
    numbers[rnn_integer.NORM : rnn_integer.NORM + 3] = rnn_integer.multiplier(m, shift + 12)
    scale = np.float64(np.float32(m * 2.0 ** (shift - 31)))
    numbers[rnn_integer.SCALE] = scale.view(np.int64)
    if is_float:
        expected = lstm_integer._layer_norm_float(rows, weights, bias, multiplier)
    else:
        expected = lstm_integer.layer_norm(rows, weights, bias, multiplier, guard)
    padded = np.pad(rows[0].astype(np.int32), (0, 32))
    found = run(
        _Norm(is_float), padded, np.pad(weights, (0, 32)), np.pad(bias, (0, 32)), numbers, count,
        items=1, isa=isa,
    )[0]  # fmt: skip
    np.testing.assert_array_equal(found[:count], expected[0])


class _Norm(KernelSpec):
    """One row. Arguments: row, weights, bias, numbers, count."""

    narrow: bool

    def emit(self, name: str, isa: Any) -> str:
        fn = Function(
            name, isa, rows=Ptr(i32), norm=Ptr(i16), bias=Ptr(i32), numbers=Ptr(i64), cells=i64
        )
        names = ("rows", "norm", "bias", "numbers")
        p, cells = dict(zip(names, fn.args, strict=False)), fn.args[-1]
        spec = rnn_integer.LSTMInteger(1, True, -11, norm=True, narrow=self.narrow)
        spec._normalize(fn, p, {"width": cells, "cells": cells}, 0)
        return fn.ir()
