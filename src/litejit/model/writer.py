"""From a Model to the bytes of a .tflite file.

The file is laid out front to back: a table first, then what it points to, so that all offsets
point forward as the format wants. Equal vtables are shared. Constants are aligned to 16 bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from litejit.model import schema
from litejit.model.model import (
    Buffer,
    DimensionMetadata,
    Model,
    Operator,
    OptionsRef,
    QuantizationExtra,
    Signature,
    Sparsity,
    Subgraph,
    Tensor,
)
from litejit.model.table import OFFSET, WIDTHS, Table
from litejit.types import DType, Quantization

Bytes = bytes | memoryview

BUFFER_ALIGNMENT = 16
# Offsets are 32 bits wide and readers take them as signed, so larger files keep their constants
# behind the FlatBuffer. The difference leaves room for the tables.
LARGEST_INSIDE = 2**31 - 2**27


class Node:
    """Something that an offset points to; `emit` appends it and returns its position."""

    def emit(self, out: Output) -> int:
        """Append this to `out` and return where it starts."""
        raise NotImplementedError


class Numbers(Node):
    """A vector of numbers, given as bytes or as a sequence."""

    def __init__(self, code: str, values: Sequence[Any] | Bytes, *, align: int = 0) -> None:
        self.width = WIDTHS[code]
        self.align = max(align, self.width, 4)
        if isinstance(values, (bytes, memoryview)):
            self.data: Bytes = values
        else:
            self.data = struct.pack(f"<{len(values)}{code}", *values)

    def emit(self, out: Output) -> int:
        """Append this to `out` and return where it starts."""
        out.pad(self.align, ahead=4)
        at = len(out.data)
        out.data += struct.pack("<I", len(self.data) // self.width)
        out.data += self.data
        return at


class Text(Node):
    """A string, ended by a NUL that its length does not count."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()

    def emit(self, out: Output) -> int:
        """Append this to `out` and return where it starts."""
        out.pad(4)
        at = len(out.data)
        out.data += struct.pack("<I", len(self.text)) + self.text + b"\0"
        return at


class Tables(Node):
    """A vector of tables."""

    def __init__(self, nodes: Iterable[TableNode]) -> None:
        self.nodes = list(nodes)

    def emit(self, out: Output) -> int:
        """Append this to `out` and return where it starts."""
        out.pad(4)
        at = len(out.data)
        out.data += struct.pack("<I", len(self.nodes)) + bytes(4 * len(self.nodes))
        for number, node in enumerate(self.nodes, 1):
            out.later(at + 4 * number, node)
        return at


