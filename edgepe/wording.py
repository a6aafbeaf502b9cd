"""Words for an error: what another library said, in one line."""

from __future__ import annotations

__all__ = ["first_line"]


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's text; its type where it has none.

    >>> first_line(ValueError("one\ntwo")), first_line(EOFError())
    ('one', 'EOFError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
