"""The optimized graph written in a target's format."""

from __future__ import annotations

__all__: list[str] = []
