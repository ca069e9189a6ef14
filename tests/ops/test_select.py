"""Elements chosen by their values."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import data
from tests.ops.reducing import arg, litert, refuses, refuses_data, run

from litejit.model.options.elementwise import BucketizeOptions
from litejit.model.options.index import (
    NonMaxSuppressionV4Options,
    NonMaxSuppressionV5Options,
    TopKV2Options,
    UniqueOptions,
    WhereOptions,
)
from litejit.ops.boxes import ScoreHeap
from litejit.types import BOOL, F32, F64, I8, I16, I32, I64, U8, U32


@pytest.mark.parametrize("dtype", [BOOL, F32, I64, I32, I8, U8, U32], ids=str)
@pytest.mark.parametrize("late", [True, False])
def test_where_lists_places_in_order(dtype, late):
    x = arg(np.array([[0, 1, 0], [1, 0, 1]]).astype(dtype.numpy), dtype, late=late)
    (y,) = run("WHERE", WhereOptions(), [x], [I64])
    assert y.tolist() == [[0, 1], [1, 0], [1, 2]]


def test_where_counts_nan_and_refuses_scalars():
    (y,) = run("WHERE", WhereOptions(), [arg(np.array([np.nan, -0.0, 2], np.float32))], [I64])
    assert y.tolist() == [[0], [2]]
    assert run("WHERE", WhereOptions(), [arg(np.zeros((0, 2), bool))], [I64])[0].shape == (0, 2)
    refuses("WHERE", WhereOptions(), [arg(np.bool_(True))], [I64], "at least one dimension")


@pytest.mark.parametrize("dtype", [F32, U8, I8, I16, I32, I64], ids=str)
@pytest.mark.parametrize("places", [I32, I16], ids=str)
@pytest.mark.parametrize("late", [True, False])
def test_the_largest_and_where_they_were(dtype, places, late):
    info = None if dtype is F32 else np.iinfo(dtype.numpy)
    low = -5.0 if info is None else info.min
    x = arg(np.array([[3, low, 3, 7], [1, 2, low, 2]]).astype(dtype.numpy), dtype)
    k = arg(np.array(3, np.int16 if late else np.int32), late=late)
    values, at = run("TOPK_V2", TopKV2Options(), [x, k], [dtype, places])
    assert values.tolist() == [[7, 3, 3], [2, 2, 1]]
    assert at.tolist() == [[3, 0, 2], [1, 3, 0]]


def test_topk_puts_nan_last_and_refuses():
    x = arg(np.array([np.nan, np.nan, 1, 1, -np.inf], np.float32))
    three = arg(np.int32(3), late=False)
    values, at = run("TOPK_V2", TopKV2Options(), [x, three], [F32, I32])
    assert values.tolist() == [1, 1, -np.inf]
    assert at.tolist() == [2, 3, 4]
    six = arg(np.int32(6), late=False)
    refuses("TOPK_V2", TopKV2Options(), [x, six], [F32, I32], "k is 6")
    refuses_data("TOPK_V2", TopKV2Options(), [x, arg(np.int32(6))], [F32, I32], "k is 6")
    values, _ = run("TOPK_V2", TopKV2Options(), [x, arg(np.int32(-2), late=False)], [F32, I32])
    assert values.shape == (0,)
    long = arg(np.zeros(40_000, np.float32))
    refuses("TOPK_V2", TopKV2Options(), [long, three], [F32, I16], "exceed INT16")


@pytest.mark.parametrize("dtype", [F32, I8, U8, I16, I32, I64], ids=str)
@pytest.mark.parametrize("kind", [I32, I64], ids=str)
def test_unique_keeps_the_first_of_each(dtype, kind):
    x = arg(np.array([5, 1, 5, 3, 1]).astype(dtype.numpy))
    values, at = run("UNIQUE", UniqueOptions(idx_out_type=kind), [x], [dtype, kind])
    assert values.tolist() == [5, 1, 3]
    assert at.tolist() == [0, 1, 0, 2, 1]


def test_unique_of_nothing_and_of_a_matrix():
    values, at = run("UNIQUE", UniqueOptions(), [arg(np.zeros(0, np.int32))], [I32, I32])
    assert values.size == at.size == 0
    refuses("UNIQUE", UniqueOptions(), [data((2, 2), I32)], [I32, I32], "must be a vector")
    bad = UniqueOptions(idx_out_type=F32)
    refuses("UNIQUE", bad, [data((2,), I32)], [I32, F32], "positions cannot be FLOAT32")


@pytest.mark.parametrize("dtype", [F32, F64, I32, I64], ids=str)
def test_buckets_count_the_boundaries_at_or_below(dtype):
    x = arg(np.array([[-5, 0, 3], [10, 11, 100]]).astype(dtype.numpy), dtype)
    options = BucketizeOptions(boundaries=(0.0, 10.0, 100.0))
    (y,) = run("BUCKETIZE", options, [x], [I32])
    assert y.tolist() == [[0, 1, 1], [2, 2, 3]]
    case = "BUCKETIZE", options, [x], [I32]
    np.testing.assert_array_equal(y, litert(*case, reference=False)[0])


def test_buckets_need_sorted_boundaries():
    options = BucketizeOptions(boundaries=(1.0, 0.0))
    refuses("BUCKETIZE", options, [data((2,))], [I32], "must be sorted")


def boxes_and_scores(count, seed, ties):
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2)) * 3
    boxes = np.concatenate([corner, corner + rng.random((count, 2)) + 0.1], 1)
    flipped = rng.random(count) < 0.3
    boxes[flipped] = boxes[flipped][:, [2, 3, 0, 1]]
    scores = rng.integers(0, 6, count) / 8 if ties else rng.random(count)
    return boxes.astype(np.float32), scores.astype(np.float32)


def suppression(soft, boxes, scores, most, overlap, least, sigma=0.0, late=True):
    args = [arg(boxes), arg(scores), arg(np.int32(most), late=late)]
    args += [arg(np.float32(v)) for v in (overlap, least)]
    if not soft:
        outs = [I32, I32]
        return "NON_MAX_SUPPRESSION_V4", NonMaxSuppressionV4Options(), args, outs
    args.append(arg(np.float32(sigma)))
    return "NON_MAX_SUPPRESSION_V5", NonMaxSuppressionV5Options(), args, [I32, F32, I32]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_suppression_is_litert_s(soft, ties, seed):
    boxes, scores = boxes_and_scores(60, seed, ties)
    sigma = 0.5 if seed % 2 else 0.0
    most = [5, 100][seed % 2]
    case = suppression(soft, boxes, scores, most, 0.4, 0.1, sigma, late=seed < 3)
    for mine, theirs in zip(run(*case), litert(*case), strict=True):
        if mine.dtype == np.float32:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)
        else:
            np.testing.assert_array_equal(mine, theirs)


def test_suppression_by_hand():
    boxes = np.array([[0, 0, 1, 1], [1, 1, 0, 0.1], [0, 0, 1, 0.9], [5, 5, 6, 6]], np.float32)
    scores = np.array([0.5, 0.1, 0.9, 0.4], np.float32)
    places, count = run(*suppression(False, boxes, scores, 3, 0.5, 0.2))
    assert places.tolist() == [2, 3, 0]
    assert count == 2


def test_suppression_refuses():
    boxes, scores = boxes_and_scores(4, 0, ties=False)
    name, options, args, outs = suppression(False, boxes, scores[:3], 3, 0.5, 0)
    refuses(name, options, args, outs, r"scores must have shape \(4,\)")
    refuses_data(*suppression(False, boxes, scores, -1, 0.5, 0), match="output size is -1")
    refuses(*suppression(False, boxes, scores, -1, 0.5, 0, late=False), match="output size is -1")
    refuses_data(*suppression(True, boxes, scores, 1, 0.5, 0, -1.0), match="sigma is -1")


def test_the_heap_gives_the_largest_first():
    heap = ScoreHeap()
    scores = np.random.default_rng(0).integers(0, 50, 200)
    for place, score in enumerate(scores):
        heap.push((place, score, 0))
    assert [heap.pop()[1] for _ in range(200)] == sorted(scores, reverse=True)
    assert len(heap) == 0
