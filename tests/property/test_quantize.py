"""What must hold of quantization whatever the numbers are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepe.quantize.affine import (
    BIAS_LIMIT,
    SPANS,
    WEIGHT_HIGH,
    activation_affine,
    bias_affine,
    bias_floor,
    dequantize,
    quantize,
    weight_affine,
)
from edgepe.quantize.apply_onnx import apply_onnx
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import Range, collect_ranges
from edgepe.quantize.compact import short_name
from edgepe.target import load_target
from tests.small_graphs import feeds, graph, normal, run

FLOATS = st.floats(-1e6, 1e6, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=FLOATS)
SLOW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(ARRAYS, st.sampled_from(["symmetric", "asymmetric"]), st.sampled_from(list(SPANS)))
def test_an_activation_comes_back_within_half_a_step(values: np.ndarray, symmetry: str, dtype: str) -> None:
    span = Range.holding_zero(float(values.min()), float(values.max()))
    affine = activation_affine(span, symmetry=symmetry, dtype=dtype)
    error = np.abs(dequantize(quantize(values, affine, dtype=dtype), affine).astype(np.float64) - values)
    step = float(affine.scale)
    # An asymmetric zero point is itself rounded, which can push one end of the range half a step outside.
    assert error.max() <= step * (0.51 if symmetry == "symmetric" else 1.01)
    inside = (values > span.low + step) & (values < span.high - step)
    assert error[inside].max(initial=0.0) <= step * 0.51


@given(ARRAYS, st.sampled_from(["symmetric", "asymmetric"]), st.sampled_from(list(SPANS)))
def test_zero_is_exact(values: np.ndarray, symmetry: str, dtype: str) -> None:
    span = Range.holding_zero(float(values.min()), float(values.max()))
    affine = activation_affine(span, symmetry=symmetry, dtype=dtype)
    assert dequantize(quantize(np.zeros(1, np.float32), affine, dtype=dtype), affine) == 0.0


@given(ARRAYS, st.integers(-4, 3), st.sampled_from(list(WEIGHT_HIGH)))
def test_a_weight_comes_back_within_half_a_step_of_its_channel(values: np.ndarray, axis: int, bits: int) -> None:
    axis = axis % values.ndim
    affine = weight_affine(values, axis=axis, bits=bits)
    integers = quantize(values, affine)
    scale, _ = affine.along(values.ndim)
    assert np.abs(integers.astype(int)).max() <= WEIGHT_HIGH[bits]
    assert (np.abs(dequantize(integers, affine).astype(np.float64) - values) <= scale * 0.51).all()


@given(ARRAYS)
def test_integers_survive_a_round_trip(values: np.ndarray) -> None:
    affine = weight_affine(values, axis=0)
    integers = quantize(values, affine)
    np.testing.assert_array_equal(quantize(dequantize(integers, affine), affine), integers)


@given(
    hnp.arrays(np.float32, (5, 7), elements=st.sampled_from([0.0, 1e-30, 1e-12, 1e-3, 1.0, 100.0])),
    hnp.arrays(np.float32, 5, elements=st.floats(-1e4, 1e4, width=32)),
    st.floats(1e-6, 1e4),
)
def test_a_bias_never_overflows_and_is_kept(weights: np.ndarray, bias: np.ndarray, high: float) -> None:
    source = activation_affine(Range(low=0.0, high=high), symmetry="asymmetric")
    weight = weight_affine(weights, axis=0, floor=bias_floor(bias, input_scale=float(source.scale)))
    affine = bias_affine(input_affine=source, weight=weight)
    integers = quantize(bias, affine, dtype="int32")
    assert np.abs(integers.astype(np.int64)).max() <= BIAS_LIMIT * 1.001
    error = np.abs(integers.astype(np.float64) * affine.scale - bias)
    assert (error <= affine.scale.astype(np.float64) * 0.51 + 1e-6 * np.abs(bias)).all()


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_short_names_are_unique(first: int, second: int) -> None:
    assert (short_name(first) == short_name(second)) is (first == second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The shape of a random small net."""

    width: int
    size: int
    kernel: int
    stride: int
    grouped: bool
    seed: int


NETS = st.builds(
    Shape,
    width=st.sampled_from([4, 8, 16]),
    size=st.integers(5, 9),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    grouped=st.booleans(),
    seed=st.integers(0, 1000),
)


def small_net(shape: Shape) -> ir.Model:
    """Return convolution, convolution (maybe depthwise), global average, linear."""
    width, kernel, stride = shape.width, shape.kernel, shape.stride
    pad = ",".join([str(kernel // 2)] * 4)
    per_group, group = (1, f", group={width}") if shape.grouped else (width, "")
    body = f"""
        s = Conv(x, w0, b0) r = Relu(s)
        c = Conv<pads=[{pad}], strides=[{stride},{stride}]{group}>(r, w1, b1) q = Relu(c)
        g = GlobalAveragePool(q) f = Flatten(g) y = Gemm<transB=1>(f, w2, b2)
    """
    shapes = {
        "w0": (width, 3, 1, 1),
        "b0": (width,),
        "w1": (width, per_group, kernel, kernel),
        "b1": (width,),
        "w2": (6, width),
        "b2": (6,),
    }
    constants = {key: normal(*sizes, seed=shape.seed) for key, sizes in shapes.items()}
    inputs: dict[str, list[int | str]] = {"x": ["b", 3, shape.size, shape.size]}
    return graph(body, inputs=inputs, outputs={"y": ["b", 6]}, constants=constants)


@pytest.mark.parametrize("name", ["raspberry-pi", "generic", "jetson"])
@given(shape=NETS)
@SLOW
def test_a_random_small_net_stays_near_its_float_twin(name: str, shape: Shape) -> None:
    model, target = small_net(shape), load_target(name)
    inputs = feeds(model, samples=32, seed=shape.seed)
    ranges = collect_ranges(model, [inputs])
    made = apply_onnx(model, assign(model, target, ranges=ranges), ranges, target.rules)
    own: dict[str, str] | None = {} if name == "generic" else None
    wanted, got = run(model, inputs), run(made, inputs, settings=own)
    assert np.abs(wanted - got).max() <= 0.06 * max(np.abs(wanted).max(), 1e-3)
    again = apply_onnx(model, assign(model, target, ranges=ranges), ranges, target.rules)
    first, second = (ir.serde.serialize_model(one).SerializeToString(deterministic=True) for one in (made, again))
    assert first == second
