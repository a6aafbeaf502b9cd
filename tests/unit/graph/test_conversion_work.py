from __future__ import annotations

from edgepe.graph.work import conversion_work
from edgepe.quantize.assign import assign
from edgepe.scheme import Precision
from edgepe.target import load_target
from tests.small_graphs import cnn

PI = load_target("raspberry-pi")


def test_a_float_graph_converts_nothing() -> None:
    model = cnn()
    assert conversion_work(model, assign(model, PI, precision=Precision.FP32)) == ()


def test_an_int8_graph_converts_its_input_and_its_output() -> None:
    model = cnn()
    assert [work.elements for work in conversion_work(model, assign(model, PI))] == [3 * 12 * 12, 10]


def test_an_operator_in_float_amid_int8_converts_both_sides_of_it() -> None:
    model = cnn()
    schemes = assign(model, PI, precision=Precision.MIXED, float_nodes={"n_c3"})
    converted = [work.elements for work in conversion_work(model, schemes)]
    assert len(converted) > 2
    assert converted[0] == 3 * 12 * 12
    assert 16 * 6 * 6 in converted
