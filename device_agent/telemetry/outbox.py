"""What waits for the broker, in SQLite: survives a restart, never outgrows its cap.

Rules kept here:
1. A row is deleted when the broker acknowledged it (PUBACK), not before.
2. Past the byte cap the oldest rows go first, and each one is counted, for ever.
3. ``synchronous=NORMAL`` with a write-ahead log: a power cut may lose the last batch, never the file, and spares the
   SD card.
4. The number of the last telemetry batch is written with the batch: the next boot can say what the last one sent.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.errors import UpdateError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Outbox", "Row"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, expiry_s INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One message that waits; ``expiry_s`` is its MQTT message expiry."""

    id: int
    topic: str
    payload: bytes
    expiry_s: int


class Outbox:
    """The queue of one device.

    Args:
        path: The database file.
        cap_bytes: The most payload bytes that are kept.

    Raises:
        UpdateError: The file cannot be opened.
    """

    def __init__(self, path: Path, *, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)
            found = self._database.execute("SELECT COALESCE(SUM(LENGTH(payload)), 0) FROM rows").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise UpdateError(f"The outbox {path} cannot be opened.", code="disk", got=str(error)) from error
        self._bytes = int(found[0])

    @property
    def waiting_bytes(self) -> int:
        """Return how many payload bytes wait."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """Return how many rows were discarded since the first start."""
        return self.counter("dropped")

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM rows").fetchone()[0])

    def counter(self, name: str) -> int:
        """Return one persistent number, 0 before it was set."""
        found = self._database.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def put(self, topic: str, payload: bytes, *, expiry_s: int, counters: tuple[tuple[str, int], ...] = ()) -> None:
        """Append one message, and set counters in the same transaction; make room by rule 2.

        Raises:
            UpdateError: The disk refuses.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "INSERT INTO rows (topic, payload, expiry_s) VALUES (?, ?, ?)", (topic, payload, expiry_s)
            )
            total = self._drop_oldest(self._bytes + len(payload))
            for name, value in counters:
                self._set(name, value)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise UpdateError("The outbox cannot be written.", code="disk", got=str(error)) from error
        self._bytes = total

    def waiting(self, *, after: int = 0, limit: int = 20) -> tuple[Row, ...]:
        """Return the oldest rows with an id above ``after``."""
        found = self._database.execute(
            "SELECT id, topic, payload, expiry_s FROM rows WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return tuple(Row(id=row[0], topic=row[1], payload=row[2], expiry_s=row[3]) for row in found)

    def delete(self, row_id: int) -> None:
        """Forget an acknowledged row; one that was dropped meanwhile is no error."""
        found = self._database.execute("SELECT LENGTH(payload) FROM rows WHERE id = ?", (row_id,)).fetchone()
        if found:
            self._database.execute("DELETE FROM rows WHERE id = ?", (row_id,))
            self._bytes -= int(found[0])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _drop_oldest(self, total: int) -> int:
        dropped = 0
        while total > self._cap_bytes:
            oldest = self._database.execute("SELECT id, LENGTH(payload) FROM rows ORDER BY id LIMIT 1").fetchone()
            if oldest is None:
                break
            self._database.execute("DELETE FROM rows WHERE id = ?", (oldest[0],))
            total -= int(oldest[1])
            dropped += 1
        if dropped:
            self._set("dropped", self.dropped + dropped)
        return total

    def _set(self, name: str, value: int) -> None:
        self._database.execute(
            "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
