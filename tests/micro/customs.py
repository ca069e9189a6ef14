"""Sample models of one custom operator each, with inputs for several runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from litejit.model.builder import ModelBuilder
from litejit.model.flexbuffer import encode
from litejit.types import BOOL, F32, I8, I16, I32, I64, U8, U32, U64, DType, Quantization

RUNS = 4
_DTYPES = {d.numpy: d for d in (F32, I8, I16, I32, I64, U8, U32, U64, BOOL)}


class Case(NamedTuple):
    """A model's bytes, and the inputs of every run."""

    name: str
    content: bytes
    runs: list[list[Any]]


def build(
    operator: str, options: dict[str, Any], inputs: list[Any], outputs: list[Any],
    *, constants: dict[int, Any] | None = None,
) -> bytes:  # fmt: skip
    """A model of one custom operator; `constants` take the places of inputs."""
    model = ModelBuilder("one custom operator")
    graph = model.main
    places: dict[int, int] = {}
    for place, value in (constants or {}).items():
        places[place] = graph.add_constant(f"constant {place}", value)
    rest = iter(inputs)
    for place in range(len(inputs) + len(places)):
        if place not in places:
            value = next(rest)
            dtype = _DTYPES[value.dtype]
            places[place] = graph.add_input(f"input {place}", value.shape, dtype)
    results = []
    for k, (shape, dtype, *more) in enumerate(outputs):
        quantization = more[0] if more else None
        results.append(graph.add_output(f"output {k}", shape, dtype, quantization=quantization))
    order = [places[k] for k in sorted(places)]
    data = encode(options) if options else b""
    graph.add_operator(operator, order, results, custom=True, custom_options=data)
    return model.to_bytes()


def case(
    name: str, operator: str, options: dict[str, Any], make: Any, outputs: list[Any],
    *, constants: dict[int, Any] | None = None,
) -> Case:  # fmt: skip
    """A case whose inputs `make` draws anew for every run."""
    rng = np.random.default_rng(len(name))
    runs = [list(make(rng)) for _ in range(RUNS)]
    return Case(name, build(operator, options, runs[0], outputs, constants=constants), runs)


def _samples(rng: Any, *shape: int, dtype: Any = np.int16, high: int = 32767) -> Any:
    return rng.integers(-high, high, shape, endpoint=True).astype(dtype)


