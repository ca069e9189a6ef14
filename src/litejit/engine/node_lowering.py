"""The Lowering that an Op sees: one node's calls, memory and aliases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from litejit.engine import loops
from litejit.engine.calls import RunnerCall
from litejit.engine.constants import aligned_copy
from litejit.engine.plan import aligned
from litejit.engine.steps import NativeStep, Place
from litejit.kernels.base import KernelSpec, Pieces
from litejit.ops.base import Node, Operand
from litejit.ops.blocks import copy_whole, input_of
from litejit.types import Array, TensorType

if TYPE_CHECKING:
    from litejit.engine.lower import Lowerer
    from litejit.engine.runner import SubgraphRunner

MAX_CHUNKS = 32  # the run loop keeps a mask of claimed chunks in 32 bits
SPLIT_ABOVE_NS = 2_500.0  # data that one core wrote and another reads costs a microsecond
CHUNK_NS = 5_000.0
CLAIM_NS = 100.0  # what a chunk costs beside its items: claiming, the kernel's start


class NodeLowering:
    """The Lowering of one node: see litejit.ops.base.Lowering."""

    def __init__(self, owner: Lowerer, position: int, node: Node) -> None:
        self._owner, self._position, self._node = owner, position, node
        self.settled = False
        self.own_requests: list[int] = []
        self.found_requests: list[int] = []  # of nodes before
        self._shared: dict[int, int] = {}  # output position -> input position
        self.status: Operand = Place("status", 0)
        if owner.isa is not None:
            self.isa = owner.isa
        self.inputs: tuple[Operand | None, ...] = tuple(self._operand(t) for t in node.inputs)
        self.outputs: tuple[Operand, ...] = tuple(
            Place("tensor", t.index) for t in node.outputs if t is not None
        )

    def can_compile(self) -> bool:
        """Kernels need sizes, and bytes rather than Python objects."""
        tensors = [t for t in (*self._node.inputs, *self._node.outputs) if t is not None]
        return all(t.shape is not None and not t.dtype.numpy.hasobject for t in tensors)

    def _operand(self, tensor: TensorType | None) -> Operand | None:
        if tensor is None:
            return None
        if tensor.value is None:
            return Place("tensor", tensor.index)
        if tensor.dtype.numpy.hasobject:
            return None
        return _LazyConstant(self._owner, tensor)

    def call(
        self,
        spec: KernelSpec,
        *operands: Operand | int | float,
        items: int,
        cost_ns: float,
        grain: int = 1,
    ) -> None:
        """Append a kernel call."""
        self.settled = True
        if items <= 0:
            return
        places = tuple(o.resolve() if isinstance(o, _LazyConstant) else o for o in operands)
        chunks = chunk_count(items, cost_ns, grain)
        self._owner.steps.append(
            NativeStep(spec, places, items, chunks, cost_ns, self._node)  # type: ignore[arg-type]
        )

    def constant(self, name: str, make: Callable[[], Array | Pieces]) -> Operand:
        """An array made once per Model."""
        parts = tuple(part.index for part in self._node.chain)
        key = (self._node.index, parts, name, self.isa.name)
        return self._owner.array(self._owner.store.get(key, make, self._folded()))

    def _folded(self) -> bytes:
        """The constants among the inputs that are not the file's: shapes may change them."""
        tensors = [t for part in (self._node, *self._node.chain) for t in part.inputs]
        values = [
            (t.index, t.value) for t in tensors
            if t is not None and t.value is not None and not self._owner.store.is_constant(t.index)
        ]  # fmt: skip
        return b"".join([b"%d:%b" % (index, value.tobytes()) for index, value in values])

    def temporary(self, nbytes: int) -> Operand:
        """Memory of this node's calls."""
        number = self._owner.request(nbytes, 0)
        self.own_requests.append(number)
        return Place("request", number)

    def scratch(self, nbytes: int) -> Operand:
        """Private memory of every thread."""
        return self.temporary(aligned(nbytes) * self._owner.threads)

    def shared(
        self, position: int, name: str, make: Callable[[], tuple[Operand, ...]]
    ) -> tuple[Operand, ...]:
        """Memory made from an input, once for all nodes that want it."""
        tensor = self._node.inputs[position]
        if tensor is None or tensor.is_variable:
            return make()
        key = (tensor.index, name)
        if key not in self._owner.made_of:
            start = len(self.own_requests)
            self._owner.made_of[key] = make(), self.own_requests[start:]
            return self._owner.made_of[key][0]
        operands, numbers = self._owner.made_of[key]
        self.found_requests += numbers
        return operands

    def persistent(self, initial: Array) -> Operand:
        """Memory that keeps its content from run to run.

        An array that begins at a multiple of 64 bytes is that memory itself, not a copy, so that
        its owner can look into it.
        """
        aligned = initial.__array_interface__["data"][0] % 64 == 0 and initial.flags.c_contiguous
        return self._owner.array(initial if aligned else aligned_copy(initial))

    def alias(self, output: int = 0, input: int = 0) -> None:
        """Share memory where that is safe, else copy."""
        source, target = self._node.inputs[input], self._node.outputs[output]
        if source is None or target is None or source.dtype.numpy.hasobject:
            return
        if source.shape is None or target.shape is None or source.nbytes != target.nbytes:
            return
        outside = target.index in self._owner.forever and source.index in self._owner.graph.inputs
        if source.index in self._owner.home and not outside and not source.is_variable:
            self._shared[output] = input
            self.settled = True
        elif self._owner.isa is not None:
            copy_whole(self, input_of(self, input), self.outputs[output], source.nbytes)

    def may_share(self, output: int = 0, input: int = 0) -> None:
        """Run in place where nobody needs the input afterwards."""
        source, target = self._node.inputs[input], self._node.outputs[output]
        if source is None or target is None or source.is_constant:
            return
        fits = source.nbytes == target.nbytes
        if fits and self._owner.may_be_overwritten(source, self._position):
            self._shared[output] = input

    def loop(self, condition: int, body: int) -> None:
        """Run subgraphs natively where all their steps are compiled."""
        operands = self._types(self._node.inputs)
        cond, turn = self._callee(condition, operands), self._callee(body, operands)
        self.settled = loops.inline_loop(self._owner, self._node, cond, turn)

    def branch(self, then: int, otherwise: int) -> None:
        """Run one of two subgraphs natively where all their steps are compiled."""
        operands = self._types(self._node.inputs[1:])
        sides = self._callee(then, operands), self._callee(otherwise, operands)
        self.settled = loops.inline_branch(self._owner, self._node, *sides)

    def inline(self, number: int) -> None:
        """Run a subgraph natively where all its steps are compiled."""
        callee = self._callee(number, self._types(self._node.inputs))
        self.settled = loops.inline_call(self._owner, self._node, callee)

    def once(self, number: int, pending: Array) -> None:
        """Run a subgraph natively, in the first run only, where all its steps are compiled."""
        callee = self._callee(number, [])
        self.settled = loops.inline_once(self._owner, self._node, callee, self.persistent(pending))

    @staticmethod
    def _types(tensors: tuple[TensorType | None, ...]) -> list[TensorType]:
        return [t for t in tensors if t is not None]

    def _callee(self, number: int, operands: list[TensorType]) -> SubgraphRunner:
        assert self._node.session is not None
        call = self._node.session.subgraph(number)
        call.infer(operands)  # another caller may have given it other shapes
        assert isinstance(call, RunnerCall)
        return call.runner

    def place_outputs(self, first: int) -> None:
        """Give the outputs memory, shared or new."""
        owner = self._owner
        for position, target in enumerate(self._node.outputs):
            if target is None or target.index in owner.home:
                continue
            source = self._node.inputs[self._shared[position]] if position in self._shared else None
            if source is None:
                owner.place(target, first)
            else:
                owner.home[target.index] = owner.home[source.index]
                owner.members[owner.home[source.index]].append(target.index)


