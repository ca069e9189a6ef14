"""From the bytes of a file to a Model: the format alone, every offset checked before use."""

from __future__ import annotations

import gc
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from litejit.errors import ModelError
from litejit.model import schema
from litejit.model.model import (
    NO_OPTIONS,
    NO_OPTIONS_2,
    Buffer,
    DimensionMetadata,
    ExternalBuffer,
    Metadata,
    Model,
    Operator,
    OperatorCode,
    OptionsRef,
    QuantizationExtra,
    Signature,
    Sparsity,
    Subgraph,
    Tensor,
    VariantSubType,
)
from litejit.model.table import INVALID, Reader, Table, dtype_of
from litejit.types import Quantization

R = TypeVar("R")
_F32, _I64 = np.dtype("<f4"), np.dtype("<i8")
_NO_F32, _NO_I64 = np.empty(0, _F32), np.empty(0, _I64)
_INDEX_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<i4"), 2: np.dtype("<u2"), 3: np.dtype("u1")}
_NO_QUANTIZATION = (None, None)

# What a record costs to make, in the time that decoding bytes takes. No writer makes a tensor or
# an operator of fewer bytes, so that only files which name one table many times pay more than
# their size.
_RECORD_COST = 24


def read_file(path: str) -> bytes:
    """Return the content of a regular file, read at once. Raises ModelError in LiteRT's words."""
    null = "The model allocation is null/empty"
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with io.FileIO(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "r") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"Could not open '{path}'.{null}: it is not a regular file")
            data = file.readall()
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        if isinstance(error, IsADirectoryError):
            raise ModelError(
                f"Mmap of '{path}' at offset '0' failed with error '19'.{null}: it is a directory"
            ) from error
        raise ModelError(f"Could not open '{path}'.{null}: {error}") from error
    if not data:
        raise ModelError(f"mmap of size 0 requested.{null}: '{path}' is empty")
    return data


def load_model(data: bytes) -> Model:
    """Return the Model that `data` holds. Raises ModelError where the format is broken."""
    if len(data) < 8:
        raise ModelError(f"{INVALID}: {len(data)} bytes cannot hold a model")
    if data[4:8] != schema.IDENTIFIER:
        raise ModelError(f"{INVALID}: its identifier is {data[4:8]!r}, not {schema.IDENTIFIER!r}")
    # Thousands of records are made that all stay: a collection would only look through them.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _model(Reader(data))
    except (MemoryError, OverflowError) as error:
        raise ModelError(f"{INVALID}: {type(error).__name__} while reading it") from error
    finally:
        if collecting:
            gc.enable()


def _model(reader: Reader) -> Model:
    root = int.from_bytes(reader.data[:4], "little")
    version, codes, graphs, description, buffers, metadata_buffer, *rest = _row(
        reader, schema.ModelTable, root
    )
    metadata, signatures, groups, externals = rest
    return Model(
        version,
        reader.text(description),
        tuple(_each(reader, codes, schema.OperatorCodeTable, _operator_code, "operator code")),
        tuple(_each(reader, graphs, schema.SubGraphTable, _subgraph, "subgraph", cost=64)),
        tuple(_each(reader, buffers, schema.BufferTable, _buffer, "buffer")) if buffers else None,
        tuple(_each(reader, metadata, schema.MetadataTable, _metadata, "metadata")),
        tuple(_each(reader, signatures, schema.SignatureTable, _signature, "signature")),
        reader.vector(metadata_buffer, "i"),
        tuple(_each(reader, groups, schema.ExternalBufferGroupTable, _group, "buffer group")),
        tuple(_each(reader, externals, schema.ExternalBufferTable, _external, "external buffer")),
    )


def _row(reader: Reader, table: type[Table], at: int) -> list[Any]:
    return reader.rows(table)(at)


def _each(
    reader: Reader,
    at: int,
    table: type[Table],
    make: Callable[[Reader, list[Any]], R],
    what: str,
    *,
    cost: int = 0,
) -> Iterator[R]:
    """Make a record of each table in the vector of tables at `at`, naming the one that is bad."""
    rows = reader.rows(table, cost)
    number = 0
    try:
        for number, position in enumerate(reader.offsets(at)):  # noqa: B007 - named in the error
            yield make(reader, rows(position))
    except ModelError as error:
        raise ModelError(f"{error} ({what} {number})") from None


def _operator_code(reader: Reader, row: list[Any]) -> OperatorCode:
    deprecated, custom, version, code = row
    return OperatorCode(max(deprecated, code), reader.text(custom) if custom else None, version)


def _subgraph(reader: Reader, row: list[Any]) -> Subgraph:
    tensors, inputs, outputs, operators, name, debug = row
    if not tensors:
        raise ModelError("Did not get tensors in subgraph")
    return Subgraph(
        reader.text(name),
        tuple(_each(reader, tensors, schema.TensorTable, _tensor, "tensor", cost=_RECORD_COST)),
        reader.vector(inputs, "i"),
        reader.vector(outputs, "i"),
        tuple(
            _each(reader, operators, schema.OperatorTable, _operator, "operator", cost=_RECORD_COST)
        ),
        debug,
    )


