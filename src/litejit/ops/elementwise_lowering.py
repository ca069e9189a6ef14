"""How elementwise operators ask for kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from litejit.codegen.lang import i32
from litejit.errors import InvokeError
from litejit.kernels import arithmetic_int8 as bytes_
from litejit.kernels import conversion, requantize
from litejit.kernels import elementwise as kernels
from litejit.kernels.lookup16 import CODES, Lookup16Spec
from litejit.kernels.rescale import LARGEST, RescaleSpec
from litejit.kernels.walk import WalkSpec
from litejit.ops import fixedpoint
from litejit.ops.arithmetic import Terms
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.broadcast import walk
from litejit.ops.elementwise import FLOAT_RANGES
from litejit.ops.floats import largest
from litejit.ops.linear_sum import LEFT_SHIFT, linear_sum
from litejit.ops.lut import codes_of
from litejit.types import BOOL, C64, F16, F32, I8, I16, I32, I64, U8, Array, DType, TensorType

MAX_OUTER = 5
GRAIN = 1024  # elements
Multiplier = tuple[int, int]

# estimated time of one element on one thread, where it is more than moving it
_COST_NS = {
    "exp": 0.15, "log": 0.3, "tanh": 0.25, "logistic": 0.2, "swish": 0.2, "elu": 0.2, "gelu": 0.3,
    "gelu_tanh": 0.35, "rsqrt": 0.15, "sqrt": 0.1, "sin": 0.22, "cos": 0.22, "power": 1.1,
    "div": 0.08, "floor_div": 0.3, "floor_mod": 0.6, "atan2": 0.85, "size": 0.3, "fake_quant": 0.1,
}  # fmt: skip


def _call(
    node: Node, steps: Lowering, make: Callable[[int, tuple[int, ...]], WalkSpec],
    extras: Sequence[Operand | int | float] = (), *, cost_ns: float = 0.06,
    in_place: bool = True, beside: Sequence[tuple[Operand, tuple[int, ...]]] = (),
) -> None:  # fmt: skip
    """Walk the node's operands; nothing for empty outputs and more than five outer loops.

    `beside` are operands that are no inputs, with their shapes.
    """
    y = node.output(0)
    shapes = [node.input(position).dims for position in range(len(node.inputs))]
    shapes += [shape for _, shape in beside]
    if y.size == 0:
        return
    lanes = make(0, (0,) * len(shapes)).lanes(steps.isa)
    plan = walk(y.dims, shapes).flattened(lanes)
    if len(plan.outer) > MAX_OUTER:
        return
    rank = len(plan.outer)
    spec = make(rank, tuple(strides[-1] for strides in plan.strides))
    numbers = [plan.inner, *plan.outer]
    numbers += [stride for strides in plan.strides for stride in strides[:-1]]
    for position, tensor in enumerate(node.inputs):
        if not in_place:  # a kernel that may refuse its data leaves it as it is
            break
        if tensor is not None and tensor.dims == y.dims and tensor.nbytes == y.nbytes:
            steps.may_share(0, position)
            break
    size = plan.inner if rank else spec.block(steps.isa)
    items = -(-y.size // size)
    cost = y.size * cost_ns + (3.0 * items if rank else 0.0)
    grain = max(1, GRAIN // size)
    operands = [operand for operand in steps.inputs if operand is not None]
    operands += [operand for operand, _ in beside]
    steps.call(
        spec, *operands, steps.outputs[0], *extras, *numbers, items=items, cost_ns=cost, grain=grain
    )


def unary(node: Node, steps: Lowering, kernel: str, parameters: tuple[float, ...]) -> None:
    """Tables for types of 8 and 16 bits, a kernel for the others."""
    x, y = node.input(0), node.output(0)
    if x.dtype in (I8, U8) and y.dtype in (I8, U8):
        codes, least = codes_of(x.dtype.numpy), x.zero_point
        table = _values(node, codes)
        if table is not None:
            lookup(node, steps, table)
        elif x.dtype == I8:  # where codes are refused, they are those below the zero point
            table = _values(node, np.maximum(codes, least).astype(np.int8))
            if table is not None:
                lookup(node, steps, table, least=least)
    elif x.dtype.bits == y.dtype.bits == 16:
        table16(node, steps)
    elif kernel and (x.dtype == F32 or kernel in _OF_ANY):
        function(node, steps, "clip" if kernel == "relu" else kernel, parameters)


def function(
    node: Node, steps: Lowering, name: str, parameters: tuple[float, ...] = (), *,
    checked: bool = False,
) -> None:  # fmt: skip
    """A row of kernels/elementwise's FUNCTIONS on the node's operands, in their own types."""
    types = tuple(node.input(position).dtype for position in range(len(node.inputs)))
    y = node.output(0).dtype
    extras: tuple[Operand | float, ...] = (*parameters, steps.status) if checked else parameters
    _call(
        node, steps,
        lambda rank, moves: kernels.ElementwiseSpec(
            rank, moves, name, types, y, len(parameters), checked
        ),
        extras, cost_ns=_COST_NS.get(name, 0.06) * max(types[0].itemsize, 2) / 4,
        in_place=not checked,
    )  # fmt: skip


def table16(node: Node, steps: Lowering) -> None:
    """A function of 16-bit elements as a table of all its values.

    Where it refuses integers, they are those below the zero point.
    """
    size, kind = node.output(0).size, node.input(0).dtype.numpy
    if not size:
        return
    codes = np.arange(-(CODES // 2), CODES // 2).astype(np.int16).view(kind)
    values, check = _values(node, codes), list[Operand | int]()
    if values is None:
        check = [steps.status, node.input(0).zero_point]
        values = _values(node, np.maximum(codes, node.input(0).zero_point))
        if values is None:
            return
    else:
        steps.may_share(0, 0)
    content: Array = np.ascontiguousarray(values).view(np.int16)
    source = steps.inputs[0]
    assert source is not None
    steps.call(
        Lookup16Spec(bool(check)), source, steps.outputs[0],
        steps.constant("16-bit values", lambda: content), *check,
        items=size, cost_ns=20 + size * 0.5, grain=GRAIN,
    )  # fmt: skip


def _values(node: Node, codes: Array) -> Array | None:
    try:
        return np.asarray(node.op.reference(node, codes))
    except InvokeError:
        return None


def lookup(node: Node, steps: Lowering, table: Array, *, least: int | None = None) -> None:
    """y = table[x] of bytes; codes below `least` are refused."""
    size, source = node.output(0).size, steps.inputs[0]
    if size == 0 or source is None:
        return
    content = np.ascontiguousarray(table).view(np.uint8)
    operands: list[Operand | int] = [
        source, steps.outputs[0], steps.constant("table", lambda: content)
    ]  # fmt: skip
    if least is None:
        steps.may_share(0, 0)
    else:
        operands += [steps.status, least]
    per_element = 0.03 if steps.isa.byte_permute else 0.7
    steps.call(
        kernels.LookupSpec(least is not None), *operands,
        items=size, cost_ns=size * per_element, grain=4 * GRAIN,
    )  # fmt: skip


_ACTIVATED = ("add", "sub", "mul", "div")
_OF_ANY = ("abs", "neg", "sign", "logical_not", "real", "imaginary", "size")


def binary(node: Node, steps: Lowering, kernel: str) -> None:
    """Floats, plain integers and truth values; whole divisors and exponents are checked."""
    a, y = node.input(0), node.output(0)
    if not kernel:
        return
    parameters: tuple[float, ...] = ()
    activation = int(node.options.activation) if kernel in _ACTIVATED else 0
    if activation or (a.dtype.is_float and kernel in _ACTIVATED):
        bound = largest(y.dtype) if y.dtype.is_float else float("inf")
        low, high = FLOAT_RANGES[activation]
        parameters = (-bound if low is None else float(low), float(bound if high is None else high))
    whole = not a.dtype.is_float
    checked = kernel == "floor_div" or (whole and kernel in ("div", "power", "floor_mod"))
    function(node, steps, "complex_mul" if a.dtype == C64 else kernel, parameters, checked=checked)


def select(node: Node, steps: Lowering) -> None:
    """Elements of 1, 2, 4 or 8 bytes, as integers."""
    condition, x, y = node.input(0), node.input(1), node.output(0)
    width = {1: I8, 2: I16, 4: I32, 8: I64}.get(x.dtype.itemsize)
    rows = condition.rank == 1 and y.rank > 1 and condition.dims != y.dims
    if width is None or x.dtype.numpy.kind == "O" or (rows and node.name == "SELECT"):
        return
    element: DType = width
    _call(
        node, steps,
        lambda rank, moves: kernels.ElementwiseSpec(
            rank, moves, "select", (BOOL, element, element), element, 0
        ),
    )  # fmt: skip


def cast(node: Node, steps: Lowering, *, nan_is_zero: bool = False) -> None:
    """Any pair of types."""
    x, y = node.input(0).dtype, node.output(0).dtype
    if x == y or (x.bits == y.bits and x.is_integer and y.is_integer):
        steps.alias(0, 0)
        return
    _call(node, steps, lambda rank, moves: conversion.CastSpec(rank, moves, x, y, nan_is_zero))


def quantize(
    node: Node, steps: Lowering, *, to_even: bool = False, wraps: bool = False
) -> None:  # fmt: skip
    """float32 with one scale, and integers to integers."""
    x, y = node.input(0), node.output(0)
    if x.dtype in (I8, U8) and y.dtype in (I8, U8):
        unary(node, steps, "", ())
        return
    if x.dtype != F32:
        rescale(node, steps)
        return
    if y.quantization is not None and y.quantization.per_channel:
        _call(
            node, steps, lambda rank, moves: conversion.QuantizeChannelsSpec(rank, moves, y.dtype),
            cost_ns=0.4, beside=_channels(y, steps),
        )  # fmt: skip
        return
    with np.errstate(all="ignore"):
        inverse = float(np.float32(1) / np.float32(y.scale))
    ordinary = 2.0**-60 < y.scale < 2.0**60
    kind = ("even" if to_even else "away", y.zero_point < 0 or to_even, ordinary, wraps)
    _call(
        node, steps, lambda rank, moves: conversion.QuantizeSpec(rank, moves, y.dtype, *kind),
        (y.scale, inverse, y.zero_point),
    )  # fmt: skip


def rescale(node: Node, steps: Lowering) -> None:
    """Integers to integers where one side is wider than a byte."""
    x, y = node.input(0), node.output(0)
    ratio = x.scale / y.scale
    reach = (1 << (x.dtype.bits - 1)) + abs(x.zero_point)
    if y.size == 0 or (y.dtype == I32 and reach * ratio + abs(y.zero_point) >= LARGEST):
        return
    m, shift = fixedpoint.quantize_multiplier(ratio)
    lanes = steps.isa.lanes(i32)
    form = _form((m, shift), y.zero_point, min(2 * reach, (1 << 31) - 1))

    def constants() -> Array:
        pair = np.repeat(m, lanes), np.repeat(shift, lanes)
        return requantize.constants(form, lanes, *pair, y.zero_point)

    added = (requantize.input_offset(form) - x.zero_point + (1 << 31)) % (1 << 32) - (1 << 31)
    kinds = [("u" if t.dtype == U8 else "i", t.dtype.bits) for t in (x, y)]
    source = steps.inputs[0]
    assert source is not None
    steps.call(
        RescaleSpec(kinds[0], kinds[1], form), source, steps.outputs[0],
        steps.constant(f"rescale {form}", constants), added,
        items=x.size, cost_ns=x.size * 0.2, grain=GRAIN,
    )  # fmt: skip


def dequantize(node: Node, steps: Lowering) -> None:
    """Integers with one scale, and float16."""
    x = node.input(0)
    if x.dtype == F16:
        cast(node, steps)
        return
    channels = x.quantization is not None and x.quantization.per_channel
    _call(
        node, steps, lambda rank, moves: conversion.DequantizeSpec(rank, moves, x.dtype, channels),
        () if channels else (float(x.scale), x.zero_point),
        beside=_channels(x, steps) if channels else (),
    )  # fmt: skip


def _channels(tensor: TensorType, steps: Lowering) -> list[tuple[Operand, tuple[int, ...]]]:
    """Scales (float32) and zero points (int32) along the quantized dimension."""
    q = tensor.quantization
    assert q is not None
    shape = tuple(len(q.scales) if axis == q.axis else 1 for axis in range(tensor.rank))
    zeros = np.broadcast_to(np.asarray(q.zero_points, np.int32), len(q.scales))
    return [
        (steps.constant("scales", lambda: np.asarray(q.scales, np.float32)), shape),
        (steps.constant("zero points", lambda: np.ascontiguousarray(zeros)), shape),
    ]


def _form(multiplier: Multiplier, zero_point: int, bound: int) -> str:
    m, shift = (np.array([part]) for part in multiplier)
    return requantize.best_form(m, shift, zero_point, bound)


def _block(steps: Lowering, form: str, multiplier: Multiplier, zero_point: int) -> Array:
    lanes = steps.isa.lanes(i32)
    m, shift = (np.full(lanes, part, np.int64) for part in multiplier)
    return requantize.constants(form, lanes, m, shift, zero_point).ravel()


def _bytes_call(
    node: Node, steps: Lowering, spec: type[Any], rescalings: list[tuple[str, Multiplier, int]],
    limits: tuple[int, int], cost_ns: float, **fields: Any,
) -> None:  # fmt: skip
    """Blocks of constants (form, multiplier, zero point), then one call."""
    y, inputs = node.output(0), [node.input(k) for k in range(len(node.inputs))]
    zeros = ([x.zero_point for x in inputs] + [0])[:2]
    needed = [entry for entry in rescalings if entry[0] != bytes_.HALF]
    forms = tuple(form for form, _, _ in rescalings)
    place = steps.constant(
        "rescalings", lambda: np.concatenate([_block(steps, *entry) for entry in needed])
    )
    full = limits == fixedpoint.type_range(y.dtype)
    types = tuple(x.dtype for x in inputs)
    _call(
        node, steps,
        lambda rank, moves: spec(rank, moves, types, y.dtype, forms, full, **fields),
        (place, *zeros, *limits), cost_ns=cost_ns,
    )  # fmt: skip


def sum8(node: Node, steps: Lowering, terms: Terms, sign: int, *, squared: bool = False) -> None:
    """Sums and differences of bytes, or squares of differences."""
    zero = node.output(0).zero_point
    if not squared and _line8(node, steps, terms, sign):
        return
    symmetric = not node.input(0).zero_point and not node.input(1).zero_point
    reach = 256 if node.input(0).dtype.bits == 8 else 1 << (15 if symmetric else 16)
    rescalings = []
    for multiplier in (terms.a, terms.b):
        bound = reach << terms.left_shift
        exact = terms.left_shift > 0 and multiplier == (1 << 30, 0)
        form = bytes_.HALF if exact else _form(multiplier, 0, bound)
        rescalings.append((form, multiplier, 0))
    bound = min((reach << terms.left_shift) ** (2 if squared else 1), (1 << 31) - 1)
    rescalings.append((_form(terms.y, zero, bound), terms.y, zero))
    _bytes_call(
        node, steps, bytes_.Sum8Spec, rescalings, (terms.low, terms.high), 0.2,
        left_shift=terms.left_shift, sign=sign, squared=squared,
    )  # fmt: skip


def _line8(node: Node, steps: Lowering, terms: Terms, sign: int) -> bool:
    """A sum by its linear form; False where it has none."""
    a, b, y = node.input(0), node.input(1), node.output(0)
    zeros, limits = (a.zero_point, b.zero_point, y.zero_point), (int(terms.low), int(terms.high))
    line = None
    if terms.left_shift == LEFT_SHIFT:
        line = linear_sum(
            terms.a, terms.b, terms.y, zeros, limits, sign=sign, unsigned=a.dtype == U8
        )
    if line is None:
        return False
    full = limits == fixedpoint.type_range(y.dtype)
    _call(
        node, steps,
        lambda rank, moves: bytes_.Line8Spec(
            rank, moves, (a.dtype, b.dtype), y.dtype, (), full
        ),
        (line[0], line[1], *limits, line[2], line[3]), cost_ns=0.06,
    )  # fmt: skip
    return True


def total8(node: Node, steps: Lowering, last: Multiplier) -> None:
    """Sums of bytes of one scale, their zero point taken once more off, with 19 more bits."""
    bound = min((256 * (len(node.inputs) + 1)) << 19, (1 << 31) - 1)
    zero = node.output(0).zero_point
    limits = fixedpoint.type_range(node.output(0).dtype)
    form = _form(last, zero, bound)
    _bytes_call(node, steps, bytes_.Total8Spec, [(form, last, zero)], limits, 0.2)


def shifted16(
    node: Node, steps: Lowering, shifts: tuple[int, int], limits: tuple[int, int], sign: int
) -> None:
    """Sums of int16 numbers whose scales are powers of two."""
    _call(
        node, steps,
        lambda rank, moves: bytes_.Shifted16Spec(
            rank, moves, (I16, I16), I16, (), False, sign
        ),
        (*shifts, *limits), cost_ns=0.2,
    )  # fmt: skip


def high_product(node: Node, steps: Lowering, limits: tuple[int, int]) -> None:
    """Bytes of int16 factors."""
    y = node.output(0)
    low, high = (limit - y.zero_point for limit in limits)
    nothing = steps.constant("rescalings", lambda: np.zeros(1, np.uint8))
    _call(
        node, steps,
        lambda rank, moves: bytes_.HighProductSpec(rank, moves, (I16, I16), y.dtype, (), False),
        (nothing, y.zero_point, 0, low, high), cost_ns=0.2,
    )  # fmt: skip


def product8(node: Node, steps: Lowering, multiplier: Multiplier, limits: tuple[int, int]) -> None:
    """Products of bytes."""
    zero = node.output(0).zero_point
    form = _form(multiplier, zero, 1 << (16 if node.input(0).dtype.bits == 8 else 30))
    _bytes_call(node, steps, bytes_.Product8Spec, [(form, multiplier, zero)], limits, 0.12)


def piecewise8(
    node: Node, steps: Lowering, first: Multiplier, second: Multiplier | None = None, *,
    limits: tuple[int, int] | None = None, negates: bool = False,
) -> None:  # fmt: skip
    """One rescaling at and above 0, another below: of x, or of the product of both operands."""
    x, y = node.input(0), node.output(0)
    bound = 256 if x.dtype.bits == 8 else 1 << 15
    rescalings = [(_form(first, y.zero_point, bound), first, y.zero_point)]
    if second is not None:
        bound *= 256 if len(node.inputs) > 1 else 1
        rescalings.append((_form(second, y.zero_point, bound), second, y.zero_point))
    limits = limits or fixedpoint.type_range(y.dtype)
    _bytes_call(node, steps, bytes_.Prelu8Spec, rescalings, limits, 0.5, negates=negates)


def compare8(node: Node, steps: Lowering, kernel: str) -> None:
    """Quantized codes; not where scales are so large that a form's limits would be met."""
    rescalings = []
    for tensor in (node.input(0), node.input(1)):
        bound = (1 << tensor.dtype.bits) << 8
        if bound * tensor.scale >= LARGEST:
            return
        multiplier = fixedpoint.quantize_multiplier(tensor.scale)
        rescalings.append((_form(multiplier, 0, bound), multiplier, 0))
    _bytes_call(node, steps, bytes_.Compare8Spec, rescalings, (0, 1), 0.3, function=kernel)


def quotient8(
    node: Node, steps: Lowering, multiplier: Multiplier, limits: tuple[int, int], *, checked: bool
) -> None:
    """Quotients of quantized codes; `checked` refuses divisors that stand for 0."""
    a, b, y = node.input(0), node.input(1), node.output(0)
    numbers = (a.zero_point, b.zero_point, *limits, *multiplier, y.zero_point)
    _call(
        node, steps,
        lambda rank, moves: bytes_.Quotient8Spec(
            rank, moves, (a.dtype, b.dtype), y.dtype, (), False, checked
        ),
        (*numbers, *([steps.status] if checked else [])), cost_ns=3.0, in_place=False,
    )  # fmt: skip
