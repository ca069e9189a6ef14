"""What lowering makes: steps with numbered operands, and requests for memory."""

from __future__ import annotations

from typing import TypeAlias

from litejit.engine.plan import Request
from litejit.kernels.base import KernelSpec
from litejit.ops.base import Node
from litejit.record import Record, replace
from litejit.types import Array


class Place(Record):
    """An operand before it has an address: a numbered piece of memory and a byte offset.

    `kind` is "tensor" (number of the tensor whose memory it is), "request" (number in
    `Lowered.requests`), "array" (number in `Lowered.arrays`) or "status" (the run's one word
    for kernels that refuse their data).
    """

    kind: str
    number: int
    offset: int = 0

    def at(self, offset_bytes: int) -> Place:
        """The address `offset_bytes` further on."""
        place: Place = replace(self, offset=self.offset + offset_bytes)
        return place


class NativeStep(Record):
    """A kernel over [0, items), cut into `chunks` that any thread may run.

    `is_inner`: the node belongs to a subgraph that the program's own graph calls.
    """

    spec: KernelSpec
    operands: tuple[Place | int | float, ...]
    items: int
    chunks: int
    cost_ns: float
    node: Node
    is_inner: bool = False


class JumpStep(Record):
    """Go on with step `target` where the byte at `flag` is 0, or always without a flag.

    `target` is counted like the steps of a Lowered; a jump stays between native steps.
    """

    node: Node
    target: int
    flag: Place | None


class PythonStep(Record):
    """The NumPy meaning of a node."""

    node: Node


Step: TypeAlias = "NativeStep | JumpStep | PythonStep"


class Lowered(Record):
    """Steps, and all memory that they need.

    `home` maps a tensor to the number of the request that holds it (several where they
    alias); tensors of Python objects have none. `arrays` are constants and persistent memory.
    """

    steps: tuple[Step, ...]
    requests: tuple[Request, ...]
    home: dict[int, int]
    arrays: tuple[Array, ...]

    __hash__ = object.__hash__
