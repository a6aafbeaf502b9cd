"""What a running model did since it was last asked.

Rules kept here:
1. The hot path appends one integer; the histogram is folded later, at 4,096 waiting samples or when somebody asks.
2. ``take`` hands out everything since the last ``take``: no sample is counted twice or lost.
3. A failed inference counts as an error and leaves no latency: its time is not the model's.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.wire.histogram import LogHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Recorder", "Recording"]

FOLD_AT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What happened in one interval.

    Attributes:
        inferences: Runs that gave a finite result.
        errors: Runs that failed.
        latency: Their time in nanoseconds.
        output_counts: (class, how often it was the largest of the first output), by class.
    """

    inferences: int
    errors: int
    latency: LogHistogram
    output_counts: tuple[tuple[int, int], ...]


class Recorder:
    """Counts and latencies of one model; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = array("q")
        self._clear()

    def _clear(self) -> None:
        self._latency = LogHistogram()
        self._classes: Counter[int] = Counter()
        self._inferences = 0
        self._errors = 0

    def record(self, elapsed_ns: int, classes: Iterable[int] = ()) -> None:
        """Count one run.

        Args:
            elapsed_ns: Its time in nanoseconds.
            classes: The winning class of each sample in it, where the model is a classifier.
        """
        with self._lock:
            self._inferences += 1
            self._waiting.append(elapsed_ns)
            self._classes.update(classes)
            if len(self._waiting) >= FOLD_AT:
                self._fold()

    def record_error(self) -> None:
        """Count one run that failed."""
        with self._lock:
            self._errors += 1

    def take(self) -> Recording:
        """Return what happened since the last call, and start anew."""
        with self._lock:
            self._fold()
            recording = Recording(
                inferences=self._inferences,
                errors=self._errors,
                latency=self._latency,
                output_counts=tuple(sorted(self._classes.items())),
            )
            self._clear()
        return recording

    def _fold(self) -> None:
        self._latency.add_many(self._waiting)
        self._waiting = array("q")
