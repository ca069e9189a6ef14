"""Elementary functions of float32 values, in the kernel language.

Every function takes and returns a `Value` of f32, scalar or vector, calls no library, and is
right at NaN, infinities, zeros and denormals. Errors are relative to the true value of the
float32 argument; `tests/codegen/test_math.py` measures them on every instruction set.
The polynomials are minimax fits made for these intervals (Lawson's iteration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from litejit.codegen.lang import Operand, Value, f16, f32, f64, i1, i32, i64, u16, u32, u64

_ROUND32 = 12582912.0  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
_ROUND64 = 6755399441055744.0  # 1.5 * 2**52
_ROUND32_BITS = 0x4B400000
_LN2_HIGH = 0.693359375  # 10 bits: its product with an exponent is exact
_LN2_LOW = -2.12194440e-4
_SQRT_HALF_BITS = 0x3F3504F3
_SQRT_HALF_BITS64 = 0x3FE6A09E667F3BCD

# (e**r - 1 - r) / r**2 on +-ln(2)/2
_EXP = (0.5, 0.16666667, 0.041666355, 0.0083332732, 0.0013941103, 0.00019914302)
_TAYLOR = tuple(1 / math.factorial(k) for k in range(14))  # e**r, for float64
_LOG2_E = 1.4426950408889634
_LN2_HIGH64 = 0.6931471803691238  # 33 bits
_LN2_LOW64 = 1.9082149292705877e-10
# (log(1 + f) - f + f**2/2) / f**3 on [sqrt(1/2) - 1, sqrt(2) - 1]
_LOG = (
    *(0.3333331, -0.24999987, 0.20002231, -0.16669261, 0.14218564),
    *(-0.1238409, 0.11873461, -0.1179164, 0.0691647),
)
# exp(z**2) * erfc(z) / t with t = 2 / (z + 2), as a polynomial in t, for z in [0, 10.2]
_ERFCX = (
    *(0.28208604, 0.28238192, 0.24305576, 0.2028761, -0.02707143),
    *(0.27871227, -0.48776224, 0.28484586, -0.059124354),
)
_EXP2 = (  # 2**r on +-1/2, for float64
    *(0.9999999999997633, 0.693147180546514, 0.24022650698882003),
    *(0.05550410939338192, 0.00961812854232121, 0.0013333452064910808),
    *(0.0001540385218957302, 1.530973679120251e-05, 1.3175756770067437e-06),
)
_LOG2 = (  # log2(m) / s in s**2, with s = (m - 1) / (m + 1), for float64
    *(2.8853900817778473, 0.9617966941157253, 0.5770779416515711),
    *(0.41220932672649985, 0.31990255174372273, 0.28294645944902386),
)
_ATAN = (  # (atan(u) / u - 1) / u**2 in u**2, for |u| <= sqrt(2) - 1, for float64
    *(-0.3333333333333333, 0.19999999999995519, -0.1428571428466634, 0.11111111015247002),
    *(-0.09090904577925556, 0.07692183188821886, -0.06664511441351183, 0.058581489769019425),
    *(-0.050854504452341374, 0.03923168542593162, -0.019176925636898382),
)
_SIN = (-0.16666666641426492, 0.008333329362278813, -0.00019839327136331815, 2.7182372755005222e-06)
_COS = (0.04166666662247785, -0.0013888883722691732, 2.4799511781945552e-05, -2.720954923123102e-07)
_HALF_PI = {  # pi/2 as a sum; for float64 its products with small whole numbers are exact
    64: (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21),
    32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
}
_TWO_OVER_PI = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041  # its first 192 bits
_EXACT_QUOTIENT = 2.0**28
_REDUCED_EXACTLY = 1048576.0  # above it a multiple of pi/2 needs more bits than _HALF_PI has


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """coefficients[0] + coefficients[1] * x + ..., by Horner's rule."""
    total = x.fn.const(coefficients[-1], x.type)
    for c in reversed(coefficients[:-1]):
        total = x.fn.fma(total, x, x.fn.const(c, x.type))
    return total


def clamp(x: Value, low: Operand | None, high: Operand | None) -> Value:
    """min(max(x, low), high) that leaves NaN as it is, as LiteRT's fused activations do."""
    if low is not None:
        bound = x.fn.const(low, x.type)
        x = (x < bound).choose(bound, x)
    if high is not None:
        bound = x.fn.const(high, x.type)
        x = (x > bound).choose(bound, x)
    return x


def nearest(x: Value) -> Value:
    """To the nearest integer, ties to even, on every instruction set; -0.4 becomes -0."""
    return _whole(x, lambda rounded: rounded)


