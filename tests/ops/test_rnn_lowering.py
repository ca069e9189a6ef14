"""Kernels of recurrent operators on every instruction set, on fenced memory."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS
from tests.ops import recurrent
from tests.ops.lowered import RunningSteps

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS
from litejit.interpreter import Interpreter
from litejit.kernels.rnn_basic import LSTMBasic
from litejit.kernels.rnn_f32 import RecurrentF32
from litejit.kernels.rnn_int8 import LSTMInt8
from litejit.kernels.rnn_integer import LSTMInteger
from litejit.kernels.rnn_svdf import SVDFF32, SVDFInt8
from litejit.model.options import Activation
from litejit.types import I8, U8

ONE, MANY = "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"
CASES = {
    "lstm": lambda: recurrent.lstm(MANY, n_cell=21),
    "lstm cifg, peephole, clip": lambda: recurrent.lstm(
        MANY, cifg=True, peephole=True, cell_clip=0.2, n_cell=7, time_major=True
    ),
    "lstm projection": lambda: recurrent.lstm(
        ONE, projection="bias", n_cell=40, n_out=19, proj_clip=0.3
    ),
    "lstm both ways": lambda: recurrent.bidirectional_lstm(
        merge=True, aux="weights", n_aux=3, n_cell=18, time_major=False
    ),
    "lstm norm": lambda: recurrent.lstm(MANY, norm=True, n_cell=21, peephole=True),
    "lstm norm cifg, projection": lambda: recurrent.lstm(
        ONE, norm=True, cifg=True, projection="plain", n_cell=5, n_out=3, cell_clip=0.3
    ),
    "lstm norm hybrid": lambda: recurrent.lstm(
        MANY, norm=True, weights="i8", n_cell=40, peephole=True, projection="bias", n_out=9
    ),
    "lstm diagonal": lambda: recurrent.lstm(MANY, diagonal=True, n_cell=35, n_out=35),
    "lstm diagonal hybrid": lambda: recurrent.lstm(
        MANY, diagonal=True, norm=True, weights="i8", n_cell=6, n_out=6, cifg=True
    ),
    "lstm relu": lambda: recurrent.lstm(ONE, activation=Activation.RELU_N1_TO_1, n_cell=3),
    "lstm int8": lambda: recurrent.integer_lstm(n_cell=37, n_in=30),
    "lstm int8 cifg": lambda: recurrent.integer_lstm(
        cifg=True, n_cell=5, cell_bits=-9, gain=6.0, time_major=True, cell_clip=0.7
    ),
    "lstm int8 tiny multipliers": lambda: recurrent.integer_lstm(gain=1e-3, n_cell=16),
    "lstm int8 peephole": lambda: recurrent.integer_lstm(n_cell=35, peephole=True),
    "lstm int8 norm, projection": lambda: recurrent.integer_lstm(
        n_cell=18, n_out=7, norm=True, projection="bias", proj_clip=0.4, time_major=True
    ),
    "lstm int8 norm, peephole, cifg": lambda: recurrent.integer_lstm(
        ONE, n_cell=6, norm=True, peephole=True, cifg=True, cell_clip=0.5, cell_bits=-12
    ),
    "lstm int8 peephole of fewer outputs": lambda: recurrent.integer_lstm(
        n_cell=9, n_out=4, projection="plain", peephole=True
    ),
    "lstm 8x8_8": lambda: recurrent.integer_lstm(
        n_cell=34, n_out=5, narrow=True, norm=True, cifg=True, projection="bias"
    ),
    "lstm basic": lambda: recurrent.basic_lstm(n_in=9, n_cell=37),
    "lstm basic uint8": lambda: recurrent.basic_lstm(U8, n_in=40, n_cell=21, batch=3),
    "rnn": lambda: recurrent.rnn("UNIDIRECTIONAL_SEQUENCE_RNN", units=33),
    "rnn sign": lambda: recurrent.rnn("RNN", activation=Activation.SIGN_BIT),
    "rnn both ways": lambda: recurrent.rnn(
        "BIDIRECTIONAL_SEQUENCE_RNN", units=17, merge=True, aux="weights"
    ),
    "rnn hybrid": lambda: recurrent.rnn("UNIDIRECTIONAL_SEQUENCE_RNN", units=21, weights="i8"),
    "lstm hybrid": lambda: recurrent.lstm(MANY, weights="i8", n_cell=21, n_in=70),
    "lstm hybrid asymmetric": lambda: recurrent.lstm(
        MANY, weights="u8", n_cell=13, asymmetric=True, peephole=True, projection="bias", n_out=7
    ),
    "lstm hybrid both ways": lambda: recurrent.bidirectional_lstm(
        weights="i8", asymmetric=True, aux="weights", n_aux=3, cifg=True
    ),
    "svdf": lambda: recurrent.svdf(units=19, rank=2, times=5),
    "svdf hybrid": lambda: recurrent.svdf(weights="i8", units=19, rank=2, times=5, n_in=70),
    "svdf hybrid asymmetric": lambda: recurrent.svdf(
        weights="u8", units=3, rank=1, times=9, asymmetric=True
    ),
    "svdf int16": lambda: recurrent.svdf(weights="integer", units=20, rank=3, times=9, n_in=33),
    "svdf int8": lambda: recurrent.svdf(weights="integer", units=5, rank=1, times=1, state=I8),
}


def node_and_arrays(content, seed=3):
    """The only node of a model, and operands: states are not what they begin with."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (node,) = interpreter._runner.sections[0].graph.nodes
    rng = np.random.default_rng(seed)
    arrays = []
    for t in node.inputs:
        if t is None or t.is_constant:
            arrays.append(None if t is None else np.array(t.value))
        elif t.dtype.is_float:
            arrays.append(rng.normal(size=t.dims).astype(np.float32))
        else:
            info = np.iinfo(t.dtype.numpy)
            arrays.append(rng.integers(info.min, info.max + 1, t.dims).astype(t.dtype.numpy))
    return node, arrays


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("case", CASES)
def test_kernels_do_what_numpy_does(case, isa):
    node, arrays = node_and_arrays(CASES[case]())
    outputs = [np.zeros(t.dims, t.dtype.numpy) for t in node.outputs]
    steps = RunningSteps(isa, arrays, outputs)
    node.op.lower(node, steps)
    assert steps.calls > 0, "no kernel"
    got = node.op.reference(node, *arrays)
    updated = [p for p in node.op.mutates if p < len(arrays) and arrays[p] is not None]
    want = [*(got if isinstance(got, tuple) else (got,)), *(arrays[p] for p in updated)]
    present = [p for p, a in enumerate(arrays) if a is not None]
    states = [steps.fences[present.index(p)].array for p in updated]
    recurrent.same([*(f.array for f in steps.results), *states], want, tolerance=3e-6)


OTHERS = [isa for isa in ISAS if isa not in HOST_ISAS]
SPECS = [
    LSTMInt8(2, True, -11, "u64", "u64"),
    LSTMInt8(1, False, -15, "wide", "wide"),
    LSTMBasic(True),
    LSTMBasic(False),
    LSTMInteger(2, False, -15, False, True, True, True),
    LSTMInteger(1, True, -11, True, True, True),
    RecurrentF32(2, 3, "relu", True, True, 2, "asymmetric"),
    RecurrentF32(1, 1, "tanh"),
    RecurrentF32(2, 4, "tanh", False, True, 1, "symmetric", True, True),
    SVDFInt8(2, 2, 5, 8, "u64", "wide"),
    SVDFF32(2, 2, 7, "relu"),
    SVDFF32(1, 1, 1, "none", "asymmetric"),
]


@pytest.mark.parametrize("isa", OTHERS, ids=lambda isa: isa.name)
def test_kernels_compile_for_cpus_that_are_not_here(isa):
    for spec in SPECS:
        assert len(llvm.compile_ir(spec.emit("kernel", isa), isa)) > 500
