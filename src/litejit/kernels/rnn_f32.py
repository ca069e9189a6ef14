"""Recurrent layers of floats over a whole sequence.

Cells come in panels of `vectors` registers; the weights of a panel's gates lie side by side, so
that a step of a panel is one pass over its input and its output state, and all that follows
stays in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from litejit.codegen import math as functions
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, i8, i32, i64
from litejit.kernels.base import KernelSpec
from litejit.kernels.hybrid import Quantizer
from litejit.kernels.rnn_int8 import dots
from litejit.types import Array

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit", "logistic")


def activate(x: Value, name: str) -> Value:
    """One of ACTIVATIONS; NaN stays NaN but under sign_bit."""
    fn = x.fn
    if name == "tanh":
        return functions.tanh(x)
    if name == "logistic":
        return functions.logistic(x)
    if name == "sign_bit":
        negative = x.bitcast(i32 * x.type.lanes) < 0
        return negative.choose(fn.const(1.0, x.type), 0.0)
    ranges = {"relu": (0.0, None), "relu_n1_to_1": (-1.0, 1.0), "relu6": (0.0, 6.0)}
    return functions.clamp(x, *ranges[name]) if name in ranges else x


def pack_gates_f32(gates: Sequence[Array], lanes: int, vectors: int) -> Array:
    """[cells, depth] of every gate -> [panel, depth, gate, vector * lane]; 0 beyond."""
    width = lanes * vectors
    padded = [np.pad(g, ((0, -len(g) % width), (0, 0))) for g in gates]
    rows = np.stack([g.reshape(-1, width, g.shape[1]) for g in padded], axis=1)
    return np.ascontiguousarray(rows.transpose(0, 3, 1, 2))


def products(
    fn: Function, x: Pointer, weights: Pointer, depth: Value, starts: Sequence[Value]
) -> list[Value]:
    """starts[j] + sums over `depth` of x with the j-th register of packed weights."""
    lanes, count = starts[0].type.lanes, len(starts)
    sums = list(starts)
    with fn.loop(depth, carry=sums) as k:
        value = x.load(k).splat(lanes)
        for j in range(count):
            b = weights.load((k * count + j) * lanes, lanes=lanes, align=4 * lanes)
            sums[j] = fn.fma(value, b, sums[j])
    return sums


def copy_floats(fn: Function, source: Pointer, target: Pointer, count: Value) -> None:
    """Copy `count` floats."""
    lanes = fn.isa.lanes(f32)
    whole = count / lanes * lanes
    with fn.loop(whole, step=lanes) as at:
        target.store(at, source.load(at, lanes=lanes))
    with fn.when(whole < count):
        value = source.load(whole, lanes=lanes)
        target.store(whole, value, mask=fn.first(count - whole, lanes))


class Source:
    """A row that is multiplied by packed weights: floats, or the bytes that it became."""

    def __init__(self, row: Pointer, weights: str, depth: str, number: int) -> None:
        self.row, self.weights, self.depth, self.number = row, weights, depth, number
        self.scale: Value | None = None
        self.zero: Value | None = None

    def quantize(self, fn: Function, kind: str, count: Value, at: Pointer) -> Pointer:
        """Make bytes of the row at `at`; returns what lies behind them."""
        tool = Quantizer(fn, fn.isa, symmetric=kind == "symmetric")
        made = tool.parameters(tool.extremes(self.row, count))
        tool.quantize(self.row, at, count, made)
        self.row, self.scale = at, made[0]
        self.zero = made[2].to(i32) + tool.moved
        return at + _whole_lines(count)


def _whole_lines(count: Value) -> Value:
    """Bytes of whole cache lines."""
    return (count + 63) / 64 * 64


class RecurrentF32(KernelSpec):
    """An LSTM (gates 4, or 3 without input gate) or a simple layer (gates 1) of floats.

    `hybrid` ("symmetric", "asymmetric"): weights are int8, packed by `pack_gates`, and rows
    become int8 before they meet them. `sums` then holds the weights' row sums (int32, packed by
    `pack_vectors`, of x, state, aux), `scales` their scales ([x, state, aux] a gate each, then
    the projection's), `projection_sums` those of the projection.

    With `norm` a gate's sums are normalized over all cells, then multiplied by its row of the
    argument `norm`, and only then the bias is added. `diagonal`: `recurrent` has a vector of
    floats for each gate (packed like `bias`) that is multiplied by the state, cell by cell.

    Arguments: x, aux, y, h, c, weights, aux_weights, recurrent, bias, peephole, norm (packed by
    `pack_gates_f32` and `pack_vectors`), projection, projection_bias, scratch, then numbers:
    stride (bytes of a thread's scratch), steps, panels, cells, outputs, depth_x, depth_aux,
    strides in floats: x_step, x_batch, aux_step, aux_batch, y_step, y_batch; then floats:
    cell_clip, proj_clip (0: none). A work item is a batch. Steps may go backwards. What a flag
    turns off is not read. `scratch` holds the sums of all gates (`norm`), `cells` floats, then
    bytes of x, state, aux and the cells, each in whole cache lines.
    """

    vectors: int
    gates: int
    activation: str
    aux: bool = False
    peephole: bool = False
    projection: int = 0  # registers of outputs in a panel; 0: none
    hybrid: str = ""
    norm: bool = False
    diagonal: bool = False

    _POINTERS = (
        "x", "aux", "y", "h", "c", "weights", "aux_weights", "recurrent", "bias", "peephole",
        "norm", "projection", "projection_bias", "scratch", "sums", "scales", "projection_sums",
    )  # fmt: skip
    _NUMBERS = (
        "stride", "steps", "panels", "cells", "outputs", "depth_x", "depth_aux", "x_step",
        "x_batch", "aux_step", "aux_batch", "y_step", "y_batch",
    )  # fmt: skip

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(
            name, isa, **dict.fromkeys(self._POINTERS, Ptr(f32)),
            **dict.fromkeys(self._NUMBERS, i64), cell_clip=f32, proj_clip=f32,
        )  # fmt: skip
        pointers = dict(zip(self._POINTERS, fn.args, strict=False))
        numbers = dict(zip(self._NUMBERS, fn.args[len(self._POINTERS) :], strict=False))
        cell_clip, proj_clip = fn.args[-2:]
        p, n = pointers, numbers
        own = kept = p["scratch"] + fn.worker * (n["stride"] / 4)
        if self.norm:
            own = kept + _whole_lines(n["panels"] * (4 * self.gates * self._width(fn))) / 4
        with fn.loop(fn.end, start=fn.begin) as batch:
            state = p["h"] + batch * n["outputs"]
            with fn.loop(n["steps"]) as t:
                target = p["y"] + (batch * n["y_batch"] + t * n["y_step"])
                before = (t > 0).choose_pointer(target + (-n["y_step"]), state)
                at = batch * n["x_batch"] + t * n["x_step"]
                sources = [Source(p["x"] + at, "weights", "depth_x", 0)]
                if self.aux:
                    at = batch * n["aux_batch"] + t * n["aux_step"]
                    sources.append(Source(p["aux"] + at, "aux_weights", "depth_aux", 2))
                if not self.diagonal:
                    sources.append(Source(before, "recurrent", "outputs", 1))
                free = own.cast(i8) + _whole_lines(n["cells"] * 4)
                for source in sources if self.hybrid else ():
                    free = source.quantize(fn, self.hybrid, n[source.depth], free)
                made = own if self.projection else target
                with fn.loop(n["panels"]) as panel:
                    sums = self._sums(fn, p, n, sources, panel)
                    if self.diagonal:
                        self._add_state(fn, sums, p, n, before, panel)
                    if self.norm:
                        self._keep(fn, sums, p, n, batch, panel, kept)
                    else:
                        self._cells(fn, sums, p, n, batch, panel, made, cell_clip)
                if self.norm:
                    self._normalized_cells(fn, kept, p, n, batch, made, cell_clip)
                if self.projection:
                    hidden = Source(own, "projection", "cells", 3)
                    if self.hybrid:
                        hidden.quantize(fn, self.hybrid, n["cells"], free)
                    self._project(fn, p, n, hidden, target, proj_clip)
            last = p["y"] + (batch * n["y_batch"] + (n["steps"] - 1) * n["y_step"])
            copy_floats(fn, last, state, n["outputs"])
        return fn.ir()

    def _sums(
        self, fn: Function, p: dict[str, Pointer], n: dict[str, Value],
        sources: list[Source], panel: Value,
    ) -> list[Value]:  # fmt: skip
        lanes = fn.isa.lanes(f32)
        count = self.gates * self.vectors
        at = panel * (count * lanes)
        sums = [fn.const(0.0, f32 * lanes)] * count
        if not self.norm:
            sums = [
                p["bias"].load(at + j * lanes, lanes=lanes, align=4 * lanes) for j in range(count)
            ]
        for source in sources:
            block = n["panels"] * source.number + panel
            rows = p["sums"].cast(i32) + block * (count * lanes)
            scales = p["scales"] + source.number * self.gates
            sums = self._add(fn, source, p, n, panel, rows, scales, self.vectors, sums)
        return sums

    def _add(
        self, fn: Function, source: Source, p: dict[str, Pointer], n: dict[str, Value],
        panel: Value, rows: Pointer, scales: Pointer, vectors: int, sums: list[Value],
    ) -> list[Value]:  # fmt: skip
        """Sums of a panel with the products of a source; every `vectors` of them have a scale."""
        lanes, count, depth = fn.isa.lanes(f32), len(sums), n[source.depth]
        if source.scale is None or source.zero is None:
            packed = p[source.weights] + panel * depth * (count * lanes)
            return products(fn, source.row, packed, depth, sums)
        groups = (depth + 3) / 4
        packed = p[source.weights].cast(i8) + panel * groups * (4 * count * lanes)
        none = [fn.const(0, i32 * lanes)] * count
        zero, result = source.zero.splat(lanes), []
        for j, raw in enumerate(dots(fn, source.row, packed, groups, none, moved=True)):
            row = rows.load(j * lanes, lanes=lanes, align=4 * lanes)
            factor = (source.scale * scales.load(j // vectors)).splat(lanes)
            result.append(sums[j] + (raw - row * zero).to(f32) * factor)
        return result

    def _width(self, fn: Function) -> int:
        """Cells of a panel."""
        return fn.isa.lanes(f32) * self.vectors

    def _row(self, rows: Pointer, panel: Value, gate: int, v: int) -> Value:
        """A register of a vector that every gate has, packed by `pack_vectors`."""
        lanes = rows.fn.isa.lanes(f32)
        at = (panel * self.gates + gate) * (lanes * self.vectors) + v * lanes
        return rows.load(at, lanes=lanes, align=4 * lanes)

    def _add_state(
        self, fn: Function, sums: list[Value], p: dict[str, Pointer], n: dict[str, Value],
        before: Pointer, panel: Value,
    ) -> None:  # fmt: skip
        """Recurrent weights that are diagonals."""
        lanes = fn.isa.lanes(f32)
        for v in range(self.vectors):
            first = panel * self._width(fn) + v * lanes
            state = before.load(first, lanes=lanes, mask=fn.first(n["cells"] - first, lanes))
            for g in range(self.gates):
                j = g * self.vectors + v
                sums[j] = fn.fma(self._row(p["recurrent"], panel, g, v), state, sums[j])

    def _seen(
        self, fn: Function, p: dict[str, Pointer], panel: Value, gate: int, v: int, sums: Value,
        c: Value,
    ) -> Value:  # fmt: skip
        """With the peephole, where there is one."""
        if not self.peephole:
            return sums
        return fn.fma(self._row(p["peephole"], panel, gate, v), c, sums)

    def _new_cell(self, parts: list[Value], c: Value, clip: Value) -> Value:
        """From the gates before their functions; the output gate is the last."""
        f = functions.logistic(parts[-3])
        share = -f + 1.0 if self.gates == 3 else functions.logistic(parts[0])
        return _clip(f * c + activate(parts[-2], self.activation) * share, clip)

    def _cells(
        self, fn: Function, sums: list[Value], p: dict[str, Pointer], n: dict[str, Value],
        batch: Value, panel: Value, made: Pointer, clip: Value,
    ) -> None:  # fmt: skip
        """From the sums of a panel to its cells and outputs."""
        lanes, out = fn.isa.lanes(f32), self.gates - 1
        first = panel * (lanes * self.vectors)
        cells = p["c"] + (batch * n["cells"] + first)
        for v in range(self.vectors):
            mask = fn.first(n["cells"] - first - v * lanes, lanes)
            parts = [sums[g * self.vectors + v] for g in range(self.gates)]
            if self.gates == 1:
                made.store(first + v * lanes, activate(parts[0], self.activation), mask=mask)
                continue
            c = cells.load(v * lanes, lanes=lanes, mask=mask)
            for g in self._peeping():
                parts[g] = self._seen(fn, p, panel, g, v, parts[g], c)
            new = self._new_cell(parts, c, clip)
            cells.store(v * lanes, new, mask=mask)
            o = functions.logistic(self._seen(fn, p, panel, out, v, parts[out], new))
            made.store(first + v * lanes, o * activate(new, self.activation), mask=mask)

    def _peeping(self) -> list[int]:
        """The gates that see the cells as they were."""
        return list(range(self.gates - 2))

    def _keep(
        self, fn: Function, sums: list[Value], p: dict[str, Pointer], n: dict[str, Value],
        batch: Value, panel: Value, kept: Pointer,
    ) -> None:  # fmt: skip
        """Store the sums of a panel, in a row a gate."""
        lanes, width = fn.isa.lanes(f32), self._width(fn)
        cells = p["c"] + (batch * n["cells"] + panel * width)
        for v in range(self.vectors):
            mask = fn.first(n["cells"] - panel * width - v * lanes, lanes)
            c = cells.load(v * lanes, lanes=lanes, mask=mask)
            for g in range(self.gates):
                value = sums[g * self.vectors + v]
                if g in self._peeping():
                    value = self._seen(fn, p, panel, g, v, value, c)
                kept.store((n["panels"] * g + panel) * width + v * lanes, value)

    def _normalized_cells(
        self, fn: Function, kept: Pointer, p: dict[str, Pointer], n: dict[str, Value],
        batch: Value, made: Pointer, clip: Value,
    ) -> None:  # fmt: skip
        """New cells from all gates but the output's; then that gate, which sees them."""
        lanes, width, out = fn.isa.lanes(f32), self._width(fn), self.gates - 1
        rows = [kept + n["panels"] * (g * width) for g in range(self.gates)]

        def normalized(g: int, stats: list[Value], panel: Value, v: int) -> Value:
            value = rows[g].load(panel * width + v * lanes, lanes=lanes)
            scaled = (value - stats[0]) * stats[1] * self._row(p["norm"], panel, g, v)
            return scaled + self._row(p["bias"], panel, g, v)

        stats = [_mean_and_scale(fn, rows[g], n["cells"]) for g in range(out)]
        for is_last in (False, True):
            if is_last:
                stats.append(_mean_and_scale(fn, rows[out], n["cells"]))
            with fn.loop(n["panels"]) as panel:
                for v in range(self.vectors):
                    first = panel * width + v * lanes
                    mask, at = fn.first(n["cells"] - first, lanes), batch * n["cells"] + first
                    c = p["c"].load(at, lanes=lanes, mask=mask)
                    if is_last:
                        o = functions.logistic(normalized(out, stats[out], panel, v))
                        made.store(first, o * activate(c, self.activation), mask=mask)
                        continue
                    parts = [normalized(g, stats[g], panel, v) for g in range(out)]
                    new = self._new_cell([*parts, c], c, clip)
                    p["c"].store(at, new, mask=mask)
                    seen = rows[out].load(first, lanes=lanes)
                    rows[out].store(first, self._seen(fn, p, panel, out, v, seen, new))

    def _project(
        self, fn: Function, p: dict[str, Pointer], n: dict[str, Value], hidden: Source,
        target: Pointer, clip: Value,
    ) -> None:  # fmt: skip
        lanes, count = fn.isa.lanes(f32), self.projection
        width = lanes * count
        with fn.loop(n["outputs"], step=width) as first:
            bias = p["projection_bias"]
            starts = [
                bias.load(first + j * lanes, lanes=lanes, align=4 * lanes) for j in range(count)
            ]
            rows = p["projection_sums"].cast(i32) + first
            scales = p["scales"] + 3 * self.gates
            made = self._add(fn, hidden, p, n, first / width, rows, scales, count, starts)
            for j, sums in enumerate(made):
                at = first + j * lanes
                mask = fn.first(n["outputs"] - at, lanes)
                target.store(at, _clip(sums, clip), mask=mask)


def _mean_and_scale(fn: Function, row: Pointer, count: Value) -> list[Value]:
    """The mean of floats, and 1 / sqrt(their variance + 1e-8), in all lanes."""
    lanes, size = fn.isa.lanes(f32), count.to(f32)

    def total(of: Callable[[Value], Value]) -> Value:
        sums = [fn.const(0.0, f32 * lanes)]
        with fn.loop(count, step=lanes, carry=sums) as k:
            value = of(row.load(k, lanes=lanes))
            sums[0] = sums[0] + fn.first(count - k, lanes).choose(value, 0.0)
        return fn.reduce("add", sums[0])

    mean = (total(lambda x: x) / size).splat(lanes)
    variance = total(lambda x: (x - mean) * (x - mean)) / size
    return [mean, (fn.const(1.0, f32) / fn.sqrt(variance + 1e-8)).splat(lanes)]


def _clip(x: Value, limit: Value) -> Value:
    """Within +-limit; 0 means none."""
    bound = (limit > 0.0).choose(limit, float("inf")).splat(x.type.lanes)
    low = (x < -bound).choose(-bound, x)
    return (low > bound).choose(bound, low)
