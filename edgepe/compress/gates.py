r"""Multiplicative gates on groups of weights: a truncated log-normal posterior under a log-uniform prior.

Rules kept here:
1. A gate is :math:`\theta = e^x` with x from a normal :math:`N(\mu, \sigma^2)` cut to [LOW, HIGH] = [-20, 0]; the prior
   is uniform on that interval. With a = (LOW - mu) / sigma, b = (HIGH - mu) / sigma and Z = Phi(b) - Phi(a):
   KL, expectation and evidence have closed forms (Neklyudov et al. 2017; Wright et al., BMRS, 2024).
2. All of it is computed in float64, and masses as logarithms: sigma reaches from e^-12 to e^5.
3. After each step of an optimiser :meth:`LogNormalGate.project` brings mu back into [LOW, HIGH]: then a <= 0 <= b, the
   inverse distribution function is exact, and no gradient is cut off by a clamp.
4. A channel that was removed stays removed: its gate is zero and pays no KL.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.special import log_ndtr, ndtr, ndtri

__all__ = [
    "EVIDENCE_MARGIN",
    "HIGH",
    "LOW",
    "LogNormalGate",
    "evidence_change",
    "expectation",
    "kl_divergence",
    "sample",
]

LOW = -20.0
HIGH = 0.0
LOG_SIGMA_RANGE = (-12.0, 5.0)
INITIAL_LOG_SIGMA = -5.0
# Scale of the point-like prior that stands for "this group is absent" in the evidence.
ABSENT_SIGMA = 1e-6
# A posterior that has gone back to the prior changes the evidence by exactly 0, so a group is removed from a little
# below 0 on: half of log 2 pi, which is what the formula printed with BMRS leaves out.
EVIDENCE_MARGIN = 0.5 * math.log(2 * math.pi)

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_HALF_LOG_2PI_E = 0.5 * math.log(2 * math.pi * math.e)


def _log_difference(upper: Tensor, lower: Tensor) -> Tensor:
    """Return log(Phi(upper) - Phi(lower)) for upper > lower, exact in the lower tail."""
    high: Tensor = log_ndtr(upper)
    ratio = torch.exp(log_ndtr(lower) - high).clamp(max=1 - 1e-15)
    return high + torch.log1p(-ratio)


def _density_over_mass(x: Tensor, log_mass: Tensor) -> Tensor:
    """Return x * phi(x) / Z."""
    return x * torch.exp(-0.5 * x * x - _HALF_LOG_2PI - log_mass)


def _standardize(mu: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mu, sigma and both bounds in units of sigma, all float64."""
    mu, sigma = mu.double(), log_sigma.double().exp()
    return mu, sigma, (LOW - mu) / sigma, (HIGH - mu) / sigma


