"""MicroOpResolver: the operators of TFLM's Python interpreter, with its types and its numbers."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from litejit.micro import support
from litejit.model import Operator
from litejit.model.options import Activation
from litejit.ops.base import Arrays, Lowering, Node, Op, Types
from litejit.ops.elementwise import Unary
from litejit.ops.resolver import BuiltinOpResolver
from litejit.record import replace
from litejit.types import I16, Array

_OWN = {
    "ops_numeric": "LOGISTIC:Logistic TANH:Tanh RELU6:Relu6 MUL:Mul PRELU:Prelu"
    " LEAKY_RELU:LeakyRelu SOFTMAX:Softmax ADD_N:AddN CUMSUM:Cumsum CAST:Cast QUANTIZE:Quantize"
    " SQUARED_DIFFERENCE:SquaredDifference GREATER:Greater RSQRT:Rsqrt"
    " ZEROS_LIKE:ZerosLike RELU:Relu SUM:Sum DIV:Div ABS:Abs MEAN:Mean"
    " ADD:Add L2_NORMALIZATION:L2Normalization REDUCE_MAX:ReduceMax REDUCE_MIN:ReduceMin",
    "ops_matrix": "CONV_2D:Conv2D DEPTHWISE_CONV_2D:DepthwiseConv2D SVDF:SVDF"
    " TRANSPOSE_CONV:TransposeConv FULLY_CONNECTED:FullyConnected BATCH_MATMUL:BatchMatMul"
    " SPACE_TO_BATCH_ND:SpaceToBatch",
    "ops_lstm": "UNIDIRECTIONAL_SEQUENCE_LSTM:SequenceLSTM",
    "ops_custom": "BasicClassifier:BasicClassifier CIRCULAR_BUFFER:CircularBuffer"
    " TFLM_DECODE:Decode",
    "ops_signal": "SignalEnergy:Energy SignalFftAutoScale:FftAutoScale SignalWindow:Window"
    " SignalFilterBank:FilterBank SignalFilterBankLog:FilterBankLog SignalPCAN:Pcan"
    " SignalFilterBankSpectralSubtraction:SpectralSubtraction"
    " SignalFilterBankSquareRoot:FilterBankSquareRoot SignalRfft:Rfft SignalIrfft:Irfft",
    "ops_stream": "SignalDelay:Delay SignalFramer:Framer SignalStacker:Stacker"
    " SignalOverlapAdd:OverlapAdd",
}  # module of this package -> operator:class, where TFLM differs from LiteRT or is alone
_CLASSES = {
    name: (module, cls)
    for module, rows in _OWN.items()
    for name, cls in (row.split(":") for row in rows.split())
}
_NARROWED: dict[str, Op] = {}


class MicroOpResolver(BuiltinOpResolver):
    """Operators as TFLM has them, whatever their version: TFLM does not look at it."""

    def find_builtin(self, name: str, version: int) -> Op | None:
        """The Op of a builtin operator; None where TFLM has none."""
        return _find(self, name, custom=False) if support.is_supported(name) else None

    def is_beyond_reference(self, name: str, version: int) -> bool:
        """TFLM has one kernel for each."""
        return False

    def find_custom(self, name: str, version: int) -> Op | None:
        """The Op of a custom operator; None where TFLM has none."""
        return _find(self, name, custom=True) if support.is_supported(name, custom=True) else None


class MicroRefOpResolver(MicroOpResolver):
    """The operators of MicroOpResolver, all run in NumPy."""

    compiled = False


def _find(resolver: BuiltinOpResolver, name: str, *, custom: bool) -> Op | None:
    if name in _NARROWED:
        return _NARROWED[name]
    if name in _CLASSES:
        module, cls = _CLASSES[name]
        op: Op | None = getattr(import_module(f"litejit.micro.{module}"), cls)()
    elif custom:
        op = BuiltinOpResolver.find_custom(resolver, name, 1)
    else:
        known = BuiltinOpResolver.versions(resolver, name)
        op = BuiltinOpResolver.find_builtin(resolver, name, known[-1]) if known else None
    if op is not None:
        _NARROWED[name] = op = narrowed(op, name, custom=custom)
    return op


def _names(node: Node) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
    core = node.core
    sides = core.inputs, core.outputs
    inputs, outputs = (tuple(None if t is None else t.dtype.name for t in s) for s in sides)
    return inputs, outputs


def narrowed(op: Op, name: str, *, custom: bool) -> Op:
    """The same operator for the types that TFLM takes, with the result shapes of the file.

    Types that TFLM refuses when it runs are refused when the node runs. A shape that depends on
    data is the declared one, and a run that finds another one is refused.
    """
    base: Any = type(op)

    class Narrowed(base):  # type: ignore[misc]
        __doc__ = base.__doc__
        # where types may be refused in a run, there is something to run
        keeps_bytes = op.keeps_bytes and not support.refuses_in_runs(name, custom=custom)

        def decode_options(self, operator: Operator, who: str) -> Any:
            options = super().decode_options(operator, who)
            if name in _CLAMPING and options.activation not in _CLAMPS:
                return type(options)(**{**vars(options), "activation": Activation.NONE})
            return options

        def infer(self, node: Node) -> Types:
            stage = support.refusing_stage(name, *_names(node), custom=custom)
            text = f"types {_listed(node)} are not supported by TFLM"
            node.require(stage != "prepare", text)
            if stage == "invoke":
                return [t for t in node.outputs if t is not None]
            _require_bounds(node)
            found: Types = super().infer(_with_codes_alone(name, node))
            declared = [t for t in node.outputs if t is not None]
            pairs = zip(found, declared, strict=False)
            return [_declared(node, a, b) for a, b in pairs]

        def reference(self, node: Node, *inputs: Any) -> Arrays:
            refused = support.refusing_stage(name, *_names(node), custom=custom)
            node.check(not refused, f"types {_listed(node)} are not supported by TFLM")
            results: Arrays = super().reference(node, *inputs)
            # elementwise ones are asked for whole tables of values, too
            return results if self.is_elementwise else _in_declared_shapes(node, results)

        def lower(self, node: Node, steps: Lowering) -> None:
            if support.refusing_stage(name, *_names(node), custom=custom):
                return
            if isinstance(self, Unary) and node.input(0).dtype == node.output(0).dtype == I16:
                from litejit.ops import elementwise_lowering

                elementwise_lowering.table16(node, steps)
            elif not _depends_on_data(super().infer, _with_codes_alone(name, node)):
                super().lower(node, steps)

    Narrowed.__name__ = Narrowed.__qualname__ = base.__name__
    result: Op = Narrowed()
    return result


# Operators that know no other fused activations than clamps, and let all others pass
_CLAMPING = (
    *("ADD", "SUB", "MUL", "DIV", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"),
    *("FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"),
)
_CLAMPS = (Activation.RELU, Activation.RELU_N1_TO_1, Activation.RELU6)

# Operators that move codes and, in TFLM, never ask whether both sides mean the same by them
_MOVERS = (
    *("FILL", "PACK", "UNPACK", "SPLIT", "SPLIT_V", "MIRROR_PAD"),
    *("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"),
)


def _with_codes_alone(name: str, node: Node) -> Node:
    """The node of a mover as if nothing were quantized in it."""
    if name not in _MOVERS:
        return node
    sides = (
        tuple(t if t is None else replace(t, quantization=None) for t in side)
        for side in (node.inputs, node.outputs)
    )
    return node.with_types(*sides)


_BOUNDS = {2: 1.0, 3: 6.0}  # RELU_N1_TO_1, RELU6


def _require_bounds(node: Node) -> None:
    """Refuse a fused activation whose bound is no int32 code, as TFLM does."""
    bound = _BOUNDS.get(int(getattr(node.options, "activation", 0) or 0))
    output = node.outputs[0] if node.outputs else None
    if bound is None or output is None or not output.is_quantized or output.dtype.is_float:
        return
    fits = output.scale > 0 and np.float32(bound) / np.float32(output.scale) < 2**31
    node.require(fits, f"{bound} is no int32 code at scale {output.scale}")


def _listed(node: Node) -> str:
    inputs, outputs = _names(node)
    sides = (" ".join(n or "-" for n in side) for side in (inputs, outputs))
    return " -> ".join(sides)


def _declared(node: Node, found: Any, declared: Any) -> Any:
    """A result with the quantization that the file declares, and its shape if it has no other."""
    if found.quantization is not declared.quantization:
        found = replace(found, quantization=declared.quantization)
    if found.shape is not None:
        return found
    known = declared.shape is not None and all(n > 0 for n in declared.shape)
    node.require(known, f"has dynamic tensor #{declared.index}: dynamic tensors are not supported")
    return found.with_shape(declared.shape)


def _depends_on_data(infer: Any, node: Node) -> bool:
    if node.chain:
        return False  # only nodes of known shapes are fused
    return any(t.shape is None for t in infer(node))


def _in_declared_shapes(node: Node, results: Arrays) -> Arrays:
    """The same numbers in the shapes that the file declares."""
    arrays: tuple[Array, ...] = results if isinstance(results, tuple) else (results,)
    shaped = []
    for tensor, array in zip(node.outputs, arrays, strict=False):
        found = np.shape(array)
        shape = found if tensor is None or tensor.shape is None else tensor.shape
        text = f"result has shape {found}, but the file declares {shape}"
        node.check(np.size(array) == math.prod(shape), text)
        shaped.append(np.reshape(array, shape))
    return tuple(shaped) if isinstance(results, tuple) else shaped[0]
