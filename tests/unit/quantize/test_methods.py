from __future__ import annotations

import numpy as np
import pytest

from edgepe.errors import UsageError
from edgepe.quantize.histogram import Histogram
from edgepe.quantize.methods import METHODS, Entropy, MeanSquare, Method, MinMax, Percentile, method_named
from edgepe.quantize.ranges import Range


def seen(*parts: np.ndarray) -> Histogram:
    """Return the histogram of arrays."""
    histogram = Histogram()
    for part in parts:
        histogram.update(np.asarray(part, np.float32))
    return histogram


def normals(count: int = 200_000) -> np.ndarray:
    """Return bell-shaped samples."""
    return np.random.default_rng(0).normal(size=count)


@pytest.mark.parametrize("method", [Percentile(percent=99.9), Entropy(), MeanSquare()], ids=str)
def test_an_outlier_that_min_max_keeps_is_cut(method: Method) -> None:
    histogram = seen(normals(2_000_000), np.array([30.0]))
    assert MinMax().range(histogram).high == 30.0
    assert method.range(histogram).high < 8.0


def test_mean_square_keeps_an_outlier_that_would_cost_more_to_clip_than_to_keep() -> None:
    assert MeanSquare().range(seen(normals(2_000), np.array([30.0]))).high > 28.0


@pytest.mark.parametrize("method", [Entropy(), MeanSquare()], ids=str)
def test_values_spread_evenly_keep_their_whole_span(method: Method) -> None:
    histogram = seen(np.linspace(-1.0, 1.0, 100_000))
    assert method.range(histogram) == Range(low=-1.0, high=1.0)


def test_mean_square_clips_a_bell_near_four_sigma() -> None:
    # 8 bits over a standard normal: the least expected error lies close to 3.9 (Banner et al. 2019, table 1).
    found = MeanSquare().range(seen(normals(1_000_000)))
    assert found.high == pytest.approx(3.9, abs=0.25)
    assert found.low == pytest.approx(-3.9, abs=0.25)


def test_mean_square_cuts_each_side_by_itself() -> None:
    found = MeanSquare().range(seen(normals(2_000_000), np.array([-30.0])))
    assert found.low > -8.0
    assert found.high == pytest.approx(4.2, abs=0.8)


@pytest.mark.parametrize("method", [Entropy(), MeanSquare()], ids=str)
def test_the_zeros_of_a_relu_do_not_pull_the_range_in(method: Method) -> None:
    positive = np.abs(normals())
    assert method.range(seen(positive)) == method.range(seen(positive, np.zeros(5_000_000)))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_only_zeros_keep_a_range_of_nothing(method: Method) -> None:
    assert method.range(seen(np.zeros(10))) == Range(low=0.0, high=0.0)


def test_all_of_a_percentile_is_min_max() -> None:
    histogram = seen(normals(1000))
    assert Percentile(percent=100.0).range(histogram) == MinMax().range(histogram)


@pytest.mark.parametrize("percent", [0.0, 50.0, 100.1])
def test_a_percentage_that_makes_no_sense_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent"):
        Percentile(percent=percent)


def test_a_method_is_known_by_its_name() -> None:
    assert method_named("mse") == MeanSquare()
    with pytest.raises(UsageError, match="min-max, percentile, entropy, mse"):
        method_named("median")
