"""SVDF: a dense layer of low rank in time, with a memory of its last features.

The memory moves one place, takes feature = W_f x as its newest entry, and
y = act(sum over rank of dot(memory, w_t) + bias).
Source: LiteRT tflite/kernels/svdf.cc, internal/reference/svdf.h; tflite-micro
kernels/svdf_common.cc (int8 memory).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options import Activation, SVDFOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.fixedpoint import (
    mbqm,
    quantize_multiplier,
    require_multiplier,
    require_scale,
    type_range,
    wrap32,
)
from litejit.ops.hybrid import apply_activation
from litejit.ops.lstm_cell import fitted, require_state
from litejit.ops.lstm_float import Rows
from litejit.record import Record
from litejit.types import F32, I8, I16, I32, U8, Array

F = np.float32


class Scales(Record):
    """Multipliers from the feature's sum to the memory, and from the time's sum to the output."""

    feature: tuple[int, int]
    time: tuple[int, int]


def scales(node: Node) -> Scales:
    """Of an int8 SVDF; products and quotients are float32."""
    x, feature, time, state = (F(node.input(i).scale) for i in (0, 1, 2, 4))
    with np.errstate(all="ignore"):
        reals = float(x * feature / state), float(state * time / F(node.output(0).scale))
    for real in reals:
        require_multiplier(node, real)
    return Scales(quantize_multiplier(reals[0]), quantize_multiplier(reals[1]))


@builtin("SVDF", versions=range(1, 5))
class SVDF(Op):
    """x [batch, inputs] to [batch, filters / rank]; the memory is [batch, filters * times].

    f32; f32 with int8 | uint8 weights (hybrid); int8 with an int16 memory and int16 time
    weights (or both int8), RELU, which the output's quantization has to bring about.
    """

    options = SVDFOptions
    arity = (5, 5)
    optional = frozenset((3,))
    mutates = (4,)
    is_pure = False
    needs_relu: ClassVar[bool] = True  # of int8

    def states(self, node: Node) -> dict[int, tuple[int, ...]]:
        """Of the input's batch."""
        return fitted({4: node.optional(4)}, node.optional(0), time_major=False)

    def infer(self, node: Node) -> Types:
        """[batch, units]."""
        x, feature, time = (node.input(i) for i in range(3))
        bias, state = node.optional(3), node.input(4)
        for tensor, what in ((x, "input"), (feature, "weights_feature"), (time, "weights_time")):
            node.require(tensor.rank == 2, f"{what} has shape {tensor.shape}, expected rank 2")
        (batch, inputs), (filters, width), rank = x.dims, feature.dims, node.options.rank
        node.require(rank > 0 and filters % rank == 0, f"rank {rank} does not divide {filters}")
        units = filters // rank
        node.require(width == inputs, f"weights take {width} inputs, the input has {inputs}")
        rows, times = time.dims
        node.require(rows == filters and times > 0, f"weights_time has shape {time.shape}")
        shape = (batch, times * filters)
        require_state(node, state, "state")
        node.require(state.shape == shape, f"state has shape {state.shape}, expected {shape}")
        if bias is not None:
            node.require(bias.shape == (units,), f"bias has shape {bias.shape}, expected {units}")
        self._check_types(node)
        return [node.output(0).with_shape((batch, units))]

    def _check_types(self, node: Node) -> None:
        x, feature, time, state = (node.input(i) for i in (0, 1, 2, 4))
        bias, integer = node.optional(3), x.dtype == I8
        node.require_dtype(x, (F32, I8), "input")
        node.require_dtype(feature, (I8, U8) if integer else (F32, I8, U8), "weights_feature")
        node.require_dtype(node.output(0), (x.dtype,), "output")
        if bias is not None:
            node.require_dtype(bias, (I32 if integer else F32,), "bias")
        if not integer:
            hybrid = feature.dtype != F32
            node.require_dtype(time, (I8, U8) if hybrid else (F32,), "weights_time")
            node.require_dtype(state, (F32,), "state")
            return
        node.require_dtype(time, (I16, I8), "weights_time")
        node.require_dtype(state, (time.dtype,), "state")
        activation = node.options.activation
        ok = activation == Activation.RELU or not self.needs_relu
        node.require(ok, f"activation is {activation!r}, expected RELU")
        for i, what in enumerate(("input", "weights_feature", "weights_time", "", "state")):
            if what:
                least = 0.0 if what.startswith("weights") else 1e-45
                require_scale(node, node.input(i), what, smallest=least)
        require_scale(node, node.output(0), "output")
        scales(node)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """One step."""
        x, feature, time, bias, state = inputs
        memory = state.reshape(len(x), len(feature), time.shape[1])
        memory[:, :, :-1] = memory[:, :, 1:].copy()
        if x.dtype == np.int8:
            return self._integer(node, inputs, memory)
        rows = Rows(x, asymmetric=bool(node.options.asymmetric_quantize_inputs))
        memory[:, :, -1] = rows.times(feature, node.input(1).scale)
        if time.dtype != F:
            time = time.view(np.int8) * F(node.input(2).scale)
        total = self._reduce(node, (memory * time).sum(axis=2, dtype=F))
        if bias is not None:
            total = total + bias
        return apply_activation(total, node.options.activation)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A kernel for floats and one for integers."""
        from litejit.ops.rnn_lowering import lower_svdf

        lower_svdf(node, steps, scales(node) if node.input(0).dtype == I8 else None)

    def _integer(self, node: Node, inputs: tuple[Any, ...], memory: Array) -> Array:
        x, feature, time, bias, _ = inputs
        made, zero = scales(node), node.input(4).zero_point
        if node.input(4).dtype == I16:
            zero = 0  # LiteRT takes an int16 memory for symmetric
        centred = x.astype(np.float64) - node.input(0).zero_point
        sums = (centred @ feature.view(np.int8).astype(np.float64).T).astype(np.int64)
        low, high = type_range(node.input(4).dtype)
        memory[:, :, -1] = zero + np.clip(mbqm(wrap32(sums), *made.feature), low, high)
        products = (memory.astype(np.int64) - zero) * time
        total = self._reduce(node, products.sum(axis=2))
        if bias is not None:
            total = total + bias
        y = mbqm(wrap32(total), *made.time) + node.output(0).zero_point
        result: Array = np.clip(y, -128, 127).astype(np.int8)
        return result

    def _reduce(self, node: Node, filters: Array) -> Array:
        rank = node.options.rank
        total: Array = filters.reshape(len(filters), -1, rank).sum(axis=2, dtype=filters.dtype)
        return total
