"""A distribution over groups of weights, trained, pruned and rebuilt into a smaller network."""

from __future__ import annotations

__all__: list[str] = []
