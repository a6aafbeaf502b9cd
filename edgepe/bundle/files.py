"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edgepe.errors import BundleError

__all__ = ["write_whole"]

READABLE = 0o644


def write_whole(path: Path, data: bytes) -> None:
    """Write the bytes under a temporary name, then rename it: a reader sees the old file or the new one.

    Raises:
        BundleError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(READABLE)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path} cannot be written", expected="a folder with room that may be written", got=error.strerror or str(error)
    )
