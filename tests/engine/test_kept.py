"""Programs on disk give what programs that were just made give, and answer the same questions."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from litejit import BuiltinOpResolver, Interpreter, InterpreterBuilder, InvokeError, Model
from litejit.codegen import cache
from litejit.engine import kept
from litejit.engine.profile import profile
from litejit.kernels import packing_int8 as packing
from litejit.model.builder import ModelBuilder
from litejit.types import F32

DIGITS = Path(__file__).parents[2] / "examples" / "digits" / "digits_int8.tflite"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, as a fresh process finds it."""
    monkeypatch.setenv("LITEJIT_CACHE", str(tmp_path))
    forget(monkeypatch)
    yield tmp_path / "kernels"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_loaded", "_packs", "_pruned"):
        monkeypatch.setattr(cache, name, type(getattr(cache, name))())


def opened(**arguments: object) -> Interpreter:
    interpreter = Interpreter(str(DIGITS), **arguments)  # type: ignore[arg-type]
    interpreter.allocate_tensors()
    return interpreter


def outputs(interpreter: Interpreter, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        shape, dtype = detail["shape"], detail["dtype"]
        interpreter.set_tensor(detail["index"], rng.integers(-128, 127, shape).astype(dtype))
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def is_kept(interpreter: Interpreter) -> bool:
    return interpreter._runner._found is not None


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_second_process_takes_the_program_of_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened()
    assert not is_kept(first)
    assert len(list(folder.glob("*.prog"))) == 1
    forget(monkeypatch)
    second = opened()
    assert is_kept(second)
    for seed in range(3):
        assert equal(outputs(first, seed), outputs(second, seed))


def test_details_profile_and_steps_are_those_of_a_new_program(folder: Path) -> None:
    first, second = opened(), opened()
    assert is_kept(second)
    assert str(first.get_tensor_details()) == str(second.get_tensor_details())
    assert str(first._get_ops_details()) == str(second._get_ops_details())
    outputs(first), outputs(second)
    assert [step.what for step in profile(first._runner)] == [
        step.what for step in profile(second._runner)
    ]
    programs = [one._runner.sections[0].program for one in (first, second)]
    assert str(programs[0]) == str(programs[1])
    assert equal(outputs(first), outputs(second))


def test_resizing_prepares_anew_and_back(folder: Path) -> None:
    opened()
    interpreter = opened()
    expected = outputs(interpreter)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, [1, 4, 16, 1])
    interpreter.allocate_tensors()
    fresh = opened()
    fresh.resize_tensor_input(index, [1, 4, 16, 1])
    fresh.allocate_tensors()
    assert equal(outputs(interpreter), outputs(fresh))
    interpreter.resize_tensor_input(index, [1, 8, 8, 1])
    interpreter.allocate_tensors()
    assert equal(outputs(interpreter), expected)


