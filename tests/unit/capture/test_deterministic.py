"""What draws or masks its weights becomes plain layers that compute the mean, or the masked net."""

from __future__ import annotations

import importlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from edgepe.capture.captured import Captured, Port
from edgepe.capture.foreign import mean_layer
from edgepe.capture.masks import fold_masks
from edgepe.capture.torch_module import capture_module, make_deterministic
from edgepe.capture.weights import load_weights
from edgepe.errors import CaptureError, WeightsError


def _library(module: str) -> types.ModuleType:
    found = pytest.importorskip(module, reason=f"{module} is not installed")
    assert isinstance(found, types.ModuleType)
    return found


def _run(captured: Captured, x: torch.Tensor) -> np.ndarray:
    session = ort.InferenceSession(ir.serde.serialize_model(captured.model).SerializeToString())
    return np.asarray(session.run(None, {captured.inputs[0].name: x.numpy()})[0])


def _mean_of_draws(layer: nn.Module, x: torch.Tensor, draws: int = 300) -> torch.Tensor:
    with torch.no_grad():
        total = torch.stack([out[0] if isinstance(out := layer(x), tuple) else out for _ in range(draws)])
    return total.mean(0)


def _close(mean: nn.Module, drawn: nn.Module, *shape: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, *shape)
    with torch.no_grad():
        out = mean(x)
    value = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(value, _mean_of_draws(drawn, x), atol=0.08, rtol=0.05)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("style", ["Reparameterization", "Flipout"])
def test_layers_of_bayesian_torch_become_their_means(style: str, bias: bool) -> None:  # noqa: FBT001 - a table's column
    layers = _library("bayesian_torch.layers")
    torch.manual_seed(0)
    linear = getattr(layers, f"Linear{style}")(6, 3, posterior_rho_init=-5.0, bias=bias)
    conv = getattr(layers, f"Conv2d{style}")(
        4, 6, (3, 3), padding=1, stride=2, groups=2, posterior_rho_init=-5.0, bias=bias
    )
    for layer, shape in ((linear, (6,)), (conv, (4, 8, 8))):
        stand_in = mean_layer(layer, path="layer")
        assert stand_in is not None
        _close(stand_in, layer, *shape)
        output, kl = stand_in(torch.randn(1, *shape))
        assert kl == 0
        assert torch.equal(output, stand_in(torch.zeros(1, *shape), return_kl=False)) is False


def test_a_layer_that_bayesian_torch_converted_returns_no_kl() -> None:
    layers = _library("bayesian_torch.layers")
    layer = layers.LinearReparameterization(6, 3)
    layer.dnn_to_bnn_flag = True
    assert isinstance(mean_layer(layer, path="layer"), nn.Linear)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_blitz_become_their_means(bias: bool) -> None:  # noqa: FBT001 - a table's column
    modules = _library("blitz.modules")
    torch.manual_seed(0)
    linear = modules.BayesianLinear(6, 3, bias=bias)
    conv = modules.BayesianConv2d(4, 6, (3, 3), padding=1, groups=2, bias=bias)
    for layer, shape in ((linear, (6,)), (conv, (4, 8, 8)), (modules.BayesianConv1d(3, 4, 3, bias=bias), (3, 9))):
        stand_in = mean_layer(layer, path="layer")
        assert isinstance(stand_in, (nn.Linear, nn.Conv1d, nn.Conv2d))
        assert (stand_in.bias is not None) is bias
        _close(stand_in, layer, *shape)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_torchbnn_become_their_means(bias: bool) -> None:  # noqa: FBT001 - a table's column
    library = _library("torchbnn")
    torch.manual_seed(0)
    linear = library.BayesLinear(0, 0.02, 6, 3, bias=bias)
    conv = library.BayesConv2d(0, 0.02, 4, 6, 3, padding=1, groups=2, bias=bias)
    for layer, shape in ((linear, (6,)), (conv, (4, 8, 8))):
        stand_in = mean_layer(layer, path="layer")
        assert stand_in is not None
        _close(stand_in, layer, *shape)


@pytest.mark.parametrize(
    ("module", "make"),
    [
        pytest.param("blitz.modules", lambda found: found.BayesianLSTM(3, 4), id="blitz"),
        pytest.param("torchbnn", lambda found: found.BayesBatchNorm2d(0, 0.1, 4), id="torchbnn"),
        pytest.param("bayesian_torch.layers", lambda found: found.ConvTranspose1dFlipout(3, 4, 3), id="bayesian-torch"),
    ],
)
def test_a_variational_layer_without_an_entry_is_named(module: str, make: object) -> None:
    assert callable(make)
    net = nn.Sequential(nn.ReLU(), make(_library(module)))
    with pytest.raises(CaptureError, match=r"variational layer '1' of[\s\S]*deterministic\(\)"):
        make_deterministic(net)


@pytest.mark.slow
def test_a_net_of_blitzs_is_exported_as_its_mean() -> None:
    modules = _library("blitz.modules")
    torch.manual_seed(0)
    net = nn.Sequential(modules.BayesianLinear(6, 5), nn.ReLU(), modules.BayesianLinear(5, 3))
    captured = capture_module(net, name="n", inputs=(Port(name="x", dtype="float32", shape=(-1, 6)),))
    x = torch.randn(4, 6)
    np.testing.assert_allclose(_run(captured, x), net(x).detach().numpy(), atol=1e-5)
    assert [node.op_type for node in captured.model.graph] == ["Gemm", "Relu", "Gemm"]


class Drawing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


@pytest.mark.slow
def test_a_layer_that_draws_and_says_nothing_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"draws random numbers[\s\S]*deterministic\(\)"):
        capture_module(Drawing(), name="n", inputs=(Port(name="x", dtype="float32", shape=(-1, 6)),))


def _pruned() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    prunes: Any = prune  # torch gives these functions no types
    for layer in (net[0], net[2]):
        prunes.l1_unstructured(layer, "weight", amount=0.5)
    prunes.random_structured(net[0], "weight", amount=2, dim=0)
    prunes.l1_unstructured(net[0], "bias", amount=2)
    return net


def test_masks_are_folded_into_the_weights() -> None:
    net, x = _pruned(), torch.randn(4, 6)
    expected = net(x).detach()
    fold_masks(net)
    assert set(net.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not any(layer._forward_pre_hooks for layer in net.modules())
    torch.testing.assert_close(net(x).detach(), expected)


def test_parametrizations_are_evaluated_once() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)), parametrizations.spectral_norm(nn.Linear(4, 2)))
    x = torch.randn(3, 6)
    net.eval()
    expected = net(x).detach()
    fold_masks(net)
    assert not any(parametrize.is_parametrized(layer) for layer in net)
    torch.testing.assert_close(net(x).detach(), expected)


def test_weights_saved_with_their_masks_fit_the_plain_module(tmp_path: Path) -> None:
    net, x = _pruned(), torch.randn(4, 6)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    load_weights(plain, tmp_path / "w.safetensors")
    torch.testing.assert_close(plain(x).detach(), net(x).detach())


def test_a_mask_without_its_weights_is_no_state(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in _pruned().state_dict().items() if name != "0.weight_orig"}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"missing 0\.weight"):
        load_weights(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), tmp_path / "w.safetensors")


def test_no_library_is_imported_to_be_known() -> None:
    source = Path(importlib.import_module("edgepe.capture.foreign").__file__ or "").read_text(encoding="utf8")
    assert "import bayesian_torch" not in source
    assert "import blitz" not in source
