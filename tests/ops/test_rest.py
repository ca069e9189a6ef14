"""Operators that have no family of tests of their own."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.whole import Given, agrees, fixed, run

from litejit.interpreter import Interpreter
from litejit.model.builder import ModelBuilder
from litejit.model.model import DimensionMetadata, Sparsity
from litejit.model.options import elementwise as options
from litejit.types import BOOL, F16, F32, F64, I8, I16, I32, I64

RNG = np.random.default_rng(0)
NUMBERS = (F32, F16, I8, I16, I32, I64)


@pytest.mark.parametrize("name", ["ADD", "MULTIPLY", "MAXIMUM", "MINIMUM"])
@pytest.mark.parametrize("kind", [F32, I32, I64, I16])
def test_stablehlo_combines_equal_shapes(kind, name):
    a, b = (Given(RNG.integers(-90, 90, (3, 4)).astype(kind.numpy)) for _ in range(2))
    agrees(f"STABLEHLO_{name}", None, [a, b], [kind])


@pytest.mark.parametrize("kind", [BOOL, I32, I8, I16])
def test_stablehlo_and_is_bitwise_for_numbers(kind):
    a, b = (Given(RNG.integers(0, 2, (3, 4)).astype(kind.numpy)) for _ in range(2))
    agrees("STABLEHLO_AND", None, [a, b], [kind])


@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("custom", [False, True])
def test_angles_of_points(kind, custom):
    a, b = (Given(RNG.standard_normal((3, 4)).astype(kind.numpy)) for _ in range(2))
    name, how = ("Atan2", {}) if custom else ("ATAN2", options.ATan2Options())
    (y,) = run(name, how, [a, b], [kind])
    np.testing.assert_allclose(y, np.arctan2(a.value, b.value), rtol=1e-6)


@pytest.mark.parametrize("kind", [F32, F64, I32])
def test_the_custom_sign_keeps_nan(kind):
    x = np.array([-3, 0, 5], kind.numpy)
    (y,) = run("Sign", {}, [Given(x)], [kind])
    assert y.tolist() == [-1, 0, 1]
    if kind is not I32:
        (y,) = run("Sign", {}, [fixed(np.array([np.nan], kind.numpy))], [kind])
        assert np.isnan(y).all()


@pytest.mark.parametrize("kind", [F32, F16, I8])
def test_sparse_constants_get_their_zeros(kind):
    dense = np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], kind.numpy)
    rows, columns = np.nonzero(dense)
    segments = np.searchsorted(rows, np.arange(4)).astype(np.int32)
    sparsity = Sparsity(
        (0, 1), None,
        (DimensionMetadata(0, 3, None, None),
         DimensionMetadata(1, 0, segments, columns.astype(np.int32))),
    )  # fmt: skip
    builder = ModelBuilder()
    graph = builder.main
    graph.add_input("unused", (1,), F32)
    stored = builder.add_buffer(dense[rows, columns].tobytes())
    sparse = graph.add_tensor("x", (3, 3), kind, buffer=stored, sparsity=sparsity)
    y = graph.add_output("y", (3, 3), kind)
    graph.add_operator("DENSIFY", [sparse], [y], options.DensifyOptions())
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(y), dense)
