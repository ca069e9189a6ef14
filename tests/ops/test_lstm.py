"""LSTM operators: by hand, in NumPy, compiled, and beside LiteRT where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops import recurrent
from tests.ops.recurrent import drive, feeds, litert, same

from litejit.errors import PrepareError
from litejit.interpreter import Interpreter
from litejit.model import constant_array, read_model
from litejit.model.options import Activation
from litejit.ops import fixed16
from litejit.types import F32, I16, U8

ONE, MANY = "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"
KINDS = [("f32", False), ("i8", False), ("i8", True), ("u8", True)]
SHAPES = [
    {},
    {"cifg": True},
    {"peephole": True, "cell_clip": 0.3},
    {"projection": "bias", "n_out": 4, "proj_clip": 0.2},
    {"norm": True},
    {"norm": True, "cifg": True, "peephole": True, "projection": "plain", "n_out": 3},
    {"activation": Activation.RELU, "inputs": 20},
    {"n_cell": 37, "n_in": 70, "batch": 1},
]
SEQUENCES = [
    {"time_major": True, "peephole": True},
    {"diagonal": True},
    {"diagonal": True, "cifg": True, "time_major": True},
]
INTEGER = [
    {},
    {"cifg": True},
    {"peephole": True},
    {"projection": "bias", "n_out": 4},
    {"projection": "plain", "n_out": 6, "proj_clip": 0.2, "cell_clip": 0.3},
    {"norm": True},
    {"norm": True, "cifg": True, "peephole": True, "projection": "bias", "n_out": 3},
    {"cell_bits": -9},
    {"cell_bits": -15},
    {"gain": 8.0, "cell_bits": -12, "batch": 1},
    {"n_cell": 37, "n_in": 70, "batch": 1},
]


def both(content, *, tolerance=1e-6):
    """Results of three runs: compiled, checked against NumPy and against LiteRT."""
    rows = feeds(content)
    got = drive(Interpreter(model_content=content), rows)
    same(got, numpy_only(content, rows), tolerance=tolerance)
    same(got, litert(content, rows), tolerance=tolerance)
    return got


def numpy_only(content, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITEJIT_COMPILE", "0")
        return drive(Interpreter(model_content=content), rows)


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize("name", [ONE, MANY])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float_and_hybrid_cells_equal_litert(name, weights, asymmetric, shape):
    content = recurrent.lstm(name, weights=weights, asymmetric=asymmetric, **shape)
    both(content, tolerance=3e-6)


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize("shape", SEQUENCES, ids=str)
def test_sequences_equal_litert(weights, asymmetric, shape):
    both(recurrent.lstm(MANY, weights=weights, asymmetric=asymmetric, **shape), tolerance=3e-6)


@pytest.mark.parametrize("name", [ONE, MANY])
@pytest.mark.parametrize("shape", INTEGER, ids=str)
def test_integer_cells_equal_litert_bit_for_bit(name, shape):
    both(recurrent.integer_lstm(name, **shape))


def test_integer_peepholes_walk_as_many_cells_as_there_are_outputs():
    shape = {"peephole": True, "projection": "bias", "n_out": 3}
    both(recurrent.integer_lstm(time_major=True, **shape))
    both(recurrent.integer_lstm(time_major=False, **shape))


@pytest.mark.parametrize("seed", range(3))
def test_cells_with_int8_sums_equal_litert_bit_for_bit(seed):
    both(
        recurrent.integer_lstm(
            ONE, narrow=True, cifg=True, norm=True, projection="bias", n_out=4, cell_clip=0.3,
            proj_clip=0.3, seed=seed,
        )
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [F32, U8])
def test_basic_cells_equal_litert(dtype):
    both(recurrent.basic_lstm(dtype), tolerance=1e-6)


@pytest.mark.parametrize(("weights", "asymmetric"), KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"time_major": False},
        {"merge": True},
        {"aux": "weights", "n_aux": 3, "cifg": True},
        {"aux": "input", "peephole": True, "projection": "bias", "n_out": 4},
    ],
    ids=str,
)
def test_both_directions_equal_litert(weights, asymmetric, shape):
    content = recurrent.bidirectional_lstm(weights=weights, asymmetric=asymmetric, **shape)
    both(content, tolerance=3e-6)


def test_states_go_on_from_run_to_run_until_they_are_reset():
    content = recurrent.lstm(MANY)
    interpreter = Interpreter(model_content=content)
    first, second = drive(interpreter, feeds(content, runs=1) * 2)
    assert not np.allclose(first, second, atol=1e-3)
    interpreter.reset_all_variables()
    row = feeds(content, runs=1)[0]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[0])
    interpreter.invoke()
    again = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(again, first)


def test_one_step_is_what_the_formula_says():
    content = recurrent.lstm(ONE, n_in=2, n_cell=3, batch=1)
    (row,) = feeds(content, runs=1)
    (got,) = drive(Interpreter(model_content=content), [row])
    model = read_model(content)
    inputs = model.subgraphs[0].operators[0].inputs
    w = {i: constant_array(model, 0, inputs[i]) for i in (*range(1, 5), *range(12, 16))}
    z = [row[0] @ w[1 + g].T + w[12 + g] for g in range(4)]
    i, f, o = (1 / (1 + np.exp(-z[g])) for g in (0, 1, 3))
    assert f.shape == (1, 3)  # the cells begin at 0, so the forget gate has no part in this
    np.testing.assert_allclose(got, o * np.tanh(i * np.tanh(z[2])), rtol=1e-5)


@pytest.mark.parametrize("bits", range(7))
def test_fixed_point_tanh_is_near_the_real_one(bits):
    raw = np.arange(-32768, 32768, 7)
    want = np.tanh(raw / 2.0 ** (15 - bits)) * 32768
    assert np.abs(fixed16.tanh(raw, bits) - want).max() < 13


def test_fixed_point_logistic_is_near_the_real_one():
    raw = np.arange(-32768, 32768)
    got = fixed16.logistic(raw)
    assert got.dtype == np.int16
    assert np.abs(got - 32768 / (1 + np.exp(-raw / 4096.0))).max() < 7
    assert got[32768] == 16384


def broken(change):
    """An LSTM with one thing changed on its operands."""
    m = recurrent.OneOperator(seed=0)
    m.operands = [m.input("x", (2, 3, 5))]
    m.operands += recurrent.float_cell(m, 5, 6, 6, cifg=False, peephole=True, projection=None)
    m.operands += [m.state(2, 6), m.state(2, 6), -1, -1, -1, -1]
    change(m)
    y = m.graph.add_output("y", (2, 3, 6), F32)
    options = recurrent.UnidirectionalSequenceLSTMOptions(activation=Activation.TANH)
    return m.finish(MANY, [y], options)


def put(position, make):
    def change(m):
        m.operands[position] = make(m)

    return change


@pytest.mark.parametrize(
    ("position", "make", "words"),
    [
        (1, lambda m: -1, "input gate needs both"),
        (2, lambda m: m.matrix(6, 4), "input_to_forget_weights has shape"),
        (4, lambda m: m.floats(6), "have shape"),
        (8, lambda m: m.matrix(6, 5), "recurrent_to_input_weights has shape"),
        (9, lambda m: -1, "peephole"),
        (13, lambda m: m.floats(5), "gate_bias of the forget gate"),
        (14, lambda m: m.integers(0, 5, 6, I16, 0.1), "is INT16"),
        (17, lambda m: m.floats(6), "projection_bias without weights"),
        (18, lambda m: m.floats(2, 6), "must be a variable tensor"),
        (19, lambda m: m.state(2, 6, dtype=I16), "cell_state is INT16"),
        (21, lambda m: m.floats(6), "layer_norm_coefficients"),
    ],
)
def test_operands_that_do_not_fit_are_refused(position, make, words):
    interpreter = Interpreter(model_content=broken(put(position, make)))
    with pytest.raises((PrepareError, RuntimeError), match=words):
        interpreter.allocate_tensors()


@pytest.mark.parametrize("bits", [-8, -16])
def test_cells_of_a_scale_without_a_tanh_are_refused(bits):
    interpreter = Interpreter(model_content=recurrent.integer_lstm(cell_bits=bits))
    with pytest.raises((PrepareError, RuntimeError), match="cell_state has scale"):
        interpreter.allocate_tensors()


@pytest.mark.parametrize(
    "make",
    [
        lambda batch: recurrent.lstm(MANY, batch=batch),
        lambda batch: recurrent.integer_lstm(batch=batch),
        lambda batch: recurrent.lstm(ONE, batch=batch, weights="i8"),
        lambda batch: recurrent.bidirectional_lstm(batch=batch, time_major=False),
        lambda batch: recurrent.rnn("UNIDIRECTIONAL_SEQUENCE_RNN", batch=batch),
        lambda batch: recurrent.svdf(batch=batch, weights="integer"),
    ],
)
def test_states_take_the_batch_of_a_resized_input(make):
    rows = feeds(make(4))
    want = drive(Interpreter(model_content=make(4)), rows)
    interpreter = Interpreter(model_content=make(1))
    for detail, value in zip(interpreter.get_input_details(), rows[0], strict=True):
        interpreter.resize_tensor_input(detail["index"], value.shape)
    same(drive(interpreter, rows), want)
