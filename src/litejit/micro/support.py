"""What TFLM's Python resolver can run: its operators and the types each of them takes. Data only.

A row of `BUILTINS` or `CUSTOMS` says which element types an operator's Prepare accepts and which
its Invoke accepts. Alternatives are separated by `|`, operands by blanks, types of one operand by
commas; `*` is any type, operands behind the last one named are not looked at, and results stand
behind `->`. So `"i8 i8,i4 i32 | f32 f32 -> f32"` is: int8 with an int8 or int4 second operand and
an int32 third one, or float32 throughout.

Sources: python/tflite_micro/python_ops_resolver.cc, tensorflow/lite/micro/kernels and
signal/micro/kernels of TensorFlow Lite for Microcontrollers.
"""

from __future__ import annotations

from typing import TypeAlias

from litejit.record import Record

TypeNames: TypeAlias = "tuple[str, ...]"

_SHORT = {
    "f32": "FLOAT32",
    "i4": "INT4",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "u8": "UINT8",
    "u32": "UINT32",
    "u64": "UINT64",
    "b": "BOOL",
    "res": "RESOURCE",
}
_ANY = "*"
_FLOAT_ONLY = ("f32 -> f32", "")
_FLOAT_WHEN_RUN = ("", "f32 -> f32")
_BOOL_UNARY = ("", "b -> b")
_BOOL_BINARY = ("", "b b -> b")
_SAME = "f32 f32 -> f32 | i8 i8 -> i8 | i16 i16 -> i16"
_SAME_OR_I32 = f"{_SAME} | i32 i32 -> i32"
_UNARY_8_16 = "f32 -> f32 | i8 -> i8 | i16 -> i16"
_COMPARE = "f32 f32 | i32 i32 | i64 i64 | i8 i8"
_MIN_MAX = f"{_SAME_OR_I32} | i64 i64 -> i64"
_CONV = ("f32 f32 f32 | i8 i8,i4 i32 | i16 i8 i32,i64", "")
_RESOURCE_IDS = "res,i32"

