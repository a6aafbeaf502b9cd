"""Arrays from ``.npz`` and ``.npy`` files, without pickle: a file from outside must not run code."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from device_agent.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.runtime.base import Array

__all__ = ["read_arrays"]


def read_arrays(path: Path, *, what: str) -> dict[str, Array]:
    """Read a file's arrays by name; the array of an ``.npy`` file is named ``x``.

    Args:
        path: The file.
        what: What the file is to the user, for the message: ``recording``.

    Raises:
        ModelError: The file is missing, damaged or holds pickles.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"x": loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"The {what} {path} cannot be read.", got=str(error)) from error
