"""What TFLM's kernels refuse when they are prepared: shapes, constants, options, quantization.

A rule looks at one operator and yields complaints; `RULES` says which ones an operator has. Types
are in `support`. Sources: the Prepare functions in tensorflow/lite/micro/kernels and
tensorflow/lite/micro/micro_graph.cc of TensorFlow Lite for Microcontrollers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from litejit.micro import shape_refusals as shapes
from litejit.micro.operands import TensorView, View
from litejit.micro.shape_refusals import Complaint, Rule
from litejit.model.options import (
    Activation,
    AddOptions,
    ConcatenationOptions,
    Conv2DOptions,
    DepthToSpaceOptions,
    DepthwiseConv2DOptions,
    DivOptions,
    FullyConnectedOptions,
    L2NormOptions,
    MulOptions,
    Pool2DOptions,
    ResizeBilinearOptions,
    SpaceToDepthOptions,
    SubOptions,
)
from litejit.model.table import Table

# advice that several rules give
_SYMMETRIC = "quantize 16-bit tensors symmetrically"
_NEWER = "quantize again with a newer converter"
_ALL_INTEGERS = "quantize activations too (full integer quantization)"


def complaints(view: View) -> Iterator[Complaint]:
    """What TFLM refuses when it prepares the operator, but for its types."""
    for rule in () if view.code.is_custom else RULES.get(view.name, ()):
        yield from rule(view)


def open_results(view: View) -> Iterator[Complaint]:
    """Results without a shape once the operator is prepared: to be asked then."""
    for k in range(len(view.operator.outputs)):
        out = view.output(k)
        if out is not None and out.shape != (0,) and any(n <= 0 for n in out.shape):
            problem = f"has dynamic tensor #{out.index}: its result {k}, {out.name!r}, has the"
            problem += f" shape {out.shape}, and dynamic tensors are not supported"
            yield "prepare", problem, shapes.FIXED


def operands(view: View) -> list[tuple[str, TensorView]]:
    """The operands that are there, and their names in messages."""
    inputs = [("input", k, view.input(k)) for k in range(len(view.operator.inputs))]
    outputs = [("output", k, view.output(k)) for k in range(len(view.operator.outputs))]
    return [(f"{kind} {k}", found) for kind, k, found in inputs + outputs if found is not None]


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


def _no_activation(table: type[Table]) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        if getattr(view.options(table), "activation", Activation.NONE) != Activation.NONE:
            yield "prepare", "it has a fused activation", "put the activation behind it"

    return rule


def _symmetric_int16(view: View) -> Iterator[Complaint]:
    for what, tensor in operands(view):
        if tensor.dtype == "INT16" and tensor.has_zero_points and tensor.scales:
            problem = f"{what} {tensor.name!r} is INT16 with a zero point that is not 0"
            yield "prepare", problem, _SYMMETRIC


def _symmetric_int16_input(view: View) -> Iterator[Complaint]:
    image = view.need("i0")
    if image.dtype == "INT16" and image.zero_point:
        problem = f"input 0 {image.name!r} is INT16 with a zero point that is not 0"
        yield "prepare", problem, _SYMMETRIC


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
        yield "prepare", f"{problem}, expected {expected}", _NEWER


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


def _same_types(*words: str) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        kinds = [found.dtype for found in map(view.operand, words) if found is not None]
        if len(set(kinds)) > 1:
            problem = f"its operands are of different types: {', '.join(kinds)}"
            yield "prepare", problem, "CAST one of them"

    return rule


def _quantized(*words: str, dtypes: tuple[str, ...] = ("INT8", "INT16")) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        for found in map(view.operand, words):
            if found is not None and found.dtype in dtypes and not found.scales:
                problem = f"tensor {found.name!r} is {found.dtype} without a scale and a zero point"
                yield "prepare", problem, "quantize it, or use FLOAT32"

    return rule


def _not_quantized(*words: str) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        if view.need("o0").dtype != "INT32":
            return
        for found in map(view.operand, words):
            if found is not None and found.scales:
                problem = f"tensor {found.name!r} of INT32 numbers is quantized"
                yield "prepare", problem, "use INT8, or numbers that are not quantized"

    return rule


def _channel_scales(axis: int) -> Rule:
    def rule(view: View) -> Iterator[Complaint]:
        weights = view.need("i1")
        if weights.scales <= 1 or view.need("o0").dtype not in ("INT8", "INT16"):
            return
        sizes = {weights.shape[k : k + 1] for k in (axis, weights.axis)}
        if sizes != {(weights.scales,)}:
            problem = f"its weights of shape {weights.shape} have {weights.scales} scales"
            problem += f" along dimension {weights.axis}"
            yield "prepare", problem, "quantize them per tensor or per output channel"

    return rule


def _hybrid(view: View) -> Iterator[Complaint]:
    image, weights = view.need("i0").dtype, view.need("i1").dtype
    pair = (image, weights) in (("INT8", "INT4"), ("INT16", "INT8"))
    if image != weights and not pair:
        problem = f"its data is {image} and its weights are {weights}"
        yield "prepare", problem, _ALL_INTEGERS


def _fully_connected(view: View) -> Iterator[Complaint]:
    image, weights = view.need("i0"), view.need("i1")
    allowed = {"FLOAT32": ("FLOAT32",), "INT8": ("INT8", "INT4"), "INT16": ("INT8",)}
    if weights.dtype not in allowed.get(image.dtype, (weights.dtype,)):
        problem = f"its data is {image.dtype} and its weights are {weights.dtype}"
        yield "prepare", problem, _ALL_INTEGERS


def _scale_of_bias(view: View) -> Iterator[Complaint]:
    image, weights, bias, out = (view.operand(word) for word in ("i0", "i1", "i2", "o0"))
    if image is None or weights is None or bias is None or out is None:
        return
    off = abs(image.scale * weights.scale - bias.scale)
    if image.dtype != "FLOAT32" and weights.scales <= 1 and off > 0.02 * out.scale:
        problem = f"its bias has the scale {bias.scale:g}, the sum that it is added to"
        problem += f" {image.scale * weights.scale:g}"
        yield "prepare", problem, _NEWER


def _pad_value(view: View) -> Iterator[Complaint]:
    image, value, out = view.need("i0"), view.need("i2"), view.need("o0")
    if value.elements != 1:
        yield "prepare", f"its value has the shape {value.shape}", "pad with one number"
    same = (value.scale, value.zero_point) == (out.scale, out.zero_point)
    if image.dtype == "INT8" and not same:
        problem = "its value is quantized otherwise than its result"
        yield "prepare", problem, "quantize again: both have one range"


def _one_scale_of_inputs(view: View) -> Iterator[Complaint]:
    out = view.need("o0")
    for k in range(len(view.operator.inputs)):
        found = view.input(k)
        same = found is None or (found.scale, found.zero_point) == (out.scale, out.zero_point)
        if not same and out.dtype == "INT8":
            problem = f"input {k} is quantized otherwise than its result"
            yield "prepare", problem, "quantize again: all have one range"
            return


def _scale_of_fractions(view: View) -> Iterator[Complaint]:
    """int16 of LOGISTIC and TANH: the result's scale is 2**-15."""
    image, out = view.need("i0"), view.need("o0")
    if image.dtype == "INT16" and abs(math.log2(out.scale or 1.0) + 15) >= 1e-3:
        problem = f"its result's scale is {out.scale:g}, expected 2^-15"
        yield "prepare", problem, _NEWER


