"""Make the emulated machine, part by part.

Rules kept here:
1. A part that is there, whole and as wanted is left alone, without asking the network.
2. A part is unpacked beside its place and moved there when it is whole; an interrupted download goes on.
3. Two makers of one folder wait for each other.
4. The machine counts as made once it has imported every runtime; that also leaves their byte code.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from edgepe.errors import VerifyError
from edgepe.verify.emulator.debian import (
    PYTHON_PACKAGES,
    QEMU_PACKAGE,
    download_packages,
    system_mirror,
    unpack_packages,
)
from edgepe.verify.emulator.folder import Content, Emulator, find_emulator, read_content, write_content
from edgepe.verify.emulator.wheels import MODULES, download_wheels, unpack_wheels, wanted_wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from edgepe.verify.emulator.sources import Mirror

__all__ = ["make_emulator"]

TIMEOUT_S = 300.0
CPU = "max"


def make_emulator(folder: Path, *, mirror: Mirror | None = None, tell: Callable[[str], None]) -> Emulator:
    """Make the emulated machine in a folder, or what is missing of it.

    Args:
        folder: Where it shall lie: about 220 MB, half as much again while it is made.
        mirror: Debian's mirror; the system's where absent.
        tell: Told what is being done, one line at a time.

    Raises:
        VerifyError: This machine has no apt, something cannot be fetched, or the result does not run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        wanted = wanted_wheels()
        content = read_content(folder)
        if not _has_debian(content):
            content = _make_debian(folder, mirror or system_mirror(), tell)
        if not _has_wheels(content, wanted):
            content = _make_wheels(folder, content, wanted, tell)
        return find_emulator(folder)


def _make_debian(folder: Path, mirror: Mirror, tell: Callable[[str], None]) -> Content:
    state, downloads, fresh = folder / "apt", folder / "debs", folder / "debian.new"
    tell("1/4 Debian: qemu and Python for Arm, 81 MB")
    download_packages(mirror, state, downloads)
    tell("2/4 unpack them")
    shutil.rmtree(fresh, ignore_errors=True)
    packages = unpack_packages(downloads, fresh)
    content = Content(debian=packages)
    if not _has_debian(content):
        raise VerifyError(
            "the machine is not whole",
            expected=", ".join((QEMU_PACKAGE, *PYTHON_PACKAGES)),
            got=", ".join(package.name for package in packages),
            next_step="run it again",
        )
    _move(fresh, folder / "debian")
    write_content(folder, content)
    shutil.rmtree(state)
    shutil.rmtree(downloads)
    return content


def _make_wheels(folder: Path, content: Content, wanted: Mapping[str, str], tell: Callable[[str], None]) -> Content:
    downloads, fresh = folder / "wheels", folder / "pypi.new"
    write_content(folder, replace(content, pypi=()))
    tell(f"3/4 PyPI: {', '.join(f'{name} {version}' for name, version in wanted.items())} for Arm")
    download_wheels(wanted, downloads)
    shutil.rmtree(fresh, ignore_errors=True)
    packages = unpack_wheels(downloads, wanted, fresh)
    _move(fresh, folder / "pypi")
    whole = replace(content, pypi=packages)
    tell("4/4 start each runtime once")
    _try(Emulator(folder=folder, content=whole), wanted)
    write_content(folder, whole)
    shutil.rmtree(downloads)
    return whole


def _try(emulator: Emulator, wanted: Mapping[str, str]) -> None:
    modules = [MODULES[name] for name in wanted if name in MODULES]
    code = "".join(f"import {module}\n" for module in modules) + "import os\nprint(os.uname().machine)"
    environment = emulator.environment()
    del environment["PYTHONDONTWRITEBYTECODE"]  # rule 4
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter just made, no shell
            [*emulator.command(CPU), "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VerifyError("the emulated Arm does not run", expected=f"an answer in {TIMEOUT_S:g} s") from error
    if done.returncode != 0 or done.stdout.split() != ["aarch64"]:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise VerifyError(
            "the emulated Arm does not run its runtimes",
            expected=f"import of {', '.join(modules)}",
            got=lines[-1] if lines else f"exit code {done.returncode}",
        )


def _has_debian(content: Content) -> bool:
    return {package.name for package in content.debian} >= {QEMU_PACKAGE, *PYTHON_PACKAGES}


def _has_wheels(content: Content, wanted: Mapping[str, str]) -> bool:
    return {package.name: package.version for package in content.pypi} == dict(wanted)


def _move(fresh: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
