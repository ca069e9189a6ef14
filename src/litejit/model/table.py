"""FlatBuffer tables as classes: one annotation per schema field, in schema order.

    class Pool2DOptions(Table):
        padding: Padding
        stride_w: int32

A `Reader` holds one file. Every offset is checked before it is followed, and everything that is
decoded is charged to a budget in proportion to the file's size, because a hostile file may name
one large vector ten thousand times. Tables of one class that share a vtable (nearly all do)
share a compiled Struct, so that a table costs one unpack.

Format: https://flatbuffers.dev/internals. Little endian; a table starts with the signed distance
back to its vtable, which holds its own size, the table's size and one offset per field (0:
absent); strings, vectors and tables are unsigned offsets forward from where they are stored.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import ref

import numpy as np

from litejit.errors import ModelError
from litejit.types import DTYPES, DType

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

T = TypeVar("T", bound="Table")
Row = list[Any]

# Annotations of fields. For type checkers these are the Python types that a field reads as.
int8 = int
uint8 = int
int16 = int
uint16 = int
int32 = int
uint32 = int
int64 = int
uint64 = int
float32 = float
float64 = float
Offset = int  # a table or union, left as its position in the file (0: absent)

SCALARS = {
    **{"bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i"},
    **{"uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d"},
}
WIDTHS = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4, "q": 8, "Q": 8, "d": 8}
OFFSET = "o"  # the code of all that is stored as an offset

INVALID = "The model is not a valid Flatbuffer buffer"  # LiteRT's words

_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U16X2 = struct.Struct("<HH").unpack_from
_SHORT = {
    code: tuple(struct.Struct(f"<{n}{code}").unpack_from for n in range(9)) for code in WIDTHS
}


class ByteEnum(IntEnum):
    """Base of the schema's one-byte enums. A value that is not known stays a plain int."""


class WordEnum(IntEnum):
    """Base of the schema's four-byte enums. A value that is not known stays a plain int."""


def dtype_of(code: int) -> DType:
    """Return the DType of a schema TensorType; an unknown one is a DType that no operator takes."""
    if 0 <= code < len(DTYPES):
        return DTYPES[code]
    return DType(f"TYPE_{code}", code, 0, np.dtype(np.void))


class Kind:
    """A table class made ready: one letter per slot, defaults, and what turns a slot to a value.

    `forms` says how a field is written: "" a scalar, "text", "bytes", "offset" (made elsewhere),
    or the code of the elements of a vector.
    """

    __slots__ = ("codes", "convert", "defaults", "fields", "forms", "row")

    def __init__(self, table: type[Table]) -> None:
        scope = vars(sys.modules[table.__module__])
        self.fields: tuple[str, ...] = tuple(
            name
            for name, annotation in table.__annotations__.items()
            if not annotation.startswith("ClassVar")
        )
        self.convert: list[Callable[[Any, Any], Any] | None] = []
        self.defaults: dict[str, Any] = {}
        self.row: Row = []
        self.forms: list[str] = []
        codes = ""
        for name in self.fields:
            code, form, convert, empty = _kind(table.__annotations__[name], scope)
            default = table.__dict__.get(name, empty)
            codes += code
            self.forms.append(form)
            self.convert.append(convert)
            self.defaults[name] = default
            if code == OFFSET:
                default = 0
            elif isinstance(default, DType):
                default = default.code
            self.row.append(default)
        self.codes = codes


