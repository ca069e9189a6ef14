"""Memory for kernels: aligned, zeroed, given back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litejit.engine.constants import ConstantStore, address_of, aligned_copy, aligned_memory
from litejit.engine.plan import ALIGNMENT
from litejit.interpreter import Interpreter
from litejit.kernels.base import Pieces
from litejit.model.builder import ModelBuilder
from litejit.model.options.conv import DepthwiseConv2DOptions
from litejit.model.options.elementwise import LocalResponseNormalizationOptions
from litejit.types import F32


@pytest.mark.parametrize("nbytes", [1, 100, 1 << 20, (1 << 21) + 3, 5 << 20])
def test_memory_is_zeroed_aligned_and_of_the_size_asked_for(nbytes: int) -> None:
    memory = aligned_memory(nbytes)
    assert memory.nbytes == nbytes
    assert address_of(memory) % ALIGNMENT == 0
    assert not memory.any()
    memory[:] = 7
    assert (memory == 7).all()


def resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * 4096


def test_large_memory_is_given_back() -> None:
    before = resident_bytes()
    for _ in range(50):
        aligned_memory(8 << 20)[:] = 1
    assert resident_bytes() - before < 100 << 20


def test_pieces_are_copied_to_their_places() -> None:
    rows, column = np.arange(8, dtype=np.int32).reshape(2, 4), np.array([[9], [10]], np.int32)
    pieces = Pieces((3, 4), rows.dtype, (((slice(0, 2),), rows), ((2, slice(0, 2)), column[:, 0])))
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [9, 10, 0, 0]]
    np.testing.assert_array_equal(aligned_copy(pieces), expected)


def test_the_source_of_a_copy_is_not_that_of_a_later_array_with_its_id() -> None:
    store, whole = ConstantStore(), np.arange(100, dtype=np.int32)
    views = [whole[k:] for k in range(50)]
    copies = [store.copy_of(k, view) for k, view in enumerate(views)]
    for copy, view in zip(copies, views, strict=True):
        assert store.source_of(copy) is view
    gone = set(map(id, copies))
    for k in range(50):
        store.copy_of(k, whole[k + 1 :])
    del copies, copy
    later = [store.copy_of(k, np.ones(100, np.int32)) for k in range(50, 300)]
    assert gone & set(map(id, later))  # or this shows nothing
    assert all(store.source_of(array) is None for array in later)


def resized(content: bytes, *values: Any) -> list[Any]:
    """The results of one interpreter that is resized for every value."""
    interpreter, found = Interpreter(model_content=content), []
    for value in values:
        interpreter.resize_tensor_input(0, value.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, value)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return found


def normalization() -> ModelBuilder:
    model = ModelBuilder()
    x = model.main.add_input("x", (1, 1, 1, 1), F32)
    y = model.main.add_output("y", (1, 1, 1, 1), F32)
    options = LocalResponseNormalizationOptions(radius=1, bias=1.0, alpha=2.0, beta=0.5)
    model.main.add_operator("LOCAL_RESPONSE_NORMALIZATION", [x], [y], options)
    return model


def depthwise() -> ModelBuilder:
    model = ModelBuilder()
    x = model.main.add_input("x", (1, 1, 1, 3), F32)
    w = model.main.add_constant("w", np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3))
    b = model.main.add_constant("b", np.float32([1, 2, 3]))
    y = model.main.add_output("y", (1, 1, 1, 3), F32)
    options = DepthwiseConv2DOptions(stride_w=1, stride_h=1, depth_multiplier=1)
    model.main.add_operator("DEPTHWISE_CONV_2D", [x, w, b], [y], options)
    return model


@pytest.mark.parametrize(
    ("model", "shapes"),
    [(normalization, [(2, 2, 2, 2), (2, 2, 2, 1), (1, 3, 3, 5)]),
     (depthwise, [(1, 5, 4, 3), (1, 5, 64, 3), (2, 7, 9, 3)])],
)  # fmt: skip
def test_constants_that_depend_on_shapes_follow_them(model: Any, shapes: Any) -> None:
    content = model().to_bytes()
    values = [np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape) for shape in shapes]
    for found, value in zip(resized(content, *values), values, strict=True):
        np.testing.assert_array_equal(found, resized(content, value)[0])
