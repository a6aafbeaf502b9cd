"""A slot: the folder that holds one version of a model, opened.

Rules kept here:
1. The manifest is believed only as far as the files' digests agree with it, at each start: flash wears out.
2. The runtime that the manifest names is used where it is installed and not too old; otherwise another of the format.
3. Manifest and model must agree on names, dtypes and shapes before anything is served.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from device_agent.errors import ModelError, RuntimeMissingError
from device_agent.runtime.arithmetic import session_settings
from device_agent.runtime.base import (
    DISTRIBUTIONS,
    EXTRAS,
    FORMAT_RUNTIMES,
    installed_runtimes,
    open_runtime,
    runtime_for,
)
from device_agent.telemetry.device import read_hardware
from device_agent.wire.manifest import MANIFEST_NAME, decode_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from device_agent.runtime.base import Runtime, TensorInfo
    from device_agent.wire.manifest import Manifest, TensorSpec

__all__ = ["choose_runtime", "open_slot", "read_manifest"]

CHUNK = 1 << 20


def read_manifest(folder: Path) -> Manifest:
    """Read a slot's manifest and check the digests of the files it names.

    Raises:
        ModelError: A file is missing, or differs from the manifest.
        WireError: The manifest breaks its format.
    """
    try:
        manifest = decode_manifest((folder / MANIFEST_NAME).read_bytes())
    except OSError as error:
        raise ModelError(f"The slot {folder} has no manifest.", got=error.strerror) from error
    for entry in manifest.files:
        check_digest(folder / entry.name, entry.sha256)
    return manifest


def check_digest(path: Path, expected: str) -> None:
    """Refuse a file whose SHA-256 is not the expected one.

    Raises:
        ModelError: The file is missing or differs.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"The slot lacks the file {path.name}.", got=error.strerror) from error
    if digest.hexdigest() != expected:
        raise ModelError(
            f"The file {path.name} is not the one in its manifest.",
            code="digest_mismatch",
            expected=f"sha256 {expected}",
            got=f"sha256 {digest.hexdigest()}",
            next_step="install the bundle again",
        )


def open_slot(folder: Path, manifest: Manifest, *, threads: int) -> Runtime:
    """Load a slot's model with the runtime its manifest asks for.

    Raises:
        ModelError: The model cannot be loaded, or is not what the manifest says.
        RuntimeMissingError: No installed runtime can run it.
    """
    settings = session_settings(manifest, read_hardware())
    runtime = open_runtime(folder / manifest.model, kind=choose_runtime(manifest), threads=threads, settings=settings)
    check_signature("input", runtime.inputs, manifest.inputs)
    check_signature("output", runtime.outputs, manifest.outputs)
    return runtime


def choose_runtime(manifest: Manifest) -> str:
    """Choose the runtime kind by rule 2.

    Raises:
        RuntimeMissingError: None is installed, or the named one is too old.
    """
    installed = dict(installed_runtimes())
    floor = manifest.runtime
    if floor.name not in installed or floor.name not in FORMAT_RUNTIMES.get(manifest.format, ()):
        return runtime_for(manifest.format)
    if release(installed[floor.name]) < release(floor.version):
        raise RuntimeMissingError(
            f"The installed {floor.name} is too old for this model.",
            code="runtime_too_old",
            expected=f"{DISTRIBUTIONS[floor.name][0]} {floor.version} or newer",
            got=installed[floor.name],
            next_step=f"upgrade it with: pip install --upgrade 'edgepe[{EXTRAS[floor.name]}]'",
        )
    return floor.name


def release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparison: ``1.23.2rc1`` gives (1, 23, 2)."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def check_signature(side: str, infos: Sequence[TensorInfo], specs: Sequence[TensorSpec]) -> None:
    """Check that a model's tensors are those of its manifest.

    Raises:
        ModelError: Naming the tensor, with expected and got.
    """
    have = {info.name: info for info in infos}
    if set(have) != {spec.name for spec in specs}:
        raise ModelError(
            f"The model's {side}s are not those of its manifest.",
            expected=sorted(spec.name for spec in specs),
            got=sorted(have),
        )
    for spec in specs:
        info = have[spec.name]
        if (info.dtype, len(info.shape)) != (spec.dtype, len(spec.shape)) or not fits(info.shape, spec.shape):
            raise ModelError(
                f"The model's {side} {spec.name!r} is not that of its manifest.",
                expected=f"{spec.dtype} {list(spec.shape)}",
                got=f"{info.dtype} {list(info.shape)}",
            )


def fits(have: Sequence[int], want: Sequence[int]) -> bool:
    """Tell whether two shapes of one rank agree wherever both are fixed."""
    return all(-1 in pair or pair[0] == pair[1] for pair in zip(have, want, strict=True))
