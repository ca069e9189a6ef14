"""Resource variables and hash tables: state that all subgraphs of an interpreter share."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.model.options.control import HashtableOptions, VarHandleOptions
from litejit.ops.base import Arrays, Lowering, Node, Op, Types, builtin
from litejit.ops.blocks import copy_whole, input_of
from litejit.ops.session import Session
from litejit.types import I32, I64, RESOURCE, STRING, Array, TensorType


def session_of(node: Node) -> Session:
    """The session, which every node of an interpreter has."""
    node.require(node.session is not None, "needs a session for its state")
    assert node.session is not None
    return node.session


def _known_handle(node: Node, handle: int) -> TensorType:
    output = node.output()
    node.require_dtype(output, (RESOURCE, I32), "handle")
    return output.with_value(np.full(output.dims, handle, np.int32))


def _handle_of(node: Node, array: Array) -> int:
    node.check(array.size == 1, f"a handle has one element, got {array.size}")
    return int(array.reshape(-1)[0])


def _memory(node: Node) -> Array | None:
    """The memory of a variable whose handle is known before the run, if it has one."""
    handle = node.input(0).value
    return None if handle is None else session_of(node).memory(_handle_of(node, handle))


def _require_handle(node: Node) -> None:
    handle = node.input(0)
    node.require_dtype(handle, (RESOURCE, I32), "handle")
    node.require(handle.size == 1, f"a handle has one element, got shape {handle.shape}")


@builtin("VAR_HANDLE")
class VarHandle(Op):
    """The handle of the variable (container, shared_name). Source: LiteRT kernels/var_handle.cc."""

    options: ClassVar[Any] = VarHandleOptions
    arity = (0, 0)

    def infer(self, node: Node) -> Types:
        """Known before any run."""
        o = node.options
        return [_known_handle(node, session_of(node).handle("var", o.container, o.shared_name))]


@builtin("READ_VARIABLE")
class ReadVariable(Op):
    """The value that was assigned last. Source: LiteRT kernels/read_variable.cc."""

    is_pure = False

    def infer(self, node: Node) -> Types:
        """The shape is that of the value, where there is one that keeps its shape."""
        _require_handle(node)
        memory = _memory(node)
        fits = memory is not None and memory.dtype == node.output().dtype.numpy
        return [node.output().with_shape(memory.shape if memory is not None and fits else None)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """A copy of the value."""
        value = session_of(node).value(_handle_of(node, inputs[0]))
        node.check(value is not None, "the variable has no value yet")
        assert value is not None
        declared = node.output().dtype
        same = value.dtype == declared.numpy
        node.check(same, f"the variable holds {value.dtype}, the result is {declared}")
        copy: Array = value.copy()
        return copy

    def lower(self, node: Node, steps: Lowering) -> None:
        memory = _memory(node)
        if memory is not None:
            copy_whole(steps, steps.persistent(memory), steps.outputs[0], memory.nbytes)


@builtin("ASSIGN_VARIABLE")
class AssignVariable(Op):
    """Gives a variable a value of any type and shape.

    Source: LiteRT kernels/assign_variable.cc.
    """

    arity = (2, 2)
    results = (0, 0)
    is_pure = False

    def infer(self, node: Node) -> Types:
        """No results."""
        _require_handle(node)
        handle = node.input(0).value
        if handle is not None and _memory(node) is not None and not _keeps_place(node):
            session_of(node).unsettle(_handle_of(node, handle))
        return []

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Keep a copy."""
        session_of(node).assign(_handle_of(node, inputs[0]), np.asarray(inputs[1]))
        return ()

    def lower(self, node: Node, steps: Lowering) -> None:
        memory = _memory(node)
        if memory is not None and _keeps_place(node):
            copy_whole(steps, input_of(steps, 1), steps.persistent(memory), memory.nbytes)


def _keeps_place(node: Node) -> bool:
    """Can the value take the memory of the variable's value?"""
    memory, value = _memory(node), node.input(1)
    same = memory is not None and memory.dtype == value.dtype.numpy
    return memory is not None and same and memory.shape == value.dims


_TABLE_TYPES = ((I64, STRING), (STRING, I64))


@builtin("HASHTABLE")
class Hashtable(Op):
    """The handle of table `table_id`; int64 -> string or string -> int64.

    Source: LiteRT kernels/hashtable.cc.
    """

    options: ClassVar[Any] = HashtableOptions
    arity = (0, 0)

    def infer(self, node: Node) -> Types:
        """Known before any run."""
        o = node.options
        pair = o.key_dtype, o.value_dtype
        node.require(pair in _TABLE_TYPES, f"maps {pair[0]} to {pair[1]}: no such table")
        return [_known_handle(node, session_of(node).handle("table", o.table_id))]


class _TableOp(Op):
    is_pure = False

    def table(self, node: Node, handle: Array) -> dict[Any, Any] | None:
        """The table of a handle, if it was filled."""
        return session_of(node).tables.get(_handle_of(node, handle))

    def require_pair(self, node: Node, keys: TensorType, values: TensorType) -> None:
        """Check key and value types."""
        pair = keys.dtype, values.dtype
        node.require(pair in _TABLE_TYPES, f"maps {pair[0]} to {pair[1]}: no such table")


@builtin("HASHTABLE_IMPORT")
class HashtableImport(_TableOp):
    """Fills a table, once: a later import changes nothing, the first of equal keys wins."""

    arity = (3, 3)
    results = (0, 0)

    def infer(self, node: Node) -> Types:
        """No results."""
        _require_handle(node)
        keys, values = node.input(1), node.input(2)
        self.require_pair(node, keys, values)
        node.require(keys.shape == values.shape, f"{keys.shape} keys for {values.shape} values")
        return []

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Keep all pairs."""
        if self.table(node, inputs[0]) is None:
            table: dict[Any, Any] = {}
            for key, value in zip(inputs[1].ravel().tolist(), inputs[2].ravel().tolist(),
                                  strict=True):  # fmt: skip
                table.setdefault(key, value)
            session_of(node).tables[_handle_of(node, inputs[0])] = table
        return ()


@builtin("HASHTABLE_FIND")
class HashtableFind(_TableOp):
    """The values of keys, or the default (one element) for a key that is not there."""

    arity = (3, 3)

    def infer(self, node: Node) -> Types:
        """One value a key."""
        _require_handle(node)
        keys, default = node.input(1), node.input(2)
        self.require_pair(node, keys, default)
        node.require(default.size == 1, f"the default has shape {default.shape}")
        node.require_dtype(node.output(), (default.dtype,), "result")
        return [node.output().with_shape(keys.shape)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Look every key up."""
        handle, keys, default = inputs
        table = self.table(node, handle)
        node.check(table is not None, "the table was not filled yet")
        assert table is not None
        other = default.reshape(-1)[0]
        result = np.empty(keys.shape, node.output().dtype.numpy)
        flat = result.reshape(-1)
        for position, key in enumerate(keys.ravel().tolist()):
            flat[position] = table.get(key, other)
        return result


@builtin("HASHTABLE_SIZE")
class HashtableSize(_TableOp):
    """The number of keys, int64 of shape (1,)."""

    def infer(self, node: Node) -> Types:
        """One number."""
        _require_handle(node)
        node.require_dtype(node.output(), (I64,), "result")
        return [node.output().with_shape((1,))]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Count."""
        table = self.table(node, inputs[0])
        node.check(table is not None, "the table was not filled yet")
        assert table is not None
        return np.array([len(table)], np.int64)
