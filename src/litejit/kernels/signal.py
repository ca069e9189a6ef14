"""Signal processing of audio front ends in fixed point, one kernel an operator.

The arithmetic, to the last bit, is in `litejit.micro.ops_signal` and `litejit.micro.kiss_fft`.
Signals are short: most loops are scalar.
"""

from __future__ import annotations

from litejit.codegen.isa import Isa
from litejit.codegen.lang import (
    Function,
    Pointer,
    Ptr,
    Type,
    Value,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u32,
    u64,
)
from litejit.kernels.base import REFUSED, KernelSpec
from litejit.kernels.memory import copy_bytes

_LOW32 = 0xFFFFFFFF


def _bit_length(x: Value) -> Value:
    """Bits of a u32 number above 0, as i64: the exponent of the float64 that equals it."""
    return (x.to(f64).bitcast(i64) >> 52) - 1022


class WindowSpec(KernelSpec):
    """y = saturate(x * weights >> shift). Arguments: x, weights, y, size, shift. Items: rows."""

    def emit(self, name: str, isa: Isa) -> str:
        """A register at a time."""
        fn = Function(name, isa, x=Ptr(i16), weights=Ptr(i16), y=Ptr(i16), size=i64, shift=i64)
        x, weights, y, size, shift = fn.args
        lanes = isa.lanes(i32)
        by = shift.to(i32).splat(lanes)
        with fn.loop(fn.end, start=fn.begin) as row, fn.loop(size, step=lanes) as i:
            at = row * size + i
            product = x.load(at, lanes=lanes).to(i32) * weights.load(i, lanes=lanes).to(i32)
            raw = fn.minimum(fn.maximum(product >> by, -32768), 32767)
            y.store(at, raw.to(i16), mask=fn.first(size - i, lanes))
        return fn.ir()


class AutoScaleSpec(KernelSpec):
    """y = x << bits, and bits. Arguments: x, y, bits (i32), size. One item.

    The largest |x| decides, as TFLM finds it: where -32768 is met it stays negative, and the
    search starts anew.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """Extremes by registers; the scalar search only where -32768 occurs."""
        fn = Function(name, isa, x=Ptr(i16), y=Ptr(i16), bits=Ptr(i32), size=i64)
        x, y, bits, size = fn.args
        lanes = isa.lanes(i32)
        zero = fn.const(0, i32 * lanes)
        extremes = [zero, zero]
        with fn.loop(size, step=lanes, carry=extremes) as i:
            value = x.load(i, lanes=lanes, mask=fn.first(size - i, lanes)).to(i32)
            extremes[:] = [fn.maximum(extremes[0], value), fn.minimum(extremes[1], value)]
        low = fn.reduce("min", extremes[1])
        largest = [fn.maximum(fn.reduce("max", extremes[0]), -low)]
        with fn.when(low.equals(-32768), largest):
            largest[0] = _search(fn, x, size)
        shift = fn.const(0, i32)
        for k in range(15):
            shift = shift + ((largest[0] < (1 << k)) & (largest[0] > 0)).to(i32)
        bits[0] = shift
        by = shift.splat(lanes)
        with fn.loop(size, step=lanes) as i:
            scaled = x.load(i, lanes=lanes).to(i32) << by
            y.store(i, scaled.to(i16), mask=fn.first(size - i, lanes))
        return fn.ir()


def _search(fn: Function, x: Pointer, size: Value) -> Value:
    found = [fn.const(0, i32)]
    with fn.loop(size, carry=found) as i:
        value = x[i].to(i32)
        wrapped = (-value).to(i16).to(i32)
        other = (-value > found[0]).choose(wrapped, found[0])
        found[0] = (value > found[0]).choose(value, other)
    return found[0]


class EnergySpec(KernelSpec):
    """y[i] = re**2 + im**2 for first <= i < last, else 0. Arguments: x, y, first, last.

    Items: numbers of y.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """A register of numbers at a time."""
        fn = Function(name, isa, x=Ptr(i16), y=Ptr(i32), first=i64, last=i64)
        x, y, first, last = fn.args
        with fn.loop(fn.end, start=fn.begin) as i:
            y[i] = 0
        start, stop = fn.maximum(fn.begin, first), fn.minimum(fn.end, last)
        lanes = isa.lanes(i32)
        with fn.loop(stop, start=start, step=lanes) as i:
            pairs = x.load(i * 2, lanes=2 * lanes)
            real, imaginary = (pairs.shuffle(range(part, 2 * lanes, 2)).to(i32) for part in (0, 1))
            value = real * real + imaginary * imaginary
            y.store(i, value, mask=fn.first(stop - i, lanes))
        return fn.ir()


