"""How one message of a device changes the tables. Called inside the store's transaction.

Rules kept here:
1. ``(device, boot, seq)`` decides whether telemetry is new; only new telemetry touches a counter or a rollup.
2. A death counts only if its session is that of the last birth or sign of life: an old will is old news.
3. What is older than what is known of a device (by boot and seq, or by rev) is counted but never shown as the present.
4. Rollups hold merged histograms, so that any later merge is exact.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from device_agent.wire.histogram import LogHistogram
from device_agent.wire.messages import Birth, Event, Reported, Status, Telemetry

if TYPE_CHECKING:
    import sqlite3

    from device_agent.wire.messages import ModelTelemetry
    from edgepe.fleet.arrivals import Arrival, Poison

__all__ = ["FINE_STEP_MS", "MINUTE_MS", "count", "write_arrival", "write_poison"]

FINE_STEP_MS = 10_000
MINUTE_MS = 60_000


def write_arrival(connection: sqlite3.Connection, arrival: Arrival) -> bool:
    """Apply one message; return False if it was telemetry that is there already."""
    connection.execute(
        "INSERT INTO devices (device, site, last_seen_ms) VALUES (?, ?, ?) ON CONFLICT (device) DO UPDATE SET "
        "site = excluded.site, last_seen_ms = max(last_seen_ms, excluded.last_seen_ms)",
        (arrival.device, arrival.site, arrival.time_ms),
    )
    match arrival.message:
        case Telemetry() as telemetry:
            return _write_telemetry(connection, telemetry, arrival.time_ms)
        case Status() as status:
            _write_status(connection, arrival.device, status)
        case Birth() as birth:
            _write_birth(connection, birth, arrival.payload)
        case Reported() as reported:
            _write_reported(connection, reported)
        case Event() as event:
            _write_event(connection, event)
    return True


def write_poison(connection: sqlite3.Connection, poison: Poison) -> None:
    """Count a broken message and say why it was refused."""
    count(connection, "poison", 1)
    connection.execute(
        "INSERT INTO events (time_ms, device, kind, code, detail) VALUES (?, '', 'message_refused', 'poison', ?)",
        (poison.time_ms, f"{poison.topic}: {poison.reason}"),
    )


def count(connection: sqlite3.Connection, name: str, by: int) -> None:
    """Add to a counter."""
    connection.execute(
        "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value", (name, by)
    )


def _write_status(connection: sqlite3.Connection, device: str, status: Status) -> None:
    if status.online:
        connection.execute(
            "UPDATE devices SET online = 1, session = ?, boot = max(boot, ?) WHERE device = ?",
            (status.session, status.boot, device),
        )
        return
    connection.execute(
        "UPDATE devices SET online = 0 WHERE device = ? AND (session = ? OR session = '')", (device, status.session)
    )


def _write_birth(connection: sqlite3.Connection, birth: Birth, payload: bytes) -> None:
    connection.execute(
        "UPDATE devices SET target = ?, boot = ?, session = ?, birth = ? WHERE device = ? AND boot <= ?",
        (birth.target, birth.boot, birth.session, payload, birth.device, birth.boot),
    )
    for model in birth.models:
        connection.execute(
            "INSERT INTO device_models (device, model, active) VALUES (?, ?, ?) "
            "ON CONFLICT (device, model) DO UPDATE SET active = excluded.active WHERE active = ''",
            (birth.device, model.name, model.version),
        )
    if birth.previous_boot is not None and birth.previous_seq:
        _declare_tail(connection, birth.device, birth.previous_boot, birth.previous_seq)


def _declare_tail(connection: sqlite3.Connection, device: str, boot: int, seq: int) -> None:
    """Take note of how far the boot before came, if this store knew the device by then."""
    connection.execute(
        "INSERT INTO streams SELECT ?, ?, 0, ?, 0 "
        "WHERE EXISTS (SELECT 1 FROM streams WHERE device = ? AND boot <= ?) "
        "ON CONFLICT (device, boot) DO UPDATE SET last = max(last, excluded.last)",
        (device, boot, seq, device, boot),
    )


def _write_reported(connection: sqlite3.Connection, reported: Reported) -> None:
    for model in reported.models:
        connection.execute(
            "INSERT INTO device_models (device, model, rev, state, percent, code, detail, active, previous) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device, model) DO UPDATE SET rev = excluded.rev, "
            "state = excluded.state, percent = excluded.percent, code = excluded.code, detail = excluded.detail, "
            "active = excluded.active, previous = excluded.previous WHERE rev <= excluded.rev",
            (
                reported.device,
                model.name,
                model.rev,
                model.state.value,
                model.percent,
                model.code,
                model.detail,
                model.active.version if model.active else "",
                model.previous.version if model.previous else "",
            ),
        )


def _write_event(connection: sqlite3.Connection, event: Event) -> None:
    connection.execute(
        "INSERT INTO events (origin, time_ms, device, kind, code, detail) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (origin) DO NOTHING",
        (
            f"{event.device}:{event.number}",
            event.time_ms,
            event.device,
            event.kind,
            event.code,
            " ".join((event.model, *event.detail.split())).strip(),
        ),
    )


def _write_telemetry(connection: sqlite3.Connection, tele: Telemetry, received_ms: int) -> bool:
    added = connection.execute(
        "INSERT INTO tele VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            tele.device,
            tele.boot,
            tele.seq,
            tele.start_ms,
            tele.duration_ms,
            tele.rss_bytes,
            tele.cpu_percent_x100,
            tele.temperature_mc,
            received_ms,
        ),
    ).rowcount
    if added == 0:
        count(connection, "duplicates", 1)
        return False
    count(connection, "messages", 1)
    _follow_stream(connection, tele)
    (target,) = connection.execute("SELECT target FROM devices WHERE device = ?", (tele.device,)).fetchone()
    for model in tele.models:
        _keep_window(connection, tele, model)
        _update_latest(connection, tele, model)
        for step_ms in (FINE_STEP_MS, MINUTE_MS):
            _roll_up(connection, model, step_ms=step_ms, start_ms=tele.start_ms, target=target)
    return True


def _follow_stream(connection: sqlite3.Connection, tele: Telemetry) -> None:
    """Count what came of this boot; of a device's first boot, from the first batch on that this store saw."""
    (earlier,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM streams WHERE device = ? AND boot < ?)", (tele.device, tele.boot)
    ).fetchone()
    base = 0 if earlier else tele.seq - 1
    connection.execute(
        "INSERT INTO streams VALUES (?, ?, ?, ?, 1) ON CONFLICT (device, boot) DO UPDATE SET "
        "base = min(base, excluded.base), last = max(last, excluded.last), received = received + 1",
        (tele.device, tele.boot, base, tele.seq),
    )
    connection.execute(
        "UPDATE devices SET dropped_before = coalesce(dropped_before, ?), dropped = max(dropped, ?), "
        "temperature_mc = ? WHERE device = ?",
        (tele.dropped, tele.dropped, tele.temperature_mc, tele.device),
    )


