"""What TFLM's kernels refuse in the shapes of their operands: rules of `refusals`.

TFLM infers no shapes; its kernels compare those that the file declares. Sources: as `refusals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from litejit.micro.operands import View
from litejit.model.options import (
    BatchMatMulOptions,
    GatherOptions,
    SqueezeOptions,
    StridedSliceOptions,
    SVDFOptions,
    UnidirectionalSequenceLSTMOptions,
)
from litejit.model.table import Table

Complaint: TypeAlias = "tuple[str, str, str]"  # stage, problem, advice
Rule: TypeAlias = "Callable[[View], Iterator[Complaint]]"
CONVERT = "convert the model again, with the shapes that it runs with"
FIXED = "convert with fixed input shapes; TFLM knows no others"


def squeezed_ones(view: View) -> Iterator[Complaint]:
    """Every axis that SQUEEZE drops is 1."""
    image = view.need("i0")
    for axis in view.options(SqueezeOptions).squeeze_dims:
        if not -image.rank <= axis < image.rank or image.shape[axis] != 1:
            problem = f"it squeezes axis {axis} of the shape {image.shape}, which is not 1"
            yield "prepare", problem, CONVERT
            return


def same_shapes(view: View) -> Iterator[Complaint]:
    """Input and result have one shape."""
    image, out = view.need("i0"), view.need("o0")
    if image.shape != out.shape:
        yield declared(view, image.shape)


def declared(view: View, shape: tuple[int, ...]) -> Complaint:
    """Say that the file declares another shape for the result than the operator makes."""
    problem = f"its result is declared as {view.need('o0').shape}, and it makes {shape}"
    return "prepare", problem, FIXED


def padded(view: View) -> Iterator[Complaint]:
    """A pair of numbers for every dimension of the result, and the result that they make."""
    image, amounts, out = view.need("i0"), view.need("i1"), view.need("o0")
    if amounts.elements != 2 * out.rank or out.rank > image.rank:
        yield "prepare", f"it pads {image.shape} by {amounts.elements} numbers", CONVERT
        return
    raw = b"" if amounts.data is None else bytes(amounts.data)
    words = np.frombuffer(raw, "<i4", len(raw) // 4).tolist()  # int64 numbers are read so, too
    if len(words) < 2 * out.rank:
        return
    sums = (n + words[2 * k] + words[2 * k + 1] for k, n in enumerate(image.shape[: out.rank]))
    shape = tuple(sums)
    if shape != out.shape:
        yield declared(view, shape)


def expanded(view: View) -> Iterator[Complaint]:
    """EXPAND_DIMS: the result has the 1 where the axis says."""
    image, words = view.need("i0"), view.need("i1").words
    if words:
        axis = words[0] + (image.rank + 1 if words[0] < 0 else 0)
        shape = (*image.shape[:axis], 1, *image.shape[axis:])
        if not 0 <= axis <= image.rank:
            yield "prepare", f"axis {words[0]} is out of range", CONVERT
        elif shape != view.need("o0").shape:
            yield declared(view, shape)


def filled(view: View) -> Iterator[Complaint]:
    """FILL: a scalar, and a vector that is the shape of the result."""
    dims = view.need("i0")
    if view.need("i1").rank:
        yield "prepare", f"its value has the shape {view.need('i1').shape}", "fill with a scalar"
    elif dims.rank != 1 or dims.words is not None and dims.words != view.need("o0").shape:
        yield declared(view, dims.words or ())


def broadcast_to(view: View) -> Iterator[Complaint]:
    """The wanted shape is the result's, and the input can be spread over it."""
    image, dims, out = view.need("i0"), view.need("i1"), view.need("o0")
    if dims.rank != 1 or dims.words is None:
        return
    wide = dims.words
    pairs = zip(reversed(image.shape), reversed(wide), strict=False)
    if len(image.shape) > len(wide) or any(a not in (1, b) for a, b in pairs):
        yield "prepare", f"{image.shape} cannot be spread over {wide}", CONVERT
    elif wide != out.shape:
        yield declared(view, wide)


def selected(view: View) -> Iterator[Complaint]:
    """SELECT_V2: three shapes that go together make the result's."""
    shapes = [view.need(word).shape for word in ("i0", "i1", "i2")]
    rank = max(map(len, shapes))
    wide = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    most = tuple(0 if 0 in column else max(column) for column in zip(*wide, strict=True))
    if any(n not in (1, m) for shape in wide for n, m in zip(shape, most, strict=True)):
        yield "prepare", f"the shapes {shapes} do not go together", CONVERT
    elif most != view.need("o0").shape:
        yield declared(view, most)


def reshaped(view: View) -> Iterator[Complaint]:
    """As many numbers behind as before; one open dimension at most."""
    image, out = view.need("i0"), view.need("o0")
    open_dims = out.shape.count(-1)
    legacy = out.shape == (0,) and len(view.operator.inputs) == 1
    if open_dims == 0 and out.elements != (image.elements if not legacy else 0):
        yield declared(view, image.shape)
    elif open_dims > 1:
        yield "prepare", f"its result is declared as {out.shape}", CONVERT


