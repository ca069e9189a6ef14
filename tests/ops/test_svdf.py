"""SVDF by hand and beside LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops import recurrent
from tests.ops.recurrent import drive, feeds, same
from tests.ops.test_lstm import both, numpy_only

from litejit.interpreter import Interpreter
from litejit.model.options import Activation
from litejit.types import I8

KINDS = [("f32", False), ("i8", False), ("i8", True), ("u8", True), ("integer", False)]


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"bias": False},
        {"rank": 1, "batch": 1},
        {"times": 1},
        {"units": 20, "rank": 3, "n_in": 33, "times": 9},
        {"units": 7, "rank": 1, "n_in": 70, "times": 32, "batch": 1},
    ],
    ids=str,
)
def test_every_kind_equals_litert(weights, asymmetric, shape):
    # sums in another order, of which some nearly cancel
    both(recurrent.svdf(weights=weights, asymmetric=asymmetric, **shape), tolerance=1e-5)


def test_other_activations_are_for_floats():
    both(recurrent.svdf(activation=Activation.TANH))
    content = recurrent.svdf(weights="integer", activation=Activation.NONE)
    with pytest.raises(RuntimeError, match="expected RELU"):
        Interpreter(model_content=content).allocate_tensors()


def test_an_int8_memory_holds_what_the_formula_says():
    content = recurrent.svdf(weights="integer", state=I8, batch=1)
    rows = feeds(content)
    got = drive(Interpreter(model_content=content), rows)
    same(got, numpy_only(content, rows))
    assert len({y.tobytes() for y in got}) == len(got)


def test_the_memory_keeps_as_many_features_as_there_are_times():
    content = recurrent.svdf(times=3, batch=1, bias=False, activation=Activation.NONE)
    (row,) = feeds(content, runs=1)
    silence = [np.zeros_like(row[0])]
    got = drive(Interpreter(model_content=content), [row, silence, silence, silence])
    assert np.abs(got[2]).max() > 1e-3
    np.testing.assert_array_equal(got[3], np.zeros_like(got[3]))


@pytest.mark.parametrize("rank", [0, 4])
def test_a_rank_that_does_not_divide_the_filters_is_refused(rank):
    m = recurrent.OneOperator(seed=0)
    m.operands = [m.input("x", (1, 5)), m.matrix(6, 5), m.matrix(6, 4), -1, m.state(1, 24)]
    y = m.graph.add_output("y", (1, 3), recurrent.F32)
    content = m.finish("SVDF", [y], recurrent.SVDFOptions(rank=rank))
    with pytest.raises(RuntimeError, match="does not divide"):
        Interpreter(model_content=content).allocate_tensors()
