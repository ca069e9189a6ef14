"""TFLite_Detection_PostProcess: boxes from anchors, without those that overlap better ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from litejit.ops.base import Arrays, Lowering, Node, Types, builtin
from litejit.ops.custom.options import CustomOp, Fields
from litejit.ops.fixedpoint import require_scale
from litejit.ops.indexing import made
from litejit.record import Record
from litejit.types import F32, U8, Array, TensorType

_MOST_DETECTIONS = 1 << 24


class DetectionOptions(Record):
    """How many boxes are kept, from which scores on, and the scales of their encoding."""

    max_detections: int
    max_classes_per_detection: int
    detections_per_class: int
    use_regular_nms: bool
    score_threshold: float
    iou_threshold: float
    num_classes: int
    scales: tuple[float, ...]


@builtin("TFLite_Detection_PostProcess")
class DetectionPostProcess(CustomOp):
    """Boxes [1, k, 4] (ymin, xmin, ymax, xmax), classes [1, k], scores [1, k], count [1]: f32.

    Inputs (f32, or uint8 with a scale): encodings [1, n, >= 4] (y, x, h, w), scores
    [1, n, classes, perhaps with a background in front], anchors [n, 4]. A box is
    (y / y_scale * h_anchor + y_anchor, ...), its half height exp(h / h_scale) h_anchor / 2,
    computed in double. Fast: one suppression by the best score of every box, which then gives
    its max_classes_per_detection best classes. Regular: one suppression for every class, all
    merged by score. Equal scores keep their order; unused places are zeros.
    Source: LiteRT tflite/kernels/detection_postprocess.cc.
    """

    arity = (3, 3)
    results = (4, 4)

    def read(self, fields: Fields) -> Any:
        return DetectionOptions(
            max_detections=fields.integer("max_detections"),
            max_classes_per_detection=fields.integer("max_classes_per_detection"),
            detections_per_class=fields.integer("detections_per_class", 100),
            use_regular_nms=fields.flag("use_regular_nms"),
            score_threshold=float(np.float32(fields.real("nms_score_threshold"))),
            iou_threshold=float(np.float32(fields.real("nms_iou_threshold"))),
            num_classes=fields.integer("num_classes"),
            scales=tuple(fields.real(f"{axis}_scale") for axis in ("y", "x", "h", "w")),
        )

    def infer(self, node: Node) -> Types:
        boxes, scores, anchors, o = node.input(0), node.input(1), node.input(2), node.options
        for tensor, what in ((boxes, "boxes"), (scores, "scores"), (anchors, "anchors")):
            node.require_dtype(tensor, (F32, U8), what)
            if tensor.dtype == U8:
                require_scale(node, tensor, what)
        ok = anchors.dtype == boxes.dtype
        node.require(ok, f"boxes are {boxes.dtype}, anchors {anchors.dtype}")
        count = boxes.dims[1] if boxes.rank == 3 else -1
        ok = boxes.rank == 3 and boxes.dims[0] == 1 and boxes.dims[2] >= 4
        node.require(ok, f"boxes have shape {boxes.dims}, expected (1, n, 4)")
        ok = scores.rank == 3 and scores.dims[:2] == (1, count)
        node.require(ok, f"scores have shape {scores.dims}, expected (1, {count}, classes)")
        ok = anchors.rank == 2 and anchors.dims[0] >= count and anchors.dims[1] == 4
        node.require(ok, f"anchors have shape {anchors.dims}, expected ({count}, 4)")
        background = scores.dims[2] - o.num_classes
        ok = o.num_classes >= 1 and background in (0, 1)
        node.require(ok, f"num_classes is {o.num_classes}, scores have {scores.dims[2]}")
        ok = 0 < o.iou_threshold <= 1
        node.require(ok, f"nms_iou_threshold {o.iou_threshold} is not in (0, 1]")
        return self._results(node)

    @staticmethod
    def _results(node: Node) -> Types:
        o = node.options
        ok = o.max_detections >= 0 and o.max_classes_per_detection > 0
        per_class = min(o.detections_per_class, o.max_detections)
        ok = ok and (per_class > 0 or not o.use_regular_nms)
        node.require(ok, f"cannot keep so few detections: {o}")
        kept = o.max_detections * o.max_classes_per_detection
        node.require(kept <= _MOST_DETECTIONS, f"{kept} detections are too many")
        shapes = ((1, kept, 4), (1, kept), (1, kept), (1,))
        return [made(node, shape, F32, position=k) for k, shape in enumerate(shapes)]

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        boxes, scores, anchors = inputs
        corners = _decode(node, boxes, anchors)
        wrong = (corners[:, 0] > corners[:, 2]) | (corners[:, 1] > corners[:, 3])
        node.check(not wrong.any(), "a decoded box ends before it begins")
        numbers = _dequantized(scores[0], node.input(1), wide=True)
        numbers = numbers[:, numbers.shape[1] - node.options.num_classes :]
        choose = _regular if node.options.use_regular_nms else _fast
        places, chosen, classes, found = choose(node.options, corners, numbers)
        kept = node.options.max_detections * node.options.max_classes_per_detection
        result = np.zeros((kept, 4), np.float32), *(np.zeros(kept, np.float32) for _ in range(2))
        result[0][places] = corners[chosen]
        result[1][places] = classes
        result[2][places] = numbers[chosen, classes]
        count = np.array([found], np.float32)
        return result[0][None], result[1][None], result[2][None], count

    def lower(self, node: Node, steps: Lowering) -> None:
        """One kernel, as long as numbers of boxes in classes have 32 bits."""
        from litejit.kernels.boxes import DetectionSpec

        o, types = node.options, [node.input(k) for k in range(3)]
        (count, row), width = types[0].dims[1:], types[1].dims[2]
        if not count or count * width >= 1 << 32:
            return
        per_class = min(o.detections_per_class, o.max_detections, count)
        merged = o.num_classes * per_class if o.use_regular_nms else 0
        pitch = min(o.max_detections, count) + 16  # at least a register more
        nbytes = count * 24 + merged * 8 + pitch * 20 + 64
        scales = np.array(o.scales, np.float32).astype(np.float64)
        spec = DetectionSpec(o.use_regular_nms, *(t.dtype == U8 for t in types[:2]))
        inputs = [operand for operand in steps.inputs if operand is not None]
        bytes_of = [t.dtype == U8 for t in types]
        steps.call(
            spec, *inputs, steps.constant("scales", lambda: scales), *steps.outputs,
            steps.temporary(nbytes), steps.status, count, row, o.num_classes, width,
            width - o.num_classes, o.max_detections, per_class,
            min(o.max_classes_per_detection, o.num_classes), o.max_classes_per_detection,
            pitch, *(t.zero_point if b else 0 for t, b in zip(types, bytes_of, strict=True)),
            o.score_threshold, o.iou_threshold,
            *(t.scale if b else 1.0 for t, b in zip(types, bytes_of, strict=True)),
            items=1, cost_ns=50 + count * (60.0 + width * (8.0 if o.use_regular_nms else 0.5)),
        )  # fmt: skip


def _dequantized(x: Array, tensor: TensorType, *, wide: bool = False) -> Array:
    """uint8 as float32: (x - zero point) * scale, the product in double where `wide`."""
    if tensor.dtype == F32:
        return x
    kind: Any = np.float64 if wide else np.float32
    numbers = x.astype(kind) - kind(tensor.zero_point)
    return np.asarray((numbers * kind(tensor.scale)).astype(np.float32))


def _decode(node: Node, boxes: Array, anchors: Array) -> Array:
    """Corners of all boxes, float32 [n, 4]."""
    code = _dequantized(boxes[0, :, :4], node.input(0)).astype(np.float64)
    anchor = _dequantized(anchors[: len(code)], node.input(2)).astype(np.float64)
    scales = np.array(node.options.scales, np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        center = (code[:, :2] / scales[:2] * anchor[:, 2:] + anchor[:, :2]).astype(np.float32)
        half = (0.5 * np.exp(code[:, 2:] / scales[2:]) * anchor[:, 2:]).astype(np.float32)
        return np.concatenate([center - half, center + half], axis=1)


Choice = tuple[Array, Array, Array, int]  # places in the result, boxes, classes, the count


def _fast(o: DetectionOptions, corners: Array, scores: Array) -> Choice:
    """Every box counts with its best class."""
    per_box = min(o.max_classes_per_detection, o.num_classes)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :per_box]
    top = np.take_along_axis(scores, best[:, :1], 1)[:, 0]
    kept = _suppress(o, corners, top, o.max_detections)
    places = np.arange(len(kept))[:, None] * o.max_classes_per_detection + np.arange(per_box)
    chosen = np.repeat(kept, per_box)
    return places.reshape(-1), chosen, best[kept].reshape(-1), len(kept)


def _regular(o: DetectionOptions, corners: Array, scores: Array) -> Choice:
    """Every class for itself; the results are merged by score, earlier classes first."""
    boxes, classes = np.zeros(0, np.int64), np.zeros(0, np.int64)
    per_class = min(o.detections_per_class, o.max_detections)
    for number in range(o.num_classes):
        kept = _suppress(o, corners, scores[:, number], per_class)
        boxes = np.concatenate([boxes, kept])
        classes = np.concatenate([classes, np.full(len(kept), number, np.int64)])
        order = np.argsort(-scores[boxes, classes], kind="stable")[: o.max_detections]
        boxes, classes = boxes[order], classes[order]
    return np.arange(len(boxes)), boxes, classes, len(boxes)


def _suppress(o: DetectionOptions, corners: Array, scores: Array, most: int) -> Array:
    """Numbers of the best boxes that do not overlap better ones, best first."""
    known = np.flatnonzero(scores >= np.float32(o.score_threshold))
    left = known[np.argsort(-scores[known], kind="stable")]
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        left = left[1:]
        overlap = _overlap(corners[kept[-1]], corners[left])
        left = left[~(overlap > np.float32(o.iou_threshold))]
    return np.array(kept, np.int64)


def _overlap(box: Array, others: Array) -> Array:
    """Intersection over union, float32; 0 where a box has no area."""
    with np.errstate(all="ignore"):
        area = (box[2] - box[0]) * (box[3] - box[1])
        areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
        low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
        sides = np.maximum(high - low, np.float32(0))
        common = sides[:, 0] * sides[:, 1]
        ratio = common / (area + areas - common)
        return np.asarray(np.where((area <= 0) | (areas <= 0), np.float32(0), ratio))
