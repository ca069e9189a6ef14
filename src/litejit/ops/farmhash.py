"""FarmHash's Fingerprint64: a hash of bytes that will never change.

Source: the published algorithm, github.com/google/farmhash (farmhashna::Hash64).
"""

from __future__ import annotations

from struct import unpack_from

_ALL = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_Pair = tuple[int, int]


def fingerprint64(data: bytes) -> int:
    """The 64-bit fingerprint of `data`, unsigned."""
    size = len(data)
    if size <= 16:
        return _up_to_16(data)
    if size <= 32:
        return _up_to_32(data)
    return _up_to_64(data) if size <= 64 else _longer(data)


def _word(data: bytes, at: int) -> int:
    value: int = unpack_from("<Q", data, at)[0]
    return value


def _rotate(value: int, count: int) -> int:
    value &= _ALL
    return (value >> count | value << 64 - count) & _ALL


def _shift_mix(value: int) -> int:
    return value ^ value >> 47


def _mix(u: int, v: int, factor: int) -> int:
    a = ((u ^ v) & _ALL) * factor & _ALL
    b = ((v & _ALL) ^ _shift_mix(a)) * factor & _ALL
    return _shift_mix(b) * factor & _ALL


def _up_to_16(data: bytes) -> int:
    size = len(data)
    factor = _K2 + size * 2 & _ALL
    if size >= 8:
        a, b = _word(data, 0) + _K2 & _ALL, _word(data, size - 8)
        c = _rotate(b, 37) * factor + a
        d = (_rotate(a, 25) + b) * factor
        return _mix(c & _ALL, d & _ALL, factor)
    if size >= 4:
        first, last = unpack_from("<I", data)[0], unpack_from("<I", data, size - 4)[0]
        return _mix(size + (first << 3), last, factor)
    if size:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[size - 1] << 2)
        return _shift_mix((y * _K2 ^ z * _K0) & _ALL) * _K2 & _ALL
    return _K2


def _up_to_32(data: bytes) -> int:
    size = len(data)
    factor = _K2 + size * 2 & _ALL
    a, b = _word(data, 0) * _K1 & _ALL, _word(data, 8)
    c, d = _word(data, size - 8) * factor & _ALL, _word(data, size - 16) * _K2 & _ALL
    u = _rotate(a + b, 43) + _rotate(c, 30) + d
    return _mix(u & _ALL, a + _rotate(b + _K2, 18) + c & _ALL, factor)


def _up_to_64(data: bytes) -> int:
    size = len(data)
    factor = _K2 + size * 2 & _ALL
    a, b = _word(data, 0) * _K2 & _ALL, _word(data, 8)
    c, d = _word(data, size - 8) * factor & _ALL, _word(data, size - 16) * _K2 & _ALL
    y = _rotate(a + b, 43) + _rotate(c, 30) + d & _ALL
    z = _mix(y, a + _rotate(b + _K2, 18) + c & _ALL, factor)
    e, f = _word(data, 16) * factor & _ALL, _word(data, 24)
    g = (y + _word(data, size - 32)) * factor & _ALL
    h = (z + _word(data, size - 24)) * factor & _ALL
    u = _rotate(e + f, 43) + _rotate(g, 30) + h
    return _mix(u & _ALL, e + _rotate(f + a, 18) + g & _ALL, factor)


def _weak(data: bytes, at: int, a: int, b: int) -> _Pair:
    """Hash 32 bytes with two seeds."""
    w, x, y, z = unpack_from("<4Q", data, at)
    a = a + w & _ALL
    b = _rotate(b + a + z, 21)
    c = a
    a = a + x + y & _ALL
    b = b + _rotate(a, 44) & _ALL
    return a + z & _ALL, b + c & _ALL


def _longer(data: bytes) -> int:
    size, seed = len(data), 81
    y = seed * _K1 + 113 & _ALL
    z = _shift_mix(y * _K2 + 113 & _ALL) * _K2 & _ALL
    v, w = (0, 0), (0, 0)
    x = seed * _K2 + _word(data, 0) & _ALL
    for at in range(0, (size - 1) // 64 * 64, 64):
        x, y, z, v, w = _round(data, at, (x, y, z), v, w, factors=(_K1, 1, 1))
    factor = _K1 + ((z & 0xFF) << 1) & _ALL
    w = w[0] + (size - 1 & 63) & _ALL, w[1]
    v = v[0] + w[0] & _ALL, v[1]
    w = w[0] + v[0] & _ALL, w[1]
    x, y, z, v, w = _round(data, size - 64, (x, y, z), v, w, factors=(factor, 9, 9))
    u = _mix(v[0], w[0], factor) + _shift_mix(y) * _K0 + z
    return _mix(u & _ALL, _mix(v[1], w[1], factor) + x & _ALL, factor)


def _round(
    data: bytes, at: int, state: tuple[int, int, int], v: _Pair, w: _Pair,
    *, factors: tuple[int, int, int],
) -> tuple[int, int, int, _Pair, _Pair]:  # fmt: skip
    """Take in 64 bytes; returns x, y, z, v, w."""
    x, y, z = state
    factor, for_w, for_v = factors
    x = _rotate(x + y + v[0] + _word(data, at + 8), 37) * factor & _ALL
    y = _rotate(y + v[1] + _word(data, at + 48), 42) * factor & _ALL
    x ^= w[1] * for_w & _ALL
    y = y + v[0] * for_v + _word(data, at + 40) & _ALL
    z = _rotate(z + w[0], 33) * factor & _ALL
    v = _weak(data, at, v[1] * factor & _ALL, x + w[0] & _ALL)
    w = _weak(data, at + 32, z + w[1] & _ALL, y + _word(data, at + 16) & _ALL)
    return z, y, x, v, w
