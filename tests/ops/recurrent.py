"""Models of one recurrent operator with random weights, run here and by LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit.interpreter import Interpreter
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import (
    Activation,
    BidirectionalSequenceLSTMOptions,
    BidirectionalSequenceRNNOptions,
    LSTMKernel,
    LSTMOptions,
    RNNOptions,
    SequenceRNNOptions,
    SVDFOptions,
    UnidirectionalSequenceLSTMOptions,
)
from litejit.types import F32, I8, I16, I32, U8

GATES = ("input", "forget", "cell", "output")
WEIGHT_SCALE = 0.01


class OneOperator:
    """Collects the operands of one operator; everything random comes from `seed`."""

    def __init__(self, *, seed: int, weights: str = "f32"):
        self.rng = np.random.default_rng(seed)
        self.builder = ModelBuilder()
        self.graph = self.builder.main
        self.weights = weights
        self.operands: list[int] = []

    def input(self, name, shape, dtype=F32, quantization=None):
        return self.graph.add_input(name, shape, dtype, quantization=quantization)

    def matrix(self, *shape, scale=None):
        """Weights of the kind that this model has, small enough to saturate nothing.

        Where tanh is 1 its last bit decides how a row is quantized, and nobody agrees on that.
        """
        scale = scale or WEIGHT_SCALE * min(1.0, 8 / shape[-1])
        if self.weights == "f32":
            value = self.rng.normal(size=shape).astype(np.float32) * np.float32(0.4)
            return self.graph.add_constant("w", value)
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        dtype = U8 if self.weights == "u8" else I8
        return self.graph.add_constant(
            "w", codes.view(dtype.numpy), dtype, quantization=per_tensor(scale)
        )

    def floats(self, *shape):
        value = self.rng.normal(size=shape).astype(np.float32) * np.float32(0.3)
        return self.graph.add_constant("v", value)

    def integers(self, low, high, shape, dtype, scale):
        value = self.rng.integers(low, high, shape).astype(dtype.numpy)
        return self.graph.add_constant("v", value, dtype, quantization=per_tensor(scale))

    def state(self, *shape, dtype=F32, quantization=None):
        return self.graph.add_tensor("s", shape, dtype, is_variable=True, quantization=quantization)

    def finish(self, name, outputs, options, **more):
        self.graph.add_operator(name, self.operands, outputs, options, **more)
        return self.builder.to_bytes()


def float_cell(m, n_in, n_cell, n_out, *, cifg, peephole, projection, diagonal=False):
    """Operands 1 ... 17 of a float or hybrid LSTM."""
    gates = range(1 if cifg else 0, 4)
    ops = [m.matrix(n_cell, n_in) if g in gates else -1 for g in range(4)]
    for g in range(4):
        shape = (n_cell, n_out)
        made = m.floats(n_cell) if diagonal else m.matrix(*shape)
        ops.append(made if g in gates else -1)
    wanted = [g for g in (0, 1, 3) if g in gates and peephole]
    ops += [m.matrix(n_cell) if g in wanted else -1 for g in (0, 1, 3)]
    ops += [m.floats(n_cell) if g in gates else -1 for g in range(4)]
    ops += [m.matrix(n_out, n_cell) if projection else -1]
    return [*ops, m.floats(n_out) if projection == "bias" else -1]


def lstm(
    name, *, weights="f32", steps=3, batch=2, n_in=5, n_cell=6, n_out=None, seed=0, cifg=False,
    peephole=False, projection=None, norm=False, diagonal=False, time_major=False, cell_clip=0.0,
    proj_clip=0.0, asymmetric=False, activation=Activation.TANH, inputs=24,
):  # fmt: skip
    """A float or hybrid LSTM or UNIDIRECTIONAL_SEQUENCE_LSTM."""
    m = OneOperator(seed=seed, weights=weights)
    n_out = n_out or n_cell
    shape = (steps, batch) if time_major else (batch, steps)
    shape = (batch,) if name == "LSTM" else shape
    m.operands = [m.input("x", (*shape, n_in))]
    m.operands += float_cell(
        m, n_in, n_cell, n_out, cifg=cifg, peephole=peephole, projection=projection,
        diagonal=diagonal,
    )  # fmt: skip
    m.operands += [m.state(batch, n_out), m.state(batch, n_cell)]
    gates = range(1 if cifg else 0, 4) if norm else ()
    m.operands += [m.floats(n_cell) if g in gates else -1 for g in range(4)]
    m.operands = m.operands[:inputs]
    common = dict(
        activation=activation, cell_clip=cell_clip, proj_clip=proj_clip,
        asymmetric_quantize_inputs=asymmetric,
    )  # fmt: skip
    if name == "LSTM":
        options: Any = LSTMOptions(kernel_type=LSTMKernel.FULL, **common)
    else:
        options = UnidirectionalSequenceLSTMOptions(
            time_major=time_major, diagonal_recurrent_tensors=diagonal, **common
        )
    y = m.graph.add_output("y", (*shape, n_out), F32)
    return m.finish(name, [y], options)


def bidirectional_lstm(
    *, weights="f32", steps=3, batch=2, n_in=5, n_cell=6, n_out=None, seed=0, cifg=False,
    peephole=False, projection=None, time_major=True, merge=False, aux=None, n_aux=5,
    asymmetric=False,
):  # fmt: skip
    """A BIDIRECTIONAL_SEQUENCE_LSTM; `aux` is None, "weights" or "input"."""
    m = OneOperator(seed=seed, weights=weights)
    n_out = n_out or n_cell
    shape = (steps, batch) if time_major else (batch, steps)
    m.operands = [m.input("x", (*shape, n_in))]
    for _ in range(2):
        m.operands += float_cell(
            m, n_in, n_cell, n_out, cifg=cifg, peephole=peephole, projection=projection
        )
    for width in (n_out, n_cell) * 2:
        m.operands.append(m.state(batch, width))
    m.operands.append(m.input("aux", (*shape, n_aux)) if aux else -1)
    for _ in range(2):
        wanted = range(1 if cifg else 0, 4) if aux == "weights" else ()
        m.operands += [m.matrix(n_cell, n_aux) if g in wanted else -1 for g in range(4)]
    options = BidirectionalSequenceLSTMOptions(
        activation=Activation.TANH, merge_outputs=merge, time_major=time_major,
        asymmetric_quantize_inputs=asymmetric,
    )  # fmt: skip
    widths = [2 * n_out] if merge else [n_out, n_out]
    outs = [m.graph.add_output("y", (*shape, n), F32) for n in widths]
    return m.finish("BIDIRECTIONAL_SEQUENCE_LSTM", outs, options)


def integer_lstm(
    name="UNIDIRECTIONAL_SEQUENCE_LSTM", *, steps=3, batch=2, n_in=5, n_cell=6, n_out=None, seed=0,
    cifg=False, peephole=False, projection=None, norm=False, time_major=False, cell_clip=0.0,
    proj_clip=0.0, cell_bits=-11, narrow=False, gain=1.0,
):  # fmt: skip
    """An int8 LSTM, 8x8_16 or (`narrow`) 8x8_8."""
    m = OneOperator(seed=seed, weights="i8")
    n_out = n_out or n_cell
    shape = (steps, batch) if time_major else (batch, steps)
    shape = (batch,) if name == "LSTM" else shape
    x_scale, h_scale, hidden_scale = 0.02 * gain, 0.008, 0.007
    m.operands = [m.input("x", (*shape, n_in), I8, per_tensor(x_scale, 3))]
    gates = range(1 if cifg else 0, 4)
    m.operands += [m.matrix(n_cell, n_in, scale=0.02) if g in gates else -1 for g in range(4)]
    m.operands += [m.matrix(n_cell, n_out, scale=0.02) if g in gates else -1 for g in range(4)]
    wanted = [g for g in (0, 1, 3) if g in gates and peephole]
    for g in (0, 1, 3):
        made = m.integers(-20000, 20000, n_cell, I16, 1e-4) if g in wanted else -1
        m.operands.append(made)
    reach, bias_scale = (30000, 1e-5) if norm else (2000, 4e-4)
    for g in range(4):
        made = m.integers(-reach, reach, n_cell, I32, bias_scale) if g in gates else -1
        m.operands.append(made)
    m.operands.append(m.matrix(n_out, n_cell, scale=0.01) if projection else -1)
    bias = projection == "bias"
    m.operands.append(m.integers(-900, 900, n_out, I32, 1e-4) if bias else -1)
    bits = -15 if narrow else cell_bits
    m.operands.append(m.state(batch, n_out, dtype=I8, quantization=per_tensor(h_scale, -7)))
    m.operands.append(m.state(batch, n_cell, dtype=I16, quantization=per_tensor(2.0**bits)))
    for g in range(4):
        made = m.integers(-9000, 9000, n_cell, I16, 4e-4) if norm and g in gates else -1
        m.operands.append(made)
    common = dict(activation=Activation.TANH, cell_clip=cell_clip, proj_clip=proj_clip)
    if name == "LSTM":
        options: Any = LSTMOptions(kernel_type=LSTMKernel.FULL, **common)
    else:
        options = UnidirectionalSequenceLSTMOptions(time_major=time_major, **common)
    y = m.graph.add_output("y", (*shape, n_out), I8, quantization=per_tensor(h_scale, -7))
    if narrow:
        # of every gate: the sum, and what it is the sum of
        params = [(q, z) for _ in range(4) for q, z in ((0.02, 0), (0.03, 5), (0.025, -4))]
    else:
        params = [(0.001, 0)] * 4 + [(hidden_scale, 4)]
    middle = [m.graph.add_tensor("i", (1,), I16, quantization=per_tensor(*q)) for q in params]
    return m.finish(name, [y], options, intermediates=middle)


def basic_lstm(dtype=F32, *, batch=2, n_in=5, n_cell=4, seed=0):
    """The LSTM of five inputs."""
    m = OneOperator(seed=seed)
    n = n_in + n_cell
    x_q = per_tensor(1 / 128, 128) if dtype is U8 else None
    s_dtype, s_q = (I16, per_tensor(2.0**-11)) if dtype is U8 else (F32, None)
    x = m.input("x", (batch, n_in), dtype, x_q)
    activation = m.state(batch, n_cell, dtype=dtype, quantization=x_q)
    state = m.state(batch, n_cell, dtype=s_dtype, quantization=s_q)
    if dtype is U8:
        codes = m.rng.integers(0, 256, (4 * n_cell, n)).astype(np.uint8)
        w = m.graph.add_constant("w", codes, U8, quantization=per_tensor(0.02, 131))
        b = m.integers(-3000, 3000, 4 * n_cell, I32, 0.02 / 128)
    else:
        w, b = m.floats(4 * n_cell, n), m.floats(4 * n_cell)
    m.operands = [x, activation, w, b, state]
    outs = [
        m.graph.add_output("h", (batch, n_cell), dtype, quantization=x_q),
        m.graph.add_output("c", (batch, n_cell), s_dtype, quantization=s_q),
        m.graph.add_output("joined", (batch, n), dtype, quantization=x_q),
        m.graph.add_output("gates", (batch, 4 * n_cell), s_dtype, quantization=s_q),
    ]
    options = LSTMOptions(kernel_type=LSTMKernel.BASIC, activation=Activation.TANH)
    return m.finish("LSTM", outs, options, version=2)


def rnn(
    name, *, weights="f32", steps=3, batch=2, n_in=5, units=6, seed=0, time_major=False,
    activation=Activation.TANH, asymmetric=False, merge=False, aux=None,
):  # fmt: skip
    """RNN and both sequence RNNs; `aux` is None, "weights" or "input"."""
    m = OneOperator(seed=seed, weights=weights)
    shape = (steps, batch) if time_major else (batch, steps)
    shape = (batch,) if name == "RNN" else shape
    m.operands = [m.input("x", (*shape, n_in))]
    two = name.startswith("BI")
    for _ in range(2 if two else 1):
        m.operands += [m.matrix(units, n_in), m.matrix(units, units), m.floats(units)]
        m.operands.append(m.state(batch, units))
    common = dict(activation=activation, asymmetric_quantize_inputs=asymmetric)
    widths = [units]
    if two:
        m.operands.append(m.input("aux", (*shape, n_in)) if aux else -1)
        for _ in range(2):
            m.operands.append(m.matrix(units, n_in) if aux == "weights" else -1)
        options: Any = BidirectionalSequenceRNNOptions(
            time_major=time_major, merge_outputs=merge, **common
        )
        widths = [2 * units] if merge else [units, units]
    elif name == "RNN":
        options = RNNOptions(**common)
    else:
        options = SequenceRNNOptions(time_major=time_major, **common)
    outs = [m.graph.add_output("y", (*shape, n), F32) for n in widths]
    return m.finish(name, outs, options)


def svdf(
    *, weights="f32", batch=2, n_in=5, units=3, rank=2, times=4, seed=0, bias=True,
    activation=Activation.RELU, asymmetric=False, state=I16,
):  # fmt: skip
    """SVDF; `weights` is f32, i8 or u8 (hybrid), or "integer" with a memory of type `state`."""
    integer = weights == "integer"
    m = OneOperator(seed=seed, weights="i8" if integer else weights)
    filters = units * rank
    x_q = per_tensor(0.02, -5) if integer else None
    m.operands = [m.input("x", (batch, n_in), I8 if integer else F32, x_q)]
    m.operands.append(m.matrix(filters, n_in))
    if integer:
        reach = 30000 if state is I16 else 127
        scale = 0.9 / reach
        m.operands.append(m.integers(-reach, reach, (filters, times), state, scale))
        q = per_tensor(6.0 / reach)
        bias_op = m.integers(-reach * 100, reach * 100, units, I32, scale * 6 / reach)
        m.operands += [bias_op if bias else -1]
        m.operands.append(m.state(batch, filters * times, dtype=state, quantization=q))
    else:
        m.operands.append(m.matrix(filters, times))
        m.operands.append(m.floats(units) if bias else -1)
        m.operands.append(m.state(batch, filters * times))
    y_q = per_tensor(0.05, -100) if integer else None
    y = m.graph.add_output("y", (batch, units), I8 if integer else F32, quantization=y_q)
    options = SVDFOptions(rank=rank, activation=activation, asymmetric_quantize_inputs=asymmetric)
    return m.finish("SVDF", [y], options)


def feeds(content: bytes, *, runs=3, seed=1):
    """Inputs of `runs` invokes."""
    rng = np.random.default_rng(seed)
    details = Interpreter(model_content=content).get_input_details()
    made = []
    for _ in range(runs):
        row = []
        for d in details:
            shape, dtype = tuple(d["shape"]), np.dtype(d["dtype"])
            if dtype == np.float32:
                row.append(rng.normal(size=shape).astype(dtype))
            else:
                info = np.iinfo(dtype)
                row.append(rng.integers(info.min, info.max + 1, shape).astype(dtype))
        made.append(row)
    return made


def drive(interpreter, rows):
    """All outputs of all invokes, in order; the states go from one to the next."""
    interpreter.allocate_tensors()
    results = []
    for row in rows:
        for d, value in zip(interpreter.get_input_details(), row, strict=True):
            interpreter.set_tensor(d["index"], value)
        interpreter.invoke()
        results += [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    return results


def litert(content: bytes, rows):
    """What LiteRT makes of it. It may end the process: choose what it can do."""
    module = pytest.importorskip("ai_edge_litert.interpreter")
    kind = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return drive(
        module.Interpreter(model_content=content, experimental_op_resolver_type=kind), rows
    )


def same(got, want, *, tolerance=1e-6):
    """Integers equal; floats within `tolerance` of the largest."""
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(mine, theirs)
            continue
        peak = float(np.abs(theirs).max(initial=0.0))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * peak)
