"""Operators of users: four functions in Python, decorated functions, C compiled here."""

from __future__ import annotations

import gc
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.api.models import custom_model, model

import litejit
from litejit.interpreter import Interpreter, InterpreterWithCustomOps
from litejit.model.builder import ModelBuilder
from litejit.model.flexbuffer import encode
from litejit.model.options import AddOptions
from litejit.ops import resolver as resolvers
from litejit.types import F32, I32


def between_builtins(name: str, options: bytes = b"", *, uses: int = 1) -> bytes:
    """y = exp(name(name(... -x))) on [n, 2] floats."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 2), F32, shape_signature=(-1, 2))
    last = graph.add_tensor("neg", (1, 2), F32)
    graph.add_operator("NEG", [x], [last])
    for k in range(uses):
        this = graph.add_tensor(f"t{k}", (1, 2), F32)
        graph.add_operator(name, [last], [this], custom=True, custom_options=options)
        last = this
    y = graph.add_output("y", (1, 2), F32)
    graph.add_operator("EXP", [last], [y])
    return builder.to_bytes()


def opened(data: bytes, **operations: Any) -> Interpreter:
    def add(resolver: Any) -> None:
        for name, operation in operations.items():
            resolver.add_custom(name, operation)

    interpreter = InterpreterWithCustomOps([add], model_content=data)
    interpreter.allocate_tensors()
    return interpreter


def run(interpreter: Any, *values: Any) -> Any:
    details = interpreter.get_input_details()
    for detail, value in zip(details, values, strict=True):
        interpreter.set_tensor(detail["index"], np.asarray(value, detail["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


class Scale(litejit.CustomOp):
    """y = factor x; counts what is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.freed: list[Any] = []

    def init(self, context: litejit.Context, options: Any) -> Any:
        self.calls.append("init")
        return {"factor": np.float32(options.get("factor", 2.0))}

    def prepare(self, context: litejit.Context, node: litejit.CustomNode) -> None:
        self.calls.append("prepare")
        node.output().shape = node.input(0).shape

    def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
        self.calls.append("invoke")
        y = node.output().data
        assert y is not None
        np.multiply(node.input(0).data, node.state["factor"], out=y)

    def free(self, context: litejit.Context, state: Any) -> None:
        self.freed.append(state)


OPTIONS = encode({"factor": 3.0, "unused": "text"})
X = np.array([[1.0, -0.5]], np.float32)


def test_four_functions_run_between_builtins() -> None:
    op = Scale()
    found = run(opened(between_builtins("Scale", OPTIONS), Scale=op), X)
    np.testing.assert_allclose(found, np.exp(-3 * X), rtol=1e-6)
    assert op.calls == ["init", "prepare", "invoke"]


def test_operator_follows_a_resize() -> None:
    op = Scale()
    interpreter = opened(between_builtins("Scale", OPTIONS), Scale=op)
    x = np.repeat(X, 3, 0)
    interpreter.resize_tensor_input(0, x.shape)
    interpreter.allocate_tensors()
    np.testing.assert_allclose(run(interpreter, x), np.exp(-3 * x), rtol=1e-6)
    assert op.calls == ["init", "prepare", "prepare", "invoke"]


def test_operator_used_twice_has_two_states() -> None:
    op = Scale()
    interpreter = opened(between_builtins("Scale", OPTIONS, uses=2), Scale=op)
    np.testing.assert_allclose(run(interpreter, X), np.exp(-9 * X), rtol=1e-6)
    assert op.calls.count("init") == 2


def test_states_are_freed_when_the_interpreter_ends() -> None:
    op = Scale()
    interpreter = opened(between_builtins("Scale", OPTIONS, uses=2), Scale=op)
    run(interpreter, X)
    assert op.freed == []
    del interpreter
    gc.collect()
    assert [state["factor"] for state in op.freed] == [3.0, 3.0]


def test_class_makes_an_instance_for_every_use() -> None:
    made: list[Any] = []

    class Counting(Scale):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    interpreter = opened(between_builtins("Scale", OPTIONS, uses=2), Scale=Counting)
    run(interpreter, X)
    assert [len(one.calls) for one in made] == [3, 3]