# name: (types that Prepare accepts, types that Invoke accepts); "" accepts all
BUILTINS: dict[str, tuple[str, str]] = {
    "ABS": ("", _UNARY_8_16),
    "ADD": ("", _SAME_OR_I32),
    "ADD_N": ("f32 -> f32 | i8 -> i8", ""),
    "ARG_MAX": ("", "f32,i8 i32 -> i32"),
    "ARG_MIN": ("", "f32,i8 i32 -> i32"),
    "ASSIGN_VARIABLE": (f"{_RESOURCE_IDS} *", ""),
    "AVERAGE_POOL_2D": (_UNARY_8_16, ""),
    "BATCH_MATMUL": (_SAME, ""),
    "BATCH_TO_SPACE_ND": ("", "f32 -> f32 | i8 -> i8"),
    "BROADCAST_ARGS": ("i32 i32 -> i32 | i64 i64 -> i64", ""),
    "BROADCAST_TO": ("* i32,i64", ""),
    "CALL_ONCE": ("", ""),
    "CAST": ("", "f32,i8,i16,i32,u32,b -> f32,i8,i16,i32,u32,b"),
    "CEIL": _FLOAT_ONLY,
    "CONCATENATION": (
        "f32 -> f32 | i8 -> i8 | i16 -> i16 | i32 -> i32 | i64 -> i64 | b -> b",
        "",
    ),
    "CONV_2D": _CONV,
    "COS": _FLOAT_WHEN_RUN,
    "CUMSUM": ("f32 i32 -> f32 | i8 i32 -> i8", ""),
    "DEPTH_TO_SPACE": ("f32 -> f32 | i8 -> i8", ""),
    "DEPTHWISE_CONV_2D": ("", _CONV[0]),
    "DEQUANTIZE": ("i8,i16,u8 -> f32", ""),
    "DIV": ("", "f32 f32 -> f32 | i32 i32 -> i32 | i8 i8 -> i8"),
    "DYNAMIC_UPDATE_SLICE": ("* * i32,i64", "f32,i8,i16,i32"),
    "ELU": ("", "f32 -> f32 | i8 -> i8"),
    "EMBEDDING_LOOKUP": ("i32 f32 -> f32 | i32 i8 -> f32,i8", ""),
    "EQUAL": ("", f"{_COMPARE} | b b"),
    "EXP": _FLOAT_ONLY,
    "EXPAND_DIMS": ("* i32", "f32,i8,i16"),
    "FILL": ("i8,i16,i32,i64", "* f32,i8,i32"),
    "FLOOR": ("", "f32 -> f32"),
    "FLOOR_DIV": ("", "f32 f32 -> f32"),
    "FLOOR_MOD": ("", "f32 f32 -> f32"),
    "FULLY_CONNECTED": ("f32,i8,i16,u8", _CONV[0]),
    "GATHER": ("f32,i8 i32", ""),
    "GATHER_ND": ("f32,i8 i32", ""),
    "GREATER": ("", f"{_COMPARE} | i16 i16"),
    "GREATER_EQUAL": ("", _COMPARE),
    "HARD_SWISH": ("", "f32 -> f32 | i8 -> i8"),
    "IF": ("b", ""),
    "L2_NORMALIZATION": ("f32 -> f32 | i8 -> i8", ""),
    "L2_POOL_2D": _FLOAT_ONLY,
    "LEAKY_RELU": ("", _UNARY_8_16),
    "LESS": ("", _COMPARE),
    "LESS_EQUAL": ("", _COMPARE),
    "LOG": _FLOAT_WHEN_RUN,
    "LOG_SOFTMAX": ("", "f32 -> f32 | i8 -> i8"),
    "LOGICAL_AND": _BOOL_BINARY,
    "LOGICAL_NOT": _BOOL_UNARY,
    "LOGICAL_OR": _BOOL_BINARY,
    "LOGISTIC": ("", _UNARY_8_16),
    "MAX_POOL_2D": (_UNARY_8_16, ""),
    "MAXIMUM": ("", _MIN_MAX),
    "MEAN": ("* i32", "f32,i8,i16"),
    "MINIMUM": ("", _MIN_MAX),
    "MIRROR_PAD": ("", "f32,i8 i32,i64"),
    "MUL": ("", _SAME_OR_I32),
    "NEG": ("", "f32 -> f32"),
    "NOT_EQUAL": ("", f"{_COMPARE} | b b"),
    "PACK": ("", "f32,i8,i16,i32,i64"),
    "PAD": ("", "f32,i8,i16,i32"),
    "PADV2": ("", "f32,i8,i16,i32"),
    "PRELU": ("", "f32 f32 -> f32 | i8 i8 -> i8 | i16 i8 -> i16"),
    "QUANTIZE": (
        "f32,i32,i16,i8,u8 -> i8,i16,i32,u8",
        "f32 -> i8,i16 | i32 -> i8,i16 | i16 -> i8,i16,i32 | i8 -> i8,u8,i16,i32 | u8 -> i8",
    ),
    "READ_VARIABLE": (_RESOURCE_IDS, ""),
    "REDUCE_ALL": ("b i32", ""),
    "REDUCE_MAX": ("* i32", "f32,i8"),
    "REDUCE_MIN": ("* i32", "f32,i8"),
    "RELU": ("", _UNARY_8_16),
    "RELU6": ("", _UNARY_8_16),
    "RESHAPE": ("", ""),
    "RESIZE_BILINEAR": ("* i32", "f32 * -> f32 | i8 * -> i8"),
    "RESIZE_NEAREST_NEIGHBOR": ("* i32", "f32 * -> f32 | i8 * -> i8 | i16 * -> i16"),
    "REVERSE_V2": ("f32,i32,u8,i8,i16,i64,b i32", ""),
    "ROUND": _FLOAT_ONLY,
    "RSQRT": ("", _UNARY_8_16),
    "SELECT_V2": ("b * *", "* f32,i8,i16"),
    "SHAPE": ("", "* -> i32"),
    "SIN": _FLOAT_WHEN_RUN,
    "SLICE": ("* i32,i64 i32,i64", "f32,i32,i8,i16,b"),
    "SOFTMAX": ("f32 -> f32 | i8 -> i8,i16 | i16 -> i16", ""),
    "SPACE_TO_BATCH_ND": ("", "f32 -> f32 | i8 -> i8"),
    "SPACE_TO_DEPTH": ("f32 -> f32 | i8 -> i8", ""),
    "SPLIT": ("", "* f32,i8,i16,i32"),
    "SPLIT_V": ("", "f32,i8,i16,i32"),
    "SQRT": _FLOAT_WHEN_RUN,
    "SQUARE": _FLOAT_WHEN_RUN,
    "SQUARED_DIFFERENCE": ("", _SAME_OR_I32),
    "SQUEEZE": ("", ""),
    "STRIDED_SLICE": ("", "f32,i8,i16,i32,b"),
    "SUB": ("", _SAME_OR_I32),
    "SUM": ("* i32", "f32,i8,i16"),
    "SVDF": ("f32 f32 f32 f32 f32 -> f32 | i8 i8 i16 i32 i16 -> i8 | i8 i8 i8 i32 i8 -> i8", ""),
    "TANH": ("", _UNARY_8_16),
    "TRANSPOSE": ("", "f32,i8,i16"),
    "TRANSPOSE_CONV": ("* f32 f32 -> f32 | * i8 i8 -> i8 | * i8 i16 -> i16", ""),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("", "f32 f32 f32 | i8 i8 i8 | i16 i8 i8"),
    "UNPACK": ("", "f32,i8,i16,i32"),
    "VAR_HANDLE": ("", ""),
    "WHILE": ("", ""),
    "ZEROS_LIKE": ("", "f32,i8,i32,i64"),
}

