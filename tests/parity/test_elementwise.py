"""Every elementwise operator and type against LiteRT's reference kernels, on random operands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit import Interpreter
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import Activation
from litejit.model.options import elementwise as options
from litejit.types import BOOL, F32, I8, I16, I32, I64, U8, DType

pytest.importorskip("ai_edge_litert")
RUN = """
import sys, numpy as np
from ai_edge_litert import interpreter as litert
folder, count = sys.argv[1], int(sys.argv[2])
for j in range(count):
    data = np.load(f"{folder}/{j}.npz")
    kind = litert.OpResolverType.BUILTIN_REF
    try:
        it = litert.Interpreter(f"{folder}/{j}.tflite", experimental_op_resolver_type=kind)
        it.allocate_tensors()
        for k, detail in enumerate(it.get_input_details()):
            it.set_tensor(detail["index"], data[f"x{k}"])
        it.invoke()
        np.save(f"{folder}/{j}.npy", it.get_tensor(it.get_output_details()[0]["index"]))
    except (RuntimeError, ValueError) as error:
        open(f"{folder}/{j}.txt", "w").write(str(error))
"""
NUMBERS = (F32, I8, U8, I16, I32, I64)
ARITHMETIC: dict[str, tuple[tuple[DType, ...], Any]] = {
    "ADD": (NUMBERS, options.AddOptions()),
    "SUB": (NUMBERS, options.SubOptions()),
    "MUL": (NUMBERS, options.MulOptions()),
    "DIV": ((F32,), options.DivOptions()),
    "MAXIMUM": (NUMBERS, options.MaximumMinimumOptions()),
    "MINIMUM": (NUMBERS, options.MaximumMinimumOptions()),
    "SQUARED_DIFFERENCE": ((F32, I8, I32), options.SquaredDifferenceOptions()),
    "PRELU": ((F32, I8, U8), None),
    **{name: (NUMBERS, None) for name in
       ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")},
}  # fmt: skip
ONE: dict[str, tuple[tuple[DType, ...], Any]] = {
    "LOGISTIC": ((F32, I8, U8, I16), None),
    "TANH": ((F32, I8, U8, I16), None),
    "HARD_SWISH": ((F32, I8, U8), options.HardSwishOptions()),
    "RELU": ((F32, I8, U8, I16), None),
    "RELU6": ((F32, I8, U8, I16), None),
    "RELU_N1_TO_1": ((F32, I8, U8), None),
    "RELU_0_TO_1": ((F32, I8, U8), None),
    "LEAKY_RELU": ((F32, I8, U8, I16), options.LeakyReluOptions(alpha=0.3)),
    "GELU": ((F32, I8, U8, I16), options.GeluOptions()),
    "EXP": ((F32, I8, I16), options.ExpOptions()),
    "LOG": ((F32, I8, I16), None),
    "SQRT": ((F32,), None),
    "RSQRT": ((F32,), None),
    "ABS": ((F32, I8, I16, I32), options.AbsOptions()),
    "NEG": ((F32, I8, I32, I64), options.NegOptions()),
    "SIN": ((F32,), None),
    "COS": ((F32,), options.CosOptions()),
    "FLOOR": ((F32,), None),
}
CONVERSIONS = [
    ("QUANTIZE", F32, (I8, U8, I16)), ("QUANTIZE", I8, (I8, U8, I16)), ("QUANTIZE", U8, (I8, U8)),
    ("QUANTIZE", I16, (I8, I16, I32)), ("QUANTIZE", I32, (I8, I16)),
    ("DEQUANTIZE", I8, (F32,)), ("DEQUANTIZE", U8, (F32,)), ("DEQUANTIZE", I16, (F32,)),
    ("CAST", F32, (I8, U8, I16, I32, I64, BOOL)), ("CAST", I32, (F32, I8, I64, BOOL)),
]  # fmt: skip
SYMMETRIC = (I16, I32)
SHAPES = [((3, 5, 7), (3, 5, 7)), ((2, 4, 33), (33,)), ((6, 1, 5), (1, 9, 1)), ((70,), ())]


def operand(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    if dtype is F32:
        return np.asarray(rng.normal(0, 4, shape), np.float32)
    if dtype in (I32, I64):
        return np.asarray(rng.integers(-40000, 40000, shape), dtype.numpy)
    info = np.iinfo(dtype.numpy)
    return np.asarray(rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True))


def quantized(rng: np.random.Generator, dtype: DType, scale: float = 0.0) -> dict[str, Any]:
    if dtype in (F32, BOOL, I64):
        return {}
    zero = 0
    if dtype not in SYMMETRIC:
        zero = int(rng.integers(-100, 100)) + (128 if dtype is U8 else 0)
    return {"quantization": per_tensor(scale or float(rng.uniform(0.01, 0.1)), zero)}


def model(
    rng: np.random.Generator, name: str, option: Any, types: tuple[DType, ...],
    shapes: tuple[tuple[int, ...], ...], out: DType,
) -> tuple[str, bytes, list[np.ndarray]]:  # fmt: skip
    builder = ModelBuilder()
    graph = builder.main
    plain = name == "CAST" or (types[0] is I32 and name != "QUANTIZE")
    numbers, values = [], []
    for k, (dtype, shape) in enumerate(zip(types, shapes, strict=True)):
        more = {} if plain else quantized(rng, dtype)
        numbers.append(graph.add_input(f"x{k}", shape, dtype, **more))
        values.append(operand(rng, dtype, shape))
    more = {} if plain else quantized(rng, out)
    if name == "LOGISTIC" and out in (I8, U8):
        more = {"quantization": per_tensor(1 / 256, -128 if out is I8 else 0)}
    if name in ("LOGISTIC", "TANH") and out is I16:
        more = {"quantization": per_tensor(2.0**-15)}
    y = graph.add_output("y", np.broadcast_shapes(*shapes), out, **more)
    graph.add_operator(name, numbers, [y], option)
    return f"{name} {types[0]} -> {out} {shapes}", builder.to_bytes(), values


def models() -> list[tuple[str, bytes, list[np.ndarray]]]:
    rng = np.random.default_rng(5)
    found = []
    compared = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
    for name, (dtypes, option) in ARITHMETIC.items():
        for dtype in dtypes:
            out = BOOL if name in compared else dtype
            for shapes in SHAPES[: 2 if name == "PRELU" else 4]:
                found.append(model(rng, name, option, (dtype, dtype), shapes, out))
    for activation in (Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1):
        for dtype in (F32, I8, U8, I32):
            option = options.AddOptions(activation=activation)
            found.append(model(rng, "ADD", option, (dtype, dtype), SHAPES[0], dtype))
    for name, (dtypes, option) in ONE.items():
        for dtype in dtypes:
            found.append(model(rng, name, option, (dtype,), ((5, 2001),), dtype))
    for name, source, targets in CONVERSIONS:
        for target in targets:
            option = options.CastOptions(in_data_type=source, out_data_type=target)
            option = option if name == "CAST" else None
            found.append(model(rng, name, option, (source,), ((5, 2001),), target))
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("elementwise")
    cases = models()
    for j, (_, data, values) in enumerate(cases):
        (folder / f"{j}.tflite").write_bytes(data)
        np.savez(folder / f"{j}.npz", **{f"x{k}": value for k, value in enumerate(values)})
    command = [sys.executable, "-c", RUN, str(folder), str(len(cases))]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder, cases


@pytest.mark.parametrize("compiled", ["0", "1"], ids=["numpy", "kernels"])
def test_results_equal_litert(
    recorded: tuple[Path, list[Any]], compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITEJIT_COMPILE", compiled)
    folder, cases = recorded
    compared, wrong = 0, []
    for j, (title, data, values) in enumerate(cases):
        interpreter = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        for detail, value in zip(interpreter.get_input_details(), values, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        if not (folder / f"{j}.npy").exists():
            wrong.append(f"{title}: LiteRT says {(folder / f'{j}.txt').read_text()[:200]}")
            continue
        compared += 1
        expected = np.load(folder / f"{j}.npy")
        if y.dtype == np.float32:
            same = np.isclose(y, expected, rtol=1e-5, atol=1e-7, equal_nan=True)
        else:
            same = y == expected
        if not same.all():
            bad = np.nonzero(~same.ravel())[0][:4]
            got, want = y.ravel()[bad], expected.ravel()[bad]
            wrong.append(f"{title}: {(~same).sum()} of {y.size}: {got} for {want}")
    assert not wrong, "\n".join(wrong)
    assert compared == len(cases)
