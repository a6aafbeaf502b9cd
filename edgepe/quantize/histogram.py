"""What is kept of one value while samples pass: its span, and a histogram of fixed size.

Rules kept here:
1. A value costs a fixed number of bytes however many samples pass.
2. The bins are equal and lie over [-reach, reach], where reach is a power of two. When a value lies beyond, the reach
   doubles and neighbouring bins merge: no sample is seen twice, and where batches were cut makes no difference.
3. Zero is an edge between bins, and exact zeros are counted apart: int8 has zero exactly, whatever the scale.
4. All of the state is numbers, so that it can be put aside and taken up again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgepe.quantize.ranges import Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BINS", "HALF", "Histogram"]

BINS = 4096
"""Counters of one histogram; a multiple of four, so that zero stays an edge when the reach doubles."""
HALF = BINS // 2
"""First bin above zero."""

SMALLEST_REACH = 2.0**-60
SCALARS = 4  # of the state: reach, low, high, zeros


class Histogram:
    """The span of a value and, where ``bins`` are asked for, how its samples lie inside.

    Args:
        bins: ``BINS``, or 0 to keep the span only.
    """

    def __init__(self, bins: int = BINS) -> None:
        self._low = math.inf
        self._high = -math.inf
        self.counts: NDArray[np.int64] = np.zeros(bins, np.int64)
        self.zeros = 0
        self.reach = 0.0

    def update(self, values: NDArray[np.float32]) -> None:
        """Take finite values, of any shape, not empty."""
        self.widen(float(values.min()), float(values.max()))
        self.count(values)

    def widen(self, low: float, high: float) -> None:
        """Note that values between two bounds were seen."""
        self._low, self._high = min(self._low, low), max(self._high, high)
        if self.counts.size:
            self._grow(max(abs(low), abs(high)))

    def count(self, values: NDArray[np.float32]) -> None:
        """Count values inside the span noted so far; all of them, or a fair part."""
        if not self.counts.size:
            return
        places = np.multiply(values.ravel(), np.float32(HALF / self.reach))
        np.floor(places, out=places)  # before the shift, which would round values just below an edge
        places += np.float32(HALF)
        self.counts += np.bincount(np.minimum(places, np.float32(BINS - 1)).astype(np.int64), minlength=BINS)
        zeros = values.size - int(np.count_nonzero(values))
        self.counts[HALF] -= zeros
        self.zeros += zeros

    def span(self) -> Range:
        """Return the whole span."""
        return Range.holding_zero(self._low, self._high)

    def edges(self) -> NDArray[np.float64]:
        """Return the ``BINS + 1`` edges of the bins."""
        return np.linspace(-self.reach, self.reach, BINS + 1)

    def centres(self) -> NDArray[np.float64]:
        """Return the middle of each bin."""
        edges = self.edges()
        return (edges[1:] + edges[:-1]) / 2

    def state(self) -> NDArray[np.float64]:
        """Return everything as one array; counts below 2^53 are exact."""
        return np.concatenate([[self.reach, self._low, self._high, self.zeros], self.counts])

    @classmethod
    def restored(cls, state: NDArray[np.float64]) -> Histogram:
        """Return the histogram that :meth:`state` was taken of."""
        made = cls(len(state) - SCALARS)
        made.reach, made._low, made._high = (float(number) for number in state[: SCALARS - 1])
        made.zeros = int(state[SCALARS - 1])
        made.counts = state[SCALARS:].astype(np.int64)
        return made

    def _grow(self, peak: float) -> None:
        if self.reach == 0.0:
            self.reach = power_above(peak)
        empty = np.zeros(BINS // 4, np.int64)
        while peak >= self.reach:
            self.counts = np.concatenate([empty, self.counts.reshape(-1, 2).sum(axis=1), empty])
            self.reach *= 2.0


def power_above(peak: float) -> float:
    """Return the smallest power of two above ``peak`` and ``SMALLEST_REACH``.

    >>> power_above(1.0), power_above(3.0), power_above(0.0)
    (2.0, 4.0, 1.734723475976807e-18)
    """
    return float(2.0 ** math.frexp(max(peak, SMALLEST_REACH))[1])
