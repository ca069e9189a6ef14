"""Programs on disk: what the pipeline made of a file, for the next process that loads it.

Preparing, rewriting and lowering a graph takes most of the time of a warm start, and always gives
the same steps. So a Program of kernels alone, without state, is kept beside its kernels: its
steps, the blocks of their arguments with the places where addresses go, and its constants.
Constants that are the file's bytes in another order are kept as the strides that say so.

The name of an entry is the hash of the file's bytes and of all that the pipeline depends on. What
else an interpreter may be asked (types of inner tensors, the reason of a refusal, a profile) is
worked out when it is asked, by the same pipeline.
"""

from __future__ import annotations

import marshal
import os
import sys
from _blake2 import blake2b  # hashlib would load OpenSSL
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

import numpy as np

from litejit.codegen import cache as kernels
from litejit.codegen.isa import Isa
from litejit.engine import budget, native
from litejit.engine.constants import address_of, aligned_memory
from litejit.errors import CodegenError
from litejit.kernels.base import Pieces
from litejit.types import Array, TensorType

if TYPE_CHECKING:
    from litejit.engine.graph import Graph
    from litejit.engine.plan import MemoryPlan
    from litejit.engine.program import Program
    from litejit.engine.steps import Lowered, Place

LARGEST_FILE = 64 << 20  # larger models are prepared anew: hashing them takes as long
LARGEST_SHARE = 16 << 20  # bytes of constants in one entry
_ARENA, _SLAB, _STATUS = range(3)  # what addresses in arguments count from
_LINE = 64
_SMALL = 256  # bytes of constants that are kept in any case
_FORMAT = 1
_LONG = 1 << 18  # bytes that take longer to hash than a thread takes to start
_JUMP = -1  # stands for the kernel of a jump

# element type, shape, then offset and strides in the slab, offset and strides in the file
View: TypeAlias = "tuple[str, tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]"
SourceOf: TypeAlias = "Callable[[Array], Array | Pieces | None]"


class Digest:
    """The hash of a file's bytes, made by another thread meanwhile (3 ms for 4 MB)."""

    __slots__ = ("_data", "_done", "_process", "_value")

    def __init__(self, data: bytes) -> None:
        self._data, self._value, self._done = data, "", allocate_lock()
        self._process = os.getpid()
        if len(data) < _LONG:
            self._run(data)
            return
        self._done.acquire()
        try:
            start_new_thread(self._run_aside, (data,))
        except RuntimeError:  # no more threads
            self._run_aside(data)

    def _run(self, data: bytes) -> None:
        self._value = blake2b(data, digest_size=16).hexdigest()

    def _run_aside(self, data: bytes) -> None:
        try:
            self._run(data)
        finally:
            self._done.release()

    @property
    def value(self) -> str:
        """The hash, when it is there."""
        if not self._value and self._process == os.getpid():
            with self._done:
                pass
        if not self._value:  # a fork left the thread behind, or the thread failed
            self._run(self._data)
        return self._value


def name_of(digest: str, isa: Isa, threads: int) -> str:
    """The name of the entry for a file's bytes."""
    # NumPy made the constants that were folded
    versions = (str(_FORMAT), sys.version, np.__version__)
    return kernels.entry_name(isa, digest, str(threads), *versions, _sources())


