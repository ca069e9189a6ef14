"""An 8-bit layer as kernels see it: rescaling, epilogue with what was fused behind, constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import i32
from litejit.kernels import epilogue_int8 as epilogues
from litejit.kernels import requantize
from litejit.kernels.hybrid import Rescaling
from litejit.kernels.int16 import Rescaling16
from litejit.ops.base import Lowering, Node, Operand
from litejit.ops.convolution import operands
from litejit.ops.fixedpoint import type_range
from litejit.ops.linear_sum import linear_sum
from litejit.record import Record
from litejit.types import I8, U8, Array, TensorType

_SUM_FACTOR = 60  # where kernels/conv_int8 looks for minus the weights' zero point


class Weights(Record):
    """What is known of weights before they are packed.

    Weights mean raw - zero. `parts`: "byte": the difference fits int8; "sums": it does not, and
    the kernel multiplies raw - 128 and sums the activations; "split": it is the sum of two int8.
    Where only a run knows them, `raw` has no elements, and `dims` is the shape they will have.
    """

    raw: Array
    zero: int
    parts: str
    dims: tuple[int, ...] = ()

    __hash__ = object.__hash__

    @property
    def offset(self) -> int:
        """What takes raw weights to int8 where the kernel sums the activations."""
        return 128 if self.raw.dtype == np.uint8 else 0


def late_weights(dims: tuple[int, ...]) -> Weights:
    """Int8 weights without a zero point that a run finds; their units are dimension 0."""
    return Weights(np.zeros(0, np.int8), 0, "byte", dims)


def weights_of(raw: Array, zero: int, *, wide: str) -> Weights:
    """Constant 8-bit weights; `wide` names the parts of those that do not fit int8."""
    if raw.dtype == np.int8 and zero == 0:
        return Weights(raw, 0, "byte")
    low, high = int(raw.min()) - zero, int(raw.max()) - zero
    if low >= -128 and high <= 127:
        return Weights(raw, zero, "byte")
    return Weights(raw, zero, "sums" if high > 254 else wide)


class Numbers(Record):
    """The arithmetic of one layer; arrays have one number an output channel.

    With `form` "scale" the `multiplier` is a float64 factor and `shift` is zero.
    """

    multiplier: Array
    shift: Array
    bias: Array
    limits: tuple[int, int]
    input: TensorType
    output: TensorType
    weights: Weights
    form: str

    __hash__ = object.__hash__

    @property
    def zero(self) -> int:
        """The output's zero point."""
        return self.output.zero_point


def numbers_of(
    weights: Weights, x: TensorType, y: TensorType, *, bias: Array | None, units: int,
    limits: tuple[int, int], multipliers: tuple[Array, Array], products: int,
) -> Numbers:  # fmt: skip
    """Numbers with the cheapest exact rescaling of sums of `products` products."""
    flat = np.zeros(units, np.int64) if bias is None else bias.astype(np.int64).ravel()
    largest = 255 if weights.raw.dtype == np.uint8 or weights.zero else 128
    bound = products * 255 * largest + np.abs(flat)
    floor = limits[0] == y.zero_point
    form = requantize.best_form(*multipliers, y.zero_point, bound, floor=floor)
    return Numbers(*multipliers, flat, limits, x, y, weights, form)


def numbers_by_factor(
    weights: Weights, x: TensorType, y: TensorType, *, bias: Array | None, units: int,
    limits: tuple[int, int], factor: Array,
) -> Numbers:  # fmt: skip
    """Numbers of a layer that rounds sum * factor once, half away from zero."""
    flat = np.zeros(units, np.int64) if bias is None else bias.astype(np.int64).ravel()
    return Numbers(factor, np.zeros(units, np.int64), flat, limits, x, y, weights, "scale")


