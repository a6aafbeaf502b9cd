"""Whatever is wrong with a model, the probe ends with one JSON object and no traceback."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from device_agent.runtime.probe import ended
from tests.tiny_models import BIAS, write_slot

if TYPE_CHECKING:
    from pathlib import Path


def run_probe(slot: Path, *more: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "device_agent.runtime.probe", "--slot", str(slot), "--runs", "20", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    return done.returncode, json.loads(line)


def forge(slot: Path, file: str, data: bytes) -> None:
    """Put other bytes in a slot and make the manifest vouch for them, as a broken build would."""
    manifest = json.loads((slot / "manifest.json").read_text())
    (slot / file).write_bytes(data)
    manifest["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (slot / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_a_sound_model_passes_with_its_figures(tmp_path: Path, model_format: str) -> None:
    write_slot(tmp_path, model_format=model_format)
    status, result = run_probe(tmp_path)
    assert status == 0
    assert result["passed"]
    assert result["code"] == result["detail"] == ""
    assert 0 <= result["p50_us"] <= result["p99_us"]
    assert result["rss_bytes"] > 1_000_000
    assert result["max_error"] < 1e-5


def test_a_corrupted_model_file_is_reported(tmp_path: Path) -> None:
    write_slot(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 200)
    assert run_probe(tmp_path)[1]["code"] == "digest_mismatch"


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_a_model_that_the_runtime_refuses_is_reported(tmp_path: Path, model_format: str) -> None:
    write_slot(tmp_path, model_format=model_format)
    file = tmp_path / f"model.{model_format}"
    forge(tmp_path, file.name, file.read_bytes()[:-40])
    status, result = run_probe(tmp_path)
    assert status == 1
    assert (result["passed"], result["code"]) == (False, "model_refused")
    assert f"model.{model_format}" in result["detail"]


@pytest.mark.parametrize("value", [np.nan, 1.5], ids=["nan", "other"])
def test_a_model_that_says_something_else_is_reported(tmp_path: Path, value: float) -> None:
    write_slot(tmp_path, bias=BIAS + np.float32(value))
    status, result = run_probe(tmp_path)
    assert status == 1
    assert result["code"] == "golden_failed"
    assert result["agree"] == 0.0
    assert result["p50_us"] is None


@pytest.mark.parametrize(
    ("file", "data", "code"),
    [
        pytest.param("manifest.json", b"\x00", "bad_manifest", id="manifest"),
        pytest.param("manifest.json", b"{}", "bad_manifest", id="empty-manifest"),
        pytest.param("golden.npz", b"PK", "digest_mismatch", id="golden"),
    ],
)
def test_a_broken_slot_is_reported(tmp_path: Path, file: str, data: bytes, code: str) -> None:
    write_slot(tmp_path)
    (tmp_path / file).write_bytes(data)
    assert run_probe(tmp_path)[1]["code"] == code


def test_golden_vectors_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    write_slot(tmp_path)
    forge(tmp_path, "golden.npz", b"PK\x03\x04torn")
    assert run_probe(tmp_path)[1]["code"] == "model_refused"


def test_a_folder_without_a_slot_is_reported(tmp_path: Path) -> None:
    assert run_probe(tmp_path)[1]["code"] == "model_refused"


def test_a_model_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    write_slot(tmp_path)
    status, result = run_probe(tmp_path, "--runs", "1000000000", "--cpu-seconds", "1")
    assert status == 1
    assert result["code"] == "cpu_limit"


def test_a_runtime_that_kills_its_process_is_a_result(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from device_agent.runtime import probe\n"
        "probe.explain = lambda *a, **k: os.abort()\n"
        f"print(probe.in_child(pathlib.Path({str(tmp_path)!r}), runs=1, threads=1, cpu_seconds=9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "code='crashed'" in done.stdout
    assert "SIGABRT" in done.stdout


def test_an_exit_status_is_named() -> None:
    assert "exit status 3" in ended(3 << 8).detail
