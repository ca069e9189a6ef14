"""litejit.load: what a Predictor takes, gives, refuses, and never changes."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.models import model

import litejit
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import FullyConnectedOptions, ReshapeOptions
from litejit.types import F32, I8

X = np.array([[1, 2, 3, 4]], np.float32)


def fixed_batch() -> bytes:
    """y = reshape(-x, [1, 2, 2]): the constant shape forbids any other batch."""
    builder = ModelBuilder()
    graph = builder.main
    x, n = graph.add_input("x", (1, 4), F32), graph.add_tensor("n", (1, 4), F32)
    shape = graph.add_constant("shape", np.array([1, 2, 2], np.int32))
    y = graph.add_output("y", (1, 2, 2), F32)
    graph.add_operator("NEG", [x], [n])
    graph.add_operator("RESHAPE", [n, shape], [y], ReshapeOptions(new_shape=(1, 2, 2)))
    return builder.to_bytes()


def layer() -> bytes:
    """A layer of int8 with scales 0.5 in and 1 out, and a name with a slash in between."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 2), I8, quantization=per_tensor(0.5, 3))
    w = graph.add_constant("w", np.eye(2, dtype=np.int8), quantization=per_tensor(1.0))
    h = graph.add_tensor("layer/h", (1, 2), I8, quantization=per_tensor(0.5, 1))
    y = graph.add_output("y", (1, 2), I8, quantization=per_tensor(0.5, 1))
    graph.add_operator("FULLY_CONNECTED", [x, w, -1], [h], FullyConnectedOptions(), version=5)
    graph.add_operator("RELU", [h], [y], version=2)
    return builder.to_bytes()


def stateful() -> bytes:
    """y = x + h, where h = state after the run; an SVDF of rank 1 remembers two values."""
    from litejit.model.options import SVDFOptions

    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 1), F32)
    feature = graph.add_constant("feature", np.ones((1, 1), np.float32))
    time = graph.add_constant("time", np.ones((1, 3), np.float32))
    state = graph.add_tensor("state", (1, 3), F32, is_variable=True)
    y = graph.add_output("y", (1, 1), F32)
    graph.add_operator("SVDF", [x, feature, time, -1, state], [y], SVDFOptions(rank=1),
                       mutating_variable_inputs=(False, False, False, False, True))  # fmt: skip
    return builder.to_bytes()


def test_array_gives_an_array_of_its_own() -> None:
    predictor = litejit.load(model("add"))
    first = predictor(X)
    assert first.tolist() == [[2, 3, 4, 5]]
    predictor(X + 1)
    assert first.tolist() == [[2, 3, 4, 5]]
    first[:] = 0
    assert predictor(X).tolist() == [[2, 3, 4, 5]]


def test_paths_of_all_kinds_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(model("add"))
    for source in (path, str(path)):
        assert litejit.load(source)(X).tolist() == [[2, 3, 4, 5]]
    with pytest.raises(ValueError, match="Could not open"):
        litejit.load("/nope")


def test_several_outputs_are_a_dict_by_name() -> None:
    predictor = litejit.load(model("signatures"), signature="two")
    assert (predictor.input_names, predictor.output_names) == (["b", "a"], ["z", "m"])
    found = predictor(a=[5, 6], b=[1.0, 2])
    assert {k: v.tolist() for k, v in found.items()} == {"z": [4, 4], "m": [5, 12]}
    assert predictor([1, 2], [5, 6])["z"].tolist() == [4, 4]
    other = litejit.load(model("signatures"), signature="one")
    assert other(v=[1, 2, 3]).tolist() == [-1, -2, -3]


def test_names_are_the_tensors_without_a_signature() -> None:
    predictor = litejit.load(model("fixed"))
    assert (predictor.input_names, predictor.output_names) == (["x"], ["y"])


class WithArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return X


class WithDLPack:
    def __dlpack__(self, **arguments: Any) -> Any:
        return X.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return X.__dlpack_device__()


