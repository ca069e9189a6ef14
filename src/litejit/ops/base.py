"""Op, Node and Lowering: what an operator is, one use of it, and how it asks for kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from litejit.codegen.isa import Isa
from litejit.errors import InvokeError, PrepareError
from litejit.kernels.base import KernelSpec, Pieces
from litejit.model import Operator
from litejit.ops.session import Session
from litejit.record import Record, replace
from litejit.types import Array, DType, TensorType

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # a real Protocol takes a tenth of a millisecond to make

Types: TypeAlias = "list[TensorType]"
Arrays: TypeAlias = "Array | tuple[Array, ...]"


class Node(Record):
    """One operator after resolving: decoded options, operand types.

    An absent optional operand is None. `outputs` holds what the file declares until `infer`
    ran, and what it found afterwards; a declared shape is never trusted. `chain` holds the
    nodes that were fused into this one, this one's own original among them, in the order in
    which they would run; it is empty where nothing was fused.
    """

    op: Op
    name: str
    index: int
    version: int
    options: Any
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType | None, ...]
    chain: tuple[Node, ...] = ()
    intermediates: tuple[TensorType | None, ...] = ()
    session: Session | None = None

    __hash__ = object.__hash__

    @property
    def who(self) -> str:
        """Its name and number, as errors begin."""
        return f"{self.name} (operator {self.index})"

    def require(self, ok: object, message: str) -> None:
        """Refuse this node before the first run, unless `ok`."""
        if not ok:
            raise PrepareError(f"{self.who}: {message}")

    def check(self, ok: object, message: str) -> None:
        """Refuse the data that this node met in a run, unless `ok`."""
        if not ok:
            raise InvokeError(f"{self.who}: {message}")

    def input(self, position: int) -> TensorType:
        """The type of an input that must be there."""
        present = position < len(self.inputs) and self.inputs[position] is not None
        self.require(present, f"input {position} is missing")
        return self.inputs[position]  # type: ignore[return-value]

    def optional(self, position: int) -> TensorType | None:
        """The type of an input that may be absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def output(self, position: int = 0) -> TensorType:
        """The type of an output that must be there."""
        present = position < len(self.outputs) and self.outputs[position] is not None
        self.require(present, f"output {position} is missing")
        return self.outputs[position]  # type: ignore[return-value]

    def require_dtype(self, tensor: TensorType, allowed: Iterable[DType], what: str) -> None:
        """Refuse a tensor whose element type has no kernel."""
        names = tuple(dtype.name for dtype in allowed)
        ok = tensor.dtype.name in names
        self.require(ok, f"{what} is {tensor.dtype.name}, expected {' or '.join(names)}")

    @property
    def core(self) -> Node:
        """This node as it was before anything was fused into it."""
        return next((part for part in self.chain if part.op is self.op), self)

    @property
    def before(self) -> Node | None:
        """The node that was fused in front, if any."""
        position = self._core_position()
        return self.chain[position - 1] if position > 0 else None

    @property
    def after(self) -> tuple[Node, ...]:
        """The nodes that were fused behind, in order."""
        return self.chain[self._core_position() + 1 :]

    def _core_position(self) -> int:
        ops = [part.op for part in self.chain]
        return ops.index(self.op) if self.op in ops else -1

    def with_types(
        self, inputs: tuple[TensorType | None, ...], outputs: tuple[TensorType | None, ...]
    ) -> Node:
        """The same node with other operand types."""
        node: Node = replace(self, inputs=inputs, outputs=outputs)
        return node


class Operand(Protocol):
    """Something a kernel takes by address: a tensor, a constant, a scratch area."""

    def at(self, offset_bytes: int) -> Operand:
        """The address `offset_bytes` further on."""
        ...


class Lowering(Protocol):
    """What `Op.lower` turns a node into kernel calls with.

    `inputs` and `outputs` are the node's operands, in its order (None: absent). A constant
    input is an operand too, 64-byte aligned. Every tensor may be read, not written, up to 64
    bytes past its end. `status` is where a kernel that must refuse its data stores
    `code << 48 | position` (code from 1) before it returns: the run ends after that call, and
    the node's reference, run on the same data, has to say what is wrong.
    """

    isa: Isa
    status: Operand
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]

    def call(
        self,
        spec: KernelSpec,
        *operands: Operand | int | float,
        items: int,
        cost_ns: float,
        grain: int = 1,
    ) -> None:
        """Run a kernel over [0, items), after the calls made before.

        `operands` fill the kernel's arguments in order: an Operand as a pointer, an int as
        i64, a float as f32. `cost_ns` is the estimated time of all items on one thread; from
        it the lowering decides in how many chunks (of at least `grain` items) the items are
        cut. A kernel's result must not depend on where the cuts are.
        """
        ...

    def constant(self, name: str, make: Callable[[], Array | Pieces]) -> Operand:
        """An array made at prepare (packed weights), shared by all interpreters of a Model.

        `name` must say all that the bytes depend on besides the node itself, e.g. the layout.
        """
        ...

    def temporary(self, nbytes: int) -> Operand:
        """Memory that lives through this node's calls only and is shared by all threads."""
        ...

    def scratch(self, nbytes: int) -> Operand:
        """Private memory of every thread, while it runs one call of this node.

        Thread `worker` owns the bytes from worker * stride on, where stride is `nbytes`
        rounded up to a multiple of 64; pass the stride to the kernel as an argument.
        """
        ...

    def shared(
        self, position: int, name: str, make: Callable[[], tuple[Operand, ...]]
    ) -> tuple[Operand, ...]:
        """Temporary memory that `make` fills from input `position`, with calls of its own.

        Later nodes that ask for the same `name` of the same tensor get it as it is. `name` must
        say all that the content depends on besides the tensor.
        """
        ...

    def persistent(self, initial: Array) -> Operand:
        """Memory with a first content that the node's kernels may change and find again."""
        ...

    def alias(self, output: int = 0, input: int = 0) -> None:
        """Output and input hold the same bytes: give them the same memory, run nothing."""
        ...

    def may_share(self, output: int = 0, input: int = 0) -> None:
        """Let the output overwrite the input where this node is the last that reads it.

        Right only if every kernel reads an element of the input no later than it writes the
        bytes at the same offset of the output.
        """
        ...

    def loop(self, condition: int, body: int) -> None:
        """Run subgraph `body` on the node's inputs as long as `condition` holds of them.

        Its results are the next inputs, and at the end the node's outputs. Like `branch` and
        `inline`, this asks for nothing where a step of a subgraph has no kernel.
        """
        ...

    def branch(self, then: int, otherwise: int) -> None:
        """Run one of two subgraphs on the inputs behind the first, which decides."""
        ...

    def inline(self, number: int) -> None:
        """Run a subgraph on the node's inputs."""
        ...

    def once(self, number: int, pending: Array) -> None:
        """Run a subgraph without operands where the byte `pending` is not 0, which it becomes."""
        ...


