"""Several elementwise functions and means of rows in one pass over memory.

A tensor is seen as rows of columns. Operands are "full" (an element for each), "row" (one a row),
"column" (one a column, the same in all rows) or "scalar". What precedes a mean is computed anew
behind it: the row is in the first cache by then.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i64
from litejit.kernels.base import KernelSpec
from litejit.kernels.elementwise import FUNCTIONS

MEAN = "mean"
ROWS = 4  # computed side by side, so that sums and roots of one wait for none of another
Instruction: TypeAlias = "tuple[str, tuple[int, ...], tuple[float, ...]]"


class RowProgramSpec(KernelSpec):
    """`code` lists (function, operands, parameters); values are numbered operands first.

    Functions are those of kernels/elementwise and "mean" (of a row, float32). `outputs` are the
    numbers of values to store. With `flat` there are neither means nor rows, and an item is an
    element; else it is a row. Arguments: operands, outputs, columns; all float32.
    """

    operands: tuple[str, ...]
    code: tuple[Instruction, ...]
    outputs: tuple[int, ...]
    flat: bool = False

    @property
    def is_full(self) -> tuple[bool, ...]:
        """For each value: does it have an element for each column?"""
        full = [kind in ("full", "column") for kind in self.operands]
        for function, numbers, _ in self.code:
            full.append(function != MEAN and any(full[n] for n in numbers))
        return tuple(full)

    def emit(self, name: str, isa: Isa) -> str:
        """Row by row; elements of the whole tensor where `flat`."""
        kinds: dict[str, Any] = {f"x{k}": Ptr(f32) for k in range(len(self.operands))}
        kinds |= {f"y{k}": Ptr(f32) for k in range(len(self.outputs))}
        fn = Function(name, isa, **kinds, columns=i64)
        inputs, outputs = fn.args[: len(self.operands)], fn.args[len(self.operands) : -1]
        if self.flat:
            zero = fn.const(0, i64)
            alone = _Row(self, fn, isa, inputs, zero, zero)
            _store([alone], outputs, fn.begin, fn.end)
            return fn.ir()
        columns = fn.args[-1]
        with fn.loop(fn.end, start=fn.begin, step=ROWS) as first:
            places = [fn.minimum(first + j, fn.end - 1) for j in range(ROWS)]
            rows = [_Row(self, fn, isa, inputs, row, columns) for row in places]
            _run(rows)
            _store(rows, outputs, fn.const(0, i64), columns)
        return fn.ir()


class _Row:
    """One row: the values that it has once, in all lanes, and how to compute the others."""

    def __init__(
        self, spec: RowProgramSpec, fn: Function, isa: Isa, inputs: list[Pointer], row: Value,
        columns: Value,
    ) -> None:  # fmt: skip
        self.spec, self.fn, self.lanes = spec, fn, isa.lanes(f32)
        self.row, self.columns, self.full = row, columns, spec.is_full
        self.once: dict[int, Value] = {}
        self.places: dict[int, Pointer] = {}
        for number, (kind, pointer) in enumerate(zip(spec.operands, inputs, strict=True)):
            if kind == "full":
                self.places[number] = pointer + row * columns
            elif kind == "column":
                self.places[number] = pointer
            else:
                place = pointer + row if kind == "row" else pointer
                self.once[number] = place.load().splat(self.lanes)

    def value(self, number: int, at: Value, known: dict[int, Value]) -> Value:
        """One vector of a value, from column `at` on; `known` are those computed already."""
        if number in self.once:
            return self.once[number]
        if number not in known:
            if number in self.places:
                known[number] = self.places[number].load(at, lanes=self.lanes)
            else:
                function, numbers, parameters = self.spec.code[number - len(self.spec.operands)]
                values = [self.value(n, at, known) for n in numbers]
                extra = [self.fn.const(p, f32 * self.lanes) for p in parameters]
                known[number] = FUNCTIONS[function](*values, *extra)
        return known[number]


def _run(rows: list[_Row]) -> None:
    """All values that rows have once."""
    spec, full = rows[0].spec, rows[0].full
    for number, (function, numbers, _) in enumerate(spec.code, len(spec.operands)):
        if function == MEAN:
            for row, mean in zip(rows, _means(rows, numbers[0]), strict=True):
                row.once[number] = mean
        elif not full[number]:
            for row in rows:
                row.value(number, row.row, row.once)


def _means(rows: list[_Row], source: int) -> list[Value]:
    """The mean of value `source` over each row, in every lane."""
    fn, lanes, columns = rows[0].fn, rows[0].lanes, rows[0].columns
    acc = [fn.const(0.0, f32 * lanes)] * (2 * len(rows))
    blocks, whole = (columns / n * n for n in (2 * lanes, lanes))
    with fn.loop(blocks, step=2 * lanes, carry=acc) as i:
        for j in range(2):
            for r, row in enumerate(rows):
                acc[2 * r + j] = acc[2 * r + j] + row.value(source, i + j * lanes, {})
    totals = [a + b for a, b in zip(acc[::2], acc[1::2], strict=True)]
    with fn.loop(whole, start=blocks, step=lanes, carry=totals) as i:
        for r, row in enumerate(rows):
            totals[r] = totals[r] + row.value(source, i, {})
    with fn.when(whole < columns, carry=totals):
        mask = fn.first(columns - whole, lanes)
        for r, row in enumerate(rows):
            totals[r] = totals[r] + mask.choose(row.value(source, whole, {}), 0.0)
    count = columns.to(f32)
    return [(fn.reduce("add", total) / count).splat(lanes) for total in totals]


def _store(rows: list[_Row], outputs: list[Pointer], start: Value, stop: Value) -> None:
    """All outputs of the rows, from column `start` on.

    A row may come twice: every vector is computed for all rows before it is stored for one.
    """
    fn, lanes, full = rows[0].fn, rows[0].lanes, rows[0].full
    numbers = list(zip(rows[0].spec.outputs, outputs, strict=True))
    for row in rows:
        for number, y in numbers:
            if not full[number]:
                y[row.row] = row.once[number].lane(0)
    wide = [(number, y) for number, y in numbers if full[number]]
    targets = [[y + row.row * row.columns for _, y in wide] for row in rows]

    def put(at: Value, mask: Value | None) -> None:
        made = []
        for row in rows:
            known: dict[int, Value] = {}
            made.append([row.value(number, at, known) for number, _ in wide])
        for row_targets, values in zip(targets, made, strict=True):
            for y, value in zip(row_targets, values, strict=True):
                y.store(at, value, mask=mask)

    whole = start + (stop - start) / lanes * lanes
    with fn.loop(whole, start=start, step=lanes) as i:
        put(i, None)
    with fn.when(whole < stop):
        put(whole, fn.first(stop - whole, lanes))
