"""Lowered + MemoryPlan -> Program: memory is allocated, every operand becomes an address."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from litejit.codegen import cache
from litejit.codegen.isa import Isa
from litejit.engine import budget, native
from litejit.engine.graph import Graph
from litejit.engine.lower import Lowered, NativeStep, Place, PythonStep, aligned_memory
from litejit.engine.plan import MemoryPlan
from litejit.engine.program import Program, PythonCall
from litejit.types import Array, TensorType


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
    views = _views(graph, lowered, plan, arena, variables)
    address = _addresses(lowered, plan, arena, views)
    specs = {step.spec for step in lowered.steps if isinstance(step, NativeStep)}
    kernels = cache.addresses(specs, isa) if isa is not None and specs else {}
    segments: list[Callable[[], None]] = []
    run: list[native.Step] = []
    listing: list[NativeStep] = []
    programs = []

    def flush() -> None:
        if run:
            programs.append(native.NativeProgram(run, threads))
            segments.append(native_call(programs[-1], list(listing)))
            run.clear()
            listing.clear()

    for step in lowered.steps:
        if isinstance(step, PythonStep):
            flush()
            segments.append(PythonCall(step.node, views))
            continue
        slots = b"".join(_slot(operand, address) for operand in step.operands)
        items = (kernels[step.spec], slots, step.items, step.chunks, int(step.cost_ns))
        run.append(native.Step(*items))
        listing.append(step)
    flush()
    return Program(tuple(segments), views, arena, lowered)


def native_call(program: native.NativeProgram, steps: list[NativeStep]) -> Callable[[], None]:
    """What runs a native program once."""
    return program.run


def _views(
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
    lowered: Lowered, plan: MemoryPlan, arena: Array, views: dict[int, Array]
) -> Callable[[Place], int]:
    base = arena.ctypes.data
    arrays = [array.ctypes.data for array in lowered.arrays]

    def address(place: Place) -> int:
        if place.kind == "array":
            return arrays[place.number] + place.offset
        if place.kind == "request":
            return base + plan.offsets[place.number] + place.offset
        if place.number in lowered.home:
            return base + plan.offsets[lowered.home[place.number]] + place.offset
        return views[place.number].ctypes.data + place.offset  # a variable

    return address


def _slot(operand: Place | int | float, address: Callable[[Place], int]) -> bytes:
    if isinstance(operand, Place):
        return struct.pack("<Q", address(operand))
    if isinstance(operand, float):
        return struct.pack("<fxxxx", operand)
    return struct.pack("<q", int(operand))
