"""Simple recurrent layers beside LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops import recurrent
from tests.ops.recurrent import drive, feeds
from tests.ops.test_lstm import KINDS, both

from litejit.interpreter import Interpreter
from litejit.model.options import Activation

SHAPES = [{}, {"activation": Activation.RELU6}, {"units": 37, "n_in": 70, "batch": 1}]


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_step_equals_litert(weights, asymmetric, shape):
    both(recurrent.rnn("RNN", weights=weights, asymmetric=asymmetric, **shape), tolerance=3e-6)


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize("shape", [*SHAPES, {"time_major": True}], ids=str)
def test_sequences_equal_litert(weights, asymmetric, shape):
    name = "UNIDIRECTIONAL_SEQUENCE_RNN"
    both(recurrent.rnn(name, weights=weights, asymmetric=asymmetric, **shape), tolerance=3e-6)


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"time_major": True},
        {"merge": True, "batch": 1},
        {"aux": "weights"},
        {"aux": "input"},
        {"aux": "input", "time_major": True},
    ],
    ids=str,
)
def test_both_directions_equal_litert(weights, asymmetric, shape):
    name = "BIDIRECTIONAL_SEQUENCE_RNN"
    both(recurrent.rnn(name, weights=weights, asymmetric=asymmetric, **shape), tolerance=3e-6)


def test_merged_outputs_are_the_two_outputs_side_by_side():
    name = "BIDIRECTIONAL_SEQUENCE_RNN"
    apart = recurrent.rnn(name, merge=False)
    rows = feeds(apart, runs=1)
    forward, backward = drive(Interpreter(model_content=apart), rows)
    merged = drive(Interpreter(model_content=recurrent.rnn(name, merge=True)), rows)[0]
    np.testing.assert_array_equal(merged, np.concatenate([forward, backward], axis=2))


def test_a_state_that_is_no_variable_is_refused():
    m = recurrent.OneOperator(seed=0)
    m.operands = [m.input("x", (2, 5)), m.matrix(6, 5), m.matrix(6, 6), m.floats(6), m.floats(2, 6)]
    y = m.graph.add_output("y", (2, 6), recurrent.F32)
    content = m.finish("RNN", [y], recurrent.RNNOptions())
    with pytest.raises(RuntimeError, match="must be a variable tensor"):
        Interpreter(model_content=content).allocate_tensors()
