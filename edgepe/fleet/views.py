"""What the page, the command line and the live stream show: the store's rows as the JSON of :mod:`edgepe.fleet.shapes`.

Rules kept here:
1. Only reading; every percentile is taken from a merged histogram, in microseconds.
2. A device without a model is still a row; a device with two models is two.
3. A roll-out's device shows what the device itself reports while it is being asked, so that DOWNLOADING is seen.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, TypedDict

from device_agent.wire.errors import WireError
from device_agent.wire.histogram import LogHistogram
from device_agent.wire.messages import decode_birth
from edgepe.errors import FleetError
from edgepe.fleet.controller import read_rollout
from edgepe.fleet.rollout import Standing
from edgepe.fleet.shapes import (
    DeviceDetailJson,
    DeviceJson,
    EventJson,
    FleetJson,
    LatencyJson,
    LatencyPointJson,
    LatencySeriesJson,
    ModelJson,
    RolloutDeviceJson,
    RolloutJson,
    StatusJson,
    WindowJson,
)
from edgepe.fleet.store.ingest import FINE_STEP_MS, MINUTE_MS

if TYPE_CHECKING:
    from edgepe.fleet.repository import Repository
    from edgepe.fleet.rollout import DeviceStep, Rollout
    from edgepe.fleet.store import DeviceModelRow, DeviceRow, RollupRow, Store, WindowRow

__all__ = ["MOST_EVENTS", "MOST_ROLLOUTS", "Views"]

MOST_EVENTS = 100
MOST_ROLLOUTS = 20
MOST_WINDOWS = 120
FINE_MINUTES = 15
_NS_PER_US = 1000


class Percentiles(TypedDict):
    """Three percentiles in microseconds, null when nothing was measured."""

    p50_us: float | None
    p95_us: float | None
    p99_us: float | None


class Views:
    """Answers for readers.

    Args:
        store: For this object alone.
        repository: Tells what has been published.
    """

    def __init__(self, store: Store, repository: Repository) -> None:
        self._store = store
        self._repository = repository

    def fleet(self) -> FleetJson:
        """Return one live update."""
        return FleetJson(
            status=self.status(),
            devices=self.devices(),
            rollouts=self.rollouts(),
            events=self.events(most=MOST_EVENTS),
        )

    def status(self) -> StatusJson:
        """Return the whole fleet in one row."""
        counts, devices, rows = self._store.counts(), self._store.devices(), self._store.device_models()
        merged = LogHistogram()
        for row in rows:
            merged.merge(row.latency)
        return StatusJson(
            devices=len(devices),
            online=sum(one.online for one in devices),
            messages=counts.messages,
            lost=counts.lost,
            duplicates=counts.duplicates,
            poison=counts.poison,
            by_state=dict(sorted(Counter(row.state or "IDLE" for row in rows).items())),
            by_version=dict(sorted(Counter(f"{row.model} {row.version}" for row in rows if row.version).items())),
            **_percentiles(merged),
            time_ms=time.time_ns() // 1_000_000,
        )

    def devices(self) -> list[DeviceJson]:
        """Return a row per device and model, ordered by site, device and model."""
        rows: dict[str, list[DeviceModelRow]] = {}
        for row in self._store.device_models():
            rows.setdefault(row.device, []).append(row)
        return [line for device in self._store.devices() for line in _device_lines(device, rows.get(device.device, []))]

    def device(self, name: str) -> DeviceDetailJson:
        """Return all that is known of one device.

        Raises:
            FleetError: There is no such device.
        """
        device = next((one for one in self._store.devices() if one.device == name), None)
        if device is None:
            raise FleetError("no such device", expected="a device that has been seen", got=ascii(name)[1:80])
        desired = next((row.rev for row in self._store.desired() if row.device == name), 0)
        detail = DeviceDetailJson(
            device=device.device,
            site=device.site,
            target=device.target,
            online=device.online,
            agent_version="",
            hardware={},
            runtimes=[],
            desired_rev=desired,
            last_seen_ms=device.last_seen_ms,
            models=_device_lines(device, list(self._store.device_models(name))),
            windows=[_window(row) for row in self._store.windows(name, most=MOST_WINDOWS)],
            events=self.events(most=MOST_EVENTS, device=name),
        )
        try:
            birth = decode_birth(device.birth)
        except WireError:  # no birth yet, or one that this version no longer reads
            return detail
        detail["agent_version"] = birth.agent_version
        detail["hardware"] = birth.hardware.to_json()
        detail["runtimes"] = [list(pair) for pair in birth.runtimes]
        return detail

    def models(self) -> list[ModelJson]:
        """Return a row per version of a model that is published or runs somewhere."""
        online = {one.device for one in self._store.devices() if one.online}
        lines: dict[tuple[str, str], ModelJson] = {}
        for bundle in self._repository.bundles():
            _model_line(lines, bundle.name, bundle.version)["targets"].append(bundle.target)
        for row in self._store.device_models():
            if row.version:
                line = _model_line(lines, row.model, row.version)
                line["devices"] += 1
                line["online"] += row.device in online
                line["inferences"] += row.inferences
                line["errors"] += row.errors
        return [lines[key] for key in sorted(lines)]

    def latency(self, *, model: str, version: str, minutes: int) -> LatencyJson:
        """Return a series per model version and target over the last minutes; empty names select all."""
        step_ms = FINE_STEP_MS if minutes <= FINE_MINUTES else MINUTE_MS
        since_ms = time.time_ns() // 1_000_000 - minutes * MINUTE_MS
        series: dict[tuple[str, str, str], LatencySeriesJson] = {}
        for row in self._store.rollups(step_ms=step_ms, since_ms=since_ms, model=model, version=version):
            empty = LatencySeriesJson(model=row.model, version=row.version, target=row.target, points=[])
            series.setdefault((row.model, row.version, row.target), empty)["points"].append(_point(row))
        return LatencyJson(step_ms=step_ms, since_ms=since_ms, series=[series[key] for key in sorted(series)])

    def rollouts(self) -> list[RolloutJson]:
        """Return the newest roll-outs, newest first."""
        reports = {(row.device, row.model): row for row in self._store.device_models()}
        wanted = {row.device: row.rev for row in self._store.desired()}
        return [rollout_json(read_rollout(row), reports, wanted) for row in self._store.rollouts(most=MOST_ROLLOUTS)]

    def events(self, *, most: int, device: str = "") -> list[EventJson]:
        """Return the newest events, newest first."""
        return [
            EventJson(time_ms=one.time_ms, device=one.device, kind=one.kind, code=one.code, detail=one.detail)
            for one in self._store.events(most=most, device=device)
        ]


def rollout_json(
    rollout: Rollout, reports: dict[tuple[str, str], DeviceModelRow], wanted: dict[str, int]
) -> RolloutJson:
    """Return a roll-out as it is shown.

    Args:
        rollout: As the controller keeps it.
        reports: What devices say, by device and model.
        wanted: The revision of each device's newest desired document.
    """
    return RolloutJson(
        id=rollout.id,
        name=rollout.name,
        version=rollout.version,
        state=rollout.phase.value,
        reason=rollout.reason,
        wave=rollout.wave,
        waves=list(rollout.waves),
        committed=sum(one.standing is Standing.COMMITTED for one in rollout.devices),
        started_ms=rollout.started_ms,
        ended_ms=rollout.ended_ms,
        devices=[
            _rollout_line(one, reports.get((one.device, rollout.name)), wanted.get(one.device, 0))
            for one in rollout.devices
        ],
        skipped=dict(rollout.skipped),
    )


def _rollout_line(one: DeviceStep, report: DeviceModelRow | None, wanted_rev: int) -> RolloutDeviceJson:
    speaks = one.standing is Standing.ASKED and report is not None and 0 < wanted_rev <= report.rev
    return RolloutDeviceJson(
        device=one.device,
        wave=one.wave,
        state=report.state if speaks and report is not None else one.standing.value,
        percent=report.percent if speaks and report is not None else 0,
        code=one.code,
        reason=one.reason,
        previous=one.previous,
    )


def _device_lines(device: DeviceRow, rows: list[DeviceModelRow]) -> list[DeviceJson]:
    shown: list[DeviceModelRow | None] = [*rows] or [None]
    return [_device_line(device, row) for row in shown]


def _device_line(device: DeviceRow, row: DeviceModelRow | None) -> DeviceJson:
    return DeviceJson(
        device=device.device,
        site=device.site,
        target=device.target,
        online=device.online,
        model=row.model if row else "",
        version=row.version if row else "",
        state=(row.state if row else "") or "IDLE",
        code=row.code if row else "",
        percent=row.percent if row else 0,
        **_percentiles(row.latency if row else LogHistogram()),
        rss_bytes=row.rss_bytes if row else None,
        temperature_mc=device.temperature_mc,
        inferences=row.inferences if row else 0,
        errors=row.errors if row else 0,
        last_seen_ms=device.last_seen_ms,
    )


def _window(row: WindowRow) -> WindowJson:
    return WindowJson(
        time_ms=row.start_ms,
        model=row.model,
        version=row.version,
        inferences=row.inferences,
        errors=row.errors,
        **_percentiles(row.latency),
        rss_bytes=row.rss_bytes,
        temperature_mc=row.temperature_mc,
    )


def _point(row: RollupRow) -> LatencyPointJson:
    return LatencyPointJson(
        time_ms=row.start_ms,
        count=row.inferences,
        errors=row.errors,
        **_percentiles(row.latency),
        rss_bytes=row.rss_bytes or None,
    )


def _model_line(lines: dict[tuple[str, str], ModelJson], name: str, version: str) -> ModelJson:
    empty = ModelJson(name=name, version=version, targets=[], devices=0, online=0, inferences=0, errors=0)
    return lines.setdefault((name, version), empty)


def _percentiles(histogram: LogHistogram) -> Percentiles:
    if not histogram.count:
        return Percentiles(p50_us=None, p95_us=None, p99_us=None)
    p50, p95, p99 = (round(histogram.quantile(q) / _NS_PER_US, 1) for q in (0.5, 0.95, 0.99))
    return Percentiles(p50_us=p50, p95_us=p95, p99_us=p99)
