"""Elements whose places are integers in memory: gathered, scattered, turned around."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from litejit.codegen.lang import Function, Pointer, Ptr, Type, Value, f32, i8, i32, i64, u64
from litejit.kernels.base import REFUSED, KernelSpec, type_of
from litejit.kernels.memory import copy_words, store_items
from litejit.types import DType

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa


class GatherSpec(KernelSpec):
    """Copies rows of `run` bytes by tuples of `depth` indices: y[o, k] = x[o, indices[k]].

    Arguments: x, y, indices, status, count (tuples), between, block, run, then (size, bytes) of
    each index's dimension. Work item o * count + k is a row of y, and o moves x by `block` bytes;
    with `flat` o is always 0. `between` items o share `count` tuples, the next ones have others.
    An index outside [0, size) stores REFUSED | k at `status` and copies nothing. `bits` is the
    width of an index; `lanes` and `groups` as in PickSpec.
    """

    bits: int
    lanes: int
    groups: int
    depth: int = 1
    flat: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        words = ["count", "between", "block", "run", *_dimensions(self.depth)]
        fn = Function(name, isa, x=Ptr(i8), y=Ptr(i8), indices=Ptr(Type("i", self.bits)),
                      status=Ptr(i64), **dict.fromkeys(words, i64))  # fmt: skip
        x, y, indices, status, count, between, block, run, *sizes = fn.args
        word = Type("i", 8 * self.lanes) if self.lanes <= 8 else i8 * self.lanes
        with fn.loop(fn.end, start=fn.begin) as item:
            k, outer, tuple_ = item, fn.const(0, i64), item
            if not self.flat:
                k, outer = item % count, item / count
                tuple_ = outer / between * count + k
            offset, inside = _place(fn, indices + tuple_ * self.depth, sizes)
            with fn.when(inside):
                source = x + (outer * block + offset)
                copy_words(fn, source, y + item * run, run, word, self.groups)
            with fn.when(inside ^ True):
                status[0] = k | REFUSED
        return fn.ir()


class ScatterSpec(KernelSpec):
    """Puts runs of elements to places of y that tuples of `depth` indices name, in order.

    `fold` says what becomes of the element there: "set" replaces it, "add" adds (integers wrap),
    "or" joins bits. Arguments: y, updates, indices, status, count (tuples), run, pitch (elements
    from update to update), inner, outer step, inner step, then (size, step) of each index's
    dimension. All steps count elements. There is one item.

    Tuple k starts from y + k / inner * outer step + k % inner * inner step with `grid`, else from
    y. A tuple with an index outside [0, size) is left out; without `grid` it stores REFUSED | k
    at `status`, with it indices are cut to 32 bits.
    """

    dtype: DType
    bits: int
    depth: int
    fold: str
    grid: bool = False

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element, words = type_of(self.dtype), ["count", "run", "pitch", "inner", "over", "across"]
        words += _dimensions(self.depth)
        fn = Function(
            name, isa, y=Ptr(element), updates=Ptr(element), indices=Ptr(Type("i", self.bits)),
            status=Ptr(i64), **dict.fromkeys(words, i64),
        )  # fmt: skip
        y, updates, indices, status, count, run, pitch, inner, over, across, *sizes = fn.args
        with fn.loop((fn.begin < fn.end).choose(count, 0)) as k:
            offset, inside = _place(fn, indices + k * self.depth, sizes, narrow=self.grid)
            if self.grid:
                offset = offset + k / inner * over + k % inner * across
            stop = inside.choose(run, 0)
            self._put(fn, y + offset, updates + k * pitch, stop)
            if not self.grid:
                with fn.when(inside ^ True):
                    status[0] = k | REFUSED
        return fn.ir()

    def _put(self, fn: Function, target: Pointer, source: Pointer, stop: Value) -> None:
        lanes = fn.isa.lanes(target.element)
        whole = stop / lanes * lanes
        with fn.loop(whole, step=lanes) as j:
            target.store(j, self._folded(target, source, j, lanes))
        with fn.when(whole < stop):
            value = self._folded(target, source, whole, lanes)
            target.store(whole, value, mask=fn.first(stop - whole, lanes))

    def _folded(self, target: Pointer, source: Pointer, at: Value, lanes: int) -> Value:
        value = source.load(at, lanes=lanes)
        if self.fold == "set":
            return value
        before = target.load(at, lanes=lanes)
        return before + value if self.fold == "add" else before | value


class EmbedSpec(KernelSpec):
    """y[k, j] = table[ids[k], j] * scales[ids[k] * pitch], in float32; ids are int32.

    Arguments: table (bytes of `dtype`), y, ids, scales, status, size (rows of the table), run
    (elements of a row), pitch (0 or 1). An item is a row of y. An id outside [0, size) stores
    REFUSED | k at `status` and writes nothing.
    """

    dtype: DType

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, table=Ptr(type_of(self.dtype)), y=Ptr(f32), ids=Ptr(i32),
                      scales=Ptr(f32), status=Ptr(i64), size=i64, run=i64, pitch=i64)  # fmt: skip
        table, y, ids, scales, status, size, run, pitch = fn.args
        lanes = isa.lanes(f32)
        with fn.loop(fn.end, start=fn.begin) as k:
            row, inside = _place(fn, ids + k, [size, fn.const(1, i64)])
            source, target, stop = table + row * run, y + k * run, inside.choose(run, 0)
            scale = scales[row * pitch].splat(lanes)
            whole = stop / lanes * lanes
            with fn.loop(whole, step=lanes) as j:
                target.store(j, source.load(j, lanes=lanes).to(i32).to(f32) * scale)
            with fn.when(whole < stop):
                value = source.load(whole, lanes=lanes).to(i32).to(f32) * scale
                target.store(whole, value, mask=fn.first(stop - whole, lanes))
            with fn.when(inside ^ True):
                status[0] = k | REFUSED
        return fn.ir()


class BroadcastArgsSpec(KernelSpec):
    """y = the shape that shapes a and b, integers of `bits`, broadcast to; y is as long as both.

    Arguments: a, b, y, status, the lengths of a and of b. Where two sizes differ and none is 1,
    REFUSED is stored at `status`. There is one item.
    """

    bits: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        size = Type("i", self.bits)
        fn = Function(name, isa, a=Ptr(size), b=Ptr(size), y=Ptr(size), status=Ptr(i64),
                      count_a=i64, count_b=i64)  # fmt: skip
        a, b, y, status, *counts = fn.args
        rank = fn.maximum(*counts)
        with fn.loop(rank) as k:
            sides = []
            for side, count in zip((a, b), counts, strict=True):
                at = k - (rank - count)
                sides.append((at < 0).choose(fn.const(1, size), side[fn.maximum(at, 0)]))
            m, n = sides
            y[k] = m.equals(1).choose(n, m)
            with fn.when(m.differs(n) & m.differs(1) & n.differs(1)):
                status[0] = REFUSED
        return fn.ir()


class BucketizeSpec(KernelSpec):
    """y = how many edges are not above x (int32): all for NaN. Integers are rounded to float32.

    Arguments: x, y, edges (float64 for FLOAT64, else float32), their number. An item is an element.
    """

    dtype: DType

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        element = type_of(self.dtype)
        compared = element if element.is_float else f32
        fn = Function(name, isa, x=Ptr(element), y=Ptr(i32), edges=Ptr(compared), count=i64)
        x, y, edges, count = fn.args
        lanes = isa.lanes(element)

        def found(i: Value) -> Value:
            value = x.load(i, lanes=lanes).to(compared)
            sums = [fn.const(0, i32 * lanes)]
            with fn.loop(count, carry=sums) as j:
                above = value < edges[j].splat(lanes)
                sums[0] = sums[0] + above.choose(fn.const(0, i32 * lanes), 1)
            return sums[0]

        store_items(fn, y, lanes, found)
        return fn.ir()


class WhereSpec(KernelSpec):
    """The indices of all elements that are not 0, in order: y (int64) has `rank` for each.

    Arguments: x, y, status, count (of such elements), the sizes of x, and their product. Where
    there are more or less than `count`, REFUSED is stored at `status`, and nothing behind y.
    There is one item.
    """

    dtype: DType
    rank: int

    MOST_AXES: ClassVar[int] = 8

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        words = ["count", *(f"size{d}" for d in range(self.rank)), "n"]
        fn = Function(name, isa, x=Ptr(type_of(self.dtype)), y=Ptr(i64), status=Ptr(i64),
                      **dict.fromkeys(words, i64))  # fmt: skip
        x, y, status, count, *sizes, n = fn.args
        found = [fn.const(0, i64)]
        with fn.loop(n, carry=found) as i, fn.when(x[i].differs(0), found):
            k = found[0]
            with fn.when(k < count):
                rest = i
                for d in reversed(range(1, self.rank)):
                    y[k * self.rank + d] = rest % sizes[d]
                    rest = rest / sizes[d]
                y[k * self.rank] = rest
            found[0] = k + 1
        with fn.when(found[0].differs(count)):
            status[0] = REFUSED
        return fn.ir()


class UniqueSpec(KernelSpec):
    """The distinct elements of x as they first appear, and for each x the number of its equal.

    Zeros of both signs are equal, and so are all NaN. Arguments: x, y, numbers (integers of
    `bits`), status, table (scratch of 2 ** `log` int32, more than x has elements), n, count (of
    distinct elements), log >= 6. Where there are more or less than `count`, REFUSED is stored
    at `status`, and nothing behind y. There is one item.
    """

    dtype: DType
    bits: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel: `table` holds the first place of an element, or -1."""
        fn = Function(
            name, isa, x=Ptr(type_of(self.dtype)), y=Ptr(type_of(self.dtype)),
            numbers=Ptr(Type("i", self.bits)), status=Ptr(i64), table=Ptr(i32),
            n=i64, count=i64, log=i64,
        )  # fmt: skip
        x, y, numbers, status, table, n, count, log = fn.args
        lanes, slots = isa.lanes(i32), fn.const(1, i64) << log
        with fn.loop(slots, step=lanes) as i:
            table.store(i, fn.const(-1, i32 * lanes))
        found = [fn.const(0, i64)]
        with fn.loop(n, carry=found) as i:
            key, k = self._key(x[i]), found[0]
            slot = [(key.to(u64) * 0x9E3779B97F4A7C15 >> (64 - log).to(u64)).to(i64)]

            def is_others(key: Value = key, slot: list[Value] = slot) -> Value:
                first: Value = table[slot[0]].to(i64)
                same = self._key(x[fn.maximum(first, 0)]).equals(key)
                return (first >= 0) & (same ^ True)

            with fn.loop_while(is_others, slot):
                slot[0] = (slot[0] + 1) & (slots - 1)
            first = table[slot[0]].to(i64)
            is_new = first < 0
            with fn.when(is_new):
                table[slot[0]] = i.to(i32)
                numbers[i] = k.to(numbers.element)
            with fn.when(is_new & (k < count)):
                y[k] = x[i]
            numbers[i] = numbers[is_new.choose(i, first)]
            found[0] = k + is_new.choose(fn.const(1, i64), 0)
        with fn.when(found[0].differs(count)):
            status[0] = REFUSED
        return fn.ir()

    @staticmethod
    def _key(value: Value) -> Value:
        """An integer for each value that is one of a kind."""
        if not value.type.is_float:
            return value.to(i64)
        zero = value.equals(0).choose(value.fn.const(0.0, value.type), value)
        bits = zero.bitcast(Type("i", value.type.bits)).to(i64)
        return value.equals(value).choose(bits, -1)


