"""What TFLM refuses in a model, and what to do about it: everything at once.

TFLM stops at the first thing that it does not like, some of them not before it runs. This looks
at all operators: whether TFLM has them, with these types, shapes, constants and options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from litejit.errors import LitejitError
from litejit.micro import planners, requests, support
from litejit.micro.operands import ELEMENT_BYTES, GraphState, TensorView, View
from litejit.micro.structs import TARGETS
from litejit.model import Model
from litejit.model.options import (
    Activation,
    AddOptions,
    ConcatenationOptions,
    Conv2DOptions,
    DepthwiseConv2DOptions,
    FullyConnectedOptions,
    MulOptions,
    Pool2DOptions,
    SoftmaxOptions,
    SqueezeOptions,
    SubOptions,
)
from litejit.model.table import Table
from litejit.record import Record

OTHER_OPERATORS: dict[str, str] = {
    "SELECT": "convert with a newer converter, which writes SELECT_V2",
    "TILE": "use BROADCAST_TO or CONCATENATION",
    "GELU": "build it from TANH, MUL and ADD, or train with RELU or HARD_SWISH",
    "POW": "use SQUARE or MUL for a fixed exponent",
    "SIGN": "use GREATER and LESS with SELECT_V2",
    "RELU_0_TO_1": "use MINIMUM and MAXIMUM, or RELU6 and a scale",
    "RELU_N1_TO_1": "use MINIMUM and MAXIMUM",
    "LSTM": "convert to UNIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "use two UNIDIRECTIONAL_SEQUENCE_LSTM and REVERSE_V2",
    "REDUCE_ANY": "use LOGICAL_NOT and REDUCE_ALL",
    "CONV_3D": "unroll it into CONV_2D operators",
    "TOPK_V2": "leave it to the program behind the model, or use ARG_MAX for the first one",
    "NON_MAX_SUPPRESSION_V4": "use TFLite_Detection_PostProcess",
    "NON_MAX_SUPPRESSION_V5": "use TFLite_Detection_PostProcess",
    "STABLEHLO_COMPOSITE": "convert without composites, to the operators it is made of",
}  # an operator that TFLM lacks: what does the same there

_OWN_KERNEL = "take it out of the model, or register a kernel of your own in your build of TFLM"


class Finding(Record):
    """One thing that TFLM refuses.

    `stage` is where it stops: "load" (no such operator), "prepare" (the allocation fails) or
    "invoke" (it allocates, and fails when it runs). `operator` is -1 for the whole model.
    """

    subgraph: int
    operator: int
    name: str
    stage: str
    problem: str
    advice: str

    def __str__(self) -> str:
        place = f"{self.name} (operator {self.operator}"
        place += f" of subgraph {self.subgraph})" if self.subgraph else ")"
        who = place if self.operator >= 0 else self.name
        return f"{who}: {self.problem} [{self.stage}]; {self.advice}"


Complaint: TypeAlias = "tuple[str, str, str]"  # stage, problem, advice
Rule: TypeAlias = "Callable[[View], Iterator[Complaint]]"


def lint(model: Model) -> list[Finding]:
    """Everything that TFLM's Python resolver refuses in `model`; [] where it takes all of it."""
    findings = list(_whole_model(model))
    states = [GraphState(model, number) for number in range(len(model.subgraphs))]
    for state in states:
        for index in range(len(model.subgraphs[state.number].operators)):
            view = View(model, state, index, TARGETS["wheel"], {})
            for stage, problem, advice in _complaints(view):
                where = (state.number, index, view.name)
                findings.append(Finding(*where, stage, problem, advice))
    return findings


def _whole_model(model: Model) -> Iterator[Finding]:
    try:
        fixed = planners.offline_offsets(model)
    except LitejitError as error:
        advice = "write the plan for all tensors of all subgraphs, or remove it"
        yield Finding(0, -1, planners.OFFLINE_PLAN, "prepare", str(error), advice)
        return
    if fixed is not None:
        yield from _misplaced_variables(model, fixed)


