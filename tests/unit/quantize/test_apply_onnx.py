from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgepe.errors import UnsupportedOpError
from edgepe.quantize.affine import BIAS_LIMIT
from edgepe.quantize.apply_onnx import apply_onnx, floored
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import Range, Ranges, collect_ranges
from edgepe.quantize.facts import read_facts
from edgepe.quantize.placement import place
from edgepe.scheme import Precision
from edgepe.target import Target, load_target
from tests.small_graphs import cnn, feeds, graph, normal, run

PI, JETSON = load_target("raspberry-pi"), load_target("jetson")


def ranges_of(model: ir.Model) -> Ranges:
    return collect_ranges(model, [feeds(model)])


def quantized(model: ir.Model, target: Target = PI) -> ir.Model:
    ranges = ranges_of(model)
    return apply_onnx(model, assign(model, target, ranges=ranges), ranges, target.rules)


def serialized(model: ir.Model) -> bytes:
    return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def constants(model: ir.Model) -> list[np.ndarray]:
    """Return the initializers of a graph."""
    tensors = (ir.convenience.get_const_tensor(value) for value in model.graph.initializers.values())
    return [tensor.numpy() for tensor in tensors if tensor is not None]


def zero_points(model: ir.Model) -> list[np.ndarray]:
    """Return the zero points of activations."""
    values = [node.inputs[2] for node in model.graph if node.op_type == "QuantizeLinear"]
    tensors = [ir.convenience.get_const_tensor(value) for value in values if value is not None]
    return [tensor.numpy() for tensor in tensors if tensor is not None]


def source_of(value: ir.Value | None) -> str:
    """Return the operator that writes a value."""
    producer = value.producer() if value is not None else None
    return producer.op_type if producer is not None else ""


def dense(**more: np.ndarray) -> ir.Model:
    """Return y = Relu(x w + b), 16 to 16."""
    constants = {"w": normal(16, 16), "b": normal(16)} | more
    return graph(
        "c = Gemm(x, w, b) y = Relu(c)", inputs={"x": ["b", 16]}, outputs={"y": ["b", 16]}, constants=constants
    )


@pytest.mark.parametrize("target", [PI, JETSON], ids=lambda target: target.name)
def test_what_is_written_is_valid_onnx(target: Target) -> None:
    onnx.checker.check_model(ir.serde.serialize_model(quantized(cnn(), target)), full_check=True)


@pytest.mark.parametrize("target", [PI, JETSON], ids=lambda target: target.name)
def test_int8_stays_near_float(target: Target) -> None:
    model = cnn()
    inputs = feeds(model, seed=5)
    wanted, got = run(model, inputs), run(quantized(model, target), inputs)
    assert np.abs(wanted - got).max() < 0.03 * np.abs(wanted).max()


@pytest.mark.parametrize("target", [PI, JETSON], ids=lambda target: target.name)
def test_the_same_input_gives_the_same_bytes(target: Target) -> None:
    assert serialized(quantized(cnn(), target)) == serialized(quantized(cnn(), target))


def test_the_float_graph_is_left_as_it_was() -> None:
    model = cnn()
    before = serialized(model)
    quantized(model)
    assert serialized(model) == before


def test_inputs_outputs_and_node_names_are_kept() -> None:
    made = quantized(cnn())
    assert [value.name for value in made.graph.inputs] == ["x"]
    assert [value.name for value in made.graph.outputs] == ["y"]
    assert made.graph.outputs[0].dtype is ir.DataType.FLOAT
    assert {"n_c1", "n_c2", "n_c3", "n_y"} <= {node.name for node in made.graph}


def test_the_pi_has_no_relu_left_and_a_pair_around_each_operator() -> None:
    counts = ops(quantized(cnn()))
    assert "Relu" not in counts
    # x, c1, p1, c2, a, c3, g, f and y are quantized; a weight and a bias of each of four nodes come as integers.
    assert counts["QuantizeLinear"] == 9
    assert counts["DequantizeLinear"] == 9 + 8


def test_the_jetson_has_pairs_on_inputs_only_and_float_biases() -> None:
    made = quantized(cnn(), JETSON)
    counts = ops(made)
    assert counts["Relu"] == 3
    # x, p1 (read by the next convolution and as the residual branch) and r2; the weights of three convolutions.
    assert counts["QuantizeLinear"] == 3
    assert counts["DequantizeLinear"] == 3 + 3
    assert source_of(made.graph.outputs[0]) == "Gemm"
    assert not [array for array in constants(made) if array.dtype == np.int32]


def test_jetson_pairs_are_symmetric() -> None:
    zeros = zero_points(quantized(cnn(), JETSON))
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zeros)


def test_a_pass_through_operator_shares_its_inputs_scale() -> None:
    model = cnn()
    ranges = ranges_of(model)
    placement = place(read_facts(model), assign(model, PI), ranges, PI.rules)
    assert placement.ranges["r1"] == placement.ranges["p1"] == ranges["r1"].join(ranges["p1"])
    assert placement.ranges["g"] == placement.ranges["f"]


def test_a_concat_keeps_the_scale_of_each_input() -> None:
    body = "c = MatMul(x, w) r = Relu(c) d = MatMul(x, v) y = Concat<axis=1>(r, d)"
    model = graph(
        body,
        inputs={"x": ["b", 16]},
        outputs={"y": ["b", 32]},
        constants={"w": normal(16, 16), "v": normal(16, 16, seed=9)},
    )
    inputs = feeds(model)
    ranges = ranges_of(model)
    placement = place(read_facts(model), assign(model, PI), ranges, PI.rules)
    assert placement.ranges["r"].low == 0.0
    made = apply_onnx(model, assign(model, PI), ranges, PI.rules)
    assert run(made, inputs)[:, :16].min() >= 0.0