def kl_divergence(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """Return KL(q || prior) in nats, float64, one value a gate.

    It is log(HIGH - LOW) less the entropy of the truncated normal (Neklyudov et al. 2017, equation 12).
    """
    _, sigma, low, high = _standardize(mu, log_sigma)
    log_mass = _log_difference(high, low)
    edges = _density_over_mass(low, log_mass) - _density_over_mass(high, log_mass)
    return math.log(HIGH - LOW) - _HALF_LOG_2PI_E - sigma.log() - log_mass - 0.5 * edges


def expectation(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """Return E[theta] in (0, 1], float64: what a gate multiplies by when nothing is sampled (ibid., equation 15)."""
    mu, sigma, low, high = _standardize(mu, log_sigma)
    shifted = _log_difference(high - sigma, low - sigma)
    return torch.exp(mu + 0.5 * sigma * sigma + shifted - _log_difference(high, low))


def evidence_change(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """Return by how many nats the evidence grows if a gate is absent (prior shrunk to a point at LOW), float64.

    The integral of q(x) * absent(x) / prior(x) over [LOW, HIGH], where absent is a normal of scale 1e-6 at LOW, cut to
    the interval. With s^2 = sigma^2 + 1e-12 the product of both normals is again a normal; differences of squares are
    taken before squaring, since mu^2 / 1e-12 alone would eat every digit of a float64.
    """
    mu, sigma, low, high = _standardize(mu, log_sigma)
    spread = sigma * sigma + ABSENT_SIGMA**2
    product_sigma = sigma * ABSENT_SIGMA / spread.sqrt()
    product_mu = LOW + (mu - LOW) * ABSENT_SIGMA**2 / spread
    log_product_mass = _log_difference((HIGH - product_mu) / product_sigma, (LOW - product_mu) / product_sigma)
    log_normal = -_HALF_LOG_2PI - 0.5 * spread.log() - 0.5 * (mu - LOW) ** 2 / spread
    log_absent_mass = math.log(0.5)
    return math.log(HIGH - LOW) + log_normal + log_product_mass - _log_difference(high, low) - log_absent_mass


def sample(mu: Tensor, log_sigma: Tensor, uniform: Tensor) -> Tensor:
    """Return theta by the inverse distribution function, float64, differentiable in mu and log_sigma.

    Args:
        mu: Locations [gates] in [LOW, HIGH].
        log_sigma: Log scales [gates].
        uniform: float64 in [0, 1), broadcast against the gates.
    """
    mu, sigma, low, high = _standardize(mu, log_sigma)
    bottom, top = ndtr(low), ndtr(high)
    quantile = (bottom + uniform * (top - bottom)).clamp(1e-15, 1 - 1e-15)
    return torch.exp((mu + sigma * ndtri(quantile)).clamp(LOW, HIGH))


class LogNormalGate(nn.Module):
    """One multiplicative gate for each channel of a group.

    Args:
        channels: How many gates.

    Attributes:
        kept: bool [channels], False where a channel was removed.
        theta: What the gated places multiply by: float32 [batch, channels] or [1, channels], set by :meth:`draw` or
            :meth:`settle`, so that all places of a group see the same gate in one pass.
    """

    kept: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(channels))
        self.log_sigma = nn.Parameter(torch.full((channels,), INITIAL_LOG_SIGMA))
        self.register_buffer("kept", torch.ones(channels, dtype=torch.bool))
        self.theta = torch.ones(1, channels)

    def kl(self) -> Tensor:
        """Return the KL of the channels that are kept, in nats, a scalar."""
        return kl_divergence(self.mu, self.log_sigma)[self.kept].sum().float()

    def draw(self, batch: int) -> None:
        """Sample a gate for each example of a batch."""
        uniform = torch.rand(batch, len(self.mu), dtype=torch.float64, device=self.mu.device)
        self.theta = sample(self.mu, self.log_sigma, uniform).float() * self.kept

    def settle(self) -> None:
        """Set each gate to its expectation."""
        self.theta = self.mean()[None]

    def mean(self) -> Tensor:
        """Return E[theta] of the kept channels and 0 of the others, float32 [channels]."""
        return expectation(self.mu, self.log_sigma).float() * self.kept

    @torch.no_grad()
    def evidence(self) -> Tensor:
        """Return how much each channel asks to be removed, in nats; from 0 on it should be. -inf if it is gone."""
        change = evidence_change(self.mu, self.log_sigma) + EVIDENCE_MARGIN
        return torch.where(self.kept, change, torch.full_like(change, -math.inf))

    @torch.no_grad()
    def remove(self, channel: int) -> None:
        """Close one gate for good."""
        self.kept[channel] = False

    @torch.no_grad()
    def widen(self, channels: int) -> None:
        """Open the closed gates of largest expectation until so many channels are kept."""
        closed = expectation(self.mu, self.log_sigma).masked_fill(self.kept, -1.0)
        missing = max(0, channels - int(self.kept.sum()))
        self.kept[closed.topk(missing).indices] = True

    @torch.no_grad()
    def project(self) -> None:
        """Bring the parameters back into the region where the formulas are exact."""
        self.mu.clamp_(LOW, HIGH)
        self.log_sigma.clamp_(*LOG_SIGMA_RANGE)
