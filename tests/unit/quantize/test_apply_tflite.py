from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgepe.errors import DataError, UnsupportedOpError
from edgepe.lower.tflite import lower, serialize
from edgepe.lower.tflite.flat import Builtin, DType, Model, Operator, Tensor
from edgepe.quantize.apply_tflite import Quantized, quantize_model, quantize_tflite
from edgepe.quantize.calibrate import Range, collect_ranges
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import load_target
from tests.litert_child import PATHS, LiteRt, litert_child
from tests.onnx_graphs import Graph, run_onnx, small_cnn, small_cnn_1d, small_mlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import onnx_ir as ir

    from edgepe.lower.tflite.lowering import IoLayout

RULES = load_target("android").rules
NETS = [pytest.param(net, id=net.__name__) for net in (small_mlp, small_cnn_1d, small_cnn)]


@pytest.fixture(scope="module")
def litert() -> Iterator[LiteRt]:
    with litert_child() as child:
        yield child


def samples(graph: Graph, count: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(graph.shapes["x"]).astype(np.float32) for _ in range(count)]


def rows(model: ir.Model, *floats: str) -> tuple[OpScheme, ...]:
    return tuple(
        OpScheme(
            node=node.name or "",
            op=node.op_type,
            precision=Precision.FP32 if node.name in floats else Precision.INT8,
            reason=Reason.TARGET_RULE,
        )
        for node in model.graph
    )


def quantized(graph: Graph, *floats: str, io_layout: IoLayout = "nhwc", outputs: tuple[str, ...] = ()) -> Quantized:
    model = graph.model(*outputs)
    ranges = collect_ranges(model, [{"x": x} for x in samples(graph)])
    return quantize_model(model, ranges, rows(model, *floats), RULES, io_layout)


def made_by(model: Model, builtin: Builtin) -> tuple[Operator, tuple[Tensor, ...], Tensor]:
    """Return the first operator of a kind with its input tensors and its output."""
    operator = next(o for o in model.graph.operators if o.builtin is builtin)
    tensors = model.graph.tensors
    return operator, tuple(tensors[i] for i in operator.inputs), tensors[operator.outputs[0]]


def snr_db(litert: LiteRt, graph: Graph, made: Quantized, path: str) -> float:
    signal = noise = 0.0
    port, output = made.model.graph.inputs[0], made.model.graph.outputs[0]
    content = serialize(made.model)
    for x in samples(graph, 8):
        wanted = next(iter(run_onnx(graph.model(), x).values())).transpose(output.axes)
        feeds = {"x": np.ascontiguousarray(x.transpose(port.axes))}
        got = next(iter(litert.run(content, feeds, path=path)[0].values()))
        signal, noise = signal + float((wanted**2).sum()), noise + float(((wanted - got) ** 2).sum())
    return 10 * float(np.log10(signal / noise))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("net", NETS)
def test_an_int8_net_keeps_the_float_nets_outputs(litert: LiteRt, net: Callable[[], Graph], path: str) -> None:
    graph = net()
    assert snr_db(litert, graph, quantized(graph), path) >= 28


@pytest.mark.parametrize("net", NETS)
def test_a_net_is_int8_throughout_with_float_edges(net: Callable[[], Graph]) -> None:
    made = quantized(net())
    graph = made.model.graph
    assert {row.precision for row in made.schemes} == {Precision.INT8}
    assert graph.operators[0].builtin is Builtin.QUANTIZE
    assert graph.operators[-1].builtin is Builtin.DEQUANTIZE
    ports = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    assert all(
        (tensor.dtype is DType.FLOAT32) == (i in ports)
        for i, tensor in enumerate(graph.tensors)
        if tensor.dtype is not DType.INT32
    )
    assert sum(o.builtin in {Builtin.QUANTIZE, Builtin.DEQUANTIZE} for o in graph.operators) == 2


@pytest.mark.parametrize("net", NETS)
def test_an_int8_file_has_no_transpose_and_is_smaller(net: Callable[[], Graph]) -> None:
    graph = net()
    made = quantized(graph)
    assert Builtin.TRANSPOSE not in {o.builtin for o in made.model.graph.operators}
    assert len(serialize(made.model)) < len(serialize(lower(graph.model(), io_layout="nhwc")))


def test_the_same_input_gives_the_same_bytes() -> None:
    assert serialize(quantized(small_cnn()).model) == serialize(quantized(small_cnn()).model)


@pytest.mark.parametrize(
    ("builtin", "axis"), [(Builtin.CONV_2D, 0), (Builtin.DEPTHWISE_CONV_2D, 3), (Builtin.FULLY_CONNECTED, 0)]
)
def test_weights_are_symmetric_and_biases_follow_them(builtin: Builtin, axis: int) -> None:
    _, (data, weight, bias), _ = made_by(quantized(small_cnn()).model, builtin)
    assert weight.quantization is not None
    assert data.quantization is not None
    assert bias.quantization is not None
    assert weight.data is not None
    assert (weight.dtype, bias.dtype) == (DType.INT8, DType.INT32)
    assert (weight.quantization.axis, weight.quantization.zero_point) == (axis, 0)
    assert len(weight.quantization.scale) == weight.shape[axis]
    assert int(np.abs(weight.data.astype(int)).max()) == 127
    scales = np.float32(data.quantization.scale[0]) * np.asarray(weight.quantization.scale, np.float32)
    np.testing.assert_array_equal(np.asarray(bias.quantization.scale, np.float32), scales)


