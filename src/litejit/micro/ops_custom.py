"""BasicClassifier, CIRCULAR_BUFFER and TFLM_DECODE.

Sources: tflite-micro tensorflow/lite/micro/kernels/{basic_classifier,circular_buffer,
circular_buffer_common,decode}.cc, decode_state*.cc.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.micro import signal_lowering
from litejit.micro.ops_stream import HEADER, Cut
from litejit.micro.signal_op import CustomOp, GraphStopped, Settings, StatefulOp
from litejit.ops.base import Arrays, Lowering, Node, Types
from litejit.types import BOOL, F32, I8, I16, I32, I64, Array, TensorType


class BasicClassifier(CustomOp):
    """What is asked of a list of numbers: those at `indices`, and which reach their thresholds.

    Inputs: numbers (a vector or a matrix, whose rows follow each other), indices, thresholds.
    Results: bool (number >= threshold), number. An index beyond the numbers is refused.
    """

    inputs = (I32, I32, I32)
    results_of = (BOOL, I32)
    arity = (3, 3)
    results = (2, 2)
    vectors = False

    def check(self, node: Node) -> None:
        """Vectors of one length."""
        x, indices = node.input(0), node.input(1)
        node.require(x.rank in (1, 2), f"numbers have shape {x.shape}, expected rank 1 or 2")
        node.require(indices.rank == 1, f"indices have shape {indices.shape}, expected a vector")
        same = node.input(2).shape == indices.shape
        node.require(same, f"{node.input(2).shape} thresholds for {indices.shape} indices")
        for position in range(2):
            self.require_output(node, indices.dims, position)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """All at once."""
        x, indices, thresholds = inputs
        ok = (indices >= 0) & (indices < x.size)
        node.check(ok.all(), f"an index lies beyond the {x.size} numbers")
        found = x.reshape(-1)[indices]
        return found >= thresholds, found

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.classify(node, steps)


class CircularBuffer(StatefulOp):
    """The last `slots` inputs [1, slots, ...], of which only every `cycles_max`-th is passed on.

    In the other runs the graph ends here. Without `cycles_max` it is 1 for 5, 13 or 25 slots and
    2 for others. What the slots held before the first inputs is 0.
    """

    inputs = (I8,)
    results_of = (I8,)
    vectors = False

    def check(self, node: Node) -> None:
        """One slot comes in, many go out."""
        x, y = node.input(0), node.output(0)
        ok = x.rank == y.rank == 4 and (x.dims[0], x.dims[2], x.dims[3]) == (
            y.dims[0], y.dims[2], y.dims[3],
        )  # fmt: skip
        node.require(ok and x.dims[1] == 1, f"{x.shape} is no slot of {y.shape}")

    def cut(self, node: Node) -> Cut:
        """All slots as one frame that moves by one of them; as TFLM, the first of a batch only."""
        _, slots, *inner = node.output(0).dims
        depth = inner[0] * inner[1]
        size = slots * depth
        return Cut(1, depth, 1, max(depth, 1), size, depth, size - depth, itemsize=1)

    def cycles(self, node: Node) -> int:
        """Of so many runs one is passed on."""
        cycles, slots = node.options.number("cycles_max"), node.output(0).dims[1]
        return cycles if cycles > 0 else 1 if slots in (5, 13, 25) else 2

    def state(self, node: Node) -> tuple[Array, Array]:
        """How many bytes are kept and how many runs are left; the slots but the next one."""
        cut = self.cut(node)
        memory = self.memory(node.options, cut.nbytes)
        counts = memory[:16].view(np.int64)
        counts[0] = cut.capacity
        return counts, memory[HEADER:].view(np.int8)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Move the slots on; GraphStopped where the graph is not to go on."""
        counts, kept = self.state(node)
        made = np.zeros(node.output(0).dims, np.int8)
        cut, flat = self.cut(node), made.reshape(-1)
        flat[: cut.size] = np.concatenate([kept, inputs[0].reshape(-1)[: cut.added]])
        kept[...] = flat[cut.drop : cut.size]
        counts[1] = (counts[1] or self.cycles(node)) - 1
        if counts[1]:
            left = f"{counts[1]} more runs to go"
            raise GraphStopped(f"CIRCULAR_BUFFER (operator {node.index}): {left}")
        return made

    def reset(self, settings: Settings) -> None:
        """Count anew; the slots keep what they hold."""
        if settings.state is not None:
            settings.state[8:16] = 0

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel where every run is passed on."""
        if self.cycles(node) == 1 and node.output(0).dims[0] == 1:
            self.state(node)
            cut = self.cut(node)
            signal_lowering.frames(node, steps, cut, self.memory(node.options, cut.nbytes))


_HEADER = 16
_LUT, _HUFFMAN, _PRUNE = range(3)
_TYPES = {
    _LUT: (BOOL, F32, I8, I16, I32, I64),
    _HUFFMAN: (I8, I16),
    _PRUNE: (BOOL, F32, I8, I16, I32, I64),
}
_MOST = 1 << 28  # elements


class Decode(CustomOp):
    """Weights from compressed ones: pairs (codes, description) give one tensor each.

    A description is 16 bytes and a table. Its byte 0 says how the codes are read: 0 look-up of
    1 to 7 bits in a table (one a channel), 1 Huffman codes, 2 one bit an element that says
    whether it is its zero point or the next number of the table. All operands are constants,
    so that this runs before the first run.
    """

    arity: ClassVar[tuple[int, int]] = (2, 1 << 16)
    results: ClassVar[tuple[int, int]] = (1, 1 << 15)
    vectors = False

    def infer(self, node: Node) -> Types:
        """As declared."""
        count = len(node.outputs)
        node.require(len(node.inputs) == 2 * count, f"{len(node.inputs)} inputs, {count} outputs")
        for k in range(count):
            codes, about, y = node.input(2 * k), node.input(2 * k + 1), node.output(k)
            constant = codes.value is not None and about.value is not None
            node.require(constant, "codes and their description must be constants")
            head = _octets(about.value)
            node.require(len(head) >= _HEADER and head[1] == 1, "the description is no version 1")
            kind = int(head[0])
            node.require(kind in _TYPES, f"codes of kind {kind} are not supported")
            node.require_dtype(y, _TYPES[kind], f"output {k}")
            node.require(head[4] == 1, f"codes of kind {kind}, version {head[4]}")
            node.require(0 < y.size <= _MOST, f"output {k} has shape {y.shape}")
        return [t.with_shape(t.shape) for t in node.outputs if t is not None]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Tensor by tensor."""
        results = []
        for k, y in enumerate(node.outputs):
            assert y is not None
            codes, about = _octets(inputs[2 * k]), _octets(inputs[2 * k + 1])
            expand = (_looked_up, _huffman, _pruned)[int(about[0])]
            results.append(expand(node, y, codes, about).reshape(y.dims))
        return tuple(results)