@pytest.mark.parametrize(
    "value",
    [
        X, X.tolist(), [[1, 2, 3, 4]], X[0], [1, 2, 3, 4], memoryview(X), WithArray(),
        WithDLPack(), X.astype(np.float16), X.astype(np.int8), X.astype(np.uint16),
        np.asfortranarray(X), np.repeat(X, 2, 1)[:, ::2], [X[0]],
    ],
    ids=lambda v: f"{type(v).__name__}",
)  # fmt: skip
def test_inputs_may_be_anything_like_an_array(value: Any) -> None:
    assert litejit.load(model("add"))(value).tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (X.astype(np.float64), "takes float32; float64 cannot be cast to it without loss"),
        (X.astype(np.int64), "takes float32; int64 cannot be cast to it without loss"),
        ([["a", "b", "c", "d"]], "takes float32; <U1 cannot be cast"),
        (X + 1j, "complex64 cannot be cast"),
    ],
)
def test_casts_that_may_lose_something_are_refused(value: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        litejit.load(model("add"))(value)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, r"inputs are missing: \['x'\]"),
        ((X, X), {}, "takes 1 inputs"),
        ((), {"q": X}, r"there is no input 'q'; the inputs are \['x'\]"),
        ((X,), {"x": X}, "input 'x' was given twice"),
    ],
)
def test_wrong_inputs_are_refused(args: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        litejit.load(model("add"))(*args, **kwargs)


def test_shape_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes inputs of shapes .*, got \(\(1, 5\),\)"):
        litejit.load(model("add"))(np.zeros((1, 5), np.float32))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("make", [lambda: model("add"), fixed_batch, layer])
def test_batch_of_any_size_works(make: Any, count: int) -> None:
    predictor = litejit.load(make())
    shape = predictor._shapes[0]
    x = np.arange(count * shape[1], dtype=np.float32).reshape(count, shape[1]) / 4
    rows = [predictor(row[None]) for row in x]
    np.testing.assert_array_equal(predictor(x), np.concatenate(rows))


def test_quantized_tensors_are_real_numbers_outside() -> None:
    predictor = litejit.load(layer())
    found = predictor(np.array([[0.74, -0.25]], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, 0.0]]
    assert predictor([[0.75, 1000]]).tolist() == [[1.0, 62.0]]


def test_raw_predictor_takes_and_gives_integers() -> None:
    found = litejit.load(layer(), raw=True)(np.array([[4, 3]], np.int8))
    assert (found.dtype, found.tolist()) == (np.int8, [[2, 1]])
    assert litejit.load(layer(), raw=True)([[4, 3]]).tolist() == [[2, 1]]
    with pytest.raises(ValueError, match="cannot hold these numbers"):
        litejit.load(layer(), raw=True)([[400, 3]])
    with pytest.raises(TypeError, match="takes int8; float32 cannot be cast"):
        litejit.load(layer(), raw=True)(np.zeros((1, 2), np.float32))


def test_array_of_the_tensors_own_type_is_quantized_already() -> None:
    assert litejit.load(layer())(np.array([[4, 3]], np.int8)).tolist() == [[0.5, 0.0]]


def test_rounding_is_that_of_quantize() -> None:
    builder = ModelBuilder()
    x = builder.main.add_input("x", (1008,), F32)
    q = builder.main.add_output("q", (1008,), I8, quantization=per_tensor(0.5, 3))
    builder.main.add_operator("QUANTIZE", [x], [q])
    values = np.array([0.25, -0.25, 0.75, 0.249999985, 1e9, -1e9, np.inf, -0.75], np.float32)
    values = np.concatenate([values, np.arange(-500, 500, dtype=np.float32) / 8])
    interpreter = litejit.Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, values)
    interpreter.invoke()
    from litejit.edges import quantizer

    memory = np.zeros(1008, np.int8)
    quantizer(interpreter._runner.types[1])(values, memory)
    assert memory.tolist() == interpreter.get_tensor(1).tolist()


def test_intermediate_tensors_come_by_name_and_number_without_changing_a_number() -> None:
    predictor = litejit.load(layer())
    x = np.array([[0.75, -3.0]], np.float32)
    plain = predictor(x)
    found = predictor.run(x, outputs=["layer/h", 2, "y"])
    assert found["layer/h"].tolist() == [[3, -5]]
    assert found[2].tolist() == [[3, -5]]
    np.testing.assert_array_equal(found["y"], plain)
    np.testing.assert_array_equal(predictor(x), plain)
    assert list(predictor.run({"x": x})) == ["y"]
    assert predictor.run([x])["y"].tolist() == plain.tolist()
    with pytest.raises(KeyError, match="nope"):
        predictor.run(x, outputs=["nope"])


