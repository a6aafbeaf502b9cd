"""The command line, and what its process may load."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.main import main
from tests.agent_kit import AgentHome, bundle_bytes
from tests.tiny_models import BIAS


@pytest.mark.parametrize("command", ["run", "install", "probe", "status"])
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"example: edgepe-agent {command}" in " ".join(capsys.readouterr().out.split())


def test_probe_says_what_the_board_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cores"] >= 1
    assert facts["runtimes"]


def test_a_missing_configuration_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", str(tmp_path / "none.toml")]) == 2
    assert "next: Give its path with --config." in capsys.readouterr().err


def test_install_puts_a_sound_bundle_into_service(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    home.configure()
    done = home.install(bundle_bytes(tmp_path / "one"))
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["name"], facts["version"], facts["p50_us"] > 0) == ("dense", "1", True)
    models = home.status()["models"]
    assert isinstance(models, dict)
    assert (models["dense"]["state"], models["dense"]["active"]["version"]) == ("COMMITTED", "1")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(lambda folder: bundle_bytes(folder, bias=BIAS + 1), "golden_failed", id="golden vectors"),
        pytest.param(lambda folder: bundle_bytes(folder, target="jetson-orin"), "wrong_target", id="target"),
        pytest.param(lambda _folder: b"no bundle", "bad_bundle", id="no bundle"),
    ],
)
def test_install_refuses_what_would_not_serve(tmp_path: Path, data: object, code: str) -> None:
    home = AgentHome(tmp_path)
    home.configure()
    assert callable(data)
    done = home.install(data(tmp_path / "one"))
    assert done.returncode == 1
    assert f"code: {code}" in done.stderr
    assert home.status()["models"] == {}


def test_the_supervisor_loads_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "onnx", "cryptography", "onnxruntime", "ai_edge_litert", "click")
    script = f"import device_agent.supervisor, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def find_python310() -> str | None:
    """Return an interpreter that really is 3.10: a shim on PATH may point nowhere."""
    places = sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))
    for place in (shutil.which("python3.10"), *map(str, places)):
        if place and subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0:
            return place
    return None


def test_what_needs_the_standard_library_alone_runs_on_python_3_10(repository_root: Path) -> None:
    python = find_python310()
    if python is None:
        pytest.skip("no Python 3.10 here")
    script = """
import compileall, sys
assert sys.version_info[:2] == (3, 10), sys.version
from pathlib import Path
for path in Path("device_agent").rglob("*.py"):
    compile(path.read_text("utf-8"), str(path), "exec")
import device_agent.wire.control, device_agent.wire.manifest, device_agent.wire.topics
import device_agent.update.states, device_agent.update.updater, device_agent.update.fetch, device_agent.update.trust
import device_agent.workers, device_agent.telemetry.outbox, device_agent.telemetry.batch, device_agent.memory
from device_agent.wire.histogram import LogHistogram
histogram = LogHistogram()
histogram.add_many(range(10_000))
assert LogHistogram.from_bytes(histogram.to_bytes()) == histogram
from device_agent.wire.messages import decode_birth, encode
data = Path("tests/golden/wire/birth.json").read_bytes()
assert encode(decode_birth(data)) == data
"""
    done = subprocess.run(
        [python, "-I", "-B", "-c", f"import sys; sys.path.insert(0, '.')\n{script}"],
        cwd=repository_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
