"""Suppression kernels against their NumPy meanings: ties, NaN, infinities and empty boxes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS, run

from litejit.codegen import llvm
from litejit.codegen.isa import ISAS
from litejit.kernels.boxes import DetectionSpec, SuppressSpec
from litejit.ops.boxes import suppress
from litejit.ops.custom import detection

F = np.float32
NOT_NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0]
every_isa = pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_every_instruction_set_compiles(isa: Any) -> None:
    specs = [SuppressSpec(True), SuppressSpec(False), DetectionSpec(True, False, True),
             DetectionSpec(False, True, False)]  # fmt: skip
    for spec in specs:
        assert llvm.compile_ir(spec.emit("kernel", isa), isa)


def scene(count: int, seed: int) -> tuple[Any, Any]:
    """Boxes of any corners and scores with ties, some of them no numbers, some boxes empty."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 9, (count, 2)) / 4
    boxes = np.concatenate([corner, corner + rng.integers(0, 5, (count, 2)) / 4], 1)
    flipped = rng.random(count) < 0.3
    boxes[flipped] = boxes[flipped][:, [2, 3, 0, 1]]
    scores = rng.integers(0, 8, count) / 8
    for values in (boxes.reshape(-1), scores):
        places = rng.random(values.size) < 0.05
        values[places] = rng.choice(NOT_NUMBERS, int(places.sum()))
    return boxes.astype(F), scores.astype(F)


@every_isa
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("sigma", [None, 0.0, 0.4])
def test_suppression_chooses_what_numpy_chooses(
    count: int, seed: int, sigma: float | None, isa: Any
) -> None:
    boxes, scores = scene(count, seed)
    most, overlap, least = [7, 60, 0][seed % 3], F([0.4, 0.0][seed % 2]), F(0.1)
    chosen = suppress(boxes, scores, most, overlap=overlap, least=least, sigma=F(sigma or 0))
    places, values, status = np.full(most, 77, np.int32), np.full(most, 7, F), np.zeros(1, np.int64)
    soft = sigma is not None
    found = run(
        SuppressSpec(soft), boxes, scores, np.array([overlap]), np.array([least]),
        np.array([sigma or 0], F), places, values, np.zeros(1, np.int32),
        np.zeros(28 * count + 64, np.uint8), status, count, most, items=1, isa=isa,
    )  # fmt: skip
    assert found[7][0] == len(chosen)
    expected = [place for place, _ in chosen] + [0] * (most - len(chosen))
    assert found[5].tolist() == expected
    if soft:
        np.testing.assert_allclose(found[6][: len(chosen)], [s for _, s in chosen], rtol=1e-6)
        assert not found[6][len(chosen) :].any()
    assert found[9][0] == 0


@pytest.mark.parametrize("sigma", [-0.1, np.nan])
def test_a_negative_sigma_is_refused(sigma: float) -> None:
    boxes, scores = scene(3, 0)
    status = run(
        SuppressSpec(True), boxes, scores, np.zeros(1, F), np.zeros(1, F), np.array([sigma], F),
        np.zeros(3, np.int32), np.zeros(3, F), np.zeros(1, np.int32), np.zeros(160, np.uint8),
        np.zeros(1, np.int64), 3, 3, items=1,
    )[9]  # fmt: skip
    assert status[0] >> 48 == 1


def detections(
    options: detection.DetectionOptions, operands: list[Any], scales: Any, zeros: Any, isa: Any
) -> list[Any]:
    o, (boxes, scores, anchors) = options, operands
    count, row, width = *boxes.shape[1:], scores.shape[2]
    per_class = min(o.detections_per_class, o.max_detections, count)
    room = o.max_classes_per_detection
    kept = o.max_detections * room
    spec = DetectionSpec(o.use_regular_nms, boxes.dtype == np.uint8, scores.dtype == np.uint8)
    pitch = min(o.max_detections, count) + 16
    nbytes = 24 * count + 8 * o.num_classes * per_class + 20 * pitch
    found = run(
        spec, boxes, scores, anchors, np.array(o.scales, F).astype(np.float64),
        *(np.full(n, 7, F) for n in (4 * kept, kept, kept, 1)), np.zeros(nbytes, np.uint8),
        np.zeros(1, np.int64), count, row, o.num_classes, width, width - o.num_classes,
        o.max_detections, per_class, min(room, o.num_classes), room, pitch, *zeros,
        o.score_threshold, o.iou_threshold, *scales, items=1, isa=isa,
    )  # fmt: skip
    return [*found[4:8], int(found[9][0])]


@every_isa
@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("is_bytes", [False, True])
@pytest.mark.parametrize(("count", "classes", "background"), [(1, 1, 0), (90, 3, 1), (9, 33, 1)])
@pytest.mark.parametrize("strange", [False, True])
def test_detections_are_those_of_numpy(
    count: int, classes: int, background: int, strange: bool, is_bytes: bool, regular: bool,
    isa: Any,
) -> None:  # fmt: skip
    rng = np.random.default_rng(count + classes)
    o = detection.DetectionOptions(40, 2, 25, regular, float(F(0.2)), 0.5, classes,
                                   (10.0, 10.0, 5.0, 5.0))  # fmt: skip
    boxes, anchors = rng.standard_normal((1, count, 5)), rng.random((count, 4))
    scores = rng.integers(0, 9, (1, count, classes + background)) / 8
    if strange and not is_bytes:
        places = rng.random(scores.shape) < 0.2
        scores[places] = rng.choice(NOT_NUMBERS, int(places.sum()))
        boxes[0, ::7] = np.nan
        boxes[0, 3::7, 2:4] = 900.0  # infinite boxes
    scales, zeros = (1.0, 1.0, 1.0), (0, 0, 0)
    operands = [x.astype(F) for x in (boxes, scores, anchors)]
    if is_bytes:
        scales, zeros = (float(F(0.03)), float(F(1 / 255)), float(F(1 / 200))), (128, 3, 0)
        operands = [rng.integers(3, 256, x.shape).astype(np.uint8) for x in operands]
    kind = detection.U8 if is_bytes else detection.F32
    types = [SimpleNamespace(dtype=kind, scale=s, zero_point=z)
             for s, z in zip(scales, zeros, strict=True)]  # fmt: skip
    node: Any = SimpleNamespace(options=o, input=lambda k: types[k], check=lambda ok, text: ok)
    expected = detection.DetectionPostProcess().reference(node, *operands)
    found = detections(o, operands, scales, zeros, isa)
    for mine, theirs in zip(found, expected, strict=False):
        np.testing.assert_array_equal(mine, theirs.reshape(-1))
    assert found[4] == 0


def test_a_box_that_ends_before_it_begins_is_refused() -> None:
    o = detection.DetectionOptions(8, 1, 5, False, 0.2, 0.5, 1, (1.0, 1.0, 1.0, 1.0))
    anchors = np.array([[0, 0, 1, 1], [0, 0, 1, -1]], F)
    operands = [np.zeros((1, 2, 4), F), np.ones((1, 2, 1), F), anchors]
    found = detections(o, operands, (1.0, 1.0, 1.0), (0, 0, 0), HOST_ISAS[0])
    assert found[4] >> 48 == 1
