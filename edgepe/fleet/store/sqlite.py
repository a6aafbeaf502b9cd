"""The store in one SQLite file, shared by the collectors, the controller and the page of one machine.

Rules kept here:
1. WAL, so that readers never wait for a writer; writers queue for at most ten seconds, then say so.
2. A batch is one transaction: committed whole or not at all.
3. No view scans raw telemetry: what is shown comes from ``device_models``, ``rollups`` or one device's last rows.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from device_agent.wire.histogram import LogHistogram
from edgepe.errors import FleetError
from edgepe.fleet.arrivals import Poison
from edgepe.fleet.store.base import (
    Counts,
    DesiredRow,
    DeviceModelRow,
    DeviceRow,
    EventRow,
    Ingested,
    RolloutRow,
    RollupRow,
    WindowRow,
)
from edgepe.fleet.store.ingest import FINE_STEP_MS, write_arrival, write_poison
from edgepe.fleet.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgepe.fleet.arrivals import Arrival

__all__ = ["SqliteStore"]

WAIT_S = 10.0
KEEP_FINE_MS = 2 * 60 * 60 * 1000

_GAPS = """
    SELECT coalesce(sum(max(0, gaps - dropped)), 0) FROM (
        SELECT sum(last - base - received) AS gaps, max(dropped - coalesce(dropped_before, 0)) AS dropped
        FROM streams JOIN devices USING (device) GROUP BY device
    )
