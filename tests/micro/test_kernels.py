"""Kernels that only litejit.micro has: on every instruction set what NumPy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run
from tests.micro.customs import CASES, Case

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS, Isa, in_order
from litejit.kernels import fourier, lookup16, rnn_micro, signal
from litejit.kernels.base import KernelSpec
from litejit.micro import machine, runtime
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import Activation
from litejit.model.options.recurrent import UnidirectionalSequenceLSTMOptions
from litejit.types import I8, I16, I32, I64, DType

SPECS: list[KernelSpec] = [
    signal.WindowSpec(), signal.AutoScaleSpec(), signal.EnergySpec(), signal.FilterBankSpec(),
    signal.SquareRootSpec(), signal.SubtractionSpec(True), signal.GainSpec(), signal.LogSpec(),
    signal.ClassifySpec(), signal.FramesSpec(16), signal.OverlapAddSpec(False),
    signal.OverlapAddSpec(True), lookup16.Lookup16Spec(),
    rnn_micro.LSTMMicro(2, True, -11, "u64", "u64"), rnn_micro.LSTMMicro16(1, True, -11, "", ""),
    *(fourier.FourierSpec(dtype, (4, 2), inverse)
      for dtype in ("INT16", "INT32", "FLOAT32") for inverse in (False, True)),
]  # fmt: skip
COMPILED = [case for case in CASES if "look up" not in case.name and "prune" not in case.name]
every_isa = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key)
def test_every_instruction_set_compiles(spec: KernelSpec, isa: Isa) -> None:
    strict = in_order(isa)
    assert llvm.compile_ir(spec.emit("kernel", strict), strict)


def results(content: bytes, runs: list[list[Any]], isa: Isa | None, monkeypatch: Any) -> list[Any]:
    monkeypatch.setattr(machine, "host_isa", lambda: isa)
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=1 << 22)
    found = []
    for values in runs:
        for number, value in enumerate(values):
            interpreter.set_input(value, number)
        interpreter.invoke()
        count = len(interpreter._interpreter.outputs)
        found.append([np.asarray(interpreter.get_output(k)) for k in range(count)])
    return found


def assert_as_numpy(
    content: bytes, runs: list[list[Any]], isa: Isa, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = results(content, runs, None, monkeypatch)
    for a, b in zip(results(content, runs, isa, monkeypatch), expected, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@every_isa
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_signal_kernels_give_what_numpy_gives(
    case: Case, isa: Isa, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_as_numpy(case.content, case.runs, isa, monkeypatch)


def lstm(
    cells: int, inputs: int, *, time_major: bool, clip: float, cell_bits: int, data: DType = I8
) -> bytes:
    """An integer LSTM whose gates saturate now and then."""
    rng = np.random.default_rng(cells + inputs)
    model = ModelBuilder()
    graph = model.main

    def weights(width: int) -> int:
        value = rng.integers(-127, 127, (cells, width)).astype(np.int8)
        q = per_tensor(float(rng.uniform(0.01, 0.06)))
        return graph.add_constant("weights", value, I8, quantization=q)

    def bias() -> int:
        value, reach = rng.integers(-4000, 4000, cells), 1 if data == I8 else 200
        dtype = I32 if data == I8 else I64
        return graph.add_constant("bias", (value * reach).astype(dtype.numpy), dtype)

    q = per_tensor(1 / 128, 7) if data == I8 else per_tensor(1 / 32768)
    shape = (5, 2) if time_major else (2, 5)
    x_q = per_tensor(0.03, -5) if data == I8 else per_tensor(0.0002)
    x = graph.add_input("x", (*shape, inputs), data, quantization=x_q)
    operands = [x, *(weights(inputs) for _ in range(4)), *(weights(cells) for _ in range(4))]
    operands += [-1, -1, -1, *(bias() for _ in range(4)), -1, -1]
    operands.append(graph.add_tensor("h", (2, cells), data, quantization=q, is_variable=True))
    scale = per_tensor(2.0**cell_bits)
    operands.append(graph.add_tensor("c", (2, cells), I16, quantization=scale, is_variable=True))
    y = graph.add_output("y", (*shape, cells), data, quantization=q)
    options = UnidirectionalSequenceLSTMOptions(
        activation=Activation.TANH, cell_clip=clip, time_major=time_major
    )
    graph.add_operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [*operands, -1, -1, -1, -1], [y], options)
    return model.to_bytes()


@every_isa
@pytest.mark.parametrize(("cells", "inputs"), [(1, 3), (20, 28), (33, 9)])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(("clip", "cell_bits"), [(0.0, -11), (4.0, -12), (0.0, -13)])
@pytest.mark.parametrize("data", [I8, I16])
def test_the_lstm_gives_what_numpy_gives(
    cells: int, inputs: int, time_major: bool, clip: float, cell_bits: int, data: DType, isa: Isa,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    content = lstm(cells, inputs, time_major=time_major, clip=clip, cell_bits=cell_bits, data=data)
    shape = (5, 2, inputs) if time_major else (2, 5, inputs)
    rng = np.random.default_rng(1)
    info = np.iinfo(data.numpy)
    runs = [[rng.integers(info.min, info.max, shape).astype(data.numpy)] for _ in range(2)]
    assert_as_numpy(content, runs, isa, monkeypatch)


@every_isa
@pytest.mark.parametrize("size", [1, 7, 8, 9, 100])
def test_look_ups_of_int16_take_every_code_and_tell_refused_ones(size: int, isa: Isa) -> None:
    rng = np.random.default_rng(size)
    x = rng.integers(-32768, 32767, size, endpoint=True).astype(np.int16)
    x[0] = -32768
    table = rng.integers(-32768, 32767, lookup16.CODES).astype(np.int16)
    y, status = np.zeros(size, np.int16), np.zeros(1, np.int64)
    for least, refused in ((-32768, 0), (-32767, 1 << 48)):
        found = run(lookup16.Lookup16Spec(), x, y, table, status, least, items=size, isa=isa)
        np.testing.assert_array_equal(found[1], table[x.astype(np.int64) + 32768])
        assert found[3][0] == refused
