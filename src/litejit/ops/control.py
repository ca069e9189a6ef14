"""Control flow: operators that run other subgraphs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options.control import CallOnceOptions, IfOptions, WhileOptions
from litejit.model.options.stablehlo import StablehloCaseOptions, StableHLOCompositeOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.session import SubgraphCall
from litejit.types import BOOL, I32, Array, DType, TensorType

_MANY = 1 << 16


def call_of(node: Node, number: int) -> SubgraphCall:
    """The subgraph of that number, as a function."""
    node.require(node.session is not None, "needs subgraphs, and there are none")
    assert node.session is not None
    return node.session.subgraph(number)


def operand_types(node: Node, first: int = 0) -> list[TensorType]:
    """The types that a called subgraph gets."""
    return [node.input(k) for k in range(first, len(node.inputs))]


def merged(node: Node, found: list[list[TensorType]]) -> Types:
    """Outputs of branches: a shape is known where all branches agree on it."""
    count = len(node.outputs)
    for outputs in found:
        node.require(len(outputs) == count, f"a subgraph has {len(outputs)} outputs, not {count}")
    results = []
    for position in range(count):
        declared = node.output(position)
        for outputs in found:
            _require_dtype(node, outputs[position], declared.dtype, f"output {position}")
        shapes = [outputs[position].shape for outputs in found]
        known = all(shape is not None and shape == shapes[0] for shape in shapes)
        results.append(declared.with_shape(shapes[0] if known else None))
    return results


def _require_dtype(node: Node, tensor: TensorType, dtype: DType, what: str) -> None:
    """Refuse a subgraph whose result is of another type than the tensor that takes it."""
    node.require_dtype(tensor, (dtype,), f"{what} of a subgraph")


class _Calling(Op):
    """Runs subgraphs; never folded, because they may have side effects."""

    arity = (0, _MANY)
    results = (0, _MANY)
    is_pure = False


@builtin("IF")
class If(_Calling):
    """y = then(x...) where the condition (bool, one element) holds, else otherwise(x...).

    Source: LiteRT tflite/kernels/if.cc.
    """

    options: ClassVar[Any] = IfOptions
    arity = (1, _MANY)

    def called(self, options: Any) -> tuple[int, ...]:
        """Both branches."""
        return options.then_subgraph_index, options.else_subgraph_index

    def infer(self, node: Node) -> Types:
        """Shapes are known where both branches give the same."""
        condition = node.input(0)
        node.require_dtype(condition, (BOOL,), "condition")
        node.require(condition.size == 1, f"condition has {condition.size} elements, expected 1")
        operands = operand_types(node, 1)
        return merged(node, [call_of(node, k).infer(operands) for k in self.called(node.options)])

    def lower(self, node: Node, steps: Lowering) -> None:
        """Jump over the branch that is not taken."""
        steps.branch(*self.called(node.options))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Run one branch."""
        then, otherwise = self.called(node.options)
        taken = then if bool(inputs[0].reshape(-1)[0]) else otherwise
        return tuple(call_of(node, taken)(inputs[1:]))


