from __future__ import annotations

import math

import torch

from edgepe.compress.gates import HIGH, LOW, LogNormalGate, expectation, sample


def gate(mu: list[float], log_sigma: list[float]) -> LogNormalGate:
    made = LogNormalGate(len(mu))
    with torch.no_grad():
        made.mu.copy_(torch.tensor(mu))
        made.log_sigma.copy_(torch.tensor(log_sigma))
    return made


def test_a_sharp_gate_near_one_is_kept() -> None:
    assert float(gate([0.0], [-5.0]).evidence()) < 0


def test_a_gate_of_tiny_mean_asks_to_be_removed() -> None:
    assert float(gate([-19.5], [0.0]).evidence()) > 0


def test_a_gate_that_went_back_to_its_prior_asks_to_be_removed() -> None:
    assert float(gate([0.0], [4.0]).evidence()) > 0


def test_a_removed_channel_is_zero_pays_no_kl_and_asks_for_nothing() -> None:
    made = gate([0.0, -1.0], [-5.0, -1.0])
    whole = made.kl().item()
    made.remove(1)
    made.draw(3)
    assert made.theta.shape == (3, 2)
    assert made.theta[:, 1].tolist() == [0.0, 0.0, 0.0]
    assert made.mean()[1].item() == 0.0
    assert made.kl().item() < whole
    assert made.evidence()[1].item() == -math.inf


def test_widening_opens_the_closed_gate_of_largest_expectation() -> None:
    made = gate([0.0, -9.0, -1.0, -3.0], [-5.0] * 4)
    for channel in (1, 2, 3):
        made.remove(channel)
    made.widen(2)
    assert made.kept.tolist() == [True, False, True, False]


def test_projection_brings_parameters_back_into_the_region_of_the_formulas() -> None:
    made = gate([3.0, -40.0], [9.0, -30.0])
    made.project()
    assert made.mu.tolist() == [HIGH, LOW]
    assert made.log_sigma.tolist() == [5.0, -12.0]


def test_samples_lie_in_the_gates_range_and_follow_the_uniform_in_order() -> None:
    uniform = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    theta = sample(torch.tensor([-1.0]), torch.tensor([0.5]), uniform)[:, 0]
    assert float(theta.min()) >= math.exp(LOW)
    assert float(theta.max()) <= 1.0
    assert bool((theta[1:] >= theta[:-1]).all())


def test_a_wide_posterior_has_the_expectation_of_the_prior() -> None:
    log_uniform_mean = (1 - math.exp(LOW)) / (HIGH - LOW)
    assert math.isclose(float(expectation(torch.tensor([-10.0]), torch.tensor([5.0]))), log_uniform_mean, rel_tol=1e-2)
