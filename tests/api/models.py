"""Small models for the tests of the interfaces, as bytes of .tflite files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from litejit.model.builder import ModelBuilder, per_channel, per_tensor
from litejit.model.model import DimensionMetadata, Sparsity
from litejit.model.options import CastOptions, FullyConnectedOptions, GatherOptions
from litejit.types import (
    BOOL,
    C64,
    DTYPES,
    F16,
    F32,
    F64,
    I2,
    I4,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U4,
    U8,
    U32,
    DType,
    Quantization,
)

PLAIN: tuple[DType, ...] = (F32, F16, F64, I8, I16, I32, I64, U8, U32, BOOL, C64)
_MAKERS: dict[str, Callable[[], bytes]] = {}


@cache
def model(name: str) -> bytes:
    """The bytes of the model of that name."""
    return _MAKERS[name]()


def _model(make: Callable[[], bytes]) -> Callable[[], bytes]:
    _MAKERS[make.__name__] = make
    return make


@_model
def add() -> bytes:
    """y = x + 1 on [1, 4] floats; x, one, y are tensors 0, 1, 2; unknown batch; one signature."""
    builder = ModelBuilder("y = x + 1")
    graph = builder.main
    x = graph.add_input("x", (1, 4), F32, shape_signature=(-1, 4))
    one = graph.add_constant("one", np.ones(4, np.float32))
    y = graph.add_output("y", (1, 4), F32, shape_signature=(-1, 4))
    graph.add_operator("ADD", [x, one], [y])
    builder.add_signature("serving_default", {"x": x}, {"y": y})
    return builder.to_bytes()


@_model
def fixed() -> bytes:
    """y = (-x) + (-x) on [2, 3] floats, no shape signature, no signature; n is in between."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (2, 3), F32)
    n, e = (graph.add_tensor(name, (2, 3), F32) for name in "ne")
    y = graph.add_output("y", (2, 3), F32)
    graph.add_operator("NEG", [x], [n])
    graph.add_operator("EXP", [n], [e])
    graph.add_operator("ADD", [n, e], [y])
    return builder.to_bytes()


@_model
def signatures() -> bytes:
    """Two signatures, names unsorted: sub(b, a) in subgraph 0, neg in subgraph 1."""
    builder = ModelBuilder()
    graph = builder.main
    b, a = graph.add_input("b0", (2,), F32), graph.add_input("a0", (2,), F32)
    z, m = graph.add_output("z0", (2,), F32), graph.add_output("m0", (2,), F32)
    graph.add_operator("SUB", [a, b], [z])
    graph.add_operator("MUL", [a, b], [m])
    other = builder.add_subgraph("other")
    p, q = other.add_input("p", (3,), F32), other.add_output("q", (3,), F32)
    other.add_operator("NEG", [p], [q])
    builder.add_signature("two", {"b": b, "a": a}, {"z": z, "m": m})
    builder.add_signature("one", {"v": p}, {"w": q}, subgraph=1)
    return builder.to_bytes()


@_model
def quantized() -> bytes:
    """A fully connected layer of int8 with weights quantized by channel."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 4), I8, quantization=per_tensor(0.5, -3))
    weights = np.arange(12, dtype=np.int8).reshape(3, 4) - 6
    w = graph.add_constant("w", weights, quantization=per_channel([0.5, 0.25, 1.0]))
    bias = per_channel([0.25, 0.125, 0.5])
    b = graph.add_constant("b", np.array([1, -2, 3], np.int32), quantization=bias)
    y = graph.add_output("y", (1, 3), I8, quantization=per_tensor(1.0, 1))
    graph.add_operator("FULLY_CONNECTED", [x, w, b], [y], FullyConnectedOptions(), version=5)
    return builder.to_bytes()


@_model
def types() -> bytes:
    """One input of every plain type, of shape [2]; no operators."""
    builder = ModelBuilder()
    graph = builder.main
    numbers = [graph.add_input(f"in_{dtype.name}", (2,), dtype) for dtype in PLAIN]
    graph.outputs = list(numbers)
    return builder.to_bytes()


@_model
def packed() -> bytes:
    """Constants and inputs of 4 and 2 bits: a (INT4), b (UINT4), c (INT2); then constants."""
    builder = ModelBuilder()
    graph = builder.main
    for name, dtype in (("a", I4), ("b", U4), ("c", I2)):
        graph.add_input(name, (3,), dtype)
    graph.add_tensor("four", (3,), I4, b"\x8f\x07")
    graph.add_tensor("two", (5,), I2, b"\xe4\x02")
    x, y = graph.add_input("x", (2,), F32), graph.add_output("y", (2,), F32)
    graph.add_operator("NEG", [x], [y])
    return builder.to_bytes()


@_model
def strings() -> bytes:
    """y = x[[1, 0]] on strings of shape [2], and a scalar string that nobody reads."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (2,), STRING)
    i = graph.add_constant("i", np.array([1, 0], np.int32))
    y = graph.add_output("y", (2,), STRING)
    graph.add_input("s", (), STRING)
    graph.add_operator("GATHER", [x, i], [y], GatherOptions())
    return builder.to_bytes()


@_model
def gather() -> bytes:
    """y = x[i] for 4 rows of 3 floats and 2 indices."""
    builder = ModelBuilder()
    graph = builder.main
    x, i = graph.add_input("x", (4, 3), F32), graph.add_input("i", (2,), I32)
    y = graph.add_output("y", (2, 3), F32)
    graph.add_operator("GATHER", [x, i], [y], GatherOptions())
    return builder.to_bytes()


