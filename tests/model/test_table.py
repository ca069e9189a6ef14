from __future__ import annotations

import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from litejit.errors import ModelError, PrepareError
from litejit.model import constant_array, read_model
from litejit.model import options as all_options
from litejit.model.options import (
    BUILTIN_OPTIONS,
    BUILTIN_OPTIONS_2,
    Activation,
    CastOptions,
    Conv2DOptions,
    DilateOptions,
    Pool2DOptions,
    StablehloConvolutionOptions,
    options_class,
    union_of,
)
from litejit.model.schema import BUILTIN_NAMES
from litejit.model.table import Reader, Table, dtype_of
from litejit.model.verify import check_graph
from litejit.model.writer import Output, TableNode
from litejit.types import DTYPES, F32, I8, I32

sys.path.insert(0, str(Path(__file__).parent))
from model_samples import convolution, everything

MEMBERS = [
    (union, number)
    for union, known in ((1, BUILTIN_OPTIONS), (2, BUILTIN_OPTIONS_2))
    for number in known
]


def written(table: Table) -> Reader:
    out = Output()
    out.finish(TableNode.of(table), b"TEST")
    return Reader(bytes(out.data))


def root(reader: Reader) -> int:
    return int(struct.unpack_from("<I", reader.data)[0])


def filled(table: type[Table]) -> Table:
    """An instance in which no field has its default."""
    values: dict[str, Any] = {}
    kind = table.kind()
    for number, (name, form) in enumerate(zip(kind.fields, kind.forms, strict=True), 1):
        default = kind.defaults[name]
        if isinstance(default, tuple):
            values[name] = (True, False) if form == "?" else (1.5,) if form == "f" else (1, 2, 0)
        elif default in DTYPES:
            values[name] = I8 if default is not I8 else I32
        elif isinstance(default, bool):
            values[name] = not default
        elif isinstance(default, (str, bytes)):
            values[name] = "text" if isinstance(default, str) else b"bytes"
        elif isinstance(default, float):
            values[name] = number + 0.5
        else:
            members = type(default) if type(default) is not int else None
            values[name] = members(1) if members else default + number
    return table(**values)


@pytest.mark.parametrize(("union", "number"), MEMBERS)
def test_options_read_back_as_written(union: int, number: int) -> None:
    table = options_class(number, union=union)
    assert table is not None
    assert union_of(table) == (union, number)
    for value in (filled(table), table()):
        reader = written(value)
        assert table.read(reader, root(reader)) == value


@pytest.mark.parametrize(("union", "number"), MEMBERS)
def test_slots_and_defaults_are_the_schemas(union: int, number: int) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    table = options_class(number, union=union)
    assert table is not None
    members = schema.BuiltinOptions if union == 1 else schema.BuiltinOptions2
    assert getattr(members, table.__name__) == number
    peer = getattr(schema, table.__name__)
    reader = written(filled(table))
    theirs = peer()
    theirs.Init(reader.data, root(reader))
    bare = written(table())
    absent = peer()
    absent.Init(bare.data, root(bare))
    for name, value in vars(filled(table)).items():
        pascal = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
        pascal = {"Activation": "FusedActivationFunction"}.get(pascal, pascal)
        if not hasattr(theirs, pascal) and not hasattr(theirs, pascal + "Length"):
            assert name in ("new_height", "new_width")  # deprecated: they have no accessor
            continue
        if isinstance(value, (tuple, bytes)):
            get = getattr(theirs, pascal)
            assert [get(n) for n in range(getattr(theirs, pascal + "Length")())] == list(value)
            continue
        found, default = getattr(theirs, pascal)(), getattr(table(), name)
        assert (found.decode() if isinstance(found, bytes) else found) == getattr(
            value, "code", value
        )
        assert (getattr(absent, pascal)() or 0) == (getattr(default, "code", default) or 0)


