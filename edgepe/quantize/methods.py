"""From what was seen of a value to the range that int8 spends its 256 steps on.

Rules kept here:
1. A method is a value: its parameters are its fields, and equal methods give equal ranges.
2. No range is wider than what was seen, and each holds zero.
3. Exact zeros weigh nothing in an error: int8 has zero exactly, so that a ReLU's zeros must not pull a range inward.
4. A value that was only ever zero keeps the range 0..0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgepe.errors import UsageError
from edgepe.quantize.histogram import BINS, HALF
from edgepe.quantize.ranges import Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepe.quantize.histogram import Histogram

__all__ = ["DEFAULT", "METHODS", "Entropy", "MeanSquare", "Method", "MinMax", "Percentile", "method_named"]

STEPS = 255
"""Steps between the 256 integers of int8."""
FIRST_WINDOW = 256
WINDOW_STEP = 16
CANDIDATES = 128
TINY = 1e-9


class Method(Protocol):
    """A way to turn what was seen into a range."""

    @property
    def bins(self) -> int:
        """Return how many bins it needs of a value: ``BINS``, or 0 for the span alone."""

    def range(self, seen: Histogram) -> Range:
        """Return the range of a value."""


@dataclass(frozen=True, slots=True)
class MinMax:
    """The whole span: nothing ever clips on the calibration data (Jacob et al. 2018, section 3.1)."""

    @property
    def bins(self) -> int:
        """Return 0: the span is enough."""
        return 0

    def range(self, seen: Histogram) -> Range:
        """Return the span."""
        return seen.span()


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentile:
    """The central part of what was seen; the tails clip and everything else gets finer steps.

    Source: Wu et al. 2020, "Integer Quantization for Deep Learning Inference", section 4.2. Zeros count here.

    Attributes:
        percent: Part kept, split evenly over both tails; above 50 and at most 100.

    Raises:
        ValueError: The percentage is outside.
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 < self.percent <= 100.0:  # noqa: PLR2004 - below it the two tails would cross
            raise ValueError(f"percent must lie in (50, 100], got {self.percent}")

    @property
    def bins(self) -> int:
        """Return the bins of a histogram."""
        return BINS

    def range(self, seen: Histogram) -> Range:
        """Return the central part, never wider than the span."""
        counts = seen.counts.copy()
        counts[HALF] += seen.zeros
        total = np.concatenate([[0], np.cumsum(counts)])
        allowed = (100.0 - self.percent) / 200.0 * total[-1]
        edges = seen.edges()
        low = edges[int(np.searchsorted(total, allowed, side="right")) - 1]
        high = edges[int(np.searchsorted(total, total[-1] - allowed, side="left"))]
        return inside(seen.span(), float(low), float(high))


@dataclass(frozen=True, slots=True)
class MeanSquare:
    """The range with the least expected squared error: rounding inside it plus clipping outside.

    Rounding costs (step^2)/12 a value, clipping the squared distance to the bound (Banner et al. 2019, "Post training
    4-bit quantization of convolutional networks for rapid-deployment", section 3, with the histogram in place of a
    Laplace density). Both bounds are searched together, over ``CANDIDATES`` parts of the span on each side.
    """

    @property
    def bins(self) -> int:
        """Return the bins of a histogram."""
        return BINS

    def range(self, seen: Histogram) -> Range:
        """Return the best pair of bounds."""
        span = seen.span()
        if not seen.counts.any():
            return span
        parts = np.arange(CANDIDATES, 0, -1) / CANDIDATES  # the widest first: it wins a tie
        lows = parts * -span.low if span.low else np.zeros(1)
        highs = parts * span.high if span.high else np.zeros(1)
        centres = seen.centres()[HALF:]
        under, out_low = clipping(seen.counts[:HALF][::-1], centres, lows)
        over, out_high = clipping(seen.counts[HALF:], centres, highs)
        steps = (lows[:, None] + highs[None, :]) / STEPS
        rounded = seen.counts.sum() - out_low[:, None] - out_high[None, :]
        error = np.square(steps) / 12.0 * rounded + under[:, None] + over[None, :]
        low, high = np.unravel_index(int(error.argmin()), error.shape)
        return inside(span, -float(lows[low]), float(highs[high]))


