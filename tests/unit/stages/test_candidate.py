from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepe.capture.captured import Captured, Port
from edgepe.errors import UnsupportedOpError
from edgepe.quantize.calibrate import collect_ranges
from edgepe.scheme import Precision, Reason
from edgepe.stages.candidate import make_artifact, whole
from edgepe.target import load_target
from tests.small_graphs import cnn, feeds, graph, normal

PI, JETSON = load_target("raspberry-pi"), load_target("jetson")


def captured(**constants: np.ndarray) -> Captured:
    model = graph(
        "c = Conv(x, w, b) g = GlobalAveragePool(c) f = Flatten(g) y = Gemm<transB=1>(f, v)",
        inputs={"x": ["b", 16, 6, 6]},
        outputs={"y": ["b", 8]},
        constants={"w": normal(16, 16, 3, 3), "b": normal(16), "v": normal(8, 16)} | constants,
    )
    return Captured(
        model=model,
        name="net",
        inputs=(Port(name="x", dtype="float32", shape=(-1, 16, 6, 6)),),
        outputs=(Port(name="y", dtype="float32", shape=(-1, 8)),),
    )


def test_a_channel_whose_scale_was_raised_says_so_in_the_op_table() -> None:
    weight = normal(16, 16, 3, 3)
    weight[3] = 1e-12
    net = captured(w=weight, b=np.full(16, 5.0, np.float32))
    ranges = collect_ranges(net.model, [feeds(net.model)])
    rows = make_artifact(net, PI, Precision.INT8, ranges).schemes
    assert "raised to hold the bias" in next(row.detail for row in rows if row.op == "Conv")
    assert not any("raised" in row.detail for row in rows if row.op != "Conv")


def test_a_small_operator_in_float_leaves_the_artifact_int8() -> None:
    net = captured()
    ranges = collect_ranges(net.model, [feeds(net.model)])
    artifact = make_artifact(net, JETSON, Precision.INT8, ranges)
    assert artifact.precision is Precision.INT8
    assert {row.op for row in artifact.schemes if row.precision is Precision.INT8} == {"Conv"}


def test_much_arithmetic_in_float_makes_it_mixed() -> None:
    model = cnn()
    rules = replace(PI.rules, float_ops=("Conv",))
    ranges = collect_ranges(model, [feeds(model)])
    port = Port(name="x", dtype="float32", shape=(-1, 3, 12, 12))
    net = Captured(model=model, name="n", inputs=(port,), outputs=(Port(name="y", dtype="float32", shape=(-1, 10)),))
    artifact = make_artifact(net, replace(PI, rules=rules), Precision.INT8, ranges)
    assert artifact.precision is Precision.MIXED
    assert {row.reason for row in artifact.schemes if row.op == "Conv"} == {Reason.FLOAT_OP}


def test_an_artifact_without_any_int8_is_refused_by_name_of_the_rule() -> None:
    net = captured()
    ranges = collect_ranges(net.model, [feeds(net.model)])
    rules = replace(PI.rules, float_ops=("Conv", "Gemm"))
    with pytest.raises(UnsupportedOpError, match="the target keeps Conv in float"):
        make_artifact(net, replace(PI, rules=rules), Precision.INT8, ranges)


def test_float_precisions_are_called_what_they_are() -> None:
    assert whole(Precision.FP16, (), cnn()) is Precision.FP16
