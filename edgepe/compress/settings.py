"""What a compression run is told, as values.

Rules kept here:
1. Every figure that shapes a run stands here, so that a folder's ``compression.json`` can say how it was made.
2. A budget counts what is left after physical removal, never zeros in a tensor.
3. Values that make no sense are refused where the value is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgepe.errors import CompressError

__all__ = ["Budget", "CompressSettings", "GateSettings", "TrainSettings"]


def _refuse_unless(right: bool, name: str, expected: str, got: float) -> None:  # noqa: FBT001 - the checked condition
    if not right:
        raise CompressError(f"the setting '{name}' makes no sense", expected=expected, got=got)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How weights are trained: Adam, warm-up over the first tenth, then a cosine to zero.

    Attributes:
        epochs: Passes over the training data.
        batch: Examples a step.
        rate: Highest learning rate of the weights.
        weight_decay: Decoupled decay of the weights, a step and unit of rate.
        label_smoothing: Share of the target spread over all classes.
    """

    epochs: int
    rate: float
    batch: int = 64
    weight_decay: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        _refuse_unless(self.batch >= 2, "batch", "at least 2 (BatchNorm needs a variance)", self.batch)  # noqa: PLR2004 - two points make a variance
        _refuse_unless(self.rate > 0, "rate", "more than 0", self.rate)
        _refuse_unless(0 <= self.label_smoothing < 1, "label_smoothing", "0 to 1", self.label_smoothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What must be left: at most so many parameters, as a share of the dense twin's.

    Attributes:
        parameters: Share in (0, 1].
        round_to: Widths are rounded up to a multiple of this, where a target asks for it.
    """

    parameters: float
    round_to: int = 1

    def __post_init__(self) -> None:
        _refuse_unless(0 < self.parameters <= 1, "parameters", "a share in (0, 1]", self.parameters)
        _refuse_unless(self.round_to >= 1, "round_to", "at least 1", self.round_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """How the distribution over gates is trained, beside the weights.

    Attributes:
        train: The weights' own settings.
        rate: Learning rate of the gates: far larger than the weights', or nothing is ever removed.
        warmup: Share of the steps over which beta rises from 0 to its start.
        beta: Weight of the KL after the warm-up.
        growth: Rate of the dual ascent on log beta while the budget is not met.
        every: Steps between two decisions.
    """

    train: TrainSettings
    rate: float = 5e-2
    warmup: float = 0.2
    beta: float = 1.0
    growth: float = 0.1
    every: int = 10

    def __post_init__(self) -> None:
        _refuse_unless(self.rate > 0, "gate rate", "more than 0", self.rate)
        _refuse_unless(0 <= self.warmup < 1, "warmup", "a share in [0, 1)", self.warmup)
        _refuse_unless(self.beta > 0, "beta", "more than 0", self.beta)
        _refuse_unless(self.growth > 0, "growth", "more than 0", self.growth)
        _refuse_unless(self.every >= 1, "every", "at least 1", self.every)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressSettings:
    """A whole run: dense twin, gates, removal, fine-tuning.

    Attributes:
        budget: What must be left.
        dense: Training of the dense twin; None where the model comes trained.
        gates: Training of the gates.
        finetune: Training of the smaller network.
        seed: Of the weights, the gates' samples and the order of the data.
        threads: Threads of torch; one is reproducible on every machine and, for small nets, as fast as two.
    """

    budget: Budget = field(default_factory=lambda: Budget(parameters=0.25))
    dense: TrainSettings | None = field(default_factory=lambda: TrainSettings(epochs=20, rate=5e-3))
    gates: GateSettings = field(
        default_factory=lambda: GateSettings(train=TrainSettings(epochs=20, rate=2e-3)),
    )
    finetune: TrainSettings = field(default_factory=lambda: TrainSettings(epochs=15, rate=3e-3))
    seed: int = 1
    threads: int = 1