"""


class SqliteStore:
    """A store in one file; safe to use from several threads, one at a time.

    Args:
        path: The file; made with its tables if it is not there.

    Raises:
        FleetError: The file is no store, or one of a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            migrate(self._connection, name=path.name)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise _explained(error, path) from error
        except FleetError:
            self._connection.close()
            raise

    def ingest(self, arrivals: Sequence[Arrival | Poison]) -> Ingested:
        """Commit a batch of messages whole; what is there already is counted, not stored twice."""
        fresh = poison = 0
        with self._transaction() as connection:
            for arrival in arrivals:
                if isinstance(arrival, Poison):
                    write_poison(connection, arrival)
                    poison += 1
                else:
                    fresh += write_arrival(connection, arrival)
        return Ingested(stored=fresh, duplicates=len(arrivals) - fresh - poison, poison=poison)

    def counts(self) -> Counts:
        """Return the accounting."""
        counters = dict(self._rows("SELECT name, value FROM counters"))
        ((lost,),) = self._rows(_GAPS)
        return Counts(
            messages=counters.get("messages", 0),
            duplicates=counters.get("duplicates", 0),
            poison=counters.get("poison", 0),
            lost=lost,
        )

    def devices(self) -> tuple[DeviceRow, ...]:
        """Return every device, ordered by site and name."""
        return tuple(
            DeviceRow(
                device=device,
                site=site,
                target=target,
                online=bool(online),
                boot=boot,
                last_seen_ms=last_seen_ms,
                temperature_mc=temperature_mc,
                birth=birth,
            )
            for device, site, target, online, boot, last_seen_ms, temperature_mc, birth in self._rows(
                "SELECT device, site, target, online, boot, last_seen_ms, temperature_mc, birth FROM devices "
                "ORDER BY site, device"
            )
        )

    def device_models(self, device: str | None = None) -> tuple[DeviceModelRow, ...]:
        """Return what runs where, ordered by device and model; of one device if named."""
        rows = self._rows(
            "SELECT device, model, rev, state, percent, code, detail, active, previous, measured, inferences, errors, "
            "rss_bytes, latency FROM device_models WHERE device = coalesce(?, device) ORDER BY device, model",
            device,
        )
        return tuple(_device_model(row) for row in rows)

    def windows(self, device: str, *, most: int) -> tuple[WindowRow, ...]:
        """Return the newest windows of a device, oldest first."""
        rows = self._rows(
            "SELECT start_ms, model, version, inferences, errors, m.rss_bytes, temperature_mc, latency "
            "FROM tele_models AS m JOIN tele USING (device, boot, seq) WHERE device = ? "
            "ORDER BY boot DESC, seq DESC, model LIMIT ?",
            device,
            most,
        )
        return tuple(
            WindowRow(
                start_ms=start_ms,
                model=model,
                version=version,
                inferences=inferences,
                errors=errors,
                rss_bytes=rss_bytes,
                temperature_mc=temperature_mc,
                latency=LogHistogram.from_bytes(latency),
            )
            for start_ms, model, version, inferences, errors, rss_bytes, temperature_mc, latency in reversed(rows)
        )

    def rollups(self, *, step_ms: int, since_ms: int, model: str = "", version: str = "") -> tuple[RollupRow, ...]:
        """Return merged histograms per step, ordered by time; an empty name or version selects all."""
        rows = self._rows(
            "SELECT start_ms, model, version, target, inferences, errors, rss_bytes, latency FROM rollups "
            "WHERE step_ms = ? AND start_ms >= ? AND ? IN ('', model) AND ? IN ('', version) "
            "ORDER BY start_ms, model, version, target",
            step_ms,
            since_ms,
            model,
            version,
        )
        return tuple(
            RollupRow(
                start_ms=start_ms,
                model=model,
                version=version,
                target=target,
                inferences=inferences,
                errors=errors,
                rss_bytes=rss_bytes,
                latency=LogHistogram.from_bytes(latency),
            )
            for start_ms, model, version, target, inferences, errors, rss_bytes, latency in rows
        )

    def prune(self, *, now_ms: int) -> None:
        """Drop the fine rollups that no view shows any more."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM rollups WHERE step_ms = ? AND start_ms < ?", (FINE_STEP_MS, now_ms - KEEP_FINE_MS)
            )

    def desired(self) -> tuple[DesiredRow, ...]:
        """Return the newest desired document of every device that has one."""
        rows = self._rows("SELECT device, site, rev, document FROM desired ORDER BY device")
        return tuple(
            DesiredRow(device=device, site=site, rev=rev, document=document) for device, site, rev, document in rows
        )

    def put_desired(self, row: DesiredRow) -> None:
        """Keep a document of a newer revision than the stored one.

        Raises:
            FleetError: The stored one is as new or newer: somebody else controls this fleet too.
        """
        with self._transaction() as connection:
            kept = connection.execute(
                "INSERT INTO desired VALUES (?, ?, ?, ?) ON CONFLICT (device) DO UPDATE SET "
                "site = excluded.site, rev = excluded.rev, document = excluded.document WHERE rev < excluded.rev",
                (row.device, row.site, row.rev, row.document),
            ).rowcount
        if kept == 0:
            raise FleetError(f"revision {row.rev} of {row.device}'s desired document is not newer than the stored one")

    def rollouts(self, *, most: int) -> tuple[RolloutRow, ...]:
        """Return the newest roll-outs, newest first."""
        rows = self._rows("SELECT id, open, document FROM rollouts ORDER BY number DESC LIMIT ?", most)
        return tuple(RolloutRow(id=name, open=bool(is_open), document=document) for name, is_open, document in rows)

    def put_rollout(self, row: RolloutRow) -> None:
        """Keep a roll-out's new state under its id."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO rollouts (id, open, document) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "open = excluded.open, document = excluded.document",
                (row.id, row.open, row.document),
            )

    def events(self, *, most: int, device: str = "") -> tuple[EventRow, ...]:
        """Return the newest events, newest first; of one device if named."""
        rows = self._rows(
            "SELECT time_ms, device, kind, code, detail FROM events WHERE ? IN ('', device) "
            "ORDER BY number DESC LIMIT ?",
            device,
            most,
        )
        return tuple(
            EventRow(time_ms=time_ms, device=of, kind=kind, code=code, detail=detail)
            for time_ms, of, kind, code, detail in rows
        )

    def add_event(self, event: EventRow) -> None:
        """Keep an event of the fleet's own."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO events (time_ms, device, kind, code, detail) VALUES (?, ?, ?, ?, ?)",
                (event.time_ms, event.device, event.kind, event.code, event.detail),
            )

    def changes(self) -> int:
        """Return a number that differs once somebody else has committed."""
        ((version,),) = self._rows("PRAGMA data_version")
        return int(version)

    def close(self) -> None:
        """Let go of the file; the last one to leave takes the write-ahead log with it."""
        with self._lock:
            self._connection.close()

    def _rows(self, query: str, *values: str | int | None) -> list[tuple]:  # type: ignore[type-arg] # sqlite3's rows
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _explained(error, self._path) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise _explained(error, self._path) from error


def _device_model(row: tuple) -> DeviceModelRow:  # type: ignore[type-arg] # sqlite3's rows
    (device, model, rev, state, percent, code, detail, active, previous, measured, *figures) = row
    inferences, errors, rss_bytes, latency = figures
    return DeviceModelRow(
        device=device,
        model=model,
        rev=rev,
        state=state,
        percent=percent,
        code=code,
        detail=detail,
        version=active or measured,
        previous=previous,
        inferences=inferences,
        errors=errors,
        rss_bytes=rss_bytes,
        latency=LogHistogram.from_bytes(latency) if latency else LogHistogram(),
    )


def _explained(error: sqlite3.DatabaseError, path: Path) -> FleetError:
    return FleetError(
        "the fleet's store cannot be used",
        expected=f"a writable SQLite file at {path}",
        got=error,
        next_step="free the disk or stop what locks it; nothing that was acknowledged is lost",
    )
