"""TensorFlow Lite's Java interface in Python: what it takes, resizes, refuses and gives."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.models import custom_model, model
from tests.test_cpp_api import long_model

import litejit
from litejit import InterpreterApi, Model

X = np.array([[1, 2, 3, 4]], np.float32)


def made(name: str, **options: Any) -> InterpreterApi:
    return InterpreterApi(model(name), InterpreterApi.Options(**options))


def test_models_come_from_paths_buffers_and_models(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(model("add"))
    sources = [path, str(path), model("add"), bytearray(model("add")), memoryview(model("add")),
               np.frombuffer(model("add"), np.uint8), Model.from_buffer(model("add"))]  # fmt: skip
    for source in sources:
        assert InterpreterApi.create(source).run(X).tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nope", "Contents of /nope does not encode a valid TensorFlow Lite model: Could not"),
        (b"abc", "ByteBuffer is not a valid TensorFlow Lite model flatbuffer"),
        (5, "Model ByteBuffer should be"),
        (model("bad_version"), "Internal error: Cannot create interpreter: Didn't find op"),
    ],
)
def test_what_is_no_model_is_a_value_error(source: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        InterpreterApi(source)


def test_tensors_are_allocated_when_it_is_made() -> None:
    words = "^Internal error: Unexpected failure when preparing tensor allocations: Encountered"
    with pytest.raises(RuntimeError, match=words):
        InterpreterApi(custom_model("MyOp"))


def test_run_returns_or_fills_the_output() -> None:
    api = made("add")
    assert api.run(X).tolist() == [[2, 3, 4, 5]]
    target = np.zeros((1, 4), np.float32)
    assert api.run(X, target) is target
    assert target.tolist() == [[2, 3, 4, 5]]
    rows = [[0.0] * 4]
    api.run(X, rows)
    assert rows == [[2, 3, 4, 5]]
    buffer = bytearray(20)
    api.run(X, buffer)
    assert np.frombuffer(buffer, np.float32).tolist() == [2, 3, 4, 5, 0]


def test_several_inputs_and_outputs_go_by_position() -> None:
    api = InterpreterApi(model("signatures"))
    a, b = np.array([5, 6], np.float32), np.array([1, 2], np.float32)
    outputs = {1: np.zeros(2, np.float32), 0: None}
    api.run_for_multiple_inputs_outputs([b, a], outputs)
    assert outputs[1].tolist() == [5, 12]
    api.run_for_multiple_inputs_outputs([a], outputs)
    assert outputs[1].tolist() == [25, 36]
    api.run_for_multiple_inputs_outputs([a], {})


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (None, {}, "Input error: Inputs should not be null or empty."),
        ([], {}, "Input error: Inputs should not be null or empty."),
        ([X], None, "Input error: Outputs should not be null."),
        ([X, X], {}, "Invalid input Tensor index: 1"),
        ([X], {1: X}, "Invalid output Tensor index: 1"),
    ],
)
def test_wrong_lists_are_refused(inputs: Any, outputs: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        made("add").run_for_multiple_inputs_outputs(inputs, outputs)


def test_arrays_resize_and_scalars_resize_to_rank_0() -> None:
    api = made("add")
    assert api.run(np.repeat(X, 3, 0)).shape == (3, 4)
    assert api.run([[1, 2, 3, 4], [5, 6, 7, 8]]).tolist() == [[2, 3, 4, 5], [6, 7, 8, 9]]
    api.run(3.0)
    assert api.get_input_tensor(0).shape == ()


def test_buffers_never_resize() -> None:
    api = made("add")
    assert api.run(X.tobytes()).tolist() == [[2, 3, 4, 5]]
    words = (
        r"Cannot copy to a TensorFlowLite tensor \(x\) with 16 bytes from a Java Buffer with 32 "
        "bytes."
    )
    with pytest.raises(ValueError, match=words):
        api.run(bytes(32))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            np.zeros((2, 4), np.float32),
            r"Cannot copy from a TensorFlowLite tensor \(y\) with shape \[1, 4\] to a Java object "
            r"with shape \[2, 4\].",
        ),
        (
            bytearray(8),
            r"Cannot copy from a TensorFlowLite tensor \(y\) with 16 bytes to a Java Buffer with 8",
        ),
        (bytes(16), "read-only"),
        (np.zeros((1, 4), np.int32), "Cannot convert between a TensorFlowLite tensor"),
    ],
)
def test_outputs_are_checked_after_the_run(target: Any, words: str) -> None:
    api = made("add")
    with pytest.raises(ValueError, match=words):
        api.run(X, target)
    assert api.last_native_inference_duration_nanoseconds is not None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            X.astype(np.int32),
            "Cannot convert between a TensorFlowLite tensor with type FLOAT32 and a Java object "
            r"of type int32 array \(which is compatible with the TensorFlowLite type INT32\).",
        ),
        (X.astype(np.float64), "DataType error: cannot resolve DataType of float64"),
        (X.astype(object), "DataType error: cannot resolve DataType of object"),
        ([["a", "b"]], "Cannot convert between a TensorFlowLite tensor with type FLOAT32"),
        ({}, "DataType error: cannot resolve DataType of dict"),
        ([[None]], "DataType error: cannot resolve DataType of list"),
        ([], "Array lengths cannot be 0."),
        (np.zeros((0, 4), np.float32), "Array lengths cannot be 0."),
        ([[1, 2], [1, 2, 3]], r"Mismatched lengths \(2 and 3\) in dimension 1"),
        ([[1, 2], 3], r"Mismatched lengths \(2 and 0\) in dimension 1"),
    ],
)
def test_values_of_other_types_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        made("add").run(value)


def test_bytes_of_either_sign_fit_eight_bit_tensors() -> None:
    api = made("quantized")
    signed = api.run(np.array([[1, -2, 3, 4]], np.int8))
    assert api.run(np.array([[1, 254, 3, 4]], np.uint8)).tolist() == signed.tolist()
    assert api.run([[1, -2, 3, 4]]).tolist() == signed.tolist()
    with pytest.raises(ValueError, match="INT8 holds -128 to 127, got 1 to 300"):
        api.run([[1, 2, 3, 300]])
    with pytest.raises(ValueError, match="Cannot convert between a TensorFlowLite tensor"):
        api.run([[1.5, 2, 3, 4]])


def test_strings_are_arrays_or_lists() -> None:
    api = InterpreterApi(model("strings"))
    assert api.run(["ab", "c\0"]).tolist() == [b"c\0", b"ab"]
    assert api.run(np.array(["ü", "c"])).tolist() == [b"c", "ü".encode()]
    with pytest.raises(ValueError, match="pass an array or a list of strings"):
        api.run(b"abc")
    with pytest.raises(ValueError, match="cannot resolve DataType of int"):
        api.run([1, 2])


def test_indices_are_found_by_name() -> None:
    api = made("add")
    assert (api.get_input_index("x"), api.get_output_index("y")) == (0, 0)
    words = (
        "Input error: 'q' is not a valid name for any input. Names of inputs and their indexes "
        "are {x=0}"
    )
    with pytest.raises(ValueError, match=words):
        api.get_input_index("q")
    with pytest.raises(ValueError, match="for any output. Names of outputs .* {y=0}"):
        api.get_output_index("x")


def test_resize_shows_at_once_and_outputs_follow() -> None:
    api = made("add")
    api.resize_input(0, [3, 4])
    assert api.get_input_tensor(0).shape == (3, 4)
    api.allocate_tensors()
    assert api.get_output_tensor(0).shape == (3, 4)
    words = "Input error: Can not resize 3-th input for a model having 1 inputs."
    with pytest.raises(ValueError, match=words):
        api.resize_input(3, [1])
    with pytest.raises(ValueError, match="ResizeInputTensorStrict only allows"):
        api.resize_input(0, [3, 5], strict=True)


def test_tensors_are_described() -> None:
    api = made("quantized")
    tensor = api.get_input_tensor(0)
    assert (tensor.index, tensor.name, tensor.data_type) == (0, "x", "INT8")
    assert (tensor.shape, tensor.shape_signature) == ((1, 4), (1, 4))
    assert (tensor.num_bytes, tensor.num_dimensions, tensor.num_elements) == (4, 2, 4)
    assert tensor.quantization_params == (0.5, -3)
    assert made("add").get_input_tensor(0).quantization_params == (0.0, 0)
    assert made("add").get_input_tensor(0).shape_signature == (-1, 4)
    api.run([[1, 2, 3, 4]])
    buffer = tensor.as_read_only_buffer()
    assert (bytes(buffer), buffer.readonly) == (b"\1\2\3\4", True)
    assert (api.get_input_tensor_count(), api.get_output_tensor_count()) == (1, 1)
    with pytest.raises(ValueError, match="Invalid input Tensor index: 1"):
        api.get_input_tensor(1)
    with pytest.raises(ValueError, match="Invalid output Tensor index: -1"):
        api.get_output_tensor(-1)


def test_signatures_run_by_name() -> None:
    api = InterpreterApi(model("signatures"))
    assert api.get_signature_keys() == ["two", "one"]
    assert api.get_signature_inputs("two") == ["b", "a"]
    assert api.get_signature_outputs("one") == ["w"]
    assert api.run_signature({"v": [1, 2]}, signature_key="one")["w"].tolist() == [-1, -2]
    target = np.zeros(2, np.float32)
    api.run_signature({"a": [5, 6], "b": [1, 2]}, {"z": target}, "two")
    assert target.tolist() == [4, 4]
    assert api.get_input_tensor_from_signature("v", "one").shape == (2,)
    assert api.get_output_tensor_from_signature("w", "one").name == "q"
    assert made("add").run_signature({"x": X})["y"].tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            lambda a: a.run_signature({"v": [1]}),
            "Input error: SignatureDef signatureKey should not be null. null is only allowed if "
            r"the model has a single Signature. Available Signatures: \[two, one\]",
        ),
        (lambda a: a.get_signature_inputs("foo"), "Input error: Signature foo not found."),
        (lambda a: a.run_signature({"xx": [1]}, None, "one"), "Input error: input xx not found."),
        (lambda a: a.run_signature({}, None, "one"), "Input error: Inputs should not be null"),
        (
            lambda a: a.get_input_tensor_from_signature(None, "one"),
            r"Invalid input tensor name provided \(null\)",
        ),
    ],
)
def test_wrong_signatures_are_refused(use: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        use(InterpreterApi(model("signatures")))


def test_duration_is_none_before_the_first_and_after_a_failed_run() -> None:
    api = InterpreterApi(model("gather"))
    assert api.last_native_inference_duration_nanoseconds is None
    x = np.zeros((4, 3), np.float32)
    api.run_for_multiple_inputs_outputs([x, np.array([1, 2], np.int32)], {})
    duration = api.last_native_inference_duration_nanoseconds
    assert duration is not None and duration > 0
    with pytest.raises(ValueError, match="Internal error: Failed to run on the given Interpreter"):
        api.run_for_multiple_inputs_outputs([x, np.array([9, 2], np.int32)], {})
    assert api.last_native_inference_duration_nanoseconds is None


def test_cancelling_needs_the_option() -> None:
    words = "Cannot cancel the inference. Have you called InterpreterApi.Options.setCancellable?"
    with pytest.raises(RuntimeError, match=words):
        made("add").set_cancelled(True)


def test_cancelled_stays_until_it_is_set_to_false() -> None:
    api = made("add", cancellable=True)
    api.set_cancelled(True)
    words = (
        "Internal error: Failed to run on the given Interpreter: Client requested cancel during "
        r"Invoke\(\)"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=words):
            api.run(X)
    api.set_cancelled(False)
    assert api.run(X).tolist() == [[2, 3, 4, 5]]


def test_run_of_another_thread_is_cancelled() -> None:
    api = InterpreterApi(long_model(), InterpreterApi.Options(cancellable=True))
    told: list[str] = []

    def work() -> None:
        try:
            while True:
                api.run(np.zeros((512, 512), np.float32))
        except ValueError as error:
            told.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    api.set_cancelled(True)
    thread.join(10)
    assert "Client requested cancel" in told[0]


def test_variables_are_reset() -> None:
    api = InterpreterApi(model("variable"))
    memory = api._main.array(1)
    assert memory is not None
    memory[:] = 5
    assert api.run([1, 2]).tolist() == [6, 7]
    api.reset_variable_tensors()
    assert api.run([1, 2]).tolist() == [1, 2]


def test_closing_is_idempotent_and_ends_all_use() -> None:
    with made("add") as api:
        assert api.run(X).tolist() == [[2, 3, 4, 5]]
    api.close()
    for use in (
        lambda: api.run(X), api.get_signature_keys, api.allocate_tensors,
        lambda: api.get_input_tensor(0), lambda: api.get_input_index("x"),
        lambda: api.last_native_inference_duration_nanoseconds, api.reset_variable_tensors,
    ):  # fmt: skip
        words = "Internal error: The Interpreter has already been closed."
        with pytest.raises(RuntimeError, match=words):
            use()


def test_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(made("add"))


def test_it_takes_a_resolver() -> None:
    resolver = litejit.MutableOpResolver()
    resolver.add_builtin("ADD")
    assert InterpreterApi(model("add"), resolver=resolver).run(X).tolist() == [[2, 3, 4, 5]]