def test_profile_lists_operators_and_writes_a_trace(tmp_path: Path) -> None:
    predictor = litejit.load(model("fixed"))
    x = np.ones((2, 3), np.float32)
    expected = predictor(x)
    with predictor.profile() as profile:
        np.testing.assert_array_equal(predictor(x), expected)
        predictor(x)
    assert profile.calls == 2
    names = [name for row in profile.operators for name in row.name.split("+")]
    assert names == ["NEG", "EXP", "ADD"]
    assert all(row.calls == 2 and row.elapsed_ns >= 0 for row in profile.operators)
    assert str(profile).splitlines()[0].split() == ["operator", "us", "%", "name"]
    path = tmp_path / "trace.json"
    profile.save_trace(path)
    events = json.loads(path.read_text())["traceEvents"]
    assert [name for e in events for name in e["name"].split("+")] == ["NEG", "EXP", "ADD"] * 2
    predictor(x)
    assert profile.calls == 2


def test_profile_of_shapes_that_depend_on_data() -> None:
    predictor = litejit.load(model("where"))
    with predictor.profile() as profile:
        assert predictor([True, False, True, False]).tolist() == [[0], [2]]
    assert profile.operators[0].name == "WHERE"


def test_calls_of_a_stateful_model_are_independent_but_in_a_session() -> None:
    predictor = litejit.load(stateful())
    assert [predictor([[1.0]]).item() for _ in range(3)] == [1, 1, 1]
    with predictor.session() as first, predictor.session() as second:
        assert [first([[1.0]]).item() for _ in range(4)] == [1, 2, 3, 3]
        assert second([[1.0]]).item() == 1
        first.reset()
        assert first([[1.0]]).item() == 1
    assert predictor([[1.0]]).item() == 1


def test_session_takes_the_models_shapes_only() -> None:
    with (
        litejit.load(model("add")).session() as session,
        pytest.raises(ValueError, match="a session takes inputs of shapes"),
    ):
        session(np.zeros((2, 4), np.float32))


def test_predictors_are_pickled_by_path_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(model("add"))
    pickled = pickle.dumps(litejit.load(path))
    assert len(pickled) < 500
    assert pickle.loads(pickled)(X).tolist() == [[2, 3, 4, 5]]
    path.write_bytes(model("fixed"))
    with pytest.raises(ValueError, match="its content has changed"):
        pickle.loads(pickled)


def test_predictor_of_bytes_is_pickled_with_them() -> None:
    twin = pickle.loads(pickle.dumps(litejit.load(layer(), raw=True)))
    assert twin(np.array([[4, 3]], np.int8)).tolist() == [[2, 1]]


def test_calls_may_come_from_many_threads() -> None:
    predictor, wrong = litejit.load(model("add")), []

    def work(k: int) -> None:
        for n in range(200):
            rows = 1 + n % 3
            x = np.full((rows, 4), k * 1000 + n, np.float32)
            if not np.array_equal(predictor(x), x + 1):
                wrong.append((k, n))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_scalars_strings_and_empty_results() -> None:
    assert litejit.load(model("scalar"))(3).item() == -3
    strings = litejit.load(model("strings"))
    assert strings(x=["ab", "c"], s="q").tolist() == [b"c", b"ab"]
    assert litejit.load(model("where"))(np.zeros(4, bool)).shape == (0, 1)


def test_unknown_signature_and_bad_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="no signature 'q'"):
        litejit.load(model("add"), signature="q")
    with pytest.raises(ValueError, match="num_threads"):
        litejit.load(model("add"), num_threads=0)


def test_call_costs_little_more_than_the_interpreters_own(shared: Path) -> None:
    """At most 5 us where nothing else runs; the bound here leaves room for a busy machine."""
    import timeit

    path = shared / "models" / "hello_world_int8.tflite"
    predictor, interpreter = litejit.load(path), litejit.Interpreter(str(path))
    interpreter.allocate_tensors()
    a = interpreter.get_input_details()[0]["index"]
    b = interpreter.get_output_details()[0]["index"]
    q, x = np.array([[3]], np.int8), np.array([[1.0]], np.float32)

    def own() -> None:
        interpreter.set_tensor(a, q)
        interpreter.invoke()
        interpreter.get_tensor(b)

    def cost(function: Any) -> float:
        return min(timeit.repeat(function, number=200, repeat=25)) / 200 * 1e6

    assert cost(lambda: predictor(x)) < 5 * cost(own) + 5