class FilterBankSpec(KernelSpec):
    """Sums of weighted energies by channel.

    Arguments: energies, weights, unweights, starts, firsts, widths, y (u64), channels. One item.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """Channel by channel; what a channel's unweights make goes to the next one."""
        names = ("weights", "unweights", "starts", "firsts", "widths")
        fn = Function(
            name, isa, energies=Ptr(u32), **dict.fromkeys(names, Ptr(i16)), y=Ptr(u64), channels=i64
        )
        energies, weights, unweights, starts, firsts, widths, y, channels = fn.args
        zero = fn.const(0, u64)
        carried = [zero]
        with fn.loop(channels + 1, carry=carried) as channel:
            energy = energies + starts[channel].to(i64)
            first = firsts[channel].to(i64)
            sums = [carried[0], zero]
            with fn.loop(widths[channel].to(i64), carry=sums) as i:
                value = energy[i].to(u64)
                for k, factors in enumerate((weights, unweights)):
                    sums[k] = sums[k] + factors[first + i].to(i64).to(u64) * value
            with fn.when(channel > 0):
                y[channel - 1] = sums[0]
            carried[0] = sums[1]
        return fn.ir()


class SquareRootSpec(KernelSpec):
    """y = round(sqrt(x)) >> bits. Arguments: x (u64), bits (i32), y (u32). Items: numbers."""

    def emit(self, name: str, isa: Isa) -> str:
        """By float64, corrected by at most one."""
        fn = Function(name, isa, x=Ptr(u64), bits=Ptr(u32), y=Ptr(u32))
        x, bits, y = fn.args
        shift = (bits[0] & 31).to(u64)
        with fn.loop(fn.end, start=fn.begin) as i:
            value = x[i]
            guess = fn.minimum(fn.sqrt(value.to(f64)), float(_LOW32)).to(i64).to(u64)
            root = guess - (guess * guess > value).to(u64)
            more = fn.minimum(root + 1, _LOW32)
            root = (more * more <= value).choose(more, root)
            rest = value - root * root
            limit = (value > _LOW32).choose(fn.const(_LOW32, u64), 0xFFFF)
            up = (rest > root) & root.differs(limit)
            y[i] = ((root + up.to(u64)) >> shift).to(u32)
        return fn.ir()


class SubtractionSpec(KernelSpec):
    """Spectral subtraction with its estimate of the noise, which `state` keeps.

    Arguments: x, y, noise, state (u64), factors (u64: smoothing, its rest, for even and for odd
    channels; the least part that remains), smoothing bits, subtraction bits. Items: channels.
    """

    clamping: bool

    def emit(self, name: str, isa: Isa) -> str:
        """Channel by channel."""
        fn = Function(
            name, isa, x=Ptr(u32), y=Ptr(u32), noise=Ptr(u32), state=Ptr(u64), factors=Ptr(u64),
            up=i64, bits=i64,
        )  # fmt: skip
        x, y, noise, state, factors = fn.args[:5]
        up, bits = (v.to(u64) for v in fn.args[5:])
        with fn.loop(fn.end, start=fn.begin) as i:
            own = factors + (i & 1) * 2
            value = x[i].to(u64)
            scaled = (value << up) & _LOW32
            estimate = ((scaled * own[0] + state[i] * own[1]) >> bits) & _LOW32
            used = fn.minimum(estimate, scaled)
            kept = used if self.clamping else estimate
            state[i] = kept
            noise[i] = kept.to(u32)
            floor = ((value * factors[4]) >> bits) & _LOW32
            y[i] = fn.maximum((scaled - used) >> up, floor).to(u32)
        return fn.ir()


