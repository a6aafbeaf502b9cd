"""Gather the workers' measurements into telemetry messages.

Rules kept here:
1. Counts are added and histograms merged: nothing is averaged.
2. Two versions of one model in one batch (a switch happened) become two messages, so that no version's figures are
   counted for the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device_agent.wire.histogram import LogHistogram
from device_agent.wire.messages import ModelTelemetry

if TYPE_CHECKING:
    from device_agent.wire.control import Stats
    from device_agent.wire.messages import ActiveModel

__all__ = ["Batch"]


@dataclass(slots=True, kw_only=True)
class _Sum:
    inferences: int = 0
    errors: int = 0
    rss_bytes: int = 0
    latency: LogHistogram = field(default_factory=LogHistogram)
    outputs: dict[str, int] = field(default_factory=dict)


class Batch:
    """What was measured since the last message."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}

    def add(self, model: ActiveModel, stats: Stats) -> None:
        """Add one worker's measurements."""
        total = self._sums.setdefault((model.name, model.version), _Sum())
        total.inferences += stats.inferences
        total.errors += stats.errors
        total.rss_bytes = stats.rss_bytes
        total.latency.merge(stats.latency)
        for label, count in stats.output_counts:
            total.outputs[label] = total.outputs.get(label, 0) + count

    def take(self) -> tuple[tuple[ModelTelemetry, ...], ...]:
        """Return the models of each message that is due, at least one, and begin anew.

        Versions keep the order in which they were first heard of.
        """
        messages: list[dict[str, ModelTelemetry]] = [{}]
        for (name, version), total in self._sums.items():
            entry = ModelTelemetry(
                name=name,
                version=version,
                inferences=total.inferences,
                errors=total.errors,
                rss_bytes=total.rss_bytes,
                latency=total.latency,
                outputs=tuple(sorted(total.outputs.items())),
            )
            room = next((message for message in messages if name not in message), None)
            if room is None:
                room = {}
                messages.append(room)
            room[name] = entry
        self._sums = {}
        return tuple(tuple(message.values()) for message in messages)
