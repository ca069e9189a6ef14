"""Operator names -> Op; families are imported when a model first names one of theirs."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar, TypeAlias

from litejit.model.schema import BUILTIN_NAMES
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
    "gather": "GATHER GATHER_ND SCATTER_ND EMBEDDING_LOOKUP ONE_HOT SPARSE_TO_DENSE",
    "segment": "SEGMENT_SUM UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX"
    " UNSORTED_SEGMENT_MIN",
    "create": "FILL RANGE ZEROS_LIKE MATRIX_DIAG MATRIX_SET_DIAG",
    "select": "WHERE TOPK_V2 UNIQUE BUCKETIZE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5",
    "control": "IF WHILE STABLEHLO_CASE STABLEHLO_COMPOSITE CALL_ONCE",
    "lstm": "LSTM UNIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_LSTM",
    "rnn": "RNN UNIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_RNN",
    "svdf": "SVDF",
    "fft": "RFFT2D",
    "random": "RANDOM_UNIFORM RANDOM_STANDARD_NORMAL MULTINOMIAL STABLEHLO_RNG_BIT_GENERATOR",
    "lookup": "DENSIFY EMBEDDING_LOOKUP_SPARSE HASHTABLE_LOOKUP LSH_PROJECTION SKIP_GRAM",
    "stablehlo": "STABLEHLO_GATHER STABLEHLO_SCATTER STABLEHLO_PAD DILATE",
    "reduce_window": "REDUCE_WINDOW STABLEHLO_REDUCE_WINDOW",
    "resource": "VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE HASHTABLE HASHTABLE_FIND"
    " HASHTABLE_IMPORT HASHTABLE_SIZE",
}  # module of this package -> the operators that it registers

CUSTOM_FAMILIES: dict[str, str] = {
    "custom.detection": "TFLite_Detection_PostProcess",
    "custom.audio": "AudioSpectrogram Mfcc",
    "custom.plain": "NumericVerify aeq.hadamard_rotation Sign Atan2 Table Roll"
    " BroadcastGradientArgs UnidirectionalSequenceGru HashTableV2 LookupTableFindV2"
    " LookupTableImportV2 LookupTableSizeV2",
    "custom.windows": "AvgPool3D MaxPool3D MaxPoolWithArgmax MaxUnpooling2D DenseImageWarp",
    "custom.random": "RandomUniform RandomUniformInt RandomStandardNormal Multinomial",
    "custom.tensor_list": "TensorListReserve TensorListFromTensor TensorListSetItem"
    " TensorListPushBack TensorListGetItem TensorListPopBack TensorListLength"
    " TensorListElementShape TensorListStack VariantZerosLike VariantAddN",
    "custom.attention": "odml.scaled_dot_product_attention odml.update_external_kv_cache",
    "custom.examples": "ParseExample ParseExampleV2",
    "fft": "IRFFT2D",
}  # the same for the custom operators that come with litejit

_MODULES = {
    name: module
    for families in (FAMILIES, CUSTOM_FAMILIES)
    for module, names in families.items()
    for name in names.split()
}


# LiteRT's reference kernels lack these operators from a version on (register_ref.cc)
BEYOND_REFERENCE: dict[str, int] = {
    **dict.fromkeys(
        ("CEIL", "ELU", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE",
         "ROUND", "SEGMENT_SUM", "STABLEHLO_AND", "STABLEHLO_CASE", "STABLEHLO_SHIFT_LEFT"), 1
    ),
    **dict.fromkeys(("COS", "DEPTH_TO_SPACE", "NEG", "RANGE", "SIN", "SQUEEZE"), 2),
    **{"ARG_MAX": 3, "ARG_MIN": 3, "GELU": 3, "TILE": 3, "ABS": 4, "SOFTMAX": 4},
    **{"UNIDIRECTIONAL_SEQUENCE_LSTM": 4, "STRIDED_SLICE": 5, "DEPTHWISE_CONV_2D": 7},
    **{"MUL": 8, "TRANSPOSE": 9},
}  # fmt: skip

Operator: TypeAlias = "str | int"
_CODES = frozenset(BUILTIN_NAMES)
_ANY_VERSION = range(1, 1 << 31)
_DECORATED: dict[str, Op] = {}  # custom operators that belong to the whole process


class OpResolver:
    """Finds the Op of an operator by name and version; subclasses say where.

    With `compiled` False every operator runs in NumPy.
    """

    compiled: ClassVar[bool] = True
    has_additions: bool = True  # may a builtin operator's meaning be another than litejit's?

    def find_builtin(self, name: str, version: int) -> Op | None:
        """The Op of a builtin operator, or None where this resolver has none."""
        raise NotImplementedError

    def find_custom(self, name: str, version: int) -> Op | None:
        """The Op of a custom operator, or None where this resolver has none."""
        raise NotImplementedError

    def versions(self, name: str) -> range:
        """The versions of a builtin operator that are known; empty for an unknown one."""
        raise NotImplementedError

    def is_beyond_reference(self, name: str, version: int) -> bool:
        """True for a builtin operator that LiteRT has, but not among its reference kernels."""
        return False

    def find_op(self, operator: Operator, version: int = 1) -> Op | None:
        """The Op of an operator by its builtin name or number, else by its custom name."""
        if isinstance(operator, int):
            known = 0 <= operator < len(BUILTIN_NAMES)
            return self.find_builtin(BUILTIN_NAMES[operator], version) if known else None
        if operator in _CODES:
            return self.find_builtin(operator, version)
        return self.find_custom(operator, version)


class MutableOpResolver(OpResolver):
    """Holds the operators that were added to it, and no others.

    A registration is an object (or a class) with the four functions of `litejit.CustomOp`, an
    Op, what `litejit.native.registration` returns, or None for litejit's own operator. A later
    registration of the same operator and version replaces an earlier one; resolvers that were
    chained are asked last.
    """

    def __init__(self) -> None:
        self._builtins: dict[str, list[tuple[range, Op]]] = {}
        self._customs: dict[str, list[tuple[range, Op]]] = {}
        self._chained: list[OpResolver] = []

    def add_builtin(
        self,
        operator: Operator,
        registration: Any = None,
        min_version: int = 1,
        max_version: int | None = None,
    ) -> None:
        """Register a builtin operator, by name or number, for a range of versions.

        Without `max_version` the range is `min_version` alone, or, for litejit's own
        operators, all versions that it has.

        Raises ValueError where there is no such operator.
        """
        name = _builtin_name(operator)
        own = _load(name)
        if registration is None:
            if own is None:
                raise ValueError(f"litejit has no operator {name}: pass a registration")
            default = own[1] if max_version is None and min_version == 1 else None
            op, versions = own[0], default or range(min_version, (max_version or min_version) + 1)
        else:
            op, versions = _as_op(name, registration), _range(min_version, max_version)
        self._builtins.setdefault(name, []).append((versions, op))

    def add_custom(
        self,
        name: str,
        registration: Any,
        min_version: int = 1,
        max_version: int | None = None,
    ) -> None:
        """Register a custom operator by its name; without `max_version` for every version."""
        versions = _ANY_VERSION if max_version is None else _range(min_version, max_version)
        self._customs.setdefault(name, []).append((versions, _as_op(name, registration)))

    def add_op(
        self, operator: Operator, registration: Any = None, min_version: int = 1,
        max_version: int | None = None,
    ) -> None:  # fmt: skip
        """Register a builtin operator where the name (or number) is one, else a custom one."""
        if isinstance(operator, int) or operator in _CODES:
            self.add_builtin(operator, registration, min_version, max_version)
        else:
            self.add_custom(operator, registration, min_version, max_version)

    def add_all(self, other: MutableOpResolver) -> None:
        """Register everything that another resolver holds; its registrations replace these."""
        for mine, theirs in (
            (self._builtins, other._builtins),
            (self._customs, other._customs),
        ):
            for name, rows in theirs.items():
                mine.setdefault(name, []).extend(rows)
        if not isinstance(other, BuiltinOpResolver):
            self._chained += other._chained
        elif not isinstance(self, BuiltinOpResolver):
            self._chained.append(other)

    def chain(self, other: OpResolver) -> None:
        """Ask another resolver for what is not registered here."""
        self._chained.append(other)

    def find_builtin(self, name: str, version: int) -> Op | None:
        """The Op that was registered last for this version."""
        found = _last(self._builtins.get(name, ()), version)
        others = (other.find_builtin(name, version) for other in self._chained)
        return found or next((op for op in others if op is not None), None)

    def find_custom(self, name: str, version: int) -> Op | None:
        """The Op that was registered last for this version."""
        found = _last(self._customs.get(name, ()), version)
        others = (other.find_custom(name, version) for other in self._chained)
        return found or next((op for op in others if op is not None), None)

    def versions(self, name: str) -> range:
        """From the smallest to the largest version that was registered."""
        ranges = [rows for rows, _ in self._builtins.get(name, ())]
        ranges += [known for other in self._chained if (known := other.versions(name))]
        if not ranges:
            return range(0)
        return range(min(r.start for r in ranges), max(r.stop for r in ranges))


class BuiltinOpResolver(MutableOpResolver):
    """Every operator that litejit has, and those added: an added one replaces litejit's own."""

    @property
    def has_additions(self) -> bool:  # type: ignore[override]
        """True where a builtin operator may have been replaced."""
        return bool(self._builtins or self._chained) or type(self) is not BuiltinOpResolver

    def find_builtin(self, name: str, version: int) -> Op | None:
        """The Op of a builtin operator; its family is imported now."""
        added = super().find_builtin(name, version) if self._builtins or self._chained else None
        if added is not None:
            return added
        found = _load(name)
        return found[0] if found is not None and version in found[1] else None

    def find_custom(self, name: str, version: int) -> Op | None:
        """The Op of a custom operator: added, decorated, or one that comes with litejit."""
        op = super().find_custom(name, version) or _DECORATED.get(name)
        if op is not None or name in _CODES:
            return op
        found = _load(name)
        return found[0] if found is not None else None

    def is_beyond_reference(self, name: str, version: int) -> bool:
        """As LiteRT registers its reference kernels."""
        return BEYOND_REFERENCE.get(name, version + 1) <= version

    def versions(self, name: str) -> range:
        """The versions of a builtin operator that are known."""
        added, found = super().versions(name), _load(name)
        own = found[1] if found is not None else range(0)
        if added and own:
            return range(min(added.start, own.start), max(added.stop, own.stop))
        return added or own


