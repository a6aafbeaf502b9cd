"""A runtime that dies, hangs or refuses ends the child, never the one who asked."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgepe.errors import VerifyError
from edgepe.verify.run import run_artifact
from tests.tiny_models import write_onnx

X = {"x": np.ones((2, 4), np.float32)}


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_model_is_a_clear_error(tmp_path: Path, kept: float) -> None:
    whole, cut = tmp_path / "model.onnx", tmp_path / "cut.onnx"
    write_onnx(whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(VerifyError, match=r"cut\.onnx"):
        run_artifact(cut, "onnxruntime", X)


def test_a_tflite_file_of_noise_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "noise.tflite"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    with pytest.raises(VerifyError, match=r"noise\.tflite"):
        run_artifact(path, "litert", X)


@pytest.mark.parametrize("deadly", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_crash_of_the_child_names_its_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadly: signal.Signals
) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    killer = tmp_path / "python"
    killer.write_text(f"#!/bin/sh\nkill -{int(deadly)} $$\n", encoding="ascii")
    killer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killer))
    with pytest.raises(VerifyError, match=f"signal {deadly.name}"):
        run_artifact(path, "onnxruntime", X)


def test_a_hanging_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    sleeper = tmp_path / "python"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n", encoding="ascii")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    with pytest.raises(VerifyError, match="did not finish"):
        run_artifact(path, "onnxruntime", X, timeout_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text(encoding="ascii")), 0)


def test_a_child_that_stops_before_its_result_has_not_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(path)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(VerifyError, match="crashed"):
        run_artifact(path, "onnxruntime", X)


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(VerifyError):
        run_artifact(tmp_path / "absent.onnx", "onnxruntime", X)
    assert not list(Path(folder).iterdir())
