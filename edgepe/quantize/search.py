"""Try precisions in the target's order and keep the first artifact that holds the contract.

Rules kept here:
1. The order is the target's; the first that holds every bound ships, and nothing after it is tried.
2. Where int8 breaks the bound on the score, and that one alone, its remedies are tried, then mixed precision: int8 with
   the operators given back to float that cost most of the score.
3. What is slower than its float twin is held back, and ships only where nothing else holds the contract: because a
   bound wants it, or because it was asked for by name. That is told.
4. Every attempt is recorded, also one that could not be built or run: nothing falls back silently.
5. Nothing held: the error names, for each bound, the nearest attempt and by how much it missed.
6. No I/O: building and measuring are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from edgepe.contract import BoundKind, Contract, Measured, Verdict, judge
from edgepe.errors import ContractError, EdgepeError, UnsupportedOpError, VerifyError
from edgepe.quantize.mixed import Outcome, fewest_bytes
from edgepe.quantize.recipe import Activations, Recipe, Remedy
from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepe.quantize.mixed import Group

__all__ = ["SLOWER", "Attempt", "Candidate", "Found", "Workshop", "search"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SLOWER = 1.05
"""From this multiple of the float twin's latency on, an artifact is slower; below it is noise."""

HELPS = 0.9
"""A remedy is tried where it leaves at most this share of the error on the calibration data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Generic[T_co]):
    """An artifact that was built and measured.

    Attributes:
        artifact: Whatever the caller builds.
        measured: What the contract asks about it.
    """

    artifact: T_co
    measured: Measured


class Workshop(Protocol[T_co]):
    """Builds what the search wants to try, and knows the model."""

    def candidate(self, recipe: Recipe) -> Candidate[T_co]:
        """Make and measure an artifact.

        Raises:
            UnsupportedOpError: The format cannot hold an operator, or the precision. Counts as a failed attempt.
            VerifyError: The runtime crashes on it or refuses it. Counts as a failed attempt.
        """

    def activations(self) -> tuple[Activations, ...]:
        """Return the kinds of int8 activations to try, best first."""

    def remedies(self, recipe: Recipe) -> tuple[tuple[tuple[Remedy, ...], float], ...]:
        """Return remedies for an int8 recipe, best first, each with what it leaves of the plain recipe's error."""

    def groups(self, recipe: Recipe) -> tuple[Group, ...]:
        """Return the groups of int8 operators of a recipe, with what each costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of one recipe.

    Attributes:
        recipe: The recipe.
        measured: What was measured; None where nothing could be built or run.
        verdict: The contract's judgement; None likewise.
        error: Why nothing could be built or run; empty otherwise.
    """

    recipe: Recipe
    measured: Measured | None
    verdict: Verdict | None
    error: str = ""

    @property
    def precision(self) -> Precision:
        """The recipe's precision."""
        return self.recipe.precision

    @property
    def held(self) -> bool:
        """Whether the contract was held."""
        return self.verdict is not None and self.verdict.held

    @property
    def slower(self) -> bool:
        """Whether it is slower than its float twin (rule 3)."""
        return self.measured is not None and (self.measured.slowdown or 0.0) > SLOWER

    @property
    def slowness(self) -> str:
        """How slow it is, in words; empty where it is not slower."""
        if self.measured is None or not self.slower:
            return ""
        return f"takes {self.measured.slowdown:.2f} times as long as float"

    def __str__(self) -> str:
        """Return the attempt in one line."""
        if self.verdict is None:
            return f"{self.recipe}: {self.error.splitlines()[0]}"
        told = [str(bound) for bound in self.verdict.bounds] or ["no bound was set"]
        if self.slower:
            told.append(self.slowness)
        return f"{self.recipe}: {'; '.join(told)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """The artifact that ships, and how it was found.

    Attributes:
        artifact: The one that ships.
        attempt: Its attempt.
        attempts: Every attempt in order, save that its own comes last.
    """

    artifact: T
    attempt: Attempt
    attempts: tuple[Attempt, ...]


def search(precisions: Sequence[Precision], contract: Contract, workshop: Workshop[T]) -> Found[T]:
    """Return the artifact that ships.

    Args:
        precisions: What to try, best first: the target's order, or the one the user asked for.
        contract: The bounds.
        workshop: Makes and measures artifacts; an error other than its two named ones ends the search.

    Raises:
        ContractError: No artifact holds the contract.
        UnsupportedOpError: No precision could be built at all; the last reason.
        VerifyError: Likewise, no artifact could be run.
        ValueError: There is nothing to try.
    """
    if not precisions:
        raise ValueError("there is no precision to try")
    return Search(contract, workshop).run(precisions)


class Search(Generic[T]):
    """One search: the attempts so far, and what was held back."""

    def __init__(self, contract: Contract, workshop: Workshop[T]) -> None:
        self._contract = contract
        self._workshop = workshop
        self._attempts: list[Attempt] = []
        self._artifacts: dict[Recipe, T] = {}
        self._failure: EdgepeError | None = None

    def run(self, precisions: Sequence[Precision]) -> Found[T]:
        """Try the precisions in order; see :func:`search`."""
        may_mix = len(precisions) > 1
        for precision in precisions:
            found = (
                self._int8(may_mix=may_mix) if precision is Precision.INT8 else self._try(Recipe(precision=precision))
            )
            if self._ships(found):
                return self._found(found)
        held_back = next((attempt for attempt in self._attempts if attempt.held), None)
        if held_back is not None:
            return self._found(held_back)
        if self._failure is not None and all(attempt.verdict is None for attempt in self._attempts):
            raise self._failure
        raise broken(self._contract, self._attempts)

    def _int8(self, *, may_mix: bool) -> Attempt:
        """Try int8: plain, with remedies, and where that is allowed with some operators in float."""
        tried = []
        for activations in self._workshop.activations():
            tried.append(self._try(Recipe(precision=Precision.INT8, activations=activations)))
            if self._ships(tried[-1]) or not too_lossy(tried[-1]):
                return tried[-1]
        base = min(tried, key=lost)
        for remedies, share in self._workshop.remedies(base.recipe):
            recipe = replace(base.recipe, remedies=remedies)
            if share > HELPS:
                why = f"leaves {share:.2f} times the error of plain int8 on the calibration data"
                self._attempts.append(Attempt(recipe=recipe, measured=None, verdict=None, error=why))
                continue
            tried.append(self._try(recipe))
            if self._ships(tried[-1]):
                return tried[-1]
        best = min(tried, key=lost)
        return self._mixed(best) if may_mix else best

    def _mixed(self, base: Attempt) -> Attempt:
        """Give operators back to float until the contract holds (rule 2)."""
        tried: dict[tuple[Group, ...], Attempt] = {}

        def attempt(chosen: tuple[Group, ...]) -> Outcome:
            names = {node for group in chosen for node in group.nodes}
            nodes = tuple(node for group in groups for node in group.nodes if node in names)
            tried[chosen] = self._try(replace(base.recipe, precision=Precision.MIXED, float_nodes=nodes))
            return outcome(tried[chosen])

        groups = self._workshop.groups(base.recipe)
        fewest_bytes(groups, attempt)
        held = [made for made in tried.values() if self._ships(made)]
        return min(held, key=weight, default=base)

    def _try(self, recipe: Recipe) -> Attempt:
        try:
            candidate = self._workshop.candidate(recipe)
        except (UnsupportedOpError, VerifyError) as error:
            self._failure = error
            made = Attempt(recipe=recipe, measured=None, verdict=None, error=str(error))
        else:
            self._artifacts[recipe] = candidate.artifact
            verdict = judge(self._contract, candidate.measured)
            made = Attempt(recipe=recipe, measured=candidate.measured, verdict=verdict)
        self._attempts.append(made)
        return made

    def _ships(self, attempt: Attempt) -> bool:
        return attempt.held and not attempt.slower

    def _found(self, attempt: Attempt) -> Found[T]:
        others = tuple(other for other in self._attempts if other is not attempt)
        return Found(artifact=self._artifacts[attempt.recipe], attempt=attempt, attempts=(*others, attempt))


def too_lossy(attempt: Attempt) -> bool:
    """Tell whether an attempt breaks the bound on the score, and no other."""
    return attempt.verdict is not None and {bound.kind for bound in attempt.verdict.broken} == {BoundKind.DROP}


def lost(attempt: Attempt) -> float:
    """Return how much of the score an attempt lost."""
    drop = attempt.measured.drop if attempt.measured is not None else None
    return float("inf") if drop is None else drop


def weight(attempt: Attempt) -> tuple[int, tuple[str, ...]]:
    """Return the bytes of an attempt; what is in float breaks a tie, so that the choice does not hang on the order."""
    return (attempt.measured.bytes if attempt.measured is not None else 0), attempt.recipe.float_nodes


def outcome(attempt: Attempt) -> Outcome:
    """Say which way to go on from a mixed attempt."""
    if attempt.held and not attempt.slower:
        return Outcome.HELD
    kinds = {bound.kind for bound in attempt.verdict.broken} if attempt.verdict is not None else set()
    return Outcome.TOO_LARGE if BoundKind.BYTES in kinds else Outcome.TOO_LOSSY


def broken(contract: Contract, attempts: Sequence[Attempt]) -> ContractError:
    """Make the error of rule 5."""
    judged = [(attempt, bound) for attempt in attempts if attempt.verdict for bound in attempt.verdict.bounds]
    kinds = dict.fromkeys(bound.kind for _, bound in judged)
    nearest = [
        min((row for row in judged if row[1].kind is kind), key=lambda row: (row[1].value is None, row[1].over))
        for kind in kinds
    ]
    missed = [f"{bound} ({attempt.precision})" for attempt, bound in nearest if not bound.held]
    if not missed:
        missed = [f"each bound is held by some precision, all of them by none ({contract.metric})"]
    return ContractError(
        "No artifact holds the contract.",
        expected="; ".join(f"{bound.kind} <= {bound.limit:g}" for _, bound in nearest),
        got="; ".join(missed),
        next_step="tried "
        + " | ".join(map(str, attempts))
        + "; loosen the bound, or train or compress the model further",
    )
