"""The tables of the SQLite store, and how an older store becomes a newer one.

Rules kept here:
1. The version stands in ``PRAGMA user_version``; migration *n* brings version *n* and is never edited once released.
2. All outstanding migrations run in one transaction: a store is of one version or the next, never between.
3. A store that a newer edgepe wrote is refused in words, not guessed at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.errors import FleetError

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "migrate"]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE devices (
            device TEXT PRIMARY KEY, site TEXT NOT NULL, target TEXT NOT NULL DEFAULT '',
            online INTEGER NOT NULL DEFAULT 0, boot INTEGER NOT NULL DEFAULT 0, session TEXT NOT NULL DEFAULT '',
            last_seen_ms INTEGER NOT NULL DEFAULT 0, temperature_mc INTEGER, birth BLOB NOT NULL DEFAULT x'',
            dropped_before INTEGER, dropped INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID
        """,
        # Of each boot: `base` is the number before the first expected batch, `last` the highest seen or declared.
        """
        CREATE TABLE streams (
            device TEXT, boot INTEGER, base INTEGER NOT NULL, last INTEGER NOT NULL, received INTEGER NOT NULL,
            PRIMARY KEY (device, boot)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE tele (
            device TEXT, boot INTEGER, seq INTEGER, start_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
            rss_bytes INTEGER NOT NULL, cpu_percent_x100 INTEGER NOT NULL, temperature_mc INTEGER,
            received_ms INTEGER NOT NULL,
            PRIMARY KEY (device, boot, seq)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE tele_models (
            device TEXT, boot INTEGER, seq INTEGER, model TEXT, version TEXT NOT NULL, inferences INTEGER NOT NULL,
            errors INTEGER NOT NULL, rss_bytes INTEGER NOT NULL, latency BLOB NOT NULL, outputs BLOB NOT NULL,
            PRIMARY KEY (device, boot, seq, model)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE device_models (
            device TEXT, model TEXT,
            rev INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT '', percent INTEGER NOT NULL DEFAULT 0,
            code TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '',
            active TEXT NOT NULL DEFAULT '', previous TEXT NOT NULL DEFAULT '',
            measured TEXT NOT NULL DEFAULT '', boot INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL DEFAULT 0,
            inferences INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0, rss_bytes INTEGER,
            latency BLOB NOT NULL DEFAULT x'',
            PRIMARY KEY (device, model)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE rollups (
            step_ms INTEGER, start_ms INTEGER, model TEXT, version TEXT, target TEXT,
            inferences INTEGER NOT NULL, errors INTEGER NOT NULL, rss_bytes INTEGER NOT NULL, latency BLOB NOT NULL,
            PRIMARY KEY (step_ms, start_ms, model, version, target)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE desired (
            device TEXT PRIMARY KEY, site TEXT NOT NULL, rev INTEGER NOT NULL, document BLOB NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE TABLE rollouts (number INTEGER PRIMARY KEY, id TEXT UNIQUE, open INTEGER, document BLOB NOT NULL)",
        # `origin` names an event for ever (device:number), so that a repeated delivery is stored once.
        """
        CREATE TABLE events (
            number INTEGER PRIMARY KEY, origin TEXT UNIQUE, time_ms INTEGER NOT NULL, device TEXT NOT NULL,
            kind TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL
        )
        """,
        "CREATE INDEX events_of_device ON events (device, number)",
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    ),
)

SCHEMA_VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, *, name: str) -> None:
    """Bring a store to :data:`SCHEMA_VERSION`.

    Args:
        connection: In autocommit mode.
        name: Of the store, for the message.

    Raises:
        FleetError: The store is of a newer schema than this program knows.
    """
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _bring_up(connection, found=_version(connection), name=name)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _bring_up(connection: sqlite3.Connection, *, found: int, name: str) -> None:
    if found > SCHEMA_VERSION:
        raise FleetError(
            "a newer edgepe wrote this store",
            expected=f"schema {SCHEMA_VERSION} or older",
            got=f"schema {found} in {name}",
            next_step="upgrade edgepe, or choose another --dir",
        )
    for steps in MIGRATIONS[found:]:
        for step in steps:
            connection.execute(step)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
