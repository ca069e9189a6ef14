"""RegisteredOp: a registration with four functions, as an Op."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from litejit.errors import InvokeError, LitejitError, PrepareError
from litejit.model import Operator
from litejit.model.flexbuffer import decode
from litejit.model.table import Table
from litejit.ops.base import Node, Op, Types
from litejit.ops.custom.api import Context, CustomNode, CustomTensor, blank
from litejit.types import F32, Array, TensorType

_MOST_OPERANDS = 1 << 20
_ABSENT = TensorType((), F32)  # stands for an output that the model leaves out


class Use:
    """One use of a registered operator in one interpreter: its state, from init to free."""

    __slots__ = (
        "__weakref__",
        "context",
        "operation",
        "options",
        "prepared_for",
        "state",
        "temporaries",
    )

    def __init__(self, name: str, operation: Any, operator: Operator, options: Any) -> None:
        self.operation, self.options = operation, options
        self.context = Context()
        self.prepared_for: Any = None
        self.temporaries: dict[str, Array] = {}
        init = getattr(operation, "init", None)
        given = operator if getattr(operation, "wants_operator", False) else options
        try:
            self.state = init(self.context, given) if init is not None else None
        except LitejitError as error:
            raise PrepareError(f"{name}: init: {error}") from error
        except Exception as error:
            raise PrepareError(f"{name}: init: {type(error).__name__}: {error}") from error
        free = getattr(operation, "free", None)
        if free is not None:
            weakref.finalize(self, free, self.context, self.state)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class RegisteredOp(Op):
    """Runs what a user registered. Every use has a state of its own; nothing is folded or fused."""

    arity = (0, _MOST_OPERANDS)
    results = (0, _MOST_OPERANDS)
    optional = frozenset(range(256))
    is_pure = False
    is_foreign = True

    def __init__(self, name: str, registration: Any) -> None:
        if not callable(getattr(registration, "invoke", None)):
            raise TypeError(
                f"{name}: a registration has the functions init, prepare, invoke and free, of "
                f"which invoke must be there; got {type(registration).__name__}"
            )
        self.name, self.registration = name, registration

    def decode_options(self, operator: Operator, who: str) -> Use:
        """Begin a use: decode its options, and call init."""
        registration = self.registration
        operation = registration() if isinstance(registration, type) else registration
        return Use(who, operation, operator, options_of(operator))

    def infer(self, node: Node) -> Types:
        """Call prepare; the outputs have the shapes that it sets, else those of the file."""
        use: Use = node.options
        custom = _node(node, use, [_constant(t) for t in node.inputs], None)
        prepare = getattr(use.operation, "prepare", None)
        if prepare is not None:
            _call(node, "prepare", PrepareError, prepare, use.context, custom)
        use.prepared_for = _shapes(node)
        return [
            _ABSENT if tensor is None else tensor.type.with_shape(tensor.shape)
            for tensor in custom.outputs
        ]

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        """Call invoke on views of the inputs, and check what it gives."""
        use: Use = node.options
        shapes = tuple(None if array is None else np.shape(array) for array in inputs)
        if use.prepared_for != shapes:
            self._prepare_again(node, use, shapes)
        outputs = [
            None if t is None or t.shape is None else blank(t.shape, t.dtype.numpy)
            for t in node.outputs
        ]
        views = [_view(t, array) for t, array in zip(node.inputs, inputs, strict=True)]
        custom = _node(node, use, views, outputs)
        _call(node, "invoke", InvokeError, use.operation.invoke, use.context, custom)
        return tuple(
            self._result(node, declared, tensor)
            for declared, tensor in zip(node.outputs, custom.outputs, strict=True)
            if declared is not None and tensor is not None
        )

    def _prepare_again(self, node: Node, use: Use, shapes: Any) -> None:
        """Another stretch of the same graph was prepared for other shapes in between."""
        typed = [
            None if t is None or shape is None else (t if t.is_constant else t.with_shape(shape))
            for t, shape in zip(node.inputs, shapes, strict=True)
        ]
        self.infer(node.with_types(tuple(typed), node.outputs))
        use.prepared_for = shapes

    def _result(self, node: Node, declared: TensorType, tensor: CustomTensor) -> Array:
        array = tensor.data
        if array is None:
            raise InvokeError(f"{node.who}: invoke: output {tensor.name!r} was given no shape")
        if declared.shape is not None and array.shape != declared.shape:
            what = f"output {tensor.name!r} has shape {array.shape}, expected {declared.shape}"
            raise InvokeError(f"{node.who}: invoke: {what}")
        return array


def options_of(operator: Operator) -> Any:
    """The options of an operator as Python values; see `CustomOp.init`."""
    table = operator.options.table or operator.options_2.table
    if isinstance(table, Table):
        names = type(table).__annotations__.items()
        return {name: getattr(table, name) for name, kind in names if "ClassVar" not in str(kind)}
    raw = bytes(operator.custom_options)
    if not raw:
        return {}
    try:
        return decode(raw)
    except (LitejitError, ValueError):  # not every custom operator uses FlexBuffers
        return raw


def _node(node: Node, use: Use, inputs: list[Array | None], outputs: Any) -> CustomNode:
    made = outputs if outputs is not None else [None] * len(node.outputs)
    return CustomNode(
        node.name,
        node.index,
        use.state,
        use.options,
        tuple(
            None if t is None else CustomTensor(t, data, writable=False)
            for t, data in zip(node.inputs, inputs, strict=True)
        ),
        tuple(
            None if t is None else CustomTensor(t, data, writable=True)
            for t, data in zip(node.outputs, made, strict=True)
        ),
        use.temporaries,
    )


def _constant(tensor: TensorType | None) -> Array | None:
    return None if tensor is None else _view(tensor, tensor.value)


def _view(tensor: TensorType | None, array: Array | None) -> Array | None:
    """The array itself for a variable; a view that refuses to be written for all others."""
    if tensor is None or array is None or tensor.is_variable:
        return array
    view: Array = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _shapes(node: Node) -> tuple[Any, ...]:
    return tuple(None if t is None else t.shape for t in node.inputs)


def _call(node: Node, stage: str, kind: type[LitejitError], function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except LitejitError as error:
        raise kind(f"{node.who}: {stage}: {error}") from error
    except Exception as error:
        raise kind(f"{node.who}: {stage}: {type(error).__name__}: {error}") from error
