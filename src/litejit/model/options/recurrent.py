"""Options of recurrent operators. Fields in schema order."""

from __future__ import annotations

from litejit.model.options.enums import Activation
from litejit.model.table import ByteEnum, Table, float32, int32


class LSTMKernel(ByteEnum):
    """Which cell an LSTM computes."""

    FULL = 0
    BASIC = 1


class SVDFOptions(Table):
    """Options of SVDF."""

    rank: int32
    activation: Activation
    asymmetric_quantize_inputs: bool


class RNNOptions(Table):
    """Options of RNN."""

    activation: Activation
    asymmetric_quantize_inputs: bool


class SequenceRNNOptions(Table):
    """Options of UNIDIRECTIONAL_SEQUENCE_RNN."""

    time_major: bool
    activation: Activation
    asymmetric_quantize_inputs: bool


class BidirectionalSequenceRNNOptions(Table):
    """Options of BIDIRECTIONAL_SEQUENCE_RNN."""

    time_major: bool
    activation: Activation
    merge_outputs: bool
    asymmetric_quantize_inputs: bool


class LSTMOptions(Table):
    """Options of LSTM."""

    activation: Activation
    cell_clip: float32
    proj_clip: float32
    kernel_type: LSTMKernel
    asymmetric_quantize_inputs: bool


class UnidirectionalSequenceLSTMOptions(Table):
    """Options of UNIDIRECTIONAL_SEQUENCE_LSTM."""

    activation: Activation
    cell_clip: float32
    proj_clip: float32
    time_major: bool
    asymmetric_quantize_inputs: bool
    diagonal_recurrent_tensors: bool


class BidirectionalSequenceLSTMOptions(Table):
    """Options of BIDIRECTIONAL_SEQUENCE_LSTM."""

    activation: Activation
    cell_clip: float32
    proj_clip: float32
    merge_outputs: bool
    time_major: bool = True
    asymmetric_quantize_inputs: bool
