"""Take a bundle apart into a slot, in a short-lived child: ``python -m device_agent.update.unpack``.

Rules kept here, in this order:
1. The whole file has the signed digest and length before its directory is read.
2. Every entry is one plain file with one plain name inside the slot: no folder, no ``..``, no absolute path, no link,
   no device, no second entry of the same name, no encryption.
3. The number of entries, each size and the whole size are capped before anything is written; no byte past an entry's
   declared size is written.
4. Every file is the one that the manifest names, by size and SHA-256; none is missing, none is left over.
5. The manifest is the wanted one: name, version and target.
6. Files, folder and parent are fsynced, and the slot appears by one rename.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from device_agent.errors import UpdateError
from device_agent.update.job import JobResult, run_child
from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_MANIFEST_BYTES
from device_agent.wire.manifest import MANIFEST_NAME, Manifest, decode_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MAX_ENTRIES", "MAX_RATIO", "Expected", "fsync_folder", "main", "unpack"]

_NICENESS = 10

MAX_ENTRIES = 64
MAX_RATIO = 20
"""How much larger than the bundle its content may be."""
_FREE_BYTES = 1 << 20
_CHUNK = 1 << 20
_LINK_BITS = 16
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the bundle must turn out to be; an empty name, version, target or digest and a length of 0 ask nothing."""

    name: str = ""
    version: str = ""
    target: str = ""
    sha256: str = ""
    length: int = 0


def unpack(bundle: Path, into: Path, expected: Expected) -> Manifest:
    """Extract ``bundle`` so that ``into`` is a complete, verified slot, or does not exist.

    Args:
        bundle: The ``.edge`` file.
        into: The slot folder; what was there is replaced.
        expected: What the bundle must be.

    Returns:
        The manifest of the slot.

    Raises:
        UpdateError: A rule of this module is broken; ``code`` says which.
    """
    _check_whole(bundle, expected)
    scratch = into.with_name(f"{into.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        manifest = _extract(bundle, scratch)
        _check_identity(manifest, expected)
        fsync_folder(scratch)
        shutil.rmtree(into, ignore_errors=True)
        scratch.replace(into)
        fsync_folder(into.parent)
    except OSError as error:
        raise UpdateError("The slot cannot be written.", code="disk", got=str(error)) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise UpdateError("The bundle is no sound zip file.", code="bad_bundle", got=str(error)[:200]) from error
    except WireError as error:
        raise UpdateError("The bundle's manifest is wrong.", code="bad_manifest", got=str(error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_whole(bundle: Path, expected: Expected) -> None:
    try:
        length = bundle.stat().st_size
        with bundle.open("rb") as stream:
            found = _digest(stream) if expected.sha256 else ""
    except OSError as error:
        raise UpdateError("The bundle cannot be read.", code="disk", got=str(error)) from error
    if expected.length and length != expected.length:
        raise UpdateError(
            "The bundle has another length.", code="length_mismatch", expected=expected.length, got=length
        )
    if found != expected.sha256:
        raise UpdateError("The bundle has another digest.", code="digest_mismatch", expected=expected.sha256, got=found)


def _digest(stream: IO[bytes]) -> str:
    hasher = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        hasher.update(chunk)
    return hasher.hexdigest()


def _extract(bundle: Path, scratch: Path) -> Manifest:
    with zipfile.ZipFile(bundle) as archive:
        entries = archive.infolist()
        _check_entries(entries, room=bundle.stat().st_size * MAX_RATIO + _FREE_BYTES, scratch=scratch)
        table = {entry.filename: entry for entry in entries}
        if MANIFEST_NAME not in table or table[MANIFEST_NAME].file_size > MAX_MANIFEST_BYTES:
            raise UpdateError("The bundle has no usable manifest.", code="bad_manifest", expected=MANIFEST_NAME)
        text = b"".join(_content(archive, table[MANIFEST_NAME]))
        manifest = decode_manifest(text)
        _check_listing(manifest, table)
        _write(scratch / MANIFEST_NAME, iter([text]))
        for entry in manifest.files:
            found = _write(scratch / entry.name, _content(archive, table[entry.name]))
            if found != entry.sha256:
                raise UpdateError(
                    f"The file {entry.name!r} has another digest than its manifest says.",
                    code="digest_mismatch",
                    expected=entry.sha256,
                    got=found,
                )
    return manifest


def _check_entries(entries: Sequence[zipfile.ZipInfo], *, room: int, scratch: Path) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UpdateError(
            "The bundle has too many entries.", code="too_many_files", expected=MAX_ENTRIES, got=len(entries)
        )
    if sum(entry.file_size for entry in entries) > room:
        raise UpdateError("The bundle unpacks to too much.", code="too_large", expected=f"at most {room} bytes")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise UpdateError("A name stands twice in the bundle.", code="bad_entry", got=names)
    for entry in entries:
        _check_entry(entry, scratch.resolve())


def _check_entry(entry: zipfile.ZipInfo, root: Path) -> None:
    name = entry.filename
    kind = stat.S_IFMT(entry.external_attr >> _LINK_BITS)
    inside = os.path.commonpath([root, os.path.normpath(root / name)]) == str(root)
    if not inside or "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise UpdateError("An entry of the bundle leads out of its slot.", code="bad_path", got=ascii(name)[:120])
    if entry.is_dir() or kind not in (0, stat.S_IFREG):
        raise UpdateError("An entry of the bundle is no plain file.", code="bad_entry", got=ascii(name)[:120])
    if entry.flag_bits & _ENCRYPTED:
        raise UpdateError("An entry of the bundle is encrypted.", code="bad_entry", got=ascii(name)[:120])


def _check_listing(manifest: Manifest, table: dict[str, zipfile.ZipInfo]) -> None:
    listed = {entry.name: entry.bytes for entry in manifest.files}
    found = {name: entry.file_size for name, entry in table.items() if name != MANIFEST_NAME}
    if listed != found:
        raise UpdateError(
            "The bundle holds other files than its manifest lists.", code="bad_listing", expected=listed, got=found
        )


def _check_identity(manifest: Manifest, expected: Expected) -> None:
    for what, wanted, found in (
        ("name", expected.name, manifest.name),
        ("version", expected.version, manifest.version),
        ("target", expected.target, manifest.target),
    ):
        if wanted and wanted != found:
            raise UpdateError(
                f"The bundle is of another {what}.",
                code="wrong_target" if what == "target" else "wrong_bundle",
                expected=wanted,
                got=found,
            )


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    left = entry.file_size
    with archive.open(entry) as stream:
        while chunk := stream.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise UpdateError("An entry is longer than it says.", code="too_large", got=ascii(entry.filename)[:120])
            yield chunk


def _write(path: Path, content: Iterator[bytes]) -> str:
    hasher = hashlib.sha256()
    with path.open("xb") as stream:
        for chunk in content:
            hasher.update(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return hasher.hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the child: unpack, and print one JSON line."""
    parser = argparse.ArgumentParser(prog="device_agent.update.unpack", description="Unpack and verify one bundle.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--length", type=int, default=0)
    for name in ("name", "version", "target", "sha256"):
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_args(arguments)
    expected = Expected(
        name=given.name, version=given.version, target=given.target, sha256=given.sha256, length=given.length
    )

    def work() -> JobResult:
        manifest = unpack(given.bundle, given.into, expected)
        facts = (("name", manifest.name), ("version", manifest.version), ("target", manifest.target))
        return JobResult(passed=True, facts=facts)

    return run_child(work, niceness=_NICENESS)


if __name__ == "__main__":
    raise SystemExit(main())
