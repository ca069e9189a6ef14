"""The C++ classes of TensorFlow Lite that hold a model: Model, Status, error reporters."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from litejit.engine.runner import LoadedModel
from litejit.errors import ModelError
from litejit.opening import load_model, load_path


class Status(enum.IntEnum):
    """What TfLiteStatus says; 0 is success."""

    OK = 0
    ERROR = 1
    DELEGATE_ERROR = 2
    APPLICATION_ERROR = 3
    UNRESOLVED_OPS = 7
    CANCELLED = 8
    OUTPUT_SHAPE_NOT_KNOWN = 9


class ErrorReporter(Protocol):
    """Gets every message; a plain function of one string does, too."""

    def report(self, text: str) -> Any:
        """Take one message."""
        ...


class StderrReporter:
    """Prints messages to standard error: what is used where no reporter is given."""

    def report(self, text: str) -> None:
        """Print one message."""
        print(f"ERROR: {text}", file=sys.stderr)


Reporter: TypeAlias = "ErrorReporter | Callable[[str], Any] | None"


def _reporting(reporter: Reporter) -> Callable[[str], Any]:
    if reporter is None:
        return StderrReporter().report
    if callable(reporter):
        return reporter
    return reporter.report


class Model:
    """A .tflite file that any number of interpreters, in any threads, may run at once.

    It is immutable; weights are packed for the kernels once. Interpreters keep it alive.

    Args:
        path: file of the model.
        error_reporter: gets the messages of this model and of its interpreters.

    Raises:
        ValueError: the file cannot be read, or is no model.
    """

    def __init__(
        self, path: str | bytes | os.PathLike[Any], error_reporter: Reporter = None
    ) -> None:
        self.error_reporter = _reporting(error_reporter)
        self._loaded = load_path(path)

    @classmethod
    def _of(cls, loaded: LoadedModel, error_reporter: Reporter) -> Model:
        model = object.__new__(cls)
        model._loaded, model.error_reporter = loaded, _reporting(error_reporter)
        return model

    @classmethod
    def from_file(
        cls, path: str | bytes | os.PathLike[Any], error_reporter: Reporter = None
    ) -> Model:
        """Read a file. Raises ValueError."""
        return cls(path, error_reporter)

    @classmethod
    def from_buffer(cls, buffer: Any, error_reporter: Reporter = None) -> Model:
        """Read the content of a file, from anything with a buffer. Raises ValueError."""
        data = buffer if isinstance(buffer, bytes) else bytes(memoryview(buffer).cast("B"))
        return cls._of(load_model(data), error_reporter)

    @classmethod
    def build_from_file(cls, path: Any, error_reporter: Reporter = None) -> Model | None:
        """Read a file; None, and a message, where that fails."""

        def read() -> Model:
            try:
                return cls.from_file(path, error_reporter)
            except ModelError:
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        _check_identifier(file.read(8))
                raise

        return _or_none(read, error_reporter)

    @classmethod
    def build_from_buffer(cls, buffer: Any, error_reporter: Reporter = None) -> Model | None:
        """Read the content of a file; None, and a message, where that fails."""

        def read() -> Model:
            _check_identifier(bytes(memoryview(buffer).cast("B")[:8]))
            return cls.from_buffer(buffer, error_reporter)

        return _or_none(read, error_reporter)

    @classmethod
    def build_from_file_descriptor(
        cls, descriptor: int, error_reporter: Reporter = None
    ) -> Model | None:
        """Read an open file from its present position; None, and a message, where that fails."""

        def read() -> Model:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                return cls.from_buffer(file.read(), error_reporter)

        return _or_none(read, error_reporter)

    @classmethod
    def verify_and_build_from_file(
        cls, path: Any, extra_verifier: Any = None, error_reporter: Reporter = None
    ) -> Model | None:
        """As `build_from_file`; the extra verifier may refuse the bytes before."""

        def read() -> Model:
            with open(path, "rb") as file:
                return cls._verified(file.read(), extra_verifier, error_reporter)

        return _or_none(read, error_reporter)

    @classmethod
    def verify_and_build_from_buffer(
        cls, buffer: Any, extra_verifier: Any = None, error_reporter: Reporter = None
    ) -> Model | None:
        """As `build_from_buffer`; the extra verifier may refuse the bytes before.

        A verifier is a function of the bytes that returns a bool, or has `verify(data,
        length, reporter)`.
        """
        data = bytes(buffer)
        return _or_none(lambda: cls._verified(data, extra_verifier, error_reporter), error_reporter)

    @classmethod
    def _verified(cls, data: bytes, verifier: Any, error_reporter: Reporter) -> Model:
        model = cls.from_buffer(data, error_reporter)
        if verifier is None:
            return model
        check = getattr(verifier, "verify", None)
        reporter = _reporting(error_reporter)
        ok = check(data, len(data), reporter) if check is not None else verifier(data)
        if not ok:
            raise ModelError("The extra verifier refuses the model")
        return model

    def initialized(self) -> bool:
        """True: a model that cannot be read is never made."""
        return True

    def minimum_runtime(self) -> str:
        """The version of TensorFlow Lite that the model asks for; '' where it names none."""
        data = self._loaded.model.metadata_bytes("min_runtime_version")
        return "" if data is None else bytes(data).split(b"\0")[0].decode()

    def read_all_metadata(self) -> dict[str, bytes]:
        """The metadata by name; empty ones are left out."""
        model = self._loaded.model
        found = {m.name: bytes(model.buffer_bytes(m.buffer)) for m in model.metadata}
        return {name: data for name, data in found.items() if data}


FlatBufferModel = Model


def _check_identifier(head: bytes) -> None:
    """Raise ModelError where the first 8 bytes of a file cannot be a model's."""
    if len(head) < 7:
        raise ModelError("Model provided must have at least 7 bytes to hold identifier.\n")
    if head[4:8] != b"TFL3":
        found = head[4:8].decode("latin-1")
        raise ModelError(f"Model provided has model identifier '{found}', should be 'TFL3'\n")


def _or_none(make: Callable[[], Model], reporter: Reporter) -> Model | None:
    try:
        return make()
    except (OSError, ValueError, TypeError) as error:
        _reporting(reporter)(str(error))
        return None
