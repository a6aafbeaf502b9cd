from __future__ import annotations

import numpy as np
import pytest

from edgepe.errors import DataError
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import METHODS, Method, Range, collect_ranges
from edgepe.scheme import Precision
from edgepe.target import load_target
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


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_cut_into_batches_does_not_change_the_range_of_an_input(method: Method) -> None:
    model = cnn()
    x = feeds(model)["x"] * np.geomspace(0.01, 10, 64, dtype=np.float32)[:, None, None, None]
    whole = collect_ranges(model, [{"x": x}], method=method)["x"]
    assert whole == collect_ranges(model, [{"x": x[at : at + 5]} for at in range(0, 64, 5)], method=method)["x"]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_same_batches_give_the_same_ranges(method: Method) -> None:
    model = cnn()
    assert collect_ranges(model, [feeds(model)], method=method) == collect_ranges(model, [feeds(model)], method=method)


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


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_range_that_clips_remembers_how_far_values_went(method: Method) -> None:
    x = np.random.default_rng(0).normal(size=(600, 3, 12, 12)).astype(np.float32)
    x[7, 1, 5, 5] = 90.0
    span = collect_ranges(cnn(), [{"x": x}], method=method)["x"]
    assert span.peak == 90.0
    assert span.within(span) == span


def test_fp16_is_refused_to_a_value_whose_outlier_int8_would_clip() -> None:
    model = cnn()
    x = np.random.default_rng(0).normal(size=(600, 3, 12, 12)).astype(np.float32)
    x[7] *= 20_000.0
    ranges = collect_ranges(model, [{"x": x}], method=METHODS["mse"])
    rows = assign(model, load_target("jetson"), precision=Precision.FP16, ranges=ranges)
    assert rows[0].precision is Precision.FP32


def test_two_ranges_join_with_what_either_saw() -> None:
    joined = Range(low=-1.0, high=2.0, beyond=9.0).join(Range(low=-3.0, high=0.0))
    assert joined == Range(low=-3.0, high=2.0, beyond=9.0)
