"""odml.scaled_dot_product_attention and odml.update_external_kv_cache: language models' parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops.base import Arrays, Node, Types, builtin
from litejit.ops.custom.options import CustomOp, Fields
from litejit.ops.indexing import made
from litejit.types import F32, I32


@builtin("odml.scaled_dot_product_attention")
class ScaledDotProductAttention(CustomOp):
    """y = softmax(scale * q k^T + mask) v for every head. f32.

    q: [batch, steps, heads, depth], k and v: [batch, length, groups, depth], where a group
    serves heads / groups heads; mask: broadcast to [batch, heads, steps, length]. Without an
    option `scale` it is 1 / sqrt(depth). Source: LiteRT tflite/experimental/genai/sdpa.cc.
    """

    arity = (4, 4)

    def read(self, fields: Fields) -> Any:
        return max(float(np.float32(fields.real("scale"))), 0.0)

    def infer(self, node: Node) -> Types:
        q, k, v, mask = (node.input(position) for position in range(4))
        for tensor, what in ((q, "query"), (k, "key"), (v, "value"), (mask, "mask")):
            node.require_dtype(tensor, (F32,), what)
            node.require(tensor.rank == 4, f"{what} must have 4 dimensions, got {tensor.dims}")
        node.require(k.dims[:3] == v.dims[:3], f"key {k.dims} does not go with value {v.dims}")
        ok = q.dims[0] == k.dims[0] and q.dims[3] == k.dims[3] > 0
        node.require(ok, f"query {q.dims} does not go with key {k.dims}")
        groups = k.dims[2]
        ok = groups > 0 and q.dims[2] % groups == 0
        node.require(ok, f"{q.dims[2]} heads cannot share {groups} groups")
        wanted = (q.dims[0], q.dims[2], q.dims[1], k.dims[1])
        fits = all(m in (1, n) for m, n in zip(mask.dims, wanted, strict=True))
        node.require(fits, f"mask {mask.dims} does not broadcast to {wanted}")
        return [made(node, (*q.dims[:3], v.dims[3]), F32)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        q, k, v, mask = inputs
        scale = np.float32(node.options or 1 / np.sqrt(q.shape[3]))
        shared = q.shape[2] // k.shape[2]
        k, v = (np.repeat(x, shared, axis=2).transpose(0, 2, 1, 3) for x in (k, v))
        with np.errstate(all="ignore"):
            scores = (q * scale).transpose(0, 2, 1, 3) @ k.transpose(0, 1, 3, 2) + mask
            powers = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
            weights = powers / powers.sum(axis=-1, keepdims=True)
            return np.ascontiguousarray((weights @ v).transpose(0, 2, 1, 3))


@builtin("odml.update_external_kv_cache")
class UpdateExternalKvCache(CustomOp):
    """(key cache, value cache) with new slices put at their positions. f32.

    Inputs: caches [batch, length, heads, depth], positions int32 [steps], slices
    [1, steps, heads, depth]. A position below its forerunner ends the update.
    Source: LiteRT tflite/experimental/genai/external_kvcache.cc.
    """

    arity = (5, 5)
    results = (2, 2)

    def infer(self, node: Node) -> Types:
        k, v, place, new_k, new_v = (node.input(position) for position in range(5))
        for tensor, what in ((k, "cache"), (v, "cache"), (new_k, "slice"), (new_v, "slice")):
            node.require_dtype(tensor, (F32,), what)
            node.require(tensor.rank == 4, f"{what} must have 4 dimensions, got {tensor.dims}")
        node.require_dtype(place, (I32,), "positions")
        same = k.dims == v.dims and new_k.dims == new_v.dims
        node.require(same, f"caches {k.dims}, {v.dims}, slices {new_k.dims}, {new_v.dims} differ")
        ok = k.dims[0] == new_k.dims[0] == 1 and k.dims[2:] == new_k.dims[2:]
        node.require(ok, f"slices {new_k.dims} do not go into caches {k.dims}")
        ok = place.dims == (new_k.dims[1],)
        node.require(ok, f"positions have shape {place.dims}, expected ({new_k.dims[1]},)")
        return [made(node, k.dims, F32), made(node, k.dims, F32, position=1)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        caches, places, slices = [x.copy() for x in inputs[:2]], inputs[2], inputs[3:]
        last = -1
        for step, place in enumerate(places.tolist()):
            if place < last:
                break
            last = place
            ok = 0 <= place < caches[0].shape[1]
            node.check(ok, f"position {place} is not in [0, {caches[0].shape[1]})")
            for cache, new in zip(caches, slices, strict=True):
                cache[0, place] = new[0, step]
        return caches[0], caches[1]
