"""Two slots per model, and a small pointer to the one that serves.

::

    models/<name>/active            one letter, replaced by an atomic rename
    models/<name>/slots/a/…, b/…    an unpacked bundle each
    models/<name>/slots/a.json      what it is: name, version, digest of the bundle, target
    models/<name>/incoming.edge     a download under way, with incoming.edge.etag

Rules kept here:
1. The slot that serves is never written; a new model goes into the other one.
2. The pointer moves by one rename, after everything it points to is durable.
3. A slot counts only with its identity beside it, and that is written last.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from device_agent.errors import UpdateError
from device_agent.update.unpack import fsync_folder
from device_agent.wire.canonical import document, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Fields
from device_agent.wire.limits import MAX_PRESENCE_BYTES
from device_agent.wire.messages import ActiveModel

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SLOTS", "Slots", "installed_models", "write_durably"]

SLOTS = ("a", "b")


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that a power cut leaves the old or the new content, never a mixture.

    Raises:
        UpdateError: The disk refuses.
    """
    scratch = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise UpdateError(f"{path.name} cannot be written.", code="disk", got=str(error)) from error


def installed_models(state: Path) -> tuple[str, ...]:
    """Return the names of the models that have a folder in the agent's state, sorted."""
    folder = state / "models"
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir())) if folder.is_dir() else ()


class Slots:
    """The slots of one model.

    Args:
        folder: ``models/<name>`` in the agent's state.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def incoming(self) -> Path:
        """Return where a download goes."""
        return self._folder / "incoming.edge"

    def folder(self, slot: str) -> Path:
        """Return the folder of one slot."""
        return self._folder / "slots" / slot

    def active(self) -> str | None:
        """Return the letter of the slot that serves, or None."""
        try:
            letter = (self._folder / "active").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return letter if letter in SLOTS and self.identity(letter) else None

    def active_model(self) -> ActiveModel | None:
        """Return what serves, or None."""
        slot = self.active()
        return self.identity(slot) if slot else None

    def spare(self) -> str:
        """Return the letter of the slot that a new model goes into."""
        return "b" if self.active() == "a" else "a"

    def other_model(self) -> ActiveModel | None:
        """Return what the other slot holds, or None."""
        return self.identity(self.spare())

    def identity(self, slot: str) -> ActiveModel | None:
        """Return what a slot holds, or None where it is empty or unfinished."""
        try:
            data = self._identity_path(slot).read_bytes()
            return ActiveModel.read(Fields(parse_document(data, limit=MAX_PRESENCE_BYTES, what="slot"), "slot"))
        except (OSError, WireError):
            return None

    def clear(self, slot: str) -> None:
        """Empty a slot.

        Raises:
            UpdateError: It is the one that serves.
        """
        if slot == self.active():
            raise UpdateError("The slot that serves is never cleared.", code="active_slot", got=slot)
        self._identity_path(slot).unlink(missing_ok=True)
        shutil.rmtree(self.folder(slot), ignore_errors=True)

    def seal(self, slot: str, model: ActiveModel) -> None:
        """Write what an unpacked slot holds, durably: from now on it counts.

        Raises:
            UpdateError: The slot is empty or the disk refuses.
        """
        if not self.folder(slot).is_dir():
            raise UpdateError("An empty slot cannot be sealed.", code="empty_slot", got=slot)
        write_durably(self._identity_path(slot), document(model.to_json()))

    def activate(self, slot: str) -> None:
        """Point to a sealed slot, atomically and durably.

        Raises:
            UpdateError: The slot holds nothing, or the disk refuses.
        """
        if self.identity(slot) is None:
            raise UpdateError("A slot without a model cannot serve.", code="empty_slot", got=slot)
        write_durably(self._folder / "active", slot.encode("ascii"))

    def deactivate(self) -> None:
        """Point to nothing: there was no model before."""
        (self._folder / "active").unlink(missing_ok=True)
        fsync_folder(self._folder)

    def collect(self) -> None:
        """Remove what a finished or broken update left: the download and half-made files."""
        self.incoming.unlink(missing_ok=True)
        self.incoming.with_name(f"{self.incoming.name}.etag").unlink(missing_ok=True)
        for scratch in (*self._folder.glob("*.tmp"), *self._folder.glob("slots/*.tmp")):
            if scratch.is_dir():
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                scratch.unlink(missing_ok=True)

    def _identity_path(self, slot: str) -> Path:
        return self._folder / "slots" / f"{slot}.json"
