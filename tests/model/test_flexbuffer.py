from __future__ import annotations

import random
from typing import Any

import pytest

from litejit.errors import ModelError
from litejit.model.flexbuffer import decode, encode

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 127, -128, 128, 40000, -(2**31), 2**40, 2**63, -(2**63), 2**64 - 1),
    *(0.0, 1.5, 0.1, 1e300, float("inf"), "", "a", "héllo", "x" * 300, b"", b"\0\1", b"y" * 70000),
    *([], [1, 2, 3], [300, -1], [2**63, 2**63], [0.5, 0.1], [True, False], ["a", "b"], [[], [1]]),
    *({}, {"": 1}, {"b": 1, "a": [1.5, "x", None, {"c": True}], "ü": b"z"}, list(range(1000))),
    {f"key {n}": "v" * n for n in range(100)},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_values_read_back_equal_and_of_the_same_type(value: Any) -> None:
    found = decode(encode(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("0a0801", 10),
        ("ff0401", -1),
        ("2c010502", 300),
        ("0000c03f0e04", 1.5),
        ("016801", True),
        ("03616263000414" + "01", "abc"),
        # key, vector of keys, where it is and its width, length, value, its type, root
        ("5400" + "0103" + "0101" + "01" + "07" + "04" + "022401", {"T": 7}),
    ],
    ids=str,
)
def test_bytes_of_the_format_read_as_documented(data: str, value: Any) -> None:
    assert decode(bytes.fromhex(data)) == value


def test_the_peers_library_agrees_both_ways() -> None:
    peer = pytest.importorskip("flatbuffers.flexbuffers")
    value = {"a": [1, "x", 2.5, None, {"b": 2**40}], "c": b"blob", "d": [1, 2, 3], "e": -5, "f": ""}
    assert decode(bytes(peer.Dumps(value))) == value
    assert peer.Loads(bytearray(encode(value))) == value


def test_kinds_that_we_never_write_are_read() -> None:
    peer = pytest.importorskip("flatbuffers.flexbuffers")
    builder = peer.Builder()
    with builder.Map():
        for key, add in (
            ("int", lambda: builder.IndirectInt(-5)),
            ("float", lambda: builder.IndirectFloat(2.5)),
            ("uint", lambda: builder.IndirectUInt(5)),
            ("ints", lambda: builder.FixedTypedVectorFromElements([1, -2, 70000])),
            ("floats", lambda: builder.FixedTypedVectorFromElements([1.5, 2.5])),
        ):
            builder.Key(key)
            add()
        builder.Key("keys")
        with builder.TypedVector():
            builder.Key("q")
            builder.Key("r")
    assert decode(bytes(builder.Finish())) == {
        **{"int": -5, "float": 2.5, "uint": 5, "ints": [1, -2, 70000]},
        **{"floats": [1.5, 2.5], "keys": ["q", "r"]},
    }


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"\0\0", b"\0\4\0", b"\0\4\3", b"\0\x0c\1"),
        *(b"\xff\x14\1", b"\5\x28\1", b"\0\xfc\1", b"abc\3\x10\1"),
    ],
    ids=str,
)
def test_malformed_buffers_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="FlexBuffer"):
        decode(data)


def test_a_vector_that_holds_itself_is_refused() -> None:
    # length 2, two offsets of 1 and 2 bytes back to the first element, both of type VECTOR
    with pytest.raises(ModelError, match="nests too deeply"):
        decode(bytes([2, 0, 1, 0x28, 0x28, 4, 0x28, 1]))


def test_mutated_buffers_give_a_value_or_a_model_error() -> None:
    base = encode({**VALUES[-3], "n": {"l": [[1, 2], [0.5]], "s": "text" * 20}, "m": [None, "a"]})
    source = random.Random(7)
    refused = 0
    for _ in range(3000):
        data = bytearray(base)
        for _ in range(source.choice([1, 1, 2, 5])):
            data[source.randrange(len(data))] = source.choice(
                [0, 1, 4, 127, 255, source.randrange(256)]
            )
        if source.random() < 0.1:
            del data[source.randrange(len(data)) :]
        try:
            decode(bytes(data))
        except ModelError:
            refused += 1
    assert 100 < refused < 2900


def test_values_that_have_no_form_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold set"):
        encode({1})
    with pytest.raises(TypeError, match="cannot have the key"):
        encode({1: 2})
    with pytest.raises(OverflowError):
        encode(2**64)
