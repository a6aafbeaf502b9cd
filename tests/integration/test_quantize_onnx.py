"""A trained net, quantized for each ONNX target, and what onnxruntime really makes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgepe.capture.captured import Port
from edgepe.capture.torch_module import capture_module
from edgepe.contract import Contract, Measured
from edgepe.graph import optimize
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.metrics import metric
from edgepe.quantize.apply_onnx import apply_onnx
from edgepe.quantize.assign import assign
from edgepe.quantize.calibrate import Percentile, collect_ranges
from edgepe.quantize.fp16 import to_fp16
from edgepe.quantize.recipe import Activations, Recipe, Remedy
from edgepe.quantize.search import Candidate, search
from edgepe.scheme import Precision
from edgepe.target import Target, load_target
from edgepe.verify.run import run_artifact
from edgepe.verify.score import score_artifact
from edgepe.verify.standin import is_exact, stand_in
from tests.small_graphs import cnn, feeds, graph, normal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgepe.quantize.mixed import Group

FUSED = {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm", "MaxPool", "Flatten"}
ARM = {"session.qdqisint8allowed": "1"}


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images of waves [n, 1, 16, 16] and which of six directions and lengths each has."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 6, count)
    angle = (label % 3)[:, None, None] * np.pi / 3 + rng.normal(0, 0.1, (count, 1, 1))
    length = np.where(label < 3, 4.0, 7.0)[:, None, None]
    rows, columns = np.mgrid[0:16, 0:16]
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    wave = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / length + phase)
    return (wave + rng.normal(0, 0.9, wave.shape))[:, None].astype(np.float32), label


class Net(nn.Module):
    """A small residual net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [n, 6]."""
        start = self.stem(x)
        return torch.as_tensor(self.head(torch.relu(start + self.block(start))))


@dataclass
class Workshop:
    """Builds whole precisions only."""

    build: Callable[[Precision], Candidate[bytes]]

    def candidate(self, recipe: Recipe) -> Candidate[bytes]:
        return self.build(recipe.precision)

    def activations(self) -> tuple[Activations, ...]:
        return (Activations.STATIC,)

    def remedies(self, recipe: Recipe) -> tuple[tuple[tuple[Remedy, ...], float], ...]:
        assert recipe.precision is Precision.INT8
        return ()

    def groups(self, recipe: Recipe) -> tuple[Group, ...]:
        assert recipe.precision is Precision.INT8
        return ()


@pytest.fixture(scope="module")
def trained() -> ir.Model:
    """Return the float graph of a net that was trained for two seconds."""
    torch.manual_seed(3)
    net = Net()
    x, y = (torch.from_numpy(array) for array in stripes(2048, seed=1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(120):
        rows = torch.arange(step * 64, step * 64 + 64) % len(x)
        loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    port = Port(name="x", dtype="float32", shape=(-1, 1, 16, 16))
    return optimize(capture_module(net, name="stripes", inputs=(port,)).model)


def artifact(model: ir.Model, target: Target, precision: Precision) -> bytes:
    """Build the artifact of a precision from 256 calibration samples."""
    x, _ = stripes(256, seed=2)
    ranges = collect_ranges(model, [{"x": x[start : start + 64]} for start in range(0, 256, 64)], method=Percentile())
    schemes = assign(model, target, precision=precision, ranges=ranges)
    if precision is Precision.INT8:
        model = apply_onnx(model, schemes, ranges, target.rules)
    elif precision is Precision.FP16:
        model = to_fp16(model, schemes)
    return onnx_bytes(model, opset_max=target.opset_max, ir_max=target.ir_max)


def optimized_ops(data: bytes, path: Path, settings: dict[str, str]) -> Counter[str]:
    """Return the operators of the graph that onnxruntime would run."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raspberry-pi", "jetson", "generic"])
def test_int8_of_a_trained_net_is_small_and_as_good_as_float(trained: ir.Model, tmp_path: Path, name: str) -> None:
    target = load_target(name)
    x, y = stripes(600, seed=9)
    twin, path = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    float_bytes = twin.write_bytes(onnx_bytes(trained))
    small = path.write_bytes(artifact(trained, target, Precision.INT8))
    judge = stand_in(target, Precision.INT8)
    assert is_exact(judge)
    outputs = run_artifact(twin, "onnxruntime", {"x": x}).outputs
    scored = score_artifact(path, judge, {"x": x}, float_outputs=outputs, labels=y, chosen=metric("accuracy"))
    assert scored.comparison.float_score > 0.85
    assert scored.comparison.drop < 1.5
    assert small < 0.6 * float_bytes


