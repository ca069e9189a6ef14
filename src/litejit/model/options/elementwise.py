"""Options of element-wise operators, conversions and normalizations. Fields in schema order."""

from __future__ import annotations

from litejit.model.options.enums import Activation
from litejit.model.table import Table, float32, int32
from litejit.types import DType


class AddOptions(Table):
    """Options of ADD."""

    activation: Activation
    pot_scale_int16: bool = True


class SubOptions(Table):
    """Options of SUB."""

    activation: Activation
    pot_scale_int16: bool = True


class MulOptions(Table):
    """Options of MUL."""

    activation: Activation


class DivOptions(Table):
    """Options of DIV."""

    activation: Activation


class MaximumMinimumOptions(Table):
    """Options of MAXIMUM and MINIMUM."""


class ExpOptions(Table):
    """Options of EXP."""


class NegOptions(Table):
    """Options of NEG."""


class AbsOptions(Table):
    """Options of ABS."""


class CosOptions(Table):
    """Options of COS."""


class PowOptions(Table):
    """Options of POW."""


class SignOptions(Table):
    """Options of SIGN."""


class ATan2Options(Table):
    """Options of ATAN2."""


class SquareOptions(Table):
    """Options of SQUARE."""


class SquaredDifferenceOptions(Table):
    """Options of SQUARED_DIFFERENCE."""


class FloorDivOptions(Table):
    """Options of FLOOR_DIV."""


class FloorModOptions(Table):
    """Options of FLOOR_MOD."""


class AddNOptions(Table):
    """Options of ADD_N."""


class LeakyReluOptions(Table):
    """Options of LEAKY_RELU."""

    alpha: float32


class HardSwishOptions(Table):
    """Options of HARD_SWISH."""


class GeluOptions(Table):
    """Options of GELU."""

    approximate: bool


class LessOptions(Table):
    """Options of LESS."""


class LessEqualOptions(Table):
    """Options of LESS_EQUAL."""


class GreaterOptions(Table):
    """Options of GREATER."""


class GreaterEqualOptions(Table):
    """Options of GREATER_EQUAL."""


class EqualOptions(Table):
    """Options of EQUAL."""


class NotEqualOptions(Table):
    """Options of NOT_EQUAL."""


class LogicalOrOptions(Table):
    """Options of LOGICAL_OR."""


class LogicalAndOptions(Table):
    """Options of LOGICAL_AND."""


class LogicalNotOptions(Table):
    """Options of LOGICAL_NOT."""


class BitwiseXorOptions(Table):
    """Options of BITWISE_XOR."""


class RightShiftOptions(Table):
    """Options of RIGHT_SHIFT."""


class SelectOptions(Table):
    """Options of SELECT."""


class SelectV2Options(Table):
    """Options of SELECT_V2."""


class CastOptions(Table):
    """Options of CAST."""

    in_data_type: DType
    out_data_type: DType


class BitcastOptions(Table):
    """Options of BITCAST."""


class QuantizeOptions(Table):
    """Options of QUANTIZE."""


class DequantizeOptions(Table):
    """Options of DEQUANTIZE."""


class FakeQuantOptions(Table):
    """Options of FAKE_QUANT."""

    min: float32
    max: float32
    num_bits: int32
    narrow_range: bool


class BucketizeOptions(Table):
    """Options of BUCKETIZE."""

    boundaries: tuple[float32, ...]


class ZerosLikeOptions(Table):
    """Options of ZEROS_LIKE."""


class SoftmaxOptions(Table):
    """Options of SOFTMAX."""

    beta: float32


class LogSoftmaxOptions(Table):
    """Options of LOG_SOFTMAX."""


class L2NormOptions(Table):
    """Options of L2_NORMALIZATION."""

    activation: Activation


class LocalResponseNormalizationOptions(Table):
    """Options of LOCAL_RESPONSE_NORMALIZATION."""

    radius: int32
    bias: float32
    alpha: float32
    beta: float32


class DensifyOptions(Table):
    """Options of DENSIFY."""


class Rfft2dOptions(Table):
    """Options of RFFT2D."""
