from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgepe.errors import UnsupportedOpError
from edgepe.lower.onnx_file import onnx_bytes


def _model(node: onnx.NodeProto, *, opset: int) -> ir.Model:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        value_info=[helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1])],
    )
    return ir.serde.deserialize_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11, producer_version="9.9")
    )


RELU = helper.make_node("Relu", ["x"], ["y"])


def test_opset_and_ir_version_keep_to_what_the_runtime_knows() -> None:
    proto = onnx.load_from_string(onnx_bytes(_model(RELU, opset=22), opset_max=20, ir_max=10))
    assert (proto.opset_import[0].version, proto.ir_version) == (20, 10)
    onnx.checker.check_model(proto)


def test_an_older_graph_stays_as_it_is() -> None:
    proto = onnx.load_from_string(onnx_bytes(_model(RELU, opset=18), opset_max=20, ir_max=10))
    assert proto.opset_import[0].version == 18


def test_a_graph_that_needs_a_newer_runtime_is_told() -> None:
    node = helper.make_node("RMSNormalization", ["x", "x"], ["y"])
    with pytest.raises(UnsupportedOpError, match="opset_version=20"):
        onnx_bytes(_model(node, opset=23), opset_max=20, ir_max=10)


def test_the_bytes_are_the_same_each_time_and_say_nothing_of_the_exporter() -> None:
    data = onnx_bytes(_model(RELU, opset=20))
    assert data == onnx_bytes(_model(RELU, opset=20))
    assert b"9.9" not in data
    assert not onnx.load_from_string(data).graph.value_info