def assert_right_in_two_threads(make: Callable[[], Any], factor: int) -> None:
    """Two threads, each with an interpreter of its own, get exp(-factor * x)."""
    wrong: list[Any] = []

    def work(k: int) -> None:
        interpreter = make()
        for n in range(50):
            x = X + k + n / 100
            if not np.allclose(run(interpreter, x), np.exp(-factor * x), rtol=1e-5):
                wrong.append((k, n))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_operator_runs_in_two_threads() -> None:
    op, data = Scale(), between_builtins("Scale", OPTIONS, uses=2)
    assert_right_in_two_threads(lambda: opened(data, Scale=op), factor=9)


def test_options_that_are_no_flexbuffer_come_as_bytes() -> None:
    seen: list[Any] = []

    class Look(Scale):
        def init(self, context: litejit.Context, options: Any) -> Any:
            seen.append(options)
            return {"factor": np.float32(1)}

    for raw in (b"", b"\x01\x02\x03", OPTIONS):
        opened(custom_model("Look", raw), Look=Look)
    assert seen == [{}, b"\x01\x02\x03", {"factor": 3.0, "unused": "text"}]


def failing(stage: str, action: Any) -> type[Scale]:
    class Failing(Scale):
        pass

    setattr(Failing, stage, action)
    return Failing


def _raise(self: Any, context: Any, node: Any) -> None:
    raise KeyError("oops")


def _wrong_shape(self: Any, context: Any, node: Any) -> None:
    node.output().data = np.zeros((3, 3), np.float32)


def _wrong_type(self: Any, context: Any, node: Any) -> None:
    node.output().data = np.zeros((1, 2))


def _write_input(self: Any, context: Any, node: Any) -> None:
    node.input(0).data[:] = 0


def _resize_input(self: Any, context: Any, node: Any) -> None:
    node.input(0).shape = (9,)


def _other_size(self: Any, context: Any, node: Any) -> None:
    node.output().resize((9,))


def _negative(self: Any, context: Any, node: Any) -> None:
    node.output().shape = (-1, 2)


@pytest.mark.parametrize(
    ("stage", "action", "words"),
    [
        ("prepare", _raise, "prepare: KeyError: 'oops'"),
        ("prepare", _resize_input, "cannot be given another shape"),
        ("prepare", _negative, "negative dimension"),
        ("invoke", _raise, "invoke: KeyError: 'oops'"),
        ("invoke", _wrong_shape, r"output 't0' has shape \(1, 2\), got \(3, 3\)"),
        ("invoke", _wrong_type, "output 't0' is float32, got float64"),
        ("invoke", _write_input, "invoke: ValueError: assignment destination is read-only"),
        ("invoke", _other_size, r"output 't0' has shape \(1, 2\), got \(9,\)"),
    ],
)
def test_operator_that_does_wrong_is_named(stage: str, action: Any, words: str) -> None:
    interpreter = None
    with pytest.raises(RuntimeError, match=words) as caught:
        interpreter = opened(between_builtins("Bad", OPTIONS), Bad=failing(stage, action))
        run(interpreter, X)
    assert "Bad (operator 1)" in str(caught.value)
    assert f"Node number 1 (Bad) failed to {stage}." in str(caught.value)


def test_init_that_raises_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"Bad \(operator 1\): init: KeyError"):
        opened(between_builtins("Bad", OPTIONS), Bad=failing("init", _raise))


def test_registration_needs_invoke() -> None:
    with pytest.raises(TypeError, match="invoke must be there"):
        litejit.MutableOpResolver().add_custom("X", object())


class Positive(litejit.CustomOp):
    """The elements above zero: how many depends on data."""

    def prepare(self, context: litejit.Context, node: litejit.CustomNode) -> None:
        node.output().shape = None

    def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
        x = node.input(0).data
        assert x is not None
        found = x[x > 0]
        node.output().resize(found.shape)[...] = found


def test_shape_that_depends_on_data_is_set_in_invoke() -> None:
    builder = ModelBuilder()
    x, p = builder.main.add_input("x", (4,), F32), builder.main.add_tensor("p", (1,), F32)
    y = builder.main.add_output("y", (1,), F32)
    builder.main.add_operator("Positive", [x], [p], custom=True)
    builder.main.add_operator("NEG", [p], [y])
    interpreter = opened(builder.to_bytes(), Positive=Positive())
    assert run(interpreter, [1, -2, 3, 4]).tolist() == [-1, -3, -4]
    assert run(interpreter, [-1, -2, 3, -4]).tolist() == [-3]
    assert run(interpreter, [1, -2, 3, 4]).tolist() == [-1, -3, -4]


