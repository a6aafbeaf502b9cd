"""A network whose groups of weights follow a distribution, wrapped around any ordinary network.

Rules kept here:
1. The user's network is copied and never touched; the copy gains gates and nothing else.
2. In training mode each forward pass samples one gate for each example and group; in evaluation mode each gate is its
   expectation, so the same input gives the same output.
3. ``deterministic()`` folds every gate into the layer before it: an ordinary network, equal to the gated one.
4. The loss is -ELBO / N: mean cross-entropy + beta / N * KL, N the size of the training set.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgepe.compress.gates import LogNormalGate
from edgepe.compress.groups import Affine, Norm, find_groups
from edgepe.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.compress.groups import Structure

__all__ = ["Gated", "Variational", "elbo", "kl", "make_variational"]


class Gated(nn.Module):
    """A layer and the gate behind it; the gate is owned by the :class:`Variational` around."""

    def __init__(self, inner: nn.Module, gate: LogNormalGate) -> None:
        super().__init__()
        self.inner = inner
        # In a tuple, so that a gate that stands in several places is registered once.
        self._gate = (gate,)

    @property
    def gate(self) -> LogNormalGate:
        """The gate behind this layer."""
        return self._gate[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, each channel multiplied by its gate."""
        output: Tensor = self.inner(x)
        theta = self.gate.theta
        return output * theta.view(*theta.shape, *[1] * (output.dim() - 2))


class Variational(nn.Module):
    """A network with gates on its groups; made by :func:`make_variational`.

    Args:
        network: The network that is wrapped; it is changed in place.
        structure: Its groups.
        example: Input to trace it with, float32, batch first.

    Attributes:
        network: The network with a :class:`Gated` at each gated place.
        gates: One gate for each group, in the structure's order.
        structure: Groups, and what the layers cost.
        example: The input it was traced with.
    """

    example: Tensor

    def __init__(self, network: nn.Module, structure: Structure, example: Tensor) -> None:
        super().__init__()
        self.structure = structure
        self.gates = nn.ModuleList(LogNormalGate(group.channels) for group in structure.groups)
        for group, gate in zip(structure.groups, self._gates(), strict=True):
            for name in group.gated:
                _replace(network, name, Gated(network.get_submodule(name), gate))
        self.network = network
        self.register_buffer("example", example, persistent=False)

    def _gates(self) -> Iterator[LogNormalGate]:
        for gate in self.gates:
            if isinstance(gate, LogNormalGate):
                yield gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output, float32, for inputs of the example's shape but for the batch."""
        for gate in self._gates():
            if self.training:
                gate.draw(len(x))
            else:
                gate.settle()
        output: Tensor = self.network(x)
        return output

    def gate_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the distribution, which want a larger learning rate."""
        return list(self.gates.parameters())

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return the network's own parameters."""
        return list(self.network.parameters())

    @property
    def kept(self) -> tuple[int, ...]:
        """How many channels of each group are kept."""
        return tuple(int(gate.kept.sum()) for gate in self._gates())

    @property
    def keep_lists(self) -> tuple[tuple[int, ...], ...]:
        """Which channels of each group are kept."""
        return tuple(tuple(gate.kept.nonzero()[:, 0].tolist()) for gate in self._gates())

    def deterministic(self) -> nn.Module:
        """Return the network alone, evaluation mode, with each gate folded in as its expectation, or as zero.

        The widths are those of the network that was wrapped: :func:`edgepe.compress.rebuild` removes what is zero.
        """
        with torch.no_grad():
            for gate in self._gates():
                gate.settle()
            folded = copy.deepcopy(self.network).eval()
            for name, module in list(folded.named_modules()):
                if isinstance(module, Gated):
                    _fold(module.inner, module.gate.theta[0])
                    _replace(folded, name, module.inner)
        return folded


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)


def _fold(layer: nn.Module, theta: Tensor) -> None:
    """Multiply what a layer gives by theta, channel by channel."""
    if not isinstance(layer, (*Affine, *Norm)):
        raise CompressError("a gate stands behind a layer that it cannot fold into", got=type(layer).__name__)
    layer.weight.mul_(theta.view(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.mul_(theta)


def make_variational(
    model: nn.Module,
    *,
    example: Tensor,
    posterior: str = "log-normal",
    granularity: str = "group",
) -> Variational:
    """Return a copy of a network whose groups of channels are gated by a distribution.

    Args:
        model: A network of Linear, Conv1d, Conv2d and BatchNorm; its weights are where training starts.
        example: Input of the right shape, float32, batch first, at least two examples.
        posterior: "log-normal": truncated log-normal gates under a log-uniform prior.
        granularity: "group": one gate for all that is removed together.

    Raises:
        CompressError: The network cannot be traced, holds nothing that can be removed, or the distribution is unknown.
    """
    if posterior != "log-normal" or granularity != "group":
        raise CompressError(
            "no such distribution",
            expected="posterior 'log-normal' at granularity 'group'",
            got=f"posterior '{posterior}' at granularity '{granularity}'",
        )
    network = copy.deepcopy(model)
    for layer in network.modules():
        if isinstance(layer, Norm) and layer.weight is None:
            raise CompressError("a BatchNorm without affine parameters cannot be gated", expected="affine=True")
    return Variational(network, find_groups(network, example), example)


def kl(model: nn.Module) -> Tensor:
    """Return the KL of all distributions in a network from their priors, in nats, a scalar."""
    parts = [module.kl() for module in model.modules() if isinstance(module, LogNormalGate)]
    return torch.stack(parts).sum() if parts else torch.zeros(())


def elbo(log_likelihood: Tensor, divergence: Tensor, *, examples: int, beta: float = 1.0) -> Tensor:
    """Return the evidence lower bound for one example: mean log-likelihood - beta / N * KL, in nats.

    Args:
        log_likelihood: Of each example of a batch, [batch].
        divergence: The KL of :func:`kl`, a scalar.
        examples: N, the size of the training set.
        beta: Weight of the KL.
    """
    return log_likelihood.mean() - beta / examples * divergence
