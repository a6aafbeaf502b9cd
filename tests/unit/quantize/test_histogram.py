from __future__ import annotations

import numpy as np
import pytest

from edgepe.quantize.histogram import BINS, HALF, Histogram
from edgepe.quantize.ranges import Range


def test_a_histogram_keeps_its_size_however_far_values_grow() -> None:
    seen = Histogram()
    for exponent in range(-38, 38, 4):
        seen.update(np.full(10, 10.0**exponent, np.float32))
    assert seen.counts.shape == (BINS,)
    assert seen.counts.sum() == 190
    assert seen.span().high == pytest.approx(1e34)


def test_zeros_are_counted_apart_from_what_is_just_above_them() -> None:
    seen = Histogram()
    seen.update(np.array([0.0, -0.0, 1e-6, -1e-6, 1.9999], np.float32))
    assert seen.zeros == 2
    assert (seen.counts[HALF - 1], seen.counts[HALF], seen.counts[-1]) == (1, 1, 1)


def test_a_span_alone_needs_no_bins() -> None:
    seen = Histogram(0)
    seen.update(np.array([[-2.0, 3.0]], np.float32))
    assert (seen.span(), seen.counts.size) == (Range(low=-2.0, high=3.0), 0)


def test_a_value_that_was_only_ever_zero_spans_nothing() -> None:
    seen = Histogram()
    seen.update(np.zeros(8, np.float32))
    assert (seen.span(), seen.zeros, seen.counts.sum()) == (Range(low=0.0, high=0.0), 8, 0)
