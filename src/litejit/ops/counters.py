"""Counter-based random generators: Philox 4x32-10 and Threefry 2x32-20, whole arrays at once.

Block n of a generator depends on key and n alone, so that blocks are made in any order.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

import numpy as np

from litejit.types import Array

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def philox(key: tuple[int, int], counters: Array) -> Array:
    """Blocks of Philox 4x32-10: uint32 [n, 4] for `counters`, uint32 [n, 4]."""
    c = [counters[:, k].astype(np.uint64) for k in range(4)]
    k0, k1 = key
    for _ in range(10):
        first, second = _MULTIPLIERS[0] * c[0], _MULTIPLIERS[1] * c[2]
        c = [
            (second >> _HALF) ^ c[1] ^ np.uint64(k0),
            second & _LOW,
            (first >> _HALF) ^ c[3] ^ np.uint64(k1),
            first & _LOW,
        ]
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack(c, axis=1).astype(np.uint32)


def threefry(key: tuple[int, int], counters: Array) -> Array:
    """Blocks of Threefry 2x32-20: uint32 [n, 2] for `counters`, uint32 [n, 2]."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    a = counters[:, 0] + np.uint32(key[0])
    b = counters[:, 1] + np.uint32(key[1])
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            a = a + b
            b = (b << np.uint32(turn)) | (b >> np.uint32(32 - turn))
            b = b ^ a
        a = a + np.uint32(keys[(group + 1) % 3])
        b = b + np.uint32((keys[(group + 2) % 3] + group + 1) & 0xFFFFFFFF)
    return np.stack([a, b], axis=1)


def counting(start: tuple[int, ...], count: int, *, carry: int) -> Array:
    """`count` counters from `start` (32-bit words, lowest first), uint32 [count, words].

    The lowest `carry` words count as one number; those above stay as they are.
    """
    number = sum(word << 32 * k for k, word in enumerate(start[:carry]))
    low = np.uint64(number & 0xFFFFFFFFFFFFFFFF) + np.arange(count, dtype=np.uint64)
    result = np.empty((count, len(start)), np.uint32)
    result[:, 0] = low & _LOW
    result[:, 1] = low >> _HALF
    above = np.zeros(count, np.uint64)
    if carry > 2:
        above = (low < np.uint64(number & 0xFFFFFFFFFFFFFFFF)).astype(np.uint64)
    for k in range(2, len(start)):
        word = np.uint64(start[k]) + above
        result[:, k] = word & _LOW
        above = word >> _HALF
    return result


def words(number: int, count: int) -> tuple[int, ...]:
    """The lowest `count` 32-bit words of a number (taken modulo), lowest first."""
    return tuple(number >> 32 * k & 0xFFFFFFFF for k in range(count))


def unit_floats(bits: Array) -> Array:
    """float32 in [0, 1) from the low 23 bits of uint32."""
    mantissa = (bits & np.uint32(0x7FFFFF)) | np.uint32(127 << 23)
    return np.asarray(mantissa.view(np.float32) - np.float32(1))


def unit_doubles(high: Array, low: Array) -> Array:
    """float64 in [0, 1) from the low 20 bits of `high` and all of `low`, uint32."""
    mantissa = (high.astype(np.uint64) & np.uint64(0xFFFFF)) << _HALF | low.astype(np.uint64)
    return np.asarray((mantissa | np.uint64(1023 << 52)).view(np.float64) - 1.0)


def normals(pairs: Array) -> Array:
    """Standard normal float32 [n, 2] from uint32 [n, 2] by the transform of Box and Muller."""
    length = np.maximum(unit_floats(np.ascontiguousarray(pairs[:, 0])), np.float32(1e-7))
    turn = unit_floats(np.ascontiguousarray(pairs[:, 1]))
    angle = (2.0 * np.pi * turn.astype(np.float64)).astype(np.float32)
    radius = np.sqrt(np.float32(-2) * np.log(length))
    both = np.stack([np.sin(angle), np.cos(angle)], axis=1) * radius[:, None]
    return np.asarray(both.astype(np.float32))