def test_seven_bit_weights_are_written_where_the_rules_say_so() -> None:
    made = quantized(dense(), load_target("generic"))
    weights = [array for array in constants(made) if array.size == 256]
    assert len(weights) == 1
    assert np.abs(weights[0].astype(int)).max() == 63


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_activations_have_the_type_of_the_rules(dtype: str) -> None:
    rules = replace(PI.rules, activation_dtype=dtype)
    model = dense()
    ranges = ranges_of(model)
    made = apply_onnx(model, assign(model, PI), ranges, rules)
    assert {zero.dtype.name for zero in zero_points(made)} == {dtype}


def test_one_scale_serves_a_whole_weight_where_the_rules_want_no_channels() -> None:
    rules = replace(PI.rules, per_channel=False)
    model = dense()
    ranges = ranges_of(model)
    made = apply_onnx(model, assign(model, PI), ranges, rules)
    assert {array.size for array in constants(made)} <= {1, 16, 256}
    assert np.abs(run(made, feeds(model)) - run(model, feeds(model))).max() < 0.05


def test_a_graph_output_without_a_pair_is_what_the_rules_may_ask_for() -> None:
    rules = replace(PI.rules, quantize_outputs=False)
    model = graph(
        "y = Gemm(x, w, b)",
        inputs={"x": ["b", 16]},
        outputs={"y": ["b", 16]},
        constants={"w": normal(16, 16), "b": normal(16)},
    )
    ranges = ranges_of(model)
    assert ops(apply_onnx(model, assign(model, PI), ranges, rules))["QuantizeLinear"] == 1


def test_a_dead_channel_keeps_its_bias_and_is_told() -> None:
    weight, bias = normal(16, 16), normal(16)
    weight[:, 3], bias[3] = 1e-14, 5.0
    model = dense(w=weight, b=bias)
    ranges, schemes = ranges_of(model), assign(model, PI)
    made = apply_onnx(model, schemes, ranges, PI.rules)
    integers = [array for array in constants(made) if array.dtype == np.int32]
    assert np.abs(integers[0].astype(np.int64)).max() <= BIAS_LIMIT * 1.001
    inputs = feeds(model)
    np.testing.assert_allclose(run(made, inputs)[:, 3], 5.0, rtol=0.02)
    assert "1 near-dead channels" in floored(model, schemes, ranges, PI.rules)[0].detail


def test_healthy_channels_need_no_remark() -> None:
    model = cnn()
    schemes = assign(model, PI)
    assert floored(model, schemes, ranges_of(model), PI.rules) == schemes


def test_a_value_that_a_float_and_an_int8_node_read_is_quantized_for_one_only() -> None:
    body = "t = Tanh(x) c = MatMul(t, w) s = Sin(t) y = Add(c, s)"
    model = graph(body, inputs={"x": ["b", 16]}, outputs={"y": ["b", 16]}, constants={"w": normal(16, 16)})
    sine = next(node for node in quantized(model).graph if node.op_type == "Sin")
    assert source_of(sine.inputs[0]) == "Tanh"


def test_a_constant_operand_of_an_add_becomes_int8() -> None:
    body = "c = MatMul(x, w) y = Add(c, k)"
    model = graph(
        body, inputs={"x": ["b", 16]}, outputs={"y": ["b", 16]}, constants={"w": normal(16, 16), "k": normal(1, 16)}
    )
    made = quantized(model)
    assert not [array for array in constants(made) if array.dtype == np.float32 and array.size > 16]
    inputs = feeds(model)
    assert np.abs(run(made, inputs) - run(model, inputs)).max() < 0.1


def test_a_whole_float_assignment_changes_nothing_but_names() -> None:
    model = cnn()
    made = apply_onnx(model, assign(model, PI, precision=Precision.FP32), ranges_of(model), PI.rules)
    assert ops(made) == ops(model)
    np.testing.assert_array_equal(run(made, feeds(model)), run(model, feeds(model)))


def test_inner_names_are_short_and_inner_shapes_left_out() -> None:
    made = quantized(cnn())
    inner = [value for node in made.graph for value in node.outputs if not value.is_graph_output()]
    assert max(len(value.name or "") for value in inner) <= 2
    assert all(value.shape is None and value.type is None for value in inner)


def test_an_operator_set_without_channels_is_refused() -> None:
    model = graph("y = Relu(x)", inputs={"x": ["b", 2]}, outputs={"y": ["b", 2]}, opset=12)
    with pytest.raises(UnsupportedOpError, match="newer operator set"):
        apply_onnx(model, assign(model, PI), {}, PI.rules)


def test_asymmetric_weights_and_styles_of_other_formats_are_refused() -> None:
    model = dense()
    schemes = assign(model, PI)
    with pytest.raises(ValueError, match="asymmetric"):
        apply_onnx(model, schemes, ranges_of(model), replace(PI.rules, weight_symmetric=False))
    with pytest.raises(ValueError, match="writes no ONNX"):
        apply_onnx(model, schemes, ranges_of(model), replace(PI.rules, style="tflite"))


def test_a_missing_range_is_named() -> None:
    model = dense()
    with pytest.raises(ValueError, match="no calibrated range of x"):
        apply_onnx(model, assign(model, PI), {"y": Range(low=0.0, high=1.0)}, PI.rules)
