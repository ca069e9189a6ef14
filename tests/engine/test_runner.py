"""A runner keeps its promises when something underneath fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit import CodegenError, Interpreter
from litejit.codegen import cache, llvm
from litejit.engine.declared import declared_types
from litejit.engine.prepare import make_node, resolve
from litejit.errors import PrepareError
from litejit.model.builder import ModelBuilder
from litejit.ops.resolver import BuiltinOpResolver
from litejit.types import F32, I8

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits" / "digits_int8.tflite"


def digit_of(interpreter: Interpreter) -> Any:
    image = np.arange(-64, 64, 2, dtype=np.int8).reshape(1, 8, 8, 1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_numpy_runs_where_kernels_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Interpreter(str(DIGITS))
    compiled.allocate_tensors()

    def refuse(*_: object) -> None:
        raise CodegenError("no compiler today")

    monkeypatch.setattr(cache, "addresses", refuse)
    monkeypatch.setattr(cache, "pack_addresses", refuse)
    plain = Interpreter(str(DIGITS))
    with pytest.warns(UserWarning, match="no compiler today"):
        plain.allocate_tensors()
    np.testing.assert_array_equal(digit_of(plain), digit_of(compiled))


def test_a_failed_allocation_leaves_the_interpreter_usable() -> None:
    interpreter = Interpreter(str(DIGITS))
    interpreter.allocate_tensors()
    before = digit_of(interpreter)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, [1, 7, 7, 1])
    with pytest.raises(RuntimeError, match="RESHAPE"):
        interpreter.allocate_tensors()
    interpreter.resize_tensor_input(index, [1, 8, 8, 1])
    interpreter.allocate_tensors()
    np.testing.assert_array_equal(digit_of(interpreter), before)


def model_of(name: str, *, inputs: int) -> bytes:
    builder = ModelBuilder()
    main = builder.main
    numbers = [main.add_input(f"x{number}", (3,), F32) for number in range(inputs)]
    main.add_operator(name, numbers, [main.add_output("y", (3,), F32)])
    return builder.to_bytes()


def test_a_wrong_number_of_operands_closes_with_the_words_of_litert() -> None:
    interpreter = Interpreter(model_content=model_of("ABS", inputs=2))
    refusal = r"^ABS \(operator 0\): has 2 inputs, expected 1\nNode number 0 \(ABS\) failed to prep"
    with pytest.raises(PrepareError, match=refusal):
        interpreter.allocate_tensors()


def test_whatever_goes_wrong_in_lowering_names_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setenv("LITEJIT_CACHE", "off")
    interpreter = Interpreter(model_content=model_of("ABS", inputs=1))
    op = interpreter._runner.operators[0].op
    monkeypatch.setattr(type(op), "lower", fail)
    with pytest.raises(PrepareError, match=r"^ABS \(operator 0\): KeyError: 'lost'\nNode number 0"):
        interpreter.allocate_tensors()
    monkeypatch.undo()
    interpreter.allocate_tensors()
    interpreter.invoke()


def test_numpy_runs_where_a_kernel_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("no such register")

    monkeypatch.setattr(cache, "_read", lambda *_: None)
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(llvm, "compile_ir", fail)
    interpreter = Interpreter(model_content=model_of("ABS", inputs=1))
    with pytest.warns(UserWarning, match="NumPy runs instead: .*no such register"):
        interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([-1, 2, -3], np.float32))
    interpreter.invoke()
    assert interpreter.get_tensor(1).tolist() == [1, 2, 3]


def test_absent_intermediate_tensors_keep_the_places_of_the_others() -> None:
    builder = ModelBuilder()
    main = builder.main
    x, y = main.add_input("x", (3,), F32), main.add_output("y", (3,), F32)
    between = main.add_tensor("between", (0,), I8)
    main.add_operator("ABS", [x], [y], intermediates=[-1, between])
    model = builder.build()
    (resolved,) = resolve(model, model.subgraphs[0], BuiltinOpResolver())
    node = make_node(0, resolved, declared_types(model, 0), None)  # type: ignore[arg-type]
    assert [t and t.name for t in node.intermediates] == [None, "between"]