def _misplaced_variables(model: Model, fixed: list[int]) -> Iterator[Finding]:
    """Variables that TFLM neither allocates nor plans: it looks one offset up for another."""
    before = 0
    for number, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            if tensor.is_variable and fixed[before + index] == planners.ONLINE != fixed[index]:
                problem = f"TFLM takes the offset of tensor {index} of subgraph 0 for the variable "
                problem += f"{tensor.name!r} of subgraph {number}, and its process ends"
                advice = "give that variable an offset too"
                yield Finding(number, -1, planners.OFFLINE_PLAN, "prepare", problem, advice)
        before += len(graph.tensors)


def _complaints(view: View) -> Iterator[Complaint]:
    custom = view.code.is_custom
    if not support.is_supported(view.name, custom=custom):
        kind = "custom operator" if custom else "operator"
        advice = OTHER_OPERATORS.get(view.name, _OWN_KERNEL)
        yield "load", f"TFLM has no {kind} {view.name}", advice
        return
    try:
        unsized = list(_unsized(view))
        yield from unsized
        if unsized:
            return
        yield from _types(view)
        for rule in _RULES.get(view.name, ()):
            yield from rule(view)
        yield from _shapes(view)
    except LitejitError as error:
        yield "prepare", str(error), "convert the model again"


def _operands(view: View) -> list[tuple[str, TensorView]]:
    inputs = [("input", k, view.input(k)) for k in range(len(view.operator.inputs))]
    outputs = [("output", k, view.output(k)) for k in range(len(view.operator.outputs))]
    return [(f"{kind} {k}", found) for kind, k, found in inputs + outputs if found is not None]


def _unsized(view: View) -> Iterator[Complaint]:
    for what, tensor in _operands(view):
        if tensor.dtype not in ELEMENT_BYTES:
            problem = f"{what} {tensor.name!r} is {tensor.dtype}, whose size TFLM does not know"
            yield "prepare", problem, "use a numeric type of at least 4 bits"


def _types(view: View) -> Iterator[Complaint]:
    inputs = tuple(_dtype(view.input(k)) for k in range(len(view.operator.inputs)))
    outputs = tuple(_dtype(view.output(k)) for k in range(len(view.operator.outputs)))
    custom = view.code.is_custom
    stage = support.refusing_stage(view.name, inputs, outputs, custom=custom)
    if stage is None:
        return
    rules = (support.CUSTOMS if custom else support.BUILTINS)[view.name]
    rule = rules[0 if stage == "prepare" else 1]
    given = (
        " × ".join(name or "nothing" for name in inputs)
        + " → "
        + ", ".join(name or "nothing" for name in outputs)
    )
    problem = f"it does not run on {given}; it takes {_in_words(rule)}"
    yield stage, problem, _type_advice(inputs, outputs)


def _dtype(tensor: TensorView | None) -> str | None:
    return None if tensor is None else tensor.dtype


def _in_words(rule: str) -> str:
    return " or ".join(
        " × ".join("/".join(names) or "any" for names in one.inputs)
        + (" → " + ", ".join("/".join(n) or "any" for n in one.outputs) if one.outputs else "")
        for one in support.alternatives(rule)
    )


def _type_advice(inputs: tuple[str | None, ...], outputs: tuple[str | None, ...]) -> str:
    every = {name for name in inputs + outputs if name}
    if inputs and inputs[0] == "FLOAT32" and every & {"INT8", "INT4", "UINT8"}:
        return "quantize activations too (full integer quantization with a sample of inputs)"
    if "FLOAT16" in every or "BFLOAT16" in every:
        return "convert without 16-bit floats, or quantize to INT8"
    if "UINT8" in every:
        return "quantize to INT8: UINT8 is LiteRT's older scheme"
    if "INT16" in every:
        return "quantize to INT8, or keep this operator in FLOAT32"
    if "INT64" in every:
        return "use INT32 in its place"
    if "BOOL" in every:
        return "CAST to INT8 or FLOAT32 before it and back behind it"
    return "use one of these types"


def _shapes(view: View) -> Iterator[Complaint]:
    requests.prepare_calls(view)
    for k in range(len(view.operator.outputs)):
        out = view.output(k)
        if out is not None and out.shape != (0,) and any(n <= 0 for n in out.shape):
            problem = f"output {k} {out.name!r} has the shape {out.shape}: it is dynamic or empty"
            yield "prepare", problem, "convert with fixed input shapes; TFLM knows no others"


