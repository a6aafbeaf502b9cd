"""What a value spans.

Rules kept here:
1. A range is finite and always holds zero, so that padding and ReLU's floor are exact in int8.
2. A range that clips remembers how far values really went: fp16 must hold them all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

__all__ = ["Range", "Ranges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What of a value int8 shall hold; zero is always inside.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        beyond: Largest absolute value that was seen outside; 0 where nothing was.

    Raises:
        ValueError: A bound is not finite, or zero lies outside.
    """

    low: float
    high: float
    beyond: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and math.isfinite(self.beyond)):
            raise ValueError(f"a range must be finite, got {self.low}..{self.high}")
        if not self.low <= 0.0 <= self.high:
            raise ValueError(f"a range must hold zero, got {self.low}..{self.high}")

    @classmethod
    def holding_zero(cls, low: float, high: float) -> Range:
        """Make the range of two bounds, widened to zero where needed."""
        return cls(low=min(low, 0.0), high=max(high, 0.0))

    def join(self, other: Range) -> Range:
        """Return the smallest range that holds both."""
        return Range(
            low=min(self.low, other.low), high=max(self.high, other.high), beyond=max(self.beyond, other.beyond)
        )

    def within(self, span: Range) -> Range:
        """Return this range with what was seen outside it noted, where values spanned ``span``."""
        clips = span.low < self.low or span.high > self.high
        return replace(self, beyond=max(-span.low, span.high)) if clips else self

    @property
    def peak(self) -> float:
        """Largest absolute value that was seen, also outside the bounds."""
        return max(-self.low, self.high, self.beyond)


Ranges: TypeAlias = Mapping[str, Range]
"""Value name → range."""
