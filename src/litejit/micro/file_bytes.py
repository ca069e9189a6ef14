"""Bytes behind a constant: what TFLM reads where it takes a tensor for a larger one.

Its kernels read constants in the file itself, without looking at their size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.types import Array


def bytes_from(value: Array, count: int) -> Array:
    """`count` bytes of the file from the constant on, uint8; 0 beyond the end of the file."""
    result = np.zeros(count, np.uint8)
    own = np.ascontiguousarray(value).view(np.uint8).reshape(-1)[:count]
    owner: Any = value
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    content = getattr(owner, "obj", owner)
    if isinstance(content, bytes) and value.flags.c_contiguous:
        whole = np.frombuffer(content, np.uint8)
        start = _address(value) - _address(whole)
        if 0 <= start < whole.size:
            own = whole[start : start + count]
    result[: len(own)] = own
    return result


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