def _constant(*positions: int) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        for k in positions:
            found = view.input(k)
            if found is not None and found.data is None:
                problem = f"input {k} {found.name!r} is computed while the model runs"
                yield "prepare", problem, "make it a constant: fix the shapes it depends on"

    return rule


def _rank(word: str, least: int, most: int) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        found = view.need(word)
        if not least <= found.rank <= most:
            span = f"{least}" if least == most else f"{least} to {most}"
            kind = "input" if word[0] == "i" else "output"
            problem = (
                f"{kind} {word[1:]} has the shape {found.shape}, of {span} dimensions expected"
            )
            yield "prepare", problem, "RESHAPE it before and behind, or split the operator"

    return rule


def _most_inputs(most: int) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        count = len(view.operator.inputs)
        if count > most:
            advice = f"join at most {most} at once, then join the results"
            yield "prepare", f"it has {count} inputs, TFLM takes {most}", advice

    return rule


def _no_fused_activation(view: View) -> Iterator[Complaint]:
    if view.options(ConcatenationOptions).activation != Activation.NONE:
        yield "prepare", "it has a fused activation", "put the activation behind it"


def _symmetric_int16(view: View) -> Iterator[Complaint]:
    for what, tensor in _operands(view):
        if tensor.dtype == "INT16" and tensor.has_zero_points and tensor.scales:
            problem = f"{what} {tensor.name!r} is INT16 with a zero point that is not 0"
            yield "prepare", problem, "quantize 16-bit tensors symmetrically"


def _symmetric_int16_input(view: View) -> Iterator[Complaint]:
    image = view.need("i0")
    if image.dtype == "INT16" and image.zero_point:
        problem = f"input 0 {image.name!r} is INT16 with a zero point that is not 0"
        yield "prepare", problem, "quantize 16-bit tensors symmetrically"


def _no_int4_channels(view: View) -> Iterator[Complaint]:
    weights = view.need("i1")
    if weights.dtype == "INT4" and weights.scales > 1:
        problem = "its INT4 weights have a scale for every channel"
        yield "prepare", problem, "quantize these weights per tensor, or to INT8"


def _expected_result(view: View) -> Iterator[Complaint]:
    image, out = view.need("i0"), view.need("o0")
    found = _RESULTS.get((view.name, image.dtype, out.dtype))
    if found is None:
        return
    scale, zero_point, tolerance = found
    wrong = scale and abs(out.scale - scale) > tolerance * scale
    if wrong or out.zero_point != zero_point:
        expected = (f"scale {scale:g} and " if scale else "") + f"zero point {zero_point}"
        problem = f"its result has scale {out.scale:g} and zero point {out.zero_point}"
        yield "prepare", f"{problem}, expected {expected}", "quantize again with a newer converter"


def _same_quantization(view: View) -> Iterator[Complaint]:
    image, out = view.need("i0"), view.need("o0")
    if image.dtype in ("INT8", "INT16") and image.scales and out.scales:
        same = image.scale == out.scale and image.zero_point == out.zero_point
        if not same:
            problem = "its result is quantized otherwise than its input"
            yield "prepare", problem, "quantize again: both have one range"


def _activation_fits(table: type[Table]) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        limit = {Activation.RELU6: 6.0, Activation.RELU_N1_TO_1: 1.0}.get(
            getattr(view.options(table), "activation", Activation.NONE), 0.0
        )
        out = view.need("o0")
        if out.dtype in ("INT8", "INT16") and out.scale and limit / out.scale > 2147483647:
            problem = f"its activation's bound does not fit: the result's scale is {out.scale:g}"
            yield "prepare", problem, "quantize again with inputs that reach this operator"

    return rule


def _squeezed_ones(view: View) -> Iterator[Complaint]:
    image = view.need("i0")
    for axis in view.options(SqueezeOptions).squeeze_dims:
        if not -image.rank <= axis < image.rank or image.shape[axis] != 1:
            problem = f"it squeezes axis {axis} of the shape {image.shape}, which is not 1"
            yield "prepare", problem, "convert with the shapes that the model runs with"
            return