class Table:
    """Base of tables. Instances are frozen, comparable by value, and made from keywords.

    `Sub(stride_w=2)` leaves other fields at the schema's defaults; `Sub.read(reader, position)`
    decodes one from a file. Fields are annotated `int32`, `bool`, `float32`, an enum (a ByteEnum
    or WordEnum), `DType`, `str`, `bytes`, `tuple[int64, ...]` or `Offset`.
    """

    _kind: ClassVar[Kind | None] = None

    def __init_subclass__(cls) -> None:
        cls._kind = None

    def __init__(self, **fields: Any) -> None:
        values = self.__dict__
        values.update(self.kind().defaults)
        for name, value in fields.items():
            if name not in values:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            values[name] = tuple(value) if isinstance(values[name], tuple) else value

    @classmethod
    def kind(cls) -> Kind:
        """The class made ready for reading and writing; worked out at first use."""
        kind = cls.__dict__["_kind"]
        if kind is None:
            kind = cls._kind = Kind(cls)
        return kind  # type: ignore[no-any-return]

    def unknown_enums(self) -> list[str]:
        """Names of the fields whose value the schema's enum does not have."""
        defaults = self.kind().defaults
        return [
            name
            for name, value in self.__dict__.items()
            if isinstance(defaults[name], IntEnum) and not isinstance(value, IntEnum)
        ]

    @classmethod
    def read(cls, reader: Reader, at: int) -> Self:
        """Decode the table at `at`. Raises ModelError where it does not fit into the file."""
        kind = cls.kind()
        row = reader.rows(cls)(at)
        self = cls.__new__(cls)
        values = self.__dict__
        for name, value, convert in zip(kind.fields, row, kind.convert, strict=True):
            values[name] = value if convert is None else convert(reader, value)
        return self

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {field} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({inside})"


