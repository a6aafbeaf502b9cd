"""How an artifact is made, as a value: its precision, and what was done to keep its score.

Rules kept here:
1. Two artifacts of one model for one board differ in their recipe alone: same recipe, same bytes.
2. A recipe says what it is in words, so that every attempt can be told apart in a report.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepe.scheme import Precision

__all__ = ["Activations", "Recipe", "Remedy"]

NAMES_TOLD = 4


class Activations(StrEnum):
    """Where the scales of int8 activations come from."""

    STATIC = "static"  # calibrated: fixed in the file
    DYNAMIC = "dynamic"  # taken from the values at each run; weights are int8 all the same


class Remedy(StrEnum):
    """What is done to the float graph so that its int8 twin loses less."""

    EQUALIZE = "equalize"  # spread channel ranges evenly over neighbouring layers
    BIAS = "bias"  # take the mean error of rounded weights out of the biases


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to make an artifact.

    Attributes:
        precision: What it aims at; ``mixed`` is int8 with some nodes given back to float.
        activations: Where int8 scales come from.
        float_nodes: Nodes given back to float, in graph order.
        remedies: Applied to the float graph first, in this order.
    """

    precision: Precision
    activations: Activations = Activations.STATIC
    float_nodes: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()

    @property
    def note(self) -> str:
        """What is special about it, in words; empty for the plain recipe of a precision."""
        told = [str(remedy) for remedy in self.remedies]
        if self.activations is Activations.DYNAMIC:
            told.insert(0, "dynamic")
        if self.float_nodes:
            names = ", ".join(self.float_nodes[:NAMES_TOLD])
            more = len(self.float_nodes) - NAMES_TOLD
            told.append(f"float: {names}{f' and {more} more' if more > 0 else ''}")
        return "; ".join(told)

    def __str__(self) -> str:
        """Return precision and note.

        >>> from edgepe.scheme import Precision
        >>> str(Recipe(precision=Precision.MIXED, float_nodes=("stem",), remedies=(Remedy.BIAS,)))
        'mixed (bias; float: stem)'
        """
        return f"{self.precision} ({self.note})" if self.note else str(self.precision)
