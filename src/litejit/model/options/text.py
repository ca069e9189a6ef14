"""Options of embeddings and of text operators. Fields in schema order."""

from __future__ import annotations

from litejit.model.table import ByteEnum, Table, int32


class Combiner(ByteEnum):
    """How EMBEDDING_LOOKUP_SPARSE joins rows."""

    SUM = 0
    MEAN = 1
    SQRTN = 2


class LSHProjectionType(ByteEnum):
    """How LSH_PROJECTION packs its bits."""

    UNKNOWN = 0
    SPARSE = 1
    DENSE = 2


class EmbeddingLookupSparseOptions(Table):
    """Options of EMBEDDING_LOOKUP_SPARSE."""

    combiner: Combiner


class ConcatEmbeddingsOptions(Table):
    """Options of CONCAT_EMBEDDINGS."""

    num_channels: int32
    num_columns_per_channel: tuple[int32, ...]
    embedding_dim_per_channel: tuple[int32, ...]


class LSHProjectionOptions(Table):
    """Options of LSH_PROJECTION."""

    type: LSHProjectionType


class SkipGramOptions(Table):
    """Options of SKIP_GRAM."""

    ngram_size: int32
    max_skip_size: int32
    include_all_ngrams: bool