class TableNode(Node):
    """A table: values by field name. Offset fields take a Node; None and defaults are left out.

    After `emit`, `places` gives the position of each field that was written.
    """

    def __init__(self, table: type[Table], **values: Any) -> None:
        self.kind = table.kind()
        self.values = values
        self.places: dict[str, int] = {}
        unknown = values.keys() - set(self.kind.fields)
        if unknown:
            raise TypeError(f"{table.__name__} has no field {sorted(unknown)[0]!r}")

    @classmethod
    def of(cls, table: Table) -> TableNode:
        """Return the node of a decoded table without Offset fields."""
        return cls(type(table), **vars(table))

    def _present(self) -> list[tuple[int, str, str, Any]]:
        """(slot, field, code, number or Node) of the fields that are written."""
        found = []
        kind = self.kind
        for slot, (field, code, form) in enumerate(
            zip(kind.fields, kind.codes, kind.forms, strict=True)
        ):
            value = self.values.get(field)
            if value is None:
                continue
            if code == OFFSET:
                value = _node(form, value)
                if value is None:
                    continue
            else:
                value = value.code if isinstance(value, DType) else value
                if value == kind.row[slot]:
                    continue
            found.append((slot, field, code, value))
        return found

    def emit(self, out: Output) -> int:
        """Append this to `out` and return where it starts."""
        present = self._present()
        # Wide fields first, but a four-byte one before them: it fills the gap behind the
        # four bytes that every table starts with.
        widths = {slot: WIDTHS.get(code, 4) for slot, _, code, _ in present}
        order = sorted(present, key=lambda item: -widths[item[0]])
        if order and widths[order[0][0]] == 8:
            order.sort(key=lambda item: widths[item[0]] != 4)
            narrow = sum(width == 4 for width in widths.values())
            order = order[:1] + sorted(order[1:], key=lambda item: -widths[item[0]])
            order = order if narrow else sorted(present, key=lambda item: -widths[item[0]])
        size, offsets = 4, {}
        for slot, *_ in order:
            size = -(-size // widths[slot]) * widths[slot]
            offsets[slot] = size
            size += widths[slot]
        slots = max(offsets, default=-1) + 1
        vtable = struct.pack(
            f"<{slots + 2}H", 4 + 2 * slots, size, *[offsets.get(s, 0) for s in range(slots)]
        )
        vtable_at = out.vtable(vtable)
        out.pad(max([4, *widths.values()]))
        at = len(out.data)
        out.data += bytes(size)
        struct.pack_into("<i", out.data, at, at - vtable_at)
        for slot, field, code, value in present:
            place = self.places[field] = at + offsets[slot]
            if code == OFFSET:
                out.later(place, value)
            else:
                struct.pack_into("<" + code, out.data, place, value)
        return at


class Output:
    """The file while it grows."""

    def __init__(self) -> None:
        self.data = bytearray(8)
        self._waiting: deque[tuple[int, Node]] = deque()
        self._vtables: dict[bytes, int] = {}

    def pad(self, alignment: int, *, ahead: int = 0) -> None:
        """Append zeros until what follows `ahead` more bytes is aligned."""
        self.data += bytes(-(len(self.data) + ahead) % alignment)

    def later(self, place: int, node: Node) -> None:
        """Emit `node` in its turn and store the offset to it at `place`."""
        self._waiting.append((place, node))

    def vtable(self, vtable: bytes) -> int:
        """Return the position of a vtable, appended where there is no equal one."""
        at = self._vtables.get(vtable)
        if at is None:
            self.pad(2)
            at = self._vtables[vtable] = len(self.data)
            self.data += vtable
        return at

    def finish(self, root: Node, identifier: bytes) -> None:
        """Emit `root` and all that it points to."""
        self.data[4:8] = identifier
        self.later(0, root)
        while self._waiting:
            place, node = self._waiting.popleft()
            struct.pack_into("<I", self.data, place, node.emit(self) - place)


# (table, field of the offset, field of the size, data)
Behind = tuple[TableNode, str, str, Bytes]


def write_model(model: Model) -> bytes:
    """Return the bytes of a .tflite file that says what `model` says.

    Constants go behind the FlatBuffer where their record says so, and all of them where the file
    would pass 2 GB. Raises ValueError for options that the schema does not know.
    """
    behind: list[Behind] = []
    out = Output()
    out.finish(_root(model, behind), schema.IDENTIFIER)
    for node, offset, size, data in behind:
        out.pad(BUFFER_ALIGNMENT)
        struct.pack_into("<Q", out.data, node.places[offset], len(out.data))
        if len(data):
            struct.pack_into("<Q", out.data, node.places[size], len(data))
        out.data += data
    return bytes(out.data)


def _root(model: Model, behind: list[Behind]) -> TableNode:
    """The model's table; what goes behind the FlatBuffer is noted in `behind`."""
    buffers = model.buffers or ()
    total = sum(len(buffer.data) for buffer in buffers if buffer.data is not None)
    all_behind = total > LARGEST_INSIDE
    return TableNode(
        schema.ModelTable,
        version=model.version,
        operator_codes=Tables(
            _operator_code(c.code, c.custom_code, c.version) for c in model.operator_codes
        ),
        subgraphs=Tables(_subgraph(graph, behind) for graph in model.subgraphs),
        description=model.description,
        buffers=None
        if model.buffers is None
        else Tables(_buffer(buffer, all_behind, behind) for buffer in buffers),
        metadata_buffer=model.metadata_buffer,
        metadata=_some(
            TableNode(schema.MetadataTable, name=entry.name, buffer=entry.buffer)
            for entry in model.metadata
        ),
        signature_defs=_some(_signature(signature) for signature in model.signatures),
        external_buffer_groups=_some(
            TableNode(schema.ExternalBufferGroupTable, name=name)
            for name in model.external_buffer_groups
        ),
        external_buffers=_some(
            TableNode(
                schema.ExternalBufferTable,
                **{name: getattr(entry, name) for name in entry._fields},
            )
            for entry in model.external_buffers
        ),
    )


def _node(form: str, value: Any) -> Node | None:
    """The Node of an offset field's value; None where the field is left out."""
    if isinstance(value, Node):
        return value
    if not value:
        return None
    if form == "text":
        return Text(value)
    if form == "bytes":
        return Numbers("B", bytes(value))
    if form == "offset":
        raise TypeError(f"expected a node of the file, got {value!r}")
    return Numbers(form, value)


def _some(nodes: Iterable[TableNode]) -> Tables | None:
    """A vector of tables, or None where it would be empty."""
    tables = Tables(nodes)
    return tables if tables.nodes else None


def _operator_code(code: int, custom_code: str | None, version: int) -> TableNode:
    return TableNode(
        schema.OperatorCodeTable,
        deprecated_builtin_code=min(code, schema.PLACEHOLDER),
        custom_code=None if custom_code is None else Text(custom_code),
        version=version,
        builtin_code=code,
    )


def _subgraph(graph: Subgraph, behind: list[Behind]) -> TableNode:
    return TableNode(
        schema.SubGraphTable,
        tensors=Tables(_tensor(tensor) for tensor in graph.tensors),
        inputs=Numbers("i", graph.inputs),
        outputs=Numbers("i", graph.outputs),
        operators=Tables(_operator(operator, behind) for operator in graph.operators),
        name=graph.name,
        debug_metadata_index=graph.debug_metadata_index,
    )


def _tensor(tensor: Tensor) -> TableNode:
    signature = tensor.shape_signature
    return TableNode(
        schema.TensorTable,
        shape=Numbers("i", tensor.shape),
        type=tensor.dtype.code,
        buffer=tensor.buffer,
        name=tensor.name,
        quantization=_quantization(tensor.quantization, tensor.quantization_extra),
        is_variable=tensor.is_variable,
        sparsity=None if tensor.sparsity is None else _sparsity(tensor.sparsity),
        shape_signature=None if signature is None else Numbers("i", signature),
        has_rank=tensor.has_rank,
        variant_tensors=_some(
            TableNode(
                schema.VariantSubTypeTable,
                shape=Numbers("i", variant.shape),
                type=variant.dtype.code,
                has_rank=variant.has_rank,
            )
            for variant in tensor.variant_tensors
        ),
        external_buffer=tensor.external_buffer,
    )


def _array(code: str, values: Any) -> Numbers | None:
    """A vector of the elements of an array, or None where there are none."""
    if values is None or not len(values):
        return None
    return Numbers(code, values.astype(f"<{values.dtype.str[1:]}", copy=False).tobytes())


def _quantization(
    quantization: Quantization | None, extra: QuantizationExtra | None
) -> TableNode | None:
    if quantization is None and extra is None:
        return None
    values: dict[str, Any] = {}
    if quantization is not None:
        values = {
            "scale": _array("f", quantization.scales.astype("f4", copy=False)),
            "zero_point": _array("q", quantization.zero_points.astype("i8", copy=False)),
            "quantized_dimension": quantization.axis,
        }
    kind = extra.details if extra is not None else schema.DetailsType.NONE
    if quantization is not None and quantization.scale_tensor >= 0 and not kind:
        kind = schema.DetailsType.BLOCKWISE
    if extra is not None:
        values |= {"min": _array("f", extra.minimum), "max": _array("f", extra.maximum)}
    if kind == schema.DetailsType.CUSTOM and extra is not None:
        data = Numbers("B", extra.custom, align=BUFFER_ALIGNMENT)
        values["details"] = TableNode(schema.CustomQuantizationTable, custom=data)
    elif kind and quantization is not None:
        values["details"] = _details(quantization, extra.axes if extra is not None else (), kind)
    if values.get("details") is not None:
        values["details_type"] = int(kind)
    return TableNode(schema.QuantizationTable, **values)


def _details(quantization: Quantization, axes: tuple[int, ...], kind: int) -> TableNode:
    values: dict[str, Any] = {
        "scales": quantization.scale_tensor,
        "zero_points": quantization.zero_point_tensor,
        "block_size": quantization.block_size,
    }
    if kind == schema.DetailsType.BLOCKWISE:
        return TableNode(schema.BlockwiseQuantizationTable, **values)
    return TableNode(schema.MultiAxisQuantizationTable, **values, quantized_dimensions=axes)


_INDEX_CODES = {"i4": (1, "i"), "u2": (2, "H"), "u1": (3, "B")}


def _sparsity(sparsity: Sparsity) -> TableNode:
    block_map = sparsity.block_map
    return TableNode(
        schema.SparsityTable,
        traversal_order=Numbers("i", sparsity.traversal_order),
        block_map=None if block_map is None else Numbers("i", block_map),
        dim_metadata=Tables(_dimension(dimension) for dimension in sparsity.dim_metadata),
    )


def _dimension(dimension: DimensionMetadata) -> TableNode:
    values: dict[str, Any] = {}
    for name, array in (("segments", dimension.segments), ("indices", dimension.indices)):
        if array is not None:
            kind, code = _INDEX_CODES[array.dtype.str[1:]]
            data = array.astype(f"<{array.dtype.str[1:]}", copy=False).tobytes()
            values[f"array_{name}_type"] = kind
            values[f"array_{name}"] = TableNode(schema.IndexVectorTable, values=Numbers(code, data))
    return TableNode(
        schema.DimensionMetadataTable,
        format=dimension.format,
        dense_size=dimension.dense_size,
        **values,
    )


def _options(options: OptionsRef) -> tuple[int, TableNode | None]:
    if not options.type:
        return 0, None
    if options.table is None:
        raise ValueError(f"options of type {options.type} are not known and cannot be written")
    return options.type, TableNode.of(options.table)


def _operator(operator: Operator, behind: list[Behind]) -> TableNode:
    kind, options = _options(operator.options)
    kind_2, options_2 = _options(operator.options_2)
    values: dict[str, Any] = {}
    if operator.custom_options_behind:
        # The offset is known when the FlatBuffer ends; until then any value that is written.
        values = {"large_custom_options_offset": 1}
        values["large_custom_options_size"] = len(operator.custom_options)
    elif operator.custom_options:
        values = {"custom_options": Numbers("B", operator.custom_options)}
    node = TableNode(
        schema.OperatorTable,
        opcode_index=operator.code,
        inputs=Numbers("i", operator.inputs),
        outputs=Numbers("i", operator.outputs),
        builtin_options_type=kind,
        builtin_options=options,
        custom_options_format=operator.custom_options_format,
        mutating_variable_inputs=operator.mutating_variable_inputs,
        intermediates=operator.intermediates,
        builtin_options_2_type=kind_2,
        builtin_options_2=options_2,
        debug_metadata_index=operator.debug_metadata_index,
        **values,
    )
    if operator.custom_options_behind:
        places = ("large_custom_options_offset", "large_custom_options_size")
        behind.append((node, *places, operator.custom_options))
    return node


def _buffer(buffer: Buffer, all_behind: bool, behind: list[Behind]) -> TableNode:
    if buffer.data is None:
        return TableNode(schema.BufferTable)
    if not (buffer.behind or all_behind):
        data = Numbers("B", buffer.data, align=BUFFER_ALIGNMENT)
        return TableNode(schema.BufferTable, data=data)
    node = TableNode(schema.BufferTable, offset=1, size=len(buffer.data))
    behind.append((node, "offset", "size", buffer.data))
    return node


def _signature(signature: Signature) -> TableNode:
    def names(pairs: tuple[tuple[str, int], ...]) -> Tables:
        return Tables(
            TableNode(schema.TensorMapTable, name=Text(name), tensor_index=tensor)
            for name, tensor in pairs
        )

    return TableNode(
        schema.SignatureTable,
        inputs=names(signature.inputs),
        outputs=names(signature.outputs),
        signature_key=Text(signature.key),
        subgraph_index=signature.subgraph,
    )
