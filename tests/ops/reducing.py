"""One operator on arrays: its reference, its kernels, and LiteRT where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.moving import Arg, Immediate, Memory, quantization

from litejit.errors import InvokeError, PrepareError
from litejit.model.builder import ModelBuilder
from litejit.ops.base import Node
from litejit.ops.resolver import BuiltinOpResolver
from litejit.types import BF16, DType, TensorType

__all__ = ["Arg", "arg", "litert", "lowered", "node_of", "refuses", "refuses_data", "run"]

Out = DType | tuple[DType, float, int]


class Compiled(Immediate):
    """An Immediate with scratch memory; sharing is allowed and not done."""

    shares = 0

    def __init__(self, node, values):
        super().__init__(node, values)
        self.status = Memory(self._fenced(np.zeros(8, np.int64)))
        self.word = self.fences[-1].array

    def scratch(self, nbytes):
        return Memory(self._fenced(np.zeros((nbytes + 63) // 64 * 64, np.uint8)))

    temporary = scratch

    def may_share(self, output=0, input=0):
        self.shares += 1


def arg(value: Any, dtype: DType | None = None, *, late: bool = True, **more: Any) -> Arg:
    """An operand; `late` leaves its value to the run."""
    return Arg(value, dtype=dtype, constant=not late, **more)


def node_of(name: str, options: Any, args: list[Arg | None], outs: list[Out]) -> Node:
    op = BuiltinOpResolver().find_builtin(name, 1)
    assert op is not None
    types = tuple(None if a is None else a.type() for a in args)
    made = []
    for out in outs:
        dtype, scale, zero = out if isinstance(out, tuple) else (out, 0.0, 0)
        made.append(TensorType((), dtype, quantization(scale, zero), None, "y", 90 + len(made)))
    return Node(op, name, 7, 1, options, types, tuple(made))


def lowered(node: Node, values: list[Any]) -> list[np.ndarray] | None:
    """What the kernels of an inferred node make; None where it has none."""
    steps = Compiled(node, values)
    node.op.lower(node, steps)
    steps.check()
    assert steps.word[0] == 0, "a kernel refused its data"
    return steps.results if steps.calls else None


def run(
    name: str, options: Any, args: list[Arg | None], outs: list[Out], *, compiled: bool = False
) -> list[np.ndarray]:
    """Infer, run the reference, hold it against the kernels; returns the reference's results.

    `compiled` says that there must be kernels. Integers must be equal, floats within 1e-6.
    """
    node = node_of(name, options, args, outs)
    node = node.with_types(node.inputs, tuple(node.op.infer(node)))
    values = [None if a is None else a.value for a in args]
    before = [None if v is None else v.copy() for v in values]
    got = node.op.reference(node, *values)
    results = list(got) if isinstance(got, tuple) else [got]
    for old, new in zip(before, values, strict=True):
        np.testing.assert_array_equal(old, new)
    for result, t in zip(results, node.outputs, strict=True):
        assert t is not None
        assert isinstance(result, np.ndarray)
        assert result.dtype == t.dtype.numpy
        assert t.shape is None or t.shape == result.shape
    known = all(t is not None and t.shape is not None for t in node.outputs)
    made = lowered(node, values) if known and not _has_objects(node) else None
    assert made is not None or not compiled, "no kernel"
    for mine, want in zip(made or [], results, strict=False):
        same(mine, want)
    return results


def _has_objects(node: Node) -> bool:
    return any(t is not None and t.dtype.numpy.hasobject for t in (*node.inputs, *node.outputs))


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Integers equal; floats within 1e-6 of their size and 1e-7 of the largest."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    finite = np.abs(want[np.isfinite(want)])
    peak = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7 * peak)


def litert(
    name: str, options: Any, args: list[Arg], outs: list[Out], *, reference: bool = True
) -> list[np.ndarray]:
    """What LiteRT makes of the same operator. It may end the process: choose what it can do."""
    module = pytest.importorskip("ai_edge_litert.interpreter")
    builder = ModelBuilder()
    graph = builder.main
    numbers, late = [], []
    for j, a in enumerate(args):
        shape, q = a.value.shape, a.quantization
        if a.constant:
            numbers.append(graph.add_constant(f"x{j}", a.value, dtype=a.dtype, quantization=q))
            continue
        numbers.append(graph.add_input(f"x{j}", shape, a.dtype, quantization=q))
        late.append(a.value)
    made = []
    for j, out in enumerate(outs):
        dtype, scale, zero = out if isinstance(out, tuple) else (out, 0.0, 0)
        q = quantization(scale, zero)
        made.append(graph.add_output(f"y{j}", (), dtype, quantization=q))
    graph.add_operator(name, numbers, made, options)
    kind = module.OpResolverType
    resolver = kind.BUILTIN_REF if reference else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    peer = module.Interpreter(
        model_content=builder.to_bytes(), experimental_op_resolver_type=resolver
    )
    peer.allocate_tensors()
    for detail, value in zip(peer.get_input_details(), late, strict=True):
        peer.set_tensor(detail["index"], value)
    peer.invoke()
    return [peer.get_tensor(detail["index"]) for detail in peer.get_output_details()]


def refuses(name: str, options: Any, args: list[Arg | None], outs: list[Out], match: str) -> None:
    """The operator says no before the first run."""
    node = node_of(name, options, args, outs)
    with pytest.raises(PrepareError, match=match):
        node.op.infer(node)


def refuses_data(
    name: str, options: Any, args: list[Arg | None], outs: list[Out], match: str
) -> None:
    """The operator says no to the data of a run, and so does its kernel, where it has one."""
    node = node_of(name, options, args, outs)
    node = node.with_types(node.inputs, tuple(node.op.infer(node)))
    with pytest.raises(InvokeError, match=match):
        node.op.reference(node, *[None if a is None else a.value for a in args])
    if all(t is not None and t.shape is not None for t in node.outputs):
        steps = Compiled(node, [None if a is None else a.value for a in args])
        node.op.lower(node, steps)
        steps.check()
        assert not steps.calls or steps.word[0] >> 48


def bfloat16(values: Any) -> Arg:
    """A BF16 operand of floats that it can hold."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return Arg((bits >> 16).astype(np.uint16), dtype=BF16, constant=False)
