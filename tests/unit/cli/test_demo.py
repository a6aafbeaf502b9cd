"""The demo cleans up however it is ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STORY = """
import sys, tempfile, time
from edgepe.cli.demo import ended_by_sigterm
with ended_by_sigterm(), tempfile.TemporaryDirectory(dir=sys.argv[1]):
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_demo_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STORY, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        process.wait(20)
    assert list(tmp_path.iterdir()) == []
