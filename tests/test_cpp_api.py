"""The C++ classes in Python: statuses and None instead of exceptions, one line to the reporter."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.models import custom_model, model

import litejit
from litejit import BuiltinOpResolver, FlatBufferModel, InterpreterBuilder, Model, Status
from litejit.model.builder import ModelBuilder
from litejit.model.options import FullyConnectedOptions
from litejit.types import F32


def built(data: bytes, reporter: Any = None, **options: Any) -> Any:
    made = Model.from_buffer(data, reporter)
    return InterpreterBuilder(made, BuiltinOpResolver(), litejit.InterpreterOptions(**options))()


def test_model_is_built_from_file_buffer_and_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(model("add"))
    assert FlatBufferModel.build_from_file(str(path)).initialized()
    assert FlatBufferModel.build_from_file(path) is not None
    assert FlatBufferModel.build_from_buffer(bytearray(model("add"))) is not None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert FlatBufferModel.build_from_file_descriptor(descriptor) is not None
    finally:
        os.close(descriptor)
    assert FlatBufferModel.verify_and_build_from_file(path) is not None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda r: Model.build_from_file("/nope", r), "Could not open '/nope'"),
        (lambda r: Model.build_from_buffer(b"abc", r), "must have at least 7 bytes to hold"),
        (
            lambda r: Model.build_from_buffer(b"0123abcd" + bytes(90), r),
            "Model provided has model identifier 'abcd', should be 'TFL3'",
        ),
        (lambda r: Model.build_from_file(__file__, r), "Model provided has model identifier '"),
        (
            lambda r: Model.verify_and_build_from_buffer(b"0123abcd" + bytes(90), None, r),
            "The model is not a valid Flatbuffer buffer",
        ),
        (lambda r: Model.build_from_buffer(5, r), "memoryview"),
        (lambda r: Model.build_from_file_descriptor(-1, r), "Bad file descriptor"),
        (lambda r: Model.verify_and_build_from_buffer(model("add"), lambda d: False, r), "refuses"),
    ],
)
def test_failure_is_none_and_one_message(make: Any, words: str) -> None:
    told: list[str] = []
    assert make(told.append) is None
    assert len(told) == 1
    assert words in told[0]


def test_failure_without_reporter_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert Model.build_from_file("/nope") is None
    assert capsys.readouterr().err.startswith("ERROR: Could not open '/nope'")


def test_reporter_may_be_an_object() -> None:
    class Reporter:
        told = ""

        def report(self, text: str) -> None:
            self.told += text

    reporter = Reporter()
    assert Model.build_from_file("/nope", reporter) is None
    assert "Could not open" in reporter.told


def test_one_line_style_raises() -> None:
    with pytest.raises(ValueError, match="Could not open '/nope'"):
        FlatBufferModel("/nope")
    with pytest.raises(ValueError, match="not a valid Flatbuffer"):
        Model.from_buffer(b"abc")


def test_metadata_and_minimum_runtime_are_read() -> None:
    builder = ModelBuilder()
    builder.main.outputs = [builder.main.add_input("x", (1,), F32)]
    assert Model.from_buffer(builder.to_bytes()).minimum_runtime() == ""
    builder.add_metadata("min_runtime_version", b"2.5.0\0\0\0")
    builder.add_metadata("empty", b"")
    made = Model.from_buffer(builder.to_bytes())
    assert made.minimum_runtime() == "2.5.0"
    assert made.read_all_metadata() == {"min_runtime_version": b"2.5.0\0\0\0"}


def test_extra_verifier_sees_the_bytes() -> None:
    seen: list[int] = []

    class Verifier:
        def verify(self, data: bytes, length: int, reporter: Any) -> bool:
            seen.append(length)
            return True

    assert Model.verify_and_build_from_buffer(model("add"), Verifier()) is not None
    assert seen == [len(model("add"))]


def test_model_serves_many_interpreters_and_packs_weights_once() -> None:
    made = Model.from_buffer(model("dense"))
    builder = InterpreterBuilder(made, BuiltinOpResolver())
    first, second = builder(), builder()
    assert first is not None and second is not None
    for k, interpreter in enumerate((first, second)):
        assert interpreter.allocate_tensors() is Status.OK
        x = interpreter.typed_input_tensor(0)
        assert x is not None
        x[:] = k + 1
    for interpreter in (first, second):
        assert interpreter.invoke() is Status.OK
    results = [i.typed_output_tensor(0).tolist() for i in (first, second)]
    assert results == [[[6, 22, 38]], [[12, 44, 76]]]
    assert first._runner.store is second._runner.store
    del made, builder, first
    assert second.invoke() is Status.OK


def test_builder_refuses_what_is_null_or_negative() -> None:
    told: list[str] = []
    assert InterpreterBuilder(None, BuiltinOpResolver())() is None
    builder = InterpreterBuilder(Model.from_buffer(model("add"), told.append), BuiltinOpResolver())
    assert builder.set_num_threads(-2) is Status.ERROR
    assert told == ["num_threads should be >= 0 or just -1 to let TFLite runtime set the value."]
    assert [builder.set_num_threads(n) for n in (-1, 0, 2)] == [Status.OK] * 3
    builder.add_delegate(None)
    assert told[1] == "Null delegate."
    assert builder(num_threads=-5) is None
    assert builder(num_threads=2) is not None


def test_unresolved_operator_is_status_7_when_tensors_are_allocated() -> None:
    told: list[str] = []
    interpreter = built(custom_model("MyOp"), told.append)
    assert interpreter.allocate_tensors() is Status.UNRESOLVED_OPS
    assert "Encountered unresolved custom op: MyOp." in told[0]


def test_invoke_before_allocation_is_an_error() -> None:
    told: list[str] = []
    assert built(model("add"), told.append).invoke() is Status.ERROR
    assert told == ["Invoke called on model that is not ready."]


def test_graph_is_described() -> None:
    interpreter = built(model("fixed"))
    assert (interpreter.inputs, interpreter.outputs) == ([0], [3])
    assert (interpreter.tensors_size, interpreter.nodes_size) == (4, 3)
    assert interpreter.execution_plan == [0, 1, 2]
    assert interpreter.subgraphs_size == 1
    assert (interpreter.get_input_name(0), interpreter.get_output_name(0)) == ("x", "y")
    assert interpreter.node_and_registration(0)[0].inputs == (0,)
    assert interpreter.node_and_registration(3) is None
    assert interpreter.subgraph(1) is None
    assert built(model("variable")).variables == [1, 2]


def test_tensors_are_views_with_their_types() -> None:
    interpreter = built(model("quantized"))
    before = interpreter.tensor(0)
    assert (before.data, before.bytes, before.dims) == (None, 0, (1, 4))
    interpreter.allocate_tensors()
    view = interpreter.input_tensor(0)
    assert (view.type.name, view.dims, view.bytes, view.name) == ("INT8", (1, 4), 4, "x")
    assert (view.params, view.is_variable) == ((0.5, -3), False)
    view.data[:] = 1
    assert interpreter.typed_tensor(0).tolist() == [[1, 1, 1, 1]]
    assert interpreter.tensor(99) is None
    assert interpreter.input_tensor(7) is None


def test_typed_tensor_is_none_for_another_type() -> None:
    interpreter = built(model("quantized"))
    interpreter.allocate_tensors()
    assert interpreter.typed_input_tensor(0, np.int8) is not None
    assert interpreter.typed_input_tensor(0, np.float32) is None
    assert interpreter.typed_output_tensor(0, np.uint8) is None
    assert interpreter.typed_output_tensor(1) is None


def test_resize_gives_a_status() -> None:
    told: list[str] = []
    interpreter = built(model("add"), told.append)
    assert interpreter.resize_input_tensor(0, [3, 4]) is Status.OK
    assert interpreter.allocate_tensors() is Status.OK
    assert interpreter.output_tensor(0).dims == (3, 4)
    assert interpreter.resize_input_tensor_strict(0, [3, 5]) is Status.ERROR
    assert interpreter.resize_input_tensor(99, [1]) is Status.ERROR
    assert "ResizeInputTensorStrict only allows" in told[0]


def test_released_memory_makes_the_graph_wait_for_allocation() -> None:
    interpreter = built(model("add"), lambda text: None)
    interpreter.allocate_tensors()
    assert interpreter.release_non_persistent_memory() is Status.OK
    assert interpreter.invoke() is Status.ERROR
    assert interpreter.allocate_tensors() is Status.OK
    assert interpreter.invoke() is Status.OK


def test_variables_are_reset() -> None:
    interpreter = built(model("variable"))
    interpreter.allocate_tensors()
    interpreter.typed_tensor(1)[:] = 5
    assert interpreter.reset_variable_tensors() is Status.OK
    assert interpreter.typed_tensor(1).tolist() == [0, 0]


def aligned(count: int) -> Any:
    raw = np.zeros(4 * count + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * count].view(np.float32)


def test_custom_allocation_holds_inputs_and_outputs() -> None:
    interpreter = built(model("add"), lambda text: None)
    x, y = aligned(4), aligned(8)
    assert interpreter.set_custom_allocation_for_tensor(0, x) is Status.OK
    assert interpreter.set_custom_allocation_for_tensor(2, y) is Status.OK
    assert interpreter.allocate_tensors() is Status.OK
    x[:] = [1, 2, 3, 4]
    assert interpreter.invoke() is Status.OK
    assert y.tolist() == [2, 3, 4, 5, 0, 0, 0, 0]
    assert np.shares_memory(interpreter.typed_output_tensor(0), y)


def test_custom_allocation_is_checked() -> None:
    told: list[str] = []
    interpreter = built(model("add"), told.append)
    assert interpreter.set_custom_allocation_for_tensor(0, aligned(5)[1:]) is Status.ERROR
    assert interpreter.set_custom_allocation_for_tensor(1, aligned(4)) is Status.ERROR
    assert interpreter.set_custom_allocation_for_tensor(9, aligned(4)) is Status.ERROR
    assert interpreter.set_custom_allocation_for_tensor(0, aligned(3)) is Status.OK
    assert interpreter.allocate_tensors() is Status.ERROR
    assert "Custom allocation is too small for tensor idx: 0" in told[-1]


def test_cancellation_function_ends_a_run() -> None:
    told: list[str] = []
    interpreter = built(model("add"), told.append)
    interpreter.allocate_tensors()
    interpreter.set_cancellation_function(lambda: True)
    assert interpreter.invoke() is Status.ERROR
    assert told == ["Client requested cancel during Invoke()"]
    interpreter.set_cancellation_function(lambda: False)
    assert interpreter.invoke() is Status.OK
    interpreter.set_cancellation_function(None)
    assert interpreter.invoke() is Status.OK


def long_model() -> bytes:
    """Many products of 512 x 512: some 100 ms."""
    builder = ModelBuilder()
    graph = builder.main
    weights = graph.add_constant("w", np.full((512, 512), 1e-3, np.float32))
    last = graph.add_input("x", (512, 512), F32)
    for k in range(60):
        this = graph.add_tensor(f"t{k}", (512, 512), F32)
        graph.add_operator("FULLY_CONNECTED", [last, weights, -1], [this], FullyConnectedOptions())
        last = this
    graph.outputs = [last]
    return builder.to_bytes()


def test_cancel_ends_the_run_of_another_thread_and_earlier_calls_do_not_count() -> None:
    told: list[str] = []
    interpreter = built(long_model(), told.append)
    interpreter.allocate_tensors()
    assert interpreter.cancel() is Status.ERROR
    assert interpreter.enable_cancellation() is Status.OK
    assert interpreter.cancel() is Status.OK
    assert interpreter.invoke() is Status.OK
    found: list[Status] = []
    thread = threading.Thread(target=lambda: found.append(interpreter.invoke()))
    thread.start()
    while not found:
        interpreter.cancel()
        time.sleep(0.001)
    thread.join()
    assert found == [Status.CANCELLED]
    assert told[-1] == "Client requested cancel during Invoke()"
    assert interpreter.invoke() is Status.OK


def test_signatures_run_by_name() -> None:
    interpreter = built(model("signatures"))
    assert interpreter.signature_keys() == ["two", "one"]
    assert interpreter.signature_inputs("two") == {"b": 0, "a": 1}
    assert interpreter.signature_outputs("one") == {"w": 1}
    assert interpreter.signature_inputs("nope") == {}
    assert interpreter.get_signature_runner("nope") is None
    assert interpreter.get_signature_runner() is None
    runner = interpreter.get_signature_runner("one")
    assert (runner.signature_key, runner.input_names, runner.output_names) == ("one", ["v"], ["w"])
    assert runner.resize_input_tensor("v", [2]) is Status.OK
    assert runner.allocate_tensors() is Status.OK
    runner.input_tensor("v").data[:] = [1, 2]
    assert runner.invoke() is Status.OK
    assert runner.output_tensor("w").data.tolist() == [-1, -2]
    assert runner.input_tensor("q") is None
    assert interpreter.input_tensor_by_signature("v", "one").dims == (2,)
    assert interpreter.output_tensor_by_signature("w", "nope") is None


def test_signature_without_key_is_the_only_one_or_the_first_subgraph() -> None:
    assert built(model("add")).get_signature_runner().signature_key == "serving_default"
    runner = built(model("fixed")).get_signature_runner()
    assert (runner.input_names, runner.output_names) == (["x"], ["y"])


def test_preserved_tensors_are_readable() -> None:
    interpreter = built(model("fixed"), preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.typed_input_tensor(0)[:] = 1
    interpreter.invoke()
    assert interpreter.typed_tensor(1).tolist() == [[-1, -1, -1]] * 2


def test_number_of_threads_can_be_changed() -> None:
    interpreter = built(model("add"), lambda text: None)
    assert interpreter.set_num_threads(-2) is Status.ERROR
    assert interpreter.set_num_threads(2) is Status.OK
    assert interpreter.allocate_tensors() is Status.OK
    assert interpreter.invoke() is Status.OK
