"""What builtin kernels ask of the arena beyond a row of `requests.ROWS`, in TFLM's order."""

from __future__ import annotations

from collections.abc import Callable

from litejit.errors import PrepareError
from litejit.micro.operands import TensorView, View
from litejit.micro.structs import round_up, size_of
from litejit.model.options import (
    BatchMatMulOptions,
    DepthToSpaceOptions,
    GatherOptions,
    Padding,
    Pool2DOptions,
    SpaceToDepthOptions,
    SVDFOptions,
    UnidirectionalSequenceLSTMOptions,
    VarHandleOptions,
)

_INTEGER = ("INT8", "INT16")


def _convolution(view: View, channels_axis: int) -> None:
    weights = view.need("i1")
    channels = _dimension(view, weights, channels_axis)
    scratch = [weights.elements] if weights.dtype == "INT4" else []
    view.persistent(4 * channels, 4 * channels)
    if channels_axis:
        view.scratch(*scratch)
        view.temporaries("i0 i1 i2 o0")
        return
    view.temporaries("i0 i1 i2 o0")
    view.scratch(*scratch)


def _dimension(view: View, tensor: TensorView, axis: int) -> int:
    if not -tensor.rank <= axis < tensor.rank:
        raise PrepareError(
            f"{view.where}: tensor {tensor.name!r} of shape {tensor.shape} has no axis {axis}"
        )
    return tensor.shape[axis]


def _conv_2d(view: View) -> None:
    _convolution(view, 0)


def _depthwise(view: View) -> None:
    _convolution(view, 3)


def _transpose_conv(view: View) -> None:
    out = view.need("o0")
    kind, channels = view.need("i2").dtype, _dimension(view, view.need("i1"), 0)
    view.persistent(4 * channels, 4 * channels)
    if kind == "FLOAT32":
        return
    view.scratch((8 if kind == "INT16" else 4) * out.elements)
    view.temporaries("i2 i1 i3 o0")
    bias = view.input(3)
    if kind == "INT16" and bias is not None and bias.dtype == "INT16":
        view.scratch(8 * bias.elements)


def _fully_connected(view: View) -> None:
    weights = view.need("i1")
    if weights.dtype == "INT4":
        view.scratch(weights.elements)
    if view.need("i0").dtype != "FLOAT32" and weights.scales > 1:
        view.persistent(4 * weights.scales, 4 * weights.scales)


def _softmax(view: View) -> None:
    if view.need("i0").dtype == "INT16":
        view.persistent(1026, 1026)  # two tables of 513 int16: exp(x) and 1 / (1 + x)


def _log_softmax(view: View) -> None:
    if view.need("i0").dtype == "INT8":
        view.persistent(40 if view.target.pointer_bytes == 8 else 28)


def _add_n(view: View) -> None:
    count = len(view.operator.inputs)
    view.temporaries(" ".join(f"i{k}" for k in range(1, count)))
    if view.need("o0").dtype == "INT8":
        view.persistent(40)
    view.scratch(view.target.pointer_bytes * count)


def _l2_pool(view: View) -> None:
    image, options = view.need("i0"), view.options(Pool2DOptions)
    if image.rank != 4 or min(options.stride_h, options.stride_w) < 1:
        return
    batch, height, width, channels = image.shape
    rows = _window(height, options.filter_height, options.stride_h, options.padding)
    columns = _window(width, options.filter_width, options.stride_w, options.padding)
    view.graph.set_shape(view.need("o0").index, (batch, rows, columns, channels))


