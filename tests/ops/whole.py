"""Models of one operator, run by litejit and, where it is installed, by LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.ops.moving import BY_NUMPY, quantization

from litejit.interpreter import Interpreter
from litejit.model.builder import ModelBuilder
from litejit.model.flexbuffer import encode
from litejit.types import DType


class Given:
    """An operand: an array, whether the file holds it, its type and scale."""

    def __init__(
        self, value: Any, *, constant: bool = False, dtype: DType | None = None,
        scale: float = 0.0, zero_point: int = 0,
    ) -> None:  # fmt: skip
        self.value, self.constant = np.asarray(value), constant
        self.dtype = dtype or BY_NUMPY[self.value.dtype]
        self.quantization = quantization(scale, zero_point)


def fixed(value: Any, **more: Any) -> Given:
    """An operand that the file holds."""
    return Given(value, constant=True, **more)


Out = DType | tuple[DType, tuple[int, ...]] | Given  # a Given lends its type and its scale


def model_of(
    name: str, options: Any, operands: Sequence[Given], outs: Sequence[Out],
    body: tuple[str | None, DType] | None = None,
) -> bytes:  # fmt: skip
    """The file. `options` of a custom operator are a dict or bytes; `body` is its region."""
    builder = ModelBuilder()
    graph = builder.main
    numbers, results = [], []
    for k, x in enumerate(operands):
        add = graph.add_constant if x.constant else graph.add_input
        what = (x.value,) if x.constant else (x.value.shape, x.dtype)
        more = {"dtype": x.dtype} if x.constant else {}
        numbers.append(add(f"x{k}", *what, quantization=x.quantization, **more))
    for k, out in enumerate(outs):
        dtype, shape = out if isinstance(out, tuple) else (getattr(out, "dtype", out), ())
        q = out.quantization if isinstance(out, Given) else None
        results.append(graph.add_output(f"y{k}", shape, dtype, quantization=q))
    if isinstance(options, (dict, bytes)):
        data = encode(options) if isinstance(options, dict) else options
        graph.add_operator(name, numbers, results, custom=True, custom_options=data)
    else:
        graph.add_operator(name, numbers, results, options)
    if body is not None:
        region = builder.add_subgraph("region")
        a, b = (region.add_input(n, (), body[1]) for n in "ab")
        if body[0] is None:
            region.outputs.append(b)
        else:
            region.add_operator(body[0], [a, b], [region.add_output("c", (), body[1])])
    return builder.to_bytes()


def results_of(kind: Any, content: bytes, operands: Sequence[Given], runs: int) -> list[Any]:
    """The outputs of the last of several runs."""
    interpreter = kind(model_content=content)
    interpreter.allocate_tensors()
    late = [x.value for x in operands if not x.constant]
    for _ in range(runs):
        for detail, value in zip(interpreter.get_input_details(), late, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def run(
    name: str, options: Any, operands: Sequence[Given], outs: Sequence[Out], *,
    body: tuple[str | None, DType] | None = None, runs: int = 1,
) -> list[Any]:  # fmt: skip
    """What litejit makes of the operator."""
    return results_of(Interpreter, model_of(name, options, operands, outs, body), operands, runs)


def agrees(
    name: str, options: Any, operands: Sequence[Given], outs: Sequence[Out], *,
    body: tuple[str | None, DType] | None = None, runs: int = 1, rtol: float = 0.0,
) -> list[Any]:  # fmt: skip
    """What litejit makes of the operator, after LiteRT made the same."""
    mine = run(name, options, operands, outs, body=body, runs=runs)
    module = pytest.importorskip("ai_edge_litert.interpreter")
    content = model_of(name, options, operands, outs, body)
    for got, want in zip(
        mine, results_of(module.Interpreter, content, operands, runs), strict=True
    ):
        got, want = np.asarray(got), np.asarray(want)  # noqa: PLW2901
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        if rtol and want.size:
            peak = np.abs(want[np.isfinite(want)]).max(initial=0)
            np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * peak)
        else:
            np.testing.assert_array_equal(got, want)
    return mine
