"""Each family of kernels against what this machine can do, measured in the same run.

    python benchmarks/kernels.py [--seconds 0.4] [--json FILE]

Layers that multiply are compared with the rate at which one core does independent multiply-adds
in registers: float32 fused multiply-adds, and dot products of four bytes. More than 100% means
that a layer needs fewer multiplications than its definition (Winograd). Layers that only move
data are compared with a copy by NumPy of as many bytes as they read and write. Every timed turn
of a layer has a turn of its limit beside it; the figures are medians of the ratios of pairs.
"""

from __future__ import annotations

import argparse
import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import peers
from litejit import Interpreter
from litejit.codegen import cache
from litejit.codegen.isa import Isa, host
from litejit.codegen.lang import Function, Ptr, f32, i8, i32, u8
from litejit.kernels.base import KernelSpec
from litejit.model import options as tables
from litejit.model.builder import ModelBuilder, per_tensor
from litejit.model.options import Padding
from litejit.types import F32, I8, I32, DType

TURNS = 4000  # of the limits' loops: some ten microseconds


class FmaLimit(KernelSpec):
    """Independent float32 multiply-adds; argument: where the sums go."""

    chains: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the loop."""
        fn = Function(name, isa, sums=Ptr(f32))
        (sums,) = fn.args
        lanes = isa.lanes(f32)
        factor = sums.load(lanes=lanes, align=4)
        totals = [sums.load(j, lanes=lanes, align=4) for j in range(self.chains)]
        with fn.loop(fn.end, start=fn.begin, carry=totals):
            totals[:] = [fn.fma(total, factor, factor) for total in totals]
        for j, total in enumerate(totals):
            sums.store(j * lanes, total, align=4)
        return fn.ir()


class DotLimit(KernelSpec):
    """Independent dot products of four bytes; argument: where the sums go."""

    chains: int

    def emit(self, name: str, isa: Isa) -> str:
        """IR text of the loop."""
        fn = Function(name, isa, sums=Ptr(i32))
        (sums,) = fn.args
        lanes = isa.lanes(i32)
        a = sums.cast(u8 if isa.dot_is_unsigned else i8).load(lanes=4 * lanes, align=4)
        b = sums.cast(i8).load(lanes=4 * lanes, align=4)
        totals = [sums.load(j, lanes=lanes, align=4) for j in range(self.chains)]
        with fn.loop(fn.end, start=fn.begin, carry=totals):
            totals[:] = [isa.dot4(fn, total, a, b) for total in totals]
        for j, total in enumerate(totals):
            sums.store(j * lanes, total, align=4)
        return fn.ir()


class Limit:
    """A loop that does `products` multiply-adds a call."""

    def __init__(self, kind: type[KernelSpec], width: int) -> None:
        isa = host()
        chains = isa.registers * 3 // 4
        spec = kind(chains)
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
        self._kernel = call(cache.addresses([spec], isa)[spec])
        self._sums = np.zeros(64 * 64, np.uint8)
        self._args = (ctypes.c_void_p * 1)(self._sums.ctypes.data)
        self.products = TURNS * chains * isa.lanes(f32) * width

    def run(self) -> None:
        """Run the loop once."""
        self._kernel(ctypes.addressof(self._args), 0, TURNS, 0)


def _filled(shape: Sequence[int], dtype: DType) -> Any:
    rng = np.random.default_rng(0)
    if dtype == F32:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(-127, 128, shape).astype(dtype.numpy)


_OUTPUTS = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # as the operators want them


class Layer:
    """A model of one operator, and the multiply-adds that its definition takes."""

    def __init__(
        self, name: str, operator: str, dtype: DType, shapes: Sequence[Sequence[int]],
        output: Sequence[int], options: Any, products: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.dtype, self.products = f"{name} {dtype.name.lower()}", dtype, products
        data, *constants = shapes
        scale = None if dtype == F32 else per_tensor(0.02)
        builder = ModelBuilder()
        graph = builder.main
        inputs = [graph.add_input("x", data, dtype, quantization=scale)]
        for number, shape in enumerate(constants):
            bias = number == 1 and dtype != F32
            kind, q = (I32, per_tensor(0.02 * 0.02)) if bias else (dtype, scale)
            value = _filled(shape, kind)
            inputs.append(graph.add_constant(f"c{number}", value, kind, quantization=q))
        fixed = _OUTPUTS.get(operator, (2.0 if products else 0.02, 0))
        wide = None if dtype == F32 else per_tensor(*fixed)
        y = graph.add_output("y", output, dtype, quantization=wide)
        graph.add_operator(operator, inputs, [y], options)
        self._interpreter = Interpreter(model_content=builder.to_bytes())
        self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(inputs[0], _filled(data, dtype))
        self.moved = (math.prod(data) + math.prod(output)) * dtype.itemsize
        self.run: Callable[[], None] = self._interpreter.invoke


def _conv(dtype: DType, size: int, c: int, units: int, k: int, stride: int = 1) -> Layer:
    out = -(-size // stride)
    options = tables.Conv2DOptions(padding=Padding.SAME, stride_w=stride, stride_h=stride)
    return Layer(
        f"conv {k}x{k}/{stride} {size}x{size}x{c} -> {units}", "CONV_2D", dtype,
        [(1, size, size, c), (units, k, k, c), (units,)], (1, out, out, units), options,
        out * out * units * k * k * c,
    )  # fmt: skip


def _depthwise(dtype: DType, size: int, c: int, k: int, stride: int = 1) -> Layer:
    out = -(-size // stride)
    options = tables.DepthwiseConv2DOptions(
        padding=Padding.SAME, stride_w=stride, stride_h=stride, depth_multiplier=1
    )
    return Layer(
        f"depthwise {k}x{k}/{stride} {size}x{size}x{c}", "DEPTHWISE_CONV_2D", dtype,
        [(1, size, size, c), (1, k, k, c), (c,)], (1, out, out, c), options, out * out * k * k * c,
    )  # fmt: skip


def _dense(dtype: DType, rows: int, depth: int, units: int) -> Layer:
    return Layer(
        f"dense {rows}x{depth} -> {units}", "FULLY_CONNECTED", dtype,
        [(rows, depth), (units, depth), (units,)], (rows, units),
        tables.FullyConnectedOptions(), rows * depth * units,
    )  # fmt: skip


def _pool(dtype: DType, operator: str, size: int, c: int) -> Layer:
    options = tables.Pool2DOptions(
        padding=Padding.VALID, stride_w=2, stride_h=2, filter_width=2, filter_height=2
    )
    name = operator.partition("_")[0].lower()
    return Layer(
        f"{name} pool 2x2/2 {size}x{size}x{c}", operator, dtype,
        [(1, size, size, c)], (1, size // 2, size // 2, c), options,
    )  # fmt: skip


def _unary(dtype: DType, operator: str, size: int) -> Layer:
    return Layer(operator.lower(), operator, dtype, [(1, size)], (1, size), None)


def layers() -> list[Layer]:
    """One layer of every family and type, of sizes that occur in models."""
    result = []
    for dtype in (F32, I8):
        result += [
            _conv(dtype, 56, 64, 128, 1), _conv(dtype, 14, 96, 576, 1),
            _conv(dtype, 7, 960, 320, 1), _conv(dtype, 56, 64, 64, 3),
            _conv(dtype, 14, 256, 256, 3), _conv(dtype, 224, 3, 32, 3, 2),
            _conv(dtype, 28, 64, 64, 5), _depthwise(dtype, 56, 144, 3),
            _depthwise(dtype, 14, 576, 3), _depthwise(dtype, 28, 240, 5, 2),
            _dense(dtype, 1, 1280, 1000), _dense(dtype, 64, 512, 512),
            _pool(dtype, "MAX_POOL_2D", 112, 64), _pool(dtype, "AVERAGE_POOL_2D", 112, 64),
            _unary(dtype, "LOGISTIC", 1 << 17), _unary(dtype, "TANH", 1 << 17),
            _unary(dtype, "HARD_SWISH", 1 << 17),
        ]  # fmt: skip
    return result


def _copy(nbytes: int) -> Callable[[], None]:
    source, target = np.zeros(nbytes // 2, np.uint8), np.zeros(nbytes // 2, np.uint8)
    return lambda: np.copyto(target, source)


def measure(layer: Layer, limits: dict[DType, Limit], seconds: float) -> dict[str, Any]:
    """Time a layer beside its limit."""
    limit = limits[layer.dtype]
    beside = limit.run if layer.products else _copy(layer.moved)
    times = peers.interleaved({"layer": layer.run, "limit": beside}, seconds)
    ratios = np.array(times["limit"]) / np.array(times["layer"])
    work = layer.products / limit.products if layer.products else 1.0
    microseconds = float(np.median(times["layer"]))
    done = layer.products or layer.moved
    return {
        "layer": layer.name, "us": microseconds, "per_ns": done / microseconds / 1e3,
        "unit": "GMAC/s" if layer.products else "GB/s",
        "of_limit": float(np.median(ratios)) * work,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each layer")
    parser.add_argument("--json", help="file to write")
    options = parser.parse_args()
    limits = {F32: Limit(FmaLimit, 1), I8: Limit(DotLimit, 4)}
    rates = {}
    for dtype, limit in limits.items():
        time = np.median(peers.interleaved({"limit": limit.run}, 0.3)["limit"])
        rates[dtype.name] = float(limit.products / time / 1e3)
        print(f"limit of one core, {dtype.name}: {rates[dtype.name]:.0f} GMAC/s")
    rows = []
    for layer in layers():
        row = measure(layer, limits, options.seconds)
        rows.append(row)
        cells = f"{row['us']:9.1f} us {row['per_ns']:8.1f} {row['unit']:6s}"
        print(f"{row['layer']:44s}{cells} {100 * row['of_limit']:5.0f}%", flush=True)
    peers.save(options.json, {"limits": rates, "layers": rows})


if __name__ == "__main__":
    main()
