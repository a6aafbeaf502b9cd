"""The deterministic bundle, its golden vectors and the evidence beside it."""

from __future__ import annotations

__all__: list[str] = []
