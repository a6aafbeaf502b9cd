"""The runtimes for Arm, out of PyPI's wheels.

Rules kept here:
1. The versions are those installed on this host, so that stand-in and emulated Arm differ in the machine alone.
2. A runtime that the host lacks is left out: nothing could be compared with it.
3. pip fetches, with the settings that the user gave it; wheels alone, so no foreign code runs here.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from typing import TYPE_CHECKING

from edgepe.errors import VerifyError
from edgepe.verify.emulator.folder import Package

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["MODULES", "download_wheels", "unpack_wheels", "wanted_wheels"]

MODULES = {"onnxruntime": "onnxruntime", "ai-edge-litert": "ai_edge_litert.interpreter"}
"""Distribution of a runtime → the module that running needs."""

NEEDS = {"onnxruntime": ("numpy",), "ai-edge-litert": ("numpy", "flatbuffers")}
PYTHON_VERSION = "3.11"
GLIBC_MINOR = 36  # of the libc6 that debian unpacks; a wheel for an older glibc runs too
OLDEST_GLIBC_MINOR = 17
TIMEOUT_S = 900.0


def wanted_wheels() -> dict[str, str]:
    """Return name → version of what the emulated machine shall hold (rules 1 and 2).

    Raises:
        VerifyError: No runtime is installed on this host.
    """
    runtimes = [name for name in MODULES if _installed(name)]
    if not runtimes:
        raise VerifyError(
            "this host has no runtime to compare an emulated one with",
            expected=" or ".join(MODULES),
            got="none",
            next_step="pip install 'edgepe[compile]'",
        )
    names = dict.fromkeys(name for runtime in runtimes for name in (*NEEDS[runtime], runtime))
    return {name: metadata.version(name) for name in names}


def download_wheels(wanted: Mapping[str, str], into: Path) -> None:
    """Download the wheels for Arm; what is already there is kept.

    Raises:
        VerifyError: pip cannot find or fetch a wheel.
    """
    into.mkdir(parents=True, exist_ok=True)
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC_MINOR, OLDEST_GLIBC_MINOR - 1, -1)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(into), "--implementation", "cp", "--python-version", PYTHON_VERSION]
    command += [f"--platform={platform}" for platform in (*platforms, "manylinux2014_aarch64")]
    command += [f"{name}=={version}" for name, version in wanted.items()]
    try:
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)  # noqa: S603 - our own interpreter, no shell
    except subprocess.TimeoutExpired as error:
        raise VerifyError("pip download did not end", expected=f"at most {TIMEOUT_S:g} s", got="killed") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.decode(errors="replace").splitlines() if line.startswith("ERROR")]
        raise VerifyError(
            "pip cannot fetch the runtimes for Arm",
            expected=f"wheels of {', '.join(wanted)} for aarch64 and Python {PYTHON_VERSION}",
            got=lines[-1] if lines else f"exit code {error.returncode}",
            next_step="check network and disk and run it again: what was fetched is kept",
        ) from error


def unpack_wheels(downloads: Path, wanted: Mapping[str, str], tree: Path) -> tuple[Package, ...]:
    """Unpack the wheels into one folder to import from, and return what they were.

    Raises:
        VerifyError: A wheel is missing or damaged.
    """
    tree.mkdir(parents=True, exist_ok=True)
    packages = []
    for name, version in wanted.items():
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        path = next(downloads.glob(pattern), None)
        if path is None:
            raise VerifyError(f"pip left no wheel of {name}", expected=pattern, got="none")
        try:
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(tree)
        except zipfile.BadZipFile as error:
            path.unlink()
            raise VerifyError(f"{path.name} is damaged", got=str(error), next_step="run it again") from error
        packages.append(Package.of(path, name=name, version=version))
    return tuple(packages)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
