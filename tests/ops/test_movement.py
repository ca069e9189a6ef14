"""Operators that permute, join and repeat."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.moving import (
    FIXED,
    Arg,
    agrees_when_not_constant,
    data,
    evaluate,
    ints,
    node_of,
    one,
)

from litejit.errors import InvokeError, PrepareError
from litejit.model.options.enums import Activation
from litejit.model.options.shape import (
    BroadcastToOptions,
    ConcatenationOptions,
    PackOptions,
    ReverseSequenceOptions,
    ReverseV2Options,
    TileOptions,
    TransposeOptions,
)
from litejit.types import F32, I8, I16, I32, I64, STRING, U8

ANY_TYPE = pytest.mark.parametrize("dtype", FIXED, ids=str)


def refused(name, options, *args, match, **more):
    node = node_of(name, options, *args, **more)
    with pytest.raises(PrepareError, match=match):
        node.op.infer(node)


@ANY_TYPE
def test_transpose_permutes(dtype):
    for shape, perm in (((2, 3), [1, 0]), ((4, 5, 6, 7), [0, 2, 1, 3]), ((3, 19, 20), [2, 0, 1]),
                        ((1, 37, 1, 18), [3, 2, 1, 0]), ((2, 3, 4), [-1, 0, 1])):  # fmt: skip
        x = data(shape, dtype)
        y = one("TRANSPOSE", TransposeOptions(), x, ints(perm))
        np.testing.assert_array_equal(y, x.value.transpose(perm))


def test_transpose_by_hand_and_by_data():
    x = Arg(np.array([[1, 2, 3], [4, 5, 6]], np.int32), constant=False)
    y = one("TRANSPOSE", TransposeOptions(), x, ints(1, 0))
    assert y.tolist() == [[1, 4], [2, 5], [3, 6]]
    agrees_when_not_constant("TRANSPOSE", TransposeOptions(), x, ints(1, 0))


def test_transpose_that_moves_only_ones_is_an_alias():
    x = data((1, 5, 1, 7))
    node = node_of("TRANSPOSE", TransposeOptions(), x, ints(1, 0, 3, 2))
    assert evaluate(node, x, ints(1, 0, 3, 2))[0].shape == (5, 1, 7, 1)


@pytest.mark.parametrize("perm", [[0, 0], [0, 2], [0, -3], [0]])
def test_transpose_refuses_what_is_no_permutation(perm):
    refused("TRANSPOSE", TransposeOptions(), data((2, 3)), ints(perm), match="perm")


@ANY_TYPE
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concatenation_joins_along_any_axis(dtype, axis):
    parts = []
    for j, extent in enumerate((2, 3, 1, 0)):
        shape = [3, 2, 5]
        shape[axis] = extent
        parts.append(data(tuple(shape), dtype, seed=j))
    y = one("CONCATENATION", ConcatenationOptions(axis=axis), *parts)
    np.testing.assert_array_equal(y, np.concatenate([p.value for p in parts], axis))


def test_concatenated_scalars_make_a_vector():
    parts = [Arg(np.float32(v), constant=False) for v in (1.5, 2.5)]
    assert one("CONCATENATION", ConcatenationOptions(axis=0), *parts).tolist() == [1.5, 2.5]


def test_uint8_inputs_are_rescaled_to_the_output():
    # real values 0.5 * (q - 10) on codes of step 1 and zero point 3: halves round away from zero
    a = Arg(np.array([[10, 11, 9, 13, 255, 0]], np.uint8), scale=0.5, zero_point=10, constant=False)
    b = Arg(np.array([[1, 2]], np.uint8), scale=1.0, zero_point=3, constant=False)
    y = one("CONCATENATION", ConcatenationOptions(axis=1), a, b, scale=1.0, zero_point=3)
    assert y.tolist() == [[3, 4, 2, 5, 126, 0, 1, 2]]


def test_all_uint8_codes_are_rescaled_alike_by_kernels():
    for seed, (scale, zero) in enumerate([(0.1, 3), (2.5, 128), (0.0123, 255), (1.0, 0)]):
        a = data((3, 67, 5), U8, seed=seed, scale=scale, zero_point=zero)
        b = data((3, 2, 5), U8, seed=9, scale=0.37, zero_point=12)
        one("CONCATENATION", ConcatenationOptions(axis=1), a, b, scale=0.05, zero_point=77)


def test_concatenation_refuses_what_it_cannot_join():
    o = ConcatenationOptions(axis=1)
    refused("CONCATENATION", o, data((2, 3)), data((3, 3)), match="only axis 1 may differ")
    refused("CONCATENATION", o, data((2, 3)), data((2, 3), I32), match="must be equal")
    refused("CONCATENATION", ConcatenationOptions(axis=2), data((2, 3)), match="out of range")
    relu = ConcatenationOptions(axis=0, activation=Activation.RELU)
    refused("CONCATENATION", relu, data((2, 3)), match="activation")
    a, b = data((2, 3), I8, scale=0.5), data((2, 3), I8, scale=0.25)
    refused("CONCATENATION", o, a, b, match="scale")
    a = data((2, 3), I16, scale=0.5, zero_point=1)
    refused("CONCATENATION", o, a, match="zero point")
    refused("CONCATENATION", o, data((2, 3), STRING), match="input is STRING")


@ANY_TYPE
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_pack_stacks(dtype, axis):
    parts = [data((3, 5), dtype, seed=j) for j in range(3)]
    y = one("PACK", PackOptions(values_count=3, axis=axis), *parts)
    np.testing.assert_array_equal(y, np.stack([p.value for p in parts], axis))


def test_pack_refuses_other_shapes_counts_and_scales():
    refused("PACK", PackOptions(values_count=2), data((2,)), data((3,)), match="input 1")
    refused("PACK", PackOptions(values_count=3), data((2,)), data((2,)), match="values_count")
    refused("PACK", PackOptions(values_count=1, axis=2), data((2,)), match="out of range")
    a, b = data((2,), I8, scale=0.5), data((2,), I8, scale=0.25)
    refused("PACK", PackOptions(values_count=2), a, b, match="scale")


@pytest.mark.parametrize("dtype", [*FIXED, STRING], ids=str)
def test_tile_repeats(dtype):
    for shape, times in (((2, 3), (2, 1)), ((2, 3), (1, 3)), ((3, 1, 5), (2, 7, 2)), ((4,), (0,))):
        x = data(shape, dtype)
        y = one("TILE", TileOptions(), x, ints(list(times)))
        np.testing.assert_array_equal(y, np.tile(x.value, times))


def test_tile_takes_one_count_a_dimension():
    agrees_when_not_constant("TILE", TileOptions(), data((2, 3)), ints(2, 2, dtype=I64))
    refused("TILE", TileOptions(), data((2, 3)), ints(2), match="multiples holds 1 numbers")
    refused("TILE", TileOptions(), data((2, 3)), ints(2, -1), match="must not be negative")


@ANY_TYPE
def test_broadcast_to_repeats_ones_and_missing_dimensions(dtype):
    for shape, wanted in (((3, 1), (3, 40)), ((1, 5), (4, 5)), ((5,), (2, 3, 5)), ((), (7,)),
                          ((1, 4, 1), (3, 4, 9)), ((2, 1), (2, 0))):  # fmt: skip
        x = data(shape, dtype)
        y = one("BROADCAST_TO", BroadcastToOptions(), x, ints(list(wanted)))
        np.testing.assert_array_equal(y, np.broadcast_to(x.value, wanted))


def test_broadcast_to_refuses_other_shapes():
    agrees_when_not_constant("BROADCAST_TO", BroadcastToOptions(), data((3, 1)), ints(3, 4))
    for wanted in ([2, 4], [4], [3, -1], [1] * 8 + [3]):
        refused("BROADCAST_TO", BroadcastToOptions(), data((3, 4)), ints(wanted), match="broadcast")


@ANY_TYPE
def test_reverse_turns_axes_around(dtype):
    x = data((3, 4, 70), dtype)
    for axes in ([0], [2], [1, 2], [-1, 0], [0, 1, 2], []):
        y = one("REVERSE_V2", ReverseV2Options(), x, ints(axes))
        np.testing.assert_array_equal(y, np.flip(x.value, axes))


def test_reverse_refuses_axes_that_repeat_or_do_not_exist():
    for axes, match in (([0, 0], "twice"), ([0, -2], "twice"), ([2], "out of range")):
        refused("REVERSE_V2", ReverseV2Options(), data((2, 3)), ints(axes), match=match)


@pytest.mark.parametrize("dtype", [F32, U8, I16, I32, I64], ids=str)
@pytest.mark.parametrize(("along", "batch"), [(1, 0), (0, 1), (2, 0), (0, 2)])
def test_reverse_sequence_turns_the_first_elements_around(dtype, along, batch):
    x = data((3, 3, 3), dtype)
    lengths = ints(2, 0, 3)
    options = ReverseSequenceOptions(seq_dim=along, batch_dim=batch)
    node = node_of("REVERSE_SEQUENCE", options, x, lengths)
    (y,) = evaluate(node, x, lengths, kernels=False)
    want = x.value.copy()
    rows, out = (
        np.moveaxis(x.value, (batch, along), (0, 1)),
        np.moveaxis(want, (batch, along), (0, 1)),
    )
    for b, n in enumerate((2, 0, 3)):
        out[b, :n] = rows[b, :n][::-1]
    np.testing.assert_array_equal(y, want)


def test_reverse_sequence_refuses_lengths_and_types():
    options = ReverseSequenceOptions(seq_dim=1, batch_dim=0)
    for bad in (4, -1):
        args = data((2, 3)), ints(1, bad)
        node = node_of("REVERSE_SEQUENCE", options, *args)
        with pytest.raises(InvokeError, match="between 0 and 3"):
            node.op.reference(node, *[a.value for a in args])
    refused("REVERSE_SEQUENCE", options, data((2, 3), I8), ints(1, 1), match="INT8")
    same = ReverseSequenceOptions(seq_dim=1, batch_dim=1)
    refused("REVERSE_SEQUENCE", same, data((2, 3)), ints(1, 1), match="both")
