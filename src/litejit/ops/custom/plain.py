"""Small custom operators: Table, Roll, NumericVerify, a rotation, gradient axes, a GRU, twins."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops.arithmetic import Atan2
from litejit.ops.base import Arrays, Node, Types, builtin
from litejit.ops.custom.options import CustomOp, Fields
from litejit.ops.fixedpoint import require_scale
from litejit.ops.floats import widen
from litejit.ops.indexing import made, normal_axis
from litejit.ops.lut import interpolate
from litejit.ops.resource import Hashtable, HashtableFind, HashtableImport, HashtableSize
from litejit.ops.unary import Sign
from litejit.record import Record
from litejit.types import (
    BOOL,
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    Array,
    DType,
)

builtin("Sign")(Sign)
builtin("Atan2")(Atan2)
builtin("LookupTableFindV2")(HashtableFind)
builtin("LookupTableImportV2")(HashtableImport)
builtin("LookupTableSizeV2")(HashtableSize)


class _TableOptions(Record):
    table_id: int
    key_dtype: DType
    value_dtype: DType


_LITE_TYPES = {1: F32, 2: I32, 3: U8, 4: I64, 5: STRING, 6: BOOL, 7: I16, 9: I8}
# numbers of TfLiteType, which differ from the schema's


@builtin("HashTableV2")
class HashTableV2(CustomOp, Hashtable):
    """HASHTABLE with its options in a FlexBuffer: table_id, key_dtype, value_dtype."""

    def read(self, fields: Fields) -> Any:
        key, value = fields.integer("key_dtype"), fields.integer("value_dtype")
        known = _LITE_TYPES.get(key, F32), _LITE_TYPES.get(value, F32)
        return _TableOptions(fields.integer("table_id"), *known)


@builtin("Table")
class Table(CustomOp):
    """y = the table's entry for x: i8 (256 entries, by the bits of x) or i16 (513, between two).

    Source: LiteRT tflite/kernels/table.cc.
    """

    arity = (2, 2)

    def infer(self, node: Node) -> Types:
        x, table, y = node.input(0), node.input(1), node.output(0)
        node.require_dtype(x, (I8, I16), "input")
        node.require_dtype(table, (x.dtype,), "table")
        zero = x.zero_point == y.zero_point == 0
        node.require(x.dtype == I8 or zero, "zero points of int16 must be 0")
        size = 256 if x.dtype == I8 else 513
        node.require(table.dims == (size,), f"table has shape {table.dims}, expected ({size},)")
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, table = inputs
        if x.dtype == np.int8:
            return np.asarray(table[x.view(np.uint8)])
        return interpolate(table, x).astype(np.int16)


@builtin("Roll")
class Roll(CustomOp):
    """y = x with its elements moved on by shifts (input 1) along axes (input 2), around the end.

    Shifts along one axis add up. Source: LiteRT tflite/kernels/roll.cc.
    """

    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        x, shift, axis = node.input(0), node.input(1), node.input(2)
        node.require_dtype(x, (F32, I32, I64, I8, I16, U8, BOOL, STRING), "input")
        for tensor, what in ((shift, "shift"), (axis, "axis")):
            node.require_dtype(tensor, (I32, I64), what)
            node.require(tensor.rank <= 1, f"{what} has shape {tensor.dims}")
        node.require(shift.size == axis.size, f"{shift.size} shifts for {axis.size} axes")
        return [made(node, x.dims, x.dtype)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, shifts, axes = inputs
        total = [0] * x.ndim
        for shift, axis in zip(shifts.reshape(-1), axes.reshape(-1), strict=True):
            total[normal_axis(node.check, int(axis), x.ndim)] += int(shift)
        result: Array = x.copy()
        for axis, shift in enumerate(total):
            if x.shape[axis]:
                result = np.roll(result, shift % x.shape[axis], axis)
        return result


class _VerifyOptions(Record):
    tolerance: float
    log_if_failed: bool


@builtin("NumericVerify")
class NumericVerify(CustomOp):
    """y = dequantized x - reference: (u8 | i8 | i16 | f16), f32 -> f32.

    With log_if_failed and a tolerance of at least 0.1 a difference beyond tolerance * scale ends
    the run. Source: LiteRT tflite/kernels/numeric_verify.cc.
    """

    arity = (2, 2)

    def read(self, fields: Fields) -> Any:
        tolerance = float(np.float32(fields.real("tolerance")))
        return _VerifyOptions(tolerance, fields.flag("log_if_failed"))

    def infer(self, node: Node) -> Types:
        x, reference = node.input(0), node.input(1)
        node.require_dtype(x, (U8, I8, I16, F16), "input")
        node.require_dtype(reference, (F32,), "reference")
        ok = x.size == reference.size
        node.require(ok, f"input has shape {x.dims}, reference {reference.dims}")
        if x.dtype != F16:
            require_scale(node, x, "input")
        return [made(node, x.dims, F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, reference = inputs
        kind, o = node.input(0), node.options
        if kind.dtype == F16:
            numbers = widen(x, F16)
        else:
            numbers = (x.astype(np.float64) - kind.zero_point) * kind.scale
        difference = numbers.astype(np.float32) - reference.reshape(x.shape)
        if o.log_if_failed and o.tolerance >= np.float32(0.1):
            limit = np.float32(o.tolerance) * np.float32(kind.scale)
            beyond = np.abs(difference) > limit
            if beyond.any():
                place = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
                node.check(False, f"Mismatch: element {place} differs by {difference[place]}")
        return np.asarray(difference)


class _RotationOptions(Record):
    size: int


@builtin("aeq.hadamard_rotation")
class HadamardRotation(CustomOp):
    """y = x with each run of hadamard_size features rotated by a Hadamard matrix / sqrt(size).

    x: f32 [features, n] or [batch, features, n]; what is left of a row is not rotated.
    Source: LiteRT tflite/kernels/hadamard_rotation.cc.
    """

    def read(self, fields: Fields) -> Any:
        return _RotationOptions(fields.integer("hadamard_size"))

    def infer(self, node: Node) -> Types:
        x, size = node.input(0), node.options.size
        node.require_dtype(x, (F32,), "input")
        node.require(x.rank in (2, 3), f"input must have 2 or 3 dimensions, got shape {x.dims}")
        ok = size > 0 and size & (size - 1) == 0
        node.require(ok, f"hadamard_size {size} is no power of 2")
        return [made(node, x.dims, F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, size = inputs[0], node.options.size
        result: Array = x.copy()
        if not x.size:
            return result
        count = x.size // x.shape[-1] * (x.shape[-1] // size) * size
        part = result.reshape(-1)[:count].reshape(-1, size)
        step = 1
        while step < size:
            pairs = part.reshape(-1, size // (2 * step), 2, step)
            part = np.stack(
                [pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2
            ).reshape(-1, size)
            step *= 2
        result.reshape(-1)[:count] = (part * np.float32(1 / np.sqrt(np.float32(size)))).reshape(-1)
        return result


@builtin("BroadcastGradientArgs")
class BroadcastGradientArgs(CustomOp):
    """For two shapes, the axes of their broadcast that each one's gradient is summed along.

    Source: LiteRT tflite/kernels/gradient/bcast_grad_args.cc.
    """

    arity = (2, 2)
    results = (2, 2)

    def infer(self, node: Node) -> Types:
        a, b = node.input(0), node.input(1)
        node.require_dtype(a, (I32, I64), "shape 0")
        node.require_dtype(b, (a.dtype,), "shape 1")
        node.require(a.rank == b.rank == 1, f"shapes {a.dims}, {b.dims} must be vectors")
        return [made(node, None, a.dtype), made(node, None, a.dtype, position=1)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        a, b = ([int(n) for n in shape] for shape in inputs)
        rank = max(len(a), len(b))
        kind = inputs[0].dtype
        if a == b:
            return np.zeros(0, kind), np.zeros(0, kind)
        sides = [[1] * (rank - len(shape)) + shape for shape in (a, b)]
        fits = all(m == n or 1 in (m, n) for m, n in zip(*sides, strict=True))
        node.check(fits, f"shapes {a} and {b} do not broadcast")
        axes = [np.array([k for k, n in enumerate(side) if n == 1], kind) for side in sides]
        return axes[0], axes[1]


@builtin("UnidirectionalSequenceGru")
class UnidirectionalSequenceGru(CustomOp):
    """(all outputs, the last one): h = (1 - u) tanh(c) + u h for every step of x. f32.

    Inputs: x [time, batch, n], h [batch, m], gate weights [2 m, n + m] and bias (r, then u),
    candidate weights [m, n + m] and bias. r, u = sigmoid(W [x h] + b); c = W [x (r h)] + b.
    Source: LiteRT tflite/kernels/unidirectional_sequence_gru.cc, gru_cell.cc.
    """

    arity = (6, 6)
    results = (2, 2)

    def infer(self, node: Node) -> Types:
        x, state = node.input(0), node.input(1)
        node.require(x.rank == 3, f"input must have 3 dimensions, got shape {x.dims}")
        node.require(state.rank == 2, f"state must have 2 dimensions, got shape {state.dims}")
        (time, batch, count), units = x.dims, state.dims[1]
        shapes = (
            *(x.dims, (batch, units), (2 * units, count + units), (2 * units,)),
            *((units, count + units), (units,)),
        )
        for position, shape in enumerate(shapes):
            tensor = node.input(position)
            node.require_dtype(tensor, (F32,), f"input {position}")
            ok = tensor.dims == shape
            node.require(ok, f"input {position} has shape {tensor.dims}, expected {shape}")
        return [
            made(node, (time, batch, units), F32),
            made(node, (batch, units), F32, position=1),
        ]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, h, gates, gate_bias, candidate, bias = inputs
        units = h.shape[1]
        result = np.empty(node.output(0).dims, np.float32)
        one = np.float32(1)
        with np.errstate(all="ignore"):
            for step, part in enumerate(x):
                both = np.concatenate([part, h], axis=1) @ gates.T + gate_bias
                both = one / (one + np.exp(-both))
                r, u = both[:, :units], both[:, units:]
                c = np.concatenate([part, h * r], axis=1) @ candidate.T + bias
                h = (one - u) * np.tanh(c) + u * h
                result[step] = h
        return result, np.array(h, np.float32)
