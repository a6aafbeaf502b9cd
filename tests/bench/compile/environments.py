"""The rivals' own virtual environments: ``make peers`` makes ``.cache/peers/NAME`` from ``peers/NAME.txt``.

Rules kept here:
1. Each environment holds what its file pins; a file that did not change is not installed again.
2. A rival that cannot be installed is reported and left out; the benchmark says so too, and goes on without it.
3. onnxruntime.quantization and edgepe run in the project's own environment: they need nothing more.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["PEERS", "interpreter", "make_all"]

FOLDER = Path(".cache/peers")
PINS = Path(__file__).parent / "peers"
PEERS = ("nncf", "olive", "modelopt")


def interpreter(tool: str) -> Path | None:
    """Return the Python that runs a tool, or None where its environment was not made."""
    if tool not in PEERS:
        return Path(sys.executable)
    return FOLDER / tool / "bin" / "python" if stamp(tool).exists() else None


def stamp(tool: str) -> Path:
    """Return the file that says that a tool's environment is complete."""
    return FOLDER / tool / f"made-{hashlib.sha256((PINS / f'{tool}.txt').read_bytes()).hexdigest()[:12]}"


def make(tool: str) -> bool:
    """Make one environment where it is not complete; return whether it is now."""
    if stamp(tool).exists():
        return True
    sys.stderr.write(f"peers: making {FOLDER / tool}\n")
    venv.create(FOLDER / tool, with_pip=True)
    pip = [str(FOLDER / tool / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for line in (PINS / f"{tool}.txt").read_text(encoding="utf8").splitlines():
        wanted = line.partition("#")[0].split()
        if wanted and subprocess.run([*pip, *wanted], check=False).returncode:
            sys.stderr.write(f"peers: {tool} cannot be installed: {' '.join(wanted)}\n")
            return False
    stamp(tool).touch()
    return True


def make_all() -> None:
    """Make all; say what is there."""
    for tool in PEERS:
        sys.stderr.write(f"peers: {tool} {'ready' if make(tool) else 'left out'}\n")


if __name__ == "__main__":
    make_all()