def floor(x: Value) -> Value:
    """To the integer below."""
    return _whole(x, lambda rounded: rounded - (rounded > x).choose(_one(x), 0.0))


def ceil(x: Value) -> Value:
    """To the integer above; -0.4 becomes -0."""
    return _whole(x, lambda rounded: rounded + (rounded < x).choose(_one(x), 0.0))


def exp(x: Value) -> Value:
    """e**x; denormal results too. Error below 2e-7."""
    exponent, n, r = _split(clamp(x, -104.0, 89.0))
    return _scale(_exp_minus_1_near_0(r) + 1.0, exponent, n)


def exp64(x: Value) -> Value:
    """e**x of float64; denormal results too. Error below 4e-16."""
    fn, wide = x.fn, i64 * x.type.lanes
    x = clamp(x, -746.0, 710.0)
    n = nearest(x * _LOG2_E)
    r = fn.fma(n, fn.const(-_LN2_LOW64, x.type), fn.fma(n, fn.const(-_LN2_HIGH64, x.type), x))
    power = n.saturate_to(wide.scalar)
    half = power >> 1
    y = polynomial(r, _TAYLOR)
    for part in (half, power - half):
        y = y * ((part + 1023) << 52).bitcast(x.type)
    return y


def _exp_of_minus_size(x: Value) -> Value:
    """e**-|x|, as `exp`."""
    exponent, n, r = _split(clamp(-x.fn.absolute(x), -104.0, None))
    return _scale(_exp_minus_1_near_0(r) + 1.0, exponent, n)


def expm1(x: Value) -> Value:
    """e**x - 1 without cancellation near 0 (of -0 it is +0). Error below 4e-7."""
    exponent, n, r = _split(clamp(x, -30.0, 89.0))
    biased = x.fn.maximum(x.fn.const(127, exponent.type) - exponent, 0)
    inverse_power = (biased << 23).bitcast(x.type)
    return _scale(_exp_minus_1_near_0(r) + (_one(x) - inverse_power), exponent, n)


def elu(x: Value) -> Value:
    """x where x >= 0, else e**x - 1."""
    return (x < 0.0).choose(expm1(x), x)


def logistic(x: Value) -> Value:
    """1 / (1 + e**-x), to full relative precision for negative x. Error below 4e-7."""
    e = _exp_of_minus_size(x)
    numerator = (x < 0.0).choose(e, 1.0)
    return numerator / (e + 1.0)


def swish(x: Value) -> Value:
    """x / (1 + e**-x), FLT_MAX for infinity. Error below 4e-7; below -87, where e**x has fewer
    bits, 6e-6."""
    e = _exp_of_minus_size(x)
    largest = x.fn.const(3.4028234663852886e38, x.type)
    numerator = (x < 0.0).choose(x * e, (largest < x).choose(largest, x))
    return numerator / (e + 1.0)


def tanh(x: Value) -> Value:
    """The hyperbolic tangent. Error below 5e-7."""
    size = clamp(x.fn.absolute(x), None, 9.1)
    t = expm1(size + size)
    return x.fn.copysign(t / (t + 2.0), x)


def log(x: Value) -> Value:
    """The natural logarithm: -inf of 0, NaN of negative numbers. Error below 2e-7."""
    fn = x.fn
    tiny = x < 1.1754943508222875e-38
    bits = tiny.choose(x * 8388608.0, x).bitcast(i32 * x.type.lanes)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).bitcast(x.type) - 1.0
    e = (exponent - tiny.choose(fn.const(23, bits.type), 0)).to(f32)
    square = f * f
    tail = fn.fma(e, fn.const(_LN2_LOW, x.type), square * (f * polynomial(f, _LOG)))
    y = fn.fma(e, fn.const(_LN2_HIGH, x.type), f + (tail - square * 0.5))
    y = (x < math.inf).choose(y, x)
    y = (x < 0.0).choose(fn.const(math.nan, x.type), y)
    return x.equals(0.0).choose(fn.const(-math.inf, x.type), y)


def rsqrt(x: Value) -> Value:
    """1 / sqrt(x): +inf of 0, NaN of negative numbers; two correct roundings."""
    return _one(x) / x.fn.sqrt(x)


def gelu(x: Value) -> Value:
    """x/2 * erfc(-x / sqrt(2)); NaN of -inf, as the product is. Error below 1e-6."""
    fn, size = x.fn, clamp(x.fn.absolute(x), None, 14.4)  # e**(-14.4**2 / 2) is denormal
    half = size * -0.5
    t = fn.const(2.0, x.type) / (fn.fma(size, fn.const(math.sqrt(0.5), x.type), _two(x)))
    exponent, n, r = _split(size * half)
    e = _scale(_exp_minus_1_near_0(r + _lost(size, half)) + 1.0, exponent, n)
    return fn.fma(half, e * (t * polynomial(t, _ERFCX)), (x < 0.0).choose(x * 0.0, x))


