"""``status`` and ``birth``: who is there, and what it is.

Rules kept here:
1. ``status`` is both birth and will, both retained, told apart by ``online``; a death whose ``session`` is not that of
   the last birth is old news.
2. ``birth`` describes the device at every connect; ``previous_seq`` exposes a lost tail of the boot before.
"""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.wire.fields import Extra, Fields, merge_extra
from device_agent.wire.limits import MAX_ID_CHARS, MAX_MODELS, MAX_PRESENCE_BYTES
from device_agent.wire.messages.message import VERSION, open_message
from device_agent.wire.messages.reported import ActiveModel
from device_agent.wire.topics import check_id

__all__ = ["Birth", "Hardware", "Status", "decode_birth", "decode_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Whether a device is connected.

    Attributes:
        online: True in the birth, false in the will.
        boot: The device's count of agent starts.
        session: Names one connection.
    """

    online: bool
    boot: int
    session: str
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "online": self.online,
            "boot": self.boot,
            "session": self.session,
        }
        return merge_extra(known, self.extra)


def decode_status(data: bytes) -> Status:
    """Read a ``status``.

    Raises:
        WireError: The bytes are no status.
    """
    fields = open_message(data, limit=MAX_PRESENCE_BYTES, what="status")
    return Status(
        online=fields.flag("online"),
        boot=fields.integer("boot"),
        session=fields.text("session", cap=MAX_ID_CHARS),
        extra=fields.extra(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The box: instruction set, its own name for itself, cores, memory."""

    machine: str
    model: str
    cores: int
    ram_bytes: int
    isa: tuple[str, ...] = ()
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "machine": self.machine,
            "model": self.model,
            "cores": self.cores,
            "ram_bytes": self.ram_bytes,
            "isa": list(self.isa),
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Hardware:
        """Read the value from its JSON object."""
        return cls(
            machine=fields.text("machine"),
            model=fields.text("model"),
            cores=fields.integer("cores"),
            ram_bytes=fields.integer("ram_bytes"),
            isa=fields.texts("isa"),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a device is and runs, sent at each connect.

    Attributes:
        target: The profile name of the board, may be empty.
        runtimes: Installed runtimes as (name, version).
        models: What is being served.
        rev: The newest ``desired`` revision that the device has seen.
        previous_boot: The boot before this one, or None.
        previous_seq: The last telemetry number of that boot, or None.
        time_ms: Milliseconds since the epoch by the device's clock.
    """

    device: str
    site: str
    boot: int
    session: str
    agent_version: str
    target: str
    hardware: Hardware
    runtimes: tuple[tuple[str, str], ...]
    models: tuple[ActiveModel, ...]
    rev: int
    previous_boot: int | None
    previous_seq: int | None
    time_ms: int
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.device, what="device")
        check_id(self.site, what="site")

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "device": self.device,
            "site": self.site,
            "boot": self.boot,
            "session": self.session,
            "agent_version": self.agent_version,
            "target": self.target,
            "hardware": self.hardware.to_json(),
            "runtimes": dict(self.runtimes),
            "models": [model.to_json() for model in self.models],
            "rev": self.rev,
            "previous_boot": self.previous_boot,
            "previous_seq": self.previous_seq,
            "time_ms": self.time_ms,
        }
        return merge_extra(known, self.extra)


def decode_birth(data: bytes) -> Birth:
    """Read a ``birth``.

    Raises:
        WireError: The bytes are no birth.
    """
    fields = open_message(data, limit=MAX_PRESENCE_BYTES, what="birth")
    return Birth(
        device=fields.text("device"),
        site=fields.text("site"),
        boot=fields.integer("boot"),
        session=fields.text("session", cap=MAX_ID_CHARS),
        agent_version=fields.text("agent_version"),
        target=fields.text("target", default=""),
        hardware=Hardware.read(fields.fields("hardware")),
        runtimes=fields.pairs("runtimes"),
        models=tuple(ActiveModel.read(item) for item in fields.items("models", cap=MAX_MODELS)),
        rev=fields.integer("rev"),
        previous_boot=fields.integer_or_none("previous_boot"),
        previous_seq=fields.integer_or_none("previous_seq"),
        time_ms=fields.integer("time_ms"),
        extra=fields.extra(),
    )
