"""Which operators to give back to float, so that the contract holds at the fewest bytes.

Rules kept here:
1. Pure: what each group of operators costs in error and bytes comes in, and trying a choice is the caller's.
2. Groups are given back in the order of error taken away per byte added; how many is found by bisection, because
   giving back more loses less and weighs more.
3. What was given back without need is taken again, heaviest first.
4. At most ``RUNS`` choices are tried. All groups are never given back: that is the float twin, which the search tries
   by its own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RUNS", "Group", "Outcome", "fewest_bytes"]

RUNS = 10
"""Most artifacts made for one mixed search."""


class Outcome(StrEnum):
    """What became of a choice."""

    HELD = "held"
    TOO_LOSSY = "too-lossy"  # more has to go back to float
    TOO_LARGE = "too-large"  # less may go back to float


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Operators that are int8 or float together.

    Attributes:
        nodes: Their names, in graph order.
        noise: Energy of the outputs' error when they alone are int8, as a share of the signal's: 10^(-SQNR/10).
        bytes: What giving them back adds to the file.
    """

    nodes: tuple[str, ...]
    noise: float
    bytes: int


def fewest_bytes(groups: Sequence[Group], attempt: Callable[[tuple[Group, ...]], Outcome]) -> tuple[Group, ...] | None:
    """Return the groups to give back, or None where no choice tried holds.

    Args:
        groups: All of them.
        attempt: Tries a choice, never an empty or a whole one.
    """
    left = RUNS
    order = sorted(groups, key=lambda group: (-group.noise / max(group.bytes, 1), group.nodes))
    best: tuple[Group, ...] | None = None
    low, high = 1, len(order) - 1
    while low <= high and left:
        middle = (low + high) // 2
        left -= 1
        outcome = attempt(tuple(order[:middle]))
        if outcome is Outcome.HELD:
            best = tuple(order[:middle])
        if outcome is Outcome.TOO_LOSSY:
            low = middle + 1
        else:
            high = middle - 1
    for group in sorted(best or (), key=lambda group: -group.bytes):
        fewer = tuple(other for other in best or () if other is not group)
        if fewer and left and group is not (best or ())[-1]:  # bisection has tried without the last one
            left -= 1
            best = fewer if attempt(fewer) is Outcome.HELD else best
    return best
