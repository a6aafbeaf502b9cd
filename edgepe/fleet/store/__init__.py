"""Where the fleet's facts are kept: a small interface, and SQLite behind it."""

from __future__ import annotations

from edgepe.fleet.store.base import (
    Counts,
    DesiredRow,
    DeviceModelRow,
    DeviceRow,
    EventRow,
    Ingested,
    RolloutRow,
    RollupRow,
    Store,
    WindowRow,
)
from edgepe.fleet.store.sqlite import SqliteStore

__all__ = [
    "Counts",
    "DesiredRow",
    "DeviceModelRow",
    "DeviceRow",
    "EventRow",
    "Ingested",
    "RolloutRow",
    "RollupRow",
    "SqliteStore",
    "Store",
    "WindowRow",
]
