"""What follows an 8-bit kernel's int32 accumulators: rescale, clamp, add, look up, store.

An `Epilogue` is part of a kernel's spec. Its run-time numbers lie in two constants:
`channel_constants` (one block for every vector of channels: bias, then the rescaling) and
`common_constants` (activation range, the residual ADD's numbers, the same for all channels).

The residual ADD is TFLite's: both terms are moved left by 20 bits, rescaled, summed and rescaled
again. The term of larger scale has the multiplier 1/2, so that it is q << 19, exactly. Where one
linear form of both bytes gives the same for every pair, that is computed instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from litejit.codegen.isa import Isa
from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, i8, i32, u8
from litejit.kernels import requantize
from litejit.record import Record
from litejit.types import Array

_HEADER = 64  # bytes: 16 int32 numbers in front of the ADD's blocks
_LOW, _HIGH, _ADD_LOW, _ADD_HIGH, _OWN_ZERO, _OTHER_ZERO, _SUM = range(7)
_LINE = 8  # four numbers of a linear ADD
ADD_SHIFT = 20


class Epilogue(Record):
    """Which steps follow, in this order; all but the numbers.

    `form` is a form of kernels/requantize. `clamp`: keep results in the activation range (else
    in the byte's). `add` is "", "linear", or names which term of a residual ADD is rescaled: "own"
    (the kernel's own result), "other", or "none" (equal scales). `table` looks the byte up, before
    the ADD where `add_last`, else behind; an ADD without a look-up before it needs `clamp`.
    `narrow` is the number of channels where there are fewer than a vector's lanes.
    """

    form: str
    unsigned: bool = False
    clamp: bool = False
    add: str = ""
    add_clamp: bool = False
    table: bool = False
    add_last: bool = False
    narrow: int = 0

    def emitter(
        self, fn: Function, isa: Isa, common: Pointer, other: Pointer, table: Pointer
    ) -> Emitter:
        """Load what all channels share; call it once, before the loops."""
        return Emitter(self, fn, isa, common, other, table)


ARGUMENTS = {"common": Ptr(i8), "other": Ptr(u8), "table": Ptr(u8)}


class AddNumbers(Record):
    """A residual ADD: (multiplier, shift) of both terms and of the sum, and zero points.

    `line`, if there is one, gives the same: (own * line[0] + other * line[1] + line[2]) >> line[3].
    """

    own: tuple[int, int]
    other: tuple[int, int]
    total: tuple[int, int]
    own_zero: int
    other_zero: int
    zero: int
    low: int
    high: int
    line: tuple[int, int, int, int] | None = None

    @property
    def kind(self) -> str | None:
        """The value for `Epilogue.add`; None where the cheap arithmetic is not exact."""
        if self.line is not None:
            return "linear"
        half = (1 << 30, 0)
        if half not in (self.own, self.other):
            return None
        for (m, shift), zero in ((self.own, 0), (self.other, 0), (self.total, self.zero)):
            bound = np.array([(1 << 29) - 1])
            form = requantize.best_form(np.array([m]), np.array([shift]), zero, bound)
            if form != "u64":
                return None
        if self.own == self.other:
            return "none"
        return "other" if self.own == half else "own"


def channel_constants(
    form: str, lanes: int, bias: Array, multiplier: Array, shift: Array, zero_point: int
) -> Array:
    """One uint8 row per vector of channels: its biases (int32, wrapping), then its rescaling.

    All arrays hold one number a channel, in the order in which lanes are stored, padded to a
    multiple of `lanes`.
    """
    start = (bias.astype(np.int64) + requantize.input_offset(form)) & 0xFFFFFFFF
    rows = start.astype(np.uint32).reshape(-1, lanes).view(np.uint8)
    scales = requantize.constants(form, lanes, multiplier, shift, zero_point)
    return np.concatenate([rows, scales], axis=1)


def block_bytes(form: str, lanes: int) -> int:
    """Bytes of one row of `channel_constants`."""
    return 4 * lanes + requantize.nbytes(form, lanes)


def common_constants(lanes: int, low: int, high: int, add: AddNumbers | None = None) -> Array:
    """The numbers that all channels share, uint8."""
    head = np.zeros(16, np.int64)
    head[_LOW], head[_HIGH] = low, high
    blocks = []
    if add is not None:
        kind = add.kind
        head[_ADD_LOW], head[_ADD_HIGH] = add.low, add.high
        if add.line is not None:
            head[_LINE : _LINE + 4] = add.line
            return (head & 0xFFFFFFFF).astype(np.uint32).view(np.uint8)
        # q - zero - 2^11 moved left by 20 carries the 2^31 that the rescaling wants
        head[_OWN_ZERO], head[_OTHER_ZERO] = add.own_zero - 2048, add.other_zero - 2048
        head[_SUM] = 1 << 31
        if kind != "own":
            head[_SUM] -= add.own_zero << (ADD_SHIFT - 1)
        if kind != "other":
            head[_SUM] -= add.other_zero << (ADD_SHIFT - 1)
        rescaled = add.own if kind == "own" else add.other
        for (m, shift), zero in ((rescaled, 0), (add.total, add.zero)):
            full = np.full(lanes, m), np.full(lanes, shift)
            blocks.append(requantize.constants("u64", lanes, *full, zero).reshape(-1))
    start = (head & 0xFFFFFFFF).astype(np.uint32).view(np.uint8)
    return np.concatenate([start, *blocks])


class Emitter:
    """An Epilogue inside a kernel, with its shared numbers in registers."""

    def __init__(
        self,
        epilogue: Epilogue,
        fn: Function,
        isa: Isa,
        common: Pointer,
        other: Pointer,
        table: Pointer,
    ) -> None:
        self.epilogue, self.fn, self.isa = epilogue, fn, isa
        self.lanes = isa.lanes(i32)
        self.other, self.table = other, table
        self._common = common
        byte = u8 if epilogue.unsigned else i8
        self.byte: Type = byte
        self.block = block_bytes(epilogue.form, self.lanes)

    def _number(self, index: int) -> Value:
        return self._common.cast(i32).load(index).splat(self.lanes)

    def bias(self, at: Pointer) -> Value:
        """The start of the accumulators of the channels whose block is at `at`."""
        return at.cast(i32).load(lanes=self.lanes, align=4 * self.lanes)

    def load(self, at: Pointer) -> list[Value]:
        """The rescaling constants of the channels whose block is at `at`."""
        return requantize.load(self.epilogue.form, at + 4 * self.lanes, self.lanes)

    def begin_rows(self, rows: list[Value]) -> None:
        """The rows whose sums `store` will get; they do not matter here."""

    def total(self, parts: list[Value]) -> Value:
        """The sum of several accumulators."""
        return sum(parts[1:], parts[0])

    def store(
        self, y: Pointer, accs: Iterable[Value], offsets: Iterable[Value], c: list[Value]
    ) -> None:
        """Finish vectors of the same channels; result j goes to y + offset j."""
        group = self.isa.lanes(i8) // self.lanes if self.epilogue.table else 1
        rows = iter(zip(accs, offsets, strict=True))
        for first in rows:
            self._finish(y, [first, *islice(rows, group - 1)], c)

    def _finish(self, y: Pointer, rows: list[tuple[Value, Value]], c: list[Value]) -> None:
        """The steps of the epilogue, for as many rows as share one look-up."""
        epilogue = self.epilogue
        offsets = [offset for _, offset in rows]
        q = [requantize.apply(epilogue.form, self.isa, acc, c) for acc, _ in rows]
        if epilogue.clamp:
            q = [self._clamp(value, _LOW, _HIGH) for value in q]
        if epilogue.table and epilogue.add_last:
            q = [value.to(i32) for value in self._lookup(self._narrow(q))]
        if epilogue.add:
            q = [self._add(value, at) for value, at in zip(q, offsets, strict=True)]
        if epilogue.add_clamp:
            q = [self._clamp(value, _ADD_LOW, _ADD_HIGH) for value in q]
        result = self._narrow(q)
        if epilogue.table and not epilogue.add_last:
            result = self._lookup(result)
        for value, at in zip(result, offsets, strict=True):
            self._write(y + at, value)

    def _narrow(self, values: list[Value]) -> list[Value]:
        return [requantize.narrow(q, unsigned=self.epilogue.unsigned) for q in values]

    def _clamp(self, q: Value, low: int, high: int) -> Value:
        return self.fn.minimum(self.fn.maximum(q, self._number(low)), self._number(high))

    def _add(self, q: Value, offset: Value) -> Value:
        """(own + other) as TFLite adds int8: every MultiplyByQuantizedMultiplier exact."""
        lanes = self.lanes
        size = requantize.nbytes("u64", lanes)
        other = (self.other + offset).cast(self.byte).load(lanes=lanes).to(i32)
        if self.epilogue.add == "linear":
            a, b, c, shift = (self._number(_LINE + j) for j in range(4))
            return (q * a + (other * b + c)) >> shift
        first = requantize.load("u64", self._common + _HEADER, lanes)
        final = requantize.load("u64", self._common + (_HEADER + size), lanes)
        terms = []
        for value, name, zero in ((q, "own", _OWN_ZERO), (other, "other", _OTHER_ZERO)):
            if self.epilogue.add == name:
                biased = (value - self._number(zero)) << ADD_SHIFT
                terms.append(requantize.apply("u64", self.isa, biased, first))
            else:
                terms.append(value << (ADD_SHIFT - 1))
        total = terms[0] + terms[1] + self._number(_SUM)
        return requantize.apply("u64", self.isa, total, final)

    def _lookup(self, values: list[Value]) -> list[Value]:
        lanes = self.lanes
        joined = list(values)
        while len(joined) & (len(joined) - 1):
            joined.append(joined[-1])
        while len(joined) > 1:
            pairs = zip(joined[::2], joined[1::2], strict=True)
            joined = [requantize.join(low, high) for low, high in pairs]
        whole = joined[0]
        found = self.isa.lookup(self.fn, self.table, whole.bitcast(u8 * whole.type.lanes))
        if len(values) == 1:
            return [found.bitcast(self.byte * lanes)]
        parts = (found.shuffle(range(j * lanes, (j + 1) * lanes)) for j in range(len(values)))
        return [part.bitcast(self.byte * lanes) for part in parts]

    def _write(self, at: Pointer, x: Value) -> None:
        """All lanes, or the first `narrow` in at most two overlapping pieces of 2^i bytes."""
        count = self.epilogue.narrow
        if not count or count >= self.lanes:
            at.store(0, x)
            return
        piece = 1 << (count.bit_length() - 1)
        for start in {0, count - piece}:
            part = x.shuffle(range(start, start + piece))
            (at + start).store(0, part if piece > 1 else x.lane(start))