def test_operator_runs_once_in_a_run_that_finds_shapes() -> None:
    class Counted(litejit.CustomOp):
        calls = 0

        def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
            type(self).calls += 1
            node.output().data[...] = node.input(0).data  # type: ignore[index]

    builder = ModelBuilder()
    x, times = builder.main.add_input("x", (2,), F32), builder.main.add_input("times", (1,), I32)
    seen = builder.main.add_tensor("seen", (2,), F32)
    builder.main.add_operator("Counted", [x], [seen], custom=True)
    builder.main.add_operator("TILE", [seen, times], [builder.main.add_output("y", (2,), F32)])
    interpreter = opened(builder.to_bytes(), Counted=Counted())
    for runs, count in enumerate((2, 2, 3), 1):
        assert run(interpreter, [1, 2], [count]).tolist() == [1, 2] * count
        assert Counted.calls == runs


class Running(litejit.CustomOp):
    """Adds up all that it saw, in a temporary."""

    def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
        x, y = node.input(0).data, node.output().data
        assert x is not None and y is not None
        total = node.temporary("total", x.shape, np.float32)
        total += x
        y[...] = total


def test_temporaries_persist_from_run_to_run() -> None:
    interpreter = opened(custom_model("Running"), Running=Running())
    assert [run(interpreter, [1, 2]).tolist() for _ in range(3)] == [[1, 2], [2, 4], [3, 6]]


def test_strings_are_arrays_of_bytes() -> None:
    class Upper(litejit.CustomOp):
        def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
            x, y = node.input(0).data, node.output().data
            assert x is not None and y is not None
            y[...] = [text.upper() for text in x]

    builder = ModelBuilder()
    x = builder.main.add_input("x", (2,), litejit.types.STRING)
    y = builder.main.add_output("y", (2,), litejit.types.STRING)
    builder.main.add_operator("Upper", [x], [y], custom=True)
    interpreter = opened(builder.to_bytes(), Upper=Upper())
    interpreter.set_tensor(0, np.array(["ab", "c"]))
    interpreter.invoke()
    assert interpreter.get_tensor(1).tolist() == [b"AB", b"C"]


# -- the decorator --


@pytest.fixture
def decorated() -> Any:
    before = dict(resolvers._DECORATED)
    yield
    resolvers._DECORATED.clear()
    resolvers._DECORATED.update(before)


@pytest.mark.usefixtures("decorated")
def test_decorated_function_is_found_by_every_interpreter() -> None:
    @litejit.custom_op("Plus")
    def plus(x: Any, *, factor: float = 1.0) -> Any:
        return x + np.float32(factor)

    interpreter = Interpreter(model_content=between_builtins("Plus", OPTIONS, uses=2))
    interpreter.allocate_tensors()
    np.testing.assert_allclose(run(interpreter, X), np.exp(-X + 6), rtol=1e-6)
    assert plus(X, factor=1).tolist() == (X + 1).tolist()


@pytest.mark.usefixtures("decorated")
def test_decorated_function_has_a_rule_for_its_shape() -> None:
    @litejit.custom_op("Twice", shape=lambda x: (2 * x[0], *x[1:]))
    def twice(x: Any) -> Any:
        return np.concatenate([x, x])

    interpreter = Interpreter(model_content=custom_model("Twice"))
    interpreter.allocate_tensors()
    assert interpreter.get_output_details()[0]["shape"].tolist() == [4]
    assert run(interpreter, [1, 2]).tolist() == [1, 2, 1, 2]


@pytest.mark.usefixtures("decorated")
def test_decorated_function_may_leave_the_shape_to_data() -> None:
    @litejit.custom_op("Above", shape=None)
    def above(x: Any) -> Any:
        return x[x > 0]

    interpreter = Interpreter(model_content=custom_model("Above"))
    interpreter.allocate_tensors()
    assert run(interpreter, [1, -2]).tolist() == [1]
    assert run(interpreter, [1, 2]).tolist() == [1, 2]


@pytest.mark.usefixtures("decorated")
@pytest.mark.parametrize(
    ("result", "words"),
    [
        (np.zeros(3, np.float32), r"has shape \(2,\), got \(3,\)"),
        (np.zeros(2), "is float32, got float64"),
        ((np.zeros(2, np.float32),) * 2, "returns 2 arrays for 1 outputs"),
    ],
)
def test_decorated_function_with_a_wrong_result_is_named(result: Any, words: str) -> None:
    litejit.custom_op("Wrong")(lambda x: result)
    interpreter = Interpreter(model_content=custom_model("Wrong"))
    interpreter.allocate_tensors()
    with pytest.raises(RuntimeError, match=words) as caught:
        run(interpreter, [1, 2])
    assert "Wrong (operator 0)" in str(caught.value)


