"""Copies of boxes of elements: every operator that moves data without looking at it.

A copy is a set of loops, each (n, source stride, target stride) in bytes, around one element.
`plan_copy` merges the loops, picks the one that runs along the target's memory and chooses a
kernel by how the source is stepped through there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i8, i32, i64, u8, u64
from litejit.kernels.base import REFUSED, KernelSpec
from litejit.kernels.transpose import TransposeSpec, tile_lanes, walk
from litejit.record import Record, replace

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

Dim: TypeAlias = tuple[int, int, int]  # count, bytes to the next in the source, in the target

ANY = 9  # the step of a source whose elements are further apart than a few vectors reach
_Place: TypeAlias = tuple[Pointer, Pointer, Value]  # source, target, bytes between elements

STEPS = (-1, 0, 1, 2, 3, 4)
ITEM_BYTES = 4096  # a work item is at least about this much, so that dividing costs nothing
COPIED_PER_NS = 32.0  # bytes of long rows, in the second cache
TURNED_PER_NS = 16.0  # bytes of transposed matrices

OUTERS = (0, 1, 3, 6)  # numbers of outer loops for which there are kernels


class CopyPlan(Record):
    """A kernel call: its arguments are the source, the target and then `numbers`."""

    spec: KernelSpec
    numbers: tuple[int, ...]
    items: int
    cost_ns: float


class RowsSpec(KernelSpec):
    """Copies rows of `run` elements that lie close together in the target.

    Elements have `itemsize` bytes (1, 2, 4 or 8) and are `step` elements apart in the source
    (ANY: `pitch` bytes). `lanes` are moved at a time; where `run` is no multiple, the last group
    overlaps the one before. `groups` is 1 or 2 where a row takes exactly that many, 4 where it
    takes so many that four make an iteration, else 0.

    Arguments: source, target, run, pitch, n, source stride, target stride, block, blocks, then
    (n, source stride, target stride) for each of `outers` loops. An item is `block` rows of the
    n that the innermost loop around the rows counts. With `long`, it is `block` elements of one
    row instead, and n and the strides are not used.

    Where `axes` is not 0, one side is found in the run: behind the target stand a pointer to that
    many integers of `index_bits` and the status, and at the end (largest integer, bytes) for each.
    `moves` says which side, and what becomes of other integers: "target" clamps them, "source"
    refuses them, "index" counts negative ones from the end, clamps those that still are, and
    refuses larger ones. To refuse is to store REFUSED at the status and to copy nothing. With
    `idle_in_place` nothing is done where source and target are the same address.
    """

    itemsize: int
    step: int
    lanes: int
    groups: int
    outers: int
    long: bool
    axes: int = 0
    index_bits: int = 32
    idle_in_place: bool = False
    moves: str = "target"

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        words = ["run", "pitch", "n", "near", "to", "block", "blocks"]
        words += [f"{word}{j}" for j in range(self.outers) for word in ("n_", "s_", "t_")]
        words += [f"{word}{j}" for j in range(self.axes) for word in ("room", "step")]
        start = {"start": Ptr(Type("i", self.index_bits)), "status": Ptr(i64)} if self.axes else {}
        fn = Function(
            name, isa, source=Ptr(i8), target=Ptr(i8), **start, **dict.fromkeys(words, i64)
        )
        source, target, *rest = fn.args
        end = fn.end
        if self.axes:
            offset, inside = self._moved(fn, rest[0], rest[-2 * self.axes :])
            with fn.when(inside ^ True):
                rest[1][0] = REFUSED
            end, rest = inside.choose(end, fn.begin), rest[2 : -2 * self.axes]
            if self.moves == "target":
                target = target + offset
            else:
                source = source + offset
        run, pitch, n, near, to, block, blocks, *outer = rest
        if self.idle_in_place:
            here, there = (fn.emit(i64, f"ptrtoint ptr {p.ref} to i64") for p in (source, target))
            end = here.equals(there).choose(fn.begin, end)
        with fn.loop(end, start=fn.begin) as item:
            first = item % blocks * block
            from_, into = walk(item / blocks, outer, source, target)
            if self.long:
                stop = fn.minimum(first + block, run)
                self._span(fn, (from_, into, pitch), first, stop)
            else:
                with fn.loop(fn.minimum(first + block, n), start=first) as row:
                    place = (from_ + row * near, into + row * to, pitch)
                    self._row(fn, place, run)
        return fn.ir()

    def _moved(self, fn: Function, start: Pointer, axes: list[Value]) -> tuple[Value, Value]:
        """By how many bytes the integers at `start` move a side, and whether it may be."""
        offset, inside = fn.const(0, i64), fn.const(0, i64).equals(0)
        for j in range(self.axes):
            at, (room, step) = start[j].to(i64), axes[2 * j : 2 * j + 2]
            if self.moves == "index":
                at = fn.maximum((at < 0).choose(at + room + 1, at), 0)
            if self.moves == "target":
                at = fn.minimum(fn.maximum(at, 0), room)
            else:
                inside = inside & (at.to(u64) <= room.to(u64))
            offset = offset + at * step
        return inside.choose(offset, 0), inside

    def _row(self, fn: Function, place: _Place, run: Value) -> None:
        if self.groups in (0, 4):
            self._span(fn, place, fn.const(0, i64), run)
            return
        source, target, pitch = place
        starts = [fn.const(0, i64), run - self.lanes][: self.groups]
        values = [self._group(fn, source, pitch, at) for at in starts]
        for at, value in zip(starts, values, strict=True):
            self._put(target, at, value)

    def _span(self, fn: Function, place: _Place, at: Value, stop: Value) -> None:
        """Elements at ... stop of a row that has at least `lanes` elements in front of stop."""
        source, target, pitch = place
        fill = self._group(fn, source, pitch, 0) if self.step == 0 else None
        for count in (4, 1) if self.groups == 4 else (1,):
            carry = [at]
            last = stop - count * self.lanes + 1
            with fn.loop(last, start=at, step=count * self.lanes, carry=carry) as j:
                places = [j + k * self.lanes for k in range(count)]
                values = [fill or self._group(fn, source, pitch, each) for each in places]
                for each, value in zip(places, values, strict=True):
                    self._put(target, each, value)
                carry[0] = j + count * self.lanes
            at = carry[0]
        if self.lanes > 1:
            with fn.when(at < stop):
                value = fill or self._group(fn, source, pitch, stop - self.lanes)
                self._put(target, stop - self.lanes, value)

    def _group(self, fn: Function, source: Pointer, pitch: Value, at: Value | int) -> Value:
        """`lanes` elements of a row from number `at` on, in the order of the target."""
        element, wide = self._types()
        if self.step == ANY:
            return (source + fn.const(at, i64) * pitch).cast(element).load(align=1)
        if self.step == 0:
            return source.cast(element).load(align=1).splat(self.lanes)
        at = fn.const(at, i64) * (self.step * self.itemsize)
        if self.step == 1:
            return (source + at).cast(wide.scalar).load(lanes=wide.lanes, align=1)
        place = (source + at).cast(element)
        if self.lanes == 1:
            return place.load(align=1)
        if self.step == -1:
            vector = place.load(1 - self.lanes, lanes=self.lanes, align=1)
            return vector.shuffle(range(self.lanes)[::-1])
        parts = [place.load(k * self.lanes, lanes=self.lanes, align=1) for k in range(self.step)]
        return every(parts, self.step)

    def _types(self) -> tuple[Type, Type]:
        """One element, and what a group is loaded as where it is contiguous in the source."""
        element = Type("i", 8 * self.itemsize)
        whole = self.itemsize * self.lanes
        return element, Type("i", 8 * whole) if whole <= 8 else i8 * whole

    def _put(self, target: Pointer, at: Value, value: Value) -> None:
        place = target + at * self.itemsize
        place.cast(value.type.scalar).store(0, value, align=1)


def every(parts: list[Value], step: int) -> Value:
    """Lanes 0, step, 2 * step, ... of the vectors laid end to end: as many as one holds."""
    lanes = parts[0].type.lanes
    result = parts[0]
    wanted = [step * j for j in range(lanes)]
    picks = [w if w < lanes else 0 for w in wanted]
    result = parts[0].shuffle(picks)
    for k in range(1, len(parts)):
        row = [
            lanes + w - k * lanes if k * lanes <= w < (k + 1) * lanes else j
            for j, w in enumerate(wanted)
        ]
        result = result.shuffle(row, parts[k])
    return result


class SameSpec(KernelSpec):
    """Stores REFUSED at `status` unless two arrays hold the same bits.

    Arguments: both arrays, status, and how many elements of `itemsize` bytes there are. There is
    one item.
    """

    itemsize: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element = Type("i", 8 * min(self.itemsize, 8))
        fn = Function(name, isa, a=Ptr(element), b=Ptr(element), status=Ptr(i64), n=i64)
        a, b, status, n = fn.args
        carry = [fn.const(0, element)]
        with fn.loop(n * max(self.itemsize // 8, 1), carry=carry) as j:
            carry[0] = carry[0] | (a[j] ^ b[j])
        with fn.when(carry[0].differs(0)):
            status[0] = REFUSED
        return fn.ir()


class RescaleSpec(KernelSpec):
    """uint8 rows from one scale to another: y = clamp(round(x * scale + bias) + zero point).

    float32 product and sum, ties away from zero. Arguments: source (rows of `run` bytes, one
    behind the other), target, run, pitch (bytes from row to row of the target), scale, bias,
    zero point. An item is a row.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, source=Ptr(u8), target=Ptr(u8), run=i64, pitch=i64,
                      scale=f32, bias=f32, zero_point=i64)  # fmt: skip
        source, target, run, pitch, scale, bias, zero_point = fn.args
        with fn.loop(fn.end, start=fn.begin) as row:
            from_, into = source + row * run, target + row * pitch
            at = fn.const(0, i64)
            for lanes in (isa.lanes(f32), 1):
                carry = [at]
                with fn.loop(run - lanes + 1, start=at, step=lanes, carry=carry) as j:
                    x = from_.load(j, lanes=lanes).to(i32).to(f32)
                    real = x * scale.splat(lanes) + bias.splat(lanes)
                    # the float below 0.5: x.5 still reaches the next integer, nothing else does
                    half = fn.copysign(fn.const(0.49999997, real.type), real)
                    near = fn.minimum(fn.maximum(real + half, -1000.0), 1000.0)
                    code = near.to(i32) + zero_point.to(i32).splat(lanes)
                    code = fn.minimum(fn.maximum(code, 0), 255)
                    into.store(j, code.to(u8))
                    carry[0] = j + lanes
                at = carry[0]
        return fn.ir()


