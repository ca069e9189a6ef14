"""Options of the builtin operators, by family; a family is imported when a model names it.

`from litejit.model.options import Conv2DOptions` imports the family of that class alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from litejit.model.table import Table

if TYPE_CHECKING:
    from litejit.model.options.control import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.conv import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.elementwise import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.enums import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.index import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.recurrent import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.shape import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.stablehlo import *  # noqa: F403 - what __getattr__ finds
    from litejit.model.options.text import *  # noqa: F403 - what __getattr__ finds

# The members of the schema's two unions in the order of their numbers, from 1; each name goes
# without its ending "Options".
_MEMBERS = (
    "Conv2D DepthwiseConv2D ConcatEmbeddings LSHProjection Pool2D SVDF RNN FullyConnected "
    "Softmax Concatenation Add L2Norm LocalResponseNormalization LSTM ResizeBilinear Call "
    "Reshape SkipGram SpaceToDepth EmbeddingLookupSparse Mul Pad Gather BatchToSpaceND "
    "SpaceToBatchND Transpose Reducer Sub Div Squeeze SequenceRNN StridedSlice Exp TopKV2 "
    "Split LogSoftmax Cast Dequantize MaximumMinimum ArgMax Less Neg PadV2 Greater "
    "GreaterEqual LessEqual Select Slice TransposeConv SparseToDense Tile ExpandDims Equal "
    "NotEqual Shape Pow ArgMin FakeQuant Pack LogicalOr OneHot LogicalAnd LogicalNot Unpack "
    "FloorDiv Square ZerosLike Fill BidirectionalSequenceLSTM BidirectionalSequenceRNN "
    "UnidirectionalSequenceLSTM FloorMod Range ResizeNearestNeighbor LeakyRelu "
    "SquaredDifference MirrorPad Abs SplitV Unique ReverseV2 AddN GatherNd Cos Where Rank "
    "ReverseSequence MatrixDiag Quantize MatrixSetDiag HardSwish If While DepthToSpace "
    "NonMaxSuppressionV4 NonMaxSuppressionV5 ScatterNd SelectV2 Densify SegmentSum "
    "BatchMatMul Cumsum CallOnce BroadcastTo Rfft2d Conv3D Hashtable HashtableFind "
    "HashtableImport HashtableSize VarHandle ReadVariable AssignVariable Random Bucketize "
    "Gelu DynamicUpdateSlice UnsortedSegmentProd UnsortedSegmentMax UnsortedSegmentMin "
    "UnsortedSegmentSum ATan2 Sign Bitcast BitwiseXor RightShift "
)
_MEMBERS_2 = (
    "StablehloConcatenate StablehloBroadcastInDim StablehloSlice StablehloConvolution "
    "StablehloCustomCall StablehloReduce StablehloScatter StablehloCompare "
    "StablehloDynamicSlice StablehloPad StablehloIota StablehloDotGeneral "
    "StablehloReduceWindow StablehloSort StablehloWhile StablehloGather StablehloTranspose "
    "Dilate StablehloRngBitGenerator ReduceWindow StableHLOComposite StablehloShiftLeft "
    "StablehloCase "
)

_FAMILIES = {
    "conv": (
        "Conv2D DepthwiseConv2D Conv3D TransposeConv Pool2D FullyConnected BatchMatMul Dilate "
    ),
    "elementwise": (
        "Add Sub Mul Div MaximumMinimum Exp Neg Abs Cos Pow Sign ATan2 Square "
        "SquaredDifference FloorDiv FloorMod AddN LeakyRelu HardSwish Gelu Less LessEqual "
        "Greater GreaterEqual Equal NotEqual LogicalOr LogicalAnd LogicalNot BitwiseXor "
        "RightShift Select SelectV2 Cast Bitcast Quantize Dequantize FakeQuant Bucketize "
        "ZerosLike Softmax LogSoftmax L2Norm LocalResponseNormalization Densify Rfft2d "
    ),
    "shape": (
        "Reshape Squeeze ExpandDims Shape Rank Transpose Concatenation Pack Unpack Split "
        "SplitV Slice StridedSlice DynamicUpdateSlice Pad PadV2 MirrorPad Tile "
        "BroadcastTo Fill Range ReverseV2 ReverseSequence SpaceToBatchND BatchToSpaceND "
        "SpaceToDepth DepthToSpace ResizeBilinear ResizeNearestNeighbor MatrixDiag "
        "MatrixSetDiag "
    ),
    "index": (
        "Gather GatherNd ScatterNd OneHot SparseToDense Where Unique Reducer ArgMax "
        "ArgMin Cumsum TopKV2 SegmentSum UnsortedSegmentProd UnsortedSegmentMax "
        "UnsortedSegmentMin UnsortedSegmentSum NonMaxSuppressionV4 NonMaxSuppressionV5 "
        "ReduceWindow "
    ),
    "recurrent": (
        "SVDF RNN SequenceRNN BidirectionalSequenceRNN LSTM UnidirectionalSequenceLSTM "
        "BidirectionalSequenceLSTM "
    ),
    "control": (
        "Call CallOnce If While VarHandle ReadVariable AssignVariable Hashtable "
        "HashtableFind HashtableImport HashtableSize Random "
    ),
    "text": ("EmbeddingLookupSparse ConcatEmbeddings LSHProjection SkipGram "),
}
_ENUMS = {
    **dict.fromkeys(("Padding", "Activation"), "enums"),
    **dict.fromkeys(("Combiner", "LSHProjectionType"), "text"),
    **dict.fromkeys(("Precision", "ComparisonDirection", "ComparisonType"), "stablehlo"),
    **{"RngAlgorithm": "stablehlo", "ReduceWindowFunction": "index", "WeightsFormat": "conv"},
    **{"LSTMKernel": "recurrent", "MirrorPadMode": "shape"},
}
_FAMILY_OF = {
    f"{name}Options": family for family, names in _FAMILIES.items() for name in names.split()
}

# union number -> (module, class)
BUILTIN_OPTIONS: dict[int, tuple[str, str]] = {
    number: (f"{__name__}.{_FAMILY_OF[f'{name}Options']}", f"{name}Options")
    for number, name in enumerate(_MEMBERS.split(), 1)
}
BUILTIN_OPTIONS_2: dict[int, tuple[str, str]] = {
    number: (f"{__name__}.{_FAMILY_OF.get(f'{name}Options', 'stablehlo')}", f"{name}Options")
    for number, name in enumerate(_MEMBERS_2.split(), 1)
}


def options_class(number: int, *, union: int = 1) -> type[Table] | None:
    """Return the table class of member `number` of builtin_options (or, union 2, of _2).

    None where the schema knows no such member.
    """
    place = (BUILTIN_OPTIONS if union == 1 else BUILTIN_OPTIONS_2).get(number)
    if place is None:
        return None
    found: type[Table] = getattr(importlib.import_module(place[0]), place[1])
    return found


def union_of(table: type[Table]) -> tuple[int, int]:
    """Return (union, number) of an options class; union 2 is builtin_options_2."""
    for union, members in ((1, BUILTIN_OPTIONS), (2, BUILTIN_OPTIONS_2)):
        for number, (module, name) in members.items():
            if name == table.__name__ and module == table.__module__:
                return union, number
    raise TypeError(f"{table.__name__} is not a table of options")


def __getattr__(name: str) -> Any:
    family = _FAMILY_OF.get(name) or _ENUMS.get(name)
    if family is None and name in {member for _, member in BUILTIN_OPTIONS_2.values()}:
        family = "stablehlo"
    if family is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{family}"), name)
    return value
