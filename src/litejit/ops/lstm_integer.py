"""LSTM in integers: int8 inputs and weights, int16 cells, gates in Q3.12.

Two arithmetics, told apart by the number of intermediate tensors in the file. "8x8_16" (5):
the sums of input and output state are scaled to int16 one after the other and added with
saturation; logistic and tanh are fixed point. "8x8_8" (12): both are scaled to int8 first, the
layer normalization and the functions are float32, results are cut to int16.
Source: LiteRT tflite/kernels/lstm.cc (PopulateQuantizedLstmParams...), lstm_eval.cc,
internal/reference/portable_tensor_utils.cc.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.ops import fixed16, fixedexp
from litejit.ops.base import Node
from litejit.ops.fixedpoint import (
    mbqm,
    mbqm64,
    quantize_multiplier,
    require_multiplier,
    require_scale,
    round_half_away,
    rounding_divide_by_pot,
    wrap32,
)
from litejit.ops.lstm_cell import CELL, FORGET, INPUT, OUTPUT, Cell
from litejit.record import Record
from litejit.types import Array, TensorType

F = np.float32
I64 = np.int64
Multiplier = tuple[int, int]
Gates = tuple[Any, Any, Any, Any]


class Integers(Record):
    """The fixed-point numbers of one direction; tuples have one entry a gate, None where absent.

    `cell_bits` is the log2 of the cells' scale. For 8x8_8, `middle` holds, a gate, the two
    multipliers from int8 sums to Q3.12 and the two zero points of the int8 sums.
    """

    inputs: Gates
    recurrent: Gates
    peephole: Gates
    norm: Gates
    guards: Gates
    hidden: Multiplier
    projection: Multiplier
    hidden_zero: int
    input_zero: int
    state_zero: int
    cell_bits: int
    cell_clip: int
    proj_clip: int
    middle: Gates = (None, None, None, None)

    __hash__ = object.__hash__


def checked_log2(x: float) -> int | None:
    """The exponent of a power of two; None for other numbers (beyond 0.1% of an exponent)."""
    if not (x > 0 and math.isfinite(x)):
        return None
    log = math.log2(x)
    return round(log) if abs(log - round(log)) < 1e-3 else None


def check_quantization(node: Node, cell: Cell) -> None:
    """Refuse scales and shapes that the integer arithmetic cannot work with."""
    count = len(node.intermediates)
    node.require(count in (5, 12), f"has {count} intermediate tensors, expected 5 or 12")
    for tensors, what in (
        (cell.weights, "input weights"), (cell.recurrent, "recurrent weights"),
        (cell.peephole, "peephole weights"), (cell.norm, "layer norm coefficients"),
        ((cell.projection,), "projection weights"),
    ):  # fmt: skip
        for tensor in tensors:
            if tensor is not None:
                require_scale(node, tensor, what, smallest=0.0)
    for tensor, what in (
        (cell.x, "input"), (cell.output_state, "output_state"),
        (cell.cell_state, "cell_state"), (node.output(0), "output"),
    ):  # fmt: skip
        require_scale(node, tensor, what)
    only_hidden = cell.norm[FORGET] is None and count == 5
    for position, middle in enumerate(node.intermediates):
        if position < 4 and only_hidden:
            continue
        node.require(middle is not None, f"intermediate tensor {position} is missing")
        assert middle is not None
        require_scale(node, middle, f"intermediate tensor {middle.name!r}")
    bits = checked_log2(cell.cell_state.scale)
    ok = bits is not None and -15 <= bits <= -9
    node.require(ok, f"cell_state has scale {cell.cell_state.scale}, expected 2**-15 ... 2**-9")
    if count == 12:
        _check_8x8_8(node, cell, bits)


def _check_8x8_8(node: Node, cell: Cell, bits: int | None) -> None:
    node.require(bits == -15, f"cell_state has scale {cell.cell_state.scale}, expected 2**-15")
    node.require(cell.norm[FORGET] is not None, "8x8_8 needs layer normalization")
    node.require(not cell.has_input_gate, "8x8_8 has no input gate")
    both = cell.projection is not None and cell.projection_bias is not None
    node.require(both, "8x8_8 needs a projection with a bias")


def _multiplier(node: Node, real: Any) -> Multiplier:
    with np.errstate(all="ignore"):
        value = float(F(real))
    require_multiplier(node, value)
    return quantize_multiplier(value)


def _clip(clip: float, tensor: TensorType, largest: int) -> int:
    return int(min(F(clip) / F(tensor.scale), F(largest))) if clip > 0 else 0


def parameters(node: Node, cell: Cell) -> Integers:
    """The fixed-point numbers of a direction, from its types; float32 steps as LiteRT's."""
    if len(node.intermediates) == 12:
        return _parameters_8x8_8(node, cell)
    *middle, last = node.intermediates
    assert last is not None
    gates = [F(2.0**-12 if t is None or cell.norm[FORGET] is None else t.scale) for t in middle]
    hidden, state = F(last.scale), F(cell.output_state.scale)
    bits = checked_log2(cell.cell_state.scale)
    assert bits is not None

    def scaled(tensors: Gates, source: Any, *, wide: bool = False) -> Gates:
        def one(g: int) -> Multiplier | None:
            if tensors[g] is None:
                return None
            if wide:
                return _multiplier(node, source * float(F(tensors[g].scale)) / float(gates[g]))
            return _multiplier(node, F(tensors[g].scale) * source / gates[g])

        return one(0), one(1), one(2), one(3)

    projection = cell.projection.scale if cell.projection is not None else 1.0
    options, out = node.options, node.output(0)
    return Integers(
        inputs=scaled(cell.weights, F(cell.x.scale)),
        recurrent=scaled(cell.recurrent, state),
        peephole=scaled(cell.peephole, 2.0**bits, wide=True),
        norm=_norms(node, cell),
        guards=_guards(cell),
        hidden=_multiplier(node, 2.0**-15 / float(hidden) * 2.0**-15),
        projection=_multiplier(node, F(projection) * hidden / state),
        hidden_zero=last.zero_point,
        input_zero=cell.x.zero_point,
        state_zero=cell.output_state.zero_point,
        cell_bits=bits,
        cell_clip=_clip(options.cell_clip, cell.cell_state, 32767),
        proj_clip=_clip(options.proj_clip, out, 127),
    )


