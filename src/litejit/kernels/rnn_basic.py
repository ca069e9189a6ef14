"""The old LSTM kernel of five inputs: float32, or uint8 with int16 states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litejit.codegen import math as functions
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i8, i16, i32, i64, u8
from litejit.kernels import rnn_fixed16
from litejit.kernels.base import KernelSpec
from litejit.kernels.fixedpoint import multiplied
from litejit.kernels.memory import copy_bytes
from litejit.kernels.rnn_int8 import saturate

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa


class LSTMBasic(KernelSpec):
    """One step of `litejit.ops.lstm_basic`.

    Arguments: x, activation, weights [4 * width, inputs + width], bias, state, then the outputs:
    activation, state, joined rows, gates; numbers: inputs, width, and for uint8 the weights' zero
    point, multiplier, left and right shift. Activation and state take the new values, too. A work
    item is a batch.
    """

    is_float: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Joined row, gates, cells."""
        code, wide, total = (f32, f32, f32) if self.is_float else (u8, i16, i32)
        operands = {
            "x": code, "activation": code, "weights": code, "bias": total, "state": wide,
            "y": code, "new_state": wide, "joined": code, "gates": wide,
        }  # fmt: skip
        numbers = ("inputs", "width", "zero", "m", "left", "right")
        fn = Function(
            name, isa, **{k: Ptr(t) for k, t in operands.items()}, **dict.fromkeys(numbers, i64)
        )
        p = dict(zip(operands, fn.args, strict=False))
        n = dict(zip(numbers, fn.args[len(operands) :], strict=True))
        inputs, width, size = n["inputs"], n["width"], code.bits // 8
        lanes = isa.lanes(total)
        with fn.loop(fn.end, start=fn.begin) as batch:
            rows = dict(p)
            for word in ("activation", "state", "y", "new_state"):
                rows[word] = p[word] + batch * width
            rows["gates"] = p["gates"] + batch * width * 4
            joined = rows["joined"] = p["joined"] + batch * (inputs + width)
            source = p["x"] + batch * inputs
            for part, to, count in (
                (source, joined, inputs), (rows["activation"], joined + inputs, width),
            ):  # fmt: skip
                copy_bytes(fn, part.cast(i8), to.cast(i8), count * size)
            with fn.loop(width) as j:
                for g, value in enumerate(self._gates(fn, rows, n, total, j)):
                    rows["gates"][width * g + j] = value
            with fn.loop(width, step=lanes) as at:
                self._cells(rows, width, at, fn.first(width - at, lanes))
        return fn.ir()

    def _gates(
        self, fn: Function, rows: dict[str, Pointer], n: dict[str, Value], total: Type, j: Value
    ) -> list[Value]:
        """Input, update, forget and output gate of cell j, before their functions."""
        lanes, width, depth = fn.isa.lanes(total), n["width"], n["inputs"] + n["width"]
        sums = [fn.const(0, total * lanes)] * 4
        zero = n["zero"].to(i32).splat(lanes)
        with fn.loop(depth, step=lanes, carry=sums) as k:
            mask = fn.first(depth - k, lanes)
            x = rows["joined"].load(k, lanes=lanes)
            x = mask.choose(x if self.is_float else x.to(i32) - 128, 0)
            for g in range(4):
                w = rows["weights"].load((width * g + j) * depth + k, lanes=lanes)
                if self.is_float:
                    sums[g] = fn.fma(x, mask.choose(w, 0.0), sums[g])
                else:
                    sums[g] = sums[g] + x * (w.to(i32) - zero)
        made = [fn.reduce("add", s) + rows["bias"][width * g + j] for g, s in enumerate(sums)]
        if self.is_float:
            return made
        factors = n["m"], n["left"], n["right"]
        return [saturate(multiplied(value.to(i64), *factors)).to(i16) for value in made]

    def _cells(self, rows: dict[str, Pointer], width: Value, at: Value, mask: Value) -> None:
        fn, lanes = mask.fn, mask.type.lanes
        parts = [rows["gates"].load(width * g + at, lanes=lanes) for g in range(4)]
        old = rows["state"].load(at, lanes=lanes, mask=mask)
        if self.is_float:
            i, f, o = (functions.logistic(parts[g]) for g in (0, 2, 3))
            new = i * functions.tanh(parts[1]) + f * old
            y = o * functions.tanh(new)
        else:
            gates = [part.to(i32) for part in parts]
            i, f, o = (rnn_fixed16.logistic(gates[g]) for g in (0, 2, 3))
            added = rnn_fixed16.halve(_times(i, rnn_fixed16.tanh(gates[1])), 4)
            total = saturate(added + _times(f, old.to(i32)))
            cell = rnn_fixed16.tanh(saturate(total * 2))
            scaled = rnn_fixed16.halve(_times(o, cell), 8)
            y = (fn.minimum(fn.maximum(scaled, -128), 127) + 128).to(u8)
            new = total.to(i16)
        for word, value in (("y", y), ("activation", y), ("new_state", new), ("state", new)):
            rows[word].store(at, value, mask=mask)


def _times(a: Value, b: Value) -> Value:
    """round(a * b / 2**15), ties up, of int16 values; saturated."""
    return a.fn.minimum((a * b + (1 << 14)) >> 15, 32767)