class Surroundings(Protocol):
    """The operators of a subgraph, as `Op.stands_for` sees them."""

    def producer(self, index: int) -> tuple[str, Operator | None, Any]:
        """Name, operator and options that make a tensor; ("", None, None) where none does."""
        ...

    def dtype(self, index: int) -> DType | None:
        """A tensor's element type."""
        ...

    def constant(self, index: int) -> Array | None:
        """The value of a tensor that the file holds."""
        ...


class Op:
    """Behaviour of one operator code; stateless, one instance for all nodes.

    `arity` is the smallest and the largest number of inputs, `results` that of outputs;
    `optional` lists the input positions that may be absent (-1 in the file). The engine checks
    these before `infer` runs, so that infer may unpack.
    """

    options: ClassVar[Any] = None  # the Table class of the options; None: no options
    arity: ClassVar[tuple[int, int]] = (1, 1)
    results: ClassVar[tuple[int, int]] = (1, 1)
    optional: ClassVar[frozenset[int]] = frozenset()
    mutates: ClassVar[tuple[int, ...]] = ()  # positions of variable inputs that it updates
    is_pure: ClassVar[bool] = True  # equal inputs give equal outputs: may be folded
    only_refuses: ClassVar[bool] = False  # is impure, but changes nothing
    is_foreign: ClassVar[bool] = False  # runs code of the user's, which may count its calls
    is_elementwise: ClassVar[bool] = False  # an element depends on its position in the inputs only
    keeps_bytes: ClassVar[bool] = False  # output 0 holds the bytes of input 0
    checks_shape: ClassVar[bool] = False  # its kernels refuse runs that give other shapes
    is_bounded: ClassVar[bool] = False  # its float sums end at the largest finite numbers

    def decode_options(self, operator: Operator, who: str) -> Any:
        """Read the options from the file; ModelError where they are of another kind."""
        return None if self.options is None else operator.read_options(self.options)

    def called(self, options: Any) -> tuple[int, ...]:
        """Numbers of the subgraphs that a node with these options may run."""
        return ()

    def stands_for(
        self, operator: Operator, options: Any, around: Surroundings
    ) -> tuple[Op, tuple[int, ...]] | None:
        """An Op with the same meaning that needs less, and its inputs; None: there is none.

        For operators that say in many words what one Op can do. Asked once, before shapes.
        """
        return None

    def infer(self, node: Node) -> Types:
        """Check the operands and return the types of the outputs: the only shape rule.

        Start from `node.output(i).with_shape(...)`: quantization comes from the file, dtype
        is checked against what this operator produces. A shape that depends on data is None;
        an output that is known already is given `.with_value(array)`.
        """
        raise NotImplementedError

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Input positions of variables that must take another shape for these operands.

        Called before `infer`, so that a batch of another size finds states that fit it. Operands
        that make no sense are left for `infer` to refuse.
        """
        return {}

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """The meaning in NumPy: input arrays (None: absent) to output array(s).

        Inputs must not be changed, except those of `mutates`, which are updated in place.
        Results have the output's dtype and shape.
        """
        raise NotImplementedError

    def lower(self, node: Node, steps: Lowering) -> None:
        """Ask for kernels. Asking for none means: `reference` runs. (The default.)"""

    def fuses_after(self, node: Node, follower: Node, position: int) -> bool:
        """May `follower`, which reads node's only output as input `position`, become part of it?

        The fused node has node's inputs followed by the follower's other inputs, and the
        follower's output; `lower` finds the follower in `node.after`.
        """
        return False

    def joined(self, node: Node, producer: Node) -> Node | None:
        """One node for `producer`, whose only result only `node` reads, and `node`; None: none.

        It is asked where both read the same tensor. The node that is returned has node's output.
        """
        return None

    def fuses_before(self, node: Node, producer: Node, position: int = 0) -> bool:
        """May `producer`, whose output is read by node's input `position` only, become part of it?

        The fused node has the producer's input 0 in that place; other inputs must be constants.
        """
        return False


_BUILTINS: dict[str, tuple[Op, range]] = {}
_OpClass = TypeVar("_OpClass", bound=type[Op])


def builtin(name: str, versions: range = range(1, 2)) -> Callable[[_OpClass], _OpClass]:
    """Register a class as the behaviour of a builtin (or default custom) operator."""

    def register(cls: _OpClass) -> _OpClass:
        _BUILTINS[name] = (cls(), versions)
        return cls

    return register


def registered(name: str) -> tuple[Op, range] | None:
    """The operator that a family module registered, with its versions."""
    return _BUILTINS.get(name)