def _lost(size: Value, half: Value) -> Value:
    """What rounding takes from size * half, where half = -size/2."""
    if size.fn.isa.has_fma:
        return size.fn.fma(size, half, -(size * half))
    head = (size.bitcast(i32 * size.type.lanes) & -4096).bitcast(size.type)  # exact square
    rest = (size - head) * (size + head) * -0.5
    return (head * head * -0.5 - size * half) + rest


def gelu_tanh(x: Value) -> Value:
    """x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x**3))), with the sum's cancellation.

    LiteRT has it too: below -5 both give -0. The error is below 2e-7 of |x|.
    """
    c = math.sqrt(2 / math.pi)
    inner = x.fn.fma(x * x, x.fn.const(0.044715 * c, x.type), x.fn.const(c, x.type))
    return x * 0.5 * (tanh(x * inner) + 1.0)


def power(x: Value, y: Value) -> Value:
    """x**y with C's special cases, through float64. Error below 1e-7."""
    fn, size = x.fn, x.fn.absolute(x)
    inside = clamp(y.to(f64) * _log2(size.to(f64)), -300.0, 300.0)
    result = _exp2(inside).to(f32)
    half = y * 0.5
    whole = nearest(y).equals(y)
    odd = whole & nearest(half).differs(half)
    result = odd.choose(fn.copysign(result, x), result)
    undefined = (x < 0.0) & (size < math.inf) & (whole ^ True)
    result = undefined.choose(fn.const(math.nan, x.type), result)
    one = y.equals(0.0) | x.equals(1.0) | (size.equals(1.0) & fn.absolute(y).equals(math.inf))
    return one.choose(_one(x), result)


def sin(x: Value) -> Value:
    """The sine of any float32 (radians); NaN of infinities. Error below 1e-7."""
    return _trigonometric(x, 0)


def cos(x: Value) -> Value:
    """The cosine of any float32 (radians); NaN of infinities. Error below 1e-7."""
    return _trigonometric(x, 1)


