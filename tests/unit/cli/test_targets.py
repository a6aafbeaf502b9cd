from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgepe.cli.targets import targets
from edgepe.errors import DataError, ProfileError
from edgepe.target import load_target, target_names

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


def test_check_tells_what_contradicts_itself(tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text('extends = "jetson"\nname = "board"\n[rules]\nbias = "int32"\n')
    result = CliRunner().invoke(targets, ["check", str(board), "--json"])
    assert [row["code"] for row in json.loads(result.output)["findings"]] == ["tensorrt-bias"]
    assert isinstance(result.exception, ProfileError)


def _reports(path: Path, count: int) -> Path:
    rows = [
        {
            "device": f"pi-{place % 3}",
            "latency_us": 100 + 8 * place + 2e6 * place / 9000,
            "work": {"ops": 4 + place, "int8": {"macs": 2_000_000 * place, "elements": 3000 * place}},
        }
        for place in range(1, count + 1)
    ]
    path.write_text(json.dumps({"schema": 1, "target": "raspberry-pi-5", "reports": rows}))
    return path


def test_calibrate_writes_a_profile_that_predicts_what_was_reported(tmp_path: Path) -> None:
    reports, out = _reports(tmp_path / "reports.json", 12), tmp_path / "mine.toml"
    line = ["calibrate", "raspberry-pi", "--from", str(reports), "--out", str(out), "--json"]
    row = json.loads(CliRunner().invoke(targets, line, catch_exceptions=False).output)
    assert row["error_after"] < 0.1 < row["error_before"]
    assert (row["reports"], row["devices"]) == (12, 3)
    assert "whole profile" in CliRunner().invoke(targets, ["check", str(out)]).output
    assert "fitted to 12 reports" in CliRunner().invoke(targets, ["show", str(out)]).output


def test_a_profile_of_ones_own_is_extended_by_its_path(tmp_path: Path) -> None:
    board = tmp_path / "boards" / "gate.toml"
    board.parent.mkdir()
    board.write_text('extends = "raspberry-pi-5"\ncores = 2\n')
    out = tmp_path / "fitted" / "gate.toml"
    line = ["calibrate", str(board), "--from", str(_reports(tmp_path / "r.json", 12)), "--out", str(out)]
    CliRunner().invoke(targets, line, catch_exceptions=False)
    assert 'extends = "../boards/gate.toml"' in out.read_text()
    assert load_target(out).cores == 2


def test_too_few_reports_write_nothing(tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    line = ["calibrate", "raspberry-pi", "--from", str(_reports(tmp_path / "r.json", 3)), "--out", str(out)]
    assert isinstance(CliRunner().invoke(targets, line).exception, DataError)
    assert not out.exists()
