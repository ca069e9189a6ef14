"""Delegates and registerers of operators, as LiteRT's Python module takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from litejit.engine.runner import SubgraphRunner
from litejit.ops.resolver import MutableOpResolver


class Delegate:
    """A native delegate from a shared library, made by its `tflite_plugin_create_delegate`.

    litejit compiles every operator itself: a delegate may look at the graph, but an
    Interpreter refuses one that wants to take operators over.

    Args:
        library: name or path of the shared library.
        options: passed on as strings.

    Raises:
        OSError: the library cannot be loaded.
        ValueError: it has no delegate, or the delegate refuses the options.
    """

    def __init__(self, library: str, options: Mapping[Any, Any] | None = None) -> None:
        from litejit.native import NativeDelegate

        self._native: Any = None
        self._native = NativeDelegate(library, dict(options or {}))

    def __del__(self) -> None:
        native, self._native = getattr(self, "_native", None), None
        if native is not None:
            native.close()

    def _get_native_delegate_pointer(self) -> int:
        return int(self._native.pointer)


def load_delegate(library: str, options: Mapping[Any, Any] | None = None) -> Delegate:
    """Load a native delegate; see `Delegate` for what an Interpreter does with it.

    Raises:
        OSError: the library cannot be loaded.
        ValueError: "Failed to load delegate from ...", with what the delegate reported.
    """
    try:
        return Delegate(library, options)
    except ValueError as error:
        raise ValueError(f"Failed to load delegate from {library}\n{error}") from error


def apply_delegates(delegates: Iterable[Any], runner: SubgraphRunner) -> None:
    """Let every delegate prepare for a graph.

    Raises RuntimeError where one fails, or wants to take operators over.
    """
    pointers = [delegate._get_native_delegate_pointer() for delegate in delegates]
    if pointers:
        from litejit.native import apply_delegate

        for pointer in pointers:
            apply_delegate(pointer, runner)


def register_all(resolver: MutableOpResolver, registerers: Iterable[Any]) -> None:
    """Let registerers add their operators: names of C functions first, then callables.

    Raises ValueError for a name that is not found, TypeError for what is no registerer.
    """
    registerers = list(registerers)
    for registerer in registerers:
        if not isinstance(registerer, str) and not callable(registerer):
            raise TypeError(
                "CreateWrapperFromBuffer(): incompatible function arguments. A registerer must "
                f"be a callable or a name, got {type(registerer).__name__}"
            )
    for registerer in registerers:
        if isinstance(registerer, str):
            from litejit.native import register_symbol

            register_symbol(resolver, registerer)
    for registerer in registerers:
        if not isinstance(registerer, str):
            registerer(resolver)