def _hard_swish(view: View) -> Iterator[Complaint]:
    image, out = view.need("i0"), view.need("o0")
    if image.dtype == "INT8" and out.scale and image.scale / 128 >= out.scale:
        problem = f"its result's scale {out.scale:g} is too small for {image.scale:g}"
        yield "prepare", problem, "quantize again with inputs that reach this operator"


def _scale_of_svdf_bias(view: View) -> Iterator[Complaint]:
    weights, bias, state = (view.operand(word) for word in ("i2", "i3", "i4"))
    if bias is None or weights is None or state is None or view.need("i0").dtype != "INT8":
        return
    expected = float(np.float32(state.scale) * np.float32(weights.scale))
    if abs(bias.scale - expected) >= 1e-5:
        problem = f"its bias has the scale {bias.scale:g}, expected {expected:g}"
        yield "prepare", problem, _NEWER


def _one_kind_of_centres(view: View) -> Iterator[Complaint]:
    options = view.options(ResizeBilinearOptions)
    if options.align_corners and options.half_pixel_centers:
        problem = "it has both aligned corners and half pixel centers"
        yield "prepare", problem, "choose one of them"


def _alpha_of_int8(view: View) -> Iterator[Complaint]:
    if view.need("o0").dtype == "INT16" and view.need("i1").dtype != "INT8":
        yield "prepare", f"its slope is {view.need('i1').dtype}", "quantize the slope to INT8"


