"""Every size limit of the wire, in one place.

A decoder checks the length of what it was given before it looks at a single byte.
"""

from __future__ import annotations

__all__ = [
    "MAX_COMMAND_BYTES",
    "MAX_DEPTH",
    "MAX_DESIRED_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_FRAME_BYTES",
    "MAX_HISTOGRAM_BUCKETS",
    "MAX_HISTOGRAM_BYTES",
    "MAX_ID_CHARS",
    "MAX_INTEGER",
    "MAX_ITEMS",
    "MAX_MANIFEST_BYTES",
    "MAX_MODELS",
    "MAX_PRESENCE_BYTES",
    "MAX_REPORTED_BYTES",
    "MAX_TELEMETRY_BYTES",
    "MAX_TEXT_CHARS",
    "MAX_TOPIC_BYTES",
]

MAX_INTEGER = 2**63 - 1
"""The largest integer of any message: what SQLite, Java and Go hold without loss."""

MAX_ID_CHARS = 64
MAX_TEXT_CHARS = 4096
MAX_ITEMS = 65_536
"""Entries of one array or object."""
MAX_MODELS = 64
"""Models of one device."""
MAX_DEPTH = 24
"""Nesting of one JSON document."""

MAX_TOPIC_BYTES = 256
MAX_PRESENCE_BYTES = 64 * 1024
"""``status`` and ``birth``."""
MAX_DESIRED_BYTES = 128 * 1024
MAX_REPORTED_BYTES = 128 * 1024
MAX_TELEMETRY_BYTES = 512 * 1024
MAX_EVENT_BYTES = 32 * 1024
MAX_COMMAND_BYTES = 64 * 1024
"""A command or its reply."""
MAX_FRAME_BYTES = 1024 * 1024
"""The payload of one control frame between supervisor and worker."""
MAX_MANIFEST_BYTES = 8 * 1024 * 1024

MAX_HISTOGRAM_BYTES = 64 * 1024
MAX_HISTOGRAM_BUCKETS = 4096
