from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from edgepe.errors import CaptureError, UnsupportedOpError
from edgepe.lower.tflite import lower, serialize
from edgepe.lower.tflite.flat import Activation, Builtin, count_operators
from edgepe.lower.tflite.lowering import supported_operators
from edgepe.lower.tflite.ops.table import lowers
from tests.litert_child import PATHS, LiteRt, litert_child
from tests.onnx_graphs import Graph, run_onnx, small_cnn, small_cnn_1d, small_mlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgepe.lower.tflite.lowering import IoLayout

RELATIVE = 1e-5
NETS = [pytest.param(net, id=net.__name__) for net in (small_mlp, small_cnn_1d, small_cnn)]


@pytest.fixture(scope="module")
def litert() -> Iterator[LiteRt]:
    with litert_child() as child:
        yield child


def builtins(model: ir.Model, io_layout: IoLayout = "nhwc") -> list[Builtin]:
    return [operator.builtin for operator in lower(model, io_layout=io_layout).graph.operators]


def check_parity(litert: LiteRt, graph: Graph, io_layout: IoLayout, *outputs: str) -> None:
    model = graph.model(*outputs)
    x = np.random.default_rng(1).standard_normal(graph.shapes["x"]).astype(np.float32)
    wanted = run_onnx(model, x)
    lowered = lower(model, io_layout=io_layout)
    feeds = {"x": np.ascontiguousarray(x.transpose(lowered.graph.inputs[0].axes))}
    for path in PATHS:
        for results in litert.run(serialize(lowered), feeds, path=path, times=2):
            for port in lowered.graph.outputs:
                expected = wanted[port.name].transpose(port.axes)
                error = np.abs(results[port.name] - expected).max() / np.abs(expected).max()
                assert results[port.name].shape == expected.shape
                assert error <= RELATIVE


