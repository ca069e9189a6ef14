"""What TFLM refuses, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.micro.arena_models import branches, ints, model_of

from litejit.errors import ModelError
from litejit.micro.lint import lint
from litejit.model import read_model
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import (
    Activation,
    AddOptions,
    ConcatenationOptions,
    SoftmaxOptions,
    SqueezeOptions,
)
from litejit.types import F32, I4, I8, I16, I32, STRING

GOLDEN = Path(__file__).parent.parent.parent.parent / "shared" / "tflm_golden"
VECTOR = ((1, 8), F32)


def said(name: str, inputs: Any, outputs: Any, **more: Any) -> list[str]:
    return [f"{one.stage}: {one.problem}" for one in lint(model_of(name, inputs, outputs, **more))]


def test_a_model_that_tflm_runs_has_no_findings() -> None:
    assert said("ADD", [VECTOR, VECTOR], [VECTOR], options=AddOptions()) == []


def test_all_findings_are_told_at_once() -> None:
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (1, 8), F32), graph.add_output("y", (1, 8), F32)
    graph.add_operator("GELU", [x], [y])
    graph.add_operator("FLOOR_DIV", [x, x], [y])
    graph.add_operator("LiteRtOwn", [x], [y], custom=True)
    graph.add_operator("PAD", [x, y], [y])
    found = lint(builder.build())
    assert [(one.operator, one.name, one.stage) for one in found] == [
        (0, "GELU", "load"),
        (2, "LiteRtOwn", "load"),
        (3, "PAD", "prepare"),
        (3, "PAD", "prepare"),
    ]
    assert [one.problem for one in found[-2:]] == [
        "input 1 'y' is computed while the model runs",
        "it pads (1, 8) by 8 numbers",
    ]


def test_a_finding_says_who_what_and_what_to_do() -> None:
    (one,) = lint(model_of("TILE", [VECTOR, ((2,), I32)], [VECTOR]))
    assert str(one) == (
        "TILE (operator 0): TFLM has no operator TILE [load]; use BROADCAST_TO or CONCATENATION"
    )


def test_hybrid_layers_are_refused_with_the_types_that_do() -> None:
    (one,) = lint(model_of("CONV_2D", [VECTOR, ((4, 8), I8), None], [VECTOR]))
    assert one.problem == (
        "it does not run on FLOAT32 × INT8 × nothing → FLOAT32; it takes FLOAT32 × FLOAT32 × "
        "FLOAT32 or INT8 × INT8/INT4 × INT32 or INT16 × INT8 × INT32/INT64"
    )
    assert "quantize activations too" in one.advice


def test_types_without_a_size_are_found() -> None:
    found = said("GATHER", [((4,), STRING), ((2,), I32)], [((2,), STRING)])
    assert found[0] == "prepare: input 0 'i0' is STRING, whose size TFLM does not know"
    assert len(found) == 2


def test_dynamic_results_are_found() -> None:
    found = said("NEG", [VECTOR], [((0, 8), F32)])
    assert found == [
        "prepare: has dynamic tensor #1: its result 0, 'o0', has the shape (0, 8), and dynamic "
        "tensors are not supported"
    ]
    assert said("NEG", [VECTOR], [((0,), F32)]) == []


def test_operands_that_have_to_be_constant_are_found() -> None:
    image, out = ((1, 4, 4, 2), F32), ((1, 6, 6, 2), F32)
    assert said("PAD", [image, ((4, 2), I32)], [out]) == [
        "prepare: input 1 'i1' is computed while the model runs"
    ]
    constant = ((4, 2), I32, ints(0, 0, 1, 1, 1, 1, 0, 0))
    assert said("PAD", [image, constant], [out]) == []


def test_ranks_that_no_kernel_takes_are_found() -> None:
    wide, image = ((1, 2, 2, 2, 2), F32), ((1, 2, 2, 2), F32)

    def sliced(shape: Any) -> list[str]:
        rank = len(shape[0])
        numbers = [((rank,), I32, ints(*[n] * rank)) for n in (0, 2, 1)]
        return said("STRIDED_SLICE", [shape, *numbers], [shape])

    assert sliced(wide) == [
        "prepare: input 0 has the shape (1, 2, 2, 2, 2), of 0 to 4 dimensions expected"
    ]
    assert sliced(image) == []


def test_concatenations_of_many_tensors_or_with_activations_are_found() -> None:
    options = ConcatenationOptions(axis=1, activation=Activation.RELU)
    found = said("CONCATENATION", [VECTOR] * 11, [((1, 88), F32)], options=options)
    assert found == [
        "prepare: it has a fused activation",
        "prepare: it has 11 inputs, TFLM takes 10",
    ]


def test_int4_weights_with_a_scale_a_channel_are_found() -> None:
    inputs = [((1, 2), I8), ((4, 2), I4, 4), None]
    found = said("FULLY_CONNECTED", inputs, [((1, 4), I8)])
    assert found == ["prepare: its INT4 weights have a scale for every channel"]


def test_squeezed_dimensions_that_are_not_one_are_found() -> None:
    options = SqueezeOptions(squeeze_dims=(1,))
    found = said("SQUEEZE", [VECTOR], [((8,), F32)], options=options)
    assert found == ["prepare: it squeezes axis 1 of the shape (1, 8), which is not 1"]


def quantized(name: str, scales: tuple[float, float], zero: int, **more: Any) -> list[str]:
    builder = ModelBuilder()
    graph = builder.main
    dtype = more.pop("dtype", I8)
    shape = more.pop("shape", (1, 8))
    x = graph.add_input("x", shape, dtype, quantization=per_tensor(scales[0], zero))
    y = graph.add_output(
        "y", shape, dtype, quantization=per_tensor(scales[1], more.pop("result", 0))
    )
    graph.add_operator(name, [x, *[x] * more.pop("again", 0)], [y], **more)
    return [f"{one.stage}: {one.problem}" for one in lint(builder.build())]


@pytest.mark.parametrize(
    ("name", "scale", "zero", "expected"),
    [
        ("SOFTMAX", 1 / 256, -128, None),
        ("SOFTMAX", 1 / 255, -128, "scale 0.00390625 and zero point -128"),
        ("SOFTMAX", 1 / 256, 0, "scale 0.00390625 and zero point -128"),
        ("LOG_SOFTMAX", 1 / 16, 127, None),
        ("LOG_SOFTMAX", 1 / 16, 0, "scale 0.0625 and zero point 127"),
        ("LOGISTIC", 0.5, -128, None),
        ("LOGISTIC", 0.5, 0, "zero point -128"),
    ],
)
def test_results_with_another_range_than_tflms_are_found(
    name: str, scale: float, zero: int, expected: str | None
) -> None:
    options = SoftmaxOptions(beta=1.0) if name == "SOFTMAX" else None
    found = quantized(name, (0.1, scale), 0, result=zero, options=options)
    assert len(found) == (expected is not None)
    assert expected is None or found[0].endswith(f"expected {expected}")


def test_what_ends_tflms_process_is_found() -> None:
    options = SoftmaxOptions(beta=1.0)
    (tiny,) = quantized("SOFTMAX", (1e-9, 1 / 256), 0, result=-128, options=options)
    assert tiny.startswith("prepare: its input scale times beta is 1e-09")
    (wide,) = quantized("SOFTMAX", (0.1, 1 / 256), 0, result=-128, options=options, shape=(1, 1000))
    assert wide.startswith("invoke: it sums 1000 exponentials")


def test_sixteen_bit_zero_points_are_found() -> None:
    assert quantized("TANH", (0.1, 2.0**-15), 3, dtype=I16) == [
        "prepare: input 0 'x' is INT16 with a zero point that is not 0"
    ]


def test_pools_that_requantize_are_found() -> None:
    assert quantized("MAX_POOL_2D", (0.1, 0.2), 0) == [
        "prepare: its result is quantized otherwise than its input"
    ]


def test_activations_whose_bound_overflows_are_found() -> None:
    options = AddOptions(activation=Activation.RELU6)
    found = quantized("ADD", (1.0, 1e-9), 0, options=options, again=1)
    assert found == ["prepare: its activation's bound does not fit: the result's scale is 1e-09"]


def test_offline_plans_that_tflm_misreads_are_found() -> None:
    plan = [0, 8, 96, -1, -1, -1, -1, -1, -1, -1, 128]
    found = lint(branches(plan).build())
    assert [(one.subgraph, one.operator) for one in found] == [(1, -1), (2, -1)]
    (short,) = lint(branches([0, 8]).build())
    assert "offsets (2) in metadata not equal nbr tensors (11)" in short.problem


# Refused for what the data or a bug of the planner does, which no look at the model tells.
_DATA_DEPENDENT = ("Rsqrt is only defined for positive values",)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.json")), ids=lambda p: p.stem)
def test_findings_are_there_exactly_where_tflm_refuses(path: Path) -> None:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    file = path.parent / recorded["model_file"]
    if not file.is_file() or recorded["status"] == "signal 14":
        pytest.skip("the model is not there, or hangs in TFLM")
    try:
        found = lint(read_model(str(file), strict=False))
    except ModelError as error:
        pytest.skip(f"another file than the recorded one: {error}")
    if any(text in recorded["stderr"] for text in _DATA_DEPENDENT):
        assert not found
        return
    assert bool(found) == (recorded["status"] != "ok")
    if "failed to allocate" in recorded["status"]:
        assert any(one.stage in ("load", "prepare") for one in found)
    elif "invocation failed" in recorded["status"]:
        assert {one.stage for one in found} == {"invoke"}
