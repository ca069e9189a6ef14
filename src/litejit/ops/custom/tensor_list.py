"""TensorList operators: lists of tensors as values (VARIANT).

A value is an array without axes that holds one TensorList; lists are never changed, so that
operators may share them.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from litejit.errors import ModelError
from litejit.model import Operator
from litejit.ops.base import Arrays, Node, Op, Types, builtin
from litejit.ops.indexing import made
from litejit.record import Record
from litejit.types import BOOL, DTYPES, F32, I32, I64, VARIANT, Array, DType

_MOST = 1 << 24
Shape = tuple[int, ...]


class TensorList(Record):
    """Items of one type, None where not set; `shape` limits them (-1: any size, (): any shape)."""

    dtype: str
    shape: Shape
    items: tuple[Array | None, ...]

    __hash__ = object.__hash__


def boxed(value: TensorList) -> Array:
    """A list as a tensor."""
    result = np.empty((), object)
    result[()] = value
    return result


def opened(node: Node, array: Array) -> TensorList:
    """The list that a tensor holds."""
    value: Any = array.reshape(-1)[0] if array.size == 1 else None
    node.check(isinstance(value, TensorList), "input holds no list")
    found: TensorList = value
    return found


def _shape(node: Node, array: Array) -> Shape:
    """What a shape operand says; no axes: any shape."""
    if array.ndim == 0:
        return ()
    node.check(array.ndim == 1, f"a shape must be a vector, got shape {array.shape}")
    return tuple(int(n) for n in array)


def _merged(a: Shape | None, b: Shape | None) -> Shape | None:
    """The shape that both allow; None where there is none."""
    if not a or not b:
        return a or b
    fits = len(a) == len(b) and all(-1 in (m, n) or m == n for m, n in zip(a, b, strict=True))
    return tuple(n if m == -1 else m for m, n in zip(a, b, strict=True)) if fits else None


def _common(node: Node, items: tuple[Array | None, ...]) -> Shape | None:
    """The shape of all items that are set; None where there are none."""
    shapes = {item.shape for item in items if item is not None}
    node.check(len(shapes) <= 1, f"items have different shapes: {sorted(shapes)}")
    return shapes.pop() if shapes else None


class _ListOp(Op):
    """An operator on lists; `kinds` are the types of its inputs, None for any."""

    kinds: tuple[DType | None, ...] = (VARIANT,)

    def infer(self, node: Node) -> Types:
        for position, kind in enumerate(self.kinds):
            if kind is not None:
                node.require_dtype(node.input(position), (kind,), f"input {position}")
        return self.outputs(node)

    def outputs(self, node: Node) -> Types:
        """By default one list."""
        return [made(node, (), VARIANT)]


@builtin("TensorListReserve")
class TensorListReserve(_ListOp):
    """A list of n items (input 1) that are not set. Source: LiteRT kernels/variants."""

    arity = (2, 2)
    kinds = (I32, I32)

    def decode_options(self, operator: Operator, who: str) -> Any:
        data = bytes(operator.custom_options)
        code = struct.unpack_from("<b", data)[0] if data else -1
        known = [t for t in DTYPES if t.code == code and t in (I32, F32, BOOL, I64)]
        if not known:
            raise ModelError(f"{who}: a list cannot hold type {code}")
        return known[0].name

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        shape, count = _shape(node, inputs[0]), inputs[1]
        node.check(count.size == 1, f"the count has shape {count.shape}")
        number = int(count.reshape(-1)[0])
        node.check(0 <= number <= _MOST, f"a list of {number} items")
        return boxed(TensorList(node.options, shape, (None,) * number))


@builtin("TensorListFromTensor")
class TensorListFromTensor(_ListOp):
    """The slices of a tensor along its first axis. Source: LiteRT kernels/variants."""

    arity = (2, 2)
    kinds = (None, I32)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x, shape = inputs[0], _shape(node, inputs[1])
        node.check(x.ndim > 0, "the tensor has no axes")
        fits = not shape or _merged(shape, x.shape[1:] or None) is not None
        ok = fits and (not shape or len(shape) == x.ndim - 1)
        node.check(ok, f"items of {x.shape} do not have shape {shape}")
        items = tuple(np.array(item) for item in x)
        return boxed(TensorList(node.input(0).dtype.name, shape, items))


@builtin("TensorListSetItem")
class TensorListSetItem(_ListOp):
    """A list with the item at an index (input 1) set to input 2. Source: LiteRT variants."""

    arity = (3, 4)
    kinds = (VARIANT, I32, None)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        known = opened(node, inputs[0])
        node.check(inputs[1].size == 1, "an index is one number")
        return _with_item(node, known, int(inputs[1].reshape(-1)[0]), 2, inputs[2])


@builtin("TensorListPushBack")
class TensorListPushBack(_ListOp):
    """A list with one more item. Source: LiteRT kernels/variants."""

    arity = (2, 2)
    kinds = (VARIANT, None)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        known = opened(node, inputs[0])
        return _with_item(node, known, len(known.items), 1, inputs[1])


def _with_item(node: Node, known: TensorList, place: int, position: int, item: Array) -> Array:
    """The list with one item set; it grows where it must."""
    kind = node.input(position).dtype.name
    node.check(kind == known.dtype, f"a list of {known.dtype} cannot hold {kind}")
    node.check(0 <= place < _MOST, f"index {place} is out of range")
    items = [*known.items, *(None,) * (place + 1 - len(known.items))]
    items[place] = np.array(item)
    return boxed(TensorList(known.dtype, known.shape, tuple(items)))


def _item(node: Node, known: TensorList, place: int, hint: Array, output: int) -> Array:
    """An item; zeros of the shape that the list, the hint or its neighbours tell if it is unset."""
    ok = 0 <= place < len(known.items)
    node.check(ok, f"index {place} of a list of {len(known.items)} items")
    kind = node.output(output).dtype
    node.check(kind.name == known.dtype, f"the list holds {known.dtype}, the result is {kind}")
    found = known.items[place]
    if found is not None:
        return np.array(found)
    shape = _merged(known.shape, _shape(node, hint))
    node.check(shape is not None, f"shapes {known.shape} and {_shape(node, hint)} differ")
    if not shape or min(shape) < 0:
        shape = _common(node, known.items)
        node.check(shape is not None, "Failed to infer the shape of an item that was not set")
    return np.zeros(shape or (), kind.numpy)


@builtin("TensorListGetItem")
class TensorListGetItem(_ListOp):
    """The item at an index (input 1); zeros where it was not set. Source: LiteRT variants."""

    arity = (3, 3)
    kinds = (VARIANT, I32, I32)

    def outputs(self, node: Node) -> Types:
        return [node.output(0).with_shape(None)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        node.check(inputs[1].size == 1, "an index is one number")
        place = int(inputs[1].reshape(-1)[0])
        return _item(node, opened(node, inputs[0]), place, inputs[2], 0)


@builtin("TensorListPopBack")
class TensorListPopBack(_ListOp):
    """(the list without its last item, that item). Source: LiteRT kernels/variants."""

    arity = (2, 2)
    results = (2, 2)
    kinds = (VARIANT, I32)

    def outputs(self, node: Node) -> Types:
        return [made(node, (), VARIANT), node.output(1).with_shape(None)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        known = opened(node, inputs[0])
        last = _item(node, known, len(known.items) - 1, inputs[1], 1)
        return boxed(TensorList(known.dtype, known.shape, known.items[:-1])), last


@builtin("TensorListLength")
class TensorListLength(_ListOp):
    """How many items a list has: int32, no axes. Source: LiteRT kernels/variants."""

    def outputs(self, node: Node) -> Types:
        return [made(node, (), I32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        return np.array(len(opened(node, inputs[0]).items), np.int32)


@builtin("TensorListElementShape")
class TensorListElementShape(_ListOp):
    """The shape that a list asks of its items, int32; -1 without axes where any will do.

    Source: LiteRT kernels/variants/list_kernels/list_element_shape.cc.
    """

    def outputs(self, node: Node) -> Types:
        return [made(node, None, I32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        shape = opened(node, inputs[0]).shape
        if not shape:
            return np.array(-1, np.int32)
        return np.array(() if shape[0] == 0 else shape, np.int32)


@builtin("TensorListStack")
class TensorListStack(_ListOp):
    """All items along a new first axis; those that were not set are zeros.

    Source: LiteRT kernels/variants/list_kernels/list_stack.cc.
    """

    arity = (2, 2)
    kinds = (VARIANT, I32)

    def outputs(self, node: Node) -> Types:
        return [node.output(0).with_shape(None)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        known, kind = opened(node, inputs[0]), node.output(0).dtype
        node.check(kind.name == known.dtype, f"the list holds {known.dtype}, the result is {kind}")
        shape = _merged(_shape(node, inputs[1]), known.shape)
        found = _common(node, known.items)
        both = shape if found is None else _merged(shape, found)
        ok = shape is not None and both is not None and min(both, default=0) >= 0
        node.check(ok, f"shapes {_shape(node, inputs[1])}, {known.shape} and {found} differ")
        assert both is not None
        inner = () if both == (1,) else both
        size = int(np.prod(inner, dtype=np.int64))
        node.check(size * len(known.items) < 1 << 31, "the stack is too large")
        result = np.zeros((len(known.items), *inner), kind.numpy)
        for place, item in enumerate(known.items):
            if item is not None:
                result[place] = item.reshape(inner)
        return result


@builtin("VariantZerosLike")
class VariantZerosLike(_ListOp):
    """A list of zeros in the shapes of the items that are set. Source: LiteRT kernels/variants."""

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        known = opened(node, inputs[0])
        items = tuple(None if item is None else np.zeros_like(item) for item in known.items)
        return boxed(TensorList(known.dtype, known.shape, items))


@builtin("VariantAddN")
class VariantAddN(_ListOp):
    """Lists of int32 or float32 added item by item. Source: LiteRT kernels/variants."""

    arity = (2, 1 << 16)

    def infer(self, node: Node) -> Types:
        for position in range(len(node.inputs)):
            node.require_dtype(node.input(position), (VARIANT,), f"input {position}")
        return self.outputs(node)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        lists = [opened(node, array) for array in inputs]
        first = lists[0]
        shape: Shape | None = first.shape
        for other in lists[1:]:
            same = len(other.items) == len(first.items) and other.dtype == first.dtype
            node.check(same, "lists differ in length or type")
            shape = _merged(shape, other.shape)
            node.check(shape is not None, f"lists ask for shapes {first.shape}, {other.shape}")
        node.check(first.dtype in ("INT32", "FLOAT32"), f"lists of {first.dtype} cannot be added")
        kind = next(t for t in DTYPES if t.name == first.dtype).numpy
        items = []
        for row in zip(*(entry.items for entry in lists), strict=True):
            known = tuple(item for item in row if item is not None)
            _common(node, known)
            if not known:
                node.check(min(shape or (), default=0) >= 0, "an item's shape is not known")
            total = np.zeros(shape or () if not known else known[0].shape, kind)
            with np.errstate(all="ignore"):
                for item in known:
                    total = total + item
            items.append(np.asarray(total, kind))
        return boxed(TensorList(first.dtype, shape or (), tuple(items)))
