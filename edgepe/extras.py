"""Optional parts of the installation: an import that is missing is told as the extra that brings it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgepe.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["needs_extra"]

OURS = frozenset({"edgepe", "device_agent"})


@contextmanager
def needs_extra(extra: str, *, wanted_by: str) -> Iterator[None]:
    """Turn a missing foreign module inside the block into the name of the extra that brings it.

    Args:
        extra: The extra of the distribution.
        wanted_by: What the user asked for.

    Raises:
        MissingExtraError: A module that is not ours could not be found.

    >>> with needs_extra("compile", wanted_by="edgepe build"):
    ...     import no_such_module
    Traceback (most recent call last):
    ...
    edgepe.errors.MissingExtraError: edgepe build needs the extra 'compile'
      expected: the module 'no_such_module'
      got: not installed
      next: pip install 'edgepe[compile]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or module in OURS:
            raise
        raise MissingExtraError(extra, wanted_by=wanted_by, module=module) from error
