"""Options of operators that index, reduce, sort and search. Fields in schema order."""

from __future__ import annotations

from litejit.model.table import Table, WordEnum, int32
from litejit.types import I32, DType


class ReduceWindowFunction(WordEnum):
    """What the (deprecated) REDUCE_WINDOW does with a window."""

    UNSUPPORTED = 0
    ADD = 1
    MUL = 2
    MINIMUM = 3
    MAXIMUM = 4
    ALL = 5
    ANY = 6


class GatherOptions(Table):
    """Options of GATHER."""

    axis: int32
    batch_dims: int32


class GatherNdOptions(Table):
    """Options of GATHER_ND."""


class ScatterNdOptions(Table):
    """Options of SCATTER_ND."""


class OneHotOptions(Table):
    """Options of ONE_HOT."""

    axis: int32


class SparseToDenseOptions(Table):
    """Options of SPARSE_TO_DENSE."""

    validate_indices: bool


class WhereOptions(Table):
    """Options of WHERE."""


class UniqueOptions(Table):
    """Options of UNIQUE."""

    idx_out_type: DType = I32


class ReducerOptions(Table):
    """Options of SUM, MEAN, REDUCE_PROD, REDUCE_MAX, REDUCE_MIN, REDUCE_ANY and REDUCE_ALL."""

    keep_dims: bool


class ArgMaxOptions(Table):
    """Options of ARG_MAX."""

    output_type: DType


class ArgMinOptions(Table):
    """Options of ARG_MIN."""

    output_type: DType


class CumsumOptions(Table):
    """Options of CUMSUM."""

    exclusive: bool
    reverse: bool


class TopKV2Options(Table):
    """Options of TOPK_V2."""


class SegmentSumOptions(Table):
    """Options of SEGMENT_SUM."""


class UnsortedSegmentProdOptions(Table):
    """Options of UNSORTED_SEGMENT_PROD."""


class UnsortedSegmentMaxOptions(Table):
    """Options of UNSORTED_SEGMENT_MAX."""


class UnsortedSegmentMinOptions(Table):
    """Options of UNSORTED_SEGMENT_MIN."""


class UnsortedSegmentSumOptions(Table):
    """Options of UNSORTED_SEGMENT_SUM."""


class NonMaxSuppressionV4Options(Table):
    """Options of NON_MAX_SUPPRESSION_V4."""


class NonMaxSuppressionV5Options(Table):
    """Options of NON_MAX_SUPPRESSION_V5."""


class ReduceWindowOptions(Table):
    """Options of REDUCE_WINDOW."""

    reduce_function: ReduceWindowFunction
