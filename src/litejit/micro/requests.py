"""What each of TFLM's reference kernels asks of the arena: options, Init, Prepare.

Rows of `ROWS` are (size/alignment of the parsed options, persistent bytes of Init, what Prepare
takes in order); one value stands for all targets, two for all and GCC's short enums, four for
wheel, host64, cortex-m and cortex-m-short-enums. Prepare's words are those of
`View.temporaries`. What depends on more than that is a function of `builtin_requests` or
`signal_requests`.
Optimised kernels (CMSIS-NN, Xtensa, …) ask for other sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from litejit.errors import PrepareError
from litejit.micro.operands import View
from litejit.micro.structs import Target

Row: TypeAlias = "tuple[str, str, str]"
_NO_OPTIONS, _NOTHING = "", ""


def _all(names: str, row: Row) -> dict[str, Row]:
    return dict.fromkeys(names.split(), row)


ROWS: dict[str, Row] = {
    **_all("SIN COS LOG SQRT SQUARE EXP CEIL ROUND", (_NO_OPTIONS, _NOTHING, "i0 o0")),
    **_all("LOGICAL_NOT ZEROS_LIKE LOG_SOFTMAX", (_NO_OPTIONS, _NOTHING, "i0 o0")),
    **_all("BATCH_TO_SPACE_ND", (_NO_OPTIONS, _NOTHING, "i0 o0")),
    **_all("FLOOR NEG MAXIMUM MINIMUM LOGICAL_AND LOGICAL_OR", (_NO_OPTIONS, _NOTHING, "")),
    **_all("FLOOR_DIV FLOOR_MOD EXPAND_DIMS FILL", (_NO_OPTIONS, _NOTHING, "i0 i1 o0")),
    **_all("REVERSE_V2 BROADCAST_TO BROADCAST_ARGS", (_NO_OPTIONS, _NOTHING, "i0 i1 o0")),
    **_all("TRANSPOSE", (_NO_OPTIONS, _NOTHING, "i0 i1 o0")),
    **_all("EQUAL NOT_EQUAL GREATER GREATER_EQUAL", (_NO_OPTIONS, "32", "i0 i1")),
    **_all("LESS LESS_EQUAL", (_NO_OPTIONS, "32", "i0 i1")),
    "ABS": (_NO_OPTIONS, "28", "i0 o0"),
    "RSQRT": (_NO_OPTIONS, "28", "i0 o0"),
    "ELU": (_NO_OPTIONS, "256", "i0 o0"),
    "HARD_SWISH": (_NO_OPTIONS, "20", "i0 o0"),
    "LOGISTIC": (_NO_OPTIONS, "16", "i0 o0"),
    "TANH": (_NO_OPTIONS, "16", "i0 i0 o0"),
    "RELU": (_NO_OPTIONS, "28", "i0 o0"),
    "RELU6": (_NO_OPTIONS, "8", "i0"),
    "L2_NORMALIZATION": ("4/4 1/1", "4", "i0 o0"),
    "LEAKY_RELU": ("4/4", "24", "i0 o0"),
    "SOFTMAX": ("4/4", "80 80 56 56", "i0 o0"),
    "ADD": ("8/4 2/1", "60", "i0 i1 o0"),
    "SUB": ("8/4 2/1", "52", "i0 i1 o0"),
    "MUL": ("4/4 1/1", "36", "i0 i1 o0"),
    "DIV": ("4/4 1/1", "28", "i0 i1 o0"),
    "SQUARED_DIFFERENCE": (_NO_OPTIONS, "112", "i0 i1 o0"),
    "ADD_N": (_NO_OPTIONS, _NOTHING, "i0 o0"),
    "ARG_MAX": ("4/4 1/1", _NOTHING, ""),
    "ARG_MIN": ("4/4 1/1", _NOTHING, ""),
    "CONV_2D": ("28/4", "80 72 56 56", "o0 i0 i1"),
    "DEPTHWISE_CONV_2D": ("28/4", "80 72 56 56", "o0 i0 i1"),
    "TRANSPOSE_CONV": ("20/4 16/4", "88 80 72 72", "o0 i2 i1"),
    "FULLY_CONNECTED": ("32/8 16/4 16/4 5/1", "72 64 48 48", "i0 i1 i2 o0"),
    "AVERAGE_POOL_2D": ("40/4", "32", "i0 o0"),
    "MAX_POOL_2D": ("40/4", "32", "i0 o0"),
    "L2_POOL_2D": ("40/4", _NOTHING, "i0 o0 D"),
    "BATCH_MATMUL": ("3/1", "32 32 16 16", "i0 i1 o0"),
    "SPACE_TO_BATCH_ND": (_NO_OPTIONS, "4", "i0 o0"),
    "DEPTH_TO_SPACE": ("4/4", _NOTHING, "i0 o0 D"),
    "SPACE_TO_DEPTH": ("4/4", _NOTHING, "i0 o0 D"),
    "MIRROR_PAD": ("4/4 1/1", "20", "i0 i1 o0"),
    "DYNAMIC_UPDATE_SLICE": (_NO_OPTIONS, _NOTHING, "i0 i1 i2 o0"),
    "RESIZE_BILINEAR": ("2/1", _NOTHING, "i0 i1 o0"),
    "RESIZE_NEAREST_NEIGHBOR": ("2/1", _NOTHING, "i0 i1 o0"),
    "PRELU": (_NO_OPTIONS, "28", "i0 i1 o0"),
    "GATHER": ("8/4", _NOTHING, "i0 i1 o0 D"),
    "GATHER_ND": (_NO_OPTIONS, _NOTHING, "i0 i1 o0 D"),
    "EMBEDDING_LOOKUP": (_NO_OPTIONS, _NOTHING, "i0 i1 o0 D"),
    "SQUEEZE": ("36/4", _NOTHING, "i0 o0"),
    "RESHAPE": ("36/4", _NOTHING, "i0 o0"),
    "SELECT_V2": (_NO_OPTIONS, "1", "i0 i1 i2 o0"),
    "CUMSUM": ("2/1", _NOTHING, "i0 i1 o0"),
    "SHAPE": ("4/4 1/1", _NOTHING, ""),
    "SLICE": (_NO_OPTIONS, _NOTHING, "i0 i1 i2 o0"),
    "STRIDED_SLICE": ("24/4", "84", "i0 i1 i2 i3 o0"),
    "CONCATENATION": ("8/4", "80 40 24 24", "i0 o0 i*"),
    "PACK": ("8/4", _NOTHING, ""),
    "UNPACK": ("8/4", _NOTHING, ""),
    "SPLIT": ("4/4", _NOTHING, "i0"),
    "SPLIT_V": ("4/4", _NOTHING, "i2"),
    "PAD": (_NO_OPTIONS, "56", "i0 i1 o0"),
    "PADV2": (_NO_OPTIONS, "56", "i0 i1 i2 o0"),
    "MEAN": ("1/1", "44", "i0 o0 i1"),
    "SUM": ("1/1", "44", "i0 o0 i1"),
    "REDUCE_MAX": ("1/1", "44", "i0 i1"),
    "REDUCE_MIN": ("1/1", "44", "i0 i1"),
    "REDUCE_ALL": ("1/1", "44", "i0 o0 i1 i0 i1"),
    "QUANTIZE": (_NO_OPTIONS, "32", "i0 o0"),
    "DEQUANTIZE": (_NO_OPTIONS, "32", "i0 o0"),
    "CAST": ("8/4 2/1", _NOTHING, "i0 o0"),
    "SVDF": ("12/4 8/4", "36", "i0 i1 i2 i3 i4 o0"),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("16/4", "688", "i* o0"),
    "IF": ("8/4", "8", "i0"),
    "WHILE": ("8/4", "8", ""),
    "CALL_ONCE": ("4/4", "8", ""),
    "VAR_HANDLE": ("16/8 16/8 8/4 8/4", "4", ""),
    "ASSIGN_VARIABLE": (_NO_OPTIONS, "4 0 0 0", "i1"),
    "READ_VARIABLE": (_NO_OPTIONS, _NOTHING, "i0"),
}

CUSTOM_ROWS: dict[str, Row] = {
    "BasicClassifier": (_NO_OPTIONS, _NOTHING, "i* o*"),
    "CIRCULAR_BUFFER": (_NO_OPTIONS, "8", "i0 o0"),
    "TFLite_Detection_PostProcess": (_NO_OPTIONS, "112", "i0 i1 i2"),
    "TFLM_DECODE": (_NO_OPTIONS, _NOTHING, ""),
    "SignalDelay": (_NO_OPTIONS, "32 32 20 20", "i0 o0"),
    "SignalFramer": (_NO_OPTIONS, "40 40 28 28", "i0 o0 o1"),
    "SignalOverlapAdd": (_NO_OPTIONS, "32 32 24 24", "i0 o0"),
    "SignalRfft": (_NO_OPTIONS, "48 48 32 32", "i0 o0"),
    "SignalIrfft": (_NO_OPTIONS, "32 32 24 24", "i0 o0"),
    "SignalStacker": (_NO_OPTIONS, "56 56 36 36", "i0 o0 o1"),
    "SignalFilterBank": (_NO_OPTIONS, "64 64 36 36", "i* o0"),
    "SignalFilterBankSpectralSubtraction": (_NO_OPTIONS, "56 56 44 44", "i0 o0 o1"),
    "SignalEnergy": (_NO_OPTIONS, "8", "i* o0"),
    "SignalWindow": (_NO_OPTIONS, "8", "i* o0"),
    "SignalFilterBankLog": (_NO_OPTIONS, "8", "i* o0"),
    "SignalPCAN": (_NO_OPTIONS, "4", "i0 i1 i2 o0"),
    "SignalFftAutoScale": (_NO_OPTIONS, _NOTHING, "i* o*"),
    "SignalFilterBankSquareRoot": (_NO_OPTIONS, _NOTHING, "i* o*"),
}

Extra: TypeAlias = Callable[[View], None]


def row_of(view: View) -> Row:
    """The row of an operator. Raises PrepareError for one that TFLM does not have."""
    found = (CUSTOM_ROWS if view.code.is_custom else ROWS).get(view.name)
    if found is None:
        raise PrepareError(f"{view.where}: TFLM's arena for it is not known")
    return found


def _pick(text: str, target: Target) -> str:
    """The value for a target, of one for all, all and short enums, or one a column."""
    values = text.split()
    if len(values) == 4:
        return values[target.column]
    return values[-1] if target.enum_bytes == 1 else values[0]


def builtin_data(view: View) -> tuple[int, int]:
    """Size and alignment of the parsed options; (0, 1) where there are none."""
    text = row_of(view)[0]
    if not text:
        return 0, 1
    size, align = _pick(text, view.target).split("/")
    return int(size), int(align)


def init_blocks(view: View) -> list[int]:
    """Bytes of each persistent block that the operator's Init asks for."""
    text = row_of(view)[1]
    blocks = [int(_pick(text, view.target))] if text else []
    more = _extras("INIT").get(view.name)
    if more is not None:
        view.calls = []
        more(view)
        blocks += [size for _, size in view.calls]
    return [size for size in blocks if size]


def prepare_calls(view: View) -> list[tuple[str, int]]:
    """What the operator's Prepare asks for: see `View.calls`. May change shapes in the graph."""
    view.calls = []
    view.temporaries(row_of(view)[2])
    more = _extras("PREPARE").get(view.name)
    if more is not None:
        more(view)
    return view.calls


def _extras(stage: str) -> dict[str, Extra]:
    from litejit.micro import builtin_requests, signal_requests

    found: dict[str, Extra] = {
        **getattr(builtin_requests, stage),
        **getattr(signal_requests, stage),
    }
    return found
