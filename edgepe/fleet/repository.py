"""The repository: bundles as plain files that any web server can serve, and an index of them.

Rules kept here:
1. A bundle is checked whole, manifest and every file, before its first byte is copied.
2. ``targets/<name>/<version>/<target>.edge`` is written in one step and never changes: other bytes under a published
   name, version and target are refused. Its evidence lies beside it, and a report that is made from it here: a page
   that came with a bundle would be served from the fleet's own address, so it is never copied.
3. ``index.json`` is the authority on digests: it holds what was checked at publication, sorted, so that the same
   bundles give the same bytes, and a file that is altered afterwards no longer fits it.
4. Publishers wait for each other; readers never see half a change.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from device_agent.wire.canonical import digest
from edgepe.bundle import evidence_path, read_bundle, read_evidence
from edgepe.bundle.findings import read_findings
from edgepe.bundle.report import render, report_path
from edgepe.errors import BundleError, FleetError
from edgepe.fleet.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Published", "Repository"]

INDEX = "index.json"
INDEX_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One bundle of the repository.

    Attributes:
        path: Relative to the repository, as a device asks for it.
        sha256: Of the whole bundle file.
        length: Bytes of the bundle file.
        model_bytes: Bytes of the model file inside.
    """

    name: str
    version: str
    target: str
    path: str
    sha256: str
    length: int
    format: str
    precision: str
    model_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    schema: int
    bundles: tuple[Published, ...]


class Repository:
    """A folder of published bundles.

    Args:
        folder: Need not exist before the first publication.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bundles(self) -> tuple[Published, ...]:
        """Return every published bundle, ordered by name, version and target.

        Raises:
            FleetError: The index is damaged or of a newer schema.
        """
        try:
            data = (self.folder / INDEX).read_bytes()
        except FileNotFoundError:
            return ()
        try:
            index = msgspec.json.decode(data, type=_Index)
        except msgspec.MsgspecError as error:
            raise _unreadable(self.folder, str(error)) from error
        if index.schema != INDEX_SCHEMA:
            raise _unreadable(self.folder, f"schema {index.schema}")
        return index.bundles

    def find(self, name: str, version: str, target: str) -> Published | None:
        """Return one bundle, or None if it is not published."""
        wanted = (name, version, target)
        return next((one for one in self.bundles() if (one.name, one.version, one.target) == wanted), None)

    def publish(self, path: Path) -> Published:
        """Add a bundle; adding the same bytes again changes nothing.

        Raises:
            MissingFileError: There is no such file.
            BundleError: It is damaged, or the evidence beside it is, or is of another bundle.
            FleetError: Other bytes are published under its name, version and target.
        """
        entry = _check(path)
        content = path.read_bytes()
        beside = _beside(path, self.folder / entry.path, entry)
        with self._alone():
            known = self.find(entry.name, entry.version, entry.target)
            if known is not None and known != entry:
                raise FleetError(
                    f"{entry.name} {entry.version} for {entry.target} is published already, with other bytes",
                    expected=f"sha256 {known.sha256}",
                    got=f"sha256 {entry.sha256} in {path}",
                    next_step="a published version never changes: build it with another --version",
                )
            place = self.folder / entry.path
            if known is None or digest(place.read_bytes()) != known.sha256:
                write_atomically(place, content)
            for name, data in beside:
                write_atomically(name, data)
            self._write_index({*self.bundles(), entry})
        return entry

    def _write_index(self, bundles: set[Published]) -> None:
        ordered = sorted(bundles, key=lambda one: (one.name, one.version, one.target))
        index = _Index(schema=INDEX_SCHEMA, bundles=tuple(ordered))
        write_atomically(self.folder / INDEX, msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder's lock, which vanishes with its holder and needs no file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _check(path: Path) -> Published:
    bundle = read_bundle(path)
    for file in bundle.manifest.files:
        bundle.read(file.name)
    manifest = bundle.manifest
    for level in (manifest.name, manifest.version, manifest.target):
        if level in (".", ".."):
            raise FleetError("a bundle's name, version or target is no file name", got=level)
    content = path.read_bytes()
    return Published(
        name=manifest.name,
        version=manifest.version,
        target=manifest.target,
        path=f"targets/{manifest.name}/{manifest.version}/{manifest.target}.edge",
        sha256=digest(content),
        length=len(content),
        format=manifest.format,
        precision=manifest.precision,
        model_bytes=manifest.file(manifest.model).bytes,
    )


def _beside(path: Path, place: Path, entry: Published) -> tuple[tuple[Path, bytes], ...]:
    """Return what lies beside a published bundle: its evidence and its report, or nothing where it has no evidence."""
    if not evidence_path(path).is_file():
        return ()
    findings = read_findings(read_evidence(path))
    if findings.bundle_sha256 != entry.sha256:
        raise BundleError(
            f"the evidence beside {path} is of another bundle",
            expected=f"bundle_sha256 {entry.sha256}",
            got=findings.bundle_sha256,
            next_step="build the bundle again, or remove the evidence",
        )
    page = render(read_bundle(path).manifest, findings, file=place.name)
    return (evidence_path(place), evidence_path(path).read_bytes()), (report_path(place), page.encode())


def _unreadable(folder: Path, got: str) -> FleetError:
    return FleetError(
        "the repository's index cannot be read",
        expected=f"schema {INDEX_SCHEMA}, as edgepe publish writes it",
        got=got,
        next_step=f"upgrade edgepe, or restore {folder / INDEX} from a backup",
    )
