"""ParseExample and ParseExampleV2: tensors from serialized tf.train.Example messages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from litejit.ops.base import Arrays, Node, Types, builtin
from litejit.ops.custom.options import CustomOp
from litejit.ops.indexing import made
from litejit.record import Record
from litejit.types import F32, I64, STRING, Array, DType, TensorType

_MANY = 1 << 16
_KINDS = {1: "STRING", 2: "FLOAT32", 3: "INT64"}  # the members of a Feature
_TYPES = (I64, F32, STRING)
Values = tuple[str, list[Any]]  # the type of a feature's list, and its elements


class MalformedMessageError(ValueError):
    """Bytes that are no protocol buffer of the kind that is expected."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, position behind it)."""
    number = 0
    for k in range(10):
        if at + k >= len(data):
            break
        number |= (data[at + k] & 0x7F) << 7 * k
        if data[at + k] < 0x80:
            return number & (1 << 64) - 1, at + k + 1
    raise MalformedMessageError(f"a number at {at} does not end")


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, value) of every field: an integer, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, kind, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise MalformedMessageError(f"a field at {at} is malformed")
        yield tag >> 3, kind, data[at : at + size]
        at += size


def _elements(data: bytes, kind: str) -> list[Any]:
    """The elements of a BytesList, FloatList or Int64List; numbers may be packed."""
    found: list[Any] = []
    for number, wire, value in _fields(data):
        if number != 1:
            continue
        if kind == "STRING" and wire == 2:
            found.append(value)
        elif kind == "FLOAT32" and wire in (2, 5) and len(value) % 4 == 0:
            found.extend(np.frombuffer(value, "<f4").tolist())
        elif kind == "INT64" and wire == 0:
            found.append(value)
        elif kind == "INT64" and wire == 2:
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                found.append(one)
        else:
            raise MalformedMessageError(f"an element of wire type {wire} in a list of {kind}")
    if kind == "INT64":
        return [n - (1 << 64) if n >= 1 << 63 else n for n in found]
    return found


def parse_example(data: bytes) -> dict[bytes, Values]:
    """The features of a serialized tf.train.Example; the last of equal names counts."""
    features: dict[bytes, Values] = {}
    for number, wire, message in _fields(data):
        if number != 1 or wire != 2:
            continue
        for entry, entry_wire, pair in _fields(message):
            if entry != 1 or entry_wire != 2:
                continue
            parts = {n: v for n, w, v in _fields(pair) if w == 2}
            values: Values | None = None
            for kind, kind_wire, inner in _fields(parts.get(2, b"")):
                if kind in _KINDS and kind_wire == 2:
                    values = _KINDS[kind], _elements(inner, _KINDS[kind])
            name = parts.get(1, b"")
            features.pop(name, None)
            if values is not None:
                features[name] = values
    return features


class Layout(Record):
    """Which operands and results belong to which features."""

    sparse: int
    dense: int
    sparse_keys: tuple[int, ...]  # inputs that hold the names, one each (V1) or all in one (V2)
    dense_keys: tuple[int, ...]
    defaults: int  # the input of the first default


