"""The exceptions that litejit raises.

    LitejitError
    ├── ModelError (ValueError)         the file is not a model that can be run
    ├── PrepareError (RuntimeError)     an operator refuses its operands before the first run
    ├── InvokeError (RuntimeError)      an operator refuses the data it was given
    ├── CodegenError (RuntimeError)     a kernel could not be compiled, linked or mapped
    └── MemoryLimitError (MemoryError)  a tensor or an arena larger than the memory allowed

Arguments that are wrong by themselves raise plain ValueError or TypeError, as LiteRT does.
Every message says who (operator and its number, tensor, file part), what, and what was expected.
"""

from __future__ import annotations


class LitejitError(Exception):
    """Base of all errors that litejit raises about models, kernels and runs."""


class ModelError(LitejitError, ValueError):
    """The model's bytes break the format, or name things that do not exist."""


class PrepareError(LitejitError, RuntimeError):
    """An operator cannot run with the shapes, types or options that it was given."""


class InvokeError(LitejitError, RuntimeError):
    """An operator met data that it must refuse: an index out of range, a zero divisor."""


class CodegenError(LitejitError, RuntimeError):
    """Machine code could not be made or mapped; the NumPy path is used instead."""


class MemoryLimitError(LitejitError, MemoryError):
    """A tensor or an arena would be larger than the memory that may be used."""