@builtin("STABLEHLO_CASE")
class Case(_Calling):
    """y = branches[index](x...); an index out of range takes the last branch.

    Source: LiteRT tflite/kernels/stablehlo_case.cc.
    """

    options: ClassVar[Any] = StablehloCaseOptions
    arity = (1, _MANY)

    def called(self, options: Any) -> tuple[int, ...]:
        """All branches."""
        return tuple(options.branch_subgraph_indices)

    def infer(self, node: Node) -> Types:
        """Shapes are known where all branches give the same."""
        index = node.input(0)
        node.require_dtype(index, (I32,), "index")
        node.require(index.size == 1, f"index has {index.size} elements, expected 1")
        node.require(self.called(node.options), "has no branches")
        operands = operand_types(node, 1)
        return merged(node, [call_of(node, k).infer(operands) for k in self.called(node.options)])

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Run one branch."""
        branches = self.called(node.options)
        index = int(inputs[0].reshape(-1)[0])
        taken = index if 0 <= index < len(branches) else -1
        return tuple(call_of(node, branches[taken])(inputs[1:]))


@builtin("WHILE")
class While(_Calling):
    """x... = body(x...) as long as cond(x...) holds; the results are the last x.

    cond gives one bool. Shapes are known where the body keeps them.
    Source: LiteRT tflite/kernels/while.cc.
    """

    options: ClassVar[Any] = WhileOptions

    def called(self, options: Any) -> tuple[int, ...]:
        """Condition and body."""
        return options.cond_subgraph_index, options.body_subgraph_index

    def infer(self, node: Node) -> Types:
        """Check that the body gives what it takes."""
        same = len(node.inputs) == len(node.outputs)
        node.require(same, f"has {len(node.inputs)} inputs and {len(node.outputs)} outputs")
        cond, body = (call_of(node, k) for k in self.called(node.options))
        operands = operand_types(node)
        verdicts = cond.infer(operands)
        node.require(len(verdicts) == 1, f"the condition gives {len(verdicts)} values, expected 1")
        verdict = verdicts[0]
        node.require_dtype(verdict, (BOOL,), "result of the condition")
        one = verdict.shape is None or verdict.size == 1
        node.require(one, f"the condition gives shape {verdict.shape}, expected one element")
        outputs = body.infer(operands)
        counts = len(outputs) == len(operands)
        node.require(counts, f"the body has {len(outputs)} outputs for {len(operands)} inputs")
        for k, (taken, given) in enumerate(zip(operands, outputs, strict=True)):
            _require_dtype(node, given, taken.dtype, f"output {k}")
            _require_dtype(node, node.output(k), taken.dtype, f"result {k}")
        kept = [a.shape if a.shape == b.shape else None
                for a, b in zip(operands, outputs, strict=True)]  # fmt: skip
        if any(shape is None for shape in kept):
            # a shape that changes may change the others in a later turn
            kept = [None] * len(kept)
        return [node.output(k).with_shape(shape) for k, shape in enumerate(kept)]

    def lower(self, node: Node, steps: Lowering) -> None:
        """Jump back after each turn."""
        steps.loop(*self.called(node.options))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Turn by turn."""
        cond, body = (call_of(node, k) for k in self.called(node.options))
        values: list[Array] = list(inputs)
        while bool(np.reshape(cond(values)[0], -1)[0]):
            values = body(values)
        return tuple(values)


@builtin("STABLEHLO_COMPOSITE")
class Composite(_Calling):
    """y = decomposition(x...); name and attributes change nothing here.

    Source: LiteRT tflite/kernels/stablehlo_composite.cc.
    """

    options: ClassVar[Any] = StableHLOCompositeOptions

    def called(self, options: Any) -> tuple[int, ...]:
        """The decomposition."""
        return (options.decomposition_subgraph_index,)

    def infer(self, node: Node) -> Types:
        """As the decomposition infers."""
        (number,) = self.called(node.options)
        return merged(node, [call_of(node, number).infer(operand_types(node))])

    def lower(self, node: Node, steps: Lowering) -> None:
        """The decomposition's steps in its place."""
        steps.inline(*self.called(node.options))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Run the decomposition."""
        (number,) = self.called(node.options)
        return tuple(call_of(node, number)(inputs))


@builtin("CALL_ONCE")
class CallOnce(_Calling):
    """Runs a subgraph without operands in the first run of an interpreter only.

    Source: LiteRT tflite/kernels/call_once.cc.
    """

    options: ClassVar[Any] = CallOnceOptions
    arity = (0, 0)
    results = (0, 0)

    def called(self, options: Any) -> tuple[int, ...]:
        """The subgraph that initializes."""
        return (options.init_subgraph_index,)

    def infer(self, node: Node) -> Types:
        """No results."""
        (number,) = self.called(node.options)
        call_of(node, number).infer([])
        return []

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Run the subgraph, once."""
        (number,) = self.called(node.options)
        pending = self._pending(node)
        if pending[0]:
            call_of(node, number)([])
            pending[0] = 0
        return ()

    def lower(self, node: Node, steps: Lowering) -> None:
        """Jump over its steps from the second run on."""
        (number,) = self.called(node.options)
        steps.once(number, self._pending(node))

    def _pending(self, node: Node) -> Array:
        assert node.session is not None
        (number,) = self.called(node.options)
        return node.session.pending(number)
