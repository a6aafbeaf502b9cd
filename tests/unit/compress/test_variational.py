from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from edgepe.capture import Deterministic
from edgepe.compress import elbo, kl, make_variational, rebuild
from edgepe.compress.gates import LogNormalGate
from edgepe.compress.removal import PARITY, parity
from edgepe.errors import CompressError


def unsettle(model: nn.Module) -> None:
    """Give gates values of all sizes and close every third."""
    with torch.no_grad():
        for gate in model.modules():
            if isinstance(gate, LogNormalGate):
                gate.mu.copy_(torch.linspace(-3, 0, len(gate.mu)))
                gate.log_sigma.copy_(torch.linspace(-3, 1, len(gate.mu)))
                for channel in range(0, len(gate.mu), 3):
                    gate.remove(channel)


def test_the_rebuilt_network_gives_what_the_gated_one_gives(network: tuple[nn.Module, Tensor]) -> None:
    model, example = network
    variational = make_variational(model, example=example)
    unsettle(variational)
    smaller = rebuild(variational)
    assert parity(variational.eval(), smaller, example) <= PARITY
    left = sum(parameter.numel() for parameter in smaller.parameters())
    assert left == variational.structure.parameters(variational.kept)
    assert left < sum(parameter.numel() for parameter in model.parameters())
    assert not any(isinstance(module, LogNormalGate) for module in smaller.modules())


def test_the_deterministic_network_has_the_old_widths_and_the_same_outputs(network: tuple[nn.Module, Tensor]) -> None:
    model, example = network
    variational = make_variational(model, example=example)
    unsettle(variational)
    assert isinstance(variational, Deterministic)
    folded = variational.deterministic()
    assert parity(variational.eval(), folded, example) <= PARITY
    assert {name: value.shape for name, value in folded.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


def test_wrapping_changes_nothing_of_the_users_network(network: tuple[nn.Module, Tensor]) -> None:
    model, example = network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    variational = make_variational(model, example=example)
    unsettle(variational)
    variational.train()(example)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_training_samples_and_evaluation_does_not(network: tuple[nn.Module, Tensor]) -> None:
    model, example = network
    variational = make_variational(model, example=example)
    unsettle(variational)
    variational.eval()
    assert torch.equal(variational(example), variational(example))
    for gate in variational.gates:
        assert isinstance(gate, LogNormalGate)
        gate.draw(len(example))
        assert len({tuple(row) for row in gate.theta.tolist()}) == len(example)


def test_widths_are_rounded_up_where_asked() -> None:
    model = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))
    variational = make_variational(model, example=torch.zeros(2, 5))
    unsettle(variational)
    assert variational.kept == (13,)
    smaller = rebuild(variational, round_to=8)
    assert smaller.get_submodule("0").weight.shape == (16, 5)


def test_an_activation_that_lifts_zero_cannot_be_rebuilt() -> None:
    model = nn.Sequential(nn.Linear(5, 9), nn.Sigmoid(), nn.Linear(9, 3))
    variational = make_variational(model, example=torch.zeros(2, 5))
    unsettle(variational)
    with pytest.raises(CompressError, match="does not give what the gated one gives"):
        rebuild(variational)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(CompressError, match="no such distribution"):
        make_variational(nn.Linear(2, 2), example=torch.zeros(2, 2), posterior="cauchy")


def test_the_kl_of_a_network_is_the_sum_over_its_gates(network: tuple[nn.Module, Tensor]) -> None:
    model, example = network
    variational = make_variational(model, example=example)
    gates = [gate for gate in variational.gates if isinstance(gate, LogNormalGate)]
    assert math.isclose(kl(variational).item(), sum(gate.kl().item() for gate in gates), rel_tol=1e-6)
    assert kl(model).item() == 0.0


def test_the_elbo_is_the_mean_log_likelihood_less_the_weighted_kl() -> None:
    assert float(elbo(torch.tensor([-1.0, -3.0]), torch.tensor(50.0), examples=100, beta=2.0)) == -3.0
