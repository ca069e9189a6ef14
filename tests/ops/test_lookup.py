"""Look-ups in tables, sparse constants, hashes of bytes, n-grams."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ops.whole import Given, agrees, run

from litejit.model.options.text import (
    Combiner,
    EmbeddingLookupSparseOptions,
    LSHProjectionOptions,
    LSHProjectionType,
    SkipGramOptions,
)
from litejit.ops.farmhash import fingerprint64
from litejit.ops.lookup import words_of
from litejit.types import F32, I32, STRING, U8

RNG = np.random.default_rng(0)


def sparse(ids, indices, dense, rows: int = 4) -> list[Given]:
    table = RNG.standard_normal((rows, 3, 2)).astype(np.float32)
    weights = RNG.random(len(ids)).astype(np.float32)
    values = (np.int32(ids), np.int32(indices), np.int32(dense), weights, table)
    return [Given(value) for value in values]


@pytest.mark.parametrize("combiner", list(Combiner))
def test_rows_of_a_bucket_are_combined(combiner):
    options = EmbeddingLookupSparseOptions(combiner=combiner)
    matrix = sparse([1, 3, 0, 2, 2], [[0, 0], [2, 0], [2, 1], [0, 1], [0, 2]], [3, 4])
    agrees("EMBEDDING_LOOKUP_SPARSE", options, matrix, [F32])
    cube = sparse([1, 3, 0], [[0, 0, 0], [2, 1, 0], [2, 1, 1]], [3, 2, 2])
    agrees("EMBEDDING_LOOKUP_SPARSE", options, cube, [F32])


@pytest.mark.parametrize(
    ("ids", "indices", "dense"),
    [([4], [[0, 0]], [1, 1]), ([-1], [[0, 0]], [1, 1]), ([0], [[2, 0]], [2, 1]),
     ([0], [[0, 0]], [1 << 30, 1]), ([0], [[0, 0]], [-1, 1])],
)  # fmt: skip
def test_places_outside_of_a_table_are_refused(ids, indices, dense):
    with pytest.raises(RuntimeError, match="EMBEDDING_LOOKUP_SPARSE"):
        run("EMBEDDING_LOOKUP_SPARSE", EmbeddingLookupSparseOptions(),
            sparse(ids, indices, dense), [F32])  # fmt: skip


def test_keys_that_are_not_there_give_zeros_and_no_hit():
    lookup, keys = Given(np.int32([4, -1, 7, 7, 100])), Given(np.int32([-3, -1, 4, 7]))
    numbers = Given(np.arange(1, 9, dtype=np.float32).reshape(4, 2))
    agrees("HASHTABLE_LOOKUP", None, [lookup, keys, numbers], [F32, U8])
    names = Given(np.array([b"a", b"bb", b"ccc", b""], object))
    y, hits = agrees("HASHTABLE_LOOKUP", None, [lookup, keys, names], [STRING, U8])
    assert list(y) == [b"ccc", b"bb", b"", b"", b""]
    assert hits.tolist() == [1, 1, 1, 1, 0]


def test_one_of_equal_keys_is_found():
    operands = [Given(np.int32([5])), Given(np.int32([5] * 7)), Given(np.arange(7, dtype=np.int32))]
    agrees("HASHTABLE_LOOKUP", None, operands, [I32, U8])


@pytest.mark.parametrize("kind", [LSHProjectionType.SPARSE, LSHProjectionType.DENSE])
@pytest.mark.parametrize(
    "shape", [(5,), (5, 1), (5, 3), (5, 7), (4, 12), (3, 15), (3, 20), (2, 40), (2, 1, 77)]
)
def test_projected_bits_are_litert_s(shape, kind):
    seeds = Given(RNG.standard_normal((3, 5)).astype(np.float32))
    x = RNG.integers(-99, 99, shape).astype(np.int32)
    weights = Given(RNG.random(shape[0]).astype(np.float32))
    options = LSHProjectionOptions(type=kind)
    agrees("LSH_PROJECTION", options, [seeds, Given(x)], [I32])
    agrees("LSH_PROJECTION", options, [seeds, Given(x.astype(np.int8)), weights], [I32])


def test_fingerprints_of_all_lengths_differ():
    found = {fingerprint64(bytes(range(256))[:size]) for size in range(257)}
    assert len(found) == 257
    assert all(0 <= number < 1 << 64 for number in found)
    assert fingerprint64(b"") == 0x9AE16A3B2F90404F


TEXTS = [b"The quick\t brown fox\n jumps over the lazy dog!", b"", b" a", b"a b ", b"  x  y z"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("size", "skip", "every"), [(2, 0, False), (2, 1, True), (3, 1, True), (1, 3, False),
                                (0, 1, True), (3, 0, False)],
)  # fmt: skip
def test_grams_are_litert_s(text, size, skip, every):
    options = SkipGramOptions(ngram_size=size, max_skip_size=skip, include_all_ngrams=every)
    agrees("SKIP_GRAM", options, [Given(np.array([text], object))], [STRING])


def test_words_end_at_white_space():
    assert words_of(b"ab  c\td") == [b"ab", b"c", b"d"]


def test_gram_lists_without_end_are_refused():
    options = SkipGramOptions(ngram_size=30, max_skip_size=60, include_all_ngrams=False)
    text = Given(np.array([b"a " * 60], object))
    with pytest.raises(RuntimeError, match="too many grams"):
        run("SKIP_GRAM", options, [text], [STRING])
