"""SIGKILL in the middle of a calibration: the next run goes on where it was, to the same ranges."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.calibration_driver import SAMPLES, run

if TYPE_CHECKING:
    from pathlib import Path

BATCHES = SAMPLES // 32


@pytest.mark.parametrize("batches", [1, 3, BATCHES - 1])
def test_a_killed_calibration_goes_on_and_ends_with_the_same_ranges(
    tmp_path: Path, batches: int, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [sys.executable, "-m", "tests.faults.calibration_driver", str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(batches + 1):  # the state of a batch has been put aside when the next one is asked for
            process.stdout.readline()
        process.kill()
    wanted = run(None)
    assert len(capsys.readouterr().out.splitlines()) == BATCHES
    assert run(tmp_path) == wanted
    assert len(capsys.readouterr().out.splitlines()) <= BATCHES - batches
    assert run(tmp_path) == wanted
    assert capsys.readouterr().out == ""
