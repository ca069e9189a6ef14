"""Options of litejit's own custom operators: a FlexBuffer map, read as TensorFlow Lite reads it."""

from __future__ import annotations

from typing import Any

from litejit.errors import ModelError
from litejit.model import Operator
from litejit.model.flexbuffer import decode
from litejit.ops.base import Op


class Fields:
    """A FlexBuffer map whose values are converted; what is not there is 0, false or ''."""

    def __init__(self, values: dict[str, Any], who: str) -> None:
        self.values, self.who = values, who

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: int = 0) -> int:
        """A number without its fraction. Raises ModelError unless it fits into 32 bits."""
        number = self.real(key, default)
        if not -(1 << 31) <= number < 1 << 31:
            raise ModelError(f"{self.who}: option {key} is {number}, which has no 32 bits")
        return int(number)

    def real(self, key: str, default: float = 0.0) -> float:
        """A number; a string that spells one counts."""
        value = self.values.get(key)
        if value is None:
            return default
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise ModelError(f"{self.who}: option {key} is {value!r}, not a number") from None

    def flag(self, key: str) -> bool:
        """True for any number but 0."""
        return self.real(key) != 0

    def text(self, key: str) -> str:
        """A string, or '' for anything else."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        """A vector of `count` numbers. Raises ModelError for anything else."""
        value: Any = self.values.get(key)
        whole = isinstance(value, list) and all(isinstance(n, int) for n in value)
        if not whole or len(value) != count or any(abs(n) >= 1 << 31 for n in value):
            raise ModelError(f"{self.who}: option {key} is {value!r}, expected {count} integers")
        return tuple(int(n) for n in value)


def read_fields(operator: Operator, who: str) -> Fields:
    """The options of a custom operator; no bytes are an empty map."""
    data = operator.custom_options
    try:
        values = decode(data) if len(data) else {}
    except ModelError as error:
        raise ModelError(f"{who}: {error}") from error
    return Fields(values if isinstance(values, dict) else {}, who)


class CustomOp(Op):
    """An Op whose options are what `read` makes of the FlexBuffer map."""

    def decode_options(self, operator: Operator, who: str) -> Any:
        return self.read(read_fields(operator, who))

    def read(self, fields: Fields) -> Any:
        """The options; by default there are none."""
        return None
