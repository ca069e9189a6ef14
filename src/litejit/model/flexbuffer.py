"""FlexBuffers: the options of custom operators, to and from plain Python values.

Maps read as dict, vectors as list, strings and keys as str (wrong UTF-8 as U+FFFD), blobs as
bytes, numbers as int, float or bool. Every offset is checked before it is followed; depth and
the number of values are limited, because offsets to one place can nest without end.

Format: https://flatbuffers.dev/flatbuffers_internals (FlexBuffers). The last byte is the width
of the root, the one before its type; a value that is not inline is an unsigned offset backwards.
"""

from __future__ import annotations

import struct
from typing import Any

from litejit.errors import ModelError

Bytes = bytes | memoryview

NULL, INT, UINT, FLOAT, KEY, STRING = range(6)
INDIRECT_INT, INDIRECT_UINT, INDIRECT_FLOAT, MAP, VECTOR = range(6, 11)
VECTOR_INT, VECTOR_UINT, VECTOR_FLOAT, VECTOR_KEY, VECTOR_STRING = range(11, 16)
FIRST_FIXED, LAST_FIXED = 16, 24  # vectors of 2, 3 and 4 ints, uints and floats
BLOB, BOOL, VECTOR_BOOL = 25, 26, 36

MAX_DEPTH = 64
_INT_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_UINT_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_FLOAT_CODES = {2: "e", 4: "f", 8: "d"}
_CODES = {INT: _INT_CODES, UINT: _UINT_CODES, FLOAT: _FLOAT_CODES, BOOL: _UINT_CODES}
_INDIRECT = {INDIRECT_INT: INT, INDIRECT_UINT: UINT, INDIRECT_FLOAT: FLOAT}
_TYPED = {VECTOR_INT: INT, VECTOR_UINT: UINT, VECTOR_FLOAT: FLOAT, VECTOR_KEY: KEY}
_TYPED |= {VECTOR_STRING: STRING, VECTOR_BOOL: BOOL}
_WIDTHS = (1, 2, 4, 8)


def decode(data: Bytes) -> Any:
    """Return the value that a FlexBuffer holds. Raises ModelError where its bytes are malformed."""
    data = bytes(data)
    if len(data) < 3:
        raise ModelError(f"a FlexBuffer has at least 3 bytes, got {len(data)}")
    width, packed = data[-1], data[-2]
    if width not in _WIDTHS:
        raise ModelError(f"the root of a FlexBuffer has a width of {width} bytes")
    return _Decoder(data).value(len(data) - 2 - width, width, packed, 0)


