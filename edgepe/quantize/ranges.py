"""What a value spans.

Rules kept here:
1. A range is finite and always holds zero, so that padding and ReLU's floor are exact in int8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Range", "Ranges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a value was seen to span; zero is always inside.

    Raises:
        ValueError: A bound is not finite, or zero lies outside.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"a range must be finite, got {self.low}..{self.high}")
        if not self.low <= 0.0 <= self.high:
            raise ValueError(f"a range must hold zero, got {self.low}..{self.high}")

    @classmethod
    def holding_zero(cls, low: float, high: float) -> Range:
        """Make the range of two bounds, widened to zero where needed."""
        return cls(low=min(low, 0.0), high=max(high, 0.0))

    def join(self, other: Range) -> Range:
        """Return the smallest range that holds both."""
        return Range(low=min(self.low, other.low), high=max(self.high, other.high))


Ranges: TypeAlias = Mapping[str, Range]
"""Value name → range."""
