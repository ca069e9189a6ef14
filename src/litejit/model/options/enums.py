"""Enums that several families of options share."""

from __future__ import annotations

from litejit.model.table import ByteEnum


class Padding(ByteEnum):
    """Where a window may stand: SAME lets it hang over the edges, VALID does not."""

    SAME = 0
    VALID = 1


class Activation(ByteEnum):
    """What is applied to an operator's result."""

    NONE = 0
    RELU = 1
    RELU_N1_TO_1 = 2
    RELU6 = 3
    TANH = 4
    SIGN_BIT = 5