@pytest.mark.parametrize("io_layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("net", NETS)
def test_a_net_computes_what_onnxruntime_computes(
    litert: LiteRt, net: Callable[[], Graph], io_layout: IoLayout
) -> None:
    check_parity(litert, net(), io_layout)


@pytest.mark.parametrize("net", NETS)
def test_a_net_with_channels_last_at_its_edges_has_no_transpose(net: Callable[[], Graph]) -> None:
    assert count_operators(lower(net().model(), io_layout="nhwc"), Builtin.TRANSPOSE) == 0


@pytest.mark.parametrize("net", NETS)
def test_activations_that_a_layer_can_carry_cost_no_operator(net: Callable[[], Graph]) -> None:
    assert not set(builtins(net().model())) & {Builtin.RELU, Builtin.RELU6}


def test_a_sequence_becomes_an_image_of_height_one() -> None:
    graph = Graph((1, 6, 40)).then("Relu")
    graph.then("Conv", graph.weight(4, 6, 3))
    lowered = lower(graph.model(), io_layout="nhwc")
    port = lowered.graph.inputs[0]
    assert (port.axes, lowered.graph.tensors[port.tensor].shape) == ((0, 2, 1), (1, 40, 6))
    assert Builtin.TRANSPOSE not in builtins(graph.model())


def test_an_image_output_has_channels_last_only_where_asked() -> None:
    graph = Graph((1, 3, 9, 7))
    graph.then("Conv", graph.weight(5, 3, 3, 3))
    layouts: dict[IoLayout, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "nhwc": ((0, 2, 3, 1), (1, 7, 5, 5)),
        "nchw": ((0, 1, 2, 3), (1, 5, 7, 5)),
    }
    for io_layout, (axes, shape) in layouts.items():
        lowered = lower(graph.model(), io_layout=io_layout)
        port = lowered.graph.outputs[0]
        assert (port.axes, lowered.graph.tensors[port.tensor].shape) == (axes, shape)


def test_an_activation_stays_apart_where_its_input_has_another_reader(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    conv = graph.add("Conv", ["x", graph.weight(4, 3, 1, 1), graph.normal(4)])
    active = graph.add("Relu", [conv])
    graph.add("Add", [active, conv])
    lowered = lower(graph.model(), io_layout="nhwc")
    assert [operator.activation for operator in lowered.graph.operators] == [Activation.NONE] * 3
    check_parity(litert, graph, "nhwc")


def test_an_activation_stays_apart_where_its_input_is_an_output(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    conv = graph.add("Conv", ["x", graph.weight(4, 3, 1, 1)])
    active = graph.add("Relu", [conv])
    assert Builtin.RELU in builtins(graph.model(conv, active))
    check_parity(litert, graph, "nchw", conv, active)


def test_an_activation_behind_a_transposed_view_stays_apart(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    conv = graph.add("Conv", ["x", graph.weight(3, 3, 1, 1)])
    turned = graph.add("Transpose", [conv], perm=[0, 1, 3, 2])
    active = graph.add("Relu", [turned])
    pooled = graph.add("GlobalAveragePool", [conv])
    check_parity(litert, graph, "nhwc", active, pooled)


def test_a_flattened_image_permutes_weights_instead_of_data(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    graph.then("Conv", graph.weight(4, 3, 2, 2)).then("Flatten").then("Tanh")
    graph.then("Gemm", graph.weight(7, 4 * 5 * 4), graph.normal(7), transB=1)
    assert Builtin.TRANSPOSE not in builtins(graph.model())
    check_parity(litert, graph, "nhwc")


def test_a_flattened_image_that_is_also_an_output_is_in_order(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    graph.then("Conv", graph.weight(4, 3, 2, 2))
    flat = graph.add("Flatten", [graph.last])
    dense = graph.add("Gemm", [flat, graph.weight(7, 4 * 5 * 4)], transB=1)
    check_parity(litert, graph, "nhwc", flat, dense)


@pytest.mark.parametrize(
    ("pads", "strides", "expected"),
    [
        pytest.param([1, 1, 1, 1], [1, 1], [Builtin.CONV_2D], id="same"),
        pytest.param([0, 0, 0, 0], [2, 2], [Builtin.CONV_2D], id="valid"),
        pytest.param([1, 1, 1, 1], [2, 2], [Builtin.PAD, Builtin.CONV_2D], id="explicit"),
        pytest.param([0, 0, 1, 1], [2, 2], [Builtin.CONV_2D], id="same at stride two"),
    ],
)
def test_padding_becomes_the_cheapest_form(
    litert: LiteRt, pads: list[int], strides: list[int], expected: list[Builtin]
) -> None:
    graph = Graph((1, 3, 8, 6))
    graph.then("Conv", graph.weight(4, 3, 3, 3), pads=pads, strides=strides)
    assert builtins(graph.model()) == expected
    check_parity(litert, graph, "nhwc")


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding_follows_onnx(litert: LiteRt, mode: str) -> None:
    graph = Graph((1, 3, 8, 7))
    graph.then("Conv", graph.weight(4, 3, 3, 2), auto_pad=mode, strides=[2, 1])
    check_parity(litert, graph, "nhwc")


def test_a_padded_max_pool_ignores_its_padding(litert: LiteRt) -> None:
    graph = Graph((1, 2, 8, 6))
    negative = graph.add("Sub", ["x", graph.constant(np.float32(100))])
    graph.add("MaxPool", [negative], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    check_parity(litert, graph, "nhwc")


def test_an_unfolded_normalization_is_one_operator(litert: LiteRt) -> None:
    graph = Graph((1, 4, 6, 5))
    variance = graph.constant(np.array([0.5, 1, 2, 3], np.float32))
    graph.then("BatchNormalization", graph.normal(4), graph.normal(4), graph.normal(4), variance).then("Relu")
    assert builtins(graph.model()) == [Builtin.DEPTHWISE_CONV_2D]
    check_parity(litert, graph, "nhwc")


def test_a_bias_added_behind_a_product_becomes_its_bias(litert: LiteRt) -> None:
    graph = Graph((1, 5, 6))
    graph.then("MatMul", graph.weight(6, 3)).then("Add", graph.normal(3)).then("Relu")
    assert builtins(graph.model()) == [Builtin.FULLY_CONNECTED]
    check_parity(litert, graph, "nchw")


def test_shapes_computed_from_the_batch_are_constants(litert: LiteRt) -> None:
    graph = Graph(("n", 4, 6))
    size = graph.add("Gather", [graph.add("Shape", ["x"]), graph.constant(np.int64(0))], axis=0)
    rows = graph.add("Unsqueeze", [size, graph.integers(0)])
    shape = graph.add("Concat", [rows, graph.integers(24)], axis=0)
    graph.add("Reshape", ["x", shape])
    check_parity(litert, graph, "nchw")


def test_outputs_that_share_a_value_have_tensors_of_their_own(litert: LiteRt) -> None:
    graph = Graph((1, 4))
    first = graph.add("Tanh", ["x"])
    second = graph.add("Identity", [first])
    third = graph.add("Identity", ["x"])
    lowered = lower(graph.model(first, second, third), io_layout="nchw")
    assert len({port.tensor for port in (*lowered.graph.inputs, *lowered.graph.outputs)}) == 4
    check_parity(litert, graph, "nchw", first, second, third)


def test_memory_that_litert_shares_is_not_overwritten(litert: LiteRt) -> None:
    graph = Graph((1, 1, 3, 4))
    first = graph.add("Softmax", ["x"], axis=3)
    scaled = graph.add("Mul", [first, graph.constant(np.float32(0.5))])
    flat = graph.add("Reshape", [scaled, graph.integers(4, 3)])
    back = graph.add("Reshape", [graph.add("Softmax", [flat], axis=1), graph.integers(1, 1, 3, 4)])
    check_parity(litert, graph, "nchw", graph.add("Add", [scaled, back]))


def test_an_operator_outside_of_the_table_is_named() -> None:
    graph = Graph((1, 4)).then("Erf")
    with pytest.raises(UnsupportedOpError, match=r"Erf \(node 'Erf_0'\) cannot be lowered to TFLite") as caught:
        lower(graph.model(), io_layout="nhwc")
    assert (caught.value.op, caught.value.node) == ("Erf", "Erf_0")
    assert "target of format onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("op", "more", "attributes", "words"),
    [
        pytest.param("Elu", (), {"alpha": 0.5}, "alpha", id="attribute"),
        pytest.param("Pad", ([1, 1, 1, 1, 1, 1],), {"mode": "reflect"}, "constant padding", id="pad mode"),
        pytest.param("Reshape", ([5, 5],), {}, "shapes do not fit", id="reshape"),
        pytest.param("Squeeze", ([1],), {}, "longer than one", id="squeeze"),
        pytest.param("MaxPool", (), {"kernel_shape": [2], "dilations": [2]}, "dilation", id="dilated pool"),
        pytest.param("AveragePool", (), {"kernel_shape": [3], "pads": [2, 0]}, "count", id="uneven average"),
        pytest.param("MaxPool", (), {"kernel_shape": [9]}, "larger than the padded input", id="window"),
    ],
)
def test_what_tflite_cannot_hold_is_refused_with_the_reason(
    op: str, more: tuple[list[int], ...], attributes: dict[str, object], words: str
) -> None:
    graph = Graph((1, 4, 6))
    graph.then(op, *(graph.integers(*values) for values in more), **attributes)
    with pytest.raises(UnsupportedOpError, match=words) as caught:
        lower(graph.model(), io_layout="nhwc")
    assert caught.value.next_step


def test_a_computed_weight_is_refused() -> None:
    graph = Graph((1, 4, 6))
    graph.add("Conv", ["x", graph.add("Tanh", ["x"])])
    with pytest.raises(UnsupportedOpError, match="its weight is not constant"):
        lower(graph.model(), io_layout="nhwc")


def test_an_open_dimension_besides_the_batch_asks_for_a_shape() -> None:
    graph = Graph(("n", 4, "time")).then("Relu")
    with pytest.raises(CaptureError, match="open dimension") as caught:
        lower(graph.model(), io_layout="nhwc")
    assert "--shape x=" in str(caught.value)


def test_an_operator_has_one_lowering() -> None:
    assert {"Conv", "Gemm", "Softmax"} <= set(supported_operators())
    with pytest.raises(ValueError, match="lowered twice"):
        lowers("Conv")(lambda graph, node: graph.value(node.input(0)))
