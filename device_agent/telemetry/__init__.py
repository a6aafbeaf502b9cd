"""What the agent measures and keeps until the broker has it."""

from __future__ import annotations

__all__: list[str] = []
