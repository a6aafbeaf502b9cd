"""One training loop for the dense twin, the variational network and the rebuilt one.

Rules kept here:
1. The loss is -ELBO / N; without gates that is the cross-entropy.
2. Weights follow a warm-up and a cosine; the distribution has its own, larger and constant rate.
3. A loss that is not finite stops the run: the network goes back to the state at the end of its last good epoch, and
   the error says what to lower.
4. Under :func:`reproducible` the same seed gives the same weights; the caller's random state is left as it was.
"""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from edgepe.compress.budget import BudgetController
from edgepe.compress.variational import Variational, elbo, kl
from edgepe.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgepe.compress.settings import Budget, GateSettings, TrainSettings
    from edgepe.compress.training_data import Samples

__all__ = ["Progress", "fit", "fit_gates", "reproducible"]

WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is, at the end of an epoch.

    Attributes:
        stage: "dense", "gates" or "finetune".
        epoch: Epochs done in this stage.
        epochs: Epochs of this stage.
        loss: Mean loss of the epoch, nats.
        parameters: Parameters that the network has, or that removal would leave.
        beta: Weight of the KL; 0 where there is none.
    """

    stage: str
    epoch: int
    epochs: int
    loss: float
    parameters: int
    beta: float = 0.0


class _Objective(Protocol):
    """What the loop minimises, and what happens between steps."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""

    def after_step(self) -> None:
        """Act between two steps."""

    def progress(self, *, epoch: int, loss: float) -> Progress:
        """Say where the run is."""


@contextlib.contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Seed torch and hold its number of threads inside the block; put both back afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class _CrossEntropy:
    """The loss of an ordinary network."""

    def __init__(self, model: nn.Module, settings: TrainSettings, stage: str) -> None:
        self._settings = settings
        self._stage = stage
        self._parameters = sum(parameter.numel() for parameter in model.parameters())

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self._settings.label_smoothing)

    def after_step(self) -> None:
        """Do nothing between steps."""

    def progress(self, *, epoch: int, loss: float) -> Progress:
        return Progress(
            stage=self._stage, epoch=epoch, epochs=self._settings.epochs, loss=loss, parameters=self._parameters
        )


class _NegativeElbo:
    """The loss of a variational network under a budget."""

    def __init__(self, model: Variational, settings: GateSettings, controller: BudgetController, examples: int) -> None:
        self._model = model
        self._settings = settings
        self._controller = controller
        self._examples = examples

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self._settings.train.label_smoothing
        log_likelihood = -F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        return -elbo(log_likelihood, kl(self._model), examples=self._examples, beta=self._controller.beta)

    def after_step(self) -> None:
        self._controller.after_step()

    def progress(self, *, epoch: int, loss: float) -> Progress:
        return Progress(
            stage="gates",
            epoch=epoch,
            epochs=self._settings.train.epochs,
            loss=loss,
            parameters=self._controller.cost,
            beta=self._controller.beta,
        )