def atan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), with C's special cases; float32 or float64.

    Computed in float64 with an error below 1e-15.
    """
    fn, kind = y.fn, y.type.scalar
    y, x = y.to(f64), x.to(f64)
    rise, run = fn.absolute(y), fn.absolute(x)
    steep = rise > run
    small, large = steep.choose(run, rise), steep.choose(rise, run)
    ratio = small.equals(math.inf).choose(_one(x), small / large)
    ratio = large.equals(0.0).choose(large, ratio)
    turned = ratio > math.sqrt(2) - 1  # atan(t) = pi/4 + atan((t - 1) / (t + 1))
    u = turned.choose((ratio - 1.0) / (ratio + 1.0), ratio)
    square = u * u
    angle = fn.fma(u * square, polynomial(square, _ATAN), u)
    angle = turned.choose(angle + math.pi / 4, angle)
    angle = steep.choose(fn.const(math.pi / 2, angle.type) - angle, angle)
    backward = fn.copysign(_one(x), x) < 0.0
    angle = backward.choose(fn.const(math.pi, angle.type) - angle, angle)
    angle = (x.differs(x) | y.differs(y)).choose(x + y, angle)
    return fn.copysign(angle, y).to(kind)


def remainder(x: Value, y: Value) -> Value:
    """The rest of x / y with x's sign, exact, as C's fmod; through float64."""
    fn = x.fn
    rest, divisor = fn.absolute(x.to(f64)), fn.absolute(y.to(f64))
    state = [rest]
    far = (rest >= divisor * _EXACT_QUOTIENT) & (rest < math.inf) & (divisor > 0.0)
    with fn.when(any_of(far), carry=state):
        # the largest quotient of two float32 is below 2**278: ten steps of 28 bits
        for power in range(10, 0, -1):
            state[0] = _rest(state[0], divisor * _EXACT_QUOTIENT**power)
    whole = (rest < math.inf) & divisor.equals(math.inf)
    rest = whole.choose(rest, _rest(state[0], divisor))
    return fn.copysign(rest.to(f32), x)


def _rest(x: Value, y: Value) -> Value:
    """x - floor(x / y) * y of positive float64: exact for 24 bits and quotients below 2**29."""
    return x - floor(x / y) * y


def from_half(bits: Value) -> Value:
    """float32 of the bits of a float16 (u16)."""
    lanes = bits.type.lanes
    if bits.fn.isa.converts_half:
        return bits.bitcast(f16 * lanes).to(f32)
    wide = bits.to(u32)
    size = (wide & 0x7FFF) << 13
    moved = (size.bitcast(f32 * lanes) * 2.0**112).bitcast(u32 * lanes)  # denormals too
    special = (wide & 0x7C00).equals(0x7C00)
    return (special.choose(size | 0x7F800000, moved) | ((wide & 0x8000) << 16)).bitcast(f32 * lanes)


def to_half(x: Value) -> Value:
    """The bits (u16) of the float16 nearest to x (float32 or float64), ties to even."""
    fn, lanes = x.fn, x.type.lanes
    x = _with_sticky_bit(x) if x.type.bits == 64 else x
    if fn.isa.converts_half:
        return x.to(f16).bitcast(u16 * lanes)
    bits = x.bitcast(u32 * lanes)
    size = bits & 0x7FFFFFFF
    # adding 1/2 leaves the bits of a denormal in the lowest places, rounded
    small = (size.bitcast(f32 * lanes) + 0.5).bitcast(u32 * lanes) - 0x3F000000
    normal = (size + ((size >> 13) & 1) - (0x38000000 - 0xFFF)) >> 13
    result = (size < 0x38800000).choose(small, normal)
    result = (size >= 0x47800000).choose(fn.const(0x7C00, result.type), result)
    result = (size > 0x7F800000).choose(fn.const(0x7E00, result.type), result)
    return (result | ((bits >> 16) & 0x8000)).to(u16)


def _with_sticky_bit(x: Value) -> Value:
    """float64 to float32, inexact results with a last bit of 1: rounding again rounds once."""
    fn, lanes = x.fn, x.type.lanes
    near = x.to(f32)
    bits = near.bitcast(u32 * lanes)
    above = fn.absolute(near.to(f64)) > fn.absolute(x)
    cut = bits - above.to(u32)
    return near.to(f64).differs(x).choose(cut | 1, bits).bitcast(f32 * lanes)


def from_bfloat(bits: Value) -> Value:
    """float32 of the bits of a bfloat16 (u16)."""
    return (bits.to(u32) << 16).bitcast(f32 * bits.type.lanes)


def to_bfloat(x: Value) -> Value:
    """The bits (u16) of the bfloat16 nearest to x as a float32, ties to even."""
    bits = x.to(f32).bitcast(u32 * x.type.lanes)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    nan = ((bits >> 16) & 0x8000) | 0x7FC0
    return x.differs(x).choose(nan, rounded).to(u16)


def any_of(mask: Value) -> Value:
    """Does a condition hold in any lane?"""
    fn, lanes = mask.fn, mask.type.lanes
    return mask if lanes == 1 else fn.call(f"llvm.vector.reduce.or.v{lanes}i1", i1, mask)


def _whole(x: Value, adjust: Callable[[Value], Value]) -> Value:
    """Adding 2**23 (2**52) leaves no fraction bits; larger numbers, infinities and NaN have none.
    """
    limit = 2.0**52 if x.type.bits == 64 else 2.0**23
    shift = x.fn.copysign(x.fn.const(limit, x.type), x)
    rounded = x.fn.copysign(adjust((x + shift) - shift), x)
    return (x.fn.absolute(x) < limit).choose(rounded, x)


def _one(x: Value) -> Value:
    return x.fn.const(1.0, x.type)


def _two(x: Value) -> Value:
    return x.fn.const(2.0, x.type)


def _split(x: Value) -> tuple[Value, Value, Value]:
    """x = n * ln(2) + r: n as int32, n as float, r."""
    fn = x.fn
    shifted = fn.fma(x, fn.const(1 / math.log(2), x.type), fn.const(_ROUND32, x.type))
    n = shifted - _ROUND32
    r = fn.fma(n, fn.const(-_LN2_HIGH, x.type), x)
    r = fn.fma(n, fn.const(-_LN2_LOW, x.type), r)
    return shifted.bitcast(i32 * x.type.lanes) - _ROUND32_BITS, n, r


def _exp_minus_1_near_0(r: Value) -> Value:
    return r.fn.fma(r * r, polynomial(r, _EXP), r)


def _scale(y: Value, exponent: Value, n: Value) -> Value:
    """y * 2**exponent (n: the same as a float); infinite and denormal results come out right.

    Without an instruction for it in two steps.
    """
    scaled = y.fn.isa.times_power_of_2(y.fn, y, n)
    if scaled is not None:
        return scaled
    half = exponent >> 1
    for part in (half, exponent - half):
        y = y * ((part + 127) << 23).bitcast(y.type)
    return y


def log64(x: Value) -> Value:
    """The natural logarithm of float64, as of `_log2`. Error below 1e-10."""
    return _log2(x) * math.log(2)


def _log2(x: Value) -> Value:
    """log2 of a float64 >= 0 that is zero or not denormal; -inf, inf and NaN as they should."""
    fn, bits = x.fn, x.bitcast(i64 * x.type.lanes)
    exponent = (bits - _SQRT_HALF_BITS64) >> 52
    m = (bits - (exponent << 52)).bitcast(x.type)
    s = (m - 1.0) / (m + 1.0)
    y = fn.fma(s, polynomial(s * s, _LOG2), exponent.to(i32).to(f64))
    y = (x < math.inf).choose(y, x)
    return x.equals(0.0).choose(fn.const(-math.inf, x.type), y)


def _exp2(x: Value) -> Value:
    """2**x of float64, |x| <= 1000 or NaN."""
    shifted = x + _ROUND64
    power = (shifted.bitcast(i64 * x.type.lanes) + 1023) << 52
    return polynomial(x - (shifted - _ROUND64), _EXP2) * power.bitcast(x.type)


def _trigonometric(x: Value, phase: int) -> Value:
    """sin(x + phase * pi/2), in float32 where products are not rounded before they are added."""
    fn, lanes = x.fn, x.type.lanes
    kind, bits = (f32, i32) if fn.isa.has_fma else (f64, i64)
    r = x.to(kind)
    shift = _ROUND32 if kind == f32 else _ROUND64
    shifted = fn.fma(r, fn.const(2 / math.pi, r.type), fn.const(shift, r.type))
    n = shifted - shift
    for part in _HALF_PI[kind.bits]:
        r = fn.fma(n, fn.const(-part, r.type), r) if kind == f32 else r - n * part
    state = [shifted.bitcast(bits * lanes), r]
    size = fn.absolute(x)
    big = size > _REDUCED_EXACTLY
    with fn.when(any_of(big), carry=state):
        quadrant, rest = _reduce_big(x)
        state[0] = big.choose(quadrant.to(bits), state[0])
        state[1] = big.choose(rest.to(kind), state[1])
    quadrant, r = state[0] + phase, state[1]
    square = r * r
    sine = fn.fma(r * square, polynomial(square, _SIN), r)
    cosine = fn.fma(square * square, polynomial(square, _COS), _one(r) - square * 0.5)
    y = (quadrant & 1).equals(0).choose(sine, cosine)
    y = (y.bitcast(bits * lanes) ^ ((quadrant & 2) << (bits.bits - 2))).bitcast(r.type).to(f32)
    return (size < math.inf).choose(y, fn.const(math.nan, x.type))


def _reduce_big(x: Value) -> tuple[Value, Value]:
    """Quadrant and rest of |x| >= 2**20 modulo pi/2, after Payne and Hanek: the product of the
    24-bit significand with those 96 bits of 2/pi that decide the quadrant and the fraction."""
    fn, lanes = x.fn, x.type.lanes
    wide = u64 * lanes
    bits = x.bitcast(i32 * lanes)
    significand = ((bits & 0x7FFFFF) | 0x800000).to(i64).bitcast(wide)
    # x = significand * 2**e with e >= -3; bit k of 2/pi (k = 1 is worth 1/2) weighs 2**(e - k)
    e = ((bits >> 23) & 255) - 150
    start = (e + 6).to(i64).bitcast(wide)  # 8 zero bits stand in front, bit e - 1 comes first
    table = (_TWO_OVER_PI << 24).to_bytes(28, "big")
    words = [int.from_bytes(table[4 * j : 4 * j + 4], "big") for j in range(7)]
    index, shift = start >> 5, start & 31
    chosen = []
    for j in range(4):
        word = fn.const(words[j], wide)
        for k in range(1, 4):
            word = index.equals(k).choose(fn.const(words[j + k], wide), word)
        chosen.append(word)
    window = [(((chosen[j] << 32) | chosen[j + 1]) << shift) >> 32 for j in range(3)]
    total = ((significand * window[0]) << 32) + significand * window[1]
    total = total + ((significand * window[2]) >> 32)
    quadrant = (total + (1 << 61)) >> 62
    rest = (total - (quadrant << 62)).bitcast(i64 * lanes).to(f64) * (math.pi / 2 * 2.0**-62)
    negative = bits < 0
    signed = quadrant.bitcast(i64 * lanes)
    return negative.choose(-signed, signed), negative.choose(-rest, rest)
