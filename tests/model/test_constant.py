from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit.errors import ModelError
from litejit.model.constant import pack_constant, read_constant
from litejit.model.model import Tensor
from litejit.types import BF16, BOOL, C64, DTYPES, F16, F32, I2, I4, I8, I32, I64, STRING, U4, DType

FIXED = [dtype for dtype in DTYPES if dtype.bits]


def tensor(dtype: DType, *shape: int) -> Tensor:
    return Tensor("t", shape, dtype)


@pytest.mark.parametrize("dtype", FIXED, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 16])
def test_packed_values_read_back_equal(dtype: DType, count: int) -> None:
    low = {I2: -2, I4: -8}.get(dtype, 0)
    high = {I2: 2, I4: 8, U4: 16, BOOL: 2}.get(dtype, 100)
    value = np.random.default_rng(count).integers(low, high, (1, count)).astype(dtype.numpy)
    data = pack_constant(value, dtype)
    found = read_constant(data, tensor(dtype, 1, count))
    assert found.dtype == dtype.numpy
    assert found.shape == (1, count)
    assert found.tolist() == value.tolist()
    assert not found.flags.writeable


@pytest.mark.parametrize(
    ("dtype", "data", "values"),
    [
        (I4, "8f07", [-1, -8, 7]),
        (I2, "e402", [0, 1, -2, -1, -2]),
        (U4, "8f07", [15, 8, 7]),
        (BF16, "803f", [0x3F80]),
        (F16, "003c", [1.0]),
        (C64, "0000803f00000040", [1 + 2j]),
    ],
    ids=str,
)
def test_bits_lie_as_the_peer_reads_them(dtype: DType, data: str, values: list[Any]) -> None:
    assert read_constant(bytes.fromhex(data), tensor(dtype, len(values))).tolist() == values


def test_bytes_behind_the_last_element_are_ignored() -> None:
    assert read_constant(bytes(100), tensor(I32, 3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", FIXED, ids=str)
def test_too_few_bytes_are_refused(dtype: DType) -> None:
    data = pack_constant(np.zeros(9, dtype.numpy), dtype)
    with pytest.raises(ModelError, match="but its buffer has"):
        read_constant(data[:-1], tensor(dtype, 9))


@pytest.mark.parametrize("shape", [(-1,), (1,) * 40, (2**31, 2**31, 2**31)])
def test_shapes_without_a_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="tensor"):
        read_constant(b"", tensor(I8, *shape))


def test_unaligned_data_is_copied() -> None:
    data = memoryview(bytes(1) + np.arange(3, dtype="<i8").tobytes())[1:]
    found = read_constant(data, tensor(I64, 3))
    assert found.flags.aligned
    assert found.tolist() == [0, 1, 2]


def test_scalars_have_one_element() -> None:
    assert read_constant(np.float32(2).tobytes(), tensor(F32)).shape == ()


def test_strings_read_back_as_bytes() -> None:
    value = np.array([["a", b"bc"], [b"", "ü"]], object)
    found = read_constant(pack_constant(value, STRING), tensor(STRING, 2, 2))
    assert found.tolist() == [[b"a", b"bc"], [b"", "ü".encode()]]


@pytest.mark.parametrize(
    "words",
    [[], [-1], [2, 16, 17], [2, 16, 18, 17], [2, 12, 17, 18], [2, 16, 17, 99], [3, 20, 20, 20, 20]],
    ids=str,
)
def test_strings_whose_offsets_leave_the_buffer_are_refused(words: list[int]) -> None:
    data = np.array(words, "<i4").tobytes() + b"ab"
    with pytest.raises(ModelError, match="strings"):
        read_constant(data, tensor(STRING, 2))


def test_values_of_another_type_are_not_converted_silently() -> None:
    with pytest.raises(ValueError, match="is stored as int8"):
        pack_constant(np.zeros(1, np.float32), I4)
