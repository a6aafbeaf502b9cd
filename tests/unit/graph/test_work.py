from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepe.graph import optimize
from edgepe.graph.work import count_work, predict_us
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import CostRow, CostTable

COST = CostTable(
    source="made up",
    call_us=10,
    op_us=1,
    rows=(
        CostRow(precision=Precision.FP32, macs_per_us=100, elements_per_us=10),
        CostRow(precision=Precision.INT8, macs_per_us=400, elements_per_us=20),
    ),
)


def _net() -> ir.Model:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Sigmoid", ["b"], ["c"], name="sigmoid"),
        helper.make_node("Flatten", ["c"], ["d"], name="flat"),
        helper.make_node("Gemm", ["d", "m"], ["y"], name="gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [
            numpy_helper.from_array(np.ones((4, 3, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones((40, 5), np.float32), "m"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return optimize(ir.serde.deserialize_model(model))


def _schemes(precision: Precision) -> list[OpScheme]:
    return [
        OpScheme(node=op.node, op=op.op, precision=precision, reason=Reason.WHOLE_PRECISION)
        for op in count_work(_net())
    ]


def test_work_is_counted_for_one_sample() -> None:
    counted = {op.op: (op.macs, op.elements) for op in count_work(_net())}
    assert counted == {
        "Conv": (4 * 10 * 3 * 3, 40),
        "Relu": (0, 0),
        "Sigmoid": (0, 40),
        "Flatten": (0, 0),
        "Gemm": (200, 5),
    }


def test_a_prediction_follows_its_formula() -> None:
    assert predict_us(count_work(_net()), _schemes(Precision.FP32), COST) == pytest.approx(
        10 + (1 + 3.6) + (1 + 4) + (1 + 2)
    )
    assert predict_us(count_work(_net()), _schemes(Precision.INT8), COST) == pytest.approx(
        10 + (1 + 0.9) + (1 + 2) + (1 + 0.5)
    )


def test_without_a_table_nothing_is_predicted() -> None:
    assert predict_us(count_work(_net()), [], None) is None
