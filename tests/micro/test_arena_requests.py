"""What each operator asks of the arena, on every target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.micro.arena_models import Spec, model_of

from litejit.errors import PrepareError
from litejit.micro import requests, support
from litejit.micro.operands import GraphState, View
from litejit.micro.structs import TARGETS
from litejit.model import Model
from litejit.model.builder import per_tensor
from litejit.model.flexbuffer import encode
from litejit.model.options import (
    BatchMatMulOptions,
    DepthToSpaceOptions,
    GatherOptions,
    Padding,
    Pool2DOptions,
    SpaceToDepthOptions,
    SVDFOptions,
    UnidirectionalSequenceLSTMOptions,
)
from litejit.types import BOOL, F32, I4, I8, I16, I32, U32, DType

COLUMNS = ("wheel", "host64", "cortex-m", "cortex-m-short-enums")


def view_of(model: Model, target: str = "wheel", **shared: Any) -> View:
    return View(model, GraphState(model, 0), 0, TARGETS[target], shared)


def words(view: View) -> str:
    """Prepare's calls: `T0` for tensor 0, `P64` for persistent bytes, `S8` for scratch bytes."""
    return " ".join(f"{kind}{value}" for kind, value in requests.prepare_calls(view))


def asked(name: str, inputs: Sequence[Spec | None], outputs: Sequence[Spec], **more: Any) -> str:
    return words(view_of(model_of(name, inputs, outputs, **more)))


def test_every_operator_of_tflm_has_a_row() -> None:
    assert set(requests.ROWS) == set(support.BUILTINS)
    assert set(requests.CUSTOM_ROWS) == set(support.CUSTOMS)


def test_an_operator_without_a_row_is_refused() -> None:
    view = view_of(model_of("ethos-u", [((1,), F32)], [((1,), F32)], custom=True))
    with pytest.raises(PrepareError, match=r"ethos-u .*not known"):
        requests.init_blocks(view)


@pytest.mark.parametrize(
    ("name", "options", "init"),
    [
        ("ABS", ((0, 1),) * 4, (28, 28, 28, 28)),
        ("ADD", ((8, 4), (8, 4), (8, 4), (2, 1)), (60,) * 4),
        ("MUL", ((4, 4), (4, 4), (4, 4), (1, 1)), (36,) * 4),
        ("SOFTMAX", ((4, 4),) * 4, (80, 80, 56, 56)),
        ("CONV_2D", ((28, 4),) * 4, (80, 72, 56, 56)),
        ("TRANSPOSE_CONV", ((20, 4), (20, 4), (20, 4), (16, 4)), (88, 80, 72, 72)),
        ("FULLY_CONNECTED", ((32, 8), (16, 4), (16, 4), (5, 1)), (72, 64, 48, 48)),
        ("BATCH_MATMUL", ((3, 1),) * 4, (32, 32, 16, 16)),
        ("CONCATENATION", ((8, 4),) * 4, (80, 40, 24, 24)),
        ("CAST", ((8, 4), (8, 4), (8, 4), (2, 1)), ()),
        ("SVDF", ((12, 4), (12, 4), (12, 4), (8, 4)), (36,) * 4),
        ("VAR_HANDLE", ((16, 8), (16, 8), (8, 4), (8, 4)), (4,) * 4),
        ("ASSIGN_VARIABLE", ((0, 1),) * 4, (4, 0, 0, 0)),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", ((16, 4),) * 4, (688,) * 4),
        ("SELECT_V2", ((0, 1),) * 4, (1,) * 4),
    ],
)
def test_options_and_init_have_tflms_sizes(
    name: str, options: tuple[tuple[int, int], ...], init: tuple[int, ...]
) -> None:
    model = model_of(name, [((4,), F32)], [((4,), F32)])
    for k, target in enumerate(COLUMNS):
        assert requests.builtin_data(view_of(model, target)) == options[k]
        blocks = requests.init_blocks(view_of(model, target))
        assert blocks == ([init[k]] if init and init[k] else [])


def test_custom_operators_have_no_parsed_options() -> None:
    for name in requests.CUSTOM_ROWS:
        assert requests.CUSTOM_ROWS[name][0] == ""


