"""Signal operators that keep samples between runs: delay, framer, stacker, overlap-add.

Source: tflite-micro signal/micro/kernels/{delay,framer,stacker,overlap_add}.cc and
signal/src/{circular_buffer,overlap_add}.cc.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.micro.signal_op import StatefulOp, rows_of
from litejit.ops.base import Arrays, Node
from litejit.types import BOOL, F32, I16, Array


def _outer(node: Node) -> int:
    dims = node.input(0).dims
    return math.prod(dims[:-1])


class Delay(StatefulOp):
    """int16 rows, `delay_length` samples later; zeros come first."""

    inputs = (I16,)
    results_of = (I16,)
    vectors = False

    def check(self, node: Node) -> None:
        """A length, and equal shapes."""
        node.require(node.input(0).rank >= 1, "input must have at least one dimension")
        node.require(node.options.number("delay_length") >= 0, "delay_length is negative")
        self.require_output(node, node.input(0).dims)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """What was kept, then the new samples."""
        x, settings = rows_of(inputs[0]), node.options
        kept = settings.state
        if kept is None:
            kept = np.zeros((len(x), settings.number("delay_length")), np.int16)
        joined = np.concatenate([kept, x], axis=1)
        settings.state = joined[:, x.shape[1] :].copy()
        out: Array = np.ascontiguousarray(joined[:, : x.shape[1]])
        return out.reshape(node.output(0).dims)


class Framer(StatefulOp):
    """Overlapping frames of `frame_size` samples, `frame_step` apart, and whether all were full.

    With `prefill` frames before the first samples hold zeros; otherwise those that are not full
    yet are 0 here (TFLM leaves them as they were).
    """

    inputs = (I16,)
    results_of = (I16, BOOL)
    results = (2, 2)
    vectors = False

    def check(self, node: Node) -> None:
        """Steps that divide the input."""
        x, settings = node.input(0), node.options
        step, size = settings.number("frame_step"), settings.number("frame_size")
        node.require(x.rank >= 1, "input must have at least one dimension")
        ok = 0 < step <= x.dims[-1] and x.dims[-1] % step == 0 and size >= step
        node.require(ok, f"frames of {size} every {step} samples from {x.dims}")
        self.require_output(node, (*x.dims[:-1], x.dims[-1] // step, size))
        self.require_output(node, (), 1)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Frame by frame."""
        x, settings = rows_of(inputs[0]), node.options
        step, size = settings.number("frame_step"), settings.number("frame_size")
        kept = settings.state
        if kept is None:
            before = size - step if settings.number("prefill") else 0
            kept = np.zeros((len(x), before), np.int16)
        frames = x.shape[1] // step
        out = np.zeros((len(x), frames, size), np.int16)
        valid = True
        for frame in range(frames):
            kept = np.concatenate([kept, x[:, frame * step : (frame + 1) * step]], axis=1)
            if kept.shape[1] >= size:
                out[:, frame] = kept[:, :size]
                kept = kept[:, step:]
            else:
                valid = False
        settings.state = kept.copy()
        return out.reshape(node.output(0).dims), np.array(valid)


class Stacker(StatefulOp):
    """The last left + right + 1 vectors in a row, every `stacker_step`-th time, and whether.

    The first vector stands for the `left` ones before it.
    """

    inputs = (I16,)
    results_of = (I16, BOOL)
    results = (2, 2)

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

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Add a vector; give a stack if it is full."""
        settings, size = node.options, node.output(0).size
        channels = settings.number("num_channels")
        new, kept = inputs[0].reshape(-1)[:channels], settings.state
        if kept is None:
            kept = np.tile(new, settings.number("stacker_left_context"))
        kept = np.concatenate([kept, new])
        full = len(kept) >= size
        out = kept[:size].copy() if full else np.zeros(size, np.int16)
        if full:
            kept = kept[channels * settings.number("stacker_step") :].copy()
        settings.state = kept
        return out, np.array(full)


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
        x, settings = inputs[0], node.options
        step = settings.number("frame_step")
        frames = x.reshape(-1, *x.shape[-2:])
        buffer = settings.state
        if buffer is None:
            buffer = np.zeros((len(frames), x.shape[-1]), x.dtype)
        out = np.empty((len(frames), x.shape[-2], step), x.dtype)
        for k in range(x.shape[-2]):
            total = _saturated_sum(frames[:, k], buffer)
            out[:, k] = total[:, :step]
            buffer = np.concatenate([total[:, step:], np.zeros_like(total[:, :step])], axis=1)
        settings.state = buffer
        return out.reshape(node.output(0).dims)


def _saturated_sum(a: Array, b: Array) -> Array:
    if a.dtype != np.int16:
        return np.asarray(a + b)
    total: Array = np.clip(a.astype(np.int32) + b, -32768, 32767).astype(np.int16)
    return total
