"""The README's recipes, each on a small net trained here: a detector, a keyword spotter, a text classifier."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from edgepe.bundle import read_bundle

pytestmark = [pytest.mark.slow]

METRIC = """
import numpy as np

def iou(outputs, labels):
    best = outputs["scores"].argmax(axis=1)
    boxes = outputs["boxes"][np.arange(len(best)), best]
    low, high = np.maximum(boxes[:, :2], labels[:, :2]), np.minimum(boxes[:, 2:], labels[:, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=1)
    area = lambda b: np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1)
    return both / (area(boxes) + area(labels) - both)

iou.per_sample = True
"""
TEXT_NET = """
import torch
from torch import nn

class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(50, 16), nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, ids, mask):
        weight = mask.unsqueeze(-1).float()
        mean = (self.embedding(ids) * weight).sum(1) / weight.sum(1)
        return self.head(torch.relu(self.hidden(mean)))

def net():
    return Classifier()
"""
KEYWORD_NET = """
from torch import nn

def block(inputs, outputs):
    return [nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs), nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU()]

def net():
    return nn.Sequential(
        nn.Conv2d(1, 16, (10, 4), stride=2, padding=(4, 1)), nn.BatchNorm2d(16), nn.ReLU(),
        *block(16, 24), *block(24, 24),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4),
    )
"""


def _build(folder: Path, *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "edgepe", "build", *args, "--out", "dist", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    return {row["target"]: row for row in json.loads(done.stdout)["bundles"]}


def _train(net: nn.Module, inputs: tuple[torch.Tensor, ...], loss_of: Any, *, epochs: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for epoch in range(epochs):
        order = torch.randperm(len(inputs[0]), generator=torch.Generator().manual_seed(epoch))
        for rows in (order[start : start + 64] for start in range(0, len(order), 64)):
            optimizer.zero_grad()
            torch.autograd.backward(loss_of(net(*(each[rows] for each in inputs)), rows))
            optimizer.step()
    net.eval()


def _squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures [count, 24, 24, 1] uint8 of one bright rectangle each, and its corners in pixels."""
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(0, 14, (count, 2)), rng.integers(6, 11, (count, 2))
    pictures = rng.integers(0, 90, (count, 24, 24, 1))
    for picture, (left, top), (width, height) in zip(pictures, corner, size, strict=True):
        picture[top : top + height, left : left + width] += 130
    return pictures.astype(np.uint8), np.concatenate([corner, corner + size], axis=1).astype(np.float32)


