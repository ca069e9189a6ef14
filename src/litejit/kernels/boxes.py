"""Boxes that overlap better ones are dropped: scalar kernels around one heap of candidates.

A candidate is one 64-bit number: its score in the upper half, as an integer of the same order,
and what it stands for in the lower half. The arithmetic is that of `litejit.ops.boxes` and
`litejit.ops.custom.detection`.
"""

from __future__ import annotations

from collections.abc import Callable

from litejit.codegen import math as functions
from litejit.codegen.isa import Isa
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Value,
    f32,
    f64,
    i1,
    i32,
    i64,
    u8,
)
from litejit.kernels.base import REFUSED, KernelSpec

_LOW32 = 0xFFFFFFFF
_NO_NUMBER = -(1 << 31)  # what NaN becomes: below all scores


def _ordered(score: Value) -> Value:
    """An i64 number for a score: equal for equal scores, larger for larger ones."""
    bits = (score + 0.0).bitcast(i32)  # -0 becomes 0
    word = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return score.equals(score).choose(word, _NO_NUMBER).to(i64)


def _candidate(score: Value, number: Value) -> Value:
    return (_ordered(score) << 32) | number


def _score_of(candidate: Value) -> Value:
    word = (candidate >> 32).to(i32)
    return (word ^ ((word >> 31) & 0x7FFFFFFF)).bitcast(f32)


class _Heap:
    """A binary heap at `items`, with the comparisons of C++'s push_heap and pop_heap.

    Candidates are compared by their bits from `shift` on: 0 where the lower half decides
    between equal scores, 32 where what the heap happens to do decides.
    """

    def __init__(self, items: Pointer, shift: int) -> None:
        self.fn, self.items, self.shift = items.fn, items, shift

    def _less(self, a: Value, b: Value) -> Value:
        return (a >> self.shift) < (b >> self.shift)

    def rise(self, hole: Value, item: Value) -> None:
        """Put an item where it belongs, from `hole` upward."""
        place = [hole]

        def is_better() -> Value:
            return (place[0] > 0) & self._less(self.items[(place[0] - 1) / 2], item)

        with self.fn.loop_while(is_better, place):
            parent = (place[0] - 1) / 2
            self.items[place[0]] = self.items[parent]
            place[0] = parent
        self.items[place[0]] = item

    def pop(self, size: Value) -> Value:
        """Take the best of `size` items."""
        fn, items, left = self.fn, self.items, size - 1
        top, last = items[0], items[left]
        hole, child = fn.const(0, i64), fn.const(2, i64)
        state = [hole, child]
        with fn.loop_while(lambda: state[1] < left, state):
            right, other = items[state[1]], items[state[1] - 1]
            lower = self._less(right, other)
            items[state[0]] = lower.choose(other, right)
            state[0] = state[1] - lower.to(i64)
            state[1] = state[0] * 2 + 2
        with fn.when(state[1].equals(left), carry=state):
            items[state[0]] = items[state[1] - 1]
            state[0] = state[1] - 1
        self.rise(state[0], last)
        return top


def _extreme(word: str, a: Value, b: Value) -> Value:
    """Maximum or minimum; NaN if one is."""
    return a.fn.call(f"llvm.{word}imum.{a.type.suffix}", a.type, a, b)


def _area(box: list[Value]) -> Value:
    return (box[2] - box[0]) * (box[3] - box[1])


def _corners(corners: Pointer, box: Value) -> list[Value]:
    return [(corners + box * 4)[k] for k in range(4)]


def _overlap(first: list[Value], second: list[Value]) -> Value:
    """Intersection over union of boxes, lane by lane; 0 where one has no area."""
    zero = first[0].fn.const(0.0, first[0].type)
    areas = _area(first), _area(second)
    sides = []
    for k in range(2):
        high = _extreme("min", first[k + 2], second[k + 2])
        side = high - _extreme("max", first[k], second[k])
        sides.append(_extreme("max", side, zero))
    common = sides[0] * sides[1]
    ratio = common / (areas[0] + areas[1] - common)
    return ((areas[0] <= 0.0) | (areas[1] <= 0.0)).choose(zero, ratio)


