"""Signal operators of an audio front end: window, transforms, filter banks, gain, logarithm.

Sources: tflite-micro signal/micro/kernels/*.cc, signal/src/{window,fft_auto_scale,energy,
filter_bank*,square_root_*,pcan_argc_fixed,log,msb_32}.cc.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from litejit.micro import kiss_fft, signal_lowering
from litejit.micro.file_bytes import bytes_from
from litejit.micro.signal_lowering import GAINS
from litejit.micro.signal_op import CustomOp, StatefulOp, rows_of
from litejit.ops.base import Arrays, Lowering, Node
from litejit.types import F32, I16, I32, U32, U64, Array

_U64 = np.uint64
_LOW32 = _U64(0xFFFFFFFF)
_LARGEST = 1 << 20  # samples of a transform


def bit_length32(x: Array) -> Array:
    """Bits of uint32 numbers; 32 for 0, as TFLM counts them on most machines."""
    wide = np.asarray(x, np.float64)
    return np.where(wide == 0, 32, np.frexp(wide)[1]).astype(np.int64)


class Window(CustomOp):
    """y = x * weights >> `shift`, saturated to int16; rows are windowed one by one."""

    inputs = (I16, I16)
    results_of = (I16,)
    arity = (2, 2)
    vectors = False

    def check(self, node: Node) -> None:
        """Whole windows."""
        x, weights = node.input(0), node.input(1)
        ok = x.rank >= 1 and weights.rank == 1 and weights.size > 0 and x.size % weights.size == 0
        node.require(ok, f"a window of {weights.shape} over {x.shape}")
        node.require(0 <= node.options.number("shift") < 32, "shift must be in 0 .. 31")
        self.require_output(node, x.dims)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """In 32 bits."""
        x, weights = inputs
        product = x.reshape(-1, len(weights)).astype(np.int32) * weights
        raw: Array = np.clip(product >> node.options.number("shift"), -32768, 32767)
        return raw.astype(np.int16).reshape(node.output(0).dims)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.window(node, steps)


class FftAutoScale(CustomOp):
    """x * 2**s with the largest s that keeps the largest |x| within 15 bits, and s."""

    inputs = (I16,)
    results_of = (I16, I32)
    results = (2, 2)

    def check(self, node: Node) -> None:
        """Equal shapes, one number."""
        self.require_output(node, node.input(0).dims)
        self.require_output(node, (), 1)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """One shift for all."""
        (x,) = inputs
        bits = max(16 - int(bit_length32(np.uint32(_largest16(x) & 0xFFFFFFFF))) - 1, 0)
        scaled = (x.astype(np.int32) << bits).astype(np.int16)
        return scaled, np.array(bits, np.int32)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.auto_scale(node, steps)


def _largest16(x: Array) -> int:
    """The largest |x| as TFLM finds it: -(-32768) stays negative, and the search starts anew."""
    wide = x.astype(np.int32)
    if not (wide == -32768).any():
        return int(np.abs(wide).max(initial=0))
    largest = 0
    for value in wide.tolist():
        if value > largest:
            largest = value
        elif -value > largest:
            largest = -32768 if value == -32768 else -value
    return largest


class _Transform(CustomOp):
    """Transforms of rows; `T` is the element type, `fft_length` the length, which is even."""

    vectors = False
    inverse: ClassVar[bool] = False

    def check(self, node: Node) -> None:
        """Types and lengths that agree."""
        x, y, n = node.input(0), node.output(0), node.options.number("fft_length")
        node.require_dtype(x, (I16, I32, F32), "input")
        node.require_dtype(y, (x.dtype,), "output")
        kind = node.options.number("T", x.dtype.code)
        node.require(kind == x.dtype.code, f"T is {kind}, the input {x.dtype.name}")
        node.require(0 < n <= _LARGEST and n % 2 == 0, f"fft_length is {n}")
        node.require(x.rank >= 1, "input must have at least one dimension")
        wanted = n + 2 if self.inverse else x.dims[-1]
        ok = x.dims[-1] == wanted and (self.inverse or x.dims[-1] <= n)
        node.require(ok, f"rows of {x.dims[-1]} numbers for a transform of {n}")
        self.require_output(node, (*x.dims[:-1], n if self.inverse else n + 2))

    def transform(self, node: Node) -> kiss_fft.RealTransform:
        """The tables."""
        name = node.input(0).dtype.numpy.name
        return kiss_fft.transform(name, node.options.number("fft_length"), inverse=self.inverse)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.transform(node, steps, self.transform(node), inverse=self.inverse)


class Rfft(_Transform):
    """n / 2 + 1 complex numbers, real and imaginary parts side by side; short rows end in 0."""

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Row by row."""
        x = rows_of(inputs[0])
        padded = np.zeros((len(x), node.options.number("fft_length")), x.dtype)
        padded[:, : x.shape[1]] = x
        return self.transform(node).forward(padded).reshape(node.output(0).dims)