RESCALE = RescaleSpec()


def plan_copy(dims: Sequence[Dim], itemsize: int, isa: Isa) -> CopyPlan:
    """The kernel call that runs the loops `dims`, none empty, around a copy of one element.

    Target strides are positive, and no element is written twice.
    """
    outer, size = merge(dims, itemsize)
    n, s, t = outer[-1]
    if t == size:
        outer = outer[:-1]
    else:  # no two elements are neighbours in the target
        n, s = 1, size
    across = next((j for j, dim in enumerate(outer) if dim[1] == size != s), None)
    # two or three vectors hold what steps of 2 or 3 pick, in fewer instructions than a tile takes
    picks = s % size == 0 and s // size in (0, 2, 3) and n >= 16
    if across is not None and n > 1 and not picks:
        lanes = tile_lanes(size, n, outer[across][0], isa)
        if max(n, outer[across][0]) >= lanes:
            return _plan_transpose(outer, across, (n, s), size, lanes)
    return _plan_rows(outer, (n, s), size, isa)


def plan_whole_copy(nbytes: int, isa: Isa) -> CopyPlan:
    """A copy of `nbytes` contiguous bytes that does nothing where both addresses are equal."""
    plan = plan_copy([(nbytes, 1, 1)], 1, isa)
    idle: CopyPlan = replace(plan, spec=replace(plan.spec, idle_in_place=True))
    return idle