class ReverseSequenceSpec(KernelSpec):
    """Turns the first lengths[b] rows along one dimension around; b counts another dimension.

    x has shape [n, outer, between, inner, run], run in bytes; the sequence runs along inner with
    `is_inner`, b along outer, else the other way round. Arguments: x, y, lengths, status, outer,
    between, inner, run. An item is the `inner` rows of one (n, outer, between). A length outside
    [0, size] stores REFUSED | b at `status`. `bits` is the width of a length; `lanes` and
    `groups` as in PickSpec.
    """

    bits: int
    lanes: int
    groups: int
    is_inner: bool

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the kernel."""
        fn = Function(name, isa, x=Ptr(i8), y=Ptr(i8), lengths=Ptr(Type("i", self.bits)),
                      status=Ptr(i64), outer=i64, between=i64, inner=i64, run=i64)  # fmt: skip
        x, y, lengths, status, outer, between, inner, run = fn.args
        word = Type("i", 8 * self.lanes) if self.lanes <= 8 else i8 * self.lanes
        with fn.loop(fn.end, start=fn.begin) as item:
            which, row = item / between % outer, item * inner
            if self.is_inner:
                length = self._length(lengths, which, inner, status)
                with fn.loop(length) as j:
                    source = x + (row + length - 1 - j) * run
                    copy_words(fn, source, y + (row + j) * run, run, word, self.groups)
                rest = (inner - length) * run
                with fn.when(rest > 0):
                    at = (row + length) * run
                    copy_words(fn, x + at, y + at, rest, word, 0)
            else:
                with fn.loop(inner) as j:
                    length = self._length(lengths, j, outer, status)
                    turned = (which < length).choose(length - 1 - which * 2, 0) * between * inner
                    source = x + (row + j + turned) * run
                    copy_words(fn, source, y + (row + j) * run, run, word, self.groups)
        return fn.ir()

    @staticmethod
    def _length(lengths: Pointer, batch: Value, size: Value, status: Pointer) -> Value:
        """A length, 0 where it is refused."""
        length = lengths[batch].to(i64)
        inside = length.to(u64) <= size.to(u64)
        with length.fn.when(inside ^ True):
            status[0] = batch | REFUSED
        return inside.choose(length, 0)


def _dimensions(depth: int) -> list[str]:
    return [f"{word}{d}" for d in range(depth) for word in ("size", "step")]


def _place(
    fn: Function, indices: Pointer, sizes: list[Value], *, narrow: bool = False
) -> tuple[Value, Value]:
    """(sum of index * step, are all indices in [0, size)); the sum is 0 where they are not."""
    offset, inside = fn.const(0, i64), fn.const(0, i64).equals(0)
    for d in range(len(sizes) // 2):
        index = indices[d].to(i32).to(i64) if narrow else indices[d].to(i64)
        inside = inside & (index.to(u64) < sizes[2 * d].to(u64))
        offset = offset + index * sizes[2 * d + 1]
    return inside.choose(offset, 0), inside
