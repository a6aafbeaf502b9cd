"""Turn a missing optional part into an error that names its extra."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgepe.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["extra"]

OWN = ("edgepe", "device_agent")


@contextmanager
def extra(name: str, *, wanted_by: str) -> Iterator[None]:
    """Import what an extra brings inside this block.

    Raises:
        MissingExtraError: A module of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OWN:
            raise
        raise MissingExtraError(name, wanted_by=wanted_by, module=error.name) from error