def plan_placed_copy(
    dims: Sequence[Dim], itemsize: int, isa: Isa, *, room: Sequence[int],
    strides: Sequence[int], index_bits: int, moves: str = "target",
) -> CopyPlan:  # fmt: skip
    """As `plan_copy` where one side is contiguous and the other moves with integers in memory.

    Integer d, from 0 to room[d], moves the side by strides[d] bytes; see RowsSpec. The call takes
    source, target, the address of the integers (of `index_bits`), the status, then the numbers.
    """
    plan = plan_copy(dims, itemsize, isa)
    if not room:
        room, strides = [0], [0]
    spec = replace(plan.spec, axes=len(room), index_bits=index_bits, moves=moves)
    numbers = (*plan.numbers, *chain(*zip(room, strides, strict=True)))
    moved: CopyPlan = replace(plan, spec=spec, numbers=numbers)
    return moved


def merge(dims: Sequence[Dim], itemsize: int) -> tuple[list[Dim], int]:
    """The fewest loops that copy the same, in the order of the target's memory; and the element.

    A short run that is contiguous in both becomes an element of 2, 4 or 8 bytes.
    """
    loops = [dim for dim in dims if dim[0] != 1]
    if itemsize == 16:
        loops, itemsize = [*loops, (2, 8, 8)], 8
    loops.sort(key=lambda dim: -dim[2])
    found: list[Dim] = []
    for n, s, t in loops:
        if found and found[-1][1] == n * s and found[-1][2] == n * t:
            n *= found.pop()[0]  # noqa: PLW2901 - two loops are one
        found.append((n, s, t))
    if not found:
        return [(1, itemsize, itemsize)], itemsize
    n, s, t = found[-1]
    if s == t == itemsize and len(found) > 1 and n * itemsize in (2, 4, 8):
        found.pop()
        itemsize *= n
    return found, itemsize