def _softmax(view: View) -> Iterator[Complaint]:
    image, out = view.need("i0"), view.need("o0")
    if image.dtype != "INT8" or not image.scale or out.dtype not in ("INT8", "INT16"):
        return
    scale = image.scale * view.options(SoftmaxOptions).beta
    if scale * 2.0**26 <= 1:
        problem = f"its input scale times beta is {scale:g}: TFLM's process ends (at most 2^-26)"
        yield "prepare", problem, "quantize again with inputs that reach the SOFTMAX"
    elif image.rank and image.shape[-1] >= 512:
        problem = (
            f"it sums {image.shape[-1]} exponentials: where 512 or more are near the largest, "
            "TFLM's process ends"
        )
        yield "invoke", problem, "train or quantize so that classes differ, or leave SOFTMAX out"


# (operator, input, output): scale (0.0: any), zero point and tolerance of the result
_RESULTS: dict[tuple[str, str, str], tuple[float, int, float]] = {
    ("SOFTMAX", "INT8", "INT8"): (1 / 256, -128, 0.0),
    ("SOFTMAX", "INT8", "INT16"): (1 / 65536, -32768, 0.001),
    ("SOFTMAX", "INT16", "INT16"): (1 / 32768, 0, 0.001),
    ("LOG_SOFTMAX", "INT8", "INT8"): (1 / 16, 127, 0.0),
    ("LOGISTIC", "INT8", "INT8"): (0.0, -128, 0.0),
}
_FOUR = (_rank("i0", 4, 4),)
_BLOCKS = (_rank("i0", 3, 4), _rank("o0", 3, 4))
_INT16_ZERO = (_symmetric_int16,)
_RULES: dict[str, tuple[Rule, ...]] = {
    "ABS": _INT16_ZERO,
    "SQUARED_DIFFERENCE": _INT16_ZERO,
    "MUL": (*_INT16_ZERO, _activation_fits(MulOptions)),
    "LOG_SOFTMAX": (_expected_result,),
    "LOGISTIC": (*_INT16_ZERO, _expected_result),
    "TANH": _INT16_ZERO,
    "BATCH_MATMUL": (_rank("i0", 2, 5), _rank("i1", 2, 5)),
    "BATCH_TO_SPACE_ND": _BLOCKS,
    "SPACE_TO_BATCH_ND": _BLOCKS,
    "BROADCAST_TO": (_constant(1), _rank("i0", 0, 5), _rank("o0", 0, 5)),
    "CONCATENATION": (_most_inputs(10), _no_fused_activation),
    "DEPTH_TO_SPACE": _FOUR,
    "SPACE_TO_DEPTH": _FOUR,
    "EXPAND_DIMS": (_constant(1),),
    "FILL": (_constant(0),),
    "FULLY_CONNECTED": (_no_int4_channels, _activation_fits(FullyConnectedOptions)),
    "L2_NORMALIZATION": (_rank("i0", 0, 4),),
    "L2_POOL_2D": _FOUR,
    "AVERAGE_POOL_2D": (_same_quantization, _activation_fits(Pool2DOptions)),
    "MAX_POOL_2D": (_same_quantization, _activation_fits(Pool2DOptions)),
    "CONV_2D": (_activation_fits(Conv2DOptions),),
    "DEPTHWISE_CONV_2D": (_activation_fits(DepthwiseConv2DOptions),),
    "ADD": (_activation_fits(AddOptions),),
    "SUB": (_activation_fits(SubOptions),),
    "PAD": (_constant(1), _rank("i0", 0, 5)),
    "PADV2": (_constant(1), _rank("i0", 0, 5)),
    "RESIZE_BILINEAR": (_constant(1), *_FOUR),
    "RESIZE_NEAREST_NEIGHBOR": (_constant(1), *_FOUR),
    "SOFTMAX": (_softmax, _expected_result, _symmetric_int16_input, _rank("i0", 1, 8)),
    "SPLIT": (_constant(0),),
    "SPLIT_V": (_constant(2),),
    "SQUEEZE": (_squeezed_ones,),
    "STRIDED_SLICE": (_constant(1, 2, 3), _rank("i0", 0, 4)),
    "SVDF": (_rank("i0", 2, 2),),
    "TRANSPOSE": (_constant(1), _rank("i0", 0, 5)),
}
