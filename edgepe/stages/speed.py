"""Time an artifact beside its float twin on this machine.

Rules kept here:
1. The two take turns, each round in fresh processes, so that what slows the machine for a while slows both.
2. Slower is what every round says, by more than ``NOISE``: one round that disagrees is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from edgepe.verify.run import run_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.verify.standin import StandIn

    Rival = tuple[Path, StandIn]

__all__ = ["Race", "race"]

ROUNDS = 3
RUNS = 100
NOISE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Medians of one inference, round by round.

    Attributes:
        us: Of the artifact, µs.
        float_us: Of its float twin, µs.
    """

    us: tuple[float, ...]
    float_us: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The artifact's time as a multiple of its twin's: the median over the rounds."""
        return median(self._ratios)

    @property
    def slower(self) -> bool:
        """Whether the artifact is slower, beyond noise (rule 2)."""
        return min(self._ratios) > 1.0 + NOISE

    @property
    def _ratios(self) -> tuple[float, ...]:
        return tuple(mine / other for mine, other in zip(self.us, self.float_us, strict=True))

    def to_json(self) -> dict[str, object]:
        """Return it as evidence."""
        return {
            "us": list(self.us),
            "float_us": list(self.float_us),
            "ratio": self.ratio,
            "slower": self.slower,
            "runs_a_round": RUNS,
        }


def race(artifact: Rival, twin: Rival, *, inputs: Mapping[str, NDArray[Any]]) -> Race:
    """Time an artifact and its float twin in turns.

    Args:
        artifact: Its file and what runs it.
        twin: Likewise.
        inputs: Preprocessed inputs of both; the first sample is run.

    Raises:
        VerifyError: A runtime refuses one of them.
    """
    one = {name: array[:1] for name, array in inputs.items()}
    rounds = [(_median_us(artifact, one), _median_us(twin, one)) for _ in range(ROUNDS)]
    return Race(us=tuple(mine for mine, _ in rounds), float_us=tuple(other for _, other in rounds))


def _median_us(rival: Rival, inputs: Mapping[str, NDArray[Any]]) -> float:
    path, judge = rival
    run = run_artifact(path, judge.kind, inputs, settings=dict(judge.settings), timings=RUNS)
    return run.median_us or 0.0