def _plan_rows(outer: list[Dim], run: tuple[int, int], size: int, isa: Isa) -> CopyPlan:
    n, pitch = run
    nbytes = n * size * math.prod(dim[0] for dim in outer)
    step = pitch // size if pitch % size == 0 and pitch // size in STEPS else ANY
    if step == 1:
        n, size = n * size, 1
    lanes = 1 if step == ANY else min(isa.vector_bytes // size, 1 << (n.bit_length() - 1))
    cost_ns = 10 + nbytes / min(COPIED_PER_NS * lanes * size / 16, COPIED_PER_NS)
    long = n * size >= 2 * ITEM_BYTES
    groups = 4 if n >= 8 * lanes or step == ANY else 0 if n > 2 * lanes else 1 + (n > lanes)
    if long:
        inner, block = (1, 0, 0), ITEM_BYTES // size
        blocks = -(-n // block)
    else:
        inner, outer = _inner_loop(outer)
        block = min(inner[0], -(-ITEM_BYTES // (2 * n * size)))
        blocks = -(-inner[0] // block)
    outer = _padded(outer)
    spec = RowsSpec(size, step, lanes, groups, len(outer), long)
    items = math.prod(dim[0] for dim in outer) * blocks
    return CopyPlan(spec, (n, pitch, *inner, block, blocks, *chain(*outer)), items, cost_ns)


def _inner_loop(outer: list[Dim]) -> tuple[Dim, list[Dim]]:
    """The loop that counts the rows of an item (the last of some length), and the others."""
    if not outer:
        return (1, 0, 0), []
    j = max(range(len(outer)), key=lambda j: (min(outer[j][0], 16), j))
    return outer[j], [*outer[:j], *outer[j + 1 :]]


def _padded(outer: list[Dim]) -> list[Dim]:
    """The loops, with idle ones in front: so that fewer kernels are needed."""
    count = next((count for count in OUTERS if count >= len(outer)), len(outer))
    return [(1, 0, 0)] * (count - len(outer)) + outer


def _plan_transpose(
    outer: list[Dim], across: int, inner: tuple[int, int], size: int, lanes: int
) -> CopyPlan:
    (a, down), (b, _, over) = inner, outer[across]
    rest = _padded([*outer[:across], *outer[across + 1 :]])
    # a block takes whole cache lines of the source
    block_b = max(64 // size, lanes)
    block_a = max(-(-ITEM_BYTES // (block_b * size * lanes)), 1) * lanes
    blocks_a, blocks_b = -(-a // block_a), -(-b // block_b)
    count = math.prod(dim[0] for dim in rest)
    spec = TransposeSpec(size, lanes, a if a < lanes else 0, b if b < lanes else 0, len(rest))
    sizes = (a, down, b, over, block_a, blocks_a, block_b, blocks_b)
    cost_ns = 10 + count * a * b * size / TURNED_PER_NS
    return CopyPlan(spec, (*sizes, *chain(*rest)), count * blocks_a * blocks_b, cost_ns)
