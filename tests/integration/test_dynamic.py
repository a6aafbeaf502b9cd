"""Transformers and recurrent nets from torch: dynamic int8, int8 weights, and what onnxruntime makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgepe.capture.captured import Captured, Port
from edgepe.capture.torch_module import capture_module
from edgepe.graph import optimize
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.quantize.calibrate import collect_ranges
from edgepe.quantize.dynamic import suits_dynamic
from edgepe.quantize.facts import read_facts
from edgepe.quantize.recipe import Activations, Recipe
from edgepe.scheme import Precision, Reason
from edgepe.stages.candidate import Artifact, make_artifact
from edgepe.target import load_target
from edgepe.verify.run import run_artifact
from edgepe.verify.standin import stand_in

if TYPE_CHECKING:
    from pathlib import Path

STEPS, FEATURES, CLASSES = 24, 16, 5
DYNAMIC = Recipe(precision=Precision.INT8, activations=Activations.DYNAMIC)


class Block(nn.Module):
    """A transformer of one block."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, 32)
        self.query, self.key, self.value, self.mix = (nn.Linear(32, 32) for _ in range(4))
        self.first, self.second = nn.LayerNorm(32), nn.LayerNorm(32)
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes]."""
        h = self.embed(x)
        weights = torch.softmax(self.query(h) @ self.key(h).transpose(1, 2) / 32**0.5, dim=-1)
        h = self.first(h + self.mix(weights @ self.value(h)))
        h = self.second(h + self.narrow(torch.relu(self.wide(h))))
        return torch.as_tensor(self.head(h.mean(dim=1)))


class Recurrent(nn.Module):
    """A GRU or LSTM and a classifier on its last step."""

    def __init__(self, kind: type[nn.GRU | nn.LSTM]) -> None:
        super().__init__()
        self.cell = kind(FEATURES, 32, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [n, classes]."""
        return torch.as_tensor(self.head(self.cell(x)[0][:, -1]))


def captured(module: nn.Module) -> Captured:
    torch.manual_seed(0)
    port = Port(name="x", dtype="float32", shape=(1, STEPS, FEATURES))
    made = capture_module(module.eval(), name="net", inputs=(port,))
    return replace(made, model=optimize(made.model))


def samples() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, STEPS, FEATURES)).astype(np.float32)


def outputs(path: Path, data: bytes, target: str = "raspberry-pi") -> np.ndarray:
    path.write_bytes(data)
    judge = stand_in(load_target(target), Precision.INT8)
    (found,) = run_artifact(path, judge.kind, {"x": samples()}, settings=dict(judge.settings)).outputs.values()
    return np.asarray(found)


def made(net: Captured, recipe: Recipe, target: str = "raspberry-pi") -> Artifact:
    ranges = collect_ranges(net.model, [{"x": row[None]} for row in samples()])
    return make_artifact(net, load_target(target), recipe, ranges)


@pytest.fixture(scope="module")
def transformer() -> Captured:
    return captured(Block())


@pytest.fixture(scope="module", params=[nn.GRU, nn.LSTM], ids=["gru", "lstm"])
def recurrent(request: pytest.FixtureRequest) -> Captured:
    return captured(Recurrent(request.param))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["raspberry-pi", "generic"])
def test_a_transformer_s_products_become_dynamic_int8_and_stay_near_float(
    transformer: Captured, tmp_path: Path, target: str
) -> None:
    artifact = made(transformer, DYNAMIC, target)
    wanted = outputs(tmp_path / "float.onnx", onnx_bytes(transformer.model))
    got = outputs(tmp_path / "int8.onnx", artifact.data, target)
    dynamic = [row for row in artifact.schemes if row.reason is Reason.DYNAMIC]
    assert len(dynamic) == 8
    assert {row.precision for row in dynamic} == {Precision.INT8}
    assert np.abs(got - wanted).max() < 0.05 * np.ptp(wanted)
    assert len(artifact.data) < 0.6 * len(onnx_bytes(transformer.model))


@pytest.mark.slow
def test_onnxruntime_makes_one_kernel_of_each_dynamic_product(transformer: Captured, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(made(transformer, DYNAMIC).data, options, providers=["CPUExecutionProvider"])
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert counts["DynamicQuantizeMatMul"] + counts["MatMulIntegerToFloat"] == 8
    assert not counts["MatMulInteger"]


@pytest.mark.slow
@pytest.mark.parametrize("activations", list(Activations))
def test_a_recurrent_net_stores_int8_weights_and_stays_near_float(
    recurrent: Captured, tmp_path: Path, activations: Activations
) -> None:
    artifact = made(recurrent, Recipe(precision=Precision.INT8, activations=activations))
    wanted = outputs(tmp_path / "float.onnx", onnx_bytes(recurrent.model))
    got = outputs(tmp_path / "int8.onnx", artifact.data)
    (row,) = [row for row in artifact.schemes if row.op in {"GRU", "LSTM"}]
    assert (row.precision, row.reason) == (Precision.FP32, Reason.WEIGHT_ONLY)
    assert artifact.precision is Precision.MIXED
    assert np.abs(got - wanted).max() < 0.1 * np.ptp(wanted)
    assert len(artifact.data) < 0.5 * len(onnx_bytes(recurrent.model))


@pytest.mark.slow
def test_attention_and_time_steps_want_dynamic_int8_first(transformer: Captured, recurrent: Captured) -> None:
    pi, jetson = load_target("raspberry-pi").rules, load_target("jetson").rules
    assert suits_dynamic(read_facts(transformer.model), pi)
    assert suits_dynamic(read_facts(recurrent.model), pi)
    assert not suits_dynamic(read_facts(transformer.model), jetson)


@pytest.mark.slow
def test_the_same_graph_gives_the_same_bytes(transformer: Captured) -> None:
    assert made(transformer, DYNAMIC).data == made(transformer, DYNAMIC).data


@pytest.mark.slow
def test_an_operator_given_back_stays_float(transformer: Captured) -> None:
    rows = made(transformer, DYNAMIC).schemes
    name = next(row.node for row in rows if row.reason is Reason.DYNAMIC)
    back = made(transformer, replace(DYNAMIC, precision=Precision.MIXED, float_nodes=(name,))).schemes
    assert {row.node: row.reason for row in back}[name] is Reason.SENSITIVE
    assert sum(row.reason is Reason.DYNAMIC for row in back) == 7