@pytest.mark.usefixtures("decorated")
def test_decorator_takes_classes() -> None:
    litejit.custom_op("Scale")(Scale)
    interpreter = Interpreter(model_content=between_builtins("Scale", OPTIONS))
    interpreter.allocate_tensors()
    np.testing.assert_allclose(run(interpreter, X), np.exp(-3 * X), rtol=1e-6)


# -- replacing builtins --


def test_builtin_can_be_replaced() -> None:
    class Sum(litejit.CustomOp):
        def init(self, context: litejit.Context, options: Any) -> Any:
            return options

        def prepare(self, context: litejit.Context, node: litejit.CustomNode) -> None:
            node.output().shape = node.input(0).shape

        def invoke(self, context: litejit.Context, node: litejit.CustomNode) -> None:
            x, y = node.input(0).data, node.output().data
            assert x is not None and y is not None and node.state["activation"] == 0
            y[...] = x + 100

    builder = ModelBuilder()
    x, y = builder.main.add_input("x", (2,), F32), builder.main.add_output("y", (2,), F32)
    builder.main.add_operator("ADD", [x, x], [y], AddOptions())
    data = builder.to_bytes()
    own = InterpreterWithCustomOps([lambda r: r.add_builtin("ADD", Sum())], model_content=data)
    own.allocate_tensors()
    assert run(own, [1, 2]).tolist() == [101, 102]
    plain = Interpreter(model_content=data)
    plain.allocate_tensors()
    assert run(plain, [1, 2]).tolist() == [2, 4]


# -- C --

SOURCE = Path(__file__).parent / "api" / "native_ops.c"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler to make the library with")
    path = tmp_path_factory.mktemp("native") / "libops.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, SOURCE], check=True)
    return str(path)


def test_native_operator_runs_between_builtins(library: str) -> None:
    op = litejit.native.registration(library, "Register_SCALE")
    found = run(opened(between_builtins("Scale", b"\x03", uses=2), Scale=op), X)
    np.testing.assert_allclose(found, np.exp(-9 * X), rtol=1e-6)


def test_native_operator_follows_a_resize(library: str) -> None:
    op = litejit.native.registration(library, "Register_SCALE")
    interpreter = opened(between_builtins("Scale", b"\x03"), Scale=op)
    for rows in (4, 1, 7):
        x = np.repeat(X, rows, 0)
        interpreter.resize_tensor_input(0, x.shape)
        interpreter.allocate_tensors()
        np.testing.assert_allclose(run(interpreter, x), np.exp(-3 * x), rtol=1e-6)


def test_native_operator_is_freed_once_a_use(library: str) -> None:
    import ctypes

    live = ctypes.CDLL(library).live_states
    op = litejit.native.registration(library, "Register_SCALE")
    gc.collect()
    before = live()
    interpreter = opened(between_builtins("Scale", b"\x03", uses=2), Scale=op)
    run(interpreter, X)
    assert live() == before + 2
    del interpreter
    gc.collect()
    assert live() == before


def test_native_operator_runs_in_two_threads(library: str) -> None:
    op = litejit.native.registration(library, "Register_SCALE")
    data = between_builtins("S", b"\x03")
    assert_right_in_two_threads(lambda: opened(data, S=op), factor=3)


def test_native_operator_reports_in_its_own_words(library: str) -> None:
    op = litejit.native.registration(library, "Register_PICKY")
    interpreter = opened(custom_model("Picky", b"\x01"), Picky=op)
    words = r"Picky \(operator 0\): invoke: element 1 is -2.50, of 2 in x: refused"
    with pytest.raises(RuntimeError, match=words):
        run(interpreter, [1, -2.5])
    assert run(interpreter, [1, 2.5]).tolist() == [1, 2.5]


def test_native_operator_that_refuses_in_prepare_is_named(library: str) -> None:
    op = litejit.native.registration(library, "Register_PICKY")
    with pytest.raises(RuntimeError, match=r"Picky \(operator 0\): prepare: no options") as caught:
        opened(custom_model("Picky"), Picky=op)
    assert "Node number 0 (Picky) failed to prepare." in str(caught.value)


