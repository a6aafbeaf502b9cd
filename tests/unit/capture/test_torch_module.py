from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgepe.capture import capture
from edgepe.capture.captured import Captured, Deterministic, Port
from edgepe.capture.torch_module import capture_module, make_deterministic
from edgepe.errors import CaptureError, MissingFileError, UsageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INPUT = (Port(name="", dtype="float32", shape=(-1, 3, 16)),)
FACTORY = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)
    )

def text():
    return "no module"
"""


class NoisyLinear(nn.Module):
    """Draws its weights; stands for a layer of somebody else's library."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.mean.weight + torch.randn(2, 1), self.mean.bias)

    def deterministic(self) -> nn.Module:
        return self.mean


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_nets.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _trained() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    net(torch.randn(64, 3, 16) * 3 + 1)
    return net.eval()


def _run(captured: Captured, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.serde.serialize_model(captured.model).SerializeToString())
    return np.asarray(session.run(None, {captured.inputs[0].name: x})[0])


@pytest.mark.slow
def test_a_factory_with_safetensors_computes_what_the_module_computes(package: Path) -> None:
    net = _trained()
    save_file(net.state_dict(), package / "w.safetensors")
    told: list[str] = []
    captured = capture("own_nets:net", weights=package / "w.safetensors", inputs=INPUT, talk=told.append)
    x = np.random.default_rng(0).normal(size=(5, 3, 16)).astype(np.float32)
    expected = net(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(_run(captured, x), expected, atol=1e-5)
    assert captured.name == "net"
    assert captured.inputs[0] == Port(name="input", dtype="float32", shape=(-1, 3, 16))
    assert [node.op_type for node in captured.model.graph] == ["Conv", "Relu", "GlobalAveragePool", "Reshape", "Gemm"]
    assert b"own_nets" not in ir.serde.serialize_model(captured.model).SerializeToString()
    assert told == ["exporting net"]


@pytest.mark.slow
def test_a_layer_that_draws_is_exported_as_its_deterministic_self() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear()
    noisy, mean = nn.Sequential(nn.ReLU(), layer), layer.mean
    captured = capture_module(noisy, name="n", inputs=(Port(name="", dtype="float32", shape=(-1, 4)),))
    x = np.random.default_rng(0).uniform(0, 1, (3, 4)).astype(np.float32)
    np.testing.assert_allclose(_run(captured, x), mean(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_the_protocol_is_one_method() -> None:
    layer = NoisyLinear()
    assert isinstance(layer, Deterministic)
    assert make_deterministic(layer) is layer.mean
    nested = nn.Sequential(nn.Sequential(NoisyLinear()))
    assert not any(isinstance(module, Deterministic) for module in make_deterministic(nested).modules())


def test_a_state_dict_loads_without_running_code(package: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, package / "w.pt")
    with pytest.raises(WeightsError, match=r"missing 0\.weight; missing 0\.bias; missing 1\.weight and"):
        capture("own_nets:net", weights=package / "w.pt", inputs=INPUT)


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pickle.dumps(_Evil()), id="a pickle that runs code"),
        pytest.param(pickle.dumps({"a": 1}), id="a plain pickle"),
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
    ],
)
def test_a_pickle_where_weights_are_expected_is_refused(package: Path, content: bytes) -> None:
    (package / "w.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be loaded safely"):
        capture("own_nets:net", weights=package / "w.pt", inputs=INPUT)


def test_a_whole_module_saved_by_torch_is_refused(package: Path) -> None:
    torch.save(_trained(), package / "w.pt")
    with pytest.raises(WeightsError, match="cannot be loaded safely"):
        capture("own_nets:net", weights=package / "w.pt", inputs=INPUT)


def test_damaged_safetensors_are_refused(package: Path) -> None:
    (package / "w.safetensors").write_bytes(b"garbage garbage")
    with pytest.raises(WeightsError, match="is damaged"):
        capture("own_nets:net", weights=package / "w.safetensors", inputs=INPUT)


def test_weights_of_another_shape_name_the_tensor(package: Path) -> None:
    state = _trained().state_dict() | {"5.bias": torch.zeros(3)}
    save_file(state, package / "w.safetensors")
    with pytest.raises(WeightsError, match=r"5\.bias: \(3,\) instead of \(2,\)"):
        capture("own_nets:net", weights=package / "w.safetensors", inputs=INPUT)


def test_missing_weights_are_told(package: Path) -> None:
    with pytest.raises(MissingFileError):
        capture("own_nets:net", weights=package / "no.safetensors", inputs=INPUT)


@pytest.mark.parametrize("source", ["own_nets:absent", "no_such_package:net"])
@pytest.mark.usefixtures("package")
def test_a_factory_that_is_not_there_is_told(source: str) -> None:
    with pytest.raises(UsageError, match="cannot be imported"):
        capture(source, inputs=INPUT)


@pytest.mark.usefixtures("package")
def test_a_factory_of_something_else_is_refused() -> None:
    with pytest.raises(UsageError, match="makes no torch module"):
        capture("own_nets:text", inputs=INPUT)


@pytest.mark.usefixtures("package")
def test_data_that_the_module_cannot_take_is_told_with_its_shape() -> None:
    with pytest.raises(CaptureError, match=r"\(2, 16, 3\)"):
        capture("own_nets:net", inputs=(Port(name="", dtype="float32", shape=(-1, 16, 3)),))


@pytest.mark.usefixtures("package")
def test_a_factory_without_shapes_asks_for_them() -> None:
    with pytest.raises(CaptureError, match="--shape"):
        capture("own_nets:net")


def test_shape_stands_in_for_the_data_and_names_the_input(package: Path) -> None:
    del package
    with pytest.raises(CaptureError, match=r"\(7, 16, 3\)"):
        capture("own_nets:net", inputs=INPUT, shapes={"sensor": (7, 16, 3)})