class Reader:
    """Checked access to the bytes of one file.

    `budget` is what is left to decode, in bytes; a file that asks for more than several times
    its own size (which takes many offsets to one place) is refused.
    """

    __slots__ = ("__weakref__", "_rows", "budget", "data", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.budget = 4 * self.size + (1 << 16)
        self._rows: dict[type[Table], Rows] = {}

    def rows(self, table: type[Table], cost: int = 0) -> Rows:
        """Return what reads tables of class `table` as rows; `cost` is the charge each."""
        rows = self._rows.get(table)
        if rows is None:
            rows = self._rows[table] = Rows(self, table, cost)
        return rows

    def charge(self, cost: int) -> None:
        """Take `cost` bytes from the budget."""
        self.budget -= cost
        if self.budget < 0:
            raise ModelError(f"{INVALID}: it refers to the same bytes too many times")

    def length(self, at: int, width: int) -> int:
        """Number of elements of the vector at `at`, after checking that they lie in the file."""
        if not 0 <= at <= self.size - 4:
            raise ModelError(f"{INVALID}: a vector at byte {at} lies outside its {self.size} bytes")
        count: int = _U32(self.data, at)[0]
        cost = count * width + 4
        if at + cost > self.size:
            raise ModelError(
                f"{INVALID}: the vector at byte {at} has {count} elements of {width} bytes, "
                f"more than the file holds"
            )
        self.budget -= cost
        if self.budget < 0:
            self.charge(0)
        return count

    def vector(self, at: int, code: str) -> tuple[Any, ...]:
        """The numbers at `at` (0: none), as a tuple."""
        if not at:
            return ()
        count = self.length(at, WIDTHS[code])
        if count < 9:
            return _SHORT[code][count](self.data, at + 4)
        return struct.unpack_from(f"<{count}{code}", self.data, at + 4)

    def array(self, at: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The numbers at `at` as a read-only array on the file's bytes."""
        count = self.length(at, dtype.itemsize)
        return np.frombuffer(self.data, dtype, count, at + 4)

    def offsets(self, at: int) -> list[int]:
        """The positions of the tables in the vector of tables at `at` (0: none)."""
        if not at:
            return []
        steps = self.vector(at, "I")
        return [here + step for here, step in zip(range(at + 4, self.size, 4), steps, strict=False)]

    def span(self, at: int) -> memoryview:
        """The byte vector at `at`, not copied."""
        count = self.length(at, 1)
        return memoryview(self.data)[at + 4 : at + 4 + count]

    def text(self, at: int) -> str:
        """The string at `at` (0: ''), up to its first NUL; wrong UTF-8 reads as U+FFFD."""
        if not at:
            return ""
        count = self.length(at, 1)
        text = self.data[at + 4 : at + 4 + count].decode("utf-8", "replace")
        return text.partition("\0")[0] if "\0" in text else text


class Rows:
    """Reads tables of one class from one file, as lists of slots: absent fields hold defaults.

    Offset fields become positions in the file (0: absent).
    """

    __slots__ = ("_codes", "_cost", "_defaults", "_layouts", "_reader", "_what")

    def __init__(self, reader: Reader, table: type[Table], cost: int) -> None:
        kind = table.kind()
        self._reader = ref(reader)  # a cycle would keep the file's bytes until some collection
        self._what = table.__name__
        self._codes, self._defaults, self._cost = kind.codes, kind.row, cost
        self._layouts: dict[int, tuple[Any, ...]] = {}

    def __call__(self, at: int) -> Row:
        """Return the table at `at`."""
        reader = self._reader()
        assert reader is not None
        data = reader.data
        if not 0 <= at <= reader.size - 4:
            raise ModelError(f"{INVALID}: a {self._what} at byte {at} lies outside the file")
        vtable = at - _I32(data, at)[0]
        layout = self._layouts.get(vtable)
        if layout is None:
            layout = self._layouts[vtable] = self._layout(vtable)
        size, unpack, slots, offsets = layout
        if at + size > reader.size:
            raise ModelError(f"{INVALID}: the {self._what} at byte {at} ends outside the file")
        reader.budget -= size + self._cost
        if reader.budget < 0:
            reader.charge(0)
        row = self._defaults.copy()
        for slot, value in zip(slots, unpack(data, at)):  # noqa: B905 - equal by construction
            row[slot] = value
        for slot, delta in offsets:
            if not row[slot]:
                raise ModelError(f"{INVALID}: a field of the {self._what} at byte {at} is itself")
            row[slot] += at + delta
        return row

    def _layout(self, vtable: int) -> tuple[Any, ...]:
        """Check the vtable at `vtable`, once, and compile it."""
        reader, what = self._reader(), self._what
        assert reader is not None
        if not 0 <= vtable <= reader.size - 4:
            raise ModelError(f"{INVALID}: a {what} has its vtable at {vtable}, outside")
        length, size = _U16X2(reader.data, vtable)
        if length < 4 or length & 1 or vtable + length > reader.size or size < 4:
            raise ModelError(f"{INVALID}: the vtable of a {what} at byte {vtable} is malformed")
        reader.charge(500)  # what compiling costs, in the time that decoding bytes takes
        count = min(length // 2 - 2, len(self._codes))
        places = struct.unpack_from(f"<{count}H", reader.data, vtable + 4)
        pos, form = 0, "<"
        slots, offsets = [], []
        for place, slot in sorted((p, slot) for slot, p in enumerate(places) if p):
            code = self._codes[slot].replace(OFFSET, "I")
            if place < max(pos, 4) or place + WIDTHS[code] > size:
                raise ModelError(
                    f"{INVALID}: field {slot} of a {what} at byte {vtable} overlaps another "
                    f"or lies outside its {size} bytes"
                )
            form += f"{place - pos}x{code}"
            pos = place + WIDTHS[code]
            slots.append(slot)
            if self._codes[slot] == OFFSET:
                offsets.append((slot, place))
        return size, struct.Struct(form).unpack_from, slots, offsets


def _kind(annotation: str, scope: dict[str, Any]) -> tuple[str, str, Any, Any]:
    """(code of the slot, form, function of reader and slot or None, value when absent)."""
    if annotation in SCALARS:
        code = SCALARS[annotation]
        return code, "", None, False if code == "?" else 0.0 if code in "fd" else 0
    if annotation == "Offset":
        return OFFSET, "offset", None, 0
    if annotation == "str":
        return OFFSET, "text", Reader.text, ""
    if annotation == "bytes":
        return OFFSET, "bytes", lambda reader, at: bytes(reader.span(at)) if at else b"", b""
    if annotation == "DType":
        return "b", "", lambda reader, code: dtype_of(code), DTYPES[0]
    if annotation.startswith("tuple["):
        code, _, convert, _ = _kind(annotation[6:].partition(",")[0], scope)
        if convert is None:
            return OFFSET, code, lambda reader, at: reader.vector(at, code), ()
        return OFFSET, code, lambda r, at: tuple([convert(r, v) for v in r.vector(at, code)]), ()
    members = {member.value: member for member in scope[annotation]}
    code = "b" if issubclass(scope[annotation], ByteEnum) else "i"
    return code, "", lambda reader, value: members.get(value, value), members.get(0, 0)
