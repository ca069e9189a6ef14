"""Operator names -> Op; families are imported when a model first names one of theirs."""

from __future__ import annotations

from importlib import import_module

from litejit.ops.base import Op, registered

FAMILIES: dict[str, str] = {
    "conv": "CONV_2D DEPTHWISE_CONV_2D TRANSPOSE_CONV",
    "conv3d": "CONV_3D CONV_3D_TRANSPOSE",
    "matmul": "FULLY_CONNECTED BATCH_MATMUL",
    "pool": "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D",
    "arithmetic": "ADD SUB MUL DIV MAXIMUM MINIMUM SQUARED_DIFFERENCE POW FLOOR_DIV FLOOR_MOD"
    " ATAN2",
    "bitwise": "ADD_N BITWISE_XOR RIGHT_SHIFT LOGICAL_AND LOGICAL_OR STABLEHLO_ADD"
    " STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_AND STABLEHLO_SHIFT_LEFT",
    "compare": "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL SELECT SELECT_V2",
    "unary": "RSQRT SQRT NEG ABS EXP LOG SIN COS CEIL FLOOR ROUND SIGN SQUARE LOGICAL_NOT"
    " COMPLEX_ABS REAL IMAG",
    "activation": "LOGISTIC TANH HARD_SWISH RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 LEAKY_RELU PRELU"
    " ELU GELU",
    "softmax": "SOFTMAX LOG_SOFTMAX L2_NORMALIZATION LOCAL_RESPONSE_NORMALIZATION",
    "reduce": "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL ARG_MAX ARG_MIN"
    " CUMSUM",
    "quantize": "QUANTIZE DEQUANTIZE CAST FAKE_QUANT BITCAST",
    "resize": "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
    "shape": "RESHAPE SQUEEZE EXPAND_DIMS SHAPE RANK BROADCAST_ARGS",
    "movement": "TRANSPOSE CONCATENATION PACK TILE BROADCAST_TO REVERSE_V2 REVERSE_SEQUENCE",
    "slicing": "SLICE STRIDED_SLICE SPLIT SPLIT_V UNPACK DYNAMIC_UPDATE_SLICE",
    "padding": "PAD PADV2 MIRROR_PAD",
    "spatial": "DEPTH_TO_SPACE SPACE_TO_DEPTH SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND",
    "gather": "GATHER GATHER_ND SCATTER_ND EMBEDDING_LOOKUP ONE_HOT SPARSE_TO_DENSE SEGMENT_SUM"
    " UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN",
    "create": "FILL RANGE ZEROS_LIKE MATRIX_DIAG MATRIX_SET_DIAG",
    "select": "WHERE TOPK_V2 UNIQUE BUCKETIZE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5",
    "control": "IF WHILE STABLEHLO_CASE STABLEHLO_COMPOSITE CALL_ONCE",
    "lstm": "LSTM UNIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_LSTM",
    "rnn": "RNN UNIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_RNN",
    "svdf": "SVDF",
    "resource": "VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE HASHTABLE HASHTABLE_FIND"
    " HASHTABLE_IMPORT HASHTABLE_SIZE",
}  # module of this package -> the operators that it registers

_MODULES = {name: module for module, names in FAMILIES.items() for name in names.split()}


class OpResolver:
    """Finds the Op of an operator by name and version."""

    def find_builtin(self, name: str, version: int) -> Op | None:
        """The Op of a builtin operator, or None where this resolver has none."""
        raise NotImplementedError

    def find_custom(self, name: str, version: int) -> Op | None:
        """The Op of a custom operator, or None where this resolver has none."""
        raise NotImplementedError

    def versions(self, name: str) -> range:
        """The versions of a builtin operator that are known; empty for an unknown one."""
        raise NotImplementedError


class BuiltinOpResolver(OpResolver):
    """Every operator that litejit has."""

    def find_builtin(self, name: str, version: int) -> Op | None:
        """The Op of a builtin operator; its family is imported now."""
        found = _load(name)
        return found[0] if found is not None and version in found[1] else None

    def find_custom(self, name: str, version: int) -> Op | None:
        """The Op of a custom operator that comes with litejit."""
        return None

    def versions(self, name: str) -> range:
        """The versions of a builtin operator that are known."""
        found = _load(name)
        return found[1] if found is not None else range(0)


def _load(name: str) -> tuple[Op, range] | None:
    module = _MODULES.get(name)
    if module is None:
        return None
    import_module(f"litejit.ops.{module}")
    return registered(name)
