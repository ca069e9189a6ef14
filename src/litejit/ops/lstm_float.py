"""LSTM in float32, with float weights or with integer weights ("hybrid").

Hybrid: every row of x, of the output state and of what is projected is quantized to int8 on its
own, the integer sums are exact, and each is scaled in float32 before it is added.
Source: LiteRT tflite/kernels/lstm_eval.cc.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops import hybrid
from litejit.ops.base import Node
from litejit.ops.lstm_cell import CELL, FORGET, INPUT, OUTPUT, Cell
from litejit.types import Array

F = np.float32


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) in float32."""
    result: Array = F(1) / (F(1) + np.exp(-x))
    return result


class Rows:
    """Rows [n, k] of float32 that are multiplied by several weights, quantized at most once."""

    def __init__(self, values: Array, *, asymmetric: bool) -> None:
        self._values, self._asymmetric = values, asymmetric
        self._quantized: tuple[Array, Array, Array | None] | None = None

    def times(self, weights: Array, scale: float) -> Array:
        """[n, units] products with weights [units, k]; integer weights have a `scale`."""
        if weights.dtype == F:
            result: Array = self._values @ weights.T
            return result
        if self._quantized is None:
            self._quantized = self._quantize()
        codes, scales, points = self._quantized
        centred = codes.astype(np.float64)
        if points is not None:
            centred -= points[:, None]
        # All products are integers, and their sums far below 2**53.
        sums = (centred @ weights.view(np.int8).astype(np.float64).T).astype(F)
        factors = (scales * F(scale)).astype(F)
        scaled: Array = sums * factors[:, None]
        return scaled

    def _quantize(self) -> tuple[Array, Array, Array | None]:
        if self._asymmetric:
            return hybrid.quantize_asymmetric(self._values)
        return (*hybrid.quantize_symmetric(self._values), None)


class FloatLSTM:
    """The arithmetic of one direction; `types` are its operands' types, `cell` their arrays."""

    def __init__(self, node: Node, types: Cell, cell: Cell) -> None:
        options = node.options
        self.types, self.cell = types, cell
        self.activation = options.activation
        self.cell_clip, self.proj_clip = F(options.cell_clip), F(options.proj_clip)
        self.asymmetric = bool(options.asymmetric_quantize_inputs)
        self.gates = [g for g in range(4) if cell.weights[g] is not None]

    def run(self, x: Array, aux: Array | None, *, forward: bool = True) -> Array:
        """[steps, batch, inputs] to [steps, batch, outputs]; the states are updated in place."""
        cell = self.cell
        steps, batch = x.shape[:2]
        prepared = self._input_part(x, aux)
        h = cell.output_state.reshape(batch, -1)
        c = cell.cell_state.reshape(batch, -1)
        y = np.empty((steps, batch, h.shape[1]), F)
        order = range(steps) if forward else reversed(range(steps))
        for t in order:
            h_new, c[...] = self._step({g: part[t] for g, part in prepared.items()}, h, c)
            h[...] = h_new
            y[t] = h
        return y

    def _input_part(self, x: Array, aux: Array | None) -> dict[int, Array]:
        """What does not depend on the states, for all steps: bias + W x + W_aux aux."""
        cell, types = self.cell, self.types
        sources = [(x, cell.weights, types.weights)]
        if aux is not None:
            sources.append((aux, cell.aux_weights, types.aux_weights))
        steps, batch = x.shape[:2]
        parts = {g: self._bias(g, (steps * batch,)) for g in self.gates}
        for values, weights, kinds in sources:
            rows = self._rows(values.reshape(steps * batch, -1))
            for g in self.gates:
                parts[g] = parts[g] + rows.times(weights[g], kinds[g].scale)
        return {g: part.reshape(steps, batch, -1) for g, part in parts.items()}

    def _rows(self, values: Array) -> Rows:
        return Rows(values, asymmetric=self.asymmetric)

    def _bias(self, gate: int, lead: tuple[int, ...]) -> Array:
        """The bias, or zeros where it is added behind a normalization."""
        bias = self.cell.bias[gate]
        if self.cell.norm[gate] is not None:
            bias = np.zeros_like(bias)
        return np.broadcast_to(bias, (*lead, len(bias)))

    def _step(self, parts: dict[int, Array], h: Array, c: Array) -> tuple[Array, Array]:
        rows = self._rows(h)
        forget = sigmoid(self._gate(FORGET, parts, rows, h, c))
        update = hybrid.apply_activation(self._gate(CELL, parts, rows, h, c), self.activation)
        if self.cell.has_input_gate:
            share = sigmoid(self._gate(INPUT, parts, rows, h, c))
        else:
            share = F(1) - forget
        c = forget * c + update * share
        if self.cell_clip > 0:
            c = np.clip(c, -self.cell_clip, self.cell_clip)
        out = sigmoid(self._gate(OUTPUT, parts, rows, h, c))
        return self._project(out * hybrid.apply_activation(c, self.activation)), c

    def _gate(self, gate: int, parts: dict[int, Array], rows: Rows, h: Array, c: Array) -> Array:
        """A gate before its activation; the output gate's peephole sees the new cells."""
        cell, types = self.cell, self.types
        recurrent = cell.recurrent[gate]
        if recurrent.ndim == 1:
            sums = parts[gate] + recurrent * h
        else:
            sums = parts[gate] + rows.times(recurrent, types.recurrent[gate].scale)
        peephole: Any = cell.peephole[gate]
        if peephole is not None:
            if peephole.dtype != F:
                peephole = peephole.view(np.int8) * F(types.peephole[gate].scale)
            sums = sums + peephole * c
        norm = cell.norm[gate]
        if norm is not None:
            sums = normalize(sums) * norm + cell.bias[gate]
        result: Array = sums
        return result

    def _project(self, hidden: Array) -> Array:
        matrix = self.cell.projection
        if matrix is None:
            return hidden
        result = self._rows(hidden).times(matrix, self.types.projection.scale)
        if self.cell.projection_bias is not None:
            result = result + self.cell.projection_bias
        if self.proj_clip > 0:
            result = np.clip(result, -self.proj_clip, self.proj_clip).astype(F)
        return result


def normalize(rows: Array) -> Array:
    """(x - mean) / sqrt(variance + 1e-8) of every row, float32."""
    centred = rows - rows.mean(axis=-1, keepdims=True, dtype=F)
    variance = (centred * centred).mean(axis=-1, keepdims=True, dtype=F)
    result: Array = centred * (F(1) / np.sqrt(variance + F(1e-8)))
    return result
