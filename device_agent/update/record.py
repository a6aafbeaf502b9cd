"""The one durable record of a model's update: ``models/<name>/state.json``.

Rules kept here:
1. The record is written before what it announces is done, so that a kill leaves a record to go on from.
2. What serves is never read from here: the pointer of :mod:`device_agent.update.slots` alone says it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device_agent.errors import UpdateError
from device_agent.update.slots import write_durably
from device_agent.wire.canonical import canonical, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Fields
from device_agent.wire.limits import MAX_DESIRED_BYTES
from device_agent.wire.messages import DesiredModel, Gate, ReportedModel, State, Window

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.wire.messages import ActiveModel

__all__ = ["Record", "Request", "read_record", "write_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the host asks for one model, taken out of a verified ``desired``."""

    rev: int
    model: DesiredModel
    urls: tuple[str, ...] = ()
    gate: Gate = field(default_factory=Gate)
    window: Window | None = None

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        return {
            "rev": self.rev,
            "name": self.model.name,
            "model": self.model.to_json(),
            "urls": list(self.urls),
            "gate": self.gate.to_json(),
            "window": self.window.to_json() if self.window else None,
        }

    @classmethod
    def read(cls, fields: Fields) -> Request:
        """Read the value from its JSON object."""
        window = fields.fields_or_none("window")
        return cls(
            rev=fields.integer("rev"),
            model=DesiredModel.read(fields.text("name"), fields.fields("model")),
            urls=fields.texts("urls"),
            gate=Gate.read(fields.fields("gate")),
            window=Window.read(window) if window else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where the update of one model stands.

    Attributes:
        slot: The letter of the slot that the new model goes into, or empty.
        old: The letter of the slot that served before, or empty where none did.
        attempt: Counts the starts of this update.
        percent: Of the download.
        denied: Digests that were rolled back, each with the revision that asked for it.
    """

    name: str
    state: State = State.IDLE
    request: Request | None = None
    slot: str = ""
    old: str = ""
    attempt: int = 0
    percent: int = 0
    code: str = ""
    detail: str = ""
    denied: tuple[tuple[str, int], ...] = ()

    @property
    def rev(self) -> int:
        """Return the revision that this is about, 0 before the first."""
        return self.request.rev if self.request else 0

    def wanted(self) -> Request:
        """Return the request, which every state but IDLE has.

        Raises:
            UpdateError: There is none.
        """
        if self.request is None:
            raise UpdateError("This update has no request.", code="bad_record", got=self.state.value)
        return self.request

    def reported(self, *, active: ActiveModel | None, previous: ActiveModel | None) -> ReportedModel:
        """Return what the fleet is told."""
        return ReportedModel(
            name=self.name,
            rev=self.rev,
            state=self.state,
            attempt=self.attempt,
            percent=self.percent,
            code=self.code,
            detail=self.detail,
            active=active,
            previous=previous,
        )


def read_record(path: Path, name: str) -> Record:
    """Read a record; an absent one is IDLE.

    Raises:
        UpdateError: The file is there and is no record.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Record(name=name)
    except OSError as error:
        raise UpdateError(f"{path} cannot be read.", code="disk", got=str(error)) from error
    try:
        fields = Fields(parse_document(data, limit=2 * MAX_DESIRED_BYTES, what="state"), "state")
        request, denied = fields.fields_or_none("request"), fields.counts("denied")
        return Record(
            name=name,
            state=State(fields.text("state")),
            request=Request.read(request) if request else None,
            slot=fields.text("slot"),
            old=fields.text("old"),
            attempt=fields.integer("attempt"),
            percent=fields.integer("percent"),
            code=fields.text("code"),
            detail=fields.text("detail"),
            denied=denied,
        )
    except (WireError, ValueError) as error:
        raise UpdateError(f"{path} is no record of an update.", code="bad_record", got=str(error)) from error


def write_record(path: Path, record: Record) -> None:
    """Replace the record durably.

    Raises:
        UpdateError: The disk refuses.
    """
    value = {
        "v": 1,
        "state": record.state.value,
        "request": record.request.to_json() if record.request else None,
        "slot": record.slot,
        "old": record.old,
        "attempt": record.attempt,
        "percent": record.percent,
        "code": record.code,
        "detail": record.detail,
        "denied": dict(record.denied),
    }
    write_durably(path, canonical(value))