class GainSpec(KernelSpec):
    """PCAN: arguments x, noise, table (i16, 125 entries), y, shift. Items: channels."""

    def emit(self, name: str, isa: Isa) -> str:
        """Channel by channel."""
        fn = Function(name, isa, x=Ptr(u32), noise=Ptr(u32), table=Ptr(i16), y=Ptr(u32), shift=i64)
        x, noise, table, y, shift = fn.args
        with fn.loop(fn.end, start=fn.begin) as i:
            level = noise[i]
            interval = _bit_length(level)
            few = level <= 2
            place = few.choose(level.to(i64), interval * 4 - 6)
            entries = [table[few.choose(fn.const(0, i64), place + k)].to(i32) for k in (1, 2)]
            base = table[place].to(i32)
            up, down = fn.maximum(11 - interval, 0), fn.maximum(interval - 11, 0)
            fraction = (((level.to(i64) << up) >> down) & 0x3FF).to(i32)
            value = (((entries[1] * fraction) >> 5) + (entries[0] << 5)) * fraction
            between = ((value + (1 << 14)) >> 15) + base
            gain = few.choose(base, between).to(i16).to(i32).to(u32).to(u64)
            snr = ((x[i].to(u64) * gain) >> shift.to(u64)).to(u32)
            y[i] = (snr < (2 << 12)).choose((snr * snr) >> 20, (snr >> 6) - 64)
        return fn.ir()


