"""Lowered + MemoryPlan -> Program: memory is allocated, every operand becomes an address."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np

from litejit.codegen import cache
from litejit.codegen.isa import Isa
from litejit.engine import budget, native
from litejit.engine.constants import address_of, aligned_memory
from litejit.engine.graph import Graph, failure_named
from litejit.engine.plan import MemoryPlan
from litejit.engine.program import NativeCall, Program, PythonCall
from litejit.engine.steps import JumpStep, Lowered, NativeStep, Place, PythonStep
from litejit.kernels.base import KernelSpec
from litejit.ops.base import Node
from litejit.types import Array, TensorType

_LARGEST_I64 = (1 << 63) - 1


def link(
    graph: Graph,
    lowered: Lowered,
    plan: MemoryPlan,
    *,
    isa: Isa | None,
    threads: int,
    variables: dict[int, Array],
) -> Program:
    """Allocate the arena, bind all steps to it, and pack runs of native steps together.

    `variables` holds the memory of the subgraph's variable tensors, which outlives Programs.
    """
    budget.check(plan.arena_bytes, "the arena of all tensors")
    arena = aligned_memory(plan.arena_bytes)
    views = tensor_views(graph, lowered, plan, arena, variables)
    status = native.Block(64)
    address = _addresses(lowered, plan, arena, views, status.address)
    kernels = _kernels(lowered, isa)
    keep = (arena, lowered.arrays, variables)
    segments: list[NativeCall | PythonCall] = []
    for start, native_steps, node in _segments(lowered):
        if node is not None:
            segments.append(PythonCall(node, views))
            continue
        packed = [_pack(step, start, kernels, address) for step in native_steps]
        program = native.NativeProgram(packed, threads, status=status, keep=keep)
        segments.append(NativeCall(program, native_steps, views))
    return Program(tuple(segments), views, arena, lowered)


def _kernels(lowered: Lowered, isa: Isa | None) -> dict[KernelSpec, int]:
    specs = {step.spec for step in lowered.steps if isinstance(step, NativeStep)}
    if isa is None or not specs:
        return {}
    addresses: dict[KernelSpec, int] = cache.addresses([*specs, native.RUN_LOOP], isa)
    return addresses


def _segments(
    lowered: Lowered,
) -> Iterator[tuple[int, list[NativeStep | JumpStep], Node | None]]:
    """Runs of native steps, with the number of their first, and the nodes that run in NumPy."""
    run: list[NativeStep | JumpStep] = []
    for number, step in enumerate(lowered.steps):
        if not isinstance(step, PythonStep):
            run.append(step)
            continue
        if run:
            yield number - len(run), run, None
            run = []
        yield number, [], step.node
    if run:
        yield len(lowered.steps) - len(run), run, None


def _pack(
    step: NativeStep | JumpStep,
    start: int,
    kernels: dict[KernelSpec, int],
    address: Callable[[Place], int],
) -> native.Step:
    if isinstance(step, JumpStep):
        flag = address(step.flag) if step.flag is not None else 0
        return native.jump(step.target - start, flag)
    with failure_named(step.node):
        slots = b"".join([_slot(operand, address) for operand in step.operands])
    return native.Step(kernels[step.spec], slots, step.items, step.chunks, int(step.cost_ns))


def tensor_views(
    graph: Graph, lowered: Lowered, plan: MemoryPlan, arena: Array, variables: dict[int, Array]
) -> dict[int, Array]:
    """Tensor number -> array on its memory."""
    views = dict(variables)
    for index, tensor in graph.types.items():
        if tensor.value is not None:
            views[index] = tensor.value
    for index, number in lowered.home.items():
        tensor = graph.types[index]
        start = plan.offsets[number]
        flat = arena[start : start + tensor.nbytes]
        views[index] = flat.view(tensor.dtype.numpy).reshape(tensor.dims)
    written = [t for node in graph.nodes for t in node.outputs if t is not None]
    for tensor in [*(graph.types[i] for i in graph.inputs), *written]:
        if tensor.index not in views and tensor.shape is not None:
            views[tensor.index] = _objects(tensor)
    return views


def _objects(tensor: TensorType) -> Array:
    empty: Array = np.empty(tensor.dims, np.object_)
    empty[...] = b""
    return empty


def _addresses(
    lowered: Lowered, plan: MemoryPlan, arena: Array, views: dict[int, Array], status: int
) -> Callable[[Place], int]:
    base = address_of(arena)
    arrays = [address_of(array) for array in lowered.arrays]

    def address(place: Place) -> int:
        if place.kind == "status":
            return status + place.offset
        if place.kind == "array":
            return arrays[place.number] + place.offset
        if place.kind == "request":
            return base + plan.offsets[place.number] + place.offset
        if place.number in lowered.home:
            return base + plan.offsets[lowered.home[place.number]] + place.offset
        return address_of(views[place.number]) + place.offset  # a variable

    return address


def _slot(operand: Place | int | float, address: Callable[[Place], int]) -> bytes:
    return pack_slot(address(operand) if isinstance(operand, Place) else operand)


def pack_slot(value: int | float) -> bytes:
    """The 8 bytes in which a kernel finds an argument: an address or number, or a float32."""
    if isinstance(value, float):
        return struct.pack("<fxxxx", value)
    return struct.pack("<Q" if value > _LARGEST_I64 else "<q", int(value))