@dataclass(frozen=True, slots=True)
class Entropy:
    """The range whose int8 histogram tells least apart from the float one, by Kullback-Leibler divergence.

    Source: Migacz 2017, "8-bit Inference with TensorRT" (GTC), with ``BINS`` bins for its 2048 and 255 steps for its
    128 one-sided ones. Windows are [-t, t] cut to the span; what lies outside counts at their ends.
    """

    @property
    def bins(self) -> int:
        """Return the bins of a histogram."""
        return BINS

    def range(self, seen: Histogram) -> Range:
        """Return the window of least divergence; the widest where several are equal."""
        span = seen.span()
        filled = np.flatnonzero(seen.counts)
        if not filled.size:
            return span
        first, last = min(int(filled[0]), HALF), max(int(filled[-1]) + 1, HALF)
        widest = max(HALF - first, last - HALF)
        best, least = widest, np.inf
        for reach in range(widest, 0, -WINDOW_STEP):
            low, high = max(HALF - reach, first), min(HALF + reach, last)
            if high - low < FIRST_WINDOW:
                break
            found = divergence(seen.counts, low, high)
            if found < least:
                best, least = reach, found
        bound = best / HALF * seen.reach
        return inside(span, -bound, bound)


METHODS: dict[str, Method] = {
    "min-max": MinMax(),
    "percentile": Percentile(),
    "entropy": Entropy(),
    "mse": MeanSquare(),
}
"""Name on the command line → method with its usual parameters."""
DEFAULT = "percentile"
"""The name of the one whose artifacts came nearest to their float twins (``python -m tests.bench calibrate``)."""


def method_named(name: str) -> Method:
    """Return a method by its name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in METHODS:
        raise UsageError(f"there is no calibration method '{name}'", expected=", ".join(METHODS), got=name)
    return METHODS[name]


def inside(span: Range, low: float, high: float) -> Range:
    """Return the range between two bounds, as far as the span goes."""
    return Range.holding_zero(max(low, span.low), min(high, span.high))


def clipping(
    counts: NDArray[np.int64], centres: NDArray[np.float64], bounds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each bound, the squared error of clipping there and the number of values that clip.

    Args:
        counts: Values per bin on one side of zero, outward, ``[HALF]``.
        centres: Distance of each bin's middle from zero, rising, ``[HALF]``.
        bounds: Distances to clip at.
    """
    moments = [np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0.0) for power in (0, 1, 2)]
    outer = np.searchsorted(centres, bounds, side="right")
    none, first, second = (moment[outer] for moment in moments)
    return np.maximum(second - 2.0 * bounds * first + np.square(bounds) * none, 0.0), none


def divergence(counts: NDArray[np.int64], low: int, high: int) -> float:
    """Return how much a window of bins loses when it is told in 255 steps, in nats (Migacz 2017).

    Args:
        counts: All bins.
        low: First bin of the window.
        high: The bin after its last.
    """
    window = counts[low:high].astype(np.float64)
    level = np.arange(high - low) * STEPS // (high - low)
    filled = window > 0
    sums = np.bincount(level, weights=window, minlength=STEPS)
    share = sums / np.maximum(np.bincount(level, weights=filled, minlength=STEPS), 1.0)
    told = np.where(filled, share[level], 0.0)
    window[0] += counts[:low].sum()
    window[-1] += counts[high:].sum()
    real = window / window.sum()
    told = np.maximum(told / max(told.sum(), 1.0), TINY)
    some = real > 0
    return float(np.sum(real[some] * np.log(real[some] / told[some])))
