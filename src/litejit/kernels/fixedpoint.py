"""LiteRT's fixed-point formulas in the kernel language: int64 values that hold int32 numbers.

Scalars and vectors alike. What each comes to, bit for bit, says its namesake in ops/fixedexp.py.
"""

from __future__ import annotations

from litejit.codegen.lang import Value, i1, i32, u64

HIGH = 2**31 - 1


def high_multiply(a: Value, b: Value | int) -> Value:
    """a * b / 2**31, rounded half up: what gemmlowp's high multiply comes to, in int64."""
    return (a * b + (1 << 30)) >> 31


def saturated(x: Value, left: Value | int) -> Value:
    """x * 2**left, clamped to int32."""
    return x.fn.minimum(x.fn.maximum(x << left, -HIGH - 1), HIGH)


def divided_by_power(x: Value, count: Value | int) -> Value:
    """x / 2**count, rounded half away from zero."""
    e = x.fn.const(count, x.type)
    half = (x.fn.const(1, x.type) << e) >> 1
    ties = ((x < 0) & (e > 0)).to(x.type.scalar)
    return (x + half - ties) >> e


def leading_zeros(x: Value) -> Value:
    """Of 64 bits."""
    return x.fn.call(f"llvm.ctlz.{x.type.suffix}", x.type, x, x.fn.const(0, i1))


def _half_sum(a: Value, b: int) -> Value:
    """(a + b) / 2, half away from zero."""
    total = a + b
    return (total + 1 - (total < 0).to(a.type.scalar)) >> 1


def one_over_one_plus(a: Value) -> Value:
    """1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31: three Newton steps."""
    half = _half_sum(a, HIGH)
    y = high_multiply(half, -1010580540) + 1515870810
    for _ in range(3):
        rest = a.fn.const(1 << 29, a.type) - high_multiply(half, y)
        y = y + saturated(high_multiply(y, rest), 2)
    return saturated(y, 1)


def reciprocal(x: Value, integer_bits: int) -> tuple[Value, Value]:
    """1 / x for raw x >= 1 with `integer_bits`: (Q0.31, bits of x over 1)."""
    zeros = leading_zeros(x)
    lanes = x.type.lanes
    normal = ((x << zeros).bitcast(u64 * lanes) >> 32).to(x.type.scalar)
    over = x.fn.const(integer_bits + 32, x.type) - zeros
    return one_over_one_plus(normal - (1 << 31)), over


def log_of_sum(z: Value) -> Value:
    """log(x) in Q5.26 for x >= 1 in Q12.19 (raw values below 2**31)."""
    fn = z.fn
    sqrt_half, root, quarter = 1518500250, 1805811301, 1 << 23
    twelve = fn.const(12, z.type)
    headroom = leading_zeros(z) - 32
    r_a = saturated(high_multiply(saturated(z, headroom - 1), sqrt_half), 1)
    power_a = fn.minimum(saturated(twelve - headroom, 25) + quarter, HIGH)
    headroom_b = leading_zeros(high_multiply(z, sqrt_half)) - 33
    r_b = saturated(z, headroom_b)
    power_b = fn.maximum(saturated(twelve - headroom_b, 25) - quarter, -HIGH - 1)
    r, power = fn.minimum(r_a, r_b), fn.maximum(power_a, power_b)
    p, q = _half_sum(r, root), (r - root) << 1
    square = high_multiply(q, q)
    numerator = high_multiply(q, r) + high_multiply(high_multiply(q, square), 117049297)
    denominator = high_multiply(p, q + 1057819769 + high_multiply(square, 127690142))
    denominator = denominator + high_multiply(q, 638450708)
    inverse = one_over_one_plus(denominator)
    scaled = high_multiply(divided_by_power(numerator, 6), inverse)
    return saturated(high_multiply(power, 1488522236) + scaled, 1)


def inverse_sqrt(value: Value) -> tuple[Value, Value]:
    """1 / sqrt(value) as (multiplier, left shift <= 0), for 2 <= value < 2**31."""
    fn = value.fn
    pairs = ((leading_zeros(value) - 33) >> 1) - 1  # -1: two bits are dropped first
    dropped = (pairs < 0).to(value.type.scalar)
    kept = (value >> (dropped << 1)) << (fn.maximum(pairs, 0) << 1)
    half = divided_by_power(kept >> 1, 1)
    x = fn.const(1 << 28, value.type)
    for _ in range(5):
        cube = saturated(high_multiply(high_multiply(x, x), x), 6)
        x = saturated(high_multiply(x, (1 << 28) + (1 << 27)) - high_multiply(half, cube), 3)
    shift = pairs - 11
    return high_multiply(x, 1518500250) << fn.maximum(shift, 0), fn.minimum(shift, 0)


def multiplied(x: Value, m: Value, left: Value | int, right: Value | int) -> Value:
    """x * m * 2**(left - right - 31) with two roundings; x << left wraps at 32 bits."""
    moved = (x << left).to(i32).to(x.type.scalar)
    return divided_by_power(high_multiply(moved, m), right)
