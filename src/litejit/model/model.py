"""Model, Subgraph, Tensor, Operator: frozen records of what a .tflite file says.

They carry no state of a run. Constants are views of the file's bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from litejit.errors import ModelError
from litejit.model.schema import BUILTIN_NAMES, CUSTOM, VERSION
from litejit.model.table import Reader, Table
from litejit.record import Record
from litejit.types import DType, Quantization

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T", bound=Table)
Bytes = bytes | memoryview


class OptionsRef:
    """Options of one operator, decoded when first asked for.

    `type` is the number in the schema's union `union` (1: builtin_options, 2:
    builtin_options_2); 0 means none. Two are equal when their decoded tables are.
    """

    __slots__ = ("_at", "_reader", "_table", "type", "union")

    def __init__(
        self, type: int = 0, reader: Reader | None = None, at: int = 0, *, union: int = 1
    ) -> None:
        self.type = type
        self.union = union
        self._reader = reader
        self._at = at
        self._table: Table | None = None

    @classmethod
    def of(cls, table: Table) -> OptionsRef:
        """Return a reference to options that exist already."""
        from litejit.model.options import union_of

        union, number = union_of(type(table))
        self = cls(number, union=union)
        self._table = table
        return self

    @property
    def table(self) -> Table | None:
        """The decoded options; None where there are none or the schema does not know them.

        Raises ModelError where they do not fit into the file.
        """
        if self._table is None:
            self.decode()
        return self._table

    def decode(self) -> None:
        """Decode the options, unless that is done or there are none. Raises ModelError."""
        if self._reader is None or not self.type:
            return
        from litejit.model.options import options_class

        found = options_class(self.type, union=self.union)
        if found is not None:
            self._table = found.read(self._reader, self._at)
        self._reader = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OptionsRef):
            return NotImplemented
        if self is other:
            return True
        return (self.union, self.type) == (other.union, other.type) and self.table == other.table

    def __hash__(self) -> int:
        return hash((self.union, self.type, self.table))

    def __repr__(self) -> str:
        return f"OptionsRef({self.table!r})"


NO_OPTIONS = OptionsRef()
NO_OPTIONS_2 = OptionsRef(union=2)


class OperatorCode(Record):
    """Which operator, and which version of it.

    `code` is the larger of the file's two fields; `custom_code` names a CUSTOM operator and is
    None where the file has none.
    """

    code: int
    custom_code: str | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """The operator's name: the custom code of a CUSTOM operator, else the schema's."""
        if self.code == CUSTOM:
            return self.custom_code or "CUSTOM"
        return BUILTIN_NAMES[self.code] if 0 <= self.code < len(BUILTIN_NAMES) else str(self.code)

    @property
    def is_custom(self) -> bool:
        """True for operators that are found by name."""
        return self.code == CUSTOM


class Operator(Record):
    """One operator of a subgraph; `code` is an index into the model's operator_codes.

    A tensor number of -1 in `inputs` stands for an operand that is left out. `custom_options`
    are the bytes that a CUSTOM operator is given; `custom_options_behind` tells that they lie
    behind the FlatBuffer (files beyond 2 GB).
    """

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: OptionsRef = NO_OPTIONS
    options_2: OptionsRef = NO_OPTIONS_2
    custom_options: bytes = b""
    intermediates: tuple[int, ...] = ()
    mutating_variable_inputs: tuple[bool, ...] = ()
    custom_options_format: int = 0
    custom_options_behind: bool = False
    debug_metadata_index: int = -1

    @property
    def options_type(self) -> int:
        """The member of the schema's BuiltinOptions union; 0 for none."""
        return self.options.type

    @property
    def options_2_type(self) -> int:
        """The member of the schema's BuiltinOptions2 union; 0 for none."""
        return self.options_2.type

    def read_options(self, table: type[T]) -> T:
        """Return the options as an instance of `table`.

        Where the file has none, or options of another type, this is `table` with the schema's
        defaults: LiteRT, too, reads a union of another type as absent. Raises ModelError where
        the options do not fit into the file.
        """
        for options in (self.options, self.options_2):
            found = options.table if options.type else None
            if isinstance(found, table):
                return found
        return table()


class DimensionMetadata(Record):
    """One dimension of a sparse tensor: dense of `dense_size`, or compressed sparse rows.

    `segments` and `indices` (int32, uint16 or uint8 arrays) are None for dense dimensions.
    """

    format: int = 0
    dense_size: int = 0
    segments: NDArray[Any] | None = None
    indices: NDArray[Any] | None = None


class Sparsity(Record):
    """How the stored values of a sparse constant map to its shape."""

    traversal_order: tuple[int, ...]
    block_map: tuple[int, ...] | None
    dim_metadata: tuple[DimensionMetadata, ...]


