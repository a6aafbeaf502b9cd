from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgepe.capture import capture
from edgepe.compress import (
    Budget,
    CompressSettings,
    GateSettings,
    Samples,
    TrainingData,
    TrainSettings,
    compress,
    predict,
)
from edgepe.errors import CompressError

if TYPE_CHECKING:
    from pathlib import Path

    from edgepe.compress import Compressed

SETTINGS = CompressSettings(
    budget=Budget(parameters=0.4),
    dense=TrainSettings(epochs=3, rate=1e-2, batch=32),
    gates=GateSettings(train=TrainSettings(epochs=25, rate=5e-3, batch=32), every=2),
    finetune=TrainSettings(epochs=2, rate=5e-3, batch=32),
)


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))


def run(blobs: Samples, out: Path) -> Compressed:
    data = TrainingData(train=blobs, validation=blobs, classes=4)
    return compress(make, data, SETTINGS, out=out, name="blobs", factory="tests:make")


@pytest.mark.slow
def test_the_folder_holds_the_smaller_network_and_says_how_it_was_made(blobs: Samples, tmp_path: Path) -> None:
    result = run(blobs, tmp_path / "out")
    assert sorted(path.name for path in result.out.iterdir()) == ["compression.json", "model.onnx", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    described = json.loads((result.out / "compression.json").read_text())
    assert described["method"] == "gates"
    assert described["factory"] == "tests:make"
    assert described["settings"]["budget"]["parameters"] == 0.4
    assert described["after"]["parameters"] <= 0.4 * described["before"]["parameters"]
    assert [group["name"] for group in described["groups"]] == ["0", "2"]

    session = onnxruntime.InferenceSession(result.out / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"x": blobs.x.numpy()})
    assert np.abs(logits - predict(result.model, blobs.x)).max() <= 1e-5
    assert capture(result.out).inputs[0].shape == (-1, 10)

    weights = load_file(result.out / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in result.model.state_dict().items())


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes_and_replaces_its_folder(blobs: Samples, tmp_path: Path) -> None:
    first = (run(blobs, tmp_path / "out").out / "model.onnx").read_bytes()
    again = (run(blobs, tmp_path / "out").out / "model.onnx").read_bytes()
    assert first == again


def test_a_folder_that_compress_did_not_make_is_never_touched(tmp_path: Path, blobs: Samples) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.txt").write_text("years of work")
    with pytest.raises(CompressError, match="in the way"):
        run(blobs, out)
    assert (out / "chapter.txt").read_text() == "years of work"
