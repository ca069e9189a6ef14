"""What a float kernel does with an accumulator before it stores it: activations, residual sums.

An epilogue is a tuple of words, applied in order; it is a field of a kernel's spec, so that
fusing an operator composes text and needs no new kernel. "add" adds the value that a second
tensor, the residual, has at the place of the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from litejit.codegen import math
from litejit.codegen.lang import Function, Value

Epilogue: TypeAlias = "tuple[str, ...]"

ADD = "add"


def _clamp(low: float, high: float | None) -> Callable[[Function, Value], Value]:
    """min(max(x, low), high) as the reference has it: a NaN stays."""

    def apply(fn: Function, x: Value) -> Value:
        bottom = fn.const(low, x.type)
        x = (bottom > x).choose(bottom, x)
        if high is None:
            return x
        top = fn.const(high, x.type)
        return (top < x).choose(top, x)

    return apply


def _hard_swish(fn: Function, x: Value) -> Value:
    """x * min(6, max(0, x + 3)) / 6."""
    gate = _clamp(0.0, 6.0)(fn, x + 3.0)
    return x * gate * (1.0 / 6.0)


_LARGEST = float.fromhex("0x1.fffffep+127")  # of float32

ACTIVATIONS: dict[str, Callable[[Function, Value], Value]] = {
    "bound": _clamp(-_LARGEST, _LARGEST),
    "relu": _clamp(0.0, None),
    "relu6": _clamp(0.0, 6.0),
    "relu_n1_to_1": _clamp(-1.0, 1.0),
    "relu_0_to_1": _clamp(0.0, 1.0),
    "hard_swish": _hard_swish,
    "logistic": lambda _, x: math.logistic(x),
    "swish": lambda _, x: math.swish(x),
    "tanh": lambda _, x: math.tanh(x),
    "elu": lambda _, x: math.elu(x),
}


def finish(fn: Function, epilogue: Epilogue, x: Value, residual: Callable[[], Value]) -> Value:
    """The value to store; `residual` loads what "add" adds, at the moment it is needed."""
    for word in epilogue:
        x = x + residual() if word == ADD else ACTIVATIONS[word](fn, x)
    return x
