"""Our int8 ONNX beside onnxruntime.quantization's, on nets trained here on the watch recordings.

Same float graph, same calibration windows, same stand-in for the Pi's arithmetic; scored on people never trained on.
The rival runs its own preprocessing, then static quantization with its best documented settings for the target.
``python -m tests.bench quantize`` prints a table and writes ``.cache/bench/quantize.json``.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from edgepe.capture.captured import Port
from edgepe.capture.torch_module import capture_module
from edgepe.demo.network import watch_net
from edgepe.demo.watch import load_watch, normalization
from edgepe.graph import optimize
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.metrics import metric
from edgepe.quantize.apply_onnx import apply_onnx
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import MinMax, Percentile, collect_ranges
from edgepe.scheme import Precision
from edgepe.target import load_target
from edgepe.verify.run import run_artifact
from edgepe.verify.score import score_artifact
from edgepe.verify.standin import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edgepe.quantize.calibrate import Method

OUT = Path(".cache/bench/quantize.json")
CALIBRATION = 320
BATCH = 32
SEED = 7
STEPS = 200
HEAD = f"{'net':12}{'tool':28}{'bytes':>8}{'of float':>9}{'score':>8}{'drop, points':>24}{'s':>6}{'logit error':>12}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Windows as a net takes them."""

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One artifact of one net."""

    net: str
    tool: str
    bytes: int
    float_bytes: int
    score: float
    drop: float
    drop_low: float
    drop_high: float
    seconds: float
    logit_error: float


class Residual2d(nn.Module):
    """A small residual 2-D net that sees the six channels as rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
        )
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.depth = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU6(),
            nn.Conv2d(32, 64, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [n, 7] of windows [n, 6, 100]."""
        start = self.stem(x.unsqueeze(1))
        return torch.as_tensor(self.head(self.depth(self.down(torch.relu(start + self.block(start))))))


NETS: dict[str, Callable[[], nn.Module]] = {"watch-1d": watch_net, "residual-2d": Residual2d}


class Reader:
    """Feeds the rival the very windows that we calibrate with."""

    def __init__(self, batches: list[dict[str, NDArray[np.float32]]]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch."""
        return next(self._rest, None)


def main() -> None:
    """Measure, print the table, write the JSON."""
    logging.getLogger().setLevel(logging.ERROR)
    split = windows()
    rows = [row for name, make in NETS.items() for row in measure(name, make, split)]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf8")
    sys.stdout.write("\n".join([HEAD, *map(line, rows)]) + "\n")


def line(row: Row) -> str:
    """Return one line of the table."""
    drop = f"{row.drop:+.2f} [{row.drop_low:+.2f}, {row.drop_high:+.2f}]"
    share = f"{100 * row.bytes / row.float_bytes:.0f} %"
    score = f"{row.score:8.4f}{drop:>24}{row.seconds:6.2f}{row.logit_error:12.4f}"
    return f"{row.net:12}{row.tool:28}{row.bytes:8}{share:>9}{score}"


def windows() -> Split:
    """Return training and test windows, normalized."""
    data = load_watch()
    norm = normalization(data.train)
    return Split(
        train_x=norm.apply(data.train.x), train_y=data.train.y, test_x=norm.apply(data.test.x), test_y=data.test.y
    )


def train(make: Callable[[], nn.Module], split: Split) -> nn.Module:
    """Train a net for ``STEPS`` steps."""
    torch.manual_seed(SEED)
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    order = np.random.default_rng(SEED)
    for _ in range(STEPS):
        rows = order.integers(0, len(split.train_x), 64)
        loss = nn.functional.cross_entropy(
            net(torch.from_numpy(split.train_x[rows])), torch.from_numpy(split.train_y[rows])
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return net.eval()


def measure(name: str, make: Callable[[], nn.Module], split: Split) -> Iterator[Row]:
    """Quantize one trained net with each tool and score what comes out."""
    target = load_target("raspberry-pi")
    port = Port(name="x", dtype="float32", shape=(-1, *split.train_x.shape[1:]))
    graph = optimize(capture_module(train(make, split), name=name, inputs=(port,)).model)
    chosen = np.random.default_rng(SEED).choice(len(split.train_x), CALIBRATION, replace=False)
    batches = [{"x": split.train_x[chosen[start : start + BATCH]]} for start in range(0, CALIBRATION, BATCH)]
    makers: dict[str, Callable[[], bytes]] = {
        "edgepe min-max": lambda: ours(graph, batches, MinMax()),
        "edgepe percentile 99.99": lambda: ours(graph, batches, Percentile()),
        "onnxruntime S8S8": lambda: rival(graph, batches, activation=QuantType.QInt8, reduce_range=False),
        "onnxruntime U8S8 reduced": lambda: rival(graph, batches, activation=QuantType.QUInt8, reduce_range=True),
    }
    judge = stand_in(target, Precision.INT8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        float_bytes = path.write_bytes(written(graph))
        twin = run_artifact(path, "onnxruntime", {"x": split.test_x}).outputs
        for tool, make_bytes in makers.items():
            began = time.perf_counter()
            size = path.write_bytes(make_bytes())
            seconds = time.perf_counter() - began
            scored = score_artifact(
                path, judge, {"x": split.test_x}, float_outputs=twin, labels=split.test_y, chosen=metric("accuracy")
            )
            (key,) = twin
            error = scored.run.outputs[key] - twin[key]
            yield Row(
                net=name,
                tool=tool,
                bytes=size,
                float_bytes=float_bytes,
                score=scored.comparison.score,
                drop=scored.comparison.drop,
                drop_low=scored.comparison.low,
                drop_high=scored.comparison.high,
                seconds=seconds,
                logit_error=float(np.sqrt(np.mean(np.square(error))) / np.std(twin[key])),
            )


def ours(graph: ir.Model, batches: list[dict[str, Any]], method: Method) -> bytes:
    """Calibrate, assign, apply and write."""
    target = load_target("raspberry-pi")
    ranges = collect_ranges(graph, batches, method=method)
    return written(apply_onnx(graph, assign(graph, target, ranges=ranges), ranges, target.rules))


def written(graph: ir.Model) -> bytes:
    """Write a graph as a file for the Pi."""
    target = load_target("raspberry-pi")
    return onnx_bytes(graph, opset_max=target.opset_max, ir_max=target.ir_max)


def rival(graph: ir.Model, batches: list[dict[str, Any]], *, activation: QuantType, reduce_range: bool) -> bytes:
    """Preprocess and quantize with onnxruntime.quantization."""
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, made = (str(Path(folder) / name) for name in ("in.onnx", "prepared.onnx", "out.onnx"))
        onnx.save(ir.serde.serialize_model(graph), source)
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            made,
            Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=activation,
            weight_type=QuantType.QInt8,
            reduce_range=reduce_range,
        )
        return Path(made).read_bytes()


if __name__ == "__main__":
    main()
