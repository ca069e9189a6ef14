"""litejit's own custom operators; those of LiteRT's default resolver are held against it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from tests.kernels.harness import HOST_ISAS
from tests.ops.lowered import run_lowered
from tests.ops.whole import Given, agrees, fixed, model_of, run

from litejit.interpreter import Interpreter
from litejit.model.builder import ModelBuilder
from litejit.types import BOOL, F32, I8, I16, I32, I64, STRING, U8, VARIANT

RNG = np.random.default_rng(0)
DETECTION = {
    "max_detections": 10, "max_classes_per_detection": 1, "nms_score_threshold": 0.0,
    "nms_iou_threshold": 0.5, "num_classes": 3, "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0,
    "w_scale": 5.0,
}  # fmt: skip


def detected(options: dict[str, Any], *, background: int, quantized: bool) -> list[Given]:
    rng = np.random.default_rng(7)
    boxes = rng.standard_normal((1, 40, 5)).astype(np.float32)
    scores = rng.random((1, 40, options["num_classes"] + background)).astype(np.float32)
    anchors = (rng.random((40, 4)) * 0.5).astype(np.float32)
    if not quantized:
        return [Given(boxes), Given(scores), fixed(anchors)]
    codes = [rng.permutation(np.arange(x.size) % 256).astype(np.uint8).reshape(x.shape)
             for x in (boxes, scores, anchors)]  # fmt: skip
    return [
        Given(codes[0], scale=0.03, zero_point=128),
        Given(codes[1], scale=1 / 255, zero_point=0),
        fixed(codes[2], scale=1 / 255, zero_point=0),
    ]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("background", [0, 1])
@pytest.mark.parametrize(
    "more",
    [
        {}, {"use_regular_nms": True}, {"use_regular_nms": True, "detections_per_class": 2},
        {"use_regular_nms": True, "nms_score_threshold": 0.5, "max_detections": 60},
    ],
)  # fmt: skip
def test_detections_are_litert_s(more, background, quantized):
    options = {**DETECTION, **more}
    operands = detected(options, background=background, quantized=quantized)
    agrees("TFLite_Detection_PostProcess", options, operands, [F32] * 4, rtol=1e-5)


def test_places_without_a_detection_are_zeros():
    options = {**DETECTION, "max_classes_per_detection": 2, "nms_score_threshold": 0.97}
    operands = detected(options, background=0, quantized=False)
    name = "TFLite_Detection_PostProcess"
    boxes, classes, scores, count = run(name, options, operands, [F32] * 4)
    kept = 2 * int(count[0])
    assert 0 < kept < 20
    assert boxes.shape == (1, 20, 4)
    assert not boxes[0, kept:].any()
    assert not classes[0, kept:].any()
    first, second = scores[0, :kept:2], scores[0, 1:kept:2]
    assert (first >= second).all()
    assert (np.diff(first) <= 0).all()


@pytest.mark.parametrize(
    "wrong",
    [{"nms_iou_threshold": 0.0}, {"num_classes": 1}, {"num_classes": 0}, {"max_detections": -1},
     {"max_detections": 1 << 30}, {"max_classes_per_detection": 0}, {"num_classes": "x"}],
)  # fmt: skip
def test_detection_options_that_make_no_sense_are_refused(wrong):
    operands = detected(DETECTION, background=0, quantized=False)
    with pytest.raises((RuntimeError, ValueError), match="TFLite_Detection_PostProcess"):
        run("TFLite_Detection_PostProcess", {**DETECTION, **wrong}, operands, [F32] * 4)


def test_boxes_that_end_before_they_begin_are_refused():
    boxes, scores, anchors = detected(DETECTION, background=0, quantized=False)
    with pytest.raises(RuntimeError, match="ends before it begins"):
        run("TFLite_Detection_PostProcess", DETECTION, [boxes, scores, fixed(-anchors.value)],
            [F32] * 4)  # fmt: skip


@pytest.mark.parametrize(
    ("window", "stride", "squared"),
    [(25, 10, True), (400, 160, False), (2, 1, True), (30, 40, True), (600, 1, False)],
)
def test_spectrograms_are_litert_s(window, stride, squared):
    options = {"window_size": window, "stride": stride, "magnitude_squared": squared}
    x = Given(RNG.standard_normal((500, 2)).astype(np.float32))
    (y,) = agrees("AudioSpectrogram", options, [x], [F32], rtol=1e-5)
    assert y.shape[1] == max((500 - window) // stride + 1, 0)


@pytest.mark.parametrize(
    ("upper", "lower", "bands", "kept"),
    [(4000, 20, 40, 13), (7600, 125, 40, 13), (8000, 0, 80, 80), (9000, 0, 5, 2),
     (4000, 20, 300, 13)],
)  # fmt: skip
def test_cepstral_coefficients_are_litert_s(upper, lower, bands, kept):
    options = {
        "upper_frequency_limit": upper, "lower_frequency_limit": lower,
        "filterbank_channel_count": bands, "dct_coefficient_count": kept,
    }  # fmt: skip
    x = Given(np.abs(RNG.standard_normal((2, 3, 257))).astype(np.float32))
    agrees("Mfcc", options, [x, fixed(np.int32([16000]))], [F32], rtol=1e-5)
    with pytest.raises(RuntimeError, match="sample rate"):
        run("Mfcc", options, [x, Given(np.int32([0]))], [F32])


@pytest.mark.parametrize(("size", "shape"), [(4, (3, 8)), (64, (2, 3, 64)), (128, (2, 256)),
                                             (4, (2, 10)), (1, (2, 3))])  # fmt: skip
def test_rotations_are_litert_s(size, shape):
    x = RNG.standard_normal(shape).astype(np.float32)
    options = {"hadamard_size": size, "random_binary_vector": [1] * size}
    (y,) = agrees("aeq.hadamard_rotation", options, [Given(x)], [(F32, shape)], rtol=1e-6)
    if shape[-1] % size == 0:
        np.testing.assert_allclose(np.linalg.norm(y), np.linalg.norm(x), rtol=1e-5)


def test_a_mismatch_beyond_the_tolerance_ends_the_run():
    q = Given(np.int8([1, 2, 3]), scale=0.5, zero_point=1)
    good = Given(np.float32([0.1, 0.5, 1.0]))
    options = {"tolerance": 0.5, "log_if_failed": True}
    (y,) = run("NumericVerify", options, [q, good], [F32])
    np.testing.assert_allclose(y, [-0.1, 0, 0], atol=1e-7)
    bad = Given(np.float32([0.0, 0.5, 2.0]))
    with pytest.raises(RuntimeError, match="Mismatch: element"):
        run("NumericVerify", options, [q, bad], [F32])
    (y,) = run("NumericVerify", {**options, "log_if_failed": False}, [q, bad], [F32])
    np.testing.assert_allclose(y, [0, 0, -1], atol=1e-7)


def test_tables_are_read_by_bits_or_between_entries():
    table = RNG.integers(-128, 128, 256).astype(np.int8)
    (y,) = run("Table", {}, [Given(np.int8([-128, -1, 0, 127])), fixed(table)], [I8])
    assert y.tolist() == table[[128, 255, 0, 127]].tolist()
    ramp = (np.arange(513) * 10).astype(np.int16)
    x = np.int16([-32768, 0, 64, 127, 32767])
    (y,) = run("Table", {}, [Given(x), fixed(ramp)], [I16])
    assert y.tolist() == [0, 2560, 2565, 2570, 5120]
    with pytest.raises(RuntimeError, match="table has shape"):
        run("Table", {}, [Given(x), fixed(ramp[1:])], [I16])


@pytest.mark.parametrize("kind", [F32, I32, I64, I8, I16, U8, BOOL, STRING])
def test_rolling_moves_elements_around_the_end(kind):
    x = np.arange(6).reshape(2, 3)
    if kind is STRING:
        value = np.array([b"%d" % n for n in x.reshape(-1)], object).reshape(2, 3)
    else:
        value = x.astype(kind.numpy)
    operands = [Given(value), fixed(np.int32([4, -1, -1])), fixed(np.int64([1, 0, -1]))]
    (y,) = run("Roll", {}, operands, [kind])
    assert y.tolist() == np.roll(value, (4, -1, -1), (1, 0, 1)).tolist()
    with pytest.raises(RuntimeError, match="axis 2"):
        run("Roll", {}, [Given(value), fixed(np.int32(1)), fixed(np.int32(2))], [kind])


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [([2, 3], [2, 3], ([], [])), ([2, 4, 1, 3], [2, 1, 1, 3], ([2], [1, 2])),
     ([3], [2, 3], ([0], [])), ([1, 3], [2, 1], ([0], [1]))],
)  # fmt: skip
def test_gradients_are_summed_along_broadcast_axes(a, b, wanted, kind):
    operands = [Given(np.array(shape, kind)) for shape in (a, b)]
    data = model_of("BroadcastGradientArgs", {}, operands, [operands[0].dtype] * 2)
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for number, operand in enumerate(operands):
        interpreter.set_tensor(number, operand.value)
    interpreter.invoke()
    for detail, axes in zip(interpreter.get_output_details(), wanted, strict=True):
        if axes:
            assert interpreter.get_tensor(detail["index"]).tolist() == axes


def test_shapes_that_do_not_broadcast_have_no_gradient():
    with pytest.raises(RuntimeError, match="do not broadcast"):
        run("BroadcastGradientArgs", {}, [Given(np.int32([2])), Given(np.int32([3]))], [I32, I32])


def test_a_gru_carries_its_state():
    shapes = ((3, 2, 4), (2, 5), (10, 9), (10,), (5, 9), (5,))
    x, h, w, b, wc, bc = (RNG.standard_normal(shape).astype(np.float32) for shape in shapes)
    y, last = run("UnidirectionalSequenceGru", {}, [Given(a) for a in (x, h, w, b, wc, bc)],
                  [F32, F32])  # fmt: skip
    for step in range(3):
        gates = 1 / (1 + np.exp(-(np.hstack([x[step], h]) @ w.T + b)))
        r, u = gates[:, :5], gates[:, 5:]
        h = (1 - u) * np.tanh(np.hstack([x[step], h * r]) @ wc.T + bc) + u * h
        np.testing.assert_allclose(y[step], h, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last, y[-1])


POOL = {"data_format": "NDHWC", "ksize": [1, 2, 3, 2, 1], "strides": [1, 1, 2, 1, 1]}


def windows_of(x: np.ndarray, padding: str) -> Any:
    """(place, cells inside the image) of every window of POOL."""
    sizes = x.shape[1:4]
    spans = []
    for n, f, s in zip(sizes, (2, 3, 2), (1, 2, 1), strict=True):
        out = -(-n // s) if padding == "SAME" else (n - f) // s + 1
        before = max((out - 1) * s + f - n, 0) // 2 if padding == "SAME" else 0
        spans.append([slice(max(k * s - before, 0), k * s - before + f) for k in range(out)])
    for i, a in enumerate(spans[0]):
        for j, b in enumerate(spans[1]):
            for k, c in enumerate(spans[2]):
                yield (i, j, k), x[:, a, b, c].reshape(x.shape[0], -1, x.shape[4])


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kind", [np.float32, np.int8, np.int16])
def test_volumes_are_pooled_inside_the_image(kind, padding):
    x = (RNG.standard_normal((2, 4, 5, 6, 3)) * 30).astype(kind)
    given = Given(x, scale=0.0 if kind == np.float32 else 0.5)
    out = Given(x[0], scale=0.5 if kind == np.int8 else 0.0)
    (most,) = run("MaxPool3D", {**POOL, "padding": padding}, [given], [out])
    (mean,) = run("AvgPool3D", {**POOL, "padding": padding}, [given], [out])
    for (i, j, k), cells in windows_of(x, padding):
        assert (most[:, i, j, k] == cells.max(1)).all()
        if kind == np.float32:
            np.testing.assert_allclose(mean[:, i, j, k], cells.mean(1), rtol=1e-5, atol=1e-5)
        else:
            total, count = cells.sum(1, dtype=np.int64), cells.shape[1]
            rounded = np.sign(total) * ((2 * np.abs(total) + count) // (2 * count))
            assert (mean[:, i, j, k] == rounded).all()


def test_scales_of_pooled_bytes_must_be_kept():
    given = Given(np.zeros((1, 2, 3, 2, 1), np.int8), scale=0.5)
    with pytest.raises(RuntimeError, match="scales and zero points"):
        run("MaxPool3D", {**POOL, "padding": "VALID"}, [given], [I8])


@pytest.mark.parametrize(
    "wrong", [{"ksize": [2, 2, 3, 2, 1]}, {"strides": [1, 0, 1, 1, 1]}, {"padding": "FULL"},
              {"ksize": [1, 2]}, {"data_format": "NCDHW"}],
)  # fmt: skip
def test_windows_over_batches_are_refused(wrong):
    x = Given(np.zeros((1, 4, 4, 4, 1), np.float32))
    with pytest.raises((RuntimeError, ValueError), match="MaxPool3D"):
        run("MaxPool3D", {**POOL, "padding": "SAME", **wrong}, [x], [F32])


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_maxima_can_be_put_back(padding):
    x = RNG.standard_normal((2, 6, 4, 3)).astype(np.float32)
    options = {"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": padding}
    most, place = run("MaxPoolWithArgmax", options, [Given(x)], [F32, I32])
    blocks = x.reshape(2, 3, 2, 2, 2, 3).max(axis=(2, 4))
    np.testing.assert_array_equal(most, blocks)
    flat = x.reshape(2, -1)
    for batch in range(2):
        np.testing.assert_array_equal(flat[batch][place[batch]], most[batch])
    params = struct.pack("<10i", 1 if padding == "SAME" else 2, 2, 2, 2, 2, 0, 0, 0, 0, 0)
    (back,) = run("MaxUnpooling2D", params, [Given(most), Given(place)], [F32])
    assert back.shape == x.shape
    np.testing.assert_array_equal(back, np.where(np.isin(x, most), x, 0))
    with pytest.raises(RuntimeError, match="index is not in"):
        run("MaxUnpooling2D", params, [Given(most), Given(place + 72)], [F32])


def test_images_are_bent_along_the_flow():
    x = RNG.standard_normal((1, 4, 5, 2)).astype(np.float32)
    flow = np.zeros((1, 4, 5, 2), np.float32)
    (y,) = run("DenseImageWarp", {}, [Given(x), Given(flow)], [F32])
    np.testing.assert_allclose(y, x, atol=1e-6)
    flow[..., 1] = 0.5
    (y,) = run("DenseImageWarp", {}, [Given(x), Given(flow)], [F32])
    np.testing.assert_allclose(y[:, :, 1:], (x[:, :, 1:] + x[:, :, :-1]) / 2, atol=1e-6)
    flow[...] = np.nan
    flow[0, 0, 0] = 1e30
    (y,) = run("DenseImageWarp", {}, [Given(x), Given(flow)], [F32])
    assert np.isfinite(y).all()


def list_model(steps: Any) -> list[Any]:
    """Run what `steps(graph, add)` adds; `add` returns tensors of one operator."""
    builder = ModelBuilder()
    graph = builder.main
    graph.add_input("unused", (1,), F32)

    def add(name: str, operands: list[Any], *kinds: Any, data: bytes = b"") -> Any:
        numbers = [
            x if isinstance(x, int) else graph.add_constant(f"c{id(x)}", x) for x in operands
        ]
        made = [graph.add_tensor(f"{name}{k}{len(numbers)}", (), kind)
                for k, kind in enumerate(kinds)]  # fmt: skip
        graph.add_operator(name, numbers, made, custom=True, custom_options=data)
        return made[0] if len(made) == 1 else made

    graph.outputs.extend(steps(add))
    interpreter = Interpreter(model_content=builder.to_bytes())
    interpreter.allocate_tensors()
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def test_lists_of_tensors_are_values():
    shape, any_shape = np.int32([2]), np.array(-1, np.int32)

    def steps(add):
        empty = add("TensorListReserve", [shape, np.array(2, np.int32)], VARIANT, data=b"\0")
        one = add("TensorListSetItem", [empty, np.array(1, np.int32), np.float32([3, 4])], VARIANT)
        two = add("TensorListPushBack", [one, np.float32([5, 6])], VARIANT)
        rest, last = add("TensorListPopBack", [two, any_shape], VARIANT, F32)
        both = add("VariantAddN", [one, rest], VARIANT)
        zeros = add("VariantZerosLike", [two], VARIANT)
        return [
            add("TensorListStack", [two, any_shape], F32), last,
            add("TensorListStack", [both, any_shape], F32),
            add("TensorListGetItem", [one, np.array(0, np.int32), any_shape], F32),
            add("TensorListLength", [zeros], I32),
            add("TensorListElementShape", [rest], I32),
        ]  # fmt: skip

    stack, last, both, unset, length, element = list_model(steps)
    assert stack.tolist() == [[0, 0], [3, 4], [5, 6]]
    assert last.tolist() == [5, 6]
    assert both.tolist() == [[0, 0], [6, 8]]
    assert unset.tolist() == [0, 0]
    assert length == 3
    assert element.tolist() == [2]


def test_a_list_of_slices_gives_the_tensor_back():
    x = RNG.standard_normal((3, 2, 4)).astype(np.float32)

    def steps(add):
        items = add("TensorListFromTensor", [x, np.int32([2, -1])], VARIANT)
        return [add("TensorListStack", [items, np.int32([-1, 4])], F32)]

    np.testing.assert_array_equal(list_model(steps)[0], x)


@pytest.mark.parametrize(
    ("name", "operands"),
    [("TensorListGetItem", [np.array(9, np.int32), np.int32([2])]),
     ("TensorListSetItem", [np.array(-1, np.int32), np.float32([1, 2])]),
     ("TensorListSetItem", [np.array(0, np.int32), np.int32([1, 2])]),
     ("TensorListStack", [np.int32([3])])],
)  # fmt: skip
def test_what_a_list_cannot_hold_is_refused(name, operands):
    def steps(add):
        items = add("TensorListFromTensor", [np.ones((3, 2), np.float32), np.int32([2])], VARIANT)
        kind = VARIANT if name == "TensorListSetItem" else F32
        made = add(name, [items, *operands], kind)
        return [made if kind is F32 else add("TensorListLength", [made], I32)]

    with pytest.raises(RuntimeError, match=name):
        list_model(steps)


@pytest.mark.parametrize("isa", HOST_ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("case", ["spectrogram", "roots", "coefficients", "few bins"])
def test_audio_kernels_give_what_numpy_gives(case, isa):
    if case in ("spectrogram", "roots"):
        options = {"window_size": 50, "stride": 20, "magnitude_squared": case == "spectrogram"}
        operands = [Given(RNG.standard_normal((300, 3)).astype(np.float32))]
        content = model_of("AudioSpectrogram", options, operands, [F32])
    else:
        options = {
            "upper_frequency_limit": 4000, "lower_frequency_limit": 20,
            "filterbank_channel_count": 40, "dct_coefficient_count": 13,
        }  # fmt: skip
        x = np.abs(RNG.standard_normal((2, 3, 257 if case == "coefficients" else 33)))
        x[0, 0, 5], x[0, 1] = np.nan, 0.0
        operands = [Given(x.astype(np.float32)), fixed(np.int32([16000]))]
        content = model_of("Mfcc", options, operands, [F32])
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (node,) = interpreter._runner.sections[0].graph.nodes
    found, calls = run_lowered(node, isa, [x.value for x in operands])
    assert calls == 1
    want = node.op.reference(node, *(x.value for x in operands))
    size = np.nanmax(np.abs(want))
    np.testing.assert_allclose(found[0], want, rtol=1e-5, atol=1e-6 * size)
