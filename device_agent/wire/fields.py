"""Read the fields of one JSON object with their types, and remember which fields nobody asked for.

Rules kept here:
1. A field of the wrong type is a WireError that names the field with its path.
2. An absent field is an error unless the caller gives what stands in for it.
3. What was not asked for is ``extra()``: kept as JSON text, so that a value stays hashable and a document survives
   the way through an older reader.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeVar

from device_agent.wire.canonical import document
from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_INTEGER, MAX_ITEMS, MAX_TEXT_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["REQUIRED", "Extra", "Fields", "Required", "check_digest", "merge_extra"]

Extra = tuple[tuple[str, str], ...]
"""Unknown fields: (name, JSON text), sorted by name."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_D = TypeVar("_D")


class Required:
    """The type of :data:`REQUIRED`."""


REQUIRED = Required()
"""Stands where a default would, for a field that must be there."""


def check_digest(value: str, *, what: str = "digest") -> str:
    """Return ``value`` if it is a SHA-256 in 64 lower-case hexadecimal digits.

    Raises:
        WireError: It is not.
    """
    if not _DIGEST.fullmatch(value):
        raise WireError(f"This is no {what}.", expected="64 lower-case hexadecimal digits", got=value[:80])
    return value


def merge_extra(known: dict[str, object], extra: Extra) -> dict[str, object]:
    """Return the known fields with the unknown ones back among them."""
    return {**{name: json.loads(text) for name, text in extra}, **known}


class Fields:
    """The fields of one JSON object, each read once by name and type.

    Args:
        value: What the parser gave; must be an object.
        where: The path of this object in the document, for messages.

    Raises:
        WireError: ``value`` is no object.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise WireError(f"{where} is no object.", expected="a JSON object", got=type(value).__name__)
        if len(value) > MAX_ITEMS:
            raise WireError(f"{where} has too many fields.", expected=f"at most {MAX_ITEMS}", got=len(value))
        self._values: dict[str, object] = value
        self._where = where
        self._seen: set[str] = set()

    @property
    def where(self) -> str:
        """Return the path of this object in its document."""
        return self._where

    def version(self, newest: int, *, name: str = "v") -> int:
        """Read the version of the document, which must be one that this code knows."""
        value = self.integer(name, low=1)
        if value > newest:
            raise WireError(
                f"{self._where} was written by a newer version.",
                expected=f"{name} at most {newest}",
                got=value,
                next_step="Update the reading side first.",
            )
        return value

    def integer(self, name: str, *, low: int = 0, high: int = MAX_INTEGER, default: int | Required = REQUIRED) -> int:
        """Read an integer of ``low`` to ``high``."""
        value = self._take(name, default)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, f"an integer of {low} to {high}", value)
        return value

    def integer_or_none(self, name: str, *, low: int = 0, high: int = MAX_INTEGER) -> int | None:
        """Read an integer of ``low`` to ``high``, or null; absent is null."""
        return None if self._absent(name) else self.integer(name, low=low, high=high)

    def number(self, name: str, *, default: float | Required = REQUIRED) -> float:
        """Read a finite number as a float."""
        value = self._take(name, default)
        if type(value) not in (int, float):
            raise self._wrong(name, "a number", value)
        return float(value)  # type: ignore[arg-type]  # the line above leaves int and float

    def number_or_none(self, name: str) -> float | None:
        """Read a finite number as a float, or null; absent is null."""
        return None if self._absent(name) else self.number(name)

    def text(self, name: str, *, cap: int = MAX_TEXT_CHARS, default: str | Required = REQUIRED) -> str:
        """Read a text of at most ``cap`` characters."""
        value = self._take(name, default)
        if not isinstance(value, str) or len(value) > cap:
            raise self._wrong(name, f"a text of at most {cap} characters", value)
        return value

    def text_or_none(self, name: str, *, cap: int = MAX_TEXT_CHARS) -> str | None:
        """Read a text of at most ``cap`` characters, or null; absent is null."""
        return None if self._absent(name) else self.text(name, cap=cap)

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self._take(name, REQUIRED)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def fields(self, name: str) -> Fields:
        """Read an object."""
        return Fields(self._take(name, REQUIRED), f"{self._where}.{name}")

    def fields_or_none(self, name: str) -> Fields | None:
        """Read an object, or null; absent is null."""
        return None if self._absent(name) else self.fields(name)

    def array(self, name: str, *, cap: int = MAX_ITEMS) -> list[object]:
        """Read an array of at most ``cap`` items; absent is empty."""
        value = self._take(name, [])
        if not isinstance(value, list) or len(value) > cap:
            raise self._wrong(name, f"an array of at most {cap} items", value)
        return value

    def items(self, name: str, *, cap: int = MAX_ITEMS) -> Iterator[Fields]:
        """Read an array of objects; absent is empty."""
        for index, item in enumerate(self.array(name, cap=cap)):
            yield Fields(item, f"{self._where}.{name}[{index}]")

    def texts(self, name: str, *, cap: int = MAX_ITEMS) -> tuple[str, ...]:
        """Read an array of texts; absent is empty."""
        values = self.array(name, cap=cap)
        if any(not isinstance(value, str) or len(value) > MAX_TEXT_CHARS for value in values):
            raise self._wrong(name, "an array of texts", values)
        return tuple(str(value) for value in values)

    def integers(self, name: str, *, low: int = 0, high: int = MAX_INTEGER) -> tuple[int, ...]:
        """Read an array of integers; absent is empty."""
        taken = [value for value in self.array(name) if type(value) is int and low <= value <= high]
        if len(taken) != len(self.array(name)):
            raise self._wrong(name, f"an array of integers of {low} to {high}", self._values[name])
        return tuple(taken)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Read an array of finite numbers as floats; absent is empty."""
        taken = [float(value) for value in self.array(name) if type(value) in (int, float)]  # type: ignore[arg-type]  # filtered by type
        if len(taken) != len(self.array(name)):
            raise self._wrong(name, "an array of numbers", self._values[name])
        return tuple(taken)

    def table(self, name: str, *, cap: int = MAX_ITEMS) -> Fields:
        """Read an object whose keys are data; absent is empty."""
        value = self._take(name, {})
        if not isinstance(value, dict) or len(value) > cap:
            raise self._wrong(name, f"an object of at most {cap} entries", value)
        return Fields(value, f"{self._where}.{name}")

    def names(self) -> tuple[str, ...]:
        """Return every name in this object, sorted."""
        return tuple(sorted(self._values))

    def counts(self, name: str) -> tuple[tuple[str, int], ...]:
        """Read an object of text → count as sorted pairs; absent is empty."""
        table = self.table(name)
        return tuple((key, table.integer(key)) for key in table.names())

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Read an object of text → text as sorted pairs; absent is empty."""
        table = self.table(name)
        return tuple((key, table.text(key)) for key in table.names())

    def extra(self) -> Extra:
        """Return the fields that nobody asked for."""
        rest = sorted(set(self._values) - self._seen)
        return tuple((name, document(self._values[name]).decode("utf-8")) for name in rest)

    def _absent(self, name: str) -> bool:
        self._seen.add(name)
        return self._values.get(name) is None

    def _take(self, name: str, default: _D | Required) -> object:
        self._seen.add(name)
        if name in self._values:
            return self._values[name]
        if isinstance(default, Required):
            raise WireError(
                f"{self._where} lacks a field.", expected=f"the field {name!r}", got=sorted(self._values)[:20]
            )
        return default

    def _wrong(self, name: str, expected: str, got: object) -> WireError:
        return WireError(f"{self._where}.{name} is wrong.", expected=expected, got=ascii(got)[:120])
