"""Preprocessing computes what its docstring says, whatever the layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.errors import ModelError
from device_agent.runtime.preprocess import prepare
from device_agent.wire.manifest import Preprocess, TensorSpec

LAYOUTS = [("NC", "NC"), ("NWC", "NCW"), ("NCW", "NWC"), ("NHWC", "NCHW"), ("NCHW", "NHWC"), ("NCHW", "NCHW")]
DIMENSIONS = {"N": 2, "C": 3, "H": 4, "W": 5}
numbers = st.floats(-100, 100, width=32)
stds = st.floats(0.125, 100, width=32)


def spec_of(raw_layout: str, layout: str, **rule: Any) -> TensorSpec:
    shape = tuple(-1 if axis == "N" else DIMENSIONS[axis] for axis in layout)
    preprocess = Preprocess(layout=raw_layout, **rule)
    return TensorSpec(name="x", dtype="float32", shape=shape, layout=layout, preprocess=preprocess)


def raw_of(layout: str, seed: int = 0) -> np.ndarray:
    shape = [DIMENSIONS[axis] for axis in layout]
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("raw_layout", "layout"), LAYOUTS)
def test_a_layout_and_its_inverse_give_the_value_back(raw_layout: str, layout: str) -> None:
    raw = raw_of(raw_layout)
    there = prepare(raw, spec_of(raw_layout, layout))
    assert there.shape == tuple(DIMENSIONS[axis] for axis in layout)
    assert there.flags.c_contiguous
    assert np.array_equal(prepare(there, spec_of(layout, raw_layout)), raw)


@given(
    layouts=st.sampled_from(LAYOUTS),
    scale=numbers,
    mean=st.lists(numbers, min_size=3, max_size=3),
    std=st.lists(stds, min_size=3, max_size=3),
)
def test_mean_and_std_go_along_the_channels(
    layouts: tuple[str, str], scale: float, mean: list[float], std: list[float]
) -> None:
    raw_layout, layout = layouts
    raw = raw_of(raw_layout)
    made = prepare(raw, spec_of(raw_layout, layout, scale=scale, mean=tuple(mean), std=tuple(std)))
    for channel in range(3):
        expected = (np.take(raw, channel, raw_layout.index("C")) * np.float32(scale) - np.float32(mean[channel])) / (
            np.float32(std[channel])
        )
        order = [raw_layout.replace("C", "").index(axis) for axis in layout.replace("C", "")]
        got = np.take(made, channel, layout.index("C"))
        assert np.allclose(got, expected.transpose(order), rtol=1e-5, atol=1e-4)


@given(mean=numbers, std=stds)
def test_one_number_serves_all_channels(mean: float, std: float) -> None:
    one = prepare(raw_of("NWC"), spec_of("NWC", "NCW", mean=(mean,), std=(std,)))
    three = prepare(raw_of("NWC"), spec_of("NWC", "NCW", mean=(mean,) * 3, std=(std,) * 3))
    assert np.array_equal(one, three)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", "float16"])
def test_a_numeric_raw_value_becomes_float32_and_is_left_as_it_was(dtype: str) -> None:
    raw = np.arange(30).reshape(2, 5, 3).astype(dtype)
    kept = raw.copy()
    made = prepare(raw, spec_of("NWC", "NCW", scale=0.5, mean=(1.0,)))
    assert made.dtype == np.float32
    assert np.array_equal(made, (raw.astype(np.float32) * 0.5 - 1).transpose(0, 2, 1))
    assert np.array_equal(raw, kept)


def test_without_preprocessing_the_value_passes_untouched() -> None:
    raw = raw_of("NCW")
    assert prepare(raw, TensorSpec(name="x", dtype="float32", shape=(-1, 3, 5), layout="NCW")) is raw


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(np.zeros((2, 3, 5), np.float32), ["expected: [-1, 5, 3]", "got: [2, 3, 5]"], id="order"),
        pytest.param(np.zeros((2, 5, 1), np.float32), ["got: [2, 5, 1]"], id="size-1-is-no-wildcard"),
        pytest.param(np.zeros((5, 3), np.float32), ["got: [5, 3]"], id="rank"),
        pytest.param(np.zeros((2, 5, 3), bool), ["not numeric", "got: bool"], id="bool"),
        pytest.param(np.full((2, 5, 3), "a"), ["not numeric"], id="text"),
    ],
)
def test_a_misfit_raw_value_is_refused(raw: np.ndarray, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        prepare(raw, spec_of("NWC", "NCW"))
    assert all(word in str(caught.value) for word in words)


def test_a_mean_of_other_channels_is_refused() -> None:
    with pytest.raises(ModelError, match="expected: 2 along C of NWC"):
        prepare(raw_of("NWC"), spec_of("NWC", "NCW", mean=(1.0, 2.0)))
