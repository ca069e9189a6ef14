"""Gathered, scattered, turned rows, on every instruction set of the host."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.kernels.copy import SameSpec
from litejit.kernels.indexed import (
    BroadcastArgsSpec,
    BucketizeSpec,
    EmbedSpec,
    GatherSpec,
    ReverseSequenceSpec,
    ScatterSpec,
    UniqueSpec,
    WhereSpec,
)
from litejit.kernels.resize import pick_spec
from litejit.types import BOOL, F32, F64, I8, I32, I64, U8

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
RUNS = (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 200)
RNG = np.random.default_rng(0)


@BY_ISA
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64])
def test_rows_are_gathered_or_refused(isa, kind):
    for size in RUNS:
        x = RNG.integers(0, 256, (2, 5, size), np.uint8)
        pick = pick_spec(size, isa.vector_bytes)
        spec = GatherSpec(np.dtype(kind).itemsize * 8, pick.lanes, pick.groups)
        for places in ([4, 0, 2], [1, 5, 0], [1, 2, -1], [np.iinfo(kind).min, 0, 1]):
            y, status = np.full((2, 3, size), 9, np.uint8), np.zeros(8, np.int64)
            args = (x, y, np.array(places, kind), status, 3, 2, 5 * size, size, 5, size)
            _, got, _, told = run(spec, *args, items=6, isa=isa, cuts=(1, 4))
            for k, place in enumerate(places):
                want = x[:, place] if 0 <= place < 5 else 9
                np.testing.assert_array_equal(got[:, k], np.broadcast_to(want, (2, size)))
            wrong = [k for k, place in enumerate(places) if not 0 <= place < 5]
            assert told[0] == (1 << 48 | wrong[0] if wrong else 0)


@BY_ISA
def test_each_batch_has_indices_of_its_own(isa):
    x = RNG.integers(0, 256, (3, 2, 4, 6), np.uint8)  # batch, between, axis, row
    at = RNG.integers(0, 4, (3, 5)).astype(np.int32)
    pick = pick_spec(6, isa.vector_bytes)
    spec = GatherSpec(32, pick.lanes, pick.groups)
    y, status = np.zeros((3, 2, 5, 6), np.uint8), np.zeros(8, np.int64)
    args = (x, y, at, status, 5, 2, 24, 6, 4, 6)
    _, got, _, told = run(spec, *args, items=30, isa=isa, cuts=(7, 8))
    want = np.stack([x[b][:, at[b]] for b in range(3)])
    np.testing.assert_array_equal(got, want)
    assert not told.any()


@BY_ISA
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tuples_of_indices_lead_into_several_dimensions(isa, depth):
    x = RNG.integers(0, 256, (3, 4, 5, 3), np.uint8)
    at = np.stack([RNG.integers(0, n, 6) for n in x.shape[:depth]], 1).astype(np.int64)
    sizes = [n for d in range(depth) for n in (x.shape[d], x.strides[d])]
    size = x.strides[depth - 1]
    pick = pick_spec(size, isa.vector_bytes)
    spec = GatherSpec(64, pick.lanes, pick.groups, depth, flat=True)
    y, status = np.zeros((6, size), np.uint8), np.zeros(8, np.int64)
    args = (x, y, at, status, 6, 1, 0, size, *sizes)
    got = run(spec, *args, items=6, isa=isa, cuts=(2,))[1]
    np.testing.assert_array_equal(got, x[tuple(at.T)].reshape(6, size))
    at[4, depth - 1] = -1
    _, _, _, told = run(spec, *args, items=6, isa=isa)
    assert told[0] == 1 << 48 | 4


@BY_ISA
@pytest.mark.parametrize(
    ("dtype", "fold"), [(F32, "add"), (I8, "add"), (I64, "add"), (BOOL, "or"), (I32, "set")]
)
def test_updates_are_folded_in_order(isa, dtype, fold):
    for size in (1, 2, 5, 16, 17, 40):
        y = np.zeros((4, 3, size), dtype.numpy)
        at = np.array([[0, 1], [3, 2], [0, 1], [2, 0]], np.int32)
        updates = (RNG.normal(size=(4, size)) * 100).astype(dtype.numpy)
        want = y.copy()
        for place, row in zip(map(tuple, at), updates, strict=True):
            want[place] = row if fold == "set" else want[place] + row
        spec = ScatterSpec(dtype, 32, 2, fold)
        status = np.zeros(8, np.int64)
        args = (y, updates, at, status, 4, size, size, 1, 0, 0, 4, 3 * size, 3, size)
        got, _, _, told = run(spec, *args, items=1, isa=isa)
        np.testing.assert_array_equal(got, want)
        assert not told.any()
        want[0, 1] = updates[0]  # without the refused update
        for outside in (3, -1, 1 << 30):
            at[2, 1] = outside
            got, _, _, told = run(spec, *args, items=1, isa=isa)
            np.testing.assert_array_equal(got, want)
            assert told[0] == 1 << 48 | 2


@BY_ISA
@pytest.mark.parametrize("bits", [32, 64])
def test_a_grid_marks_one_place_for_each_index_and_leaves_others_out(isa, bits):
    at = np.array([[0, 4, -1], [3, 5, 2]], f"int{bits}")
    y, on, status = np.zeros((2, 5, 3), np.uint8), np.array([7], np.uint8), np.zeros(8, np.int64)
    spec = ScatterSpec(U8, bits, 1, "set", grid=True)
    args = (y, on, at, status, 6, 1, 0, 3, 15, 1, 5, 3)
    got, _, _, told = run(spec, *args, items=1, isa=isa)
    want = 7 * (at[:, None, :] == np.arange(5)[:, None]).astype(np.uint8)
    np.testing.assert_array_equal(got, want)
    assert not told.any()


@BY_ISA
@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("per_row", [False, True])
def test_rows_of_a_table_are_scaled(isa, dtype, per_row):
    for size in (1, 3, 16, 17, 70):
        info = np.iinfo(dtype.numpy)
        table = RNG.integers(info.min, info.max + 1, (5, size)).astype(dtype.numpy)
        scales = RNG.uniform(0.01, 1, 5 if per_row else 1).astype(np.float32)
        ids, status = np.array([4, 0, 4, 1], np.int32), np.zeros(8, np.int64)
        y = np.zeros((4, size), np.float32)
        args = (table, y, ids, scales, status, 5, size, int(per_row))
        got = run(EmbedSpec(dtype), *args, items=4, isa=isa, cuts=(1,))[1]
        factor = scales[ids] if per_row else scales
        np.testing.assert_array_equal(got, table[ids].astype(np.float32) * factor[:, None])
        ids[1] = 5
        assert run(EmbedSpec(dtype), *args, items=4, isa=isa)[4][0] == 1 << 48 | 1


@BY_ISA
@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize(("batch", "along"), [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_sequences_are_turned_up_to_their_length(isa, kind, batch, along):
    x = RNG.integers(0, 256, (4, 5, 3, 6), np.uint8)
    inside = int(np.prod(x.shape[max(batch, along) + 1 :]))
    lengths = RNG.integers(0, x.shape[along] + 1, x.shape[batch]).astype(kind)
    lengths[-1] = x.shape[along]
    want = x.copy()
    for b, length in enumerate(lengths):
        moved = np.moveaxis(np.moveaxis(want, batch, 0)[b], along - (along > batch), 0)
        moved[:length] = moved[:length][::-1].copy()
    pick = pick_spec(inside, isa.vector_bytes)
    spec = ReverseSequenceSpec(
        np.dtype(kind).itemsize * 8, pick.lanes, pick.groups, along > batch
    )
    low, high = sorted((along, batch))
    numbers = x.shape[low], int(np.prod(x.shape[low + 1 : high])), x.shape[high]
    status, rows = np.zeros(8, np.int64), x.size // inside // x.shape[high]
    args = (x, np.zeros_like(x), lengths, status, *numbers, inside)
    got = run(spec, *args, items=rows, isa=isa, cuts=(rows // 3,))[1]
    np.testing.assert_array_equal(got, want)
    lengths[0] = x.shape[along] + 1
    assert run(spec, *args, items=rows, isa=isa)[3][0] == 1 << 48


@BY_ISA
@pytest.mark.parametrize("kind", [np.int8, np.int32, np.float64, np.complex128])
def test_arrays_are_the_same_or_not(isa, kind):
    a, status = np.arange(7).astype(kind), np.zeros(8, np.int64)
    spec = SameSpec(a.itemsize)
    assert not run(spec, a, a.copy(), status, 7, items=1, isa=isa)[2].any()
    b = a.copy()
    b[6] += 1
    assert run(spec, a, b, status, 7, items=1, isa=isa)[2][0] == 1 << 48
    assert not run(spec, a, b, status, 6, items=1, isa=isa)[2].any()


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, BOOL, I64], ids=str)
def test_as_many_places_are_listed_as_were_asked_for_and_no_more(isa, dtype):
    for shape in ((7,), (3, 5), (2, 3, 4)):
        x = RNG.integers(0, 2, shape).astype(dtype.numpy)
        want = np.argwhere(x)
        for count in (len(want), len(want) + 1, max(len(want) - 1, 0)):
            y, status = np.full((count, len(shape)), -1, np.int64), np.zeros(8, np.int64)
            args = (x, y, status, count, *shape, x.size)
            _, got, told = run(WhereSpec(dtype, len(shape)), *args, items=1, isa=isa)
            both = min(count, len(want))
            np.testing.assert_array_equal(got[:both], want[:both])
            assert told[0] == (0 if count == len(want) else 1 << 48)


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, U8, I32, I64], ids=str)
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_distinct_elements_are_numbered_as_they_first_appear(isa, dtype, kind):
    for n, high in ((0, 1), (1, 1), (7, 3), (64, 200), (500, 90)):
        x = RNG.integers(0, high, n).astype(dtype.numpy)
        if dtype == F32 and n > 2:
            x[1::3], x[2], x[-1] = np.nan, -0.0, 0.0
        _, first, inverse = np.unique(x, return_index=True, return_inverse=True)
        order = np.sort(first)
        for count in (len(first), len(first) + 1, max(len(first) - 1, 0)):
            y, numbers = np.zeros(count, x.dtype), np.full(n, -1, kind)
            status, log = np.zeros(8, np.int64), max(6, (2 * n).bit_length())
            args = (x, y, numbers, status, np.zeros(1 << log, np.int32), n, count, log)
            spec = UniqueSpec(dtype, 8 * numbers.itemsize)
            _, got, at, told, _ = run(spec, *args, items=1, isa=isa)
            both = min(count, len(first))
            assert got[:both].tobytes() == x[order[:both]].tobytes()
            np.testing.assert_array_equal(order[at], first[inverse.reshape(-1)])
            assert told[0] == (0 if count == len(first) else 1 << 48)


@BY_ISA
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_shapes_broadcast_to_one_or_are_refused(isa, kind):
    spec = BroadcastArgsSpec(np.dtype(kind).itemsize * 8)
    for a, b in (((3,), (2, 1)), ((2, 1, 5), (4, 1)), ((1,), (0,)), ((7, 2), (1, 1, 2))):
        want = np.broadcast_shapes(a, b)
        y, status = np.zeros(len(want), kind), np.zeros(8, np.int64)
        args = (np.array(a, kind), np.array(b, kind), y, status, len(a), len(b))
        _, _, got, told = run(spec, *args, items=1, isa=isa)
        assert got.tolist() == list(want)
        assert not told.any()
    args = (np.array((2, 3), kind), np.array((2,), kind), np.zeros(2, kind), status, 2, 1)
    assert run(spec, *args, items=1, isa=isa)[3][0] == 1 << 48


@BY_ISA
@pytest.mark.parametrize("dtype", [F32, F64, I32, I64], ids=str)
def test_edges_that_are_not_above_are_counted(isa, dtype):
    kind = np.float64 if dtype is F64 else np.float32
    for count in (0, 1, 3, 40):
        edges = np.sort(RNG.integers(-9, 9, count)).astype(kind)
        x = RNG.integers(-12, 12, 53).astype(dtype.numpy)
        if dtype in (F32, F64):
            x[[3, 52]] = np.nan
            x[[4, 5]] = -np.inf, np.inf
        y = np.zeros(53, np.int32)
        args = (x, y, edges, count)
        got = run(BucketizeSpec(dtype), *args, items=53, isa=isa, cuts=(1, 20))[1]
        np.testing.assert_array_equal(got, np.searchsorted(edges, x.astype(kind), side="right"))
