"""The façade: TFLM's calls, in its order of checks, with its exceptions and their first words."""

from __future__ import annotations

import copy
import inspect
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit.micro import runtime
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options.control import VarHandleOptions
from litejit.model.options.elementwise import AddOptions
from litejit.types import F32, I8, I16, RESOURCE, DType

ARENA = 1 << 16


def adder(dtype: DType = I8, shape: tuple[int, ...] = (2, 3)) -> bytes:
    model = ModelBuilder()
    graph = model.main
    q = per_tensor(0.5, 3) if dtype == I8 else None
    a, b = (graph.add_input(name, shape, dtype, quantization=q) for name in "ab")
    y = graph.add_output("y", shape, dtype, quantization=q)
    graph.add_operator("ADD", [a, b], [y], AddOptions())
    return model.to_bytes()


def opened(content: bytes | None = None, **more: Any) -> runtime.Interpreter:
    return runtime.Interpreter.from_bytes(content or adder(), arena_size=ARENA, **more)


def test_signatures_are_tflms_and_take_the_right_spelling_too() -> None:
    names = ["model_data", "custom_op_registerers", "arena_size", "intrepreter_config",
             "alt_decompression_memory_size", "interpreter_config"]  # fmt: skip
    parameters = inspect.signature(runtime.Interpreter.__init__).parameters
    assert list(parameters)[1:] == names
    assert list(inspect.signature(runtime.Interpreter.from_bytes).parameters) == names
    both = runtime.InterpreterConfig
    assert both.kAllocationRecording.value == 0
    assert both.kPreserveAllTensors.value == 1
    preserved = opened(interpreter_config=both.kPreserveAllTensors)
    assert preserved.GetTensor(0, 0)["dtype"] is np.int8


def test_a_run_gives_copies_and_0() -> None:
    interpreter = opened()
    a = np.arange(6, dtype=np.int8).reshape(2, 3)
    interpreter.set_input(a, 0)
    interpreter.set_input(np.asfortranarray(a), 1)
    assert interpreter.invoke() == 0
    y = interpreter.get_output(0)
    np.testing.assert_array_equal(y, 2 * a - 3)
    y[...] = 0
    np.testing.assert_array_equal(interpreter.get_output(0), 2 * a - 3)