class Irfft(_Transform):
    """n real numbers from n / 2 + 1 complex ones; floats are divided by n."""

    inverse: ClassVar[bool] = True

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Row by row."""
        y = self.transform(node).backward(rows_of(inputs[0]))
        if y.dtype == np.float32:
            y = y / np.float32(node.options.number("fft_length"))
        return y.reshape(node.output(0).dims)


class Energy(CustomOp):
    """re**2 + im**2 of complex int16 numbers `start_index` .. `end_index` - 1; 0 elsewhere."""

    inputs = (I16,)
    results_of = (U32,)

    def check(self, node: Node) -> None:
        """A range within both."""
        first, last = (node.options.number(f"{word}_index") for word in ("start", "end"))
        pairs, places = node.input(0).size // 2, node.output(0).size
        ok = 0 <= first <= last <= min(pairs, places)
        node.require(ok, f"numbers {first} to {last} of {pairs}, for {places} results")

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """In 32 bits."""
        first, last = (node.options.number(f"{word}_index") for word in ("start", "end"))
        parts = inputs[0].reshape(-1)[2 * first : 2 * last].astype(np.int64).reshape(-1, 2)
        out = np.zeros(node.output(0).dims, np.uint32)
        out[first:last] = (parts**2).sum(axis=1)
        return out

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.energy(node, steps)


class FilterBank(CustomOp):
    """Channel c: weights of c times energies, plus unweights of c - 1 times theirs; uint64 wraps.

    Inputs: energies, weights, unweights, and for `num_channels` + 1 channels the first energy,
    the first weight and the number of both.
    """

    inputs = (U32, I16, I16, I16, I16, I16)
    results_of = (U64,)
    arity = (6, 6)

    def check(self, node: Node) -> None:
        """As many channels as results."""
        count = node.options.number("num_channels")
        enough = all(node.input(k).size > count for k in (3, 4, 5))
        node.require(count >= 0 and enough, f"too few starts for {count} channels")
        self.require_output(node, (count,))

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Sums of all channels at once."""
        energies, weights, unweights, *ranges = inputs
        count = node.options.number("num_channels") + 1
        starts, firsts, widths = (r[:count].astype(np.int64) for r in ranges)
        widths = np.maximum(widths, 0)
        ends = np.cumsum(widths)
        inside = np.arange(ends[-1]) - np.repeat(ends - widths, widths)
        place, weight = np.repeat(starts, widths) + inside, np.repeat(firsts, widths) + inside
        for index, size in ((place, len(energies)), (weight, min(len(weights), len(unweights)))):
            ok = not len(index) or (index.min() >= 0 and index.max() < size)
            node.check(ok, "a channel reaches beyond its energies or weights")
        values = energies[place].astype(_U64)
        sums = []
        for factors in (weights, unweights):
            products = values * factors[weight].astype(np.int64).view(_U64)
            running = np.concatenate([np.zeros(1, _U64), np.cumsum(products, dtype=_U64)])
            sums.append(running[ends] - running[ends - widths])
        return np.asarray(sums[0][1:] + sums[1][:-1])

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.filter_bank(node, steps)


