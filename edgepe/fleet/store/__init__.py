"""What the collectors keep: telemetry, rollups of merged histograms, devices and roll-outs."""

from __future__ import annotations

__all__: list[str] = []
