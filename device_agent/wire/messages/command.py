"""``event``, ``cmd/<name>`` and its reply.

Rules kept here:
1. Events form a chain: each holds the digest of the bytes of the one before, so that none can be taken out.
2. A command is never retained, ends by itself (``expires_ms``), and is answered by a reply with its ``id``.
"""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.wire.fields import Extra, check_digest, merge_extra
from device_agent.wire.limits import MAX_COMMAND_BYTES, MAX_EVENT_BYTES
from device_agent.wire.messages.message import VERSION, open_message
from device_agent.wire.topics import check_id

__all__ = ["Command", "Event", "Reply", "decode_command", "decode_event", "decode_reply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of a device's audit trail.

    Attributes:
        number: Counts the events of a device over all boots, 1 the first.
        kind: A short word, such as ``desired_refused``.
        model: The model it is about, or empty.
        previous: SHA-256 of the bytes of the event before, or empty for the first.
    """

    device: str
    boot: int
    number: int
    time_ms: int
    kind: str
    model: str = ""
    code: str = ""
    detail: str = ""
    previous: str = ""
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.device, what="device")
        check_id(self.kind, what="kind of event")
        if self.previous:
            check_digest(self.previous)

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "device": self.device,
            "boot": self.boot,
            "number": self.number,
            "time_ms": self.time_ms,
            "kind": self.kind,
            "model": self.model,
            "code": self.code,
            "detail": self.detail,
            "previous": self.previous,
        }
        return merge_extra(known, self.extra)


def decode_event(data: bytes) -> Event:
    """Read an ``event``.

    Raises:
        WireError: The bytes are no event.
    """
    fields = open_message(data, limit=MAX_EVENT_BYTES, what="event")
    return Event(
        device=fields.text("device"),
        boot=fields.integer("boot"),
        number=fields.integer("number"),
        time_ms=fields.integer("time_ms"),
        kind=fields.text("kind"),
        model=fields.text("model", default=""),
        code=fields.text("code", default=""),
        detail=fields.text("detail", default=""),
        previous=fields.text("previous", default=""),
        extra=fields.extra(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One request to a device; ``arguments`` are (name, text) pairs."""

    name: str
    id: str
    expires_ms: int
    arguments: tuple[tuple[str, str], ...] = ()
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.name, what="command")
        check_id(self.id, what="command id")

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "name": self.name,
            "id": self.id,
            "expires_ms": self.expires_ms,
            "arguments": dict(self.arguments),
        }
        return merge_extra(known, self.extra)


def decode_command(data: bytes) -> Command:
    """Read a command.

    Raises:
        WireError: The bytes are no command.
    """
    fields = open_message(data, limit=MAX_COMMAND_BYTES, what="command")
    return Command(
        name=fields.text("name"),
        id=fields.text("id"),
        expires_ms=fields.integer("expires_ms"),
        arguments=fields.pairs("arguments"),
        extra=fields.extra(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to the command with the same ``id``; an empty ``code`` is success."""

    id: str
    code: str = ""
    detail: str = ""
    result: tuple[tuple[str, str], ...] = ()
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.id, what="command id")

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "id": self.id,
            "code": self.code,
            "detail": self.detail,
            "result": dict(self.result),
        }
        return merge_extra(known, self.extra)


def decode_reply(data: bytes) -> Reply:
    """Read a reply.

    Raises:
        WireError: The bytes are no reply.
    """
    fields = open_message(data, limit=MAX_COMMAND_BYTES, what="reply")
    return Reply(
        id=fields.text("id"),
        code=fields.text("code", default=""),
        detail=fields.text("detail", default=""),
        result=fields.pairs("result"),
        extra=fields.extra(),
    )
