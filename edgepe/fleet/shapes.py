"""The JSON that the fleet's HTTP interface speaks: one type per answer, shared by server, client and page.

Rules kept here:
1. Times are integer milliseconds since the epoch, latencies microseconds, memory bytes; the unit is in the name.
2. A figure that nothing was measured for is ``null``, never 0.
3. Percentiles come from merged histograms, never from percentiles.

========================================  ==========================================================
``GET /api/status``                       :class:`StatusJson`
``GET /api/devices``                      ``{"devices": [DeviceJson, …]}``
``GET /api/devices/{device}``             :class:`DeviceDetailJson`
``GET /api/models``                       ``{"models": [ModelJson, …]}``
``GET /api/latency?model=&version=&minutes=``  :class:`LatencyJson` (10 s steps up to 15 minutes, else 60 s)
``GET /api/rollouts``                     ``{"rollouts": [RolloutJson, …]}``, newest first
``POST /api/rollouts``                    :class:`RolloutRequestJson` → :class:`RolloutJson` (201)
``GET /api/events?limit=``                ``{"events": [EventJson, …]}``, newest first
``GET /api/stream``                       server-sent events named ``fleet``: :class:`FleetJson`
an error                                  :class:`ErrorJson` with status 4xx
========================================  ==========================================================
"""

from __future__ import annotations

from typing import TypedDict

__all__ = [
    "TOKEN_HEADER",
    "DeviceDetailJson",
    "DeviceJson",
    "ErrorJson",
    "EventJson",
    "FleetJson",
    "LatencyJson",
    "LatencyPointJson",
    "LatencySeriesJson",
    "ModelJson",
    "RolloutDeviceJson",
    "RolloutJson",
    "RolloutRequestJson",
    "StatusJson",
    "WindowJson",
]

TOKEN_HEADER = "X-Edgepe-Token"  # noqa: S105 - a header's name, not a token
"""What changes something must carry, with the ``token`` of ``fleet.json``."""


class StatusJson(TypedDict):
    """The whole fleet in one row; ``poison`` counts messages that broke their format."""

    devices: int
    online: int
    messages: int
    lost: int
    duplicates: int
    poison: int
    by_state: dict[str, int]
    by_version: dict[str, int]
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    time_ms: int


class DeviceJson(TypedDict):
    """One device; a percentile is of its last window with inferences, counts are since the version became active."""

    device: str
    site: str
    target: str
    online: bool
    model: str
    version: str
    state: str
    code: str
    percent: int
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    rss_bytes: int | None
    temperature_mc: int | None
    inferences: int
    errors: int
    last_seen_ms: int


class WindowJson(TypedDict):
    """One telemetry window of one device and model."""

    time_ms: int
    model: str
    version: str
    inferences: int
    errors: int
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    rss_bytes: int
    temperature_mc: int | None


class DeviceDetailJson(TypedDict):
    """All that is known of one device; ``models`` has a row per model, ``windows`` the last ones, oldest first."""

    device: str
    site: str
    target: str
    online: bool
    agent_version: str
    hardware: dict[str, object]
    runtimes: list[list[str]]
    desired_rev: int
    last_seen_ms: int
    models: list[DeviceJson]
    windows: list[WindowJson]
    events: list[EventJson]


class ModelJson(TypedDict):
    """One published or running version of a model."""

    name: str
    version: str
    targets: list[str]
    devices: int
    online: int
    inferences: int
    errors: int


class LatencyPointJson(TypedDict):
    """One step of a series; the percentiles are of all devices' histograms merged."""

    time_ms: int
    count: int
    errors: int
    p50_us: float | None
    p95_us: float | None
    p99_us: float | None
    rss_bytes: int | None


class LatencySeriesJson(TypedDict):
    """One model version on one target over time."""

    model: str
    version: str
    target: str
    points: list[LatencyPointJson]


class LatencyJson(TypedDict):
    """The series that a question for latency selects."""

    step_ms: int
    since_ms: int
    series: list[LatencySeriesJson]


class RolloutDeviceJson(TypedDict):
    """One device of a roll-out; ``state`` is WAITING, ASKED, a state of the update, REVERTING or REVERTED."""

    device: str
    wave: int
    state: str
    percent: int
    code: str
    reason: str
    previous: str


class RolloutJson(TypedDict):
    """One roll-out; ``state`` is RUNNING, REVERTING, COMPLETED or FAILED; ``skipped`` maps a device to its reason."""

    id: str
    name: str
    version: str
    state: str
    reason: str
    wave: int
    waves: list[int]
    committed: int
    started_ms: int
    ended_ms: int | None
    devices: list[RolloutDeviceJson]
    skipped: dict[str, str]


class RolloutRequestJson(TypedDict, total=False):
    """What ``POST /api/rollouts`` takes; needs the header ``X-Edgepe-Token`` and a JSON content type."""

    name: str
    version: str
    waves: str
    deadline_s: int
    group: str


class EventJson(TypedDict):
    """Something that happened; ``device`` is empty for the fleet's own."""

    time_ms: int
    device: str
    kind: str
    code: str
    detail: str


class FleetJson(TypedDict):
    """One live update."""

    status: StatusJson
    devices: list[DeviceJson]
    rollouts: list[RolloutJson]
    events: list[EventJson]


class ErrorJson(TypedDict):
    """Why a request was refused."""

    error: str
    expected: str | None
    got: str | None
    next_step: str | None
