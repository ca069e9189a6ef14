"""Strides behind operators that move or repeat elements, against NumPy's arrays of places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from litejit.model.options import Activation
from litejit.model.options.elementwise import MulOptions
from litejit.ops import views
from litejit.ops.base import Node
from litejit.ops.resolver import BuiltinOpResolver
from litejit.types import F32, I32, TensorType

RNG = np.random.default_rng(0)


def link(name: str, old: tuple[int, ...], new: tuple[int, ...], value: Any) -> Node:
    operand = TensorType(np.shape(value), I32, value=np.asarray(value))
    resolver = BuiltinOpResolver()
    op = resolver.find_builtin(name, resolver.versions(name)[0])
    assert op is not None
    options = MulOptions(activation=Activation.NONE) if name == "MUL" else None
    ends = (TensorType(old, F32), operand), (TensorType(new, F32),)
    return Node(op, name, 0, 1, options, *ends)


def some_links(places: np.ndarray, *, repeating: bool) -> tuple[list[Node], np.ndarray]:
    """Operators one after the other, and where `places` are behind them."""
    links = []
    for _ in range(4):
        old, kind = places.shape, RNG.integers(0, 3 if repeating else 2)
        if kind == 0:
            order = RNG.permutation(places.ndim)
            places = places.transpose(order)
            links.append(link("TRANSPOSE", old, places.shape, order - (places.ndim * (order > 1))))
        elif kind == 1:
            cut = math.gcd(places.size, int(RNG.integers(1, 7)))
            places = places.reshape((cut, 1, -1) if RNG.integers(0, 2) else (-1, cut))
            links.append(link("RESHAPE", old, places.shape, places.shape))
        else:
            to = (2, *[3 if n == 1 else n for n in old])
            places = np.broadcast_to(places, to)
            name = "MUL" if RNG.integers(0, 2) else "BROADCAST_TO"
            links.append(link(name, old, to, np.ones(to) if name == "MUL" else to))
    return links, places


def at(strides: list[int], shape: tuple[int, ...]) -> np.ndarray:
    return sum(
        (np.arange(n).reshape(-1, *[1] * (len(shape) - d - 1)) * step)
        for d, (n, step) in enumerate(zip(shape, strides, strict=True))
    ) + np.zeros(shape, int)  # fmt: skip


@pytest.mark.parametrize("shape", [(), (1, 4, 1, 6), (2, 3, 5), (12,)])
def test_strides_tell_the_places_or_there_are_none(shape: tuple[int, ...]) -> None:
    told = 0
    for _ in range(200):
        first = np.arange(math.prod(shape)).reshape(shape)
        links, places = some_links(first, repeating=True)
        assert all(views.renames(node) != views.repeats(node) for node in links)
        split = (-1, places.shape[-1])
        wanted = places.reshape(split)
        last = links[-1].output(0)
        found = views.read_strides(last, links, places.shape, wanted.shape)
        if found is not None:
            told += 1
            np.testing.assert_array_equal(at(found, wanted.shape), wanted)
    assert told > 20


@pytest.mark.parametrize("shape", [(1, 4, 1, 6), (2, 3, 5), (12,)])
def test_strides_tell_where_results_go_or_there_are_none(shape: tuple[int, ...]) -> None:
    told = 0
    for _ in range(200):
        first = np.arange(math.prod(shape)).reshape(shape)
        links, behind = some_links(first, repeating=False)
        wanted = np.argsort(behind.reshape(-1)).reshape(shape)
        found = views.written_strides(links[0].input(0), links, shape)
        if found is not None:
            told += 1
            np.testing.assert_array_equal(at(found, shape), wanted)
    assert told > 20


def test_a_clamp_and_other_factors_are_no_repetition() -> None:
    assert not views.repeats(link("MUL", (1, 3), (2, 3), np.full((2, 3), 2.0)))
    clamped = link("MUL", (1, 3), (2, 3), np.ones((2, 3)))
    options = MulOptions(activation=Activation.RELU)
    inside = Node(clamped.op, "MUL", 0, 1, options, clamped.inputs, clamped.outputs)
    assert not views.repeats(inside)