IMAGE, WIDE = ((1, 4, 4, 2), F32), ((1, 4, 4, 6), F32)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "calls"),
    [
        ("TANH", [((4,), F32)], [((4,), F32)], "T0 T0 T1"),
        ("FLOOR", [((4,), F32)], [((4,), F32)], ""),
        ("CONCATENATION", [((4,), F32)] * 3, [((12,), F32)], "T0 T3 T0 T1 T2"),
        ("LOG_SOFTMAX", [((4,), F32)], [((4,), F32)], "T0 T1"),
        ("LOG_SOFTMAX", [((4,), I8)], [((4,), I8)], "T0 T1 P40"),
        ("SOFTMAX", [((4,), I16)], [((4,), I16)], "T0 T1 P1026 P1026"),
        ("ADD_N", [((4,), F32)] * 3, [((4,), F32)], "T0 T3 T1 T2 S24"),
        ("ADD_N", [((4,), I8)] * 2, [((4,), I8)], "T0 T2 T1 P40 S16"),
        ("CUMSUM", [((4,), I8), ((), I32)], [((4,), I8)], "T0 T1 T2 P36"),
        ("MIRROR_PAD", [IMAGE, ((4, 2), I32)], [WIDE], "T0 T1 T2 S16 S16"),
        ("SPLIT", [((), I32), IMAGE], [IMAGE, IMAGE], "T0"),
        ("SPLIT_V", [IMAGE, ((2,), I32), ((), I32)], [IMAGE, IMAGE], "T2"),
        ("PADV2", [IMAGE, ((4, 2), I32), ((), F32)], [WIDE], "T0 T1 T2 T3"),
        ("REDUCE_ALL", [((2, 3), BOOL), ((1,), I32)], [((2,), BOOL)], "T0 T2 T1 T0 T1 S8 S4"),
    ],
)
def test_prepare_asks_in_tflms_order(
    name: str, inputs: list[Spec], outputs: list[Spec], calls: str
) -> None:
    assert asked(name, inputs, outputs) == calls


def test_absent_operands_cost_nothing() -> None:
    inputs = [((1, 4), F32), ((3, 4), F32), None]
    assert asked("FULLY_CONNECTED", inputs, [((1, 3), F32)]) == "T0 T1 T2"


def test_convolutions_keep_a_multiplier_and_a_shift_a_channel() -> None:
    filters, bias = ((6, 1, 1, 2), F32), ((6,), F32)
    assert asked("CONV_2D", [IMAGE, filters, bias], [WIDE]) == "T3 T0 T1 P24 P24 T0 T1 T2 T3"
    narrow = ((1, 3, 3, 6), F32)
    found = asked("DEPTHWISE_CONV_2D", [WIDE, narrow, bias], [WIDE])
    assert found == "T3 T0 T1 P24 P24 T0 T1 T2 T3"


def test_four_bit_weights_are_unpacked_into_scratch_memory() -> None:
    image, out, bias = ((1, 4, 4, 2), I8), ((1, 4, 4, 6), I8), ((6,), I32)
    filters = ((6, 1, 1, 2), I4)
    assert asked("CONV_2D", [image, filters, bias], [out]).endswith("P24 P24 T0 T1 T2 T3 S12")
    narrow = ((1, 3, 3, 6), I4)
    found = asked("DEPTHWISE_CONV_2D", [out, narrow, bias], [out])
    assert found == "T3 T0 T1 P24 P24 S54 T0 T1 T2 T3"
    found = asked("FULLY_CONNECTED", [((1, 2), I8), ((6, 2), I4), None], [((1, 6), I8)])
    assert found == "T0 T1 T2 S12"


@pytest.mark.parametrize(
    ("dtype", "bias", "calls"),
    [
        (F32, F32, "T4 T2 T1 P24 P24"),
        (I8, I32, "T4 T2 T1 P24 P24 S384 T2 T1 T3 T4"),
        (I16, I32, "T4 T2 T1 P24 P24 S768 T2 T1 T3 T4"),
        (I16, I16, "T4 T2 T1 P24 P24 S768 T2 T1 T3 T4 S48"),
    ],
)
def test_transposed_convolutions_sum_in_scratch_memory(
    dtype: DType, bias: DType, calls: str
) -> None:
    weights = ((6, 1, 1, 2), F32 if dtype is F32 else I8)
    inputs = [((4,), I32), weights, ((1, 4, 4, 2), dtype), ((6,), bias)]
    assert asked("TRANSPOSE_CONV", inputs, [((1, 4, 4, 6), dtype)]) == calls


