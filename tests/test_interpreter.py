"""The drop-in: every use and misuse in tests/api/cases.py gives what LiteRT gives."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from tests.api.cases import CASES, made, outcome, ready
from tests.api.models import model
from tests.api.record import RECORD

import litejit.interpreter as module
from litejit.model.builder import ModelBuilder
from litejit.types import F32, I32

RECORDED: dict[str, Any] = json.loads(RECORD.read_text())

# Where LiteRT's words tell of its own insides, these stand at the beginning of ours.
OWN_WORDS = {
    "test_constructor_with_a_folder": "Mmap of '",
    "test_registerer_symbol_is_looked_up": "Looking up symbol 'Bogus' failed with error '",
    "test_failing_run_names_the_node": "GATHER (operator 0): ",
    "test_interpreters_cannot_be_pickled": "cannot pickle '",
    "test_deleting_by_hand_ends_the_interpreter": "'NoneType' object ",
    "test_resize_that_does_not_fit": "ADD (operator 0): ",
    "test_calling_a_signature_with_a_shape_that_does_not_fit": "ADD (operator 0): ",
    "test_model_with_too_many_operands": "allocating: NEG (operator 0): has 2 inputs",
    "test_model_with_no_operands": "allocating: NEG (operator 0): has 0 inputs",
}
# LiteRT reads memory that nobody wrote, or writes over an input while it reads it.
STRICTER = {
    "test_model_with_a_result_that_is_its_operand": "Tensor 0 is both input 0 and output 0",
    "test_model_with_an_operand_that_nobody_writes": "is read before anything has written it",
}


def unhashable() -> str:
    """What this Python says about a list where something hashable is needed."""
    with pytest.raises(TypeError) as refused:
        _ = [] in frozenset()
    return str(refused.value)


# CPython's own words, which change from version to version.
PYTHONS_WORDS = {"test_constructor_with_resolver_list": unhashable()}
# LiteRT ends the process here.
INSTEAD_OF_A_CRASH = {
    "test_details_of_tensor_of_subgraph_7": {
        "error": "ValueError",
        "message": "Invalid subgraph index 7 exceeds max subgraph index 1",
    },
}


def words(name: str, message: str) -> str:
    """What our message must begin with."""
    own = OWN_WORDS.get(name) or PYTHONS_WORDS.get(name)
    if own is not None:
        return own
    head, found, _ = message.partition("incompatible function arguments.")
    return head + found if found else message.rstrip("\n")


def agrees(name: str, expected: dict[str, Any], found: dict[str, Any]) -> bool:
    if name in STRICTER:
        return found["error"] == "RuntimeError" and STRICTER[name] in found["message"]
    if "crash" in expected:
        expected = INSTEAD_OF_A_CRASH[name]
    if "message" not in expected or "message" not in found:
        return expected == found
    begins = found["message"].startswith(words(name, expected["message"]))
    return begins and all(expected.get(k) == found.get(k) for k in ("error", "warnings"))


@pytest.mark.parametrize("name", CASES)
def test_outcome_is_that_of_litert(name: str) -> None:
    found = outcome(CASES[name], module)
    assert agrees(name, RECORDED[name], found), (RECORDED[name], found)


def test_every_case_was_recorded() -> None:
    assert RECORDED.keys() == CASES.keys()


def test_messages_do_not_pile_up() -> None:
    interpreter = made(module, "add")
    for _ in range(3):
        with pytest.raises(RuntimeError, match="^Invoke called on model that is not ready.$"):
            interpreter.invoke()


def test_sizes_of_fractions_are_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        ready(module, "add").resize_tensor_input(0, [1.5, 4])


def test_arrays_of_the_other_byte_order_keep_their_values() -> None:
    interpreter = ready(module, "add")
    interpreter.set_tensor(0, np.array([[1, 2, 3, 4]], ">f4"))
    assert interpreter.get_tensor(0).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("how", ["content", "view"])
def test_constants_cannot_be_written(how: str) -> None:
    interpreter = ready(module, "add")
    with pytest.raises(ValueError, match="constant|read-only"):
        if how == "content":
            interpreter.set_tensor(1, np.zeros(4, np.float32))
        else:
            interpreter.tensor(1)()[:] = 0
    assert interpreter.get_tensor(1).tolist() == [1, 1, 1, 1]


def test_string_tensor_that_was_never_set_can_be_read() -> None:
    assert ready(module, "strings").get_tensor(0).tolist() == [b"", b""]


@pytest.mark.parametrize(("name", "index"), [("strings", 0), ("packed", 0), ("packed", 2)])
def test_tensors_that_numpy_cannot_view_are_refused(name: str, index: int) -> None:
    with pytest.raises(ValueError, match="Cannot view tensor"):
        ready(module, name).tensor(index)()


def test_scalar_strings_of_text_are_encoded() -> None:
    interpreter = ready(module, "strings")
    for value in (np.array("ü"), np.array("ü", object)):
        interpreter.set_tensor(3, value)
        assert interpreter.get_tensor(3)[()] == "ü".encode()


def test_intermediate_tensors_are_null_or_exact() -> None:
    interpreter = ready(module, "fixed")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    for index, exact in ((1, -x), (2, np.exp(-x))):
        try:
            found = interpreter.get_tensor(index)
        except ValueError as error:
            assert str(error).startswith("Tensor data is null.")
        else:
            np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_preserving_tensors_changes_no_number() -> None:
    kind = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    x = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    results = []
    for preserve in (False, True):
        interpreter = ready(module, "fixed", experimental_preserve_all_tensors=preserve,
                            experimental_op_resolver_type=kind)  # fmt: skip
        interpreter.set_tensor(0, x)
        interpreter.invoke()
        results.append(interpreter.get_tensor(3).tobytes())
    assert results[0] == results[1]


def test_bfloat16_is_described_where_its_type_is_installed() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    interpreter = ready(module, "bfloat")
    assert interpreter.get_input_details()[0]["dtype"] is ml_dtypes.bfloat16
    interpreter.set_tensor(0, np.array([1.5, -2], ml_dtypes.bfloat16))
    assert interpreter.get_tensor(0).tolist() == [1.5, -2]


def test_shallow_copy_shares_the_tensors() -> None:
    interpreter = ready(module, "add")
    twin = copy.copy(interpreter)
    interpreter.set_tensor(0, np.full((1, 4), 7, np.float32))
    assert twin.get_tensor(0)[0, 0] == 7
    with pytest.raises(RuntimeError, match="There is at least 1 reference"):
        interpreter.invoke()


def test_view_keeps_the_memory_after_the_interpreter_is_gone() -> None:
    interpreter = ready(module, "add")
    view = interpreter.tensor(0)()
    view[:] = 3
    del interpreter
    junk = [bytearray(4096) for _ in range(500)]
    assert view.tolist() == [[3, 3, 3, 3]]
    assert junk


def test_results_are_the_same_with_any_number_of_threads() -> None:
    x = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    results = set()
    for threads in (1, 2, 3):
        interpreter = made(module, "fixed", num_threads=threads)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, x)
        interpreter.invoke()
        results.add(interpreter.get_tensor(3).tobytes())
    assert len(results) == 1


def test_failed_allocation_leaves_the_interpreter_usable() -> None:
    interpreter = ready(module, "add")
    interpreter.resize_tensor_input(0, [1, 5])
    with pytest.raises(RuntimeError, match="failed to prepare"):
        interpreter.allocate_tensors()
    with pytest.raises(RuntimeError, match="not ready"):
        interpreter.invoke()
    interpreter.resize_tensor_input(0, [1, 4])
    interpreter.allocate_tensors()
    interpreter.invoke()


def test_model_content_of_litert_is_kept() -> None:
    assert made(module, "add")._model_content == model("add")


def test_empty_results_can_be_read_where_an_operand_is_no_constant() -> None:
    model = ModelBuilder()
    x = model.main.add_input("x", (4, 0), F32)
    y = model.main.add_output("y", (4, 0), F32)
    model.main.add_operator("ZEROS_LIKE", [x], [y])
    interpreter = module.Interpreter(model_content=model.to_bytes())
    interpreter.allocate_tensors()
    interpreter.invoke()
    assert interpreter.get_tensor(y).shape == (4, 0)


def read(model: ModelBuilder, *values: Any) -> Any:
    """The first output of a run on `values`."""
    interpreter = module.Interpreter(model_content=model.to_bytes())
    interpreter.allocate_tensors()
    for details, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_an_empty_result_is_shown_unless_its_own_operator_found_its_shape_in_data() -> None:
    model = ModelBuilder()
    size = model.main.add_input("size", (1,), I32)
    one = model.main.add_constant("one", np.float32(1))
    filled = model.main.add_tensor("filled", (1,), F32)
    model.main.add_operator("FILL", [size, one], [filled])
    square = model.main.add_output("square", (1, 1), F32)
    model.main.add_operator("MATRIX_DIAG", [filled], [square])
    assert read(model, np.int32([0])).shape == (0, 0)
    model.main.outputs = [filled]
    with pytest.raises(ValueError, match="Invalid tensor size"):
        read(model, np.int32([0]))


def test_an_empty_range_up_to_a_value_known_only_in_the_run_is_refused() -> None:
    model = ModelBuilder()
    zero, one = (model.main.add_constant(f"c{k}", np.int32(k)) for k in (0, 1))
    limit = model.main.add_input("limit", (), I32)
    y = model.main.add_output("y", (1,), I32)
    model.main.add_operator("RANGE", [zero, limit, one], [y])
    assert read(model, np.int32(3)).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="Invalid tensor size"):
        read(model, np.int32(0))


def test_a_matrix_product_may_be_followed_by_a_shape_known_only_in_the_run() -> None:
    model = ModelBuilder()
    x = model.main.add_input("x", (2, 3), F32)
    shape = model.main.add_input("shape", (1,), I32)
    weights = model.main.add_constant("weights", np.eye(3, dtype=np.float32))
    product = model.main.add_tensor("product", (2, 3), F32)
    model.main.add_operator("FULLY_CONNECTED", [x, weights, -1], [product])
    y = model.main.add_output("y", (6,), F32)
    model.main.add_operator("RESHAPE", [product, shape], [y])
    value = np.arange(6, dtype=np.float32)
    assert read(model, value.reshape(2, 3), np.int32([-1])).tolist() == value.tolist()