@_model
def where() -> bytes:
    """Positions of the true elements of four: their number depends on data."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (4,), BOOL)
    y = graph.add_output("y", (1, 1), I64, shape_signature=(-1, 1))
    graph.add_operator("WHERE", [x], [y])
    return builder.to_bytes()


@_model
def variable() -> bytes:
    """y = x + v, where v (tensor 1) is a variable that nobody writes."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (2,), F32)
    v = graph.add_tensor("v", (2,), F32, is_variable=True)
    q = graph.add_tensor("q", (2,), I8, is_variable=True, quantization=per_tensor(0.5, 7))
    y = graph.add_output("y", (2,), F32)
    z = graph.add_output("z", (2,), F32)
    graph.add_operator("ADD", [x, v], [y])
    graph.add_operator("DEQUANTIZE", [q], [z], version=2)
    return builder.to_bytes()


@_model
def scalar() -> bytes:
    """y = -x on one float of rank 0."""
    builder = ModelBuilder()
    x, y = builder.main.add_input("x", (), F32), builder.main.add_output("y", (), F32)
    builder.main.add_operator("NEG", [x], [y])
    return builder.to_bytes()


@_model
def custom() -> bytes:
    """y = MyOp(x)."""
    return custom_model("MyOp")


@_model
def flex() -> bytes:
    """y = FlexFoo(x)."""
    return custom_model("FlexFoo")


def custom_model(name: str, options: bytes = b"", *, shape: tuple[int, ...] = (2,)) -> bytes:
    """y = name(x)."""
    builder = ModelBuilder()
    x, y = builder.main.add_input("x", shape, F32), builder.main.add_output("y", shape, F32)
    builder.main.add_operator(name, [x], [y], custom=True, custom_options=options)
    return builder.to_bytes()


@_model
def sparse() -> bytes:
    """A sparse constant that a DENSIFY would read, and y = -x."""
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (2,), F32), graph.add_output("y", (2,), F32)
    dims = (
        DimensionMetadata(0, 2),
        DimensionMetadata(1, 0, np.array([0, 1, 2], "<i4"), np.array([1, 0], "<i4")),
    )
    data = np.array([3, 5], np.float32).tobytes()
    graph.add_tensor("w", (2, 2), F32, data, sparsity=Sparsity((0, 1), None, dims))
    graph.add_operator("NEG", [x], [y])
    return builder.to_bytes()


@_model
def blockwise() -> bytes:
    """A constant quantized by blocks of 32, its scales in tensor 1; y = -x."""
    builder = ModelBuilder()
    graph = builder.main
    scales = np.arange(1, 5, dtype=np.float16).reshape(2, 2)
    quantization = Quantization(
        np.zeros(0, np.float32), np.zeros(0, np.int64), 0, 32, scale_tensor=1, zero_point_tensor=-1
    )
    graph.add_constant("w", np.zeros((2, 64), np.int8), I4, quantization=quantization)
    graph.add_constant("scales", scales, F16)
    x, y = graph.add_input("x", (2,), F32), graph.add_output("y", (2,), F32)
    graph.add_operator("NEG", [x], [y])
    return builder.to_bytes()


@_model
def shared_zero() -> bytes:
    """A constant with three scales and equal zero points, another with different ones."""
    builder = ModelBuilder()
    graph = builder.main
    x, y = graph.add_input("x", (2,), F32), graph.add_output("y", (2,), F32)
    value = np.zeros((3, 2), np.int8)
    for zeros in ([4, 4, 4], [1, 2, 3]):
        graph.add_constant("w", value, quantization=per_channel([1.0, 2.0, 3.0], zeros))
    graph.add_operator("NEG", [x], [y])
    return builder.to_bytes()


@_model
def chain() -> bytes:
    """y = cast(-x): an int32 result, and optional operands left out are elsewhere."""
    builder = ModelBuilder()
    graph = builder.main
    x, n = graph.add_input("x", (2, 2), F32), graph.add_tensor("n", (2, 2), F32)
    y = graph.add_output("y", (2, 2), I32)
    graph.add_operator("NEG", [x], [n])
    graph.add_operator("CAST", [n], [y], CastOptions())
    return builder.to_bytes()


@_model
def dense() -> bytes:
    """A fully connected layer of floats without bias."""
    builder = ModelBuilder()
    graph = builder.main
    x = graph.add_input("x", (1, 4), F32)
    w = graph.add_constant("w", np.arange(12, dtype=np.float32).reshape(3, 4))
    y = graph.add_output("y", (1, 3), F32)
    graph.add_operator("FULLY_CONNECTED", [x, w, -1], [y], FullyConnectedOptions())
    return builder.to_bytes()


@_model
def bfloat() -> bytes:
    """An input of bfloat16; no operators."""
    builder = ModelBuilder()
    builder.main.add_input("x", (2,), DTYPES[18])
    builder.main.outputs = [0]
    return builder.to_bytes()


@_model
def no_outputs_name() -> bytes:
    """Tensors without names."""
    builder = ModelBuilder()
    x, y = builder.main.add_input("", (2,), F32), builder.main.add_output("", (2,), F32)
    builder.main.add_operator("NEG", [x], [y])
    return builder.to_bytes()


@_model
def bad_version() -> bytes:
    """ABS of version 99."""
    builder = ModelBuilder()
    x, y = builder.main.add_input("x", (2,), F32), builder.main.add_output("y", (2,), F32)
    builder.main.add_operator("ABS", [x], [y], version=99)
    return builder.to_bytes()
