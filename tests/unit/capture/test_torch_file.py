from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgepe.capture import Captured, capture, source_name, wants_shapes
from edgepe.capture.captured import Port
from edgepe.errors import CaptureError, MissingFileError, UsageError

INPUT = (Port(name="", dtype="float32", shape=(-1, 3, 16)),)
X = np.random.default_rng(0).normal(size=(5, 3, 16)).astype(np.float32)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(window)))
        if x.shape[2] > 100:
            x = x[:, :, :100]
        pooled: torch.Tensor = self.head(x.mean(2).view(window.shape[0], 4))
        return pooled


def _run(captured: Captured, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.serde.serialize_model(captured.model).SerializeToString())
    return np.asarray(session.run(None, {captured.inputs[0].name: x})[0])


def _expected(x: np.ndarray) -> np.ndarray:
    return np.asarray(Net().eval()(torch.from_numpy(x)).detach().numpy())


def _script(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Net().eval()), str(path))
    return path


def _program(path: Path, *, time: bool = False) -> Path:
    dims: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=64)}
    if time:
        dims[2] = torch.export.Dim("time", min=4, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(Net().eval(), (torch.zeros(2, 3, 16),), dynamic_shapes=(dims,)), path)
    return path


@pytest.mark.slow
def test_a_program_computes_what_its_module_computes(tmp_path: Path) -> None:
    captured = capture(_program(tmp_path / "net.pt2"))
    assert captured.inputs == (Port(name="window", dtype="float32", shape=(-1, 3, 16)),)
    np.testing.assert_allclose(_run(captured, X), _expected(X), atol=1e-5)


@pytest.mark.slow
def test_an_open_dimension_of_a_program_is_fixed_by_shape(tmp_path: Path) -> None:
    path = _program(tmp_path / "net.pt2", time=True)
    with pytest.raises(CaptureError, match=r"--shape window=N,3,N"):
        capture(path)
    captured = capture(path, shapes={"window": (-1, 3, 24)})
    assert captured.inputs[0].shape == (-1, 3, 24)
    x = np.random.default_rng(1).normal(size=(2, 3, 24)).astype(np.float32)
    np.testing.assert_allclose(_run(captured, x), _expected(x), atol=1e-5)


@pytest.mark.parametrize("name", ["net.jit", "net.torchscript", "net.pt"])
@pytest.mark.slow
def test_a_script_takes_its_shapes_from_the_data(tmp_path: Path, name: str) -> None:
    path = _script(tmp_path / name)
    assert wants_shapes(str(path))
    assert source_name(str(path)) == "net"
    told: list[str] = []
    captured = capture(path, inputs=INPUT, talk=told.append)
    assert captured.inputs == (Port(name="window", dtype="float32", shape=(-1, 3, 16)),)
    assert "BatchNormalization" not in {node.op_type for node in captured.model.graph}
    np.testing.assert_allclose(_run(captured, X), _expected(X), atol=1e-5)
    assert told == ["exporting net"]


def test_a_script_without_shapes_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="--shape"):
        capture(_script(tmp_path / "net.jit"))


def test_a_script_that_does_not_take_the_data_says_its_shape(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"\(2, 16, 3\)"):
        capture(_script(tmp_path / "net.jit"), inputs=(Port(name="", dtype="float32", shape=(-1, 16, 3)),))


@pytest.mark.parametrize("name", ["net.pt2", "net.jit"])
def test_a_damaged_file_of_torchs_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"garbage" * 100)
    with pytest.raises(CaptureError, match=r"cannot be loaded by torch 2"):
        capture(tmp_path / name, inputs=INPUT)
    with pytest.raises(MissingFileError):
        capture(tmp_path / f"no{name}", inputs=INPUT)


def test_a_cut_off_program_is_told(tmp_path: Path) -> None:
    path = _script(tmp_path / "net.pt2")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CaptureError, match=r"cannot be loaded by torch 2"):
        capture(path)


def test_weights_alone_are_no_script(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pt")
    assert not wants_shapes(str(tmp_path / "net.pt"))
    with pytest.raises(UsageError, match=r"package\.module:factory with --weights"):
        capture(tmp_path / "net.pt")