def _tensor(reader: Reader, row: list[Any]) -> Tensor:
    shape, code, buffer, name, quant, is_variable, sparsity, signature, has_rank, *rest = row
    variants, external = rest
    quantization, extra = _quantization(reader, quant) if quant else _NO_QUANTIZATION
    return Tensor(
        reader.text(name),
        reader.vector(shape, "i"),
        dtype_of(code),
        buffer,
        quantization,
        is_variable,
        reader.vector(signature, "i") if signature else None,
        _sparsity(reader, sparsity) if sparsity else None,
        has_rank,
        tuple(_each(reader, variants, schema.VariantSubTypeTable, _variant, "variant type"))
        if variants
        else (),
        external,
        extra,
    )


def _quantization(reader: Reader, at: int) -> tuple[Quantization | None, QuantizationExtra | None]:
    low, high, scale, zero, kind, details, axis = _row(reader, schema.QuantizationTable, at)
    scales = reader.array(scale, _F32) if scale else _NO_F32
    zeros = reader.array(zero, _I64) if zero else _NO_I64
    quantization, custom = None, b""
    axes: tuple[int, ...] = ()
    if details and kind in (2, 3):
        table = (
            schema.BlockwiseQuantizationTable if kind == 2 else schema.MultiAxisQuantizationTable
        )
        scale_at, zero_at, block, *more = _row(reader, table, details)
        axes = reader.vector(more[0], "i") if more else ()
        axis = axes[0] if axes else axis
        quantization = Quantization(_NO_F32, _NO_I64, axis, block, scale_at, zero_at)
    elif len(scales):
        quantization = Quantization(scales, zeros, axis, 0, -1, -1)
    if details and kind == 1:
        (data,) = _row(reader, schema.CustomQuantizationTable, details)
        custom = bytes(reader.span(data)) if data else b""
    if not (low or high or kind):
        return quantization, None
    return quantization, QuantizationExtra(
        reader.array(low, _F32) if low else _NO_F32,
        reader.array(high, _F32) if high else _NO_F32,
        kind,
        custom,
        axes,
    )


def _sparsity(reader: Reader, at: int) -> Sparsity:
    order, block_map, dims = _row(reader, schema.SparsityTable, at)
    if not order or not dims:
        raise ModelError("Invalid sparsity parameter.: no traversal order or no dimensions")
    return Sparsity(
        reader.vector(order, "i"),
        reader.vector(block_map, "i") if block_map else None,
        tuple(_each(reader, dims, schema.DimensionMetadataTable, _dimension, "dimension")),
    )


def _dimension(reader: Reader, row: list[Any]) -> DimensionMetadata:
    form, size, segments_type, segments, indices_type, indices = row
    return DimensionMetadata(
        form,
        size,
        _index_vector(reader, segments_type, segments),
        _index_vector(reader, indices_type, indices),
    )


def _index_vector(reader: Reader, kind: int, at: int) -> Any:
    if not at or kind not in _INDEX_TYPES:
        return None
    (values,) = _row(reader, schema.IndexVectorTable, at)
    return reader.array(values, _INDEX_TYPES[kind]) if values else None


def _operator(reader: Reader, row: list[Any]) -> Operator:
    code, inputs, outputs, kind, options, custom, form, mutating, intermediates, *rest = row
    large_at, large_size, kind_2, options_2, debug = rest
    data = b""
    if custom:
        data = bytes(reader.span(custom))
    elif large_at > 1:
        if large_at + large_size > reader.size:
            raise ModelError(f"Custom Option Offset for opcode_index {code} is out of bound")
        reader.charge(large_size)
        data = reader.data[large_at : large_at + large_size]
    return Operator(
        code,
        reader.vector(inputs, "i"),
        reader.vector(outputs, "i"),
        OptionsRef(kind, reader, options) if kind and options else NO_OPTIONS,
        OptionsRef(kind_2, reader, options_2, union=2) if kind_2 and options_2 else NO_OPTIONS_2,
        data,
        reader.vector(intermediates, "i") if intermediates else (),
        reader.vector(mutating, "?") if mutating else (),
        form,
        not custom and large_at > 1,
        debug,
    )


_NO_BUFFER = Buffer()


def _buffer(reader: Reader, row: list[Any]) -> Buffer:
    data, offset, size = row
    if data:
        return Buffer(reader.span(data), False)
    if offset <= 1:
        return _NO_BUFFER
    if offset + size > reader.size:
        raise ModelError(
            f"Constant buffer specified an out of range offset.: {size} bytes at {offset} "
            f"of a file of {reader.size}"
        )
    reader.charge(size)
    return Buffer(memoryview(reader.data)[offset : offset + size], True)


def _metadata(reader: Reader, row: list[Any]) -> Metadata:
    return Metadata(reader.text(row[0]), row[1])


def _group(reader: Reader, row: list[Any]) -> str:
    return reader.text(row[0])


def _external(reader: Reader, row: list[Any]) -> ExternalBuffer:
    number, group, offset, length, packing = row
    return ExternalBuffer(number, group, offset, length, reader.text(packing))


def _variant(reader: Reader, row: list[Any]) -> VariantSubType:
    return VariantSubType(reader.vector(row[0], "i"), dtype_of(row[1]), row[2])


def _signature(reader: Reader, row: list[Any]) -> Signature:
    inputs, outputs, key, _, subgraph = row
    if not key:
        raise ModelError("Missing exported method name for SignatureDef")

    def names(at: int) -> tuple[tuple[str, int], ...]:
        maps = _each(reader, at, schema.TensorMapTable, lambda _, pair: pair, "tensor name")
        # LiteRT leaves entries without a name out.
        return tuple([(reader.text(name), tensor) for name, tensor in maps if name])

    return Signature(reader.text(key), subgraph, names(inputs), names(outputs))