def test_a_fully_connected_layer_keeps_multipliers_for_each_of_many_scales() -> None:
    out = [((1, 6), I8)]
    assert asked("FULLY_CONNECTED", [((1, 2), I8), ((6, 2), I8, 6)], out) == "T0 T1 T2 P24 P24"
    assert asked("FULLY_CONNECTED", [((1, 2), I8), ((6, 2), I8, 1)], out) == "T0 T1 T2"
    assert asked("FULLY_CONNECTED", [((1, 2), F32), ((6, 2), F32, 6)], out) == "T0 T1 T2"


@pytest.mark.parametrize(
    ("adj_x", "adj_y", "calls"),
    [
        (False, True, "T0 T1 T2 P28 P12"),
        (False, False, "T0 T1 T2 P28 P24 P12 P12 P12"),
        (True, True, "T0 T1 T2 P28 P24 P12 P6 P12"),
    ],
)
def test_a_matrix_product_keeps_transposed_operands(adj_x: bool, adj_y: bool, calls: str) -> None:
    left = ((3, 2) if adj_x else (2, 3), I8)
    right = ((4, 3) if adj_y else (3, 4), I8)
    options = BatchMatMulOptions(adj_x=adj_x, adj_y=adj_y)
    assert asked("BATCH_MATMUL", [left, right], [((2, 4), I8)], options=options) == calls


def test_means_sum_in_scratch_memory_where_they_are_quantized() -> None:
    axes = ((2,), I32)
    found = [
        asked(name, [((2, 3, 4), dtype), axes], [((2,), dtype)])
        for name, dtype in (("MEAN", F32), ("SUM", I8), ("MEAN", I16))
    ]
    assert found == [
        "T0 T2 T1 S12 S8 T0 T1",
        "T0 T2 T1 S8 S12 S8 T0 T1 T2",
        "T0 T2 T1 S8 S12 S8 T0 T1",
    ]


def test_extremes_take_their_result_twice_where_it_is_int8() -> None:
    axes = ((1,), I32)
    found = [
        asked(name, [((2, 3), dtype), axes], [((2,), dtype)])
        for name, dtype in (("REDUCE_MAX", F32), ("REDUCE_MIN", I8))
    ]
    assert found == ["T0 T1 T0 T2 T1 S8 S4", "T0 T1 T2 T0 T2 T1 S8 S4"]


def test_svdf_keeps_one_value_a_filter_and_one_a_unit() -> None:
    options = SVDFOptions(rank=2)
    shapes = [((3, 4), F32), ((8, 4), F32), ((8, 5), F32), ((4,), F32), ((3, 40), F32)]
    inputs: list[Spec] = list(shapes)
    assert asked("SVDF", inputs, [((3, 4), F32)], options=options) == "T0 T1 T2 T3 T4 T5 S96"
    inputs[0] = ((3, 4), I8)
    found = asked("SVDF", inputs, [((3, 4), I8)], options=options)
    assert found == "T0 T1 T2 T3 T4 T5 S96 S48"


