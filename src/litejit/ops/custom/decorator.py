"""custom_op: a plain NumPy function, with a rule for its shape, as a custom operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from litejit.errors import InvokeError
from litejit.ops.custom.api import Context, CustomNode, CustomOp
from litejit.ops.resolver import add_to_process
from litejit.types import Array

T = TypeVar("T")
Shape = Sequence[int]


def same_shape(first: Shape, *_: Shape) -> Shape:
    """The rule of elementwise functions: the result has the shape of the first input."""
    return first


def custom_op(name: str, *, shape: Callable[..., Any] | None = same_shape) -> Callable[[T], T]:
    """Register a function, or a class with the four functions, for the whole process.

    A function gets the inputs as read-only arrays (None: left out), and those options of the
    file that are among its keyword-only arguments; it returns one array, or a tuple of them.
    `shape` gets the inputs' shapes and the same options, if it names them, and returns the
    shape of the result, or a list of shapes; None says that shapes depend on data. Every
    Interpreter and BuiltinOpResolver made later finds the operator; what is added to a resolver
    under the same name comes first.

    @litejit.custom_op("Scale")
    def scale(x, *, factor=2.0):
        return x * np.float32(factor)
    """

    def register(thing: T) -> T:
        is_class = isinstance(thing, type) or hasattr(thing, "invoke")
        add_to_process(name, thing if is_class else FunctionOp(thing, shape))
        return thing

    return register


class FunctionOp(CustomOp):
    """A NumPy function and the rule of its shape, as a registration; see `custom_op`."""

    def __init__(self, function: Any, shape: Callable[..., Any] | None = same_shape) -> None:
        self.function, self.shape = function, shape
        self._names = _keywords(function)
        self._shape_names = _keywords(shape) if shape is not None else None

    def prepare(self, context: Context, node: CustomNode) -> None:
        """Set the shapes that the rule gives."""
        outputs = [t for t in node.outputs if t is not None]
        if self.shape is None:
            for tensor in outputs:
                tensor.shape = None
            return
        shapes = [None if t is None else t.shape for t in node.inputs]
        found = self.shape(*shapes, **_chosen(node.options, self._shape_names))
        several = bool(found) and not isinstance(found[0], int | np.integer)
        rows = list(found) if several else [found]
        if len(rows) != len(outputs):
            raise InvokeError(f"its rule gives {len(rows)} shapes for {len(outputs)} outputs")
        for tensor, row in zip(outputs, rows, strict=True):
            tensor.shape = row

    def invoke(self, context: Context, node: CustomNode) -> None:
        """Call the function and check what it returns."""
        arrays = [None if t is None else t.data for t in node.inputs]
        result = self.function(*arrays, **_chosen(node.options, self._names))
        results: tuple[Array, ...] = result if isinstance(result, tuple) else (result,)
        outputs = [t for t in node.outputs if t is not None]
        if len(results) != len(outputs):
            raise InvokeError(f"it returns {len(results)} arrays for {len(outputs)} outputs")
        for tensor, array in zip(outputs, results, strict=True):
            tensor.data = array


def _keywords(function: Any) -> frozenset[str] | None:
    """The names of keyword-only arguments; None where any are taken."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _chosen(options: Any, names: frozenset[str] | None) -> dict[str, Any]:
    if not isinstance(options, dict):
        return {}
    return {k: v for k, v in options.items() if names is None or k in names}
