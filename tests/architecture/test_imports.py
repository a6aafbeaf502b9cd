"""The direction of imports holds, and the tool that says so really notices a breach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
AGENT = "The agent knows nothing of the host"
LAYERS = "The host is built in layers"

BREACHES = [
    pytest.param("device_agent/wire/topics.py", "import numpy", "The wire is standard library only", id="wire"),
    pytest.param("device_agent/config.py", "import torch", AGENT, id="agent"),
    pytest.param("device_agent/config.py", "import edgepe.data", AGENT, id="agent-host"),
    pytest.param("edgepe/graph/__init__.py", "import edgepe.quantize", LAYERS, id="upward"),
    pytest.param("edgepe/fleet/rollout.py", "import edgepe.pipeline", LAYERS, id="siblings"),
]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the packages in a folder, and on nothing installed elsewhere."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_of(root: Path, folder: Path) -> Path:
    """Copy what import-linter reads into an empty folder."""
    for package in ("edgepe", "device_agent"):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", folder)
    return folder


def test_every_contract_is_kept(repository_root: Path) -> None:
    result = lint_imports(repository_root)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("file", "line", "contract"), BREACHES)
def test_a_planted_breach_is_reported(
    repository_root: Path, tmp_path: Path, file: str, line: str, contract: str
) -> None:
    tree = copy_of(repository_root, tmp_path)
    with (tree / file).open("a", encoding="utf8") as source:
        source.write(f"\n{line}\n")
    result = lint_imports(tree)
    assert result.returncode != 0
    broken = [row for row in result.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), result.stdout
