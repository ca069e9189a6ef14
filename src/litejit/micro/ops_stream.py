"""Signal operators that keep samples between runs: delay, framer, stacker, overlap-add.

Source: tflite-micro signal/micro/kernels/{delay,framer,stacker,overlap_add}.cc and
signal/src/{circular_buffer,overlap_add}.cc.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from litejit.micro import signal_lowering
from litejit.micro.signal_op import Settings, StatefulOp
from litejit.ops.base import Arrays, Lowering, Node
from litejit.record import Record
from litejit.types import BOOL, F32, I16, Array, DType

HEADER = 64  # bytes before the samples that are kept; the first 8 count those of a row


class Cut(Record):
    """How a stream is cut: every run adds `added` samples to each of `rows` and gives `frames`.

    A frame takes `size` samples from `drop` samples behind the one before it; after every
    `append` samples that are added there is one if enough are there. A count below 0 says how
    often the first samples are put in front. `capacity` is the most that is kept of a row.
    """

    rows: int
    added: int
    frames: int
    append: int
    size: int
    drop: int
    capacity: int
    itemsize: int = 2

    @property
    def nbytes(self) -> int:
        """Of all that is kept."""
        return HEADER + self.itemsize * self.rows * self.capacity


class _Stream(StatefulOp):
    """int16 rows cut into frames, and whether all frames were full: others are 0.

    TFLM leaves frames that are not full as they were.
    """

    inputs = (I16,)
    results_of: ClassVar[tuple[DType, ...]] = (I16, BOOL)
    results = (2, 2)
    vectors = False

    def cut(self, node: Node) -> Cut:
        """What this operator does with the stream."""
        raise NotImplementedError

    def first_count(self, settings: Settings) -> int:
        """What a row holds before the first run: zeros, or below 0 copies of what comes."""
        raise NotImplementedError

    def begin(self, settings: Settings, memory: Array) -> None:
        """Zeros."""
        memory[...] = 0
        memory[:8].view(np.int64)[0] = self.first_count(settings)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Frame by frame."""
        cut = self.cut(node)
        new = inputs[0].reshape(cut.rows, -1)[:, : cut.added]
        memory = self.memory(node.options, cut.nbytes)
        count, rows = memory[:8].view(np.int64), memory[HEADER:].view(np.int16)
        rows, kept = rows.reshape(cut.rows, cut.capacity), int(count[0])
        before = np.tile(new, -kept) if kept < 0 else rows[:, :kept]
        joined = np.concatenate([before, new], axis=1)
        late = -(-(cut.size - before.shape[1]) // cut.append) - 1
        empty = min(max(late, 0), cut.frames)
        out = np.zeros((cut.rows, cut.frames, cut.size), np.int16)
        for k in range(cut.frames - empty):
            out[:, empty + k] = joined[:, k * cut.drop : k * cut.drop + cut.size]
        rest = joined[:, (cut.frames - empty) * cut.drop :]
        count[0] = rest.shape[1]
        rows[:, : rest.shape[1]] = rest
        made = out.reshape(node.output(0).dims)
        return (made, np.array(empty == 0)) if len(node.outputs) > 1 else made

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        cut = self.cut(node)
        signal_lowering.frames(node, steps, cut, self.memory(node.options, cut.nbytes))


class Delay(_Stream):
    """int16 rows, `delay_length` samples later; zeros come first."""

    results_of = (I16,)
    results = (1, 1)

    def check(self, node: Node) -> None:
        """A length, and equal shapes."""
        node.require(node.input(0).rank >= 1, "input must have at least one dimension")
        node.require(node.options.number("delay_length") >= 0, "delay_length is negative")
        self.require_output(node, node.input(0).dims)

    def cut(self, node: Node) -> Cut:
        """One frame as long as the input."""
        *outer, size = node.input(0).dims
        kept = node.options.number("delay_length")
        return Cut(math.prod(outer), size, 1, max(size, 1), size, size, kept)

    def first_count(self, settings: Settings) -> int:
        """The delay."""
        return settings.number("delay_length")


class Framer(_Stream):
    """Overlapping frames of `frame_size` samples, `frame_step` apart, and whether all were full.

    With `prefill` frames before the first samples hold zeros.
    """

    def check(self, node: Node) -> None:
        """Steps that divide the input."""
        x, settings = node.input(0), node.options
        step, size = settings.number("frame_step"), settings.number("frame_size")
        node.require(x.rank >= 1, "input must have at least one dimension")
        ok = 0 < step <= x.dims[-1] and x.dims[-1] % step == 0 and size >= step
        node.require(ok, f"frames of {size} every {step} samples from {x.dims}")
        self.require_output(node, (*x.dims[:-1], x.dims[-1] // step, size))
        self.require_output(node, (), 1)

    def cut(self, node: Node) -> Cut:
        """A frame for every step of the input."""
        *outer, count = node.input(0).dims
        step, size = (node.options.number(f"frame_{word}") for word in ("step", "size"))
        return Cut(math.prod(outer), count, count // step, step, size, step, size)

    def first_count(self, settings: Settings) -> int:
        """All but a step of a frame, or nothing."""
        missing = settings.number("frame_size") - settings.number("frame_step")
        return missing if settings.number("prefill") else 0


class Stacker(_Stream):
    """The last left + right + 1 vectors in a row, every `stacker_step`-th time, and whether.

    The first vector stands for the `left` ones before it.
    """

    vectors = True

    def check(self, node: Node) -> None:
        """Sizes that fit."""
        settings = node.options
        channels, step = settings.number("num_channels"), settings.number("stacker_step")
        around = [settings.number(f"stacker_{side}_context") for side in ("left", "right")]
        count = sum(around) + 1
        ok = channels > 0 and min(around) >= 0 and 0 < step <= count
        ok = ok and node.input(0).size >= channels
        node.require(ok, f"stacks of {count} x {channels} every {step} of {node.input(0).dims}")
        self.require_output(node, (channels * count,))
        self.require_output(node, (), 1)

    def cut(self, node: Node) -> Cut:
        """One stack; of the input only its channels count."""
        channels, size = node.options.number("num_channels"), node.output(0).size
        drop = channels * node.options.number("stacker_step")
        return Cut(1, channels, 1, channels, size, drop, size)

    def first_count(self, settings: Settings) -> int:
        """So many copies of the first vector."""
        return -settings.number("stacker_left_context")


class OverlapAdd(StatefulOp):
    """Frames [..., frames, size] added up `frame_step` apart; int16 saturates."""

    vectors = False

    def check(self, node: Node) -> None:
        """Frames, and steps within them."""
        x, step = node.input(0), node.options.number("frame_step")
        node.require_dtype(x, (I16, F32), "input")
        node.require_dtype(node.output(0), (x.dtype,), "output")
        kind = node.options.number("T", x.dtype.code)
        node.require(kind == x.dtype.code, f"T is {kind}, the input {x.dtype.name}")
        node.require(x.rank >= 2, f"input has shape {x.shape}, expected frames")
        node.require(0 < step <= x.dims[-1], f"frames of {x.dims[-1]} every {step} samples")
        self.require_output(node, (*x.dims[:-2], x.dims[-2] * step))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Frame by frame."""
        x, step = inputs[0], node.options.number("frame_step")
        frames = x.reshape(-1, *x.shape[-2:])
        buffer = self._rest(node)
        out = np.empty((len(frames), x.shape[-2], step), x.dtype)
        for k in range(x.shape[-2]):
            total = _saturated_sum(frames[:, k], buffer)
            out[:, k] = total[:, :step]
            buffer[...] = np.concatenate([total[:, step:], np.zeros_like(total[:, :step])], axis=1)
        return out.reshape(node.output(0).dims)

    def _rest(self, node: Node) -> Array:
        """What the frames before left behind, by row."""
        x = node.input(0)
        *outer, _, size = x.dims
        shape = math.prod(outer), size
        memory = self.memory(node.options, math.prod(shape) * x.dtype.itemsize)
        return memory.view(x.dtype.numpy).reshape(shape)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.overlap_add(node, steps, self._rest(node))


def _saturated_sum(a: Array, b: Array) -> Array:
    if a.dtype != np.int16:
        return np.asarray(a + b)
    total: Array = np.clip(a.astype(np.int32) + b, -32768, 32767).astype(np.int16)
    return total
