"""Pooling in NumPy and compiled, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS
from tests.kernels.harness import run as run_kernel
from tests.ops.layers import layer, quantized, run
from tests.ops.lowered import run_lowered

from litejit.errors import PrepareError
from litejit.kernels.pool import PoolSpec, row_lanes
from litejit.model.options import Activation, Padding
from litejit.ops.window import window_of
from litejit.types import F32, I8, I16, I32, U8

RNG = np.random.default_rng(6)
INTEGERS = [I8, U8, I16]
CASES = [  # image, filter, stride, SAME
    ((2, 5, 7, 3), (3, 3), (2, 2), True),
    ((1, 7, 7, 40), (7, 7), (1, 1), False),
    ((1, 9, 6, 1), (2, 2), (2, 2), False),
    ((2, 4, 33, 17), (3, 2), (1, 3), True),
    ((1, 40, 30, 5), (40, 30), (1, 1), False),
    ((1, 3, 3, 130), (5, 5), (1, 1), True),
    ((3, 1, 1, 70), (1, 1), (1, 1), False),
]


def pool(name, x, filter, stride, same, kind=None, activation=Activation.NONE):
    kind = kind or F32
    typed = kind if kind == F32 else quantized(kind, 0.1, 3)
    return layer(
        name, [typed], [x], typed, padding=Padding.SAME if same else Padding.VALID,
        filter_height=filter[0], filter_width=filter[1], stride_h=stride[0], stride_w=stride[1],
        activation=activation,
    )  # fmt: skip


def windows(node, x):
    """(place, cells inside [n, k, channels]) of every window."""
    w = window_of(node)
    for i in range(w.out_h):
        for j in range(w.out_w):
            rows, columns = w.rows.inside(i), w.columns.inside(j)
            part = x[:, rows.start : rows.stop, columns.start : columns.stop]
            yield (slice(None), i, j), part.reshape(len(x), -1, x.shape[3])


def whole_mean(cells):
    """Exact, half away from zero."""
    total, count = cells.astype(np.int64).sum(1), cells.shape[1]
    return np.sign(total) * ((2 * np.abs(total) + count) // (2 * count))


MEANINGS = {
    "AVERAGE_POOL_2D": lambda c: c.mean(1) if c.dtype.kind == "f" else whole_mean(c),
    "MAX_POOL_2D": lambda c: c.max(1),
    "L2_POOL_2D": lambda c: np.sqrt((c.astype(np.float64) ** 2).mean(1)),
}


def sample(kind, image):
    if kind == F32:
        return RNG.normal(size=image).astype(np.float32)
    info = np.iinfo(kind.numpy)
    return RNG.integers(info.min, info.max + 1, image).astype(kind.numpy)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, F32) for name in MEANINGS]
    + [(name, kind) for name in list(MEANINGS)[:2] for kind in INTEGERS],
)
def test_only_cells_inside_the_image_count(name, kind):
    for image, filter, stride, same in CASES:
        x = sample(kind, image)
        node = pool(name, x, filter, stride, same, kind)
        got = node.op.reference(node, x)
        assert (got.shape, got.dtype) == (node.output(0).dims, x.dtype)
        for place, cells in windows(node, x):
            np.testing.assert_allclose(got[place], MEANINGS[name](cells), rtol=1e-5, atol=1e-6)


def test_integer_means_round_half_away_from_zero():
    x = np.array([[1, 2], [-1, -2], [3, 0], [-3, 0]], np.int8).reshape(1, 4, 2, 1)
    node = pool("AVERAGE_POOL_2D", x, (1, 2), (1, 1), False, I8)
    assert node.op.reference(node, x).ravel().tolist() == [2, -2, 2, -2]


def test_a_nan_is_no_maximum_and_spoils_a_mean():
    x = np.array([np.nan, 1, np.nan, np.nan], np.float32).reshape(1, 2, 2, 1)
    for name, want in (("MAX_POOL_2D", [1, -np.finfo(np.float32).max]), ("AVERAGE_POOL_2D", None)):
        node = pool(name, x, (1, 2), (1, 1), False)
        got = node.op.reference(node, x).ravel()
        if want is None:
            assert np.isnan(got).all()
        else:
            assert got.tolist() == np.array(want, np.float32).tolist()


def test_fused_activations_clamp():
    x = np.array([-128, 127], np.int8).reshape(1, 1, 2, 1)
    node = pool("MAX_POOL_2D", x, (1, 1), (1, 1), False, I8, Activation.RELU6)
    assert node.op.reference(node, x).ravel().tolist() == [3, 63]


def test_an_empty_batch_gives_an_empty_result():
    x = np.zeros((0, 4, 4, 2), np.float32)
    options = {"filter_height": 2, "filter_width": 2}
    assert run("AVERAGE_POOL_2D", [F32], [x], **options).shape == (0, 3, 3, 2)


def test_types_and_ranks_without_a_kernel_are_refused():
    with pytest.raises(PrepareError, match="input is INT32"):
        layer("MAX_POOL_2D", [I32], [np.zeros((1, 2, 2, 1), np.int32)], I32)
    with pytest.raises(PrepareError, match="input must be NHWC"):
        layer("MAX_POOL_2D", [F32], [np.zeros((2, 2, 1), np.float32)])
    with pytest.raises(PrepareError, match="input is INT8"):
        kind = quantized(I8, 1.0)
        layer("L2_POOL_2D", [kind], [np.zeros((1, 2, 2, 1), np.int8)], kind)
    with pytest.raises(PrepareError, match="output is INT8"):
        layer("AVERAGE_POOL_2D", [F32], [np.zeros((1, 2, 2, 1), np.float32)], quantized(I8, 1.0))


@pytest.mark.parametrize("isa", HOST_ISAS, ids=[isa.name for isa in HOST_ISAS])
@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("kind", INTEGERS, ids=repr)
def test_compiled_integer_pooling_equals_the_reference(isa, name, kind):
    for image, filter, stride, same in CASES:
        x = sample(kind, image)
        node = pool(name, x, filter, stride, same, kind, Activation.RELU6)
        (got,), calls = run_lowered(node, isa, [x])
        assert calls == 1
        np.testing.assert_array_equal(got, node.op.reference(node, x))


@pytest.mark.parametrize("isa", HOST_ISAS, ids=[isa.name for isa in HOST_ISAS])
@pytest.mark.parametrize("what", ["mean", "max", "l2"])
def test_compiled_float_pooling_equals_the_reference(isa, what):
    name = {"mean": "AVERAGE_POOL_2D", "max": "MAX_POOL_2D", "l2": "L2_POOL_2D"}[what]
    for image, filter, stride, same in CASES:
        x = sample(F32, image)
        x.flat[0], x.flat[-1] = np.nan, np.inf
        node = pool(name, x, filter, stride, same)
        w, spec = window_of(node), PoolSpec(what, F32)
        nbytes = 4 * (w.in_w * w.channels + 4 * row_lanes(spec, isa))
        nbytes = -(-nbytes // 64) * 64
        got = run_kernel(
            spec, x, np.zeros(node.output(0).dims, np.float32), np.zeros(nbytes, np.uint8), nbytes,
            w.in_h, w.in_w, w.channels, w.out_h, w.out_w, w.filter_h, w.filter_w,
            w.stride_h, w.stride_w, w.top, w.left, -0.5, 3.0e38,
            items=w.batch * w.out_h, isa=isa, cuts=(1,) if w.batch * w.out_h > 1 else (),
        )[1]  # fmt: skip
        want = np.clip(node.op.reference(node, x), np.float32(-0.5), np.float32(3.0e38))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_windows_of_one_column_take_a_line_for_a_pixel(name):
    isa = HOST_ISAS[0]
    for filter, stride in (((3, 1), (2, 1)), ((1, 1), (1, 1)), ((1, 1), (2, 1))):
        for kind in (F32, I16):
            x = sample(kind, (2, 7, 5, 3))
            node = pool(name, x, filter, stride, True, kind, Activation.RELU6)
            (got,), calls = run_lowered(node, isa, [x])
            assert calls == 1
            np.testing.assert_allclose(got, node.op.reference(node, x), rtol=1e-6)
