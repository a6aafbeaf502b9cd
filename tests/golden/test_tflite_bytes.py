"""The bytes of one small TFLite file, float and int8, are pinned: only a reasoned change of the writer changes them.

After such a change: ``python -m tests.golden.test_tflite_bytes`` writes the files anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepe.lower.tflite import lower, serialize
from edgepe.quantize.apply_tflite import quantize_tflite
from edgepe.quantize.calibrate import Range
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import load_target
from tests.onnx_graphs import Graph

FOLDER = Path(__file__).parent / "tflite"
NAMES = ("tiny.tflite", "tiny_int8.tflite")


def tiny() -> Graph:
    """Make a net of exact numbers: conv, relu, pool, dense."""
    graph = Graph(("n", 2, 5, 4))
    weight = (np.arange(3 * 2 * 2 * 2, dtype=np.float32).reshape(3, 2, 2, 2) - 12) / 8
    graph.then("Conv", graph.constant(weight), graph.constant(np.array([0.5, -0.25, 0], np.float32))).then("Relu")
    graph.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).then("Flatten")
    dense = (np.arange(2 * 6, dtype=np.float32).reshape(2, 6) - 5) / 4
    return graph.then("Gemm", graph.constant(dense), graph.constant(np.array([1, -1], np.float32)), transB=1)


def golden_bytes() -> dict[str, bytes]:
    model = tiny().model()
    schemes = [
        OpScheme(node=node.name or "", op=node.op_type, precision=Precision.INT8, reason=Reason.TARGET_RULE)
        for node in model.graph
    ]
    spans = {"x": (-2, 2), "v0": (-8, 8), "v1": (0, 8), "v2": (0, 8), "v3": (0, 8), "v4": (-16, 32)}
    ranges = {name: Range(low=low, high=high) for name, (low, high) in spans.items()}
    rules = load_target("android").rules
    return {
        "tiny.tflite": serialize(lower(model, io_layout="nhwc")),
        "tiny_int8.tflite": quantize_tflite(model, ranges, schemes, rules, "nhwc"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_writer_writes_the_pinned_bytes(name: str) -> None:
    assert golden_bytes()[name] == (FOLDER / name).read_bytes()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in golden_bytes().items():
        (FOLDER / name).write_bytes(data)
