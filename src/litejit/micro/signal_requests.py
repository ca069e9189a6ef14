"""What TFLM's signal kernels ask of the arena beyond a row of `requests.CUSTOM_ROWS`."""

from __future__ import annotations

import math
from collections.abc import Callable

from litejit.errors import PrepareError
from litejit.micro.operands import View

MAX_BLOCKS = 1 << 16  # state buffers of one kernel; no microcontroller holds their pointers


def ring_bytes(capacity: int, pointer_bytes: int) -> int:
    """Bytes of a ring buffer for `capacity` int16 values: its structure and twice the values."""
    return (40 if pointer_bytes == 8 else 24) + 4 * capacity


def fft_bytes(points: int, dtype: str, pointer_bytes: int) -> int:
    """Bytes of the tables of a real Fourier transform of `points` points."""
    pair = 4 if dtype == "INT16" else 8  # bytes of a complex number
    tables = pair + pair * (points // 2 - 1) + pair * (3 * points // 4)
    return 264 + 3 * pointer_bytes + tables


def _frames(view: View) -> tuple[int, int]:
    """(product of the outer dimensions, innermost dimension) of input 0."""
    shape = view.need("i0").shape
    if not shape:
        raise PrepareError(f"{view.where}: its input is a scalar, expected frames")
    return math.prod(shape[:-1]), shape[-1]


def _blocks(view: View, count: int, nbytes: int) -> None:
    if count > MAX_BLOCKS:
        raise PrepareError(f"{view.where}: it asks for {count} blocks of memory")
    view.persistent(*[nbytes] * count)


def _rings(view: View, count: int, capacity: int) -> None:
    pointer = view.target.pointer_bytes
    view.persistent(pointer * count, pointer * count)
    _blocks(view, count, ring_bytes(capacity, pointer))


def _delay(view: View) -> None:
    outer, frame = _frames(view)
    _rings(view, outer, frame + view.custom("delay_length"))


def _framer(view: View) -> None:
    frame, step = view.custom("frame_size"), view.custom("frame_step")
    if step < 1:
        raise PrepareError(f"{view.where}: frame_step is {step}, expected at least 1")
    _rings(view, _frames(view)[0], step * -(-frame // step))


def _overlap_add(view: View) -> None:
    image = view.need("i0")
    if image.rank < 2:
        raise PrepareError(f"{view.where}: its input has shape {image.shape}, expected frames")
    outer, frame = math.prod(image.shape[:-2]), image.shape[-1]
    view.persistent(view.target.pointer_bytes * outer)
    _blocks(view, outer, frame * image.item_bytes)


def _fft(view: View) -> int:
    return fft_bytes(view.custom("fft_length"), view.need("i0").dtype, view.target.pointer_bytes)


def _rfft_init(view: View) -> None:
    view.persistent(_fft(view))


def _rfft(view: View) -> None:
    view.scratch((2 if view.need("i0").dtype == "INT16" else 4) * view.custom("fft_length"))


def _irfft_init(view: View) -> None:
    is_float = view.need("i0").dtype == "FLOAT32"
    view.persistent(_fft(view) + (2 * view.target.pointer_bytes if is_float else 0))


def _stacker_init(view: View) -> None:
    frames = view.custom("stacker_left_context") + view.custom("stacker_right_context") + 1
    capacity = view.custom("num_channels") * frames
    view.persistent(ring_bytes(capacity, view.target.pointer_bytes))


def _filter_bank_init(view: View) -> None:
    view.persistent(8 * (view.custom("num_channels") + 1))


def _subtraction_init(view: View) -> None:
    view.persistent(4 * view.custom("num_channels"))


PREPARE: dict[str, Callable[[View], None]] = {
    "SignalDelay": _delay,
    "SignalFramer": _framer,
    "SignalOverlapAdd": _overlap_add,
    "SignalRfft": _rfft,
}
INIT: dict[str, Callable[[View], None]] = {
    "SignalRfft": _rfft_init,
    "SignalIrfft": _irfft_init,
    "SignalStacker": _stacker_init,
    "SignalFilterBank": _filter_bank_init,
    "SignalFilterBankSpectralSubtraction": _subtraction_init,
}
