"""TFLite's integer rescaling of int32 vectors, exactly: one form for each range of numbers.

MultiplyByQuantizedMultiplier(x, m, shift) rounds twice. With e = -shift >= 0 it is

    t = floor((x * m + 2^30) / 2^31)            (ties up, for both signs)
    r = floor((t + 2^(e-1) - [x < 0]) / 2^e)    (ties away from zero; r = t for e = 0)

where [x < 0] may stand for [t < 0]: they differ only at t = 0, which gives 0 either way. A
positive shift moves x left first and wraps. Sources: gemmlowp's fixed point, TFLite
internal/common.cc.

| form  | exact for | instructions for 16 results (AVX-512) |
|---|---|---|
| u64   | e >= 0 and abs(x) + (abs(zero point) << e) + 2^(e-1) < 2^31 | 9 |
| u64r  | the same, results below the zero point come out at most there, not exact | 7 |
| wide  | every int32 x, every shift | about 30 |
| scale | round half away from zero of x * (float64 factor) | about 12 |

A form's constants are rows of one vector each; `constants` makes them, `load` reads them in a
kernel, `apply` uses them. The zero point is part of the constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Pointer, Value, f64, i8, i32, i64, u8, u64
from litejit.types import Array

FORMS = ("u64", "u64r", "wide", "scale")
_ROWS = {"u64": 6, "u64r": 5, "wide": 9, "scale": 3}
_LOW = 0xFFFFFFFF
_BELOW_HALF = 0.49999999999999994  # trunc(x + this, x's sign) rounds half away for every double


def best_form(
    multiplier: Array, shift: Array, zero_point: int, bound: Array | int, *, floor: bool = False
) -> str:
    """The cheapest exact form for accumulators of at most `bound` in absolute value.

    `floor` says that results below the zero point will be raised to it (a fused RELU).
    """
    e = np.maximum(-np.asarray(shift, np.int64), 0)
    half = (np.int64(1) << e) >> 1
    room = np.asarray(bound, np.int64) + (np.int64(abs(zero_point)) << e) + half
    if np.any(np.asarray(shift) > 0) or np.any(e > 31) or np.any(room >= 1 << 31):
        return "wide"
    return "u64r" if floor else "u64"


def input_offset(form: str) -> int:
    """What must be added to x before `apply` (fold it into a bias; int32 wraps)."""
    return 1 << 31 if form.startswith("u64") else 0


def nbytes(form: str, lanes: int) -> int:
    """Bytes of the constants of one vector of `lanes` results."""
    return _ROWS[form] * 4 * lanes


def constants(form: str, lanes: int, multiplier: Array, shift: Array, zero_point: int) -> Array:
    """Rows of constants, uint8 [n / lanes, nbytes], for n channels (a multiple of lanes).

    `multiplier` and `shift` are as QuantizeMultiplier makes them; for "scale", `multiplier` is
    the float64 factor and `shift` is not used.
    """
    rows: list[Array]
    if form == "scale":
        rows = [np.asarray(multiplier, np.float64), np.full(len(multiplier), zero_point, np.int32)]
    elif form == "wide":
        rows = _wide_rows(np.asarray(multiplier, np.int64), np.asarray(shift, np.int64), zero_point)
    else:
        rows = _u64_rows(
            np.asarray(multiplier, np.int64), np.asarray(shift, np.int64), zero_point, form, lanes
        )
    blocks = [np.ascontiguousarray(row).view(np.uint8).reshape(-1, _row_bytes(row, lanes))
              for row in rows]  # fmt: skip
    return np.concatenate(blocks, axis=1)


def _row_bytes(row: Array, lanes: int) -> int:
    return row.itemsize * lanes if row.ndim == 1 else row.shape[1] * row.itemsize


def _u64_rows(m: Array, shift: Array, zero_point: int, form: str, lanes: int) -> list[Array]:
    e = np.maximum(-shift, 0)
    half = (np.int64(1) << e) >> 1
    high = half - (np.where(e > 0, 1, 0) if form == "u64" else 0) - m + (zero_point << e)
    # the low dword rounds the first product, the high one holds all that is added after it
    added = ((high & _LOW).astype(np.uint64) << np.uint64(32)) + np.uint64(1 << 31)
    double = (2 * m).astype(np.uint64)
    pairs = [row.reshape(-1, lanes // 2, 2) for row in (double, added)]
    rows = [np.ascontiguousarray(pair[:, :, odd]) for pair in pairs for odd in (0, 1)]
    if form == "u64":
        rows.append(np.where(e > 0, 31, 32).astype(np.int32))
    return [*rows, e.astype(np.int32)]


def _wide_rows(m: Array, shift: Array, zero_point: int) -> list[Array]:
    e, left = np.clip(-shift, 0, 40), np.clip(shift, 0, 31)
    half = (np.int64(1) << e) >> 1
    signed = np.where(e > 0, -1, 0).astype(np.int64)
    # every int64 row takes two vectors
    return [left.astype(np.int32), m, half + (np.int64(zero_point) << e), signed, e]


def load(form: str, at: Pointer, lanes: int) -> list[Value]:
    """Read one block of constants at `at` (Ptr(i8))."""
    half, row = lanes // 2, 4 * lanes
    if form == "scale":
        scales = [(at + j * row).cast(f64).load(lanes=half, align=row) for j in range(2)]
        return [*scales, (at + 2 * row).cast(i32).load(lanes=lanes, align=row)]
    if form == "wide":
        left = at.cast(i32).load(lanes=lanes, align=row)
        return [left, *((at + j * row).cast(i64).load(lanes=half, align=row) for j in range(1, 9))]
    wide = [(at + j * row).cast(u64).load(lanes=half, align=row) for j in range(4)]
    rest = range(4, _ROWS[form])
    return wide + [(at + j * row).cast(i32).load(lanes=lanes, align=row) for j in rest]


def apply(form: str, isa: Isa, x: Value, c: Sequence[Value]) -> Value:
    """Results with the zero point added, i32, not yet clamped; x is i32 plus `input_offset`."""
    if form == "scale":
        return _apply_scale(x, c)
    if form == "wide":
        return _apply_wide(x, c)
    return _apply_u64(form, isa, x, c)


def _apply_u64(form: str, isa: Isa, u: Value, c: Sequence[Value]) -> Value:
    """The rounded product's high dword is the first result; one 64-bit add does the rest."""
    lanes = u.type.lanes
    words = u.bitcast(u64 * (lanes // 2))
    even = (words & _LOW) * (c[0] & _LOW) + c[2]
    odd = (words >> 32) * (c[1] & _LOW) + c[3]
    order = [j + half for j in range(1, lanes, 2) for half in (0, lanes)]
    high = even.bitcast(i32 * lanes).shuffle(order, odd.bitcast(i32 * lanes))
    if form == "u64":
        high = high + isa.shift_right_logical(u.fn, u, c[4])
    return high >> c[-1]


def halves(x: Value) -> list[Value]:
    """The lower and the upper lanes of a vector."""
    lanes = x.type.lanes
    return [x.shuffle(range(start, start + lanes // 2)) for start in (0, lanes // 2)]


def join(low: Value, high: Value) -> Value:
    """The lanes of `low`, then those of `high`."""
    return low.shuffle(range(2 * low.type.lanes), high)


def _apply_wide(x: Value, c: Sequence[Value]) -> Value:
    fn = x.fn
    shifted = x << c[0]
    parts = []
    for j, part in enumerate(halves(shifted)):
        m, added, signed, e = (c[1 + 2 * row + j] for row in range(4))
        wide = part.to(i64)
        first = (wide * m + (1 << 30)) >> 31
        sign = (wide >> 63) & signed
        result = (first + added + sign) >> e
        parts.append(fn.minimum(fn.maximum(result, -(1 << 30)), 1 << 30).to(i32))
    return join(*parts)


def _apply_scale(x: Value, c: Sequence[Value]) -> Value:
    """acc * factor in float64, rounded half away from zero (TfLiteRound), then zero point."""
    fn = x.fn
    parts = []
    for part, factor in zip(halves(x), c[:2], strict=True):
        product = part.to(f64) * factor
        limit = float(1 << 30)
        product = fn.minimum(fn.maximum(product, -limit), limit)
        moved = product + fn.copysign(fn.const(_BELOW_HALF, product.type), product)
        parts.append(moved.to(i32))
    return join(*parts) + c[2]


def narrow(x: Value, *, unsigned: bool) -> Value:
    """i32 lanes saturated to i8 or u8."""
    low, high = (0, 255) if unsigned else (-128, 127)
    return x.fn.minimum(x.fn.maximum(x, low), high).to(u8 if unsigned else i8)
