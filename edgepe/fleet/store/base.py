"""What the fleet asks of a store, and the rows it gets back.

Rules kept here:
1. A row is a value; no caller sees SQL, and none of these names a database.
2. Times are integer milliseconds since the epoch, memory bytes, histograms nanoseconds.
3. ``ingest`` commits all of its arrivals or none, so that they may be acknowledged when it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from device_agent.wire.histogram import LogHistogram
    from edgepe.fleet.arrivals import Arrival, Poison

__all__ = [
    "Counts",
    "DesiredRow",
    "DeviceModelRow",
    "DeviceRow",
    "EventRow",
    "Ingested",
    "RolloutRow",
    "RollupRow",
    "Store",
    "WindowRow",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of one batch: messages applied, telemetry that was there already, messages that were broken."""

    stored: int
    duplicates: int
    poison: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Exact accounting over the life of the store.

    ``lost`` is the gaps in ``(boot, seq)`` of every device, the tail a birth declares included, less what the devices
    say they dropped themselves. A device's first boot counts from the first batch that this store saw.
    """

    messages: int
    duplicates: int
    lost: int
    poison: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device; ``birth`` is its last birth as it came, or empty."""

    device: str
    site: str
    target: str
    online: bool
    boot: int
    last_seen_ms: int
    temperature_mc: int | None
    birth: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModelRow:
    """One model on one device: where its update stands and what its last window with inferences measured.

    ``rev`` and ``state`` are as reported, ``version`` is what is active; empty where nothing is known.
    """

    device: str
    model: str
    rev: int
    state: str
    percent: int
    code: str
    detail: str
    version: str
    previous: str
    inferences: int
    errors: int
    rss_bytes: int | None
    latency: LogHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow:
    """One telemetry batch of one model on one device."""

    start_ms: int
    model: str
    version: str
    inferences: int
    errors: int
    rss_bytes: int
    temperature_mc: int | None
    latency: LogHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupRow:
    """Merged histograms of one model version on one kind of board in one step of time."""

    start_ms: int
    model: str
    version: str
    target: str
    inferences: int
    errors: int
    rss_bytes: int
    latency: LogHistogram


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredRow:
    """The newest desired document of a device, as it is published."""

    device: str
    site: str
    rev: int
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """A roll-out as its controller wrote it."""

    id: str
    open: bool
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened; ``device`` is empty for the fleet's own."""

    time_ms: int
    device: str
    kind: str
    code: str
    detail: str


class Store(Protocol):
    """The fleet's memory; one object per thread or process, many may be open on one store."""

    def ingest(self, arrivals: Sequence[Arrival | Poison]) -> Ingested:
        """Commit a batch of messages whole; what is there already is counted, not stored twice."""
        ...

    def counts(self) -> Counts:
        """Return the accounting."""
        ...

    def devices(self) -> tuple[DeviceRow, ...]:
        """Return every device, ordered by site and name."""
        ...

    def device_models(self, device: str | None = None) -> tuple[DeviceModelRow, ...]:
        """Return what runs where, ordered by device and model; of one device if named."""
        ...

    def windows(self, device: str, *, most: int) -> tuple[WindowRow, ...]:
        """Return the newest windows of a device, oldest first."""
        ...

    def rollups(self, *, step_ms: int, since_ms: int, model: str = "", version: str = "") -> tuple[RollupRow, ...]:
        """Return merged histograms per step, ordered by time; an empty name or version selects all."""
        ...

    def prune(self, *, now_ms: int) -> None:
        """Drop the fine rollups that no view shows any more."""
        ...

    def desired(self) -> tuple[DesiredRow, ...]:
        """Return the newest desired document of every device that has one."""
        ...

    def put_desired(self, row: DesiredRow) -> None:
        """Keep a document of a newer revision than the stored one."""
        ...

    def rollouts(self, *, most: int) -> tuple[RolloutRow, ...]:
        """Return the newest roll-outs, newest first."""
        ...

    def put_rollout(self, row: RolloutRow) -> None:
        """Keep a roll-out's new state under its id."""
        ...

    def events(self, *, most: int, device: str = "") -> tuple[EventRow, ...]:
        """Return the newest events, newest first; of one device if named."""
        ...

    def add_event(self, event: EventRow) -> None:
        """Keep an event of the fleet's own."""
        ...

    def changes(self) -> int:
        """Return a number that differs once somebody else has committed."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