def square_root(x: Array) -> Array:
    """Square roots of uint64 numbers, rounded to nearest but for the largest of 32 and 64 bits."""
    root = np.minimum(np.sqrt(x.astype(np.float64)), 2.0**32 - 1).astype(_U64)
    one = _U64(1)
    root -= (root * root > x).astype(_U64)
    up = np.minimum(root + one, _LOW32)
    root = np.where((up > root) & (up * up <= x), up, root)
    rest = x - root * root
    limit = np.where(x > _LOW32, _LOW32, _U64(0xFFFF))
    return np.where((rest > root) & (root != limit), root + one, root)


class FilterBankSquareRoot(CustomOp):
    """y = round(sqrt(x)) >> bits (input 1)."""

    inputs = (U64, I32)
    results_of = (U32,)
    arity = (2, 2)

    def check(self, node: Node) -> None:
        """Equal shapes, one number."""
        node.require(node.input(1).size == 1, f"scale bits have shape {node.input(1).shape}")
        self.require_output(node, node.input(0).dims)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """In 64 bits."""
        x, bits = inputs
        shift = int(bits.reshape(-1)[0]) & 31  # as CPUs shift
        root: Array = square_root(x) >> _U64(shift)
        return root.astype(np.uint32)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.square_root(node, steps)


class SpectralSubtraction(StatefulOp):
    """x less a smoothed estimate of the noise, at least a fraction of x; and the estimate.

    Odd channels have smoothing factors of their own. `clamping` keeps the estimate below x.
    """

    inputs = (U32,)
    results_of = (U32, U32)
    results = (2, 2)

    def check(self, node: Node) -> None:
        """As many channels as numbers."""
        count = node.options.number("num_channels")
        node.require(count == node.input(0).size, f"{count} channels for {node.input(0).shape}")
        for key in ("smoothing_bits", "spectral_subtraction_bits"):
            node.require(0 <= node.options.number(key) < 32, f"{key} must be in 0 .. 31")
        for position in (0, 1):
            self.require_output(node, node.input(0).dims, position)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """In unsigned 64 bits, cut to 32."""
        number = node.options.number
        x = inputs[0].astype(_U64)
        state = self.state(node)
        noise = state.copy()
        bits = _U64(number("spectral_subtraction_bits"))
        smooth, keep = (
            _alternating(len(x), number(f"{word}"), number(f"alternate_{word}"))
            for word in ("smoothing", "one_minus_smoothing")
        )
        up = (x << _U64(number("smoothing_bits"))) & _LOW32
        noise = ((up * smooth + noise * keep) >> bits) & _LOW32
        estimate = np.minimum(noise, up)
        if number("clamping"):
            noise = estimate
        state[...] = noise
        floor = ((x * _U64(number("min_signal_remaining") & 0xFFFFFFFF)) >> bits) & _LOW32
        rest = (up - estimate) >> _U64(number("smoothing_bits"))
        return np.maximum(rest, floor).astype(np.uint32), noise.astype(np.uint32)

    def state(self, node: Node) -> Array:
        """The estimate."""
        return self.memory(node.options, 8 * node.input(0).size).view(_U64)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.subtraction(node, steps, self.state(node))


def _alternating(count: int, even: int, odd: int) -> Array:
    factors = np.full(count, even & 0xFFFFFFFF, _U64)
    factors[1::2] = odd & 0xFFFFFFFF
    return factors


_SNR_BITS, _OUTPUT_BITS = 12, 6


