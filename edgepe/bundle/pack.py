"""Pack and read ``.edge`` files: a zip of stored entries with ``manifest.json`` first."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_MANIFEST_BYTES
from device_agent.wire.manifest import MANIFEST_NAME, FileEntry, Manifest, decode_manifest
from edgepe.bundle.files import write_whole
from edgepe.errors import BundleError, MissingFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Bundle", "file_entries", "pack", "read_bundle", "write_bundle"]

EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip can hold
UNIX = 3
MODE = 0o100644 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        path: The ``.edge`` file.
        manifest: What is in it.
    """

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Return a file of the bundle, checked.

        Raises:
            BundleError: It is absent, or not what the manifest says.
        """
        try:
            entry = self.manifest.file(name)
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(name)
                if info.file_size != entry.bytes or info.compress_type != zipfile.ZIP_STORED:
                    raise _damaged(self.path, f"{name} has {info.file_size} bytes, the manifest says {entry.bytes}")
                data = archive.read(info)
        except (OSError, KeyError, WireError, zipfile.BadZipFile) as error:
            raise _damaged(self.path, str(error)) from error
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _damaged(self.path, f"{name} has another digest than the manifest says")
        return data

    def extract(self, folder: Path) -> None:
        """Write every file of the bundle into a folder, checked.

        Raises:
            BundleError: A file is absent or damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for entry in self.manifest.files:
            (folder / entry.name).write_bytes(self.read(entry.name))
        (folder / MANIFEST_NAME).write_bytes(self.manifest.encode())


def file_entries(files: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    """Return the manifest's rows of these files, by name."""
    return tuple(
        FileEntry(name=name, sha256=hashlib.sha256(files[name]).hexdigest(), bytes=len(files[name]))
        for name in sorted(files)
    )


def pack(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a bundle.

    Raises:
        BundleError: The files are not those of the manifest.
    """
    if file_entries(files) != tuple(sorted(manifest.files, key=lambda entry: entry.name)):
        raise BundleError(
            "the files are not those of the manifest",
            expected=", ".join(entry.name for entry in manifest.files),
            got=", ".join(sorted(files)),
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in ((MANIFEST_NAME, manifest.encode()), *((name, files[name]) for name in sorted(files))):
            info = zipfile.ZipInfo(name, date_time=EPOCH)
            info.create_system, info.external_attr = UNIX, MODE
            archive.writestr(info, data)
    return buffer.getvalue()


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle, whole or not at all, and return it.

    Args:
        path: The ``.edge`` file.
        manifest: What it says of itself; lists every file.
        files: Content by name, without the manifest.

    Raises:
        BundleError: The files are not those of the manifest, or the folder cannot be written.
    """
    write_whole(path, pack(manifest, files))
    return Bundle(path=path, manifest=manifest)


def read_bundle(path: Path) -> Bundle:
    """Return a bundle after checking its manifest; its files are checked when they are read.

    Raises:
        MissingFileError: There is no such file.
        BundleError: It is no bundle, or damaged.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no bundle {path}", expected="an .edge file", got="no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(MANIFEST_NAME)
            if info.file_size > MAX_MANIFEST_BYTES or info.compress_type != zipfile.ZIP_STORED:
                raise _damaged(path, "its manifest is too large or compressed")
            manifest = decode_manifest(archive.read(info))
            absent = {entry.name for entry in manifest.files} - set(archive.namelist())
    except (OSError, KeyError, WireError, zipfile.BadZipFile) as error:
        raise _damaged(path, str(error)) from error
    if absent:
        raise _damaged(path, f"{', '.join(sorted(absent))} missing")
    return Bundle(path=path, manifest=manifest)


def _damaged(path: Path, got: str) -> BundleError:
    return BundleError(
        f"{path} is no whole bundle",
        expected="an .edge file as edgepe build writes it",
        got=got.strip().splitlines()[0] if got.strip() else "nothing",
        next_step="build or download it again",
    )
