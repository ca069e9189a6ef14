"""Where memory ends, an exception says so, nothing is lost, and the process goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from litejit import Interpreter
from litejit.codegen import cache, loader
from litejit.engine import budget, graph
from litejit.errors import CodegenError, InvokeError, MemoryLimitError, PrepareError
from litejit.model.builder import ModelBuilder
from litejit.model.options.shape import FillOptions, TileOptions
from litejit.types import F32, I64

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits" / "digits_int8.tflite"
LADDER = """
import os, resource, sys
import numpy as np
import litejit
from litejit import Interpreter

content = open(sys.argv[1], "rb").read()
image = np.zeros((1, 8, 8, 1), np.int8)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(float(sys.argv[2]) * 2**20)
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
interpreter = None

def run():
    global interpreter
    interpreter = interpreter or Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

try:
    run()
    print("ran")
except MemoryError as error:
    print("refused", error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(run().tolist())
"""


def shapeless(name: str, *, dims: int) -> Interpreter:
    """FILL or TILE with a shape, or multiples, that are inputs."""
    builder = ModelBuilder()
    main = builder.main
    shape = main.add_input("shape", (dims,), I64)
    y = main.add_output("y", (1,) * dims, F32)
    if name == "FILL":
        value = main.add_constant("value", np.array(2, np.float32))
        main.add_operator(name, [shape, value], [y], FillOptions())
    else:
        x = main.add_constant("x", np.ones((1,) * dims, np.float32))
        main.add_operator(name, [x, shape], [y], TileOptions())
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
@pytest.mark.parametrize("megabytes", [1, 160])
def test_a_process_survives_any_limit_and_goes_on_when_it_is_lifted(megabytes: float) -> None:
    environment = {"LITEJIT_CACHE": "off", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", LADDER, str(DIGITS), str(megabytes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, result = done.stdout.splitlines()
    assert first == "ran" or len(first) > len("refused ")
    free = Interpreter(str(DIGITS))
    free.allocate_tensors()
    free.set_tensor(free.get_input_details()[0]["index"], np.zeros((1, 8, 8, 1), np.int8))
    free.invoke()
    assert result == str(free.get_tensor(free.get_output_details()[0]["index"]).tolist())


def test_nothing_is_prepared_where_the_address_space_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITEJIT_CACHE", "off")  # a program from disk needs no preparing
    interpreter = Interpreter(str(DIGITS))
    with monkeypatch.context() as patch:
        patch.setattr(budget, "address_space_left", lambda: 1 << 20)
        with pytest.raises(MemoryLimitError, match="preparing a graph needs .* 1048576 are left"):
            interpreter.allocate_tensors()
    interpreter.allocate_tensors()
    interpreter.invoke()


def test_numpy_begins_no_operator_that_would_end_in_a_failed_allocation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interpreter = shapeless("FILL", dims=1)
    interpreter.set_tensor(0, np.array([3]))
    with monkeypatch.context() as patch:
        patch.setattr(graph, "address_space_left", lambda: 1 << 20)
        patch.setattr(budget, "address_space_left", lambda: 1 << 20)
        with pytest.raises(MemoryLimitError, match=r"FILL \(operator 0\)"):
            interpreter.invoke()
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    assert interpreter.get_tensor(output["index"]).tolist() == [2, 2, 2]


def test_kernels_are_not_compiled_where_llvm_might_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader, "address_space_left", lambda: 200 << 20)
    with pytest.raises(CodegenError, match="LLVM may need"):
        cache._compile(None, "symbol", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["FILL", "TILE"])
@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ([-1, 2], InvokeError), ([2**31, 0], InvokeError), ([2**62, 2**62], InvokeError),
        ([-(2**63), 3], InvokeError), ([2**31 - 1, 2**27], MemoryLimitError),
    ],
)  # fmt: skip
def test_shapes_that_no_memory_holds_are_refused_by_the_run(
    name: str, sizes: list[int], error: type[Exception]
) -> None:
    interpreter = shapeless(name, dims=2)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array(sizes))
    with pytest.raises(error, match=rf"^{name} \(operator 0\)"):
        interpreter.invoke()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array([2, 1]))
    interpreter.invoke()
    assert interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).shape == (2, 1)


def _fail_in(what: str, error: Exception) -> None:
    with budget.shortage_named(what):
        raise error


def test_errors_of_python_are_told_as_a_shortage_only_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SystemError):
        _fail_in("here", SystemError("a fault of its own"))
    with pytest.raises(MemoryLimitError, match="here: the system gives no more memory"):
        _fail_in("here", MemoryError())
    monkeypatch.setattr(budget, "address_space_left", lambda: 1 << 20)
    with pytest.raises(MemoryLimitError, match="here: error return without"):
        _fail_in("here", SystemError("error return without exception set"))
    with pytest.raises(PrepareError, match="^as it is"):
        _fail_in("here", PrepareError("as it is"))


def test_a_container_counts_and_an_eighth_stays_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(budget, "_CGROUPS", ((str(tmp_path), "memory.max", "memory.current"),))
    assert budget.memory_limit() == 2625
    (tmp_path / "memory.max").write_text("max\n")
    assert budget.memory_limit() > 2625


def test_the_users_limit_counts_for_small_models_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITEJIT_MEMORY", "100")
    monkeypatch.setenv("LITEJIT_CACHE", "off")
    with pytest.raises(MemoryLimitError, match="more than the 100 allowed"):
        Interpreter(str(DIGITS)).allocate_tensors()
    monkeypatch.setenv("LITEJIT_MEMORY", "many")
    Interpreter(str(DIGITS)).allocate_tensors()


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tflite"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(MemoryLimitError, match=r"sparse\.tflite' needs 4398046511104 bytes"):
        Interpreter(str(path))
