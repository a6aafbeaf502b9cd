"""Random graphs from the operator table: TFLite computes what onnxruntime computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from edgepe.errors import UnsupportedOpError
from edgepe.lower.tflite import lower, serialize
from tests.litert_child import PATHS, LiteRt, litert_child
from tests.onnx_graphs import Graph, random_graphs, run_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.lower.tflite.lowering import IoLayout

RELATIVE = 1e-5
BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def litert() -> Iterator[LiteRt]:
    with litert_child() as child:
        yield child


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """Return the error in units of the output, or of the order-one data where a sum cancels to less."""
    return float(np.abs(got - wanted).max(initial=0.0) / np.abs(wanted).max(initial=1.0))


@BOUNDED
@given(drawn=random_graphs(), io_layout=st.sampled_from(["nchw", "nhwc"]), path=st.sampled_from(PATHS))
def test_a_lowered_graph_computes_what_onnxruntime_computes(
    litert: LiteRt, drawn: tuple[Graph, tuple[str, ...]], io_layout: IoLayout, path: str
) -> None:
    graph, outputs = drawn
    model = graph.model(*outputs)
    x = np.random.default_rng(0).standard_normal(graph.shapes["x"]).astype(np.float32)
    wanted = run_onnx(model, x)
    try:
        lowered = lower(model, io_layout=io_layout)
    except UnsupportedOpError as error:
        event(f"refused: {error.op}")
        return
    port = lowered.graph.inputs[0]
    invokes = litert.run(serialize(lowered), {"x": np.ascontiguousarray(x.transpose(port.axes))}, path=path, times=2)
    for results in invokes:
        for output in lowered.graph.outputs:
            expected = wanted[output.name].transpose(output.axes)
            assert results[output.name].shape == expected.shape
            assert relative_error(results[output.name], expected) <= RELATIVE
