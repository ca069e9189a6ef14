"""codegen/math.py against float64 NumPy, on every instruction set of this machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.kernels import harness

from litejit.codegen import math as vector_math
from litejit.codegen.isa import ISAS, Isa
from litejit.codegen.lang import Function, Ptr, Value, f32, f64
from litejit.kernels.base import KernelSpec


class MathSpec(KernelSpec):
    """y[i] = function(x[i]) or function(x[i], z[i]); items are whole vectors."""

    function: str
    operands: int

    def emit(self, name: str, isa: Isa) -> str:
        lanes = isa.lanes(f32)
        fn = Function(name, isa, x=Ptr(f32), z=Ptr(f32), y=Ptr(f32))
        x, z, y = fn.args
        evaluate: Callable[..., Value] = getattr(vector_math, self.function)
        with fn.loop(fn.end, start=fn.begin) as block:
            at = block * lanes
            operands = [p.load(at, lanes=lanes) for p in (x, z)[: self.operands]]
            y.store(at, evaluate(*operands))
        return fn.ir()


EXTREMES = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, 1.1754944e-38, 3.4028235e38,
     -3.4028235e38, 1.0, -1.0, 0.5, 88.72283, 88.72284, -87.33655, -103.97, -104.5, 2.0, 3.0],
    np.float32,
)  # fmt: skip


def grid(low: float, high: float) -> np.ndarray:
    """Even steps, steps in the exponent around 0, and the extremes; a multiple of 16 long."""
    tiny = np.geomspace(1e-44, max(abs(low), abs(high)), 3000).astype(np.float32)
    both = np.concatenate([np.linspace(low, high, 30000), tiny, -tiny])
    x = np.concatenate([both[(both >= low) & (both <= high)].astype(np.float32), EXTREMES])
    return np.concatenate([x, np.ones(-len(x) % 16, np.float32)])


def evaluate(isa: Isa, function: str, *operands: np.ndarray) -> np.ndarray:
    x, z = operands[0], operands[-1]
    spec = MathSpec(function, len(operands))
    items = len(x) // isa.lanes(f32)
    return harness.run(spec, x, z, np.zeros_like(x), items=items, isa=isa)[2]


def assert_close(y: np.ndarray, true: Any, relative: float, x: Any) -> None:
    with np.errstate(all="ignore"):
        true = np.asarray(true)
        rounded = true.astype(np.float32)
        special = ~np.isfinite(rounded)
        np.testing.assert_array_equal(y[special], rounded[special], err_msg=str(x))
        # half a unit of the smallest denormal cannot be avoided
        error = np.abs(y.astype(np.float64) - true)[~special] - 1.5e-45
        worst = (error / np.maximum(np.abs(true[~special]), 1.2e-38)).max()
    assert worst <= relative, f"relative error {worst:.3g}"


def erfc(x: np.ndarray) -> np.ndarray:
    return np.array([math.erfc(v) for v in x])


UNARY: dict[str, tuple[Callable[[Any], Any], float, float, float]] = {
    "exp": (np.exp, -110, 95, 2e-7),
    "expm1": (np.expm1, -40, 95, 4e-7),
    "elu": (lambda x: np.where(x < 0, np.expm1(x), x), -40, 95, 4e-7),
    "logistic": (lambda x: np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-abs(x))), -110, 95, 4e-7),
    "swish": (lambda x: np.minimum(x / (1 + np.exp(-x)), 3.4028234663852886e38), -110, 95, 6e-6),
    "tanh": (np.tanh, -12, 12, 5e-7),
    "log": (np.log, -5, 3e38, 2e-7),
    "rsqrt": (lambda x: 1 / np.sqrt(x), -5, 3e38, 2e-7),
    "gelu": (lambda x: x / 2 * erfc(-x / math.sqrt(2)), -14, 20, 1e-6),
    "nearest": (np.rint, -9e6, 9e6, 0),
    "floor": (np.floor, -9e6, 9e6, 0),
    "ceil": (np.ceil, -9e6, 9e6, 0),
    "sin": (np.sin, -1e5, 1e5, 1.5e-7),
    "cos": (np.cos, -1e5, 1e5, 1.5e-7),
}


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("function", UNARY)
def test_a_function_is_near_the_true_value_everywhere(function: str, isa: Isa) -> None:
    true, low, high, relative = UNARY[function]
    x = grid(low, high)
    with np.errstate(all="ignore"):
        expected = true(x.astype(np.float64))
    assert_close(evaluate(isa, function, x), expected, relative, x)


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("function", ["log", "tanh", "sin", "gelu"])
def test_a_function_keeps_its_precision_near_its_zero(function: str, isa: Isa) -> None:
    x = np.linspace(-0.4, 0.4, 16000).astype(np.float32) + np.float32(function == "log")
    true = UNARY[function][0](x.astype(np.float64))
    assert_close(evaluate(isa, function, x), true, UNARY[function][3], x)


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
def test_the_tanh_form_of_gelu_is_near_the_true_value(isa: Isa) -> None:
    x = np.linspace(-12, 12, 16000).astype(np.float32)
    wide = x.astype(np.float64)
    true = wide / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    error = np.abs(evaluate(isa, "gelu_tanh", x) - true)
    assert (error <= 2e-7 * np.abs(wide)).all(), (error / np.abs(wide)).max()


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("function", ["sin", "cos"])
def test_huge_angles_are_reduced_exactly(function: str, isa: Isa) -> None:
    # the sines of these numbers are known: float64's libm reduces with all bits of pi
    x = np.geomspace(1e5, 3.4e38, 8000).astype(np.float32)
    x = np.concatenate([x, -x])
    true = getattr(np, function)(x.astype(np.float64))
    assert_close(evaluate(isa, function, x), true, 2e-7, x)


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
def test_powers_follow_c_at_every_pair_of_special_values(isa: Isa) -> None:
    special = np.concatenate([EXTREMES, np.float32([-0.5, -2, -3, 1e9, -1e9, 16777217, 0.1])])
    x, y = (v.ravel() for v in np.meshgrid(special, special))
    assert len(x) % 16 == 0
    with np.errstate(all="ignore"):
        true = np.power(x.astype(np.float64), y.astype(np.float64))
    z = evaluate(isa, "power", x, y)
    assert_close(z, true, 2e-7, (x, y))
    with np.errstate(over="ignore"):
        signed = true.astype(np.float32) == 0
    np.testing.assert_array_equal(np.signbit(z[signed]), np.signbit(true[signed]))


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
def test_powers_are_near_the_true_value(isa: Isa) -> None:
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-20, 20, 32000)).astype(np.float32)
    y = rng.uniform(-10, 10, 32000).astype(np.float32)
    with np.errstate(all="ignore"):
        true = np.power(x.astype(np.float64), y.astype(np.float64))
    assert_close(evaluate(isa, "power", x, y), true, 1.5e-7, (x, y))


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa.arch == "aarch64"], ids=str)
def test_functions_compile_for_other_machines(isa: Isa) -> None:
    from litejit.codegen import llvm

    for function in UNARY:
        assert llvm.compile_ir(MathSpec(function, 1).emit("kernel", isa), isa)


class DoubleSpec(KernelSpec):
    """y[i] = function(x[i]) of float64; items are whole vectors."""

    function: str

    def emit(self, name: str, isa: Isa) -> str:
        lanes = isa.lanes(f64)
        fn = Function(name, isa, x=Ptr(f64), y=Ptr(f64))
        x, y = fn.args
        with fn.loop(fn.end, start=fn.begin) as block:
            value = getattr(vector_math, self.function)(x.load(block * lanes, lanes=lanes))
            y.store(block * lanes, value)
        return fn.ir()


@pytest.mark.parametrize("isa", harness.HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(
    ("function", "true", "low", "high", "relative"),
    [("exp64", np.exp, -760.0, 720.0, 4e-16), ("log64", np.log, 1e-300, 1e9, 1e-10)],
)
def test_functions_of_float64(
    function: str, true: Any, low: float, high: float, relative: float, isa: Isa
) -> None:
    special = np.array([0.0, np.inf, np.nan, 1.0, 1e-12, 1e12, 709.7, 2.0])
    tiny = np.geomspace(1e-17, 1.0, 200)
    x = np.concatenate([np.linspace(low, high, 30000), 1 + tiny, 1 - tiny / 2, special])
    items = len(x) // isa.lanes(f64)
    with np.errstate(all="ignore"):
        expected = true(x)
    found = harness.run(DoubleSpec(function), x, np.zeros_like(x), items=items, isa=isa)[1]
    whole = items * isa.lanes(f64)
    # half a unit of the smallest denormal cannot be avoided
    np.testing.assert_allclose(found[:whole], expected[:whole], rtol=relative, atol=5e-324)
