"""RANDOM_UNIFORM, RANDOM_STANDARD_NORMAL, MULTINOMIAL, STABLEHLO_RNG_BIT_GENERATOR."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from litejit.model.options.control import RandomOptions
from litejit.model.options.stablehlo import RngAlgorithm, StablehloRngBitGeneratorOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Operand, Types, builtin
from litejit.ops.counters import (
    counting,
    normals,
    philox,
    threefry,
    unit_doubles,
    unit_floats,
    words,
)
from litejit.ops.indexing import made, shape_from
from litejit.ops.resource import session_of
from litejit.types import F32, I32, I64, U32, U64, Array, DType, TensorType

MOST = 1 << 31  # elements that an operator may make
_LOW64 = (1 << 64) - 1


def sized(node: Node, refuse: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape`, refused where it holds more elements than any tensor can."""
    count = 1
    for n in shape:
        count *= n
    refuse(count < MOST, f"result {shape} has {count} elements, at most {MOST - 1} can be made")
    return shape


def _int32(seed: int) -> int:
    """What LiteRT keeps of a seed: its low 32 bits, as a signed number."""
    return (seed + (1 << 31)) % (1 << 32) - (1 << 31)


class Generating(Op):
    """Draws from Philox; where a generator stands is kept between runs, until it is prepared.

    Two seeds of 0 stand for seeds that nobody can guess.
    """

    options = RandomOptions
    is_pure = False

    def start(self, node: Node) -> None:
        """Begin the sequence anew."""
        seeds = _int32(node.options.seed), _int32(node.options.seed2)
        if seeds == (0, 0):
            fresh = os.urandom(16)
            seeds = int.from_bytes(fresh[:8], "little"), int.from_bytes(fresh[8:], "little")
        key, (low, high) = words(seeds[0], 2), (0, seeds[1] & _LOW64)
        fresh_state = np.array([key[0] | key[1] << 32, low, high, 0], np.uint64)
        session = session_of(node)
        if id(node.options) not in session.generators:
            session.generators[id(node.options)] = session.kept(fresh_state)
        self.generator(node)[...] = fresh_state

    def generator(self, node: Node) -> Array:
        """Key, lower and upper half of the counter, and 0: uint64, which kernels may share."""
        found: Array = session_of(node).generators[id(node.options)]
        return found

    def draw(self, node: Node, blocks: int, *, skip: int | None = None) -> Array:
        """The next blocks, uint32 [blocks, 4]; `skip` of them count as drawn (default: all)."""
        state = self.generator(node)
        key, position = words(int(state[0]), 2), int(state[2]) << 64 | int(state[1])
        after = position + (blocks if skip is None else skip)
        state[1:3] = after & _LOW64, after >> 64 & _LOW64
        return philox((key[0], key[1]), counting(words(position, 4), blocks, carry=4))

    def lower_draw(
        self, node: Node, steps: Lowering, kind: str, y: Operand, count: int, *, skip: int
    ) -> None:
        """Kernels that write `count` numbers, and count `skip` blocks as drawn."""
        from litejit.kernels.philox import AdvanceSpec, RandomSpec

        generator, blocks = steps.persistent(self.generator(node)), -(-count // 4)
        cost = 20 + count * (6.0 if kind == "normal" else 1.5)
        steps.call(RandomSpec(kind), y, generator, count, items=blocks, cost_ns=cost, grain=64)
        steps.call(AdvanceSpec(), generator, skip, items=1, cost_ns=2.0)


def _wanted(node: Node) -> TensorType:
    shape = node.input(0)
    node.require_dtype(shape, (I32,), "shape")
    node.require(shape.rank == 1, f"shape must be a vector, got shape {shape.dims}")
    return shape


class _Filling(Generating):
    """y of the shape that input 0 holds, float32."""

    kind: str

    def infer(self, node: Node) -> Types:
        wanted = _wanted(node)
        self.start(node)
        if wanted.value is None:
            return [made(node, None, F32)]
        shape = sized(node, node.require, shape_from(node.require, wanted.value))
        return [made(node, shape, F32)]

    def lower(self, node: Node, steps: Lowering) -> None:
        count = node.output(0).size
        self.lower_draw(node, steps, self.kind, steps.outputs[0], count, skip=-(-count // 4))

    def filled(self, node: Node, wanted: Array, per_block: Any) -> Array:
        shape = sized(node, node.check, shape_from(node.check, wanted))
        count = int(np.prod(shape, dtype=np.int64))
        result: Array = per_block(self.draw(node, -(-count // 4)))[:count].reshape(shape)
        return result


@builtin("RANDOM_UNIFORM")
class RandomUniform(_Filling):
    """y = float32 in [0, 1), Philox 4x32-10 with key seed and counter seed2.

    The same numbers as LiteRT's for the same seeds. Source: LiteRT tflite/kernels/random_ops.cc.
    """

    kind = "uniform"

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        return self.filled(node, inputs[0], lambda bits: unit_floats(bits).reshape(-1))


@builtin("RANDOM_STANDARD_NORMAL")
class RandomStandardNormal(_Filling):
    """y = standard normal float32 (Box-Muller), Philox 4x32-10 with key seed and counter seed2.

    Source: LiteRT tflite/kernels/random_ops.cc.
    """

    kind = "normal"

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        return self.filled(node, inputs[0], lambda bits: normals(bits.reshape(-1, 2)).reshape(-1))


@builtin("MULTINOMIAL")
class Multinomial(Generating):
    """y[b, k] = class drawn with probability proportional to e^logits[b]: int32 or int64.

    Infinite and NaN logits are never drawn. Every run takes blocks for 256 times as many draws
    as it makes. Source: LiteRT tflite/kernels/random_ops.cc.
    """

    arity = (2, 2)
    logit_types: tuple[DType, ...] = (F32,)

    def infer(self, node: Node) -> Types:
        logits, count, y = node.input(0), node.input(1), node.output(0)
        node.require_dtype(logits, self.logit_types, "logits")
        node.require_dtype(count, (I32,), "number of samples")
        node.require_dtype(y, (I32, I64), "output")
        node.require(logits.rank == 2, f"logits must be a matrix, got shape {logits.dims}")
        node.require(logits.dims[1] > 0, "logits have no classes")
        node.require(count.rank == 0, f"number of samples has shape {count.dims}, expected ()")
        self.start(node)
        if count.value is None:
            return [y.with_shape(None)]
        samples = int(count.value)
        node.require(samples >= 0, f"number of samples is {samples}")
        return [y.with_shape(sized(node, node.require, (logits.dims[0], samples)))]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        logits, count = inputs
        batch, samples = len(logits), int(count)
        node.check(samples >= 0, f"number of samples is {samples}")
        sized(node, node.check, (batch, samples))
        blocks = -(-batch * samples // 2)
        bits = self.draw(node, blocks, skip=_skipped(batch, samples))
        pairs = bits.reshape(-1, 2)[: batch * samples]
        places = unit_doubles(pairs[:, 0], pairs[:, 1]).reshape(batch, samples)
        result = np.empty((batch, samples), node.output(0).dtype.numpy)
        for row, place, out in zip(logits, places, result, strict=True):
            finite = np.isfinite(row)
            top = np.max(row, where=finite, initial=np.finfo(logits.dtype).min)
            odds = np.where(finite, np.exp(row.astype(np.float64) - float(top)), 0.0)
            total = np.add.accumulate(odds)
            out[:] = np.searchsorted(total, place * total[-1], side="right")
        return result

    def lower(self, node: Node, steps: Lowering) -> None:
        """Random words, then a kernel that draws; of float32 logits."""
        from litejit.kernels.philox import MultinomialSpec

        logits, y = node.input(0), node.output(0)
        (batch, classes), samples, x = logits.dims, y.dims[1], steps.inputs[0]
        if logits.dtype != F32 or x is None:
            return
        bits, stride = steps.temporary(8 * y.size + 64), -(-classes // 8) * 64
        self.lower_draw(node, steps, "bits", bits, 2 * y.size, skip=_skipped(batch, samples))
        steps.call(
            MultinomialSpec(y.dtype == I64), x, bits, steps.outputs[0], steps.scratch(stride),
            stride, classes, samples, items=batch,
            cost_ns=20 + batch * classes * (20.0 + samples),
        )  # fmt: skip


def _skipped(batch: int, samples: int) -> int:
    """Blocks that LiteRT keeps for so many draws."""
    return batch * (-(-samples // 4) * 4) * 2 * 256


_BLOCKS = {RngAlgorithm.THREEFRY: (threefry, 2), RngAlgorithm.PHILOX: (philox, 4)}


@builtin("STABLEHLO_RNG_BIT_GENERATOR")
class RngBitGenerator(Op):
    """(state, bits) from a state: u64[2] (Threefry 2x32), u64[2] or u64[3] (Philox 4x32).

    The first word is the key, the second the counter, the third (or the key) the counter's
    upper half. Bits are int32, uint32, int64 or uint64 of the shape that the file declares.
    Source: LiteRT tflite/kernels/rng_bit_generator.cc.
    """

    options = StablehloRngBitGeneratorOptions
    results = (2, 2)

    def infer(self, node: Node) -> Types:
        state, bits = node.input(0), node.output(1)
        node.require_dtype(state, (U64,), "state")
        node.require_dtype(bits, (I32, I64, U32, U64), "output 1")
        sizes = ((2,),) if self._algorithm(node) is RngAlgorithm.THREEFRY else ((2,), (3,))
        node.require(state.dims in sizes, f"state has shape {state.dims}")
        sized(node, node.require, bits.dims)
        return [made(node, state.dims, U64), bits.with_shape(bits.dims)]

    @staticmethod
    def _algorithm(node: Node) -> RngAlgorithm:
        kind = node.options.algorithm
        if kind == RngAlgorithm.DEFAULT:
            return RngAlgorithm.PHILOX
        node.require(kind in tuple(_BLOCKS), f"no random algorithm {kind}")
        return RngAlgorithm(kind)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        state, out = inputs[0], node.output(1)
        make, width = _BLOCKS[self._algorithm(node)]
        halves = [int(n) for n in np.ascontiguousarray(state).view(np.uint32)]
        start = tuple(halves[2:4]) if width == 2 else (*halves[2:4], *(*halves[4:6], *halves)[:2])
        need = out.size * (out.dtype.itemsize // 4)
        count = -(-need // width)
        # the counter is 64 bits wide: its upper half stays as it is
        bits = make((halves[0], halves[1]), counting(start, count, carry=2))
        after = state.copy()
        after[1] = np.uint64((int(state[1]) + count) & 0xFFFFFFFFFFFFFFFF)
        return after, bits.reshape(-1)[:need].view(out.dtype.numpy).reshape(out.dims)
