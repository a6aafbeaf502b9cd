from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgepe.errors import UnsupportedOpError
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import Range, collect_ranges
from edgepe.quantize.facts import read_facts
from edgepe.quantize.tensorrt import residual_input
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import Target, load_target
from tests.small_graphs import cnn, feeds, graph, normal

PI, JETSON, ANDROID = (load_target(name) for name in ("raspberry-pi", "jetson", "android"))
INT8, FP32 = Precision.INT8, Precision.FP32


def table(schemes: tuple[OpScheme, ...]) -> dict[str, tuple[Precision, Reason]]:
    return {scheme.node.removeprefix("n_"): (scheme.precision, scheme.reason) for scheme in schemes}


def one(
    body: str,
    *,
    target: Target = PI,
    shape: tuple[int | str, ...] = ("b", 16),
    constants: dict[str, np.ndarray] | None = None,
    **more: np.ndarray,
) -> OpScheme:
    """Assign a graph x → y and return the scheme of the node that writes y."""
    outputs: list[int | str] = ["b", *(f"d{i}" for i in shape[1:])]
    model = graph(body, inputs={"x": [*shape]}, outputs={"y": outputs}, constants=more | (constants or {}))
    return {scheme.node: scheme for scheme in assign(model, target)}["n_y"]


@pytest.mark.parametrize("target", [PI, JETSON, ANDROID], ids=lambda target: target.name)
def test_every_node_has_one_scheme_in_graph_order(target: Target) -> None:
    model = cnn()
    schemes = assign(model, target)
    assert [scheme.node for scheme in schemes] == [node.name for node in model.graph]


def test_the_pi_runs_the_whole_cnn_in_int8() -> None:
    schemes = assign(cnn(), PI)
    assert {scheme.precision for scheme in schemes} == {INT8}
    assert table(schemes)["p1"] == (INT8, Reason.FOLLOWS_INPUT)


def test_a_relu_folds_into_its_producer() -> None:
    details = {scheme.node: scheme.detail for scheme in assign(cnn(), PI)}
    assert details["n_r1"] == "folded into the output range of n_c1"
    assert details["n_r2"] == "folded into the output range of n_a"


def test_a_relu_whose_input_is_read_twice_does_not_fold() -> None:
    body = "c = MatMul(x, w) r = Relu(c) y = Add(c, r)"
    model = graph(body, inputs={"x": ["b", 16]}, outputs={"y": ["b", 16]}, constants={"w": normal(16, 16)})
    assert table(assign(model, PI))["r"] == (FP32, Reason.NO_INT8_KERNEL)


@pytest.mark.parametrize(("low", "high", "precision"), [(-1.0, 1.0, INT8), (0.5, 6.0, FP32), (-6.0, -1.0, FP32)])
def test_a_clip_folds_only_where_zero_lies_between_its_bounds(low: float, high: float, precision: Precision) -> None:
    bounds = {"lo": np.array(low, np.float32), "hi": np.array(high, np.float32)}
    found = one("c = MatMul(x, w) y = Clip(c, lo, hi)", w=normal(16, 16), constants=bounds)
    assert found.precision is precision


def test_a_computed_weight_stays_in_float() -> None:
    model = graph("y = Conv(x, w)", inputs={"x": ["b", 3, 8, 8], "w": [4, 3, 3, 3]}, outputs={"y": ["b", 4, 6, 6]})
    assert table(assign(model, PI))["y"] == (FP32, Reason.WEIGHT_NOT_CONSTANT)


@pytest.mark.parametrize("attributes", ["alpha=0.5", "beta=2.0", "transA=1"])
def test_a_gemm_that_no_int8_kernel_knows_stays_in_float(attributes: str) -> None:
    found = one(f"y = Gemm<{attributes}>(x, w, c)", shape=(16, 16), w=normal(16, 16), c=normal(16))
    assert (found.precision, found.reason) == (FP32, Reason.NO_INT8_KERNEL)


