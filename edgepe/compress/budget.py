"""The controller that drives a variational network to its budget: adaptive regularization by dual ascent.

Rules kept here:
1. beta rises from 0 to its start over the warm-up; before its end nothing is removed.
2. While the network is above its budget, log beta ascends along the relative excess (the constraint's own size, at
   most 1), so beta grows fast when far away and slowly when near.
3. At each decision the channels whose evidence asks for it are removed, the most willing first, and never past the
   budget, which counts widths rounded up where a target asks for it; a group keeps one channel at least.
4. Once the budget is met nothing more is removed, and beta falls to 0: what is left trains undisturbed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from edgepe.compress.gates import LogNormalGate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.compress.settings import GateSettings
    from edgepe.compress.variational import Variational

__all__ = ["BudgetController", "ascend", "round_up"]


def ascend(beta: float, *, excess: float, growth: float) -> float:
    """Return beta after one step of dual ascent on log beta; excess is (cost - budget) / budget."""
    return beta * math.exp(growth * min(max(excess, 0.0), 1.0))


def round_up(kept: int, multiple: int, *, most: int) -> int:
    """Return the smallest multiple that holds so many channels, but never more than there are."""
    return min(most, math.ceil(kept / multiple) * multiple)


class BudgetController:
    """Decides beta and removals, step by step.

    Args:
        model: The network that is trained.
        settings: How gates are trained.
        parameters: The budget, in parameters.
        steps: How many steps the training has.
        round_to: Widths will be rounded up to a multiple of this.
    """

    def __init__(
        self, model: Variational, settings: GateSettings, *, parameters: int, steps: int, round_to: int = 1
    ) -> None:
        self._model = model
        self._settings = settings
        self._budget = parameters
        self._warmup = max(1, round(settings.warmup * steps))
        self._round_to = round_to
        self._ascended = settings.beta
        self._step = 0

    @property
    def cost(self) -> int:
        """Parameters that physical removal would leave now, widths rounded up."""
        structure = self._model.structure
        widths = zip(self._model.kept, structure.widths, strict=True)
        return structure.parameters([round_up(kept, self._round_to, most=most) for kept, most in widths])

    def met(self) -> bool:
        """Whether the budget is met."""
        return self.cost <= self._budget

    @property
    def beta(self) -> float:
        """The weight of the KL at this step."""
        if self.met():
            return 0.0
        return self._ascended * min(1.0, self._step / self._warmup)

    def after_step(self) -> None:
        """Project the gates; at each decision, remove what asks for it and raise beta if that was too little."""
        self._step += 1
        for gate in self._model.modules():
            if isinstance(gate, LogNormalGate):
                gate.project()
        if self._step < self._warmup or self._step % self._settings.every or self.met():
            return
        for gate, channel in self._willing():
            if self.met():
                break
            if int(gate.kept.sum()) > 1:
                gate.remove(channel)
        excess = (self.cost - self._budget) / self._budget
        self._ascended = ascend(self._ascended, excess=excess, growth=self._settings.growth)

    def _willing(self) -> Iterator[tuple[LogNormalGate, int]]:
        """Yield the channels whose evidence asks for removal, the most willing first."""
        gates = [gate for gate in self._model.gates if isinstance(gate, LogNormalGate)]
        scores = [(score, place, channel) for place, gate in enumerate(gates) for channel, score in _asking(gate)]
        for _, place, channel in sorted(scores, reverse=True):
            yield gates[place], channel


def _asking(gate: LogNormalGate) -> list[tuple[int, float]]:
    evidence = gate.evidence()
    asking = torch.nonzero(evidence >= 0)[:, 0].tolist()
    return [(channel, float(evidence[channel])) for channel in asking]
