"""Elements by index: gathered, scattered, looked up, summed by segment."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import data
from tests.ops.reducing import arg, litert, node_of, refuses, refuses_data, run

from litejit import Interpreter
from litejit.model.builder import ModelBuilder
from litejit.model.options.index import (
    GatherNdOptions,
    GatherOptions,
    OneHotOptions,
    ScatterNdOptions,
    SegmentSumOptions,
    SparseToDenseOptions,
    UnsortedSegmentMaxOptions,
    UnsortedSegmentMinOptions,
    UnsortedSegmentProdOptions,
    UnsortedSegmentSumOptions,
)
from litejit.record import replace
from litejit.types import (
    BF16,
    BOOL,
    F16,
    F32,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    Quantization,
)

MOVED = [F32, F16, BF16, U8, I8, I16, I32, I64, BOOL]
INDICES = [np.int16, np.int32, np.int64]


def index(values, kind=np.int32, late=True):
    return arg(np.array(values, kind), late=late)


@pytest.mark.parametrize("dtype", [*MOVED, I4], ids=str)
@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_takes_slices(dtype, kind, axis):
    x = data((4, 3, 5), dtype)
    places = [[2, 0], [1, 2]]
    want = np.take(x.value, places, axis)
    for late in (True, False):
        case = "GATHER", GatherOptions(axis=axis), [x, index(places, kind, late)], [dtype]
        (y,) = run(*case, compiled=True)
        np.testing.assert_array_equal(y, want)


def test_gather_of_batches():
    x = data((2, 3, 4, 5))
    places = np.random.default_rng(0).integers(0, 4, (2, 3, 6)).astype(np.int32)
    for batch in (2, -1):
        options = GatherOptions(axis=2, batch_dims=batch)
        (y,) = run("GATHER", options, [x, arg(places)], [F32])
        want = np.take_along_axis(x.value, places[..., None], 2)
        np.testing.assert_array_equal(y, want)
    options = GatherOptions(axis=3, batch_dims=1)
    (y,) = run("GATHER", options, [x, arg(places)], [F32])
    assert y.shape == (2, 3, 4, 3, 6)
    np.testing.assert_array_equal(y[1, 2, 3], x.value[1, 2, 3][places[1]])


def test_gather_of_strings_and_of_nothing():
    x = data((4,), STRING)
    (y,) = run("GATHER", GatherOptions(), [x, index([3, 0, 3])], [STRING])
    assert y.tolist() == [b"s3", b"s0", b"s3"]
    (y,) = run("GATHER", GatherOptions(), [x, index(2)], [STRING])
    assert y.item() == b"s2"
    refuses("GATHER", GatherOptions(), [data((2, 2), STRING), index([0])], [STRING], "vectors")
    (y,) = run("GATHER", GatherOptions(), [data((4, 3)), index([])], [F32])
    assert y.shape == (0, 3)


def test_gather_refuses():
    x = data((4, 3))
    for late in (True, False):
        for bad in (-1, 4):
            case = "GATHER", GatherOptions(), [x, index([0, bad], late=late)], [F32]
            refuses_data(*case, match=rf"index {bad} \(element 1\) is not in \[0, 4\)")
    refuses("GATHER", GatherOptions(axis=2), [x, index([0])], [F32], "axis 2 is out of range")
    refuses("GATHER", GatherOptions(axis=0, batch_dims=1), [x, index([0])], [F32], "lies behind")
    refuses("GATHER", GatherOptions(axis=1, batch_dims=1), [x, index([0])], [F32], "differ")
    refuses("GATHER", GatherOptions(axis=1, batch_dims=3), [x, index([0])], [F32], "exceeds")
    refuses("GATHER", GatherOptions(), [x, index([0], np.int8)], [F32], "indices is INT8")


@pytest.mark.parametrize("dtype", [*MOVED, STRING], ids=str)
@pytest.mark.parametrize("kind", INDICES)
def test_gather_nd_takes_tuples(dtype, kind):
    x = data((3, 4, 2), dtype)
    args = [x, index([[2, 1], [0, 3]], kind)]
    (y,) = run("GATHER_ND", GatherNdOptions(), args, [dtype])
    np.testing.assert_array_equal(y, x.value[[2, 0], [1, 3]])
    (y,) = run("GATHER_ND", GatherNdOptions(), [x, index([2, 1, 1], kind)], [dtype])
    np.testing.assert_array_equal(y, x.value[2, 1, 1])


def test_gather_nd_of_empty_tuples_repeats_the_input():
    x = data((2, 3))
    (y,) = run("GATHER_ND", GatherNdOptions(), [x, arg(np.zeros((4, 0), np.int32))], [F32])
    np.testing.assert_array_equal(y, np.stack([x.value] * 4))


def test_gather_nd_refuses():
    x, options = data((3, 4)), GatherNdOptions()
    refuses("GATHER_ND", options, [x, index([[0, 0, 0]])], [F32], "tuples of 3 indices")
    refuses("GATHER_ND", options, [x, index(3)], [F32], "need a dimension")
    refuses_data("GATHER_ND", options, [x, index([[0, 4]])], [F32], "index of dimension 1 4")
    refuses_data("GATHER_ND", options, [x, index([[-1, 0]])], [F32], "index of dimension 0 -1")
    empty = arg(np.zeros((0, 2), np.float32))
    refuses_data("GATHER_ND", options, [empty, index([[0]])], [F32], "empty input")


@pytest.mark.parametrize("dtype", [F32, U8, I8, I32, I64, BOOL], ids=str)
@pytest.mark.parametrize("late", [True, False])
def test_scatter_adds_duplicates(dtype, late):
    updates = arg(np.array([[1, 2], [3, 4], [5, 6]]).astype(dtype.numpy), dtype)
    args = [index([[2], [0], [2]]), updates, index([4, 2], late=late)]
    (y,) = run("SCATTER_ND", ScatterNdOptions(), args, [dtype])
    want = np.array([[3, 4], [0, 0], [6, 8], [0, 0]]).astype(dtype.numpy)
    np.testing.assert_array_equal(y, want)


def test_scatter_refuses():
    options, updates = ScatterNdOptions(), arg(np.ones((2, 3), np.float32))
    case = [index([[0], [5]]), updates, index([4, 3], late=False)]
    refuses_data("SCATTER_ND", options, case, [F32], "index of dimension 0 5")
    case = [index([[0], [1]]), updates, index([4, 2], late=False)]
    refuses("SCATTER_ND", options, case, [F32], r"updates must have shape \(2, 2\)")
    case = [index([[0, 0, 0]]), updates, index([4, 2], late=False)]
    refuses("SCATTER_ND", options, case, [F32], "tuples of 3")
    case = [index([[0]]), updates, index([-4], late=False)]
    refuses("SCATTER_ND", options, case, [F32], "negative size")
    case = [index([[0]]), updates, index([-4])]
    refuses_data("SCATTER_ND", options, case, [F32], "negative size")


def test_embeddings_are_rows():
    table = data((5, 2, 3))
    (y,) = run("EMBEDDING_LOOKUP", None, [index([4, 0, 4]), table], [F32], compiled=True)
    np.testing.assert_array_equal(y, table.value[[4, 0, 4]])
    refuses_data("EMBEDDING_LOOKUP", None, [index([5]), table], [F32], "id 5")


@pytest.mark.parametrize("dtype", [I8, U8, I4, I2], ids=str)
def test_quantized_embeddings_are_scaled(dtype):
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype.numpy)
    table = arg(values, dtype, scale=0.5)
    for out in (F32, F16):
        (y,) = run("EMBEDDING_LOOKUP", None, [index([2, 1]), table], [out])
        assert y.tolist() == [[0.5, 0.5], [0.5, 0]]
    node = node_of("EMBEDDING_LOOKUP", None, [index([2, 0]), table], [F32])
    scales = np.array([1, 2, 4], np.float32)
    rows = replace(node.inputs[1], quantization=Quantization(scales, np.zeros(3, np.int64)))
    node = node.with_types((node.inputs[0], rows), node.outputs)
    node.op.infer(node)
    y = node.op.reference(node, np.array([2, 0], np.int32), values)
    assert y.tolist() == [[4, 4], [0, 1]]
    table = arg(values, dtype, scale=0.5, zero_point=1)
    refuses("EMBEDDING_LOOKUP", None, [index([0]), table], [F32], "zero points must be 0")


@pytest.mark.parametrize("dtype", [F32, I16, I32, I64, I8, U8, BOOL], ids=str)
@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("late", [True, False])
def test_one_hot(dtype, kind, late):
    on, off = arg(np.array(1).astype(dtype.numpy)), arg(np.array(0).astype(dtype.numpy))
    args = [index([[1, -1], [3, 0]], kind), index(3, late=late), on, off]
    want = np.array([[[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]]).astype(dtype.numpy)
    (y,) = run("ONE_HOT", OneHotOptions(axis=-1), args, [dtype])
    np.testing.assert_array_equal(y, want)
    (y,) = run("ONE_HOT", OneHotOptions(axis=0), args, [dtype])
    np.testing.assert_array_equal(y, np.moveaxis(want, -1, 0))


def test_one_hot_refuses():
    one = arg(np.float32(1))
    case = [index([0]), index(3, late=False), one, one]
    refuses("ONE_HOT", OneHotOptions(axis=2), case, [F32], "axis 2 is out of range")
    case = [index([0]), index(-3, late=False), one, one]
    refuses("ONE_HOT", OneHotOptions(axis=-1), case, [F32], "depth is -3")
    case = [index([0]), index(-3), one, one]
    refuses_data("ONE_HOT", OneHotOptions(axis=-1), case, [F32], "depth is -3")


@pytest.mark.parametrize("dtype", [F32, I32, I64, I8, U8], ids=str)
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_sparse_to_dense(dtype, kind):
    default, options = arg(np.array(9).astype(dtype.numpy)), SparseToDenseOptions()
    values = arg(np.array([1, 2]).astype(dtype.numpy))
    shape = index([2, 3], kind, late=False)
    case = [index([[0, 1], [1, 2]], kind), shape, values, default]
    (y,) = run("SPARSE_TO_DENSE", options, case, [dtype])
    assert y.tolist() == [[9, 1, 9], [9, 9, 2]]
    one = arg(np.array(7).astype(dtype.numpy))
    case = [index([1, 3], kind), index([4], kind), one, default]
    assert run("SPARSE_TO_DENSE", options, case, [dtype])[0].tolist() == [9, 7, 9, 7]


def test_sparse_to_dense_refuses():
    zero, options = arg(np.float32(0)), SparseToDenseOptions()
    case = [index([[0, 3]]), index([2, 3], late=False), zero, zero]
    refuses_data("SPARSE_TO_DENSE", options, case, [F32], "index of dimension 1 3")
    case = [index([[0, 3]]), index([2], late=False), zero, zero]
    refuses("SPARSE_TO_DENSE", options, case, [F32], "indices of 2 dimensions, shape of 1")
    case = [index([0, 1]), index([2], late=False), arg(np.ones(3, np.float32)), zero]
    refuses("SPARSE_TO_DENSE", options, case, [F32], "2 indices for 3 values")
    five = [index([[0] * 5]), index([1] * 5, late=False), zero, zero]
    refuses("SPARSE_TO_DENSE", options, five, [F32], "at most 4 dimensions")


@pytest.mark.parametrize("dtype", [F32, I32], ids=str)
@pytest.mark.parametrize("late", [True, False])
def test_segments_are_summed(dtype, late):
    x = arg(np.array([[1, 2], [3, 4], [5, 6]]).astype(dtype.numpy))
    (y,) = run("SEGMENT_SUM", SegmentSumOptions(), [x, index([0, 0, 1], late=late)], [dtype])
    assert y.tolist() == [[4, 6], [5, 6]]


def test_segments_refuse():
    x, options = arg(np.ones((3, 2), np.float32)), SegmentSumOptions()
    for ids in ([1, 1, 2], [0, 2, 3], [0, 1, 0]):
        refuses("SEGMENT_SUM", options, [x, index(ids, late=False)], [F32], "must start at 0")
        refuses_data("SEGMENT_SUM", options, [x, index(ids)], [F32], "must start at 0")
    refuses("SEGMENT_SUM", options, [x, index([0, 1])], [F32], r"must have shape \(3,\)")


@pytest.mark.parametrize("dtype", [F32, I32], ids=str)
@pytest.mark.parametrize(
    ("name", "options", "want"),
    [
        ("SUM", UnsortedSegmentSumOptions(), [[6, 8], [3, 4], [0, 0]]),
        ("PROD", UnsortedSegmentProdOptions(), [[5, 12], [3, 4], [1, 1]]),
        ("MAX", UnsortedSegmentMaxOptions(), [[5, 6], [3, 4], None]),
        ("MIN", UnsortedSegmentMinOptions(), [[1, 2], [3, 4], None]),
    ],
)
def test_unsorted_segments(dtype, name, options, want):
    x = arg(np.array([[1, 2], [3, 4], [5, 6], [7, 8]]).astype(dtype.numpy))
    args = [x, index([0, 1, 0, -1], late=False), index(3, late=False)]
    (y,) = run(f"UNSORTED_SEGMENT_{name}", options, args, [dtype])
    info = np.finfo(np.float32) if dtype is F32 else np.iinfo(np.int32)
    end = info.min if name == "MAX" else info.max
    assert y.tolist() == [[end, end] if row is None else row for row in want]
    np.testing.assert_array_equal(
        y, litert(f"UNSORTED_SEGMENT_{name}", options, args, [dtype], reference=False)[0]
    )


def test_unsorted_segments_refuse():
    x, options = arg(np.ones((2, 3), np.float32)), UnsortedSegmentSumOptions()
    name = "UNSORTED_SEGMENT_SUM"
    refuses(name, options, [x, index([0, 1, 2]), index(3)], [F32], "no prefix")
    refuses(name, options, [x, index([0, 1]), index(-1, late=False)], [F32], "segments is -1")
    refuses_data(name, options, [x, index([0, 3]), index(3)], [F32], "segment id 3")
    (y,) = run(name, options, [x, index([[0, 1, 1], [1, 1, 1]]), index(2)], [F32])
    assert y.tolist() == [1, 5]


def test_a_kernel_s_refusal_is_told_in_words_and_can_be_got_over():
    builder = ModelBuilder()
    graph = builder.main
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    given = graph.add_input("x", (4, 3), F32)
    places = graph.add_input("i", (2,), I32)
    graph.add_operator("GATHER", [given, places], [graph.add_output("y", (2, 3), F32)],
                       GatherOptions())  # fmt: skip
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, table)
    for bad in (-1, 4, -(2**31)):
        interpreter.set_tensor(places, np.array([1, bad], np.int32))
        with pytest.raises(RuntimeError, match=rf"index {bad} \(element 1\) is not in \[0, 4\)"):
            interpreter.invoke()
        interpreter.set_tensor(places, np.array([3, 0], np.int32))
        interpreter.invoke()
        output = interpreter.get_output_details()[0]["index"]
        np.testing.assert_array_equal(interpreter.get_tensor(output), table[[3, 0]])