class LogSpec(KernelSpec):
    """y = min(log(x << bits) * scale, 32767), 0 for 0 and 1.

    Arguments: x, table (i32, 130 entries), y (i16), bits, scale. Items: channels.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """Channel by channel."""
        fn = Function(name, isa, x=Ptr(u32), table=Ptr(i32), y=Ptr(i16), bits=i64, scale=i64)
        x, table, y, bits, scale = fn.args
        with fn.loop(fn.end, start=fn.begin) as i:
            scaled = x[i] << bits.to(u32)
            value = fn.maximum(scaled, 1)
            whole = _bit_length(value) - 1
            rest = value.to(i64) - (fn.const(1, i64) << whole)
            fraction = (rest << fn.maximum(16 - whole, 0)) >> fn.maximum(whole - 16, 0)
            segment = fraction >> 9
            low, high = table[segment].to(i64), table[segment + 1].to(i64)
            moved = ((high - low) * (fraction - (segment << 9))) >> 16
            natural = (((whole << 16) + fraction + low + moved) * 45426 + 32768) >> 16
            result = ((scale * natural + 32768) & _LOW32) >> 16
            y[i] = (scaled > 1).choose(fn.minimum(result, 32767), 0).to(i16)
        return fn.ir()


class FramesSpec(KernelSpec):
    """Rows of samples of `bits` cut into overlapping frames, with samples kept from run to run.

    `litejit.micro.ops_stream.Cut` says what the numbers mean. Arguments: x, y, full (a byte:
    whether all frames are), memory (the count, 64 bytes on the rows), scratch (all that is known
    of a row), rows, added, frames, append, size, drop, capacity. One item.
    """

    bits: int

    def emit(self, name: str, isa: Isa) -> str:
        """Row by row: put together what is known, copy frames out, keep the rest."""
        numbers = ("rows", "added", "frames", "append", "size", "drop", "capacity")
        sample, itemsize = Type("i", self.bits), self.bits // 8
        fn = Function(
            name, isa, x=Ptr(sample), y=Ptr(sample), full=Ptr(i8), memory=Ptr(i64),
            joined=Ptr(sample), **dict.fromkeys(numbers, i64),
        )  # fmt: skip
        x, y, full, memory, joined, rows, added, frames, append, size, drop, capacity = fn.args
        copies = fn.maximum(-memory[0], 0)
        kept = (copies > 0).choose(copies * added, memory[0])
        late = (size - kept + append - 1) / append - 1
        empty = fn.minimum(fn.maximum(late, 0), frames)
        made = frames - empty
        rest = kept + added - made * drop

        def copy(source: Pointer, target: Pointer, count: Value) -> None:
            copy_bytes(fn, source.cast(i8), target.cast(i8), count * itemsize)

        with fn.loop(rows) as row:
            own, new = memory.cast(sample) + 64 // itemsize + row * capacity, x + row * added
            out = y + row * frames * size
            with fn.loop(copies) as k:
                copy(new, own + k * added, added)
            copy(own, joined, kept)
            copy(new, joined + kept, added)
            with fn.loop(empty * size) as i:
                out[i] = 0
            with fn.loop(made) as k:
                copy(joined + k * drop, out + (empty + k) * size, size)
            copy(joined + made * drop, own, rest)
        memory[0] = rest
        full[0] = empty.equals(0).to(i8)
        return fn.ir()


class OverlapAddSpec(KernelSpec):
    """Frames added up `step` apart; int16 saturates.

    Arguments: x, y, rest (what the frames before left), frames, size, step. Items: rows.
    """

    is_float: bool

    def emit(self, name: str, isa: Isa) -> str:
        """What lies before the step goes out, what lies behind it moves to the front."""
        element = f32 if self.is_float else i16
        lanes = isa.lanes(element)
        fn = Function(
            name, isa, x=Ptr(element), y=Ptr(element), rest=Ptr(element), frames=i64, size=i64,
            step=i64,
        )  # fmt: skip
        x, y, rest, frames, size, step = fn.args
        with fn.loop(fn.end, start=fn.begin) as row, fn.loop(frames) as k:
            frame, own = x + (row * frames + k) * size, rest + row * size
            ways = (
                (fn.const(0, i64), step, y + (row * frames + k) * step),
                (step, size, own + (-step)),
            )
            for start, stop, target in ways:
                with fn.loop(stop, start=start, step=lanes) as i:
                    a, b = frame.load(i, lanes=lanes), own.load(i, lanes=lanes)
                    total = (
                        a + b
                        if self.is_float
                        else fn.call(f"llvm.sadd.sat.{a.type.suffix}", a.type, a, b)
                    )
                    target.store(i, total, mask=fn.first(stop - i, lanes))
            with fn.loop(size, start=size - step) as i:
                own[i] = 0
        return fn.ir()


class ClassifySpec(KernelSpec):
    """y[i] = x[indices[i]], and whether it is at least thresholds[i].

    Arguments: x, indices, thresholds, reached (bytes), y, status (code 1: an index is not below
    `count`), count. Items: indices.
    """

    def emit(self, name: str, isa: Isa) -> str:
        """One after the other; where an index is wrong, the first number is read."""
        fn = Function(
            name, isa, x=Ptr(i32), indices=Ptr(i32), thresholds=Ptr(i32), reached=Ptr(i8),
            y=Ptr(i32), status=Ptr(i64), count=i64,
        )  # fmt: skip
        x, indices, thresholds, reached, y, status, count = fn.args
        with fn.loop(fn.end, start=fn.begin) as i:
            place = indices[i].to(i64)
            known = (place >= 0) & (place < count)
            with fn.when(known ^ True):
                status[0] = (i & 0xFFFFFFFF) | REFUSED
            value = x[known.choose(place, 0)]
            y[i] = value
            reached[i] = (value >= thresholds[i]).to(i8)
        return fn.ir()
