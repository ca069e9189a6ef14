"""A runner keeps its promises when something underneath fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litejit import CodegenError, Interpreter
from litejit.codegen import cache

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