class Pcan(CustomOp):
    """Automatic gain: x times a gain looked up by the noise, >> `snr_shift`, then compressed.

    Inputs: x, the noise estimate, the table of gains (4 numbers for every power of two).
    """

    inputs = (U32, U32, I16)
    results_of = (U32,)
    arity = (3, 3)

    def check(self, node: Node) -> None:
        """As many estimates as numbers."""
        x, noise = node.input(0), node.input(1)
        node.require(noise.size >= x.size, f"{noise.shape} noise estimates for {x.shape}")
        node.require(0 <= node.options.number("snr_shift") < 64, "snr_shift must be in 0 .. 63")
        self.require_output(node, x.dims)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Every channel by itself."""
        x, noise, table = inputs
        constant = node.input(2).value
        if len(table) < GAINS and constant is not None:
            table = bytes_from(constant, 2 * GAINS).view(np.int16)
        gain = self._gains(node, noise[: len(x)], table)
        shift = _U64(node.options.number("snr_shift"))
        snr = ((x.astype(_U64) * (gain.view(_U64) & _LOW32)) >> shift) & _LOW32
        square = ((snr * snr) & _LOW32) >> _U64(2 + 2 * _SNR_BITS - _OUTPUT_BITS)
        linear = (snr >> _U64(_SNR_BITS - _OUTPUT_BITS)) - _U64(1 << _OUTPUT_BITS)
        shrunk: Array = np.where(snr < _U64(2 << _SNR_BITS), square, linear & _LOW32)
        return shrunk.astype(np.uint32)

    def _gains(self, node: Node, noise: Array, table: Array) -> Array:
        """Quadratic interpolation between the table's entries, int16 values in int64."""
        x = noise.astype(np.int64)
        interval = bit_length32(noise)
        place = np.where(x <= 2, np.minimum(x, 2), 4 * interval - 6)
        ok = not len(x) or int((place + np.where(x <= 2, 0, 2)).max()) < len(table)
        node.check(ok, f"a noise estimate of {int(x.max(initial=0))} lies beyond the gains")
        up, down = np.maximum(11 - interval, 0), np.maximum(interval - 11, 0)
        fraction = ((x << up) >> down) & 0x3FF
        wide = np.concatenate([table.astype(np.int64), np.zeros(2, np.int64)])
        value = ((wide[place + 2] * fraction) >> 5) + (wide[place + 1] << 5)
        value = (value * fraction).astype(np.int32).astype(np.int64)
        result = ((value + (1 << 14)) >> 15) + wide[place]
        return np.where(x <= 2, wide[place], result).astype(np.int16).astype(np.int64)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.gain(node, steps)


# log2(1 + i / 128) - i / 128 in Q16, with one entry more for the interpolation
_LOG_TABLE = np.array(
    [round(65536 * (np.log2(1 + i / 128) - i / 128)) for i in range(129)] + [0], np.int64
)


def logarithm(x: Array, scale: int) -> Array:
    """log(x) * scale of uint32 numbers above 0, by 128 straight lines an octave; uint32."""
    wide = x.astype(np.int64)
    whole = bit_length32(x) - 1
    fraction = wide - (np.int64(1) << whole)
    fraction = (fraction << np.maximum(16 - whole, 0)) >> np.maximum(whole - 16, 0)
    segment = fraction >> 9
    low, high = _LOG_TABLE[segment], _LOG_TABLE[segment + 1]
    moved = ((high - low) * (fraction - (segment << 9))) >> 16
    binary = (whole << 16) + fraction + low + moved
    natural = (45426 * binary + 32768) >> 16
    scaled = ((scale & 0xFFFFFFFF) * natural + 32768) & 0xFFFFFFFF
    result: Array = scaled >> 16
    return result


class FilterBankLog(CustomOp):
    """log(x << `input_correction_bits`) * `output_scale`, at most 32767; 0 for 0 and 1."""

    inputs = (U32,)
    results_of = (I16,)

    def check(self, node: Node) -> None:
        """Equal shapes."""
        bits = node.options.number("input_correction_bits")
        node.require(0 <= bits < 32, "input_correction_bits must be in 0 .. 31")
        self.require_output(node, node.input(0).dims)

    def reference(self, node: Node, *inputs: Any) -> Arrays:
        """Every channel by itself."""
        bits = node.options.number("input_correction_bits")
        scaled = inputs[0] << np.uint32(bits)
        value = logarithm(np.maximum(scaled, np.uint32(1)), node.options.number("output_scale"))
        return np.where(scaled > 1, np.minimum(value, 32767), 0).astype(np.int16)

    def lower(self, node: Node, steps: Lowering) -> None:
        """A compiled kernel."""
        signal_lowering.logarithm(node, steps, _LOG_TABLE)
