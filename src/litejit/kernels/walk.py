"""Loops over broadcast operands: what every elementwise kernel has around its arithmetic."""

from __future__ import annotations

from typing import Any

from litejit.codegen.isa import Isa
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Type,
    Value,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)
from litejit.kernels.base import KernelSpec
from litejit.types import DType

TYPES: dict[str, Type] = {
    **{"FLOAT32": f32, "FLOAT64": f64, "FLOAT16": f16, "BOOL": u8, "INT4": i8, "UINT4": u8},
    **{"INT8": i8, "INT16": i16, "INT32": i32, "INT64": i64},
    **{"UINT8": u8, "UINT16": u16, "UINT32": u32, "UINT64": u64},
}


def type_of(dtype: DType) -> Type:
    """How one element lies in memory; bool is a byte that holds 0 or 1."""
    return TYPES[dtype.name]


class WalkSpec(KernelSpec):
    """y[i] = body(x0[i], x1[i], ...) over a broadcast of `rank` outer loops and one inner run.

    `moves[k]` says whether operand k advances within the run (1) or stays (0). Arguments: the
    operands, y, what `extras` declares, then the run's length, the outer sizes and, operand by
    operand, the outer strides in elements. An item is an element where `rank` is 0, else a run.
    Loads may pass the end of an operand by less than one vector of at most 64 bytes.
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

    def extras(self) -> dict[str, Type | Ptr]:
        """Arguments besides the operands."""
        return {}

    def prepare(self, fn: Function, isa: Isa, extras: list[Any]) -> list[Any]:
        """What the body needs, made once before the loops."""
        return extras

    def body(self, fn: Function, isa: Isa, values: list[Value], made: list[Any]) -> Value:
        """One vector of results."""
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
        made = self.prepare(fn, isa, [values[key] for key in extras])
        inputs = [values[f"x{k}"] for k in range(len(types))]
        if self.rank == 0:
            self._run(fn, isa, inputs, values["y"], fn.begin, fn.end, made)
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
            self._run(fn, isa, moved, target, fn.const(0, i64), values["run"], made)
        return fn.ir()

    def _run(
        self, fn: Function, isa: Isa, inputs: list[Pointer], y: Pointer,
        begin: Value, end: Value, made: list[Any],
    ) -> None:  # fmt: skip
        lanes = self.lanes(isa)
        still = {
            k: pointer.load().splat(lanes)
            for k, pointer in enumerate(inputs) if not self.moves[k]
        }  # fmt: skip

        def evaluate(i: Value) -> Value:
            loaded = [
                still[k] if k in still else pointer.load(i, lanes=lanes)
                for k, pointer in enumerate(inputs)
            ]
            return self.body(fn, isa, loaded, made)

        whole = begin + (end - begin) / lanes * lanes
        with fn.loop(whole, start=begin, step=lanes) as i:
            y.store(i, evaluate(i))
        with fn.when(whole < end):
            y.store(whole, evaluate(whole), mask=fn.first(end - whole, lanes))


def _places(fn: Function, row: Value, sizes: list[Value]) -> list[Value]:
    """The index of row number `row` along every outer dimension."""
    places = []
    for size in reversed(sizes[1:]):
        above = row / size
        places.append(row - above * size)
        row = above
    return [row, *reversed(places)]