@pytest.mark.slow
def test_the_search_falls_back_from_int8_to_what_holds_the_contract(trained: ir.Model, tmp_path: Path) -> None:
    target = load_target("jetson")
    x, _ = stripes(300, seed=9)
    twin = tmp_path / "float.onnx"
    twin.write_bytes(onnx_bytes(trained))
    outputs = run_artifact(twin, "onnxruntime", {"x": x}).outputs
    (name,) = outputs
    labels = outputs[name]  # the float logits themselves: an error metric that int8 cannot keep

    def build(precision: Precision) -> Candidate[bytes]:
        path = tmp_path / f"{precision}.onnx"
        data = artifact(trained, target, precision)
        path.write_bytes(data)
        scored = score_artifact(
            path,
            stand_in(target, precision),
            {"x": x},
            float_outputs={name: outputs[name] + 0.1},
            labels=labels,
            chosen=metric("mae"),
        )
        drop = 100 * scored.comparison.score
        return Candidate(artifact=data, measured=Measured(drop=drop, bytes=len(data), latency_us=None))

    found = search(target.precisions, Contract(metric="mae", max_drop=1.0), Workshop(build))
    assert found.attempt.precision is Precision.FP16
    assert [attempt.held for attempt in found.attempts] == [False, True]


def test_every_operator_of_the_pis_graph_runs_in_int8(tmp_path: Path) -> None:
    model, target = cnn(), load_target("raspberry-pi")
    ranges = collect_ranges(model, [feeds(model)])
    data = onnx_bytes(apply_onnx(model, assign(model, target, ranges=ranges), ranges, target.rules))
    counts = optimized_ops(data, tmp_path / "optimized.onnx", ARM)
    assert set(counts) == FUSED | {"QuantizeLinear", "DequantizeLinear"}
    assert counts["QLinearConv"] == 3
    assert counts["QuantizeLinear"] == counts["DequantizeLinear"] == 1


def test_the_pis_graph_also_loads_in_the_exact_mode_of_plain_x86(tmp_path: Path) -> None:
    model, target = cnn(), load_target("raspberry-pi")
    inputs = feeds(model)
    ranges = collect_ranges(model, [inputs])
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(apply_onnx(model, assign(model, target, ranges=ranges), ranges, target.rules)))
    exact, own = (
        run_artifact(path, "onnxruntime", inputs, settings=settings).outputs["y"]
        for settings in ({"session.x64quantprecision": "1"}, ARM)
    )
    np.testing.assert_allclose(exact, own, atol=2 * np.abs(own).max() / 255)


@pytest.mark.parametrize(
    ("op", "fused"),
    [
        ("Sigmoid(c)", "QLinearSigmoid"),
        ("LeakyRelu(c)", "QLinearLeakyRelu"),
        ("Mul(c, c)", "QLinearMul"),
        ("Concat<axis=1>(c, c)", "QLinearConcat"),
        ("Add(c, k)", "QLinearAdd"),
        ("AveragePool<kernel_shape=[2,2]>(c)", "QLinearAveragePool"),
    ],
    ids=lambda text: text.split("(")[0],
)
def test_what_the_rules_call_int8_fuses_in_onnxruntime(tmp_path: Path, op: str, fused: str) -> None:
    model = graph(
        f"c = Conv(x, w) y = {op}",
        inputs={"x": ["b", 8, 6, 6]},
        outputs={"y": ["b", "c", "h", "w"]},
        constants={"w": normal(8, 8, 3, 3), "k": normal(1, 8, 1, 1)},
    )
    target = load_target("raspberry-pi")
    ranges = collect_ranges(model, [feeds(model)])
    data = onnx_bytes(apply_onnx(model, assign(model, target, ranges=ranges), ranges, target.rules))
    counts = optimized_ops(data, tmp_path / "optimized.onnx", ARM)
    assert counts["QLinearConv"] == counts[fused] == 1
    assert counts["DequantizeLinear"] == 1


@pytest.mark.parametrize("settings", [{}, ARM, {"session.x64quantprecision": "1"}], ids=["plain", "arm", "exact"])
def test_an_operator_given_back_to_float_keeps_its_float_weights(tmp_path: Path, settings: dict[str, str]) -> None:
    body = "c = Conv(x, w) r = Relu(c) d = Conv(r, v, b) e = Conv(d, u) f = Flatten(e) y = Gemm<transB=1>(f, g)"
    outlier = normal(8, 8, 3, 3, seed=1)
    outlier[0, 0, 0, 0] = 3000.0
    constants = {"w": normal(8, 8, 3, 3), "v": outlier, "b": normal(8), "u": normal(8, 8, 2, 2), "g": normal(4, 72)}
    model = graph(body, inputs={"x": ["b", 8, 8, 8]}, outputs={"y": ["b", 4]}, constants=constants)
    target = load_target("raspberry-pi")
    ranges = collect_ranges(model, [feeds(model)])
    schemes = assign(model, target, ranges=ranges, precision=Precision.MIXED, float_nodes={"n_d"})
    data = onnx_bytes(apply_onnx(model, schemes, ranges, target.rules))
    counts = optimized_ops(data, tmp_path / "optimized.onnx", settings)
    assert counts["QLinearConv"] <= 2
    assert counts["Conv"] + counts["FusedConv"] >= 1
    float_weights = [
        w for w in onnx.load(tmp_path / "optimized.onnx").graph.initializer if list(w.dims) == [8, 8, 3, 3]
    ]
    assert [w.data_type for w in float_weights].count(onnx.TensorProto.FLOAT) == 1
