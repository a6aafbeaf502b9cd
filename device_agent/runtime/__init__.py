"""Runtimes behind one Protocol, preprocessing, and the worker process that serves one model version."""

from __future__ import annotations

__all__: list[str] = []
