"""What brings inputs to a worker: the Open Inference Protocol and recordings."""

from __future__ import annotations

__all__: list[str] = []