@pytest.mark.parametrize(
    ("op", "reason"), [("Erf", Reason.FLOAT_OP), ("Tanh", Reason.NO_INT8_KERNEL), ("Softmax", Reason.NO_INT8_KERNEL)]
)
def test_an_operator_without_int8_says_why(op: str, reason: Reason) -> None:
    found = one(f"c = MatMul(x, w) y = {op}(c)", w=normal(16, 16))
    assert (found.precision, found.reason) == (FP32, reason)
    assert op in found.detail or "probabilities" in found.detail


def test_a_pointwise_operator_without_an_int8_neighbour_stays_in_float() -> None:
    found = one("h = Tanh(x) y = Mul(h, x)")
    assert (found.precision, found.reason) == (FP32, Reason.FOLLOWS_INPUT)


def test_shapes_and_indices_are_never_quantized() -> None:
    body = "s = Shape(x) c = MatMul(x, w) y = Reshape(c, s)"
    model = graph(body, inputs={"x": ["b", 16]}, outputs={"y": ["b", 16]}, constants={"w": normal(16, 16)})
    assert table(assign(model, PI))["s"] == (FP32, Reason.INTEGER_DATA)


def test_a_recurrent_operator_stays_in_float() -> None:
    body = "y, h = GRU<hidden_size=4>(x, w, r)"
    constants = {"w": normal(1, 12, 16), "r": normal(1, 12, 4)}
    model = graph(body, inputs={"x": [5, 1, 16]}, outputs={"y": [5, 1, 1, 4]}, constants=constants)
    assert table(assign(model, ANDROID))["y"] == (FP32, Reason.RECURRENT)
    assert table(assign(model, PI))["y"] == (FP32, Reason.WEIGHT_ONLY)
    assert table(assign(model, PI, float_nodes={"n_y"}))["y"] == (FP32, Reason.SENSITIVE)


def test_a_value_without_a_range_is_not_quantized() -> None:
    model = cnn()
    ranges = dict(collect_ranges(model, [feeds(model)]))
    del ranges["c2"]
    assert table(assign(model, PI, ranges=ranges))["c2"] == (FP32, Reason.NO_RANGE)


def test_a_sensitive_node_stays_in_float() -> None:
    assert table(assign(cnn(), PI, float_nodes={"n_c3"}))["c3"] == (FP32, Reason.SENSITIVE)


def test_whole_fp32_needs_no_other_reason() -> None:
    assert {scheme.reason for scheme in assign(cnn(), PI, precision=FP32)} == {Reason.WHOLE_PRECISION}


def test_fp16_keeps_what_would_overflow() -> None:
    model = cnn()
    ranges = dict(collect_ranges(model, [feeds(model)])) | {"a": Range(low=-1000.0, high=0.0)}
    found = table(assign(model, JETSON, precision=Precision.FP16, ranges=ranges))
    assert found["a"] == found["r2"] == (FP32, Reason.FP16_OVERFLOW)
    assert found["c1"] == (Precision.FP16, Reason.WHOLE_PRECISION)


def test_fp16_keeps_a_constant_beyond_its_largest_number() -> None:
    model = graph(
        "y = Mul(x, k)",
        inputs={"x": ["b", 2]},
        outputs={"y": ["b", 2]},
        constants={"k": np.array([1, 7e4], np.float32)},
    )
    assert table(assign(model, JETSON, precision=Precision.FP16))["y"] == (FP32, Reason.FP16_OVERFLOW)


@pytest.mark.parametrize(
    ("weight", "group", "first", "precision"),
    [
        ((32, 32, 3, 3), 1, False, INT8),
        ((12, 20, 3, 3), 1, False, FP32),
        ((24, 8, 3, 3), 1, False, INT8),
        ((24, 8, 1, 3), 1, False, FP32),
        ((8, 3, 3, 3), 1, True, INT8),
        ((8, 12, 3, 3), 1, False, FP32),
        ((16, 1, 3, 3), 16, False, INT8),
        ((16, 1, 1, 1), 16, False, FP32),
        ((12, 1, 3, 3), 12, False, FP32),
    ],
    ids=[
        "wide",
        "odd",
        "one-side-wide",
        "not-square",
        "first-layer",
        "narrow",
        "depthwise",
        "tiny-kernel",
        "odd-groups",
    ],
)
def test_a_jetson_conv_with_few_channels_is_int8_only_where_a_kernel_exists(
    weight: tuple[int, ...], group: int, *, first: bool, precision: Precision
) -> None:
    head = "" if first else "h = Tanh(x)"
    body = f"{head} y = Conv<group={group}>({'x' if first else 'h'}, w)"
    found = one(body, target=JETSON, shape=("b", weight[1] * group, 8, 8), w=normal(*weight))
    assert found.precision is precision
    assert found.reason is (Reason.TARGET_RULE if precision is INT8 else Reason.FEW_CHANNELS)