@pytest.mark.parametrize(
    ("op", "builtin", "scale", "zero_point"),
    [
        ("Softmax", Builtin.SOFTMAX, 1 / 256, -128),
        ("Sigmoid", Builtin.LOGISTIC, 1 / 256, -128),
        ("Tanh", Builtin.TANH, 1 / 128, 0),
    ],
)
def test_bounded_functions_write_at_fixed_parameters(op: str, builtin: Builtin, scale: float, zero_point: int) -> None:
    _, _, output = made_by(quantized(Graph((1, 5)).then(op)).model, builtin)
    assert output.quantization is not None
    assert (output.quantization.scale, output.quantization.zero_point) == ((scale,), zero_point)


def test_operators_that_move_data_keep_its_scale() -> None:
    graph = Graph((1, 4, 8, 6))
    graph.then("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    start = graph.last
    graph.add("Concat", [start, graph.add("Mul", [start, graph.constant(np.float32(3))])], axis=1)
    graph.then("Transpose", perm=[0, 3, 1, 2]).then("Flatten")
    made = quantized(graph).model.graph
    int8 = {t.quantization for t in made.tensors if t.dtype is DType.INT8 and t.data is None}
    assert len(int8) == 1


def test_a_sigmoid_that_meets_wider_data_is_requantized_there(litert: LiteRt) -> None:
    graph = Graph((1, 2, 8, 6))
    gate = graph.add("Sigmoid", ["x"])
    wide = graph.add("Mul", ["x", graph.constant(np.float32(20))])
    graph.add("Concat", [gate, wide], axis=1)
    made = quantized(graph)
    kinds = [o.builtin for o in made.model.graph.operators]
    assert kinds.count(Builtin.QUANTIZE) == 2
    for path in PATHS:
        assert snr_db(litert, graph, made, path) >= 35


def test_a_dead_channel_keeps_its_bias(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    weight = graph.rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    weight[1] = 0
    weight[2] *= 1e-12
    bias = np.array([0.1, 3.0, -2.0, 0.0], np.float32)
    graph.add("Conv", ["x", graph.constant(weight), graph.constant(bias)])
    made = quantized(graph)
    for path in PATHS:
        assert snr_db(litert, graph, made, path) >= 35


def test_a_value_that_was_always_zero_stays_zero(litert: LiteRt) -> None:
    graph = Graph((1, 3, 6, 5))
    zero = graph.add("Conv", ["x", graph.constant(np.zeros((3, 3, 1, 1), np.float32))])
    graph.add("Add", [zero, "x"])
    made = quantized(graph)
    for path in PATHS:
        assert snr_db(litert, graph, made, path) >= 35


def test_a_float_operator_gets_its_input_back_in_float(litert: LiteRt) -> None:
    graph = small_cnn_1d()
    made = quantized(graph, "Conv_3")
    kinds = [o.builtin for o in made.model.graph.operators]
    assert kinds.count(Builtin.QUANTIZE) == 2
    assert kinds.count(Builtin.DEQUANTIZE) == 2
    assert {row.node for row in made.schemes if row.precision is Precision.FP32} == {"Conv_3"}
    assert snr_db(litert, graph, made, "xnnpack") >= 28


def test_what_is_fused_into_a_float_operator_is_reported_as_float() -> None:
    made = quantized(small_cnn_1d(), "Conv_0")
    row = next(row for row in made.schemes if row.node == "Relu_1")
    assert (row.precision, row.reason) == (Precision.FP32, Reason.FOLLOWS_INPUT)
    assert "Conv_0" in row.detail


def test_an_operator_without_an_int8_kernel_is_reported(litert: LiteRt) -> None:
    graph = Graph((1, 4, 6))
    graph.then("Sigmoid").then("Sqrt").then("Tanh")
    made = quantized(graph)
    row = next(row for row in made.schemes if row.op == "Sqrt")
    assert (row.precision, row.reason) == (Precision.FP32, Reason.NO_INT8_KERNEL)
    assert snr_db(litert, graph, made, "builtin") >= 28


def test_bytes_without_rows_never_hide_a_float_operator() -> None:
    graph = Graph((1, 4, 6))
    graph.then("Sigmoid").then("Sqrt")
    model = graph.model()
    ranges = collect_ranges(model, [{"x": x} for x in samples(graph)])
    with pytest.raises(UnsupportedOpError, match=r"Sqrt .* cannot be int8"):
        quantize_tflite(model, ranges, rows(model), RULES, "nhwc")
    assert quantize_tflite(model, ranges, rows(model, "Sqrt_1"), RULES, "nhwc")[4:8] == b"TFL3"


def test_a_value_that_was_not_calibrated_is_named() -> None:
    graph = Graph((1, 4, 6)).then("Relu")
    model = graph.model()
    ranges: Mapping[str, Range] = {"x": Range(low=-1, high=1)}
    with pytest.raises(DataError, match="'v0' shall be int8 but was not calibrated"):
        quantize_model(model, ranges, rows(model), RULES, "nhwc")


def test_half_precision_is_refused() -> None:
    model = Graph((1, 4, 6)).then("Relu").model()
    schemes = [OpScheme(node="Relu_0", op="Relu", precision=Precision.FP16, reason=Reason.WHOLE_PRECISION)]
    with pytest.raises(UnsupportedOpError, match="cannot be fp16"):
        quantize_model(model, {}, schemes, RULES, "nhwc")
