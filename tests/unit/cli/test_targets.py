from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgepe.cli.targets import targets
from edgepe.errors import ProfileError
from edgepe.target import target_names

PROFILE = Path(__file__).parents[3] / "targets" / "jetson-orin.toml"


def test_bare_targets_lists_every_profile() -> None:
    for args in ([], ["list"]):
        output = CliRunner().invoke(targets, args).output
        assert [line.split()[0] for line in output.splitlines()] == list(target_names())


def test_list_and_show_speak_json() -> None:
    rows = json.loads(CliRunner().invoke(targets, ["list", "--json"]).output)["targets"]
    assert [row["name"] for row in rows] == list(target_names())
    shown = json.loads(CliRunner().invoke(targets, ["show", "jetson", "--json"]).output)
    assert shown["rules"]["style"] == "tensorrt"


def test_show_says_where_the_costs_come_from() -> None:
    assert "not measured" in CliRunner().invoke(targets, ["show", "android"]).output


def test_check_accepts_a_whole_profile_and_refuses_a_broken_one(tmp_path: Path) -> None:
    assert "is a whole profile" in CliRunner().invoke(targets, ["check", str(PROFILE)]).output
    broken = tmp_path / "board.toml"
    broken.write_text(PROFILE.read_text().replace("round_to", "round_too"))
    result = CliRunner().invoke(targets, ["check", str(broken)])
    assert isinstance(result.exception, ProfileError)


def test_targets_import_nothing_beyond_a_bare_installation() -> None:
    code = (
        "import sys; from edgepe.cli import cli; cli.main(['targets', 'list'], standalone_mode=False);"
        "sys.exit(bool({'numpy', 'onnx', 'onnx_ir', 'torch', 'rich', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", ["build", "targets", "inspect", "verify", "bench"])
def test_every_help_has_an_example_and_imports_nothing_heavy(command: str) -> None:
    code = (
        f"import sys; from edgepe.cli import cli; cli.main(['{command}', '--help'], standalone_mode=False);"
        "sys.exit(3 if {'numpy', 'onnx', 'onnx_ir', 'torch', 'rich'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Example:" in done.stdout
    assert done.returncode == 0, done.stderr