@cache
def _sources() -> str:
    """Names, sizes and times of all files that the pipeline consists of."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = (f"{package}/{name}" for name in ("", "engine", "model", "model/options", "ops"))
    return "\n".join([kernels.fingerprint(folder) for folder in folders])


class Kept:
    """An entry that was read: a Program that lacks addresses.

    `readable` are the tensors whose values can be read after a run, with their offsets.
    """

    __slots__ = ("_blob", "_fields", "_kernels", "inputs", "readable")

    def __init__(self, fields: tuple[Any, ...], blob: memoryview, addresses: list[int]) -> None:
        self.inputs: tuple[int, ...] = fields[0]
        self.readable: dict[int, int] = fields[1]
        self._fields, self._blob, self._kernels = fields[2:], blob, addresses

    def program(
        self, data: bytes, types: Mapping[int, TensorType], threads: int,
        complete: Callable[[Program], Lowered],
    ) -> Program:  # fmt: skip
        """Allocate memory, bind all steps to it. `complete` finds the program's steps."""
        from litejit.engine.program import NativeCall, Program, kernel_steps

        steps, args, places, arena_bytes, slab_bytes, shared = self._fields
        budget.check(arena_bytes, "the arena of all tensors")
        arena, slab = aligned_memory(arena_bytes), self._constants(data, slab_bytes, shared)
        status = native.Block(64)
        block = aligned_memory(len(args))
        block[:] = np.frombuffer(args, np.uint8)
        words = block.view(np.uint64)
        bases = (address_of(arena), address_of(slab), status.address)
        for base, positions in zip(bases, places, strict=True):
            words[np.frombuffer(positions, np.int32)] += np.uint64(base)
        bound = list(self._steps(steps, bases, address_of(block)))
        keep = (arena, slab, block)
        runs = native.NativeProgram(bound, threads, status=status, keep=keep)
        views = {}
        for index, start in self.readable.items():
            tensor = types[index]
            flat = arena[start : start + tensor.nbytes]
            views[index] = flat.view(tensor.dtype.numpy).reshape(tensor.dims)
        call = NativeCall(runs, lambda: kernel_steps(owner()), views)
        program: Program = Program((call,), views, arena, complete)
        owner = ref(program)  # not the program: who drops it gets its memory back at once
        return program

    def _constants(self, data: bytes, nbytes: int, shared: tuple[View, ...]) -> Array:
        slab = aligned_memory(nbytes)
        slab[: len(self._blob)] = self._blob
        for dtype, shape, start, strides, offset, file_strides in shared:
            target = np.ndarray(shape, dtype, slab, start, strides)
            target[...] = np.ndarray(shape, dtype, data, offset, file_strides)
        return slab

    def _steps(
        self, steps: tuple[tuple[int, ...], ...], bases: tuple[int, ...], args: int
    ) -> Iterator[native.Step]:
        for kernel, place, offset, items, chunks, cost_ns in steps:
            if kernel == _JUMP:
                yield native.jump(items, bases[place] + offset if place >= 0 else 0)
            else:
                yield native.Step(self._kernels[kernel], args + offset, items, chunks, cost_ns)


def find(name: str, isa: Isa) -> Kept | None:
    """The entry of this name, if it is there, whole, and its kernels are."""
    data = kernels.read_entry(name)
    if data is None:
        return None
    *fields, pack, symbols, size = marshal.loads(data)
    try:
        addresses = kernels.pack_addresses(pack, symbols, {native.RUN_LOOP}, isa)
    except CodegenError:  # preparing the program anew says what is wrong
        return None
    if addresses is None:
        return None
    blob = data[len(data) - size :] if size else data[:0]
    return Kept(tuple(fields), blob, [addresses[symbol] for symbol in symbols])


def keep(
    name: str, data: bytes, graph: Graph, lowered: Lowered, plan: MemoryPlan,
    source_of: SourceOf, isa: Isa,
) -> None:  # fmt: skip
    """Write a Program to disk, where it consists of kernels alone.

    `source_of` tells what a constant is a copy of.
    """
    from litejit.engine.steps import PythonStep

    readable = graph.keep | set(graph.inputs)
    plain = not any(isinstance(step, PythonStep) for step in lowered.steps)
    if not plain or not readable <= lowered.home.keys() or not lowered.steps:
        return
    slab = _Slab(lowered.arrays, source_of, data)
    if len(slab.blob) > LARGEST_SHARE:
        return
    packed = _Packed(lowered, plan, slab.offsets, isa)
    if len(packed.symbols) < kernels.SMALLEST_PACK:
        return  # there will be no pack to take them from
    at = {index: plan.offsets[lowered.home[index]] for index in readable}
    fields = (
        *(graph.inputs, at, tuple(packed.steps), bytes(packed.args)),
        tuple([np.array(found, np.int32).tobytes() for found in packed.places]),
        *(plan.arena_bytes, slab.size, tuple(slab.shared)),
        *(packed.pack, tuple(packed.symbols.values()), len(slab.blob)),
    )
    kernels.write_entry(name, marshal.dumps(fields) + slab.blob)