class Detector(nn.Module):
    """Scores a grid of 36 places, and says of each where the rectangle's corners are."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
        self.body = nn.Sequential(*convolutions, nn.Conv2d(32, 32, 5, 1, 2), nn.ReLU(), nn.Conv2d(32, 5, 1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.body(image).flatten(2)
        return torch.sigmoid(out[:, :1]), 24 * out[:, 1:].permute(0, 2, 1)


def _detector(path: Path) -> None:
    """Train a detector and write it as detectors come: with non-maximum suppression, whose output has no fixed size."""
    torch.manual_seed(0)
    net = Detector()
    pictures, corners = _squares(800, seed=1)
    x, wanted = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, torch.from_numpy(corners)
    centre = ((wanted[:, :2] + wanted[:, 2:]) / 8).long()
    place = centre[:, 1] * 6 + centre[:, 0]

    def loss_of(out: tuple[torch.Tensor, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        scores, boxes = out
        near = boxes[torch.arange(len(rows)), place[rows]]
        return (
            nn.functional.nll_loss((scores[:, 0] + 1e-6).log(), place[rows])
            + scores.sum(2).mean()
            + (near - wanted[rows]).abs().mean()
        )

    _train(net, (x,), loss_of, epochs=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {name: {0: "n"} for name in ("image", "class_scores", "boxes")}
        torch.onnx.export(
            net,
            (x[:2],),
            path,
            dynamo=False,
            opset_version=13,
            dynamic_axes=axes,
            input_names=["image"],
            output_names=["class_scores", "boxes"],
        )
    model = onnx.load(path)
    tail = [
        helper.make_node("Squeeze", ["class_scores", "one"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "class_scores", "most", "overlap"], ["selected"]),
    ]
    model.graph.node.extend(tail)
    for name, array in (("one", np.array([1])), ("most", np.array([3])), ("overlap", np.array([0.5], np.float32))):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("selected", TensorProto.INT64, ["k", 3]))
    onnx.save(model, path)


def test_a_detector_is_cut_before_its_suppression_and_scored_by_an_own_metric(tmp_path: Path) -> None:
    _detector(tmp_path / "detector.onnx")
    for name, seed in (("calibration", 2), ("evaluation", 3)):
        pictures, corners = _squares(200, seed=seed)
        np.savez(tmp_path / f"{name}.npz", image=pictures, y=corners)
    (tmp_path / "own_boxes.py").write_text(METRIC)
    (tmp_path / "signature.toml").write_text('[inputs.image]\nlayout = "NHWC"\nscale = 0.00392156862745098\n')
    rows = _build(
        tmp_path,
        *("detector.onnx", "--outputs", "scores,boxes", "--signature", "signature.toml", "--metric", "own_boxes:iou"),
        *("--calibration", "calibration.npz", "--evaluation", "evaluation.npz", "--max-drop", "3"),
        *("--target", "raspberry-pi"),
    )
    row = rows["raspberry-pi-5"]
    assert row["metric"] == "own_boxes:iou"
    assert row["float_score"] > 0.5
    assert row["drop"] <= 3
    manifest = read_bundle(tmp_path / row["path"]).manifest
    assert [spec.name for spec in manifest.outputs] == ["scores", "boxes"]
    assert [spec.shape for spec in manifest.outputs] == [(-1, 36), (-1, 36, 4)]
    assert manifest.inputs[0].raw_shape == (-1, 24, 24, 1)


def _sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features [count, 49, 10, 1] like a front end's: a word is a way of energy through bands and time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    time = np.linspace(0, 1, 49)
    ways = np.stack([2 + 5 * time, 7 - 5 * time, 4.5 + 3 * np.sin(6.3 * time), np.full(49, 4.5)])
    band = ways[labels][:, :, None] + rng.normal(0, 0.5, (count, 1, 1))
    energy = np.exp(-((np.arange(10) - band) ** 2) / 2) * 20 - 15
    return (energy + rng.normal(0, 2, energy.shape)).astype(np.float32)[..., None], labels


def test_a_keyword_spotter_holds_its_contract_on_onnx_and_tflite(tmp_path: Path) -> None:
    (tmp_path / "own_words.py").write_text(KEYWORD_NET)
    space: dict[str, Any] = {}
    exec(KEYWORD_NET, space)  # noqa: S102 - the very text that the command imports
    torch.manual_seed(0)
    net = space["net"]()
    x, y = _sounds(600, seed=1)
    prepared = (torch.from_numpy(x).permute(0, 3, 1, 2) + 10) / 8
    _train(net, (prepared,), lambda out, rows: nn.functional.cross_entropy(out, torch.from_numpy(y)[rows]), epochs=5)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    for name, seed in (("calibration", 2), ("evaluation", 3)):
        sounds, words = _sounds(200, seed=seed)
        np.savez(tmp_path / f"{name}.npz", x=sounds, y=words)
    signature = 'labels = ["up", "down", "wave", "hum"]\n[inputs.x]\nlayout = "NHWC"\nmean = -10\nstd = 8\n'
    (tmp_path / "signature.toml").write_text(signature)
    rows = _build(
        tmp_path,
        *("own_words:net", "--weights", "w.safetensors", "--signature", "signature.toml", "--max-drop", "2"),
        *("--calibration", "calibration.npz", "--evaluation", "evaluation.npz"),
        *("--target", "raspberry-pi", "--target", "android"),
    )
    for row in rows.values():
        assert row["float_score"] > 0.9
        assert row["drop"] <= 2
    manifest = read_bundle(tmp_path / rows["android-arm64"]["path"]).manifest
    assert manifest.labels == ("up", "down", "wave", "hum")
    assert manifest.inputs[0].raw_shape == (1, 49, 10, 1)


def _texts(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return token ids [count, 12], their mask, and the topic whose words stand among others."""
    rng = np.random.default_rng(seed)
    topic, length = rng.integers(0, 3, count), rng.integers(4, 13, count)
    own = 20 + 10 * topic[:, None] + rng.integers(0, 10, (count, 12))
    ids = np.where(rng.random((count, 12)) < 0.4, own, rng.integers(1, 20, (count, 12)))
    mask = (np.arange(12) < length[:, None]).astype(np.int64)
    return ids * mask, mask, topic


def test_a_text_classifier_takes_ids_and_mask(tmp_path: Path) -> None:
    (tmp_path / "own_texts.py").write_text(TEXT_NET)
    space: dict[str, Any] = {}
    exec(TEXT_NET, space)  # noqa: S102 - the very text that the command imports
    torch.manual_seed(0)
    net = space["net"]()
    ids, mask, topics = _texts(800, seed=1)
    wanted = torch.from_numpy(topics)
    _train(
        net,
        (torch.from_numpy(ids), torch.from_numpy(mask)),
        lambda out, rows: nn.functional.cross_entropy(out, wanted[rows]),
        epochs=8,
    )
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    for name, seed in (("calibration", 2), ("evaluation", 3)):
        ids, mask, topics = _texts(200, seed=seed)
        np.savez(tmp_path / f"{name}.npz", ids=ids, mask=mask, y=topics)
    rows = _build(
        tmp_path,
        *("own_texts:net", "--weights", "w.safetensors", "--max-drop", "2", "--metric", "f1"),
        *("--calibration", "calibration.npz", "--evaluation", "evaluation.npz", "--target", "raspberry-pi"),
    )
    row = rows["raspberry-pi-5"]
    assert row["float_score"] > 0.85
    assert row["drop"] <= 2
    manifest = read_bundle(tmp_path / row["path"]).manifest
    assert {(spec.name, spec.dtype) for spec in manifest.inputs} == {("ids", "int64"), ("mask", "int64")}
