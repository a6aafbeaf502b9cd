"""The folder that holds the emulated machine, and what is in it.

Rules kept here:
1. ``$EDGEPE_EMULATOR``, else ``.cache/emulator`` of the checkout, else the user's own cache.
2. A part is in ``content.json`` once it is whole, each of its files with version and digest; what is not there is not
   made, whatever lies in the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from edgepe.errors import VerifyError

__all__ = ["Content", "Emulator", "Package", "default_folder", "find_emulator", "read_content", "write_content"]

VARIABLE = "EDGEPE_EMULATOR"
SCHEMA = 1
CONTENT = "content.json"
CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package that was unpacked.

    Attributes:
        name: Its name.
        version: Its version, as its registry writes it.
        file: Name of the file it came in.
        sha256: Digest of that file, hex.
    """

    name: str
    version: str
    file: str
    sha256: str

    @classmethod
    def of(cls, path: Path, *, name: str, version: str) -> Package:
        """Describe the package in a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name=name, version=version, file=path.name, sha256=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is in the folder; an empty part is not made.

    Attributes:
        debian: The emulator, and the machine's Python and libraries.
        pypi: The runtimes.
    """

    debian: tuple[Package, ...] = ()
    pypi: tuple[Package, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """A machine that was made.

    Attributes:
        folder: Where it lies.
        content: What is in it.
    """

    folder: Path
    content: Content

    @property
    def qemu_version(self) -> str:
        """Version of the emulator, without Debian's own part."""
        found = next(package.version for package in self.content.debian if package.name == "qemu-user")
        return found.split(":")[-1].split("+")[0].split("-")[0]

    def command(self, cpu: str) -> tuple[str, ...]:
        """Return the command that starts its Python on a processor.

        Args:
            cpu: The processor, as qemu names it.
        """
        debian = self.folder / "debian"
        # -S: without the site module, so that nothing but the path given here is importable.
        python = (str(debian / "root/usr/bin/python3.11"), "-S")
        return (str(debian / "qemu-aarch64"), "-L", str(debian / "root"), "-cpu", cpu, *python)

    def environment(self, *code: Path) -> dict[str, str]:
        """Return the whole environment that it runs in.

        Args:
            code: Folders to import from, before the runtimes.
        """
        path = os.pathsep.join(str(folder) for folder in (*code, self.folder / "pypi"))
        return {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


def default_folder() -> Path:
    """Return where the emulated machine belongs (rule 1)."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).absolute()
    if (CHECKOUT / "Makefile").is_file():
        return CHECKOUT / ".cache" / "emulator"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgepe" / "emulator"


def find_emulator(folder: Path | None = None) -> Emulator:
    """Return the emulated machine.

    Args:
        folder: Where it lies; by rule 1 where absent.

    Raises:
        VerifyError: It was not made, or not to the end.
    """
    where = folder if folder is not None else default_folder()
    content = read_content(where)
    if not content.debian or not content.pypi:
        raise VerifyError(
            "there is no emulated Arm on this machine",
            expected=f"a whole {where / CONTENT}",
            got="an unfinished one" if (where / CONTENT).exists() else "none",
            next_step="make emulator (in a checkout), or python -m edgepe.verify.emulator",
        )
    return Emulator(folder=where, content=content)


def read_content(folder: Path) -> Content:
    """Read what is in a folder: nothing, where the file is absent, damaged or of another schema."""
    try:
        raw = json.loads((folder / CONTENT).read_text(encoding="utf8"))
        if raw["schema"] != SCHEMA:
            return Content()
        parts = {part: tuple(Package(**row) for row in raw[part]) for part in ("debian", "pypi")}
    except (OSError, ValueError, KeyError, TypeError):
        return Content()
    return Content(**parts)


def write_content(folder: Path, content: Content) -> None:
    """Write what is in a folder."""
    fresh = folder / f"{CONTENT}.new"
    fresh.write_text(json.dumps({"schema": SCHEMA} | asdict(content), indent=1), encoding="utf8")
    fresh.replace(folder / CONTENT)
