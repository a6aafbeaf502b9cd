"""The ways into a model: the Open Inference Protocol v2 over HTTP, and recordings that are replayed."""

from __future__ import annotations

__all__: list[str] = []
