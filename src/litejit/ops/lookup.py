"""DENSIFY, EMBEDDING_LOOKUP_SPARSE, HASHTABLE_LOOKUP, LSH_PROJECTION and SKIP_GRAM."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from litejit.model.constant import pack_strings
from litejit.model.options.elementwise import DensifyOptions
from litejit.model.options.text import (
    Combiner,
    EmbeddingLookupSparseOptions,
    LSHProjectionOptions,
    LSHProjectionType,
    SkipGramOptions,
)
from litejit.ops.base import Arrays, Node, Op, Types, builtin
from litejit.ops.farmhash import fingerprint64
from litejit.ops.indexing import made, shape_from
from litejit.types import F16, F32, I8, I32, STRING, U8, VARIANT, Array

_MOST_STEPS = 1 << 20


@builtin("DENSIFY")
class Densify(Op):
    """y = x, a sparse constant, with its zeros. f32 | f16 | i8.

    Constants are made dense when a model is read, so that this is the value itself.
    Source: LiteRT tflite/kernels/densify.cc.
    """

    options = DensifyOptions

    def infer(self, node: Node) -> Types:
        x = node.input(0)
        node.require_dtype(x, (F32, F16, I8), "input")
        node.require(x.is_constant, "input must be constant")
        assert x.value is not None
        return [made(node, x.dims, x.dtype).with_value(x.value)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        x: Array = inputs[0]
        return x


@builtin("EMBEDDING_LOOKUP_SPARSE")
class EmbeddingLookupSparse(Op):
    """y[bucket] = sum of weight * row of the table over a bucket's lookups, combined.

    Inputs: ids [n], indices [n, r], dense shape [r], weights [n], table [rows, ...]; the last
    axis of the dense shape is replaced by a row. Neighbours with equal indices but the last are
    a bucket; MEAN divides by the sum of its weights, SQRTN by the root of that of their squares.
    Source: LiteRT tflite/kernels/embedding_lookup_sparse.cc.
    """

    options = EmbeddingLookupSparseOptions
    arity = (5, 5)

    def infer(self, node: Node) -> Types:
        ids, indices, shape, weights, table = (node.input(k) for k in range(5))
        for tensor, dtype, rank, what in (
            *((ids, I32, 1, "ids"), (indices, I32, 2, "indices"), (shape, I32, 1, "dense shape")),
            (weights, F32, 1, "weights"),
        ):
            node.require_dtype(tensor, (dtype,), what)
            node.require(tensor.rank == rank, f"{what} have shape {tensor.dims}, not rank {rank}")
        node.require_dtype(table, (F32,), "table")
        node.require(table.rank >= 2, f"table must have at least 2 dimensions, got {table.dims}")
        ok = ids.dims[0] == indices.dims[0] == weights.dims[0]
        node.require(ok, f"{ids.dims} ids, {indices.dims} indices, {weights.dims} weights")
        ok = shape.dims[0] == indices.dims[1] >= 1
        node.require(ok, f"indices {indices.dims} do not go with {shape.dims[0]} dimensions")
        known = None if shape.value is None else self._shape(node, node.require, shape.value)
        return [made(node, known, F32)]

    @staticmethod
    def _shape(node: Node, refuse: Any, dense: Array) -> tuple[int, ...]:
        shape = (*shape_from(refuse, dense, what="dense shape")[:-1], *node.input(4).dims[1:])
        refuse(math.prod(shape) < 1 << 31, f"result {shape} is too large")
        return shape

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        ids, indices, dense, weights, table = inputs
        shape = self._shape(node, node.check, dense)
        rows = table.reshape(len(table), math.prod(table.shape[1:]))
        outer = shape[: len(dense) - 1]
        result = np.zeros((math.prod(outer), rows.shape[1]), np.float32)
        inside = (ids >= 0) & (ids < len(rows))
        node.check(inside.all(), f"an id is not in [0, {len(rows) - 1}]")
        places = indices[:, :-1].astype(np.int64)
        inside = (places >= 0) & (places < np.array(outer, np.int64))
        node.check(inside.all(), f"an index lies outside of {outer}")
        buckets = np.ravel_multi_index(tuple(places.T), outer) if outer else np.zeros_like(ids)
        ends = np.flatnonzero(np.diff(buckets)) + 1
        with np.errstate(all="ignore"):
            for part in np.split(np.arange(len(ids)), ends):
                for k in part:
                    result[buckets[k]] += rows[ids[k]] * weights[k]
                if len(part):
                    self._finish(node, result[buckets[part[0]]], weights[part])
        return result.reshape(shape)

    @staticmethod
    def _finish(node: Node, row: Array, weights: Array) -> None:
        combiner = node.options.combiner
        if combiner == Combiner.MEAN:
            row /= np.add.accumulate(weights)[-1]
        elif combiner == Combiner.SQRTN:
            row /= np.sqrt(np.add.accumulate(weights * weights)[-1])


@builtin("HASHTABLE_LOOKUP")
class HashtableLookup(Op):
    """(values of the keys that are looked up, whether each was there: uint8).

    Inputs: lookup (int32 [n]), keys (int32, ascending), values (one row a key; strings: rank 1).
    A key that is not there gives zeros, or an empty string.
    Source: LiteRT tflite/kernels/hashtable_lookup.cc.
    """

    arity = (3, 3)
    results = (2, 2)

    def infer(self, node: Node) -> Types:
        lookup, keys, values = node.input(0), node.input(1), node.input(2)
        for tensor, what in ((lookup, "lookup"), (keys, "keys")):
            node.require_dtype(tensor, (I32,), what)
            node.require(tensor.rank == 1, f"{what} must be a vector, got shape {tensor.dims}")
        node.require(values.dtype != VARIANT, "values cannot be VARIANT")
        node.require(values.rank >= 1, "values must have at least one dimension")
        ok = values.dims[0] == keys.dims[0]
        node.require(ok, f"{keys.dims[0]} keys for {values.dims[0]} values")
        ok = values.dtype != STRING or values.rank == 1
        node.require(ok, f"values that are strings must be a vector, got shape {values.dims}")
        shape = (lookup.dims[0], *values.dims[1:])
        return [made(node, shape, values.dtype), made(node, lookup.dims, U8, position=1)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        lookup, keys, values = inputs
        node.check(len(values) > 0, "the table is empty")
        found = _bisect(lookup, keys)
        hits = found >= 0
        result: Array = values[np.where(hits, found, 0)]
        result[~hits] = b"" if values.dtype.hasobject else 0
        return result, hits.astype(np.uint8)


def _bisect(wanted: Array, keys: Array) -> Array:
    """Where each number lies in ascending keys, -1 for none; halves as C's bsearch does."""
    low = np.zeros(len(wanted), np.int64)
    high = np.full(len(wanted), len(keys), np.int64)
    found = np.full(len(wanted), -1, np.int64)
    while (low < high).any():
        middle = np.minimum((low + high) // 2, len(keys) - 1)
        at, active = keys[middle], low < high
        found = np.where(active & (at == wanted), middle, found)
        low = np.where(active & (at < wanted), middle + 1, low)
        high = np.where(active & (at > wanted), middle, high)
        low = np.where(active & (at == wanted), high, low)
    return found


@builtin("LSH_PROJECTION")
class LshProjection(Op):
    """Bits of locality-sensitive hashing, int32.

    Bit (i, j) is 1 where the sum over the input's rows of weight * hash is positive; the hash is
    Fingerprint64 of the float hash[i, j] and the row's bytes, as int64. DENSE gives all bits,
    SPARSE one number for each i: its bits, the first one highest, plus i << bits.
    Source: LiteRT tflite/kernels/lsh_projection.cc.
    """

    options = LSHProjectionOptions
    arity = (2, 3)

    def infer(self, node: Node) -> Types:
        seeds, x = node.input(0), node.input(1)
        node.require_dtype(seeds, (F32,), "hash")
        ok = seeds.rank == 2 and seeds.dims[1] <= 32
        node.require(ok, f"hash has shape {seeds.dims}, expected at most 32 columns")
        ok = x.rank >= 1 and x.dims[0] >= 1
        node.require(ok, f"input must not be empty, got shape {x.dims}")
        if len(node.inputs) == 3:
            weight = node.input(2)
            node.require_dtype(weight, (F32,), "weight")
            ok = weight.dims == (x.dims[0],)
            node.require(ok, f"weight has shape {weight.dims}, expected ({x.dims[0]},)")
        kind = node.options.type
        known = kind in (LSHProjectionType.SPARSE, LSHProjectionType.DENSE)
        node.require(known, f"projection type {kind} is neither SPARSE nor DENSE")
        shape = (seeds.dims[0],) if kind == LSHProjectionType.SPARSE else (seeds.size,)
        return [made(node, shape, I32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        seeds, x = inputs[0], inputs[1]
        data = pack_strings(x) if x.dtype.hasobject else np.ascontiguousarray(x).tobytes()
        size = len(data) // len(x)
        rows = [data[k * size : (k + 1) * size] for k in range(len(x))]
        weights = inputs[2].astype(np.float64) if len(inputs) == 3 else np.ones(len(x))
        bits = np.empty(seeds.shape, np.int64)
        for place, seed in np.ndenumerate(seeds):
            head = np.float32(seed).tobytes()
            hashes = np.array([fingerprint64(head + row) for row in rows], np.uint64)
            score = np.add.accumulate(weights * hashes.view(np.int64).astype(np.float64))[-1]
            bits[place] = score > 0
        if node.options.type == LSHProjectionType.DENSE:
            return bits.reshape(-1).astype(np.int32)
        count = seeds.shape[1]
        powers = 1 << np.arange(count - 1, -1, -1, dtype=np.int64)
        numbers = bits @ powers + (np.arange(len(seeds), dtype=np.int64) << count % 32)
        return np.asarray((numbers & 0xFFFFFFFF).astype(np.uint32).view(np.int32))


_SPACES = b" \t\n\v\f\r"


def words_of(text: bytes) -> list[bytes]:
    """Words between white space; what follows the last space stays as it is."""
    words, start = [], 0
    for place in range(1, len(text)):
        if text[place] in _SPACES:
            if place > start and text[start] not in _SPACES:
                words.append(text[start:place])
            start = place + 1
    return [*words, text[start:]] if len(text) > start else words


@builtin("SKIP_GRAM")
class SkipGram(Op):
    """All runs of ngram_size words of the first string, in order, with up to max_skip_size
    words left out between neighbours; with include_all_ngrams shorter runs too.

    Source: LiteRT tflite/kernels/skip_gram.cc.
    """

    options = SkipGramOptions

    def infer(self, node: Node) -> Types:
        node.require_dtype(node.input(0), (STRING,), "input")
        return [made(node, None, STRING)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        (x,) = inputs
        node.check(x.size > 0, "input is empty")
        grams = self._grams(node, words_of(x.reshape(-1)[0]))
        result = np.empty(len(grams), object)
        result[:] = grams
        return result

    def _grams(self, node: Node, words: list[bytes]) -> list[bytes]:
        size, skip = node.options.ngram_size, node.options.max_skip_size
        grams: list[bytes] = []
        if size <= 0 or len(words) < size:
            return grams
        stack, depth, steps = [0] * size, 1, 0
        while depth >= 0:
            steps += 1
            node.check(steps < _MOST_STEPS, f"{len(words)} words give too many grams of {size}")
            if self._may_step(stack, depth, skip, len(words)):
                stack[depth] += 1
                depth += 1
                if depth < size:
                    stack[depth] = stack[depth - 1]
                continue
            if 0 < depth <= size and (node.options.include_all_ngrams or depth == size):
                grams.append(b" ".join(words[place] for place in stack[:depth]))
            depth -= 1
        return grams

    @staticmethod
    def _may_step(stack: list[int], depth: int, skip: int, count: int) -> bool:
        if depth >= len(stack) or stack[depth] + 1 >= count:
            return False
        return depth == 0 or stack[depth] - stack[depth - 1] <= skip
