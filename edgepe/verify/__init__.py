"""Run an artifact on its runtime or its stand-in, in a child process, and judge it."""

from __future__ import annotations

__all__: list[str] = []
