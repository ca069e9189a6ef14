"""ParseExample, and the parts of language models."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from tests.ops.whole import Given, fixed, run

from litejit.types import F32, I32, I64, STRING

RNG = np.random.default_rng(0)


def field(number: int, data: bytes) -> bytes:
    size, head = len(data), b""
    while size > 127:
        head += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + data


def example(**features: Any) -> bytes:
    """A serialized tf.train.Example."""
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            kind, inner = 1, b"".join(field(1, value) for value in values)
        elif isinstance(values[0], float):
            kind, inner = 2, field(1, struct.pack(f"<{len(values)}f", *values))
        else:
            kind, inner = 3, field(1, bytes(values))
        entry = field(1, name.encode()) + field(2, field(kind, inner))
        entries += field(1, entry)
    return field(1, entries)


def strings(*values: bytes) -> np.ndarray:
    result = np.empty(len(values), object)
    result[:] = values
    return result


NO_NAMES = fixed(strings())
FIRST = example(a=[1, 2], b=[0.5, 1.5], c=[b"x"])
SECOND = example(b=[2.5, 3.5], c=[b"yy", b"z"])


def test_sparse_features_become_indices_values_and_a_shape():
    operands = [Given(strings(FIRST, SECOND)), NO_NAMES, fixed(strings(b"a", b"c")), NO_NAMES,
                NO_NAMES]  # fmt: skip
    outs = [I64, I64, I64, STRING, I64, I64]
    a, c, a_values, c_values, a_shape, c_shape = run("ParseExampleV2", {}, operands, outs)
    assert a.tolist() == [[0, 0], [0, 1]]
    assert c.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert a_values.tolist() == [1, 2]
    assert c_values.tolist() == [b"x", b"yy", b"z"]
    assert [a_shape.tolist(), c_shape.tolist()] == [[2, 2], [2, 2]]


def test_missing_dense_features_take_their_default():
    keys = fixed(strings(b"a", b"b"))
    defaults = [fixed(np.int64([7, 8])), fixed(np.zeros(0, np.float32))]
    operands = [Given(strings(FIRST, SECOND)), NO_NAMES, NO_NAMES, keys, NO_NAMES, *defaults]
    a, b = run("ParseExampleV2", {}, operands, [(I64, (2, 2)), (F32, (2, 2))])
    assert a.tolist() == [[1, 2], [7, 8]]
    assert b.tolist() == [[0.5, 1.5], [2.5, 3.5]]


def test_the_first_version_has_an_input_for_every_name():
    operands = [Given(strings(FIRST)), NO_NAMES, fixed(strings(b"c")), fixed(strings(b"b")),
                fixed(np.float32([0, 0]))]  # fmt: skip
    outs = [I64, STRING, I64, (F32, (1, 2))]
    _, values, _, dense = run("ParseExample", {}, operands, outs)
    assert values.tolist() == [b"x"]
    assert dense.tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize(
    ("data", "match"),
    [(FIRST[:-1], "cannot be parsed"), (b"\xff" * 20, "cannot be parsed"),
     (example(b=[1]), "holds INT64"), (example(b=[0.5]), "has 1 values"),
     (example(a=[1]), "required but missing"), (b"", "required but missing")],
)  # fmt: skip
def test_examples_that_lack_what_is_asked_are_refused(data, match):
    operands = [Given(strings(data)), NO_NAMES, NO_NAMES, fixed(strings(b"b")), NO_NAMES,
                fixed(np.zeros(0, np.float32))]  # fmt: skip
    with pytest.raises(RuntimeError, match=match):
        run("ParseExampleV2", {}, operands, [(F32, (1, 2))])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_attend_to_the_keys_of_their_group(groups):
    q = RNG.standard_normal((1, 3, 4, 8)).astype(np.float32)
    k, v = (RNG.standard_normal((1, 5, groups, 8)).astype(np.float32) for _ in range(2))
    mask = np.where(RNG.random((1, 1, 3, 5)) < 0.3, -1e9, 0).astype(np.float32)
    operands = [Given(x) for x in (q, k, v, mask)]
    (y,) = run("odml.scaled_dot_product_attention", {}, operands, [F32])
    for head in range(4):
        group = head * groups // 4
        scores = q[0, :, head] @ k[0, :, group].T / np.sqrt(8) + mask[0, 0]
        powers = np.exp(scores - scores.max(1, keepdims=True))
        want = powers / powers.sum(1, keepdims=True) @ v[0, :, group]
        np.testing.assert_allclose(y[0, :, head], want, rtol=1e-5, atol=1e-6)
    (scaled,) = run("odml.scaled_dot_product_attention", {"scale": 8**-0.5}, operands, [F32])
    np.testing.assert_allclose(scaled, y, rtol=1e-5)


def test_new_keys_go_to_their_positions():
    caches = [RNG.standard_normal((1, 6, 2, 3)).astype(np.float32) for _ in range(2)]
    new = [RNG.standard_normal((1, 3, 2, 3)).astype(np.float32) for _ in range(2)]

    def update(places: list[int]) -> list[np.ndarray]:
        operands = [*caches, np.array(places, np.int32), *new]
        return run("odml.update_external_kv_cache", {}, [Given(x) for x in operands], [F32, F32])

    for k, got in enumerate(update([2, 4, 0])):
        want = caches[k].copy()
        want[0, [2, 4]] = new[k][0, :2]
        np.testing.assert_array_equal(got, want)
    with pytest.raises(RuntimeError, match="position 6"):
        update([1, 6, 7])


def test_a_cache_of_another_size_is_refused():
    operands = [Given(np.zeros((1, 6, 2, 3), np.float32))] * 2
    operands += [Given(np.zeros(1, np.int32)), *[Given(np.zeros((1, 1, 2, 4), np.float32))] * 2]
    with pytest.raises(RuntimeError, match="do not go into"):
        run("odml.update_external_kv_cache", {}, operands, [F32, F32])
    with pytest.raises(RuntimeError, match="does not go with"):
        run("odml.scaled_dot_product_attention", {}, [operands[0], *operands[3:], operands[0]],
            [I32])  # fmt: skip