def test_native_operator_may_find_its_shape_in_invoke(library: str) -> None:
    op = litejit.native.registration(library, "Register_POSITIVE")
    interpreter = opened(custom_model("Positive", shape=(4,)), Positive=op)
    assert run(interpreter, [1, -2, 3, 4]).tolist() == [1, 3, 4]
    assert run(interpreter, [-1, -2, 3, -4]).tolist() == [3]
    assert run(interpreter, [1, 2, 3, 4]).tolist() == [1, 2, 3, 4]


def test_native_operator_has_temporaries_quantization_and_names(library: str) -> None:
    from litejit.model.builder import per_channel
    from litejit.types import I8

    builder = ModelBuilder()
    quantization = per_channel([0.5, 0.25], [3, 4], axis=0)
    x = builder.main.add_input("x", (2,), I8, quantization=quantization)
    y = builder.main.add_output("y", (4,), F32)
    builder.main.add_operator("Look", [x, -1], [y], custom=True)
    op = litejit.native.registration(library, "Register_LOOK")
    interpreter = opened(builder.to_bytes(), Look=op)
    assert run(interpreter, [5, 6]).tolist() == [0.5 * (5 - 3), 0.25 * (6 - 4), 1.0, ord("x")]


def test_native_operator_is_registered_by_name(library: str) -> None:
    data = custom_model("NamedInC", b"\x02")
    interpreter = InterpreterWithCustomOps([f"{library}:Register_NAMED"], model_content=data)
    interpreter.allocate_tensors()
    assert run(interpreter, [1, 2]).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/nope/lib.so:Register_X", "Loading library '/nope/lib.so' failed with error '"),
        ("{}:Register_X", "Looking up symbol 'Register_X' failed with error '"),
        ("{}:Register_NOTHING", "returned no registration"),
        ("{}:Register_EMPTY", "has no invoke"),
        ("malloc", "does not begin with Register_"),
    ],
)
def test_native_operator_that_is_not_there_is_refused(library: str, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        InterpreterWithCustomOps([name.format(library)], model_content=model("add"))


def test_structs_are_as_large_as_in_c(library: str) -> None:
    import ctypes

    from litejit import native_structs as structs

    sizes = (ctypes.c_int * 3)()
    ctypes.CDLL(library).struct_sizes(sizes)
    ours = (structs.TensorStruct, structs.NodeStruct, structs.ContextStruct)
    assert list(sizes) == [ctypes.sizeof(struct) for struct in ours]


# -- delegates --


def test_delegate_that_only_looks_is_applied_and_destroyed(library: str) -> None:
    import ctypes

    counts = ctypes.CDLL(library)
    delegate = litejit.interpreter.load_delegate(library, {"mode": "look"})
    interpreter = Interpreter(model_content=model("add"), experimental_delegates=[delegate])
    assert (counts.delegates_live(), counts.delegate_prepared()) == (1, 1)
    interpreter.allocate_tensors()
    assert run(interpreter, [[1, 2, 3, 4]]).tolist() == [[2, 3, 4, 5]]
    del interpreter, delegate
    gc.collect()
    assert counts.delegates_live() == 0


def test_delegate_that_wants_operators_is_refused(library: str) -> None:
    delegate = litejit.interpreter.load_delegate(library, {"mode": "take"})
    words = "Restored original execution plan after delegate application failure. litejit runs"
    with pytest.raises(RuntimeError, match=words):
        Interpreter(model_content=model("add"), experimental_delegates=[delegate])


def test_delegate_that_refuses_its_options_tells_why(library: str) -> None:
    words = f"Failed to load delegate from {library}\nno mode 7"
    with pytest.raises(ValueError, match=words):
        litejit.interpreter.load_delegate(library, {"mode": 7})


def test_library_without_delegate_is_refused(library: str) -> None:
    import ctypes.util

    libm = ctypes.util.find_library("m")
    if libm is None:
        pytest.skip("there is no library to try")
    with pytest.raises(ValueError, match="it is no delegate"):
        litejit.interpreter.load_delegate(libm)


def test_integers_pass_through_unchanged() -> None:
    builder = ModelBuilder()
    x, y = builder.main.add_input("x", (2,), I32), builder.main.add_output("y", (2,), I32)
    builder.main.add_operator("Same", [x], [y], custom=True)
    interpreter = opened(builder.to_bytes(), Same=litejit.FunctionOp(lambda x: x))
    assert run(interpreter, [2**31 - 1, -(2**31)]).tolist() == [2**31 - 1, -(2**31)]
