"""Options of the StableHLO operators, in the second union. Fields in schema order."""

from __future__ import annotations

from litejit.model.table import ByteEnum, Table, WordEnum, int8, int32, int64


class Precision(WordEnum):
    """A hint for products."""

    DEFAULT = 0
    HIGH = 1
    HIGHEST = 2


class ComparisonDirection(WordEnum):
    """What STABLEHLO_COMPARE asks."""

    EQ = 0
    NE = 1
    GE = 2
    GT = 3
    LE = 4
    LT = 5


class ComparisonType(WordEnum):
    """How STABLEHLO_COMPARE reads its operands."""

    NOTYPE = 0
    FLOAT = 1
    FLOAT_TOTAL_ORDER = 2
    SIGNED = 3
    UNSIGNED = 4


class RngAlgorithm(ByteEnum):
    """How STABLEHLO_RNG_BIT_GENERATOR makes its bits."""

    DEFAULT = 0
    PHILOX = 1
    THREEFRY = 2


class StablehloConcatenateOptions(Table):
    """Options of STABLEHLO_CONCATENATE."""

    dimension: int64


class StablehloBroadcastInDimOptions(Table):
    """Options of STABLEHLO_BROADCAST_IN_DIM."""

    broadcast_dimensions: tuple[int64, ...]


class StablehloSliceOptions(Table):
    """Options of STABLEHLO_SLICE."""

    start_indices: tuple[int64, ...]
    limit_indices: tuple[int64, ...]
    strides: tuple[int64, ...]


class StablehloConvolutionOptions(Table):
    """Options of STABLEHLO_CONVOLUTION."""

    window_strides: tuple[int64, ...]
    padding: tuple[int64, ...]
    lhs_dilation: tuple[int64, ...]
    rhs_dilation: tuple[int64, ...]
    window_reversal: tuple[bool, ...]
    input_batch_dimension: int64
    input_feature_dimension: int64
    input_spatial_dimensions: tuple[int64, ...]
    kernel_input_feature_dimension: int64
    kernel_output_feature_dimension: int64
    kernel_spatial_dimensions: tuple[int64, ...]
    output_batch_dimension: int64
    output_feature_dimension: int64
    output_spatial_dimensions: tuple[int64, ...]
    feature_group_count: int64
    batch_group_count: int64
    precision_config: tuple[Precision, ...]


class StablehloCustomCallOptions(Table):
    """Options of STABLEHLO_CUSTOM_CALL."""

    call_target_name: str
    has_side_effect: bool
    backend_config: str
    api_version: int32
    called_computations: tuple[int32, ...]
    custom_attributes: bytes


class StablehloReduceOptions(Table):
    """Options of STABLEHLO_REDUCE."""

    dimensions: tuple[int64, ...]
    body_subgraph_index: int32


class StablehloScatterOptions(Table):
    """Options of STABLEHLO_SCATTER."""

    indices_are_sorted: bool
    update_window_dims: tuple[int64, ...]
    inserted_window_dims: tuple[int64, ...]
    scatter_dims_to_operand_dims: tuple[int64, ...]
    index_vector_dim: int64
    unique_indices: bool
    update_computation_subgraph_index: int32


class StablehloCompareOptions(Table):
    """Options of STABLEHLO_COMPARE."""

    comparison_direction: ComparisonDirection
    compare_type: ComparisonType


class StablehloDynamicSliceOptions(Table):
    """Options of STABLEHLO_DYNAMIC_SLICE."""

    slice_sizes: tuple[int64, ...]


class StablehloPadOptions(Table):
    """Options of STABLEHLO_PAD."""

    edge_padding_low: tuple[int64, ...]
    edge_padding_high: tuple[int64, ...]
    interior_padding: tuple[int64, ...]


class StablehloIotaOptions(Table):
    """Options of STABLEHLO_IOTA."""

    iota_dimension: int64


class StablehloDotGeneralOptions(Table):
    """Options of STABLEHLO_DOT_GENERAL."""

    lhs_batching_dimensions: tuple[int64, ...]
    rhs_batching_dimensions: tuple[int64, ...]
    lhs_contracting_dimensions: tuple[int64, ...]
    rhs_contracting_dimensions: tuple[int64, ...]
    precision_config: tuple[Precision, ...]


class StablehloReduceWindowOptions(Table):
    """Options of STABLEHLO_REDUCE_WINDOW."""

    window_dimensions: tuple[int64, ...]
    window_strides: tuple[int64, ...]
    base_dilations: tuple[int64, ...]
    window_dilations: tuple[int64, ...]
    padding: tuple[int64, ...]
    body_subgraph_index: int32


class StablehloSortOptions(Table):
    """Options of STABLEHLO_SORT."""

    dimension: int64
    is_stable: bool
    comparator_subgraph_index: int32


class StablehloWhileOptions(Table):
    """Options of STABLEHLO_WHILE."""

    cond_subgraph_index: int32
    body_subgraph_index: int32


class StablehloGatherOptions(Table):
    """Options of STABLEHLO_GATHER."""

    offset_dims: tuple[int64, ...]
    collapsed_slice_dims: tuple[int64, ...]
    start_index_map: tuple[int64, ...]
    index_vector_dim: int64
    slice_sizes: tuple[int64, ...]
    indices_are_sorted: bool


class StablehloTransposeOptions(Table):
    """Options of STABLEHLO_TRANSPOSE."""

    permutation: tuple[int64, ...]


class StablehloRngBitGeneratorOptions(Table):
    """Options of STABLEHLO_RNG_BIT_GENERATOR."""

    algorithm: RngAlgorithm


class StableHLOCompositeOptions(Table):
    """Options of STABLEHLO_COMPOSITE."""

    name: str
    decomposition_subgraph_index: int32
    composite_attributes: bytes
    composite_attributes_format: int8
    version: int32


class StablehloShiftLeftOptions(Table):
    """Options of STABLEHLO_SHIFT_LEFT."""


class StablehloCaseOptions(Table):
    """Options of STABLEHLO_CASE."""

    branch_subgraph_indices: tuple[int32, ...]