class _Decoder:
    """Reads one FlexBuffer; `left` is the number of values that it may still make."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = 4 * len(data) + 64

    def number(self, at: int, width: int, kind: int) -> Any:
        """The number of type `kind` that lies at `at`."""
        code = _CODES[kind].get(width)
        if code is None:
            raise ModelError(f"a FlexBuffer has a float of {width} bytes at {at}")
        self.check(at, width)
        value = struct.unpack_from(f"<{code}", self.data, at)[0]
        return bool(value) if kind == BOOL else value

    def check(self, at: int, size: int) -> None:
        """Raise ModelError unless `size` bytes at `at` lie in the data."""
        if at < 0 or size < 0 or at + size > len(self.data):
            raise ModelError(
                f"a FlexBuffer of {len(self.data)} bytes refers to {size} bytes at {at}"
            )

    def follow(self, at: int, width: int) -> int:
        """The position that the offset at `at` leads back to."""
        target: int = at - self.number(at, width, UINT)
        self.check(target, 0)
        return target

    def value(self, at: int, parent: int, packed: int, depth: int) -> Any:
        """The value whose slot, `parent` bytes wide, lies at `at`."""
        kind, width = packed >> 2, 1 << (packed & 3)
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise ModelError("a FlexBuffer nests too deeply, or repeats its parts too often")
        if kind == NULL:
            return None
        if kind in _CODES:
            return self.number(at, parent, kind)
        at = self.follow(at, parent)
        if kind in _INDIRECT:
            return self.number(at, width, _INDIRECT[kind])
        if kind == KEY:
            return self.key(at)
        if kind in (STRING, BLOB):
            return self.text(at, width, kind)
        if kind == MAP:
            return self.map(at, width, depth)
        if kind == VECTOR:
            return self.vector(at, width, depth)
        if FIRST_FIXED <= kind <= LAST_FIXED:
            element, count = kind - FIRST_FIXED, (kind - FIRST_FIXED) // 3 + 2
            return self.typed(at, width, INT + element % 3, count, depth)
        if kind in _TYPED:
            return self.typed(at, width, _TYPED[kind], self.length(at, width), depth)
        raise ModelError(f"a FlexBuffer has a value of unknown type {kind} at {at}")

    def length(self, at: int, width: int) -> int:
        """The number of elements of the vector at `at`, each `width` bytes at least."""
        count: int = self.number(at - width, width, UINT)
        self.check(at, count * width)
        return count

    def key(self, at: int) -> str:
        """The string at `at` that ends at a NUL."""
        end = self.data.find(b"\0", at)
        if end < 0:
            raise ModelError(f"a FlexBuffer has a key at {at} that does not end")
        self.left -= (end - at) >> 3
        return self.data[at:end].decode("utf-8", "replace")

    def text(self, at: int, width: int, kind: int) -> str | bytes:
        """The string or blob at `at`."""
        size: int = self.number(at - width, width, UINT)
        self.check(at, size)
        self.left -= size >> 3
        found = self.data[at : at + size]
        return found if kind == BLOB else found.decode("utf-8", "replace")

    def typed(self, at: int, width: int, kind: int, count: int, depth: int) -> list[Any]:
        """`count` elements of one type."""
        self.check(at, count * width)
        if kind in _CODES:
            self.left -= count
            if self.left < 0 or width not in _CODES[kind]:
                raise ModelError(f"a FlexBuffer has a malformed vector at {at}")
            values = struct.unpack_from(f"<{count}{_CODES[kind][width]}", self.data, at)
            return [bool(v) for v in values] if kind == BOOL else list(values)
        packed = kind << 2 | _WIDTHS.index(width)
        return [self.value(at + n * width, width, packed, depth + 1) for n in range(count)]

    def vector(self, at: int, width: int, depth: int) -> list[Any]:
        """Elements of any types, which are named behind them."""
        count = self.length(at, width)
        types = at + count * width
        self.check(types, count)
        return [
            self.value(at + n * width, width, self.data[types + n], depth + 1) for n in range(count)
        ]

    def map(self, at: int, width: int, depth: int) -> dict[str, Any]:
        """A vector with a vector of keys, which is named before it."""
        keys_at = self.follow(at - 3 * width, width)
        keys_width: int = self.number(at - 2 * width, width, UINT)
        if keys_width not in _WIDTHS:
            raise ModelError(f"a FlexBuffer has keys of {keys_width} bytes at {keys_at}")
        values = self.vector(at, width, depth)
        count = self.length(keys_at, keys_width)
        keys = self.typed(keys_at, keys_width, KEY, count, depth)
        if len(keys) != len(values):
            raise ModelError(f"a FlexBuffer has {len(keys)} keys for {len(values)} values at {at}")
        return dict(zip(keys, values, strict=True))


def encode(value: Any) -> bytes:
    """Return a FlexBuffer that holds `value`: a dict with str keys, list, str, bytes or scalar.

    Lists of ints alone, floats alone and bools alone become typed vectors. Raises TypeError for
    other values, OverflowError for integers beyond 64 bits.
    """
    encoder = _Encoder()
    slot = encoder.slot(value)
    width = encoder.width([slot])
    encoder.align(width)
    encoder.put(slot, width)
    encoder.out += bytes([encoder.packed(slot, width), width])
    return bytes(encoder.out)


# (type, number or position, width in bytes of what lies at the position; 0: an inline number)
_Slot = tuple[int, Any, int]


class _Encoder:
    """Appends values, parts before the wholes that point back to them."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.keys: dict[str, _Slot] = {}

    def align(self, width: int) -> None:
        """Append zeros up to a multiple of `width`."""
        self.out += bytes(-len(self.out) % width)

    def slot(self, value: Any) -> _Slot:
        """Append what does not fit into a slot, and return what goes into the slot."""
        if value is None:
            return NULL, 0, 0
        if isinstance(value, bool):
            return BOOL, int(value), 0
        if isinstance(value, int):
            return (INT if value < 1 << 63 else UINT), value, 0
        if isinstance(value, float):
            return FLOAT, value, 0
        if isinstance(value, str):
            return self.text(STRING, value.encode())
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.text(BLOB, bytes(value))
        if isinstance(value, dict):
            return self.map(value)
        if isinstance(value, (list, tuple)):
            return self.sequence(value)
        raise TypeError(f"a FlexBuffer cannot hold {type(value).__name__}")

    def text(self, kind: int, data: bytes) -> _Slot:
        """Append a string or blob."""
        width = next(w for w in _WIDTHS if len(data) < 1 << 8 * w)
        self.align(width)
        self.out += len(data).to_bytes(width, "little")
        at = len(self.out)
        self.out += data + (b"\0" if kind == STRING else b"")
        return kind, at, width

    def key(self, key: str) -> _Slot:
        """Append a key, once."""
        if key not in self.keys:
            self.keys[key] = KEY, len(self.out), 1
            self.out += key.encode() + b"\0"
        return self.keys[key]

    def sequence(self, values: Any) -> _Slot:
        """Append a vector, typed where all elements are numbers of one kind."""
        slots = [self.slot(value) for value in values]
        kinds = {kind for kind, *_ in slots}
        typed = {INT: VECTOR_INT, UINT: VECTOR_UINT, FLOAT: VECTOR_FLOAT, BOOL: VECTOR_BOOL}
        if len(kinds) == 1 and kinds <= typed.keys():
            at, width = self.elements(slots, [(INT, len(slots), 0)], types=False)
            return typed[kinds.pop()], at, width
        at, width = self.elements(slots, [(INT, len(slots), 0)], types=True)
        return VECTOR, at, width

    def map(self, values: dict[str, Any]) -> _Slot:
        """Append a map; readers search its keys, so they are sorted by their bytes."""
        for key in values:
            if not isinstance(key, str) or "\0" in key:
                raise TypeError(f"a FlexBuffer cannot have the key {key!r}")
        names = sorted(values, key=str.encode)
        keys = [self.key(name) for name in names]
        slots = [self.slot(values[name]) for name in names]
        keys_at, keys_width = self.elements(keys, [(INT, len(keys), 0)], types=False)
        head: list[_Slot] = [(VECTOR_KEY, keys_at, keys_width), (INT, keys_width, 0)]
        at, width = self.elements(slots, [*head, (INT, len(slots), 0)], types=True)
        return MAP, at, width

    def elements(self, slots: Any, head: Any, *, types: bool) -> tuple[int, int]:
        """Append slots behind a head; return the position of the first one and the width."""
        width = self.width([*head, *slots])
        self.align(width)
        for slot in head:
            self.put(slot, width)
        at = len(self.out)
        for slot in slots:
            self.put(slot, width)
        if types:
            self.out += bytes([self.packed(slot, width) for slot in slots])
        return at, width

    def width(self, slots: Any) -> int:
        """The least width that holds all slots when they are appended now."""
        for width in _WIDTHS:
            at = -(-len(self.out) // width) * width
            if all(_fits(slot, at + n * width, width) for n, slot in enumerate(slots)):
                return width
        raise OverflowError("a FlexBuffer holds integers of 64 bits")

    def put(self, slot: _Slot, width: int) -> None:
        """Append one slot."""
        kind, value, child = slot
        if child:
            self.out += (len(self.out) - value).to_bytes(width, "little")
        elif kind == FLOAT:
            self.out += struct.pack("<" + _FLOAT_CODES[width], value)
        else:
            self.out += value.to_bytes(width, "little", signed=kind == INT)

    @staticmethod
    def packed(slot: _Slot, width: int) -> int:
        """The byte that names a slot's type; inline numbers are as wide as the slot."""
        return slot[0] << 2 | _WIDTHS.index(slot[2] or width)


def _fits(slot: _Slot, at: int, width: int) -> bool:
    """True where a slot at `at` can be `width` bytes wide."""
    kind, value, child = slot
    if child:
        return bool(at - value < 1 << 8 * width)
    if kind == FLOAT:
        single = width == 4 and struct.unpack("<f", _single(value))[0] == value
        return width == 8 or single
    if kind == INT:
        return bool(-(1 << 8 * width - 1) <= value < 1 << 8 * width - 1)
    return bool(value < 1 << 8 * width)


def _single(value: float) -> bytes:
    """A float in four bytes; NaN, which equals nothing, where it is too large for them."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("nan"))