def _transforms() -> list[Case]:
    cases = []
    kinds = ((I16, "i16", 32767), (I32, "i32", (1 << 31) - 1), (F32, "f32", 0))
    for dtype, short, high in kinds:
        for n in (8, 60, 90, 256, 512):

            def forward(rng: Any, n: int = n, dtype: DType = dtype, high: int = high) -> Any:
                shape = (2, n - 3)
                if not high:
                    return [rng.standard_normal(shape).astype(np.float32)]
                return [_samples(rng, *shape, dtype=dtype.numpy, high=high)]

            def backward(rng: Any, n: int = n, dtype: DType = dtype, high: int = high) -> Any:
                shape = (2, n + 2)
                if not high:
                    return [rng.standard_normal(shape).astype(np.float32)]
                return [_samples(rng, *shape, dtype=dtype.numpy, high=high // 2)]

            options = {"T": dtype.code, "fft_length": n}
            cases += [
                case(f"rfft {short} {n}", "SignalRfft", options, forward, [((2, n + 2), dtype)]),
                case(f"irfft {short} {n}", "SignalIrfft", options, backward, [((2, n), dtype)]),
            ]
    return cases


def _streams() -> list[Case]:
    add = {"frame_step": 5, "T": I16.code}
    return [
        case("delay", "SignalDelay", {"delay_length": 5},
             lambda r: [_samples(r, 2, 4)], [((2, 4), I16)]),
        case("framer", "SignalFramer", {"frame_size": 6, "frame_step": 4, "prefill": True},
             lambda r: [_samples(r, 8)], [((2, 6), I16), ((), BOOL)]),
        case("stacker", "SignalStacker",
             {"num_channels": 3, "stacker_left_context": 1, "stacker_right_context": 0,
              "stacker_step": 1},
             lambda r: [_samples(r, 3)], [((6,), I16), ((), BOOL)]),
        case("long delay", "SignalDelay", {"delay_length": 70},
             lambda r: [_samples(r, 40)], [((40,), I16)]),
        case("no delay", "SignalDelay", {"delay_length": 0},
             lambda r: [_samples(r, 9)], [((9,), I16)]),
        case("framer of rows", "SignalFramer", {"frame_size": 23, "frame_step": 20,
                                                "prefill": True},
             lambda r: [_samples(r, 3, 40)], [((3, 2, 23), I16), ((), BOOL)]),
        case("framer that fills", "SignalFramer", {"frame_size": 70, "frame_step": 16,
                                                   "prefill": False},
             lambda r: [_samples(r, 48)], [((3, 70), I16), ((), BOOL)]),
        case("stacker of pairs", "SignalStacker",
             {"num_channels": 17, "stacker_left_context": 2, "stacker_right_context": 1,
              "stacker_step": 2},
             lambda r: [_samples(r, 17)], [((68,), I16), ((), BOOL)]),
        case("overlap add of whole frames", "SignalOverlapAdd", {**add, "frame_step": 70},
             lambda r: [_samples(r, 2, 70)], [((140,), I16)]),
        case("long overlap add", "SignalOverlapAdd", {**add, "frame_step": 33},
             lambda r: [_samples(r, 2, 2, 100)], [((2, 66), I16)]),
        case("overlap add i16", "SignalOverlapAdd", add,
             lambda r: [_samples(r, 2, 3, 8)], [((2, 15), I16)]),
        case("overlap add f32", "SignalOverlapAdd", {**add, "T": F32.code},
             lambda r: [r.standard_normal((3, 8)).astype(np.float32)], [((15,), F32)]),
        case("spectral subtraction", "SignalFilterBankSpectralSubtraction",
             {"alternate_one_minus_smoothing": 16384 - 700, "alternate_smoothing": 700,
              "clamping": True, "min_signal_remaining": 800, "num_channels": 7,
              "one_minus_smoothing": 16384 - 400, "smoothing": 400, "smoothing_bits": 4,
              "spectral_subtraction_bits": 14},
             lambda r: [r.integers(0, 1 << 27, 7).astype(np.uint32)],
             [((7,), U32), ((7,), U32)]),
    ]  # fmt: skip


def _banks() -> list[Case]:
    widths = np.array([3, 4, 2, 5], np.int16)
    starts = np.array([1, 4, 8, 10], np.int16)
    firsts = np.array([0, 3, 7, 9], np.int16)
    weights = np.arange(14, dtype=np.int16) * 290
    gains = np.random.default_rng(3).integers(-900, 9000, 125).astype(np.int16)
    window = np.linspace(0, 4096, 30).astype(np.int16)
    return [
        case("filter bank", "SignalFilterBank", {"num_channels": 3},
             lambda r: [r.integers(0, 1 << 32, 16).astype(np.uint32)], [((3,), U64)],
             constants={1: weights, 2: (4096 - weights).astype(np.int16), 3: starts, 4: firsts,
                        5: widths}),
        case("square root", "SignalFilterBankSquareRoot", {},
             lambda r: [np.concatenate([r.integers(0, 1 << k, 9).astype(np.uint64)
                                        for k in (4, 20, 33, 60)]), np.array(2, np.int32)],
             [((36,), U32)]),
        case("classifier", "BasicClassifier", {},
             lambda r: [r.integers(-9, 9, (4, 5)).astype(np.int32)], [((7,), BOOL), ((7,), I32)],
             constants={1: np.array([19, 0, 5, 5, 3, 18, 1], np.int32),
                        2: np.arange(-3, 4, dtype=np.int32)}),
        case("classifier of what comes", "BasicClassifier", {},
             lambda r: [r.integers(-9, 9, 6).astype(np.int32),
                        r.integers(0, 6, 9).astype(np.int32),
                        r.integers(-9, 9, 9).astype(np.int32)], [((9,), BOOL), ((9,), I32)]),
        case("log", "SignalFilterBankLog", {"input_correction_bits": 3, "output_scale": 1600},
             lambda r: [np.concatenate([r.integers(0, 1 << k, 9).astype(np.uint32)
                                        for k in (2, 12, 20, 32)])], [((36,), I16)]),
        case("gain control", "SignalPCAN", {"snr_shift": 6},
             lambda r: [r.integers(0, 1 << 31, 24).astype(np.uint32),
                        (r.integers(0, 1 << 31, 24) >> r.integers(0, 31, 24)).astype(np.uint32)],
             [((24,), U32)], constants={2: gains}),
        case("energy", "SignalEnergy", {"start_index": 0, "end_index": 9},
             lambda r: [_samples(r, 18)], [((9,), U32)]),
        case("window", "SignalWindow", {"shift": 9},
             lambda r: [_samples(r, 3, 30)], [((3, 30), I16)], constants={1: window}),
        *(case(f"auto scale {high}", "SignalFftAutoScale", {},
               lambda r, high=high: [_samples(r, 30, high=high)], [((30,), I16), ((), I32)])
          for high in (0, 3, 900, 32767)),
        case("auto scale of the lowest number", "SignalFftAutoScale", {},
             lambda r: [np.array([5, -32768, 77, -80, 3], np.int16)],
             [((5,), I16), ((), I32)]),
    ]  # fmt: skip


def _per_channel(count: int, axis: int, zeros: Any = None) -> Quantization:
    zeros = np.zeros(count, np.int64) if zeros is None else np.asarray(zeros, np.int64)
    return Quantization(np.full(count, 0.5, np.float32), zeros, axis)


def _packed(codes: Any, width: int) -> Any:
    bits = ((np.asarray(codes)[:, None] >> np.arange(width)[::-1]) & 1).astype(np.uint8)
    octets = np.packbits(bits.reshape(-1))
    return np.pad(octets, (0, -len(octets) % 8))


def description(kind: int, settings: list[int], table: Any) -> Any:
    """16 bytes and a table."""
    head = np.zeros(16, np.uint8)
    head[:2] = kind, 1
    head[4 : 4 + len(settings)] = settings
    return np.concatenate([head, np.ascontiguousarray(table).view(np.uint8).reshape(-1)])


def huffman_table(wide: bool) -> Any:
    """Codes 0, 10, 110, 111 for 7, -3, 20, -90: one table of two bits, one of one bit."""
    dtype, low = (np.uint32, 27) if wide else (np.uint16, 11)
    flag = 1 << (31 if wide else 15)
    mask = (1 << low) - 1

    def symbol(value: int, bits: int) -> int:
        return flag | bits << low | value & mask

    # index 3 (bits 11) goes on 1 entry behind itself, with one more bit
    return np.array(
        [symbol(7, 1), symbol(7, 1), symbol(-3, 2), 0 << low | 1, symbol(20, 1), symbol(-90, 1)],
        dtype,
    )


def _huffman(values: list[int]) -> Any:
    codes = {7: "0", -3: "10", 20: "110", -90: "111"}
    text = "".join(codes[v] for v in values)
    bits = np.array([int(c) for c in text.ljust(-(-len(text) // 64) * 64, "0")], np.uint8)
    return np.pad(np.packbits(bits), (0, 8))


def _decoders() -> list[Case]:
    rng = np.random.default_rng(5)
    cases = []

    def add(name: str, codes: Any, about: Any, shape: Any, dtype: DType, q: Any = None) -> None:
        spare = rng.integers(-5, 5, 4).astype(np.int8)
        content = build("TFLM_DECODE", {}, [], [(shape, dtype, q)], constants={0: codes, 1: about})
        cases.append(Case(name, content, [[] for _ in range(2)]))
        assert spare.size == 4

    for width in range(1, 8):
        for dtype in (I8, I16, F32):
            table = rng.integers(-100, 100, 1 << width).astype(dtype.numpy)
            codes = rng.integers(0, 1 << width, 35)
            about = description(0, [1, width, 1 << width & 255], table)
            add(f"look up {width} {dtype}", _packed(codes, width), about, (5, 7), dtype)
    for axis, shape in ((0, (3, 40)), (1, (40, 3))):
        table = rng.integers(-100, 100, 48).astype(np.int8)
        codes = _packed(rng.integers(0, 16, 120), 4)
        add(f"look up by channel {axis}", codes, description(0, [1, 4, 16], table), shape, I8,
            _per_channel(3, axis))
        kept = rng.integers(0, 2, 120)
        values = rng.integers(-100, 100, int(kept.sum())).astype(np.int8)
        add(f"prune by channel {axis}", _packed(kept, 1), description(2, [1], values), shape, I8,
            _per_channel(3, axis, [4, -9, 11]))
    for dtype in (I8, I16, F32, I64):
        kept = rng.integers(0, 2, 50)
        values = rng.integers(-100, 100, int(kept.sum())).astype(dtype.numpy)
        add(f"prune {dtype}", _packed(kept, 1), description(2, [1], values), (50,), dtype,
            _per_channel(1, 0))
    values = rng.choice([7, -3, 20, -90], 61, p=[0.5, 0.3, 0.1, 0.1]).tolist()
    for wide, dtype in ((False, I8), (True, I8), (True, I16)):
        about = description(1, [1, 1 << 4 | wide], huffman_table(wide))
        add(f"huffman {wide} {dtype}", _huffman(values), about, (61,), dtype)
    return cases


def _buffers() -> list[Case]:
    slots = lambda r: [_samples(r, 1, 1, 2, 3, dtype=np.int8, high=127)]  # noqa: E731
    return [
        case("circular buffer", "CIRCULAR_BUFFER", {"cycles_max": 1}, slots, [((1, 3, 2, 3), I8)]),
        case("circular buffer of much", "CIRCULAR_BUFFER", {},
             lambda r: [_samples(r, 1, 1, 5, 17, dtype=np.int8, high=127)],
             [((1, 5, 5, 17), I8)]),
        case("circular buffer of two", "CIRCULAR_BUFFER", {"cycles_max": 2}, slots,
             [((1, 4, 2, 3), I8)]),
    ]  # fmt: skip


CASES = [*_transforms(), *_streams(), *_banks(), *_decoders(), *_buffers()]
