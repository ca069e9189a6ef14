"""Nodes of one operator on arrays, and a Lowering that runs kernels on fenced copies at once."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from tests.kernels.harness import Fenced

from litejit.codegen import cache, isa
from litejit.ops.base import Node
from litejit.ops.resolver import BuiltinOpResolver
from litejit.types import (
    BF16,
    BOOL,
    C64,
    C128,
    F16,
    F32,
    F64,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    DType,
    Quantization,
    TensorType,
)

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
BY_NUMPY = {t.numpy: t for t in (F32, F16, F64, I8, U8, I16, U16, I32, U32, I64, U64, BOOL, C64,
                                 C128, STRING)}  # fmt: skip
FIXED = (F32, F16, BF16, F64, I8, U8, I4, I16, U16, I32, U32, I64, U64, BOOL, C64, C128)


class Arg:
    """An operand: an array, whether it is constant, its type where NumPy's does not tell."""

    def __init__(
        self, value: Any, *, dtype: DType | None = None, constant: bool = True,
        scale: float = 0.0, zero_point: int = 0,
    ) -> None:  # fmt: skip
        self.value = np.asarray(value, dtype.numpy if dtype else None)
        self.dtype = dtype or BY_NUMPY[self.value.dtype]
        self.constant = constant
        self.quantization = quantization(scale, zero_point)

    def type(self) -> TensorType:
        known = self.value if self.constant else None
        return TensorType(self.value.shape, self.dtype, self.quantization, known, "t", 0)


def quantization(scale: float, zero_point: int) -> Quantization | None:
    if not scale:
        return None
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))


def ints(*values: Any, constant: bool = True, dtype: DType = I32) -> Arg:
    """An operand that holds a shape, axes or the like."""
    value = values[0] if len(values) == 1 and isinstance(values[0], list) else list(values)
    return Arg(np.array(value, dtype.numpy), constant=constant)


def data(shape: tuple[int, ...], dtype: DType = F32, *, seed: int = 0, **more: Any) -> Arg:
    """Random elements of a type, all bit patterns that are numbers; never constant."""
    rng = np.random.default_rng(seed)
    if dtype is STRING:
        value = np.empty(shape, object)
        value.reshape(-1)[:] = [b"s%d" % j for j in range(value.size)]
    elif dtype is I4:
        value = rng.integers(-8, 8, shape, np.int8)
    elif dtype is BOOL:
        value = rng.integers(0, 2, shape).astype(np.bool_)
    elif dtype.numpy.kind in "fc":
        value = rng.standard_normal(shape).astype(dtype.numpy)
    else:
        info = np.iinfo(dtype.numpy)
        value = rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)
    return Arg(value, dtype=dtype, constant=False, **more)


def node_of(
    name: str, options: Any, *args: Arg | None, results: int = 1, out: DType | None = None,
    scale: float = 0.0, zero_point: int = 0,
) -> Node:  # fmt: skip
    """A node before infer. The file declares nothing but the type of its outputs."""
    resolver = BuiltinOpResolver()
    op = resolver.find_builtin(name, resolver.versions(name)[-1])
    assert op is not None
    first = args[1] if name == "SPLIT" else args[0]
    assert first is not None
    own = quantization(scale, zero_point) or first.quantization
    output = TensorType((), out or first.dtype, own, None, "y", 9)
    inputs = tuple(None if a is None else a.type() for a in args)
    return Node(op, name, 7, 1, options, inputs, (output,) * results)


class Memory:
    """The operand of a kernel: an address in a fenced array."""

    def __init__(self, address: int) -> None:
        self.address = address

    def at(self, offset_bytes: int) -> Memory:
        return Memory(self.address + offset_bytes)


