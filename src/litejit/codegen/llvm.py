"""LLVM IR text -> object code or assembly; the only module that imports llvmlite.

Importing it costs about 30 ms and 45 MB: a start that finds its kernels on disk never does.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import llvmlite
from llvmlite import binding

from litejit.codegen.isa import Isa
from litejit.errors import CodegenError

# Objects are ELF on every system, because litejit links them itself; what the triple decides
# besides is the calling convention.
_SYSTEMS = {"win32": "pc-windows-msvc-elf", "darwin": "apple-macosx11.0-elf"}


def triple(isa: Isa, *, system: str = sys.platform) -> str:
    """The target of `isa` on a system named as in sys.platform."""
    arch = "arm64" if system == "darwin" and isa.arch == "aarch64" else isa.arch
    return f"{arch}-{_SYSTEMS.get(system, 'unknown-linux-gnu')}"


def compile_ir(ir: str, isa: Isa) -> bytes:
    """Compile a module of IR text to a relocatable ELF object. CodegenError: LLVM refuses it."""
    code: bytes = _machine(isa, triple(isa)).emit_object(_parse(ir, isa))
    return code


def assembly(ir: str, isa: Isa) -> str:
    """The assembly text of what `compile_ir` encodes."""
    text: str = _machine(isa, triple(isa)).emit_assembly(_parse(ir, isa))
    return text


def version() -> str:
    """Versions of llvmlite and of the LLVM inside it."""
    numbers = ".".join(str(number) for number in binding.llvm_version_info)
    return f"llvmlite {llvmlite.__version__}, LLVM {numbers}"


def host_features() -> list[str]:
    """Features of this CPU in LLVM's spelling."""
    return [name for name, on in binding.get_host_cpu_features().items() if on]


@cache
def _machine(isa: Isa, target: str) -> Any:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(target).create_target_machine(
        cpu=isa.cpu, features=isa.features, opt=3, reloc="pic", codemodel="small"
    )


def _parse(ir: str, isa: Isa) -> Any:
    """The module that `ir` describes, checked.

    Each has a context of its own, which is freed with it: names and types of one kernel never
    meet those of another.
    """
    try:
        module = binding.parse_assembly(ir, binding.create_context())
        module.verify()
    except RuntimeError as error:
        raise CodegenError(f"LLVM refuses a kernel: {error}") from error
    module.triple = triple(isa)
    return module