class Layer:
    """One node being lowered: the epilogue that its kernels share, and their constants."""

    joins = True  # rows of few channels may share a vector
    item = 1  # bytes of an element
    chains = 0  # how many accumulators a sum needs; 0: as many as are fast

    def __init__(self, node: Node, steps: Lowering, numbers: Numbers) -> None:
        self.node, self.steps, self.numbers = node, steps, numbers
        self.isa: Isa = steps.isa
        self.lanes = steps.isa.lanes(i32)
        self.unsigned = numbers.input.dtype == U8
        self.fused = fused_behind(node, numbers.limits)
        flipped = self.unsigned != self.isa.dot_is_unsigned
        # what the kernels' flip of the sign bit adds to an activation
        self.moved = 0 if not flipped else (-128 if self.unsigned else 128)

    def data(self, offset: int) -> Operand:
        """The layer's data, `offset` elements further on."""
        core = self.node.core
        data = operands(self.node)[0] if self.numbers.form != "scale" else core.input(0)
        position = next(
            j for j, t in enumerate(core.inputs) if t is not None and t.index == data.index
        )
        found = self.steps.inputs[position]
        assert found is not None
        return found.at(offset)

    def result(self, offset: int) -> Operand:
        """The layer's result, `offset` elements further on."""
        return self.steps.outputs[0].at(offset)

    def epilogue(self, channels: int) -> epilogues.Epilogue | Rescaling | Rescaling16:
        """The epilogue of a kernel that makes `channels` channels of each pixel."""
        fused, lanes = self.fused, self.lanes
        whole = type_range(self.numbers.output.dtype)
        add = fused.add
        return epilogues.Epilogue(
            self.numbers.form,
            unsigned=self.unsigned,
            clamp=fused.limits != whole or (add is not None and not fused.add_last),
            add=(add.kind or "") if add is not None else "",
            add_clamp=add is not None and (add.low, add.high) != whole,
            table=fused.table is not None,
            add_last=fused.add_last,
            narrow=channels if channels < lanes else 0,
        )

    def shared_operands(self, offset: int = 0) -> tuple[Operand | int, ...]:
        """(common, other, table) as kernels take them; `offset` moves the residual."""
        fused, lanes = self.fused, self.lanes
        factor = self._common_factor
        common = self.steps.constant(f"common {factor}", lambda: self._common(lanes, factor))
        other: Operand | int = 0
        if fused.add is not None:
            found = self.steps.inputs[fused.other]
            assert found is not None
            other = found.at(offset)
        table: Operand | int = 0
        if fused.table is not None:
            values = fused.table
            table = self.steps.constant("table", lambda: values)
        return common, other, table

    @property
    def _common_factor(self) -> int:
        weights = self.numbers.weights
        return weights.offset - weights.zero if weights.parts == "sums" else 0

    def _common(self, lanes: int, factor: int) -> Array:
        block = epilogues.common_constants(lanes, *self.fused.limits, self.fused.add)
        return with_sum_factor(block, factor)

    def channel_constants(self, order: Array, sums: Array) -> Array:
        """Biases and rescaling for the channels `order`; `sums` are sums of meant weights."""
        return self.unmoved_constants(order, sums, self.moved)

    @property
    def sum_factor(self) -> int:
        """What biases hold of sums of weights."""
        return -(self.numbers.input.zero_point + self.moved)

    def unmoved_constants(self, order: Array, sums: Array, moved: int = 0) -> Array:
        """The same for kernels that do not flip activations' sign bits, but add `moved`."""
        n = self.numbers
        bias = n.bias - (n.input.zero_point + moved) * sums
        return epilogues.channel_constants(
            n.form, self.lanes, bias[order], n.multiplier[order], n.shift[order], n.zero
        )

    def padding(self, nbytes: int) -> Operand:
        """At least `nbytes` bytes of the input's zero point."""
        size = -(-(nbytes + 64) // 64) * 64
        x = self.numbers.input
        make: Callable[[], Array] = lambda: np.full(size, x.zero_point, x.dtype.numpy)  # noqa: E731
        return self.steps.constant(f"padding {size}", make)


def with_sum_factor(block: Array, factor: int) -> Array:
    """Shared constants of an epilogue with what sums of activations are multiplied by."""
    block[_SUM_FACTOR : _SUM_FACTOR + 4] = np.array([factor], np.int32).view(np.uint8)
    return block


class Fused(Record):
    """What follows a layer's own arithmetic: its limits, one ADD of input `other`, a table.

    `add_last`: the ADD comes behind the table.
    """

    limits: tuple[int, int]
    add: epilogues.AddNumbers | None = None
    other: int = -1
    table: Array | None = None
    add_last: bool = False

    __hash__ = object.__hash__


def fused_behind(node: Node, limits: tuple[int, int]) -> Fused:
    """Read node.after, which only holds what `fusible_after` took."""
    core = node.core
    last, add, other, table, add_last = core.output(0), None, -1, None, False
    taken = len(core.inputs)
    for follower in node.after:
        if follower.name == "ADD":
            first = follower.input(0).index == last.index
            add, other = add_numbers(follower, 0 if first else 1), taken
            add_last = table is not None
        elif not follower.op.keeps_bytes:
            table = table_of(follower)
        taken += len(follower.inputs) - 1
        last = follower.output(0)
    return Fused(limits, add, other, table, add_last)


def table_of(follower: Node) -> Array | None:
    """The 256 bytes of a look-up, or None where the node is none."""
    table: Any = getattr(follower.options, "table", None)
    if not isinstance(table, np.ndarray) or table.shape != (256,):
        return None
    return np.ascontiguousarray(table).view(np.uint8)


def add_numbers(follower: Node, position: int) -> epilogues.AddNumbers:
    """The arithmetic of an int8 or uint8 ADD whose input `position` is the layer's result."""
    from litejit.ops.arithmetic import common_scale

    terms = common_scale(follower, 20)
    own, other = follower.input(position), follower.input(1 - position)
    scales = (terms.a, terms.b)
    multipliers = scales[position], scales[1 - position], terms.y
    zeros = own.zero_point, other.zero_point, follower.output(0).zero_point
    limits = int(terms.low), int(terms.high)
    line = linear_sum(*multipliers, zeros, limits, unsigned=own.dtype == U8)
    return epilogues.AddNumbers(*multipliers, *zeros, *limits, line)


def takes(node: Node, follower: Node, position: int) -> bool:
    """May `follower` run in the epilogue of this 8-bit layer? One ADD and one look-up may."""
    added = any(part.name == "ADD" for part in node.after)
    looked_up = any(table_of(part) is not None for part in node.after)
    result, last = follower.output(0), node.output(0)
    if follower.op.keeps_bytes:
        same = (result.scale, result.zero_point) == (last.scale, last.zero_point)
        return position == 0 and same and result.dtype == last.dtype
    if result.dtype != last.dtype or result.dtype not in (I8, U8) or result.shape != last.shape:
        return False
    if follower.name != "ADD":
        return position == 0 and not looked_up and table_of(follower) is not None
    if added or not result.is_quantized:
        return False
    for tensor in follower.inputs:
        if tensor is None or not tensor.is_quantized:
            return False
        if tensor.dtype != last.dtype or tensor.shape != last.shape:
            return False
    return add_numbers(follower, position).kind is not None