def test_operator_names_are_the_schemas() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    theirs = {k: v for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    assert dict(zip(BUILTIN_NAMES, range(len(BUILTIN_NAMES)), strict=True)) == theirs


def test_every_public_name_of_the_options_is_found() -> None:
    for module, name in (*BUILTIN_OPTIONS.values(), *BUILTIN_OPTIONS_2.values()):
        assert getattr(all_options, name).__module__ == module
    assert all_options.LSTMKernel.BASIC == 1
    with pytest.raises(AttributeError, match="NoOptions"):
        _ = all_options.NoOptions
    with pytest.raises(TypeError, match="not a table of options"):
        union_of(Table)
    assert options_class(250) is None


def test_unknown_enum_values_stay_integers() -> None:
    reader = written(Pool2DOptions(activation=77, padding=-3))
    found = Pool2DOptions.read(reader, root(reader))
    assert (found.activation, found.padding) == (77, -3)
    reader = written(CastOptions(out_data_type=dtype_of(50)))
    found = CastOptions.read(reader, root(reader))
    assert found.out_data_type.name == "TYPE_50"
    assert found.out_data_type not in DTYPES
    assert found.in_data_type is F32


def test_tables_are_frozen_values() -> None:
    options = Conv2DOptions(stride_w=2, activation=Activation.RELU)
    assert options == Conv2DOptions(stride_w=2, activation=Activation.RELU)
    assert hash(options) == hash(Conv2DOptions(stride_w=2, activation=Activation.RELU))
    assert options != Conv2DOptions(stride_w=3, activation=Activation.RELU)
    assert DilateOptions() != Table()
    assert "stride_w=2" in repr(options)
    with pytest.raises(AttributeError, match="frozen"):
        options.stride_w = 3
    with pytest.raises(TypeError, match="no field 'stride'"):
        Conv2DOptions(stride=2)
    assert StablehloConvolutionOptions(window_strides=[1, 2]).window_strides == (1, 2)


def test_equal_vtables_are_written_once() -> None:
    builder = convolution()
    base = len(builder.to_bytes())
    for number in range(100):
        builder.main.add_tensor(f"{number:04}", (1,), F32)
    # an offset, the table of five fields, a shape and a name: no vtable
    assert (len(builder.to_bytes()) - base) / 100 <= 4 + 24 + 8 + 12


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes cannot hold a model"),
        (bytes(8), "its identifier is"),
        (b"\x08\0\0\0TFL2" + bytes(20), "its identifier is b'TFL2'"),
        (b"\xff\xff\xff\xffTFL3", "a ModelTable at byte 4294967295 lies outside the file"),
        (b"\x08\0\0\0TFL3\xff\xff\xff\x7f", "has its vtable at -2147483639, outside"),
        (b"\x08\0\0\0TFL3\x08\0\0\0", "vtable of a ModelTable at byte 0 is malformed"),
    ],
    ids=range(6),
)
def test_broken_files_are_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_model(data)
    assert str(caught.value).startswith("The model is not a valid Flatbuffer buffer: ")
    assert words in str(caught.value)


def test_every_truncation_of_a_file_is_refused_or_read() -> None:
    data = everything().to_bytes()
    refused = sum(_outcome(data[:size]) == "refused" for size in range(0, len(data), 3))
    assert refused == len(range(0, len(data), 3))


def test_mutated_files_give_a_model_or_a_model_error() -> None:
    data = everything().to_bytes()
    source = random.Random(3)
    seen = {"refused": 0, "read": 0}
    for _ in range(3000):
        mutant = bytearray(data)
        for _ in range(source.choice([1, 1, 2, 4])):
            at = source.randrange(len(mutant) - 4)
            if source.random() < 0.5:
                mutant[at] ^= 1 << source.randrange(8)
            else:
                word = source.choice([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data)])
                mutant[at & ~3 : (at & ~3) + 4] = word.to_bytes(4, "little")
        seen[_outcome(bytes(mutant))] += 1
    assert min(seen.values()) > 300


