from __future__ import annotations

import numpy as np
import pytest

from edgepe.errors import DataError
from edgepe.quantize.calibrate import MinMax, Percentile, PercentileObserver, Range, collect_ranges
from tests.small_graphs import cnn, feeds, graph


def test_a_range_always_holds_zero() -> None:
    assert Range.holding_zero(2.0, 3.0) == Range(low=0.0, high=3.0)
    with pytest.raises(ValueError, match="zero"):
        Range(low=1.0, high=2.0)


@pytest.mark.parametrize("bound", [np.inf, -np.inf, np.nan])
def test_a_range_that_is_not_finite_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Range(low=0.0, high=bound)


def test_ranges_cover_inputs_inner_values_and_outputs() -> None:
    model = cnn()
    ranges = collect_ranges(model, [feeds(model)])
    assert {"x", "c1", "r1", "p1", "c2", "a", "r2", "c3", "r3", "g", "f", "y"} == set(ranges)
    assert ranges["r1"].low == 0.0
    assert ranges["r1"].high == ranges["c1"].high


def test_min_max_is_the_span_of_what_was_fed() -> None:
    model = cnn()
    inputs = feeds(model)
    span = collect_ranges(model, [inputs])["x"]
    assert (span.low, span.high) == (inputs["x"].min(), inputs["x"].max())


@pytest.mark.parametrize("method", [MinMax(), Percentile()], ids=["min-max", "percentile"])
def test_the_cut_into_batches_does_not_change_the_range_of_an_input(method: MinMax | Percentile) -> None:
    model = cnn()
    x = feeds(model)["x"] * np.geomspace(0.01, 10, 64, dtype=np.float32)[:, None, None, None]
    whole = collect_ranges(model, [{"x": x}], method=method)["x"]
    parts = collect_ranges(model, [{"x": x[start : start + 5]} for start in range(0, 64, 5)], method=method)["x"]
    assert whole.low == pytest.approx(parts.low, rel=0.01)
    assert whole.high == pytest.approx(parts.high, rel=0.01)


def test_the_model_is_left_as_it_was() -> None:
    model = cnn()
    collect_ranges(model, [feeds(model)])
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_progress_counts_samples() -> None:
    model = cnn()
    seen: list[int] = []
    collect_ranges(model, [feeds(model, samples=3), feeds(model, samples=2)], progress=seen.append)
    assert seen == [3, 5]


def test_no_samples_are_an_error() -> None:
    with pytest.raises(DataError, match="no calibration samples"):
        collect_ranges(cnn(), [])


def test_an_activation_that_is_not_finite_is_named() -> None:
    model = graph("q = Sqrt(x) y = Identity(q)", inputs={"x": ["b", 3]}, outputs={"y": ["b", 3]})
    with pytest.raises(DataError, match="'q' is not finite"):
        collect_ranges(model, [{"x": np.array([[1, -1, 4]], np.float32)}])


def test_samples_of_another_shape_are_told_with_expected_and_got() -> None:
    with pytest.raises(DataError, match="does not fit the model") as caught:
        collect_ranges(cnn(), [{"x": np.ones((2, 3, 12, 13), np.float64)}])
    assert "(2, 3, 12, 13)" in str(caught.value)


def test_a_percentile_cuts_an_outlier_that_min_max_keeps() -> None:
    observer = PercentileObserver(percent=99.0)
    observer.update(np.linspace(-1, 1, 10_000, dtype=np.float32))
    observer.update(np.array([1000.0], np.float32))
    assert observer.range().high < 2.0


def test_all_of_a_percentile_is_min_max() -> None:
    observer = PercentileObserver(percent=100.0)
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    observer.update(values)
    assert observer.range() == Range(low=float(values.min()), high=float(values.max()))


def test_a_histogram_keeps_its_size_however_far_values_grow() -> None:
    observer = PercentileObserver(percent=99.99)
    for exponent in range(-38, 38, 4):
        observer.update(np.full(10, 10.0**exponent, np.float32))
    assert observer._counts.shape == (4096,)
    assert observer._counts.sum() == 190
    assert observer.range().high == pytest.approx(1e34, rel=1.0)


@pytest.mark.parametrize("percent", [0.0, 50.0, 100.1])
def test_a_percentage_that_makes_no_sense_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        Percentile(percent=percent)
