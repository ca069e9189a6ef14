"""What TFLM refuses in a model, and what to do about it: everything at once.

TFLM stops at the first thing that it does not like, some of them not before it runs. This looks
at all operators: whether TFLM has them, with these types, shapes, constants and options.
"""

from __future__ import annotations

from collections.abc import Iterator

from litejit.errors import LitejitError
from litejit.micro import planners, refusals, requests, support
from litejit.micro.operands import ELEMENT_BYTES, GraphState, TensorView, View
from litejit.micro.shape_refusals import Complaint
from litejit.micro.structs import TARGETS
from litejit.model import Model
from litejit.model.options import SoftmaxOptions
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
        yield from refusals.complaints(view)
        yield from _deadly(view)
        yield from _shapes(view)
    except LitejitError as error:
        yield "prepare", str(error), "convert the model again"


def _unsized(view: View) -> Iterator[Complaint]:
    for what, tensor in refusals.operands(view):
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
    yield from refusals.open_results(view)


def _deadly(view: View) -> Iterator[Complaint]:
    """What ends TFLM's process, and runs here: SOFTMAX."""
    if view.name != "SOFTMAX":
        return
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
