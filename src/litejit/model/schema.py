"""The tables of a .tflite file (schema version 3), in schema order: slot numbers are positions.

Source: LiteRT tflite/converter/schema/schema.fbs. Options of operators are in `options`.
A union takes two slots, its type and its value. Deprecated fields keep their slots.
"""

from __future__ import annotations

from litejit.model.table import (
    ByteEnum,
    Offset,
    Table,
    float32,
    int8,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)

__all__ = ["float32", "int64", "uint16"]  # names that annotations spell

VERSION = 3
IDENTIFIER = b"TFL3"


class ModelTable(Table):
    """The root of the file."""

    version: uint32
    operator_codes: Offset
    subgraphs: Offset
    description: str
    buffers: Offset
    metadata_buffer: tuple[int32, ...]
    metadata: Offset
    signature_defs: Offset
    external_buffer_groups: Offset
    external_buffers: Offset


class OperatorCodeTable(Table):
    """Which operator; the code is the larger of the two fields."""

    deprecated_builtin_code: int8
    custom_code: Offset
    version: int32 = 1
    builtin_code: int32


class SubGraphTable(Table):
    """One graph; number 0 is the main one."""

    tensors: Offset
    inputs: tuple[int32, ...]
    outputs: tuple[int32, ...]
    operators: Offset
    name: str
    debug_metadata_index: int32 = -1


class TensorTable(Table):
    """One tensor of a subgraph."""

    shape: tuple[int32, ...]
    type: int8
    buffer: uint32
    name: str
    quantization: Offset
    is_variable: bool
    sparsity: Offset
    shape_signature: tuple[int32, ...]
    has_rank: bool
    variant_tensors: Offset
    external_buffer: uint32


class QuantizationTable(Table):
    """Scales, zero points and their details."""

    min: tuple[float32, ...]
    max: tuple[float32, ...]
    scale: tuple[float32, ...]
    zero_point: tuple[int64, ...]
    details_type: uint8
    details: Offset
    quantized_dimension: int32


class DetailsType(ByteEnum):
    """The union of quantization details."""

    NONE = 0
    CUSTOM = 1
    BLOCKWISE = 2
    MULTI_AXIS = 3


class CustomQuantizationTable(Table):
    """An opaque description of a quantization."""

    custom: bytes


class BlockwiseQuantizationTable(Table):
    """Scales and zero points that lie in other tensors, one per block."""

    scales: int32
    zero_points: int32
    block_size: int32


class MultiAxisQuantizationTable(Table):
    """As blockwise, along several axes."""

    scales: int32
    zero_points: int32
    block_size: int32
    quantized_dimensions: tuple[int32, ...]


class SparsityTable(Table):
    """How the stored values of a sparse tensor map to its shape."""

    traversal_order: tuple[int32, ...]
    block_map: tuple[int32, ...]
    dim_metadata: Offset


class DimensionMetadataTable(Table):
    """One dimension of a sparse tensor; format 0 is dense, 1 is compressed sparse rows."""

    format: int8
    dense_size: int32
    array_segments_type: uint8
    array_segments: Offset
    array_indices_type: uint8
    array_indices: Offset


class IndexVectorTable(Table):
    """Int32Vector, Uint16Vector and Uint8Vector: the union's number gives the element type."""

    values: Offset


class VariantSubTypeTable(Table):
    """What a VARIANT tensor holds."""

    shape: tuple[int32, ...]
    type: int8
    has_rank: bool


class OperatorTable(Table):
    """One operator of a subgraph."""

    opcode_index: uint32
    inputs: tuple[int32, ...]
    outputs: tuple[int32, ...]
    builtin_options_type: uint8
    builtin_options: Offset
    custom_options: bytes
    custom_options_format: int8
    mutating_variable_inputs: tuple[bool, ...]
    intermediates: tuple[int32, ...]
    large_custom_options_offset: uint64
    large_custom_options_size: uint64
    builtin_options_2_type: uint8
    builtin_options_2: Offset
    debug_metadata_index: int32 = -1


class BufferTable(Table):
    """Bytes of a constant; `offset` > 1 places them in the file, behind the FlatBuffer."""

    data: Offset
    offset: uint64
    size: uint64


class ExternalBufferGroupTable(Table):
    """A file that holds external buffers."""

    name: str


class ExternalBufferTable(Table):
    """A slice of an external file."""

    id: uint32
    group: uint32
    offset: uint64
    length: uint64
    packing: str


class MetadataTable(Table):
    """A named buffer."""

    name: str
    buffer: uint32


class TensorMapTable(Table):
    """A signature's name for a tensor."""

    name: Offset
    tensor_index: uint32


class SignatureTable(Table):
    """A callable subgraph with named inputs and outputs."""

    inputs: Offset
    outputs: Offset
    signature_key: Offset
    deprecated_tag: str
    subgraph_index: uint32


_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT
LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG
PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE
EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD
REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE
RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D
IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE
RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE
STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE
STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT
STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA
STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
BUILTIN_NAMES: tuple[str, ...] = tuple(_NAMES.split())
CUSTOM = BUILTIN_NAMES.index("CUSTOM")
PLACEHOLDER = BUILTIN_NAMES.index("PLACEHOLDER_FOR_GREATER_OP_CODES")
