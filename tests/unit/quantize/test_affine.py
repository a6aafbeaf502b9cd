from __future__ import annotations

import numpy as np
import pytest

from edgepe.quantize.affine import (
    BIAS_LIMIT,
    MIN_SCALE,
    Affine,
    activation_affine,
    bias_affine,
    bias_floor,
    dequantize,
    quantize,
    weight_affine,
)
from edgepe.quantize.calibrate import Range


@pytest.mark.parametrize(("dtype", "middle"), [("int8", 0), ("uint8", 128)])
def test_a_symmetric_activation_has_its_zero_in_the_middle(dtype: str, middle: int) -> None:
    affine = activation_affine(Range(low=-2.0, high=1.0), symmetry="symmetric", dtype=dtype)
    assert affine.zero_point == middle
    assert affine.scale == np.float32(2.0 / 127)


@pytest.mark.parametrize(("dtype", "lowest"), [("int8", -128), ("uint8", 0)])
def test_a_range_above_zero_puts_zero_on_the_lowest_integer(dtype: str, lowest: int) -> None:
    affine = activation_affine(Range(low=0.0, high=6.0), symmetry="asymmetric", dtype=dtype)
    assert affine.zero_point == lowest


def test_a_range_of_zeros_still_has_a_positive_scale() -> None:
    affine = activation_affine(Range(low=0.0, high=0.0), symmetry="asymmetric")
    assert affine.scale == np.float32(MIN_SCALE)


def test_an_unknown_symmetry_is_refused() -> None:
    with pytest.raises(ValueError, match="symmetric or asymmetric"):
        activation_affine(Range(low=0.0, high=1.0), symmetry="both")


def test_weights_have_one_scale_per_channel_and_never_reach_minus_128() -> None:
    weights = np.array([[1.0, -2.0], [0.5, -0.25]], np.float32)
    affine = weight_affine(weights, axis=0)
    np.testing.assert_allclose(affine.scale, [2 / 127, 0.5 / 127], rtol=1e-6)
    assert quantize(weights, affine).min() == -127


def test_seven_bit_weights_stay_in_63() -> None:
    weights = np.linspace(-3, 3, 50, dtype=np.float32)
    assert np.abs(quantize(weights, weight_affine(weights, axis=None, bits=7))).max() == 63


def test_a_negative_axis_counts_from_the_end() -> None:
    assert weight_affine(np.ones((2, 3), np.float32), axis=-1).axis == 1


def test_a_dead_channel_gets_a_scale_that_holds_its_bias() -> None:
    weights = np.array([[1.0, 1.0], [1e-12, 0.0]], np.float32)
    bias = np.array([0.1, 50.0], np.float32)
    source = activation_affine(Range(low=0.0, high=1.0), symmetry="asymmetric")
    plain = weight_affine(weights, axis=0)
    raised = weight_affine(weights, axis=0, floor=bias_floor(bias, input_scale=float(source.scale)))
    assert raised.scale[0] == plain.scale[0]
    assert raised.scale[1] > plain.scale[1]
    integers = quantize(bias, bias_affine(input_affine=source, weight=raised), dtype="int32")
    assert np.abs(integers.astype(np.int64)).max() <= BIAS_LIMIT * 1.001
    np.testing.assert_allclose(dequantize(integers, bias_affine(input_affine=source, weight=raised)), bias, rtol=1e-3)


@pytest.mark.parametrize(
    ("scale", "axis"), [((1.0, 1.0), None), (1.0, 0)], ids=["vector-without-axis", "scalar-with-axis"]
)
def test_parameters_that_do_not_fit_their_axis_are_refused(scale: object, axis: int | None) -> None:
    array = np.asarray(scale, np.float32)
    with pytest.raises(ValueError, match="axis"):
        Affine(scale=array, zero_point=np.zeros(array.shape, np.int32), axis=axis)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_that_cannot_be_inverted_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Affine(scale=np.asarray(scale, np.float32), zero_point=np.asarray(0, np.int32))