def sliced(view: View) -> Iterator[Complaint]:
    """STRIDED_SLICE: the slice has the result's shape."""
    image, words = view.need("i0"), [view.need(f"i{k}").words for k in (1, 2, 3)]
    if any(found is None or len(found) < image.rank for found in words):
        return
    shape = []
    options = view.options(StridedSliceOptions)
    for k, size in enumerate(image.shape):
        begin, end, stride = ((found or ())[k] for found in words)
        if not stride:
            yield "prepare", f"its stride along axis {k} is 0", CONVERT
            return
        if options.shrink_axis_mask >> k & 1:
            continue
        first = None if options.begin_mask >> k & 1 else begin
        last = None if options.end_mask >> k & 1 else end
        shape.append(len(range(*slice(first, last, stride).indices(max(size, 0)))))
    if tuple(shape) != view.need("o0").shape:
        yield declared(view, tuple(shape))


def blocks_of(table: type[Table], *, grows: bool) -> Rule:
    """Blocks of the options' size go into the channels, or into height and width."""

    def rule(view: View) -> Iterator[Complaint]:
        image, block = view.need("i0"), int(getattr(view.options(table), "block_size", 0))
        cut = (block * block, image.shape[3:]) if grows else (block, image.shape[1:3])
        if block <= 0 or any(n % cut[0] for n in cut[1]):
            problem = f"blocks of {block} x {block} do not go into {image.shape}"
            yield "prepare", problem, CONVERT

    return rule


def product(view: View) -> Iterator[Complaint]:
    """BATCH_MATMUL: both operands have as many terms to be summed."""
    options = view.options(BatchMatMulOptions)
    left, right = view.need("i0").shape, view.need("i1").shape
    if min(len(left), len(right)) >= 2:
        a, b = left[-2 if options.adj_x else -1], right[-1 if options.adj_y else -2]
        if a != b:
            yield "prepare", f"its operands have {a} and {b} terms to be summed", CONVERT


def gathered(view: View) -> Iterator[Complaint]:
    """GATHER: an axis and batches that both operands have."""
    data, picks, options = view.need("i0"), view.need("i1"), view.options(GatherOptions)
    axis = options.axis + (data.rank if options.axis < 0 else 0)
    batch = options.batch_dims + (picks.rank if options.batch_dims < 0 else 0)
    if not (0 <= axis < data.rank and 0 <= batch <= min(axis, picks.rank)):
        problem = f"axis {options.axis} and {options.batch_dims} batch dimensions are not possible"
        yield "prepare", f"{problem} for {data.shape} and {picks.shape}", CONVERT
    elif data.shape[:batch] != picks.shape[:batch]:
        yield "prepare", f"the batches of {data.shape} and {picks.shape} differ", CONVERT


def svdf(view: View) -> Iterator[Complaint]:
    """SVDF: filters that make whole units, and a result of that many."""
    image, features, out = view.need("i0"), view.need("i1"), view.need("o0")
    rank = view.options(SVDFOptions).rank
    filters = features.shape[0] if features.rank == 2 else 0
    if rank == 0 or filters % rank or not filters:
        yield "prepare", f"{filters} filters do not make units of rank {rank}", CONVERT
    elif image.rank == 2 and out.shape != (image.shape[0], filters // rank):
        yield declared(view, (image.shape[0], filters // rank))


def lstm_state(view: View) -> Iterator[Complaint]:
    """LSTM: a cell state of INT16 or FLOAT32, and of the right size."""
    cell = view.need("i19")
    if cell.dtype not in ("FLOAT32", "INT16"):
        problem = f"its cell state is {cell.dtype}"
        yield "prepare", problem, "quantize the cell state to INT16"
    sequence, units = view.need("i0"), view.need("i18").shape[-1:]
    time_major = view.options(UnidirectionalSequenceLSTMOptions).time_major
    batch = sequence.shape[1 if time_major else 0] if sequence.rank == 3 else 0
    if sequence.rank == 3 and units and cell.elements != batch * units[0]:
        problem = f"its cell state of shape {cell.shape} does not hold {batch} x {units[0]} numbers"
        yield "prepare", problem, CONVERT


def update_slice(view: View) -> Iterator[Complaint]:
    """DYNAMIC_UPDATE_SLICE: a start for every axis, and an update that fits in."""
    data, update, starts = view.need("i0"), view.need("i1"), view.need("i2")
    if starts.shape != (data.rank,) or update.rank != data.rank:
        problem = f"it updates {data.shape} by {update.shape} at {starts.elements} numbers"
        yield "prepare", problem, CONVERT
    elif any(n > m for n, m in zip(update.shape, data.shape, strict=True)):
        yield "prepare", f"{update.shape} is larger than {data.shape}", CONVERT
