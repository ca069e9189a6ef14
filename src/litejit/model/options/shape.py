"""Options of operators that move, cut, join and resize. Fields in schema order."""

from __future__ import annotations

from litejit.model.options.enums import Activation
from litejit.model.table import ByteEnum, Table, int32
from litejit.types import DType


class MirrorPadMode(ByteEnum):
    """REFLECT leaves the border element out, SYMMETRIC repeats it."""

    REFLECT = 0
    SYMMETRIC = 1


class ReshapeOptions(Table):
    """Options of RESHAPE."""

    new_shape: tuple[int32, ...]


class SqueezeOptions(Table):
    """Options of SQUEEZE."""

    squeeze_dims: tuple[int32, ...]


class ExpandDimsOptions(Table):
    """Options of EXPAND_DIMS."""


class ShapeOptions(Table):
    """Options of SHAPE."""

    out_type: DType


class RankOptions(Table):
    """Options of RANK."""


class TransposeOptions(Table):
    """Options of TRANSPOSE."""


class ConcatenationOptions(Table):
    """Options of CONCATENATION."""

    axis: int32
    activation: Activation


class PackOptions(Table):
    """Options of PACK."""

    values_count: int32
    axis: int32


class UnpackOptions(Table):
    """Options of UNPACK."""

    num: int32
    axis: int32


class SplitOptions(Table):
    """Options of SPLIT."""

    num_splits: int32


class SplitVOptions(Table):
    """Options of SPLIT_V."""

    num_splits: int32


class SliceOptions(Table):
    """Options of SLICE."""


class StridedSliceOptions(Table):
    """Options of STRIDED_SLICE."""

    begin_mask: int32
    end_mask: int32
    ellipsis_mask: int32
    new_axis_mask: int32
    shrink_axis_mask: int32
    offset: bool


class DynamicUpdateSliceOptions(Table):
    """Options of DYNAMIC_UPDATE_SLICE."""


class PadOptions(Table):
    """Options of PAD."""


class PadV2Options(Table):
    """Options of PADV2."""


class MirrorPadOptions(Table):
    """Options of MIRROR_PAD."""

    mode: MirrorPadMode


class TileOptions(Table):
    """Options of TILE."""


class BroadcastToOptions(Table):
    """Options of BROADCAST_TO."""


class FillOptions(Table):
    """Options of FILL."""


class RangeOptions(Table):
    """Options of RANGE."""


class ReverseV2Options(Table):
    """Options of REVERSE_V2."""


class ReverseSequenceOptions(Table):
    """Options of REVERSE_SEQUENCE."""

    seq_dim: int32
    batch_dim: int32


class SpaceToBatchNDOptions(Table):
    """Options of SPACE_TO_BATCH_ND."""


class BatchToSpaceNDOptions(Table):
    """Options of BATCH_TO_SPACE_ND."""


class SpaceToDepthOptions(Table):
    """Options of SPACE_TO_DEPTH."""

    block_size: int32


class DepthToSpaceOptions(Table):
    """Options of DEPTH_TO_SPACE."""

    block_size: int32


class ResizeBilinearOptions(Table):
    """Options of RESIZE_BILINEAR."""

    new_height: int32
    new_width: int32
    align_corners: bool
    half_pixel_centers: bool


class ResizeNearestNeighborOptions(Table):
    """Options of RESIZE_NEAREST_NEIGHBOR."""

    align_corners: bool
    half_pixel_centers: bool


class MatrixDiagOptions(Table):
    """Options of MATRIX_DIAG."""


class MatrixSetDiagOptions(Table):
    """Options of MATRIX_SET_DIAG."""
