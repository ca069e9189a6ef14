"""Options of control flow, variables, tables and random numbers. Fields in schema order."""

from __future__ import annotations

from litejit.model.table import Table, int32, int64, uint32
from litejit.types import DType


class CallOptions(Table):
    """Options of CALL."""

    subgraph: uint32


class CallOnceOptions(Table):
    """Options of CALL_ONCE."""

    init_subgraph_index: int32


class IfOptions(Table):
    """Options of IF."""

    then_subgraph_index: int32
    else_subgraph_index: int32


class WhileOptions(Table):
    """Options of WHILE."""

    cond_subgraph_index: int32
    body_subgraph_index: int32


class VarHandleOptions(Table):
    """Options of VAR_HANDLE."""

    container: str
    shared_name: str


class ReadVariableOptions(Table):
    """Options of READ_VARIABLE."""


class AssignVariableOptions(Table):
    """Options of ASSIGN_VARIABLE."""


class HashtableOptions(Table):
    """Options of HASHTABLE."""

    table_id: int32
    key_dtype: DType
    value_dtype: DType


class HashtableFindOptions(Table):
    """Options of HASHTABLE_FIND."""


class HashtableImportOptions(Table):
    """Options of HASHTABLE_IMPORT."""


class HashtableSizeOptions(Table):
    """Options of HASHTABLE_SIZE."""


class RandomOptions(Table):
    """Options of RANDOM_UNIFORM, RANDOM_STANDARD_NORMAL and MULTINOMIAL."""

    seed: int64
    seed2: int64
