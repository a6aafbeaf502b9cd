"""Whatever passes: ranges stay inside what was seen, and where batches are cut makes no difference."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepe.quantize.affine import asymmetric, dequantize, quantize
from edgepe.quantize.histogram import Histogram
from edgepe.quantize.methods import METHODS, MeanSquare, Method, MinMax

FLOATS = st.floats(-1e6, 1e6, width=32)
BATCHES = st.lists(hnp.arrays(np.float32, st.integers(1, 40), elements=FLOATS), min_size=1, max_size=8)
PATIENT = settings(deadline=None, max_examples=50)
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def filled(batches: list[np.ndarray], bins: int = 4096) -> Histogram:
    """Return the histogram of batches in their order."""
    seen = Histogram(bins)
    for batch in batches:
        seen.update(batch)
    return seen


@each_method
@PATIENT
@given(BATCHES)
def test_a_range_lies_inside_the_span_and_holds_zero(method: Method, batches: list[np.ndarray]) -> None:
    seen = filled(batches, method.bins)
    span, found = seen.span(), method.range(seen)
    assert span.low <= found.low <= 0.0 <= found.high <= span.high


@PATIENT
@given(BATCHES)
def test_a_histogram_depends_neither_on_cuts_nor_on_order(batches: list[np.ndarray]) -> None:
    there, back, once = filled(batches), filled(batches[::-1]), filled([np.concatenate(batches)])
    assert np.array_equal(there.state(), back.state())
    assert np.array_equal(there.state(), once.state())
    assert there.counts.sum() + there.zeros == sum(batch.size for batch in batches)


@PATIENT
@given(BATCHES, BATCHES, st.sampled_from([0, 4096]))
def test_a_histogram_that_was_put_aside_goes_on_as_if_nothing_had_been(
    first: list[np.ndarray], second: list[np.ndarray], bins: int
) -> None:
    seen = Histogram.restored(filled(first, bins).state())
    for batch in second:
        seen.update(batch)
    assert np.array_equal(seen.state(), filled(first + second, bins).state())


@each_method
@PATIENT
@given(BATCHES, st.sampled_from([0.125, 2.0, 64.0]))
def test_a_range_grows_with_the_values(method: Method, batches: list[np.ndarray], factor: float) -> None:
    one = method.range(filled(batches, method.bins))
    other = method.range(filled([batch * np.float32(factor) for batch in batches], method.bins))
    assert other.low == pytest.approx(one.low * factor, rel=1e-6, abs=1e-12)
    assert other.high == pytest.approx(one.high * factor, rel=1e-6, abs=1e-12)


@PATIENT
@given(st.integers(0, 2**32 - 1), st.floats(2.5, 30.0))
def test_mean_square_is_not_worse_than_min_max_on_heavy_tails(seed: int, freedom: float) -> None:
    values = np.random.default_rng(seed).standard_t(freedom, 20_000).astype(np.float32)
    seen = filled([values])

    def error(method: Method) -> float:
        affine = asymmetric(method.range(seen))
        return float(np.square(dequantize(quantize(values, affine), affine) - values).mean())

    assert error(MeanSquare()) <= error(MinMax()) * 1.02