class _LazyConstant:
    """A constant input; its bytes are copied only if a kernel takes it."""

    def __init__(self, owner: Lowerer, tensor: TensorType, offset: int = 0) -> None:
        self._owner, self._tensor, self._offset = owner, tensor, offset

    def at(self, offset_bytes: int) -> _LazyConstant:
        """The address `offset_bytes` further on."""
        return _LazyConstant(self._owner, self._tensor, self._offset + offset_bytes)

    def resolve(self) -> Place:
        """The aligned array, as an operand."""
        value = self._tensor.value
        assert value is not None
        array = self._owner.store.copy_of(self._tensor.index, value)
        return self._owner.array(array).at(self._offset)


def chunk_count(items: int, cost_ns: float, grain: int) -> int:
    """In how many chunks a step is cut: never a matter of how many threads there are.

    Chunks of about CHUNK_NS; up to twice as many where that spares threads the wait for a last
    or a longer chunk (16 items in 5 chunks keep one of two threads busy with 9, in 8 with 8).
    """
    most = min(items // max(grain, 1), MAX_CHUNKS)
    if cost_ns < SPLIT_ABOVE_NS or most < 2:
        return 1
    least = max(2, min(most, int(cost_ns / CHUNK_NS)))

    def loss(chunks: int) -> float:
        """Time of two and of four threads, each times its threads."""
        longest_ns = -(-items // chunks) * cost_ns / items + CLAIM_NS
        return sum(-(-chunks // threads) * threads * longest_ns for threads in (2, 4))

    most = min(most, max(least, int(2 * cost_ns / CHUNK_NS)))
    return min(range(least, most + 1), key=loss)
