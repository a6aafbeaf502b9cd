from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from edgepe.compress import GateSettings, TrainSettings, make_variational
from edgepe.compress.budget import BudgetController, ascend, round_up
from edgepe.compress.gates import LogNormalGate
from edgepe.compress.variational import Variational

SETTINGS = GateSettings(train=TrainSettings(epochs=1, rate=1e-3), warmup=0.5, every=2, beta=2.0, growth=0.1)


def variational() -> Variational:
    """Return gates of one group of 20 channels, channel 19 the most and channel 0 the least willing to leave."""
    model = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))
    made = make_variational(model, example=torch.zeros(2, 5))
    with torch.no_grad():
        gate = made.gates[0]
        assert isinstance(gate, LogNormalGate)
        gate.mu.copy_(torch.linspace(-18.0, -19.9, 20))
        gate.log_sigma.fill_(1.0)
    return made


def run(model: Variational, parameters: int, *, steps: int = 10, round_to: int = 1) -> BudgetController:
    controller = BudgetController(model, SETTINGS, parameters=parameters, steps=steps, round_to=round_to)
    for _ in range(steps):
        controller.after_step()
    return controller


def test_beta_rises_over_the_warm_up_and_nothing_is_removed_before_its_end() -> None:
    model = variational()
    controller = BudgetController(model, SETTINGS, parameters=50, steps=10)
    betas = []
    for _ in range(4):
        betas.append(controller.beta)
        controller.after_step()
    assert betas == pytest.approx([0.0, 0.4, 0.8, 1.2])
    assert model.kept == (20,)


def test_removal_stops_at_the_budget_with_the_most_willing_gone_and_beta_at_zero() -> None:
    model = variational()
    controller = run(model, 9 * 10 + 3)
    assert model.keep_lists == (tuple(range(10)),)
    assert controller.met()
    assert controller.beta == 0.0
    assert controller.cost == 93


def test_the_budget_counts_widths_rounded_up() -> None:
    model = variational()
    controller = run(model, 9 * 10 + 3, round_to=8)
    assert model.kept == (8,)
    assert controller.cost == 9 * 8 + 3


def test_a_group_keeps_one_channel_and_beta_goes_on_rising() -> None:
    model = variational()
    controller = run(model, 1, steps=20)
    assert model.kept == (1,)
    assert not controller.met()
    assert controller.beta > SETTINGS.beta


def test_the_ascent_grows_with_the_excess_up_to_a_bound() -> None:
    assert ascend(2.0, excess=0.0, growth=0.1) == 2.0
    assert ascend(2.0, excess=0.5, growth=0.1) == pytest.approx(2 * math.exp(0.05))
    assert ascend(2.0, excess=9.0, growth=0.1) == pytest.approx(2 * math.exp(0.1))


@pytest.mark.parametrize(("kept", "expected"), [(1, 8), (8, 8), (9, 16), (17, 20)])
def test_rounding_up_never_passes_what_there_is(kept: int, expected: int) -> None:
    assert round_up(kept, 8, most=20) == expected
