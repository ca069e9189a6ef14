"""Runs models on memory where every tensor and scratch area lies between fences.

`python fences.py` takes paths of models, one a line, from its standard input (a .json: one of
TFLM's recordings) and answers with two lines each: the path, then what is wrong, "" if nothing
is. A read outside a fence ends the process: the last path is then the one without an answer.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import numpy as np

from litejit import Interpreter
from litejit.engine import constants, link, state
from litejit.engine.plan import SLACK, MemoryPlan, aligned
from litejit.engine.program import NativeCall
from litejit.engine.runner import LoadedModel
from litejit.micro import runtime
from litejit.micro.loading import read_micro_model

PAGE = mmap.PAGESIZE
ZONE = 128  # bytes on either side, at least, that stay as they are
PATTERNS = ((0xA5, True), (0xFF, False))  # small floats and large integers; NaN and -1
_NO_ACCESS, _READ_ONLY = 0, 1
_COPY = constants.aligned_copy
_LINK = link.link


class Fences:
    """Areas between zones full of one byte, on pages between pages that nobody may touch.

    An area ends with its slack at such a page (`at_end`), or begins behind one: who reads farther
    away ends the process. Constants cannot be written. What a kernel writes into a zone or into
    the arguments of kernels, `broken` finds; areas hold the byte too until somebody writes them.
    """

    def __init__(self, pattern: int, *, at_end: bool) -> None:
        self.pattern, self.at_end = pattern, at_end
        self._zones: list[tuple[str, np.ndarray]] = []
        self._arguments: list[tuple[Any, bytes]] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Whatever is linked meanwhile lies between these fences."""
        with (
            mock.patch.object(link, "link", self._linked),
            mock.patch.object(constants, "aligned_memory", self._memory),
            mock.patch.object(state, "aligned_memory", self._memory),
            mock.patch.object(constants, "aligned_copy", self._constant),
            mock.patch.object(LoadedModel, "name_on_disk", lambda *arguments: ""),
        ):
            yield

    def broken(self) -> str:
        """What was overwritten; "" where nothing was."""
        for name, zone in self._zones:
            changed = np.flatnonzero(zone != self.pattern)
            if len(changed):
                return f"a step wrote {name}: bytes {changed[0]} to {changed[-1]} of {len(zone)}"
        same = all(bytes(now) == before for now, before in self._arguments)
        return "" if same else "a step changed arguments"

    def _areas(self, named: Sequence[tuple[str, int, int]]) -> tuple[np.ndarray, list[int]]:
        """Memory for areas (name, bytes, of them slack behind), and where each begins."""
        rooms = [-(-(aligned(nbytes) + ZONE) // PAGE) * PAGE for _, nbytes, _ in named]
        pages = np.frombuffer(mmap.mmap(-1, PAGE + sum(rooms) + PAGE * len(rooms)), np.uint8)
        pages[:] = self.pattern
        _protect(pages[:PAGE], _NO_ACCESS)
        page, starts = PAGE, []
        for room, (name, nbytes, slack) in zip(rooms, named, strict=True):
            end = page + room
            starts.append(end - aligned(nbytes) if self.at_end else page)
            _protect(pages[end : end + PAGE], _NO_ACCESS)
            self._zones.append((f"before {name}", pages[page : starts[-1]]))
            self._zones.append((f"behind {name}", pages[starts[-1] + nbytes - slack : end]))
            page = end + PAGE
        return pages, starts

    def _memory(self, nbytes: int) -> np.ndarray:
        """In place of `aligned_memory`."""
        pages, (start,) = self._areas([("an array", nbytes, 0)])
        pages[start : start + nbytes] = 0
        return pages[start : start + nbytes]

    def _constant(self, made: Any) -> np.ndarray:
        """In place of the `aligned_copy` of constants: slack that is not 0, read-only pages."""
        copy = _COPY(made)
        start = constants.address_of(copy)
        whole = (ctypes.c_uint8 * (copy.nbytes + SLACK)).from_address(start)
        flat = np.frombuffer(whole, np.uint8)
        flat[copy.nbytes :] = self.pattern
        _protect(flat, _READ_ONLY)
        return copy

    def _linked(self, graph: Any, lowered: Any, plan: MemoryPlan, **more: Any) -> Any:
        """In place of `link`: every request has an area of its own."""
        homes = {number: f"tensor {index}" for index, number in lowered.home.items()}
        pages, starts = self._areas(
            [
                (homes.get(n, f"scratch {n}"), request.nbytes + SLACK, SLACK)
                for n, request in enumerate(lowered.requests)
            ]
        )
        fenced = MemoryPlan(tuple(starts), len(pages))
        with mock.patch.object(link, "aligned_memory", lambda nbytes: pages[:nbytes]):
            program = _LINK(graph, lowered, fenced, **more)
        for index in graph.inputs:  # what is never set is 0
            if index in lowered.home:
                program.views[index][...] = 0
        for segment in program.segments:
            if isinstance(segment, NativeCall):
                block = segment.native._memory.args.raw
                self._arguments.append((block, bytes(block)))
        return program


def _protect(memory: np.ndarray, access: int) -> None:
    start = constants.address_of(memory)
    first = start // PAGE * PAGE
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(first, start + memory.nbytes - first, access) == 0


class Lite:
    """One interpreter of litejit, ready to run on `values` or on zeros."""

    def __init__(self, data: bytes, values: Sequence[np.ndarray], threads: int) -> None:
        self.it = Interpreter(model_content=data, num_threads=threads)
        self.inputs = self.it.get_input_details()
        for detail, value in zip(self.inputs, values, strict=False):
            if tuple(detail["shape"]) != value.shape:
                self.it.resize_tensor_input(detail["index"], value.shape)
        self.it.allocate_tensors()
        for detail, value in zip(self.inputs, values, strict=False):
            self.it.set_tensor(detail["index"], value)

    def run(self) -> list[np.ndarray]:
        """Outputs, and the inputs as they are behind the run."""
        self.it.invoke()
        read = [*self.it.get_output_details(), *self.inputs]
        return [self.it.get_tensor(detail["index"]) for detail in read]


class Micro:
    """One interpreter of litejit.micro, likewise; there, results may take an input's place."""

    def __init__(self, data: bytes, values: Sequence[np.ndarray], threads: int) -> None:
        self.it = runtime.Interpreter.from_bytes(data, arena_size=1 << 30)
        self.count = len(read_micro_model(data).subgraphs[0].outputs)
        for number, value in enumerate(values):
            self.it.set_input(value, number)

    def run(self) -> list[np.ndarray]:
        """Outputs."""
        if self.it.invoke():
            raise RuntimeError("invoke failed")
        return [np.array(self.it.get_output(number)) for number in range(self.count)]


Case: TypeAlias = "tuple[type[Lite | Micro], bytes, Sequence[np.ndarray]]"
Results: TypeAlias = "list[np.ndarray] | str"


def results(case: Case, threads: int = 1, *, compiled: bool = True) -> Results:
    """What two runs give, one after the other, or their error."""
    kind, data, values = case
    with mock.patch.dict(os.environ, LITEJIT_COMPILE=str(int(compiled))):
        try:
            runner = kind(data, values, threads)
            found = [*runner.run(), *runner.run()]
        except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
            return f"{type(error).__name__}: {error}"
    if kind is Lite:
        after = found[len(found) - len(runner.inputs) :]
        for value, now in zip(values, after, strict=False):
            assert same(value, now), "a step changed an input"
    return found


def problem(case: Case, threads: int = 1) -> str:
    """What is wrong with the compiled steps of a model; "" where nothing is."""
    before = bytes(bytearray(case[1]))
    plain = results(case, threads)
    for pattern, at_end in PATTERNS:
        fences = Fences(pattern, at_end=at_end)
        with fences.installed():
            found = results(case, threads)
        if broken := fences.broken():
            return broken
        if difference := differs(found, plain, same):
            return f"depends on memory that nobody wrote: {difference}"
    if case[1] != before:
        return "a step changed the model"
    difference = differs(plain, results(case, compiled=False), near)
    return f"is not what NumPy gives: {difference}" if difference else ""


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """The same bytes, or the same strings."""
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    return a.tolist() == b.tolist() if a.dtype.kind in "OSU" else a.tobytes() == b.tobytes()


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal integers and strings; floats within 1e-5 of the range, as their type can tell."""
    if a.dtype.kind in "OSUiub" or a.dtype != b.dtype:
        return same(a, b)
    tolerance = 8e-3 if a.dtype.itemsize == 2 else 1e-5
    x, y = (v.astype(complex).ravel().view(float) for v in (a, b))
    finite = np.isfinite(y)
    largest = np.abs(y[finite]).max(initial=0.0)
    return bool(np.allclose(x, y, rtol=0, atol=tolerance * largest, equal_nan=True))


def differs(a: Results, b: Results, equal: Callable[[np.ndarray, np.ndarray], bool]) -> str:
    """How two results differ; "" where they do not. All errors are alike."""
    if isinstance(a, str) or isinstance(b, str):
        both = isinstance(a, str) and isinstance(b, str)
        return "" if both else " for ".join(r if isinstance(r, str) else "a result" for r in (a, b))
    for number, (x, y) in enumerate(zip(a, b, strict=True)):
        if not equal(np.asarray(x), np.asarray(y)):
            return f"{x} for {y} (array {number})"
    return ""


def read_case(path: Path) -> Case:
    """The model and its recorded inputs."""
    recorded = path.with_suffix(".npz")
    arrays = dict(np.load(recorded)) if recorded.exists() else {}
    if path.suffix == ".json":
        name = json.loads(path.read_text())["model_file"]
        return Micro, (path.parent / name).read_bytes(), _numbered(arrays, "in")
    return Lite, path.read_bytes(), _numbered(arrays, "in_")


def _numbered(arrays: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    values: list[np.ndarray] = []
    while (name := f"{prefix}{len(values)}") in arrays or f"{name}.s" in arrays:
        values.append(arrays[name] if name in arrays else _strings(arrays, name))
    return values


def _strings(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    data, ends = arrays[f"{name}.s"].tobytes(), arrays[f"{name}.o"]
    found = np.empty(len(ends) - 1, object)
    found[:] = [data[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    return found.reshape(tuple(arrays[f"{name}.d"]))


def main() -> None:
    """Answer for every path."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        print(line.strip(), flush=True)
        try:
            answer = problem(read_case(Path(line.strip())))
        except Exception as error:  # the next path is another matter
            answer = f"{type(error).__name__}: {error}"
        print(" ".join(answer.split())[:500], flush=True)


if __name__ == "__main__":
    main()