def test_details_have_tflms_keys_in_its_order() -> None:
    details = opened().get_input_details(0)
    assert list(details) == ["dtype", "shape", "quantization_parameters"]
    assert details["dtype"] is np.int8
    assert details["shape"].dtype == np.int32
    parameters = details["quantization_parameters"]
    assert list(parameters) == ["scales", "zero_points", "quantized_dimension"]
    assert (parameters["scales"].tolist(), parameters["zero_points"].tolist()) == ([0.5], [3])


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        (None, ValueError, "Model must not be None"),
        (b"", struct.error, "unpack_from requires a buffer of at least 4 bytes"),
        (b"\0" * 64, TypeError, ""),
        (adder()[:200], struct.error, ""),
        ("model", TypeError, "memoryview: a bytes-like object is required, not 'str'"),
        (bytearray(adder()), TypeError, "__init__(): incompatible constructor arguments."),
    ],
)
def test_what_is_no_model_is_refused(model: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as refusal:
        runtime.Interpreter.from_bytes(model, arena_size=ARENA)
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize("path", [None, "/nowhere/model.tflite", "/", 7])
def test_a_path_that_is_no_file_is_refused(path: Any) -> None:
    with pytest.raises(ValueError, match="^Invalid model file path$"):
        runtime.Interpreter.from_file(path)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"custom_op_registerers": ("f",)}, ValueError, "Custom ops registerers must be a list"),
        ({"custom_op_registerers": [1]}, ValueError, "Custom ops registerers must be a list"),
        ({"custom_op_registerers": ["f"]}, RuntimeError, "TFLM could not register custom op via f"),
        ({"arena_size": -1}, TypeError, "__init__(): incompatible constructor arguments."),
        ({"arena_size": 1.5}, TypeError, "__init__(): incompatible constructor arguments."),
        ({"arena_size": 1 << 64}, TypeError, "__init__(): incompatible constructor arguments."),
        ({"arena_size": 1 << 62}, MemoryError, "std::bad_alloc"),
        ({"arena_size": 100}, RuntimeError, "TFLM failed to allocate tensors"),
        ({"intrepreter_config": None}, KeyError, "None"),
        ({"intrepreter_config": 0}, KeyError, "0"),
        ({"alt_decompression_memory_size": -1}, TypeError, "__init__(): incompatible"),
    ],
)
def test_arguments_are_checked(more: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as refusal:
        runtime.Interpreter.from_bytes(adder(), **more)
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize(
    ("value", "index", "kind", "words"),
    [
        (None, 0, ValueError, "Input data must not be None"),
        (np.zeros((2, 3), np.int8), None, ValueError, "Index must be a non-negative integer"),
        (np.zeros((2, 3), np.int8), -1, ValueError, "Index must be a non-negative integer"),
        (np.zeros((2, 3), np.int8), "0", TypeError, "'<' not supported between instances"),
        (np.zeros((2, 3), np.int8), 0.5, TypeError, "SetInputTensor(): incompatible function"),
        ([[1], [2, 3]], 0, ValueError, "TFLM cannot convert input to PyArray"),
        (np.zeros((2, 3), np.int8), 2, IndexError, "Tensor is out of bound, please check tensor"),
        ([[1.0] * 3] * 2, 0, ValueError,
         "Cannot set tensor: Got value of type FLOAT64 but expected type INT8 for input 0"),
        (np.zeros((2, 3), np.uint16), 0, ValueError,
         "Cannot set tensor: Got value of type NOTYPE but expected type INT8 for input 0"),
        (np.zeros(6, np.int8), 0, ValueError,
         "Cannot set tensor: Dimension mismatch. Got 1 but expected 2 for input 0"),
        (np.zeros((2, 4), np.int8), 1, ValueError,
         "Cannot set tensor: Dimension mismatch. Got 4 but expected 3 for dimension 1 of input 1"),
    ],
)  # fmt: skip
def test_inputs_are_checked(value: Any, index: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as refusal:
        opened().set_input(value, index)
    assert str(refusal.value).startswith(words)


def test_outputs_and_tensors_are_checked() -> None:
    interpreter = opened()
    for ask in (interpreter.get_output, interpreter.get_input_details,
                interpreter.get_output_details):  # fmt: skip
        with pytest.raises(ValueError, match="^Index must be a non-negative integer$"):
            ask(-1)
        with pytest.raises(IndexError, match="^Tensor is out of bound, please check tensor index"):
            ask(9)
    with pytest.raises(RuntimeError, match=r"kPeserverAllTensors interpreter_config$"):
        interpreter.GetTensor(0, 0)
    preserved = opened(intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors)
    for indices in ((99, 0), (0, 99)):
        with pytest.raises(IndexError):
            preserved.GetTensor(*indices)
    with pytest.raises(ValueError, match="^Cannot print allocations as they were not recorded$"):
        preserved.print_allocations()


@pytest.mark.parametrize("use", [copy.copy, copy.deepcopy, pickle.dumps])
def test_interpreters_are_neither_copied_nor_pickled(use: Any) -> None:
    with pytest.raises(TypeError, match="^cannot pickle "):
        use(opened())


def test_allocations_are_printed_to_the_process_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    interpreter = opened()
    interpreter.print_allocations()
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.replace("\r\n", "\n") == interpreter.allocations().text().replace("\r\n", "\n")
    assert said.err.startswith("[RecordingMicroAllocator] Arena allocation total ")


def test_a_default_arena_grows_with_a_warning_that_says_how_much(tmp_path: Path) -> None:
    content = adder(shape=(2, 4000))
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="needs an arena of [0-9]+ bytes, more than the default"):
        interpreter = runtime.Interpreter.from_file(path)
    least = interpreter.allocations().least_arena
    with pytest.raises(RuntimeError, match=f"{least} would do"):
        runtime.Interpreter.from_bytes(content, arena_size=least - 16)
    assert runtime.Interpreter.from_bytes(content, arena_size=least).invoke() == 0


@pytest.mark.parametrize(
    ("name", "dtype", "stage"),
    [
        ("TILE", I8, "TFLM failed to allocate tensors"),
        ("EXP", I8, "TFLM failed to allocate tensors"),
        ("NEG", I8, "Interpreter invocation failed."),
        ("FLOOR", I16, "Interpreter invocation failed."),
    ],
)
def test_operators_and_types_are_refused_where_tflm_refuses_them(
    name: str, dtype: DType, stage: str
) -> None:
    model = ModelBuilder()
    q = per_tensor(0.5)
    x = model.main.add_input("x", (4,), dtype, quantization=q)
    y = model.main.add_output("y", (4,), dtype, quantization=q)
    inputs = [x] if name != "TILE" else [x, model.main.add_constant("n", np.array([1], np.int32))]
    model.main.add_operator(name, inputs, [y])
    with pytest.raises(RuntimeError) as refusal:
        opened(model.to_bytes()).invoke()
    assert type(refusal.value) is RuntimeError
    assert str(refusal.value).startswith(stage)


def test_operator_versions_and_the_identifier_are_not_looked_at() -> None:
    model = ModelBuilder()
    x = model.main.add_input("x", (4,), F32)
    y = model.main.add_output("y", (4,), F32)
    model.main.add_operator("ABS", [x], [y], version=99)
    content = model.to_bytes()
    interpreter = opened(content[:4] + b"none" + content[8:])
    interpreter.set_input(np.full(4, -2, np.float32), 0)
    interpreter.invoke()
    assert interpreter.get_output(0).tolist() == [2.0] * 4


def counter() -> bytes:
    """y = the resource variable, which is then x + y."""
    model = ModelBuilder()
    graph = model.main
    q = per_tensor(1.0, 5)
    x = graph.add_input("x", (1,), I8, quantization=q)
    handle = graph.add_tensor("handle", (), RESOURCE)
    y = graph.add_output("y", (1,), I8, quantization=q)
    total = graph.add_tensor("total", (1,), I8, quantization=q)
    graph.add_operator("VAR_HANDLE", [], [handle], VarHandleOptions(shared_name="sum"))
    graph.add_operator("READ_VARIABLE", [handle], [y])
    graph.add_operator("ADD", [x, y], [total], AddOptions())
    graph.add_operator("ASSIGN_VARIABLE", [handle, total], [])
    return model.to_bytes()


def test_reset_gives_resource_variables_their_zero_point() -> None:
    content = counter()
    assert runtime.count_resource_variables(content) == 1
    interpreter = opened(content)
    for _ in range(2):
        said = []
        for _ in range(3):
            interpreter.set_input(np.array([6], np.int8), 0)
            interpreter.invoke()
            said.append(int(interpreter.get_output(0)[0]))
        assert said == [5, 6, 7]
        assert interpreter.reset() == 0


def test_scalars_have_no_dimensions() -> None:
    model = ModelBuilder()
    x = model.main.add_input("x", (), F32)
    y = model.main.add_output("y", (), F32)
    model.main.add_operator("ABS", [x], [y])
    interpreter = opened(model.to_bytes())
    interpreter.set_input(np.float32(-7), 0)
    interpreter.invoke()
    assert type(interpreter.get_output(0)) is np.float32
    assert interpreter.get_output(0) == 7
    assert interpreter.get_input_details(0)["shape"].shape == (0,)
