"""A trained 1-D CNN and an ONNX MLP become bundles for all three kinds of target, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from device_agent.runtime.base import open_runtime
from device_agent.runtime.golden import check_golden, read_golden
from edgepe.bundle import read_bundle, read_evidence

pytestmark = [pytest.mark.slow]

CLASSES = 4
TARGETS = ("raspberry-pi", "jetson", "android", "generic")
NET = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv1d(3, 24, 5, padding=2), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Conv1d(24, 24, 5, stride=2, padding=2), nn.BatchNorm1d(24), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 4),
    )
"""
SIGNATURE = """
labels = ["a", "b", "c", "d"]
[inputs.x]
layout = "NWC"
scale = 0.01
"""


@dataclass(frozen=True)
class Workplace:
    folder: Path

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgepe", *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )

    def json(self, *args: str) -> Any:
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def _waves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sensor-like windows [count, 50, 3] whose frequency is their class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    angle = np.arange(50) / 50 * 2 * np.pi * (2 * labels[:, None] + 1) + rng.uniform(0, 6, (count, 1))
    waves = np.sin(angle)[:, :, None] * rng.uniform(0.5, 1.5, (count, 1, 3))
    return ((waves + rng.normal(0, 0.4, waves.shape)) * 100).astype(np.float32), labels


def _train(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(6):
        for start in range(0, len(x), 50):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[start : start + 50]), y[start : start + 50])
            torch.autograd.backward(loss)
            optimizer.step()
    net.eval()


def _write_mlp(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(150, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    _train(net, torch.from_numpy(x.reshape(len(x), -1) / 100), torch.from_numpy(y))
    weights = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    weights["0.weight"] = weights["0.weight"] / 100
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "0.weight", "0.bias"], ["a"], transB=1),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Gemm", ["b", "2.weight", "2.bias"], ["logits"], transB=1),
        ],
        "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 150])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("build")
    x, y = _waves(600, seed=1)
    held_x, held_y = _waves(200, seed=2)
    np.savez(folder / "calibration.npz", x=x[:100], y=y[:100])
    np.savez(folder / "evaluation.npz", x=held_x, y=held_y)
    np.savez(folder / "flat.npz", features=held_x.reshape(200, -1), y=held_y)
    (folder / "signature.toml").write_text(SIGNATURE)
    (folder / "own_net.py").write_text(NET)
    space: dict[str, Any] = {}
    exec(NET, space)  # noqa: S102 - the very text that the command imports
    torch.manual_seed(0)
    net = space["net"]()
    _train(net, torch.from_numpy(x / 100).permute(0, 2, 1), torch.from_numpy(y))
    save_file(net.state_dict(), folder / "w.safetensors")
    _write_mlp(folder / "mlp.onnx", x, y)
    return Workplace(folder)


CNN = ("build", "own_net:net", "--weights", "w.safetensors", "--signature", "signature.toml")
DATA = ("--calibration", "calibration.npz", "--evaluation", "evaluation.npz", "--max-drop", "2")


@pytest.fixture(scope="module")
def built(workplace: Workplace) -> dict[str, dict[str, Any]]:
    wanted = [argument for name in TARGETS for argument in ("--target", name)]
    rows = workplace.json(*CNN, *DATA, *wanted, "--out", "dist")["bundles"]
    return {row["target"]: row for row in rows}


def test_every_target_gets_a_smaller_artifact_that_holds_the_contract(built: dict[str, dict[str, Any]]) -> None:
    assert list(built) == ["raspberry-pi-5", "jetson-orin", "android-arm64", "generic-x86-64"]
    for row in built.values():
        assert row["precision"] == "int8"
        assert row["bytes"] < 0.6 * row["float_bytes"]
        assert row["metric"] == "accuracy"
        assert row["float_score"] > 0.9
        assert row["drop"] <= 2
        assert row["contract"] == {
            "held": True,
            "bounds": [{"bound": "max_drop", "limit": 2.0, "value": row["drop"], "held": True}],
        }


def test_only_the_host_s_own_kind_of_machine_is_measured(built: dict[str, dict[str, Any]]) -> None:
    assert {name: row["latency_is"] for name, row in built.items()} == {
        "raspberry-pi-5": "predicted",
        "jetson-orin": "predicted",
        "android-arm64": "predicted",
        "generic-x86-64": "measured",
    }
    assert "stand-in" in built["raspberry-pi-5"]["scored_on"]


def test_the_formats_and_layouts_are_those_of_the_targets(
    workplace: Workplace, built: dict[str, dict[str, Any]]
) -> None:
    android = read_bundle(workplace.folder / built["android-arm64"]["path"]).manifest
    jetson = read_bundle(workplace.folder / built["jetson-orin"]["path"]).manifest
    assert (android.format, android.inputs[0].layout, android.inputs[0].shape) == ("tflite", "NWC", (1, 50, 3))
    assert (jetson.format, jetson.inputs[0].layout, jetson.inputs[0].shape) == ("onnx", "NCW", (-1, 3, 50))
    assert android.inputs[0].raw_shape == (1, 50, 3)
    assert jetson.labels == ("a", "b", "c", "d")
    assert {row.op for row in jetson.ops} == {"Conv", "Relu", "GlobalAveragePool", "Reshape", "Gemm"}
    assert sum(jetson.baseline) == pytest.approx(1)