def _outcome(data: bytes) -> str:
    """Read a file and all that it holds; anything but these two outcomes is a bug."""
    try:
        model = read_model(data)
        for number, graph in enumerate(model.subgraphs):
            for tensor in range(len(graph.tensors)):
                constant_array(model, number, tensor)
            check_graph(graph, model)
    except (ModelError, PrepareError):
        return "refused"
    return "read"


def test_structured_hostile_files_give_a_model_or_a_model_error(
    shared: Path, all_cases: bool
) -> None:
    paths = sorted((shared / "fuzz" / "cases" / "open").glob("*/*.tflite"))
    assert paths
    for path in paths if all_cases else paths[::12]:
        _outcome(path.read_bytes())


@pytest.mark.parametrize("target", ["tensor", "shape"])
def test_a_file_that_names_one_thing_many_times_is_refused_early(target: str) -> None:
    """A vector of a hundred thousand offsets, all to one table or to one large vector."""
    count = 100_000
    builder = convolution()
    if target == "shape":
        builder.main.add_tensor("long", (1,) * 4000, F32)
    data = bytearray(builder.to_bytes())
    data += bytes(-len(data) % 4)
    model = struct.unpack_from("<I", data)[0]
    graphs = _field(data, model, 2)
    graph = graphs + 4 + struct.unpack_from("<I", data, graphs + 4)[0]
    tensors = _field(data, graph, 0)
    number = struct.unpack_from("<I", data, tensors)[0]
    last = tensors + 4 * number
    tensor = last + struct.unpack_from("<I", data, last)[0]
    # A new graph table could be written; pointing the old one at a vector behind it is shorter,
    # and its offsets, which only lead forward, lead to a copy of the table behind the vector.
    place = len(data)
    table_size = 64
    vtable = tensor - struct.unpack_from("<i", data, tensor)[0]
    copy = place + 4 + 4 * count
    data += struct.pack("<I", count)
    data += b"".join(struct.pack("<I", copy - (place + 4 + 4 * n)) for n in range(count))
    body = bytearray(data[tensor : tensor + table_size])
    struct.pack_into("<i", body, 0, copy - vtable)
    data += body
    for slot in range(11):  # offsets of the copied table must still lead to what they led to
        _redirect(data, vtable, tensor, copy, slot)
    slot_at = graph + _slot(data, graph, 0)
    struct.pack_into("<I", data, slot_at, place - slot_at)
    start = time.process_time()
    with pytest.raises(ModelError):
        read_model(bytes(data))
    assert time.process_time() - start < 2


def _slot(data: bytearray, table: int, slot: int) -> int:
    vtable = table - struct.unpack_from("<i", data, table)[0]
    return int(struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0])


def _field(data: bytearray, table: int, slot: int) -> int:
    at = table + _slot(data, table, slot)
    return at + int(struct.unpack_from("<I", data, at)[0])


def _redirect(data: bytearray, vtable: int, old: int, new: int, slot: int) -> None:
    """Append a copy of what a field of the table at `old` leads to, for the one at `new`."""
    length = struct.unpack_from("<H", data, vtable)[0]
    if slot not in (0, 3, 4, 6, 7, 9) or 4 + 2 * slot >= length:
        return
    place = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0]
    if not place:
        return
    target = old + place + struct.unpack_from("<I", data, old + place)[0]
    count = struct.unpack_from("<I", data, target)[0]
    size = 4 + count * (4 if slot in (0, 7) else 1) + 1
    data += bytes(-len(data) % 4)
    struct.pack_into("<I", data, new + place, len(data) - (new + place))
    data += data[target : target + size]


def test_an_offset_of_zero_is_refused() -> None:
    data = bytearray(convolution().to_bytes())
    model = root(Reader(bytes(data)))
    vtable = model - struct.unpack_from("<i", data, model)[0]
    description = struct.unpack_from("<H", data, vtable + 4 + 2 * 3)[0]
    struct.pack_into("<I", data, model + description, 0)
    with pytest.raises(ModelError, match="is itself"):
        read_model(bytes(data))
