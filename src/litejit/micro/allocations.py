"""What TFLM's allocator would report for a model: arithmetic on the file, nothing is run.

    found = allocations(read_model("person_detect.tflite", strict=False), "cortex-m")
    found.head, found.tail, found.total     # bytes; what arena_used_bytes() says is the total
    found.least_arena                       # bytes; the smallest arena that works
    print(found.text())                     # what print_allocations() writes

The figures hold for TFLM's reference kernels; optimised ones (CMSIS-NN, Xtensa, …) ask for other
sizes. The arena is taken to start at a multiple of 16 bytes.

Source: tensorflow/lite/micro (micro_allocator, arena_allocator, memory_planner) of TensorFlow
Lite for Microcontrollers, checked against its Python wheel.
"""

from __future__ import annotations

from typing import Any

from litejit.errors import LitejitError
from litejit.micro.ledger import ENDLESS, Category, Ledger, least_arena, settle, shortage
from litejit.micro.planners import Buffer
from litejit.micro.script import (
    CATEGORIES,
    NODES,
    TENSORS,
    OperatorRequests,
    Script,
    Setup,
    write_script,
)
from litejit.micro.structs import Target, target_named
from litejit.model import Model
from litejit.record import Record

PLANNERS = ("greedy", "linear")
KERNELS_NOTE = (
    "The figures are those of TFLM's reference kernels; optimised kernels (CMSIS-NN, Xtensa, …)"
    " ask for other sizes and for more scratch memory."
)
_COMPRESSED_NOTE = (
    "The file holds weights that are compressed the old way (COMPRESSION_METADATA); the memory to"
    " decompress them is not counted."
)
_UNITS = {TENSORS: "tensors", NODES: "NodeAndRegistration structs"}


class ArenaTooSmall(LitejitError, RuntimeError):
    """An arena does not hold a model. `needed` is the number of bytes that would do."""

    def __init__(self, message: str, *, arena_bytes: int, needed: int) -> None:
        super().__init__(message)
        self.arena_bytes = arena_bytes
        self.needed = needed


class Allocations(Record):
    """The arena of a model on a target, in bytes.

    `head` holds the planned buffers, `tail` what lives as long as the interpreter; `total` is
    their sum, and what TFLM reports. `least_arena`, a multiple of 16, is what the arena has to
    hold while it is filled, which can be more. `categories` are the lines of TFLM's report, in
    its order. `ticks` says which (subgraph, operator) a tick of the clock of buffers belongs to.
    """

    target: str
    planner: str
    recording: bool
    head: int
    tail: int
    least_arena: int
    categories: tuple[tuple[str, Category], ...]
    operators: tuple[OperatorRequests, ...]
    buffers: tuple[Buffer, ...]
    ticks: tuple[tuple[int, int, int], ...]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Bytes in use when the model is ready to run."""
        return self.head + self.tail

    @property
    def peak(self) -> int:
        """The tick at which the living buffers reach highest; 0 without buffers.

        Where several reach equally high, the one at which most bytes are alive.
        """
        best = (0, 0, 0)
        for tick in sorted({b.first for b in self.buffers if b.first >= 0}):
            alive = self.alive_at(tick)
            rank = (max(b.end for b in alive), sum(b.size for b in alive), -tick)
            best = max(best, rank)
        return -best[2]

    def alive_at(self, tick: int) -> tuple[Buffer, ...]:
        """The buffers that hold something at a tick, the largest first."""
        alive = [buffer for buffer in self.buffers if buffer.lives_at(tick)]
        return tuple(sorted(alive, key=lambda buffer: (-buffer.size, buffer.offset)))

    def operator_at(self, tick: int) -> OperatorRequests | None:
        """The operator that a tick belongs to; None before the first one."""
        where = next((entry[1:] for entry in self.ticks if entry[0] == tick), None)
        return next((o for o in self.operators if (o.subgraph, o.operator) == where), None)

    def text(self) -> str:
        """What TFLM's print_allocations() writes to stderr, its line ends included."""
        lines = [
            f"Arena allocation total {self.total} bytes",
            f"Arena allocation head {self.head} bytes",
            f"Arena allocation tail {self.tail} bytes",
        ]
        lines += [
            f"'{name}' used {entry.used} bytes with alignment overhead (requested "
            f"{entry.requested} bytes for {entry.count} {_UNITS.get(name, 'allocations')})"
            for name, entry in self.categories
            if entry.used
        ]
        return "".join(f"[RecordingMicroAllocator] {line}\r\n" for line in lines)

    def to_json(self) -> dict[str, Any]:
        """Everything as dicts, lists, strings and numbers."""
        return {
            "target": self.target,
            "planner": self.planner,
            "recording": self.recording,
            "total": self.total,
            "head": self.head,
            "tail": self.tail,
            "least_arena": self.least_arena,
            "categories": {name: _plain(entry) for name, entry in self.categories},
            "operators": [_plain(operator) for operator in self.operators],
            "buffers": [_plain(buffer) for buffer in self.buffers],
            "ticks": [list(entry) for entry in self.ticks],
            "peak": self._peak_json(),
            "notes": list(self.notes),
        }

    def _peak_json(self) -> dict[str, Any]:
        """Where the peak is, and the numbers of the buffers that are alive there."""
        operator = self.operator_at(self.peak)
        alive = [k for k, buffer in enumerate(self.buffers) if buffer.lives_at(self.peak)]
        return {
            "tick": self.peak,
            "subgraph": 0 if operator is None else operator.subgraph,
            "operator": -1 if operator is None else operator.operator,
            "name": "" if operator is None else operator.name,
            "buffers": alive,
        }


