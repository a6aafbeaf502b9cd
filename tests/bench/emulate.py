"""How far each stand-in on this host is from emulated Arm, on nets of many operators.

Needs ``make emulator``. The nets are trained here on the watch recordings, then built for the Pi, the Jetson and
Android at each precision; ≤200 windows of people never trained on run on emulated Arm with no switch set, and on this
host with each switch that a stand-in may use. ``python -m tests.bench emulate`` prints a table and writes
``.cache/bench/emulate.json``; the differences are in logits, beside their spread.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from device_agent.wire.manifest import Golden
from edgepe.capture.captured import Port
from edgepe.capture.torch_module import capture_module
from edgepe.errors import UnsupportedOpError, VerifyError
from edgepe.graph import optimize
from edgepe.quantize.calibrate import Percentile, collect_ranges
from edgepe.scheme import Precision
from edgepe.stages.candidate import make_artifact
from edgepe.target import load_target
from edgepe.verify.emulate import MOST_SAMPLES, compare_outputs, emulated_cpu, run_emulated
from edgepe.verify.emulator.folder import find_emulator
from edgepe.verify.run import run_artifact
from edgepe.verify.standin import INT8
from tests.bench.quantize import BATCH, CALIBRATION, NETS, SEED, Split, train, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from edgepe.stages.candidate import Artifact
    from edgepe.target import Target

    Outputs = Mapping[str, NDArray[np.float32]]

OUT = Path(".cache/bench/emulate.json")
TARGETS = {
    "raspberry-pi-5": (Precision.INT8, Precision.FP32),
    "jetson-orin": (Precision.INT8, Precision.FP16),
    "android-arm64": (Precision.INT8, Precision.FP32),
}
SWITCHES: dict[str, tuple[dict[str, str], ...]] = {
    "onnxruntime": ({}, {"session.qdqisint8allowed": "1"}, {"session.x64quantprecision": "1"}),
    "litert": ({}, {"xnnpack": "0"}),
}
HEAD = (
    f"{'net':13}{'target':16}{'precision':10}{'switch':22}"
    f"{'top-1 same':>11}{'exact':>7}{'largest':>10}{'mean':>10}{'spread':>8}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One artifact, emulated Arm beside this host with one switch."""

    net: str
    target: str
    precision: str
    switch: str
    same_class: float
    exact: float
    largest: float
    mean: float
    spread: float


class Gated(nn.Module):
    """Depthwise blocks with hard swish, a squeeze-and-excite gate, a concatenation and an average pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.Sigmoid()
        )
        self.point = nn.Sequential(nn.Conv2d(32, 48, 1), nn.BatchNorm2d(48), nn.ReLU(), nn.AvgPool2d((1, 2)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [n, 7] of windows [n, 6, 100]."""
        start = self.stem(x.unsqueeze(1))
        deep = self.depth(start)
        return torch.as_tensor(self.head(self.point(torch.cat([start, deep * self.gate(deep)], dim=1))))


class Attention(nn.Module):
    """One block of self-attention with layer norms and GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(60, 32)
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.queries, self.keys, self.values = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [n, 7] of windows [n, 6, 100]."""
        tokens = self.embed(x.reshape(-1, 6, 10, 10).permute(0, 2, 1, 3).reshape(-1, 10, 60))
        seen = self.first(tokens)
        weights = torch.softmax(self.queries(seen) @ self.keys(seen).transpose(1, 2) / 32**0.5, dim=-1)
        tokens = tokens + weights @ self.values(seen)
        tokens = tokens + self.feed(self.second(tokens))
        return torch.as_tensor(self.head(tokens.mean(dim=1)))


ALL_NETS: dict[str, Callable[[], nn.Module]] = {**NETS, "gated-2d": Gated, "attention": Attention}


def main() -> None:
    """Measure, print the table, write the JSON; without the emulated machine say so, and leave it."""
    try:
        find_emulator()
    except VerifyError as error:
        sys.stderr.write(f"emulate: {error}\n")
        return
    split = windows()
    sys.stdout.write(HEAD + "\n")
    rows = []
    for name, make in ALL_NETS.items():
        for row in measure(name, make, split):
            rows.append(row)
            sys.stdout.write(line(row) + "\n")
            sys.stdout.flush()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf8")


def line(row: Row) -> str:
    """Return one line of the table."""
    numbers = f"{row.same_class:11.1%}{row.exact:7.0%}{row.largest:10.2g}{row.mean:10.2g}{row.spread:8.2f}"
    return f"{row.net:13}{row.target:16}{row.precision:10}{row.switch:22}{numbers}"


def measure(name: str, make: Callable[[], nn.Module], split: Split) -> Iterator[Row]:
    """Build one net for each target and precision, and run it on every machine."""
    port = Port(name="x", dtype="float32", shape=(-1, *split.train_x.shape[1:]))
    raw = capture_module(train(make, split), name=name, inputs=(port,))
    captured = replace(raw, model=optimize(raw.model))
    chosen = np.random.default_rng(SEED).choice(len(split.train_x), CALIBRATION, replace=False)
    batches = [{"x": split.train_x[chosen[start : start + BATCH]]} for start in range(0, CALIBRATION, BATCH)]
    ranges = collect_ranges(captured.model, batches, method=Percentile())
    picked = np.linspace(0, len(split.test_x) - 1, MOST_SAMPLES).round().astype(int)
    for title, precisions in TARGETS.items():
        target = load_target(title)
        for precision in precisions:
            try:
                artifact = make_artifact(captured, target, precision, ranges)
            except UnsupportedOpError as error:
                sys.stderr.write(f"{name} on {title}: {error}\n")
                continue
            yield from beside(name, target, artifact, split.test_x[picked])


def beside(name: str, target: Target, artifact: Artifact, x: NDArray[np.float32]) -> Iterator[Row]:
    """Run one artifact on emulated Arm, and with each switch on this host."""
    (edge,) = artifact.inputs
    inputs = {edge.name: np.ascontiguousarray(np.transpose(x, edge.axes))}
    kind = "onnxruntime" if target.format == "onnx" else "litert"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{target.format}"
        path.write_bytes(artifact.data)
        try:
            arm = run_emulated(find_emulator(), path, kind, inputs, cpu=emulated_cpu(target)).outputs
        except VerifyError as error:
            sys.stderr.write(f"{name} on {target.name}, {artifact.precision.value}: {error}\n")
            return
        for switch in SWITCHES[kind] if artifact.precision in INT8 else ({},):
            host = run_artifact(path, kind, inputs, settings=switch).outputs
            title = ", ".join(f"{key.removeprefix('session.')}={value}" for key, value in switch.items())
            yield row_of(arm, host, net=name, target=target, artifact=artifact, switch=title or "none")


def row_of(arm: Outputs, host: Outputs, *, net: str, target: Target, artifact: Artifact, switch: str) -> Row:
    """Compare the two machines' logits."""
    (key,) = arm
    found = compare_outputs(host, arm, Golden(file="", count=len(arm[key]), atol=0.0, rtol=0.0, min_agree=0.0))
    return Row(
        net=net,
        target=target.name,
        precision=artifact.precision.value,
        switch=switch,
        same_class=float((arm[key].argmax(-1) == host[key].argmax(-1)).mean()),
        exact=found.exact,
        largest=found.max_error,
        mean=found.mean_error,
        spread=float(np.ptp(arm[key])),
    )


if __name__ == "__main__":
    main()