class Immediate:
    """A Lowering that runs every call when it is asked for, in pieces of one item and the rest."""

    def __init__(self, node: Node, values: list[Any]) -> None:
        self.isa = isa.host_isas()[0]
        self.node, self.fences, self.kept, self.calls, self.aliases = node, [], [], 0, 0
        self.inputs = tuple(None if v is None else Memory(self._fenced(v)) for v in values)
        filled = [np.zeros(t.dims, t.dtype.numpy) for t in node.outputs if t is not None]
        first = len(self.fences)
        self.outputs = tuple(Memory(self._fenced(array)) for array in filled)
        self.results = [fence.array for fence in self.fences[first:]]
        self.sources = self.fences[:first]
        self.status = Memory(self._fenced(np.zeros(1, np.int64)))
        self.refusal = self.fences[-1].array

    def _fenced(self, array: np.ndarray) -> int:
        self.fences.append(Fenced(array))
        return self.fences[-1].address

    def call(self, spec, *operands, items, cost_ns, grain=1):
        assert cost_ns > 0
        if not items:
            return
        kernel = KERNEL(cache.addresses([spec], self.isa)[spec])
        slots = np.zeros(len(operands), np.int64)
        for j, operand in enumerate(operands):
            if isinstance(operand, float):
                slots[j : j + 1].view(np.float32)[0] = operand
            else:
                slots[j] = operand.address if isinstance(operand, Memory) else operand
        for begin, end in ((0, items // 3), (items // 3, items)):
            kernel(slots.ctypes.data, begin, end, 0)
        self.calls += 1

    def constant(self, name, make):
        return Memory(self._fenced(make()))

    def temporary(self, nbytes):
        return self.scratch(nbytes)

    def scratch(self, nbytes):
        return Memory(self._fenced(np.zeros(nbytes, np.uint8)))

    def alias(self, output=0, input=0):
        self.aliases += 1
        source = self.sources[input].array
        self.results[output].reshape(-1)[:] = source.reshape(-1)

    def may_share(self, output=0, input=0):
        assert self.results[output].nbytes == self.sources[input].array.nbytes

    def check(self) -> None:
        for fence in self.fences:
            fence.check()


def evaluate(node: Node, *args: Arg | None, kernels: bool = True) -> list[np.ndarray]:
    """Infer, run the reference, hold it against the kernels, and return the reference's results."""
    inferred = node.with_types(node.inputs, tuple(node.op.infer(node)))
    values = [None if a is None else a.value for a in args]
    before = [None if v is None else v.copy() for v in values]
    got = node.op.reference(inferred, *values)
    results = list(got) if isinstance(got, tuple) else [got]
    for old, new in zip(before, values, strict=True):
        if old is not None:
            np.testing.assert_array_equal(old, new)
    for result, t in zip(results, inferred.outputs, strict=True):
        assert isinstance(result, np.ndarray)
        assert result.dtype == t.dtype.numpy
        assert t.shape is None or t.shape == result.shape
    if kernels and all(t.shape is not None and not t.dtype.numpy.hasobject
                       for t in inferred.outputs):  # fmt: skip
        compare_kernels(inferred, values, results)
    return results


def compare_kernels(node: Node, values: list[Any], results: list[np.ndarray]) -> Immediate:
    """Run what the node lowers to; its bytes must be those of the reference."""
    steps = Immediate(node, values)
    node.op.lower(node, steps)
    steps.check()
    if steps.calls or steps.aliases:
        for got, want in zip(steps.results, results, strict=True):
            assert got.tobytes() == np.ascontiguousarray(want).tobytes()
    else:
        assert all(result.size == 0 for result in results), "nothing was lowered"
    return steps


def one(name: str, options: Any, *args: Arg | None, **more: Any) -> np.ndarray:
    """The only result of an operator."""
    (result,) = evaluate(node_of(name, options, *args, **more), *args)
    return result


def agrees_when_not_constant(name: str, options: Any, *args: Arg, **more: Any) -> None:
    """With operands that are known in a run only: the same result, and a shape that is None."""
    want = evaluate(node_of(name, options, *args, **more), *args)
    late = [Arg(a.value, dtype=a.dtype, constant=False) for a in args]
    node = node_of(name, options, *late, **more)
    types = node.op.infer(node)
    assert all(t.shape is None for t in types)
    got = node.op.reference(node.with_types(node.inputs, tuple(types)), *[a.value for a in late])
    for one_, other in zip(got if isinstance(got, tuple) else [got], want, strict=True):
        np.testing.assert_array_equal(one_, other)
