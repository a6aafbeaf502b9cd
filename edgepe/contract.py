"""What the user promises their own users, and whether an artifact keeps it.

Rules kept here:
1. A bound that the user did not set judges nothing; a bound that was set and cannot be checked is broken.
2. The point estimate decides; the interval is told beside it.
3. Latency without a bound breaks nothing here; what is slower than its float twin is the search's to hold back.
4. A verdict names every bound with its limit, its value and by how much it is broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Bound", "BoundKind", "Contract", "Measured", "Verdict", "judge"]


class BoundKind(StrEnum):
    """What a bound is about, with its unit in the name."""

    DROP = "max_drop"
    BYTES = "max_bytes"
    LATENCY_US = "max_latency_us"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The bounds an artifact has to keep.

    Attributes:
        metric: Name of the metric, as :func:`edgepe.metrics.metric` knows it.
        max_drop: Largest loss against the float model: points (hundredths) of a 0-1 score, percent of the float value
            for an error; None where unbounded.
        max_bytes: Largest model file, bytes.
        max_latency_us: Largest latency of one inference, µs.
    """

    metric: str
    max_drop: float | None = None
    max_bytes: int | None = None
    max_latency_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is known of one artifact.

    Attributes:
        drop: Loss against the float model, in the unit of ``Contract.max_drop``; None where nothing was scored.
        bytes: Size of the model file.
        latency_us: Latency of one inference, µs; None where unknown.
        slowdown: Latency as a multiple of its float twin's, by figures that may decide; None where there are none.
    """

    drop: float | None
    bytes: int
    latency_us: float | None
    slowdown: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One bound of a contract, judged.

    Attributes:
        kind: What it is about.
        limit: The largest value allowed.
        value: The value found; None where it could not be had.
        held: Whether the value keeps the limit.
    """

    kind: BoundKind
    limit: float
    value: float | None
    held: bool

    @property
    def over(self) -> float:
        """By how much the limit is exceeded; 0 where it is kept or unknown."""
        return 0.0 if self.held or self.value is None else self.value - self.limit

    def __str__(self) -> str:
        """Return the bound in words."""
        if self.value is None:
            return f"{self.kind}: limit {self.limit:g}, unknown"
        excess = "held" if self.held else f"exceeded by {self.over:g}"
        return f"{self.kind}: limit {self.limit:g}, got {self.value:g}, {excess}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The bounds that were set, each judged.

    Attributes:
        bounds: The judged bounds, in the order drop, bytes, latency.
    """

    bounds: tuple[Bound, ...]

    @property
    def held(self) -> bool:
        """Whether every bound is held."""
        return all(bound.held for bound in self.bounds)

    @property
    def broken(self) -> tuple[Bound, ...]:
        """The bounds that are not held."""
        return tuple(bound for bound in self.bounds if not bound.held)


def judge(contract: Contract, measured: Measured) -> Verdict:
    """Return whether an artifact keeps each bound that was set."""
    rows = (
        (BoundKind.DROP, contract.max_drop, measured.drop),
        (BoundKind.BYTES, contract.max_bytes, measured.bytes),
        (BoundKind.LATENCY_US, contract.max_latency_us, measured.latency_us),
    )
    return Verdict(
        bounds=tuple(
            Bound(kind=kind, limit=limit, value=value, held=value is not None and value <= limit)
            for kind, limit, value in rows
            if limit is not None
        )
    )