class QuantizationExtra(Record):
    """What a file says about a quantization beyond litejit.types.Quantization.

    `minimum` and `maximum` are the calibrated range (float32 arrays, often of length 1).
    `details` is the member of the schema's QuantizationDetails union (1 custom, 2 blockwise,
    3 multi-axis), `axes` the axes of a multi-axis quantization.
    """

    minimum: NDArray[Any]
    maximum: NDArray[Any]
    details: int = 0
    custom: bytes = b""
    axes: tuple[int, ...] = ()


class VariantSubType(Record):
    """What a VARIANT tensor holds."""

    shape: tuple[int, ...]
    dtype: DType
    has_rank: bool = False


class Tensor(Record):
    """One tensor of a subgraph; `buffer` is an index into the model's buffers (0: no data).

    `shape_signature` has -1 for dimensions that are unknown; None where the file has none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    buffer: int = 0
    quantization: Quantization | None = None
    is_variable: bool = False
    shape_signature: tuple[int, ...] | None = None
    sparsity: Sparsity | None = None
    has_rank: bool = False
    variant_tensors: tuple[VariantSubType, ...] = ()
    external_buffer: int = 0
    quantization_extra: QuantizationExtra | None = None


class Subgraph(Record):
    """One graph; operators stand in the order of execution."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]
    debug_metadata_index: int = -1


class Buffer(Record):
    """Bytes of a constant: a view of the file's bytes, or None where the buffer has no data.

    `behind` tells that the data lies behind the FlatBuffer (files beyond 2 GB).
    """

    data: Bytes | None = None
    behind: bool = False


class ExternalBuffer(Record):
    """A slice of another file that holds a constant."""

    id: int
    group: int
    offset: int
    length: int
    packing: str = ""


class Metadata(Record):
    """A named buffer."""

    name: str
    buffer: int


class Signature(Record):
    """A callable subgraph; `inputs` and `outputs` are (name, tensor number) in file order."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


class Model(Record):
    """What a .tflite file says."""

    NO_DATA: ClassVar[bytes] = b""

    version: int = VERSION
    description: str = ""
    operator_codes: tuple[OperatorCode, ...] = ()
    subgraphs: tuple[Subgraph, ...] = ()
    buffers: tuple[Buffer, ...] | None = ()
    metadata: tuple[Metadata, ...] = ()
    signatures: tuple[Signature, ...] = ()
    metadata_buffer: tuple[int, ...] = ()
    external_buffer_groups: tuple[str, ...] = ()
    external_buffers: tuple[ExternalBuffer, ...] = ()

    def buffer_bytes(self, index: int) -> Bytes:
        """Return the bytes of buffer `index`, not copied; empty where it has no data.

        Raises ModelError where there is no such buffer.
        """
        buffers = self.buffers or ()
        if not 0 <= index < len(buffers):
            raise ModelError(f"buffer {index} does not exist: the model has {len(buffers)}")
        data = buffers[index].data
        return self.NO_DATA if data is None else data

    def metadata_bytes(self, name: str) -> Bytes | None:
        """Return the bytes of the metadata called `name`, or None."""
        for entry in self.metadata:
            if entry.name == name:
                return self.buffer_bytes(entry.buffer)
        return None

    def operator_name(self, operator: Operator) -> str:
        """Return the name of an operator of this model."""
        return self.operator_codes[operator.code].name


def read_model(
    source: Bytes | str | os.PathLike[str], *, verify: bool = True, strict: bool = True
) -> Model:
    """Read a .tflite file.

    `source` is the file's content, or a path; a path is read whole, at once, and never mapped,
    so that a file which is cut short underneath cannot end the process. The model keeps the
    content alive: constants are views of it. With `verify=False` only the format is checked, not
    what `litejit.model.verify.verify_model` checks; `strict=False` lets pass what TFLM runs and
    LiteRT refuses.

    Raises ModelError, in LiteRT's words and then ours, for what cannot be opened or read.
    """
    from litejit.model.load import load_model

    model = load_model(read_content(source))
    if verify:
        from litejit.model.verify import verify_model

        verify_model(model, strict=strict)
    return model


def read_content(source: Bytes | str | os.PathLike[str]) -> bytes:
    """The bytes of a file that is given by its path, or as bytes-like content.

    Raises ModelError for what cannot be opened or read.
    """
    if isinstance(source, (str, os.PathLike)):
        from litejit.model.load import read_file

        return read_file(os.fspath(source))
    return source if isinstance(source, bytes) else bytes(source)


def constant_array(model: Model, subgraph: int, tensor: int) -> NDArray[Any] | None:
    """Return the value of a constant tensor as stored by litejit, or None where it has no data.

    See `litejit.model.constant.read_constant`, which does this for one tensor.
    """
    from litejit.model.constant import read_constant

    found = model.subgraphs[subgraph].tensors[tensor]
    if found.buffer == 0:
        return None
    buffers = model.buffers or ()
    if not 0 < found.buffer < len(buffers):
        model.buffer_bytes(found.buffer)
    data = buffers[found.buffer].data
    return None if data is None else read_constant(data, found, where=f"tensor {tensor}")