def fit(
    model: nn.Module,
    data: Samples,
    settings: TrainSettings,
    *,
    stage: str,
    seed: int,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train an ordinary network in place, by cross-entropy.

    Args:
        model: Gives logits float32 [n, classes].
        data: What to learn from.
        settings: Epochs, batch and rate.
        stage: Name of the stage in the progress.
        seed: Of the order of the data.
        report: Called at the end of each epoch.

    Raises:
        CompressError: The loss or a weight is not finite; the network is as it was at the end of its last good epoch.
    """
    groups: list[dict[str, object]] = [{"params": list(model.parameters()), "weight_decay": settings.weight_decay}]
    _run(model, data, settings, _CrossEntropy(model, settings, stage), groups, seed=seed, report=report)


def fit_gates(
    model: Variational,
    data: Samples,
    settings: GateSettings,
    budget: Budget,
    *,
    seed: int,
    report: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train weights and distribution together until the budget is met, then to the end of the epochs, in place.

    Args:
        model: The variational network.
        data: What to learn from.
        settings: Rates, warm-up, beta and how fast it grows.
        budget: What must be left.
        seed: Of the order of the data.
        report: Called at the end of each epoch.

    Raises:
        CompressError: The budget cannot be met or was not met, or the loss or a weight is not finite.
    """
    structure = model.structure
    wanted = math.floor(budget.parameters * structure.parameters(structure.widths))
    _refuse_below(wanted, structure.parameters([1] * len(structure.widths)))
    steps = settings.train.epochs * math.ceil(len(data) / settings.train.batch)
    controller = BudgetController(model, settings, parameters=wanted, steps=steps, round_to=budget.round_to)
    groups: list[dict[str, object]] = [
        {"params": model.weight_parameters(), "weight_decay": settings.train.weight_decay},
        {"params": model.gate_parameters(), "weight_decay": 0.0, "lr": settings.rate, "constant": settings.rate},
    ]
    objective = _NegativeElbo(model, settings, controller, len(data))
    _run(model, data, settings.train, objective, groups, seed=seed, report=report)
    if not controller.met():
        raise CompressError(
            "the budget was not met",
            expected=f"at most {wanted} parameters",
            got=f"{controller.cost} after {settings.train.epochs} epochs",
            next_step="raise the epochs or the growth of beta, or allow more parameters",
        )


def _refuse_below(wanted: int, least: int) -> None:
    if wanted < least:
        raise CompressError(
            "the budget cannot be met by this network",
            expected=f"at least {least} parameters, one channel in each group",
            got=wanted,
            next_step="allow more parameters",
        )


def _rate(settings: TrainSettings, step: int, steps: int) -> float:
    """Return the weights' rate at a step: linear warm-up, then cosine to zero."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return settings.rate * (step + 1) / warmup
    return settings.rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _run(
    model: nn.Module,
    data: Samples,
    settings: TrainSettings,
    objective: _Objective,
    groups: list[dict[str, object]],
    *,
    seed: int,
    report: Callable[[Progress], None],
) -> None:
    """Run the epochs; leave the network in evaluation mode."""
    optimizer = torch.optim.AdamW(groups, lr=settings.rate)
    order = torch.Generator().manual_seed(seed)
    steps = settings.epochs * math.ceil(len(data) / settings.batch)
    step = 0
    good = copy.deepcopy(model.state_dict())
    for epoch in range(1, settings.epochs + 1):
        model.train()
        losses = []
        for x, y in data.shuffled(settings.batch, order):
            losses.append(_step(model, x, y, objective, optimizer, rate=_rate(settings, step, steps)))
            if not math.isfinite(losses[-1]):
                break
            step += 1
        model.eval()
        if not _finite(losses, model):
            model.load_state_dict(good)
            raise _diverged(losses[-1], settings, epoch)
        good = copy.deepcopy(model.state_dict())
        report(objective.progress(epoch=epoch, loss=math.fsum(losses) / max(1, len(losses))))


def _step(
    model: nn.Module, x: Tensor, y: Tensor, objective: _Objective, optimizer: torch.optim.Optimizer, *, rate: float
) -> float:
    """Take one step and return its loss; take none if the loss is not finite."""
    for group in optimizer.param_groups:
        group["lr"] = group.get("constant", rate)
    loss = objective.loss(model(x), y)
    value = float(loss.detach())
    if math.isfinite(value):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        objective.after_step()
    return value


def _finite(losses: list[float], model: nn.Module) -> bool:
    return all(map(math.isfinite, losses)) and all(bool(torch.isfinite(p).all()) for p in model.parameters())


def _diverged(loss: float, settings: TrainSettings, epoch: int) -> CompressError:
    return CompressError(
        f"training diverged in epoch {epoch}; the network is back at its last good epoch",
        expected="a finite loss and finite weights",
        got=f"loss {loss:g}",
        next_step=f"lower the rate (now {settings.rate:g}), or the gates' rate; look for extreme values in the data",
    )
