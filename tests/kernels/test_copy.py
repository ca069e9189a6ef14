"""Strided copies: every way of stepping through the source, at sizes around vector edges."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, Fenced, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.kernels.copy import (
    ANY,
    RESCALE,
    RowsSpec,
    merge,
    plan_copy,
    plan_placed_copy,
    plan_whole_copy,
)
from litejit.kernels.transpose import TransposeSpec
from litejit.record import replace

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
BEST = HOST_ISAS[0]


def oracle(source, start, dims, itemsize, nbytes):
    """Byte by byte; what no loop reaches keeps the target's 0xEE."""
    target = np.full(nbytes, 0xEE, np.uint8)
    froms, tos = np.array(start), np.array(0)
    for n, s, t in [*dims, (itemsize, 1, 1)]:
        froms = froms[..., None] + np.arange(n) * s
        tos = tos[..., None] + np.arange(n) * t
    target[tos.ravel()] = source[froms.ravel()]
    return target


def copied(dims, itemsize, *, isa=BEST, cuts=()):
    """Run the plan for `dims` on random bytes, compare, and return the plan."""
    low = sum((n - 1) * min(s, 0) for n, s, _ in dims)
    high = sum((n - 1) * max(s, 0) for n, s, _ in dims)
    source = np.random.default_rng(len(dims)).integers(0, 256, high - low + itemsize, np.uint8)
    nbytes = sum((n - 1) * t for n, _, t in dims) + itemsize
    fenced = Fenced(source)
    plan = plan_copy(dims, itemsize, isa)
    places = tuple(sorted(cut for cut in cuts if cut < plan.items))
    target = np.full(nbytes, 0xEE, np.uint8)
    (got,) = run(
        plan.spec, fenced.address - low, target, *plan.numbers,
        items=plan.items, isa=isa, cuts=places,
    )  # fmt: skip
    fenced.check()
    np.testing.assert_array_equal(got, oracle(source, -low, dims, itemsize, nbytes))
    return plan


@BY_ISA
@pytest.mark.parametrize("nbytes", [1, 2, 3, 7, 8, 15, 16, 17, 33, 63, 64, 65, 127, 129, 200])
def test_rows_of_any_length_are_copied(isa, nbytes):
    copied([(5, nbytes + 3, nbytes + 1), (nbytes, 1, 1)], 1, isa=isa)


@BY_ISA
@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@pytest.mark.parametrize("step", [-1, 0, 2, 3, 4, 5, -2])
def test_sources_are_stepped_through(isa, itemsize, step):
    for n in (2, 3, 17, 64, 130):
        pitch = step * itemsize
        plan = copied([(3, 700 * itemsize, n * itemsize), (n, pitch, itemsize)], itemsize, isa=isa)
        assert plan.spec.step == (step if step in (-1, 0, 2, 3, 4) else ANY)