def _plain(record: Record) -> dict[str, Any]:
    values = {field: getattr(record, field) for field in record._fields}
    return {
        field: list(value) if isinstance(value, tuple) else value for field, value in values.items()
    }


def allocations(
    model: Model,
    target: str | Target = "wheel",
    *,
    planner: str = "greedy",
    recording: bool | None = None,
    alternate_bytes: int = 0,
    arena_bytes: int | None = None,
) -> Allocations:
    """Work out the arena of `model` on `target`: a name of structs.TARGETS, or one of its own.

    `planner` is "greedy" (tensors share memory) or "linear" (none does, kPreserveAllTensors).
    `recording` says whether the allocator keeps books; by default it does where the target says
    so, and the planner is the greedy one. `alternate_bytes` is memory beside the arena for
    decompressed weights. With `arena_bytes` the figures are those of an arena of that size (the
    tail of one that is no multiple of 16 is aligned otherwise).

    Raises ArenaTooSmall where the model does not fit into `arena_bytes`, PrepareError for an
    operator, a type or an offline plan that TFLM refuses, ValueError for an unknown target or
    planner.
    """
    chosen = target_named(target)
    if planner not in PLANNERS:
        raise ValueError(f"no planner {planner!r}: expected {' or '.join(PLANNERS)}")
    if recording is None:
        recording = chosen.recording and planner == "greedy"
    setup = Setup(chosen, planner, recording, alternate_bytes)
    script = write_script(model, setup)
    ledger = settle(script.steps, ENDLESS if arena_bytes is None else arena_bytes)
    if arena_bytes is not None and ledger.least > arena_bytes:
        raise _too_small(script, ledger, arena_bytes)
    return _record(model, setup, script, ledger)


def _record(model: Model, setup: Setup, script: Script, ledger: Ledger) -> Allocations:
    found = dict(ledger.categories)
    notes: tuple[str, ...] = (KERNELS_NOTE,)
    if model.metadata_bytes("COMPRESSION_METADATA") is not None:
        notes += (_COMPRESSED_NOTE,)
    return Allocations(
        setup.target.name,
        setup.planner,
        setup.recording,
        ledger.head,
        ledger.tail,
        least_arena(script.steps),
        tuple((name, found[name]) for name in CATEGORIES if name in found),
        script.operators,
        script.buffers,
        tuple((tick, *where) for tick, where in script.ticks.items()),
        notes,
    )


def _too_small(script: Script, ledger: Ledger, arena_bytes: int) -> ArenaTooSmall:
    needed = least_arena(script.steps)
    return ArenaTooSmall(
        f"{shortage(ledger, arena_bytes)}\nThe arena has {arena_bytes} bytes, {needed} would do.",
        arena_bytes=arena_bytes,
        needed=needed,
    )


def least_arena_of(model: Model, target: str | Target = "wheel", *, planner: str = "greedy") -> int:
    """The smallest arena, a multiple of 16 bytes, in which TFLM can prepare and run `model`."""
    return allocations(model, target, planner=planner).least_arena
