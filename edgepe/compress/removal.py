"""From a trained distribution to a smaller ordinary network.

Rules kept here:
1. E[theta] is folded into the weights, removed channels are taken out physically, with all that is coupled to them.
2. The smaller network must give what the gated one gives in evaluation mode, to 1e-5; otherwise it is an error (an
   activation that does not leave 0 at 0, for one).
3. Then BatchNorm's statistics are taken anew: those of training saw sampled gates.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edgepe.compress.budget import round_up
from edgepe.compress.gates import LogNormalGate
from edgepe.compress.groups import Norm, prune_channels
from edgepe.errors import CompressError

if TYPE_CHECKING:
    from edgepe.compress.training_data import Samples
    from edgepe.compress.variational import Variational

__all__ = ["PARITY", "parity", "rebuild", "recalibrate"]

PARITY = 1e-5
PROBES = 16


def rebuild(model: Variational, *, round_to: int = 1) -> nn.Module:
    """Return the smaller network, evaluation mode, equal to the gated one in evaluation mode.

    Args:
        model: The variational network; with ``round_to`` its closed gates of largest expectation open again.
        round_to: Widths are rounded up to a multiple of this.

    Raises:
        CompressError: The smaller network does not give what the gated one gives.
    """
    for gate, channels in zip(model.gates, model.structure.widths, strict=True):
        if isinstance(gate, LogNormalGate):
            gate.widen(round_up(int(gate.kept.sum()), round_to, most=channels))
    folded = model.deterministic()
    smaller = copy.deepcopy(folded)
    removals = [
        (group.name, sorted(set(range(group.channels)) - set(kept)))
        for group, kept in zip(model.structure.groups, model.keep_lists, strict=True)
    ]
    prune_channels(smaller, model.example, removals)
    model.eval()
    probe = _probe(model.example)
    for what, other in (("gated", model), ("folded", folded)):
        error = parity(other, smaller, probe)
        if error > PARITY:
            raise CompressError(
                f"the rebuilt network does not give what the {what} one gives",
                expected=f"outputs within {PARITY:g}",
                got=f"a difference of {error:.3g}",
                next_step="use activations that leave 0 at 0 (ReLU, tanh, GELU, SiLU) behind layers that shrink",
            )
    return smaller.eval()


def parity(first: nn.Module, second: nn.Module, x: Tensor) -> float:
    """Return the largest difference of two networks' outputs, relative to the largest output where that exceeds 1."""
    with torch.no_grad():
        expected, got = first(x), second(x)
    return float((expected - got).abs().max() / expected.abs().max().clamp(min=1.0))


def recalibrate(model: nn.Module, data: Samples, *, batch: int = 256) -> None:
    """Take BatchNorm's statistics anew, over all samples, in place; leave the network in evaluation mode."""
    norms = [module for module in model.eval().modules() if isinstance(module, Norm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for start in range(0, len(data), batch):
            part = data.x[start : start + batch]
            if len(part) > 1:
                model(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _probe(example: Tensor) -> Tensor:
    """Return random inputs of the example's shape, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(PROBES, *example.shape[1:], generator=generator)
