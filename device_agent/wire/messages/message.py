"""What every message has in common: a JSON form, a version, and one writer."""

from __future__ import annotations

from typing import Protocol

from device_agent.wire.canonical import canonical, parse_document
from device_agent.wire.fields import Fields

__all__ = ["VERSION", "Message", "encode", "open_message"]

VERSION = 1
"""The version that every message carries in ``v``."""


class Message(Protocol):
    """Anything with a JSON form."""

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        ...


def encode(message: Message) -> bytes:
    """Return the bytes of a message: canonical JSON.

    Raises:
        WireError: The message holds a value that canonical JSON refuses.
    """
    return canonical(message.to_json())


def open_message(data: bytes, *, limit: int, what: str) -> Fields:
    """Return the fields of a message whose version this code knows.

    Raises:
        WireError: The bytes are no such message.
    """
    fields = Fields(parse_document(data, limit=limit, what=what), what)
    fields.version(VERSION)
    return fields