@BY_ISA
@pytest.mark.parametrize("step", [-1, 0, 1, 2, 7])
def test_a_long_row_is_cut_into_items(isa, step):
    for n in (8192, 8193, 12287, 20001):
        plan = copied([(n, step, 1)], 1, isa=isa, cuts=(1, 2))
        assert plan.spec.long
        assert plan.items == -(-n // 4096)


def test_elements_that_are_apart_in_the_target_leave_the_rest_alone():
    copied([(37, 4, 12)], 4)
    copied([(9, 3, 40), (3, 1, 8)], 1)
    copied([(9, 6, 80), (3, 2, 8)], 2)


def test_a_whole_copy_is_idle_in_place():
    source = np.arange(100, dtype=np.uint8)
    plan = plan_whole_copy(100, BEST)
    _, got = run(plan.spec, source, np.zeros(100, np.uint8), *plan.numbers, items=plan.items)
    np.testing.assert_array_equal(got, source)
    # a copy onto itself shows only where it would change the order: every second element
    moves = plan_copy([(40, 2, 1)], 1, BEST)
    for idle in (False, True):
        fenced = Fenced(source)
        spec = replace(moves.spec, idle_in_place=idle)
        run(spec, fenced.address, fenced.address, *moves.numbers, items=moves.items)
        fenced.check()
        assert (fenced.array[1] == source[1]) == idle


def test_complex128_moves_as_two_halves():
    copied([(7, 16, 112), (7, 112, 16)], 16)
    copied([(7, 32, 16)], 16)
    copied([(1, 16, 16)], 16)


def test_one_element_is_copied():
    for itemsize in (1, 2, 4, 8):
        copied([(1, 99, 99), (1, 5, 5)], itemsize)
        copied([], itemsize)


def random_dims(rng, itemsize):
    """A copy of a box of a permuted, sliced, repeated or reversed array into another."""
    rank = int(rng.integers(1, 6))
    shape = rng.integers(1, 8, rank)
    if rng.random() < 0.3:
        shape[rng.integers(rank)] = rng.integers(15, 90)
    order = rng.permutation(rank) if rng.random() < 0.6 else np.arange(rank)
    wide = shape + rng.integers(0, 3, rank) * (rng.random() < 0.5)
    to = np.cumprod([itemsize, *wide[::-1]])[:-1][::-1]
    steps = rng.choice([1, 1, 1, 2, 3], rank)
    room = shape * steps
    from_ = np.cumprod([itemsize, *room[order][::-1]])[:-1][::-1]
    s = np.empty(rank, int)
    s[order] = from_
    s = s * steps * rng.choice([1, 1, 1, -1, 0], rank)
    return [tuple(int(v) for v in row) for row in zip(shape, s, to, strict=True)]


@pytest.mark.parametrize("seed", range(60))
def test_random_boxes_are_copied_whatever_the_cuts(seed):
    rng = np.random.default_rng(seed)
    itemsize = int(rng.choice([1, 2, 4, 8, 16]))
    dims = random_dims(rng, itemsize)
    copied(dims, itemsize, cuts=tuple(rng.integers(1, 9, 3)))


@BY_ISA
def test_random_boxes_are_copied_on_every_isa(isa):
    for seed in range(100, 112):
        rng = np.random.default_rng(seed)
        copied(random_dims(rng, 4), 4, isa=isa)


def test_loops_are_merged_and_short_runs_become_elements():
    assert merge([(2, 48, 48), (3, 16, 16), (4, 4, 4)], 4) == ([(24, 4, 4)], 4)
    assert merge([(5, 8, 80), (1, 0, 0), (4, 2, 2)], 2) == ([(5, 8, 80)], 8)
    assert merge([(6, 4, 4), (3, 24, 96)], 4) == ([(3, 24, 96), (6, 4, 4)], 4)


def test_attention_heads_move_as_rows_and_image_layouts_as_tiles():
    heads = [(12, 256, 12 * 256), (197, 12 * 256, 256), (64, 4, 4)]
    plan = plan_copy([(12, 256, 197 * 256), (197, 12 * 256, 256), (64, 4, 4)], 4, BEST)
    assert isinstance(plan.spec, RowsSpec)
    assert plan.spec.step == 1
    assert len(heads) == 3
    layout = plan_copy([(64, 4, 4 * 100), (100, 256, 4)], 4, BEST)
    assert isinstance(layout.spec, TransposeSpec)


@BY_ISA
@pytest.mark.parametrize("run_bytes", [1, 5, 16, 19, 64])
def test_bytes_are_rescaled_with_ties_away_from_zero(isa, run_bytes):
    source = np.random.default_rng(1).integers(0, 256, (7, run_bytes), np.uint8)
    source[0, 0], source[-1, -1] = 255, 0
    scale, bias, zero_point = 0.5, -64.0, 100  # every odd code is a tie
    target = np.full((7, run_bytes + 3), 0xEE, np.uint8)
    _, got = run(
        RESCALE, source, target, run_bytes, run_bytes + 3, scale, bias, zero_point,
        items=7, isa=isa, cuts=(2,),
    )  # fmt: skip
    real = source * 0.5 - 64.0
    want = np.clip(np.sign(real) * np.floor(np.abs(real) + 0.5) + 100, 0, 255)
    np.testing.assert_array_equal(got[:, :run_bytes], want)
    assert (got[:, run_bytes:] == 0xEE).all()


def test_rescaling_rounds_the_float_below_one_half_to_zero():
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    _, got = run(
        RESCALE, np.zeros(1, np.uint8), np.zeros(1, np.uint8), 1, 1, 1.0, below, 9, items=1
    )
    assert got[0] == 9


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_isa_compiles(isa):
    for step in (-1, 0, 1, 2, 4, ANY):
        lanes = 1 if step == ANY else isa.vector_bytes
        spec = RowsSpec(1, step, lanes, 0, 1, step == 1)
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
    assert llvm.compile_ir(RESCALE.emit("kernel", isa), isa)


@BY_ISA
@pytest.mark.parametrize("moves", ["target", "source", "index"])
@pytest.mark.parametrize("inner", [1, 3, 17, 70])
def test_one_side_of_a_copy_may_be_found_in_the_run(isa, moves, inner):
    """Windows of (2, inner) in (5, inner + 4) elements, at places inside and outside."""
    big = np.random.default_rng(inner).integers(0, 99, (5, inner + 4)).astype(np.int32)
    small = np.arange(2 * inner, dtype=np.int32).reshape(2, inner)
    wide, slim, room = big.strides, small.strides, (3, 4)
    for place in ((0, 0), (3, 4), (1, 2), (4, 0), (-1, 1), (0, -3), (9, -9)):
        inside = all(0 <= at <= most for at, most in zip(place, room, strict=True))
        clamped = [min(max(at, 0), most) for at, most in zip(place, room, strict=True)]
        if moves == "index":
            wrapped = [at + n + 1 if at < 0 else at for at, n in zip(place, room, strict=True)]
            clamped = [max(at, 0) for at in wrapped]
            inside = all(at <= most for at, most in zip(clamped, room, strict=True))
        key = tuple(slice(at, at + n) for at, n in zip(clamped, small.shape, strict=True))
        froms, tos = (slim, wide) if moves == "target" else (wide, slim)
        box = list(zip(small.shape, froms, tos, strict=True))
        plan = plan_placed_copy(
            box, 4, isa, room=room, strides=wide, index_bits=64, moves=moves
        )
        source, target = (small, big.copy()) if moves == "target" else (big, small * 0 - 1)
        want = target.copy()
        if moves == "target":
            want[key] = small
        elif inside:
            want = big[key]
        status = np.zeros(8, np.int64)
        args = (source, target, np.array(place), status, *plan.numbers)
        _, got, _, told = run(plan.spec, *args, items=plan.items, isa=isa)
        np.testing.assert_array_equal(got, want)
        assert told[0] == (0 if inside or moves == "target" else 1 << 48)
