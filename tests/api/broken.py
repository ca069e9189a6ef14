"""Models that an interpreter must refuse, as bytes: each breaks one rule of the format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.model import Model, write_model
from litejit.model.builder import ModelBuilder, per_channel, per_tensor
from litejit.model.model import OperatorCode, Tensor
from litejit.record import replace
from litejit.types import F32, I8, Quantization


def _plain() -> Model:
    """y = -x + c on [2, 3] floats: x 0, c 1, n 2, y 3."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (2, 3), F32)
    c = graph.add_constant("c", np.ones(3, np.float32))
    n = graph.add_tensor("n", (2, 3), F32)
    y = graph.add_output("y", (2, 3), F32)
    graph.add_operator("NEG", [x], [n])
    graph.add_operator("ADD", [n, c], [y])
    return builder.build()


def _with(**changes: Any) -> bytes:
    """The plain model with another first subgraph."""
    model = _plain()
    graph = replace(model.subgraphs[0], **changes)
    return write_model(replace(model, subgraphs=(graph,)))


def _with_tensor(index: int, **changes: Any) -> bytes:
    tensors = list(_plain().subgraphs[0].tensors)
    tensors[index] = replace(tensors[index], **changes)
    return _with(tensors=tuple(tensors))


def _with_operator(index: int, **changes: Any) -> bytes:
    operators = list(_plain().subgraphs[0].operators)
    operators[index] = replace(operators[index], **changes)
    return _with(operators=tuple(operators))


def _quantized(quantization: Quantization) -> bytes:
    tensors = list(_plain().subgraphs[0].tensors)
    tensors.append(Tensor("q", (2, 3), I8, 0, quantization))
    return _with(tensors=tuple(tensors))


def _scales(count: int, zeros: int, axis: int) -> bytes:
    wide = Quantization(np.ones(count, np.float32), np.zeros(zeros, np.int64), axis)
    return _quantized(wide)


BROKEN: dict[str, Callable[[], bytes]] = {
    "another_schema_version": lambda: write_model(replace(_plain(), version=2)),
    "no_subgraph": lambda: write_model(replace(_plain(), subgraphs=())),
    "an_unknown_operator_code": lambda: write_model(
        replace(_plain(), operator_codes=(OperatorCode(240), OperatorCode(0)))
    ),
    "a_buffer_out_of_range": lambda: _with_tensor(0, buffer=77),
    "an_operator_code_out_of_range": lambda: _with_operator(0, code=5),
    "a_constant_too_small": lambda: _with_tensor(1, shape=(5,)),
    "a_constant_too_large": lambda: _with_tensor(1, shape=(1,)),
    "a_negative_dimension": lambda: _with_tensor(2, shape=(-1, 3)),
    "a_variable_with_data": lambda: _with_tensor(1, is_variable=True),
    "more_scales_than_zero_points": lambda: _scales(3, 2, 1),
    "a_quantized_dimension_out_of_range": lambda: _scales(3, 3, 2),
    "a_number_of_scales_that_does_not_fit": lambda: _scales(2, 2, 1),
    "scales_that_fit": lambda: _quantized(per_channel([1, 2, 3], axis=1)),
    "one_scale": lambda: _quantized(per_tensor(0.5)),
    "an_input_out_of_range": lambda: _with(inputs=(9,)),
    "an_output_out_of_range": lambda: _with(outputs=(9,)),
    "an_operand_out_of_range": lambda: _with_operator(0, inputs=(9,)),
    "an_operand_below_minus_1": lambda: _with_operator(0, inputs=(-2,)),
    "a_result_out_of_range": lambda: _with_operator(0, outputs=(-7,)),
    "a_result_that_is_its_operand": lambda: _with_operator(0, outputs=(0,)),
    "an_operand_that_nobody_writes": lambda: _with_operator(0, inputs=(3,)),
    "too_many_operands": lambda: _with_operator(0, inputs=(0, 1)),
    "no_operands": lambda: _with_operator(0, inputs=()),
}
