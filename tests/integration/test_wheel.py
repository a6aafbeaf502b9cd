"""The wheel, installed bare in an empty environment, gives a working agent and the target profiles."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

TARGETS = (
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero2",
    "jetson-orin",
    "android-arm64",
    "generic-x86-64",
)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return what it printed on stdout."""
    result = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def bare(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it with nothing else, and return the environment's folder of programs."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, repository_root, cwd=folder)
    (wheel,) = folder.glob("edgepe-*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    constraints = repository_root / ".constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel, cwd=folder)
    return python.parent


@pytest.mark.slow
def test_a_bare_install_has_an_agent_that_explains_itself(bare: Path, tmp_path: Path) -> None:
    text = run(bare / "edgepe-agent", "--help", cwd=tmp_path)
    assert "run" in text
    assert "install" in text


@pytest.mark.slow
def test_a_bare_install_lists_every_target(bare: Path, tmp_path: Path) -> None:
    text = run(bare / "edgepe", "targets", "list", cwd=tmp_path)
    for name in (
        "raspberry-pi-4",
        "raspberry-pi-5",
        "raspberry-pi-zero2",
        "jetson-orin",
        "android-arm64",
        "generic-x86-64",
    ):
        assert name in text


@pytest.mark.slow
def test_a_bare_install_holds_no_heavy_package(bare: Path, tmp_path: Path) -> None:
    installed = run(bare / "python", "-m", "pip", "list", "--format", "freeze", cwd=tmp_path)
    names = {row.split("==")[0].lower() for row in installed.splitlines()}
    assert names & {"torch", "onnx", "numpy", "onnxruntime"} == set()


@pytest.mark.slow
def test_a_command_whose_extra_is_missing_names_it(bare: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [bare / "edgepe", "build", "model.onnx", "--target", "jetson", "--calibration", "data.npz", "--out", "dist"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "edgepe[compile]" in result.stderr
