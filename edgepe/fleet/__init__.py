"""Broker, repository, collector, roll-outs and the page that shows every deployed model."""

from __future__ import annotations

__all__: list[str] = []