def _octets(value: Array | None) -> Array:
    assert value is not None
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def _channels(node: Node, y: TensorType) -> Array:
    """The channel of every element, by the dimension of the scales: the first or the last."""
    q = y.quantization
    count = 1 if q is None else len(q.scales)
    places = np.arange(y.size)
    if count <= 1:
        return np.zeros(y.size, np.int64)
    assert q is not None
    if q.axis == y.rank - 1:
        return places % count
    node.check(q.axis == 0, f"scales lie along dimension {q.axis}")
    return np.asarray(np.minimum(places // max(y.size // count, 1), count - 1))


def _bits(codes: Array, width: int, count: int, node: Node) -> Array:
    """`count` numbers of `width` bits, the highest bit first."""
    wanted = count * width
    node.check(8 * len(codes) >= wanted, f"{len(codes)} bytes do not hold {count} codes")
    bits = np.unpackbits(codes, count=wanted).reshape(count, width).astype(np.int64)
    weights = np.int64(1) << np.arange(width)[::-1]
    return np.asarray(bits @ weights)


def _table(about: Array, dtype: np.dtype[Any]) -> Array:
    rest = about[_HEADER:]
    return rest[: len(rest) // dtype.itemsize * dtype.itemsize].view(dtype)


def _looked_up(node: Node, y: TensorType, codes: Array, about: Array) -> Array:
    width, stride = int(about[5]) & 7, int(about[6])
    node.check(width > 0, "codes have no bits")
    table = _table(about, y.dtype.numpy)
    index = _bits(codes, width, y.size, node) + _channels(node, y) * stride
    node.check(int(index.max()) < len(table), f"a code lies beyond the {len(table)} values")
    return np.asarray(table[index])


def _pruned(node: Node, y: TensorType, codes: Array, about: Array) -> Array:
    kept = _bits(codes, 1, y.size, node).astype(np.bool_)
    table = _table(about, y.dtype.numpy)
    count = int(kept.sum())
    node.check(count <= len(table), f"{count} numbers are kept, the table has {len(table)}")
    q = y.quantization
    zeros = np.zeros(1, np.int64) if q is None or not len(q.zero_points) else q.zero_points
    node.check(y.dtype == I8 or not zeros.any(), "all zero points must be 0")
    channels = _channels(node, y)
    result = np.asarray(zeros[channels if len(zeros) > 1 else np.zeros_like(channels)])
    result = result.astype(y.dtype.numpy)
    result[kept] = table[:count]
    return result


def _huffman(node: Node, y: TensorType, codes: Array, about: Array) -> Array:
    """Tables of tables: a step takes bits, and finds a symbol or where the next table is.

    Entries have 16 or 32 bits: a flag for symbols, 4 bits that count, then a value.
    """
    wide = bool(about[5] & 1)
    node.check(wide or y.dtype == I8, "16-bit tables give INT8")
    table = _table(about, np.dtype("<u4" if wide else "<u2")).tolist()
    bits = "".join(f"{octet:08b}" for octet in codes.tolist())
    first, flag = (int(about[5]) >> 4) + 1, 1 << (31 if wide else 15)
    low = 27 if wide else 11
    result, at = np.empty(y.size, np.int64), 0
    for position in range(y.size):
        width, place = first, 0
        while True:
            node.check(at + width <= len(bits), "the codes end too early")
            place += int(bits[at : at + width], 2)
            at += width
            node.check(place < len(table), f"a code leads beyond the {len(table)} entries")
            entry = table[place]
            count = (entry >> low) & 15
            if entry & flag:
                break
            place += entry & ((1 << low) - 1)
            width = count + 1
        at -= max(width - count, 0)
        result[position] = entry & ((1 << low) - 1)
    return result.astype(y.dtype.numpy)
