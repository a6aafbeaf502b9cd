"""``reported``: where the update of each model stands. Retained, and sent again at every connect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from device_agent.wire.errors import WireError
from device_agent.wire.fields import Extra, Fields, check_digest, merge_extra
from device_agent.wire.limits import MAX_MODELS, MAX_REPORTED_BYTES
from device_agent.wire.messages.message import VERSION, open_message
from device_agent.wire.topics import check_id

__all__ = ["ActiveModel", "Reported", "ReportedModel", "State", "decode_reported"]

_HUNDRED = 100


class State(str, Enum):
    """The state of one update, in the order of a good one; the last six are ends."""

    IDLE = "IDLE"
    ACCEPTED = "ACCEPTED"
    PREFLIGHT = "PREFLIGHT"
    DOWNLOADING = "DOWNLOADING"
    VERIFYING = "VERIFYING"
    STAGED = "STAGED"
    PROBING = "PROBING"
    SWITCHING = "SWITCHING"
    SOAKING = "SOAKING"
    COMMITTED = "COMMITTED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveModel:
    """A model as it is installed: ``sha256`` is the digest of its bundle."""

    name: str
    version: str
    sha256: str
    target: str
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.name, what="model name")
        check_id(self.version, what="model version")
        check_digest(self.sha256)

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "target": self.target,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> ActiveModel:
        """Read the value from its JSON object."""
        return cls(
            name=fields.text("name"),
            version=fields.text("version"),
            sha256=fields.text("sha256"),
            target=fields.text("target", default=""),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedModel:
    """The update of one model.

    Attributes:
        name: The model.
        rev: The ``desired`` revision that this is about.
        attempt: Counts starts of this update, 1 the first.
        percent: Of the download, 0 to 100.
        code: A short word for the reason of an end, such as ``digest_mismatch``; empty while all is well.
        detail: A sentence for a person.
        active: What is serving now, or None.
        previous: What served before, or None.
    """

    name: str
    rev: int
    state: State
    attempt: int = 0
    percent: int = 0
    code: str = ""
    detail: str = ""
    active: ActiveModel | None = None
    previous: ActiveModel | None = None
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.name, what="model name")
        if not 0 <= self.percent <= _HUNDRED:
            raise WireError("A percentage is of 0 to 100.", got=self.percent)

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values; the name is the key it stands under."""
        known: dict[str, object] = {
            "rev": self.rev,
            "state": self.state.value,
            "attempt": self.attempt,
            "percent": self.percent,
            "code": self.code,
            "detail": self.detail,
            "active": self.active.to_json() if self.active else None,
            "previous": self.previous.to_json() if self.previous else None,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, name: str, fields: Fields) -> ReportedModel:
        """Read the value from its JSON object."""
        active, previous = fields.fields_or_none("active"), fields.fields_or_none("previous")
        return cls(
            name=name,
            rev=fields.integer("rev"),
            state=_state(fields.text("state")),
            attempt=fields.integer("attempt", default=0),
            percent=fields.integer("percent", high=_HUNDRED, default=0),
            code=fields.text("code", default=""),
            detail=fields.text("detail", default=""),
            active=ActiveModel.read(active) if active else None,
            previous=ActiveModel.read(previous) if previous else None,
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The update state of every model of a device; ``rev`` is the newest revision seen."""

    device: str
    boot: int
    rev: int
    models: tuple[ReportedModel, ...]
    time_ms: int
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.device, what="device")

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "device": self.device,
            "boot": self.boot,
            "rev": self.rev,
            "models": {model.name: model.to_json() for model in self.models},
            "time_ms": self.time_ms,
        }
        return merge_extra(known, self.extra)


def decode_reported(data: bytes) -> Reported:
    """Read a ``reported``.

    Raises:
        WireError: The bytes are no reported.
    """
    fields = open_message(data, limit=MAX_REPORTED_BYTES, what="reported")
    models = fields.table("models", cap=MAX_MODELS)
    return Reported(
        device=fields.text("device"),
        boot=fields.integer("boot"),
        rev=fields.integer("rev"),
        models=tuple(ReportedModel.read(name, models.fields(name)) for name in models.names()),
        time_ms=fields.integer("time_ms"),
        extra=fields.extra(),
    )


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError as error:
        known = ", ".join(state.value for state in State)
        raise WireError("This is no state of an update.", expected=known, got=ascii(text)[:60]) from error
