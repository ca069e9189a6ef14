"""How signal operators ask for their kernels; where one cannot have it, NumPy runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from litejit.kernels import fourier, signal
from litejit.micro import kiss_fft
from litejit.micro.file_bytes import bytes_from
from litejit.ops.base import Lowering, Node, Operand
from litejit.types import Array

if TYPE_CHECKING:
    from litejit.micro.ops_stream import Cut

_NS = 2.0  # about what a scalar step takes
GAINS = 4 * 32 - 6 + 3  # entries of a table of gains for all of uint32


def _operands(steps: Lowering) -> list[Operand]:
    found = [operand for operand in steps.inputs if operand is not None]
    return [*found, *steps.outputs]


def window(node: Node, steps: Lowering) -> None:
    """Rows of x with the window."""
    size = node.input(1).size
    rows, shift = node.input(0).size // size, node.options.number("shift")
    cost = rows * (5 + size * 0.1)
    steps.call(signal.WindowSpec(), *_operands(steps), size, shift, items=rows, cost_ns=cost)


def auto_scale(node: Node, steps: Lowering) -> None:
    """One item."""
    size = node.input(0).size
    steps.call(signal.AutoScaleSpec(), *_operands(steps), size, items=1, cost_ns=20 + size * 0.2)


def energy(node: Node, steps: Lowering) -> None:
    """All numbers of y."""
    first, last = (node.options.number(f"{word}_index") for word in ("start", "end"))
    size = node.output(0).size
    steps.call(
        signal.EnergySpec(), *_operands(steps), first, last, items=size, cost_ns=5 + size * 0.5
    )


def filter_bank(node: Node, steps: Lowering) -> None:
    """Where the channels are constants, and stay within their energies and weights."""
    count = node.options.number("num_channels")
    known = [node.input(k).value for k in (3, 4, 5)]
    if any(value is None for value in known) or not count:
        return
    starts, firsts, widths = (np.asarray(v)[: count + 1].astype(np.int64) for v in known)
    widths = np.maximum(widths, 0)
    used = widths > 0
    weights = min(node.input(1).size, node.input(2).size)
    for begin, size in ((starts, node.input(0).size), (firsts, weights)):
        if (begin[used] < 0).any() or ((begin + widths)[used] > size).any():
            return
    steps.call(
        signal.FilterBankSpec(), *_operands(steps), count, items=1,
        cost_ns=20 + float(widths.sum()) * _NS,
    )  # fmt: skip


def square_root(node: Node, steps: Lowering) -> None:
    """All numbers."""
    size = node.input(0).size
    if size:
        steps.call(signal.SquareRootSpec(), *_operands(steps), items=size, cost_ns=10 + size * 8.0)


def subtraction(node: Node, steps: Lowering, state: Array) -> None:
    """All channels; `state` is kept between runs."""
    number, size = node.options.number, node.input(0).size
    words = ("smoothing", "one_minus_smoothing")
    values = [number(w) for w in words] + [number(f"alternate_{w}") for w in words]
    values.append(number("min_signal_remaining"))
    factors = (np.array(values, np.int64) & 0xFFFFFFFF).astype(np.uint64)
    if not size:
        return
    steps.call(
        signal.SubtractionSpec(bool(number("clamping"))), *_operands(steps),
        steps.persistent(state), steps.constant("factors", lambda: factors),
        number("smoothing_bits"), number("spectral_subtraction_bits"), items=size,
        cost_ns=10 + size * 4.0,
    )  # fmt: skip


def gain(node: Node, steps: Lowering) -> None:
    """Where the table of gains is a constant."""
    x, noise, _ = steps.inputs
    value, size = node.input(2).value, node.input(0).size
    if value is None or x is None or noise is None or not size:
        return
    table = bytes_from(value, 2 * GAINS).view(np.int16)
    steps.call(
        signal.GainSpec(), x, noise, steps.constant("gains", lambda: table), steps.outputs[0],
        node.options.number("snr_shift"), items=size, cost_ns=10 + size * 6.0,
    )  # fmt: skip


def logarithm(node: Node, steps: Lowering, table: Array) -> None:
    """All channels."""
    size, x = node.input(0).size, steps.inputs[0]
    if not size or x is None:
        return
    entries = steps.constant("logarithms", lambda: table.astype(np.int32))
    scale = node.options.number("output_scale") & 0xFFFFFFFF
    steps.call(
        signal.LogSpec(), x, entries, steps.outputs[0],
        node.options.number("input_correction_bits"), scale, items=size, cost_ns=10 + size * 6.0,
    )  # fmt: skip


def transform(node: Node, steps: Lowering, made: kiss_fft.RealTransform, *, inverse: bool) -> None:
    """Lengths whose half is a product of twos and fours."""
    x, dtype = node.input(0), node.input(0).dtype.name
    radices, x_at = tuple(fourier.factors(made.half)), steps.inputs[0]
    rows = x.size // x.dims[-1] if x.size else 0
    if not rows or x_at is None or not set(radices) <= set(fourier.RADICES):
        return
    wide = {"INT16": np.int32, "INT32": np.int64, "FLOAT32": np.float32}[dtype]

    def pairs(values: kiss_fft.Pair) -> Array:
        both: Array = np.stack(values, axis=1).astype(wide)
        return both if both.size else np.zeros((1, 2), wide)

    stride = -(-4 * made.half * fourier.wide_bytes(dtype) // 64) * 64
    operands = (
        steps.constant("order", lambda: made.complex.order.astype(np.int32)),
        steps.constant(
            "twiddles", lambda: fourier.packed_twiddles(pairs(made.complex.twiddles), radices)
        ),
        steps.constant("turns", lambda: pairs(made.turns).reshape(-1)),
    )
    steps.call(
        fourier.FourierSpec(dtype, radices, inverse), x_at, steps.outputs[0], *operands,
        x_at, steps.scratch(stride), stride, x.dims[-1], 1, 0, x.dims[-1], 1, 1, items=rows,
        cost_ns=rows * made.half * (len(radices) + 2) * 4.0,
    )  # fmt: skip


def frames(node: Node, steps: Lowering, cut: Cut, memory: Array) -> None:
    """Rows of x into frames; `memory` is kept between runs."""
    if not cut.rows * cut.added:
        return
    most = cut.itemsize * (cut.capacity + cut.added)
    joined = steps.temporary(most)
    x, outputs = steps.inputs[0], steps.outputs
    assert x is not None
    full = outputs[1] if len(outputs) > 1 else joined
    steps.call(
        signal.FramesSpec(8 * cut.itemsize), x, outputs[0], full,
        steps.persistent(memory), joined, cut.rows, cut.added, cut.frames, cut.append, cut.size,
        cut.drop, cut.capacity, items=1,
        cost_ns=20 + cut.rows * (most + cut.frames * cut.size) * 0.1,
    )  # fmt: skip


def overlap_add(node: Node, steps: Lowering, rest: Array) -> None:
    """Rows of frames; `rest` is kept between runs."""
    x = node.input(0)
    frames, size = x.dims[-2:]
    spec = signal.OverlapAddSpec(x.dtype.numpy.kind == "f")
    if x.size:
        steps.call(
            spec, *_operands(steps), steps.persistent(rest), frames, size,
            node.options.number("frame_step"), items=len(rest), cost_ns=20 + x.size * 0.2,
        )  # fmt: skip


def classify(node: Node, steps: Lowering) -> None:
    """All that is asked."""
    count = node.input(1).size
    steps.call(
        signal.ClassifySpec(), *_operands(steps), steps.status, node.input(0).size, items=count,
        cost_ns=10 + count * _NS, grain=1024,
    )  # fmt: skip
