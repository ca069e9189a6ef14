"""Random numbers by Philox 4x32-10: `litejit.ops.counters`, eight blocks side by side or more.

A generator is four u64 numbers in memory: the key (its two halves count apart), the counter's
lower and upper 64 bits, and a spare one.
"""

from __future__ import annotations

import math

from litejit.codegen import math as functions
from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Value, f32, f64, i32, i64, u32, u64
from litejit.kernels.base import KernelSpec

_LOW = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


def blocks(generator: Pointer, first: Value, lanes: int) -> list[Value]:
    """The four words (u64) of blocks `first` ... counted from where the generator stands."""
    fn = generator.fn
    ramp = fn.vector(u64, range(lanes)) if lanes > 1 else fn.const(0, u64)
    low = (generator[1] + first.to(u64)).splat(lanes) + ramp
    high = (generator[2].splat(lanes) + (low < generator[1].splat(lanes)).to(u64)).bitcast(low.type)
    keys = [generator[0] & _LOW, generator[0] >> 32]
    c = [low & _LOW, low >> 32, high & _LOW, high >> 32]
    for _ in range(10):
        products = [c[2 * k] * m for k, m in enumerate(_MULTIPLIERS)]
        c = [
            (products[1] >> 32) ^ c[1] ^ keys[0].splat(lanes), products[1] & _LOW,
            (products[0] >> 32) ^ c[3] ^ keys[1].splat(lanes), products[0] & _LOW,
        ]  # fmt: skip
        keys = [(key + step) & _LOW for key, step in zip(keys, _WEYL, strict=True)]
    return c


def _unit(word: Value) -> Value:
    """float32 in [0, 1)."""
    bits = (word & 0x7FFFFF) | (127 << 23)
    return bits.to(u32).bitcast(f32 * word.type.lanes) - 1.0


def _normals(a: Value, b: Value) -> list[Value]:
    """Two standard normal numbers of two words, by the transform of Box and Muller."""
    fn = a.fn
    length = fn.maximum(_unit(a), 1e-7)
    angle = (_unit(b).to(f64) * (2 * math.pi)).to(f32)
    radius = fn.sqrt(functions.log(length) * -2.0)
    return [functions.sin(angle) * radius, functions.cos(angle) * radius]


class RandomSpec(KernelSpec):
    """Words of a generator as numbers: "bits" (u32), "uniform" or "normal" (f32).

    Arguments: y, generator, count (of numbers). Items: blocks of four numbers.
    """

    kind: str

    def emit(self, name: str, isa: Isa) -> str:
        """A register of blocks at a time, written block by block."""
        element = u32 if self.kind == "bits" else f32
        fn = Function(name, isa, y=Ptr(element), generator=Ptr(u64), count=i64)
        y, generator, count = fn.args
        lanes = isa.lanes(i64)
        with fn.loop(fn.end, start=fn.begin, step=lanes) as block:
            words = blocks(generator, block, lanes)
            if self.kind == "bits":
                made = [word.to(u32) for word in words]
            elif self.kind == "uniform":
                made = [_unit(word) for word in words]
            else:
                made = [*_normals(*words[:2]), *_normals(*words[2:])]
            one = [j + k for j in range(lanes) for k in (0, lanes)]
            two = [2 * j + k for j in range(lanes) for k in (0, 1, 2 * lanes, 2 * lanes + 1)]
            pairs = [made[k].shuffle(one, made[k + 1]) for k in (0, 2)]
            left = fn.minimum(count, fn.end * 4) - block * 4
            y.store(block * 4, pairs[0].shuffle(two, pairs[1]), mask=fn.first(left, 4 * lanes))
        return fn.ir()


class AdvanceSpec(KernelSpec):
    """Move a generator on. Arguments: generator, blocks. One item."""

    def emit(self, name: str, isa: Isa) -> str:
        """A sum of 128 bits."""
        fn = Function(name, isa, generator=Ptr(u64), blocks=i64)
        generator, count = fn.args
        low = generator[1] + count.to(u64)
        generator[2] = generator[2] + (low < generator[1]).to(u64)
        generator[1] = low
        return fn.ir()


class MultinomialSpec(KernelSpec):
    """Classes drawn by their logits. Arguments: logits, bits (two u32 a draw), y, scratch, its
    stride (bytes), classes, samples. Items: rows.

    Logits that are not finite are never drawn; where none is finite, the number of classes is.
    """

    wide: bool  # y is int64, else int32

    def emit(self, name: str, isa: Isa) -> str:
        """Running sums of the odds; a draw is the number of sums that it reaches."""
        element = i64 if self.wide else i32
        fn = Function(
            name, isa, logits=Ptr(f32), bits=Ptr(u32), y=Ptr(element), scratch=Ptr(f64),
            stride=i64, classes=i64, samples=i64,
        )  # fmt: skip
        logits, bits, y, scratch, stride, classes, samples = fn.args
        sums = scratch + fn.worker * (stride / 8)
        least = -3.4028234663852886e38
        with fn.loop(fn.end, start=fn.begin) as row:
            own = logits + row * classes
            top = [fn.const(least, f32)]
            with fn.loop(classes, carry=top) as c:
                top[0] = fn.maximum(top[0], _is_finite(own[c]).choose(own[c], least))
            total = [fn.const(0.0, f64)]
            with fn.loop(classes, carry=total) as c:
                odds = functions.exp64(own[c].to(f64) - top[0].to(f64))
                total[0] = total[0] + _is_finite(own[c]).choose(odds, 0.0)
                sums[c] = total[0]
            with fn.loop(samples) as k:
                draw = row * samples + k
                high, low = (bits[draw * 2 + j].to(u64) for j in (0, 1))
                word = ((high & 0xFFFFF) << 32) | low | (1023 << 52)
                place = (word.bitcast(f64) - 1.0) * total[0]
                count = [fn.const(0, i64)]
                with fn.loop(classes, carry=count) as c:
                    count[0] = count[0] + (sums[c] <= place).to(i64)
                y[draw] = count[0].to(element)
        return fn.ir()


def _is_finite(x: Value) -> Value:
    return x.fn.absolute(x) < math.inf