class BuiltinRefOpResolver(BuiltinOpResolver):
    """The operators of BuiltinOpResolver, all run in NumPy."""

    compiled: ClassVar[bool] = False


def add_to_process(name: str, registration: Any) -> None:
    """Make every BuiltinOpResolver of this process find a custom operator."""
    _DECORATED[name] = _as_op(name, registration)


def _as_op(name: str, registration: Any) -> Op:
    if isinstance(registration, Op):
        return registration
    from litejit.ops.custom.adapter import RegisteredOp

    return RegisteredOp(name, registration)


def _builtin_name(operator: Operator) -> str:
    if isinstance(operator, int) and 0 <= operator < len(BUILTIN_NAMES):
        return BUILTIN_NAMES[operator]
    if isinstance(operator, str) and operator in _CODES:
        return operator
    raise ValueError(f"no builtin operator is called {operator!r}; use add_custom for others")


def _range(low: int, high: int | None) -> range:
    return range(low, (low if high is None else high) + 1)


def _last(rows: Any, version: int) -> Op | None:
    return next((op for versions, op in reversed(rows) if version in versions), None)


def _load(name: str) -> tuple[Op, range] | None:
    module = _MODULES.get(name)
    if module is None:
        return None
    import_module(f"litejit.ops.{module}")
    return registered(name)