def _keep_window(connection: sqlite3.Connection, tele: Telemetry, model: ModelTelemetry) -> None:
    connection.execute(
        "INSERT INTO tele_models VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            tele.device,
            tele.boot,
            tele.seq,
            model.name,
            model.version,
            model.inferences,
            model.errors,
            model.rss_bytes,
            model.latency.to_bytes(),
            json.dumps(dict(model.outputs), sort_keys=True).encode(),
        ),
    )


def _update_latest(connection: sqlite3.Connection, tele: Telemetry, model: ModelTelemetry) -> None:
    """Add to the counts of the version that is measured; an empty window does not hide the last figures."""
    connection.execute(
        "INSERT INTO device_models (device, model) VALUES (?, ?) ON CONFLICT DO NOTHING", (tele.device, model.name)
    )
    key = (tele.device, model.name)
    measured, boot, seq = connection.execute(
        "SELECT measured, boot, seq FROM device_models WHERE device = ? AND model = ?", key
    ).fetchone()
    newer = (tele.boot, tele.seq) > (boot, seq)
    if measured == model.version:
        connection.execute(
            "UPDATE device_models SET inferences = inferences + ?, errors = errors + ? WHERE device = ? AND model = ?",
            (model.inferences, model.errors, *key),
        )
    elif newer:
        connection.execute(
            "UPDATE device_models SET measured = ?, inferences = ?, errors = ?, latency = x'' "
            "WHERE device = ? AND model = ?",
            (model.version, model.inferences, model.errors, *key),
        )
    if newer:
        latency = model.latency.to_bytes() if model.latency.count else None
        connection.execute(
            "UPDATE device_models SET boot = ?, seq = ?, rss_bytes = ?, latency = coalesce(?, latency) "
            "WHERE device = ? AND model = ?",
            (tele.boot, tele.seq, model.rss_bytes, latency, *key),
        )


def _roll_up(
    connection: sqlite3.Connection, model: ModelTelemetry, *, step_ms: int, start_ms: int, target: str
) -> None:
    key = (step_ms, start_ms - start_ms % step_ms, model.name, model.version, target)
    merged = model.latency.copy()
    found = connection.execute(
        "SELECT latency FROM rollups WHERE step_ms = ? AND start_ms = ? AND model = ? AND version = ? AND target = ?",
        key,
    ).fetchone()
    if found is not None:
        merged.merge(LogHistogram.from_bytes(found[0]))
    connection.execute(
        "INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (step_ms, start_ms, model, version, target) DO UPDATE SET "
        "inferences = inferences + excluded.inferences, errors = errors + excluded.errors, "
        "rss_bytes = max(rss_bytes, excluded.rss_bytes), latency = excluded.latency",
        (*key, model.inferences, model.errors, model.rss_bytes, merged.to_bytes()),
    )
