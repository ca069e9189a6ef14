"""Kernels by spec: compiled once, then found again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from litejit.codegen import linker, loader

if TYPE_CHECKING:
    from litejit.codegen.isa import Isa

_LOADED: dict[tuple[Any, str], int] = {}


def addresses(specs: Iterable[Any], isa: Isa) -> dict[Any, int]:
    """Address of the compiled kernel of every spec."""
    specs = list(dict.fromkeys(specs))
    for spec in specs:
        if (spec, isa.name) not in _LOADED:
            from litejit.codegen import llvm

            blob = linker.link([llvm.compile_ir(spec.emit("kernel", isa), isa)])
            _LOADED[spec, isa.name] = loader.executable(blob.code) + blob.symbols["kernel"]
    return {spec: _LOADED[spec, isa.name] for spec in specs}
