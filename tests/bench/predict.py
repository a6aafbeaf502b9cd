"""How far off predictions are: latency before and after a fit to reports, and memory.

Random convolutional nets of many sizes, float and int8, run on this machine on one thread. The ``generic-x86-64``
profile predicts them; then its cost table is fitted to the even ones and predicts the odd ones, which it never saw.
``python -m tests.bench predict`` prints a table and writes ``.cache/bench/predict.json``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from edgepe.graph import optimize
from edgepe.graph.fit_cost import fit_cost
from edgepe.graph.memory import predict_rss_bytes
from edgepe.graph.reports import Report
from edgepe.graph.work import conversion_work, count_work, load_of, load_us
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.quantize.apply_onnx import apply_onnx
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import collect_ranges
from edgepe.scheme import Precision
from edgepe.target import load_target
from edgepe.verify.run import run_artifact
from tests.onnx_graphs import Graph

if TYPE_CHECKING:
    import onnx_ir as ir

OUT = Path(".cache/bench/predict.json")
NETS = 24
RUNS = 60
SEED = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One artifact: what was measured and what was predicted; ``fitted_us`` only for those left out of the fit."""

    net: int
    precision: str
    macs: int
    median_us: float
    profile_us: float
    fitted_us: float | None
    rss_bytes: int
    predicted_rss_bytes: int


def main() -> None:
    """Measure, fit to the even nets, print how far off the odd ones are, write the JSON."""
    target = load_target("generic-x86-64")
    if target.cost is None:
        sys.exit("the profile has no cost table")
    rng = np.random.default_rng(SEED)
    pairs = [pair for place in range(NETS) for pair in measured(place, net(rng))]
    fit = fit_cost([report for row, report in pairs if row.net % 2 == 0], target.cost)
    rows = [
        Row(**asdict(row) | {"fitted_us": load_us(report.load, fit.cost) if row.net % 2 else None})
        for row, report in pairs
    ]
    held_out = [row for row in rows if row.fitted_us is not None]
    summary = {
        "held_out": len(held_out),
        "profile_error": mean(abs(row.profile_us / row.median_us - 1) for row in held_out),
        "fitted_error": mean(abs((row.fitted_us or 0) / row.median_us - 1) for row in held_out),
        "memory_error": mean(abs(row.predicted_rss_bytes / row.rss_bytes - 1) for row in rows),
        "memory_error_worst": max(abs(row.predicted_rss_bytes / row.rss_bytes - 1) for row in rows),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"summary": summary, "cost": asdict(fit.cost), "rows": [asdict(row) for row in rows]}, indent=1)
    OUT.write_text(text, encoding="utf8")
    heads = ("net", "precision", "MACs", "measured us", "profile us", "fitted us", "RSS MB", "told MB")
    lines = ["".join(f"{head:>12}" for head in heads)]
    lines += [
        f"{row.net:>12}{row.precision:>12}{row.macs:>12}{row.median_us:>12.0f}{row.profile_us:>12.0f}"
        f"{row.fitted_us or 0:>12.0f}{row.rss_bytes / 1e6:>12.0f}{row.predicted_rss_bytes / 1e6:>12.0f}"
        for row in held_out
    ]
    lines.append(", ".join(f"{key} {value:.3g}" for key, value in summary.items()))
    sys.stdout.write("\n".join(lines) + "\n")


def net(rng: np.random.Generator) -> Graph:
    """Draw a net: a stem, a few plain or separable blocks, a dense head."""
    side, width = int(rng.choice([16, 32, 64, 96])), int(rng.choice([8, 16, 32]))
    graph = Graph(("n", 3, side, side), seed=int(rng.integers(1 << 16)))
    graph.then("Conv", graph.weight(width, 3, 3, 3), graph.normal(width), pads=[1] * 4, strides=[2, 2]).then("Relu")
    for _ in range(int(rng.integers(1, 6))):
        wider = int(min(width * rng.choice([1, 2]), 128))
        if rng.random() < 0.5:
            weight = graph.weight(width, 1, 3, 3)
            graph.then("Conv", weight, graph.normal(width), pads=[1] * 4, group=width).then("Relu")
            graph.then("Conv", graph.weight(wider, width, 1, 1), graph.normal(wider)).then("Relu")
        else:
            graph.then("Conv", graph.weight(wider, width, 3, 3), graph.normal(wider), pads=[1] * 4).then("Relu")
        width = wider
    graph.then("GlobalAveragePool").then("Flatten")
    return graph.then("Gemm", graph.weight(10, width), graph.normal(10), transB=1)


def measured(place: int, graph: Graph) -> list[tuple[Row, Report]]:
    """Run one net in float and int8 and return what came out, with the report that a device would send."""
    target, model = load_target("generic-x86-64"), optimize(graph.model())
    shape = [8, *(int(size) for size in graph.input_shape[1:])]
    x = np.random.default_rng(place).normal(size=shape).astype(np.float32)
    ranges = collect_ranges(model, [{"x": x}])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in (Precision.FP32, Precision.INT8):
            schemes = assign(model, target, precision=precision, ranges=ranges)
            made = model if precision is Precision.FP32 else apply_onnx(model, schemes, ranges, target.rules)
            path = Path(folder) / f"{precision}.onnx"
            size = path.write_bytes(written(made))
            run = run_artifact(path, "onnxruntime", {"x": x[:1]}, timings=RUNS, batch=1)
            work = (*count_work(model), *conversion_work(model, schemes))
            load = load_of(work, schemes)
            row = Row(
                net=place,
                precision=str(precision),
                macs=sum(op.macs for op in work),
                median_us=run.median_us or 0.0,
                profile_us=(load_us(load, target.cost) if target.cost else None) or 0.0,
                fitted_us=None,
                rss_bytes=run.rss_bytes,
                predicted_rss_bytes=predict_rss_bytes(model, schemes, file_bytes=size, memory=target.memory) or 0,
            )
            found.append((row, Report(load=load, latency_us=row.median_us, device="host", whole=True)))
    return found


def written(model: ir.Model) -> bytes:
    """Write a graph as a file for the host."""
    target = load_target("generic-x86-64")
    return onnx_bytes(model, opset_max=target.opset_max, ir_max=target.ir_max)


if __name__ == "__main__":
    main()
