"""Try precisions in the target's order and keep the first artifact that holds the contract.

Rules kept here:
1. The order is the target's; the first that holds every bound ships, and nothing after it is tried.
2. Every attempt is recorded, also one that could not be built or run: nothing falls back silently.
3. Nothing held: the error names, for each bound, the nearest attempt and by how much it missed.
4. No I/O: building and measuring are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from edgepe.contract import Contract, Measured, Verdict, judge
from edgepe.errors import ContractError, EdgepeError, UnsupportedOpError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepe.scheme import Precision

__all__ = ["Attempt", "Candidate", "Found", "search"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Generic[T]):
    """An artifact that was built and measured.

    Attributes:
        artifact: Whatever the caller builds.
        measured: What the contract asks about it.
    """

    artifact: T
    measured: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of one precision.

    Attributes:
        precision: The precision.
        measured: What was measured; None where nothing could be built or run.
        verdict: The contract's judgement; None likewise.
        error: Why nothing could be built or run; empty otherwise.
    """

    precision: Precision
    measured: Measured | None
    verdict: Verdict | None
    error: str = ""

    @property
    def held(self) -> bool:
        """Whether the contract was held."""
        return self.verdict is not None and self.verdict.held

    def __str__(self) -> str:
        """Return the attempt in one line."""
        if self.verdict is None:
            return f"{self.precision}: {self.error.splitlines()[0]}"
        return f"{self.precision}: {'; '.join(map(str, self.verdict.bounds)) or 'no bound was set'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """The artifact that ships, and how it was found.

    Attributes:
        artifact: The first that held the contract.
        attempt: Its attempt.
        attempts: Every attempt in order, the last one its own.
    """

    artifact: T
    attempt: Attempt
    attempts: tuple[Attempt, ...]


def search(
    precisions: Sequence[Precision],
    contract: Contract,
    build: Callable[[Precision], Candidate[T]],
) -> Found[T]:
    """Return the first artifact that holds the contract.

    Args:
        precisions: What to try, best first: the target's order, or the one the user asked for.
        contract: The bounds.
        build: Makes and measures the artifact of a precision. UnsupportedOpError and VerifyError count as an attempt
            that failed; any other error ends the search.

    Raises:
        ContractError: No artifact holds the contract.
        UnsupportedOpError: No precision could be built at all; the last reason.
        VerifyError: Likewise, no artifact could be run.
        ValueError: There is nothing to try.
    """
    if not precisions:
        raise ValueError("there is no precision to try")
    attempts: list[Attempt] = []
    failure: EdgepeError | None = None
    for precision in precisions:
        try:
            candidate = build(precision)
        except (UnsupportedOpError, VerifyError) as error:
            failure = error
            attempts.append(Attempt(precision=precision, measured=None, verdict=None, error=str(error)))
            continue
        verdict = judge(contract, candidate.measured)
        attempt = Attempt(precision=precision, measured=candidate.measured, verdict=verdict)
        attempts.append(attempt)
        if verdict.held:
            return Found(artifact=candidate.artifact, attempt=attempt, attempts=tuple(attempts))
    if failure is not None and all(attempt.verdict is None for attempt in attempts):
        raise failure
    raise broken(contract, attempts)


def broken(contract: Contract, attempts: Sequence[Attempt]) -> ContractError:
    """Make the error of rule 3."""
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
