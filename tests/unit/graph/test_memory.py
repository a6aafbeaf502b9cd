from __future__ import annotations

import onnx_ir as ir

from edgepe.graph import optimize
from edgepe.graph.memory import activation_peak_bytes, predict_rss_bytes
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import MemoryTable
from tests.onnx_graphs import Graph


def chain() -> ir.Model:
    """Return x [1, 2, 8] → Conv to 6 channels → Relu → Conv to 3 channels, 8 places each."""
    graph = Graph((1, 2, 8))
    graph.then("Conv", graph.weight(6, 2, 1)).then("Relu")
    return optimize(graph.then("Conv", graph.weight(3, 6, 1)).model())


def at(model: ir.Model, precision: Precision) -> list[OpScheme]:
    """Return schemes that put every operator at one precision."""
    return [
        OpScheme(node=str(node.name), op=node.op_type, precision=precision, reason=Reason.WHOLE_PRECISION)
        for node in model.graph
    ]


def test_what_lives_at_once_is_the_widest_pair() -> None:
    model = chain()
    assert activation_peak_bytes(model, []) == 4 * 8 * (6 + 3)
    assert activation_peak_bytes(model, at(model, Precision.INT8)) == 4 * 8 * 2 + 8 * 6  # the input is float32


def test_a_value_that_is_read_again_later_stays() -> None:
    graph = Graph((1, 4, 8))
    start = graph.last
    for _ in range(3):
        graph.then("Conv", graph.weight(4, 4, 1))
    graph.add("Add", [graph.last, start])
    assert activation_peak_bytes(optimize(graph.model()), []) == 4 * 8 * 4 * 3


def test_memory_is_predicted_from_file_activations_and_operators() -> None:
    model, memory = chain(), MemoryTable(source="made up", runtime_bytes=1000)
    small = predict_rss_bytes(model, [], file_bytes=500, memory=memory)
    large = predict_rss_bytes(model, [], file_bytes=1500, memory=memory)
    assert small is not None
    assert large is not None
    assert large - small == 2000
    assert small > 1000 + 1000 + 4 * 8 * 9


def test_no_memory_is_predicted_where_the_profile_knows_nothing() -> None:
    assert predict_rss_bytes(chain(), [], file_bytes=1, memory=None) is None
