"""Lowerings of convolutions and matrix products; those without kernels ask for nothing."""

from __future__ import annotations

from litejit.ops.base import Lowering, Node


def lower_conv(node: Node, steps: Lowering) -> None:
    """CONV_2D: the reference runs."""


def lower_depthwise(node: Node, steps: Lowering) -> None:
    """DEPTHWISE_CONV_2D: the reference runs."""


def lower_transpose_conv(node: Node, steps: Lowering) -> None:
    """TRANSPOSE_CONV: the reference runs."""


def lower_fully_connected(node: Node, steps: Lowering) -> None:
    """FULLY_CONNECTED: the reference runs."""


def lower_batch_matmul(node: Node, steps: Lowering) -> None:
    """BATCH_MATMUL: the reference runs."""


def fusible_after(node: Node, follower: Node, position: int) -> bool:
    """Nothing is fused behind a reference."""
    return False