def _quantize(view: View) -> Iterator[Complaint]:
    out = view.need("o0")
    if out.scales != 1:
        yield "prepare", f"its result has {out.scales} scales", "quantize per tensor"


# (operator, input, output): scale (0.0: any), zero point and tolerance of the result
_RESULTS: dict[tuple[str, str, str], tuple[float, int, float]] = {
    ("SOFTMAX", "INT8", "INT8"): (1 / 256, -128, 0.0),
    ("SOFTMAX", "INT8", "INT16"): (1 / 65536, -32768, 0.001),
    ("SOFTMAX", "INT16", "INT16"): (1 / 32768, 0, 0.001),
    ("LOG_SOFTMAX", "INT8", "INT8"): (1 / 16, 127, 0.0),
    ("LOGISTIC", "INT8", "INT8"): (0.0, -128, 0.0),
}

_ALIKE = _same_types("i0", "o0")
_SCALED = (_quantized("i0", "o0", dtypes=("INT8",)),)


def _weights_scaled(view: View) -> Iterator[Complaint]:
    image, weights = view.need("i0"), view.need("i1")
    if image.dtype != "FLOAT32" and not (image.scales and weights.scales):
        yield "prepare", "its data or its weights have no scale", _NEWER


_FOUR = (_rank("i0", 4, 4),)
_BLOCKS = (_rank("i0", 3, 4), _rank("o0", 3, 4), _ALIKE)
_INT16_ZERO = (_symmetric_int16,)
_LOGISTIC = (*_INT16_ZERO, _ALIKE, _scale_of_fractions)
_PADDED = (_ALIKE, _constant(1), _rank("i0", 0, 5), shapes.padded)
RULES: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("SIN", "COS", "LOG", "SQRT", "SQUARE", "LOGICAL_NOT"), (_ALIKE,)),
    **dict.fromkeys(("CEIL", "ROUND", "EXP"), (_ALIKE, shapes.same_shapes)),
    **dict.fromkeys(("FLOOR_DIV", "FLOOR_MOD"), (_same_types("i0", "i1", "o0"),)),
    "ABS": (_ALIKE, *_SCALED, _symmetric_int16),
    "RSQRT": (_ALIKE, *_SCALED, _symmetric_int16),
    "SQUARED_DIFFERENCE": (*_INT16_ZERO, _same_types("i0", "i1")),
    "MUL": (*_INT16_ZERO, _same_types("i0", "i1"), _activation_fits(MulOptions)),
    "DIV": (
        _same_types("i0", "i1", "o0"), _not_quantized("i0", "i1"), _activation_fits(DivOptions),
    ),
    "ADD": (_quantized("o0"), _not_quantized("i0", "i1"), _activation_fits(AddOptions)),
    "SUB": (_not_quantized("i0", "i1", "o0"), _activation_fits(SubOptions)),
    "LOG_SOFTMAX": (_ALIKE, shapes.same_shapes, _expected_result),
    "LOGISTIC": (*_LOGISTIC, _expected_result),
    "TANH": _LOGISTIC,
    "RELU": (_symmetric_int16,),
    "ELU": (_ALIKE,),
    "LEAKY_RELU": (_ALIKE,),
    "PRELU": (_alpha_of_int8,),
    "HARD_SWISH": (_hard_swish,),
    "QUANTIZE": (_quantize,),
    "BATCH_MATMUL": (_rank("i0", 2, 5), _rank("i1", 2, 5), _symmetric_int16, shapes.product),
    "BATCH_TO_SPACE_ND": _BLOCKS,
    "SPACE_TO_BATCH_ND": _BLOCKS,
    "BROADCAST_TO": (
        _ALIKE, _rank("i0", 0, 5), _constant(1), _rank("o0", 0, 5), shapes.broadcast_to,
    ),
    "CONCATENATION": (
        _no_activation(ConcatenationOptions), _ALIKE, _most_inputs(10), _one_scale_of_inputs,
        _symmetric_int16,
    ),
    "DEPTH_TO_SPACE": (*_FOUR, shapes.blocks_of(DepthToSpaceOptions, grows=True)),
    "SPACE_TO_DEPTH": (*_FOUR, shapes.blocks_of(SpaceToDepthOptions, grows=False)),
    "DYNAMIC_UPDATE_SLICE": (_same_types("i0", "i1"), shapes.update_slice),
    "EXPAND_DIMS": (_constant(1), shapes.expanded),
    "FILL": (_same_types("i1", "o0"), _constant(0), shapes.filled),
    "FULLY_CONNECTED": (
        _ALIKE, _fully_connected, _no_int4_channels, _channel_scales(0), _scale_of_bias,
        _activation_fits(FullyConnectedOptions),
    ),
    "GATHER": (shapes.gathered,),
    "L2_NORMALIZATION": (_rank("i0", 0, 4), _ALIKE, _no_activation(L2NormOptions)),
    "L2_POOL_2D": _FOUR,
    "AVERAGE_POOL_2D": (_same_quantization, _activation_fits(Pool2DOptions)),
    "MAX_POOL_2D": (_same_quantization, _activation_fits(Pool2DOptions)),
    "CONV_2D": (_weights_scaled, _channel_scales(0), _activation_fits(Conv2DOptions)),
    "DEPTHWISE_CONV_2D": (
        _weights_scaled, _channel_scales(3), _hybrid, _activation_fits(DepthwiseConv2DOptions),
    ),
    "PAD": _PADDED,
    "PADV2": (*_PADDED, _same_types("i0", "i2"), _pad_value),
    "RESHAPE": (_ALIKE, shapes.reshaped),
    "RESIZE_BILINEAR": (*_FOUR, _constant(1), _one_kind_of_centres),
    "RESIZE_NEAREST_NEIGHBOR": (*_FOUR, _constant(1)),
    "REVERSE_V2": (_rank("i1", 1, 1), _ALIKE),
    "SELECT_V2": (_same_types("i1", "i2"), shapes.selected),
    "SOFTMAX": (_expected_result, _symmetric_int16_input, _rank("i0", 1, 8)),
    "SPLIT": (_constant(0),),
    "SPLIT_V": (_constant(2),),
    "SQUEEZE": (shapes.squeezed_ones,),
    "STRIDED_SLICE": (_rank("i0", 0, 4), _constant(1, 2, 3), shapes.sliced),
    "SVDF": (_rank("i0", 2, 2), shapes.svdf, _scale_of_svdf_bias),
    "TRANSPOSE": (_rank("i0", 0, 5), _ALIKE, _constant(1)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (shapes.lstm_state,),
}  # fmt: skip