def _window(size: int, reach: int, stride: int, padding: Padding) -> int:
    if padding == Padding.SAME:
        return -(-size // stride)
    return (size + stride - reach) // stride


def _batch_matmul(view: View) -> None:
    left, right = view.need("i0"), view.need("i1")
    options = view.options(BatchMatMulOptions)
    if left.dtype in _INTEGER:
        view.persistent(28)
    eval_bytes = size_of("TfLiteEvalTensor", view.target)
    if options.adj_x:
        view.persistent(eval_bytes, left.dims_bytes, left.nbytes)
    if not options.adj_y:
        view.persistent(eval_bytes, right.dims_bytes, right.nbytes)
    out = view.need("o0")
    view.persistent(out.dims_bytes)
    rank = max(left.rank, right.rank)
    if 2 <= rank <= out.rank and min(left.rank, right.rank) >= 2:
        x, y = _extended(left.shape, rank), _extended(right.shape, rank)
        batch = [b if a == 1 else a for a, b in zip(x[:-2], y[:-2], strict=True)]
        rows, columns = x[-1 if options.adj_x else -2], y[-2 if options.adj_y else -1]
        view.graph.set_shape(out.index, (*batch, rows, columns))


def _extended(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (1,) * (rank - len(shape)) + shape


def _depth_to_space(view: View) -> None:
    image, block = view.need("i0"), view.options(DepthToSpaceOptions).block_size
    if image.rank == 4 and block > 0:
        batch, height, width, channels = image.shape
        shape = (batch, height * block, width * block, channels // block // block)
        view.graph.set_shape(view.need("o0").index, shape)


def _space_to_depth(view: View) -> None:
    image, block = view.need("i0"), view.options(SpaceToDepthOptions).block_size
    if image.rank == 4 and block > 0:
        batch, height, width, channels = image.shape
        shape = (batch, height // block, width // block, channels * block * block)
        view.graph.set_shape(view.need("o0").index, shape)


def _mirror_pad(view: View) -> None:
    rank = view.need("i0").rank
    view.scratch(4 * rank, 4 * rank)


def _gather(view: View) -> None:
    data, picks, options = view.need("i0"), view.need("i1"), view.options(GatherOptions)
    axis = options.axis + (data.rank if options.axis < 0 else 0)
    batch = options.batch_dims + (picks.rank if options.batch_dims < 0 else 0)
    if 0 <= batch <= axis < data.rank and batch <= picks.rank:
        shape = data.shape[:axis] + picks.shape[batch:] + data.shape[axis + 1 :]
        view.graph.set_shape(view.need("o0").index, shape)


def _gather_nd(view: View) -> None:
    data, picks = view.need("i0"), view.need("i1")
    if data.rank and picks.rank and picks.shape[-1] <= data.rank:
        shape = picks.shape[:-1] + data.shape[picks.shape[-1] :]
        view.graph.set_shape(view.need("o0").index, shape)


def _embedding_lookup(view: View) -> None:
    picks, table, out = view.need("i0"), view.need("i1"), view.need("o0")
    if picks.rank and 2 <= table.rank <= out.rank:
        rest = out.shape[table.rank :]
        view.graph.set_shape(out.index, (picks.shape[0], *table.shape[1:], *rest))
    view.persistent(16 if view.target.pointer_bytes == 8 else 8)


def _reshape(view: View) -> None:
    out = view.need("o0")
    if len(view.operator.inputs) == 1 and out.shape == (0,):
        view.graph.set_shape(out.index, ())  # old converters wrote scalars like this
    elif out.shape.count(-1) == 1:
        view.persistent(out.dims_bytes)
        known = -out.elements
        stretched = view.need("i0").elements // known if known else 0
        shape = tuple(stretched if n == -1 else n for n in out.shape)
        view.graph.set_shape(out.index, shape)


def _cumsum(view: View) -> None:
    if view.need("o0").dtype == "INT8":
        view.persistent(36)


def _mean_or_sum(view: View) -> None:
    image, axes, out = view.need("i0"), view.need("i1"), view.need("o0")
    if image.dtype in _INTEGER:
        view.scratch(4 * out.elements)
    view.scratch(4 * image.rank, 4 * axes.elements)
    view.temporaries("i0 i1 o0" if image.dtype == "INT8" else "i0 i1")


def _reduce_extreme(view: View) -> None:
    image, axes = view.need("i0"), view.need("i1")
    view.temporaries("o0 i0 o0 i1" if image.dtype == "INT8" else "i0 o0 i1")
    view.scratch(4 * image.rank, 4 * axes.elements)


def _reduce_all(view: View) -> None:
    view.scratch(4 * view.need("i0").rank, 4 * view.need("i1").elements)


def _svdf(view: View) -> None:
    batch, filters = _dimension(view, view.need("i0"), 0), _dimension(view, view.need("i1"), 0)
    rank = view.options(SVDFOptions).rank
    view.scratch(4 * batch * filters)
    if view.need("i0").dtype == "INT8" and rank > 0:
        view.scratch(4 * batch * (filters // rank))


def _lstm(view: View) -> None:
    sequence, cell = view.need("i0"), view.need("i19")
    time_major = view.options(UnidirectionalSequenceLSTMOptions).time_major
    batch = _dimension(view, sequence, 1 if time_major else 0)
    units = _dimension(view, view.need("i18"), 1)
    view.scratch(*[batch * units * cell.item_bytes] * 4)


def _var_handle(view: View) -> None:
    options = view.options(VarHandleOptions)
    name = (options.container or "", options.shared_name or "")
    view.graph.variable_of[view.need("o0").index] = name


def _assign_variable(view: View) -> None:
    variable = view.graph.variable_of.get(view.need("i0").index)
    allocated = view.shared.setdefault("allocated variables", set())
    if variable is not None and variable not in allocated:
        allocated.add(variable)
        view.persistent(view.need("i1").nbytes)


def _detection(view: View) -> None:
    boxes = _dimension(view, view.need("i0"), 1)
    scores = _dimension(view, view.need("i1"), -1)
    classes, most = view.custom("num_classes"), view.custom("max_detections")
    view.scratch(boxes, 16 * boxes, 4 * boxes * scores, 4 * boxes, 4 * boxes)
    view.scratch(4 * boxes * most, 4 * boxes * most, 4 * boxes, 4 * boxes * most)
    view.scratch(4 * boxes * max(classes, most), 4 * boxes * min(boxes, most))


_DECODE_STATES = {0: "DecodeStateLut", 1: "DecodeStateHuffman", 2: "DecodeStatePrune"}


def _decode(view: View) -> None:
    """Weights that are decompressed in front of their use."""
    outputs = len(view.operator.outputs)
    view.persistent(view.target.pointer_bytes * outputs)
    used, room = 0, int(view.shared.get("alternate memory", 0))
    for k in range(outputs):
        view.temporaries(f"i{2 * k} i{2 * k + 1} o{k}")
        ancillary, out = view.need(f"i{2 * k + 1}"), view.need(f"o{k}")
        kind = _DECODE_STATES.get(ancillary.data[0]) if ancillary.data is not None else None
        if kind is None:
            raise PrepareError(f"{view.where}: input {2 * k + 1} says no way to decode")
        view.persistent(size_of(kind, view.target))
        start = round_up(used, 16)
        if room and start + out.nbytes <= room:
            used = start + out.nbytes
            view.graph.placed_outside.add(out.index)
        if kind == "DecodeStatePrune" and out.scales > 1 and out.has_zero_points:
            view.persistent(out.scales)


PREPARE: dict[str, Callable[[View], None]] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": _log_softmax,
    "ADD_N": _add_n,
    "L2_POOL_2D": _l2_pool,
    "BATCH_MATMUL": _batch_matmul,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
    "MIRROR_PAD": _mirror_pad,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "RESHAPE": _reshape,
    "CUMSUM": _cumsum,
    "MEAN": _mean_or_sum,
    "SUM": _mean_or_sum,
    "REDUCE_MAX": _reduce_extreme,
    "REDUCE_MIN": _reduce_extreme,
    "REDUCE_ALL": _reduce_all,
    "SVDF": _svdf,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "VAR_HANDLE": _var_handle,
    "ASSIGN_VARIABLE": _assign_variable,
    "TFLite_Detection_PostProcess": _detection,
    "TFLM_DECODE": _decode,
}
INIT: dict[str, Callable[[View], None]] = {}