def _norms(node: Node, cell: Cell) -> Gates:
    made = [None if t is None else _multiplier(node, t.scale) for t in cell.norm]
    return made[0], made[1], made[2], made[3]


def _guards(cell: Cell) -> Gates:
    made = [None if t is None else max(1, int(F(10000) * F(t.scale))) for t in cell.norm]
    return made[0], made[1], made[2], made[3]


def _parameters_8x8_8(node: Node, cell: Cell) -> Integers:
    scales = [F(t.scale) for t in node.intermediates if t is not None]
    points = [t.zero_point for t in node.intermediates if t is not None]
    x, state = F(cell.x.scale), F(cell.output_state.scale)

    def gates(tensors: Gates, source: Any, shift: int) -> Gates:
        made = [
            None if t is None else _multiplier(node, F(t.scale) * source / scales[3 * g + shift])
            for g, t in enumerate(tensors)
        ]
        return made[0], made[1], made[2], made[3]

    def middle(g: int) -> tuple[Multiplier, Multiplier, int, int]:
        a, b = (_multiplier(node, scales[3 * g + j] / scales[3 * g]) for j in (1, 2))
        return a, b, points[3 * g + 1], points[3 * g + 2]

    forget, update, out = middle(FORGET), middle(CELL), middle(OUTPUT)
    # LiteRT reads three of the output gate's numbers from other places: the multiplier of the
    # state's sum from behind its array, where the forget gate's shift lies.
    out = out[0], (forget[1][1], out[1][1]), out[2], points[7]
    clip = node.options.cell_clip
    return Integers(
        inputs=gates(cell.weights, x, 1),
        recurrent=gates(cell.recurrent, state, 2),
        peephole=(None, None, None, None),
        norm=_norms(node, cell),
        guards=(None, None, None, None),
        hidden=(0, 0),
        projection=_multiplier(node, float(F(cell.projection.scale)) * 2.0**-15 / float(state)),
        hidden_zero=0,
        input_zero=cell.x.zero_point,
        state_zero=cell.output_state.zero_point,
        cell_bits=-15,
        cell_clip=_clip(clip, cell.cell_state, 32767) if clip < 1 else 0,
        proj_clip=_clip(node.options.proj_clip, node.output(0), 127),
        middle=(None, forget, update, out),
    )


def folded_bias(weights: Array, bias: Array | None, zero_point: int) -> Array:
    """bias + zero_point * (row sums of the weights), int32 as int64."""
    sums = weights.view(np.int8).astype(I64).sum(axis=1) * zero_point
    return wrap32(sums if bias is None else sums + bias)