CUSTOMS: dict[str, tuple[str, str]] = {
    "CIRCULAR_BUFFER": ("i8 -> i8", ""),
    "TFLM_DECODE": ("", ""),
    "TFLite_Detection_PostProcess": ("", "f32 f32 f32"),
    "BasicClassifier": ("i32 i32 i32 -> b i32", ""),
    "SignalDelay": ("i16 -> i16", ""),
    "SignalEnergy": ("i16 -> u32", ""),
    "SignalFftAutoScale": ("i16 -> i16 i32", ""),
    "SignalFilterBank": ("u32 i16 i16 i16 i16 i16 -> u64", ""),
    "SignalFilterBankLog": ("u32 -> i16", ""),
    "SignalFilterBankSpectralSubtraction": ("u32 -> u32 u32", ""),
    "SignalFilterBankSquareRoot": ("u64 i32 -> u32", ""),
    "SignalFramer": ("i16 -> i16 b", ""),
    "SignalIrfft": ("i16 -> i16 | i32 -> i32 | f32 -> f32", ""),
    "SignalOverlapAdd": ("i16 -> i16 | f32 -> f32", ""),
    "SignalPCAN": ("u32 u32 i16 -> u32", ""),
    "SignalRfft": ("i16 -> i16 | i32 -> i32 | f32 -> f32", ""),
    "SignalStacker": ("i16 -> i16 b", ""),
    "SignalWindow": ("i16 i16 -> i16", ""),
}


class Alternative(Record):
    """Types that go together: allowed names for each leading operand and result; () is any."""

    inputs: tuple[TypeNames, ...]
    outputs: tuple[TypeNames, ...]


def is_supported(name: str, *, custom: bool = False) -> bool:
    """True where TFLM's Python resolver has the operator of this schema name or custom code."""
    return name in (CUSTOMS if custom else BUILTINS)


def refuses_in_runs(name: str, *, custom: bool = False) -> bool:
    """True where there are types that an operator's Prepare takes and its Invoke does not."""
    return bool((CUSTOMS if custom else BUILTINS)[name][1])


def alternatives(rule: str) -> tuple[Alternative, ...]:
    """Read a rule of the tables; () for a rule that accepts everything."""
    return tuple(_alternative(text) for text in rule.split("|") if text.strip())


def _alternative(text: str) -> Alternative:
    inputs, _, outputs = text.partition("->")
    return Alternative(_operands(inputs), _operands(outputs))


def _operands(text: str) -> tuple[TypeNames, ...]:
    return tuple(
        () if word == _ANY else tuple(_SHORT[short] for short in word.split(","))
        for word in text.split()
    )


def accepts(rule: str, inputs: tuple[str | None, ...], outputs: tuple[str | None, ...]) -> bool:
    """True where the rule has an alternative for these type names (None: operand is absent)."""
    found = alternatives(rule)
    return not found or any(
        _fit(one.inputs, inputs) and _fit(one.outputs, outputs) for one in found
    )


def _fit(allowed: tuple[TypeNames, ...], given: tuple[str | None, ...]) -> bool:
    pairs = zip(allowed, given, strict=False)
    return all(not names or name is None or name in names for names, name in pairs)


def refusing_stage(
    name: str,
    inputs: tuple[str | None, ...],
    outputs: tuple[str | None, ...],
    *,
    custom: bool = False,
) -> str | None:
    """Where TFLM refuses these types: "prepare", "invoke", or None where it takes them.

    Raises KeyError for an operator that TFLM does not have.
    """
    prepare, invoke = (CUSTOMS if custom else BUILTINS)[name]
    if not accepts(prepare, inputs, outputs):
        return "prepare"
    return None if accepts(invoke, inputs, outputs) else "invoke"
