"""Compiled products of matrices that only a run knows give what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.layers import quantized
from tests.ops.lowered import run_lowered
from tests.ops.numbered import both, numbered

from litejit.codegen.isa import host_isas
from litejit.types import F32, I8

ISAS = host_isas()
NAMES = [isa.name for isa in ISAS]
RNG = np.random.default_rng(8)
SHAPES = [
    ((3, 5, 33), (3, 33, 20)),
    ((2, 3, 40, 64), (1, 3, 64, 50)),
    ((1, 1, 100), (4, 100, 70)),
    ((17, 3), (3, 2)),
    ((6, 30), (2, 2, 30, 1)),
]


def codes(shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def turned(shape):
    return (*shape[:-2], shape[-1], shape[-2])


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
@pytest.mark.parametrize("zeros", [(3, 0, -4), (-128, 7, 100), (0, -128, 0)])
def test_integer_products_are_exact(isa, left, right, adj_x, adj_y, zeros):
    x, w = codes(turned(left) if adj_x else left), codes(turned(right) if adj_y else right)
    scale = 74.0 * np.sqrt(left[-1]) / 40
    types = [quantized(I8, 1.0, zeros[0]), quantized(I8, 1.0, zeros[1])]
    out = quantized(I8, 74 * scale, zeros[2])
    node = numbered("BATCH_MATMUL", types, [x, w], out, constant=(),
                    adj_x=adj_x, adj_y=adj_y)  # fmt: skip
    want, got = both(node, [x, w], isa)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS, ids=NAMES)
@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("adj_x", [False, True])
def test_float_rows_are_quantized(isa, left, right, asymmetric, adj_x):
    w = codes(right)
    x = RNG.normal(size=turned(left) if adj_x else left).astype(np.float32)
    for scales in (0.02, RNG.uniform(0.01, 0.03, right[-1])):
        node = numbered("BATCH_MATMUL", [F32, quantized(I8, scales)], [x, w], F32, constant=(),
                        adj_x=adj_x, asymmetric_quantize_inputs=asymmetric)  # fmt: skip
        want, got = both(node, [x, w], isa)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_many_matrices_are_one_call():
    x, w = codes((9, 13, 3, 11)), codes((9, 13, 11, 8))
    types = [quantized(I8, 1.0, 3), quantized(I8, 1.0, -2)]
    node = numbered("BATCH_MATMUL", types, [x, w], quantized(I8, 500.0, 1), constant=())
    (got,), calls = run_lowered(node, ISAS[0], [x, w])
    np.testing.assert_array_equal(got, node.op.reference(node, x, w))
    assert calls == 2


def test_deep_float_rows_are_quantized():
    x, w = RNG.normal(size=(2, 3000)).astype(np.float32), codes((3000, 20))
    node = numbered("BATCH_MATMUL", [F32, quantized(I8, 0.02)], [x, w], F32, constant=())
    want, got = both(node, [x, w], ISAS[0])
    np.testing.assert_allclose(got, want, rtol=1e-6)
