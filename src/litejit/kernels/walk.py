"""Loops over broadcast operands: what every elementwise kernel has around its arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from math import lcm
from typing import Any

from litejit.codegen import math
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i1, i64
from litejit.kernels.base import REFUSED, KernelSpec, type_of
from litejit.types import DType

_SHORT_FLOATS = {
    "FLOAT16": (math.from_half, math.to_half), "BFLOAT16": (math.from_bfloat, math.to_bfloat),
}  # fmt: skip


def computed(dtype: DType) -> Type:
    """What kernels compute with: float32 for floats of 16 bits."""
    return f32 if dtype.name in _SHORT_FLOATS else type_of(dtype)


def opened(dtype: DType, x: Value) -> Value:
    """A loaded vector as numbers to compute with."""
    return _SHORT_FLOATS[dtype.name][0](x) if dtype.name in _SHORT_FLOATS else x


def closed(dtype: DType, y: Value) -> Value:
    """Computed numbers as they lie in memory."""
    return _SHORT_FLOATS[dtype.name][1](y) if dtype.name in _SHORT_FLOATS else y


class WalkSpec(KernelSpec):
    """y[i] = body(x0[i], x1[i], ...) over a broadcast of `rank` outer loops and one inner run.

    `moves[k]` says how operand k goes along the run: with it (1), not at all (0), over and over
    through its first p elements (p > 1), or one element further every p places (-p); p is one
    number for all. Arguments: the operands, y, what `extras` declares, then the run's length, the
    outer sizes and, operand by operand, the outer strides in elements. An item is a run, or where
    `rank` is 0 a `block` of it. Loads may pass the end of an operand by less than one vector of
    at most 64 bytes. A kernel with an argument named "status" (Ptr(i64)) stores REFUSED there if
    `refuses` holds anywhere.
    """

    rank: int
    moves: tuple[int, ...]

    def operands(self) -> tuple[Type, ...]:
        """Element types of the inputs."""
        raise NotImplementedError

    def result(self) -> Type:
        """Element type of the output."""
        raise NotImplementedError

    def lanes(self, isa: Isa) -> int:
        """Elements at a time: as many as the widest type has in one register."""
        widest = max((*self.operands(), self.result()), key=lambda type: type.bits)
        return isa.lanes(widest)

    @property
    def period(self) -> int:
        """After how many elements short operands repeat or advance; 1 where there are none."""
        return max(1, *(abs(move) for move in self.moves))

    def block(self, isa: Isa) -> int:
        """Elements of an item where `rank` is 0: one, or whole periods that are whole vectors."""
        return lcm(self.lanes(isa), self.period) if self.period > 1 else 1

    def extras(self) -> dict[str, Type | Ptr]:
        """Arguments besides the operands."""
        return {}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """What the body needs, made once before the loops."""
        return extras

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """One vector of results."""
        raise NotImplementedError

    def refuses(self, values: list[Value], made: list[Any]) -> Value:
        """In which lanes the operands have no result; asked only where there is a status."""
        raise NotImplementedError

    def emit(self, name: str, isa: Isa) -> str:
        """Rows, each a loop of whole vectors and a masked rest."""
        types, extras = self.operands(), self.extras()
        args: dict[str, Type | Ptr] = {f"x{k}": Ptr(type) for k, type in enumerate(types)}
        args |= {"y": Ptr(self.result())} | extras | {"run": i64}
        args |= {f"size{d}": i64 for d in range(self.rank)}
        args |= {f"stride{k}_{d}": i64 for k in range(len(types)) for d in range(self.rank)}
        fn = Function(name, isa, **args)
        values = dict(zip(args, fn.args, strict=True))
        made = self.prepare(fn, isa, [values[key] for key in extras if key != "status"])
        status = values.get("status")
        inputs = [values[f"x{k}"] for k in range(len(types))]
        if self.rank == 0:
            block = self.block(isa)
            end = fn.end if block == 1 else fn.minimum(fn.end * block, values["run"])
            self._run(fn, isa, inputs, values["y"], fn.begin * block, end, made, status)
            return fn.ir()
        sizes = [values[f"size{d}"] for d in range(self.rank)]
        with fn.loop(fn.end, start=fn.begin) as row:
            places = _places(fn, row, sizes)
            moved = []
            for k, pointer in enumerate(inputs):
                offset = fn.const(0, i64)
                for d, place in enumerate(places):
                    offset = offset + place * values[f"stride{k}_{d}"]
                moved.append(pointer + offset)
            target = values["y"] + row * values["run"]
            self._run(fn, isa, moved, target, fn.const(0, i64), values["run"], made, status)
        return fn.ir()

    def _run(
        self, fn: Function, isa: Isa, inputs: list[Pointer], y: Pointer,
        begin: Value, end: Value, made: list[Any], status: Pointer | None,
    ) -> None:  # fmt: skip
        lanes = self.lanes(isa)
        loaders = [
            _loader(pointer, move, lanes) for pointer, move in zip(inputs, self.moves, strict=True)
        ]

        bad = [fn.const(0, i1 * lanes)] if status is not None else []

        def evaluate(i: Value, j: int, mask: Value | None) -> None:
            loaded = [load(i, j) for load in loaders]
            if bad:
                refused = self.refuses(loaded, made)
                bad[0] = bad[0] | (refused if mask is None else refused & mask)
            y.store(i + j * lanes, self.body(fn, isa, loaded, made), mask=mask)

        step = lcm(lanes, self.period)
        whole = begin + (end - begin) / step * step
        with fn.loop(whole, start=begin, step=step, carry=bad) as i:
            for j in range(step // lanes):
                evaluate(i, j, None)
        for j in range(step // lanes):
            at = whole + j * lanes
            with fn.when(at < end, carry=bad):
                evaluate(whole, j, fn.first(end - at, lanes))
        if status is not None:
            with fn.when(math.any_of(bad[0])):
                status[0] = REFUSED


def _loader(pointer: Pointer, move: int, lanes: int) -> Callable[[Value, int], Value]:
    """(i, j) -> vector j behind place i of the run, a multiple of lanes and of the period."""
    if move == 0:
        still = pointer.load().splat(lanes)
        return lambda i, j: still
    if move == 1:
        return lambda i, j: pointer.load(i + j * lanes, lanes=lanes)
    if move < 0:
        return lambda i, j: _repeated(pointer + i / -move, j * lanes, -move, lanes)
    count = lcm(lanes, move) // lanes
    whole = [_cyclic(pointer, j * lanes % move, move, lanes) for j in range(count)]
    return lambda i, j: whole[j]


def _repeated(pointer: Pointer, start: int, times: int, lanes: int) -> Value:
    """Places start, start + 1, ... of elements that come `times` times each."""
    first = start // times
    places = [(start + lane) // times - first for lane in range(lanes)]
    return pointer.load(first, lanes=lanes).shuffle(places)


def _cyclic(pointer: Pointer, start: int, period: int, lanes: int) -> Value:
    """Elements start, start + 1, ... modulo the period."""
    places = [(start + lane) % period for lane in range(lanes)]
    if period <= lanes:
        return pointer.load(lanes=lanes).shuffle(places)
    places = [p - start if p >= start else lanes + p for p in places]
    return pointer.load(start, lanes=lanes).shuffle(places, pointer.load(lanes=lanes))


def _places(fn: Function, row: Value, sizes: list[Value]) -> list[Value]:
    """The index of row number `row` along every outer dimension."""
    places = []
    for size in reversed(sizes[1:]):
        above = row / size
        places.append(row - above * size)
        row = above
    return [row, *reversed(places)]
