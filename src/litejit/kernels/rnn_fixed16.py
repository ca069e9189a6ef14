"""Logistic function and tanh of int16 fixed-point numbers, in int32 lanes, bit for bit.

x is Qm.n with m + n = 15, the result Q0.15. `litejit.ops.fixed16` has the same arithmetic in
NumPy, and says where it is from; no product or sum here leaves 32 bits, and those that LiteRT
cuts to 16 bits fit these, so that nothing saturates.
"""

from __future__ import annotations

from litejit.codegen.lang import Value

ONE = 32767
_CENTER, _THIRD = 28918, 10923  # exp(-1/8), 1/3 in Q0.15
_48_17, _32_17 = 23130, -15420  # in Q2.13
# exponent e and exp(-2**e) in Q0.15
_BARREL = ((-2, 25520), (-1, 19875), (0, 12055), (1, 4435), (2, 600), (3, 11), (4, 0))


def _mul(a: Value, b: Value | int) -> Value:
    """round(a * b / 2**15), ties up."""
    return (a * b + (1 << 14)) >> 15


def halve(x: Value, exponent: int) -> Value:
    """round(x / 2**exponent), ties away from zero; exponent > 0."""
    return (x + (1 << (exponent - 1)) + (x >> 31)) >> exponent


def exp_on_negative_values(x: Value, integer_bits: int) -> Value:
    """exp(x) for x <= 0 with `integer_bits`; exactly 0 gives 2**15 - 1."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (x & (quarter - 1)) - quarter
    rest = part - x
    a = (part << integer_bits) + (1 << 12)
    a2 = _mul(a, a)
    a3, a4 = _mul(a2, a), _mul(a2, a2)
    tail = _mul(halve(a4, 2) + a3, _THIRD) + a2
    result = _mul(a + halve(tail, 1), _CENTER) + _CENTER
    for exponent, factor in _BARREL:
        if integer_bits > exponent:
            has = (rest & (1 << (fraction_bits + exponent))).differs(0)
            result = has.choose(_mul(result, factor), result)
    if integer_bits > 5:
        far = x < -(1 << (20 - integer_bits))
        result = far.choose(x.fn.const(0, x.type), result)
    return x.equals(0).choose(x.fn.const(ONE, x.type), result)


def _twice_reciprocal(a: Value) -> Value:
    """2 / (1 + a) in Q2.13 for a in [0, 1] in Q0.15."""
    half = (a + (ONE + 1)) >> 1
    x = _mul(half, _32_17) + _48_17
    for _ in range(3):
        x = x + (_mul(x, (1 << 13) - _mul(half, x)) << 2)
    return x


def logistic(x: Value, integer_bits: int = 3) -> Value:
    """1 / (1 + exp(-x)) in Q0.15, in i32 lanes."""
    fn = x.fn
    exponential = exp_on_negative_values(fn.minimum(x, -x), integer_bits)
    positive = fn.minimum(_twice_reciprocal(exponential) << 1, ONE)
    result = (x > 0).choose(positive, fn.const(ONE, x.type) - positive)
    return x.equals(0).choose(fn.const(1 << 14, x.type), result)


def tanh(x: Value, integer_bits: int = 3) -> Value:
    """tanh(x) in Q0.15, in i32 lanes."""
    fn = x.fn
    exponential = exp_on_negative_values(fn.minimum(x, -x), integer_bits + 1)
    size = fn.minimum((_twice_reciprocal(exponential) - (1 << 13)) << 2, ONE)
    result = (x < 0).choose(-size, size)
    return x.equals(0).choose(fn.const(0, x.type), result)