@pytest.mark.parametrize("time_major", [False, True])
def test_an_lstm_takes_four_scratch_buffers_of_its_state(time_major: bool) -> None:
    options = UnidirectionalSequenceLSTMOptions(time_major=time_major)
    inputs: list[Spec | None] = [((2, 7, 5), I8), *[((3, 5), I8)] * 17, ((2, 3), I8), ((2, 3), I16)]
    inputs += [None] * 4
    found = asked("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [((2, 7, 3), I8)], options=options)
    batch = 7 if time_major else 2
    assert found.split()[-4:] == [f"S{batch * 3 * 2}"] * 4
    assert found.split()[:-4] == [f"T{k}" for k in range(21)]


def shape_after(model: Model) -> tuple[str, tuple[int, ...]]:
    view = view_of(model)
    calls = words(view)
    return calls, view.need("o0").shape


def test_kernels_that_write_shapes_keep_them_in_persistent_memory() -> None:
    image, wrong = ((1, 4, 6, 8), F32), ((9, 9, 9, 9), F32)
    pool = Pool2DOptions(
        padding=Padding.VALID, stride_h=2, stride_w=2, filter_height=3, filter_width=2
    )
    cases = [
        model_of("DEPTH_TO_SPACE", [image], [wrong], options=DepthToSpaceOptions(block_size=2)),
        model_of("SPACE_TO_DEPTH", [image], [wrong], options=SpaceToDepthOptions(block_size=2)),
        model_of("L2_POOL_2D", [image], [wrong], options=pool),
    ]
    assert [shape_after(model) for model in cases] == [
        ("T0 T1 P20", (1, 8, 12, 2)),
        ("T0 T1 P20", (1, 2, 3, 32)),
        ("T0 T1 P20", (1, 1, 3, 8)),
    ]
    pool = Pool2DOptions(padding=Padding.SAME, stride_h=2, stride_w=4)
    assert shape_after(model_of("L2_POOL_2D", [image], [wrong], options=pool))[1] == (1, 2, 2, 8)


def test_gathering_kernels_write_the_shape_of_their_result() -> None:
    data, out = ((4, 5, 6), F32), ((9, 9, 9), F32)
    picks, tuples = ((4, 2), I32), ((7, 2), I32)
    cases = [
        model_of("GATHER", [data, picks], [out], options=GatherOptions(axis=-1, batch_dims=1)),
        model_of("GATHER_ND", [data, tuples], [out]),
        model_of("EMBEDDING_LOOKUP", [((3,), I32), data], [out]),
    ]
    assert [shape_after(model) for model in cases] == [
        ("T0 T1 T2 P16", (4, 5, 2)),
        ("T0 T1 T2 P16", (7, 6)),
        ("T0 T1 T2 P16 P16", (3, 5, 6)),
    ]


def test_a_matrix_product_writes_the_shape_of_its_result() -> None:
    model = model_of("BATCH_MATMUL", [((3, 2, 5), F32), ((5, 4), F32)], [((9, 9, 9), F32)])
    assert shape_after(model)[1] == (3, 2, 4)


def test_reshape_finds_the_dimension_that_is_left_open() -> None:
    assert shape_after(model_of("RESHAPE", [((6, 4), F32)], [((3, -1), F32)])) == (
        "T0 T1 P12",
        (3, 8),
    )
    assert shape_after(model_of("RESHAPE", [((6, 4), F32)], [((24,), F32)])) == ("T0 T1", (24,))
    assert shape_after(model_of("RESHAPE", [((1,), F32)], [((0,), F32)])) == ("T0 T1", ())


def test_detections_are_sorted_in_eleven_scratch_buffers() -> None:
    options = encode({"num_classes": 3, "max_detections": 5})
    boxes, scores, anchors = ((1, 10, 4), F32), ((1, 10, 4), F32), ((10, 4), F32)
    found = asked(
        "TFLite_Detection_PostProcess", [boxes, scores, anchors], [((1, 5, 4), F32)],
        custom=True, custom_options=options,
    )  # fmt: skip
    sizes = (10, 160, 160, 40, 40, 200, 200, 40, 200, 200, 200)
    assert found == "T0 T1 T2 " + " ".join(f"S{size}" for size in sizes)


def signal(
    name: str, inputs: Sequence[Spec], outputs: Sequence[Spec], target: str, **options: int
) -> tuple[list[int], str]:
    raw = encode(options) if options else b""
    model = model_of(name, inputs, outputs, custom=True, custom_options=raw)
    return requests.init_blocks(view_of(model, target)), words(view_of(model, target))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "options", "wheel", "cortex"),
    [
        (
            "SignalDelay", [((2, 8), I16)], [((2, 8), I16)], {"delay_length": 3},
            ([32], "T0 T1 P16 P16 P84 P84"), ([20], "T0 T1 P8 P8 P68 P68"),
        ),
        (
            "SignalFramer", [((1, 4), I16)], [((1, 2, 10), I16), ((), BOOL)],
            {"frame_size": 10, "frame_step": 4, "prefill": 1},
            ([40], "T0 T1 T2 P8 P8 P88"), ([28], "T0 T1 T2 P4 P4 P72"),
        ),
        (
            "SignalOverlapAdd", [((2, 3, 8), I16)], [((2, 12), I16)], {"frame_step": 4, "T": 7},
            ([32], "T0 T1 P16 P16 P16"), ([24], "T0 T1 P8 P16 P16"),
        ),
        (
            "SignalRfft", [((16,), I16)], [((18,), I16)], {"fft_length": 16, "T": 7},
            ([48, 368], "T0 T1 S32"), ([32, 356], "T0 T1 S32"),
        ),
        (
            "SignalRfft", [((16,), F32)], [((18,), F32)], {"fft_length": 16, "T": 0},
            ([48, 448], "T0 T1 S64"), ([32, 436], "T0 T1 S64"),
        ),
        (
            "SignalIrfft", [((18,), I16)], [((16,), I16)], {"fft_length": 16, "T": 7},
            ([32, 368], "T0 T1"), ([24, 356], "T0 T1"),
        ),
        (
            "SignalIrfft", [((18,), F32)], [((16,), F32)], {"fft_length": 16, "T": 0},
            ([32, 464], "T0 T1"), ([24, 444], "T0 T1"),
        ),
        (
            "SignalStacker", [((4,), I16)], [((12,), I16), ((), BOOL)],
            {"num_channels": 4, "stacker_left_context": 2, "stacker_right_context": 0,
             "stacker_step": 2},
            ([56, 88], "T0 T1 T2"), ([36, 72], "T0 T1 T2"),
        ),
        (
            "SignalFilterBank", [((9,), U32), *[((4,), I16)] * 5], [((3,), U32)],
            {"num_channels": 3}, ([64, 32], "T0 T1 T2 T3 T4 T5 T6"),
            ([36, 32], "T0 T1 T2 T3 T4 T5 T6"),
        ),
        (
            "SignalFilterBankSpectralSubtraction", [((5,), U32)], [((5,), U32)] * 2,
            {"num_channels": 5}, ([56, 20], "T0 T1 T2"), ([44, 20], "T0 T1 T2"),
        ),
        (
            "SignalFftAutoScale", [((8,), I16)], [((8,), I16), ((), I32)], {},
            ([], "T0 T1 T2"), ([], "T0 T1 T2"),
        ),
        ("CIRCULAR_BUFFER", [IMAGE], [IMAGE], {}, ([8], "T0 T1"), ([8], "T0 T1")),
    ],
)  # fmt: skip
def test_signal_kernels_keep_their_state_and_tables(
    name: str,
    inputs: list[Spec],
    outputs: list[Spec],
    options: dict[str, int],
    wheel: tuple[list[int], str],
    cortex: tuple[list[int], str],
) -> None:
    assert signal(name, inputs, outputs, "wheel", **options) == wheel
    assert signal(name, inputs, outputs, "cortex-m", **options) == cortex


