"""The memory of a subgraph's variable tensors, which outlives the Programs that use it."""

from __future__ import annotations

import numpy as np

from litejit.engine import budget
from litejit.engine.constants import aligned_memory
from litejit.engine.plan import SLACK, aligned
from litejit.types import I8, Array, TensorType


class State:
    """Variables lie side by side in one block, so that saving them is one copy.

    `arrays` maps a tensor's number to its memory, aligned and with readable slack behind it.
    """

    __slots__ = ("_blocks", "_types", "arrays")

    def __init__(self) -> None:
        self.arrays: dict[int, Array] = {}
        self._blocks: list[Array] = []
        self._types: dict[int, TensorType] = {}

    def fit(self, types: dict[int, TensorType]) -> None:
        """Give memory and a first value to the variables that are new or have another shape."""
        new = [
            tensor
            for index, tensor in types.items()
            if tensor.is_variable
            and (index not in self.arrays or self.arrays[index].shape != tensor.dims)
        ]
        if not new:
            return
        sizes = [aligned(t.nbytes + SLACK) if not t.dtype.numpy.hasobject else 0 for t in new]
        budget.check(sum(sizes), "the variable tensors")
        block, start = aligned_memory(sum(sizes)), 0
        self._blocks.append(block)
        for tensor, size in zip(new, sizes, strict=True):
            if size:
                flat = block[start : start + tensor.nbytes].view(tensor.dtype.numpy)
                self.arrays[tensor.index] = flat.reshape(tensor.dims)
                start += size
            else:
                self.arrays[tensor.index] = np.empty(tensor.dims, tensor.dtype.numpy)
                self._blocks.append(self.arrays[tensor.index])
            self._types[tensor.index] = tensor
            self.arrays[tensor.index][...] = _first_value(tensor)

    def reset(self) -> None:
        """Give all variables their first value."""
        for index, array in self.arrays.items():
            array[...] = _first_value(self._types[index])

    def save(self) -> list[Array]:
        """The values as they are now, for `restore`."""
        return [block.copy() for block in self._blocks]

    def restore(self, saved: list[Array]) -> None:
        """Take back what a failed run changed."""
        for block, before in zip(self._blocks, saved, strict=False):
            block[...] = before


def _first_value(tensor: TensorType) -> int:
    return tensor.zero_point if tensor.dtype == I8 else 0