def test_the_agent_s_own_golden_check_passes_on_this_machine(
    workplace: Workplace, built: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for name, row in built.items():
        bundle = read_bundle(workplace.folder / row["path"])
        slot = tmp_path / name
        bundle.extract(slot)
        kind = "litert" if bundle.manifest.format == "tflite" else "onnxruntime"
        runtime = open_runtime(slot / bundle.manifest.model, kind=kind)
        assert check_golden(runtime, bundle.manifest, read_golden(slot / "golden.npz")).passed


def test_the_same_build_gives_the_same_bytes(workplace: Workplace, built: dict[str, dict[str, Any]]) -> None:
    workplace.json(*CNN, *DATA, "--target", "raspberry-pi", "--target", "android", "--out", "again")
    for name in ("raspberry-pi-5", "android-arm64"):
        path = workplace.folder / built[name]["path"]
        assert path.read_bytes() == (workplace.folder / "again" / path.name).read_bytes()


def test_the_evidence_names_attempts_and_times_beside_the_bundle(
    workplace: Workplace, built: dict[str, dict[str, Any]]
) -> None:
    evidence = read_evidence(workplace.folder / built["generic-x86-64"]["path"])
    assert evidence["attempts"][0]["precision"] == "int8"  # type: ignore[index] # JSON values
    assert evidence["latency"]["is"] == "measured"  # type: ignore[index] # JSON values


def test_verify_runs_a_bundle_again_and_scores_it(workplace: Workplace, built: dict[str, dict[str, Any]]) -> None:
    path = built["android-arm64"]["path"]
    check = workplace.json("verify", path, "--data", "evaluation.npz")
    assert check["passed"]
    assert check["evidence"] == "same"
    assert check["score"] == check["claimed"] == built["android-arm64"]["score"]


def test_inspect_shows_the_op_table_and_bench_the_times(workplace: Workplace, built: dict[str, dict[str, Any]]) -> None:
    path = built["generic-x86-64"]["path"]
    shown = workplace.run("inspect", path).stdout
    assert "GlobalAveragePool" in shown
    assert "3 x 50" in shown
    models = workplace.json("bench", path, "--against", built["android-arm64"]["path"])["models"]
    assert [model["file"] for model in models] == [
        path.rpartition("/")[2],
        built["android-arm64"]["path"].rpartition("/")[2],
    ]
    assert all(0 < model["median_us"] <= model["p99_us"] for model in models)


def test_bare_build_takes_its_options_from_edgepe_toml(workplace: Workplace) -> None:
    (workplace.folder / "edgepe.toml").write_text(
        '[build]\nmodel = "mlp.onnx"\ncalibration = "flat.npz"\nout = "toml"\nname = "wave-mlp"\nmax-drop = 3\n'
    )
    try:
        done = workplace.run("build", "--target", "jetson", "--target", "android")
    finally:
        (workplace.folder / "edgepe.toml").unlink()
    assert done.returncode == 0, done.stderr
    assert "jetson-orin" in done.stdout
    assert "predicted" in done.stdout
    assert "calibrating" in done.stderr
    names = sorted(path.name for path in (workplace.folder / "toml").glob("*.edge"))
    assert names == ["wave-mlp-1-android-arm64.edge", "wave-mlp-1-jetson-orin.edge"]


def test_float_and_half_precision_can_be_asked_for(workplace: Workplace) -> None:
    common = ("build", "mlp.onnx", "--calibration", "flat.npz", "--out", "asked", "--target")
    half = workplace.json(*common, "jetson", "--precision", "fp16")["bundles"][0]
    assert (half["precision"], half["why"]) == ("fp16", "asked for")
    assert half["bytes"] < 0.6 * half["float_bytes"]
    full = workplace.json(*common, "android", "--precision", "fp32")["bundles"][0]
    assert full["drop"] == 0
    assert full["bytes"] == full["float_bytes"]


def test_a_byte_bound_moves_the_raspberry_pi_4_to_int8_and_says_why(workplace: Workplace) -> None:
    row = workplace.json(
        *("build", "mlp.onnx", "--calibration", "flat.npz", "--out", "small"),
        *("--target", "raspberry-pi-4", "--max-bytes", "12000"),
    )["bundles"][0]
    assert row["precision"] == "int8"
    assert "fp32 breaks max_bytes" in row["why"]


def test_a_contract_that_cannot_be_held_says_which_bound_by_how_much_and_what_was_tried(workplace: Workplace) -> None:
    done = workplace.run(
        *("build", "mlp.onnx", "--calibration", "flat.npz", "--out", "never"),
        *("--target", "android", "--target", "jetson", "--max-bytes", "100"),
    )
    assert done.returncode == 1
    assert "max_bytes: limit 100" in done.stderr
    assert "exceeded by" in done.stderr
    assert "tried int8" in done.stderr
    assert "fp32" in done.stderr
    assert not (workplace.folder / "never").exists()


ERRORS = [
    pytest.param(("mlp.onnx", "--target", "jetsn"), 2, "did you mean 'jetson'", id="unknown target"),
    pytest.param(("no.onnx", "--target", "jetson"), 2, "there is no model no.onnx", id="missing model"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--calibration", "no.npz"), 2, "no data file", id="missing data"),
    pytest.param(
        ("mlp.onnx", "--target", "jetson", "--calibration", "calibration.npz"), 2, "got: (100, 50, 3)", id="shapes"
    ),
    pytest.param(("mlp.onnx", "--target", "jetson", "--calibration", "named.npz"), 2, "got: picture", id="names"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--calibration", "nan.npz"), 2, "is not finite", id="NaN"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--calibration", "zeros.npz"), 2, "is constant", id="constant"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--calibration", "empty.npz"), 2, "is empty", id="empty"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--evaluation", "range.npz"), 2, "out of range", id="labels"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--metric", "acuracy"), 2, "'accuracy'", id="metric"),
    pytest.param(("mlp.onnx", "--target", "jetson", "--shape", "x=1,N"), 2, "is no shape", id="shape"),
    pytest.param(("mlp.onnx", "--target", "android", "--precision", "fp16"), 1, "fp16", id="precision"),
    pytest.param(("sine.onnx", "--target", "android"), 1, "Sin", id="unsupported op"),
    pytest.param(
        ("own_net:net", "--target", "jetson", "--weights", "w.pkl"), 2, "cannot be loaded safely", id="pickle"
    ),
    pytest.param((), 2, "Missing option '--target'", id="nothing"),
]


@pytest.fixture(scope="module")
def bad_input(workplace: Workplace) -> Workplace:
    folder = workplace.folder
    x = np.load(folder / "flat.npz")["features"]
    np.savez(folder / "named.npz", picture=x)
    np.savez(folder / "nan.npz", x=np.where(x == x[0, 0], np.nan, x))
    np.savez(folder / "zeros.npz", x=np.zeros_like(x))
    np.savez(folder / "empty.npz", x=x[:0])
    np.savez(folder / "range.npz", x=x, y=np.full(len(x), CLASSES))
    (folder / "w.pkl").write_bytes(b"\x80\x04K\x01.")
    model = onnx.load(folder / "mlp.onnx")
    model.graph.node[1].op_type = "Sin"
    onnx.save(model, folder / "sine.onnx")
    return workplace


@pytest.mark.parametrize(("args", "code", "said"), ERRORS)
def test_bad_input_is_a_clear_error_and_leaves_nothing(
    bad_input: Workplace, args: tuple[str, ...], code: int, said: str
) -> None:
    data = () if "--calibration" in args else ("--calibration", "flat.npz")
    done = bad_input.run("build", *args, *data, "--out", "bad")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (bad_input.folder / "bad").exists()


def test_a_damaged_bundle_is_refused_by_verify(
    workplace: Workplace, built: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    data = bytearray((workplace.folder / built["jetson-orin"]["path"]).read_bytes())
    data[-400] ^= 0xFF
    (tmp_path / "bad.edge").write_bytes(data)
    done = workplace.run("verify", str(tmp_path / "bad.edge"))
    assert done.returncode == 1
    assert "no whole bundle" in done.stderr


def test_a_bundle_for_the_user_s_own_board_can_be_verified_without_its_profile(workplace: Workplace) -> None:
    profile = (Path(__file__).parents[2] / "targets" / "raspberry-pi-5.toml").read_text(encoding="utf8")
    own = profile.replace('name = "raspberry-pi-5"', 'name = "kiosk"').replace(
        'aliases = ["raspberry-pi"]', "aliases = []"
    )
    (workplace.folder / "kiosk.toml").write_text(own)
    row = workplace.json(*CNN, *DATA, "--target", "kiosk.toml", "--out", "kiosk")["bundles"][0]
    (workplace.folder / "kiosk.toml").unlink()
    check = workplace.json("verify", row["path"])
    assert check["passed"]
    assert check["scored_on"] == row["scored_on"]


def test_what_the_jetson_cannot_run_in_int8_is_an_attempt_with_its_reason(workplace: Workplace) -> None:
    row = workplace.json(*("build", "mlp.onnx", "--calibration", "flat.npz", "--out", "vector", "--target", "jetson"))[
        "bundles"
    ][0]
    assert row["precision"] == "fp16"
    assert "a product with a vector is bound by memory" in row["why"]
