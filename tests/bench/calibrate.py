"""Calibration: which method fits which tensor, and what a large net costs.

1. Two nets trained on the watch recordings: SQNR of int8 outputs beside the float ones, on people never seen, for each
   method and target; and per activation, which method's range rounds held-out values best.
2. 500 samples of a 224x224 MobileNetV2: seconds and peak memory in a process of its own (imports not counted in the
   seconds, counted in the memory), beside onnxruntime.quantization's MinMax calibrator on the same batches.

``python -m tests.bench calibrate`` prints tables and writes ``.cache/bench/calibrate.json``.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgepe.quantize.calibrate import Method, Ranges

OUT = Path(".cache/bench/calibrate.json")
NET = Path(".cache/bench/mobilenet-v2-224.onnx")
IMAGES = Path(".cache/bench/images-500x224.npy")
SAMPLES = 500
SIDE = 224
TARGETS = ("raspberry-pi-5", "jetson-orin", "generic-x86-64")
SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """SQNR of the int8 outputs of one net, per target, and how many activations a method fits best."""

    net: str
    method: str
    sqnr_db: dict[str, float]
    tensors_won: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What calibrating the large net took."""

    tool: str
    batch: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    values: int


def main() -> None:
    """Measure, print the tables, write the JSON."""
    qualities = list(compare_methods())
    prepare_large()
    tools = ("edgepe min-max", "edgepe percentile", "edgepe entropy", "edgepe mse", "onnxruntime min-max")
    costs = [in_child(tool) for tool in tools]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(
        json.dumps({"methods": [asdict(row) for row in qualities], "large": [asdict(row) for row in costs]}, indent=1),
        encoding="utf8",
    )
    lines = [f"{'net':12}{'method':12}" + "".join(f"{target:>16}" for target in TARGETS) + f"{'tensors won':>13}"]
    for row in qualities:
        cells = "".join(f"{row.sqnr_db[target]:>13.2f} dB" for target in TARGETS)
        lines.append(f"{row.net:12}{row.method:12}{cells}{row.tensors_won:>13}")
    lines.append(f"\n{'tool':22}{'batch':>6}{'seconds':>9}{'CPU s':>7}{'peak MB':>9}{'values':>8}")
    lines += [
        f"{row.tool:22}{row.batch:>6}{row.seconds:>9.1f}{row.cpu_seconds:>7.1f}{row.peak_mb:>9.0f}{row.values:>8}"
        for row in costs
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def compare_methods() -> Iterator[Quality]:
    """Train the nets, calibrate by each method, and compare on people never seen."""
    from edgepe.capture.captured import Port  # noqa: PLC0415 - the children of the second part must not import torch
    from edgepe.capture.torch_module import capture_module  # noqa: PLC0415 - likewise
    from edgepe.graph import optimize  # noqa: PLC0415 - likewise
    from edgepe.quantize.calibrate import METHODS, collect_ranges  # noqa: PLC0415 - likewise
    from tests.bench.quantize import BATCH, CALIBRATION, NETS, train, windows  # noqa: PLC0415 - likewise

    split = windows()
    chosen = np.random.default_rng(SEED).choice(len(split.train_x), CALIBRATION, replace=False)
    batches = [{"x": split.train_x[chosen[start : start + BATCH]]} for start in range(0, CALIBRATION, BATCH)]
    for name, make in NETS.items():
        port = Port(name="x", dtype="float32", shape=(-1, *split.train_x.shape[1:]))
        graph = optimize(capture_module(train(make, split), name=name, inputs=(port,)).model)
        ranges = {key: collect_ranges(graph, batches, method=method) for key, method in METHODS.items()}
        won = winners(graph, ranges, split.test_x)
        for key, found in ranges.items():
            decibels = {target: output_sqnr(graph, found, target, split.test_x) for target in TARGETS}
            yield Quality(net=name, method=key, sqnr_db=decibels, tensors_won=won[key])


def winners(graph: ir.Model, ranges: dict[str, Ranges], x: NDArray[np.float32]) -> Counter[str]:
    """Count, per method, the activations whose held-out values its range rounds with the least squared error."""
    from edgepe.quantize.affine import asymmetric, dequantize, quantize  # noqa: PLC0415 - as above
    from edgepe.quantize.observe import ObservedGraph  # noqa: PLC0415 - as above

    won: Counter[str] = Counter()
    for told in ObservedGraph(graph, bins=1).observe({"x": x}):
        values = told.values
        if values is None or told.low == told.high:
            continue
        errors = {
            key: float(np.square(dequantize(quantize(values, affine), affine) - values).mean())
            for key, found in ranges.items()
            for affine in [asymmetric(found[told.name])]
        }
        won[min(errors, key=lambda key: errors[key])] += 1
    return won


def output_sqnr(graph: ir.Model, ranges: Ranges, name: str, x: NDArray[np.float32]) -> float:
    """Return the signal-to-quantization-noise ratio of the outputs on a target's stand-in, dB."""
    from edgepe.lower.onnx_file import onnx_bytes  # noqa: PLC0415 - as above
    from edgepe.quantize.apply_onnx import apply_onnx  # noqa: PLC0415 - as above
    from edgepe.quantize.assign import assign  # noqa: PLC0415 - as above
    from edgepe.scheme import Precision  # noqa: PLC0415 - as above
    from edgepe.target import load_target  # noqa: PLC0415 - as above
    from edgepe.verify.run import run_artifact  # noqa: PLC0415 - as above
    from edgepe.verify.standin import stand_in  # noqa: PLC0415 - as above

    target = load_target(name)
    judge = stand_in(target, Precision.INT8)
    made = apply_onnx(graph, assign(graph, target, precision=Precision.INT8, ranges=ranges), ranges, target.rules)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(onnx_bytes(graph))
        wanted = next(iter(run_artifact(path, "onnxruntime", {"x": x}).outputs.values()))
        path.write_bytes(onnx_bytes(made, opset_max=target.opset_max, ir_max=target.ir_max))
        run = run_artifact(path, judge.kind, {"x": x}, settings=dict(judge.settings))
    got = next(iter(run.outputs.values()))
    return float(10 * np.log10(np.square(wanted).mean() / np.square(wanted - got).mean()))


def prepare_large() -> None:
    """Write the large net and its images, once."""
    NET.parent.mkdir(parents=True, exist_ok=True)
    if not IMAGES.exists():
        rng = np.random.default_rng(SEED)
        coarse = rng.integers(0, 256, (SAMPLES, 3, SIDE // 16, SIDE // 16))
        smooth = np.kron(coarse, np.ones((1, 1, 16, 16))) + rng.normal(0, 12, (SAMPLES, 3, SIDE, SIDE))
        np.save(IMAGES, np.clip(smooth, 0, 255).astype(np.uint8))
    if not NET.exists():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(write_mobilenet, str(NET)).result()


def write_mobilenet(path: str) -> None:
    """Write MobileNetV2 (Sandler et al. 2018, table 2) with random weights, batch open, BatchNorm folded."""
    from edgepe.capture.captured import Port  # noqa: PLC0415 - torch, only here
    from edgepe.capture.torch_module import capture_module  # noqa: PLC0415 - torch, only here
    from edgepe.graph import optimize  # noqa: PLC0415 - torch, only here
    from tests.bench.nets.mobilenet import mobilenet_v2  # noqa: PLC0415 - torch, only here

    port = Port(name="x", dtype="float32", shape=(-1, 3, SIDE, SIDE))
    net = capture_module(mobilenet_v2(SEED), name="mobilenet-v2", inputs=(port,))
    ir.save(optimize(net.model), path)  # with its shapes, from which batches are chosen


def in_child(tool: str) -> Cost:
    """Calibrate the large net in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_large, tool).result()


def measure_large(tool: str) -> Cost:
    """Calibrate the large net with one tool; call in a process of its own."""
    from edgepe.quantize.batching import batch_size  # noqa: PLC0415 - each child imports what its tool needs
    from edgepe.quantize.calibrate import METHODS  # noqa: PLC0415 - likewise

    model = ir.load(NET)
    batch = batch_size(model)
    ours, _, name = tool.partition(" ")
    began, began_cpu = time.perf_counter(), time.process_time()
    values = calibrate_ours(model, METHODS[name], batch) if ours == "edgepe" else calibrate_rival(batch)
    return Cost(
        tool=tool,
        batch=batch,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - began_cpu,
        peak_mb=peak_bytes() / 1e6,
        values=values,
    )


def calibrate_ours(model: ir.Model, method: Method, batch: int) -> int:
    """Return how many values got a range."""
    from edgepe.quantize.calibrate import collect_ranges  # noqa: PLC0415 - as above

    return len(collect_ranges(model, images(batch), method=method))


def calibrate_rival(batch: int) -> int:
    """Return how many values onnxruntime.quantization has ranges of."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            NET,
            None,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Feed(batch))
        return len(calibrator.compute_data().data)


class Feed:
    """Feeds the rival the very batches that we calibrate with."""

    def __init__(self, batch: int) -> None:
        self._rest = images(batch)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch."""
        return next(self._rest, None)


def images(batch: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the images from disk, normalized, a batch at a time."""
    stored = np.load(IMAGES, mmap_mode="r")
    for start in range(0, SAMPLES, batch):
        yield {"x": (stored[start : start + batch].astype(np.float32) - np.float32(118)) / np.float32(59)}


def peak_bytes() -> int:
    """Return the peak of this process's resident memory."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmHWM"))


if __name__ == "__main__":
    main()
