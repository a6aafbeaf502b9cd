"""The story of edgepe demo; calls only what a user could call."""

from __future__ import annotations

__all__: list[str] = []
