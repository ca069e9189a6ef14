"""LLVM IR text -> object code or assembly; the only module that imports llvmlite."""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as binding

from litejit.codegen.isa import Isa
from litejit.errors import CodegenError

_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}


@cache
def _machine(isa: Isa) -> Any:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(_TRIPLES[isa.arch])
    return target.create_target_machine(
        cpu=isa.cpu, features=isa.features, opt=3, reloc="pic", codemodel="small"
    )


def _parse(ir: str) -> Any:
    try:
        module = binding.parse_assembly(ir)
        module.verify()
    except RuntimeError as error:
        raise CodegenError(f"LLVM refuses a kernel: {error}") from error
    return module


def compile_ir(ir: str, isa: Isa) -> bytes:
    """Compile a module of IR text to a relocatable object."""
    machine = _machine(isa)
    module = _parse(ir)
    module.triple = _TRIPLES[isa.arch]
    code: bytes = machine.emit_object(module)
    return code


def assembly(ir: str, isa: Isa) -> str:
    """The assembly that `compile_ir` would encode."""
    machine = _machine(isa)
    module = _parse(ir)
    module.triple = _TRIPLES[isa.arch]
    text: str = machine.emit_assembly(module)
    return text


def host_features() -> list[str]:
    """Features of this CPU in LLVM's spelling."""
    return [name for name, on in binding.get_host_cpu_features().items() if on]
