"""Bundles on emulated Arm: what the stand-in said holds there, and what fails there is told.

Wants ``make emulator``; skipped without it, failed where everything must be there (``EDGEPE_REQUIRE_ALL``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from device_agent.wire.manifest import FileEntry
from edgepe.bundle.pack import read_bundle, write_bundle
from edgepe.errors import VerifyError
from edgepe.stages.emulate import emulate_bundle
from edgepe.verify.emulate import run_emulated
from edgepe.verify.emulator.folder import Emulator, find_emulator
from edgepe.verify.run import run_artifact
from tests.onnx_graphs import small_cnn_1d
from tests.tiny_models import dense, write_onnx, write_tflite

pytestmark = [pytest.mark.slow]

TARGETS = ("raspberry-pi", "android")


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    try:
        return find_emulator()
    except VerifyError as error:
        if os.environ.get("EDGEPE_REQUIRE_ALL"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@dataclass(frozen=True)
class Workplace:
    folder: Path

    def run(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgepe", *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | variables,
        )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Build a small net for the Pi and for Android; its labels are the float net's own classes."""
    place = Workplace(tmp_path_factory.mktemp("emulate"))
    onnx.save(onnx.shape_inference.infer_shapes(small_cnn_1d().proto()), place.folder / "cnn.onnx")
    x = np.random.default_rng(0).normal(size=(160, 6, 40)).astype(np.float32)
    (logits,) = run_artifact(place.folder / "cnn.onnx", "onnxruntime", {"x": x}).outputs.values()
    np.savez(place.folder / "data.npz", x=x, y=logits.argmax(axis=-1))
    wanted = [argument for target in TARGETS for argument in ("--target", target)]
    data = ("--calibration", "data.npz", "--evaluation", "data.npz", "--max-drop", "20", "--precision", "int8")
    done = place.run("build", "cnn.onnx", *wanted, *data, "--out", "dist")
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("board", ["raspberry-pi-5", "android-arm64"])
def test_an_int8_bundle_gives_on_arm_what_its_stand_in_gave(
    workplace: Workplace, emulator: Emulator, board: str
) -> None:
    options = ("--data", "data.npz", "--emulate", "--samples", "64", "--json")
    done = workplace.run("verify", f"dist/cnn-1-{board}.edge", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["emulated"]
    assert found["held"] is True
    assert f"on emulated aarch64 (cortex-a76, qemu {emulator.qemu_version})" in found["ran_on"]
    assert found["samples"] == 64
    assert found["golden"]["agree"] == 1.0
    # On the Pi's stand-in without VNNI one step of a requantization may differ; see the stand-in's rules.
    assert found["outputs"]["exact"] >= 0.9
    assert found["score"] == pytest.approx(found["stand_in_score"], abs=0.02)


def test_a_claim_that_does_not_hold_on_arm_fails(workplace: Workplace, emulator: Emulator, tmp_path: Path) -> None:
    assert emulator.content.pypi
    path = tmp_path / "wrong.edge"
    _spoil(workplace.folder / "dist" / "cnn-1-raspberry-pi-5.edge", path)
    found = emulate_bundle(path)
    assert not found.held
    assert found.golden.agree == 0.0


def test_without_labels_outputs_are_compared_all_the_same(
    workplace: Workplace, emulator: Emulator, tmp_path: Path
) -> None:
    assert emulator.content.pypi
    with np.load(workplace.folder / "data.npz") as data:
        np.savez(tmp_path / "unlabelled.npz", x=data["x"])
    found = emulate_bundle(
        workplace.folder / "dist" / "cnn-1-raspberry-pi-5.edge", tmp_path / "unlabelled.npz", samples=8
    )
    assert found.score is None
    assert found.outputs is not None
    assert found.outputs.samples == 8
    assert found.held


def test_without_the_emulated_machine_the_next_step_is_told(workplace: Workplace, tmp_path: Path) -> None:
    done = workplace.run(
        "verify", "dist/cnn-1-raspberry-pi-5.edge", "--emulate", EDGEPE_EMULATOR=str(tmp_path / "absent")
    )
    assert done.returncode == 1
    assert "make emulator" in done.stderr


@pytest.mark.parametrize(
    ("kind", "write"), [("onnxruntime", write_onnx), ("litert", write_tflite)], ids=["onnxruntime", "litert"]
)
def test_both_runtimes_run_a_float_model(emulator: Emulator, tmp_path: Path, kind: str, write: Any) -> None:
    path = tmp_path / "model"
    write(path)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    result = run_emulated(emulator, path, kind, {"x": x}, cpu="cortex-a72")
    (outputs,) = result.outputs.values()
    np.testing.assert_allclose(outputs, dense(x), atol=1e-5)


def test_what_only_arms_runtime_refuses_is_found(emulator: Emulator, tmp_path: Path) -> None:
    """Why AveragePool is never fp16: its session opens on x86 and does not on Arm."""
    path = tmp_path / "pool.onnx"
    pool = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 8, 6, 6]) for name in ("x",)]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 8, 5, 5])]
    graph = helper.make_graph([pool], "pool", ports, ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    x = {"x": np.ones((1, 8, 6, 6), np.float16)}
    assert run_artifact(path, "onnxruntime", x).outputs["y"].shape == (1, 8, 5, 5)
    with pytest.raises(VerifyError, match="AveragePool"):
        run_emulated(emulator, path, "onnxruntime", x, cpu="cortex-a76")


def _spoil(source: Path, path: Path) -> None:
    """Copy a bundle with golden vectors that expect something else."""
    bundle = read_bundle(source)
    golden = bundle.manifest.golden.file
    files = {entry.name: bundle.read(entry.name) for entry in bundle.manifest.files}
    with np.load(io.BytesIO(files[golden])) as stored:
        arrays = {name: stored[name] + (100 if name.startswith("out.") else 0) for name in stored.files}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files[golden] = buffer.getvalue()
    entries = tuple(
        FileEntry(name=name, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in files.items()
    )
    write_bundle(path, replace(bundle.manifest, files=entries), files)
