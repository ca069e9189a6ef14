"""Rescaled sums of two bytes as one linear form: y = (a * qa + b * qb + c) >> shift, exactly.

TFLite rescales both terms and their sum, with four roundings on the way. Two bytes have 65536
pairs only, and almost all of their sums lie so far from a rounding's tie that any arithmetic
with 22 fractional bits rounds them alike. The few that do not are computed as TFLite does, and
leave an interval for c; where none is left the sum has no linear form.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TypeAlias

import numpy as np

from litejit.ops.fixedpoint import multiply_by_quantized_multiplier
from litejit.types import Array

LEFT_SHIFT = 20
_ROOM = 400  # how far c may lie from the middle, in units of the last bit
_UNITS = 1024  # what that, and a and b a unit beside their exact values, may add up to

Multiplier: TypeAlias = "tuple[int, int]"
Line: TypeAlias = "tuple[int, int, int, int]"  # a, b, c, shift


@lru_cache(maxsize=512)
def linear_sum(
    own: Multiplier, other: Multiplier, total: Multiplier, zeros: tuple[int, int, int],
    limits: tuple[int, int], *, sign: int = 1, unsigned: bool = False,
) -> Line | None:  # fmt: skip
    """The linear form of a clamped int8 or uint8 sum (`sign` 1) or difference (-1), or None.

    The multipliers are those of the terms, moved left by 20 bits, and of their sum; `zeros` are
    the zero points of both terms and of the result. Results are to be clamped to `limits`.
    """
    unit = _real(total)
    first, second = (_real(m) * unit * (1 << LEFT_SHIFT) for m in (own, other))
    second *= sign
    codes = np.arange(256) - (0 if unsigned else 128)
    exact = np.add.outer(first * (codes - zeros[0]), second * (codes - zeros[1])) + zeros[2]
    corners = exact[0, 0], exact[0, -1], exact[-1, 0], exact[-1, -1]
    shift = 31 - int(np.ceil(np.log2(max(abs(corner) for corner in corners) + 2)))
    if not 8 <= shift <= 28:
        return None
    # what TFLite's own roundings move a sum by: a unit a term, one in the sum's last bit
    slack = 2 * unit + 2.0 ** min(total[1], 0) + _UNITS / (1 << shift)
    exact += 0.5
    rows, columns = np.nonzero(np.abs(exact - np.rint(exact)) < slack)
    x, y = codes[rows], codes[columns]
    results = _sum(x - zeros[0], y - zeros[1], (own, other, total), sign) + zeros[2]
    results = np.clip(results, *limits)
    middle = round((zeros[2] + 0.5 - first * zeros[0] - second * zeros[1]) * (1 << shift))
    for i, j in sorted(product((0, -1, 1), repeat=2), key=lambda move: abs(move[0]) + abs(move[1])):
        a, b = round(first * (1 << shift)) + i, round(second * (1 << shift)) + j
        places = a * x + b * y
        above = ((results << shift) - places)[results > limits[0]]
        below = (((results + 1) << shift) - places)[results < limits[1]]
        low = max(middle - _ROOM, int(above.max(initial=middle - _ROOM)))
        high = min(middle + _ROOM, int(below.min(initial=middle + _ROOM + 1)) - 1)
        if low <= high:
            return a, b, (low + high) // 2, shift
    return None


def _real(multiplier: Multiplier) -> float:
    return multiplier[0] * 2.0 ** (multiplier[1] - 31)


def _sum(x: Array, y: Array, multipliers: tuple[Multiplier, ...], sign: int) -> Array:
    """TFLite's sum before its zero point is added."""
    own, other, total = multipliers
    terms = [
        multiply_by_quantized_multiplier(q.astype(np.int64) << LEFT_SHIFT, *m)
        for q, m in ((x, own), (y, other))
    ]
    return multiply_by_quantized_multiplier(terms[0] + sign * terms[1], *total)
