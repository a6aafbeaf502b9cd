"""Random graphs in int8: they run on both paths of LiteRT, stay near the float graph, and no op is silently float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepe.lower.tflite import serialize
from edgepe.lower.tflite.flat import Builtin, DType
from edgepe.quantize.apply_tflite import quantize_model
from edgepe.quantize.calibrate import collect_ranges
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import load_target
from tests.litert_child import PATHS, LiteRt, litert_child
from tests.onnx_graphs import Graph, random_graphs, run_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUNDED = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
RULES = load_target("android").rules
EDGES = {Builtin.QUANTIZE, Builtin.DEQUANTIZE}


@pytest.fixture(scope="module")
def litert() -> Iterator[LiteRt]:
    with litert_child() as child:
        yield child


@BOUNDED
@given(drawn=random_graphs(batches=(1,), max_steps=5), path=st.sampled_from(PATHS))
def test_an_int8_graph_runs_and_stays_near_the_float_graph(
    litert: LiteRt, drawn: tuple[Graph, tuple[str, ...]], path: str
) -> None:
    graph, outputs = drawn
    model = graph.model(*outputs)
    samples = [np.random.default_rng(i).standard_normal(graph.shapes["x"]).astype(np.float32) for i in range(4)]
    ranges = collect_ranges(model, [{"x": x} for x in samples])
    schemes = [
        OpScheme(node=node.name or "", op=node.op_type, precision=Precision.INT8, reason=Reason.TARGET_RULE)
        for node in model.graph
    ]
    made = quantize_model(model, ranges, schemes, RULES, "nchw")
    int8 = {row.node for row in made.schemes if row.precision is Precision.INT8}
    for operator in made.model.graph.operators:
        written = made.model.graph.tensors[operator.outputs[0]].dtype
        assert operator.builtin in EDGES or not operator.nodes or (written is DType.INT8) == (operator.nodes[0] in int8)
    got = litert.run(serialize(made.model), {"x": samples[0]}, path=path)[0]
    for name, wanted in run_onnx(model, samples[0]).items():
        spans = [r.high - r.low for r in ranges.values()]
        step = max([*spans, 1.0]) / 255
        # Every operator may add a few steps of the widest range, and a sum over all elements as many as it adds.
        assert np.abs(got[name] - wanted).max(initial=0.0) <= 4 * step * len(graph.nodes) * max(wanted.size, 8)