def test_numbers_that_options_do_not_name_are_0() -> None:
    operands = [((2, 8), I16)], [((2, 8), I16)]
    missing = signal("SignalDelay", *operands, "wheel")
    assert missing == signal("SignalDelay", *operands, "wheel", delay_length=0)
    with pytest.raises(PrepareError, match="its options have no number 'delay_length'"):
        signal("SignalDelay", *operands, "wheel", delay_length="3")


def test_a_signal_kernel_with_endless_state_is_refused() -> None:
    with pytest.raises(PrepareError, match="it asks for 1000000000 blocks of memory"):
        signal("SignalDelay", [((10**9, 8), I16)], [((2, 8), I16)], "wheel", delay_length=3)


def decoded(kind: int, scales: int = 1, **shared: Any) -> tuple[str, set[int]]:
    ancillary = bytes([kind, 1]) + bytes(30)
    model = model_of(
        "TFLM_DECODE",
        [((4,), I8, b"abcd"), ((32,), I8, ancillary)],
        [((20,), I8, scales)],
        custom=True,
    )
    view = view_of(model, **shared)
    return words(view), view.graph.placed_outside


def test_decoders_keep_one_state_an_output() -> None:
    assert decoded(0)[0] == "P8 T0 T1 T2 P72"
    assert decoded(1)[0] == "P8 T0 T1 T2 P56"
    assert decoded(2)[0] == "P8 T0 T1 T2 P80"


def test_pruned_weights_keep_the_zero_points_of_their_channels() -> None:
    assert decoded(2, scales=4)[0] == "P8 T0 T1 T2 P80 P4"


def test_decoded_tensors_lie_in_alternate_memory_while_they_fit() -> None:
    assert decoded(0, **{"alternate memory": 20})[1] == {2}
    assert decoded(0, **{"alternate memory": 19})[1] == set()


def test_an_unknown_way_to_decode_is_refused() -> None:
    with pytest.raises(PrepareError, match="input 1 says no way to decode"):
        decoded(127)


def test_quantization_needs_scales_and_zero_points() -> None:
    view = view_of(model_of("NEG", [((4,), I8, 1)], [((4,), I8)]))
    assert (view.need("i0").scales, view.need("o0").scales) == (1, 0)
    assert per_tensor(0.5).scales.dtype == np.float32
