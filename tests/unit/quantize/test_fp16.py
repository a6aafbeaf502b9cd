from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir

from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import Range, collect_ranges
from edgepe.quantize.fp16 import to_fp16
from edgepe.scheme import Precision
from edgepe.target import load_target
from tests.small_graphs import cnn, feeds, graph, normal, run

JETSON = load_target("jetson")


def halved(model: ir.Model, **more: Range) -> ir.Model:
    ranges = dict(collect_ranges(model, [feeds(model)])) | more
    return to_fp16(model, assign(model, JETSON, precision=Precision.FP16, ranges=ranges))


def casts(model: ir.Model) -> int:
    return Counter(node.op_type for node in model.graph)["Cast"]


def test_inputs_and_outputs_stay_float32_and_results_stay_near() -> None:
    model = cnn()
    made = halved(model)
    onnx.checker.check_model(ir.serde.serialize_model(made))
    inputs = feeds(model, seed=4)
    got = run(made, inputs)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, run(model, inputs), atol=5e-3)


def test_a_whole_half_graph_has_one_cast_at_each_edge_and_half_the_bytes() -> None:
    model = cnn()
    made = halved(model)
    assert casts(made) == 2
    assert ir.serde.serialize_model(made).ByteSize() < 0.6 * ir.serde.serialize_model(model).ByteSize()


def test_nodes_that_would_overflow_stay_in_float_between_casts() -> None:
    model = cnn()
    made = halved(model, a=Range(low=-1000.0, high=1000.0))
    assert casts(made) == 5
    np.testing.assert_allclose(run(made, feeds(model)), run(model, feeds(model)), atol=5e-3)


def test_a_value_beyond_half_precision_does_not_become_infinite() -> None:
    body = "c = Mul(x, k) d = Div(c, k) y = MatMul(d, w)"
    constants = {"k": np.array([1e5], np.float32), "w": normal(4, 4)}
    model = graph(body, inputs={"x": ["b", 4]}, outputs={"y": ["b", 4]}, constants=constants)
    got = run(halved(model), feeds(model))
    np.testing.assert_allclose(got, run(model, feeds(model)), atol=5e-3)


def test_the_scales_of_a_resize_stay_float32() -> None:
    body = 'y = Resize<mode="nearest">(x, , s)'
    model = graph(
        body,
        inputs={"x": ["b", 2, 4, 4]},
        outputs={"y": ["b", 2, 8, 8]},
        constants={"s": np.array([1, 1, 2, 2], np.float32)},
    )
    np.testing.assert_allclose(run(halved(model), feeds(model)), run(model, feeds(model)), atol=5e-3)


def test_the_same_graph_gives_the_same_bytes() -> None:
    first, second = (ir.serde.serialize_model(halved(cnn())).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
