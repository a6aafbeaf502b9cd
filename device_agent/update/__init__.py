"""Update states, slots, fetchers and trust: how a new model reaches the box, or leaves the old one running."""

from __future__ import annotations

__all__ = ["fetch", "install", "job", "record", "slots", "states", "trust", "unpack", "updater"]