class SuppressSpec(KernelSpec):
    """NON_MAX_SUPPRESSION_V4 and, `soft`, V5.

    Arguments: boxes, scores, overlap, least, sigma (the latter three numbers in memory), places,
    values, count, scratch, status (code 1: sigma is below 0), boxes' number, most. Scratch: for
    every box 4 floats, 8 bytes and 4 bytes. One item. What `soft` turns off is not touched.
    """

    soft: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Corners in order, a heap of all that score enough, then the best again and again."""
        floats = dict.fromkeys(("boxes", "scores", "overlap", "least", "sigma"), Ptr(f32))
        fn = Function(
            name, isa, **floats, places=Ptr(i32), values=Ptr(f32), found=Ptr(i32),
            scratch=Ptr(f32), status=Ptr(i64), number=i64, most=i64,
        )  # fmt: skip
        boxes, scores, overlap, least, sigma, places, values, found, corners = fn.args[:9]
        status, number, most = fn.args[9:]
        items = (corners + number * 4).cast(i64)
        begins = (items + number).cast(i32)
        heap, least = _Heap(items, 32), least[0]
        factor, soft = fn.const(0.0, f32), fn.const(0, i1)
        if self.soft:
            soft, factor = sigma[0] > 0.0, (fn.const(-0.5, f64) / sigma[0].to(f64)).to(f32)
            with fn.when((sigma[0] >= 0.0) ^ True):
                status[0] = REFUSED
        state = [fn.const(0, i64), fn.const(0, i64)]  # candidates, chosen
        with fn.loop(number, carry=state) as box:
            _sort_corners(boxes + box * 4, corners + box * 4)
            with fn.when(scores[box] > least, carry=state):
                heap.rise(state[0], _candidate(scores[box], box))
                begins[box] = 0
                state[0] = state[0] + 1
        with fn.loop(most) as k:
            places[k] = 0
            if self.soft:
                values[k] = 0.0
        most = fn.minimum(most, state[0])
        with fn.loop_while(lambda: (state[0] > 0) & (state[1] < most), state):
            top = heap.pop(state[0])
            state[0] = state[0] - 1
            box, score = top & _LOW32, _score_of(top)
            own, first, chosen = _corners(corners, box), begins[box].to(i64), state[1]
            lowered, stands = self._weighed(
                score, first, chosen, lambda k: _overlap(own, _corners(corners, places[k].to(i64))),
                (overlap[0], least), (soft, factor),
            )  # fmt: skip
            with fn.when(stands & lowered.equals(score), carry=state):
                places[chosen] = box.to(i32)
                if self.soft:
                    values[chosen] = score
                state[1] = chosen + 1
            with fn.when(stands & (lowered > least), carry=state):
                begins[box] = chosen.to(i32)
                heap.rise(state[0], _candidate(lowered, box))
                state[0] = state[0] + 1
        found[0] = state[1].to(i32)
        return fn.ir()

    def _weighed(
        self, score: Value, first: Value, chosen: Value, covered: Callable[[Value], Value],
        limits: tuple[Value, Value], decay: tuple[Value, Value],
    ) -> tuple[Value, Value]:  # fmt: skip
        """A score lowered by the boxes chosen from `first` on; does none of them cover the box?

        The latest are looked at first. `limits` are the largest overlap and the least score,
        `decay` says whether scores are lowered at all, and the factor in the exponent.
        """
        fn, (largest, least), (soft, factor) = score.fn, limits, decay
        state = [chosen - 1, score, fn.const(1, i1)]

        def goes_on() -> Value:
            more: Value = (state[0] >= first) & state[2] & (state[1] > least)
            return more

        with fn.loop_while(goes_on, state):
            value = covered(state[0])
            state[2] = (value >= largest) ^ True
            if self.soft:
                lower = state[1] * functions.exp(factor * value * value)
                state[1] = (soft & state[2]).choose(lower, state[1])
            state[0] = state[0] - 1
        return state[1], state[2]


def _sort_corners(box: Pointer, corners: Pointer) -> None:
    """Any two opposite corners as the lower and the upper ones."""
    for k in range(2):
        a, b = box[k], box[k + 2]
        corners[k], corners[k + 2] = _extreme("min", a, b), _extreme("max", a, b)


class Quantized:
    """Numbers in memory, float32 or uint8 with a scale and a zero point, as float32."""

    def __init__(self, at: Pointer, scale: Value, zero: Value, *, wide: bool) -> None:
        self.at, self.scale, self.zero = at, scale, zero
        self.between = f64 if wide else f32  # what the product is rounded to first

    def number(self, raw: Value) -> Value:
        """The float32 of what was loaded."""
        if raw.type.is_float:
            return raw
        lanes = raw.type.lanes
        difference = (raw.to(i32) - self.zero.to(i32).splat(lanes)).to(self.between)
        return (difference * self.scale.to(self.between).splat(lanes)).to(f32)

    def best(self, count: Value) -> Value:
        """The largest of `count` numbers; NaN are no numbers."""
        fn, element = self.at.fn, self.at.element
        kind = element if element.is_float else i32
        lanes = fn.isa.lanes(kind)
        none = fn.const(float("nan") if kind.is_float else 0, kind * lanes)
        best = [none]
        with fn.loop(count, step=lanes, carry=best) as k:
            raw = self.at.load(k, lanes=lanes).to(kind)
            best[0] = fn.maximum(best[0], fn.first(count - k, lanes).choose(raw, none))
        total = best[0].lane(0)
        for lane in range(1, lanes):
            total = fn.maximum(total, best[0].lane(lane))
        return self.number(total)

    def __add__(self, index: Value) -> Quantized:
        return Quantized(self.at + index, self.scale, self.zero, wide=self.between == f64)

    def __getitem__(self, index: Value) -> Value:
        return self.number(self.at[index])


class DetectionSpec(KernelSpec):
    """TFLite_Detection_PostProcess.

    Arguments: boxes, scores, anchors, scales (4 f64: y, x, h, w), the four outputs, scratch,
    status (code 1: a box ends before it begins), then numbers: boxes' count, its row, classes,
    row of the scores and their background, most, most_of_class, per_box (classes of a box),
    room (for its classes), pitch; zero points of the three inputs; floats: least score, overlap,
    scales of the three inputs. Scratch: for every box 4 floats and 8 bytes, `regular` 8 bytes for
    every class and `most_of_class`, then five rows of `pitch` floats: the boxes that are kept.
    One item.
    """

    regular: bool
    bytes_of_boxes: bool
    bytes_of_scores: bool

    _NUMBERS = (
        "count", "row", "classes", "width", "background", "most", "most_of_class", "per_box",
        "room", "pitch", "zero_boxes", "zero_scores", "zero_anchors",
    )  # fmt: skip
    _FLOATS = ("least", "overlap", "scale_boxes", "scale_scores", "scale_anchors")

    def emit(self, name: str, isa: Isa) -> str:
        """Corners, candidates, and the results in order."""
        coded, scored = (Ptr(u8 if b else f32) for b in (self.bytes_of_boxes, self.bytes_of_scores))
        fn = Function(
            name, isa, boxes=coded, scores=scored, anchors=coded, scales=Ptr(f64), y=Ptr(f32),
            classes_out=Ptr(f32), scores_out=Ptr(f32), found=Ptr(f32), scratch=Ptr(f32),
            status=Ptr(i64), **dict.fromkeys(self._NUMBERS, i64),
            **dict.fromkeys(self._FLOATS, f32),
        )  # fmt: skip
        boxes, scores, anchors, scales, *outputs, corners, status = fn.args[:10]
        n = dict(zip(self._NUMBERS + self._FLOATS, fn.args[10:], strict=True))
        code = Quantized(boxes, n["scale_boxes"], n["zero_boxes"], wide=False)
        anchor = Quantized(anchors, n["scale_anchors"], n["zero_anchors"], wide=False)
        score = Quantized(scores, n["scale_scores"], n["zero_scores"], wide=True)
        score = score + n["background"]
        wrong = [fn.const(0, i1)]
        with fn.loop(n["count"], carry=wrong) as box:
            ends = _decode(code + box * n["row"], anchor + box * 4, scales, corners + box * 4)
            wrong[0] = wrong[0] | ends
        with fn.when(wrong[0]):
            status[0] = REFUSED
        places = n["most"] * n["room"]
        for values, width in zip(outputs[:3], (4, 1, 1), strict=True):
            with fn.loop(places * width) as k:
                values[k] = 0.0
        items = (corners + n["count"] * 4).cast(i64)
        choose = self._regular if self.regular else self._fast
        total = choose(n, score, corners, items, outputs)
        outputs[3][0] = total.to(f32)
        return fn.ir()

    def _kept(
        self, n: dict[str, Value], corners: Pointer, items: Pointer, kept: Pointer, most: Value,
        score_of: Callable[[Value], Value],
    ) -> Value:  # fmt: skip
        """Writes the boxes that stay, best first; returns their number."""
        fn, heap = items.fn, _Heap(items, 0)
        lanes = fn.isa.lanes(f32)
        rows = [kept.cast(f32) + n["pitch"] * k for k in range(1, 5)]  # corners of the kept ones
        state = [fn.const(0, i64), fn.const(0, i64)]  # candidates, kept
        with fn.loop(n["count"], carry=state) as box:
            score = score_of(box)
            with fn.when(score >= n["least"], carry=state):
                heap.rise(state[0], _candidate(score, fn.const(_LOW32, i64) - box))
                state[0] = state[0] + 1
        with fn.loop_while(lambda: (state[0] > 0) & (state[1] < most), state):
            box = fn.const(_LOW32, i64) - (heap.pop(state[0]) & _LOW32)
            state[0] = state[0] - 1
            own, after = _corners(corners, box), [fn.const(0, i64), fn.const(1, i1)]
            wide = [value.splat(lanes) for value in own]

            def goes_on(after: list[Value] = after) -> Value:
                return (after[0] < state[1]) & after[1]

            with fn.loop_while(goes_on, after):
                others = [row.load(after[0], lanes=lanes) for row in rows]
                over = _overlap(wide, others) > n["overlap"].splat(lanes)
                after[1] = functions.any_of(over & fn.first(state[1] - after[0], lanes)) ^ True
                after[0] = after[0] + lanes
            with fn.when(after[1], carry=state):
                kept[state[1]] = box.to(i32)
                for row, value in zip(rows, own, strict=True):
                    row[state[1]] = value
                state[1] = state[1] + 1
        return state[1]

    def _fast(
        self, n: dict[str, Value], scores: Quantized, corners: Pointer, items: Pointer,
        outputs: list[Pointer],
    ) -> Value:  # fmt: skip
        """Every box counts with its best class, and gives its best classes."""
        fn, width = items.fn, n["width"]
        kept = (items + n["count"]).cast(i32)
        count = self._kept(
            n, corners, items, kept, n["most"],
            lambda box: (scores + box * width).best(n["classes"]),
        )  # fmt: skip
        with fn.loop(count) as k:
            box, before = kept[k].to(i64), [fn.const((1 << 63) - 1, i64)]
            own = scores + box * width
            with fn.loop(n["per_box"], carry=before) as r:
                best = [fn.const(-1 << 63, i64)]
                with fn.loop(n["classes"], carry=best) as c:
                    found = _candidate(own[c], fn.const(_LOW32, i64) - c)
                    usable = (found < before[0]) & (found > best[0])
                    best[0] = usable.choose(found, best[0])
                before[0] = best[0]
                number = fn.const(_LOW32, i64) - (best[0] & _LOW32)
                _put(outputs, k * n["room"] + r, corners + box * 4, number, own[number])
        return count

    def _regular(
        self, n: dict[str, Value], scores: Quantized, corners: Pointer, items: Pointer,
        outputs: list[Pointer],
    ) -> Value:  # fmt: skip
        """Every class for itself; then the best of all, of equal ones the first class's."""
        fn, count = items.fn, n["count"]
        heap = _Heap(items + count, 0)
        kept = (heap.items + n["classes"] * n["most_of_class"]).cast(i32)
        size = [fn.const(0, i64)]
        with fn.loop(n["classes"], carry=size) as c:
            column = scores + c

            def score_of(box: Value, column: Quantized = column) -> Value:
                return column[box * n["width"]]

            most = n["most_of_class"]
            found = self._kept(n, corners, items, kept, most, score_of)
            with fn.loop(found, carry=size) as k:
                box = kept[k].to(i64)
                number = fn.const(_LOW32, i64) - (c * count + box)
                heap.rise(size[0], _candidate(column[box * n["width"]], number))
                size[0] = size[0] + 1
        total = fn.minimum(size[0], n["most"])
        with fn.loop(total) as k:
            top = heap.pop(size[0] - k)
            number = fn.const(_LOW32, i64) - (top & _LOW32)
            box, c = number % count, number / count
            score = (scores + box * n["width"])[c]
            _put(outputs, k, corners + box * 4, c, score)
        return total


def _put(outputs: list[Pointer], place: Value, box: Pointer, number: Value, score: Value) -> None:
    (outputs[0] + place * 4).store(0, box.load(lanes=4))
    outputs[1][place], outputs[2][place] = number.to(f32), score


def _decode(code: Quantized, anchor: Quantized, scales: Pointer, corners: Pointer) -> Value:
    """Writes a box's corners; returns whether one end is before the other."""
    fn = corners.fn

    def pair(of: Quantized, first: int) -> Value:
        return of.number(of.at.load(first, lanes=2)).to(f64)

    middle, size = pair(anchor, 0), pair(anchor, 2)
    place = pair(code, 0) / scales.load(0, lanes=2) * size + middle
    growth = functions.exp64(pair(code, 2) / scales.load(2, lanes=2))
    center, half = place.to(f32), (growth * 0.5 * size).to(f32)
    low, high = center - half, center + half
    corners.store(0, low)
    corners.store(2, high)
    ends = low > high
    return fn.emit(i1, f"or i1 {ends.lane(0).ref}, {ends.lane(1).ref}")
