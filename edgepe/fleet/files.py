"""Writing files so that a reader sees the old or the new one, never half.

Rules kept here:
1. A file is written to a temporary name in its own folder, synced, then renamed over the old one.
2. A failure leaves no temporary file behind.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PRIVATE", "PUBLIC", "opened_atomically", "write_atomically"]

PRIVATE = 0o600
PUBLIC = 0o644


@contextmanager
def opened_atomically(path: Path, *, mode: int = PUBLIC) -> Iterator[BinaryIO]:
    """Give a binary file that takes ``path``'s name when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, *, mode: int = PUBLIC) -> None:
    """Write a whole file under its name in one step."""
    with opened_atomically(path, mode=mode) as file:
        file.write(content)