class IntegerLSTM:
    """The arithmetic of one direction; `types` are its operands' types, `cell` their arrays."""

    def __init__(self, node: Node, types: Cell, cell: Cell, *, flat_peephole: bool) -> None:
        self.cell, self.p = cell, parameters(node, types)
        self.narrow = len(node.intermediates) == 12
        self.flat_peephole = flat_peephole
        self.gates = [g for g in range(4) if cell.weights[g] is not None]

    def run(self, x: Array) -> Array:
        """[steps, batch, inputs] to [steps, batch, outputs]; the states are updated in place."""
        cell = self.cell
        steps, batch = x.shape[:2]
        prepared = self._sums(x.reshape(steps * batch, -1), cell.weights, self._input_bias)
        h = cell.output_state.reshape(batch, -1)
        c = cell.cell_state.reshape(batch, -1)
        y = np.empty((steps, batch, h.shape[1]), np.int8)
        for t in range(steps):
            rows = slice(t * batch, (t + 1) * batch)
            parts = {g: part[rows] for g, part in prepared.items()}
            states = self._sums(h, cell.recurrent, self._state_bias)
            h[...] = self._step(parts, states, c)
            y[t] = h
        return y

    def _sums(self, rows: Array, weights: Gates, bias: Any) -> dict[int, Array]:
        """Exact int32 sums of every gate."""
        wide = rows.astype(np.float64)
        result = {}
        for g in self.gates:
            product = wide @ weights[g].view(np.int8).astype(np.float64).T
            result[g] = wrap32(product.astype(I64) + bias(g))
        return result

    def _input_bias(self, gate: int) -> Array:
        has_norm = self.cell.norm[FORGET] is not None
        bias = None if has_norm else self.cell.bias[gate]
        return folded_bias(self.cell.weights[gate], bias, -self.p.input_zero)

    def _state_bias(self, gate: int) -> Array:
        return folded_bias(self.cell.recurrent[gate], None, -self.p.state_zero)

    def _step(self, x: dict[int, Array], h: dict[int, Array], c: Array) -> Array:
        p = self.p
        forget = self._gate(FORGET, x, h, c).astype(I64)
        update = self._gate(CELL, x, h, c).astype(I64)
        if self.cell.has_input_gate:
            share = self._gate(INPUT, x, h, c).astype(I64)
        else:
            share = 32767 - forget
        kept = rounding_divide_by_pot(forget * c, 15).astype(np.int16).astype(I64)
        added = rounding_divide_by_pot(share * update, 30 + p.cell_bits)
        new = np.clip(kept + added.astype(np.int16), -32768, 32767)
        if p.cell_clip > 0:
            new = np.clip(new, -p.cell_clip, p.cell_clip)
        c[...] = new
        return self._output(self._gate(OUTPUT, x, h, c).astype(I64), new)

    def _gate(self, gate: int, x: dict[int, Array], h: dict[int, Array], c: Array) -> Array:
        if self.narrow:
            return self._gate_8x8_8(gate, x, h)
        p = self.p
        total = _saturate(mbqm(x[gate], *p.inputs[gate]))
        total = _saturate(mbqm(h[gate], *p.recurrent[gate]) + total)
        if self.cell.peephole[gate] is not None:
            total = self._peephole(gate, total, c)
        if self.cell.norm[gate] is not None:
            total = layer_norm(
                total, self.cell.norm[gate], self.cell.bias[gate], p.norm[gate], p.guards[gate]
            )
        return fixed16.tanh(total) if gate == CELL else fixed16.logistic(total)

    def _peephole(self, gate: int, total: Array, c: Array) -> Array:
        """Add weight * cell; LiteRT walks as many cells as there are outputs."""
        weights = self.cell.peephole[gate].astype(I64)
        outputs = min(self.cell.recurrent[gate].shape[-1], len(weights))
        if not self.flat_peephole:
            part = mbqm(weights[:outputs] * c[:, :outputs], *self.p.peephole[gate])
            total[:, :outputs] = _saturate(total[:, :outputs] + part)
            return total
        count = len(total) * outputs
        weights = np.tile(weights[:outputs], len(total))
        part = mbqm(weights * c.reshape(-1)[:count], *self.p.peephole[gate])
        flat = total.reshape(-1)
        flat[:count] = _saturate(flat[:count] + part)
        return total

    def _output(self, gate: Array, c: Array) -> Array:
        p, cell = self.p, self.cell
        if self.narrow:
            hidden = rounding_divide_by_pot(gate * _tanh_float(c, 15), 15).astype(np.int16)
            sums = hidden.astype(np.float64) @ cell.projection.view(np.int8).astype(np.float64).T
            wide = sums.astype(I64) + cell.projection_bias
            return self._projected(mbqm64(wide, *p.projection) + p.state_zero)
        hidden = mbqm(gate * fixed16.tanh(c, 15 + p.cell_bits), *p.hidden)
        if cell.projection is None:
            return np.clip(hidden + p.hidden_zero, -128, 127)
        codes = np.clip(hidden - p.hidden_zero, -128, 127)
        bias = folded_bias(cell.projection, cell.projection_bias, p.hidden_zero)
        sums = codes.astype(np.float64) @ cell.projection.view(np.int8).astype(np.float64).T
        wide = wrap32(sums.astype(I64) + bias)
        return self._projected(mbqm(wide, *p.projection) + p.state_zero)

    def _projected(self, values: Array) -> Array:
        values = np.clip(values, -128, 127)
        clip = self.p.proj_clip
        return np.clip(values, -clip, clip) if clip > 0 else values

    def _gate_8x8_8(self, gate: int, x: dict[int, Array], h: dict[int, Array]) -> Array:
        p = self.p
        scale_x, scale_h, zero_x, zero_h = p.middle[gate]
        a = np.clip(mbqm(x[gate], *p.inputs[gate]) + zero_x, -128, 127) - zero_x
        b = np.clip(mbqm(h[gate], *p.recurrent[gate]) + zero_h, -128, 127) - zero_h
        total = _saturate(mbqm(b, *scale_h) + mbqm(a, *scale_x))
        total = _layer_norm_float(total, self.cell.norm[gate], self.cell.bias[gate], p.norm[gate])
        return _tanh_float(total, 12) if gate == CELL else _sigmoid_float(total)