@pytest.mark.parametrize("where", [0, 40, -40])
def test_a_damaged_program_is_made_anew(
    folder: Path, where: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs(opened())
    (file,) = folder.glob("*.prog")
    data = bytearray(file.read_bytes())
    data[where] ^= 1
    file.write_bytes(data)
    forget(monkeypatch)
    healed = opened()
    assert not is_kept(healed)
    assert equal(outputs(healed), expected)
    assert is_kept(opened())


def test_without_its_kernels_a_program_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs(opened())
    for file in folder.glob("*.pack"):
        file.unlink()
    forget(monkeypatch)
    interpreter = opened()
    assert not is_kept(interpreter)
    assert equal(outputs(interpreter), expected)


def test_the_number_of_threads_and_other_bytes_have_programs_of_their_own(
    folder: Path,
) -> None:
    opened()
    assert not is_kept(opened(num_threads=2))
    assert is_kept(opened(num_threads=2))
    content = DIGITS.read_bytes() + b"\0"  # bytes behind a FlatBuffer mean nothing
    for found in (False, True):
        interpreter = Interpreter(model_content=content)
        assert is_kept(interpreter) is found
        interpreter.allocate_tensors()


def test_all_tensors_preserved_means_no_program_from_disk(folder: Path) -> None:
    opened()
    kind = {"experimental_preserve_all_tensors": True}
    with pytest.warns(UserWarning, match="preserve_all"):
        assert not is_kept(opened(**kind))


def test_another_version_of_the_pipeline_does_not_read_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened()
    monkeypatch.setattr(kept, "_sources", lambda: "edited")
    assert not is_kept(opened())


def test_use_before_allocation_is_refused(folder: Path) -> None:
    opened()
    interpreter = Interpreter(str(DIGITS))
    assert is_kept(interpreter)
    with pytest.raises((InvokeError, RuntimeError)):
        interpreter.invoke()
    assert len(interpreter.get_tensor_details()) == len(interpreter._runner.subgraph.tensors)


@pytest.mark.parametrize("channels", [16, 24, 31, 33, 64, 100])
@pytest.mark.parametrize("depth", [3, 8, 12])
def test_panels_from_views_equal_gathered_ones(channels: int, depth: int) -> None:
    rng = np.random.default_rng(channels * depth)
    weights = rng.integers(-128, 127, (2, channels, depth)).astype(np.int8)
    for lanes, vectors in ((4, 1), (16, 2), (16, 4)):
        order = packing.channel_order(channels, lanes, vectors)
        expected = packing.pack_weights(weights, order, lanes, vectors, 4)
        found = packing.pack_panels(weights, channels, lanes, vectors, 4)
        if not isinstance(found, np.ndarray):
            pieces, found = found, np.zeros(found.shape, found.dtype)
            pieces.fill(found)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("from_disk", [False, True])
def test_an_interpreter_that_is_dropped_is_gone_at_once(folder: Path, from_disk: bool) -> None:
    if from_disk:
        opened()
    gc.collect()
    gc.disable()
    try:
        interpreter = opened()
        assert is_kept(interpreter) is from_disk
        outputs(interpreter)
        program = weakref.ref(interpreter._runner.sections[0].program)
        runner = weakref.ref(interpreter._runner)
        del interpreter
        assert program() is None
        assert runner() is None
    finally:
        gc.enable()


def test_a_model_that_is_dropped_gives_its_bytes_back_at_once(folder: Path) -> None:
    content = DIGITS.read_bytes()
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(content)
        for _ in range(2):
            interpreter = Interpreter(model_content=content)
            interpreter.allocate_tensors()
            del interpreter
            assert sys.getrefcount(content) == before
    finally:
        gc.enable()


def test_a_changed_number_of_threads_neither_takes_nor_leaves_a_program(folder: Path) -> None:
    """Scratch areas of a Program are for as many threads as it was made for."""

    def steps(first: int, then: int) -> str:
        made = InterpreterBuilder(Model.from_file(str(DIGITS)), BuiltinOpResolver())(first)
        assert made is not None
        made.set_num_threads(then)
        made.allocate_tensors()
        return str(made._runner.sections[0].program)

    steps(4, 1)
    steps(1, 4)
    assert not list(folder.glob("*.prog"))
    for threads in (1, 4):
        opened(num_threads=threads)
    expected = {threads: steps(threads, threads) for threads in (1, 4)}
    changed = InterpreterBuilder(Model.from_file(str(DIGITS)), BuiltinOpResolver())(1)
    assert changed is not None
    assert changed._runner._found is not None
    changed.set_num_threads(4)
    changed.allocate_tensors()
    assert changed._runner._found is None
    assert str(changed._runner.sections[0].program) == expected[4]


def test_an_operator_that_is_added_later_does_not_reach_a_program_from_disk(folder: Path) -> None:
    opened()
    resolver = BuiltinOpResolver()
    made = InterpreterBuilder(Model.from_file(str(DIGITS)), resolver)()
    assert made is not None
    assert made._runner._found is not None
    resolver.add_builtin("CONV_2D", resolver.find_builtin("ADD", 1), 1, 9)
    resolver.add_builtin("FULLY_CONNECTED", resolver.find_builtin("ADD", 1), 1, 9)
    fresh = opened()
    for resolved, own in zip(made._runner.operators, fresh._runner.operators, strict=True):
        assert resolved.op is own.op


def test_a_hash_that_a_fork_interrupted_is_made_by_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(kept._LONG)
    expected = kept.Digest(data).value
    parent = os.getpid()
    monkeypatch.setattr(kept, "start_new_thread", lambda function, args: None)  # it never ends
    digest = kept.Digest(data)
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert digest.value == expected


def test_a_hash_whose_thread_failed_is_made_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(kept._LONG)
    expected = kept.Digest(data).value
    monkeypatch.setattr(
        kept, "start_new_thread", lambda function, args: function.__self__._done.release()
    )
    assert kept.Digest(data).value == expected


def test_programs_of_one_kernel_are_not_kept(folder: Path) -> None:
    builder = ModelBuilder()
    x = builder.main.add_input("x", (1, 64), F32)
    y = builder.main.add_output("y", (1, 64), F32)
    builder.main.add_operator("TANH", [x], [y])
    Interpreter(model_content=builder.to_bytes()).allocate_tensors()
    assert {file.suffix for file in folder.iterdir()} == {".obj"}