class _Slab:
    """All constants side by side: first those whose bytes are kept, then those of the file."""

    def __init__(self, arrays: tuple[Array, ...], source_of: SourceOf, data: bytes) -> None:
        self._begin = address_of(np.frombuffer(data, np.uint8))
        self._end = self._begin + len(data)
        self.offsets = [0] * len(arrays)
        self.shared: list[View] = []
        self.size = 0
        blob = bytearray()
        ours = [self._parts_of_file(source_of(array)) for array in arrays]
        for number in sorted(range(len(arrays)), key=lambda number: bool(ours[number])):
            array = arrays[number]
            self.offsets[number] = start = self.size
            self.size += -(-(array.nbytes + _LINE) // _LINE) * _LINE  # kernels read past the end
            if not ours[number]:
                blob += array.tobytes() + bytes(self.size - start - array.nbytes)
            for index, source in ours[number]:
                target = array[index]
                place = start + address_of(target) - address_of(array)
                view = (source.dtype.str, source.shape, place, target.strides)
                at = address_of(source) - self._begin
                self.shared.append((*view, at, source.strides))
        self.blob = bytes(blob)
        self.size += _LINE

    def _parts_of_file(
        self, source: Array | Pieces | None
    ) -> tuple[tuple[tuple[Any, ...], Array], ...]:
        """Where the array's parts lie in the file; empty if not all do, or if it is small."""
        if source is None or source.nbytes <= _SMALL:
            return ()
        parts = source.parts if isinstance(source, Pieces) else (((), source),)
        inside = all(self._begin <= address_of(part) < self._end for _, part in parts)
        return parts if inside else ()


class _Packed:
    """Steps and their blocks of arguments, with the places of addresses."""

    def __init__(self, lowered: Lowered, plan: MemoryPlan, arrays: list[int], isa: Isa) -> None:
        from litejit.engine.link import pack_slot
        from litejit.engine.steps import JumpStep, NativeStep, Place

        specs = [step.spec for step in lowered.steps if isinstance(step, NativeStep)]
        self.pack, self.symbols = kernels.pack_of([*specs, native.RUN_LOOP], isa)
        numbers = {spec: number for number, spec in enumerate(self.symbols)}
        self.args = bytearray()
        self.places: tuple[list[int], ...] = ([], [], [])
        self.steps: list[tuple[int, ...]] = []
        self._plan, self._home, self._arrays = plan, lowered.home, arrays
        for step in lowered.steps:
            if isinstance(step, JumpStep):
                base, at = (-1, 0) if step.flag is None else self._find(step.flag)
                self.steps.append((_JUMP, base, at, step.target, 0, 0))
                continue
            assert isinstance(step, NativeStep)
            at = len(self.args)
            for operand in step.operands:
                if isinstance(operand, Place):
                    base, offset = self._find(operand)
                    self.places[base].append(len(self.args) // 8)
                    self.args += pack_slot(offset)
                else:
                    self.args += pack_slot(operand)
            self.args += bytes(-len(self.args) % _LINE)
            kernel = numbers[step.spec]
            self.steps.append((kernel, 0, at, step.items, step.chunks, int(step.cost_ns)))

    def _find(self, place: Place) -> tuple[int, int]:
        if place.kind == "status":
            return _STATUS, place.offset
        if place.kind == "array":
            return _SLAB, self._arrays[place.number] + place.offset
        number = place.number if place.kind == "request" else self._home[place.number]
        return _ARENA, self._plan.offsets[number] + place.offset


class KeptTypes(dict[int, TensorType]):
    """The types of all tensors; those that were not given are found when one is asked for."""

    def __init__(
        self, known: Mapping[int, TensorType], count: int,
        find_all: Callable[[], Mapping[int, TensorType]],
    ) -> None:  # fmt: skip
        super().__init__(known)
        self._count, self._find_all = count, find_all

    def __missing__(self, index: int) -> TensorType:
        if not 0 <= index < self._count or super().__len__() == self._count:
            raise KeyError(index)
        self.update(self._find_all())
        return super().__getitem__(index)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self._whole())

    def keys(self) -> Any:
        """As a dict's."""
        return self._whole().keys()

    def values(self) -> Any:
        """As a dict's."""
        return self._whole().values()

    def items(self) -> Any:
        """As a dict's."""
        return self._whole().items()

    def _whole(self) -> dict[int, TensorType]:
        return {index: self[index] for index in range(self._count)}
