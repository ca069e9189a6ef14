"""Every LITEJIT_* environment variable: name, type, default and one line of help."""

from __future__ import annotations

import os

from litejit.record import Record


class Setting(Record):
    """One environment variable."""

    name: str
    default: str
    help: str


SETTINGS = (
    Setting("LITEJIT_CACHE", "", "folder of compiled kernels; `off` keeps them in memory only"),
    Setting("LITEJIT_COMPILE", "1", "0 runs every operator in NumPy"),
    Setting("LITEJIT_DEBUG", "0", "1 prints steps, 2 the memory plan, 3 LLVM IR, 4 assembly"),
    Setting("LITEJIT_ISA", "", "name of an instruction set to use instead of the best one"),
    Setting("LITEJIT_MEMORY", "0", "most bytes of an interpreter's tensors; 0: 7/8 of free memory"),
)
_DEFAULTS = {setting.name: setting.default for setting in SETTINGS}


def get(name: str) -> str:
    """Return the value of a declared variable, read anew each time."""
    return os.environ.get(name, _DEFAULTS[name])


def debug_level() -> int:
    """Return LITEJIT_DEBUG as a number; anything that is none counts as 0."""
    value = get("LITEJIT_DEBUG")
    return int(value) if value.isdecimal() else 0
