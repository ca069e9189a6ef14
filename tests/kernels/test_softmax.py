"""Softmax and norms of rows: every ISA, row lengths around the edges of vectors."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import isa as isas
from litejit.codegen import llvm
from litejit.kernels.softmax import L2NormF32, SoftmaxF32
from litejit.kernels.softmax_fixed import Softmax8, scratch_bytes
from litejit.ops.softmax import Differences, softmax8

BY_ISA = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 257, 1000]


def rows_of(n):
    return np.random.default_rng(n).standard_normal((5, n)).astype(np.float32) * 4


@BY_ISA
@pytest.mark.parametrize("beta", [1.0, 0.7])
def test_float_softmax(isa, beta):
    for n in SIZES:
        x = rows_of(n)
        scaled = (x - x.max(-1, keepdims=True)) * np.float32(beta)
        e = np.exp(scaled.astype(np.float64))
        got = run(SoftmaxF32(), x, x * 0, n, beta, items=5, isa=isa, cuts=(2,))[1]
        np.testing.assert_allclose(got, e / e.sum(-1, keepdims=True), rtol=1e-6)


@BY_ISA
def test_float_log_softmax(isa):
    for n in SIZES:
        x = rows_of(n)
        below = (x - x.max(-1, keepdims=True)).astype(np.float64)
        want = below - np.log(np.exp(below).sum(-1, keepdims=True))
        got = run(SoftmaxF32(log=True), x, x * 0, n, 1.0, items=5, isa=isa, cuts=(3,))[1]
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@BY_ISA
def test_euclidean_norm(isa):
    for n in SIZES:
        x = rows_of(n)
        x[2], x[3, 0] = 0, np.nan  # one NaN is the whole row
        norm = np.maximum(np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True)), 1e-6)
        got = run(L2NormF32(), x, x * 0, n, items=5, isa=isa, cuts=(2,))[1]
        np.testing.assert_allclose(got, x / norm, rtol=1e-6)


@BY_ISA
@pytest.mark.parametrize("unsigned", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_8_bit_softmax_equals_its_reference(isa, unsigned, wide):
    for n in SIZES:
        for scale in (0.1, 1e-9, 2.0, 0.004):
            x = np.random.default_rng(n).integers(0, 256, (5, n), np.uint8)
            x[2], x[3] = 7, np.maximum(x[3], 250)
            x = x if unsigned else x.view(np.int8)
            differences = Differences(scale, 1.0)
            table = differences.table()[::-1].astype(np.int32)
            want = softmax8(x.astype(np.int64), differences, 16 if wide else 8)
            want -= 2**15 if wide else 0 if unsigned else 128
            y = np.zeros(x.shape, np.int16 if wide else x.dtype)
            for short in (False, True):  # a block has at most 8 rows
                scratch = np.zeros(scratch_bytes(isa, 8 * n), np.uint8)
                spec = Softmax8(unsigned, wide, short)
                got = run(spec, x, y, n, table, scratch, 0, items=5, isa=isa, cuts=(2,))[1]
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", isas.ISAS, ids=lambda isa: isa.name)
def test_every_isa_compiles(isa):
    for spec in (SoftmaxF32(), SoftmaxF32(log=True), L2NormF32(), Softmax8(False, False, True)):
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)
