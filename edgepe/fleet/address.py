"""Where a running fleet can be reached: ``DIR/fleet.json``.

Rules kept here:
1. Written whole when everything is up, readable by its owner alone (it holds the token), removed as the stop begins.
2. One fleet per DIR: the folder itself is locked while a fleet runs, and the lock vanishes with its holder.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edgepe.errors import FleetError
from edgepe.fleet.files import PRIVATE, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FleetAddress", "locked", "read_address", "remove_address", "write_address"]

FILE = "fleet.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAddress:
    """A running fleet.

    Attributes:
        pid: The process that started it all; ending it ends the rest.
        page: URL of the page; the API is ``api/`` below it.
        repository: URL for ``[repository] url`` of ``agent.toml``.
        broker: URL for ``[mqtt] url``.
        key: Public key for ``[trust] keys``, hexadecimal.
        token: For whoever may change something.
        collectors: Their process ids.
    """

    schema: int = SCHEMA
    pid: int
    page: str
    repository: str
    broker: str
    key: str
    token: str
    collectors: tuple[int, ...]
    started_ms: int


def write_address(folder: Path, address: FleetAddress) -> None:
    """Say where the fleet is."""
    text = msgspec.json.format(msgspec.json.encode(address), indent=1)
    write_atomically(folder / FILE, text + b"\n", mode=PRIVATE)


def remove_address(folder: Path) -> None:
    """Say that no fleet is there."""
    (folder / FILE).unlink(missing_ok=True)


def read_address(folder: Path) -> FleetAddress:
    """Return where the fleet of a folder is.

    Raises:
        FleetError: None runs there, or another edgepe wrote the file.
    """
    path = folder / FILE
    try:
        address = msgspec.json.decode(path.read_bytes(), type=FleetAddress)
    except FileNotFoundError as error:
        raise FleetError(
            f"no fleet runs in {folder}",
            expected=f"the file {path}",
            got="no such file",
            next_step=f"start one: edgepe fleet up --dir {folder}; or name its folder with --dir",
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise FleetError(f"{path} cannot be read", expected=f"schema {SCHEMA}", got=error) from error
    if address.schema != SCHEMA:
        raise FleetError(f"another edgepe wrote {path}", expected=f"schema {SCHEMA}", got=address.schema)
    return address


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a fleet's folder alone.

    Raises:
        FleetError: A fleet runs there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FleetError(
                f"a fleet runs in {folder} already",
                expected="one fleet per folder",
                next_step=f"see edgepe fleet status --dir {folder}, or choose another --dir",
            ) from error
        remove_address(folder)  # of a fleet that was killed
        yield
    finally:
        os.close(handle)
