from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgepe.quantize.apply_onnx import apply_onnx
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import collect_ranges
from edgepe.quantize.remedies import channel_means, correct_biases, equalize
from edgepe.target import load_target
from tests.small_graphs import cnn, feeds, graph, normal, run

PI = load_target("raspberry-pi")
UNEVEN = np.float32(10.0) ** np.linspace(-2, 2, 8, dtype=np.float32)


def uneven() -> ir.Model:
    """Return conv → ReLU → depthwise → ReLU → conv whose channels differ by four powers of ten."""
    scale = UNEVEN[:, None, None, None]
    constants = {
        "w": normal(8, 4, 3, 3) * scale,
        "b": normal(8) * UNEVEN,
        "d": normal(8, 1, 3, 3),
        "e": normal(8),
        "v": normal(6, 8, 1, 1) / UNEVEN[None, :, None, None],
    }
    body = "c = Conv(x, w, b) r = Relu(c) k = Conv<group=8>(r, d, e) s = Relu(k) y = Conv(s, v)"
    return graph(body, inputs={"x": ["b", 4, 8, 8]}, outputs={"y": ["b", 6, 4, 4]}, constants=constants)


def int8_error(model: ir.Model, wanted: np.ndarray, inputs: dict[str, np.ndarray]) -> float:
    ranges = collect_ranges(model, [inputs])
    made = apply_onnx(model, assign(model, PI, ranges=ranges), ranges, PI.rules)
    return float(np.square(run(made, inputs) - wanted).mean() / np.square(wanted).mean())


def test_equalizing_leaves_the_float_function_and_evens_out_int8() -> None:
    model = uneven()
    inputs = feeds(model)
    wanted = run(model, inputs)
    level = equalize(model)
    np.testing.assert_allclose(run(level, inputs), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert int8_error(level, wanted, inputs) < 0.1 * int8_error(model, wanted, inputs)


def test_the_graph_that_is_given_is_not_changed() -> None:
    model = uneven()
    before = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    equalize(model)
    correct_biases(model, assign(model, PI), PI.rules, channel_means(model, [feeds(model)]))
    assert ir.serde.serialize_model(model).SerializeToString(deterministic=True) == before


def test_a_value_that_others_read_is_not_crossed() -> None:
    model = cnn()
    inputs = feeds(model)
    np.testing.assert_allclose(run(equalize(model), inputs), run(model, inputs), rtol=1e-4, atol=1e-5)


def test_means_are_of_channels_over_all_batches() -> None:
    model = cnn()
    inputs = feeds(model)
    parts = [{"x": inputs["x"][:10]}, {"x": inputs["x"][10:]}]
    np.testing.assert_allclose(channel_means(model, parts)["x"], inputs["x"].mean(axis=(0, 2, 3)), atol=1e-6)


def test_bias_correction_takes_the_mean_error_of_coarse_weights_out() -> None:
    weight = normal(16, 32, seed=3)
    weight[:, 0] = 40.0
    model = graph(
        "y = Gemm<transB=1>(x, w)", inputs={"x": ["b", 32]}, outputs={"y": ["b", 16]}, constants={"w": weight}
    )
    x = np.random.default_rng(0).normal(1.0, 0.2, (200, 32)).astype(np.float32)
    x[:, 0] = 0.0
    wanted = run(model, {"x": x})
    mended = correct_biases(model, assign(model, PI), PI.rules, channel_means(model, [{"x": x}]))
    assert int8_error(mended, wanted, {"x": x}) < 0.2 * int8_error(model, wanted, {"x": x})