class _Parse(CustomOp):
    """What both versions share: results are indices, values and shapes of the sparse features,
    each in turn, and then the dense features.
    """

    arity = (2, _MANY)
    results = (1, _MANY)

    def layout(self, node: Node) -> Layout:
        raise NotImplementedError

    def infer(self, node: Node) -> Types:
        lay, serialized = self.layout(node), node.input(0)
        for position in (0, *lay.sparse_keys, *lay.dense_keys):
            node.require_dtype(node.input(position), (STRING,), f"input {position}")
        node.require(serialized.rank <= 1, f"examples have shape {serialized.dims}")
        outputs = [made(node, None, I64, position=k) for k in range(lay.sparse)]
        for k in range(lay.sparse, 2 * lay.sparse):
            node.require_dtype(node.output(k), _TYPES, f"output {k}")
            outputs.append(node.output(k).with_shape(None))
        outputs += [made(node, (2,), I64, position=2 * lay.sparse + k) for k in range(lay.sparse)]
        for k in range(lay.dense):
            outputs.append(self._dense_type(node, lay, k))
        return outputs

    @staticmethod
    def _dense_type(node: Node, lay: Layout, k: int) -> TensorType:
        """Declared sizes but the first; that one is the number of examples."""
        out, default = node.output(3 * lay.sparse + k), node.input(lay.defaults + k)
        node.require_dtype(out, _TYPES, f"output {3 * lay.sparse + k}")
        node.require_dtype(default, (out.dtype,), f"default {k}")
        serialized = node.input(0)
        shape = out.dims
        if serialized.rank == 1:
            shape = (serialized.dims[0], *out.dims[1:])
        each = math.prod(shape[serialized.rank :])
        ok = default.size in (0, each)
        node.require(ok, f"default {k} has {default.size} elements, expected {each}")
        return out.with_shape(shape)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        lay = self.layout(node)
        examples = []
        for place, data in enumerate(inputs[0].reshape(-1)):
            try:
                examples.append(parse_example(data))
            except MalformedMessageError as error:
                node.check(False, f"example {place} cannot be parsed: {error}")
        names = [name for position in lay.sparse_keys for name in inputs[position].reshape(-1)]
        columns = [
            self._sparse(node, examples, name, node.output(lay.sparse + k).dtype)
            for k, name in enumerate(names)
        ]
        results = [column[part] for part in range(3) for column in columns]
        names = [name for position in lay.dense_keys for name in inputs[position].reshape(-1)]
        for k, name in enumerate(names):
            out = node.output(3 * lay.sparse + k)
            results.append(self._dense(node, examples, name, out, inputs[lay.defaults + k]))
        return tuple(results)

    @staticmethod
    def _values(node: Node, example: dict[bytes, Values], name: bytes, dtype: DType) -> Any:
        found = example.get(name)
        if found is None:
            return None
        node.check(found[0] == dtype.name, f"feature {name!r} holds {found[0]}, not {dtype.name}")
        return found[1]

    def _sparse(self, node: Node, examples: Any, name: bytes, dtype: DType) -> list[Array]:
        """(indices [n, 2], values [n], dense shape [2]) of a feature."""
        lists = [self._values(node, example, name, dtype) or [] for example in examples]
        places = [(row, k) for row, values in enumerate(lists) for k in range(len(values))]
        flat = np.empty(len(places), dtype.numpy)
        flat[:] = [value for values in lists for value in values]
        longest = max((len(values) for values in lists), default=0)
        shape = np.array([len(examples), longest], np.int64)
        return [np.array(places, np.int64).reshape(-1, 2), flat, shape]

    def _dense(
        self, node: Node, examples: Any, name: bytes, out: TensorType, default: Array
    ) -> Array:  # fmt: skip
        """One row for every example; the default where the feature is missing."""
        each = math.prod(out.dims[node.input(0).rank :])
        result = np.empty((len(examples), each), out.dtype.numpy)
        for row, example in zip(result, examples, strict=True):
            values = self._values(node, example, name, out.dtype)
            if values is None:
                node.check(default.size == each, f"feature {name!r} is required but missing")
                values = default.reshape(-1)
            node.check(len(values) == each, f"{name!r} has {len(values)} values, expected {each}")
            row[:] = values
        return result.reshape(out.dims)


@builtin("ParseExample")
class ParseExample(_Parse):
    """Inputs: examples, their names, a name for each feature (sparse, then dense), defaults.

    Source: LiteRT tflite/kernels/parse_example/parse_example.cc.
    """

    def layout(self, node: Node) -> Layout:
        inputs, outputs = len(node.inputs) - 2, len(node.outputs)
        dense = (3 * inputs - outputs) // 5
        sparse = (outputs - dense) // 3
        ok = min(dense, sparse) >= 0 and sparse + 2 * dense == inputs
        node.require(ok, f"{inputs + 2} inputs do not go with {outputs} outputs")
        keys = tuple(range(2, 2 + sparse + dense))
        lay: Layout = Layout(sparse, dense, keys[:sparse], keys[sparse:], 2 + sparse + dense)
        for position in keys:
            node.require(node.input(position).size == 1, f"input {position} is not one name")
        return lay


@builtin("ParseExampleV2")
class ParseExampleV2(_Parse):
    """Inputs: examples, their names, names of sparse, dense and ragged features, defaults.

    Ragged features are refused. Source: LiteRT tflite/kernels/parse_example/parse_example.cc.
    """

    arity = (5, _MANY)

    def layout(self, node: Node) -> Layout:
        sparse, dense = node.input(2).size, node.input(3).size
        node.require(node.input(4).size == 0, "ragged features are not supported")
        ok = len(node.inputs) == 5 + dense and len(node.outputs) == 3 * sparse + dense
        node.require(ok, f"{len(node.inputs)} inputs do not go with {len(node.outputs)} outputs")
        return Layout(sparse, dense, (2,), (3,), 5)
