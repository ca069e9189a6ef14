"""Shapes that stretch, and the loops that walk them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.pointwise import Q, node_of

from litejit.errors import PrepareError
from litejit.model.options.elementwise import AddOptions
from litejit.ops.broadcast import broadcast_shape, walk

NODE = node_of("ADD", AddOptions(), Q(np.zeros(1, np.float32)), Q(np.zeros(1, np.float32)))


def test_trailing_dimensions_of_size_one_stretch() -> None:
    assert broadcast_shape(NODE, (4, 1, 3), (2, 1)) == (4, 2, 3)
    assert broadcast_shape(NODE, (), (5,)) == (5,)
    assert broadcast_shape(NODE, (1, 3), (2, 1), (2, 3)) == (2, 3)


def test_an_empty_dimension_beats_one() -> None:
    assert broadcast_shape(NODE, (0, 3), (1, 3)) == (0, 3)


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((0,), (3,)), ((1,) * 9, (1,))], ids=str)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(PrepareError, match=r"ADD \(operator 3\)"):
        broadcast_shape(NODE, *shapes)


def test_dimensions_that_all_operands_cross_alike_are_merged() -> None:
    plan = walk((4, 5, 6), [(4, 5, 6), (4, 5, 6)])
    assert (plan.outer, plan.inner, plan.strides) == ((), 120, ((1,), (1,)))
    plan = walk((4, 5, 6), [(4, 5, 6), (6,)])
    assert (plan.outer, plan.inner, plan.strides) == ((20,), 6, ((6, 1), (0, 1)))


def test_short_runs_become_one_that_operands_cross_in_their_own_ways() -> None:
    plan = walk((6, 40, 3), [(6, 40, 3), (3,), (6, 40, 1), (6, 1, 1)]).flattened(16)
    assert (plan.outer, plan.inner) == ((6,), 120)
    assert plan.strides == ((120, 1), (0, 3), (40, -3), (1, 0))
    long = walk((40, 99), [(40, 99), (99,)])
    assert long.flattened(16) == long


@pytest.mark.parametrize("seed", range(20))
def test_walking_visits_what_numpy_broadcasts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    result = tuple(rng.integers(1, 5, rng.integers(0, 6)).tolist())
    shapes = []
    for _ in range(3):
        shape = tuple(int(n) if rng.random() < 0.6 else 1 for n in result)
        shapes.append(shape[rng.integers(0, len(shape) + 1) :] if rng.random() < 0.3 else shape)
    shapes.append(result)
    plan = walk(result, shapes)
    index = np.indices((*plan.outer, plan.inner)).reshape(len(plan.outer) + 1, -1)
    for shape, strides in zip(shapes, plan.strides, strict=True):
        x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        visited = x.ravel()[(index * np.array(strides)[:, None]).sum(0)]
        np.testing.assert_array_equal(visited, np.broadcast_to(x, result).ravel())
