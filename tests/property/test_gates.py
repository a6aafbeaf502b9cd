"""The closed forms of the gates against Monte Carlo and against integration on a grid."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepe.compress.gates import HIGH, LOW, evidence_change, expectation, kl_divergence, sample

DRAWS = 40_000
locations = st.floats(min_value=LOW, max_value=HIGH)
log_scales = st.floats(min_value=-6.0, max_value=5.0)


def log_density(x: torch.Tensor, mu: float, log_sigma: float) -> torch.Tensor:
    """Return the log-density of the truncated normal, its mass summed on a grid of its own."""
    grid = torch.linspace(LOW, HIGH, 100_001, dtype=torch.float64)
    log_kernel = -0.5 * ((grid - mu) / math.exp(log_sigma)) ** 2
    log_mass = torch.logsumexp(log_kernel, 0) + math.log((HIGH - LOW) / 100_000)
    return -0.5 * ((x - mu) / math.exp(log_sigma)) ** 2 - log_mass


def draw(mu: float, log_sigma: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(DRAWS, 1, dtype=torch.float64, generator=generator)
    return sample(torch.tensor([mu]), torch.tensor([log_sigma]), uniform)[:, 0]


def near(estimate: torch.Tensor, exact: torch.Tensor) -> bool:
    """Say whether the mean of draws is the exact value, to five standard errors and the grid's own error."""
    error = float(estimate.std()) / math.sqrt(len(estimate))
    return abs(float(estimate.mean()) - float(exact)) <= 5 * error + 5e-3 * max(1.0, abs(float(exact)))


@settings(deadline=None, max_examples=25)
@given(mu=locations, log_sigma=log_scales)
def test_the_kl_is_the_mean_log_ratio_of_posterior_and_prior(mu: float, log_sigma: float) -> None:
    x = draw(mu, log_sigma).log()
    log_prior = -math.log(HIGH - LOW)
    kl = kl_divergence(torch.tensor([mu]), torch.tensor([log_sigma]))
    assert near(log_density(x, mu, log_sigma) - log_prior, kl)


@settings(deadline=None, max_examples=25)
@given(mu=locations, log_sigma=log_scales)
def test_the_expectation_is_the_mean_of_the_samples(mu: float, log_sigma: float) -> None:
    assert near(draw(mu, log_sigma), expectation(torch.tensor([mu]), torch.tensor([log_sigma])))


@settings(deadline=None, max_examples=200)
@given(mu=locations, log_sigma=st.floats(min_value=-12.0, max_value=5.0))
def test_every_closed_form_is_finite_and_in_its_range(mu: float, log_sigma: float) -> None:
    m, s = torch.tensor([mu], requires_grad=True), torch.tensor([log_sigma], requires_grad=True)
    kl, mean, change = kl_divergence(m, s), expectation(m, s), evidence_change(m, s)
    torch.autograd.backward([kl, mean])
    assert kl.item() >= -1e-9
    assert 0.0 <= mean.item() <= 1.0 + 1e-9
    assert math.isfinite(change.item())
    assert m.grad is not None
    assert s.grad is not None
    assert bool(torch.isfinite(m.grad).all() and torch.isfinite(s.grad).all())


@settings(deadline=None, max_examples=30)
@given(mu=locations, log_sigma=st.floats(min_value=-2.0, max_value=5.0))
def test_the_change_of_evidence_is_the_density_ratio_at_the_lower_bound(mu: float, log_sigma: float) -> None:
    """The absent prior is a point at LOW, half of it inside: the integral is the ratio of densities there."""
    at_low = log_density(torch.tensor([LOW], dtype=torch.float64), mu, log_sigma) + math.log(HIGH - LOW)
    change = evidence_change(torch.tensor([mu]), torch.tensor([log_sigma]))
    assert abs(change.item() - float(at_low)) <= 1e-3 * max(1.0, abs(float(at_low)))
