"""Our TFLite on three nets, float and int8: time, memory, bytes, agreement, beside ai-edge-quantizer where it is there.

Each net is lowered in a fresh process, imports not counted, so that the peak of memory is its own.
``python -m tests.bench tflite`` prints a table and writes ``.cache/bench/tflite.json``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgepe.lower.tflite import lower, serialize
from edgepe.lower.tflite.flat import Builtin, count_operators
from edgepe.quantize.apply_tflite import quantize_model
from edgepe.quantize.calibrate import collect_ranges
from edgepe.scheme import OpScheme, Precision, Reason
from edgepe.target import load_target
from tests.litert_child import litert_child
from tests.onnx_graphs import Graph, run_onnx, small_cnn_1d

OUT = Path(".cache/bench/tflite.json")
SAMPLES = 32
PEER = "ai_edge_quantizer"
HEAD = (
    f"{'net':8}{'lower ms':>9}{'calibrate ms':>13}{'int8 ms':>8}{'RSS MB':>7}"
    f"{'float':>8}{'int8':>8}{'peer':>8}{'TR':>3}{'float error':>12}{'int8 SNR dB':>12}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One net; bytes of files, ``peer_bytes`` of the same float file quantized by ai-edge-quantizer."""

    net: str
    lower_ms: float
    calibrate_ms: float
    quantize_ms: float
    rss_mb: float
    float_bytes: int
    int8_bytes: int
    peer_bytes: int | None
    transposes: int
    float_error: float
    int8_snr_db: float


def mlp() -> Graph:
    """Make 784-32-16-10."""
    graph = Graph(("n", 1, 28, 28)).then("Flatten")
    for inner, out in ((784, 32), (32, 16)):
        graph.then("Gemm", graph.weight(out, inner), graph.normal(out, scale=0.1), transB=1).then("Relu")
    return graph.then("Gemm", graph.weight(10, 16), graph.normal(10, scale=0.1), transB=1)


def lenet() -> Graph:
    """Make LeNet-5 with ReLU over 28 x 28."""
    graph = Graph(("n", 1, 28, 28))
    for inner, out, pad in ((1, 6, 2), (6, 16, 0)):
        graph.then("Conv", graph.weight(out, inner, 5, 5), graph.normal(out, scale=0.1), pads=[pad] * 4).then("Relu")
        graph.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.then("Flatten")
    for inner, out in ((400, 120), (120, 84)):
        graph.then("Gemm", graph.weight(out, inner), graph.normal(out, scale=0.1), transB=1).then("Relu")
    return graph.then("Gemm", graph.weight(10, 84), graph.normal(10, scale=0.1), transB=1)


NETS = {"mlp": mlp, "lenet": lenet, "cnn1d": small_cnn_1d}


def measure(name: str) -> Row:
    """Lower, calibrate, quantize and compare one net; runs in a process of its own."""
    graph = NETS[name]()
    model, shape = graph.model(), graph.shapes["x"]
    start = time.perf_counter()
    lowered = lower(model, io_layout="nhwc")
    content = serialize(lowered)
    after_lowering = time.perf_counter()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    samples = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i in range(SAMPLES)]
    before = time.perf_counter()
    ranges = collect_ranges(model, [{"x": x} for x in samples])
    calibrated = time.perf_counter()
    schemes = [
        OpScheme(node=node.name or "", op=node.op_type, precision=Precision.INT8, reason=Reason.TARGET_RULE)
        for node in model.graph
    ]
    quantized = quantize_model(model, ranges, schemes, load_target("android").rules, "nhwc").model
    int8 = serialize(quantized)
    done = time.perf_counter()
    axes = lowered.graph.inputs[0].axes
    feeds = [{"x": np.ascontiguousarray(x.transpose(axes))} for x in samples]
    wanted = np.concatenate([next(iter(run_onnx(model, x).values())) for x in samples])
    with litert_child() as child:
        ours, small = (
            np.concatenate([next(iter(child.run(file, feed)[0].values())) for feed in feeds])
            for file in (content, int8)
        )
    return Row(
        net=name,
        lower_ms=(after_lowering - start) * 1e3,
        calibrate_ms=(calibrated - before) * 1e3,
        quantize_ms=(done - calibrated) * 1e3,
        rss_mb=rss,
        float_bytes=len(content),
        int8_bytes=len(int8),
        peer_bytes=peer_bytes(content, feeds),
        transposes=count_operators(quantized, Builtin.TRANSPOSE),
        float_error=float(np.abs(ours - wanted).max() / np.abs(wanted).max()),
        int8_snr_db=float(10 * np.log10((wanted**2).sum() / ((wanted - small) ** 2).sum())),
    )


def peer_bytes(content: bytes, feeds: list[dict[str, np.ndarray]]) -> int | None:
    """Quantize our float file with ai-edge-quantizer's static int8 recipe; None where it is not installed."""
    if importlib.util.find_spec(PEER) is None:
        return None
    peer, recipe = importlib.import_module(f"{PEER}.quantizer"), importlib.import_module(f"{PEER}.recipe")
    quantizer = peer.Quantizer(bytearray(content), recipe.static_wi8_ai8())
    result = quantizer.calibrate({"serving_default": feeds})
    return len(quantizer.quantize(result).quantized_model)


def main() -> None:
    """Measure every net, print the table and write it."""
    rows = []
    for name in NETS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            rows.append(executor.submit(measure, name).result())
    versions = {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "onnxruntime", "numpy")}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"rows": [asdict(row) for row in rows], "versions": versions}, indent=1) + "\n")
    lines = [HEAD, *map(line, rows)]
    sys.stdout.write("\n".join(lines) + "\n")


def line(row: Row) -> str:
    """Format a row of the table."""
    peer = "-" if row.peer_bytes is None else str(row.peer_bytes)
    return (
        f"{row.net:8}{row.lower_ms:9.1f}{row.calibrate_ms:13.1f}{row.quantize_ms:8.1f}{row.rss_mb:7.0f}"
        f"{row.float_bytes:8}{row.int8_bytes:8}{peer:>8}{row.transposes:3}{row.float_error:12.1e}{row.int8_snr_db:12.1f}"
    )


if __name__ == "__main__":
    main()
