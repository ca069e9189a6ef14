"""StableHLO's indexing operators, windows and DILATE, held against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops import reducing
from tests.ops.whole import Given, agrees, fixed, run

from litejit.model.options.conv import DilateOptions
from litejit.model.options.index import ReduceWindowFunction, ReduceWindowOptions
from litejit.model.options.stablehlo import (
    StablehloGatherOptions,
    StablehloPadOptions,
    StablehloReduceWindowOptions,
    StablehloScatterOptions,
)
from litejit.types import BOOL, F32, F64, I8, I16, I32, I64, U8

RNG = np.random.default_rng(0)
CUBE = np.arange(24, dtype=np.int32).reshape(3, 4, 2)
PLACES = np.array([[[0, 2], [1, 0], [2, 1]], [[0, 1], [1, 0], [0, 9]]], np.int64)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.float32, np.int64])
def test_gathered_slices_are_moved_inside(kind):
    options = StablehloGatherOptions(
        offset_dims=(2, 3), collapsed_slice_dims=(0,), start_index_map=(1, 0),
        index_vector_dim=2, slice_sizes=(1, 2, 2),
    )  # fmt: skip
    x, indices = Given(CUBE.astype(kind)), Given(PLACES)
    agrees("STABLEHLO_GATHER", options, [x, indices], [(x.dtype, (2, 3, 2, 2))])


def test_offset_axes_may_lie_between_the_others():
    options = StablehloGatherOptions(
        offset_dims=(0, 2), collapsed_slice_dims=(1,), start_index_map=(2, 1),
        index_vector_dim=2, slice_sizes=(2, 1, 2),
    )  # fmt: skip
    indices = Given((PLACES - 1).astype(np.int32))
    agrees("STABLEHLO_GATHER", options, [Given(CUBE), indices], [(I32, (2, 2, 2, 3))])


def test_indices_without_a_vector_axis_are_single_numbers():
    options = StablehloGatherOptions(
        offset_dims=(0,), collapsed_slice_dims=(0, 1), start_index_map=(0,),
        index_vector_dim=1, slice_sizes=(1, 1, 2),
    )  # fmt: skip
    (y,) = run("STABLEHLO_GATHER", options, [Given(CUBE), Given(np.int32([0, 2, 9]))], [I32])
    assert y.tolist() == [[0, 16, 16], [1, 17, 17]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"slice_sizes": (1, 5, 2)}, {"slice_sizes": (2, 2, 2)}, {"slice_sizes": (1, 2)},
        {"start_index_map": (1, 3)}, {"start_index_map": (1,)}, {"index_vector_dim": 4},
        {"offset_dims": (2, 4)}, {"offset_dims": (2,)}, {"collapsed_slice_dims": (0, 0)},
    ],
)  # fmt: skip
def test_gather_options_that_do_not_fit_are_refused(wrong):
    good = {
        "offset_dims": (2, 3), "collapsed_slice_dims": (0,), "start_index_map": (1, 0),
        "index_vector_dim": 2, "slice_sizes": (1, 2, 2),
    }  # fmt: skip
    options = StablehloGatherOptions(**{**good, **wrong})
    with pytest.raises(RuntimeError, match="STABLEHLO_GATHER"):
        run("STABLEHLO_GATHER", options, [Given(CUBE), Given(PLACES)], [I32])


BODIES = [None, *(f"STABLEHLO_{n}" for n in ("ADD", "MULTIPLY", "MAXIMUM", "MINIMUM"))]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", [F32, F64, I8, U8, I16, I32, I64])
def test_scattered_windows_meet_in_order(kind, body):
    x = RNG.integers(0, 50, (3, 4, 2)).astype(kind.numpy)
    updates = RNG.integers(0, 50, (2, 3, 2, 2)).astype(kind.numpy)
    if kind is F32:
        x[0, 1, 0] = updates[0, 0, 0, 0] = np.nan
    options = {"inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (1, 0)}
    options |= {"index_vector_dim": 2, "update_computation_subgraph_index": 1}
    first = StablehloScatterOptions(update_window_dims=(2, 3), **options)
    operands = [Given(x), Given(PLACES), Given(updates)]
    agrees("STABLEHLO_SCATTER", first, operands, [kind], body=(body, kind))
    options |= {"inserted_window_dims": (1,), "scatter_dims_to_operand_dims": (2, 1)}
    second = StablehloScatterOptions(update_window_dims=(0, 3), **options)
    operands = [Given(x), Given(PLACES - 1), Given(np.moveaxis(updates, 2, 0).copy())]
    agrees("STABLEHLO_SCATTER", second, operands, [kind], body=(body, kind))


def test_a_region_must_be_one_known_operator():
    options = StablehloScatterOptions(
        update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,),
        index_vector_dim=1, update_computation_subgraph_index=1,
    )  # fmt: skip
    operands = [Given(np.zeros((3, 2), np.float32)), Given(np.int32([[1]]))]
    operands.append(Given(np.ones((1, 2), np.float32)))
    with pytest.raises(RuntimeError, match="can scatter"):
        run("STABLEHLO_SCATTER", options, operands, [F32], body=("SUB", F32))


@pytest.mark.parametrize(
    ("low", "high", "inner"),
    [
        ((1, -1), (2, 0), (1, 2)), ((-1, 2), (-1, -2), (0, 1)), ((-3, 1), (0, 1), (3, 0)),
        ((0, 0), (-4, 3), (1, 2)), ((1, 0), (0, 0), (5, 0)), ((1,), (1,), (0,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [np.float32, np.int8, np.bool_, np.int64])
def test_paddings_crop_and_stretch(kind, low, high, inner):
    options = StablehloPadOptions(
        edge_padding_low=low, edge_padding_high=high, interior_padding=inner
    )
    x = Given(np.arange(1, 7).reshape(2, 3).astype(kind))
    agrees("STABLEHLO_PAD", options, [x, fixed(np.array(1, kind))], [x.dtype])


def test_negative_interiors_are_refused():
    options = StablehloPadOptions(
        edge_padding_low=(0,), edge_padding_high=(0,), interior_padding=(-1,)
    )
    with pytest.raises(RuntimeError, match="interior"):
        run("STABLEHLO_PAD", options, [Given(np.zeros(3, np.float32)), fixed(np.float32(0))], [F32])


WINDOWS = [
    {"window_dimensions": (2, 3), "window_strides": (2, 1), "base_dilations": (1, 1),
     "window_dilations": (1, 1), "padding": (0, 0, 0, 0)},
    {"window_dimensions": (2, 2), "window_strides": (1, 2), "base_dilations": (2, 1),
     "window_dilations": (2, 3), "padding": (1, -1, 0, 2)},
    {"window_dimensions": (9, 2), "window_strides": (1, 2), "base_dilations": (1, 1),
     "window_dilations": (1, 1), "padding": (4, 4, 0, 0)},
]  # fmt: skip


@pytest.mark.parametrize("sizes", WINDOWS)
@pytest.mark.parametrize("body", [*BODIES[1:], "STABLEHLO_AND", "ADD", "MUL", "LOGICAL_OR"])
@pytest.mark.parametrize("kind", [F32, F64, I8, U8, I16, I32, I64])
def test_windows_are_folded_from_left_to_right(kind, body, sizes):
    x = RNG.integers(-9 if kind is not U8 else 0, 9, (5, 6)).astype(kind.numpy)
    if kind is F32:
        x[2, 3] = np.nan
    region = I32 if body in ("STABLEHLO_AND", "LOGICAL_OR") else kind
    options = StablehloReduceWindowOptions(body_subgraph_index=1, **sizes)
    if body == "LOGICAL_OR":
        region = BOOL
    operands = [Given(x), fixed(np.array(1, kind.numpy))]
    agrees("STABLEHLO_REDUCE_WINDOW", options, operands, [kind], body=(body, region))


@pytest.mark.parametrize("function", list(ReduceWindowFunction)[1:])
def test_the_first_form_takes_its_sizes_as_operands(function):
    x = Given(RNG.standard_normal((4, 5)).astype(np.float32))
    sizes = [fixed(np.array(n, np.int64)) for n in ([2, 2], [1, 2], [2, 1])]
    options = ReduceWindowOptions(reduce_function=function)
    agrees("REDUCE_WINDOW", options, [x, fixed(np.float32(0.5)), *sizes], [F32])


def test_windows_must_be_positive_and_leave_something():
    x = [Given(np.zeros((4, 5), np.float32)), fixed(np.float32(0))]
    for wrong in (
        {"window_strides": (0, 1)}, {"window_dimensions": (2,)}, {"padding": (-3, -3, 0, 0)},
        {"padding": (1,)}, {"base_dilations": (1, -1)}, {"padding": (1 << 40, 0, 0, 0)},
    ):  # fmt: skip
        options = StablehloReduceWindowOptions(body_subgraph_index=1, **{**WINDOWS[0], **wrong})
        with pytest.raises(RuntimeError, match="REDUCE_WINDOW"):
            run("STABLEHLO_REDUCE_WINDOW", options, x, [F32], body=("ADD", F32))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.int16, np.bool_])
def test_dilation_spreads_elements(kind, late):
    x = Given(np.arange(1, 7).reshape(2, 3).astype(kind))
    steps = Given(np.int32([2, 3]), constant=not late)
    agrees("DILATE", DilateOptions(), [x, steps, fixed(np.array(1, kind))], [x.dtype])


@pytest.mark.parametrize("steps", [[0, 1], [1 << 30, 1 << 30]])
def test_absurd_dilations_are_refused(steps):
    x, fill = Given(np.zeros((3, 4), np.float32)), fixed(np.float32(0))
    for operand in (fixed(np.int32(steps)), Given(np.int32(steps))):
        with pytest.raises(RuntimeError, match="DILATE"):
            run("DILATE", DilateOptions(), [x, operand, fill], [F32])


@pytest.mark.parametrize("kind", [F32, I8, U8, I16, I32, I64])
def test_windows_are_compiled(kind):
    x = reducing.arg(RNG.integers(0, 9, (4, 5, 7)).astype(kind.numpy))
    numbers = ([2, 1, 3], [1, 2, 2], [2, 1, 1])
    sizes = [reducing.arg(np.array(n, np.int64), late=False) for n in numbers]
    for function in (ReduceWindowFunction.ADD, ReduceWindowFunction.MAXIMUM):
        options = ReduceWindowOptions(reduce_function=function)
        operands = [x, reducing.arg(np.array(3, kind.numpy)), *sizes]
        reducing.run("REDUCE_WINDOW", options, operands, [kind], compiled=True)
