"""RandomUniform, RandomUniformInt, RandomStandardNormal and Multinomial, as custom operators.

LiteRT draws these from the C++ library's default engine, whose numbers differ between platforms.
Here they come from Philox with the options' seeds; without seeds the sequence is always the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops import random
from litejit.ops.base import Arrays, Node, Types, builtin
from litejit.ops.counters import normals, unit_doubles, unit_floats
from litejit.ops.custom.options import CustomOp, Fields
from litejit.ops.indexing import shape_from
from litejit.record import Record
from litejit.types import F32, F64, I8, I32, I64, Array, DType


class SeedOptions(Record):
    """The two seeds; (0, 0) was replaced, because it stands for chance."""

    seed: int
    seed2: int

    __hash__ = object.__hash__


def _seeds(fields: Fields) -> SeedOptions:
    seeds = fields.integer("seed"), fields.integer("seed2")
    return SeedOptions(*(seeds if any(seeds) else (0, 1)))


class _Filling(CustomOp, random.Generating):
    """y of the shape that input 0 holds."""

    arity = (1, 3)
    dtypes: tuple[DType, ...] = (F32, F64)

    def read(self, fields: Fields) -> Any:
        return _seeds(fields)

    def infer(self, node: Node) -> Types:
        wanted, y = node.input(0), node.output(0)
        node.require_dtype(wanted, (I32, I64), "shape")
        node.require(wanted.rank == 1, f"shape must be a vector, got shape {wanted.dims}")
        node.require_dtype(y, self.dtypes, "output")
        self.start(node)
        if wanted.value is None:
            return [y.with_shape(None)]
        return [y.with_shape(self._shape(node, node.require, wanted.value))]

    @staticmethod
    def _shape(node: Node, refuse: Any, value: Array) -> tuple[int, ...]:
        return random.sized(node, refuse, shape_from(refuse, value))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        shape = self._shape(node, node.check, inputs[0])
        count = int(np.prod(shape, dtype=np.int64))
        bits = self.draw(node, -(-count // 2)).reshape(-1, 2)[:count]
        made: Array = self.numbers(node, bits, *inputs[1:])
        return made.astype(node.output(0).dtype.numpy).reshape(shape)

    def numbers(self, node: Node, bits: Array, *inputs: Any) -> Array:
        """One number for every two words of 32 bits."""
        raise NotImplementedError


@builtin("RandomUniform")
class RandomUniform(_Filling):
    """y = uniform in [0, 1), f32 or f64. Source: LiteRT tflite/kernels/random_uniform_custom.cc."""

    def numbers(self, node: Node, bits: Array, *inputs: Any) -> Array:
        if node.output(0).dtype == F32:
            return unit_floats(np.ascontiguousarray(bits[:, 0]))
        return unit_doubles(bits[:, 0], bits[:, 1])


@builtin("RandomUniformInt")
class RandomUniformInt(_Filling):
    """y = uniform between input 1 and input 2, both included: i8, i32 or i64.

    Source: LiteRT tflite/kernels/random_uniform_custom.cc.
    """

    arity = (3, 3)
    dtypes = (I8, I32, I64)

    def infer(self, node: Node) -> Types:
        for position in (1, 2):
            bound = node.input(position)
            node.require_dtype(bound, self.dtypes, f"input {position}")
            node.require(bound.size >= 1, f"input {position} is empty")
        return super().infer(node)

    def numbers(self, node: Node, bits: Array, *inputs: Any) -> Array:
        low, high = (int(bound.reshape(-1)[0]) for bound in inputs)
        node.check(low < high, f"bounds {low}, {high} do not ascend")
        wide = bits[:, 0].astype(np.uint64) << np.uint64(32) | bits[:, 1].astype(np.uint64)
        count = high - low + 1
        if count < 1 << 64:
            wide = wide % np.uint64(count)
        return np.asarray((wide + np.uint64(low & (1 << 64) - 1)).view(np.int64))


@builtin("RandomStandardNormal")
class RandomStandardNormal(_Filling):
    """y = standard normal, f32 or f64. Source: LiteRT kernels/random_standard_normal_custom.cc."""

    arity = (1, 1)

    def numbers(self, node: Node, bits: Array, *inputs: Any) -> Array:
        return normals(bits)[:, 0]


@builtin("Multinomial")
class Multinomial(CustomOp, random.Multinomial):
    """MULTINOMIAL as a custom operator, with f32 or f64 logits and a constant count.

    Source: LiteRT tflite/kernels/multinomial.cc.
    """

    logit_types = (F32, F64)

    def read(self, fields: Fields) -> Any:
        return _seeds(fields)
