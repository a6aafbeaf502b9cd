"""The one shape of an error that a user reads, shared by both sides.

Rules kept here:
1. A message says what happened, what was expected, what was got, and the next step.
2. The facts are attributes, so that a caller never parses the text.
3. ``exit_code`` is 1 for a failure and 2 for wrong usage.
"""

from __future__ import annotations

__all__ = ["ExplainedError", "WireError"]


class ExplainedError(Exception):
    """An error that explains itself: what, expected, got, next step.

    Args:
        what: One sentence on what is wrong.
        expected: What would have been right.
        got: What was found instead.
        next_step: What the user can do now.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.got = got
        self.next_step = next_step

    def __str__(self) -> str:
        """Return the explanation, one fact a line."""
        rows = (("expected", self.expected), ("got", self.got), ("next", self.next_step))
        return "\n".join([self.what, *(f"  {label}: {value}" for label, value in rows if value is not None)])


class WireError(ExplainedError):
    """A message, topic, manifest or histogram that breaks its format."""
