"""The demo's network dense and compressed, on people never seen: score, size, operations, latency in ONNX Runtime.

Each version's settings run with three seeds, each with a dense twin of its own. The settings were chosen on the
validation people; the test people are opened here only. Neighbouring windows overlap and share a recording, so the
interval of a difference resamples recordings, not windows; it does not cover the choice of people, who are few.
``python -m tests.bench compress`` prints a table and writes ``.cache/bench/compress.json``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnxruntime

from edgepe.capture.captured import Port
from edgepe.capture.torch_module import capture_module
from edgepe.compress import Progress, compress, evaluate, predict
from edgepe.demo.network import FACTORY, watch_net, watch_samples, watch_settings, watch_training_data
from edgepe.demo.watch import load_watch, normalization

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from edgepe.compress import Evaluation
    from edgepe.demo.watch import Windows

SEEDS = (1, 2, 3)
VERSIONS = (1, 2)
RESAMPLES = 2_000
ROUNDS = 400
OUT = Path(".cache/bench/compress.json")
HEAD = (
    f"{'version':>7} {'seed':>4} {'dense':>6} {'small':>6} {'drop [95 %]':>21} {'F1':>13} {'parameters':>13} "
    f"{'MACs':>6} {'onnx bytes':>15} {'us':>13} {'train s':>7}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run: the dense twin and the compressed network on the test people, and the drop in points with interval."""

    version: int
    seed: int
    dense: Evaluation
    small: Evaluation
    drop: float
    low: float
    high: float
    onnx_bytes: tuple[int, int]
    latency_us: tuple[float, float]


def interval(right: NDArray[np.float64], recording: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over windows, resampling whole recordings."""
    names = np.unique(recording)
    sums = np.array([right[recording == name].sum() for name in names])
    counts = np.array([(recording == name).sum() for name in names])
    picked = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[picked].sum(1) / counts[picked].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def latencies_us(files: tuple[Path, Path], window: NDArray[np.float32]) -> tuple[float, float]:
    """Return each file's median time of Python's ``run``, batch 1, one thread, taken in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file in files]
    times: tuple[list[int], list[int]] = ([], [])
    for _ in range(ROUNDS):
        for session, taken in zip(sessions, times, strict=True):
            start = time.perf_counter_ns()
            session.run(None, {"x": window})
            taken.append(time.perf_counter_ns() - start)
    first, second = (median(taken) / 1e3 for taken in times)
    return first, second


def write_dense(model: nn.Module, path: Path) -> None:
    """Write the dense twin as the compressed network is written."""
    captured = capture_module(model, name="dense", inputs=(Port(name="x", dtype="float32", shape=(-1, 6, 100)),))
    path.write_bytes(ir.to_proto(captured.model).SerializeToString(deterministic=True))


def run(version: int, seed: int, folder: Path) -> Row:
    """Compress once and judge it on the test people."""
    data = load_watch()
    scaling = normalization(data.train)
    settings = replace(watch_settings(version), seed=seed)
    training = watch_training_data(data, scaling)
    result = compress(watch_net, training, settings, out=folder / "small", name="watch", factory=FACTORY, report=talk)
    test = watch_samples(data.test, scaling)
    dense, small = predict(result.dense, test.x), predict(result.model, test.x)
    low, high = drop_interval(dense, small, data.test)
    write_dense(result.dense, folder / "dense.onnx")
    files = (folder / "dense.onnx", folder / "small" / "model.onnx")
    before = evaluate(result.dense, test, train_seconds=result.record.before.train_seconds)
    after = evaluate(result.model, test, train_seconds=result.record.after.train_seconds)
    return Row(
        version=version,
        seed=seed,
        dense=before,
        small=after,
        drop=100 * (before.accuracy - after.accuracy),
        low=low,
        high=high,
        onnx_bytes=(files[0].stat().st_size, files[1].stat().st_size),
        latency_us=latencies_us(files, test.x[:1].numpy()),
    )


def drop_interval(dense: NDArray[np.float32], small: NDArray[np.float32], windows: Windows) -> tuple[float, float]:
    """Return the 95 % interval of the drop of accuracy, in points."""
    difference = (dense.argmax(1) == windows.y).astype(np.float64) - (small.argmax(1) == windows.y)
    low, high = interval(difference, windows.recording)
    return 100 * low, 100 * high


def talk(progress: Progress) -> None:
    """Show on one line of the terminal where a run is."""
    where = f"{progress.stage:>9} {progress.epoch:>3}/{progress.epochs:<3}"
    sys.stderr.write(f"\r{where} {progress.parameters:>6} parameters ")


def line(row: Row) -> str:
    """Return one line of the table."""
    dense, small = row.dense, row.small
    drop = f"{row.drop:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
    return (
        f"{row.version:>7} {row.seed:>4} {dense.accuracy:>6.3f} {small.accuracy:>6.3f} {drop:>21} "
        f"{dense.f1:>6.3f} {small.f1:>6.3f} {dense.parameters:>6} {small.parameters:>6} "
        f"{dense.macs / small.macs:>5.1f}x {row.onnx_bytes[0]:>7} {row.onnx_bytes[1]:>7} "
        f"{row.latency_us[0]:>6.0f} {row.latency_us[1]:>6.0f} {small.train_seconds:>7.0f}"
    )


def summary(rows: list[Row], version: int) -> str:
    """Return the mean over the seeds of one version."""
    own = [row for row in rows if row.version == version]
    return (
        f"version {version}: accuracy {fmean(row.dense.accuracy for row in own):.3f} -> "
        f"{fmean(row.small.accuracy for row in own):.3f} (drops {', '.join(f'{row.drop:+.1f}' for row in own)}), "
        f"{fmean(row.dense.parameters / row.small.parameters for row in own):.1f}x fewer parameters, "
        f"{fmean(row.latency_us[0] / row.latency_us[1] for row in own):.1f}x faster"
    )


def main() -> None:
    """Run all, print the table, write the figures."""
    rows = []
    sys.stdout.write(HEAD + "\n")
    for version in VERSIONS:
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(run(version, seed, Path(folder)))
            sys.stderr.write("\r\033[K")
            sys.stdout.write(line(rows[-1]) + "\n")
        sys.stdout.write(summary(rows, version) + "\n")
    sys.stdout.write(f"us: Python run(), batch 1, one thread, onnxruntime {onnxruntime.__version__}, float32, median\n")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    partial = OUT.with_suffix(".part")
    partial.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    partial.replace(OUT)


if __name__ == "__main__":
    main()