@pytest.mark.parametrize(
    ("shape", "weight", "precision", "reason"),
    [
        (("b", 64), (64, 64), FP32, Reason.TARGET_RULE),
        ((8, 64), (64, 64), INT8, Reason.TARGET_RULE),
        ((8, 64), (64, 1), FP32, Reason.TARGET_RULE),
        ((8, 64), (64, 8), FP32, Reason.FEW_CHANNELS),
        (("b", 20, 64), (64, 64), INT8, Reason.TARGET_RULE),
    ],
    ids=["gemv", "matrix", "one-column", "narrow", "sequence"],
)
def test_a_jetson_product_is_int8_only_where_it_is_no_vector(
    shape: tuple[int | str, ...], weight: tuple[int, int], precision: Precision, reason: Reason
) -> None:
    found = one("y = MatMul(x, w)", target=JETSON, shape=shape, w=normal(*weight))
    assert (found.precision, found.reason) == (precision, reason)


def test_a_jetson_quantizes_only_the_residual_branch_of_an_add() -> None:
    model = cnn()
    facts = read_facts(model)
    add = next(op for op in facts.ops if op.op == "Add")
    assert residual_input(facts, add) == "p1"
    assert "p1" in next(scheme.detail for scheme in assign(model, JETSON) if scheme.op == "Add")


def test_of_two_convs_the_deeper_one_is_no_residual_branch() -> None:
    conv = "Conv<pads=[1,1,1,1]>"
    body = f"a = {conv}(x, w) r = Relu(a) m = {conv}(r, w) s = {conv}(x, w) y = Add(s, m)"
    model = graph(
        body, inputs={"x": ["b", 16, 8, 8]}, outputs={"y": ["b", 16, 8, 8]}, constants={"w": normal(16, 16, 3, 3)}
    )
    facts = read_facts(model)
    assert residual_input(facts, facts.ops[-1]) == "s"


def test_an_add_of_a_constant_is_no_residual() -> None:
    found = one("y = Add(x, k)", target=JETSON, k=normal(16))
    assert found.precision is FP32


def test_a_target_with_a_least_width_keeps_narrow_convs_in_float() -> None:
    wide = replace(PI, rules=replace(PI.rules, min_channels=8))
    found = one("y = Conv(x, w)", target=wide, shape=("b", 3, 8, 8), w=normal(16, 3, 3, 3))
    assert (found.precision, found.reason) == (FP32, Reason.FEW_CHANNELS)


def test_android_quantizes_pointwise_and_pooling_operators_too() -> None:
    assert one("c = MatMul(x, w) y = Tanh(c)", target=ANDROID, w=normal(16, 16)).precision is INT8


def test_control_flow_is_refused_with_the_node_named() -> None:
    inner = ir.Graph([], [], nodes=[], name="inner")
    model = cnn()
    node = ir.Node("", "If", [model.graph.inputs[0]], [ir.AttrGraph("then_branch", inner)], name="branch")
    model.graph.append(node)
    with pytest.raises(UnsupportedOpError, match="graph of its own") as caught:
        assign(model, PI)
    assert caught.value.node == "branch"


def test_two_nodes_of_one_name_are_refused() -> None:
    model = cnn()
    for node in model.graph:
        node.name = "same"
    with pytest.raises(UnsupportedOpError, match="not unique"):
        assign(model, PI)


def test_fp16_keeps_what_onnxruntime_on_arm_has_no_kernel_for() -> None:
    model = graph("y = AveragePool <kernel_shape = [2]> (x)", inputs={"x": ["b", 4, 8]}, outputs={"y": ["b", 4, 7]})
    assert table(assign(model, JETSON, precision=Precision.FP16))["y"] == (FP32, Reason.FLOAT_OP)