def _saturate(x: Array) -> Array:
    result: Array = np.clip(x, -32768, 32767)
    return result


def layer_norm(
    rows: Array, weights: Array, bias: Array, multiplier: Multiplier, guard: int
) -> Array:
    """Normalized int16 rows times int16 weights plus int32 bias, in Q3.12."""
    count = rows.shape[1]
    result = np.empty_like(rows)
    m, shift = multiplier
    for i, row in enumerate(rows):
        total, squares = int(row.sum()), int((row * row).sum())
        mean = int(math.copysign(abs(total) * 1024 // count, total))
        spread = squares * ((1 << 20) // count) - mean * mean
        variance = int(math.copysign(abs(spread) >> 20, spread))
        inverse = fixedexp.inverse_sqrt(variance if variance >= 1 else guard)
        scaled = mbqm(wrap32(1024 * row - mean), *inverse)
        sums = wrap32(scaled * weights.astype(I64) + bias)
        rounded = np.sign(sums) * ((np.abs(sums) + 512) >> 10)
        result[i] = _saturate(mbqm(rounded, m, shift + 12))
    return result


def _layer_norm_float(rows: Array, weights: Array, bias: Array, multiplier: Multiplier) -> Array:
    """The same in float32, summed from left to right; Q3.12."""
    m, shift = multiplier
    scale = F(m * 2.0 ** (shift - 31))
    bias_scale = F(2.0**-10) * scale
    values = rows.astype(F)
    count = F(rows.shape[1])
    mean = np.add.accumulate(values, axis=1)[:, -1:] / count
    variance = np.add.accumulate(values * values, axis=1)[:, -1:] / count - mean * mean
    inverse = F(1) / np.sqrt(np.where(variance == 0, F(1e-8), variance))
    normal = (values - mean) * inverse
    sums = normal * weights.astype(F) * scale + bias.astype(F) * bias_scale
    quantized = np.nan_to_num(round_half_away(sums * F(4096)), nan=-32768.0)
    result: Array = np.clip(quantized, -32768, 32767).astype(I64)
    return result


def _sigmoid_float(raw: Array) -> Array:
    """Logistic function of Q3.12, float32, cut to Q0.15."""
    x = (raw.astype(F) * F(2.0**-12)).astype(np.float64)
    exponential = np.exp(-x).astype(F)
    y = F(1) / (F(1) + exponential)
    result: Array = np.clip(np.trunc(y * F(32768)), -32768, 32767).astype(np.int16)
    return result


def _tanh_float(raw: Array, fraction_bits: int) -> Array:
    """tanh, float32, cut to Q0.15, of numbers with `fraction_bits`."""
    y = np.tanh(raw.astype(np.float64) * 2.0**-fraction_bits).astype(F)
    result: Array = np.clip(np.trunc(y * F(32768)), -32768, 32767).astype(np.int16)
    return result
